"""The PostgreSQL that a certeusd delivers to: its embedded one, or a new cluster of Debian's."""

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from certeus_bench.ledger import system
from certeus_bench.peers.running import PeerError
from certeus_bench.scenario import AbsentError, Context
from certeusd.pdeathsig import set_parent_death_signal

EMBEDDED = 18
DEBIAN = 15
BINARIES = Path(f"/usr/lib/postgresql/{DEBIAN}/bin")
SERVER_USER = "nobody"
"""Runs the server where we are root, as which it refuses to run."""
START_TIMEOUT_S = 60.0


@contextmanager
def certeus_on(version: int, context: Context) -> Generator[system.System, None, None]:
    """A daemon that delivers to a server of this version, with all of the server's defaults."""
    if version == EMBEDDED:
        with system.started(context) as certeus:
            yield certeus
        return
    with (
        debian(context.home) as dsn,
        system.started(context, {"CERTEUS_POSTGRES__DSN": dsn}) as certeus,
    ):
        yield certeus


@contextmanager
def debian(home: Path) -> Generator[str, None, None]:
    """A new cluster in ``home``, running for the length of a block; its DSN.

    Raises:
        AbsentError: the package is not installed.
    """
    if not (BINARIES / "initdb").exists():
        raise AbsentError(f"cannot find {BINARIES}: apt-get install postgresql-{DEBIAN} brings it")
    folder, data = home / "debian", home / "debian" / "data"
    folder.mkdir()
    uid = None
    if os.geteuid() == 0:
        uid = pwd.getpwnam(SERVER_USER).pw_uid
        os.chown(folder, uid, -1)
    options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
    with (folder.with_suffix(".log")).open("wb") as log:
        made = subprocess.run(
            [BINARIES / "initdb", *options, "-D", data],
            stdout=log, stderr=log, user=uid, cwd=folder,
        )  # fmt: skip
        if made.returncode != 0:
            raise PeerError(f"initdb failed: {folder.with_suffix('.log').read_text()}")
        server = subprocess.Popen(
            [BINARIES / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="],
            stdout=log, stderr=log, user=uid, cwd=folder, start_new_session=True,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
    try:
        _wait_ready(server, data)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def _wait_ready(server: "subprocess.Popen[bytes]", data: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if "ready" in (data / "postmaster.pid").read_text():
                return
        if server.poll() is not None:
            break
        time.sleep(0.02)
    raise PeerError(f"cannot start Debian's PostgreSQL: {data.parent.with_suffix('.log')}")


def _die_with_parent() -> None:
    set_parent_death_signal(signal.SIGKILL)
