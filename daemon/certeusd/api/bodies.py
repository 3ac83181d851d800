"""Bodies of requests, block by block: what stands still ends, what is too large is refused.

A body of any length is read in blocks (`blocks`), and no more of it is in memory than the block
that somebody works on and what the socket's buffer holds. One that has to be held whole (`whole`)
is bounded by `api.body_bytes_max`, and what all bodies of one peer hold at a time by a few of
those. Compressed ones are inflated in pieces, so that a few kilobytes cannot become gigabytes:

```text
identity   a block as it came
gzip       pieces of INFLATED_BYTES, each handed on before the next is made; whole bodies end at
           body_bytes_max, streams where they are RATIO_MAX times as long as what came (a bomb)
```
"""

import asyncio
import contextlib
import math
import zlib
from collections.abc import AsyncGenerator, Generator

from aiohttp import StreamReader, web

from certeusd.api.problems import ProblemError

INFLATED_BYTES = 256 * 1024
RATIO_MAX = 200
"""Logs shrink to a tenth or a thirtieth; only what is made for it shrinks to a thousandth."""
HELD_BODIES_MAX = 4
"""So many bodies of the largest size one peer may have in memory at a time."""
AGAIN_S = 1
DRAINING = "draining"
GZIP = 16 + zlib.MAX_WBITS
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ENCODINGS = "gzip, identity"


class Bodies:
    """Reads bodies within the bounds of `[api]`."""

    def __init__(self, bytes_max: int, timeout_s: float) -> None:
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._held: dict[str, int] = {}
        self._waiting = set[asyncio.Timeout]()
        self._ends_at = math.inf

    def drain(self, within_s: float) -> None:
        """Bodies end within that time, or are refused: what has come of them is told apart."""
        self._ends_at = asyncio.get_running_loop().time() + within_s
        for waiting in self._waiting:
            waiting.reschedule(min(waiting.when() or math.inf, self._ends_at))

    async def blocks(self, request: web.BaseRequest) -> AsyncGenerator[bytes]:
        """Yield the body as it comes; its length is not bounded, each block's is.

        Raises:
            ProblemError: 408 it stands still, 415 its encoding is not known, 400 it is no body of
                that encoding, 413 it inflates beyond measure, 503 the process drains.
        """
        is_gzip = _is_gzip(request)
        raw = self._raw(request)
        async with contextlib.aclosing(_inflated(raw) if is_gzip else raw) as blocks:
            async for block in blocks:
                yield block

    async def whole(self, request: web.BaseRequest, account: "Account") -> bytes:
        """Return a body that has to be held whole.

        Args:
            request: whose body it is.
            account: on which it is held for as long as that is open (`account`).

        Raises:
            ProblemError: as `blocks`; 413 too, where it has more than `body_bytes_max`; 503, the
                peer has too many under way.
        """
        if (request.content_length or 0) > self._bytes_max:
            raise self._too_large()
        body = bytearray()  # Parts of a few bytes would each be an object.
        async with contextlib.aclosing(self.blocks(request)) as blocks:
            async for block in blocks:
                account.add(len(block))
                if account.bytes > self._bytes_max:
                    raise self._too_large()
                body += block
        return bytes(body)

    async def _raw(self, request: web.BaseRequest) -> AsyncGenerator[bytes]:
        _continue(request)
        while True:
            try:
                block = await self._next(request.content)
            except TimeoutError as error:
                raise self._late() from error
            except RuntimeError as error:  # What aiohttp says of a peer that has gone.
                if request.transport is not None:
                    raise
                raise ConnectionResetError("the peer has gone") from error
            except web.RequestPayloadError as error:
                raise ProblemError(
                    400, "bad-body", "not a body", f"{error}: see RFC 9112, section 7",
                    headers={"Connection": "close"},
                ) from error  # fmt: skip
            if not block:
                return
            yield block

    async def _next(self, content: StreamReader) -> bytes:
        now = asyncio.get_running_loop().time()
        if now >= self._ends_at and not content.is_eof():
            raise _draining()
        async with asyncio.timeout_at(min(now + self._timeout_s, self._ends_at)) as waiting:
            self._waiting.add(waiting)
            try:
                return await content.readany()
            finally:
                self._waiting.discard(waiting)

    def _late(self) -> ProblemError:
        if asyncio.get_running_loop().time() >= self._ends_at:
            return _draining()
        return ProblemError(
            408, "body-timeout", "the body stands still",
            f"nothing has come for {self._timeout_s:g} s: send it again",
            headers={"Connection": "close"},
        )  # fmt: skip

    @contextlib.contextmanager
    def account(self, peer: str) -> Generator["Account"]:
        """What one body of a peer, or what was made of it, holds until it is appended."""
        account = Account(self._held, peer, HELD_BODIES_MAX * self._bytes_max)
        try:
            yield account
        finally:
            account.close()

    def _too_large(self) -> ProblemError:
        return ProblemError(
            413, "body-too-large", "body too large",
            f"at most {self._bytes_max} bytes (api.body_bytes_max): send less at a time, or"
            " application/x-ndjson, which may be of any length",
        )  # fmt: skip


class Account:
    """What one body holds, beside the other ones of its peer."""

    def __init__(self, held: dict[str, int], peer: str, most: int) -> None:
        self.bytes = 0
        self._held = held
        self._peer = peer
        self._most = most

    def add(self, count: int) -> None:
        """Hold more.

        Raises:
            ProblemError: 503, all bodies of the peer hold too much.
        """
        held = self._held.get(self._peer, 0) + count
        if held > self._most:
            raise ProblemError(
                503, "too-many-bodies", "too many bodies at a time",
                f"{self._peer} has {self._most} bytes of requests under way: send them one by one",
                headers={"Retry-After": str(AGAIN_S)},
            )  # fmt: skip
        self._held[self._peer] = held
        self.bytes += count

    def close(self) -> None:
        """Hold nothing any more."""
        left = self._held.get(self._peer, 0) - self.bytes
        if left > 0:
            self._held[self._peer] = left
        else:
            self._held.pop(self._peer, None)


def _continue(request: web.BaseRequest) -> None:
    """Say that the body may come, to who waits for that."""
    if (
        request.headers.get("Expect", "").lower() == "100-continue"
        and request.transport is not None
    ):
        request.transport.write(CONTINUE)


def _is_gzip(request: web.BaseRequest) -> bool:
    told = ", ".join(request.headers.getall("Content-Encoding", [])).strip().lower()
    if told in ("", "identity"):
        return False
    if told in ("gzip", "x-gzip"):
        return True
    raise ProblemError(
        415, "unknown-encoding", "unknown encoding",
        f"Content-Encoding is one of {ENCODINGS}", headers={"Accept-Encoding": ENCODINGS},
    )  # fmt: skip


async def _inflated(raw: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Inflate members of gzip, one behind the other, each piece before the next is made."""
    inflater, begun = zlib.decompressobj(GZIP), False
    came = made = 0
    async with contextlib.aclosing(raw):
        async for block in raw:
            came += len(block)
            # What it holds back at the end of a block is asked for with an empty one.
            while block or begun:
                try:
                    piece = inflater.decompress(block, INFLATED_BYTES)
                except zlib.error as error:
                    raise _no_gzip(str(error)) from error
                begun = not inflater.eof
                block = inflater.unconsumed_tail if begun else inflater.unused_data
                if not begun:
                    inflater = zlib.decompressobj(GZIP)
                made += len(piece)
                if made > INFLATED_BYTES and made > RATIO_MAX * came:
                    raise ProblemError(
                        413, "body-too-large", "body too large",
                        f"it inflates to more than {RATIO_MAX} times its length: send it as it is",
                    )  # fmt: skip
                if piece:
                    yield piece
                    await asyncio.sleep(0)  # Others have their turn, too.
                elif not block:
                    break
    if begun:
        raise _no_gzip("it ends too early")


def _draining() -> ProblemError:
    return ProblemError(
        503, DRAINING, "draining",
        "the service stops, and the rest of the body has not come in time: send it all again, with"
        " the same ids",
        headers={"Connection": "close", "Retry-After": str(AGAIN_S)},
    )  # fmt: skip


def _no_gzip(why: str) -> ProblemError:
    return ProblemError(
        400, "bad-encoding", "not gzip", f"{why}: send gzip (RFC 1952), or no Content-Encoding"
    )
