"""`manifest.json`: what a backup holds, so that it can be told from half of one, or an altered one.

The text is exactly what `render` makes of its content, with the SHA-256 of all the rest as its last
key: every flipped bit of it shows, too.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import msgspec

from certeusd.exits import Exit, ExitError

NAME = "manifest.json"
FORMAT_VERSION = 1
SEGMENT = re.compile(r"([0-9]{20})\.log")
SIDECAR = re.compile(r"([0-9]{20})\.keys")
ALLOWED = re.compile(
    r"log/(?:[0-9]{20}\.(?:log|keys)|identity\.json)|followers/[a-z][a-z0-9-]{0,31}"
    r"|doors/journal"
    r"|config/certeus\.toml|keys/log\.key|postgres/(?:base\.tar|pg_wal\.tar|backup_manifest)"
)
"""Every name that a file of a backup may have: nothing else is ever written by a restore."""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file, by its path in the backup."""

    path: str
    bytes: int
    sha256: str


class LogPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of the log is there; hashes in hex. Without events `last_seq` is below `first_seq`."""

    first_seq: int
    last_seq: int
    first_group: int
    last_group: int
    last_root: str
    last_hash: str
    """Of the last group's header: what the next group's header would name."""
    segments: int
    trimmed_meanwhile: list[int]
    """Segments that went while the backup began: the log begins behind them."""


class PostgresPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of the database is there."""

    mode: Literal["embedded", "external", "none"]
    method: Literal["pg_basebackup", "files", "none"]
    """`files`: of a server that was stopped; `none`: no copy is in the backup."""
    version: str
    owner: str
    """Name of the server's user."""


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What PostgreSQL had confirmed before anything was copied."""

    group: int
    seq: int
    root: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything but the checksum."""

    format: Literal["certeus-backup"] = "certeus-backup"
    format_version: int = FORMAT_VERSION
    certeus_version: str
    host: str
    created_at: str
    log_id: str | None
    """None: there was no log yet."""
    owner: str
    """Name of the daemon's user."""
    log: LogPart | None
    postgres: PostgresPart
    flush_position: Position
    key_included: bool
    key_sha256: str | None
    """Of the log's key, so that a restore knows the right one; None: it could not be read."""
    files: list[FileEntry]


class ManifestError(ExitError):
    """There is no manifest, or none that can be believed."""

    def __init__(self, message: str) -> None:
        super().__init__(Exit.FAILED, message)


def as_object(manifest: Manifest) -> dict[str, object]:
    """Return it as JSON has it."""
    return cast(dict[str, object], msgspec.to_builtins(manifest))


def render(manifest: Manifest) -> bytes:
    """Return the text of the file."""
    content = as_object(manifest)
    checksum = hashlib.sha256(_text(content)).hexdigest()
    return _text({**content, "manifest_sha256": checksum})


def parse(text: bytes, place: Path) -> Manifest:
    """Read what `render` made, to the byte.

    Raises:
        ManifestError: it is not that, or of another version.
    """
    try:
        given: object = json.loads(text)
        if not isinstance(given, dict):
            raise ValueError("no object")
        content = cast(dict[str, object], given)
        version = content.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ManifestError(
                f"cannot read {place}: a backup of format {version}, this certeus knows"
                f" {FORMAT_VERSION}; use the certeus that made it"
            )
        content.pop("manifest_sha256", None)
        manifest = msgspec.convert(content, Manifest)
        if render(manifest) != text:
            raise ValueError("its checksum is wrong")
    except (ValueError, msgspec.ValidationError) as error:
        raise ManifestError(
            f"cannot believe {place}: {NAME} is damaged ({error}); use another backup"
        ) from error
    return manifest


def _text(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=True).encode() + b"\n"
