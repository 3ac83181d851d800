//! Segments that are gone, foreign, forked or damaged, and the gap records that starts make of
//! them.
//!
//! A log of several lives, each a segment; then something is done to its files. What a start
//! records, what it then finds no more, and what a reader sees, must be the same range.

use super::*;
use crate::board::{PAGE_LOG, log as count};
use crate::disk::{Disk, DiskFile};
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::gap::GapEntry;
use crate::log::recovery::{Gap, segment_name};
use crate::log::replay::recorded;

pub(super) const LIVES: u64 = 7;
/// The most numbers that a segment may hold.
pub(super) const HELD_MAX: u64 = 64 * 1024 / 32;
const EACH: u64 = 6;

/// `LIVES` segments of `EACH` events, two a group: segment `n` has the numbers of `numbers(n)`.
pub(super) fn log() -> SimDisk {
    let mut world = World::new(Setup::default());
    for life in 0..LIVES {
        let mut worker = world.attach();
        let session = world.connect(&mut worker, life as u8 + 1);
        for ticket in 1..=EACH {
            let id = format!("{life} {ticket}");
            worker.event_with_id(&session, ticket, &id, &format!("event {life} {ticket}"));
            if ticket % 2 == 0 {
                world.run();
            }
        }
        if life + 1 < LIVES {
            world = world.kill();
        }
    }
    world.disk.after_kill()
}

pub(super) fn numbers(segment_no: u64) -> (u64, u64) {
    ((segment_no - 1) * EACH + 1, segment_no * EACH)
}

/// What is gone with a segment: its last group still stands in the next one.
fn gone_with(segment_no: u64) -> (u64, u64) {
    let (first, last) = numbers(segment_no);
    (first, last - 2)
}

pub(super) fn path(segment_no: u64) -> PathBuf {
    Path::new(DIR).join(segment_name(segment_no))
}

fn keys(segment_no: u64) -> String {
    segment_name(segment_no).replace(".log", ".keys")
}

fn start(disk: &SimDisk) -> World {
    World::on(disk.clone(), Setup::default()).unwrap()
}

fn header_of(disk: &SimDisk, segment_no: u64) -> SegmentHeader {
    SegmentHeader::parse(&disk.read(&segment_name(segment_no))).unwrap()
}

/// Writes another header before the same groups.
fn forge(disk: &SimDisk, segment_no: u64, change: impl FnOnce(&mut SegmentHeader)) {
    let mut header = header_of(disk, segment_no);
    change(&mut header);
    disk.damage(&segment_name(segment_no), |bytes| {
        bytes[..SEGMENT_HEADER_BYTES as usize].copy_from_slice(&header.encode());
    });
}

pub(super) fn records(disk: &SimDisk) -> Vec<GapEntry> {
    let mut found: Vec<GapEntry> = Vec::new();
    for name in disk.names().iter().filter(|name| name.ends_with(".log")) {
        let Some(header) = SegmentHeader::parse(&disk.read(name)) else { continue };
        let file = disk.open(&Path::new(DIR).join(name), false).unwrap();
        found.extend(recorded(&file, &header).unwrap());
    }
    // A group may stand twice, as the last one of a segment and the first one of the next.
    found.sort_by_key(|gap| gap.first_seq);
    found.dedup();
    found
}

/// A start on `disk` records exactly `expected`, readers see it, and no later start finds it again.
pub(super) fn records_once(
    disk: &SimDisk,
    expected: (u64, u64, &'static str),
    what: &str,
) -> World {
    let (first_seq, last_seq, reason) = expected;
    let mut world = start(disk);
    assert_eq!(world.report.gaps, [Gap { first_seq, last_seq, reason }], "{what}");
    assert_eq!(world.board.page(PAGE_LOG).get(count::DAMAGED_TOTAL), 1, "{what}");
    for life in 0..3_u8 {
        let kept = records(&world.disk);
        assert_eq!(kept.len(), 1, "{what}: {kept:?}");
        assert_eq!((kept[0].first_seq, kept[0].last_seq), (first_seq, last_seq), "{what}");
        assert_eq!(kept[0].reason.word(), reason, "{what}");
        let (rows, gaps) = Files::of(&world.disk).rows_and_gaps(world.durable_seq());
        assert_eq!(gaps, [(first_seq, last_seq)], "{what}, life {life}");
        assert_eq!(rows.len() as u64 + last_seq - first_seq + 1, world.durable_seq(), "{what}");
        // The log goes on behind it, and the numbers do not come again.
        let before = world.durable_seq();
        let mut worker = world.attach();
        let session = world.connect(&mut worker, 100 + life);
        worker.event(&session, 1, "goes on");
        let told = verdicts(&world.answers(&mut worker), session.number);
        assert_eq!(told[0].seq, before + 1, "{what}");
        world = if life % 2 == 0 { world.kill() } else { world.cut_power() };
        assert_eq!(world.report.gaps, [], "{what}, life {life}: found again");
        assert_eq!(world.board.page(PAGE_LOG).get(count::DAMAGED_TOTAL), 0, "{what}");
    }
    world
}

#[test]
fn a_missing_segment_in_the_middle_is_a_gap_of_exactly_its_numbers() {
    let disk = log();
    for segment_no in 2..LIVES {
        let damaged = disk.after_kill();
        damaged.unlink(&path(segment_no)).unwrap();
        let (first, last) = gone_with(segment_no);
        let label = (segment_no, "missing");
        assert!(start(&damaged.after_kill()).report.older.contains(&label));
        records_once(&damaged, (first, last, "missing-segment"), &format!("{segment_no}"));
    }
}

#[test]
fn a_segment_of_another_log_is_set_aside_whole() {
    let disk = log();
    for segment_no in 2..LIVES {
        let damaged = disk.after_kill();
        forge(&damaged, segment_no, |header| header.log_uuid = [7; 16]);
        let bytes = damaged.read(&segment_name(segment_no));
        let (first, last) = gone_with(segment_no);
        let world =
            records_once(&damaged, (first, last, "foreign-segment"), &format!("{segment_no}"));
        assert!(!world.disk.names().contains(&segment_name(segment_no)));
        let start = start(&damaged.after_kill());
        assert_eq!(start.report.aside, [], "done once");
        let salt = SegmentHeader::parse(&bytes).unwrap().salt;
        let name = format!("{}.aside-{salt:016x}", segment_name(segment_no));
        assert_eq!(world.disk.read(&name), bytes);
    }
}

#[test]
fn a_segment_that_does_not_fit_its_place_is_set_aside() {
    type Change = fn(&mut SegmentHeader);
    let changes: [(Change, &str); 6] = [
        (|header| header.epoch += 10, "stale"),
        (|header| header.epoch = 0, "stale"),
        (|header| header.before_next_seq += 100, "stale"),
        (|header| header.before_group = 0, "stale"),
        (|header| header.before_segment_no = 1, "stale"),
        (|header| header.segment_no = 99, "misnamed"),
    ];
    for (number, (change, label)) in changes.into_iter().enumerate() {
        let disk = log();
        forge(&disk, 4, change);
        let world = start(&disk.after_kill());
        assert!(world.report.older.contains(&(4, label)), "{number}: {:?}", world.report.older);
        assert_eq!(world.report.aside.len(), 1, "{number}");
        let (first_seq, last_seq) = gone_with(4);
        let gap = Gap { first_seq, last_seq, reason: "foreign-segment" };
        assert_eq!(world.report.gaps[0], gap, "{number}");
        // What it may have given out is given to nobody else.
        assert!(world.durable_seq() >= LIVES * EACH, "{number}");
        let (rows, gaps) = Files::of(&world.disk).rows_and_gaps(world.durable_seq());
        assert_eq!(gaps[0], (first_seq, last_seq), "{number}");
        let missing: u64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
        assert_eq!(rows.len() as u64 + missing, world.durable_seq(), "{number}");
    }
}

#[test]
fn a_newest_segment_of_an_older_life_is_set_aside_and_its_numbers_stay_used() {
    let disk = log();
    forge(&disk, LIVES, |header| header.epoch = 1);
    let (first, _) = numbers(LIVES);
    // What it has is not what stood there: that may have held as much as a segment can.
    records_once(&disk, (first, first - 1 + HELD_MAX, "foreign-segment"), "newest");
}

#[test]
fn a_segment_whose_last_group_is_not_the_one_that_its_successor_names_is_set_aside() {
    let disk = log();
    disk.unlink(&Path::new(DIR).join(keys(3))).unwrap();
    forge(&disk, 4, |header| header.before_chain[0] ^= 1);
    let (first, last) = gone_with(3);
    let world = start(&disk.after_kill());
    assert!(world.report.older.contains(&(3, "forked")), "{:?}", world.report.older);
    records_once(&disk, (first, last, "foreign-segment"), "forked");
}

#[test]
fn a_sidecar_that_disagrees_with_the_headers_is_not_believed() {
    // Its own one that tells a number too many, and those of its neighbours; each is whole.
    for from in [3, 2, 4] {
        let disk = log();
        let other = disk.read(&keys(from));
        disk.damage(&keys(3), |bytes| {
            *bytes = other;
            bytes[16..24].copy_from_slice(&3_u64.to_le_bytes());
            let next_seq = crate::format::u64_at(bytes, 32) + u64::from(from == 3);
            bytes[32..40].copy_from_slice(&next_seq.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[16..]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        });
        let world = start(&disk);
        assert!(world.report.older.contains(&(3, "unsealed")), "{:?}", world.report.older);
        assert_eq!(world.report.gaps, []);
        assert_eq!(world.writer.window.len() as u64, LIVES * EACH);
        assert_eq!(world.read().len() as u64, LIVES * EACH);
    }
}

#[test]
fn a_sealed_segment_that_no_start_reads_gives_the_range_that_a_record_would_tell() {
    let disk = log();
    // Every page of a middle segment, alone and to the end of the file; with and without sidecar.
    let end = header_of(&disk, 4).before_end_offset as usize;
    for from in (0..end).step_by(4096) {
        for to in [from + 4096, end] {
            let damaged = disk.after_kill();
            damaged.damage(&segment_name(3), |bytes| bytes[from..to].fill(0xa5));
            let sealed = start(&damaged.after_kill());
            assert_eq!(sealed.report.gaps, [], "page {from}: a sidecar stands for it");
            let derived = Files::of(&sealed.disk).rows_and_gaps(LIVES * EACH).1;
            damaged.unlink(&Path::new(DIR).join(keys(3))).unwrap();
            let read = start(&damaged);
            let told: Vec<(u64, u64)> =
                read.report.gaps.iter().map(|gap| (gap.first_seq, gap.last_seq)).collect();
            let seen = Files::of(&read.disk).rows_and_gaps(LIVES * EACH).1;
            assert_eq!((&told, &seen), (&derived, &derived), "bytes {from}..{to}");
        }
    }
}

#[test]
fn a_start_that_dies_at_any_call_records_a_gap_once_and_copies_it_once() {
    let damaged = log();
    damaged.damage(&segment_name(LIVES), |bytes| bytes[2 * 4096 + 200] ^= 1);
    let (first, _) = numbers(LIVES);
    for power in [false, true] {
        for call in 1.. {
            let disk = damaged.after_kill();
            disk.die_after(call);
            let opened = World::on(disk.clone(), Setup::default()).is_ok();
            let disk = if power { disk.restart(|| call % 2 == 0) } else { disk.after_kill() };
            let world = start(&disk);
            let kept = records(&world.disk);
            let ranges: Vec<(u64, u64)> =
                kept.iter().map(|gap| (gap.first_seq, gap.last_seq)).collect();
            assert_eq!(ranges, [(first, first + 1)], "call {call}");
            let again = &world.report.gaps;
            assert!(!opened || again.is_empty(), "call {call}: {again:?}");
            let copies: Vec<String> =
                world.disk.names().into_iter().filter(|name| name.ends_with(".bin")).collect();
            let name = format!("{LIVES:020}-at-8192-seq-{first}-{}.bin", first + 1);
            assert_eq!(copies, [name], "call {call}");
            assert_eq!(Files::of(&world.disk).rows_and_gaps(world.durable_seq()).1, ranges);
            if opened {
                assert!(call > 8, "{call}");
                break;
            }
        }
    }
}

#[test]
fn nothing_of_a_gap_is_published_before_its_record_is_durable() {
    let damaged = log();
    damaged.damage(&segment_name(LIVES), |bytes| bytes[2 * 4096 + 200] ^= 1);
    let world = start(&damaged);
    assert_eq!(world.report.gaps.len(), 1);
    // The writer has done nothing yet but to open the log; now the power goes.
    let disk = world.disk.restart(|| false);
    assert_eq!(records(&disk).len(), 1, "the record and its name were synced");
    let copy = disk.names().into_iter().find(|name| name.ends_with(".bin")).unwrap();
    let bytes = damaged.read(&segment_name(LIVES))[2 * 4096..3 * 4096].to_vec();
    assert_eq!(disk.read(&copy), bytes, "and so was the copy");
    let world = start(&disk);
    assert_eq!((world.report.gaps.len(), world.durable_seq()), (0, LIVES * EACH));
}

#[test]
fn who_was_active_before_a_recorded_gap_is_refused_in_every_later_life() {
    use crate::envelope::EndReason;
    let disk = log();
    disk.damage(&segment_name(LIVES), |bytes| bytes[2 * 4096 + 200] ^= 1);
    let mut world = start(&disk);
    for life in 0..3 {
        let mut worker = world.attach();
        let session = worker.hello(LIVES as u8, Some(0), 1);
        let reason = EndReason::ProducerExpired;
        let told = world.answers(&mut worker);
        assert_eq!(told, [Return::Refused { session, reason }], "life {life}");
        if life == 1 {
            // What was sealed meanwhile says the same.
            let session = world.connect(&mut worker, 200);
            (1..=60).for_each(|ticket| {
                worker.event(&session, ticket, &"x".repeat(1500));
                world.run();
                worker.take();
            });
        }
        world = world.kill();
    }
}

#[test]
fn a_segment_that_is_brought_back_is_read_though_its_loss_was_recorded() {
    let disk = log();
    let bytes = disk.read(&segment_name(3));
    disk.unlink(&path(3)).unwrap();
    let world = start(&disk);
    assert_eq!(world.report.gaps.len(), 1);
    let disk = world.disk.after_kill();
    disk.open(&path(3), true).unwrap().write_at(0, &bytes).unwrap();
    let world = start(&disk);
    assert_eq!((&world.report.gaps[..], world.durable_seq()), (&[][..], LIVES * EACH));
    let (rows, gaps) = Files::of(&world.disk).rows_and_gaps(LIVES * EACH);
    assert_eq!((rows.len() as u64, gaps), (LIVES * EACH, vec![]));
}

#[test]
fn adjacent_gaps_are_told_one_by_one_each_with_its_reason() {
    let disk = log();
    disk.unlink(&path(LIVES - 1)).unwrap();
    disk.damage(&segment_name(LIVES), |bytes| bytes.truncate(0));
    let follower = FollowerPosition { group: 60, seq: 100, root: [7; 32] };
    let world = World::on(disk, Setup { follower, ..Setup::default() }).unwrap();
    let files = Files::of(&world.disk);
    let mut reader = LogReader::new(&files.dir);
    let mut gaps = Vec::new();
    let mut rows = 0;
    while let Some(batch) = reader.next_batch(world.durable_seq(), 1000, 1 << 20).unwrap() {
        assert!(batch.gaps.is_empty() || batch.rows() == 0, "a batch ends before a gap");
        assert!(batch.gaps.len() <= 1);
        gaps.extend(batch.gaps.iter().copied().map(|g| (g.first_seq, g.last_seq, g.reason)));
        rows += batch.rows() as u64;
    }
    let told: Vec<(u64, u64, &str)> =
        world.report.gaps.iter().map(|gap| (gap.first_seq, gap.last_seq, gap.reason)).collect();
    assert_eq!(gaps, told);
    assert_eq!((rows, gaps.last().unwrap().1), ((LIVES - 2) * EACH, 100));
}

#[test]
fn a_quarantine_that_cannot_be_written_stops_nothing_and_cuts_nothing() {
    use crate::disk::RealDisk;
    let source = log();
    source.damage(&segment_name(LIVES), |bytes| bytes[2 * 4096 + 200] ^= 1);
    let files = Files::of(&source);
    let fd = memory((BOARD_PAGES * PAGE_BYTES) as u64);
    let board = Board::map(fd.as_fd()).unwrap();
    let missing = files.dir.join("no such directory");
    let options = Setup::default().options(&missing);
    let bytes = std::fs::metadata(files.dir.join(segment_name(LIVES))).unwrap().len();
    let (writer, report) = open(Arc::new(RealDisk), &files.dir, &board, &options).unwrap();
    assert_eq!(report.uncopied.len(), 1);
    assert!(report.uncopied[0].path.starts_with(&missing));
    assert_eq!(report.gaps.len(), 1, "the loss is recorded all the same");
    drop(writer);
    let after = std::fs::metadata(files.dir.join(segment_name(LIVES))).unwrap().len();
    assert_eq!(after, bytes, "what stands there is nowhere else");
}

#[test]
fn a_start_reads_no_more_sidecars_than_fill_the_window() {
    let disk = log();
    let setup = Setup { dedup_keys: 8, ..Setup::default() };
    // Two segments fill the window of 8 ids; what is older is known by its headers.
    for name in [keys(1), keys(2)] {
        disk.damage(&name, |bytes| bytes[60] ^= 1);
    }
    let world = World::on(disk.after_kill(), setup).unwrap();
    assert_eq!(world.report.gaps, []);
    assert_eq!(world.report.groups_read, 4, "the newest segment and the copy in it");
    assert_eq!(world.writer.window.len(), 8);
    assert_eq!(world.report.segments, LIVES);
    assert_eq!(world.read().len() as u64, LIVES * EACH);
    // With a larger one they are needed, and read from the groups.
    let world = World::on(disk, Setup::default()).unwrap();
    assert_eq!(world.writer.window.len() as u64, LIVES * EACH);
    assert!(world.report.groups_read > 8, "{}", world.report.groups_read);
}
