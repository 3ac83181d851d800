"""Who is served, for the supervisor when it asks: one page of sessions a question.

Between two pages the kernel serves everybody, so that a thousand sessions hold nobody up.
"""

from typing import Protocol

from certeusd import channel
from certeusd.channel import AskSessions, Session, Sessions
from certeusd.worker.clients import Client
from certeusd.worker.kernel import Seen

PAGE_SESSIONS = 64


class Table(Protocol):
    """What the kernel knows of its sessions."""

    def seen(self, first: int, count: int, /) -> tuple[list[Seen], int | None]:
        """Look at up to `count` of them, from a place on."""
        ...


class Known(Protocol):
    """Who they are."""

    def of_slot(self, slot: int) -> Client:
        """Whose session that is."""
        ...


def page(kernel: Table, clients: Known, question: AskSessions) -> Sessions:
    """Answer with the sessions from the asked place on, as many as a message carries."""
    seen, following = kernel.seen(question.first, PAGE_SESSIONS)
    rows = list[Session]()
    for number, events, byte_count, settled, duplicates, rejected, in_flight, used, acks in seen:
        client = clients.of_slot(number)
        assert client.hello is not None, "a session began with a hello"
        row = Session(
            number=number, uid=client.peer.uid, pid=client.peer.pid, tenant=client.rule.tenant,
            source=client.hello.source, connected_at=client.connected_at, events=events,
            bytes=byte_count, settled=settled, duplicates=duplicates, rejected=rejected,
            in_flight=in_flight, ring_bytes=client.hello.ring_bytes, ring_used=used,
            ack_ns_buckets=acks,
        )  # fmt: skip
        rows.append(row)
    answer = Sessions(rows, following)
    while not channel.fits(answer):
        # Long names: half of the page, and the rest with the next question.
        rest = rows[len(rows) // 2 :]
        rows = rows[: len(rows) // 2]
        answer = Sessions(rows, rest[0].place)
    return answer
