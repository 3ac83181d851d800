"""`GET /v1/ledger/live` and `GET /` of a real daemon: who sees what, how many may watch."""

import base64
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import certeus
from support.as_user import as_user
from support.daemon import Daemon, running
from support.ports import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

KEY = "k" * 40
CONFIG = """
[worker]
count = 1
[postgres]
dsn = "postgresql://nobody@/none?host=/nonexistent"
[[ingest]]
[[ingest]]
path = "other.sock"
tenant = "other"
"""
WATCHERS_PER_PEER_MAX = 16


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str


class Api:
    """The daemon's api: its socket, and its port."""

    def __init__(self, daemon: Daemon, port: int) -> None:
        self.daemon = daemon
        self.port = port

    @property
    def path(self) -> Path:
        return self.daemon.runtime_dir / "api.sock"

    def connection(self, *, by_port: bool = False) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        if not by_port:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(30)
            connection.sock.connect(str(self.path))
        return connection

    def ask(
        self, path: str, *, by_port: bool = False, method: str = "GET", **headers: str
    ) -> Answer:
        connection = self.connection(by_port=by_port)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read().decode())
        finally:
            connection.close()


class Watcher:
    """A client of the stream."""

    def __init__(self, api: Api, query: str = "") -> None:
        self._connection = api.connection()
        self._connection.request("GET", f"/v1/ledger/live{query}")
        self.answer = self._connection.getresponse()
        self.status = self.answer.status

    def next(self) -> Any:  # noqa: ANN401 - JSON of any shape
        while line := self.answer.readline():
            if line.startswith(b"data: "):
                return json.loads(line[6:])
        raise EOFError

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    key, port = tmp_path_factory.mktemp("key") / "key", free_port()
    key.write_text(KEY)
    asked = f'{CONFIG}[api]\nlisten = "127.0.0.1:{port}"\nkey_file = "{key}"\n'
    with running(asked, doors=["api"]) as daemon:
        yield Api(daemon, port)
        assert daemon.stop() == 0


def basic(key: str, name: str = "any") -> str:
    return f"Basic {base64.b64encode(f'{name}:{key}'.encode()).decode()}"


def watched(api: Api, count: int) -> list[Watcher]:
    watchers = [Watcher(api) for _ in range(count)]
    assert {one.status for one in watchers} == {200}
    return watchers


def test_another_tenant_is_not_shown(api: Api) -> None:
    """Its producers, its events: neither as numbers, nor on the page, nor in what updates it."""
    other = str(api.daemon.runtime_dir / "other.sock")
    with (
        certeus.connect(other, source="their-source") as theirs,
        certeus.connect(api.daemon.ingest, source="our-source") as ours,
    ):
        theirs.wait_durable(theirs.append("their-type", {"their": "secret"}), timeout=30.0)
        ours.wait_durable(ours.append("our-type", {"our": "data"}), timeout=30.0)
        for query in ("", "?form=page"):
            watcher = Watcher(api, query)
            seen = [json.dumps(watcher.next())]
            while not all(word in seen[-1] for word in ("our-source", "our-type")):
                assert len(seen) < 30
                seen.append(json.dumps(watcher.next()))
            watcher.close()
            assert not any("their" in one for one in seen)
        page = api.ask("/").text
        assert "our-source" in page
        assert "our-type" in page
        assert "their" not in page.replace("[api]", "")


def test_all_watchers_are_told_the_same_moments(api: Api) -> None:
    """So the supervisor is asked once, however many watch."""
    watchers = watched(api, 8)
    firsts = [one.next()["at"] for one in watchers]
    newest = max(firsts)
    for watcher, first in zip(watchers, firsts, strict=True):
        told = [first]
        while told[-1] <= newest:
            told.append(watcher.next()["at"])
        assert told[-2] == newest, "each moment is told to each"
        watcher.close()


def test_watchers_are_bounded_and_places_are_given_back(api: Api) -> None:
    def places() -> int:
        found = [Watcher(api) for _ in range(WATCHERS_PER_PEER_MAX + 1)]
        served = [one for one in found if one.status == 200]
        assert {one.status for one in found} <= {200, 503}
        for one in found:
            one.close()
        return len(served)

    wait_until("all places", lambda: places() == WATCHERS_PER_PEER_MAX)
    wait_until("all of them again", lambda: places() == WATCHERS_PER_PEER_MAX)
    assert api.ask("/").status == 200, "the page needs no place"


def test_the_page_is_kept_by_nobody_and_framed_by_nobody(api: Api) -> None:
    headers = api.ask("/").headers
    assert headers["Cache-Control"] == "no-store"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_limit_ends_the_stream(api: Api) -> None:
    def ended() -> bool:
        answer = api.ask("/v1/ledger/live?limit=2")
        # Those of the tests before this one may still have their places.
        return answer.status == 200 and answer.text.count("\ndata: ") == 2

    wait_until("two moments", ended, 30.0)


def test_a_query_that_is_none_is_told(api: Api) -> None:
    for query in ("live?form=x", "live?limit=0", "live?from=page"):
        assert api.ask(f"/v1/ledger/{query}").status == 400, query
    assert api.ask("/?x=1").status == 400


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/v1/ledger/live"])
@pytest.mark.skipif(os.geteuid() != 0, reason="other users: needs root")
def test_who_may_not_read_sees_nothing(api: Api, path: str) -> None:
    def status() -> str:
        return str(api.ask(path).status)

    mode = api.path.stat().st_mode
    api.path.chmod(0o666)
    try:
        assert as_user(65534, 65534, status) == "403"
    finally:
        api.path.chmod(mode)


def test_a_browser_is_asked_for_the_key_and_may_read_with_it(api: Api) -> None:
    asked = api.ask("/", by_port=True, Accept="text/html,*/*")
    assert asked.status == 401
    assert asked.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert api.ask("/", by_port=True).headers["WWW-Authenticate"] == "Bearer"
    assert api.ask("/", by_port=True, Authorization=basic(KEY)).status == 200
    assert api.ask("/", by_port=True, Authorization=f"Bearer {KEY}").status == 200


def test_with_a_browsers_key_nothing_is_appended(api: Api) -> None:
    """A browser sends it with whatever a page has it ask for."""
    path = "/v1/ledger/events?type=t&source=s"
    by_basic = api.ask(path, by_port=True, method="POST", Authorization=basic(KEY))
    assert by_basic.status == 403
    by_bearer = api.ask(path, by_port=True, method="POST", Authorization=f"Bearer {KEY}")
    assert by_bearer.status != 403


@pytest.mark.parametrize(
    "told",
    [basic("x" * 40), basic(""), basic(KEY[:-1]), "Basic", "Basic !", f"Basic {KEY}",
     "Basic " + base64.b64encode(KEY.encode()).decode(), "Basic /////w==", "Bearer \udcff"],
)  # fmt: skip
def test_what_is_no_key_opens_nothing(api: Api, told: str) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as end:
        request = f"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: {told}\r\n\r\n"
        end.sendall(request.encode(errors="surrogateescape"))
        assert end.recv(4096).split(None, 2)[1] == b"401"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8080", "Sec-Fetch-Site": "same-origin"},
        {"Host": "10.0.0.1:8080"},
    ],
)
@pytest.mark.parametrize("by_port", [False, True])
def test_a_page_of_another_site_gets_in_nowhere(
    api: Api, headers: dict[str, str], by_port: bool
) -> None:
    """Not at a forwarded socket either, where the kernel says that it is this very user."""
    asked = api.ask("/", by_port=by_port, Authorization=basic(KEY), **headers)
    assert asked.status == 403
    assert "urn:certeus:problem:cross-site" in asked.text


@pytest.mark.parametrize("host", ["certeus", "localhost", "127.0.0.1:8080", "%2Frun%2Fapi.sock"])
def test_a_program_may_call_the_socket_what_it_likes(api: Api, host: str) -> None:
    assert api.ask("/", Host=host).status == 200
