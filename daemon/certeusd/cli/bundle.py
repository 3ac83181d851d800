"""`certeus bundle`: one file with what support needs, also when the daemon is down.

A part that cannot be had is told in the manifest with the reason, and stops nothing.
"""

import gzip
import hashlib
import io
import os
import socket
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from certeusd import __version__
from certeusd.cli.common import json_option, paths_of, print_json, wants_json
from certeusd.control.types import rfc3339
from certeusd.exits import Exit, ExitError
from certeusd.human import human_bytes

if TYPE_CHECKING:
    from certeusd.cli.bundle_parts import Part, Place


class Bundle(NamedTuple):
    """Files by name, and why others are not there."""

    files: dict[str, bytes]
    missing: dict[str, str]


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="List what would go in; make nothing.")
@click.option("--config", metavar="F", help="The daemon's configuration file.")
@click.option("--lines", type=click.IntRange(0, 1_000_000), default=2000, show_default=True,
              help="How many lines of the journal.")  # fmt: skip
@click.option("--timeout", "timeout_s", metavar="S", type=click.FloatRange(0.1, 3600), default=20.0,
              show_default=True, help="Seconds for each part.")  # fmt: skip
@json_option
@click.pass_context
def command(
    context: click.Context,
    file: Path | None,
    dry_run: bool,
    config: str | None,
    lines: int,
    timeout_s: float,
) -> None:
    """Gather what support needs into FILE (tar.gz, readable by you alone).

    Works without a daemon, too. No password, no key and no event is in it: configuration is shown
    as `config show` does, text that may quote a row is left out. Run it as root to have all of it.
    """
    from certeusd.cli import bundle_parts as parts

    if dry_run:
        _list(context, parts.PARTS)
        return
    place = parts.Place(paths_of(context), config, lines, timeout_s)
    path = file or Path(f"certeus-{socket.gethostname()}-{time.strftime('%Y%m%dT%H%M%S')}.tar.gz")
    if path.exists():
        raise ExitError(Exit.FAILED, f"cannot write {path}: it exists already; choose another name")
    bundle = Bundle({}, {})
    for part in parts.PARTS:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{part.name}", nl=False, err=True)
        _take(bundle, part, place)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    manifest = _manifest(bundle)
    _write(path, {**bundle.files, "manifest.json": parts.json_text(manifest)})
    if wants_json(context):
        print_json({"path": str(path), "bytes": path.stat().st_size, **manifest})
        return
    click.echo(f"{path}: {len(bundle.files)} parts, {human_bytes(path.stat().st_size)}")
    for name, why in bundle.missing.items():
        click.echo(f"  without {name}: {why}")


def _take(bundle: Bundle, part: "Part", place: "Place") -> None:
    from certeusd.cli import bundle_parts as parts

    try:
        content, why = part.make(place), ""
    except (parts.MissingError, OSError, ValueError) as error:
        content, why = str(error).encode(errors="replace"), str(error)
    if any(secret in content for secret in parts.secrets(place)):
        why = "left out: it holds a password or the log's key"
    if why:
        bundle.missing[part.name] = why
    else:
        bundle.files[part.name] = content


def _manifest(bundle: Bundle) -> dict[str, object]:
    return {
        "certeus_version": __version__,
        "host": socket.gethostname(),
        "created_at": rfc3339(time.time()),
        "files": [
            {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in bundle.files.items()
        ],
        "missing": [{"name": name, "why": why} for name, why in bundle.missing.items()],
    }


def _write(path: Path, files: dict[str, bytes]) -> None:
    """Write the archive whole, or leave nothing; nobody else may read it at any moment."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with (
                os.fdopen(descriptor, "wb") as raw,
                gzip.GzipFile(fileobj=raw, mode="wb") as zipped,
            ):
                _pack(zipped, files)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ExitError(
            Exit.FAILED, f"cannot write {path}: {error.strerror}; choose another place"
        ) from error


def _pack(out: gzip.GzipFile, files: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"certeus-bundle/{name}")
            member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
            tar.addfile(member, io.BytesIO(content))


def _list(context: click.Context, parts: "tuple[Part, ...]") -> None:
    if wants_json(context):
        print_json({"parts": [{"name": one.name, "what": one.what} for one in parts]})
        return
    for one in parts:
        click.echo(f"{one.name:22} {one.what}")
