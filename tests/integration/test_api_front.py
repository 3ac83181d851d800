"""The api's front with the whole daemon: its sockets over kills and drains, the port, the key."""

import contextlib
import json
import signal
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from support.api_asking import Answer, ask
from support.api_front import everything, get
from support.as_user import as_user
from support.daemon import Daemon, running
from support.ports import free_port, refuses
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
KEY, OTHER_KEY = "k" * 40, "n" * 40
WAIT_S = 60.0
HEALTH = "/v1/ledger/health"
EVENTS = "/v1/ledger/events"
NOBODY = 40_001


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY, doors=["api"]) as daemon:
        yield daemon
        assert daemon.stop() == 0


def api_socket(daemon: Daemon) -> Path:
    return daemon.runtime_dir / "api.sock"


def append(where: Path | int, data: str = '{"n": 1}', **headers: str) -> Answer:
    """One event, of a type and a source that need no attributes of its own."""
    return ask(
        where, f"{EVENTS}?type=t&source=front", method="POST", body=data.encode(),
        headers={"Content-Type": "application/json", **headers},
    )  # fmt: skip


def reasons(daemon: Daemon) -> dict[str, str]:
    return {one["code"]: one["what"] for one in daemon.status()["reasons"]}


# --- the socket ----------------------------------------------------------------------------------


@pytest.mark.crash
def test_a_kill_is_survived_by_the_socket_and_whoever_connects_waits(daemon: Daemon) -> None:
    path = api_socket(daemon)
    assert append(path).status == 200
    inode, (before,) = path.stat().st_ino, daemon.pids("api")
    daemon.kill("api")
    assert append(path).status == 200
    (after,) = daemon.pids("api")
    assert after != before
    assert path.stat().st_ino == inode


def test_every_path_is_of_the_table_and_every_parameter_of_its_route(daemon: Daemon) -> None:
    path = api_socket(daemon)
    assert ask(path, "/v1/status").kind == "not-found"
    refused = ask(path, HEALTH, method="DELETE")
    assert (refused.kind, refused.headers["Allow"]) == ("method", "GET")
    misspelt = ask(path, f"{EVENTS}?afterseq=1")
    assert (misspelt.status, misspelt.kind) == (400, "bad-request")
    assert set(ask(path, "/openapi.json").json["paths"]) >= {HEALTH, EVENTS, "/openapi.json"}


def test_who_may_nothing_here_is_told_so(daemon: Daemon) -> None:
    path = api_socket(daemon)

    def work() -> str:
        return f"{ask(path, HEALTH).kind} {append(path).kind} {ask(path, '/x').kind}"

    assert as_user(NOBODY, NOBODY, work) == "not-allowed not-allowed not-found"


def test_a_drain_finishes_what_is_under_way_and_closes_what_is_idle() -> None:
    with running(AWAY, doors=["api"]) as daemon:
        path = str(api_socket(daemon))
        with socket.socket(socket.AF_UNIX) as end, socket.socket(socket.AF_UNIX) as idle:
            for one in (end, idle):
                one.settimeout(WAIT_S)
                one.connect(path)
            idle.sendall(get(HEALTH, close=False))
            assert idle.recv(65536).startswith(b"HTTP/1.1 200")
            asks = f"POST {EVENTS}?type=t&source=s HTTP/1.1\r\nHost: x\r\n"
            length = "Content-Type: application/x-ndjson\r\nContent-Length: 9\r\n\r\n"
            end.sendall((asks + length + "{}\n{}\n").encode())
            wait_until("two events", lambda: daemon.status()["durable_seq"] == 2, WAIT_S)
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            assert everything(idle) == b""
            end.sendall(b"{}\n")
            head, _, body = everything(end).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            assert json.loads(body)["accepted"] == 3
        assert daemon.process.wait(WAIT_S) == 0


@pytest.mark.parametrize("events_per_s", [0, 1], ids=["unbounded", "slowed down"])
def test_a_drain_answers_an_upload_that_does_not_end_in_time(events_per_s: int) -> None:
    fast = f"{AWAY}[supervisor]\ndrain_timeout_ms = 4000\n"
    fast += f"[api]\nevents_per_s_max = {events_per_s}\n"
    with running(fast, doors=["api"]) as daemon, socket.socket(socket.AF_UNIX) as end:
        end.settimeout(WAIT_S)
        end.connect(str(api_socket(daemon)))
        asks = f"POST {EVENTS}?type=t&source=s HTTP/1.1\r\nHost: x\r\n"
        length = "Content-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n"
        end.sendall((asks + length + "{}\n" * 100).encode())
        wait_until("the first", lambda: daemon.status()["durable_seq"] == 100, WAIT_S)
        end.sendall(b"{}\n")
        wait_until("another one", lambda: daemon.status()["durable_seq"] == 101, WAIT_S)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        head, _, body = everything(end).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503"), head
        told = json.loads(body)
        assert (told["type"], told["accepted"]) == ("urn:certeus:problem:draining", 101)
        assert daemon.process.wait(WAIT_S) == 0


# --- the port ------------------------------------------------------------------------------------


@contextlib.contextmanager
def with_port(port: int) -> Generator[Daemon]:
    with running(doors=["api"], config=AWAY) as daemon:
        key = daemon.root / "key"
        key.write_text(KEY + "\n")
        configure(daemon, port)
        daemon.certeus("reload")
        yield daemon
        assert daemon.stop() == 0


def configure(daemon: Daemon, port: int) -> None:
    daemon.config_path.write_text(
        f'{AWAY}[api]\nlisten = "127.0.0.1:{port}"\nkey_file = "{daemon.root / "key"}"\n'
    )


def test_the_port_takes_requests_with_the_key_and_no_others() -> None:
    port = free_port()
    with with_port(port) as daemon:
        wait_until("the port", lambda: not refuses(port), WAIT_S)
        right = {"Authorization": f"Bearer {KEY}"}
        for headers in (right, {"X-API-Key": KEY}):
            assert append(port, **headers).status == 200
            assert ask(port, HEALTH, headers=headers).status == 200
        for headers in (
            {}, {"Authorization": f"Bearer {OTHER_KEY}"}, {"Authorization": f"Basic {KEY}"},
            {"X-API-Key": KEY[:-1]}, {"X-API-Key": ""}, {"X-API-Key": "\xff" * 40},
        ):  # fmt: skip
            for path in (HEALTH, "/openapi.json", "/nowhere", f"{EVENTS}?type=t"):
                refused = ask(port, path, headers=headers)
                assert (refused.status, refused.kind) == (401, "no-key"), (headers, path)
                assert refused.headers["WWW-Authenticate"] == "Bearer"
        for more in (
            {"Host": "rebound.example"}, {"Origin": "https://example.com"},
            {"Sec-Fetch-Site": "cross-site"},
        ):  # fmt: skip
            refused = ask(port, HEALTH, headers={**right, **more})
            assert (refused.status, refused.kind) == (403, "cross-site"), more
        # The socket may be forwarded to a port of somebody's own, so it looks at names, too.
        assert append(api_socket(daemon), Host="rebound.example").status == 403
        assert append(api_socket(daemon), Host="certeus").status == 200


def test_another_key_holds_after_a_reload() -> None:
    port = free_port()
    with with_port(port) as daemon:
        wait_until("the port", lambda: not refuses(port), WAIT_S)
        assert append(port, **{"X-API-Key": KEY}).status == 200
        (daemon.root / "key").write_text(OTHER_KEY)
        daemon.certeus("reload")

        def answers() -> list[int]:
            with contextlib.suppress(OSError):
                return [append(port, **{"X-API-Key": key}).status for key in (KEY, OTHER_KEY)]
            return []

        wait_until("the other key", lambda: answers() == [401, 200], WAIT_S)
        (daemon.root / "key").write_text("short")
        assert b"printable ASCII" in daemon.certeus("reload", code=78).stderr
        assert answers() == [401, 200]


def test_a_port_that_is_taken_is_told_and_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with with_port(port) as daemon:
            what = wait_until("its reason", lambda: reasons(daemon).get("api-port"), WAIT_S)
            assert what is not None
            assert str(port) in what
            assert append(api_socket(daemon)).status == 200
            taken.close()
            wait_until("no reason", lambda: "api-port" not in reasons(daemon), WAIT_S)
            assert append(port, **{"X-API-Key": KEY}).status == 200


def test_another_port_is_served_where_the_first_one_is_taken() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        with_port(taken.getsockname()[1]) as daemon,
    ):
        wait_until("its reason", lambda: "api-port" in reasons(daemon), WAIT_S)
        port = free_port()
        configure(daemon, port)
        daemon.certeus("reload")
        wait_until("no reason", lambda: "api-port" not in reasons(daemon), WAIT_S)
        assert append(port, **{"X-API-Key": KEY}).status == 200


# --- limits --------------------------------------------------------------------------------------


def test_who_appends_more_than_its_share_is_told_when_to_come_again() -> None:
    with running(f"{AWAY}[api]\nevents_per_s_max = 5\n", doors=["api"]) as daemon:
        path = api_socket(daemon)
        batch = b"{}\n" * 15
        kind = {"Content-Type": "application/x-ndjson"}
        where = f"{EVENTS}?type=t&source=s"
        assert ask(path, where, method="POST", body=batch, headers=kind).json["accepted"] == 15
        answers = [append(path) for _ in range(30)]
        refused = [one for one in answers if one.status != 200]
        assert refused, "none was too many"
        assert {(one.status, one.kind) for one in refused} == {(429, "too-many-events")}
        assert all(int(one.headers["Retry-After"]) >= 1 for one in refused)
        wait_until("its turn", lambda: append(path).status == 200, WAIT_S)
        assert daemon.stop() == 0


def test_a_body_that_stands_still_ends_and_costs_nobody_else() -> None:
    with running(f"{AWAY}[api]\nbody_timeout_ms = 200\n", doors=["api"]) as daemon:
        path = api_socket(daemon)
        with socket.socket(socket.AF_UNIX) as end:
            end.settimeout(WAIT_S)
            end.connect(str(path))
            asks = f"POST {EVENTS}?type=t&source=s HTTP/1.1\r\nHost: x\r\n"
            length = "Content-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n"
            end.sendall((asks + length + "{}\n").encode())
            assert append(path).status == 200
            head, _, body = everything(end).partition(b"\r\n\r\n")
        assert head.split()[1] == b"408"
        assert json.loads(body)["type"].endswith(":body-timeout")
        assert daemon.stop() == 0
