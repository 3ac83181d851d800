"""What `load` and `stress` are asked in common, and what they do with it."""

import secrets
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console

from certeus_bench import harness, keys
from certeus_bench.harness import HarnessError
from certeus_bench.homes import fresh_home, place_for_homes
from certeus_bench.load import outcome
from certeus_bench.load.generator import Shape
from certeus_bench.load.outcome import Settings
from certeus_bench.load.profile import Profile
from certeus_bench.load.sampling import Target
from certeus_bench.peers.running import PeerError
from certeus_bench.results import Result
from certeusd.control.client import ControlClient
from certeusd.exits import Exit, ExitError

WIDTH_OF_FILES = 240
SEEDS = 1 << 16


class Place(NamedTuple):
    """A certeusd to load, and an empty directory for the length of it."""

    target: Target
    home: Path


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options, by their names on the command line."""

    workers: int
    profile: Profile
    event_bytes: int
    seed: int | None
    config: Path | None
    socket: Path | None
    directory: Path
    out: Path
    key: Path | None

    def shape(self) -> Shape:
        """What is offered; without a seed, one by chance."""
        return Shape(
            workers=self.workers,
            profile=self.profile,
            event_bytes=self.event_bytes,
            seed=secrets.randbelow(SEEDS) if self.seed is None else self.seed,
        )

    @contextmanager
    def place(self, told: Console) -> Generator[Place, None, None]:
        """A certeusd of our own, in an empty directory, or the running one that was named."""
        where, moved = place_for_homes(self.directory)
        if moved:
            told.print(f"  {moved}")
        try:
            with fresh_home(where) as home:
                if self.socket is not None:
                    control = ControlClient(self.socket.with_name("control.sock"))
                    yield Place(Target(str(self.socket), control), home)
                    return
                with harness.started(home, config=self.config) as daemon:
                    daemon.dsn()  # the database is there before anything is measured
                    control = ControlClient(daemon.runtime_dir / "control.sock")
                    yield Place(Target(daemon.socket, control), home)
        except (HarnessError, PeerError) as error:
            raise ExitError(Exit.FAILED, str(error)) from error

    def settings(self, shape: Shape) -> Settings:
        """Of each result."""
        told: Settings = {
            "producers": shape.workers, "profile": shape.profile.value, "seed": shape.seed,
        }  # fmt: skip
        if shape.profile is not Profile.MIXED:
            told["bytes"] = shape.event_bytes
        if self.config is not None:
            told["configuration"] = self.config.name
        return told

    def write(self, mode: str, started_at: str, results: Sequence[Result]) -> tuple[Path, Path]:
        """The results as evidence and as a page, signed if there is a key."""
        key = None if self.key is None else keys.load(self.key)
        done = outcome.run(started_at, self.directory, {"mode": mode}, results)
        return outcome.write(self.out, mode, done, key)


def console() -> Console:
    """Where the end is told: what is read by a program is not cut."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
