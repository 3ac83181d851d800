"""The status page as it is made: escaped, cut, of one tenant, and legible."""

import json
import re
from html.parser import HTMLParser

import msgspec
import pytest

from certeusd.api.last_events import DATA_LENGTH_MAX, data_shown, row
from certeusd.api.live_view import PRODUCERS_MAX, Live, durable_per_second, live
from certeusd.api.page import TEMPLATE, rows
from certeusd.api.page_cells import CHART_HEIGHT, CHART_WIDTH, Cell, cells, points
from certeusd.control import types
from support.top_world import process, producer, sample, status

HOSTILE = "<script>alert('1')</script>\"&[[state]]\u2028\u2029\u202e\u2066\u0085\x1b[31m\x00\ufeff"
VOID = {"meta", "link", "polyline", "img", "br"}


class Parsed(HTMLParser):
    """Elements, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], "each element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data


def moment(text: str, tenant: str = "default") -> Live:
    """A moment in which every text that a stranger may choose is this one."""
    line = {"seq": 7, "recorded_at": "2026-01-01T00:00:00.000Z", "source": text, "type": text,
            "subject": text, "verdict": "accepted", "data": {text: text}}  # fmt: skip
    now = status(
        reasons=[types.Reason("postgres-away", "", text, text)],
        bottleneck=types.Bottleneck("deliver", text),
        processes=[process("log", counters={"records_total": 5, "too_deep_total": 2})],
    )
    one = producer(text, tenant=tenant, rejected={"too-deep": 1})
    event = row(json.dumps(line, ensure_ascii=False).encode())
    return live(sample(0), sample(1, now, (one,)), "default", [event], [1.0, 3.0])


def page(one: Live) -> str:
    return TEMPLATE.filled(cells(one))


def test_what_a_stranger_wrote_is_escaped_wherever_it_stands() -> None:
    plain, hostile = page(moment("plain")), page(moment(HOSTILE))
    assert Parsed(hostile).tags == Parsed(plain).tags, "no element more, and none less"
    # Source and type, subject, data twice, the producer, what, next, and the bottleneck.
    assert Parsed(hostile).text.count("<script>alert('1')</script>") == 9
    assert "[[state]]" in Parsed(hostile).text, "what is filled in is not filled in again"
    assert hostile.count("<script>") == 1
    for one in "\u2028\u2029\u202e\u2066\u0085\x1b\x00\ufeff":
        assert one not in hostile
        assert one not in msgspec.json.encode(cells(moment(HOSTILE))).decode()


def test_every_place_of_the_template_is_filled() -> None:
    assert not re.findall(r"\[\[\w", page(moment("plain")))
    assert not re.findall(r'(href|src|action)="(?!data:)', TEMPLATE.text), "it needs nobody else"
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org/2000/svg", "", TEMPLATE.text)


def test_each_text_and_table_of_the_page_is_there_to_be_updated() -> None:
    told = cells(moment("plain"))
    assert set(re.findall(r'data-text="(\w+)"', TEMPLATE.text)) == set(told.texts) - {"title"}
    assert set(re.findall(r'data-rows="(\w+)"', TEMPLATE.text)) == set(told.tables)
    for name, table in told.tables.items():
        found = re.search(rf'<section id="{name}".*?</thead>', TEMPLATE.text, re.DOTALL)
        assert found is not None, name
        assert {len(row) for row in table} == {found[0].count("<th ")}, name


def test_a_cell_is_text_and_its_tone_is_a_class() -> None:
    made = rows([[Cell("<b>"), Cell("&", "loss")]])
    assert made == '<tr><th scope="row">&lt;b&gt;</th><td class="loss">&amp;</td></tr>'


@pytest.mark.parametrize("one", ["x", "\u00e9", "\U0001f600", "\u202e", '"'])
def test_a_megabyte_is_cut(one: str) -> None:
    shown = data_shown(json.dumps(one * 1_000_000, ensure_ascii=False).encode())
    assert len(shown) <= 10 * (DATA_LENGTH_MAX + 1)
    assert shown.endswith("…")
    assert len(page(moment(one * 1_000_000))) < 100_000


def test_producers_of_other_tenants_are_not_told() -> None:
    for tenant, count in (("default", 1), ("other", 0), ("", 0), ("Default", 0)):
        told = moment("its-name", tenant)
        assert (len(told.producers), told.producers_count) == (count, count)
        assert ("its-name" in str(told.producers)) == bool(count)


def test_of_many_producers_the_busiest_are_told() -> None:
    many = tuple(producer(f"p{n}", n, events_total=n) for n in range(100))
    before = tuple(producer(f"p{n}", n) for n in range(100))
    told = live(sample(0, producers=before), sample(1, producers=many), "default")
    assert told.producers_count == 100
    assert [one.source for one in told.producers] == [f"p{99 - n}" for n in range(PRODUCERS_MAX)]
    assert cells(told).texts["shown"].text == "32 of 100"


def test_verdicts_are_told_by_reason() -> None:
    def at(count: int) -> types.Status:
        counters = {"records_total": 10 * count, "duplicates_total": count,
                    "too_deep_total": count, "id_conflict_total": 3 * count}  # fmt: skip
        return status(uptime_seconds=10.0 + count, processes=[process("log", counters=counters)])

    told = live(sample(0, at(1)), sample(2, at(3)), "default").verdicts
    assert [(one.verdict, one.reason, one.total, one.per_second) for one in told] == [
        ("accepted", "", 30, 10.0), ("escalated", "", 0, 0.0), ("duplicate", "", 3, 1.0),
        ("rejected", "id-conflict", 9, 3.0), ("rejected", "too-deep", 3, 1.0),
    ]  # fmt: skip


def test_the_six_stages_are_told_in_their_order() -> None:
    told = moment("plain").stages
    assert [one.stage for one in told] == [
        "ingest", "validate", "verify", "protect", "commit", "deliver",
    ]  # fmt: skip


def test_a_restart_of_the_daemon_is_no_speed() -> None:
    after = sample(2, status(uptime_seconds=1.0, durable_seq=50))
    assert durable_per_second(sample(0, status(durable_seq=40)), after) is None
    assert live(sample(0), after, "default").interval_seconds is None


def test_what_a_recovery_finds_is_no_speed() -> None:
    after = sample(2, status(durable_seq=50))
    assert durable_per_second(sample(0, status(durable_seq=40)), after) == 5.0
    for state in ("starting", "recovering"):
        before = sample(0, status(durable_seq=0, state=state))
        assert durable_per_second(before, after) is None


def test_the_chart_stays_within_its_frame() -> None:
    for history in ([], [0.0], [5.0] * 120, [float(n) for n in range(120)]):
        numbers = [tuple(map(float, one.split(","))) for one in points(history).split()]
        assert len(numbers) == len(history)
        assert all(-0.1 <= x <= CHART_WIDTH and 0 <= y <= CHART_HEIGHT for x, y in numbers)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_text_has_the_contrast_that_it_needs() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1; by day and by night."""
    themes = [dict(re.findall(r"--(\w+): (#\w+)", theme))
              for theme in re.findall(r":root \{(.*?)\}", TEMPLATE.text, re.DOTALL)]  # fmt: skip
    assert len(themes) == 2
    for theme in themes:
        for name in ("ink", "quiet", "good", "pressure", "loss"):
            dark, light = sorted((luminance(theme[name]), luminance(theme["paper"])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name
