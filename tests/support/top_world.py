"""Samples for `certeus top` without a daemon."""

import msgspec

from certeusd.control import types
from certeusd.control.sample import Sample

ACKS = [0] * 20 + [100]
"""A hundred events that waited half a millisecond to one."""


def process(role: str, /, **changes: object) -> types.Process:
    words = ("sessions", "events_total", "bytes_total", "forwarded_total", "rejected_total",
             "forward_full_total", "records_total", "rows_total", "dead_letters_total")  # fmt: skip
    counters = dict.fromkeys(words, 0)
    counters |= msgspec.convert(changes.pop("counters", {}), dict[str, int])
    index = changes.get("index", 0)
    name = f"worker-{index}" if role == "worker" else role
    fields: dict[str, object] = {
        "name": name, "role": role, "index": index, "pid": 100, "ready": True,
        "since": "2026-01-01T00:00:00.000Z", "restarts": 0, "crash_loop": False, "cpu": None,
        "cpu_percent": 5.0, "rss_bytes": 1 << 20, "counters": counters, "affinity": "0-1",
    }  # fmt: skip
    return msgspec.convert(fields | changes, types.Process, from_attributes=True)


def status(**changes: object) -> types.Status:
    fields: dict[str, object] = {
        "version": "1", "pid": 1, "state": "ready", "since": "", "uptime_seconds": 10.0,
        "reasons": [], "log_id": None, "durable_seq": 0, "accepted_seq": 0, "flushed_seq": 0,
        "lag_events": 0, "lag_seconds": 0.0, "sessions": 0, "producers": 0,
        "dedup": types.Dedup(0, None, 0), "log": types.Log(0, 0, 0, 0, full=False),
        "postgres": types.Postgres("embedded", "ready", "", "18", connected=True),
        "workers": [process("worker")], "processes": [process("log"), process("flush")],
        "reports": {}, "state_dir": "/s", "runtime_dir": "/r", "warnings": [],
    }  # fmt: skip
    return msgspec.convert(fields | changes, types.Status, from_attributes=True)


def producer(source: str = "shop", session: int = 0, **changes: object) -> types.Producer:
    fields: dict[str, object] = {
        "worker": 0, "session": session, "tenant": "default", "source": source, "uid": 1000,
        "pid": 4242, "since": "2026-01-01T00:00:00.000Z", "events_total": 0, "bytes_total": 0,
        "settled_total": 0, "duplicates_total": 0, "rejected": {}, "in_flight": 0,
        "ring_bytes": 1 << 16, "ring_used_bytes": 0, "ack_p50_seconds": None,
        "ack_p99_seconds": None, "ack_ns_buckets": [],
    }  # fmt: skip
    return msgspec.convert(fields | changes, types.Producer, from_attributes=True)


def sample(
    seconds: float = 0.0,
    now: types.Status | None = None,
    producers: tuple[types.Producer, ...] = (),
    unanswered: tuple[str, ...] = (),
    lag_bytes: int = 0,
) -> Sample:
    """What the daemon said `seconds` after it was first asked."""
    row = types.FollowerRow("postgres", required=True, state="confirmed", seq=0, group=0,
                            lag_events=0, lag_bytes=lag_bytes, confirmed_at=None,
                            holds_back=False)  # fmt: skip
    return Sample(
        at=1e9 + seconds,
        status=now or status(uptime_seconds=10.0 + seconds),
        status_at=100.0 + seconds,
        producers=types.Producers(1, list(producers), list(unanswered)),
        producers_at=100.0 + seconds,
        followers=types.Followers(1, 0, [row]),
    )
