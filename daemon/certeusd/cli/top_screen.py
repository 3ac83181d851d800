"""The screen of `certeus top`: the tables again and again, until q.

A thread asks the daemon, so that a daemon that is slow or gone never holds up the keys; it is not
waited for at the end. The screen is drawn anew only when an answer came, at most once a second.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Key, Resize
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Static

from certeusd.cli.top_tables import LOSS, ORDERS, Order, body, head
from certeusd.control.rates import View, view
from certeusd.control.sample import Sample
from certeusd.exits import ExitError

WAITING = Text("asking the daemon ...", "dim")
HELP = """\
[b]stages[/b]     what passes each, of all processes together. p50 and p99: ingest, from reading
           an event to its verdict; commit, one sync; deliver, one batch
[b]workers[/b]    the same of each; ring: how full its producers' rings are; on: the CPU that it
           is pinned to
[b]producers[/b]  one row a session; ring: what has no verdict yet, of its ring
[b]followers[/b]  who gets the log, and what it lacks

Rates, p50 and p99 are of the last interval; p50 and p99 are true to a factor of two.
Rejections are those since the start (workers) or since the producer connected.
[red]Red[/red] is loss: rejected, not there, not where it is pinned.
[yellow]Yellow[/yellow] is back-pressure: nothing is lost, somebody waits.

[b]r p f x s[/b]  sort producers by rate, p99, ring fill, rejections, source
[b]/[/b]          show only producers with this source, tenant, uid or pid; Escape: all
[b]q[/b]          end

Any key closes this."""


class Help(ModalScreen[None]):
    """What the columns mean."""

    def compose(self) -> ComposeResult:
        """One text."""
        with VerticalScroll():
            yield Static(HELP)

    def on_key(self, event: Key) -> None:
        """Close."""
        event.stop()
        self.dismiss()


class Told(Message):
    """The daemon answered, or did not."""

    def __init__(self, answer: Sample | ExitError) -> None:
        super().__init__()
        self.answer = answer


class Top(App[None]):
    """The screen; `take` asks the daemon and may raise ExitError."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: $background; }
    #head { height: auto; padding: 0 1; background: $panel; }
    #body { padding: 1 1 0 1; }
    #tables { height: auto; }
    #filter { display: none; border: none; height: 1; padding: 0 1; }
    #filter.shown { display: block; }
    Help { align: center middle; }
    Help > VerticalScroll {
        width: 92; max-width: 100%; height: auto; max-height: 100%;
        padding: 1 2; background: $panel; border: round $primary;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape", "unfilter", "all", show=False),
        Binding("r", "sort('rate')", "rate"),
        Binding("p", "sort('p99')", "p99"),
        Binding("f", "sort('ring')", "ring"),
        Binding("x", "sort('rejected')", "rejected"),
        Binding("s", "sort('source')", "source"),
    ]

    def __init__(self, take: Callable[[], Sample], interval_s: float) -> None:
        super().__init__()
        self._take = take
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._last: Sample | None = None
        self._view: View | None = None
        self._failure = ""
        self._order: Order = "rate"
        self._wanted = ""

    def compose(self) -> ComposeResult:
        """Head, tables, the line for a filter, keys."""
        yield Static(WAITING, id="head")
        with VerticalScroll(id="body"):
            yield Static(id="tables")
        yield Input(placeholder="source, tenant, uid or pid", id="filter", compact=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to ask."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)
        self.query_one("#body").focus()
        threading.Thread(target=self._ask, daemon=True).start()

    def on_unmount(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _ask(self) -> None:
        while not self._ended.is_set():
            try:
                answer: Sample | ExitError = self._take()
            except ExitError as error:
                answer = error
            if not self._ended.is_set():
                self.post_message(Told(answer))
            self._ended.wait(self._interval_s)

    def on_told(self, message: Told) -> None:
        """Compare with the answer before."""
        if isinstance(message.answer, ExitError):
            self._failure = str(message.answer)
        else:
            self._failure = ""
            self._view = view(self._last, message.answer)
            self._last = message.answer
        self._draw()

    def on_resize(self, _: Resize) -> None:
        """Columns depend on the width, which is known after this."""
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        seen, top = self._view, self.query_one("#head", Static)
        if self._failure:
            top.update(Text(f"● not reachable: {self._failure}", LOSS))
        elif seen is not None:
            top.update(head(seen))
        if seen is not None:
            tables = body(seen, self.size.width - 2, self._order, self._wanted)
            self.query_one("#tables", Static).update(tables)

    # --- keys ------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """Explain."""
        self.push_screen(Help())

    def action_sort(self, order: str) -> None:
        """Sort producers."""
        for known in ORDERS:
            if known == order:
                self._order = known
        self._draw()

    def action_filter(self) -> None:
        """Ask which producers to show."""
        line = self.query_one("#filter", Input)
        line.add_class("shown")
        line.focus()

    def action_unfilter(self) -> None:
        """Show all producers."""
        self.query_one("#filter", Input).clear()
        self._filtered("")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Show only these."""
        self._filtered(event.value.strip())

    def _filtered(self, wanted: str) -> None:
        self._wanted = wanted
        self.query_one("#filter").remove_class("shown")
        self.query_one("#body").focus()
        self._draw()
