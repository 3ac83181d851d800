"""The configuration as plain data: types from its Structs, words from etc/certeus.toml.

In that file a comment stands before the keys that it is about; the first comment of a section
stands before its header.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from certeusd import config_sources
from certeusd.config import Config
from certeusd.supervisor import reload

FILE = Path(__file__).resolve().parents[1] / "etc" / "certeus.toml"
_HEADER = re.compile(r"\[+(\w+)\]+")
_KEY = re.compile(r"#(\w+) = (.*)")
_UNITS = {
    "bytes": "bytes", "ms": "milliseconds", "us": "microseconds", "days": "days",
    "percent": "percent", "rows": "rows", "records": "records",
}  # fmt: skip
_HOLDS = {"worker": "the workers", "log": "the log writer", "flush": "the flusher"}


@dataclass(frozen=True)
class Key:
    """One key of a section."""

    section: str
    name: str
    kind: str
    bounds: str
    default: str
    """As it is written in the file."""
    holds: str
    """What a reload does with it."""
    text: str


@dataclass(frozen=True)
class Section:
    """A table of the file."""

    name: str
    header: str
    text: str
    keys: tuple[Key, ...]


def read(file: Path = FILE) -> tuple[Section, ...]:
    """Read every section in the file's order; raises `KeyError` for a key that it lacks."""
    words = _words(file.read_text())
    found = list[Section]()
    for name, (text, keys) in words.items():
        fields = config_sources.section_keys(name)
        rows = tuple(_key(name, key, field, *keys[key]) for key, field in fields.items())
        header = f"[[{name}]]" if name == "ingest" else f"[{name}]"
        found.append(Section(name, header, text, rows))
    missing = {field.name for field in msgspec.structs.fields(Config)} - words.keys()
    if missing:
        raise KeyError(f"{file} has no section {missing}")
    return tuple(found)


def introduction(file: Path = FILE) -> tuple[str, ...]:
    """Return the paragraphs that open the file."""
    opening = file.read_text().partition("\n\n[")[0]
    paragraphs = "\n".join(line.removeprefix("#").strip() for line in opening.splitlines())
    return tuple(" ".join(one.split()) for one in paragraphs.split("\n\n"))


def _words(text: str) -> dict[str, tuple[str, dict[str, tuple[str, str]]]]:
    """Return, by section, its comment, and for each key the default as written and its comment."""
    found: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {}
    keys: dict[str, tuple[str, str]] = {}
    comment = list[str]()
    about_keys = False
    for line in text.splitlines():
        if header := _HEADER.fullmatch(line):
            keys = {}
            found[header[1]] = (" ".join(comment), keys)
            comment = []
        elif key := _KEY.fullmatch(line):
            keys[key[1]] = (key[2], " ".join(comment))
            about_keys = True
            continue
        elif line.startswith("# "):
            if about_keys:
                comment = []
            comment.append(line.removeprefix("# "))
        else:
            comment = []
        about_keys = False
    return found


def _key(section: str, name: str, field: msgspec.structs.FieldInfo, default: str, text: str) -> Key:
    kind, bounds = _type(msgspec.inspect.type_info(field.type), name)
    if default.startswith("0o"):
        bounds = re.sub(r"\d+", lambda number: f"0o{int(number[0]):o}", bounds)
    holds = _holds(reload.needs_of(f"{section}.{name}"))
    return Key(section, name, kind, bounds, default, holds, text)


def _holds(needs: reload.Needs) -> str:
    if reload.DAEMON in needs:
        return "waits for the next start"
    who = [word for role, word in _HOLDS.items() if role in needs]
    if not who:
        return "holds at once"
    verb = "begin" if len(who) > 1 or who[0].endswith("s") else "begins"
    return f"{' and '.join(who)} {verb} anew"


def _type(kind: msgspec.inspect.Type, name: str) -> tuple[str, str]:
    """Return the type with its unit, and the bounds."""
    unit = next((_UNITS[word] for word in reversed(name.split("_")) if word in _UNITS), "")
    match kind:
        case msgspec.inspect.BoolType():
            return "boolean", ""
        case msgspec.inspect.FloatType(gt=float() | int() as above, le=float() | int() as most):
            return unit or "number", f"above {above:g}, at most {_number(most, unit)}"
        case msgspec.inspect.IntType(ge=least, le=most):
            return unit or "integer", _bounds(least, most, unit)
        case msgspec.inspect.FloatType(ge=least, le=most):
            return unit or "number", _bounds(least, most, unit)
        case msgspec.inspect.LiteralType(values=values):
            return "string", ", ".join(f'"{value}"' for value in values)
        case msgspec.inspect.VarTupleType(item_type=item):
            inner, bounds = _type(item, "")
            return f"list of {inner}s", bounds and f"each {bounds}"
        case msgspec.inspect.StrType(min_length=least, max_length=most):
            return "string", f"{least}..{most} characters" if most else ""
        case _:
            raise TypeError(f"{name}: {kind} has no word")


def _bounds(least: float | None, most: float | None, unit: str) -> str:
    low, high = (None if one is None else _number(one, unit) for one in (least, most))
    if high is not None:
        return f"{low}..{high}"
    return "" if low is None else f"at least {low}"


def _number(value: float, unit: str) -> str:
    if unit == "bytes" and value:
        for power, word in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
            if value % (1 << power) == 0:
                return f"{int(value) >> power}{word}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def keys(sections: tuple[Section, ...]) -> Iterator[Key]:
    """Yield every key."""
    for section in sections:
        yield from section.keys
