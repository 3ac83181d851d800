"""The log reader: rows and gaps together are every number once, whatever happened to the bytes."""

import random
from pathlib import Path

import pytest

from certeusd._native import LogReader, SegmentBuilder

DAY_NS = 86_400_000_000_000
NOON_NS = 20_000 * DAY_NS + DAY_NS // 2
KEY = bytes(range(32))
HEADER_BYTES = 4096

Committed = tuple[int, bytes, int, int, int, int, int]


class Log:
    """A log made by hand, and what is known of its groups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builder = SegmentBuilder(folder, bytes(16), KEY)
        self.groups: list[Committed] = []
        self.ticket = 0

    def segment(self, **options: object) -> None:
        self.builder.segment(**options)  # type: ignore[arg-type]  # passed on by name
        self.builder.producer(1, "default", "check")

    def group(self, count: int, at_ns: int = NOON_NS) -> Committed:
        for _ in range(count):
            self.ticket += 1
            self.builder.record(1, self.ticket, "tick", b'{"n":%d}' % self.ticket)
        committed = self.builder.commit(at_ns)
        self.groups.append(committed)
        return committed

    def flip(self, segment_no: int, offset: int) -> None:
        with self.path(segment_no).open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0x40]))

    def path(self, segment_no: int) -> Path:
        return self.folder / f"{segment_no:020}.log"

    def read(self, durable_seq: int | None = None, rows_max: int = 7) -> list[int | str]:
        """Numbers of rows, and `first..last reason` for gaps, in the order in which they come."""
        reader = LogReader(self.folder)
        return drain(reader, durable_seq or self.builder.next_seq - 1, rows_max)


def drain(reader: LogReader, durable_seq: int, rows_max: int = 7) -> list[int | str]:
    found: list[int | str] = []
    while (batch := reader.next_batch(durable_seq, rows_max, 1 << 20)) is not None:
        found += [f"{first}..{last} {reason}" for first, last, reason in batch.gaps]
        found += [batch.event(row)["seq"] for row in range(batch.rows)]
        for row in range(batch.rows):
            event = batch.event(row)
            assert (event["tenant"], event["source"]) in [("default", "check"), (None, None)]
    return found


def numbers_of(found: list[int | str]) -> list[int]:
    numbers: list[int] = []
    for one in found:
        if isinstance(one, int):
            numbers.append(one)
        else:
            first, last = one.split()[0].split("..")
            numbers += range(int(first), int(last) + 1)
    return numbers


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_nothing_is_read_beyond_what_is_durable(log: Log) -> None:
    log.segment()
    log.group(3)
    log.group(3)
    reader = LogReader(log.folder)
    assert reader.next_batch(0, 100, 1 << 20) is None
    assert drain(reader, 3) == [1, 2, 3]
    assert drain(reader, 5) == []
    assert drain(reader, 6) == [4, 5, 6]


def test_an_absent_log_is_no_error(tmp_path: Path) -> None:
    reader = LogReader(tmp_path / "log")
    assert reader.next_batch(10, 1, 1) is None
    assert reader.oldest() is None
    assert reader.segments() == []
    assert reader.position_status(0, bytes(32), 0) == "start"


def test_a_batch_is_whole_groups_of_one_day_within_its_bounds(log: Log) -> None:
    log.segment()
    for day in (0, 0, 1):
        log.group(4, NOON_NS + day * DAY_NS)
    reader = LogReader(log.folder)
    sizes = [reader.next_batch(12, 100, 1 << 20), reader.next_batch(12, 100, 1 << 20)]
    assert [batch.rows for batch in sizes if batch] == [8, 4]
    assert [batch.day for batch in sizes if batch] == [20241004, 20241005]
    small = LogReader(log.folder).next_batch(12, 1, 1)
    assert small is not None
    assert (small.rows, small.group, small.last_seq) == (4, 1, 4)


def test_a_copied_group_is_taken_once(log: Log) -> None:
    log.segment()
    log.group(3)
    log.segment(copy_last=True)
    log.group(3)
    assert log.read() == [1, 2, 3, 4, 5, 6]


def test_a_copied_group_stands_in_for_its_damaged_original(log: Log) -> None:
    log.segment()
    log.group(3)
    _, _, _, _, _, offset, _ = log.group(3)
    log.segment(copy_last=True)
    log.group(3)
    log.flip(1, offset + 130)
    assert log.read() == list(range(1, 10))


def test_bytes_behind_the_end_that_the_successor_tells_are_never_read(log: Log) -> None:
    log.segment()
    log.group(3)
    stale = Log(log.folder / "stale")
    stale.folder.mkdir()
    stale.segment()
    stale.group(3)
    stale.group(3)
    log.segment()
    log.group(2)
    # A valid group with the right salt and the right number, which recovery did not take over.
    with stale.path(1).open("rb") as theirs, log.path(1).open("ab") as ours:
        theirs.seek(stale.groups[1][5])
        ours.write(theirs.read())
    assert log.read() == [1, 2, 3, 4, 5]


def test_a_damaged_group_is_a_gap_of_exactly_its_numbers(log: Log) -> None:
    log.segment()
    log.group(3)
    offset = log.group(4)[5]
    log.group(2)
    log.flip(1, offset + 200)
    assert log.read() == [1, 2, 3, "4..7 damaged", 8, 9]


def test_damage_at_the_end_of_a_segment_is_told_by_the_next_header(log: Log) -> None:
    log.segment()
    log.group(3)
    offset = log.group(4)[5]
    log.segment()
    log.flip(1, offset)
    assert log.read() == [1, 2, 3, "4..7 damaged"]
    log.group(2)
    assert log.read() == [1, 2, 3, "4..7 damaged", 8, 9]


def test_a_damaged_segment_header_costs_none_of_its_events(log: Log) -> None:
    for _ in range(3):
        log.segment()
        log.group(3)
        log.group(3)
    log.flip(2, 20)
    assert log.read() == list(range(1, 19))


def test_a_segment_that_is_gone_is_a_gap(log: Log) -> None:
    for _ in range(4):
        log.segment()
        log.group(3)
    log.path(2).unlink()
    assert log.read() == [1, 2, 3, "4..6 missing-segment", 7, 8, 9, 10, 11, 12]
    log.path(1).unlink()
    assert log.read() == ["1..6 trimmed", 7, 8, 9, 10, 11, 12]


def test_a_reader_goes_on_in_a_segment_that_was_unlinked(log: Log) -> None:
    log.segment()
    log.group(3)
    log.group(3)
    reader = LogReader(log.folder)
    assert drain(reader, 3) == [1, 2, 3]
    log.segment()
    log.group(3)
    log.path(1).unlink()
    assert drain(reader, 9) == [4, 5, 6, 7, 8, 9]


def test_an_unreadable_end_stalls_until_something_follows(log: Log) -> None:
    log.segment()
    log.group(3)
    offset = log.group(3)[5]
    log.flip(1, offset + 1)
    reader = LogReader(log.folder)
    assert drain(reader, 6) == [1, 2, 3]
    assert reader.stalled == (1, offset)
    log.group(2)
    assert drain(reader, 8) == ["4..6 damaged", 7, 8]
    assert reader.stalled is None


def test_a_skippable_record_is_a_gap_and_a_mandatory_one_stops_reading(log: Log) -> None:
    log.segment()
    log.builder.record(1, 1, "t", b"1")
    log.builder.record(1, 2, "t", b"2", kind=9)
    log.builder.record(1, 3, "t", b"3")
    log.builder.commit(NOON_NS)
    assert log.read() == ["2..2 unknown-kind", 1, 3]
    log.builder.record(1, 4, "t", b"4", kind=0x89)
    log.builder.commit(NOON_NS)
    with pytest.raises(ValueError, match="does not understand"):
        log.read()


@pytest.mark.parametrize("seed", range(60))
def test_after_any_damage_rows_and_gaps_are_every_number_once(log: Log, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(rng.randint(1, 3)):
        claim = None
        if number and rng.random() < 0.3:
            claim = log.builder.next_seq + rng.randint(1, 9)
        log.segment(copy_last=bool(number) and rng.random() < 0.5, before_next_seq=claim)
        for _ in range(rng.randint(1, 6)):
            log.group(rng.randint(1, 9))
    for _ in range(rng.randint(1, 6)):
        _, _, _, _, segment_no, offset, bytes_ = rng.choice(log.groups)
        log.flip(segment_no, offset + rng.randrange(bytes_))
    log.segment()
    log.group(1)
    found = log.read(rows_max=rng.randint(1, 20))
    assert numbers_of(found) == list(range(1, log.builder.next_seq)), found


@pytest.mark.parametrize("group", range(7))
def test_reading_from_any_group_on_gives_what_is_behind_it(log: Log, group: int) -> None:
    for _ in range(3):
        log.segment(copy_last=bool(log.groups))
        log.group(2)
        log.group(3)
    reader = LogReader(log.folder)
    reader.seek(group)
    seq = log.groups[group - 1][3] if group else 0
    assert drain(reader, 15) == list(range(seq + 1, 16))
    root = log.groups[group - 1][1] if group else bytes(32)
    reader.seek(group, seq, root)
    assert drain(reader, 15) == list(range(seq + 1, 16))


def test_the_status_of_every_position_is_told(log: Log) -> None:
    for _ in range(3):
        log.segment()
        log.group(2)
        log.group(3)
    reader = LogReader(log.folder)
    assert reader.position_status(0, bytes(32), 0) == "start"
    for group, root, _, seq, *_ in log.groups:
        assert reader.position_status(group, root, seq) == "ok"
        assert reader.position_status(group, bytes(32), seq) == "diverged"
        assert reader.position_status(group, root, seq + 4) == "diverged" or group == 6
    assert reader.position_status(7, bytes(32), 15) == "diverged"
    log.path(1).unlink()
    statuses = [reader.position_status(one[0], one[1], one[3]) for one in log.groups]
    assert statuses == ["behind-log", "ok", "ok", "ok", "ok", "ok"]
    assert reader.position_status(0, bytes(32), 0) == "behind-log"


def test_segments_are_listed_with_what_they_hold(log: Log) -> None:
    log.segment()
    log.group(2)
    log.group(3)
    log.segment(copy_last=True)
    log.group(4)
    first, second = LogReader(log.folder).segments()
    assert (first["segment_no"], first["groups"], first["records"]) == (1, 2, 5)
    assert (first["first_seq"], first["last_seq"]) == (1, 5)
    # The copied group counts where it was written first.
    assert (second["groups"], second["records"], second["first_group"]) == (1, 4, 3)
    assert (second["first_seq"], second["last_seq"]) == (6, 9)


def test_a_check_of_a_whole_log_finds_nothing(log: Log) -> None:
    for _ in range(3):
        log.segment(copy_last=bool(log.groups))
        log.group(4)
        log.group(4)
    told: list[tuple[int, int]] = []

    def tell(done: int, in_all: int) -> None:
        told.append((done, in_all))

    report = LogReader(log.folder).check(tell, KEY)
    assert report["ok"]
    assert report["roots_checked"]
    assert report["tail_bytes"] == 0
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert not LogReader(log.folder).check(log_key=bytes(32))["ok"]


def test_a_check_of_a_log_that_is_trimmed_meanwhile_finds_nothing(log: Log) -> None:
    for _ in range(4):
        log.segment()
        log.group(2)
    first = min(int(path.stem) for path in log.folder.glob("*.log"))

    def trim(done: int, _: int) -> None:
        if done == 1:
            for number in (first, first + 1):
                log.path(number).unlink()

    report = LogReader(log.folder).check(trim, KEY)
    assert report["ok"], report["findings"]


def test_a_check_names_each_damaged_range(log: Log) -> None:
    log.segment()
    log.group(3)
    offset = log.group(4)[5]
    log.group(2)
    log.segment(before_next_seq=13)
    log.group(1)
    log.flip(1, offset + 300)
    report = LogReader(log.folder).check()
    found = [(one["segment_no"], one["offset"], one["bytes"]) for one in report["findings"]]
    assert found == [(1, offset, 4096), (2, 4096, 0)]
    ranges = [(one["first_seq"], one["last_seq"], one["reason"]) for one in report["findings"]]
    assert ranges == [(4, 7, "damaged"), (10, 12, "lost")]


def test_a_check_sees_an_edit_whose_checksums_were_made_right(log: Log) -> None:
    log.segment()
    log.group(1)
    forged = Log(log.folder / "forged")
    forged.folder.mkdir()
    forged.segment()
    forged.ticket = 41
    forged.group(1)
    log.group(1)
    data = log.path(1).read_bytes()
    theirs = forged.path(1).read_bytes()[HEADER_BYTES : HEADER_BYTES + 4096]
    log.path(1).write_bytes(data[:HEADER_BYTES] + theirs + data[HEADER_BYTES + 4096 :])
    findings = LogReader(log.folder).check(log_key=KEY)["findings"]
    assert [(one["reason"], one["first_seq"]) for one in findings] == [("chain-broken", 2)]


def test_a_check_sees_a_segment_of_another_past(log: Log) -> None:
    forged = Log(log.folder / "forged")
    forged.folder.mkdir()
    forged.ticket = 41
    for one in (log, forged):
        one.segment()
        one.group(1)
        one.segment()
    log.path(2).write_bytes(forged.path(2).read_bytes())
    findings = LogReader(log.folder).check(log_key=KEY)["findings"]
    assert [(one["segment_no"], one["reason"]) for one in findings] == [(2, "chain-broken")]


def test_a_check_sees_a_segment_that_is_missing(log: Log) -> None:
    for _ in range(3):
        log.segment()
        log.group(1)
    log.path(2).unlink()
    findings = LogReader(log.folder).check(log_key=KEY)["findings"]
    assert (2, "missing-segment") in [(one["segment_no"], one["reason"]) for one in findings]


def test_a_torn_tail_is_no_finding(log: Log) -> None:
    log.segment()
    log.group(1)
    with log.path(1).open("ab") as file:
        file.write(b"torn")
    report = LogReader(log.folder).check()
    assert report["ok"]
    assert report["tail_bytes"] == 4


def test_a_group_without_records_counts_once_a_later_one_is_durable(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.segment()
    group = log.group(2)[0]
    # Rejections alone: its sync may not have returned, which no number tells.
    log.builder.producer(2, "default", "rejected")
    log.group(0)
    reader = LogReader(tmp_path)
    batch = reader.next_batch(2, 7, 1 << 20)
    assert batch is not None
    assert (batch.group, batch.rows) == (group, 2)
    assert reader.next_batch(2, 7, 1 << 20) is None
    log.group(1)
    batch = reader.next_batch(3, 7, 1 << 20)
    assert batch is not None
    assert (batch.group, batch.rows) == (group + 2, 1)
