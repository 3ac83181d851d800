"""`GET /`: the status page. One file, no script needed; with one it follows `/v1/ledger/live`.

The page is a template with places, filled in one pass: what stands in a place is escaped text, and
never looked at for places. Its style and its script are named by their hashes in the policy that
goes with it, so that a browser runs nothing else, whatever an event says.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import NamedTuple

from aiohttp import web

from certeusd.api import parameters
from certeusd.api.live import follow
from certeusd.api.page_cells import Cell, Cells, cells
from certeusd.api.peers import Caller
from certeusd.api.routing import Context

HEADING = 'th scope="row"'
_PLACE = re.compile(r"\[\[(\w+)( tone)?\]\]")


class Template(NamedTuple):
    """The file, and what goes with it."""

    text: str
    headers: Mapping[str, str]

    @classmethod
    def read(cls) -> "Template":
        """Read it out of the package."""
        text = resources.files("certeusd.api").joinpath("page.html").read_text("utf-8")
        (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
        (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
        policy = (
            f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}';"
            " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'"
        )
        return cls(text, {
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        })  # fmt: skip

    def filled(self, told: Cells) -> str:
        """Fill it in."""

        def place(found: re.Match[str]) -> str:
            name, tone = found[1], found[2]
            if name == "line":
                return escape(told.line)
            if name in told.tables:
                return rows(told.tables[name])
            return escape(told.texts[name].tone if tone else told.texts[name].text)

        return _PLACE.sub(place, self.text)


def rows(table: Sequence[Sequence[Cell]]) -> str:
    """Render the rows of a table; the first cell of each is its heading."""
    return "".join(
        f"<tr>{_cell(HEADING, first)}{''.join(_cell('td', one) for one in others)}</tr>"
        for first, *others in table
    )


def _cell(tag: str, one: Cell) -> str:
    tone = f' class="{escape(one.tone)}"' if one.tone else ""
    return f"<{tag}{tone}>{escape(one.text)}</{tag[:2]}>"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


TEMPLATE = Template.read()


async def get_page(context: Context, _: Caller, __: web.BaseRequest) -> web.StreamResponse:
    """Show what flows now, as a page.

    Raises:
        ProblemError: 503, there are no numbers now.
    """
    moment = await context.watching.moment()
    return web.Response(
        text=TEMPLATE.filled(cells(moment.live)),
        content_type="text/html",
        charset="utf-8",
        headers=TEMPLATE.headers,
    )


async def get_live(
    context: Context, caller: Caller, request: web.BaseRequest
) -> web.StreamResponse:
    """Tell what flows now, once a second, as server-sent events.

    Raises:
        ProblemError: 503 too many watch, or there are no numbers now.
    """
    form = request.query.get("form", parameters.FORMS[0])
    limit = int(request.query.get("limit", parameters.SEQ_MAX))
    return await follow(context.watching, caller, request, form, limit)
