"""What a worker tells of its sessions, page by page."""

import socket
from dataclasses import dataclass

import pytest

from certeusd import channel
from certeusd.channel import AskSessions
from certeusd.config import IngestSection
from certeusd.peer import Peer
from certeusd.rule import Rule
from certeusd.worker import census
from certeusd.worker.clients import Client
from certeusd.worker.handshake import Hello
from certeusd.worker.kernel import Seen

MOST = 2**64 - 1
LONG = {f"{at:>40}": MOST for at in range(14)}
SHORT = {"too-large": 2}


@dataclass
class Table:
    """A kernel with so many sessions at every third place, all of one client."""

    count: int
    source: str = "check"
    rejected: int = 0

    def __post_init__(self) -> None:
        self.end = socket.socket()
        self.end.close()

    def seen(self, first: int, count: int, /) -> tuple[list[Seen], int | None]:
        places = [at * 3 for at in range(self.count) if at * 3 >= first]
        following = places[count] if len(places) > count else None
        return [self.row(place) for place in places[:count]], following

    def row(self, place: int) -> Seen:
        number = place | 5 << 16
        if self.rejected:
            return (number, MOST, MOST, MOST, MOST, LONG, MOST, MOST, [MOST] * 64)
        return (number, 10, 1000, 8, 1, SHORT, 2, 640, [0, 3])

    def of_slot(self, slot: int) -> Client:
        rule = Rule.of(IngestSection(tenant="shop"))
        hello = Hello(b"x" * 16, self.source, 1 << 16, None, 0)
        return Client(self.end, Peer(7, 8, frozenset()), rule, hello, slot, None, 12.5)


def test_a_page_tells_who_each_session_is() -> None:
    table = Table(1)
    answer = census.page(table, table, AskSessions(0))
    (row,) = answer.sessions
    assert answer.next is None
    assert (row.number, row.place, row.pid, row.uid) == (5 << 16, 0, 7, 8)
    assert (row.tenant, row.source, row.ring_bytes, row.connected_at) == (
        "shop", "check", 1 << 16, 12.5,
    )  # fmt: skip
    assert (row.events, row.bytes, row.settled, row.duplicates) == (10, 1000, 8, 1)
    assert (row.rejected, row.in_flight, row.ring_used) == ({"too-large": 2}, 2, 640)
    assert row.ack_ns_buckets == [0, 3]


@pytest.mark.parametrize(
    ("table", "pages"),
    [(Table(0), 1), (Table(64), 1), (Table(65), 2), (Table(200), 4),
     (Table(200, "\x01" * 255, rejected=1), 7)],
)  # fmt: skip
def test_pages_fit_a_message_and_leave_nobody_out(table: Table, pages: int) -> None:
    told, asked = list[int](), 0
    first: int | None = 0
    while first is not None:
        answer = census.page(table, table, AskSessions(first))
        assert channel.fits(answer)
        told += [row.place for row in answer.sessions]
        first, asked = answer.next, asked + 1
    assert told == [at * 3 for at in range(table.count)]
    assert asked == pages
