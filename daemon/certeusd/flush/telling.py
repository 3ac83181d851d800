"""What an error is called in `status`: the reason's code, what happened, and the next step."""

import urllib.parse
from typing import NamedTuple

from certeusd.flush.breaker import Cause
from certeusd.flush.errors import FlushError, Meaning, in_words, meaning_of, sqlstate_of


class Trouble(NamedTuple):
    """One reason, and why the breaker opens for it."""

    cause: Cause
    code: str
    what: str
    next_step: str


CODES = (
    "postgres-away",
    "postgres-refuses",
    "postgres-broken",
    "postgres-locked",
    "dead-letter-rate",
    "log-unreadable",
)
"""Every code of a reason that ends when the breaker closes."""

_OF_MEANING = {
    Meaning.AWAY: (
        Cause.AWAY,
        "postgres-away",
        "Nothing is lost; certeus tries again by itself. Is the server running?",
    ),
    Meaning.BROKEN: (
        Cause.BROKEN,
        "postgres-broken",
        "The server reports damage: look at its log before anything else. Nothing more is sent"
        " until `certeus retry`; new events stay durable meanwhile.",
    ),
    Meaning.REFUSES: (
        Cause.REFUSES,
        "postgres-refuses",
        "Correct the configuration or the grants; certeus tries again by itself.",
    ),
}
_NEXT_STEPS = {
    "08P01": "A pooler says so, most likely: it may take no settings of a session. Connect to the"
    " server itself, if this stays so; certeus tries again by itself.",
    "25006": "The server takes no writes: a standby, or default_transaction_read_only is on."
    " certeus tries again by itself; name the primary in postgres.dsn if this one stays so.",
    "53100": "The server's disk is full: make room there. certeus tries again by itself.",
    "53300": "The server has no connection left: end idle sessions or raise max_connections."
    " certeus tries again by itself.",
}


def without_password(text: str, dsn: str) -> str:
    """Return a text for status and logs, in which an error may have quoted the DSN."""
    password = urllib.parse.urlsplit(dsn).password
    return text.replace(password, "***") if password else text


def trouble_of(error: Exception) -> Trouble:
    """Say an error of an attempt."""
    meaning = meaning_of(error)
    # A row's fault outside of a row is the server's set-up: of the schema's functions, for one.
    cause, code, next_step = _OF_MEANING.get(meaning, _OF_MEANING[Meaning.REFUSES])
    if isinstance(error, FlushError):
        return Trouble(error.cause or cause, error.code or code, error.what, error.next_step)
    next_step = _NEXT_STEPS.get(sqlstate_of(error), next_step)
    return Trouble(cause, code, in_words(error), next_step)
