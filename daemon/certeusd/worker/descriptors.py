"""P, C and E of one session: made by the daemon, sealed before anybody else has them.

P and C cannot shrink or grow, so no mapping of them ever faults away; their pages are allocated
now, so none of them faults later for want of memory. C is sealed against new writable mappings once
the kernel of the worker has its own: the client can only read it, for ever.
"""

import errno
import fcntl
import os
import struct
from dataclasses import dataclass

PAGE_BYTES = 4096
MAGIC = b"certeus1"
VERSION = 1
P_WAKE_SETTLED = 256
NEVER = 2**64 - 1
VERDICT_BYTES = 40
VERDICT_COUNT = 2048
C_BYTES = PAGE_BYTES + VERDICT_COUNT * VERDICT_BYTES

_MFD_NOEXEC_SEAL = 0x8
_F_SEAL_FUTURE_WRITE = 0x10
_SEAL_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Owned until `close`."""

    p: int
    c: int
    e: int

    def seal_against_writing(self) -> None:
        """After the worker has mapped C: nobody else ever maps it writable."""
        fcntl.fcntl(self.c, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL)

    def close(self) -> None:
        """Close all three; mappings and the client's copies go on."""
        for descriptor in (self.p, self.c, self.e):
            os.close(descriptor)


def make(ring_bytes: int) -> Descriptors:
    """Make the objects of a session with `ring_bytes` of data.

    Raises:
        OSError: no memory or no descriptors; nothing is left behind.
    """
    made: list[int] = []
    try:
        p = _memory("certeus-p", PAGE_BYTES + ring_bytes, made)
        os.pwrite(p, struct.pack("=8sQQ", MAGIC, VERSION, ring_bytes), 0)
        os.pwrite(p, struct.pack("=QQ", NEVER, NEVER), P_WAKE_SETTLED)
        fcntl.fcntl(p, fcntl.F_ADD_SEALS, _SEAL_SIZE | fcntl.F_SEAL_SEAL)
        c = _memory("certeus-c", C_BYTES, made)
        fcntl.fcntl(c, fcntl.F_ADD_SEALS, _SEAL_SIZE)
        made.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        return Descriptors(p, c, made[-1])
    except OSError:
        for descriptor in made:
            os.close(descriptor)
        raise


def _memory(name: str, size: int, made: list[int]) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # A kernel before 6.3 does not know the flag.
            raise
        descriptor = os.memfd_create(name, flags)
    made.append(descriptor)
    os.posix_fallocate(descriptor, 0, size)
    return descriptor
