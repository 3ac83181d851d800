"""Dead letters over the API: parameters checked, the flusher asked, its page of an answer told."""

from collections.abc import Mapping

from certeusd.channel import AskLetters
from certeusd.control.backend import Orders
from certeusd.letters import PAGE_LETTERS_MAX

SEQ_MAX = 2**63 - 1
LIMIT = 100
REASON_LENGTH_MAX = 200
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class ParameterError(Exception):
    """A parameter of a request is wrong."""


async def listed(orders: Orders, query: Mapping[str, str], _: int) -> bytes:
    """Return a page of dead letters, as JSON: `Letters`.

    The flusher's bytes are passed on as they are: an event may be as deep as `limits.depth_max`.

    Raises:
        ParameterError: a parameter is wrong; the text says which.
        NoAnswerError: there is no answer within a bounded time.
    """
    after_seq = _number(query, "after_seq", 0)
    limit = _number(query, "limit", LIMIT)
    reason, whole = query.get("reason", ""), query.get("whole", "false")
    if not 1 <= limit <= PAGE_LETTERS_MAX:
        raise ParameterError(f"limit is 1..{PAGE_LETTERS_MAX}")
    if len(reason) > REASON_LENGTH_MAX or "\0" in reason:
        raise ParameterError(f"reason is a text of at most {REASON_LENGTH_MAX} characters")
    if whole not in BOOLEANS:
        raise ParameterError("whole is true or false")
    first_seq = min(after_seq + 1, SEQ_MAX)
    ask = AskLetters(0, "list", first_seq, SEQ_MAX, limit, reason, BOOLEANS[whole])
    return await orders.ask_letters(ask)


async def retried(orders: Orders, query: Mapping[str, str], _: int) -> bytes:
    """Deliver a page of a range again: `Retried`; errors as with `listed`."""
    ask = AskLetters(0, "retry", *_range(query))
    return await orders.ask_letters(ask)


async def dropped(orders: Orders, query: Mapping[str, str], uid: int) -> bytes:
    """Drop a page of a range, by the word of a user: `Dropped`; errors as with `listed`."""
    ask = AskLetters(0, "drop", *_range(query), by=f"uid {uid}")
    return await orders.ask_letters(ask)


def _range(query: Mapping[str, str]) -> tuple[int, int]:
    """Return first and last seq; nothing is in a range that ends before it begins."""
    return _number(query, "first_seq"), _number(query, "last_seq")


def _number(query: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = query.get(name, "" if default is None else str(default))
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(SEQ_MAX))
    if not digits or (number := int(text)) > SEQ_MAX:
        raise ParameterError(f"{name} is a number")
    return number
