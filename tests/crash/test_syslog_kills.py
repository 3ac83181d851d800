"""Kills under load through syslog's door: what it loses, and what it does not."""

import signal
import socket
import threading
from typing import Any

import pytest

from support.syslogging import WAIT_S, Syslog, serving
from support.waiting import wait_until

pytestmark = pytest.mark.crash

KILLS = 3
TURN_BYTES = 64 * 1024


class Sender(threading.Thread):
    """Sends numbered messages, one after the other, until it is told to end."""

    def __init__(self, syslog: Syslog, kind: str) -> None:
        super().__init__(name=kind)
        self.sent = 0
        self._syslog = syslog
        self._wanted = threading.Event()
        self._end = self._connected()

    def _connected(self) -> socket.socket:
        if self.name == "tcp":
            return self._syslog.stream()
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        end.settimeout(WAIT_S)
        end.connect(str(self._syslog.path))
        return end

    def run(self) -> None:
        with self._end:
            while not self._wanted.is_set():
                text = b"<13>%s %d" % (self.name.encode(), self.sent)
                if self.name == "tcp":
                    text = b"%d %s" % (len(text), text)
                try:
                    self._end.sendall(text)
                except OSError:
                    # The door has gone, and the connection with it.
                    self._end.close()
                    self._end = self._connected()
                    continue
                self.sent += 1

    def end(self) -> int:
        self._wanted.set()
        self.join(WAIT_S)
        assert not self.is_alive()
        return self.sent


def numbers(events: list[dict[str, Any]], kind: str) -> list[int]:
    words = [str(event["data"]["message"]).split() for event in events]
    return [int(number) for name, number in words if name == kind]


def killed_under_load(syslog: Syslog, role: str, kinds: list[str]) -> dict[str, int]:
    senders = [Sender(syslog, kind) for kind in kinds]
    for sender in senders:
        sender.start()
    for _ in range(KILLS):
        syslog.taken(int(syslog.metric("events_total")) + 500)
        syslog.daemon.kill_next(role)
    return {sender.name: sender.end() for sender in senders}


@pytest.mark.parametrize("role", ["worker", "log", "flush"])
def test_nothing_is_lost_or_doubled_and_the_order_stays(role: str) -> None:
    with serving() as syslog:
        sent = killed_under_load(syslog, role, ["unix", "tcp"])
        found = syslog.events(sum(sent.values()))
        for kind, count in sent.items():
            assert numbers(found, kind) == list(range(count))
        assert syslog.daemon.stop() == 0


def test_a_killed_door_loses_one_turn_at_most_and_doubles_nothing() -> None:
    with serving() as syslog:
        sent = killed_under_load(syslog, "syslog", ["unix"])["unix"]
        syslog.datagrams([b"<13>last 0"])

        def has_last() -> bool:
            return b'"last 0"' in syslog.daemon.certeus("tail", "-n", "5").stdout

        wait_until("the last one", has_last, WAIT_S)
        found = numbers(syslog.events(1), "unix")
        assert found == sorted(set(found))
        assert sent - len(found) <= KILLS * TURN_BYTES // len("<13>unix 0")
        # What came before a kill and after it is there: only one turn's worth is not.
        missing = set(range(sent)) - set(found)
        holes = [number for number in missing if number - 1 not in missing]
        assert len(holes) <= KILLS
        assert syslog.daemon.stop() == 0


def test_what_is_in_the_ring_of_a_killed_door_becomes_durable() -> None:
    """The log writer stands still: everything that was read is unsettled when the door dies."""
    with serving() as syslog:
        syslog.daemon.kill("log", signal.SIGSTOP)
        syslog.datagrams([b"<13>unix %d" % number for number in range(1000)])
        syslog.taken(1000)
        syslog.daemon.kill("syslog")
        syslog.daemon.kill("log", signal.SIGCONT)
        assert numbers(syslog.events(1000), "unix") == list(range(1000))
        assert syslog.daemon.stop() == 0


def test_what_waits_at_the_socket_outlives_the_door() -> None:
    with serving() as syslog:
        syslog.daemon.kill("syslog", signal.SIGSTOP)
        waiting = [b"<13>unix %d" % number for number in range(8)]
        syslog.datagrams(waiting)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"<13>udp 0", syslog.tcp_address)
        syslog.daemon.kill("syslog")
        found = syslog.events(9)
        assert numbers(found, "unix") == list(range(8))
        assert numbers(found, "udp") == [0]
        assert syslog.daemon.stop() == 0
