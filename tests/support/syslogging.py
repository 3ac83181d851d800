"""A certeusd with syslog's door, and who sends to it."""

import json
import socket
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from support.daemon import Daemon, running
from support.ports import free_port
from support.waiting import wait_until

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
WAIT_S = 90.0
DRAIN_S = 60


class Syslog:
    """The door of one daemon."""

    def __init__(self, daemon: Daemon, port: int) -> None:
        self.daemon = daemon
        self.port = port
        self.path = daemon.runtime_dir / "syslog.sock"

    @property
    def tcp_address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def metric(self, name: str) -> float:
        for line in self.daemon.text("/metrics").splitlines():
            if line.startswith(f'certeus_door_{name}{{door="syslog"}}'):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")

    def codes(self) -> list[str]:
        return [reason["code"] for reason in self.daemon.status()["reasons"]]

    def taken(self, count: int) -> None:
        """Wait until so many events were handed over, in all."""
        wait_until(f"{count} events", lambda: self.metric("events_total") >= count, WAIT_S)

    def events(self, count: int) -> list[dict[str, Any]]:
        """All events, once there are so many."""
        wait_until(
            f"{count} events",
            lambda: self.daemon.status()["durable_seq"] >= count,
            WAIT_S,
        )
        lines = self.daemon.certeus("tail", "-n", "1000000").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def datagrams(self, messages: Sequence[bytes]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.connect(str(self.path))
            for message in messages:
                end.send(message)

    def stream(self) -> socket.socket:
        return socket.create_connection(self.tcp_address, timeout=WAIT_S)

    def logger(self, *arguments: str) -> None:
        subprocess.run(["logger", *arguments], check=True, timeout=60)


@contextmanager
def serving(config: str = "", *, ports: bool = True) -> Generator[Syslog]:
    port = free_port()
    listening = f'udp = "127.0.0.1:{port}"\ntcp = "127.0.0.1:{port}"\n' if ports else ""
    with running(f"{AWAY}[syslog]\n{listening}{config}\n", doors=["syslog"]) as daemon:
        up = 'certeus_process_up{role="syslog",slot="0"} 1.0'
        wait_until("door", lambda: up in daemon.text("/metrics"), WAIT_S)
        yield Syslog(daemon, port)
