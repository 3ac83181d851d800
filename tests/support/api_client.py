"""A plain HTTP client of the api, with nothing of ours in it."""

import http.client
import json
import subprocess
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.api_asking import Answer, UnixConnection

EVENTS = "/v1/ledger/events"
NDJSON = "application/x-ndjson"


class Api:
    """Asks the api at a Unix socket, a connection a request."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = UnixConnection(self.path, self._timeout_s)
        try:
            connection.request(method, target, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, target: str, **headers: str) -> Answer:
        return self.ask("GET", target, headers=headers)

    def post(
        self, body: bytes | Iterable[bytes], kind: str, query: str = "", **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", EVENTS + query, body, {"Content-Type": kind, **named})

    def lines(self, rows: Iterable[object], query: str = "?type=t") -> Answer:
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return self.post(body, NDJSON, query)

    @contextmanager
    def followed(self, query: str = "", **headers: str) -> Generator[Iterator[dict[str, str]]]:
        """The server-sent events of a subscription, as fields."""
        connection = UnixConnection(self.path, self._timeout_s)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(
                "GET", EVENTS + query, headers={"Accept": "text/event-stream", **named}
            )
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield _messages(answer)
        finally:
            connection.close()


def _messages(answer: http.client.HTTPResponse) -> Iterator[dict[str, str]]:
    fields = dict[str, str]()
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if not line:
            if fields:
                yield fields
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


def curl(path: Path, *arguments: str, stdin: bytes | None = None) -> Any:  # noqa: ANN401
    """The JSON that curl prints, typed as the documentation has it."""
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", str(path), *arguments],
        input=stdin, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)
