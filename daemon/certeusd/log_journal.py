r"""The journal's native protocol: a record is one datagram of fields, and sending never waits.

```text
NAME=value\n                                          a value without line breaks
NAME\n <length, 64 bits, little-endian> value \n      any value
```

A record that no datagram holds is written to a memfd, sealed, and its descriptor sent alone. The
socket is not connected: a journal that was started again is found by its path.

Source: systemd, docs/JOURNAL_NATIVE_PROTOCOL.md and src/libsystemd/sd-journal/journal-send.c.
"""

import array
import errno
import fcntl
import functools
import os
import re
import socket
from collections.abc import Iterable

NAME_LENGTH_MAX = 64
SEND_BUFFER_BYTES = 8 << 20
"""As libsystemd asks for; the kernel gives what `net.core.wmem_max` allows."""
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
"""All of them, or the journal would have to copy what may change while it reads."""

_NOT_IN_A_NAME = re.compile("[^A-Z0-9_]")


@functools.lru_cache(maxsize=1024)
def field_name(key: str) -> str:
    """Return the nearest name that the journal takes: capitals, digits, `_`; a letter first."""
    name = _NOT_IN_A_NAME.sub("_", key.upper()).lstrip("_")
    if not name or name[0].isdigit():
        name = f"FIELD_{name}"
    return name[:NAME_LENGTH_MAX]


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    r"""Return the record of these fields. Names are valid; a name may come twice.

    What is not UTF-8 (lone surrogates) stays readable as `\udc80`.
    """
    parts = list[bytes]()
    for name, text in fields:
        if "\n" in text:
            value = text.encode(errors="backslashreplace")
            parts.append(b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value))
        else:
            parts.append(f"{name}={text}\n".encode(errors="backslashreplace"))
    return b"".join(parts)


class Journal:
    """A socket to the journal at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def close(self) -> None:
        """End it; the journal is not told."""
        self._socket.close()

    def send_nowait(self, record: bytes) -> bool:
        """Send one record.

        Returns:
            Whether the journal had room for it.

        Raises:
            OSError: no journal can be reached, or no memory is left for a large record.
        """
        try:
            self._socket.sendto(record, self._path)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return self._send_large(record)
            return _is_sent(error)
        return True

    def _send_large(self, record: bytes) -> bool:
        descriptor = os.memfd_create("certeus-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(descriptor, "wb", buffering=0, closefd=False) as file:
                assert file.write(record) == len(record), "a memfd takes all of it"
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            self._socket.sendmsg([], [rights], 0, self._path)
        except OSError as error:
            return _is_sent(error)
        finally:
            os.close(descriptor)
        return True


def _is_sent(error: OSError) -> bool:
    """False when the journal is there and full; else the error goes on."""
    if error.errno in (errno.EAGAIN, errno.ENOBUFS):
        return False
    raise error
