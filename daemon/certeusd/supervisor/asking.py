"""A question to a worker. It has at most one: a stopped worker must not find a queue of them.

A full channel would be its death (`Child.send`), and a worker must never wait for us to read. So
who asks again before the answer has come is told that there is none yet.
"""

import asyncio

from certeusd.channel import AskSessions, Sessions
from certeusd.supervisor.child import Child


class Asking:
    """The question that one worker has, over all its lives."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[Sessions | None] | None = None

    def ask(self, child: Child, first: int) -> "asyncio.Future[Sessions | None] | None":
        """Ask for the sessions from a place on.

        Returns:
            The answer to come, `None` in it if the child dies first; no future: it owes one still.
        """
        if self._answer is not None or not child.send(AskSessions(first)):
            return None
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    def answered(self, message: Sessions | None) -> None:
        """Take the answer, or with `None` the child's death."""
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(message)
