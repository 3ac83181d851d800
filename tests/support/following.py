"""One follower of a file, without a daemon: its lines have their verdicts at once."""

import json
from pathlib import Path

from certeusd.cli.pipe_file import Follower
from certeusd.cli.pipe_positions import PositionFile
from certeusd.cli.pipe_session import Manner

BASE = "app.log"


class World:
    """One follower of one file, whose lines get their verdicts at once."""

    def __init__(self, root: Path) -> None:
        self.path = root / BASE
        self.state = root / "state"
        self.now = 0.0
        self.told: list[str] = []
        self.start()

    def start(self) -> None:
        self.file = PositionFile(self.state)
        manner = Manner("t", "s", None, False)
        self.follower = Follower(
            str(self.path), self.file, manner, self.told.append, lambda: self.now
        )

    def restart(self) -> None:
        self.follower.close(clean=True)
        self.start()

    def restart_after_power_cut(self) -> None:
        self.follower.close(clean=False)
        kept = json.loads(self.state.read_bytes())
        self.state.write_text(json.dumps(kept | {"boot": "the one before"}))
        self.start()

    def lines(self) -> list[bytes | None]:
        """Read until there is nothing more."""
        found: list[bytes | None] = []
        while (piece := self.follower.step()) is not None:
            found += piece.chunk.cut.lines
            self.follower.before_offer(piece.reading)
            self.follower.settled(piece.reading.generation, piece.chunk.mark)
        return found

    def append(self, text: bytes, name: str = BASE) -> None:
        with self.path.with_name(name).open("ab") as file:
            file.write(text)
