"""Becomes journalctl: ties its life to the door's, and executes.

`python -P -m certeusd.journal.child_exec PARENT_PID -- PROGRAM ARGUMENTS`

A parent that died before PDEATHSIG was set is seen by looking afterwards.
"""

import os
import signal
import sys

from certeusd.pdeathsig import set_parent_death_signal

PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), os.defpath))
NOT_FOUND, NOT_EXECUTED = 127, 126
"""What a shell says, too."""


def main(arguments: list[str]) -> None:
    """Never returns."""
    parent, dashes, *command = arguments
    assert dashes == "--", "the command comes behind --"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(0)
    environment = {"PATH": PATH, "LC_ALL": "C.UTF-8"}
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        missing = isinstance(error, FileNotFoundError)
        sys.exit(NOT_FOUND if missing else NOT_EXECUTED)


if __name__ == "__main__":
    main(sys.argv[1:])
