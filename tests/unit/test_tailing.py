"""Following the log from any number: exactly what reading all of it gives, from there on."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from certeusd import _native
from certeusd._native import LogReader, SegmentBuilder
from certeusd.cli.common import SCHEMA_VERSION
from certeusd.control.types import rfc3339
from certeusd.log.reader import Filter, Rendered
from certeusd.log.tailing import Tailing

AT_NS = 1_700_000_000_123_000_000
KEY = bytes(range(32))
ALL = Filter()
NONE = range(0)
Told = list[int | tuple[int, int, str]]


class Log:
    """A log of groups of three events; every fifth is of the rare type."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builder = SegmentBuilder(folder, bytes(16), KEY)
        self.unnamed = NONE

    def segment(self, before_next_seq: int | None = None, *, copy_last: bool = False) -> None:
        self.builder.segment(before_next_seq, copy_last)
        self.builder.producer(1, "acme", "shop")

    def groups(self, count: int, kind: int = 0) -> None:
        for number in range(count):
            first = self.builder.next_seq
            for seq in range(first, first + 3):
                event_type = "rare" if seq % 5 == 0 else "tick"
                self.builder.record(1, seq, event_type, b'{"n":%d}' % seq, kind=kind)
            if number == count // 2:
                self.builder.producer(2, "acme", "late")
            self.builder.commit(AT_NS)

    @property
    def end(self) -> int:
        return self.builder.next_seq - 1

    def path(self, number: int) -> Path:
        return self.folder / f"{number:020}.log"

    def flip(self, number: int, offset: int) -> None:
        content = bytearray(self.path(number).read_bytes())
        content[offset] ^= 0x40
        self.path(number).write_bytes(content)

    def damage(self, number: int, text: bytes) -> None:
        self.flip(number, self.path(number).read_bytes().index(text))


def told_of(rendered: Rendered | None, unnamed: range = NONE) -> Told:
    """Numbers of events and gaps of lines, in the order in which they stand there."""
    assert rendered is not None, "there is more"
    told: Told = []
    for line in rendered.bytes.splitlines():
        shown = json.loads(line)
        gap = shown.get("gap")
        told.append((gap["first_seq"], gap["last_seq"], gap["reason"]) if gap else shown["seq"])
        if not gap:
            assert shown["data"]["n"] == shown["seq"]
            assert shown.get("tenant") == "acme" or shown["seq"] in unnamed
    return told


def behind(log: Log, after_seq: int, wanted: Filter = ALL, **bounds: int) -> Told:
    told: Told = []
    tailing = Tailing(log.folder, wanted, after_seq)
    while (part := tailing.read(log.end, **bounds)) is not None:
        told += told_of(part, log.unnamed)
        assert part.last_seq == tailing.after_seq
    assert tailing.after_seq == max(log.end, after_seq)
    return told


def cut(whole: Told, after_seq: int) -> Told:
    """Return what of the whole is behind a number."""
    kept: Told = []
    for one in whole:
        if isinstance(one, int):
            kept += [one] if one > after_seq else []
        elif one[1] > after_seq:
            kept.append((max(one[0], after_seq + 1), one[1], one[2]))
    return kept


def plain(log: Log) -> None:
    log.segment()
    log.groups(4)
    log.segment()
    log.groups(4)


def restarted(log: Log) -> None:
    plain(log)
    log.segment(copy_last=True)
    log.groups(3)
    log.segment(copy_last=True)
    log.groups(2)


def trimmed(log: Log) -> None:
    restarted(log)
    log.path(1).unlink()


def trimmed_to_a_copy(log: Log) -> None:
    trimmed(log)
    log.path(2).unlink()
    log.unnamed = range(22, 25)  # the copied group: what names its producers stood before it


def lost(log: Log) -> None:
    log.segment()
    log.groups(2)
    log.segment(before_next_seq=12, copy_last=True)
    log.groups(3)


def skipped_kinds(log: Log) -> None:
    log.segment()
    log.groups(2)
    log.groups(1, kind=9)
    log.groups(2)


def damaged_inside(log: Log) -> None:
    plain(log)
    log.damage(1, b'{"n":5}')
    log.damage(2, b'{"n":14}')


def damaged_at_its_end(log: Log) -> None:
    restarted(log)
    log.damage(1, b'{"n":11}')
    log.damage(2, b'{"n":23}')


def header_damaged(log: Log) -> None:
    restarted(log)
    log.flip(2, 9)


SHAPES = [plain, restarted, trimmed, trimmed_to_a_copy, lost, skipped_kinds, damaged_inside,
          damaged_at_its_end, header_damaged]  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
def test_behind_any_number_is_what_reading_all_gives_behind_it(
    log: Log, shape: Callable[[Log], None]
) -> None:
    shape(log)
    whole: Told = []
    reader = LogReader(log.folder)
    while (batch := reader.next_batch(log.end, 7, 1 << 20)) is not None:
        whole += told_of(batch.render(ALL, "lines"), log.unnamed)
    numbers: list[int] = []
    for one in whole:
        numbers += [one] if isinstance(one, int) else range(one[0], one[1] + 1)
    assert numbers == list(range(1, log.end + 1)), "every number once"
    for after_seq in range(log.end + 2):
        assert behind(log, after_seq) == cut(whole, after_seq), after_seq
        assert behind(log, after_seq, limit=1) == cut(whole, after_seq), after_seq
        assert behind(log, after_seq, bytes_max=1) == cut(whole, after_seq), after_seq


def test_damage_behind_the_place_hides_no_event_from_its_tenant(log: Log) -> None:
    plain(log)
    log.damage(2, b'{"n":14}')
    tenant = Filter(tenant="acme")
    assert behind(log, 12, tenant)[1:] == list(range(16, 25))


def test_many_groups_are_stepped_over_to_the_right_one(log: Log) -> None:
    log.segment()
    for size in (1, 40, 700, 3):
        for _ in range(40):
            for _ in range(size):
                seq = log.builder.next_seq
                log.builder.record(1, seq, "tick", b'{"pad":"%s"}' % (b"x" * 300))
            log.builder.commit(AT_NS)
    for after_seq in (0, 39, 40, 1000, 1640, 20_000, log.end - 120, log.end - 1):
        reader = LogReader(log.folder)
        reader.seek_seq(after_seq)
        batch = reader.next_batch(log.end, 1, 1)
        assert batch is not None
        assert batch.first_seq <= after_seq + 1 <= batch.last_seq


def test_a_place_that_is_not_durable_is_waited_for(log: Log) -> None:
    plain(log)
    tailing = Tailing(log.folder, ALL, 14)
    assert tailing.read(14) is None
    assert told_of(tailing.read(15)) == [15]
    assert tailing.read(15) is None
    beyond = Tailing(log.folder, ALL, log.end + 7)
    assert beyond.read(log.end) is None
    log.groups(5)
    told: Told = []
    while (part := beyond.read(log.end)) is not None:
        told += told_of(part)
    assert told == list(range(32, 40))


def test_an_absent_log_is_waited_for(tmp_path: Path) -> None:
    log = Log(tmp_path)
    tailing = Tailing(tmp_path, ALL, 2)
    assert tailing.read(0) is None
    assert tailing.read(9) is None
    log.segment()
    log.groups(2)
    assert told_of(tailing.read(log.end)) == [3, 4, 5, 6]


def test_what_is_trimmed_under_a_follower_is_a_gap(log: Log) -> None:
    plain(log)
    log.segment()
    log.groups(2)
    tailing = Tailing(log.folder, ALL, 4)
    assert told_of(tailing.read(log.end, limit=2)) == [5, 6]
    tailing.release()
    log.path(1).unlink()
    log.path(2).unlink()
    told: Told = []
    while (part := tailing.read(log.end)) is not None:
        told += told_of(part)
    assert told == [(7, 24, "trimmed"), *range(25, 31)]


def test_a_follower_that_let_go_goes_on_where_it_was(log: Log) -> None:
    restarted(log)
    tailing = Tailing(log.folder, ALL, 1)
    told: Told = []
    while (part := tailing.read(log.end, limit=4)) is not None:
        told += told_of(part)
        tailing.release()
    assert told == list(range(2, log.end + 1))


def test_a_rare_type_moves_its_position_past_what_is_not_taken(log: Log) -> None:
    plain(log)
    tailing = Tailing(log.folder, Filter(type="rare"), 20, form="sse")
    part = tailing.read(log.end)
    assert part is not None
    assert (part.events, part.last_seq, part.bytes) == (0, 24, b"id: 24\n\n")
    tailing = Tailing(log.folder, Filter(type="rare"), 0, form="sse")
    text = b""
    while (part := tailing.read(log.end)) is not None:
        text += part.bytes
    ids = [int(found) for found in re.findall(rb"^id: (\d+)$", text, re.MULTILINE)]
    assert ids == [5, 10, 12, 15, 20, 24], "each event, and the end of each batch"


def test_nothing_behind_the_until_is_told(log: Log) -> None:
    skipped_kinds(log)
    told: Told = []
    tailing = Tailing(log.folder, ALL, 2)
    while (part := tailing.read(log.end, until_seq=8)) is not None:
        told += told_of(part)
    assert told == [3, 4, 5, 6, (7, 7, "unknown-kind"), (8, 8, "unknown-kind")]
    assert tailing.after_seq == 8


def test_a_form_or_bound_that_means_nothing_is_refused(log: Log) -> None:
    plain(log)
    batch = LogReader(log.folder).next_batch(log.end, 9, 9)
    assert batch is not None
    with pytest.raises(ValueError, match="cannot render as csv: use lines or sse"):
        batch.render(ALL, "csv")  # type: ignore[arg-type]  # what the stub forbids
    with pytest.raises(ValueError, match="cannot render nothing"):
        batch.render(ALL, "lines", limit=0)


def test_lines_agree_with_the_command_line_on_version_and_times(log: Log) -> None:
    log.segment()
    log.builder.record(1, 1, "t", b"1")
    log.builder.commit(AT_NS)
    batch = LogReader(log.folder).next_batch(1, 1, 1)
    assert batch is not None
    shown = json.loads(batch.render(ALL, "lines", versioned=True).bytes)
    assert shown["schema_version"] == SCHEMA_VERSION == _native.SCHEMA_VERSION
    assert shown["recorded_at"] == rfc3339(AT_NS / 1e9)
