"""Shared objects that the supervisor makes and hands to its children: no name outlives its making.

A name is 128 random bits, made with O_EXCL and unlinked before the object gets its size, so that
even a SIGKILL between the two calls leaves an empty name and no memory. Pages are allocated at
once: a full /dev/shm is an error here and not a SIGBUS in a child.
"""

import os
import secrets

import posix_ipc


def shared_memory(size: int) -> int:
    """Make a nameless shared object of `size` zero bytes; the caller owns the descriptor.

    Raises:
        OSError: not enough memory in /dev/shm.
    """
    name = f"/certeus-{secrets.token_hex(16)}"
    shared = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600)
    shared.unlink()
    try:
        os.ftruncate(shared.fd, size)
        os.posix_fallocate(shared.fd, 0, size)
    except OSError:
        shared.close_fd()
        raise
    os.set_inheritable(shared.fd, False)
    return shared.fd


def bell() -> int:
    """Make an eventfd; the caller owns it."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
