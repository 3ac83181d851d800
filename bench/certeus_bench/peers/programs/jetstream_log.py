"""Publishes to one JetStream stream with a window of outstanding acknowledgements; or reads it all.

python -m certeus_bench.peers.programs.jetstream_log URL STREAM --batch 256
"""

import argparse
import asyncio
import time
from importlib import import_module

from certeus_bench.peers import producing
from certeus_bench.rows import make_rows

FETCH_COUNT = 2000
FETCH_TIMEOUT_S = 30.0


async def publish(options: argparse.Namespace) -> None:
    """Offer rows, at most ``--batch`` of them without their acknowledgement."""
    connection = await import_module("nats").connect(options.url)
    stream = connection.jetstream(publish_async_max_pending=options.batch)
    rows = make_rows(options.bytes, options.seed)
    cycle = producing.batches(rows, 1)
    tally = producing.begin(options)
    failures: list[BaseException] = []

    def acknowledged(ack: asyncio.Future[object]) -> None:
        if error := ack.exception():
            failures.append(error)
        tally.add(1, time.monotonic_ns())

    while tally.goes_on() and not failures:
        ack = await stream.publish_async(options.stream, next(cycle)[0])
        ack.add_done_callback(acknowledged)
    await stream.publish_async_completed()
    await asyncio.sleep(0)  # callbacks of the last one
    if failures:
        raise failures[0]
    producing.finish(tally, rows)
    await connection.close()


async def publish_one_by_one(options: argparse.Namespace) -> None:
    """Offer a row when the one before is acknowledged."""
    connection = await import_module("nats").connect(options.url)
    stream = connection.jetstream()
    rows = make_rows(options.bytes, options.seed)
    cycle = producing.batches(rows, 1)
    tally = producing.begin(options)
    while tally.goes_on():
        row = next(cycle)[0]
        begin_ns = time.monotonic_ns()
        await stream.publish(options.stream, row)
        tally.add_timed(begin_ns)
    producing.finish(tally, rows)
    await connection.close()


async def read(options: argparse.Namespace) -> None:
    """Fetch what the stream holds, from its first message to its last."""
    connection = await import_module("nats").connect(options.url)
    stream = connection.jetstream()
    held = (await stream.stream_info(options.stream)).state.messages
    policy = import_module("nats.js.api").AckPolicy.NONE
    config = import_module("nats.js.api").ConsumerConfig(ack_policy=policy)
    reader = await stream.pull_subscribe(options.stream, stream=options.stream, config=config)
    payloads: list[bytes] = []
    while len(payloads) < held:
        messages = await reader.fetch(FETCH_COUNT, timeout=FETCH_TIMEOUT_S)
        payloads += [message.data for message in messages]
    producing.read_back(payloads)
    await connection.close()


async def make(options: argparse.Namespace) -> None:
    """The stream: one copy, on the disk."""
    connection = await import_module("nats").connect(options.url)
    storage = import_module("nats.js.api").StorageType.FILE
    stream = connection.jetstream()
    await stream.add_stream(name=options.stream, subjects=[options.stream], storage=storage)
    await connection.close()


def main() -> None:
    """Publish, unless told to read or to make the stream."""
    parser = producing.parser(__doc__)
    parser.add_argument("url")
    parser.add_argument("stream")
    parser.add_argument("--make", action="store_true", help="make the stream instead")
    options = parser.parse_args()
    run = import_module("uvloop").run
    if options.make:
        run(make(options))
        print("null")
    elif options.read:
        run(read(options))
    elif options.batch == 1:
        run(publish_one_by_one(options))
    else:
        run(publish(options))


if __name__ == "__main__":
    main()
