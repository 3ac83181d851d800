"""Every listening socket, bound in one place: systemd's where it has one, else ours."""

import contextlib
import os
import socket
from pathlib import Path
from typing import NamedTuple

from certeusd import doors, ports, systemd
from certeusd.channel import Role
from certeusd.config import Config, SyslogSection
from certeusd.control.exposed import address
from certeusd.control.server import SOCKET_MODE
from certeusd.logs import Logger
from certeusd.paths import Paths
from certeusd.supervisor import listeners


class Sockets(NamedTuple):
    """What the daemon listens on."""

    ingest: list[socket.socket]
    """One for each `[[ingest]]`, then one for each door's own producers."""
    control: socket.socket
    doors: dict[Role, list[socket.socket]]
    """Where each door's clients come."""


class Binder:
    """Binds for one life of the daemon; `owned` closes, and removes what is ours."""

    def __init__(self, paths: Paths, owned: contextlib.ExitStack, logger: Logger) -> None:
        self._paths = paths
        self._owned = owned
        self._logger = logger
        self._given = listeners.Given(systemd.listening())

    def bind(self, config: Config) -> Sockets:
        """Bind all of them.

        Raises:
            ExitError: 78, a path is too long, or systemd has a socket of another kind there.
        """
        runtime_dir = self._paths.runtime_dir
        self._owned.callback(_remove_if_empty, runtime_dir / doors.DIRECTORY)
        ingest = [
            self._listen(runtime_dir / one.path, socket.SOCK_SEQPACKET, one.mode)
            for one in (*config.ingest, *doors.private_listeners(config, os.geteuid()))
        ]
        control = self._listen(self._paths.control_socket, socket.SOCK_STREAM, SOCKET_MODE)
        group = config.control.group
        if control.bound and not listeners.give_to_group(self._paths.control_socket, group):
            self._logger.warning("control_group_not_given", group=group)
        of_doors: dict[Role, list[socket.socket]] = {}
        if config.api.enabled:
            end = self._listen(runtime_dir / config.api.path, socket.SOCK_STREAM, config.api.mode)
            of_doors["api"] = [end.socket]
        if config.syslog.enabled:
            of_doors["syslog"] = self._syslog(config.syslog)
        if config.journal.enabled:
            of_doors["journal"] = []
        for path in self._given.close():
            self._logger.warning(
                "socket_not_used", path=path,
                next="systemd listens there: give it an [[ingest]], or take it out of the unit",
            )  # fmt: skip
        return Sockets([end.socket for end in ingest], control.socket, of_doors)

    def _syslog(self, syslog: SyslogSection) -> list[socket.socket]:
        """Bind what syslog's door reads: ours, so that its death costs nothing of what waits."""
        path = self._paths.runtime_dir / syslog.path
        end = self._listen(path, socket.SOCK_DGRAM, syslog.mode).socket
        listeners.tell_senders(end)
        ends = [end]
        for listen, kind in (
            (syslog.udp, socket.SOCK_DGRAM), (syslog.tcp, socket.SOCK_STREAM),
        ):  # fmt: skip
            if (at := address(listen)) is None:
                continue
            with contextlib.suppress(OSError):  # The door tries again, and tells.
                port = self._given.take_port(at, kind) or ports.bind(at, kind)
                ends.append(self._owned.enter_context(port))
        return ends

    def _listen(self, path: Path, kind: socket.SocketKind, mode: int) -> "_End":
        """Take the socket that systemd has there, or make one and its end ours."""
        end = self._given.take(path, kind)
        if end is not None:
            return _End(self._owned.enter_context(end), bound=False)
        end = listeners.bind(path, kind, mode)
        self._owned.callback(path.unlink, missing_ok=True)
        return _End(self._owned.enter_context(end), bound=True)


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


class _End(NamedTuple):
    socket: socket.socket
    bound: bool
    """By us, now."""
