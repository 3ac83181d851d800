"""A place for a child: what is kept of it over all its lives."""

import asyncio

from certeusd.channel import Role
from certeusd.config import SupervisorSection
from certeusd.doors import DOORS
from certeusd.supervisor.asking import Asking
from certeusd.supervisor.backoff import Backoff
from certeusd.supervisor.child import Child, name_of


class Slot:
    """A place for a child, over all its lives."""

    def __init__(self, role: Role, index: int, cpu: int | None) -> None:
        self.role: Role = role
        self.index = index
        self.cpu = cpu
        self.child: Child | None = None
        self.limits = SupervisorSection()
        """What its child was started with."""
        self.backoff = Backoff()
        self.timer: asyncio.TimerHandle | None = None
        self.asking = Asking()
        self.up = asyncio.Event()
        """While it has a child that does its work."""
        self.held = False
        """Whether it is to have no child until an admin says so."""
        self.ordered = False
        """Whether its child was told to end so that another one begins."""
        self.measured: tuple[float, int] = (0.0, 0)
        """CPU percent, resident bytes."""
        self.ended_cpu_seconds = 0.0
        """Processor time of the lives that have ended."""

    @property
    def name(self) -> str:
        """`log`, `flush`, `worker-0`, ..."""
        return name_of(self.role, self.index)

    @property
    def ends_within_s(self) -> float:
        """How long its child may take to end in order."""
        if self.role == "worker" or self.role in DOORS:
            # It keeps to `drain_timeout_ms` itself; the rest is for saying so.
            return self.limits.drain_timeout_ms / 1000 + 1.0
        return self.limits.stop_timeout_ms / 1000

    @property
    def ready(self) -> bool:
        """Whether it has a life that does its work."""
        return self.child is not None and self.child.ready


def after_death_of(slot: Slot) -> str:
    """Owner of the reasons that outlive the life which told them."""
    return f"after-{slot.name}"
