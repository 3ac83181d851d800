"""What another configuration means for who runs."""

import msgspec
import pytest

from certeusd.channel import Role
from certeusd.config import Config, IngestSection, Section
from certeusd.supervisor import reload
from certeusd.supervisor.reload import PASSWORD, Plan, plan


def changed(**sections: dict[str, object]) -> Config:
    config = Config()
    for name, values in sections.items():
        section = msgspec.structs.replace(getattr(config, name), **values)
        config = msgspec.structs.replace(config, **{name: section})
    return config


def section_of(name: str) -> type[Section]:
    section: Section = getattr(Config(), name)
    return type(section)


def plan_of(new: Config, old: Config | None = None) -> Plan:
    return plan(old or Config(), new)


def test_every_key_says_who_needs_it() -> None:
    for field in msgspec.structs.fields(Config):
        assert field.name in reload.SECTIONS
    known = {
        f"{section}.{key.name}"
        for section in reload.SECTIONS
        for key in msgspec.structs.fields(
            IngestSection if section == "ingest" else section_of(section)
        )
    }
    assert set(reload.KEYS) <= known


def test_the_same_configuration_changes_nothing() -> None:
    assert plan_of(Config()) == Plan(Config(), (), (), ())


@pytest.mark.parametrize(
    ("new", "keys", "roles"),
    [
        (changed(postgres={"batch_ms": 20}), ("postgres.batch_ms",), ("flush",)),
        (changed(log={"linger_us": 0}), ("log.linger_us",), ("log",)),
        (changed(log={"disk_reserve_bytes": 0}), ("log.disk_reserve_bytes",), ("log", "flush")),
        (changed(dedup={"keys": 5}), ("dedup.keys",), ("log",)),
        (changed(limits={"depth_max": 3}), ("limits.depth_max",), ("worker",)),
        (
            changed(limits={"event_bytes_max": 4096}),
            ("limits.event_bytes_max",),
            ("worker", "api", "syslog", "journal"),
        ),
        (
            changed(limits={"ring_bytes_max": 1 << 20}),
            ("limits.ring_bytes_max",),
            ("worker", "api", "syslog", "journal"),
        ),
        (changed(api={"readers": ("0",)}), ("api.readers",), ("api",)),
        (changed(api={"tenant": "shop"}), ("api.tenant",), ("worker", "api")),
        (changed(syslog={"uids": (7,)}), ("syslog.uids",), ("syslog",)),
        (changed(syslog={"tenant": "shop"}), ("syslog.tenant",), ("worker", "syslog")),
        (changed(journal={"matches": ("A=1",)}), ("journal.matches",), ("journal",)),
        (changed(journal={"tenant": "shop"}), ("journal.tenant",), ("worker", "journal")),
        (changed(memory={"lock": True}), ("memory.lock",), ("log", "worker")),
        (changed(logging={"level": "debug"}), ("logging.level",), ()),
        (changed(metrics={"textfile": "/x.prom"}), ("metrics.textfile",), ()),
        (changed(thresholds={"cpu_warning": 0.5}), ("thresholds.cpu_warning",), ()),
        (
            changed(postgres={"batch_ms": 20}, limits={"depth_max": 3}),
            ("limits.depth_max", "postgres.batch_ms"),
            ("worker", "flush"),
        ),
    ],
)
def test_who_uses_a_key_begins_anew(
    new: Config, keys: tuple[str, ...], roles: tuple[Role, ...]
) -> None:
    assert plan_of(new) == Plan(new, keys, (), roles)


@pytest.mark.parametrize(
    ("new", "key"),
    [
        (changed(worker={"count": 3}), "worker.count"),
        (changed(cpu={"pin": "off"}), "cpu.pin"),
        (changed(api={"enabled": False}), "api.enabled"),
        (changed(syslog={"udp": "127.0.0.1:5514"}), "syslog.udp"),
        (changed(supervisor={"stop_timeout_ms": 100}), "supervisor.stop_timeout_ms"),
        (changed(control={"group": "wheel"}), "control.group"),
        (changed(postgres={"user": "nobody"}), "postgres.user"),
        (changed(postgres={"dsn": "postgresql://h/d"}), "postgres.dsn"),
    ],
)
def test_what_is_made_at_the_start_waits_and_keeps_its_old_value(new: Config, key: str) -> None:
    assert plan_of(new) == Plan(Config(), (), (key,), ())


def test_one_key_may_hold_while_its_neighbour_waits() -> None:
    new = changed(worker={"count": 3, "forward_bytes": 8 << 20})
    kept = changed(worker={"forward_bytes": 8 << 20})
    assert plan_of(new) == Plan(kept, ("worker.forward_bytes",), ("worker.count",), ("worker",))


def test_how_many_workers_there_may_be_holds_at_once_unless_it_becomes_a_fixed_number() -> None:
    old = changed(worker={"min": 1, "max": 4})
    wider = changed(worker={"min": 2, "max": 6})
    assert plan_of(wider, old) == Plan(wider, ("worker.min", "worker.max"), (), ())
    fixed = changed(worker={"count": 3})
    done = plan_of(fixed, old)
    assert (done.config, done.changed) == (old, ())
    assert set(done.pending) == {"worker.count", "worker.min", "worker.max"}


def test_another_server_is_another_flusher_and_not_another_daemon() -> None:
    old, new = (changed(postgres={"dsn": f"postgresql://{host}/d"}) for host in "ab")
    assert plan_of(new, old) == Plan(new, ("postgres.dsn",), (), ("flush",))


def test_another_password_is_told_and_not_shown() -> None:
    done = plan(Config(), Config(), secrets=[PASSWORD])
    assert done == Plan(Config(), ("postgres.password",), (), ("flush",))


def test_rules_of_a_listener_are_its_workers_and_its_path_is_the_daemons() -> None:
    rules = msgspec.structs.replace(Config(), ingest=(IngestSection(uids=(7,)),))
    assert plan_of(rules) == Plan(rules, ("ingest.uids",), (), ("worker",))
    moved = msgspec.structs.replace(Config(), ingest=(IngestSection(path="b.sock", uids=(7,)),))
    assert plan_of(moved) == Plan(Config(), (), ("ingest.path",), ())


def test_rules_that_change_together_with_their_socket_wait_for_it() -> None:
    old, new = (
        msgspec.structs.replace(Config(), ingest=(IngestSection(uids=uids, mode=mode),))
        for uids, mode in (((1, 2), 0o666), ((1,), 0o660))
    )
    done = plan_of(new, old)
    assert (done.config, done.changed, done.roles) == (old, (), ())
    assert set(done.pending) == {"ingest.uids", "ingest.mode"}
    assert reload.waits("ingest[1].uids", done.pending)
    assert not reload.waits("ingest.uids", ("cpu.pin",))
