"""Every error that PostgreSQL, asyncpg or the network can raise means exactly one thing."""

import inspect
import ssl

import asyncpg
import pytest
from asyncpg import exceptions

from certeusd.flush import errors
from certeusd.flush.errors import CLASSES, DESTINATION_ERRORS, STATES, WITHOUT_STATE, Meaning
from certeusd.flush.telling import CODES, trouble_of

SQLSTATE_CLASSES = (
    "00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F"
    " 40 42 44 53 54 55 57 58 72 F0 HV P0 XX"
)
"""Appendix A of PostgreSQL's manual, 15 to 18."""

PROMISED = {
    Meaning.AWAY: "08000 08006 08P01 40001 40P01 53100 53200 53300 55P03 57014 57P01 57P02 57P03"
    " 58000 58030 25006",
    Meaning.REFUSES: "42501 42P01 42703 42804 28000 28P01 3D000 3F000 0A000 26000",
    Meaning.BROKEN: "XX000 XX001 XX002",
    Meaning.ROW: "21000 22003 22021 22P02 22P03 22P05 23502 23503 23505 23514 54000 54001 P0001",
}


ASYNCPG_ERRORS = [
    found
    for _, found in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(found, Exception) and not issubclass(found, Warning)
]
"""All that asyncpg can raise: every class of its module but notices."""


def test_every_class_of_sqlstate_has_one_meaning() -> None:
    assert sorted(CLASSES) == SQLSTATE_CLASSES.split()
    for state, meaning in STATES.items():
        assert meaning is not CLASSES[state[:2]], f"{state} needs no row of its own"


@pytest.mark.parametrize("meaning", Meaning)
def test_a_state_means_what_is_promised(meaning: Meaning) -> None:
    for state in PROMISED[meaning].split():
        error = exceptions.PostgresError.new({"C": state, "M": "no", "S": "ERROR", "V": "ERROR"})
        assert errors.meaning_of(error) is meaning, state


def test_a_state_that_nobody_knows_refuses() -> None:
    error = exceptions.PostgresError.new({"C": "ZZ999", "M": "no", "S": "ERROR", "V": "ERROR"})
    assert errors.meaning_of(error) is Meaning.REFUSES


@pytest.mark.parametrize("kind", ASYNCPG_ERRORS, ids=lambda kind: kind.__name__)
def test_every_exception_of_asyncpg_has_one_meaning(kind: type[Exception]) -> None:
    state = getattr(kind, "sqlstate", None)
    error = kind("no")
    fitting = [other for other in WITHOUT_STATE if issubclass(kind, other)]
    if state is not None:
        expected = STATES.get(state) or CLASSES[state[:2]]
    else:
        assert fitting, "an error without a state has a row of its own"
        expected = WITHOUT_STATE[fitting[0]]
    assert errors.meaning_of(error) is expected
    assert issubclass(kind, DESTINATION_ERRORS), "it ends an attempt, never the process"
    trouble = trouble_of(error)
    assert trouble.code in CODES
    assert trouble.next_step


def test_a_subclass_stands_before_its_base() -> None:
    kinds = list(WITHOUT_STATE)
    for at, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[at + 1 :]), kind


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ConnectionResetError(), Meaning.AWAY),
        (ConnectionRefusedError(), Meaning.AWAY),
        (FileNotFoundError(), Meaning.AWAY),
        (TimeoutError(), Meaning.AWAY),
        (BrokenPipeError(), Meaning.AWAY),
        (EOFError(), Meaning.AWAY),
        (ssl.SSLError(), Meaning.AWAY),
        (ssl.SSLCertVerificationError(), Meaning.REFUSES),
        (asyncpg.TargetServerAttributeNotMatched(), Meaning.AWAY),
        (asyncpg.ClientConfigurationError("no dsn"), Meaning.REFUSES),
        (ValueError("no dsn"), Meaning.REFUSES),
        (errors.StalledError("a", "b"), Meaning.AWAY),
        (errors.LockedError("a", "b"), Meaning.AWAY),
        (errors.DeadLetterRateError("a", "b"), Meaning.REFUSES),
    ],
    ids=repr,
)
def test_what_the_server_did_not_send_has_one_meaning(error: Exception, meaning: Meaning) -> None:
    assert errors.meaning_of(error) is meaning
