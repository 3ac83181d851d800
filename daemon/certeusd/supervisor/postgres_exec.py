"""Becomes a program of PostgreSQL: drops privileges, ties its life to the supervisor's, executes.

`python -P -m certeusd.supervisor.postgres_exec PARENT_PID UID GID GIDS FOLDER -- PROGRAM ARGUMENTS`

The order matters: a change of user forgets PDEATHSIG, so it comes after; and a parent that died
before it was set is seen by looking afterwards. SIGQUIT is the immediate shutdown of a postmaster:
it takes its backends along, which SIGKILL would leave behind for a moment.
"""

import os
import signal
import sys

from certeusd.pdeathsig import set_parent_death_signal


def main(arguments: list[str]) -> None:
    """Never returns."""
    parent, uid, gid, groups, folder, dashes, *command = arguments
    assert dashes == "--", "the command comes behind --"
    if os.geteuid() == 0:
        os.setgroups([int(group) for group in groups.split(",")])
        os.setresgid(int(gid), int(gid), int(gid))
        os.setresuid(int(uid), int(uid), int(uid))
    os.chdir(folder)
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    set_parent_death_signal(signal.SIGQUIT)
    if os.getppid() != int(parent):
        sys.exit(0)
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": os.environ.get("TZ", "UTC")}
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
