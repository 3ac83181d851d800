"""Write docs/top.svg: `certeus top` of a daemon with five producers, as a terminal shows it.

A daemon in a directory of its own, five processes that append at a pace, one of which sends what
is rejected; the screen is drawn by Textual without a terminal. The picture refers to nothing
outside of itself: fonts are those of the reader.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from certeusd.cli.top_sample import take
from certeusd.cli.top_screen import Top
from certeusd.control.client import ControlClient
from certeusd.exits import ExitError

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "top.svg"
SIZE = (120, 27)
START_S, RUN_S = 60.0, 6.0
FONTS = "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace"

PRODUCER = """
import sys, time, certeus
socket, source, batch, pause_s, bad = sys.argv[1:]
with certeus.connect(socket, source=source, ring_bytes=1 << 16) as producer:
    rows = [{"amount": 1500 + n, "currency": "USD", "desk": n % 9, "note": "paid by card"}
            for n in range(int(batch))]
    while True:
        producer.append_many("payment", rows)
        if bad == "yes":
            producer.append("payment", b'{"amount": 15')
        time.sleep(float(pause_s))
"""
PRODUCERS = (
    ("checkout", "200", "0.004", "no"),
    ("sensors/hall-3", "32", "0.01", "yes"),
    ("iot/gateway", "48", "0.004", "no"),
    ("import/nightly", "250", "0.0005", "no"),
    ("audit", "4", "0.05", "no"),
)


def until_ready(client: ControlClient) -> None:
    """Wait until the daemon takes events and its database is there."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            if client.get("/v1/status")["state"] == "ready":
                client.get("/v1/dsn", 30.0, timeout_s="30")
                return
        except ExitError:
            pass
        time.sleep(0.1)
    raise SystemExit("the daemon is not ready")


async def picture(client: ControlClient) -> str:
    """Look for some seconds, and return what is on the screen then."""
    app = Top(lambda: take(client), 1.0)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(RUN_S)
        return app.export_screenshot(title="certeus top")


def alone(svg: str) -> str:
    """Take the fonts of other hosts out."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family:\s*[^;]+;", f"font-family: {FONTS};", svg)
    assert not re.search(r'url\("?http|(href|src)="?http', svg), "it refers to another host"
    return re.sub(r"[ \t]+\n", "\n", svg)


@contextlib.contextmanager
def busy_daemon(producers: Sequence[tuple[str, ...]] = PRODUCERS) -> Generator[Path]:
    """A daemon and its producers, in a directory of their own; yields the runtime directory."""
    with tempfile.TemporaryDirectory(prefix="certeus-picture-") as scratch:
        directory = Path(scratch)
        directory.chmod(0o755)
        run = directory / "run"
        daemon = subprocess.Popen(
            [sys.executable, "-m", "certeusd", "--state-dir", str(directory / "state"),
             "--runtime-dir", str(run)],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "CERTEUS_WORKER__COUNT": "2"},
        )  # fmt: skip
        started: list[subprocess.Popen[bytes]] = []
        try:
            until_ready(ControlClient(run / "control.sock"))
            for arguments in producers:
                command = [sys.executable, "-c", PRODUCER, str(run / "ingest.sock"), *arguments]
                started.append(subprocess.Popen(command))
            yield run
        finally:
            for producer in started:
                producer.kill()
                producer.wait()
            daemon.terminate()
            daemon.wait()


def main() -> None:
    """Start everything, draw, end everything."""
    with busy_daemon() as run:
        client = ControlClient(run / "control.sock")
        PICTURE.write_text(alone(asyncio.run(picture(client))))
    sys.stdout.write(f"wrote {PICTURE.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
