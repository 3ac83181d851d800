"""What `[memory]` asks for, as the kernel grants it and as it refuses."""

import ctypes
import errno
import mmap
import os
import re
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from certeusd import channel as channels
from certeusd import logs
from certeusd._native import Worker
from certeusd.board import BOARD_BYTES
from certeusd.channel import Attach, Drain, Ready, Start
from certeusd.config import Config, DedupSection, MemorySection
from certeusd.preparation import Outcome, Preparation, reason
from certeusd.supervisor import memory
from certeusd.worker import descriptors

WAIT_MS = 60_000
MIB = 1 << 20
FORWARD_BYTES, RETURN_BYTES = 4 * MIB, MIB
PAIR_BYTES = 4 * 4096 + FORWARD_BYTES + RETURN_BYTES
KEYS_FEW, KEYS_MANY = 1000, 1_000_000
WINDOW_BYTES = 32 * KEYS_MANY + 4 * (1 << 21)
"""Entries, and a table of twice as many slots as fit a power of two."""
CAP_IPC_LOCK = 14
PR_CAPBSET_DROP = 24
SMAPS_HUGE = re.compile(r"^(?:AnonHugePages|ShmemPmdMapped): +(\d+) kB$", re.MULTILINE)
THP = Path("/sys/kernel/mm/transparent_hugepage")


def limit_locked(limit_bytes: int) -> None:
    """In a child before its exec: no more than this may be locked, by root neither."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit_bytes, limit_bytes))


def status_kib(pid: int) -> dict[str, int]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {key: int(size) for key, size in re.findall(r"(\w+):\s+(\d+) kB", text)}


def huge_kib(pid: int) -> int:
    return sum(map(int, SMAPS_HUGE.findall(Path(f"/proc/{pid}/smaps").read_text())))


def skip_where_there_are_no_huge_pages(why: str) -> None:
    kernel = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    if kernel < (6, 1) or not THP.is_dir():
        pytest.skip(f"no MADV_COLLAPSE: Linux {os.uname().release}, {THP}: {THP.is_dir()}")
    if "no free huge page" in why:
        pytest.skip(why)


class LogProcess:
    """A log writer with a pair; this process is its supervisor, and nobody its worker."""

    def __init__(
        self,
        path: Path,
        wishes: MemorySection,
        *,
        keys: int = KEYS_FEW,
        locked_bytes_max: int | None = None,
    ) -> None:
        for name in ("log", "quarantine", "followers", "keys"):
            (path / name).mkdir()
        (path / "keys" / "log.key").write_bytes(bytes(32))
        self.channel, end = channels.pair()
        os.set_inheritable(end.fileno(), True)
        limit = locked_bytes_max
        self.child = subprocess.Popen(
            [sys.executable, "-m", "certeusd.log", "--channel", str(end.fileno())],
            pass_fds=[end.fileno()],
            stderr=subprocess.PIPE,
            preexec_fn=None if limit is None else lambda: limit_locked(limit),
        )
        self.pid = self.child.pid
        end.close()
        section = msgspec.structs.replace(Config().log, segment_bytes=4 * MIB, linger_us=0)
        config = Config(log=section, dedup=DedupSection(keys=keys), memory=wishes)
        self._send(
            Start("log", 0, config, str(path), str(path), "info", BOARD_BYTES),
            memory.shared_memory(BOARD_BYTES),
            memory.bell(),
        )
        self._until_ready()
        pair = memory.shared_memory(PAIR_BYTES), memory.bell(), memory.bell()
        self._send(Attach(0, FORWARD_BYTES, RETURN_BYTES), *pair)

    def _send(self, message: Start | Attach, *made: int) -> None:
        self.channel.send(message, list(made))
        for descriptor in made:
            os.close(descriptor)

    def _until_ready(self) -> None:
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        while True:
            assert poll.poll(WAIT_MS), "the log writer says nothing"
            received = self.channel.receive()
            assert received is not None, self.child.communicate()[1]
            if isinstance(received[0], Ready):
                return

    def told(self) -> dict[str, dict[str, str]]:
        """What it says of its memory, by `what`; the pair's comes last."""
        assert self.child.stderr is not None
        told: dict[str, dict[str, str]] = {}
        while "internal rings" not in told:
            line = self.child.stderr.readline()
            assert line, "the log writer has ended"
            if b'"memory_prepared"' in line:
                said = msgspec.json.decode(line, type=dict[str, str])
                told[said["what"]] = said
        return told

    def end(self) -> None:
        """Drain; whatever it could not get, it ends well."""
        self.channel.send(Drain())
        try:
            assert self.child.wait(timeout=60) == 0
        finally:
            self.child.kill()
            self.child.communicate()
            self.channel.close()


def got(said: dict[str, str], key: str) -> tuple[int, int]:
    """Bytes that have it, and bytes asked for."""
    has, asked = said[f"{key}_bytes"].split(" of ")
    return int(has), int(asked)


# --- the log writer -------------------------------------------------------------------------------


def test_prefaulted_memory_is_resident_before_the_first_event(tmp_path: Path) -> None:
    process = LogProcess(tmp_path, MemorySection(prefault=True), keys=KEYS_MANY)
    try:
        told = process.told()
        resident = status_kib(process.pid)
        assert resident["RssShmem"] * 1024 >= PAIR_BYTES
        assert resident["RssAnon"] * 1024 >= WINDOW_BYTES
        assert got(told["internal rings"], "prefault") == (PAIR_BYTES, PAIR_BYTES)
        has, asked = got(told["arenas"], "prefault")
        assert has == asked >= WINDOW_BYTES + 2 * Config().log.group_bytes_max - 4 * 8192
        assert {said["level"] for said in told.values()} == {"info"}
        assert "lock_bytes" not in told["arenas"], "nobody asked for it"
    finally:
        process.end()


def test_locked_memory_is_locked(tmp_path: Path) -> None:
    process = LogProcess(tmp_path, MemorySection(lock=True))
    try:
        told = process.told()
        limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        if os.getuid() != 0 and 0 <= limit < 8 * MIB:
            pytest.skip(f"RLIMIT_MEMLOCK is {limit} bytes here")
        wanted = sum(got(said, "lock")[1] for said in told.values())
        assert wanted > PAIR_BYTES + 2 * MIB
        assert status_kib(process.pid)["VmLck"] * 1024 >= wanted
        assert {(said["level"], said["why"]) for said in told.values()} == {("info", "")}
    finally:
        process.end()


def test_rings_and_window_are_huge_pages(tmp_path: Path) -> None:
    process = LogProcess(tmp_path, MemorySection(huge_pages=True), keys=KEYS_MANY)
    try:
        told = process.told()
        skip_where_there_are_no_huge_pages(told["internal rings"]["why"] + told["arenas"]["why"])
        assert got(told["internal rings"], "huge_pages") == (4 * MIB, 4 * MIB)
        has, asked = got(told["arenas"], "huge_pages")
        # Less than a huge page is left at each end of entries and table.
        assert has == asked >= WINDOW_BYTES - 4 * 2 * MIB
        assert huge_kib(process.pid) * 1024 >= has + 4 * MIB
    finally:
        process.end()


def test_a_limit_on_locked_memory_is_told_and_stops_no_start(tmp_path: Path) -> None:
    process = LogProcess(tmp_path, MemorySection(lock=True), locked_bytes_max=0)
    try:
        for said in process.told().values():
            assert said["level"] == "warning"
            assert got(said, "lock")[0] == 0
            assert said["why"] == "lock: RLIMIT_MEMLOCK is 0 bytes; set LimitMEMLOCK=infinity"
        assert status_kib(process.pid)["VmLck"] == 0
    finally:
        process.end()


def test_what_fits_the_limit_is_locked(tmp_path: Path) -> None:
    limit = 4 * MIB
    process = LogProcess(tmp_path, MemorySection(lock=True), locked_bytes_max=limit)
    try:
        told = process.told()
        has, asked = got(told["arenas"], "lock")
        assert has == asked < limit
        has, asked = got(told["internal rings"], "lock")
        assert 0 < has < asked == PAIR_BYTES
        assert f"RLIMIT_MEMLOCK is {limit} bytes" in told["internal rings"]["why"]
        assert 0 < status_kib(process.pid)["VmLck"] * 1024 <= limit
    finally:
        process.end()


# --- a worker -------------------------------------------------------------------------------------


@pytest.fixture
def worker() -> Iterator[Worker]:
    board = memory.shared_memory(BOARD_BYTES)
    yield Worker(board, 0, bytes(32), 1 << 18, 64)
    os.close(board)


def begin(worker: Worker, made: descriptors.Descriptors, ring_bytes: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        worker.add_session(
            p_fd=made.p, c_fd=made.c, e_fd=made.e, socket_fd=ours.fileno(), ring_bytes=ring_bytes,
            uid=0, producer=bytes(16), tenant="default", source="check", allowed_sources=["*"],
            birth_seq=None, settled=0,
        )  # fmt: skip
    made.seal_against_writing()


def test_a_clients_sealed_ring_is_resident_and_of_huge_pages(worker: Worker) -> None:
    worker.prepare({"prefault": True, "huge_pages": True, "lock": False})
    before = huge_kib(os.getpid())
    made = descriptors.make(4 * MIB)
    try:
        with mmap.mmap(made.p, 4096 + 4 * MIB) as client:
            client[3 * MIB : 3 * MIB + 5] = b"event"
            begin(worker, made, 4 * MIB)
            prepared = {key: row for _, key, *row in worker.prepared()}
            session_bytes = 4096 + 4 * MIB + descriptors.C_BYTES
            assert prepared["prefault"] == [session_bytes, session_bytes, 0]
            assert (client[:8], client[3 * MIB :][:5]) == (descriptors.MAGIC, b"event")
            refused = prepared["huge_pages"][2]
            skip_where_there_are_no_huge_pages(reason("huge_pages", 1, refused) if refused else "")
            assert prepared["huge_pages"] == [4 * MIB, 4 * MIB, 0]
            assert huge_kib(os.getpid()) - before >= 4 * 1024
    finally:
        made.close()
    assert worker.prepared() == [], "told once"


def test_a_ring_too_short_for_a_huge_page_is_said_to_be(worker: Worker) -> None:
    worker.prepare({"prefault": False, "huge_pages": True, "lock": False})
    made = descriptors.make(1 << 16)
    try:
        begin(worker, made, 1 << 16)
    finally:
        made.close()
    assert worker.prepared() == [("client rings", "huge_pages", 0, 0, 0)]
    assert reason("huge_pages", 0, 0) == "nothing there is as long as a huge page"


# --- what is told ---------------------------------------------------------------------------------


class Kernel:
    """Says what the test says."""

    def __init__(self, *outcomes: list[Outcome]) -> None:
        self.wishes: dict[str, bool] | None = None
        self.outcomes = list(outcomes)

    def prepare(self, wishes: dict[str, bool], /) -> None:
        self.wishes = wishes

    def prepared(self) -> list[Outcome]:
        return self.outcomes.pop(0)


def test_without_a_wish_the_kernel_is_not_asked() -> None:
    kernel = Kernel()
    Preparation(kernel, MemorySection(), logs.get_logger()).tell()
    assert kernel.wishes is None


def test_each_result_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    good: Outcome = ("client rings", "lock", 10, 10, 0)
    bad: Outcome = ("client rings", "lock", 10, 0, errno.ENOMEM)
    kernel = Kernel([good], [], [good], [bad], [good], [bad])
    preparation = Preparation(kernel, MemorySection(lock=True), logs.configure("worker"))
    while kernel.outcomes:
        preparation.tell()
    told = [msgspec.json.decode(line, type=dict[str, str | int])
            for line in capfd.readouterr().err.splitlines()]  # fmt: skip
    assert [(said["level"], said["lock_bytes"]) for said in told] == [
        ("info", "10 of 10"),
        ("warning", "0 of 10"),
    ]
    assert kernel.wishes == {"prefault": False, "huge_pages": False, "lock": True}


@pytest.mark.parametrize(
    ("key", "code", "told"),
    [
        ("lock", errno.EPERM, "set LimitMEMLOCK=infinity"),
        ("huge_pages", errno.EINVAL, "Linux 6.1 has"),
        ("huge_pages", errno.ENOMEM, "no free huge page"),
        ("prefault", errno.EINVAL, "Linux 5.14 can"),
        ("prefault", errno.EFAULT, os.strerror(errno.EFAULT)),
    ],
)
def test_a_refusal_has_its_reason(key: str, code: int, told: str) -> None:
    assert told in reason(key, 4096, code)
