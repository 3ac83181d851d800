"""What another configuration means for who runs: decided key by key, never by a guess.

A child gets its configuration when it starts, so it begins anew for what it uses: workers hand
their producers over (these reconnect and go on), the log writer seals and opens the log, the
flusher ends its batch. What is made once a life of the daemon stays until its next start, and is
told.
"""

from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

import msgspec

from certeusd.channel import Role
from certeusd.config import Config, IngestSection

DAEMON: Literal["daemon"] = "daemon"
"""Used by the supervisor alone, and only at its start."""

Needs = frozenset[Role | Literal["daemon"]]

NOBODY: Needs = frozenset()
_WORKER: Needs = frozenset({"worker"})
_LOG: Needs = frozenset({"log"})
_FLUSH: Needs = frozenset({"flush"})
_API: Needs = frozenset({"api"})
_SYSLOG: Needs = frozenset({"syslog"})
_JOURNAL: Needs = frozenset({"journal"})
_DAEMON: Needs = frozenset({DAEMON})

SECTIONS: dict[str, Needs] = {
    "worker": _WORKER,
    "cpu": _DAEMON,
    "memory": frozenset({"worker", "log"}),
    "ingest": _WORKER,
    "api": _API,
    "syslog": _SYSLOG,
    "journal": _JOURNAL,
    "limits": _WORKER,
    "log": _LOG,
    "dedup": _LOG,
    "postgres": _FLUSH,
    "control": NOBODY,
    "logging": NOBODY,
    "supervisor": _WORKER | _API | _SYSLOG | _JOURNAL,
    "metrics": NOBODY,
    "thresholds": NOBODY,
    "sla": NOBODY,
}
KEYS: dict[str, Needs] = {
    "worker.count": _DAEMON,
    "api.enabled": _DAEMON,
    "api.path": _DAEMON,
    "api.mode": _DAEMON,
    "api.tenant": _WORKER | _API,
    "journal.enabled": _DAEMON,
    "journal.tenant": _WORKER | _JOURNAL,
    "worker.min": NOBODY,
    "worker.max": NOBODY,
    "control.group": _DAEMON,
    "ingest.path": _DAEMON,
    "ingest.mode": _DAEMON,
    "limits.event_bytes_max": _WORKER | _API | _SYSLOG | _JOURNAL,
    "limits.ring_bytes_max": _WORKER | _API | _SYSLOG | _JOURNAL,
    "log.disk_reserve_bytes": frozenset({"log", "flush"}),
    "postgres.user": _DAEMON,
    "supervisor.stop_timeout_ms": _DAEMON,
    "syslog.enabled": _DAEMON,
    "syslog.mode": _DAEMON,
    "syslog.path": _DAEMON,
    "syslog.tcp": _DAEMON,
    "syslog.tenant": _WORKER | _SYSLOG,
    "syslog.udp": _DAEMON,
}
"""Where a key needs another than its section. `worker.min` and `max` hold at once: workers come and
go by themselves, and above what the start has planned for they have no CPU of their own."""

WORKER_NUMBER = frozenset({"worker.count", "worker.min", "worker.max"})
"""One question: they wait together, as rules do with their sockets."""

PASSWORD, API_KEY = "postgres.password", "api.key"
SECRETS: dict[str, Needs] = {PASSWORD: _FLUSH, API_KEY: _API}
"""What stands for a secret in the list of what has changed; it is no key."""

ORDER: tuple[Role, ...] = ("log", "worker", "flush", "api", "syslog", "journal")
"""In this order they begin anew: what the one decides, the next ones ask for."""


class Plan(NamedTuple):
    """What a reload does."""

    config: Config
    """What holds afterwards: the new one, with the old values of `pending`."""
    changed: tuple[str, ...]
    """Keys that hold now."""
    pending: tuple[str, ...]
    """Keys that wait for the next start of the daemon."""
    roles: tuple[Role, ...]
    """Who begins anew, in order."""


def plan(old: Config, new: Config, *, secrets: Collection[str] = ()) -> Plan:
    """Compare two effective configurations; `secrets`: which of `SECRETS` have changed."""
    changed = list[str]()
    pending = list[str]()
    needed = set[str]()
    differing = {key: _needs(key, old, new) for key in _differing(old, new)}
    # Rules belong to their sockets: they wait together.
    sockets = any(DAEMON in needs for key, needs in differing.items() if _is_ingest(key))
    fixed = "worker.count" in differing
    for key, needs in differing.items():
        together = (sockets and _is_ingest(key)) or (fixed and key in WORKER_NUMBER)
        if together or DAEMON in needs:
            pending.append(key)
        else:
            changed.append(key)
            needed |= needs
    for secret in secrets:
        changed.append(secret)
        needed |= SECRETS[secret]
    kept = _with_old(new, old, pending)
    return Plan(kept, tuple(changed), tuple(pending), tuple(r for r in ORDER if r in needed))


def waits(key: str, pending: Collection[str]) -> bool:
    """Whether a key, of any `[[ingest]]` too (`ingest[1].mode`), waits for the next start."""
    return key in pending or (_is_ingest(key) and any(map(_is_ingest, pending)))


def _is_ingest(key: str) -> bool:
    return key.startswith("ingest")


def needs_of(key: str) -> Needs:
    """Return who begins anew for a key."""
    return KEYS.get(key, SECTIONS[key.partition(".")[0]])


def _needs(key: str, old: Config, new: Config) -> Needs:
    if key == "postgres.dsn" and bool(old.postgres.dsn) != bool(new.postgres.dsn):
        return _DAEMON  # The embedded server is made, or not, at the start.
    return needs_of(key)


def _differing(old: Config, new: Config) -> Iterator[str]:
    for field in msgspec.structs.fields(Config):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.name == "ingest":
            yield from _differing_listeners(before, after)
            continue
        for inner in msgspec.structs.fields(before):
            if getattr(before, inner.name) != getattr(after, inner.name):
                yield f"{field.name}.{inner.name}"


def _differing_listeners(
    old: tuple[IngestSection, ...], new: tuple[IngestSection, ...]
) -> Iterator[str]:
    if [one.path for one in old] != [one.path for one in new]:
        yield "ingest.path"
        return
    for field in msgspec.structs.fields(IngestSection):
        before, after = ([getattr(one, field.name) for one in all_] for all_ in (old, new))
        if before != after:
            yield f"ingest.{field.name}"


def _with_old(new: Config, old: Config, keys: list[str]) -> Config:
    for section in dict.fromkeys(key.partition(".")[0] for key in keys):
        if section == "ingest":
            changed = old.ingest
        else:
            names = [key.partition(".")[2] for key in keys if key.startswith(f"{section}.")]
            before = getattr(old, section)
            kept = {name: getattr(before, name) for name in names}
            changed = msgspec.structs.replace(getattr(new, section), **kept)
        new = msgspec.structs.replace(new, **{section: changed})
    return new
