"""The children: who runs, who is joined to whom, who is started again when.

```text
 worker i ready ─┐
                 ├─▶ a new pair: Attach to both       worker dies:     Detach to the log writer
 log ready ──────┘                                    log writer dies: Detach to every worker
```

A pair lives exactly as long as both its ends. What it held when one died is forgotten, because the
client's own ring still has it. Nothing here waits: all is a callback of a channel, a pidfd or a
timer.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence

import msgspec

from certeusd.board import BOARD_BYTES
from certeusd.channel import (
    Answer,
    Attach,
    ChannelError,
    Detach,
    Drain,
    Level,
    Message,
    Progress,
    Ready,
    Report,
    Role,
    Sessions,
    Share,
    Start,
    State,
)
from certeusd.config import Config
from certeusd.exits import Exit
from certeusd.logs import Logger
from certeusd.supervisor import memory
from certeusd.supervisor.child import Child, spawn
from certeusd.supervisor.equipment import Equipment
from certeusd.supervisor.levels import Levels
from certeusd.supervisor.questions import Questions
from certeusd.supervisor.slot import Slot, after_death_of
from certeusd.supervisor.state import Reasons

FORGIVEN_AFTER_S = 60.0
END_GRACE_S = 5.0
RESTART_TIMEOUT_S = 60.0
RESTART_LOOK_S = 0.2
DOOR_GAUGES = ("connections", "subscribers", "producers")
GAUGES: dict[Role, tuple[str, ...]] = {
    "worker": ("sessions", "ring_bytes", "in_flight", "active_sessions", "heartbeat_ns"),
    "log": (),
    "flush": ("connected", "breaker_state", "breaker_failures"),
    "api": DOOR_GAUGES,
    "syslog": DOOR_GAUGES,
    "journal": DOOR_GAUGES,
}
"""Words of the board that end with the life of who wrote them."""
FLUSHER_REPORTS = ("breaker", "gap")
"""What holds only while the flusher lives."""
LAST_WORDS = ("log-failed", "log-read-only")
"""Reasons that a child tells as it ends: they stay until a later life makes progress."""
PAIR_PAGES_BYTES = 4 * 4096
"""Words of the two rings of a pair, beside their data (`daemon/src/envelope.rs`)."""


class Fleet:
    """All children of one supervisor."""

    def __init__(
        self,
        equipment: Equipment,
        reasons: Reasons,
        logger: Logger,
        changed: Callable[[], None],
    ) -> None:
        placement = equipment.placement
        self.log = Slot("log", 0, placement.log)
        self.flush = Slot("flush", 0, placement.flush)
        self.places: list[Slot] = []
        """Of every worker that there ever was; those above `workers` end, or have ended."""
        self.doors = [Slot(role, 0, None) for role in equipment.doors]
        self._number = 0
        self.reports: dict[str, dict[str, object]] = {}
        self.questions = Questions()
        """To the flusher."""
        self.draining = False
        self._equipment = equipment
        for _ in range(placement.workers):
            self._next_place()
        self._reasons = reasons
        self._logger = logger
        self._changed = changed
        self._pairs: set[int] = set()
        self.levels = Levels(equipment.config.logging.level, self._send_level)
        self._loop = asyncio.get_running_loop()

    @property
    def workers(self) -> list[Slot]:
        """Of the workers that there are to be."""
        return self.places[: self._number]

    @property
    def slots(self) -> list[Slot]:
        """Every slot, the log writer first."""
        return [self.log, *self.places, self.flush, *self.doors]

    @property
    def wanted(self) -> list[Slot]:
        """Every slot but those of workers that are not to be any more."""
        return [self.log, *self.workers, self.flush, *self.doors]

    def of(self, role: Role) -> list[Slot]:
        """Every slot of a role, of those that are wanted."""
        return [slot for slot in self.wanted if slot.role == role]

    def start(self) -> None:
        """Start every child."""
        for slot in self.slots:
            self._spawn(slot)

    def _spawn(self, slot: Slot) -> None:
        if slot.timer is not None:
            slot.timer.cancel()
            slot.timer = None
        if self.draining or slot.held or slot.child is not None:
            return
        equipment = self._equipment
        try:
            child = spawn(
                self._loop, slot.role, slot.index, equipment.command(slot.role),
                lambda child: self._on_packet(slot, child),
            )  # fmt: skip
        except OSError as error:
            self._logger.error("child_not_spawned", child=slot.name, error=str(error))
            self._again(slot, f"{slot.name} cannot be started: {error}")
            return
        slot.child, slot.limits = child, equipment.config.supervisor
        child.exited.add_done_callback(lambda future: self._on_exit(slot, child, future.result()))
        child.send(self._start_message(slot), self._start_descriptors(slot.role))
        if not slot.backoff.crash_loop:
            self._logger.info("child_spawned", child=slot.name, pid=child.pid, cpu=slot.cpu)
        self._changed()

    def _start_message(self, slot: Slot) -> Start:
        equipment = self._equipment
        worker = msgspec.structs.replace(equipment.config.worker, count=self._number)
        return Start(
            role=slot.role,
            index=slot.index,
            config=msgspec.structs.replace(equipment.config, worker=worker),
            state_dir=str(equipment.paths.state_dir),
            runtime_dir=str(equipment.paths.runtime_dir),
            log_level=self.levels.of(slot.role),
            board_bytes=BOARD_BYTES,
            postgres_dsn=equipment.postgres_dsn if slot.role == "flush" else None,
            api_key=equipment.api_key if slot.role == "api" else None,
        )

    def _start_descriptors(self, role: Role) -> list[int]:
        equipment = self._equipment
        if role == "worker":
            return [equipment.board_fd, *equipment.listeners]
        if role in equipment.doors:
            return [equipment.board_fd, *equipment.doors[role]]
        return [equipment.board_fd, equipment.follower_bell]

    def _send_level(self, role: Role, level: str) -> None:
        for slot in self.slots:
            if slot.role == role and slot.child is not None:
                slot.child.send(Level(level))

    # --- what children say -------------------------------------------------------------------

    def _on_packet(self, slot: Slot, child: Child) -> None:
        try:
            while True:
                packet = child.channel.receive()
                if packet is None:
                    # Its end of the channel is closed: it is ending, or it is no use. An exit
                    # under way must not be made a kill.
                    self._loop.remove_reader(child.channel.fileno())
                    self._loop.call_later(END_GRACE_S, child.kill)
                    return
                message, descriptors = packet
                if isinstance(message, Answer):
                    self.questions.answered(message, descriptors)
                for descriptor in descriptors:  # Else children have nothing to hand over.
                    os.close(descriptor)
                self._on_message(slot, child, message)
        except BlockingIOError:
            return
        except ChannelError as error:
            self._logger.error("child_message_malformed", child=child.name, error=str(error))
            child.kill()

    def _on_message(self, slot: Slot, child: Child, message: Message) -> None:
        if isinstance(message, Ready):
            child.ready = True
            slot.up.set()
            if slot.role == "worker":
                # The others leave clients to who gives signs of life: from now on, not before.
                self._equipment.board.set("worker", "heartbeat_ns", time.monotonic_ns(), slot.index)
            self._pin(slot, child)
            self._reasons.remove(slot.name, "restarting")
            self._logger.info("child_ready", child=slot.name, pid=child.pid)
            self._join_all()
        elif isinstance(message, Progress):
            self._progressed(slot)
        elif isinstance(message, State):
            self._on_reason(slot, message)
        elif isinstance(message, Report):
            self.reports[message.kind] = message.data
        elif isinstance(message, Sessions):
            slot.asking.answered(message)
            return
        elif isinstance(message, Answer):
            return
        else:
            self._logger.error("child_message_unexpected", child=slot.name, kind=str(message))
            child.kill()
        self._changed()

    def _pin(self, slot: Slot, child: Child) -> None:
        """Give a child's main thread its CPU; threads that it has by now stay on the rest."""
        if slot.cpu is None:
            return
        try:
            child.pin(slot.cpu)
        except ProcessLookupError:
            return  # It is dead already: its pidfd tells.
        except OSError as error:
            # A cpuset may shrink while we run: not pinned is slower, and no reason to stop.
            tell = {"child": slot.name, "cpu": slot.cpu, "error": str(error)}
            self._logger.warning("child_not_pinned", **tell)
            slot.cpu = None

    def _progressed(self, slot: Slot) -> None:
        slot.backoff.progress()
        self._reasons.forget(after_death_of(slot))
        if self._reasons.remove("supervisor", f"crash-loop-{slot.name}"):
            self._logger.info("crash_loop_left", child=slot.name)

    def forgive(self, now: float) -> None:
        """Count a minute at work as progress: an idle service must not stay a crash loop.

        Args:
            now: monotonic seconds.
        """
        for slot in self.slots:
            since = slot.child.spawned_monotonic if slot.child and slot.child.ready else now
            told = slot.backoff.crash_loop or self._reasons.told_by(after_death_of(slot))
            if told and now - since >= FORGIVEN_AFTER_S:
                self._progressed(slot)

    def _on_reason(self, slot: Slot, state: State) -> None:
        if state.active:
            owner = after_death_of(slot) if state.code in LAST_WORDS else slot.name
            new = self._reasons.add(owner, state.code, state.what, state.next, time.time())
            if new:
                self._logger.warning("reason_entered", code=state.code, what=state.what)
        elif self._reasons.remove(slot.name, state.code):
            self._logger.info("reason_left", code=state.code)

    # --- pairs -------------------------------------------------------------------------------

    def _join_all(self) -> None:
        if not self.log.ready:
            return
        # Who drains has to settle what it holds, too.
        for slot in self.places:
            if slot.ready and slot.index not in self._pairs:
                self._join(slot)

    def _join(self, slot: Slot) -> None:
        worker, log = slot.child, self.log.child
        assert worker is not None, "a ready slot has a child"
        assert log is not None, "a ready slot has a child"
        sizes = self._equipment.config.worker
        attach = Attach(slot.index, sizes.forward_bytes, sizes.return_bytes)
        made: list[int] = []
        try:
            size = PAIR_PAGES_BYTES + sizes.forward_bytes + sizes.return_bytes
            made.append(memory.shared_memory(size))
            made += [memory.bell(), memory.bell()]
            self._pairs.add(slot.index)
            # The log writer first, so that it is there when the worker's first frame comes.
            log.send(attach, made)
            worker.send(attach, made)
        except OSError as error:
            self._logger.error("pair_not_made", worker=slot.index, error=str(error))
            worker.kill()
        finally:
            for descriptor in made:
                os.close(descriptor)
        self._logger.debug("pair_made", worker=slot.index)

    def _part(self, slot: Slot) -> None:
        """Tell the surviving end of each pair that `slot`'s child had."""
        if slot.role == "worker" and slot.index in self._pairs:
            self._pairs.discard(slot.index)
            if self.log.child is not None:
                self.log.child.send(Detach(slot.index))
        elif slot.role == "log":
            for worker in self.places:
                if worker.index in self._pairs and worker.child is not None:
                    worker.child.send(Detach(worker.index))
            self._pairs.clear()

    # --- deaths ------------------------------------------------------------------------------

    def _on_exit(self, slot: Slot, child: Child, code: int) -> None:
        assert slot.child is child, "a slot has one life at a time"
        self._on_packet(slot, child)  # Its last words, Progress among them.
        self._loop.remove_reader(child.channel.fileno())
        child.channel.close()
        slot.child = None
        slot.ended_cpu_seconds += child.ended_cpu_seconds
        slot.up.clear()
        slot.asking.answered(None)
        slot.measured = (0.0, 0)
        self._reasons.forget(slot.name)
        if slot.role == "flush":
            self.questions.forget()
            for kind in FLUSHER_REPORTS:
                self.reports.pop(kind, None)
        for gauge in GAUGES[slot.role]:
            self._equipment.board.set(slot.role, gauge, 0, slot.index)
        self._part(slot)
        if self.draining or slot.ordered or slot.held:
            slot.ordered = False
            self._logger.info("child_stopped", child=slot.name, code=code)
            self._spawn(slot)
            self._changed()
            return
        # One line an edge: in a crash loop the deaths are counted, not told one by one.
        tell = self._logger.debug if slot.backoff.crash_loop else self._logger.warning
        tell("child_died", child=slot.name, pid=child.pid, code=code)
        self._again(slot, f"{slot.name} {ending(code)}")
        self._changed()

    def _again(self, slot: Slot, what: str) -> None:
        delay_s = slot.backoff.died()
        if slot.backoff.crash_loop:
            lives = slot.backoff.lives_without_progress
            new = self._reasons.add(
                "supervisor", f"crash-loop-{slot.name}",
                f"{what}, {lives} times without progress",
                f"look in the log (journalctl -u certeus) for what {slot.name} said", time.time(),
            )  # fmt: skip
            if new:
                self._logger.error("crash_loop_entered", child=slot.name, lives=lives, what=what)
        else:
            self._reasons.add(slot.name, "restarting", what, "", time.time())
        slot.timer = self._loop.call_later(delay_s, self._spawn, slot)

    # --- another configuration ---------------------------------------------------------------

    def configure(self, config: Config, postgres_dsn: str, api_key: str | None) -> None:
        """Give children that start from now on another configuration."""
        self._equipment = self._equipment._replace(
            config=config, postgres_dsn=postgres_dsn, api_key=api_key
        )
        self.levels.configure(config.logging.level)

    async def restart(self, slot: Slot) -> None:
        """End a child in order and have the next one ready.

        Raises:
            TimeoutError: the next one is not; it is tried again as after any death.
        """
        if slot.held:
            return
        if slot.child is not None:
            slot.ordered = True
            await self._stop([slot], slot.ends_within_s)
        await self.wait_until_ready(slot)

    async def wait_until_ready(self, slot: Slot) -> None:
        """Return when its child does its work, or it is not to have one.

        Raises:
            TimeoutError: neither is so yet.
        """
        async with asyncio.timeout(RESTART_TIMEOUT_S):
            while not (slot.ready or slot.held or self.draining):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(slot.up.wait(), RESTART_LOOK_S)

    async def hold(self, slot: Slot) -> None:
        """End a child in order, and start no other before `release`."""
        slot.held, slot.ordered = True, slot.child is not None
        if slot.timer is not None:
            slot.timer.cancel()
        await self._stop([slot], slot.ends_within_s)

    def release(self, slot: Slot) -> bool:
        """Start the child of a slot that is held; False: it is not."""
        if not slot.held:
            return False
        slot.held = False
        self._spawn(slot)
        return True

    # --- another number of workers --------------------------------------------------------------

    def _next_place(self) -> Slot:
        """Want the worker behind the last one: in a new place, or in the one it had before."""
        if self._number == len(self.places):
            cpus = self._equipment.placement.worker
            cpu = cpus[self._number] if self._number < len(cpus) else None
            self.places.append(Slot("worker", self._number, cpu))
        self._number += 1
        return self.places[self._number - 1]

    def add_worker(self) -> Slot:
        """Start one worker more; it takes new clients as soon as it is ready."""
        slot = self._next_place()
        if not self.release(slot):
            self._spawn(slot)
        return slot

    async def retire_worker(self) -> None:
        """End the last worker in order: its clients go to the others. No death is counted."""
        assert self._number > 1, "somebody serves"
        self._number -= 1
        slot = self.places[self._number]
        self.share()
        await self.hold(slot)
        self._progressed(slot)  # What was wrong with it is nobody's trouble any more.
        self._reasons.forget(slot.name)
        self._changed()

    def share(self) -> None:
        """Tell every worker how many of them share the clients."""
        for slot in self.workers:
            if slot.child is not None:
                slot.child.send(Share(self._number))

    # --- the end -----------------------------------------------------------------------------

    async def drain(self) -> None:
        """Doors, workers, the log writer (seal, sync), the flusher; PostgreSQL never."""
        self.draining = True
        for slot in self.slots:
            if slot.timer is not None:
                slot.timer.cancel()
        for slots in (self.doors, self.places):
            await self._stop(slots, max((slot.ends_within_s for slot in slots), default=0.0))
        await self._stop([self.log], self.log.ends_within_s)
        await self._stop([self.flush], self.flush.ends_within_s)

    async def _stop(self, slots: Sequence[Slot], timeout_s: float) -> None:
        children = [slot.child for slot in slots if slot.child is not None]
        if not children:
            return
        for child in children:
            child.send(Drain())
        exits = {child.exited for child in children}
        _, late = await asyncio.wait(exits, timeout=timeout_s)
        if late:
            for child in children:
                if child.exited in late:
                    self._logger.error("child_killed", child=child.name, timeout_s=timeout_s)
                    child.kill()
            await asyncio.wait(late)

    def kill_all(self) -> None:
        """SIGKILL to every child: the way out of our own bugs."""
        self.draining = True
        for slot in self.slots:
            if slot.child is not None:
                slot.child.kill()

    def measure(self) -> None:
        """Measure every child with psutil."""
        for slot in self.slots:
            if slot.child is not None:
                slot.measured = slot.child.measure()


def ending(code: int) -> str:
    """Say how a process ended."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    known: dict[int, str] = {Exit.LOG_FAILED: " (a write or sync of the log failed)"}
    return f"ended with exit code {code}{known.get(code, '')}"
