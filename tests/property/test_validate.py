"""The checker of data and times, against Python's own json and datetime."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certeusd import _native

DEPTH = 64
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

SEEDS = [
    b'{"a":[1,2.5e-3,{"b":null}],"c":"\\u00e9\\ud83d\\ude00"}',
    b'[true,false,null,"",{},[],-0,0.0,1E+2]',
    '{"ключ":"значение","絵":"😀"}'.encode(),
    b' {\t"a"\n:\r[ ] } ',
]


def reference(text: bytes) -> bool:
    """Whether Python's json takes it, made as strict as PostgreSQL is."""

    def constant(name: str) -> object:
        raise ValueError(name)

    try:
        decoded = text.decode()
        if decoded.startswith("\ufeff"):
            return False
        value: object = json.loads(decoded, parse_constant=constant, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return False
    dumped = json.dumps(value, ensure_ascii=False)
    try:
        dumped.encode()
    except UnicodeEncodeError:  # A lone surrogate.
        return False
    return "\\u0000" not in dumped.replace("\\\\", "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@given(json_values, st.booleans(), st.sampled_from([None, 1]))
def test_every_json_without_nul_is_taken(
    value: object, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return
    expected = None if reference(encoded) else {"nul-character", "lone-surrogate"}
    reason = _native.check_json(encoded, DEPTH)
    assert reason is None if expected is None else reason in expected


@settings(max_examples=1000)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 3), st.binary(max_size=3)), max_size=3),
)
@example(b'"\\u0000"', [])
@example(b'"\\\\u0000"', [])
@example(b'"\\ud800"', [])
@example(b"NaN", [])
@example(b"\xef\xbb\xbf1", [])
def test_a_damaged_text_is_taken_only_if_it_is_still_json(
    seed: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    text = bytearray(seed)
    for at, cut, new in edits:
        text[at : at + cut] = new
    reason = _native.check_json(bytes(text), DEPTH)
    assert (reason is None) == reference(bytes(text)), reason


@given(st.binary(max_size=12))
def test_any_bytes_get_a_verdict(text: bytes) -> None:
    assert (_native.check_json(text, DEPTH) is None) == reference(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "invalid-json"),
        (b'{"a":1,}', "invalid-json"),
        (b'"\xff"', "invalid-utf8"),
        (b"[" * 65 + b"]" * 65, "too-deep"),
        (b'"\\u0000"', "nul-character"),
        (b'"\\ud800"', "lone-surrogate"),
        (b"1e131072", "number-out-of-range"),
        (b"1e-16384", "number-out-of-range"),
    ],
)
def test_each_failure_has_a_stable_word(text: bytes, reason: str) -> None:
    assert _native.check_json(text, DEPTH) == reason


def test_a_depth_beyond_the_limit_is_told() -> None:
    with pytest.raises(ValueError, match="depth_max"):
        _native.check_json(b"1", 1025)


def microseconds(when: datetime) -> int:
    return (when - EPOCH) // timedelta(microseconds=1)


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),
    st.integers(-(24 * 60 - 1), 24 * 60 - 1),
)
def test_times_are_those_of_datetime(naive: datetime, offset: int) -> None:
    when = naive.replace(tzinfo=timezone(timedelta(minutes=offset)))
    assert _native.parse_time(when.isoformat().encode()) == microseconds(when)


@given(st.datetimes(min_value=datetime(1, 1, 1)), st.integers(1, 9), st.integers(0, 10**9 - 1))
def test_fractions_are_cut_to_microseconds(naive: datetime, digits: int, nanos: int) -> None:
    fraction = f"{nanos:09}"[:digits]
    text = f"{naive:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f".{fraction}Z"
    whole = naive.replace(microsecond=0, tzinfo=UTC)
    expected = microseconds(whole) + int(fraction.ljust(9, "0")) // 1000
    assert _native.parse_time(text.encode()) == expected


@given(st.text(alphabet="0123456789-+:.TtZz ", max_size=30))
def test_nothing_but_the_grammar_is_a_time(text: str) -> None:
    grammar = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)"
    if not re.fullmatch(grammar, text):
        assert _native.parse_time(text.encode()) is None


def test_text_of_attributes() -> None:
    assert _native.check_text("café 😀".encode()) is None
    assert _native.check_text(b"a\x00") == "nul-character"
    assert _native.check_text(b"\xff") == "invalid-utf8"
    assert _native.check_text(b"a\nb") == "invalid-attribute"
