"""The kernel's promise that a child does not outlive its parent (prctl(2), PR_SET_PDEATHSIG)."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def set_parent_death_signal(number: signal.Signals) -> None:
    """Have the kernel send `number` to this process when the thread that made it ends.

    A change of user or group forgets the setting: call this after it. The parent may have died
    before the call: look at `os.getppid()` afterwards.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot set the parent death signal: {os.strerror(error)}")
