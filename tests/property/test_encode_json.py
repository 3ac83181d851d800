import enum
import json
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import certeus.event
from certeus._native import encode_plain

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


def reference(value: object) -> bytes | None:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except ValueError:
        return None


@given(values)
def test_plain_values_become_the_same_bytes_as_by_json(value: certeus.event.Json) -> None:
    plain = encode_plain(value)
    want = reference(value)
    assert plain is None or plain == want
    if want is None:
        with pytest.raises(ValueError, match=r"cannot encode data: .*;"):
            certeus.event.encode_json(value)
    else:
        assert certeus.event.encode_json(value) == want


@given(st.integers(-(2**60), 2**60), st.integers(0, 18))
def test_decimals_are_written_as_by_json(digits: int, decimals: int) -> None:
    number = digits / 10**decimals
    assert encode_plain(number) == reference(number)


@pytest.mark.parametrize(
    "number",
    [0.0, -0.0, 1e-4, 9.9e-5, 1e15, 1e16, 999999999.999999, 1e9, 5e-324, 26363981746409.3125],
)
def test_numbers_at_the_edges_of_a_notation_are_written_as_by_json(number: float) -> None:
    assert encode_plain(number) == reference(number)
    assert encode_plain(-number) == reference(-number)


@given(st.text(st.characters(max_codepoint=0x100)))
def test_text_is_escaped_as_by_json(text: str) -> None:
    assert encode_plain(text) == reference(text)


class Colour(enum.IntEnum):
    RED = 1


def test_what_is_not_plain_goes_the_long_way_to_the_same_bytes() -> None:
    odd: list[Any] = [OrderedDict(a=1), {1: 2}, {"c": Colour.RED}, 2**70, [[2**64]]]
    for value in odd:
        assert encode_plain(value) is None
        assert certeus.event.encode_json(value) == reference(value)


def test_cycles_and_depths_are_errors_and_never_a_crash() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (cycle, deep):
        assert encode_plain(value) is None
        with pytest.raises(ValueError, match="correct the value"):
            certeus.event.encode_json(value)
