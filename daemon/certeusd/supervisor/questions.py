"""Questions to a child that has to do something before it can answer: asked, answered, or given up.

A child that dies answers nobody, so its questions end with it; one that is slow is waited for no
longer than `ANSWER_WITHIN_S`, and what it says later is thrown away. Until it does it owes that
answer: no more than `OPEN_MAX` questions are ever in its channel, which must not run full.
"""

import asyncio
import os
from collections.abc import Callable

import msgspec

from certeusd.channel import Answer, AskLetters
from certeusd.letters import NoAnswerError

ANSWER_WITHIN_S = 12.0
OPEN_MAX = 4
"""Each takes a connection and a page of memory in the child."""
_LATER = "the delivery goes on, see `certeus status`; try again"


class Questions:
    """The open questions to one slot's child."""

    def __init__(self) -> None:
        self._open: dict[int, asyncio.Future[bytes]] = {}
        self._asked = 0

    async def ask(
        self, send: Callable[[AskLetters], bool], ask: AskLetters, within_s: float = ANSWER_WITHIN_S
    ) -> bytes:
        """Ask, and return the JSON of the answer.

        Raises:
            NoAnswerError: there is no child, it does not answer in time, or it says why it cannot.
        """
        if len(self._open) >= OPEN_MAX:
            raise NoAnswerError("busy", f"{OPEN_MAX} such questions are open; {_LATER} later")
        self._asked += 1
        number = self._asked
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        if not send(msgspec.structs.replace(ask, number=number)):
            del self._open[number]
            raise NoAnswerError(
                "no-flusher", "there is no flusher now: it is being started again, or paused"
                " (certeus flush resume); try again",
            )  # fmt: skip
        try:
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError:
            raise NoAnswerError(
                "no-answer", f"the flusher has not answered for {within_s:g} s; what was under way"
                f" is done whole or not at all; {_LATER}",
            ) from None  # fmt: skip

    def answered(self, answer: Answer, descriptors: list[int]) -> None:
        """Take an answer; descriptors are lent for the call."""
        waiting = self._open.pop(answer.number, None)
        if waiting is None or waiting.done():
            return
        if answer.problem or not descriptors:
            waiting.set_exception(NoAnswerError(answer.problem or "no-answer", answer.detail))
            return
        content = descriptors[0]
        waiting.set_result(os.pread(content, os.fstat(content).st_size, 0))

    def forget(self) -> None:
        """The child is gone: so are its answers."""
        what = "the flusher ended meanwhile; what was under way is done whole or not at all"
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(NoAnswerError("no-flusher", f"{what}; {_LATER}"))
        self._open.clear()
