"""The side of a measurement that appends to certeus: one producer process.

    python -m certeus_bench.ledger.program SOCKET SOURCE --bytes 200 --batch 512

As fast as back-pressure lets it, in lists of ``--batch``; with ``--batch 1`` one event at a time,
each until it is durable; with ``--rate``, on a clock, whatever became of the events before. It ends
after its time, or after ``--events``, when the last one is durable. Lists are of encoded JSON, of
``dicts`` that certeus encodes, or of events with an explicit id each (``ids``), as ``--of`` says.
"""

import argparse
import json
import time
from collections.abc import Sequence

import certeus
from certeus.event import Data
from certeus_bench.peers import producing
from certeus_bench.rows import make_rows

TYPE = "reading"
SETTLE_TIMEOUT_S = 120.0
TICK_S = 0.001
"""How often a paced producer appends what has become due."""


class Pouring:
    """Appends lists without waiting for them, and counts what has become durable meanwhile."""

    def __init__(self, producer: certeus.Producer, tally: producing.Tally) -> None:
        self._producer = producer
        self._tally = tally
        self._looked_ns = tally.counted_from_ns
        self._last = 0
        self.appended = 0

    def append(self, rows: Sequence[Data | certeus.Event]) -> None:
        """Hand over one list."""
        self._last = self._producer.append_many(TYPE, rows)
        self.appended += len(rows)
        self._look(self._producer.statistics().settled)

    def finish(self) -> None:
        """Wait until the last one is durable."""
        if self._last:
            self._producer.wait_durable(self._last, timeout=SETTLE_TIMEOUT_S)
        self._look(self.appended)

    def _look(self, settled: int) -> None:
        if settled > self._tally.acknowledged:
            self._tally.add(settled - self._tally.acknowledged, self._looked_ns)
        self._looked_ns = time.monotonic_ns()


def one_by_one(options: argparse.Namespace, producer: certeus.Producer) -> None:
    """Wait for each event."""

    def send(rows: list[bytes]) -> None:
        ticket = producer.append(TYPE, rows[0])
        producer.wait_durable(ticket, timeout=SETTLE_TIMEOUT_S)

    producing.produce(options, lambda _, row: row, send)


def pour(options: argparse.Namespace, producer: certeus.Producer) -> None:
    """Wait for nothing but room."""
    rows = make_rows(options.bytes, options.seed)
    items: list[Data] = [json.loads(row) for row in rows] if options.of == "dicts" else [*rows]
    cycle = producing.batches(items, options.batch)
    ids = options.of == "ids"
    tally = producing.begin(options)
    pouring = Pouring(producer, tally)
    while pouring.appended < options.events if options.events else tally.goes_on():
        batch = next(cycle)
        pouring.append(with_ids(batch, options.seed, pouring.appended) if ids else batch)
    pouring.finish()
    producing.finish(tally, rows)


def with_ids(batch: list[Data], seed: int, first: int) -> list[certeus.Event]:
    """The same as events, each with an id of 36 bytes that there was not before."""
    return [
        certeus.Event(data, id=f"{seed:04d}-{first + at:031d}") for at, data in enumerate(batch)
    ]


def pace(options: argparse.Namespace, producer: certeus.Producer) -> None:
    """Append at every tick what is due by then: event n at n / rate, whatever became of others."""
    rows = make_rows(options.bytes, options.seed)
    tally = producing.begin(options)
    pouring = Pouring(producer, tally)
    begin_ns = tally.counted_from_ns - round(options.warmup_seconds * 1e9)
    while tally.goes_on():
        due = int((time.monotonic_ns() - begin_ns) * options.rate / 1e9) - pouring.appended
        if due > 0:
            first = pouring.appended % len(rows)
            pouring.append(rows[first : first + due])
        else:
            time.sleep(TICK_S)
    pouring.finish()
    producing.finish(tally, rows)


def main() -> None:
    """Connect, append, tell."""
    parser = producing.parser(__doc__)
    parser.add_argument("socket")
    parser.add_argument("source")
    parser.add_argument("--events", type=int, default=0, help="end after so many")
    parser.add_argument("--of", choices=["bytes", "dicts", "ids"], default="bytes")
    parser.add_argument("--rate", type=float, default=0.0, help="events a second, on a clock")
    options = parser.parse_args()
    with certeus.connect(options.socket, source=options.source) as producer:
        if options.rate:
            pace(options, producer)
        elif options.batch == 1:
            one_by_one(options, producer)
        else:
            pour(options, producer)


if __name__ == "__main__":
    main()
