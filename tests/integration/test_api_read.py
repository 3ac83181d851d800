"""Reading through the api of a real certeusd: pages, a stream that resumes, and who sees what."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from certeusd.api.streams import QUIET_S
from support.api_client import EVENTS, Api
from support.as_user import as_user
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
TWO = """
[api]
tenant = "shop"
[[ingest]]
tenant = "bank"
"""
SUBSCRIBERS_PER_PEER_MAX = 64


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY + TWO, doors=["api"]) as daemon:
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return Api(daemon.runtime_dir / "api.sock")


def last_seq(api: Api, rows: list[object], query: str) -> int:
    answer = api.lines(rows, query)
    assert answer.status == 200, answer.body
    seq: int = answer.json["last_seq"]
    return seq


def test_pages_go_on_behind_the_last_event_of_the_one_before(api: Api) -> None:
    last_seq(api, [{"n": n} for n in range(25)], "?type=page&source=pages")
    found, after = list[int](), 0
    for _ in range(4):
        page = api.get(f"{EVENTS}?source=pages&limit=10&after_seq={after}").lines
        found += [one["data"]["n"] for one in page]
        after = page[-1]["seq"] if page else after
    assert found == list(range(25))
    assert api.get(f"{EVENTS}?source=pages&type=pag*&limit=1").lines[0]["data"] == {"n": 0}
    assert api.get(f"{EVENTS}?source=pages&type=other").lines == []


def test_a_stream_has_what_is_durable_and_resumes_behind_the_last_id(api: Api) -> None:
    first = last_seq(api, [{"n": 0}], "?type=s&source=stream")
    with api.followed("?source=stream&after_seq=0") as messages:
        assert next(messages) == {"retry": "1000"}
        seen = [next(messages), next(messages)]
        assert seen[0] == {"id": "0"}
        assert json.loads(seen[1]["data"])["data"] == {"n": 0}
        assert seen[1]["id"] == str(first)
        last_seq(api, [{"n": 1}, {"n": 2}], "?type=s&source=stream")
        assert json.loads(next(messages)["data"])["data"] == {"n": 1}
    with api.followed("?source=stream", Last_Event_ID=str(first)) as messages:
        assert [next(messages), next(messages)] == [{"retry": "1000"}, {"id": str(first)}]
        assert [json.loads(next(messages)["data"])["data"]["n"] for _ in range(2)] == [1, 2]


def test_who_follows_without_a_number_begins_at_the_end(api: Api) -> None:
    last_seq(api, [{"n": "old"}], "?type=s&source=end")
    with api.followed("?source=end") as messages:
        assert list(next(messages)) + list(next(messages)) == ["retry", "id"]
        last_seq(api, [{"n": "new"}], "?type=s&source=end")
        assert json.loads(next(messages)["data"])["data"] == {"n": "new"}


def test_a_stream_ends_after_as_many_as_were_asked_for(api: Api) -> None:
    last_seq(api, [{"n": n} for n in range(5)], "?type=s&source=some")
    with api.followed("?source=some&after_seq=0&limit=3") as messages:
        told = [json.loads(one["data"])["data"]["n"] for one in messages if "data" in one]
    assert told == [0, 1, 2]


def test_a_rare_event_moves_the_id_of_a_stream_past_the_others(api: Api) -> None:
    end = last_seq(api, [{"n": n} for n in range(100)], "?type=s&source=often")
    with api.followed("?source=never&after_seq=0") as messages:
        for message in messages:
            if message.get("id") == str(end):
                assert "data" not in message
                break


def test_only_what_is_durable_is_shown(daemon: Daemon, api: Api) -> None:
    last_seq(api, [{"n": 0}], "?type=d&source=durable")
    daemon.kill("log", signal.SIGSTOP)
    try:
        assert api.lines([{"n": 1}], "?type=d&source=durable&wait=none").status == 202
        assert len(api.get(f"{EVENTS}?source=durable").lines) == 1
    finally:
        daemon.kill("log", signal.SIGCONT)
    wait_until("both", lambda: len(api.get(f"{EVENTS}?source=durable").lines) == 2, 30.0)


def test_another_tenant_is_not_shown(daemon: Daemon, api: Api) -> None:
    daemon.certeus("append", "--source", "vault", stdin=b'{"secret": 1}\n')
    mine = last_seq(api, [{"n": 1}], "?type=t&source=vault")
    (shown,) = api.get(f"{EVENTS}?source=vault").lines
    assert (shown["seq"], shown["tenant"], shown["data"]) == (mine, "shop", {"n": 1})
    with api.followed("?source=vault&after_seq=0&limit=1") as messages:
        (event,) = [one for one in messages if "data" in one]
    assert json.loads(event["data"])["tenant"] == "shop"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?after_seq=-1", {}), ("?after_seq=x", {}), ("?limit=0", {}), ("?after=1", {}),
        ("?after_seq=99999999999999999999", {}),
        ("", {"Last-Event-ID": "x", "Accept": "text/event-stream"}),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_understood_is_told(
    api: Api, query: str, headers: dict[str, str]
) -> None:
    assert api.get(EVENTS + query, **headers).status == 400


def test_a_number_that_is_not_reached_is_refused(daemon: Daemon, api: Api) -> None:
    seq = last_seq(api, [{}], "?type=ahead&source=ahead")
    assert api.get(f"{EVENTS}?after_seq={seq}").status == 200
    stream = {"Accept": "text/event-stream"}
    for target, headers in (
        (f"{EVENTS}?after_seq={seq + 100}", {}),
        (f"{EVENTS}?after_seq={seq + 100}", stream),
        (EVENTS, {**stream, "Last-Event-ID": str(seq + 100)}),
    ):
        told = api.get(target, **headers)
        assert told.status == 409, told.body
        assert told.json["type"].endswith(":ahead")
        assert told.json["durable_seq"] == daemon.status()["durable_seq"]


def test_subscribers_are_bounded_and_a_place_is_free_again(api: Api) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(SUBSCRIBERS_PER_PEER_MAX):
            next(stack.enter_context(api.followed()))
        refused = api.get(EVENTS, Accept="text/event-stream")
        assert (refused.status, refused.json["type"]) == (
            503, "urn:certeus:problem:too-many-subscribers",
        )  # fmt: skip

    def follows() -> bool:
        with contextlib.suppress(AssertionError), api.followed() as messages:
            next(messages)
            return True
        return False

    # No event and no comment has told that they have gone.
    wait_until("a free place", follows, QUIET_S / 2)


def test_strangers_neither_read_nor_append(daemon: Daemon) -> None:
    path = daemon.runtime_dir / "api.sock"

    def asked() -> str:
        api = Api(path)
        return f"{api.get(EVENTS).status} {api.lines([{}]).status}"

    assert as_user(12345, 12345, asked) == "403 403"


def test_readers_read_and_do_not_append() -> None:
    config = AWAY + '[api]\nreaders = ["12345"]\n'
    with running(config, doors=["api"]) as daemon:
        path = daemon.runtime_dir / "api.sock"

        def asked() -> str:
            api = Api(path)
            return f"{api.get(EVENTS).status} {api.lines([{}]).status}"

        assert as_user(12345, 12345, asked) == "200 403"
        assert daemon.stop() == 0


def test_a_stream_that_waits_holds_no_segment(daemon: Daemon, api: Api) -> None:
    def held() -> list[str]:
        (pid,) = daemon.pids("api")
        found = list[str]()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(descriptor.readlink()))
        return [name for name in found if name.startswith(f"{daemon.state_dir / 'log'}/")]

    last_seq(api, [{}], "?type=held&source=held")
    with api.followed("?source=held&after_seq=0") as events:
        assert [next(events), next(events)] == [{"retry": "1000"}, {"id": "0"}]
        while "data" not in next(events):
            pass
        wait_until("no segment is held", lambda: held() == [], 30)
        seq = last_seq(api, [{}], "?type=held&source=held")
        assert next(one for one in events if "data" in one)["id"] == str(seq)
        assert held() != []
