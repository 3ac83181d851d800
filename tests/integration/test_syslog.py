"""Syslog's door against a real certeusd, with the programs that speak to it."""

import contextlib
import json
import logging
import logging.handlers
import os
import pwd
import random
import resource
import select
import signal
import socket
import stat
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.as_user import as_user
from support.journals import board_of
from support.syslogging import WAIT_S, Syslog, serving
from support.waiting import wait_until

pytestmark = pytest.mark.integration

USER = pwd.getpwuid(os.geteuid()).pw_name
OTHER = 12_345
RUN_AS_IT_IS = [HealthCheck.too_slow]


@pytest.fixture
def syslog() -> Iterator[Syslog]:
    with serving() as syslog:
        yield syslog
        assert syslog.daemon.stop() == 0


@pytest.fixture(scope="module")
def shared() -> Iterator[Syslog]:
    with serving("message_bytes_max = 1024") as syslog:
        yield syslog
        assert syslog.daemon.stop() == 0


def messages(events: list[dict[str, Any]]) -> list[Any]:
    return [event["data"].get("message") for event in events]


# --- programs that speak syslog -------------------------------------------------------------------


def test_logger_is_understood_in_each_of_its_ways(syslog: Syslog) -> None:
    port = ["-n", "127.0.0.1", "-P", str(syslog.port)]
    element = ["--sd-id", "zoo@123", "--sd-param", 'tiger="hungry"']
    for number, arguments in enumerate((
        ["-u", str(syslog.path), "--rfc5424", *element, "-p", "auth.crit", "-t", "app", "1"],
        ["-u", str(syslog.path), "--rfc3164", "-t", "app", "2"],
        [*port, "-d", "--rfc5424", "-t", "app", "3"],
        [*port, "-d", "--rfc3164", "-t", "app", "4"],
        [*port, "-T", "--rfc5424", "--octet-count", "-t", "app", "5"],
        [*port, "-T", "--rfc3164", "-t", "app", "6"],
    ), start=1):  # fmt: skip
        syslog.logger(*arguments)
        syslog.taken(number)
    found = syslog.events(6)
    assert messages(found) == ["1", "2", "3", "4", "5", "6"]
    assert {event["data"]["appname"] for event in found} == {"app"}
    assert {event["type"] for event in found} == {"syslog"}
    assert [event["source"] for event in found] == [
        f"syslog/{USER}", f"syslog/{USER}", "syslog/udp", "syslog/udp", "syslog/tcp", "syslog/tcp",
    ]  # fmt: skip
    first = found[0]
    assert (first["data"]["facility"], first["data"]["severity"]) == ("auth", "crit")
    assert first["data"]["structured_data"]["zoo@123"] == {"tiger": "hungry"}
    assert "time" in first
    assert "time" not in found[1]


@pytest.mark.parametrize("kind", ["unix", "udp", "tcp"])
def test_pythons_handler_is_understood(syslog: Syslog, kind: str) -> None:
    address = str(syslog.path) if kind == "unix" else syslog.tcp_address
    of = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    handler = logging.handlers.SysLogHandler(address, socktype=of)
    logger = logging.Logger("app")
    logger.addHandler(handler)
    for number in range(100):
        logger.warning("line %d", number)
    # Before it closes: each message has an end of its own.
    found = syslog.events(100)
    handler.close()
    assert messages(found) == [f"line {number}" for number in range(100)]
    assert {event["data"]["severity"] for event in found} == {"warning"}


ACTIONS = {
    "omfwd-udp": 'type="omfwd" target="127.0.0.1" port="{port}" protocol="udp"',
    "omfwd-tcp-lines": 'type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp"',
    "omfwd-tcp-counted": 'type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp"'
    ' tcp_framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format"',
}


@contextmanager
def rsyslog(root: Path, rule: str) -> Generator[Path]:
    """An rsyslogd of one's own, and the socket that it reads."""
    inbox = root / "in.sock"
    configuration = root / "rsyslog.conf"
    configuration.write_text(
        f'global(workDirectory="{root}")\nmodule(load="imuxsock" SysSock.Use="off")\n'
        f'input(type="imuxsock" Socket="{inbox}" RateLimit.Interval="0")\n{rule}\n'
    )
    command = ["/usr/sbin/rsyslogd", "-n", "-iNONE", "-f", str(configuration)]
    with (root / "rsyslog.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until("rsyslogd", inbox.exists)
        yield inbox
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("way", [*ACTIONS, "omuxsock"])
def test_rsyslog_forwards_in_each_of_its_ways(syslog: Syslog, way: str) -> None:
    if way == "omuxsock":
        rule = f'module(load="omuxsock")\n$OMUxSockSocket {syslog.path}\n*.* :omuxsock:'
    else:
        rule = f"*.* action({ACTIONS[way].format(port=syslog.port)})"
    with rsyslog(syslog.daemon.root, rule) as inbox:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.connect(str(inbox))
            for number in range(50):
                end.send(b"<13>Nov 22 06:09:12 app[7]: line %d" % number)
        found = syslog.events(50)
    told = [one for one in found if one["data"].get("appname") == "app"]
    assert [message.strip() for message in messages(told)] == [f"line {n}" for n in range(50)]


# --- who sends ------------------------------------------------------------------------------------


def send_as(path: Path, uid: int, gid: int, message: bytes) -> str:
    def send() -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(message, str(path))
        return "sent"

    return as_user(uid, gid, send)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can send as somebody else")
def test_everybody_may_send_where_nobody_is_named_and_the_source_is_the_kernels(
    syslog: Syslog,
) -> None:
    assert stat.S_IMODE(syslog.path.stat().st_mode) == 0o666
    claim = b"<13>1 2026-01-01T00:00:00Z host syslog/root - - - hello"
    assert send_as(syslog.path, OTHER, OTHER, claim) == "sent"
    (event,) = syslog.events(1)
    assert event["source"] == f"syslog/{OTHER}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can send as somebody else")
@pytest.mark.parametrize(
    ("rule", "admitted"),
    [("uids = [12345]", True), ("gids = [12345]", True), ("uids = [0]", False),
     ("uids = [65534]", False), ('users = ["nobody"]', False), ("gids = [0]", False)],
)  # fmt: skip
def test_whoever_is_not_named_is_refused_and_counted(rule: str, admitted: bool) -> None:
    with serving(rule, ports=False) as syslog:
        assert send_as(syslog.path, OTHER, OTHER, b"<13>hello") == "sent"
        if admitted:
            assert messages(syslog.events(1)) == ["hello"]
        else:
            wait_until("a refusal", lambda: syslog.metric("refused_events_total") == 1)
            assert syslog.metric("events_total") == 0
            wait_until("a line", lambda: '"not-allowed": 1' in syslog.daemon.log_tail())
        assert syslog.daemon.stop() == 0


# --- what is harmful ------------------------------------------------------------------------------


def test_large_datagrams_come_whole_or_not_at_all(syslog: Syslog) -> None:
    texts = [b"x" * 200_000, b"y" * 100]
    syslog.datagrams(texts)
    assert [len(message) for message in messages(syslog.events(2))] == [200_000, 100]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.setsockopt(socket.SOL_SOCKET, 32, 4 << 20)  # SO_SNDBUFFORCE: for root alone
        end.sendto(b"z" * 1_000_000, str(syslog.path))
    syslog.datagrams([b"after"])
    assert messages(syslog.events(3))[2] == "after"
    assert syslog.metric("refused_events_total") == 1


def test_streams_that_lie_or_stop_in_the_middle_harm_nobody(syslog: Syslog) -> None:
    with syslog.stream() as good:
        good.sendall(b"8 <13>good")
        with syslog.stream() as liar:
            liar.sendall(b"2 ok99999999999999999999 <13>never")
            assert liar.recv(1) == b""
        with syslog.stream() as cut:
            cut.sendall(b"100 <13>half")
        with syslog.stream() as quick:
            quick.sendall(b"<13>first\n<13>no end")
        with syslog.stream() as binary:
            binary.sendall(bytes(range(256)) + b"\n")
        good.sendall(b"9 <13>still")
        found = syslog.events(7)
    assert {"ok", "good", "first", "no end", "still"} <= set(messages(found))
    assert syslog.metric("refused_events_total") == 2
    wait_until("no connections", lambda: syslog.metric("connections") == 0)


def test_an_endless_line_is_taken_in_pieces_and_memory_stays(syslog: Syslog) -> None:
    (pid,) = syslog.daemon.pids("syslog")
    with syslog.stream() as endless:
        for _ in range(256):
            endless.sendall(b"x" * 65536)
    found = syslog.events(256)
    assert {len(message) for message in messages(found)} == {65536}
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    assert resident < 150 << 20
    assert syslog.daemon.pids("syslog") == [pid]


def test_messages_may_come_byte_by_byte(syslog: Syslog) -> None:
    text = "x" * 300
    sent = f"304 <13>{text}305 <13>1{text}<13>2{text}\x00007 <13>no\n12345678901{text}\n"
    with syslog.stream() as end:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(sent)):
            end.sendall(sent[at : at + 1].encode())
    found = messages(syslog.events(5))
    assert found == [text, f"1{text}", f"2{text}", "007 <13>no", f"12345678901{text}"]


def test_ten_thousand_connections_keep_nobody_out(syslog: Syslog) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept = list[socket.socket]()
    try:
        with syslog.stream() as early:
            early.sendall(b"<13>early\n")
            syslog.taken(1)
            for number in range(10_000):
                end = syslog.stream()
                if number % 2:
                    end.sendall(b"9 <13>")
                kept.append(end)
                if len(kept) > 4000:
                    kept.pop(0).close()
            with syslog.stream() as late:
                late.sendall(b"<13>late\n")
                early.sendall(b"<13>still there\n")
                wait_until("those that speak", lambda: syslog.metric("events_total") >= 3, WAIT_S)
            assert syslog.metric("connections") <= 1024
            assert syslog.metric("connections_turned_away_total") > 0
            assert {"early", "late", "still there"} <= set(messages(syslog.events(3)))
    finally:
        for end in kept:
            end.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_more_connections_are_accepted_than_can_give_way() -> None:
    """While the log stands still nobody has a turn in which to end."""
    with serving("connections_max = 16") as syslog:
        (pid,) = syslog.daemon.pids("syslog")
        syslog.daemon.kill("log", signal.SIGSTOP)
        kept = list[socket.socket]()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.connect(str(syslog.path))
                flood(end, b"<13>" + b"x" * 10_000)
            for _ in range(600):
                kept.append(syslog.stream())
                kept[-1].sendall(b"<13>x\n")
            wait_until("a crowd", lambda: syslog.metric("connections_turned_away_total") > 0)
            board = board_of(syslog.daemon)
            began = board.get("syslog", "heartbeat_ns")
            # Time in which all of them could be accepted.
            wait_until(
                "beats", lambda: board.get("syslog", "heartbeat_ns") > began + 3_000_000_000, WAIT_S
            )
            assert len(os.listdir(f"/proc/{pid}/fd")) < 16 + 2 * 64 + 64
        finally:
            syslog.daemon.kill("log", signal.SIGCONT)
            for end in kept:
                end.shutdown(socket.SHUT_WR)
        wait_until("their ends", lambda: syslog.metric("connections") == 0, WAIT_S)
        syslog.datagrams([b"<13>after"])
        assert {"x", "after"} <= set(messages(syslog.events(601)))
        for end in kept:
            end.close()
        assert syslog.daemon.stop() == 0


@settings(max_examples=60, deadline=None, suppress_health_check=RUN_AS_IT_IS)
@given(st.lists(st.binary(max_size=3000), max_size=6), st.booleans())
def test_garbage_ends_no_process(shared: Syslog, blocks: list[bytes], by_stream: bool) -> None:
    before = shared.daemon.pids("syslog")
    if by_stream:
        # It may be told that it makes no sense.
        with shared.stream() as end, contextlib.suppress(ConnectionError):
            for block in blocks:
                end.sendall(block)
    else:
        shared.datagrams(blocks)
    mark = f"mark {random.random()}"
    shared.datagrams([mark.encode()])

    def is_there() -> bool:
        done = shared.daemon.certeus("tail", "-n", "20")
        return mark in messages([json.loads(line) for line in done.stdout.splitlines()])

    wait_until("the mark", is_there, WAIT_S)
    assert shared.daemon.pids("syslog") == before


# --- back-pressure --------------------------------------------------------------------------------


def flood(end: socket.socket, message: bytes) -> int:
    """Send until it would wait for a second; how many were taken."""
    end.setblocking(False)
    count = 0
    while True:
        try:
            sent = end.send(message)
            assert sent == len(message)
            count += 1
        except BlockingIOError:
            if not select.select([], [end], [], 1.0)[1]:
                end.setblocking(True)
                return count


def test_senders_wait_at_the_unix_socket_and_nothing_is_lost(syslog: Syslog) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.connect(str(syslog.path))
        syslog.daemon.kill("log", signal.SIGSTOP)
        try:
            count = flood(end, b"<13>" + b"x" * 1000)
            # What is held, the worker's and the log writer's rings, the kernel's few.
            assert 500 < count < 8000
            (pid,) = syslog.daemon.pids("syslog")
        finally:
            syslog.daemon.kill("log", signal.SIGCONT)
        end.send(b"<13>last")
        found = syslog.events(count + 1)
    assert len(found) == count + 1
    assert messages(found)[-1] == "last"
    assert syslog.metric("dropped_events_total") == 0
    assert syslog.daemon.pids("syslog") == [pid]


def test_no_more_is_read_than_may_be_held(syslog: Syslog) -> None:
    """Behind a log writer that stands still at most 1 MiB and a turn are in the door's hands."""
    syslog.daemon.kill("log", signal.SIGSTOP)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.connect(str(syslog.path))
            flood(end, b"<13>" + b"x" * 10_000)
        assert 900_000 < syslog.metric("bytes_total") < 1_300_000
    finally:
        syslog.daemon.kill("log", signal.SIGCONT)


def test_what_udp_drops_is_counted_and_told() -> None:
    with serving("udp_buffer_bytes = 65536") as syslog:
        syslog.daemon.kill("log", signal.SIGSTOP)
        sent = 4000
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                for number in range(sent):
                    end.sendto(b"<13>%d " % number + b"x" * 1000, syslog.tcp_address)
            wait_until("drops", lambda: syslog.metric("dropped_events_total") > 0)
            wait_until("the reason", lambda: "syslog-drops" in syslog.codes())
        finally:
            syslog.daemon.kill("log", signal.SIGCONT)

        def all_accounted_for() -> bool:
            taken, dropped = syslog.metric("events_total"), syslog.metric("dropped_events_total")
            return taken + dropped == sent

        wait_until("each is taken or counted", all_accounted_for, WAIT_S)
        dropped = syslog.metric("dropped_events_total")
        syslog.daemon.kill("syslog")
        wait_until("another door", lambda: bool(syslog.daemon.pids("syslog")), WAIT_S)
        syslog.datagrams([b"<13>after"])
        syslog.taken(int(sent - dropped) + 1)
        assert syslog.metric("dropped_events_total") == dropped
        assert syslog.daemon.stop() == 0


# --- configuration and life -----------------------------------------------------------------------


def test_a_port_that_is_taken_is_told_and_served_once_it_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        with serving(f'tcp = "127.0.0.1:{port}"', ports=False) as syslog:
            syslog.port = port
            wait_until("the reason", lambda: "syslog-port" in syslog.codes())
            syslog.datagrams([b"<13>meanwhile"])
            syslog.taken(1)
            taken.close()
            wait_until("the port", lambda: "syslog-port" not in syslog.codes())
            with syslog.stream() as end:
                end.sendall(b"<13>by port\n")
            assert messages(syslog.events(2)) == ["meanwhile", "by port"]
            assert syslog.daemon.stop() == 0


def test_what_was_sent_is_settled_before_the_daemon_ends() -> None:
    with serving() as syslog:
        sent = [b"<13>%d" % number for number in range(2000)]
        syslog.datagrams(sent)
        with syslog.stream() as end:
            end.sendall(b"<13>line\n" * 1000)
            assert syslog.daemon.stop() == 0
        found = syslog.daemon.start().certeus("tail", "-n", "10000").stdout.splitlines()
        assert len(found) == 3000
        assert syslog.daemon.stop() == 0


def test_a_reload_costs_nothing(syslog: Syslog) -> None:
    config = syslog.daemon.config_path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.connect(str(syslog.path))
        for number in range(3000):
            end.send(b"<13>%d" % number)
            if number % 1000 == 500:
                text = config.read_text().replace('type = "t"\n', "")
                config.write_text(f'{text}type = "t"\n' if number < 1000 else text)
                syslog.daemon.certeus("reload")
    found = syslog.events(3000)
    assert messages(found) == [str(number) for number in range(3000)]
    assert {event["type"] for event in found} == {"syslog", "t"}
