"""What the API and the command line tell of followers, and why one is not let go of.

Both say the same: the daemon asks with its own durable seq, the command line alone reads the log.
"""

from pathlib import Path

from certeusd.control.types import SCHEMA_VERSION, FollowerRow, Followers, rfc3339
from certeusd.log import followers
from certeusd.log.followers import Follower


class RefusedError(Exception):
    """A follower is not let go of; nothing was done, unless the disk failed."""

    def __init__(self, status: int, kind: str, title: str, what: str) -> None:
        super().__init__(what)
        self.status, self.kind, self.title = status, kind, title


def seen(log_dir: Path, followers_dir: Path, durable_seq: int | None) -> Followers:
    """Look at every follower; without `durable_seq`, the log's own last number counts.

    Raises:
        OSError, ValueError: log or positions cannot be read.
    """
    segments = followers.begins(log_dir)
    last = followers.last_seq(log_dir, segments) if durable_seq is None else durable_seq
    rows = [row(one) for one in followers.listed(followers_dir, segments, last)]
    return Followers(SCHEMA_VERSION, last, rows)


def row(one: Follower) -> FollowerRow:
    """Render one follower."""
    return FollowerRow(
        name=one.name,
        required=one.required,
        state=one.state,
        seq=one.seq,
        group=one.group,
        lag_events=one.lag_events,
        lag_bytes=one.lag_bytes,
        confirmed_at=None if one.confirmed_at is None else rfc3339(one.confirmed_at),
        holds_back=one.holds_back,
    )


def forget(followers_dir: Path, name: str) -> None:
    """Let go of a follower.

    Raises:
        RefusedError: it is required, not there, or the disk refuses.
    """
    try:
        followers.forget(followers_dir, name)
    except followers.RequiredError:
        raise RefusedError(
            409, "follower-required", "the follower is required",
            f"cannot forget {name}: what it has not confirmed is nowhere but in the log, and would"
            " be lost; bring the server back, or point postgres.dsn at another one: that gets what"
            " the log still holds, and for the rest the log stops as `behind-log` until"
            " `certeus gap accept`",
        ) from None  # fmt: skip
    except FileNotFoundError:
        raise RefusedError(
            404, "no-follower", "no such follower",
            f"cannot forget {name}: there is no such follower; `certeus followers` lists them",
        ) from None  # fmt: skip
    except OSError as error:
        raise RefusedError(
            503, "position-file", "the disk refuses",
            f"cannot forget {name}: {error.strerror}; look at {followers_dir} and its disk, and try"
            " again",
        ) from error  # fmt: skip
