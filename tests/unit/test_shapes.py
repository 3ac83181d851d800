"""Shapes of JSON: what keeps one, and what breaks it."""

import pytest

from support.shapes import Json, Shape, faults, joined, shape_of

SHAPE: Shape = {
    "schema_version": "integer",
    "name?": "string",
    "rate": "number",
    "rows": [{"n": "integer", "at": "null|string"}],
    "more": {"any of": ["null", {"x": "boolean"}]},
    "reports": {"*": "any"},
}
VALUE: dict[str, Json] = {
    "schema_version": 1, "rate": 1, "rows": [{"n": 1, "at": None}, {"n": 2, "at": "x"}],
    "more": None, "reports": {"a": {"b": [1]}, "c": None},
}  # fmt: skip


def test_value_of_the_shape_has_no_fault() -> None:
    assert list(faults(SHAPE, VALUE)) == []
    assert list(faults(SHAPE, VALUE | {"name": "x", "rate": 0.5, "more": {"x": True}})) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"new": 1}, ".new: added"),
        ({"rate": "1"}, ".rate: string instead of number"),
        ({"schema_version": 1.5}, ".schema_version: number instead of integer"),
        ({"schema_version": True}, ".schema_version: boolean instead of integer"),
        ({"rows": {}}, ".rows: object instead of ..."),
        ({"rows": [{"n": 1}]}, ".rows[].at: removed"),
        ({"rows": [{"n": 1, "at": 1}]}, ".rows[].at: integer instead of null|string"),
        ({"more": {"x": True, "y": 1}}, ".more.y: added"),
        ({"more": []}, ".more: list instead of null|..."),
        ({"name": None}, ".name: null instead of string"),
    ],
)
def test_every_other_value_has_one_fault(change: dict[str, Json], fault: str) -> None:
    assert list(faults(SHAPE, VALUE | change)) == [fault]


def test_key_that_is_gone_is_a_fault_unless_it_may_be() -> None:
    assert list(faults({"a": "integer", "b?": "integer"}, {})) == [".a: removed"]


def test_list_without_elements_says_nothing_of_them() -> None:
    assert list(faults([], [])) == []
    assert list(faults([], [1])) == ["[]: added"]


def test_shape_of_several_values_has_all_of_them() -> None:
    values: list[Json] = [{"a": 1, "b": None, "c": []}, {"a": 1.5, "b": {"x": 1}, "c": ["y"]}, {}]
    shape = joined([shape_of(one) for one in values])
    assert shape == {"a?": "number", "b?": {"any of": ["null", {"x": "integer"}]}, "c?": ["string"]}
    assert [list(faults(shape, one)) for one in values] == [[], [], []]
