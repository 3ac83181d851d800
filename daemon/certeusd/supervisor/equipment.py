"""What children get: made once by the supervisor, kept over all their lives."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from certeusd.board import Board
from certeusd.channel import Role
from certeusd.config import Config
from certeusd.paths import Paths
from certeusd.supervisor.pinning import Placement


class Equipment(NamedTuple):
    """What children get: made once by the supervisor, kept over all their lives."""

    config: Config
    paths: Paths
    placement: Placement
    board: Board
    board_fd: int
    follower_bell: int
    listeners: Sequence[int]
    """One for each `[[ingest]]` and each door, in order."""
    doors: Mapping[Role, Sequence[int]]
    """What each door listens on."""
    postgres_dsn: str
    api_key: str | None
    command: Callable[[Role], Sequence[str]]
