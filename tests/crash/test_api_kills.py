"""A kill of any process under load through the api loses nothing that it acknowledged."""

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_client import EVENTS, NDJSON, Api
from support.daemon import Daemon, running
from support.waiting import until_each_has

pytestmark = pytest.mark.crash

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
CLIENTS, BATCH, WAIT_S = 3, 50, 90.0


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with running(AWAY, doors=["api"]) as daemon:
        yield daemon


class Client(threading.Thread):
    """Appends batches by number; a batch without an answer is sent again, with the same ids."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(name=name)
        self._api = Api(path)
        self._wanted = threading.Event()
        self.acknowledged = 0
        """Events, without a hole."""

    def run(self) -> None:
        while not self._wanted.is_set():
            if self._append(self.acknowledged):
                self.acknowledged += BATCH

    def _append(self, first: int) -> bool:
        rows = [
            {"specversion": "1.0", "id": str(n), "source": self.name, "type": "t", "data": n}
            for n in range(first, first + BATCH)
        ]
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        try:
            answer = self._api.post(body, NDJSON)
        except (OSError, http.client.HTTPException):
            return False
        assert answer.status in (200, 503, 504), answer.body
        return answer.status == 200

    def end(self) -> None:
        self._wanted.set()
        self.join(WAIT_S)
        assert not self.is_alive()


@pytest.mark.parametrize("role", ["api", "worker", "log", "flush", "supervisor"])
def test_what_was_acknowledged_is_there_once_and_in_order(daemon: Daemon, role: str) -> None:
    path = daemon.runtime_dir / "api.sock"
    clients = [Client(path, f"client-{at}") for at in range(CLIENTS)]
    for client in clients:
        client.start()

    def acknowledged() -> list[int]:
        return [client.acknowledged for client in clients]

    for _ in range(4):
        until_each_has(acknowledged, 4 * BATCH, WAIT_S)
        daemon.kill_next(role)
    until_each_has(acknowledged, BATCH, WAIT_S)
    for client in clients:
        client.end()
    for client in clients:
        found = [
            one["data"]
            for one in Api(path).get(f"{EVENTS}?source={client.name}&limit=100000").lines
        ]
        # The last batch may be there without its answer having come.
        assert found == list(range(len(found)))
        assert client.acknowledged <= len(found) <= client.acknowledged + BATCH
    assert daemon.stop() == 0
