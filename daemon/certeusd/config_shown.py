"""The configuration as it may be shown: every key with its value and where that came from.

Nothing in it is secret: a DSN has lost its password when it was read, and `postgres.password_file`
names a file.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from certeusd.config import Config, Section
from certeusd.control.types import Key

DEFAULT = "default"


def every(config: Config, origins: Mapping[str, str]) -> Iterator[Key]:
    """All keys, in the order of the documented file."""
    for field in msgspec.structs.fields(Config):
        section: Section | tuple[Section, ...] = getattr(config, field.name)
        tables = section if isinstance(section, tuple) else (section,)
        for at, table in enumerate(tables):
            prefix = field.name if at == 0 else f"{field.name}[{at}]"
            for inner in msgspec.structs.fields(table):
                value = msgspec.to_builtins(getattr(table, inner.name))
                origin = origins.get(f"{field.name}.{inner.name}", DEFAULT)
                yield Key(f"{prefix}.{inner.name}", value, origin)


class Differing(NamedTuple):
    """One key with two values; None: there is no such key."""

    key: str
    running: object
    read: object
    origin: str


def differing(running: Config, read: Config, origins: Mapping[str, str]) -> Iterator[Differing]:
    """Keys whose values differ, in the order of the documented file."""
    before = {one.key: one.value for one in every(running, {})}
    after = {one.key: one for one in every(read, origins)}
    for key in dict.fromkeys([*after, *before]):
        now = after.get(key)
        value = None if now is None else now.value
        if value != before.get(key):
            yield Differing(key, before.get(key), value, DEFAULT if now is None else now.origin)
