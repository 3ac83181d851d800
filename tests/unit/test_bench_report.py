"""The page of a run: whole, honest, harmless, and drawn within its frames."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certeus_bench import charts, report
from certeus_bench.charts import Axis, Line
from certeus_bench.evidence import Evidence, Signature
from certeus_bench.results import Run
from support.bench_results import ambitious, fake, latency, rate, result, run

VOID = {"meta", "br", "hr", "img", "link"}
CHARACTER_WIDTH = 7.0


class Outline(HTMLParser):
    """Tags that are open; all texts; whether every tag was closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def page_of(whole: Run, signature: Signature | None = None) -> str:
    return report.html(Evidence(whole, signature))


def texts(page: str) -> str:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    return " ".join(" ".join(outline.texts).split())


def headings(page: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page)


def full() -> Run:
    paced = fake(
        operations=60_000, seconds=60.0, histogram=None, timer_ns=0, concurrency=0,
        intervals=[100, 120, 80] * 200, interval_seconds=0.1,
    )  # fmt: skip
    return run(
        *ambitious(),
        result("durable/ack", fake(), "Redis 7.0", appendfsync="always"),
        result("durable/ack", fake(), "Redis 7.0", unsafe=True, appendfsync="everysec"),
        result("durable/ack", fake(seconds=0.5), "Broken 1.0"),
        result("durable/pace", paced),
        result("stage/ingest", rate(0, facts={"ns_per_event": 100.0})),
        result("stage/commit", rate(0, facts={"ns_per_event": 300.0})),
        absent={"durable/ack of Kafka": "no Java runtime; apt-get install default-jre"},
        memory_gib=16,
    )


def test_page_of_everything_has_every_part() -> None:
    page = page_of(full())
    assert headings(page) == [
        "Bars", "Latency", "Side by side", "Scaling", "Throughput over time", "Cost of each stage",
        "All results", "Artifacts", "Absent", "Machine and settings",
    ]  # fmt: skip
    said = texts(page)
    assert "no Java runtime; apt-get install default-jre" in said
    assert "measured for 0.5 s; at least 1 s are needed" in said
    assert "Faked CPU" in said
    assert "ingest 100 ns 25%" in said


def test_page_of_nothing_has_only_the_machine() -> None:
    assert headings(page_of(run())) == ["Machine and settings"]


@pytest.mark.parametrize("whole", [full(), run()])
def test_page_needs_nothing_from_anywhere_and_runs_nothing(whole: Run) -> None:
    page = page_of(whole)
    outline = Outline()
    outline.feed(page)
    assert not outline.seen & {"script", "link", "img", "iframe", "object"}
    assert "://" not in page
    assert '<meta name="viewport" content="width=device-width' in page
    for words in ("@media print", "prefers-color-scheme: dark", "max-width: 560px"):
        assert words in page


def test_page_of_the_same_run_is_the_same() -> None:
    assert page_of(full()) == page_of(full())


def test_what_a_run_says_is_never_markup() -> None:
    evil = "<script>alert('x')</script>\"&"
    hostile = result("durable/ack", latency(200, 400), evil, note=evil)
    named = msgspec.structs.replace(
        result(f"durable/{evil}", latency(1, 9), unsafe=True), what=evil
    )
    whole = run(hostile, hostile, named, absent={evil: evil}, cpu=evil)
    whole = msgspec.structs.replace(whole, commit=evil, command=evil, started_at=evil)
    page = page_of(whole)
    assert "<script" not in page
    assert evil in texts(page)


def test_signature_is_told_or_that_there_is_none() -> None:
    signature = Signature(algorithm="ed25519", public_key="ab" * 32, signature="cd" * 64)
    assert f"signed by {'ab' * 32}" in texts(page_of(run(), signature))
    assert "unsigned: nobody vouches for it" in texts(page_of(run()))


def test_system_that_acknowledges_too_early_is_hatched_and_said_to() -> None:
    ours, theirs = result("durable/ack"), result("durable/ack", fake(), "Fast 1.0", unsafe=True)
    with_both, without = page_of(run(ours, theirs)), page_of(run(ours))
    assert 'fill="url(#hatch)"' in with_both
    assert "Fast 1.0 not durable" in texts(with_both)
    assert 'fill="url(#hatch)"' not in without


def test_artifact_makes_no_scale_and_is_outlined() -> None:
    sound = result("durable/throughput", rate(1_000))
    wild = result("durable/throughput", rate(1_000_000, read_sum=1), "Wild 1.0")
    page = page_of(run(sound, wild))
    assert '<rect class="fill s0" width="100.00%"' in page
    assert '<rect class="fill s1 artifact" width="100.00%"' in page
    assert "payloads were lost or not read" in texts(page)


def test_settings_distinguish_lines_of_one_system() -> None:
    page = page_of(run(*ambitious()))
    assert "certeus (postgres 15)" in texts(page)
    assert 'class="line s0 variant"' in page


def test_clock_of_an_open_loop_is_not_shown_as_throughput() -> None:
    assert "Throughput over time" not in headings(page_of(run(result("ring/x", latency(9, 99)))))


def test_every_drawing_is_well_formed_and_stays_within_its_frame() -> None:
    drawings = re.findall(r"<svg viewBox.*?</svg>", page_of(full()))
    assert len(drawings) > 10
    for drawing in drawings:
        tree = ElementTree.fromstring(drawing)
        for path in tree.iter("path"):
            if "line" in (path.get("class") or "").split():
                numbers = [float(one) for one in re.findall(r"-?[\d.]+", path.get("d") or "")]
                assert len(numbers) > 2
                assert all(charts.LEFT - 0.1 <= x <= charts.WIDTH for x in numbers[::2])
                assert all(0 <= y <= charts.HEIGHT - charts.BOTTOM + 0.1 for y in numbers[1::2])


@pytest.mark.parametrize(
    "drawing",
    [
        pytest.param(drawing, id=re.findall('aria-label="(.*?)"', drawing)[0])
        for drawing in re.findall(r"<svg viewBox.*?</svg>", page_of(full()))
    ],
)
def test_labels_lie_beside_each_other_and_on_the_page(drawing: str) -> None:
    rows: dict[str, list[tuple[float, float]]] = {}
    for label in ElementTree.fromstring(drawing).iter("text"):
        at, width = float(label.get("x") or 0), CHARACTER_WIDTH * len(label.text or "")
        kinds = (label.get("class") or "").split()
        begin = at - width if "end" in kinds else at - width / 2 if "mid" in kinds else at
        assert begin >= -1, label.text
        assert begin + width <= charts.WIDTH + 1, label.text
        rows.setdefault(label.get("y") or "", []).append((begin, begin + width))
    for places in rows.values():
        places.sort()
        for (_, end), (begin, _) in pairwise(places):
            assert end <= begin + 2


@given(st.floats(1, 1e12), st.floats(1, 1e12))
def test_times_of_any_size_have_an_axis(one: float, other: float) -> None:
    axis = charts.logarithmic([one, other], charts.time_label, "time")
    assert 0 < axis.place(min(one, other)) <= axis.place(max(one, other)) < 1
    assert len(axis.ticks) <= 9
    rising(axis)


@given(st.just(0.0) | st.floats(1e-6, 1e15), st.sampled_from([1000.0, 1024.0]))
def test_rates_of_any_size_have_an_axis_from_zero(highest: float, thousand: float) -> None:
    axis = charts.from_zero(highest, str, "rate", thousand=thousand)
    assert axis.place(0) == 0
    assert axis.place(highest) <= 1
    assert 1 < len(axis.ticks) < 9
    rising(axis)


@given(st.floats(0.1, 12))
def test_nines_of_any_depth_have_an_axis(deepest: float) -> None:
    axis = charts.nines(deepest)
    assert axis.place(deepest) < 1
    assert [label for _, label in axis.ticks][:4] == ["50", "90", "99", "99.9"][: len(axis.ticks)]
    rising(axis)


def rising(axis: Axis) -> None:
    places = [axis.place(at) for at, _ in axis.ticks]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert len({label for _, label in axis.ticks}) == len(axis.ticks)


def test_drawing_says_what_it_shows_to_those_who_cannot_see_it() -> None:
    axis = charts.from_zero(1.0, str, "x & y")
    drawing = charts.draw([Line("s0", [(0.0, 0.5), (1.0, 1.0)])], axis, axis, 'what "it" shows')
    tree = ElementTree.fromstring(drawing)
    assert tree.get("role") == "img"
    assert tree.get("aria-label") == 'what "it" shows'


@pytest.mark.parametrize(
    ("value", "bound", "at_least", "kind"),
    [(2.0, 1.0, True, "good"), (0.5, 1.0, True, "bad"), (0.5, 1.0, False, "good"),
     (2.0, 1.0, False, "bad"), (0.0, 1.0, False, "good"), (0.0, 1.0, True, "bad"),
     (1e9, 1.0, True, "good")],
)  # fmt: skip
def test_gauge_shows_the_side_and_stays_within_it(
    value: float, bound: float, at_least: bool, kind: str
) -> None:
    tree = ElementTree.fromstring(charts.gauge(value, bound, at_least))
    (dot,) = tree.iter("circle")
    place = float((dot.get("cx") or "").rstrip("%"))
    assert dot.get("class") == kind
    assert 0 < place < 50 if kind == "bad" else 50 <= place < 100
