"""The worker as a process: what it says to its supervisor, and how it ends."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from certeusd import channel as channels
from certeusd.board import BOARD_BYTES, Board
from certeusd.channel import Attach, Drain, Ready, Start
from certeusd.config import ApiSection, Config, IngestSection, SupervisorSection

WAIT_MS = 60_000
PAIR_PAGES_BYTES = 4 * 4096
FORWARD_NEED_WAKEUP = 4096 + 65536 + 256


class Process:
    """One worker, with this process as its supervisor and nobody as its log writer."""

    def __init__(self, path: Path) -> None:
        (path / "keys").mkdir()
        (path / "keys" / "log.key").write_bytes(bytes(32))
        self.path = str(path / "ingest.sock")
        self.board_fd = memory(BOARD_BYTES)
        self.board = Board(self.board_fd)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        listener.bind(self.path)
        listener.listen()
        self.channel, end = channels.pair()
        os.set_inheritable(end.fileno(), True)
        self.child = subprocess.Popen(
            [sys.executable, "-m", "certeusd.worker", "--channel", str(end.fileno())],
            pass_fds=[end.fileno()],
            stderr=subprocess.PIPE,
        )
        end.close()
        worker = msgspec.structs.replace(Config().worker, count=1)
        config = Config(
            worker=worker,
            ingest=(IngestSection(uids=(os.getuid(),)),),
            api=ApiSection(enabled=False),
            supervisor=SupervisorSection(drain_timeout_ms=0),
        )
        start = Start("worker", 0, config, str(path), str(path), "info", BOARD_BYTES)
        self.channel.send(start, [self.board_fd, listener.fileno()])
        listener.close()

    def receive(self) -> object:
        wait(self.channel.fileno())
        received = self.channel.receive()
        assert received is not None, self.child.stderr.read() if self.child.stderr else ""
        return received[0]

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(self.path)
        hello = {
            "certeus": 1,
            "producer": "ab" * 16,
            "source": "check",
            "ring_bytes": 1 << 16,
            "birth_seq": None,
            "settled": 0,
        }
        client.send(json.dumps(hello).encode())
        return client

    def close(self) -> None:
        self.channel.close()
        try:
            assert self.child.wait(timeout=60) == 0
        finally:
            self.child.kill()
            if self.child.stderr is not None:
                self.child.stderr.close()
            os.close(self.board_fd)


def memory(size: int) -> int:
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    return descriptor


def wait(fd: int) -> None:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(WAIT_MS), "nothing came"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    yield process
    process.close()


def test_a_worker_is_ready_and_ends_with_its_supervisor(process: Process) -> None:
    assert process.receive() == Ready()
    process.close()
    process.board_fd = memory(1)


def test_a_client_waits_for_the_log_writer_and_is_told_of_a_drain(process: Process) -> None:
    assert process.receive() == Ready()
    pair, *bells = [memory(PAIR_PAGES_BYTES + 2 * 65536), os.eventfd(0), os.eventfd(0)]
    with process.connect() as client:
        os.pwrite(pair, b"\x01", FORWARD_NEED_WAKEUP)
        process.channel.send(Attach(0, 65536, 65536), [pair, *bells])
        wait(bells[0])
        assert process.board.get("worker", "sessions") == 1, "its HELLO is in the ring"
        process.channel.send(Drain())
        client.close()
        assert process.child.wait(timeout=60) == 0
    for descriptor in (pair, *bells):
        os.close(descriptor)
