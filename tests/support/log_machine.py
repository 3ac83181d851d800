"""A whole ledger in one process and one thread: client rings, a worker's kernel, the log writer.

Each step is the test's own: what is forwarded is not yet committed, what is committed is not yet
told. A *kill* copies the log as the files are at this moment and goes on with the copy: what the
dead writer does in its end, the copy never sees. `Model` remembers what clients were told.
"""

import contextlib
import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import certeus._native as client_native
from certeusd._native import LogReader, LogWriter, Worker
from certeusd.board import BOARD_BYTES, Board

RING_BYTES = client_native.RING_BYTES_MIN
FORWARD_BYTES, RETURN_BYTES = 64 * 1024, 64 * 1024
PAIR_BYTES = 4 * 4096 + FORWARD_BYTES + RETURN_BYTES
SEGMENT_BYTES = 256 * 1024
EVENT_BYTES_MAX = 4000
if TYPE_CHECKING:
    from certeusd._native import LogOptions

LOG_KEY = bytes(range(32))
SOURCE = "machine"
STEPS_MAX = 5000


OPTIONS: "LogOptions" = {
    "segment_bytes": SEGMENT_BYTES, "group_bytes_max": 32768, "group_records_max": 64,
    "linger_us": 0, "bytes_max": 1 << 34, "disk_reserve_bytes": 0, "retain_bytes": 0,
    "recycle": True, "dedup_keys": 100_000, "dedup_producers": 1000,
    "follower_group": 0, "follower_seq": 0, "follower_root": bytes(32),
    "log_name": b"",
    "log_served": b"",
}  # fmt: skip


Event = tuple[str, int] | tuple[str, int, str] | tuple[str, int, int, int, bytes, int]
"""What a worker's kernel tells."""


def memory(size: int) -> int:
    fd = os.memfd_create("machine", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What identifies each file and its state."""
    found: dict[str, tuple[int, int, int]] = {}
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            stat = entry.stat()
            found[entry.name] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


@dataclass
class Offered:
    """One event as its client appended it."""

    data: bytes
    id: str | None
    bad: bool


@dataclass
class Client:
    """One producer, over all its sessions."""

    number: int
    key: bytes
    birth_seq: int | None = None
    ring: client_native.Ring | None = None
    slot: int = -1
    offered: dict[int, Offered] = field(default_factory=dict[int, Offered])
    told: dict[int, tuple[str, int, str]] = field(default_factory=dict[int, tuple[str, int, str]])
    """Verdict, seq and reason, by ticket."""
    settled: int = 0

    def drain(self) -> None:
        """Read the verdicts that are out; what was told once is never told differently."""
        if self.ring is None:
            return
        settled, entries = self.ring.drain()
        assert settled >= self.settled, "settled went back"
        for first, count, seq, _, verdict, reason in entries:
            for offset in range(count):
                ticket = first + offset
                has_seq = verdict in ("accepted", "escalated")
                said = (verdict, seq + offset if has_seq else seq, reason)
                assert self.told.setdefault(ticket, said) == said, f"ticket {ticket}: told twice"
        self.settled = settled
        assert all(ticket in self.told for ticket in range(1, settled + 1)), "a verdict is missing"


class Ledger:
    """Log writer and worker, which can be killed apart, over a directory that can be harmed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generation = 0
        self.board_fd = memory(BOARD_BYTES)
        self.board = Board(self.board_fd)
        self.follower: tuple[int, int, bytes, int] = (0, 0, bytes(32), 0)
        self.log_dir.mkdir(parents=True)
        self.ends: list[socket.socket] = []
        self.clients: dict[int, Client] = {}
        self.worker = self._new_worker()
        self.writer: LogWriter | None = None
        self.open_log()

    @property
    def log_dir(self) -> Path:
        return self.folder / f"log-{self.generation}"

    def _new_worker(self) -> Worker:
        return Worker(self.board_fd, 0, LOG_KEY, EVENT_BYTES_MAX, 16)

    # --- the log writer ----------------------------------------------------------------------

    def open_log(self) -> None:
        """Recover, and join the worker to the new log writer."""
        group, seq, root, _ = self.follower
        options = OPTIONS.copy()
        options["follower_group"], options["follower_seq"] = group, seq
        options["follower_root"] = root
        quarantine = self.folder / "quarantine"
        self.writer = LogWriter(self.log_dir, quarantine, self.board_fd, LOG_KEY, options)
        self._join()

    def _join(self) -> None:
        assert self.writer is not None
        pair, bells = memory(PAIR_BYTES), [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
        self.writer.attach(0, pair, FORWARD_BYTES, RETURN_BYTES, *bells)
        self.worker.attach(pair, FORWARD_BYTES, RETURN_BYTES, *bells)
        for fd in (pair, *bells):
            os.close(fd)

    def stop_log(self) -> None:
        """Seal and end, as at a drain."""
        assert self.writer is not None
        self.writer.seal()
        self.worker.detach()
        self.writer = None

    def kill_log(self) -> None:
        """The files stay as they are now; nothing that the writer does in its end is seen."""
        before = self.log_dir
        self.generation += 1
        while True:
            # The helper may make, rename or remove one just now: no death sees half of that.
            seen = listing(before)
            shutil.rmtree(self.log_dir, ignore_errors=True)
            with contextlib.suppress(shutil.Error, FileNotFoundError):
                shutil.copytree(before, self.log_dir)
                if listing(before) == seen:
                    break
        self.worker.detach()
        self.writer = None
        shutil.rmtree(before)

    # --- the worker --------------------------------------------------------------------------

    def kill_worker(self) -> None:
        """Its sessions end; every client says hello to the next one."""
        assert self.writer is not None
        self.writer.detach(0)
        self.worker = self._new_worker()
        for end in self.ends:
            end.close()
        self.ends.clear()
        self._join()
        for client in self.clients.values():
            self.connect(client)

    def connect(self, client: Client) -> None:
        """Say hello, and offer again what is not decided."""
        client.drain()
        p, c = memory(client_native.PAGE_BYTES + RING_BYTES), memory(client_native.C_BYTES)
        e = os.eventfd(0, os.EFD_NONBLOCK)
        for at, word in ((0, b"certeus1"), (8, b"\1"), (16, RING_BYTES.to_bytes(8, "little"))):
            os.pwrite(p, word, at)
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ends += [mine, theirs]
        client.slot = self.worker.add_session(
            p_fd=p, c_fd=c, e_fd=e, socket_fd=theirs.fileno(), ring_bytes=RING_BYTES, uid=0,
            producer=client.key, tenant="default", source=SOURCE, allowed_sources=["*"],
            birth_seq=client.birth_seq, settled=client.settled,
        )  # fmt: skip
        high = self._welcomed(client)
        ring = client_native.Ring(p, c, e, RING_BYTES, high, EVENT_BYTES_MAX)
        if client.ring is not None:
            ring.adopt_unsettled(client.ring, high)
        client.ring = ring
        self.clients[client.slot] = client
        for fd in (p, c, e):
            os.close(fd)

    def _welcomed(self, client: Client) -> int:
        for _ in range(STEPS_MAX):
            for event in self.step():
                assert event[0] == "welcomed", event
                assert len(event) == 6, event
                _, slot, birth_seq, high, _, _ = event
                if slot == client.slot:
                    if client.birth_seq is None:
                        client.birth_seq = birth_seq
                    return high
        raise AssertionError("no welcome")

    # --- steps -------------------------------------------------------------------------------

    def step(self) -> list[Event]:
        """Worker, log writer, worker; what the worker tells."""
        assert self.writer is not None
        told = list(self.worker.run(0))
        self.writer.run(0)
        return [*told, *self.worker.run(0)]

    def settle(self) -> None:
        """Until every client knows every verdict."""
        assert self.writer is not None
        for turn in range(STEPS_MAX):
            self.step()
            waiting = False
            for client in self.clients.values():
                client.drain()
                assert client.ring is not None
                waiting |= client.settled < client.ring.last_ticket
            if not waiting:
                return
            if turn % 4 == 3:
                self.writer.run(1)  # It waits for a spare segment.
        raise AssertionError("hung: verdicts do not come")

    def newest_end(self) -> tuple[Path, int]:
        """The newest segment, and where its groups end."""
        newest = LogReader(self.log_dir).segments()[-1]
        return self.log_dir / f"{newest['segment_no']:020}.log", newest["used_bytes"]

    def close(self) -> None:
        self.writer = None
        for end in self.ends:
            end.close()
        os.close(self.board_fd)
