"""A run as one HTML page: what was reached, what was measured, on what, and what to doubt.

The page holds everything itself, runs nothing, and is meant to be read on a telephone and on paper
too. Pictures are in `series`, their drawing in `charts`.
"""

from html import escape

from certeus_bench import charts, figures, page, series, units
from certeus_bench.evidence import Evidence
from certeus_bench.figures import CPU, PSS, Figure, Of, UnmeasuredError, title
from certeus_bench.gates import bound_said, value_said
from certeus_bench.page import Html, section, table, text
from certeus_bench.results import Gate, Label, Result, Run

# what the page begins with, as far as it was measured
TILES_MAX = 6
HEADLINES: tuple[tuple[str, Of, Figure], ...] = (
    ("process to process, p50", Of("ring/one-way"), figures.P50),
    ("through a ring", Of("ring/throughput"), figures.RATE),
    ("until an event is durable, p50", Of("durable/ack"), figures.P50),
    ("durable", Of("durable/throughput"), figures.RATE),
    ("into PostgreSQL 18", Of("postgres/throughput", settings={"postgres": 18}), figures.RATE),
    ("a bare fdatasync, p50", Of("floor/fdatasync-4k", "floor"), figures.P50),
)


def html(what: Evidence) -> str:
    """The whole page."""
    run = what.run
    return page.document(
        f"certeus, measured {run.started_at}",
        [
            _header(what),
            _tiles(run),
            _gates(run),
            _latencies(run),
            _side_by_side(run),
            _scaling(run),
            _over_time(run),
            _stages(run),
            _all_results(run),
            _doubts(run),
            _machine(run),
        ],
    )


def _header(what: Evidence) -> Html:
    run = what.run
    if what.signature is None:
        signed = '<span class="warn">unsigned: nobody vouches for it</span>'
    else:
        signed = f"signed by <code>{text(what.signature.public_key)}</code>"
    processors = f"{run.machine.get('cpu', 'unknown')}, {run.machine.get('cpus', '?')} CPUs"
    began = run.started_at.replace("T", " ").replace("Z", " UTC")
    return page.join(
        [
            "<header><h1>certeus, measured</h1>",
            f'<p class="soft">{text(began)}, commit <code>{text(run.commit)}</code>,'
            f" {text(processors)}; {signed}.</p></header>",
        ]
    )


def _tiles(run: Run) -> Html:
    tiles: list[str] = []
    if run.gates:
        passed = sum(gate.passed for gate in run.gates)
        kind = "good" if passed == len(run.gates) else "bad"
        tiles.append(_tile(f"{passed} of {len(run.gates)}", "bars reached", kind))
    for said, of, figure in HEADLINES:
        try:
            (result, *_) = figures.find(run, of)
        except UnmeasuredError:
            continue
        value = figure.read(result)
        if value and len(tiles) < TILES_MAX:
            short = f"{units.short(value)}/s" if figure is figures.RATE else figure.show(value)
            tiles.append(_tile(short, said, ""))
    return Html(f'<div class="tiles">{"".join(tiles)}</div>') if tiles else Html("")


def _tile(value: str, said: str, kind: str) -> str:
    return f'<div class="tile"><b class="{kind}">{text(value)}</b><small>{text(said)}</small></div>'


def _gates(run: Run) -> Html:
    rows: list[str] = []
    group = ""
    for gate in run.gates:
        begins, _, metric = gate.metric.partition(": ")
        if begins != group:
            group = begins
            rows.append(f'<tr class="group"><td></td><td colspan="4">{text(group)}</td></tr>')
        rows.append(_gate(gate, metric))
    heads = (
        '<th></th><th>bar</th><th class="gauge-cell">worse │ better</th>'
        '<th class="number">measured</th><th class="number">bound</th>'
    )
    shown = (
        f'<div class="scroll"><table class="gates"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    said = (
        "What certeus holds itself to. A bar without its figure, or with an artifact in its place,"
        " is not reached. <span class='wide'>In the gauge, the line is the bound and each half a"
        " factor of four.</span>"
    )
    return section("Bars", said, shown if rows else "")


def _gate(gate: Gate, metric: str) -> str:
    mark = '<span class="good">✓</span>' if gate.passed else '<span class="bad">✗</span>'
    drawn = "" if gate.value is None else charts.gauge(gate.value, gate.bound, gate.at_least)
    kind = "good" if gate.passed else "bad"
    return (
        f'<tr><td class="mark-cell">{mark}</td>'
        f"<td>{text(metric)}<small>{text(gate.told)}</small></td>"
        f'<td class="gauge-cell">{drawn}</td>'
        f'<td class="number {kind}">{text(value_said(gate))}</td>'
        f'<td class="number">{text(bound_said(gate))}</td></tr>'
    )


def _latencies(run: Run) -> Html:
    said = (
        "How long operations took, up to each percentile: each step to the right is ten times"
        " rarer. Both axes are logarithmic. A dashed line is the floor: what the machine does"
        " alone."
    )
    return section("Latency", said, page.cards(series.latencies(run)))


def _side_by_side(run: Run) -> Html:
    said = (
        "The same work done by each system with the same payload. Bars begin at zero; the tick"
        " behind a p50 is the p99 where it fits. <b>Hatched</b> systems acknowledge"
        " before anything is durable: they are shown and compared with nothing. Dashed outlines"
        " are artifacts."
    )
    return section("Side by side", said, page.cards(series.side_by_side(run)))


def _scaling(run: Run) -> Html:
    said = "The same work at growing numbers."
    return section("Scaling", said, page.cards(series.scaling(run)))


def _over_time(run: Run) -> Html:
    said = (
        "Operations completed in each interval, without warm-up. Where a point stands for several"
        " intervals, the line is their mean and the band reaches from the slowest to the fastest."
    )
    return section("Throughput over time", said, page.cards(series.over_time(run)))


def _stages(run: Run) -> Html:
    said = "What each stage of the path takes of a CPU for one event, one after the other."
    return section("Cost of each stage", said, *series.stages(run))


def _all_results(run: Run) -> Html:
    columns = ("what", "system", "p50", "p99", "p99.9", "max", "rate", "payload", "")
    rows = [_result(result) for result in run.results]
    said = "Each with its median and its tail, and what else was counted."
    shown = table(columns, rows, "results", "wwnnnnnn") if rows else Html("")
    return section("All results", said, shown)


def _result(result: Result) -> list[str]:
    latency = result.latency
    times = [Html("")] * 4
    if latency is not None:
        times_ns = (latency.p50_ns, latency.p99_ns, latency.p999_ns, latency.max_ns)
        times = [text(units.time(time_ns)) for time_ns in times_ns]
    remarks = [f'<span class="warn">{result.label}</span>'] * (result.label is not Label.SOUND)
    remarks += ["<span class='bad'>not durable</span>"] * result.unsafe
    remarks += [
        f"{figure.name} {text(figure.show(value))}"
        for figure in (CPU, PSS)
        if (value := figure.read(result)) is not None
    ]
    size_bytes = result.measurement.bytes_each
    named = title(result.name, result.system, result.settings).partition(" of ")
    return [
        f'<span title="{escape(result.what)}">{text(named[0])}</span>',
        text(named[2]),
        *times,
        text(units.rate(result.per_second)) if result.measurement.operations else Html(""),
        text(f"{size_bytes:,} B") if size_bytes else Html(""),
        ", ".join(remarks),
    ]


def _doubts(run: Run) -> Html:
    artifacts = [
        [
            text(title(result.name, result.system, result.settings)),
            "<ul>" + "".join(f"<li>{text(reason)}</li>" for reason in result.reasons) + "</ul>",
        ]
        for result in run.results
        if result.label is not Label.SOUND
    ]
    absent = [[text(name), text(why)] for name, why in run.absent.items()]
    return page.join(
        [
            section(
                "Artifacts",
                "Measured, but not to be believed; they count nowhere.",
                table(("what", "why"), artifacts) if artifacts else "",
            ),
            section(
                "Absent",
                "Meant to be measured, and not there.",
                table(("what", "why"), absent) if absent else "",
            ),
        ]
    )


def _machine(run: Run) -> Html:
    told: dict[str, object] = {**run.machine, **run.settings, "command": run.command}
    rows = [[text(name.replace("_", " ")), text(value)] for name, value in told.items()]
    said = "Figures of another machine, or of other settings, are other figures."
    return section("Machine and settings", said, table(("", ""), rows, "facts"))
