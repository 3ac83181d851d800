"""Sockets that systemd listens on for us, and those that we make."""

import os
import socket
import stat
from pathlib import Path

import pytest

from certeusd import ports, systemd
from certeusd.control.exposed import Address
from certeusd.exits import Exit, ExitError
from certeusd.supervisor import listeners
from certeusd.supervisor.listeners import Given
from support.ports import free_port


def bound(path: Path, kind: socket.SocketKind) -> socket.socket:
    return listeners.bind(path, kind, 0o600)


def test_a_given_socket_is_found_by_its_path_and_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    end = bound(path, socket.SOCK_SEQPACKET)
    given = Given([end])
    assert given.take(tmp_path / "other.sock", socket.SOCK_SEQPACKET) is None
    assert given.take(path, socket.SOCK_SEQPACKET) is end
    assert given.take(path, socket.SOCK_SEQPACKET) is None
    assert given.close() == []
    end.close()


def test_a_given_socket_of_another_kind_is_told_with_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    with bound(path, socket.SOCK_STREAM) as end, pytest.raises(ExitError) as raised:
        Given([end]).take(path, socket.SOCK_SEQPACKET)
    assert raised.value.code is Exit.CONFIGURATION
    assert f"ListenSequentialPacket={path}" in str(raised.value)


def test_a_given_port_is_found_by_its_address_and_kind() -> None:
    with ports.bind(Address("127.0.0.1", free_port()), socket.SOCK_STREAM) as end:
        at = Address(*end.getsockname())
        given = Given([end])
        assert given.take_port(at, socket.SOCK_DGRAM) is None
        assert given.take_port(at, socket.SOCK_STREAM) is end
        assert given.take_port(at, socket.SOCK_STREAM) is None


def test_a_datagram_socket_of_ours_tells_who_sends(tmp_path: Path) -> None:
    with bound(tmp_path / "in.sock", socket.SOCK_DGRAM) as end:
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) == 1


def test_what_nobody_takes_is_closed_and_named(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    end = bound(path, socket.SOCK_STREAM)
    assert Given([end]).close() == [str(path)]
    assert end.fileno() == -1


def test_sockets_meant_for_another_process_are_not_ours() -> None:
    assert systemd.listening({}) == []
    assert systemd.listening({"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}) == []


def test_a_socket_of_ours_is_never_wider_than_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    with bound(path, socket.SOCK_STREAM):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
