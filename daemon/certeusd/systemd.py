"""What systemd tells a service by variables, and what a service answers; read nowhere else.

sd_notify is a datagram of lines to the socket that `$NOTIFY_SOCKET` names; systemd itself advises
to write these few lines rather than to link its library (sd_notify(3)).
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

CHILD_FORGETS = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID",
    "LISTEN_FDNAMES", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE",
)  # fmt: skip
"""Variables that children do not get: only the supervisor speaks to systemd."""
JOURNAL_SOCKET = "/run/systemd/journal/socket"
"""Where the journal takes native records (systemd-journald.service(8))."""
FIRST_LISTENING = 3
"""The descriptors that `LISTEN_FDS` counts begin here (sd_listen_fds(3))."""


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell systemd `KEY=value` lines; without it nothing happens. Never raises, never waits."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as end:
            end.connect(address)
            end.sendall("\n".join(lines).encode())
    except OSError:
        return False
    return True


class StatusLine:
    """What `systemctl status` shows of the service, told when it changes."""

    def __init__(self) -> None:
        self._told = ""

    def tell(self, line: str) -> None:
        """Show `line` from now on."""
        if line != self._told:
            self._told = line
            notify(f"STATUS={line}")


def listening(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the sockets that systemd listens on for this process; no child inherits them."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environ.get("LISTEN_FDS", "0"))
    given = [socket.socket(fileno=FIRST_LISTENING + at) for at in range(count)]
    for end in given:
        end.set_inheritable(False)
        end.setblocking(False)
    return given


def wants_watchdog(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether systemd ends a main process that gives no `WATCHDOG=1` for `WatchdogSec=`."""
    return int(environ.get("WATCHDOG_USEC", "0")) > 0 and environ.get(
        "WATCHDOG_PID", str(os.getpid())
    ) == str(os.getpid())


def memory_pressure_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return where the kernel says how long this service waits for memory; none: told not to look.

    systemd names the file from 254 on (`MemoryPressureWatch=`); before, that of the host.
    """
    named = Path(environ.get("MEMORY_PRESSURE_WATCH", "/proc/pressure/memory"))
    return None if named == Path("/dev/null") else named


def state_directory(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the first `StateDirectory=` of the unit."""
    return environ.get("STATE_DIRECTORY", "").split(":")[0] or None


def runtime_directory(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the first `RuntimeDirectory=` of the unit."""
    return environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or None


def credential(name: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file of a `LoadCredential=`, if the unit has it."""
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    path = Path(directory, name)
    return path if directory and path.is_file() else None


def stderr_is_journal(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether standard error goes straight to the journal, which then reads `<N>` priorities."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        at = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(at.st_dev), str(at.st_ino))


def child_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for children: without what is systemd's alone."""
    return {name: value for name, value in environ.items() if name not in CHILD_FORGETS}
