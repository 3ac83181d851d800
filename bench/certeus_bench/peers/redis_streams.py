"""Redis Streams, ``appendfsync always``: each reply waits for the sync of the append-only file.

As strace shows it: what one turn of the event loop has appended is written, ``fdatasync``
returns, then come the replies. Redis reads 16 KiB of a connection in a turn, so a plain pipeline
is synced in pieces of some 60 events; a pipeline in MULTI is executed, and synced, as one. Tried
were both with 128 to 32,768 events: MULTI was faster by a third to a half, and best with 8192.

In Redis's favour: no rewrite of the file in the background, and no snapshots.
"""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from certeus_bench.peers import durable_log, installed, running
from certeus_bench.scenario import Context

STREAM = "events"
PIPELINE = 8192
PROGRAM = "certeus_bench.peers.programs.redis_log"
SETTINGS: dict[str, str | int | float | bool] = {
    "appendonly": "yes",
    "appendfsync": "always",
    "auto-aof-rewrite-percentage": 0,
    "save": "",
}


class Redis(NamedTuple):
    """A server of one's own."""

    socket: str
    """Where it listens, and nowhere else."""
    process: psutil.Process


def configuration(home: Path, socket: str) -> str:
    """Of a server that listens on one socket only, for its own user."""
    lines = [f'{name} "{value}"' for name, value in SETTINGS.items()]
    own = [
        "port 0", f"unixsocket {socket}", "unixsocketperm 700", "protected-mode yes",
        "daemonize no", f"dir {home}",
    ]  # fmt: skip
    return "\n".join([*own, *lines, ""])


@contextmanager
def started(home: Path) -> Generator[Redis, None, None]:
    """A server with its files in ``home``, for the length of a block."""
    command = installed.program("redis-server")
    # A socket's path has 107 bytes at most, whatever the directory under test is called.
    with tempfile.TemporaryDirectory(prefix="certeus-redis-") as place:
        socket = str(Path(place, "redis.sock"))
        path = home / "redis.conf"
        path.write_text(configuration(home, socket))
        log = home / "redis.log"
        with running.server([command, str(path)], log, Path(socket).exists) as process:
            yield Redis(socket, process)


@contextmanager
def serve(context: Context) -> Generator[durable_log.Target, None, None]:
    """A server with an empty stream."""
    command = [installed.python(), "-m", PROGRAM]
    with started(context.home) as redis:
        yield durable_log.Target([*command, redis.socket, STREAM], [redis.process])


SCENARIOS = durable_log.scenarios(
    f"redis-streams{installed.version('redis-server')}",
    serve,
    batch=PIPELINE,
    batch_is="pipeline",
    how="Redis Streams with appendfsync always",
    settings=SETTINGS,
)
