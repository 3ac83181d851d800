"""Events as the caller gives them, and as the ring takes them.

Data becomes either JSON text or opaque bytes. ``bytes`` are taken as encoded JSON and checked by
the daemon, unless ``content_type`` names something else; then they are opaque. ``str`` is text and
becomes a JSON string. Everything else is encoded here.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias, cast

from certeus._native import encode_plain

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None
Data: TypeAlias = Json | bytes | bytearray | memoryview
Extensions: TypeAlias = Mapping[str, str | int | bool]
Time: TypeAlias = str | datetime

# What `_native.Ring.append` takes: type, data, opaque, id, subject, time, source, dataschema,
# content_type, extensions.
Frame: TypeAlias = tuple[
    str,
    bytes,
    bool,
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
]

EXTENSIONS_COUNT_MAX = 32
_EXTENSION_NAME = re.compile(r"[a-z0-9]{1,20}", re.ASCII)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"
    r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(slots=True)
class Event:
    """One event for ``append_many``, with what ``append`` takes as arguments.

    ``type`` is the call's own when it is left out. Nothing is copied before the append.
    """

    data: Data
    type: str | None = None
    id: str | None = None
    subject: str | None = None
    time: Time | None = None
    source: str | None = None
    content_type: str | None = None
    dataschema: str | None = None
    extensions: Extensions | None = None

    def frame(self, type: str) -> Frame:
        """Return what the ring takes, with ``type`` if the event has none of its own."""
        data, opaque = encode_data(self.data, self.content_type)
        return (
            type if self.type is None else self.type,
            data,
            opaque,
            self.id,
            self.subject,
            encode_time(self.time),
            self.source,
            self.dataschema,
            self.content_type,
            encode_extensions(self.extensions),
        )


def encode_data(data: Data, content_type: str | None) -> tuple[bytes, bool]:
    """Return JSON text or bytes, and whether the bytes are opaque.

    Raises:
        TypeError: data, or something in it, has no JSON form.
        ValueError: NaN or an infinity, half a surrogate pair, a cycle, too deep.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        opaque = content_type is not None and not _is_json(content_type)
        return (data if isinstance(data, bytes) else bytes(data)), opaque
    return encode_json(data), False


def encode_json(value: Json) -> bytes:
    """Return compact JSON text, UTF-8 as it is.

    Raises:
        TypeError: something in it has no JSON form.
        ValueError: NaN or an infinity, half a surrogate pair, a cycle, too deep.
    """
    plain = encode_plain(value)
    if plain is not None:
        return plain
    try:
        return _encode(value).encode()
    except TypeError as error:
        raise TypeError(f"cannot encode data: {error}; convert it first") from error
    except UnicodeEncodeError as error:
        raise ValueError(
            "cannot encode data: half of a surrogate pair is not text; decode the input with "
            "errors='replace', or pass bytes with a content_type"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot encode data: {error}; correct the value") from error


def encode_time(time: Time | None) -> str | None:
    """Return RFC 3339 text; a string is checked and kept as it is.

    Raises:
        ValueError: no such time, or one without an offset.
    """
    if time is None:
        return None
    if isinstance(time, datetime):
        offset = time.utcoffset()
        if offset is None:
            raise ValueError(f"cannot append: time {time} has no time zone; give it one")
        if offset % timedelta(minutes=1):
            time = time.astimezone(UTC)
        return time.isoformat()
    match = _TIME.fullmatch(time)
    try:
        if match is None:
            raise ValueError("not of the form 2026-01-31T23:59:59.5+01:00")
        date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError as error:
        raise ValueError(f"cannot append: time {time!r}: {error}; give RFC 3339") from error
    return time


def encode_extensions(extensions: Extensions | None) -> str | None:
    """Encode a flat JSON object, as text, in the caller's order; none for an empty one.

    Raises:
        TypeError: a value that is neither text, integer nor bool.
        ValueError: too many, or a name of another form than ``[a-z0-9]{1,20}``.
    """
    if not extensions:
        return None
    if len(extensions) > EXTENSIONS_COUNT_MAX:
        raise ValueError(
            f"cannot append: {len(extensions)} extensions, the limit is {EXTENSIONS_COUNT_MAX}; "
            "put the rest into data"
        )
    for name, value in cast("Mapping[str, object]", extensions).items():
        if not _EXTENSION_NAME.fullmatch(name):
            raise ValueError(
                f"cannot append: extension name {name!r}; use 1 to 20 characters of a-z and 0-9"
            )
        if not isinstance(value, str | int):
            raise TypeError(
                f"cannot append: extension {name} is a {type(value).__name__}; give str, int, bool"
            )
    return encode_json(dict(extensions)).decode()


def _is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media in ("application/json", "text/json") or media.endswith("+json")
