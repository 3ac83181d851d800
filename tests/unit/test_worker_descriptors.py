"""P, C and E as Linux sees them; credentials of a peer."""

import errno
import fcntl
import mmap
import os
import socket
import struct

import pytest

from certeusd.peer import Peer, peer_of
from certeusd.worker import descriptors

RING = 1 << 16


def open_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_p_tells_its_size_and_awaits_nothing() -> None:
    made = descriptors.make(RING)
    try:
        assert os.fstat(made.p).st_size == 4096 + RING
        assert os.fstat(made.p).st_blocks * 512 >= 4096 + RING, "allocated now, not later"
        assert struct.unpack("=8sQQ", os.pread(made.p, 24, 0)) == (b"certeus1", 1, RING)
        assert os.pread(made.p, 16, descriptors.P_WAKE_SETTLED) == b"\xff" * 16
        assert os.fstat(made.c).st_size == descriptors.C_BYTES
    finally:
        made.close()


def test_sizes_are_sealed() -> None:
    made = descriptors.make(RING)
    try:
        for memory in (made.p, made.c):
            for size in (0, 4096, 1 << 20):
                with pytest.raises(PermissionError):
                    os.ftruncate(memory, size)
    finally:
        made.close()


def test_c_can_only_be_read_once_it_is_sealed() -> None:
    made = descriptors.make(RING)
    try:
        ours = mmap.mmap(made.c, descriptors.C_BYTES)
        made.seal_against_writing()
        with pytest.raises(PermissionError):
            mmap.mmap(made.c, descriptors.C_BYTES)
        with pytest.raises(PermissionError):
            os.pwrite(made.c, b"x", 0)
        again = os.open(f"/proc/self/fd/{made.c}", os.O_RDWR)
        with pytest.raises(PermissionError):
            mmap.mmap(again, descriptors.C_BYTES)
        os.close(again)
        with pytest.raises(PermissionError):
            fcntl.fcntl(made.c, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        ours[:4] = b"ours"
        theirs = mmap.mmap(made.c, descriptors.C_BYTES, prot=mmap.PROT_READ)
        assert theirs[:4] == b"ours"
        ours.close()
        theirs.close()
    finally:
        made.close()


def test_a_failure_leaves_no_descriptor_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_count()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        descriptors.make(RING)
    assert open_count() == before


def test_an_old_kernel_does_not_know_noexec(monkeypatch: pytest.MonkeyPatch) -> None:
    create = os.memfd_create

    def old(name: str, flags: int) -> int:
        if flags & 0x8:
            raise OSError(22, "Invalid argument")
        return create(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    descriptors.make(RING).close()


def test_a_peer_is_who_the_kernel_says() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert peer.gids == {os.getgid(), *os.getgroups()}


class Told(socket.socket):
    """A socket of whose peer the kernel says something else than of this process."""

    def getsockopt(self, *question: int) -> bytes:  # type: ignore[override]  # always with a length
        peers_groups = 59
        words = (7, 8) if question[1] == peers_groups else (11, 12, 13)
        return struct.pack(f"={len(words)}I", *words)


def test_pid_uid_and_gid_of_a_peer_are_not_mixed_up() -> None:
    with Told() as end:
        assert peer_of(end) == Peer(pid=11, uid=12, gids=frozenset({13, 7, 8}))


class Many(socket.socket):
    """A socket whose peer is in more groups than there is room for."""

    def getsockopt(self, *question: int) -> bytes:  # type: ignore[override]  # always with a length
        peers_groups = 59
        if question[1] == peers_groups:
            raise OSError(errno.ERANGE, "no room")
        return struct.pack("=3I", 11, 12, 13)


def test_a_peer_in_more_groups_than_fit_is_known_by_its_first() -> None:
    with Many() as end:
        assert peer_of(end) == Peer(pid=11, uid=12, gids=frozenset({13}))
