"""What a query says, and whether a value is what its schema says: the document and we agree."""

import math
from typing import cast
from urllib.parse import parse_qsl

from certeusd.openapi import Query


def given(target: str) -> list[tuple[str, str]]:
    """Return the parameters of a request's target, as they came.

    Raises:
        ValueError: one is no UTF-8, or comes twice.
    """
    query = target.partition("#")[0].partition("?")[2]
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
        query.encode()
    except UnicodeError as error:
        raise ValueError("the query is no UTF-8, percent-encoded where it is not ASCII") from error
    seen = set[str]()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"{name} comes twice")
        seen.add(name)
    return pairs


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
