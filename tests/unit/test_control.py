"""The control API: who may ask, what it answers, what it describes."""

import asyncio
import json
import os
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from certeusd.board import BOARD_BYTES, Board
from certeusd.channel import AskLetters
from certeusd.control import metrics, openapi
from certeusd.control.access import Access, Roles, Who, let_in
from certeusd.control.health import CHECKS, faults, no_room
from certeusd.control.measures import Measures
from certeusd.control.routes import (
    ROUTES,
    ProblemError,
    Request,
    check_query,
    get_live,
    get_ready,
)
from certeusd.control.server import SOCKET_MODE
from certeusd.control.sla import Sla
from certeusd.control.types import (
    Configuration,
    Dedup,
    Differences,
    Log,
    Postgres,
    Process,
    Producers,
    Reason,
    Reloaded,
    Scaling,
    Status,
    rfc3339,
)
from certeusd.letters import NoAnswerError
from certeusd.peer import Peer
from certeusd.supervisor import listeners
from support.as_user import as_user
from support.daemon import scratch_dir
from support.measured import Measured, sla

STAGES = {"ingest", "validate", "verify", "protect", "commit", "deliver"}


@pytest.fixture
def board() -> Board:
    descriptor = os.memfd_create("board")
    os.ftruncate(descriptor, BOARD_BYTES)
    made = Board(descriptor)
    os.close(descriptor)
    return made


@dataclass
class FakeBackend:
    board: Board
    takes_events: bool = True
    directory: Path = Path("/nonexistent")
    drained: list[bool] = field(default_factory=list[bool])

    def process(self, role: str, index: int = 0) -> Process:
        name = f"{role}-{index}"
        return Process(name, role, index, 1, True, None, 3, False, None, 0.0, 4096, {})

    def workers(self) -> list[Process]:
        return [self.process("worker", 0), self.process("worker", 1)]

    def scaling(self) -> Scaling:
        return Scaling(min=1, max=4, current=2, why="", since="")

    def processes(self) -> list[Process]:
        return [self.process("log"), self.process("flush")]

    def status(self) -> Status:
        return Status(
            version="1", pid=1, state="ready", since="", uptime_seconds=1.0, reasons=[],
            log_id=None, durable_seq=5, accepted_seq=5, flushed_seq=3, lag_events=2,
            lag_seconds=0.5, sessions=0, producers=0, dedup=Dedup(0, None, 0),
            log=Log(0, 0, 0, 0, False), postgres=Postgres("external", "away", "", None, False),
            workers=self.workers(), processes=self.processes(), reports={}, state_dir="/s",
            runtime_dir="/r", warnings=[],
        )  # fmt: skip

    def measures(self) -> Measures:
        return Measured(self.board).measures()

    def sla(self) -> Sla:
        return sla()

    def dsn(self, show_password: bool) -> str | None:
        return None

    @property
    def log_dir(self) -> Path:
        return self.directory / "log"

    @property
    def followers_dir(self) -> Path:
        return self.directory / "followers"

    def drain(self) -> None:
        self.drained.append(True)

    def gap(self) -> tuple[int, int] | None:
        return None

    def accept_gap(self, first_seq: int, last_seq: int) -> None:
        raise AssertionError("there is no gap")

    def accept_dead_letters(self, until_seq: int) -> bool:
        return False

    def retry(self) -> bool:
        return False

    async def ask_letters(self, ask: AskLetters) -> bytes:
        raise NoAnswerError("no-flusher", f"nobody does {ask.verb}")

    @property
    def census(self) -> "FakeBackend":
        return self

    async def take(self) -> Producers:
        return Producers(1, [], ["worker-1"])

    @property
    def orders(self) -> "FakeBackend":
        return self

    async def restart_worker(self, index: int) -> bool:
        return False

    async def pause_flush(self) -> None:
        self.paused = True

    def resume_flush(self) -> bool:
        return False

    def log_level(self, module: str, level: str, for_s: float | None) -> None:
        raise AssertionError("nobody asks")

    def configuration(self) -> Configuration:
        raise AssertionError("there is no configuration")

    def differences(self) -> Differences:
        raise AssertionError("there is no configuration")

    async def reload(self) -> Reloaded:
        raise AssertionError("there is no configuration")


ROLES = Roles(
    readers=Who(gids=frozenset({40})),
    operators=Who(uids=frozenset({801})),
    admins=Who(uids=frozenset({802}), gids=frozenset({42})),
)


@pytest.mark.parametrize(
    ("peer", "access"),
    [
        (Peer(1, 0, frozenset({0})), Access.OWNER),
        (Peer(1, 700, frozenset({700})), Access.OWNER),
        (Peer(1, 800, frozenset({800, 42})), Access.ADMIN),
        (Peer(1, 802, frozenset({802})), Access.ADMIN),
        (Peer(1, 801, frozenset({801, 40})), Access.OPERATOR),
        (Peer(1, 800, frozenset({800, 40})), Access.READER),
        (Peer(1, 800, frozenset({800})), None),
    ],
)
def test_a_peer_has_the_highest_role_that_names_it(peer: Peer, access: Access | None) -> None:
    assert ROLES.of(peer, 700) is access
    assert Roles().of(peer, 700) in (Access.OWNER, None)


def test_each_route_is_for_the_least_role_that_may_ask() -> None:
    for route in ROUTES:
        if route.access is Access.READER:
            assert route.method == "GET", route.path
    least = {route.path: route.access for route in ROUTES}
    assert least["/v1/drain"] is least["/v1/dsn"] is least["/v1/gap-accept"] is Access.ADMIN
    assert least["/v1/reload"] is least["/v1/retry"] is Access.OPERATOR
    assert least["/v1/status"] is least["/metrics"] is Access.READER


def dials(path: Path, uid: int, gid: int) -> bool:
    """Whether a user may open a socket."""

    def dial() -> str:
        socket.socket(socket.AF_UNIX).connect(str(path))
        return "open"

    answer = as_user(uid, gid, dial)
    assert answer in ("open", "PermissionError")
    return answer == "open"


@pytest.mark.skipif(os.geteuid() != 0, reason="other users: needs root")
def test_whoever_has_a_role_can_open_the_socket_and_nobody_else() -> None:
    with scratch_dir() as root:
        path = root / "control.sock"
        with listeners.bind(path, socket.SOCK_STREAM, SOCKET_MODE):
            os.chown(path, 700, 700)
            let_in(path, ROLES)
            assert stat.S_IMODE(path.stat().st_mode) == SOCKET_MODE
            assert dials(path, 801, 1)
            assert dials(path, 900, 40)
            assert dials(path, 900, 42)
            assert not dials(path, 900, 900)
            # The socket's own group has no role.
            assert not dials(path, 900, 700)


@pytest.mark.parametrize(
    ("code", "failing"),
    [
        ("log-stalled", {"log"}),
        ("disk-full", {"disk"}),
        ("postgres-away", {"postgres"}),
        ("worker-stalled", {"workers"}),
        ("diverged", {"flush"}),
        ("memory-pressure", set[str]()),
    ],
)
def test_a_reason_fails_the_check_that_it_is_about(
    board: Board, code: str, failing: set[str]
) -> None:
    status = msgspec.structs.replace(
        FakeBackend(board).status(),
        reasons=[Reason(code, "", "what", "next")],
        postgres=Postgres("external", "ready", "", None, True),
    )
    found = {name for name in CHECKS if faults(name, status)}
    assert found == failing
    assert bool(no_room(status)) is (code == "disk-full")


def test_a_check_fails_for_what_is_down_whatever_the_reasons(board: Board) -> None:
    status = FakeBackend(board).status()
    assert faults("postgres", status) == ["there is no connection to PostgreSQL"]
    down = [msgspec.structs.replace(one, ready=False) for one in status.processes]
    assert faults("log", msgspec.structs.replace(status, processes=down)) == [
        "the log writer is not at work"
    ]
    workers = [msgspec.structs.replace(one, ready=False) for one in status.workers]
    (fault,) = faults("workers", msgspec.structs.replace(status, workers=workers))
    assert fault == "worker-0, worker-1: not at work"


def test_every_route_has_its_rule_and_is_described() -> None:
    document = json.loads(openapi.document(ROUTES))
    assert document["openapi"] == "3.1.0"
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert described == {(route.method, route.path) for route in ROUTES}
    schemas = document["components"]["schemas"]
    assert {"Status", "Workers", "Waited", "Problem", "Dsn"} <= set(schemas)
    status = schemas["Status"]["properties"]
    assert {"state", "since", "reasons", "durable_seq", "flushed_seq", "lag_events", "lag_seconds",
            "dedup", "workers", "postgres"} <= set(status)  # fmt: skip


def test_ready_is_refused_while_nothing_takes_events_and_live_answers_all_the_same(
    board: Board,
) -> None:
    for takes_events in (True, False):
        asked = Request(FakeBackend(board, takes_events), {}, Access.OWNER)
        assert asyncio.run(get_live(asked)).ok
        if takes_events:
            assert asyncio.run(get_ready(asked)).ok
        else:
            with pytest.raises(ProblemError) as refused:
                asyncio.run(get_ready(asked))
            assert (refused.value.problem.status, refused.value.problem.title) == (503, "not ready")


def test_only_orders_change_anything() -> None:
    assert {route.path for route in ROUTES if route.method == "POST"} == {
        "/v1/drain",
        "/v1/gap-accept",
        "/v1/dead-letters-accept",
        "/v1/dead-letters-retry",
        "/v1/dead-letters-drop",
        "/v1/followers-forget",
        "/v1/reload",
        "/v1/worker-restart",
        "/v1/flush-pause",
        "/v1/flush-resume",
        "/v1/log-level",
        "/v1/retry",
    }


def test_a_parameter_that_a_route_does_not_have_is_refused_and_those_it_has_are_named() -> None:
    wait = next(route for route in ROUTES if route.path == "/v1/wait")
    check_query(wait, ["until", "timeout_s"])
    with pytest.raises(ProblemError) as refused:
        check_query(wait, ["until", "timeout"])
    assert refused.value.problem.status == 400
    assert "no parameter timeout: it has until, timeout_s" in refused.value.problem.detail


def test_metrics_are_well_formed_and_well_named(board: Board) -> None:
    board.add("worker", "events_total", 7, 0)
    board.add("worker", "events_total", 5, 1)
    for value in (0, 1, 1000, 1 << 20):
        board.observe("log", "sync_ns_buckets_64", value)
    board.set("log", "sync_ns_sum", 1_049_577)
    families = {
        family.name: family
        for family in text_string_to_metric_families(metrics.render(FakeBackend(board)))
    }
    assert all(name.startswith("certeus_") for name in families)
    events = {sample.labels["stage"]: sample.value for sample in families["certeus_events"].samples}
    assert events["ingest"] == 12
    assert set(events) <= STAGES
    assert {s.labels["worker"] for s in families["certeus_sessions"].samples} == {"0", "1"}
    sync = {(s.name, s.labels.get("le")): s.value for s in families["certeus_sync_seconds"].samples}
    assert sync["certeus_sync_seconds_bucket", "+Inf"] == 4
    assert sync["certeus_sync_seconds_count", None] == 4
    assert sync["certeus_sync_seconds_sum", None] == pytest.approx(0.001049577)
    below = {
        float(le): value
        for (name, le), value in sync.items()
        if name.endswith("_bucket") and le not in (None, "+Inf")
    }
    assert [below[le] for le in below if le == pytest.approx(16.384e-6)] == [3]


def test_dropped_lines_are_counted_for_each_process(board: Board) -> None:
    board.count_dropped_line("log")
    for _ in range(2):
        board.count_dropped_line("worker", 1)
    text = metrics.render(FakeBackend(board))
    (family,) = (
        family
        for family in text_string_to_metric_families(text)
        if family.name == "certeus_log_lines_dropped"
    )
    found = {(one.labels["role"], one.labels["slot"]): one.value for one in family.samples}
    assert found == {
        ("supervisor", "0"): 0, ("log", "0"): 1, ("flush", "0"): 0, ("api", "0"): 0,
        ("syslog", "0"): 0, ("journal", "0"): 0, ("worker", "0"): 0, ("worker", "1"): 2,
    }  # fmt: skip


def test_histogram_bucket_is_a_power_of_two_above_the_value(board: Board) -> None:
    for value, bucket in ((0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1 << 63, 63), (1 << 64, 63)):
        before = board.histogram("log", "sync_ns_buckets_64")
        board.observe("log", "sync_ns_buckets_64", value)
        grown = board.histogram("log", "sync_ns_buckets_64") - before
        assert [at for at in range(64) if grown[at]] == [bucket]


def test_times_are_rfc3339_utc() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
