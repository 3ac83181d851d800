"""Appends to one Redis stream, a pipeline of XADD at a time; or reads it all.

    python -m certeus_bench.peers.programs.redis_log SOCKET STREAM --batch 8192

A pipeline is one MULTI, so that it is synced as one.
"""

from collections.abc import Iterator
from importlib import import_module

from certeus_bench.peers import producing

FIELD = b"d"
READ_COUNT = 10_000


def main() -> None:
    """A reply to XADD comes after the sync of the file that holds it (``appendfsync always``)."""
    parser = producing.parser(__doc__)
    parser.add_argument("socket")
    parser.add_argument("stream")
    options = parser.parse_args()
    client = import_module("redis").Redis(unix_socket_path=options.socket)
    client.ping()

    def send(batch: list[dict[bytes, bytes]]) -> None:
        pipeline = client.pipeline(transaction=True)
        for fields in batch:
            pipeline.xadd(options.stream, fields)
        pipeline.execute()

    def send_one(batch: list[dict[bytes, bytes]]) -> None:
        client.xadd(options.stream, batch[0])

    def payloads() -> Iterator[bytes]:
        after = b"-"
        while entries := client.xrange(options.stream, after, b"+", READ_COUNT):
            for _, fields in entries:
                yield fields[FIELD]
            after = b"(" + entries[-1][0]

    if options.read:
        producing.read_back(payloads())
    else:
        one_by_one = options.batch == 1
        producing.produce(options, lambda _, row: {FIELD: row}, send_one if one_by_one else send)


if __name__ == "__main__":
    main()
