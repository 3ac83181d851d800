"""Writes RFC 5424 messages to a stream socket, one a line, as fast as they are taken.

    python -m certeus_bench.peers.programs.syslog_lines SOCKET --batch 64

Nothing is acknowledged in this protocol: what is reported is what the socket has taken.
"""

import socket

from certeus_bench.peers import producing

# Facility local0, severity info; PROCID is the event's number, MSGID its producer's.
HEADER = "<134>1 - localhost bench/{producer} {number} {producer} - "


def main() -> None:
    """Back-pressure is the socket's."""
    parser = producing.parser(__doc__)
    parser.add_argument("socket")
    options = parser.parse_args()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(options.socket)

    def prepare(number: int, row: bytes) -> bytes:
        return HEADER.format(producer=options.seed, number=number).encode() + row + b"\n"

    producing.produce(options, prepare, lambda lines: connection.sendall(b"".join(lines)))
    connection.close()


if __name__ == "__main__":
    main()
