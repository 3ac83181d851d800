"""Named places at which a test lets a Python process die; `daemon/src/failpoint.rs` has Rust's.

`CERTEUS_FAILPOINT=name=count@flag` kills the process with SIGKILL when it passes `name` for the
`count`-th time: the file `flag` is made first, and as long as it exists nothing dies, and no
passing counts. Several are separated by commas. Without the variable a failpoint is one
comparison; none stands in a loop over events.
"""

import os
import signal
from dataclasses import dataclass

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


@dataclass
class _Armed:
    count: int
    flag: str
    passed: int = 0


def _parse(text: str) -> dict[str, _Armed]:
    found: dict[str, _Armed] = {}
    for part in text.split(","):
        name, _, rest = part.partition("=")
        count, _, flag = rest.partition("@")
        if count.isdecimal() and flag:
            found[name] = _Armed(int(count), flag)
    return found


_all = _parse(os.environ.get("CERTEUS_FAILPOINT", ""))


def failpoint(name: str) -> None:
    """Die here if a test said so."""
    assert name in NAMES, name
    armed = _all.get(name) if _all else None
    if armed is None or os.path.exists(armed.flag):
        return
    armed.passed += 1
    if armed.passed != armed.count:
        return
    try:
        os.close(os.open(armed.flag, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
