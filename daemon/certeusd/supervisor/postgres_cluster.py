"""The files of the embedded PostgreSQL: made once, whole or not at all.

```text
<state-dir>/postgres/            the server's user, 0711: the socket is here, and nothing to list
  data/                          the cluster, 0700; made as data.new and renamed when whole
  pg_hba.conf  pg_ident.conf     written at each start: peer, never trust
  binaries-18.4/                 only where the installed ones cannot be reached
```

The superuser is `postgres` (by its own system user and root only); role `certeus` owns database
`certeus` and is what `certeus dsn` names.
"""

import os
import pwd
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from certeusd.exits import Exit, ExitError
from certeusd.paths import check_socket_path
from certeusd.supervisor.postgres_files import append_synced, write_anew
from certeusd.supervisor.postgres_install import User, blocked_directory

PORT = 5432
DATABASE = "certeus"
ROLE = "certeus"

BOOTSTRAP_SQL = f"""\
CREATE ROLE {ROLE} LOGIN;
CREATE DATABASE {DATABASE} OWNER {ROLE};
"""

SETTINGS = """
# Set once by certeus when it made this cluster; yours to change.
shared_buffers = 128MB
max_connections = 64
# The same files are written again and again: to make new ones costs as much as the rows in them.
# Rows are only appended, so a checkpoint more costs little, and a start after a crash is short.
max_wal_size = 512MB
min_wal_size = 512MB
checkpoint_warning = 0
wal_compression = on
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
synchronous_commit = on
log_checkpoints = off
"""

HBA = """\
# Written by certeusd at each start. Only this host's users below, proved by the kernel.
local all all peer map=certeus
local replication all peer map=certeus
"""

Run = Callable[[Sequence[str], bytes], Awaitable[tuple[int, str]]]


class ClusterError(Exception):
    """The cluster cannot be made or started now; it is tried again."""


def dsn(home: Path) -> str:
    """Return the URL for psql and asyncpg; no password, since the kernel proves who asks."""
    return f"postgresql://{ROLE}@/{DATABASE}?host={home}"


def prepare_home(home: Path, user: User) -> None:
    """Make the directory, or exit 78 saying which one the server's user cannot enter."""
    check_socket_path(home / f".s.PGSQL.{PORT}")
    blocked = blocked_directory(home.parent, user.uid, user.groups)
    if blocked is not None:
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot run the embedded PostgreSQL as {user.name}: it cannot enter {blocked};"
            f" choose another --state-dir, or allow it (chmod o+x {blocked}), or set"
            " postgres.user or postgres.dsn",
        )
    home.mkdir(mode=0o711, exist_ok=True)
    os.chmod(home, 0o711)
    if os.geteuid() == 0:
        os.chown(home, user.uid, user.gid)


def major_of(data: Path) -> str | None:
    """Return the major version that made a cluster; None: there is none."""
    try:
        return (data / "PG_VERSION").read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_newer(found: str, ours: str) -> bool:
    """Whether a major version is a later one; what is no number (9.6, damage) is none."""
    return found.isdecimal() and int(found) > int(ours)


def other_major(data: Path, version: str) -> tuple[str, str] | None:
    """Say what is the matter if the cluster is of another major version, and the next step."""
    found, ours = major_of(data), version.split(".")[0]
    if found is None or found == ours:
        return None
    what = (
        f"the embedded cluster was made by PostgreSQL {found}, this certeus brings {ours}: it is"
        " not touched, and events stay in the log"
    )
    if is_newer(found, ours):
        return what, f"install the certeus that brings PostgreSQL {found}, or a later one"
    return what, "stop certeusd, run `certeus postgres upgrade`, and start it again"


def write_access_files(home: Path, user: User) -> None:
    """Write who may connect: our user, root and the server's user; nobody else, nobody by TCP."""
    ours = pwd.getpwuid(os.geteuid()).pw_name
    root = pwd.getpwuid(0).pw_name
    rows = [f"certeus {_quoted(name)} {ROLE}" for name in sorted({ours, root, user.name})]
    rows += [f"certeus {_quoted(name)} postgres" for name in sorted({root, user.name})]
    ident = "# Written by certeusd at each start.\n" + "\n".join(rows) + "\n"
    for name, text in (("pg_hba.conf", HBA), ("pg_ident.conf", ident)):
        write_anew(home / name, text)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def initdb_command(install: Path, data: Path) -> list[str]:
    """Return the command line that makes an empty cluster."""
    # fmt: off
    return [
        str(install / "bin" / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8",
        "--locale=C", "--auth-local=peer", "--auth-host=reject", "--no-instructions",
        # For the server that initdb itself runs: a SIGKILL there leaves nothing in /dev/shm either.
        "--set", "dynamic_shared_memory_type=mmap",
    ]
    # fmt: on


async def make_cluster(home: Path, install: Path, user: User, run: Run) -> None:
    """Run initdb and make role and database, in a directory that gets its name when all is there.

    Raises:
        ClusterError: with the last line of what went wrong; nothing is left but `data.new`.
    """
    data, making = home / "data", home / "data.new"
    shutil.rmtree(making, ignore_errors=True)
    initdb = initdb_command(install, making)
    await _checked(run, initdb, b"", "initdb")
    # initdb synced what it wrote; a power cut must not leave zeros where our lines were.
    append_synced(making / "postgresql.conf", SETTINGS)
    single = [str(install / "bin" / "postgres"), "--single", "-D", str(making), "postgres"]
    await _checked(run, single, BOOTSTRAP_SQL.encode(), "postgres --single")
    making.rename(data)
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _checked(run: Run, command: Sequence[str], stdin: bytes, what: str) -> None:
    code, output = await run(command, stdin)
    failed = [line for line in output.splitlines() if "ERROR:" in line or "FATAL:" in line]
    if code != 0 or failed:
        line = (failed or output.strip().splitlines() or ["no output"])[-1]
        raise ClusterError(f"{what} failed ({code}): {line}")


def server_command(home: Path, install: Path) -> list[str]:
    """Return the postmaster's command line: what certeus promises; the rest is in its files."""
    settings = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(home),
        "unix_socket_permissions": "0777",
        "hba_file": str(home / "pg_hba.conf"),
        "ident_file": str(home / "pg_ident.conf"),
        "fsync": "on",
        "full_page_writes": "on",
        "log_destination": "stderr",
        "logging_collector": "off",
        "log_line_prefix": "",
        "lc_messages": "C",
    }
    command = [str(install / "bin" / "postgres"), "-D", str(home / "data")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return command
