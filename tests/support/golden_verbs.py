"""How to have each verb print JSON: on a daemon that runs, and on the log of one that does not.

A scenario returns what the verb printed, once or several times, and leaves the daemon as it was.
"""

import asyncio
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg

import certeus
from support.daemon import Daemon, running, scratch_dir
from support.waiting import wait_until

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
SMALL = '[log]\nsegment_bytes = "4MiB"\n'
EVENTS = b'{"id": "a", "who": "me"}\n{"id": "b", "who": "you"}\n'


class World(NamedTuple):
    """What scenarios use."""

    live: Daemon
    """It has events in the log and in its embedded PostgreSQL."""
    gone: Path
    """State directory of a daemon that is stopped; of three segments the middle one is missing."""


Scenario = Callable[[World], list[bytes]]


@contextmanager
def made_world() -> Generator[World]:
    """Start the one daemon, and make the log of the other."""
    with running(SMALL) as live, scratch_dir() as root:
        options = ("--id-field", "id", "--subject-field", "who")
        live.certeus("append", *options, stdin=EVENTS)
        with certeus.connect(live.ingest, source="golden") as producer:
            opaque = producer.append(
                "t", b"\0", content_type="image/png", extensions={"extension": "x"}
            )
            producer.wait_durable(opaque, timeout=30.0)
        live.certeus("wait", "--flushed")
        yield World(live, _with_a_missing_segment(root))
        assert live.stop() == 0


def _with_a_missing_segment(root: Path) -> Path:
    daemon = Daemon(root, AWAY + SMALL)
    try:
        for _ in range(3):
            daemon.start()
            with certeus.connect(daemon.ingest, source="gap") as producer:
                # Each start copies the last group into its segment: one event here.
                for count in (100, 1):
                    ticket = producer.append_many("t", [{"n": n} for n in range(count)])
                    producer.wait_durable(ticket, timeout=30.0)
            assert daemon.stop() == 0
    finally:
        daemon.clean_up()
    sorted((daemon.state_dir / "log").glob("*.log"))[1].unlink()
    return daemon.state_dir


@contextmanager
def _copy(world: World, config: str = AWAY) -> Generator[Daemon]:
    """A daemon, not started, on a copy of the log that lacks a segment."""
    with scratch_dir() as root:
        daemon = Daemon(root, config + SMALL)
        shutil.copytree(world.gone, daemon.state_dir)
        try:
            yield daemon
        finally:
            daemon.clean_up()


def printed(*arguments: str, codes: tuple[int, ...] = (0,)) -> Scenario:
    """A scenario of one call to the daemon that runs."""

    def call(world: World) -> list[bytes]:
        done = world.live.certeus(*arguments, "--json", code=None)
        assert done.returncode in codes, done.stderr
        return [done.stdout]

    return call


def append(world: World) -> list[bytes]:
    good = world.live.certeus("append", "--json", stdin=EVENTS).stdout
    return [good, world.live.certeus("append", "--json", stdin=b"[]\n{}\n", code=1).stdout]


def pipe(world: World) -> list[bytes]:
    read = world.live.certeus("pipe", "--json", stdin=b"a\n\xff\n", code=1).stdout
    with scratch_dir() as root:
        (root / "log").write_bytes(b"a\n")
        places = ("--follow", str(root / "log"), "--state", str(root / "state"))
        return [read, world.live.certeus("pipe", "--once", "--json", *places).stdout]


def status(world: World) -> list[bytes]:
    world.live.certeus("flush", "pause")
    paused = world.live.certeus("status", "--json").stdout
    world.live.certeus("flush", "resume")
    world.live.certeus("wait", "--flushed")
    return [paused, world.live.certeus("status", "--json").stdout]


def wait(world: World) -> list[bytes]:
    return [
        world.live.certeus("wait", until, "--json").stdout
        for until in ("--ready", "--durable", "--flushed")
    ]


def flush_pause(world: World) -> list[bytes]:
    paused = world.live.certeus("flush", "pause", "--json").stdout
    world.live.certeus("flush", "resume")
    return [paused]


def flush_resume(world: World) -> list[bytes]:
    world.live.certeus("flush", "pause")
    return [world.live.certeus("flush", "resume", "--json").stdout]


def followers_forget(world: World) -> list[bytes]:
    places = world.live.state_dir / "followers"
    shutil.copy(places / "postgres", places / "other")
    return [world.live.certeus("followers", "forget", "other", "--json").stdout]


@contextmanager
def _changed(daemon: Daemon) -> Generator[None]:
    """Other files, in a key that a reload changes and in one that waits; then the old ones."""
    text = daemon.config_path.read_text()
    daemon.config_path.write_text(text + '[control]\ngroup = "x"\n[postgres]\nbatch_ms = 20\n')
    try:
        yield
    finally:
        daemon.config_path.write_text(text)
        daemon.certeus("reload")


def config_diff(world: World) -> list[bytes]:
    with _changed(world.live):
        return [world.live.certeus("config", "diff", "--json", code=1).stdout]


def reload(world: World) -> list[bytes]:
    with _changed(world.live):
        return [world.live.certeus("reload", "--json").stdout]


def drain(world: World) -> list[bytes]:
    with _copy(world) as daemon:
        daemon.start()
        done = daemon.certeus("drain", "--json").stdout
        assert daemon.process is not None
        assert daemon.process.wait(60) == 0
        return [done]


def gap_accept(world: World) -> list[bytes]:
    with _copy(world, f'[postgres]\ndsn = "{world.live.dsn()}"\n') as daemon:
        daemon.start()
        wait_until("the gap", lambda: daemon.status()["reports"].get("gap"))
        done = daemon.certeus("gap", "accept", "--json").stdout
        daemon.certeus("wait", "--flushed")
        assert daemon.stop() == 0
        return [done]


def log_export(world: World) -> list[bytes]:
    with _copy(world) as daemon:
        output = str(daemon.root / "events")
        done = daemon.certeus("log", "export", "--output", output, "--json", code=1)
        return [done.stdout]


def log_fork(world: World) -> list[bytes]:
    with _copy(world) as daemon:
        described = daemon.certeus("log", "fork", _name_of_log(daemon), "--json")
        return [described.stdout]


def _name_of_log(daemon: Daemon) -> str:
    daemon.start()
    wait_until("the name of the log", lambda: daemon.status()["log_id"])
    name = str(daemon.status()["log_id"])
    assert daemon.stop() == 0
    return name


def log_inspect(world: World) -> list[bytes]:
    whole = world.live.certeus("log", "inspect", "1..3", "--json").stdout
    with _copy(world) as daemon:
        missing = daemon.certeus("log", "inspect", "101..102", "--json", code=1).stdout
        (daemon.state_dir / "keys" / "log.key").unlink()
        return [whole, missing, daemon.certeus("log", "inspect", "1", "--json").stdout]


def log_repair(world: World) -> list[bytes]:
    with _copy(world) as daemon:
        refused = daemon.certeus("log", "repair", "--json", code=75).stdout
        return [refused, daemon.certeus("log", "repair", "--yes", "--json").stdout]


@contextmanager
def _letters(world: World) -> Generator[Daemon]:
    """Two dead letters in PostgreSQL, and what refused them taken back at the end."""
    daemon = world.live
    constraint = "ALTER TABLE certeus.events {} CONSTRAINT golden"
    asyncio.run(_execute(daemon.dsn(), constraint.format("ADD") + " CHECK (type <> 'g') NOT VALID"))
    daemon.certeus("append", "--type", "g", stdin=b"{}\n{}\n")
    daemon.certeus("dead-letters", "accept")
    daemon.certeus("wait", "--flushed")
    try:
        yield daemon
    finally:
        asyncio.run(_execute(daemon.dsn(), constraint.format("DROP")))
        daemon.certeus("dead-letters", "retry", "--all")


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def dead_letters_ls(world: World) -> list[bytes]:
    with _letters(world) as daemon:
        return [daemon.certeus("dead-letters", "ls", "--limit", "1", "--json").stdout]


def dead_letters_retry(world: World) -> list[bytes]:
    with _letters(world) as daemon:
        return [daemon.certeus("dead-letters", "retry", "--all", "--json", code=1).stdout]


def dead_letters_drop(world: World) -> list[bytes]:
    with _letters(world) as daemon:
        everything = f"1..{daemon.status()['durable_seq']}"
        return [daemon.certeus("dead-letters", "drop", everything, "--yes", "--json").stdout]


@contextmanager
def _backup(world: World) -> Generator[tuple[Path, bytes]]:
    """A backup, and what was printed when it was made."""
    with scratch_dir() as root:
        place = root / "backup"
        made = world.live.certeus("backup", "create", "--with-key", "--json", str(place))
        yield place, made.stdout


def backup_create(world: World) -> list[bytes]:
    with _backup(world) as (_, made):
        return [made]


def backup_verify(world: World) -> list[bytes]:
    with _backup(world) as (place, _):
        good = world.live.certeus("backup", "verify", "--json", str(place)).stdout
        next((place / "log").glob("*.log")).unlink()
        return [good, world.live.certeus("backup", "verify", "--json", str(place), code=1).stdout]


def backup_restore(world: World) -> list[bytes]:
    with _backup(world) as (place, _):
        target = ("--state-dir", str(place.parent / "restored"))
        return [world.live.certeus("backup", "restore", "--json", *target, str(place)).stdout]


def bundle(world: World) -> list[bytes]:
    with scratch_dir() as root:
        listed = world.live.certeus("bundle", "--dry-run", "--json").stdout
        return [listed, world.live.certeus("bundle", str(root / "b.tar.gz"), "--json").stdout]


def postgres_upgrade(world: World) -> list[bytes]:
    with _copy(world) as daemon:
        none = daemon.certeus("postgres", "upgrade", "--json").stdout
        return [none, world.live.certeus("postgres", "upgrade", "--json").stdout]


def served(*arguments: str) -> Scenario:
    """A scenario of one call, while a producer is connected of which an event was rejected."""

    def call(world: World) -> list[bytes]:
        with certeus.connect(world.live.ingest, source="served") as producer:
            try:
                producer.wait_durable(producer.append("t", b"{"), timeout=30.0)
            except certeus.RejectedError:
                return [world.live.certeus(*arguments, "--json").stdout]
        raise AssertionError("the event is no JSON")

    return call


def stopped(*arguments: str) -> Scenario:
    """A scenario of one call on each log: the one that is whole, and the one that is not."""

    def call(world: World) -> list[bytes]:
        with _copy(world) as daemon:
            damaged = daemon.certeus(*arguments, "--json", code=None)
        return [world.live.certeus(*arguments, "--json").stdout, damaged.stdout]

    return call


def tap(world: World) -> list[bytes]:
    """Of an api on the log that lacks a segment: its gap is told beside the events."""
    with _copy(world) as daemon:
        daemon.env["CERTEUS_API__ENABLED"] = "true"
        daemon.start()
        asked = ("tap", "--after-seq", "0", "--json")
        events = daemon.certeus(*asked, "-n", "150").stdout
        rates = daemon.certeus(*asked, "--rate", "-n", "1").stdout
        assert daemon.stop() == 0
        return [events, rates]


def _all() -> Iterator[tuple[str, Scenario]]:
    yield "append", append
    yield "backup create", backup_create
    yield "backup restore", backup_restore
    yield "backup verify", backup_verify
    yield "bundle", bundle
    yield "completion", printed("completion", "bash")
    yield "config diff", config_diff
    yield "config show", printed("config", "show")
    yield "dead-letters accept", printed("dead-letters", "accept")
    yield "dead-letters drop", dead_letters_drop
    yield "dead-letters ls", dead_letters_ls
    yield "dead-letters retry", dead_letters_retry
    yield "doctor", printed("doctor", codes=(0, 1))
    yield "drain", drain
    yield "dsn", printed("dsn")
    yield "flush pause", flush_pause
    yield "flush resume", flush_resume
    yield "followers", stopped("followers")
    yield "followers forget", followers_forget
    yield "gap accept", gap_accept
    yield "log check", stopped("log", "check")
    yield "log export", log_export
    yield "log fork", log_fork
    yield "log inspect", log_inspect
    yield "log ls", stopped("log", "ls")
    yield "log repair", log_repair
    yield "log-level", printed("log-level", "info")
    yield "pipe", pipe
    yield "postgres upgrade", postgres_upgrade
    yield "producers", served("producers")
    yield "reload", reload
    yield "retry", printed("retry")
    yield "sla", printed("sla")
    yield "status", status
    yield "tail", printed("tail")
    yield "tap", tap
    yield "top", served("top", "--interval", "1")
    yield "wait", wait
    yield "workers", printed("workers")
    yield "workers restart", printed("workers", "restart", "0")


SCENARIOS: dict[str, Scenario] = dict(_all())
