"""What goes wrong, as RFC 9457 has it: one form for every answer that is no success."""

from collections.abc import Mapping

import msgspec
from aiohttp import web

PREFIX = "urn:certeus:problem:"


class ProblemError(Exception):
    """Becomes an `application/problem+json` answer."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        """Name the problem.

        Args:
            status: of HTTP.
            kind: stable word, the end of `type`.
            title: what it is, the same for all of its kind.
            detail: what it is this time, and the next step.
            headers: sent besides, such as `Retry-After`.
            members: of the document besides, such as verdicts.
        """
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.document: dict[str, object] = {
            "type": PREFIX + kind, "title": title, "status": status, "detail": detail,
            **(members or {}),
        }  # fmt: skip

    def is_a(self, kind: str) -> bool:
        """Whether it is of that kind."""
        return self.document["type"] == PREFIX + kind

    def response(self) -> web.Response:
        """Return the answer."""
        return web.Response(
            body=msgspec.json.encode(self.document) + b"\n",
            status=self.status,
            content_type="application/problem+json",
            headers=self.headers,
        )
