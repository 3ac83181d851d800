"""What `/metrics` says: names, types, stable buckets, and that the documents say the same."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from certeusd.board import Board
from certeusd.config import ThresholdsSection
from certeusd.control import metrics, reasons
from certeusd.control.metrics import held_bytes
from certeusd.control.types import Status
from certeusd.exits import Exit, ExitError
from certeusd.supervisor import lag, measuring
from certeusd.supervisor.child import Usage, watch_exit
from certeusd.supervisor.lag import Lag
from support.measured import Measured, empty_board, full_board, sla
from support.promtool import promtool

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def families(board: Board, thresholds: ThresholdsSection | None = None) -> dict[str, Metric]:
    text = metrics.render(Measured(board, thresholds))
    return {family.name: family for family in text_string_to_metric_families(text)}


def shown_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def documented(family: Metric) -> str:
    """Render the row of docs/monitoring.md."""
    labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
    named = ", ".join(f"`{label}`" for label in labels)
    return f"| `{shown_name(family)}` | {family.type} | {named} | {family.documentation} |"


def test_promtool_has_nothing_to_say_of_a_board_on_which_everything_is_counted() -> None:
    assert promtool("check", "metrics", stdin=metrics.render(Measured(full_board()))) == ""


def test_every_family_is_of_certeus_has_a_help_and_samples() -> None:
    found = families(full_board())
    assert len(found) > 60
    for name, family in found.items():
        assert name.startswith("certeus_"), name
        assert family.documentation.endswith("."), name
        assert family.samples, name
        assert len({str(sample) for sample in family.samples}) == len(family.samples), name


def test_the_documented_table_is_what_is_exported() -> None:
    rows = [documented(family) for family in families(full_board()).values()]
    text = (ROOT / "docs" / "monitoring.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| `certeus_")]
    assert table == rows, "\n".join(rows)


def test_every_documented_reason_has_a_series_whether_it_holds_or_not() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    table = text.partition("\n## Reasons\n")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    codes = {code for cell in first_cells for code in re.findall(r"`([a-z-]+)`", cell)}
    assert codes == set(reasons.CODES)
    series = families(full_board())["certeus_reason"].samples
    assert {one.labels["code"] for one in series} == codes
    assert [one.labels["code"] for one in series if one.value == 1] == ["postgres-away"]


def test_bounds_of_a_histogram_are_the_same_whatever_was_counted() -> None:
    def bounds(found: Mapping[str, Metric]) -> dict[str, list[str]]:
        return {
            name: [one.labels["le"] for one in family.samples if "le" in one.labels]
            for name, family in found.items()
            if family.type == "histogram"
        }

    empty, full = bounds(families(empty_board())), bounds(families(full_board()))
    assert empty == full
    assert len(empty) == 6
    for name, given in empty.items():
        assert given[-1] == "+Inf", name
        assert [float(le) for le in given] == sorted({float(le) for le in given}), name
        assert 10 < len(given) < 30, name


def test_a_bucket_counts_all_that_is_not_above_its_bound() -> None:
    board = empty_board()
    for value in (1, 90_000, 250_000_000, 1 << 50):
        board.observe("worker", "ack_ns_buckets_64", value, index=0)
    board.observe("worker", "ack_ns_buckets_64", 90_000, count=5, index=1)
    samples = families(board)["certeus_ack_seconds"].samples
    below = {float(one.labels["le"]): one.value for one in samples if "le" in one.labels}
    first = min(below)
    assert below[first] == 1, "what is below the first bound counts there"
    assert below[0.000131072] == 7, "both workers together"
    assert below[0.268435456] == 8
    assert below[float("inf")] == 9, "what is above the last bound counts nowhere else"


def test_whole_numbers_have_the_last_one_below_as_their_bound() -> None:
    board = empty_board()
    for records in (1, 3, 4):
        board.observe("log", "group_records_buckets_64", records)
    samples = families(board)["certeus_group_records"].samples
    below = {one.labels["le"]: one.value for one in samples if "le" in one.labels}
    assert (below["1"], below["3"], below["7"]) == (1, 2, 3)


def test_thresholds_are_exported_as_they_are_configured() -> None:
    found = families(empty_board(), ThresholdsSection(cpu_warning=0.5, latency_critical_ms=250))
    ratios = {
        (one.labels["resource"], one.labels["severity"]): one.value
        for one in found["certeus_threshold_ratio"].samples
    }
    assert ratios == {
        ("cpu", "warning"): 0.5, ("cpu", "critical"): 0.95, ("memory", "warning"): 0.75,
        ("memory", "critical"): 0.9, ("error_rate", "warning"): 0.001,
        ("error_rate", "critical"): 0.01,
    }  # fmt: skip
    seconds = [one.value for one in found["certeus_threshold_seconds"].samples]
    assert seconds == [0.1, 0.25]


def test_what_is_kept_for_postgresql_is_whole_segments_and_nothing_when_it_has_all() -> None:
    board = empty_board()
    board.set("log", "log_bytes", 4 * 64 * MIB)
    board.set("log", "segments", 4)
    board.set("durability", "segment_no", 9)
    board.set("durability", "durable_seq", 100)
    assert held_bytes(board) == 4 * 64 * MIB, "nothing is confirmed: all there is"
    board.set("follower", "trim_segment", 8)
    board.set("follower", "position_seq", 50)
    assert held_bytes(board) == 2 * 64 * MIB
    board.set("follower", "position_seq", 100)
    assert held_bytes(board) == 0


def test_no_events_are_taken_while_the_log_has_no_room() -> None:
    class Full(Measured):
        def status(self) -> Status:
            status = super().status()
            full = msgspec.structs.replace(status.reasons[0], code="log-full")
            return msgspec.structs.replace(status, reasons=[full])

    for measured, taken in ((Measured(full_board()), "1.0"), (Full(full_board()), "0.0")):
        assert f"certeus_takes_events {taken}\n" in metrics.render(measured)


# --- what the supervisor measures -------------------------------------------------------------


def cgroup(tmp_path: Path, limits: Mapping[str, str]) -> tuple[Path, Path]:
    root = tmp_path / "cgroup"
    for path, limit in limits.items():
        group = root / path
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{limit}\n")
        used = MIB if limit == "max" else int(limit) // 2
        (group / "memory.stat").write_text(f"anon {used}\nfile 999999999\nshmem 4096\n")
    of = tmp_path / "of"
    of.write_text("0::/system.slice/certeus.service\n")
    return root, of


def test_memory_is_that_of_the_control_group_with_the_least_room(tmp_path: Path) -> None:
    limits = {"system.slice": str(64 * MIB), "system.slice/certeus.service": str(80 * MIB)}
    found = measuring.memory(*cgroup(tmp_path, limits))
    assert found == ("cgroup", 32 * MIB + 4096, 64 * MIB)


@pytest.mark.parametrize("limit", ["max", str(1 << 60)])
def test_memory_is_the_hosts_where_the_unit_has_no_limit_below_it(
    tmp_path: Path, limit: str
) -> None:
    found = measuring.memory(*cgroup(tmp_path, {"system.slice/certeus.service": limit}))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert (found.scope, found.limit_bytes) == ("host", pages)
    assert 0 < found.used_bytes < pages


@pytest.mark.parametrize("text", ["4:memory:/here\n", "", "0::/\n", "0::/gone\n"])
def test_memory_is_the_hosts_where_there_is_no_group_to_ask(tmp_path: Path, text: str) -> None:
    root, of = cgroup(tmp_path, {})
    of.write_text(text)
    assert measuring.memory(root, of).scope == "host"


def test_the_processor_time_of_a_life_is_known_to_the_end_after_its_end() -> None:
    work = "import os\nwhile sum(os.times()[:2]) < 0.2: pass"
    process = subprocess.Popen([sys.executable, "-c", work])

    async def live() -> tuple[float, float, float]:
        usage = Usage(process.pid)
        at_birth, _ = usage.look()
        assert await watch_exit(asyncio.get_running_loop(), process, usage.look) == 0
        return at_birth, usage.cpu_seconds, usage.look()[0]

    at_birth, at_end, afterwards = asyncio.run(live())
    assert at_birth < 0.2 <= at_end == afterwards


def test_a_wait_is_counted_from_when_the_first_missing_event_was_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("certeusd.supervisor.lag.time.monotonic", lambda: now[0])
    waits = Lag()
    for durable in (10, 10, 20, 20, 30):
        waits.note(durable, 5)
        now[0] += 1.0
    assert waits.seconds(30) == 0.0
    assert waits.seconds(20) == 1.0
    assert waits.seconds(5) == 5.0, "the first tick at which 10 was durable"


def test_a_wait_of_a_day_is_still_told_and_takes_no_more_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("certeusd.supervisor.lag.time.monotonic", lambda: now[0])
    monkeypatch.setattr(lag, "SAMPLES_MAX", 64)
    waits = Lag()
    for durable in range(1, 86_401):
        waits.note(durable, 0)
        now[0] += 1.0
    assert waits.seconds(0) == 86_400.0
    assert waits.seconds(43_200) == pytest.approx(43_200, rel=0.1)
    waits.note(86_401, 86_400)
    now[0] += 1.0
    assert waits.seconds(86_400) == 1.0, "once it is over, a wait is known to the tick again"


def test_a_sum_that_is_full_begins_again_and_raises_nothing() -> None:
    board = empty_board()
    board.set("flush", "delivery_ms_sum", 2**64 - 1)
    board.add("flush", "delivery_ms_sum", 3)
    assert board.get("flush", "delivery_ms_sum") == 2


def test_only_a_configuration_that_cannot_be_used_is_a_failed_reload() -> None:
    one = measuring.Measuring()

    def after(code: Exit) -> bool:
        with pytest.raises(ExitError), one.reload():
            raise ExitError(code, "")
        return one.now([], 1, 0.0, ThresholdsSection(), sla()).reload.successful

    assert after(Exit.TRY_AGAIN)
    assert not after(Exit.CONFIGURATION)
    with one.reload():
        pass
    assert one.now([], 1, 0.0, ThresholdsSection(), sla()).reload.successful
