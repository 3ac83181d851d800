"""The status page in a real browser, before a real certeusd whose socket is forwarded."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

import certeus
from forward import forwarded
from support import browser as browsers
from support.browser import DESK, PHONE, Browser, browser
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, browsers.needed]

CONFIG = """
[worker]
count = 1
[postgres]
dsn = "postgresql://nobody@/none?host=/nonexistent"
"""
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    "</script></td></table><h1>forged</h1>",
    "[[state]] {{state}} ${state} &lt;b&gt;",
    "line\u2028paragraph\u2029 \u202eright to left\u202c",
)
POLICY = "Content Security Policy"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(CONFIG, doors=["api"]) as daemon:
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
def url(daemon: Daemon) -> Iterator[str]:
    with forwarded(daemon.runtime_dir / "api.sock") as url:
        yield f"{url}/"


def append(
    daemon: Daemon, type: str, *rows: dict[str, int] | list[str], source: str = "page"
) -> None:
    with certeus.connect(daemon.ingest, source=source) as producer:
        tickets = [producer.append(type, row, subject=type) for row in rows]
        producer.wait_durable(tickets[-1], timeout=30.0)


def shows(window: Browser, text: str) -> bool:
    found = window.run(f"return document.body.innerText.includes({json.dumps(text)})")
    return bool(found)


def wide(window: Browser) -> int:
    """How many columns of pixels lie beyond the screen."""
    beyond: int = window.run(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return beyond


def test_events_show_while_the_page_is_open(daemon: Daemon, url: str) -> None:
    with browser() as window:
        window.open(url)
        assert window.text("h1") in ("ready", "degraded")
        window.run("window.same = true")
        append(daemon, "shown.live", {"n": 4711})
        window.until("the event", lambda: shows(window, "4711") and shows(window, "shown.live"))
        assert window.run("return window.same") is True, "it was updated, not loaded again"
        assert window.console() == []


def test_the_page_goes_on_after_a_restart_of_the_api(daemon: Daemon, url: str) -> None:
    with browser() as window:
        window.open(url)
        window.run("window.same = true")
        (old,) = daemon.kill("api")
        wait_until("another api", lambda: daemon.pids("api") not in ([], [old]))
        append(daemon, "shown.again", {"n": 4712})
        window.until("the event", lambda: shows(window, "4712"))
        assert window.run("return window.same") is True
        assert window.run("return document.getElementById('link').textContent") == ""
        assert not [line for line in window.console() if POLICY in line]


def test_the_page_needs_no_scripts(daemon: Daemon, url: str) -> None:
    append(daemon, "shown.first", {"n": 4713})
    with browser(scripts=False) as window:
        window.open(url)
        window.until("the first event", lambda: "4713" in window.source())
        append(daemon, "shown.refreshed", {"n": 4714})
        window.until("it was loaded again", lambda: "4714" in window.source())


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_stranger_wrote_is_text(daemon: Daemon, url: str, hostile: str) -> None:
    with browser() as window:
        window.open(url)
        with certeus.connect(daemon.ingest, source=hostile[:200]) as producer:
            ticket = producer.append(hostile, {"mark": hostile}, subject=hostile)
            producer.wait_durable(ticket, timeout=30.0)
            seen = hostile.split("\u2028")[0]
            for _ in range(2):  # As it was updated; then as it is made.
                window.until("the event", lambda: shows(window, seen))
                window.until("the producer", lambda: seen in window.text("#producers"))
                assert window.text("h1") in ("ready", "degraded")
                assert window.run("return document.title").endswith("events/s")
                counted = "return document.querySelectorAll('{}').length"
                assert window.run(counted.format("script")) == 1
                assert window.run(counted.format("img, #events h1, #producers h1")) == 0
                raw = window.run("return document.body.textContent")
                assert not [one for one in "\u2028\u2029\u202e\u202c" if one in raw]
                assert window.console() == []
                window.open(url)


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_the_page_is_as_wide_as_the_screen(daemon: Daemon, url: str, size: tuple[int, int]) -> None:
    with browser() as window, certeus.connect(daemon.ingest, source="W" * 250) as producer:
        producer.wait_durable(producer.append("T" * 250, ["x" * 200_000], subject="S" * 250))
        window.size(*size)
        window.open(url)
        window.until("the event", lambda: shows(window, "TTTT") and shows(window, "WWWW"))
        assert wide(window) == 0
        append(daemon, "i" * 200, ["y" * 200_000], source="w " * 100)
        window.until("the other event", lambda: shows(window, "yyyy"))
        assert wide(window) == 0
        assert len(window.source()) < 100_000, "what is long is cut"


def test_no_page_of_another_site_gets_in(url: str) -> None:
    with browser() as window:
        window.open(url)
        other = url.replace("127.0.0.1", "localhost")
        script = "return fetch(arguments[0] || '{}', {{mode: 'no-cors'}}).then(() => 1, () => 0)"
        assert window.run(script.format(other)) == 0, "the page itself may ask nobody else"
    asked = urllib.request.Request(url, headers={"Sec-Fetch-Site": "cross-site"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(asked, timeout=10)
