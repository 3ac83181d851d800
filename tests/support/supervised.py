"""A supervisor over fake children in a process of its own, and what is asked of it."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from certeusd.control.client import ControlClient, Json
from certeusd.exits import ExitError

TESTS = Path(__file__).parents[1]
PATIENCE_S = 30.0


class Daemon:
    """A running supervisor in a process of its own, asked by its control API."""

    def __init__(
        self,
        directory: Path,
        workers: int = 2,
        cpu: str = "pin = 'off'",
        worker: str = "",
        *,
        api: bool = False,
    ) -> None:
        self.directory = directory
        self._api = api
        self.config = str(directory / "certeus.toml")
        self.configure(worker or f"count = {workers}", cpu)
        self.client = ControlClient(directory / "run" / "control.sock")
        self.process = self.start()

    def configure(self, worker: str, cpu: str = "pin = 'off'") -> None:
        Path(self.config).write_text(
            f"[worker]\n{worker}\n[cpu]\n{cpu}\n"
            "[postgres]\ndsn = 'postgresql://u:geheim@127.0.0.1:1/none'\n"
            f"[api]\nenabled = {str(self._api).lower()}\n"
            "[supervisor]\ndrain_timeout_ms = 200\nstop_timeout_ms = 200\n"
        )

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "support.fake_service", str(self.directory), self.config],
            cwd=TESTS,
            stderr=subprocess.PIPE,
            text=True,
        )

    def status(self) -> Json:
        return self.client.get("/v1/status")

    def reports(self) -> dict[str, Json]:
        return cast(dict[str, Json], self.status()["reports"])

    def pid(self, name: str) -> int:
        return cast(int, self.reports()[name]["pid"])

    def until(self, true: Callable[["Daemon"], object]) -> None:
        """Ask again and again, within patience."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                if true(self):
                    return
            except (ExitError, KeyError):
                assert self.process.poll() is None, "the daemon is gone"
            assert time.monotonic() < end, self.status()
            select.select([], [], [], 0.01)

    def until_joined(self, workers: int = 2) -> None:
        """Everybody is there, and each worker has had its pair."""
        names = [f"worker-{at}" for at in range(workers)]
        self.until(
            lambda daemon: (
                all(daemon.reports()[name]["attached"] for name in names)
                and len(cast(list[int], daemon.reports()["log-0"]["attached"])) >= workers
                and daemon.reports()["flush-0"]
            )
        )

    def kill(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGKILL)

    def end(self) -> str:
        self.process.kill()
        return self.process.communicate()[1]
