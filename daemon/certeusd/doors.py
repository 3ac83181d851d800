"""The doors: processes that take events in formats that programs speak already.

A door is a `Producer` and nothing else: it has a session with a worker as an application has, with
the same verdicts and the same back-pressure, and no other way to the log. Its session comes through
a private socket (`<runtime-dir>/doors/`, which only the daemon's own user can enter), and so gets
the tenant that the door's own section says, never one that an event claims. Which sources a peer
may claim the door decides, since only the door knows its peers.

Pure: what follows from a configuration. The supervisor binds and spawns, workers serve.
"""

from pathlib import Path

from certeusd.channel import Role
from certeusd.config import Config, IngestSection

DOORS: tuple[Role, ...] = ("api", "syslog", "journal")
"""Roles, and names of their sections."""
DIRECTORY = "doors"
PRIVATE_MODE = 0o600


def enabled(config: Config) -> tuple[Role, ...]:
    """Return the doors that this configuration opens."""
    return tuple(name for name in DOORS if getattr(config, name).enabled)


def private_path(runtime_dir: Path, name: Role) -> Path:
    """Where a door's own producers say hello."""
    return runtime_dir / DIRECTORY / f"{name}.sock"


def private_listeners(config: Config, uid: int) -> tuple[IngestSection, ...]:
    """Return the private socket of each door, as workers serve it; `uid` is the daemon's."""
    return tuple(
        IngestSection(
            path=f"{DIRECTORY}/{name}.sock",
            mode=PRIVATE_MODE,
            tenant=getattr(config, name).tenant,
            uids=(uid,),
        )
        for name in enabled(config)
    )
