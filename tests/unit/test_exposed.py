"""`/metrics` outside of the control socket: the loopback port, the text file."""

import asyncio
import contextlib
import http.client
import os
import resource
import socket
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from certeusd import logs
from certeusd.config import MetricsSection
from certeusd.control import exposed
from certeusd.control.exposed import Address, Exposed, Port, address, write
from support.as_user import as_user
from support.ports import free_port, refuses
from support.waiting import wait_until

TEXT = "certeus_durable_seq 1\n"


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:9464", "127.0.0.1", 9464),
        ("[::1]:1", "::1", 1),
        ("127.9.9.9:80", "127.9.9.9", 80),
    ],
)
def test_loopback_addresses_are_taken(listen: str, host: str, port: int) -> None:
    assert address(listen) == Address(host, port)
    assert address("") is None


@pytest.mark.parametrize(
    "listen",
    ["0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464", "localhost:9464", "127.0.0.1", "127.0.0.1:0",
     "127.0.0.1:65536", "::1:9464", "[127.0.0.1]:9464", ":9464", "127.0.0.1:http", "127.1:80"],
)  # fmt: skip
def test_any_other_address_is_refused_and_told_what_to_write(listen: str) -> None:
    with pytest.raises(ValueError, match=r'write "127\.0\.0\.1:9464"'):
        address(listen)


def asked(port: int, method: str = "GET", path: str = "/metrics") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def answers(port: int) -> bool:
    try:
        return asked(port)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def while_serving(render: Callable[[], str], look: Callable[[int], None]) -> None:
    """Run `look` in a thread while a port is served."""

    async def serve() -> None:
        port, at = Port(render), Address("127.0.0.1", free_port())
        await port.start(at)
        try:
            await asyncio.to_thread(look, at.port)
        finally:
            await port.stop()

    uvloop.run(serve())


def test_the_port_gives_the_metrics_and_nothing_else() -> None:
    def look(port: int) -> None:
        assert asked(port) == (200, exposed.CONTENT_TYPE, TEXT)
        assert asked(port, "POST")[0] == 405
        assert asked(port, path="/v1/status")[0] == 404
        assert asked(port, "POST", "/v1/drain")[0] == 404

    while_serving(lambda: TEXT, look)


def test_whoever_asks_again_at_once_gets_the_text_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exposed, "FRESH_S", 3600.0)
    rendered = list[int]()

    def render() -> str:
        rendered.append(1)
        return TEXT

    def look(port: int) -> None:
        for _ in range(20):
            assert asked(port)[2] == TEXT

    while_serving(render, look)
    assert len(rendered) == 1


def test_connections_too_many_are_refused_and_room_is_had_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def look(port: int) -> None:
        held = [
            socket.create_connection(("127.0.0.1", port)) for _ in range(exposed.CONNECTIONS_MAX)
        ]
        for end in held:  # Each is answered: so all of them are taken before the next one comes.
            end.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert end.recv(12) == b"HTTP/1.1 200"
        with pytest.raises((OSError, http.client.HTTPException)):
            asked(port)
        for end in held:
            end.close()
        wait_until("room for another", lambda: answers(port))
        with socket.create_connection(("127.0.0.1", port)) as end:
            end.sendall(b"GET / HTTP/9.9\r\n\r\n")
            assert b"400" in end.recv(100)

    while_serving(lambda: TEXT, look)
    assert not caplog.records, "nobody fills the journal by it"


def test_who_keeps_a_connection_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposed, "CONNECTION_S_MAX", 0.1)

    def look(port: int) -> None:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as end,
            contextlib.suppress(ConnectionResetError),
        ):
            assert end.recv(1) == b""

    while_serving(lambda: TEXT, look)


# --- the text file ----------------------------------------------------------------------------


def test_a_text_file_is_replaced_whole_and_everybody_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "certeus.prom"
    before = os.umask(0o077)
    try:
        write(path, TEXT)
        with path.open() as reading:
            write(path, TEXT * 2)
            assert reading.read() == TEXT, "who reads has the old one"
    finally:
        os.umask(before)
    assert path.read_text() == TEXT * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["certeus.prom"]


def test_a_link_that_somebody_put_there_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".certeus.prom.new").symlink_to(victim)
    (tmp_path / "certeus.prom").symlink_to(victim)
    write(tmp_path / "certeus.prom", TEXT)
    assert victim.read_text() == "precious"
    assert (tmp_path / "certeus.prom").read_text() == TEXT


def test_a_write_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "certeus.prom"
    path.mkdir()
    (path / "in the way").touch()
    with pytest.raises(OSError, match="directory"):
        write(path, TEXT)
    assert [one.name for one in tmp_path.iterdir()] == ["certeus.prom"]


def test_a_disk_without_room_leaves_the_text_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "certeus.prom"
    write(path, TEXT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(TEXT), hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(path, TEXT * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == TEXT
    assert [one.name for one in tmp_path.iterdir()] == ["certeus.prom"]


# --- both, as they are configured -------------------------------------------------------------


class Told:
    """The reasons as they are now, and a signal when one changes."""

    def __init__(self) -> None:
        self.active = dict[str, str]()

    def tell(self, code: str, what: str, next: str, now: float) -> None:
        self.active.pop(code, None)
        if what:
            self.active[code] = f"{what}; {next}"


def with_exposed(section: MetricsSection, look: Callable[[Exposed, Told], Awaitable[None]]) -> None:
    async def serve() -> None:
        told = Told()
        one = Exposed(section, lambda: TEXT, told.tell, logs.configure("supervisor"))
        running = asyncio.create_task(one.run())
        try:
            await look(one, told)
        finally:
            running.cancel()
            await asyncio.wait({running})
        assert running.cancelled()

    asyncio.run(serve())


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, "what was configured", condition)


def test_nothing_is_served_and_nothing_written_unless_it_is_configured() -> None:
    async def look(one: Exposed, told: Told) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        assert told.active == {}

    with_exposed(MetricsSection(), look)


def test_another_configuration_holds_at_once_and_what_was_is_gone(tmp_path: Path) -> None:
    first, second, port = tmp_path / "a.prom", tmp_path / "b.prom", free_port()

    async def look(one: Exposed, told: Told) -> None:
        await until(first.exists)
        one.configure(MetricsSection(listen=f"127.0.0.1:{port}", textfile=str(second)))
        await until(second.exists)
        assert not first.exists()
        assert (await asyncio.to_thread(asked, port))[0] == 200
        one.configure(MetricsSection(textfile=str(second)))
        await until(lambda: refuses(port))
        assert told.active == {}

    with_exposed(MetricsSection(textfile=str(first), textfile_interval_ms=3_600_000), look)
    assert list(tmp_path.iterdir()) == [], "an end leaves nothing behind"


def test_a_port_that_is_taken_is_a_reason_until_it_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exposed, "AGAIN_S", 0.01)
    other = socket.create_server(("127.0.0.1", 0))
    port = other.getsockname()[1]

    async def look(one: Exposed, told: Told) -> None:
        await until(lambda: exposed.PORT_REASON in told.active)
        assert "Address already in use" in told.active[exposed.PORT_REASON]
        assert "set metrics.listen to another one" in told.active[exposed.PORT_REASON]
        other.close()
        await until(lambda: not told.active)
        assert (await asyncio.to_thread(asked, port))[0] == 200

    with_exposed(MetricsSection(listen=f"127.0.0.1:{port}"), look)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user: needs root")
def test_a_directory_that_may_not_be_written_is_told_with_its_drop_in(tmp_path: Path) -> None:
    def fails() -> str:
        try:
            write(tmp_path / "certeus.prom", TEXT)
        except OSError as error:
            return type(error).__name__
        return "written"

    assert as_user(65533, 65533, fails) == "PermissionError"

    async def look(one: Exposed, told: Told) -> None:
        await until(lambda: exposed.TEXTFILE_REASON in told.active)
        assert f"ReadWritePaths={tmp_path / 'none'}" in told.active[exposed.TEXTFILE_REASON]
        (tmp_path / "none").mkdir()
        await until(lambda: not told.active)

    path = str(tmp_path / "none" / "certeus.prom")
    with_exposed(MetricsSection(textfile=path, textfile_interval_ms=100), look)


def test_a_text_file_whose_write_hangs_does_not_come_back_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, free = tmp_path / "certeus.prom", threading.Event()
    monkeypatch.setattr(exposed, "WRITE_TIMEOUT_S", 0.05)

    def hang(at: Path, text: str) -> None:
        free.wait(60)
        write(at, text)

    monkeypatch.setattr(exposed, "write", hang)

    async def look(one: Exposed, told: Told) -> None:
        await until(lambda: "has not answered" in told.active.get("metrics-textfile", ""))
        asyncio.get_running_loop().call_later(0.1, free.set)

    with_exposed(MetricsSection(textfile=str(path)), look)
    assert not path.exists()


def test_a_measurement_that_fails_ends_nothing(tmp_path: Path) -> None:
    path, broken = tmp_path / "certeus.prom", [True]

    def render() -> str:
        if broken:
            raise RuntimeError("a measurement")
        return TEXT

    async def serve() -> None:
        section = MetricsSection(textfile=str(path), textfile_interval_ms=100)
        with capture_logs() as lines:
            one = Exposed(section, render, Told().tell, logs.get_logger())
            running = asyncio.create_task(one.run())
            await until(lambda: lines)
            broken.clear()
            await until(path.exists)
            running.cancel()
            await asyncio.wait({running})
        assert [line["event"] for line in lines] == ["metrics_not_exposed"]

    asyncio.run(serve())
