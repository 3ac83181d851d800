"""The side of a measurement that waits for each request: over HTTP, or through the ring.

    python -m certeus_bench.ledger.http_program SOCKET SOURCE --bytes 200 --batch 512 [--ring]

One request after the other on one connection, each with ``--batch`` events as NDJSON, until the
answer tells that all are durable. With ``--ring`` the same lists go through the library, which is
waited for in the same way: what HTTP costs beside it. Each event of a request has the request's
time.
"""

import http.client
import socket
import time

import certeus
from certeus_bench.peers import producing
from certeus_bench.rows import make_rows

TYPE = "reading"
TIMEOUT_S = 120.0


class Connection(http.client.HTTPConnection):
    """Over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


class OverHttp:
    """One connection; the next request waits for the answer to the one before."""

    def __init__(self, path: str, source: str) -> None:
        self._connection = Connection(path)
        self._target = f"/v1/ledger/events?type={TYPE}&source={source}"

    def send(self, rows: list[bytes]) -> None:
        headers = {"Content-Type": "application/x-ndjson"}
        self._connection.request("POST", self._target, b"\n".join(rows), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"cannot append: {answer.status} {body.decode()}")


class ThroughRing:
    """The library, waited for after each list."""

    def __init__(self, path: str, source: str) -> None:
        self._producer = certeus.connect(path, source=source)

    def send(self, rows: list[bytes]) -> None:
        last = self._producer.append_many(TYPE, rows)
        self._producer.wait_durable(last, timeout=TIMEOUT_S)


def main() -> None:
    """Connect, append, tell."""
    parser = producing.parser(__doc__)
    parser.add_argument("socket")
    parser.add_argument("source")
    parser.add_argument("--ring", action="store_true", help="through the library instead")
    options = parser.parse_args()
    way = (ThroughRing if options.ring else OverHttp)(options.socket, options.source)
    rows = make_rows(options.bytes, options.seed)
    cycle = producing.batches(rows, options.batch)
    tally = producing.begin(options)
    tally.events_each = options.batch
    while tally.goes_on():
        batch = next(cycle)
        begin_ns = time.monotonic_ns()
        way.send(batch)
        if begin_ns >= tally.counted_from_ns:
            tally.times_ns.append(time.monotonic_ns() - begin_ns)
            tally.add(len(batch), begin_ns)
        else:
            tally.acknowledged += len(batch)
    producing.finish(tally, rows)


if __name__ == "__main__":
    main()
