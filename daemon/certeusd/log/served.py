"""Which log is served from a state directory: `log.id` beside the log's own directory.

The log may have a disk of its own, and that may not be mounted. An empty directory, or another log
in it, is then not taken for the beginning: what was acknowledged is elsewhere. Written once a log
is there; a state directory without the file (new, restored, of an older version) serves what it
finds.
"""

import uuid
from pathlib import Path

from certeusd.log import whole_file

FILE = "log.id"


def read(state_dir: Path) -> uuid.UUID | None:
    """Return which log it is, by the name in its segments; `None`: nothing was served yet.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no log's name in it.
    """
    path = state_dir / FILE
    try:
        return uuid.UUID(path.read_text().strip())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}; put it back, or remove it") from error


def write(state_dir: Path, segments_uuid: uuid.UUID) -> None:
    """Note which log is served; durable when this returns.

    Raises:
        OSError: the disk does not take it.
    """
    whole_file.replace(state_dir / FILE, f"{segments_uuid}\n")
