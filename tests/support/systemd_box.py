"""A machine of one's own with a real systemd, for tests: the Python side of systemd-e2e.sh."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).with_name("systemd-e2e.sh")
COMMAND_TIMEOUT_S = 120.0
POLL_S = 0.05

UNIT = "certeus.service"
CERTEUS = "/usr/bin/certeus"
PYTHON = "/usr/lib/certeus/bin/python3"
"""As the package installs them."""


class Box:
    """One booted systemd; `booted` makes it and powers it off."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def root(self) -> Path:
        """Its root directory, seen from outside."""
        done = _script("root", "-n", self.name)
        return Path(done.stdout.strip())

    def run(self, *command: str, check: bool = True, stdin: str = "") -> str:
        """Run a command inside and return what it prints, both streams together."""
        done = subprocess.run(
            [str(SCRIPT), "exec", "-n", self.name, "--", *command],
            check=False, text=True, input=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
        return done.stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as ``systemctl show`` has them."""
        text = self.run("systemctl", "show", unit, *(f"-p{name}" for name in properties))
        return dict(line.split("=", 1) for line in text.splitlines())

    def journal(self, unit: str, *options: str) -> str:
        """What a unit has logged; synced first, or the last lines of a dead process are missing."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "-u", unit, "-o", "cat", "--no-pager", *options)

    def wait_for(self, condition: Callable[[], bool], unit: str, timeout_s: float = 60.0) -> None:
        """Poll until a condition holds; else fail with the last that the unit has logged."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            late = time.monotonic() > deadline
            assert not late, f"not in {timeout_s} s:\n{self.journal(unit, '--lines=50')}"
            time.sleep(POLL_S)


def certeus(box: Box, *arguments: str, stdin: str = "") -> str:
    """The command, as installed."""
    return box.run(CERTEUS, *arguments, stdin=stdin)


def is_active_again_after(box: Box, unit: str, old_pid: str) -> bool:
    """Whether another main process is up."""
    # The restart count rises before the new process is ready: look at the state too.
    now = box.show(unit, "ActiveState", "MainPID")
    return now["ActiveState"] == "active" and now["MainPID"] not in ("0", old_pid)


@contextmanager
def booted(name: str, *options: str) -> Generator[Box, None, None]:
    """A box for the length of a block."""
    _script("up", "-n", name, *options)
    try:
        yield Box(name)
    finally:
        _script("down", "-n", name)


def why_not() -> str | None:
    """Why no box can be had here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/lib/systemd/systemd").exists():
        return "needs systemd"
    for tool in ("ps", "nsenter", "setpriv", "ip"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    probe: Sequence[str] = ("unshare", "--mount", "--pid", "--fork", "true")
    if subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        return "needs the right to make namespaces"
    return None


def _script(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(SCRIPT), *arguments], check=False, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=COMMAND_TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, f"systemd-e2e.sh {' '.join(arguments)}: {done.stderr}"
    return done
