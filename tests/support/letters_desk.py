"""Questions about dead letters to a rig's log and a database, as the flusher answers them."""

import asyncio
import json
import os
from typing import Any

import asyncpg
import msgspec

from certeusd.board import Board
from certeusd.channel import Answer, AskLetters, Message
from certeusd.config import PostgresSection
from certeusd.flush.letter_orders import LetterOrders
from certeusd.flush.settings import Settings
from support.flushing import Rig, query, quiet_logger, wait_until

LAST = 2**63 - 1


class Desk:
    """Answers questions about a rig's dead letters, beside its flusher if it has one."""

    def __init__(self, rig: Rig, dsn: str, retention_days: int = 0) -> None:
        self.answers: dict[int, tuple[Answer, bytes]] = {}
        self.counts: list[int] = []
        self._asked = 0
        section = PostgresSection(retention_days=retention_days)
        given = Settings(dsn, section, rig.log_dir, rig.state_dir / "followers")
        self._orders = LetterOrders(
            given, Board(rig.board_fd), self._take, self.counts.append, quiet_logger()
        )

    def _take(self, message: Message, descriptors: list[int]) -> None:
        assert isinstance(message, Answer)
        content = b"".join(os.pread(fd, os.fstat(fd).st_size, 0) for fd in descriptors)
        self.answers[message.number] = message, content

    def put(self, ask: AskLetters) -> int:
        """Ask, without waiting."""
        self._asked += 1
        self._orders.take(msgspec.structs.replace(ask, number=self._asked))
        return self._asked

    async def had(self, number: int) -> tuple[Answer, bytes]:
        await wait_until(lambda: number in self.answers, "it is answered")
        return self.answers[number]

    async def ask(
        self, verb: str, first: int = 1, last: int = LAST, **more: object
    ) -> dict[str, Any]:
        """The JSON of an answer that must come."""
        answer, body = await self.had(self.put(question(verb, first, last, **more)))
        assert not answer.problem, answer
        told: dict[str, Any] = json.loads(body)
        return told

    async def refused(self, verb: str) -> Answer:
        """An answer that must not come."""
        answer, body = await self.had(self.put(question(verb)))
        assert answer.problem
        assert not body
        return answer


def question(verb: str, first: int = 1, last: int = LAST, **more: object) -> AskLetters:
    return AskLetters(0, verb, first, last, **more)  # type: ignore[arg-type]  # by name


async def execute(dsn: str, sql: str) -> None:
    async with query(dsn) as connection:
        await connection.execute(sql)


async def answers_again(dsn: str) -> None:
    """A server that was killed has left a file that says that it is ready."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await execute(dsn, "SELECT 1")
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.01)
