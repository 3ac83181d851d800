"""NATS JetStream, one copy in files: synced before each acknowledgement, and every two minutes.

As strace shows it, with ``sync_interval: always`` each message is one ``pwrite`` and one
``fsync``, then its acknowledgement is written. So a larger window of outstanding acknowledgements
brings nothing: tried were 64 to 16,000, all within a tenth of each other. Nor does an atomic
batch: 5000 messages in batches of 500 were 5002 calls of ``fsync``. With the default interval the
client is what limits, best at a window of 1024; that acknowledges before anything is synced, and
is marked unsafe.
"""

import contextlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import NoneType

import psutil

from certeus_bench.peers import durable_log, installed, running
from certeus_bench.scenario import Context, Scenario

STREAM = "events"
WINDOW = 1024
PROGRAM = "certeus_bench.peers.programs.jetstream_log"


def configuration(home: Path, sync_interval: str) -> str:
    """Of a server on any free port of the loopback interface."""
    return f"""\
listen: "127.0.0.1:-1"
ports_file_dir: "{home}"
jetstream {{ store_dir: "{home}", sync_interval: {sync_interval} }}
"""


def address(home: Path) -> str | None:
    """Where the server listens, once it says so."""
    for path in home.glob("nats-server_*.ports"):
        with contextlib.suppress(json.JSONDecodeError):  # it is being written
            url: str = json.loads(path.read_text())["nats"][0]
            return url
    return None


@contextmanager
def started(home: Path, sync_interval: str) -> Generator[psutil.Process, None, None]:
    """A server with its files in ``home``, for the length of a block."""
    command = installed.program("nats-server")
    path = home / "nats.conf"
    path.write_text(configuration(home, sync_interval))
    with running.server(
        [command, "-c", str(path)], home / "nats.log", lambda: address(home) is not None
    ) as process:
        yield process


def scenarios(sync_interval: str, how: str, *, unsafe: bool) -> list[Scenario]:
    """Both scenarios of a server that syncs so often."""

    @contextmanager
    def serve(context: Context) -> Generator[durable_log.Target, None, None]:
        command = [installed.python(), "-m", PROGRAM]
        with started(context.home, sync_interval) as process:
            url = address(context.home)
            assert url is not None, "it was awaited"
            running.run([*command, "--make", url, STREAM], NoneType)
            yield durable_log.Target([*command, url, STREAM], [process])

    return durable_log.scenarios(
        f"jetstream{installed.version('nats-server')}, sync_interval {sync_interval}",
        serve,
        batch=WINDOW,
        batch_is="window",
        how=how,
        settings={"sync_interval": sync_interval, "storage": "file", "replicas": 1},
        unsafe=unsafe,
    )


SCENARIOS = [
    *scenarios("always", "JetStream with sync_interval always", unsafe=False),
    *scenarios("2m", "JetStream, which syncs every two minutes", unsafe=True),
]
