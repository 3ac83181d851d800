"""A kill of any process under load by the official exporter loses nothing that it was told of."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from support.api_client import EVENTS, Api
from support.daemon import Daemon, running
from support.ports import free_port
from support.waiting import until_each_has

pytestmark = pytest.mark.crash

KEY = "a-key-of-this-port"
CLIENTS, BATCH, WAIT_S = 3, 50, 90.0


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Daemon]:
    key_file = tmp_path_factory.mktemp("key") / "key"
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    config = (
        '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
        f'[api]\nlisten = "127.0.0.1:{port}"\nkey_file = "{key_file}"\n'
    )
    with running(config, doors=["api"]) as daemon:
        yield daemon


class Client(threading.Thread):
    """Exports batches of numbers, each once: what the exporter sends again is its own affair."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(name=name)
        self._exporter: LogRecordExporter = OTLPLogExporter(
            endpoint=f"http://127.0.0.1:{port}/v1/logs",
            headers={"authorization": f"Bearer {KEY}"},
            compression=Compression.Gzip,
        )
        self._resource = Resource({"service.name": name})
        self._wanted = threading.Event()
        self.acknowledged = list[int]()

    def run(self) -> None:
        first = 0
        while not self._wanted.is_set():
            numbers = range(first, first + BATCH)
            batch = [ReadableLogRecord(LogRecord(body=n), self._resource) for n in numbers]
            if self._exporter.export(batch) is LogRecordExportResult.SUCCESS:
                self.acknowledged.extend(numbers)
            first += BATCH

    def end(self) -> None:
        self._wanted.set()
        self.join(WAIT_S)
        assert not self.is_alive()
        shut_down: Callable[[], object] = self._exporter.shutdown
        shut_down()


@pytest.mark.parametrize("role", ["api", "worker", "log", "flush", "supervisor"])
def test_each_record_of_a_successful_export_is_in_the_log(
    daemon: Daemon, port: int, role: str
) -> None:
    # The exporter logs each failed attempt; pytest has nothing to say of it.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    clients = [Client(port, f"client-{at}") for at in range(CLIENTS)]
    for client in clients:
        client.start()

    def acknowledged() -> list[int]:
        return [len(client.acknowledged) for client in clients]

    for _ in range(4):
        until_each_has(acknowledged, 4 * BATCH, WAIT_S)
        daemon.kill_next(role)
    until_each_has(acknowledged, BATCH, WAIT_S)
    for client in clients:
        client.end()
    api = Api(daemon.runtime_dir / "api.sock")
    for client in clients:
        rows = api.get(f"{EVENTS}?source={client.name}&limit=100000").lines
        found = [row["data"]["body"] for row in rows]
        assert set(client.acknowledged) <= set(found)
        # Doubles are possible; what is new comes in its order.
        firsts = list(dict.fromkeys(found))
        assert firsts == sorted(firsts)
    assert daemon.stop() == 0
