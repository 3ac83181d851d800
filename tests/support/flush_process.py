"""The real flusher process over a channel of its own, and what it tells."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Generator

from certeusd.board import BOARD_BYTES
from certeusd.channel import Channel, Drain, Message, Start, pair
from certeusd.config import Config, PostgresSection
from support.flushing import Rig

END_S = 30.0


class FlushProcess:
    """`python -m certeusd.flush` for a rig; its messages land in `rig.messages`."""

    def __init__(self, rig: Rig, dsn: str, **postgres: object) -> None:
        ours, theirs = pair()
        ours.setblocking(True)
        self.channel: Channel = ours
        self._rig = rig
        self.process = subprocess.Popen(
            [sys.executable, "-m", "certeusd.flush", "--channel", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        section = PostgresSection(**postgres)  # type: ignore[arg-type]  # by name, in tests
        start = Start(
            role="flush",
            index=0,
            config=Config(postgres=section),
            state_dir=str(rig.state_dir),
            runtime_dir=str(rig.state_dir),
            log_level="info",
            board_bytes=BOARD_BYTES,
            postgres_dsn=dsn,
        )
        self.channel.send(start, [rig.board_fd, rig.bell])
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        while (received := self.channel.receive()) is not None:
            self._rig.messages.append(received[0])

    def send(self, message: Message) -> None:
        self.channel.send(message)

    def end(self) -> int:
        """Drain it; its exit code."""
        self.channel.send(Drain())
        try:
            return self.process.wait(END_S)
        finally:
            self.process.kill()
            self.process.wait()
            self._listener.join()
            self.channel.close()


@contextlib.contextmanager
def flush_process(rig: Rig, dsn: str, **postgres: object) -> Generator[FlushProcess]:
    """A flusher process for the length of a block; it must end well."""
    started = FlushProcess(rig, dsn, **postgres)
    code = -1
    try:
        yield started
    finally:
        code = started.end()
    assert code == 0, f"the flusher ended with {code}"
