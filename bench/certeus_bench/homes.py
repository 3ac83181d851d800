"""A fresh directory for each scenario, on the disk under test, in which PostgreSQL can run too."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from certeus_bench.harness import LONGEST_SOCKET, SOCKET_PATH_BYTES_MAX, blocked_for_postgres

ELSEWHERE = Path("/var/tmp")
PREFIX = "certeus-bench-"


def place_for_homes(wanted: Path) -> tuple[Path, str | None]:
    """Where homes can be made: ``wanted``, or /var/tmp and one sentence why.

    Started by root, the embedded PostgreSQL runs as a user without privileges, who must be able to
    enter; and the path of its socket has 107 bytes at most.
    """
    wanted.mkdir(parents=True, exist_ok=True)
    wanted = wanted.absolute()
    if blocked := blocked_for_postgres(wanted):
        return ELSEWHERE, f"PostgreSQL's user cannot enter {blocked}: measuring in {ELSEWHERE}"
    longest = wanted / (PREFIX + 8 * "x") / LONGEST_SOCKET
    if len(os.fsencode(longest)) > SOCKET_PATH_BYTES_MAX:
        return ELSEWHERE, f"{wanted} is too long for a socket's path: measuring in {ELSEWHERE}"
    return wanted, None


@contextmanager
def fresh_home(place: Path) -> Generator[Path, None, None]:
    """An empty directory below ``place`` that goes in the end with all that is in it."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as name:
        home = Path(name)
        home.chmod(0o755)  # PostgreSQL's user must pass, whatever the umask
        yield home
