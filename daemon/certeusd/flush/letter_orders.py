"""What an admin asks about dead letters, answered beside the delivery, on a connection of its own.

Each question ends within `ANSWER_WITHIN_S`, with an answer or with what kept it; the connection is
made for it and ends with it. An answer may be larger than a message of the channel: it goes as a
memfd beside it.
"""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Callable

import asyncpg
import msgspec

from certeusd.board import Board
from certeusd.channel import Answer, AskLetters, Message
from certeusd.flush import dead_letters, leaves, letters, schema, telling
from certeusd.flush.connection import Link
from certeusd.flush.errors import DESTINATION_ERRORS, FlushError, reading_the_log
from certeusd.flush.settings import Settings
from certeusd.flush.transaction import Target
from certeusd.letters import Dropped, Letters, Retried
from certeusd.log import identity
from certeusd.log.reader import LogReader
from certeusd.logs import Logger

ANSWER_WITHIN_S = 8.0
PAGE_S = 2.0
"""After so long a page of a retry ends behind the row under way."""
WHAT_CHARACTERS_MAX = 2000
"""Of what the server says: a message of the channel is bounded."""
_BESIDE = ":letters"
"""Behind the application name: the delivery ends zombies of its own name alone."""

Body = Letters | Retried | Dropped


class LetterOrders:
    """Answers questions; `board` is the daemon's, `send` and `shown` are lent for its life."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        send: Callable[[Message, list[int]], object],
        shown: Callable[[int], None],
        log: Logger,
    ) -> None:
        self._settings = settings
        self._board = board
        self._send = send
        self._shown = shown
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, ask: AskLetters) -> None:
        """Answer a question soon."""
        task = asyncio.get_running_loop().create_task(self._answer(ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, ask: AskLetters) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                body = await self._carry_out(ask)
        except TimeoutError:
            self._refuse(
                ask, "postgres-away", f"PostgreSQL has not answered for {ANSWER_WITHIN_S:g} s",
                "What was under way is done whole or not at all: see `certeus dead-letters ls`, and"
                " try again when the server answers.",
            )  # fmt: skip
        except asyncpg.InsufficientPrivilegeError as error:
            self._refuse(
                ask, "postgres-refuses", str(error),
                "GRANT DELETE ON certeus.dead_letters to the role of postgres.dsn, and try again.",
            )  # fmt: skip
        except DESTINATION_ERRORS as error:
            trouble = telling.trouble_of(error)
            self._refuse(ask, trouble.code, trouble.what, trouble.next_step)
        else:
            with os.fdopen(os.memfd_create("certeus-answer"), "wb") as content:
                content.write(msgspec.json.encode(body))
                content.flush()
                self._send(Answer(ask.number), [content.fileno()])

    def _refuse(self, ask: AskLetters, code: str, what: str, next_step: str) -> None:
        what = telling.without_password(what, self._settings.dsn)[:WHAT_CHARACTERS_MAX]
        self._log.warning("letters_not_answered", verb=ask.verb, code=code, error=what)
        self._send(Answer(ask.number, code, f"{what}; {next_step}"), [])

    async def _carry_out(self, ask: AskLetters) -> Body:
        settings = self._settings
        with reading_the_log():
            oldest = LogReader(settings.log_dir).oldest()
            if oldest is None:
                raise FlushError("there is no log yet", "Try again when the daemon is ready.")
            log_uuid = uuid.UUID(bytes=oldest["log_uuid"])
            log_uuid = identity.of_log(settings.log_dir, log_uuid).log_uuid
        link = await Link.open(
            settings.dsn, log_uuid, settings.stall_timeout_s, settings.lock_timeout_s, _BESIDE
        )
        try:
            return await link.run(self._on(link, log_uuid, ask))
        finally:
            await link.close()

    async def _on(self, link: Link, log_uuid: uuid.UUID, ask: AskLetters) -> Body:
        connection = link.connection
        await schema.check_server(connection)
        jsonb = await schema.ensure(connection, self._settings.postgres.data)
        log_id = await schema.log_id(connection, log_uuid, socket.gethostname())
        first, last = ask.first_seq, ask.last_seq
        if ask.verb == "list":
            return await letters.page(connection, log_id, first, ask.limit, ask.reason, ask.whole)
        body: Body
        if ask.verb == "retry":
            ends_at = time.monotonic() + PAGE_S
            target = Target(log_id, jsonb)
            body = await letters.retry(
                connection, target, first, last, lambda: time.monotonic() >= ends_at,
                leaves.kept_from(self._settings.postgres.retention_days),
            )  # fmt: skip
            self._board.add("flush", "rows_total", body.delivered)
            self._log.info("letters_retried", delivered=body.delivered, refused=body.refused)
        else:
            body = await letters.drop(connection, log_id, first, last, f"dropped by {ask.by}")
            self._board.add("flush", "gaps_total", int(body.dropped > 0))
            self._log.warning("letters_dropped", count=body.dropped, by=ask.by)
        self._shown(await dead_letters.count(connection, log_id))
        return body
