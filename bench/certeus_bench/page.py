"""Pieces of a page: everything that comes from a run is escaped here, and nowhere else."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import NewType

Html = NewType("Html", str)
"""Text that is markup already."""

HATCH = (
    '<svg class="empty" aria-hidden="true"><defs><pattern id="hatch" width="8" height="8"'
    ' patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path class="hatch-line" d="M2 0V8"/></pattern></defs></svg>'
)


def text(said: object) -> Html:
    """What is no markup."""
    return Html(escape(str(said)))


def join(parts: Iterable[str]) -> Html:
    """Markup behind markup."""
    return Html("".join(parts))


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page that needs nothing from anywhere."""
    style = files("certeus_bench").joinpath("report.css").read_text(encoding="utf-8")
    return join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(title)}</title><style>{style}</style></head><body>{HATCH}",
            *parts,
            "</body></html>\n",
        ]
    )


def section(heading: str, said: str, *parts: str) -> Html:
    """A part of the page under its heading; nothing where there is nothing to show."""
    shown = join(parts)
    return join([f"<h2>{text(heading)}</h2><p class='soft'>{said}</p>", shown]) if shown else shown


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "", numbers: str = ""
) -> Html:
    """A table that scrolls for itself; ``numbers`` has an ``n`` for each column of numbers."""
    kinds = ["number" if letter == "n" else "name" if letter == "w" else "" for letter in numbers]
    kinds += [""] * (len(columns) - len(kinds))
    heads = join(
        f'<th class="{one}">{text(name)}</th>' for name, one in zip(columns, kinds, strict=True)
    )
    body = join(
        "<tr>"
        + "".join(f'<td class="{one}">{cell}</td>' for cell, one in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    head = f"<thead><tr>{heads}</tr></thead>" if any(columns) else ""
    return Html(
        f'<div class="scroll"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'
    )


def figure(heading: str, said: str, *parts: str, kind: str = "") -> Html:
    """A card with a chart."""
    head = f'<figure class="{kind}"><h3>{text(heading)}</h3><p>{text(said)}</p>'
    return join([head, *parts, "</figure>"])


def cards(figures: Iterable[str]) -> Html:
    """Cards beside each other, as many as fit; nothing without any."""
    shown = join(figures)
    return Html(f'<div class="grid-of-charts">{shown}</div>') if shown else shown


def patch(kind: str, named: Html) -> Html:
    """What is named, behind a patch of its colour."""
    drawn = f'<rect class="fill {kind}" y="3" width="14" height="10" rx="2"/>'
    return _key(drawn, 14, named)


def stroke(kind: str, named: Html) -> Html:
    """What is named, behind a piece of its line as a chart draws it."""
    return _key(f'<path class="line {kind}" d="M0 8H24"/>', 24, named)


def _key(drawn: str, width: int, named: Html) -> Html:
    shape = f'<svg width="{width}" height="16" aria-hidden="true">{drawn}</svg>'
    return Html(f'<span class="key">{shape}<span>{named}</span></span>')
