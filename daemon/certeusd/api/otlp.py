"""`POST /v1/logs`: OTLP/HTTP, so that any OpenTelemetry SDK or collector logs into the ledger.

A record is an event: which attribute comes from where is in `daemon/src/door/otlp/mod.rs` and
docs/otlp.md; what is answered, in `otlp_answers.py`. What is answered with 200 is durable.

OTLP has no key by which a record could be known again, and two equal records are legal, so no id
is made up: a batch that is sent again after a timeout is appended again. All that can be done is to
make that rare. A client that is told before its own time is over (`TIMEOUT_S`) waits and repeats;
one that is not told repeats at once.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from aiohttp import web

from certeus.errors import Error
from certeusd._native import DoorEncoder, Encoded, OtlpLogs
from certeusd.api.intake import Intake
from certeusd.api.long_work import worked
from certeusd.api.otlp_answers import AGAIN_S, JSON, PROTOBUF, answer
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.routing import Context
from certeusd.api.verdicts import Verdicts
from certeusd.door import LateError

KINDS = (PROTOBUF, JSON)
TIMEOUT_S = 8.0
"""SDKs wait for ten seconds unless they are told otherwise."""


async def post_logs(
    context: Context, caller: Caller, request: web.BaseRequest
) -> web.StreamResponse:
    """Append each log record of the body, and answer when they are durable.

    Raises:
        ProblemError: 400, 413, 415 the request, and 400 none of its records was taken; 429, 503,
            504 not now. All are answered in OTLP's own form (`otlp_answers.told`).
    """
    context.throttle.check(caller)
    kind = request.content_type
    if kind not in KINDS:
        raise ProblemError(
            415, "content-type", "content type not taken",
            f"{kind} is not OTLP: send {PROTOBUF} or {JSON}",
            headers={"Accept-Post": ", ".join(KINDS)},
        )  # fmt: skip
    with context.bodies.account(caller.name) as account:
        body = await context.bodies.whole(request, account)
        account.add(await worked(body, lambda: OtlpLogs.held_bytes_max(body, kind == JSON)))
        deadline = time.monotonic() + TIMEOUT_S
        async with context.producers.of(caller, TIMEOUT_S) as producer:
            with Intake(context, caller, producer, deadline) as intake:
                logs = parts(producer.encoder, body, kind, deadline)
                async with contextlib.aclosing(logs):
                    await _settled(intake, logs)
                return _answer(kind, intake.verdicts)


async def _settled(intake: Intake, logs: AsyncGenerator[Encoded]) -> None:
    try:
        await _append(intake, logs)
    except LateError as error:
        raise _not_now(
            504, "not durable in time", f"not all records were durable after {TIMEOUT_S:g} s"
        ) from error
    except Error as error:
        raise _not_now(503, "in doubt", str(error)) from error


async def _append(intake: Intake, logs: AsyncGenerator[Encoded]) -> None:
    async for encoded in logs:
        has_room = await intake.append(encoded)
        intake.charge(encoded.seen)
        if not has_room:
            raise _not_now(503, "no room", f"there was no room for all records in {TIMEOUT_S:g} s")
        await asyncio.sleep(0)  # Others have their turn, too.
    await intake.settle()
    if intake.verdicts.pending:
        raise _not_now(503, "in doubt", "what became of some records is no longer known")


async def parts(
    encoder: DoorEncoder, body: bytes, kind: str, deadline: float
) -> AsyncGenerator[Encoded]:
    """Yield what the encoder makes of the body; the loop waits for no more than a small one.

    Args:
        encoder: of the request's producer.
        body: the whole request.
        kind: its content type.
        deadline: monotonic seconds; even of what has no records no more is read after it.

    Raises:
        ProblemError: 400.
        LateError: the deadline came first.
    """
    try:
        logs = await worked(body, lambda: encoder.otlp_logs(body, kind == JSON))
    except ValueError as error:
        raise ProblemError(400, "bad-request", "bad request", str(error)) from error
    while (part := await worked(body, lambda: next(logs, None))) is not None:
        yield part
        if time.monotonic() >= deadline:
            raise LateError


def _answer(kind: str, verdicts: Verdicts) -> web.Response:
    if not verdicts.rejected:
        return answer(kind)
    message = _reasons(verdicts)
    if verdicts.rejected == verdicts.seen:
        raise ProblemError(400, "rejected", "all records were rejected", message)
    return answer(kind, verdicts.rejected, message)


def _reasons(verdicts: Verdicts) -> str:
    """Say how many were rejected, and for each reason which was the first."""
    summary = verdicts.summary()
    first = dict[str, int]()
    for run in summary.verdicts:
        if run.reason:
            first.setdefault(run.reason, run.index)
    named = ", ".join(f"{reason} (the first: record {index})" for reason, index in first.items())
    return f"{summary.rejected} of {summary.events} log records were rejected: {named}"


def _not_now(status: int, title: str, what: str) -> ProblemError:
    return ProblemError(
        status, "in-doubt", title,
        f"{what}: send the request again; records of it that were taken are logged twice then",
        headers={"Retry-After": str(AGAIN_S)},
    )  # fmt: skip
