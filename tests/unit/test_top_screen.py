"""The tables and the screen of `certeus top`, with a daemon that the test plays."""

import asyncio
import html
import io
import queue
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine

import pytest
from rich.console import Console
from textual.app import App
from textual.pilot import Pilot

from certeusd.cli import top_tables
from certeusd.cli.top_screen import Help, Top
from certeusd.control import types
from certeusd.control.rates import view
from certeusd.control.sample import Sample
from certeusd.exits import Exit, ExitError
from support.top_world import ACKS, process, producer, sample, status
from support.waiting import wait_until

PATIENCE_S = 20.0


def busy(seconds: float) -> Sample:
    """Three producers, of which `hall` is rejected, `full` waits, and `idle` does nothing."""
    count = int(1000 * seconds)
    acks = ACKS if seconds else []
    rows = (
        producer("idle", 1),
        producer("full", 2, uid=7, events_total=count, ring_used_bytes=1 << 16),
        producer("hall", 3, tenant="zoo", events_total=2 * count, ack_ns_buckets=acks,
                 rejected={"invalid-json": count, "id-conflict": 1}),
    )  # fmt: skip
    now = status(uptime_seconds=10.0 + seconds, durable_seq=1_234_567)
    return sample(seconds, now, rows)


def text(seen: Sample | None, after: Sample, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(
        top_tables.everything(view(seen, after), width, expand=True)
    )
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_tables_fit_the_terminal_and_lose_no_column(width: int) -> None:
    shown = text(busy(0), busy(2), width)
    assert max(map(len, shown.splitlines())) <= width
    for word in ("stages", "workers", "producers 3", "followers", "rejected/s", "restarts",
                 "1.0 k", "2.0 k", "100 %", "4242", "1,234,567", "connected"):  # fmt: skip
        assert word in shown, shown
    assert ("bytes/s" in shown) == (width >= 100)


def test_loss_is_red_and_back_pressure_yellow() -> None:
    parts = [top_tables.reasons({"too-deep": 3, "too-large": 12}, 0.5),
             top_tables.reasons({"too-large": 12}, 0.0), top_tables.bar(0.8, wide=False),
             top_tables.bar(0.1, wide=False)]  # fmt: skip
    assert [str(part) for part in parts] == [
        "12 too-large, 3 too-deep",
        "12 too-large",
        "80 %",
        "10 %",
    ]
    styles = [str(part.style) for part in parts]
    assert styles == [top_tables.LOSS, top_tables.QUIET, top_tables.PRESSURE, ""]


def test_what_is_wrong_stands_at_the_top() -> None:
    reason = types.Reason("postgres-away", "", "it is [red]gone[/]", "start it")
    other = types.Reason("log-full", "", "", "")
    now = status(
        state="degraded", reasons=[reason, other], lag_events=5, lag_seconds=61.0,
        bottleneck=types.Bottleneck("deliver", "PostgreSQL is away"),
        workers=[process("worker", cpu=3, affinity="0-1", pid=None, ready=False)],
    )  # fmt: skip
    shown = text(None, sample(0, now, unanswered=("worker-0",), lag_bytes=1 << 20), 100)
    for words in ("● degraded", "postgres-away: it is [red]gone[/] (and 1 more: certeus status)",
                  "→ start it", "bottleneck deliver: PostgreSQL is away", "1 min 1 s, 1.0 MiB",
                  "no answer from worker-0", "worker-0 down", "!3"):  # fmt: skip
        assert words in shown, shown


@pytest.mark.parametrize(
    ("order", "first"),
    [("rate", "hall"), ("p99", "hall"), ("ring", "full"), ("rejected", "hall"), ("source", "full")],
)
def test_producers_are_sorted(order: top_tables.Order, first: str) -> None:
    seen = view(busy(0), busy(2))
    assert min(seen.producers, key=top_tables.ORDERS[order]).source == first


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [("", 3), ("HAL", 1), ("zoo", 1), ("7", 1), ("1000", 2), ("4242", 3), ("none", 0)],
)
def test_a_filter_looks_at_source_tenant_uid_and_pid(wanted: str, shown: int) -> None:
    rows = view(busy(0), busy(2)).producers
    assert sum(top_tables.matches(one, wanted) for one in rows) == shown


# --- the screen ----------------------------------------------------------------------------------


class Played:
    """A daemon that answers when the test says so."""

    def __init__(self) -> None:
        self.answers = queue.Queue[Sample | ExitError]()
        self.app = Top(self.take, interval_s=0.0)

    def take(self) -> Sample:
        answer = self.answers.get()
        if isinstance(answer, ExitError):
            raise answer
        return answer


def played(
    scene: Callable[[Played, Pilot[None]], Coroutine[None, None, None]],
    size: tuple[int, int] = (120, 40),
) -> None:
    async def run() -> None:
        world = Played()
        async with world.app.run_test(size=size) as pilot:
            await scene(world, pilot)
            world.app.exit()
        world.answers.put(ExitError(Exit.UNREACHABLE, "the end of the test"))

    asyncio.run(run())


async def until(pilot: Pilot[None], words: str) -> str:
    """Wait until these words are on the screen; everything that is there then."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while words not in (shown := seen_by(pilot.app)):
        assert asyncio.get_running_loop().time() < deadline, shown
        await pilot.pause(0.01)
    return shown


async def ended(app: App[None]) -> None:
    """Wait until the screen is gone."""
    await asyncio.to_thread(wait_until, "end of the screen", lambda: not app.is_running)


def seen_by(app: App[None]) -> str:
    """The text of the screen, from its picture."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", app.export_screenshot())
    return "\n".join(html.unescape(one).replace("\xa0", " ") for one in texts)


def test_the_screen_shows_rates_from_the_second_answer_on() -> None:
    async def scene(world: Played, pilot: Pilot[None]) -> None:
        assert "asking the daemon" in await until(pilot, "asking")
        world.answers.put(busy(0))
        assert "2.0 k" not in await until(pilot, "hall")
        world.answers.put(busy(2))
        shown = await until(pilot, "2.0 k")
        assert shown.index("hall") < shown.index("full") < shown.index("idle"), "the busiest first"

    played(scene)


def test_a_daemon_that_goes_is_told_and_found_again() -> None:
    async def scene(world: Played, pilot: Pilot[None]) -> None:
        world.answers.put(busy(0))
        await until(pilot, "● ready")
        world.answers.put(ExitError(Exit.UNREACHABLE, "cannot reach the daemon"))
        assert "hall" in await until(pilot, "● not reachable: cannot reach"), "what was known stays"
        again = sample(9, status(pid=2, uptime_seconds=1.0), (producer("again"),))
        world.answers.put(again)
        shown = await until(pilot, "again")
        assert "not reachable" not in shown
        assert "● ready" in shown

    played(scene)


def test_keys_sort_filter_and_explain() -> None:
    async def scene(world: Played, pilot: Pilot[None]) -> None:
        world.answers.put(busy(0))
        world.answers.put(busy(2))
        await until(pilot, "2.0 k")
        await pilot.press("f")
        shown = seen_by(world.app)
        assert shown.index("full") < shown.index("hall")
        await pilot.press("slash", *"zoo", "enter")
        shown = await until(pilot, "producers 1 of 3")
        assert "hall" in shown
        assert "full" not in shown
        await pilot.press("escape")
        await until(pilot, "producers 3")
        await pilot.press("question_mark")
        assert "back-pressure" in await until(pilot, "Any key closes this")
        assert isinstance(world.app.screen, Help)
        await pilot.press("q")
        assert not isinstance(world.app.screen, Help), "it closes the help, and not the screen"

    played(scene)


def test_eighty_columns_and_twenty_four_lines_will_do() -> None:
    async def scene(world: Played, pilot: Pilot[None]) -> None:
        many = tuple(producer(f"s{at}", at, events_total=at) for at in range(60))
        world.answers.put(sample(0, None, many))
        await until(pilot, "producers 60")
        await pilot.press("end")
        shown = await until(pilot, "postgres")
        assert "● ready" in shown, "the head stays"
        await pilot.resize_terminal(120, 30)
        await until(pilot, "bytes/s")

    played(scene, (80, 24))


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_a_key_ends_it(key: str) -> None:
    async def scene(world: Played, pilot: Pilot[None]) -> None:
        world.answers.put(busy(0))
        await until(pilot, "● ready")
        await pilot.press(key)
        await ended(world.app)

    played(scene)


def test_without_textual_the_verb_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['textual'] = None; sys.argv[1:] = ['top']\n"
        "from certeusd.cli import main, output\n"
        "output.begin(); output.begin = lambda: None\n"
        "sys.stdout.isatty = lambda: True\n"
        "main.main()"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert answer.returncode == Exit.FAILED
    assert "extra `top`" in answer.stderr
    assert "certeus top --once" in answer.stderr
