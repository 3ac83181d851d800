"""Shapes of JSON: which keys an answer has and of what type, and whether another answer keeps them.

A shape is JSON itself, so that it can be read and kept in a file:

```text
"integer", "string|null"       a value of one of these types; "any" is anything; an integer is
                               a number, too
{"key": ..., "other?": ...}    an object with these keys; what ends in ? may be missing
{"*": ...}                     an object with any keys
[...]                          a list whose elements all have this shape; [] has none
{"any of": ["null", {...}]}    one of several, where one is an object or a list
```
"""

from collections.abc import Iterator, Sequence
from typing import cast

Json = object
Shape = str | dict[str, "Shape"] | list["Shape"]

EITHER = "any of"
EVERY = "*"
_NAMES: dict[type[object], str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
}


def shape_of(value: Json) -> Shape:
    """The shape of one value."""
    if isinstance(value, dict):
        return {key: shape_of(one) for key, one in cast(dict[str, Json], value).items()}
    if isinstance(value, list):
        elements = [shape_of(one) for one in cast(list[Json], value)]
        return [joined(elements)] if elements else []
    return _NAMES[type(value)]


def joined(shapes: Sequence[Shape]) -> Shape:
    """The shape of values that have one of these; a key that not all have may be missing."""
    first, *rest = shapes
    for other in rest:
        first = _join(first, other)
    return first


def _join(one: Shape, other: Shape) -> Shape:
    if one == other:
        return one
    if isinstance(one, dict) and isinstance(other, dict) and EITHER not in {*one, *other}:
        return _join_objects(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return [joined([*one, *other])] if one or other else []
    kinds = [*_kinds(one), *_kinds(other)]
    words = sorted({kind for kind in kinds if isinstance(kind, str)})
    if "number" in words and "integer" in words:
        words.remove("integer")
    objects = [kind for kind in kinds if isinstance(kind, dict)]
    lists = [kind for kind in kinds if isinstance(kind, list)]
    compounds = [joined(same) for same in (objects, lists) if same]
    return {EITHER: [*words, *compounds]} if compounds else "|".join(words)


def _join_objects(one: dict[str, Shape], other: dict[str, Shape]) -> Shape:
    if EVERY in one or EVERY in other:
        return {EVERY: joined([*one.values(), *other.values()])}
    found: dict[str, Shape] = {}
    for key in dict.fromkeys(key.removesuffix("?") for key in (*one, *other)):
        there = [
            shape[name] for shape in (one, other) for name in (key, f"{key}?") if name in shape
        ]
        everywhere = key in one and key in other
        found[key if everywhere else f"{key}?"] = joined(there)
    return found


def _kinds(shape: Shape) -> list[Shape]:
    if isinstance(shape, str):
        return list(shape.split("|"))
    if isinstance(shape, dict) and EITHER in shape:
        return cast(list[Shape], shape[EITHER])
    return [shape]


def faults(shape: Shape, value: Json, place: str = "") -> Iterator[str]:
    """What a value has that its shape has not, or lacks."""
    if isinstance(value, dict):
        yield from _object_faults(shape, cast(dict[str, Json], value), place)
    elif isinstance(value, list):
        elements = [kind for kind in _kinds(shape) if isinstance(kind, list)]
        if not elements:
            yield from _other_type(shape, "list", place)
        elif value and not elements[0]:
            yield f"{place}[]: added"
        for one in cast(list[Json], value) if elements and elements[0] else []:
            yield from faults(elements[0][0], one, f"{place}[]")
    else:
        name = _NAMES[type(value)]
        allowed = {"any", name, "number" if name == "integer" else name}
        if not allowed.intersection(kind for kind in _kinds(shape) if isinstance(kind, str)):
            yield from _other_type(shape, name, place)


def _object_faults(shape: Shape, value: dict[str, Json], place: str) -> Iterator[str]:
    objects = [kind for kind in _kinds(shape) if isinstance(kind, dict)]
    if not objects:
        yield from _other_type(shape, "object", place)
        return
    keys = objects[0]
    for key, one in value.items():
        inner = keys.get(key, keys.get(f"{key}?", keys.get(EVERY)))
        if inner is None:
            yield f"{place}.{key}: added"
        else:
            yield from faults(inner, one, f"{place}.{key}")
    for key in keys:
        if key != EVERY and not key.endswith("?") and key not in value:
            yield f"{place}.{key}: removed"


def _other_type(shape: Shape, name: str, place: str) -> Iterator[str]:
    if "any" not in _kinds(shape):
        was = "|".join(kind if isinstance(kind, str) else "..." for kind in _kinds(shape))
        yield f"{place}: {name} instead of {was}"
