"""What the door holds of a session that has ended for good goes through the next one."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from typing import ClassVar

import pytest

from certeus.aio_link import AsyncLink
from certeus.core import Core
from certeus.session import RefusedError
from certeusd import logs
from certeusd._native import Datagrams
from certeusd.board import BOARD_BYTES, Board
from certeusd.channel import Channel, Start
from certeusd.config import Config
from certeusd.door import Door
from certeusd.door_process import DoorProcess
from certeusd.supervisor import memory
from certeusd.syslog import intake as intake_module
from certeusd.syslog.intake import Intake
from support.syslogging import Syslog, serving

pytestmark = pytest.mark.integration


class Known(Door):
    """A door whose session can be ended from outside."""

    cores: ClassVar[list[Core]] = []

    def __init__(self, core: Core, link: AsyncLink) -> None:
        super().__init__(core, link)
        self.cores.append(core)


@pytest.fixture
def syslog() -> Iterator[Syslog]:
    with serving(ports=False) as syslog:
        yield syslog
        assert syslog.daemon.stop() == 0


def process_of(syslog: Syslog, channel: socket.socket) -> DoorProcess:
    start = Start(
        role="syslog", index=0, config=Config(), state_dir=str(syslog.daemon.state_dir),
        runtime_dir=str(syslog.daemon.runtime_dir), log_level="info", board_bytes=BOARD_BYTES,
    )  # fmt: skip
    board = Board(memory.shared_memory(BOARD_BYTES))
    return DoorProcess("syslog", start, board, [], logs.get_logger(), Channel(channel))


async def take(intake: Intake, message: bytes) -> None:
    async with intake.turn():
        await intake.take([intake.encoder.syslog(Datagrams([message]))])


def test_what_is_held_is_appended_again_when_its_session_has_ended(
    syslog: Syslog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "Door", Known)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def main() -> None:
        intake = Intake(process_of(syslog, ours))
        running = asyncio.create_task(intake.run())
        await take(intake, b"<13>one")
        await asyncio.to_thread(syslog.events, 1)
        syslog.daemon.kill("worker", signal.SIGSTOP)
        await take(intake, b"<13>two")
        await take(intake, b"<13>three")
        expired = RefusedError("producer-expired", "nobody knows this producer", "")
        assert Known.cores[-1].refused(expired)
        syslog.daemon.kill("worker")
        found = await asyncio.to_thread(syslog.events, 3)
        assert [event["data"]["message"] for event in found] == ["one", "two", "three"]
        running.cancel()
        await intake.close(10.0)

    with ours, theirs:
        asyncio.run(main())
