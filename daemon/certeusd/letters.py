"""Dead letters as they are shown, delivered again and dropped: what flusher, API and CLI say.

The flusher answers a page at a time, so that nothing here grows with the table: `next_seq` is where
to go on. Additive only, as all that the control API says.
"""

import msgspec

SCHEMA_VERSION = 1
PAGE_LETTERS_MAX = 1000


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `certeus.dead_letters`; what the producer did not give is None."""

    seq: int
    recorded_at: str
    """When it was logged."""
    at: str
    """When it was refused last."""
    tenant: str | None
    source: str | None
    id: str | None
    type: str | None
    sqlstate: str
    """The server's code for why."""
    reason: str
    """The server's words."""
    bytes: int
    """Of the logged record."""
    event: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    """If asked for: CloudEvents JSON, the data as they were logged; opaque data in base64."""


class Letters(msgspec.Struct, frozen=True, kw_only=True):
    """`certeus dead-letters ls`: one page, by `seq`."""

    schema_version: int = SCHEMA_VERSION
    dead_letters: list[Letter]
    """By `seq`."""
    next_seq: int | None
    """None: there are no more."""


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """`certeus dead-letters retry`: what became of one page."""

    schema_version: int = SCHEMA_VERSION
    delivered: int
    """They are rows of `certeus.events` now."""
    refused: int
    """Refused again: they stay, with the new reason."""
    next_seq: int | None
    """Where to go on; None: this was the last page."""


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """`certeus dead-letters drop`: what became of one page."""

    schema_version: int = SCHEMA_VERSION
    dropped: int
    """They are named in `certeus.gaps` now."""
    next_seq: int | None
    """Where to go on; None: this was the last page."""


class NoAnswerError(Exception):
    """Nothing was done that is not whole; `code` is a stable word, the text has the next step."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
