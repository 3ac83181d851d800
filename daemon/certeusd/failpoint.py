"""Named places at which a test lets a Python process die; `daemon/src/failpoint.rs` has Rust's.

`CERTEUS_FAILPOINT=name=count@flag` kills the process with SIGKILL when it passes `name` for the
`count`-th time, once: the file `flag` is made first, and where it exists nothing dies. Without the
variable a failpoint is one comparison; none stands in a loop over events.
"""

import os
import signal

NAMES = (
    # One batch. `begin` to `commit` are one transaction.
    "flush-before-begin",
    "flush-after-begin",
    "flush-after-compare-and-set",
    "flush-after-gap",
    "flush-before-copy",
    "flush-after-copy",
    "flush-before-dead-letter",
    "flush-after-dead-letter",
    "flush-before-commit",
    "flush-after-commit",
    # The partition of a day, in a transaction of its own.
    "flush-before-leaf",
    "flush-after-leaf",
    # What the board and `followers/postgres` tell the log writer.
    "flush-before-publish",
    "flush-after-publish",
    "flush-before-position-write",
    "flush-after-position-write",
    "flush-after-position-sync",
    "flush-after-position-rename",
    "flush-after-position-dirsync",
    "flush-after-allow-trim",
)
"""Every failpoint of the daemon's Python processes, in the order in which a batch passes them."""


def _armed() -> tuple[str, int, str] | None:
    name, _, rest = os.environ.get("CERTEUS_FAILPOINT", "").partition("=")
    count, _, flag = rest.partition("@")
    return (name, int(count), flag) if count.isdecimal() and flag else None


_target = _armed()
_passed = 0


def failpoint(name: str) -> None:
    """Die here if a test said so."""
    global _passed
    assert name in NAMES, name
    if _target is None or _target[0] != name:
        return
    _passed += 1
    if _passed != _target[1]:
        return
    try:
        os.close(os.open(_target[2], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
