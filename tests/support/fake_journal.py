"""A journal for tests: a real datagram socket, and a reader of the native protocol.

It is written from the protocol's description, not from our encoder, and refuses what journald
would throw away: a name that it does not take, a descriptor that is not sealed.
"""

import array
import fcntl
import os
import re
import socket
import struct
from pathlib import Path
from typing import Self

Fields = dict[str, bytes]

VALID_NAME = re.compile(rb"[A-Z0-9][A-Z0-9_]{0,63}")
ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
DATAGRAM_BYTES_MAX = 16 << 20


class FakeJournal:
    """Bound to `path` for the length of a block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.large = 0
        """Records that came by a descriptor."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        self._socket.bind(str(self.path))
        self._socket.settimeout(30.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def vanish(self) -> None:
        """As a journal that is being replaced: nobody listens at the path."""
        self.__exit__()

    def receive(self) -> Fields:
        """The next record."""
        space = socket.CMSG_SPACE(array.array("i").itemsize)
        data, rights, flags, _ = self._socket.recvmsg(DATAGRAM_BYTES_MAX, space)
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        if not rights:
            return parse(data)
        assert data == b""
        (descriptor,) = array.array("i", rights[0][2])
        with open(descriptor, "rb") as file:
            assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) == ALL_SEALS
            self.large += 1
            return parse(os.pread(descriptor, os.fstat(file.fileno()).st_size, 0))

    def receive_all(self) -> list[Fields]:
        """What has come by now."""
        found = list[Fields]()
        self._socket.setblocking(False)
        try:
            while True:
                found.append(self.receive())
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(30.0)


def parse(record: bytes) -> Fields:
    """The fields of a record; it fails where journald would skip a field."""
    fields: Fields = {}
    while record:
        line, newline, rest = record.partition(b"\n")
        assert newline, f"no line break behind {line!r}"
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert len(value) == length
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert VALID_NAME.fullmatch(name), name
        assert name.decode() not in fields, f"{name!r} came twice"
        fields[name.decode()] = value
        record = rest
    return fields
