"""The channel between supervisor and children."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from certeusd import channel
from certeusd.channel import (
    AcceptDeadLetters,
    AcceptGap,
    Answer,
    AskLetters,
    AskSessions,
    Attach,
    Channel,
    ChannelError,
    Detach,
    Drain,
    Message,
    Progress,
    Ready,
    Report,
    Retry,
    Session,
    Sessions,
    Start,
    State,
)
from certeusd.config import Config

SESSION = Session(
    number=1 << 16 | 64, uid=7, pid=8, tenant="shop", source="s/1", connected_at=1.5, events=10,
    bytes=100, settled=9, duplicates=0, rejected={"too-large": 1}, in_flight=1, ring_bytes=65536,
    ring_used=64, ack_ns_buckets=[0, 8],
)  # fmt: skip
MESSAGES: list[Message] = [
    Start("flush", 0, Config(), "/s", "/r", "info", 4096, "postgresql://u:p@h/d"),
    Attach(1, 1 << 22, 1 << 20),
    Detach(1),
    Drain(),
    AcceptGap(5, 10),
    AcceptDeadLetters(7),
    Retry(),
    AskLetters(3, "list", 1, 9, 5, "23514", whole=True),
    Answer(3, "postgres-away", "it is gone"),
    Ready(),
    State("postgres-away", "refused", "start it", active=True),
    Progress(),
    AskSessions(64),
    Sessions([SESSION], 65),
    Report("recovery", {"groups": 3, "ids": ["a"]}),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_arrives_as_it_was_sent(message: Message) -> None:
    ours, theirs = channel.pair()
    end = Channel(theirs)
    assert ours.send(message)
    assert end.receive() == (message, [])
    ours.close()
    assert end.receive() is None
    end.close()


def test_descriptors_arrive_close_on_exec_and_in_order() -> None:
    ours, theirs = channel.pair()
    end = Channel(theirs)
    files = [os.memfd_create(name) for name in ("a", "b")]
    for at, file in enumerate(files):
        os.write(file, str(at).encode())
    ours.send(Attach(0, 1, 1), files)
    packet = end.receive()
    assert packet is not None
    received = packet[1]
    assert [os.pread(file, 1, 0) for file in received] == [b"0", b"1"]
    assert not any(os.get_inheritable(file) for file in received)
    for file in (*files, *received):
        os.close(file)
    ours.close()
    end.close()


def test_supervisor_end_never_waits() -> None:
    ours, theirs = channel.pair()
    with pytest.raises(BlockingIOError):
        ours.receive()

    def flood() -> None:
        while True:
            ours.send(Drain())

    with pytest.raises(BlockingIOError):
        flood()
    ours.close()
    theirs.close()


def test_send_to_the_dead_is_no_error() -> None:
    ours, theirs = channel.pair()
    theirs.close()
    assert not ours.send(Drain())
    assert ours.receive() is None
    ours.close()


def test_garbage_raises_and_closes_what_came_along() -> None:
    ours, theirs = channel.pair()
    end = Channel(theirs)
    raw = socket.socket(fileno=os.dup(ours.fileno()))
    read, write = os.pipe()
    socket.send_fds(raw, [b'{"type":"strat"}'], [write])
    os.close(write)
    with pytest.raises(ChannelError):
        end.receive()
    assert os.read(read, 1) == b"", "the last writer is closed"
    os.close(read)
    raw.close()
    ours.close()
    end.close()


ADOPTER = """
import os, signal, sys
from certeusd import channel
end = channel.adopt(int(sys.argv[1]))
ignored = all(signal.getsignal(n) is signal.SIG_IGN for n in (signal.SIGINT, signal.SIGTERM))
end.send(channel.Report("adopted", {"ignored": ignored}))
assert end.receive() is None
"""


def test_adopted_child_ignores_stops_and_sees_the_end_of_the_channel() -> None:
    ours, theirs = channel.pair()
    ours.setblocking(True)
    child = subprocess.Popen(
        [sys.executable, "-c", ADOPTER, str(theirs.fileno())], pass_fds=[theirs.fileno()]
    )
    theirs.close()
    assert ours.receive() == (Report("adopted", {"ignored": True}), [])
    child.send_signal(signal.SIGTERM)
    ours.close()
    assert child.wait() == 0


def test_child_of_another_parent_ends_at_once() -> None:
    """The channel was made by somebody who is not the parent any more."""
    ours, theirs = channel.pair()
    ours.setblocking(True)
    shell = ["sh", "-c", '"$0" -c "$1" "$2"; exit $?', sys.executable, ADOPTER]
    child = subprocess.Popen([*shell, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    assert ours.receive() is None
    assert child.wait() == 0
    ours.close()
