"""`certeus backup create|verify|restore`: to bring a ledger back on another disk or host."""

import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from certeusd.cli.common import json_option, log_directory, paths_of, print_json, wants_json
from certeusd.exits import Exit, ExitError
from certeusd.human import human_bytes, human_count
from certeusd.paths import Paths, client_paths

if TYPE_CHECKING:
    from certeusd.backup.manifest import Manifest
    from certeusd.backup.reading import Fault

REFRESH_S = 0.1
FAULTS_SHOWN = 20
ENDING = (signal.SIGTERM, signal.SIGHUP)


class Progress:
    """One line on a terminal, and nothing else anywhere."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._done = 0
        self._total = 0
        self._shown_at = 0.0
        self._on = sys.stderr.isatty()

    def total(self, length: int) -> None:
        """Say how much there is to do; unknown without it."""
        self._total = length

    def tell(self, name: str, length: int) -> None:
        """Count what was done, and show it now and then."""
        self._done += length
        now = time.monotonic()
        if self._on and now - self._shown_at >= REFRESH_S:
            self._shown_at = now
            of = f" of about {human_bytes(self._total)}" if self._total else ""
            line = f"{self._doing}: {human_bytes(self._done)}{of}, {name}"
            click.echo(f"\r\x1b[K{line[:100]}", nl=False, err=True)

    def end(self) -> None:
        """Clear the line."""
        if self._on and self._shown_at:
            click.echo("\r\x1b[K", nl=False, err=True)


@click.group()
def command() -> None:
    """Back the ledger up while it runs; verify and restore a backup."""


@command.command(short_help="Back up log and embedded PostgreSQL; the daemon may run.")
@click.argument("target", metavar="DIR|FILE.tar", type=click.Path(path_type=Path))
@click.option("--without-postgres", is_flag=True, help="The log alone.")
@click.option("--with-key", is_flag=True, help="The log's key, too: keep such a backup secret.")
@click.option("--config", metavar="F", help="The daemon's configuration file, if it is stopped.")
@json_option
@click.pass_context
def create(
    context: click.Context, target: Path, without_postgres: bool, with_key: bool, config: str | None
) -> None:
    """Back up the log and the embedded PostgreSQL, while the daemon runs or not.

    It holds every event that was durable before the call. What cannot be had with it: a PostgreSQL
    of your own, and without --with-key the log's key (keys/log.key), which a restore needs.
    """
    from certeusd.backup.create import create as make

    log_directory(context)
    progress = Progress("backing up")
    begun = time.monotonic()
    with _refusals():
        try:
            manifest = make(
                paths_of(context), target.absolute(), with_postgres=not without_postgres,
                with_key=with_key, config_file=config, tell=progress.tell, total=progress.total,
            )  # fmt: skip
        finally:
            progress.end()
    told = _told(manifest) | {"path": str(target), "seconds": round(time.monotonic() - begun, 3)}
    if wants_json(context):
        print_json(told)
        return
    click.echo(f"{target}: {_in_words(manifest)}")
    if not with_key:
        click.echo("the log's key is not in it: keep keys/log.key apart, a restore needs it")
    if manifest.postgres.mode == "external":
        click.echo("PostgreSQL is not in it: back that up by its own means")


@command.command(short_help="Look at every byte of a backup; exit 1 if something is wrong.")
@click.argument("source", metavar="DIR|FILE.tar", type=click.Path(exists=True, path_type=Path))
@click.option("--key", metavar="FILE", type=click.Path(exists=True, path_type=Path),
              help="The log's key, to compute roots again.")  # fmt: skip
@click.option("--work-dir", metavar="D", type=click.Path(exists=True, path_type=Path),
              help="Where the log of a tar file is unpacked; default: $TMPDIR.")  # fmt: skip
@json_option
@click.pass_context
def verify(context: click.Context, source: Path, key: Path | None, work_dir: Path | None) -> None:
    """Look at every byte of a backup: checksums, completeness, and the log as `log check` does.

    Exits 1 with the findings. The daemon is not asked.
    """
    from certeusd.backup.verify import verify as look

    progress = Progress("verifying")
    with _refusals():
        try:
            given = key.read_bytes() if key else None
            found = look(source, key=given, work_dir=work_dir, tell=progress.tell)
        finally:
            progress.end()
    if wants_json(context):
        told = _told(found.manifest)
        told |= {"path": str(source), "ok": not found.faults, "roots_checked": found.roots_checked,
                 "findings": [one._asdict() for one in found.faults]}  # fmt: skip
        print_json(told)
    else:
        _show(found.faults)
        roots = "roots computed again" if found.roots_checked else "roots not computed: no key"
        state = "DAMAGED" if found.faults else "good"
        click.echo(f"{state}: {_in_words(found.manifest)}; {roots}")
    if found.faults:
        context.exit(Exit.FAILED)


@command.command(short_help="Bring a backup back into an empty state directory.")
@click.argument("source", metavar="DIR|FILE.tar", type=click.Path(exists=True, path_type=Path))
@click.option("--state-dir", metavar="D", help="Where to; default: as for every verb.")
@click.option("--key", metavar="FILE", type=click.Path(exists=True, path_type=Path),
              help="The log's key, if the backup has it not.")  # fmt: skip
@click.option("--without-key", is_flag=True, help="Restore though the key is lost.")
@click.option("--owner", metavar="USER", default="",
              help="The daemon's user; default as root: as it was.")  # fmt: skip
@click.option("--accept-damage", is_flag=True,
              help="Restore a log that was damaged when it was backed up.")  # fmt: skip
@json_option
@click.pass_context
def restore(
    context: click.Context,
    source: Path,
    state_dir: str | None,
    key: Path | None,
    without_key: bool,
    owner: str,
    accept_damage: bool,
) -> None:
    """Bring a backup back into a state directory that is empty; the daemon must be stopped.

    It is verified while it is unpacked. If it is broken off, certeusd refuses to start there until
    it is run again.
    """
    from certeusd.backup.restore import DamagedError, Options
    from certeusd.backup.restore import restore as put_back

    paths = paths_of(context)
    if state_dir is not None:
        paths = Paths(client_paths(state_dir, None).state_dir, paths.runtime_dir)
    options = Options(key, without_key, owner, accept_damage)
    progress = Progress("restoring")
    with _refusals():
        try:
            done = put_back(source, paths, options, progress.tell)
        except DamagedError as error:
            progress.end()
            _show(error.faults)
            raise ExitError(
                Exit.FAILED,
                f"cannot restore {source}: it is damaged, {len(error.faults)} findings; nothing was"
                " restored, use another backup",
            ) from None
        finally:
            progress.end()
    if wants_json(context):
        print_json(
            _told(done.manifest)
            | {"state_dir": str(paths.state_dir), "findings": [f._asdict() for f in done.faults]}
        )
        return
    _show(done.faults)
    click.echo(f"{paths.state_dir}: {_in_words(done.manifest)}")
    click.echo("start certeusd; then certeus status, certeus log check")


@contextmanager
def _refusals() -> Generator[None]:
    """Turn what disk and formats refuse into an exit code, with the next step.

    Whoever ends it (`timeout`, systemd, a lost terminal) has cleaned up after it what it began.
    """
    import tarfile

    # What was told to be ignored (nohup) is.
    before = {one: signal.getsignal(one) for one in ENDING}
    for one, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(one, _end)
    try:
        yield
    except PermissionError as error:
        raise ExitError(
            Exit.NOT_ALLOWED, f"cannot use {error.filename}: not allowed; become the daemon's user"
        ) from error
    except (OSError, tarfile.TarError, ValueError) as error:
        what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise ExitError(Exit.FAILED, f"cannot go on: {what}; mend that and run it again") from error
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Once: cleaning up takes its time, and is not broken off by the same again."""
    for one in ENDING:
        signal.signal(one, signal.SIG_IGN)
    sys.exit(128 + number)


def _show(faults: "list[Fault]") -> None:
    for one in faults[:FAULTS_SHOWN]:
        click.echo(f"{one.path}: {one.reason}: {one.what}", err=True)
    if len(faults) > FAULTS_SHOWN:
        click.echo(f"... and {human_count(len(faults) - FAULTS_SHOWN)} more", err=True)


def _told(manifest: "Manifest") -> dict[str, object]:
    from certeusd.backup.manifest import as_object

    content = as_object(manifest)
    files = manifest.files
    content["files"] = len(files)
    content["bytes"] = sum(one.bytes for one in files)
    return content


def _in_words(manifest: "Manifest") -> str:
    length = human_bytes(sum(one.bytes for one in manifest.files))
    log = manifest.log
    seqs = "no log yet" if log is None else f"seq {log.first_seq}..{log.last_seq}"
    how = {"none": "without PostgreSQL"}.get(manifest.postgres.method, "with PostgreSQL")
    return f"{seqs} of log {manifest.log_id}, {how}, {length}, made {manifest.created_at}"
