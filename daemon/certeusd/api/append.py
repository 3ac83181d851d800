"""`POST /v1/ledger/events`: events in, by four formats; their verdicts out, when they are durable.

| content type | body |
|---|---|
| `application/x-ndjson` | a CloudEvent a line, or with `?type=` its data alone; streamed |
| `application/cloudevents+json` | one CloudEvent |
| `application/cloudevents-batch+json` | an array of them |
| any, with `ce-` headers | binary mode: attributes in headers, the body is the data |
| any, with `?type=` | the same, with attributes in the query |

Blocks of NDJSON go to the ring as they come; while that is full the body is not read, so TCP's or
the socket's own back-pressure reaches the client.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import NamedTuple

import msgspec
from aiohttp import web

from certeus.errors import Error
from certeusd._native import DoorEncoder, Encoded
from certeusd.api import binary_mode, parameters
from certeusd.api.bodies import DRAINING
from certeusd.api.intake import Intake
from certeusd.api.lines import Encode, Lines
from certeusd.api.long_work import worked
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.routing import Context
from certeusd.api.verdicts import Verdicts
from certeusd.door import LateError

NDJSON = (parameters.NDJSON, "application/ndjson", "application/jsonl")
ONE, BATCH = parameters.CLOUDEVENT, parameters.CLOUDEVENTS
ONE_EVENTS = ("id", "subject", "time", "dataschema")
"""Attributes that no two events share, or that not all lines have."""
TIMEOUT_S = 30.0
LINE_OVERHEAD_BYTES = 64 * 1024
"""That a line may have beside the data of its event."""
AGAIN_S = 1
SETTLE_DRAIN_PART = 0.125
"""Of the time to drain: for verdicts of a body that was cut off by it."""


class Asked(NamedTuple):
    """What the query says."""

    attributes: dict[str, str]
    id_field: str | None
    subject_field: str | None
    waits: bool
    deadline: float
    timeout_s: float

    @classmethod
    def of(cls, query: dict[str, str]) -> "Asked":
        """Read it.

        Raises:
            ProblemError: 400.
        """
        waits, timeout = query.get("wait", "durable"), query.get("timeout_s", str(TIMEOUT_S))
        if waits not in parameters.WAITS:
            raise _bad("wait is durable or none")
        try:
            timeout_s = float(timeout)
        except ValueError:
            timeout_s = -1.0
        if not 0 < timeout_s <= parameters.TIMEOUT_S_MAX:
            raise _bad(f"timeout_s is above 0 and at most {parameters.TIMEOUT_S_MAX}")
        return cls(
            attributes={name: query[name] for name in parameters.ATTRIBUTES if name in query},
            id_field=query.get("id_field"),
            subject_field=query.get("subject_field"),
            waits=waits == "durable",
            deadline=time.monotonic() + timeout_s,
            timeout_s=timeout_s,
        )


async def post_events(
    context: Context, caller: Caller, request: web.BaseRequest
) -> web.StreamResponse:
    """Append the events of the body, and answer when they are durable.

    Raises:
        ProblemError: 400, 413, 415 the request; 422 events were rejected, and the rest was taken;
            503 there was no room in time; 504 the verdicts did not come in time.
    """
    context.throttle.check(caller)
    asked = Asked.of(dict(request.query))
    _check_applies(request, asked)
    async with contextlib.AsyncExitStack() as stack:
        left_s = asked.deadline - time.monotonic()
        producer = await stack.enter_async_context(context.producers.of(caller, left_s))
        if not (_names_source(request, asked) or producer.has_source):
            raise _bad("a source is needed: give ?source= one of those that [api] sources allows")
        intake = stack.enter_context(Intake(context, caller, producer, asked.deadline))
        encoded = _encoded(context, caller, producer.encoder, request, asked)
        async with contextlib.aclosing(encoded):
            await _append(intake, encoded, request, asked, context.process.drain_timeout_s)
        return _answer(asked, intake.verdicts)


async def _append(
    intake: Intake,
    parts: AsyncGenerator[Encoded],
    request: web.BaseRequest,
    asked: Asked,
    drain_s: float,
) -> None:
    """Append the parts of a body, and wait for what became of them.

    Raises:
        ProblemError: 503, 504.
    """
    verdicts = intake.verdicts
    try:
        async for encoded in parts:
            if _is_lines(request):  # However long they take to come, the last have their time.
                intake.deadline = time.monotonic() + asked.timeout_s
            has_room = await intake.append(encoded)
            if _is_lines(request):
                await intake.paced(request, encoded.seen)
            else:
                intake.charge(encoded.seen)
            if not has_room:
                raise _no_room(asked, verdicts)
        if asked.waits:
            await intake.settle()
    except ProblemError as problem:
        if problem.is_a(DRAINING):
            with contextlib.suppress(TimeoutError, LateError, Error):
                async with asyncio.timeout(drain_s * SETTLE_DRAIN_PART):
                    await intake.settle()
            problem.document |= _members(verdicts)
        raise
    except LateError as error:
        raise _late(asked, verdicts) from error
    except Error as error:
        raise _in_doubt(str(error), verdicts) from error
    if asked.waits and verdicts.pending:
        raise _in_doubt("what became of some events is no longer known", verdicts)


def _answer(asked: Asked, verdicts: Verdicts) -> web.StreamResponse:
    if verdicts.rejected:
        raise ProblemError(
            422, "rejected", "events were rejected",
            f"{verdicts.rejected} of {verdicts.seen} events were rejected, each with its reason in"
            " verdicts; the others were taken",
            members=_members(verdicts),
        )  # fmt: skip
    return web.Response(
        body=msgspec.json.encode(verdicts.summary()) + b"\n",
        status=200 if asked.waits else 202,
        content_type="application/json",
    )


async def _encoded(
    context: Context,
    caller: Caller,
    encoder: DoorEncoder,
    request: web.BaseRequest,
    asked: Asked,
) -> AsyncGenerator[Encoded]:
    """Yield what the encoder makes of the body, part by part.

    Raises:
        ProblemError: 400, 413, 415.
    """
    kind = request.content_type
    if _is_lines(request):
        line_max = context.process.config.limits.event_bytes_max + LINE_OVERHEAD_BYTES
        lines = Lines(_lines(encoder, asked), line_max)
        async for block in context.bodies.blocks(request):
            for encoded in lines.feed(block):
                yield encoded
        for encoded in lines.end():
            yield encoded
        return
    structured = kind.startswith(binary_mode.STRUCTURED)
    told = binary_mode.is_binary(request) or kind in (ONE, BATCH)
    if not told and (structured or "type" not in asked.attributes):
        raise ProblemError(
            415, "content-type", "content type not taken",
            f"{kind} has no event's attributes: send {NDJSON[0]}, {ONE}, {BATCH}, or ce- headers,"
            " or give ?type= and ?source=",
            headers={"Accept-Post": ", ".join((NDJSON[0], ONE, BATCH))},
        )  # fmt: skip
    # It is held for as long as somebody appends what is made of it.
    with context.bodies.account(caller.name) as account:
        body = await context.bodies.whole(request, account)
        try:
            if kind != BATCH:
                yield await worked(body, lambda: _one(encoder, request, body, asked))
                return
            begin = 0
            while True:
                part = await worked(body, partial(encoder.cloudevents_batch, body, begin))
                yield part
                begin = part.consumed
                if begin == len(body):
                    return
        except ValueError as error:
            raise _bad(str(error)) from error


def _one(encoder: DoorEncoder, request: web.BaseRequest, body: bytes, asked: Asked) -> Encoded:
    """Make an event of a whole body.

    Raises:
        ProblemError: 400.
        ValueError: it is no CloudEvent, as a whole.
    """
    if binary_mode.is_binary(request):
        return binary_mode.event(encoder, request, body)
    if request.content_type == ONE:
        return encoder.cloudevent(body)
    return encoder.event(body, None, **asked.attributes, content_type=binary_mode.type_of(request))


def _is_lines(request: web.BaseRequest) -> bool:
    return request.content_type in NDJSON and not binary_mode.is_binary(request)


def _lines(encoder: DoorEncoder, asked: Asked) -> Encode:
    """Return what makes events of lines, as the query says."""
    kind = asked.attributes.get("type")
    source = asked.attributes.get("source")

    def encode(lines: bytes, *, final: bool) -> Encoded:
        if kind is None:
            return encoder.cloudevents_lines(lines, final)
        return encoder.data_lines(lines, kind, source, asked.id_field, asked.subject_field, final)

    return encode


def _names_source(request: web.BaseRequest, asked: Asked) -> bool:
    """Whether events of this request carry their own source, or the query gives one."""
    if "source" in asked.attributes:
        return True
    if request.content_type in NDJSON:
        return "type" not in asked.attributes
    return binary_mode.is_binary(request) or request.content_type in (ONE, BATCH)


def _check_applies(request: web.BaseRequest, asked: Asked) -> None:
    """Refuse parameters that would change nothing: who gives an id must not get an event without.

    Raises:
        ProblemError: 400.
    """
    binary, lines = binary_mode.is_binary(request), _is_lines(request)
    typed = "type" in asked.attributes
    if binary or request.content_type.startswith(binary_mode.STRUCTURED) or (lines and not typed):
        for name in asked.attributes:
            raise _bad(f"{name} is for data without attributes: these events have their own")
    if lines and typed:
        for name in ONE_EVENTS:
            if name in asked.attributes:
                raise _bad(f"{name} is for one event, and lines are many: see id_field")
    else:
        fields = {"id_field": asked.id_field, "subject_field": asked.subject_field}
        for name in (name for name, value in fields.items() if value is not None):
            raise _bad(f"{name} is for lines of data: {NDJSON[0]} with type")


def _bad(what: str) -> ProblemError:
    return ProblemError(400, "bad-request", "bad request", what)


def _again() -> dict[str, str]:
    return {"Retry-After": str(AGAIN_S)}


def _members(verdicts: Verdicts) -> dict[str, object]:
    while verdicts.take():
        pass
    members: dict[str, object] = msgspec.to_builtins(verdicts.summary())
    return members


def _no_room(asked: Asked, verdicts: Verdicts) -> ProblemError:
    return ProblemError(
        503, "back-pressure", "no room",
        f"after {asked.timeout_s:g} s there was no room for event {verdicts.seen} and those"
        " behind it; those before it without a verdict are in doubt: send all again with their ids",
        headers=_again(), members=_members(verdicts),
    )  # fmt: skip


def _in_doubt(why: str, verdicts: Verdicts) -> ProblemError:
    return ProblemError(
        503, "in-doubt", "in doubt",
        f"{why}; send the events again with the ids that they have",
        headers=_again(), members=_members(verdicts),
    )  # fmt: skip


def _late(asked: Asked, verdicts: Verdicts) -> ProblemError:
    return ProblemError(
        504, "in-doubt", "not durable in time",
        f"not all events had their verdict after {asked.timeout_s:g} s; those without one are in"
        " doubt: send them again with their ids",
        headers=_again(), members=_members(verdicts),
    )  # fmt: skip
