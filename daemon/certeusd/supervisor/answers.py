"""What `status` says of each part, from the board and from what children have reported."""

import os
from collections.abc import Mapping, Sequence

from certeusd import cpus, histogram
from certeusd.board import HISTOGRAM_SUFFIX, Board, board_fields, histogram_fields
from certeusd.control import types
from certeusd.control.health import NO_ROOM
from certeusd.control.types import rfc3339
from certeusd.supervisor import recovering
from certeusd.supervisor.bottleneck import Sample
from certeusd.supervisor.postgres import EmbeddedPostgres, ServerState
from certeusd.supervisor.slot import Slot
from certeusd.supervisor.state import Reason, Reasons, State

REASON_WORDS = range(32, 48)
"""Where a worker's page counts rejections by reason (`daemon/src/board.rs`)."""


def reasons(active: Reasons) -> list[types.Reason]:
    """Return all of them; of a code the stable word: which child it is stands in `what`."""
    return [
        types.Reason(
            "crash-loop" if one.code.startswith("crash-loop-") else one.code,
            rfc3339(one.since), one.what, one.next,
        )
        for one in active.listed()
    ]  # fmt: skip


def log_id(reports: Mapping[str, dict[str, object]]) -> str | None:
    """Return the log's name, once one of the children has told it."""
    told = (report.get("log_id") for report in reports.values())
    return next((found for found in told if isinstance(found, str)), None)


def log(board: Board) -> types.Log:
    """Say how the log stands."""
    words = dict(board.items("log"))
    return types.Log(
        bytes=words["log_bytes"],
        bytes_max=words["log_bytes_max"],
        segments=words["segments"],
        first_seq=words["first_seq"],
        full=bool(words["full"]),
        disk_free_bytes=words["disk_free_bytes"],
        disk_short=bool(words["disk_short"]),
        groups_total=words["groups_total"],
        records_total=words["records_total"],
        rejected_total=words["rejected_total"],
        duplicates_total=words["duplicates_total"],
        stale_total=words["stale_total"],
        torn_total=words["torn_total"],
        damaged_total=words["damaged_total"],
    )


def dedup(board: Board) -> types.Dedup:
    """Say which retries are recognised."""
    from_ns = board.get("log", "dedup_from_ns")
    return types.Dedup(
        board.get("log", "dedup_from_seq"),
        rfc3339(from_ns / 1e9) if from_ns else None,
        board.get("log", "dedup_keys"),
    )


def postgres(
    board: Board,
    server: EmbeddedPostgres | None,
    reports: Mapping[str, dict[str, object]],
    external_since: tuple[float, bool],
) -> types.Postgres:
    """Say how the destination is; `external_since`: when the connection to it last changed."""
    connected = bool(board.get("flush", "connected"))
    breaker = types.breaker_of(reports.get("breaker"))
    if server is not None:
        what = server.failure if server.state is ServerState.AWAY else ""
        state, since = str(server.state), rfc3339(server.since)
        return types.Postgres("embedded", state, since, server.version, connected, what, breaker)
    reported = reports.get("postgres", {}).get("version")
    version = str(reported) if reported is not None else None
    state, since = "ready" if connected else "away", rfc3339(external_since[0])
    return types.Postgres("external", state, since, version, connected, breaker=breaker)


def process(board: Board, slot: Slot) -> types.Process:
    """Say what a child is and does."""
    child = slot.child
    return types.Process(
        name=slot.name,
        role=slot.role,
        index=slot.index,
        pid=child.pid if child else None,
        ready=slot.ready,
        since=rfc3339(child.spawned_at) if child else None,
        restarts=slot.backoff.restarts,
        crash_loop=slot.backoff.crash_loop,
        cpu=slot.cpu,
        cpu_percent=slot.measured[0],
        rss_bytes=slot.measured[1],
        counters=dict(board.items(slot.role, slot.index)),
        affinity=_affinity(child.pid) if child else None,
        rejected=_rejected(board, slot.index) if slot.role == "worker" else {},
        histograms={
            field.removesuffix(HISTOGRAM_SUFFIX): histogram.trimmed(
                board.counts(slot.role, field, slot.index)
            )
            for field in histogram_fields(slot.role)
        },
    )


def _rejected(board: Board, index: int) -> dict[str, int]:
    """Rejections of a worker by their stable word."""
    page = board.page("worker", index)
    return {
        field.removesuffix("_total").replace("_", "-"): page[at]
        for field, at in board_fields("worker").items()
        if at in REASON_WORDS and page[at]
    }


def _affinity(pid: int) -> str | None:
    """Where a child's main thread may run; somebody may have moved it since it was pinned."""
    try:
        return cpus.shown(os.sched_getaffinity(pid))
    except OSError:  # It has just died.
        return None


def sample(board: Board, workers: Sequence[Slot], active: Reasons, *, connected: bool) -> Sample:
    """Read what says which stage is slow."""
    return Sample(
        durable_seq=board.get("durability", "durable_seq"),
        flushed_seq=board.get("follower", "position_seq"),
        forward_full=sum(board.get("worker", "forward_full_total", one.index) for one in workers),
        worker_percent=max((one.measured[0] for one in workers), default=0.0),
        no_room=any(one.code in NO_ROOM for one in active.listed()),
        delivers=connected,
    )


def line(state: State, active: Sequence[Reason], board: Board) -> str:
    """Say it in one line, for `systemctl status`."""
    if state is State.RECOVERING:
        return recovering.line(board, active)
    codes = ", ".join(reason.code for reason in active)
    return f"{state}: {codes}" if codes else str(state)
