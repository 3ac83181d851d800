"""Whether the value of a parameter is what its schema says, so that the document and we agree."""

import math
from typing import cast

from certeusd.openapi import Query


def fault(one: Query, text: str) -> str:
    """Return what a value should be instead; empty: it is right."""
    schema = one.schema
    if "enum" in schema:
        words = cast(list[str], schema["enum"])
        return "" if text in words else f"{one.name} is {' or '.join(words)}"
    if schema.get("type") == "string":
        least, most = _bound(schema, "minLength", 0), _bound(schema, "maxLength", math.inf)
        right = least <= len(text) <= most
        return "" if right else f"{one.name} has {least:g} to {most:g} characters"
    return _number_fault(one, text)


def _number_fault(one: Query, text: str) -> str:
    least, most = _bound(one.schema, "minimum", -math.inf), _bound(one.schema, "maximum", math.inf)
    above = _bound(one.schema, "exclusiveMinimum", -math.inf)
    try:
        value: float = int(text) if one.schema.get("type") == "integer" else float(text)
    except ValueError:
        value = math.nan
    if text.isascii() and least <= value <= most and value > above:
        return ""
    return f"{one.name} is a number, {max(least, above):g} to {most:g}"


def _bound(schema: dict[str, object], key: str, default: float) -> float:
    bound = schema.get(key, default)
    assert isinstance(bound, int | float), f"{key} is a number"
    return bound
