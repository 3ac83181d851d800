"""Making a backup: in the order that makes its parts fit together (`certeusd.backup` says why)."""

import contextlib
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, cast

from certeusd import __version__, config_shown, config_sources
from certeusd.backup import log_source, postgres_source
from certeusd.backup import target as targets
from certeusd.backup.log_source import HeldSegments
from certeusd.backup.manifest import SIDECAR, Manifest, Position
from certeusd.backup.target import Target, Tell
from certeusd.control.client import ControlClient, Json
from certeusd.control.types import rfc3339
from certeusd.exits import Exit, ExitError
from certeusd.log import followers
from certeusd.log.follower import read_position
from certeusd.paths import Paths
from certeusd.supervisor import locks

NOT_YET = ("starting", "recovering")
MARGIN_BYTES = 16 << 20
KEY_BYTES = 32
Mode = Literal["embedded", "external", "none"]
Method = Literal["pg_basebackup", "files", "none"]


class Source:
    """A ledger, and the daemon that serves it, if one does."""

    def __init__(self, paths: Paths, config_file: str | None) -> None:
        self.paths = paths
        self._config_file = config_file
        self._client = ControlClient(paths.control_socket)
        try:
            self.status: Json | None = self._client.get("/v1/status")
        except ExitError as error:
            if error.code != Exit.UNREACHABLE:
                raise
            self.status = None
        if self.status is not None and self.status["state_dir"] != str(paths.state_dir):
            raise ExitError(
                Exit.FAILED,
                f"cannot back up {paths.state_dir}: the daemon at {paths.control_socket} has"
                f" {self.status['state_dir']}; give --state-dir and --runtime-dir of one daemon",
            )
        self.durable_seq()

    def durable_seq(self) -> int:
        """Ask the daemon; 75 while it does not know yet. Without a daemon 0."""
        if self.status is None:
            return 0
        now = self._client.get("/v1/status")
        if now["state"] in NOT_YET:
            raise ExitError(
                Exit.TRY_AGAIN,
                f"cannot back up {self.paths.state_dir}: the daemon is {now['state']}; try again"
                " after `certeus wait --ready`",
            )
        return cast(int, now["durable_seq"])

    def end(self) -> log_source.End | None:
        """Return where the log ends at this moment."""
        asked = self.durable_seq if self.status is not None else None
        return log_source.end_of(self.paths.log, asked)

    def mode(self) -> Mode:
        """Whose the database is."""
        if self.status is not None:
            postgres = cast(Json, self.status["postgres"])
            return "external" if postgres["mode"] == "external" else "embedded"
        return "embedded" if postgres_source.has_cluster(self.paths) else "none"

    def configuration(self) -> str:
        """Return what is configured, as a file of certeus would say it."""
        if self.status is not None:
            keys = cast(list[Json], self._client.get("/v1/config")["keys"])
            told = [(str(one["key"]), one["value"], str(one["origin"])) for one in keys]
        else:
            loaded = config_sources.load(self._config_file)
            shown = config_shown.every(loaded.config, loaded.origins)
            told = [(one.key, one.value, one.origin) for one in shown]
        return _as_toml(told)


def create(
    paths: Paths,
    to: Path,
    *,
    with_postgres: bool = True,
    with_key: bool = False,
    config_file: str | None = None,
    tell: Tell = targets.silent,
    total: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Make a backup at `to`, which is there, whole and synced, when this returns.

    Raises:
        ExitError: with the next step; nothing that looks like a backup is left.
    """
    source = Source(paths, config_file)
    mode = source.mode()
    method = _method(source, mode, with_postgres=with_postgres)
    with ExitStack() as owned:
        if method == "files":
            owned.callback(os.close, locks.hold(paths.lock))
        held = HeldSegments(paths.log)
        owned.callback(held.close)
        needed = _bytes_needed(paths, method)
        target = targets.at(to, tell)
        owned.callback(target.discard)
        check_room(to, needed * (2 if isinstance(target, targets.TarTarget) else 1))
        total(needed)
        manifest = _fill(source, target, held, mode, method, with_key=with_key)
        target.finish(manifest)
    return manifest


def _fill(
    source: Source,
    target: Target,
    held: HeldSegments,
    mode: Mode,
    method: Method,
    *,
    with_key: bool,
) -> Manifest:
    paths = source.paths
    created_at = time.time()
    position = read_position(paths.followers)
    _copy_positions(paths, target)
    if method == "pg_basebackup":
        postgres_source.copy_running(paths, target)
    elif method == "files":
        postgres_source.copy_stopped(paths, target)
    end = source.end()
    log = log_source.copy(held, end, target) if end is not None else None
    target.add_bytes("config/certeus.toml", source.configuration().encode())
    key = _key(paths)
    if with_key:
        if key is None:
            raise ExitError(
                Exit.NOT_ALLOWED,
                f"cannot read {paths.log_key}: become the daemon's user, or leave --with-key out",
            )
        target.add_bytes("keys/log.key", key)
    return Manifest(
        certeus_version=__version__,
        host=socket.gethostname(),
        created_at=rfc3339(created_at),
        log_id=log_source.name_of(paths.log),
        owner=postgres_source.owner_of(paths.log),
        log=log,
        postgres=postgres_source.part(paths, mode, method),
        flush_position=Position(position.group, position.seq, position.root.hex()),
        key_included=with_key,
        key_sha256=None if key is None else hashlib.sha256(key).hexdigest(),
        files=target.entries,
    )


def _method(source: Source, mode: Mode, *, with_postgres: bool) -> Method:
    if mode != "embedded" or not with_postgres:
        return "none"
    if source.status is None:
        return "files"
    state = str(cast(Json, source.status["postgres"])["state"])
    if state != "ready":
        raise ExitError(
            Exit.TRY_AGAIN,
            f"cannot copy the embedded PostgreSQL: it is {state}; wait until it is ready, or copy"
            " the log alone with --without-postgres",
        )
    return "pg_basebackup"


def _copy_positions(paths: Paths, target: Target) -> None:
    for one in sorted(paths.followers.iterdir()) if paths.followers.exists() else []:
        if followers.NAME.fullmatch(one.name):
            target.add_bytes(f"followers/{one.name}", one.read_bytes())
    # Before the log: an entry between the two is in both, and known by its id.
    with contextlib.suppress(FileNotFoundError):
        target.add_bytes("doors/journal", (paths.state_dir / "doors" / "journal").read_bytes())


def _key(paths: Paths) -> bytes | None:
    try:
        key = paths.log_key.read_bytes()
    except OSError:
        return None
    return key if len(key) == KEY_BYTES else None


def _bytes_needed(paths: Paths, method: Method) -> int:
    log = sum(
        one.stat().st_size
        for one in paths.log.iterdir()
        if one.suffix == ".log" or SIDECAR.fullmatch(one.name)
    )
    return log + (postgres_source.data_bytes(paths) if method != "none" else 0)


def check_room(to: Path, needed: int) -> None:
    """Exit 1 if the disk of a backup has not so many bytes, and some more."""
    found = os.statvfs(to.parent)
    free = found.f_bavail * found.f_frsize
    if free < needed + MARGIN_BYTES:
        raise ExitError(
            Exit.FAILED,
            f"cannot make a backup at {to}: it may need {needed} bytes, {free}"
            " are free; choose another disk",
        )


def _as_toml(keys: list[tuple[str, object, str]]) -> str:
    """Write the keys that are not defaults; JSON's scalars and lists are TOML's, too."""
    lines = ["# As certeusd had it when the backup was made. Passwords are not in it."]
    shown = ""
    for key, value, origin in keys:
        place, _, name = key.rpartition(".")
        if origin == config_shown.DEFAULT:
            continue
        if place != shown:
            section = place.partition("[")[0]
            lines += ["", f"[[{section}]]" if section == "ingest" else f"[{section}]"]
            shown = place
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}  # {origin}")
    return "\n".join(lines) + "\n"
