"""The loopback port of `api.listen`: bound here, and tried again for as long as it is taken.

A port that somebody else has is a reason in the status; the Unix socket is not touched by it.
Every web page of a browser on this host can reach a loopback port, so a request must look like
none of a page's (`check_site`), and have the key.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from multidict import CIMultiDictProxy

from certeusd.api.listening import Acceptor, Admit
from certeusd.api.problems import ProblemError
from certeusd.control.exposed import Address
from certeusd.door_process import DoorProcess

AGAIN_S = 3.0
"""Between two attempts to bind."""
BACKLOG = 1024
REASON = "api-port"
SAME_SITE = ("same-origin", "none")


class Port:
    """Serves the port while `run` runs."""

    def __init__(self, at: Address, admit: Admit, process: DoorProcess) -> None:
        self._at = at
        self._admit = admit
        self._process = process

    async def run(self) -> None:
        """Bind, however long that takes, and accept until it is cancelled."""
        with contextlib.closing(await self._bound()) as listener:
            acceptor = Acceptor(listener, self._admit, self._process.logger)
            acceptor.start()
            self._process.logger.info("api_port_served", address=self._at.host, port=self._at.port)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                acceptor.stop()

    async def _bound(self) -> socket.socket:
        while True:
            try:
                listener = _listening(self._at)
            except OSError as error:
                self._process.tell(
                    REASON, f"cannot serve {self._process.config.api.listen}: {error.strerror}",
                    "free the port, or set api.listen to another one, and reload",
                )  # fmt: skip
                await asyncio.sleep(AGAIN_S)
            else:
                self._process.tell(REASON, "")
                return listener


def _listening(at: Address) -> socket.socket:
    with contextlib.ExitStack() as undo:
        end = undo.enter_context(socket.socket(at.family, socket.SOCK_STREAM))
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.setblocking(False)
        end.bind((at.host, at.port))
        end.listen(BACKLOG)
        undo.pop_all()
        return end


def check_site(headers: CIMultiDictProxy[str]) -> None:
    """Refuse what a page of another site had a browser send.

    A name that somebody points at this host (DNS rebinding) is in `Host`; another site is in
    `Origin`, and in `Sec-Fetch-Site` where there is no `Origin`.

    Raises:
        ProblemError: 403.
    """
    hosts = headers.getall("Host", [])
    if len(hosts) != 1 or not _is_loopback(hosts[0]):
        raise _cross_site("Host is no name or address of this host's loopback")
    if any(origin.lower() != f"http://{hosts[0]}".lower() for origin in _all(headers, "Origin")):
        raise _cross_site("Origin is another site")
    if any(site.lower() not in SAME_SITE for site in _all(headers, "Sec-Fetch-Site")):
        raise _cross_site("Sec-Fetch-Site says that another site asks")


def _all(headers: CIMultiDictProxy[str], name: str) -> Sequence[str]:
    return headers.getall(name, [])


def _cross_site(why: str) -> ProblemError:
    return ProblemError(
        403, "cross-site", "not from here",
        f"{why}: ask 127.0.0.1, [::1] or localhost, and from no page of another site",
    )  # fmt: skip


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
