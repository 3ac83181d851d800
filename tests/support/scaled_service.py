"""A real certeusd whose number of workers a file says: `scaled_service.py CONFIG STATE RUN FILE`.

No machine of few CPUs would ever have more than one. Without the file the rule decides, in a hurry
and with bounds as on sixteen CPUs. A file `dying` beside it is for worker 1 (`dying_worker.py`).
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from certeusd import config_sources, logs
from certeusd.channel import Role
from certeusd.config import WorkerSection
from certeusd.paths import Paths
from certeusd.supervisor import scaling
from certeusd.supervisor.child import default_command
from certeusd.supervisor.scaling import Bounds, Change, Load, Rule, Scaling
from certeusd.supervisor.supervisor import Settings, Supervisor

CPU_COUNT = 16
WORKER = Path(__file__).with_name("dying_worker.py")
HASTY = Rule(
    busy_percent=8.0, busy_s=1.0, idle_percent=3.0, idle_s=1.0, rest_before_more_s=1.0,
    rest_before_fewer_s=1.0,
)  # fmt: skip


class Ordered(Scaling):
    """Follows a file."""

    def __init__(self, file: Path) -> None:
        super().__init__(HASTY)
        self._file = file

    def bounds(self, section: WorkerSection, cpu_count: int) -> Bounds:
        return scaling.bounds(section, CPU_COUNT)

    def decide(self, current: int, bounds: Bounds, load: Load, now: float) -> Change | None:
        try:
            wanted = int(self._file.read_text())
        except (FileNotFoundError, ValueError):  # Not there, or just being written.
            return super().decide(current, bounds, load, now)
        return Change(wanted, "the test orders it") if wanted != current else None


async def serve(chosen: Settings, level: str = "debug") -> None:
    supervisor = Supervisor(chosen, logs.configure("supervisor", level=level))
    try:
        supervisor.start()
        await supervisor.run()
    finally:
        supervisor.close()


def command_with(dying: Path) -> Callable[[Role], Sequence[str]]:
    def command(role: Role) -> Sequence[str]:
        if role != "worker":
            return default_command(role)
        return [sys.executable, "-P", str(WORKER), str(dying), f"certeusd.{role}"]

    return command


if __name__ == "__main__":
    config, state, run, file = sys.argv[1:]
    uvloop.run(
        serve(
            Settings(
                config_sources.load(config), Paths(Path(state), Path(run)), config,
                command=command_with(Path(file).with_name("dying")),
                policy=lambda: Ordered(Path(file)),
            ),
            level="info",
        )
    )  # fmt: skip
