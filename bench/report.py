"""The HTML report: one file, charts as inline SVG, nothing fetched from anywhere."""

from html import escape
from typing import TypedDict

import quick

WIDTH, ROW, LEFT, RIGHT = 720, 26, 130, 110

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2rem auto; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem 1rem .2rem 0; text-align: left }
svg { width: 100%; height: auto; margin: .5rem 0 1.5rem } text { font-size: 13px; fill: #222 }
.durable { fill: #8fb8de } .postgres { fill: #2f6690 } .bare { stroke: #b23a48; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  body { background: #16191d; color: #ddd } text { fill: #ddd }
}
"""


class Results(TypedDict):
    """What `make bench-full` measures, and on what."""

    machine: dict[str, str | int]
    measured_at: str
    seconds: float
    latency: quick.Latency
    bare_copy: quick.Copy
    by_producers: list[quick.Throughput]
    by_size: list[quick.Throughput]


def bars(rows: list[tuple[str, int, str]], mark: int | None = None) -> str:
    """Horizontal bars (label, value, CSS class), with a line at ``mark`` if there is one."""
    top = max([value for _, value, _ in rows] + [mark or 0]) or 1
    scale = (WIDTH - LEFT - RIGHT) / top
    height = ROW * len(rows) + 8
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img">']
    for index, (label, value, kind) in enumerate(rows):
        y = ROW * index + 4
        length = value * scale
        parts.append(
            f'<text x="0" y="{y + 15}">{escape(label)}</text>'
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{ROW - 6}"/>'
            f'<text x="{LEFT + length + 6:.1f}" y="{y + 15}">{value:,}</text>'
        )
    if mark is not None:
        x = LEFT + mark * scale
        parts.append(f'<line class="bare" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>')
    return "".join([*parts, "</svg>"])


def rates(label: str, load: quick.Throughput) -> list[tuple[str, int, str]]:
    """The two bars of one load."""
    return [
        (label, load["durable_per_s"], "durable"),
        ("", load["postgres_per_s"], "postgres"),
    ]


def facts(rows: list[tuple[str, str]]) -> str:
    """A table of names and values."""
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{''.join(cells)}</table>"


def html(results: Results) -> str:
    """The whole page."""
    latency, copy = results["latency"], results["bare_copy"]
    by_producers = [
        bar for load in results["by_producers"] for bar in rates(f"{load['producers']}", load)
    ]
    by_size = [
        bar for load in results["by_size"] for bar in rates(f"{load['event_bytes']:,} B", load)
    ]
    machine = [(name, str(value)) for name, value in results["machine"].items()]
    acks = [
        ("p50", latency["p50_ms"], latency["bare_sync_p50_ms"], latency["ratio_p50"]),
        ("p99", latency["p99_ms"], latency["bare_sync_p99_ms"], latency["ratio_p99"]),
    ]
    acks_said = [
        (name, f"{ack:.3f} ms, {ratio:.2f} times a bare fdatasync ({bare:.3f} ms)")
        for name, ack, bare, ratio in acks
    ]
    return "".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>certeus, measured</title>',
            f"<style>{STYLE}</style><h1>certeus, measured</h1>",
            f"<p>{escape(results['measured_at'])}, {results['seconds']:.0f} s a load. Light bars: ",
            "durable events/s until the last acknowledgement. Dark bars: rows/s in PostgreSQL ",
            "until the last row. Red line: bare COPY of 150 B events, ",
            f"{copy['rows_per_s']:,} rows/s.</p>",
            facts(machine),
            f"<h2>Acknowledgement of single events</h2>{facts(acks_said)}",
            "<h2>By number of producers, 150 B JSON</h2>",
            bars(by_producers, copy["rows_per_s"]),
            f"<h2>By size, two producers</h2>{bars(by_size)}</html>\n",
        ]
    )
