//! Damaged bytes: every bit of a small log, every length, and a follower that knows more.

use super::segments::{encoded, memory_of};
use super::*;
use crate::format::{GROUP_HEADER_BYTES, GroupHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::log::recovery::Gap;
use crate::reader::position::Status;

const EVENTS: u64 = 12;

/// A log of three segments and one more start, about 32 KiB of it used; its rows.
fn small_log() -> (SimDisk, Vec<Row>) {
    log_of(EVENTS)
}

/// A log of three lives and two events a group.
fn log_of(events: u64) -> (SimDisk, Vec<Row>) {
    let mut world = World::new(setup());
    for life in 0..3 {
        let mut worker = world.attach();
        let session = world.connect(&mut worker, life + 1);
        for ticket in 1..=events / 3 {
            let id = format!("{life} {ticket}");
            worker.event_with_id(&session, ticket, &id, &format!("event {life} {ticket}"));
            if ticket % 2 == 0 {
                world.run();
            }
        }
        if life < 2 {
            world = world.kill();
        }
    }
    let rows = world.read();
    assert_eq!(rows.len() as u64, events);
    (world.disk.after_kill(), rows)
}

fn setup() -> Setup {
    Setup { segment_bytes: 64 * 1024, ..Setup::default() }
}

/// Recovers a damaged log and checks that nothing acknowledged is dropped in silence.
fn recovers(disk: &SimDisk, rows: &[Row], what: &str) {
    // Where the events of the last group begin: only they may be taken for a torn write.
    let last_group_from = rows.len() as u64 - 1;
    let world = World::on(disk.after_kill(), setup()).unwrap();
    let durable_seq = world.durable_seq();
    let (found, gaps) = Files::of(&world.disk).rows_and_gaps(durable_seq);
    for row in &found {
        let before = &rows[row.seq as usize - 1];
        assert_eq!((row.ticket, &row.data), (before.ticket, &before.data), "{what}");
    }
    let told = |seq: u64| gaps.iter().any(|(first, last)| (*first..=*last).contains(&seq));
    for row in rows.iter().filter(|row| !found.iter().any(|kept| kept.seq == row.seq)) {
        let torn = row.seq >= last_group_from && durable_seq < last_group_from;
        assert!(told(row.seq) || torn, "{what}: {} is missing, gaps {gaps:?}", row.seq);
        if torn {
            let label = world.report.label;
            assert!(label.starts_with("torn") || label == "empty", "{what}: {label}");
            let torn = world.board.page(crate::board::PAGE_LOG).get(crate::board::log::TORN_TOTAL);
            assert_eq!(torn > 0, label == "torn" || label == "torn-first", "{what}: {label}");
        }
    }
    // And the log goes on, in this life and in the next one, which finds nothing new.
    let mut world = world;
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 77);
    worker.event(&session, 1, "goes on");
    let told = verdicts(&world.answers(&mut worker), session.number);
    assert_eq!(told[0].seq, durable_seq + 1, "{what}");
    let world = world.kill();
    assert_eq!(world.durable_seq(), durable_seq + 1, "{what}: the second start");
    assert_eq!(world.report.gaps, [], "{what}: found twice");
}

/// Runs `strike` for each of `count` cases, on all processors.
fn each(count: usize, strike: impl Fn(usize) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|case| *case < count)
                {
                    strike(case);
                }
            });
        }
    });
}

/// Every byte of every segment, by name and place, of which something is written.
fn written(disk: &SimDisk) -> Vec<(String, usize)> {
    let mut places = Vec::new();
    for name in disk.names().into_iter().filter(|name| name.ends_with(".log")) {
        let bytes = disk.read(&name);
        let last = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last / 4096 + 1);
        places.extend((0..last * 4096).map(|at| (name.clone(), at)));
    }
    places
}

#[test]
fn no_flipped_bit_drops_an_acknowledged_event_in_silence() {
    let (full, seed) = attack();
    // Three segments with header, copy and four groups each: 68 KiB.
    let (disk, rows) = if full { log_of(24) } else { small_log() };
    let places = written(&disk);
    assert!(!full || places.len() >= 64 * 1024, "{}", places.len());
    // Of the fast size: one bit of every byte that is not zero, and of some that are.
    let cases: Vec<(usize, u8)> = (0..places.len() * 8)
        .map(|case| (case / 8, (case % 8) as u8))
        .filter(|(place, bit)| {
            let (name, at) = &places[*place];
            let told = disk.read(name)[*at] != 0 || at % 256 == 0;
            full || *bit == ((*at as u64 + seed) % 8) as u8 && told
        })
        .collect();
    each(cases.len(), |case| {
        let (place, bit) = cases[case];
        let (name, at) = &places[place];
        let damaged = disk.after_kill();
        damaged.damage(name, |bytes| bytes[*at] ^= 1 << bit);
        recovers(&damaged, &rows, &format!("{name} byte {at} bit {bit}"));
    });
    report("log: a bit flipped", cases.len(), cases.len() * rows.len(), 0);
}

/// Of a proper segment's bytes: where each header and body is, which is all that tells anything.
fn told(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let header = SEGMENT_HEADER_BYTES as usize;
    let mut ranges = Vec::new();
    let mut at = header;
    while let Some(group) = bytes.get(at..).and_then(GroupHeader::parse) {
        ranges.push(at..at + GROUP_HEADER_BYTES + group.body_bytes() as usize);
        at += group.group_bytes() as usize;
    }
    ranges.push(0..SegmentHeader::END + 4);
    ranges
}

#[test]
fn a_check_sees_every_flipped_bit_but_those_of_padding() {
    let (full, seed) = attack();
    let (disk, rows) = if full { log_of(24) } else { small_log() };
    let places = written(&disk);
    let images: std::collections::BTreeMap<String, Vec<u8>> =
        disk.names().into_iter().map(|name| (name.clone(), disk.read(&name))).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let unseen = std::sync::Mutex::new(Vec::new());
    let step = if full { 1 } else { 1021 };
    let count = places.len() * 8 / step;
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let files = Files::of(&disk);
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= count {
                        break;
                    }
                    let case = case * step + seed as usize % step;
                    let (name, at) = &places[case / 8];
                    let path = files.dir.join(name);
                    let byte = images[name][*at];
                    flip(&path, *at, byte ^ 1 << (case % 8));
                    let seen = is_seen(&files);
                    flip(&path, *at, byte);
                    if !seen {
                        unseen.lock().unwrap().push(case);
                    }
                }
            });
        }
    });
    let ranges: std::collections::BTreeMap<&str, _> =
        images.iter().map(|(name, bytes)| (name.as_str(), told(bytes))).collect();
    let padding = |case: usize| {
        let (name, at) = &places[case / 8];
        !ranges[name.as_str()].iter().any(|range| range.contains(at))
    };
    let mut unseen = unseen.into_inner().unwrap();
    unseen.sort_unstable();
    let expected: Vec<usize> = (0..count)
        .map(|case| case * step + seed as usize % step)
        .filter(|case| padding(*case))
        .collect();
    let odd = |from: &[usize], other: &[usize]| -> Vec<String> {
        let only = from.iter().filter(|case| other.binary_search(case).is_err());
        only.map(|case| format!("{:?} bit {}", places[case / 8], case % 8)).take(20).collect()
    };
    assert_eq!(odd(&unseen, &expected), [""; 0], "not seen, and no padding");
    assert_eq!(odd(&expected, &unseen), [""; 0], "padding that is seen");
    assert!(!expected.is_empty() && expected.len() < count);
    report("log: a check of a flipped bit", count, count * rows.len(), 0);
}

fn flip(path: &std::path::Path, at: usize, byte: u8) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[byte], at as u64).unwrap();
}

/// Whether `certeus log check` says that anything is wrong, or left behind the last group.
fn is_seen(files: &Files) -> bool {
    let mut check = LogReader::new(&files.dir).check(Some(LOG_KEY)).unwrap();
    while check.step().unwrap() {}
    let report = check.finish();
    !report.findings.is_empty() || report.tail_bytes > 0
}

#[test]
fn no_flipped_bit_of_a_sidecar_changes_anything() {
    let (disk, rows) = small_log();
    let known = World::on(disk.after_kill(), setup()).unwrap();
    let (keys, producers) = memory_of(&known);
    for name in disk.names().iter().filter(|name| name.ends_with(".keys")) {
        for at in (0..disk.read(name).len()).step_by(5) {
            let damaged = disk.after_kill();
            damaged.damage(name, |bytes| bytes[at] ^= 1 << (at % 8));
            let world = World::on(damaged, setup()).unwrap();
            assert_eq!((world.durable_seq(), &world.report.gaps[..]), (EVENTS, &[][..]));
            let (same_keys, same_producers) = memory_of(&world);
            assert_eq!(same_keys, keys, "{name} byte {at}");
            assert_eq!(encoded(&same_producers), encoded(&producers), "{name} byte {at}");
            assert_eq!(Files::of(&world.disk).rows(EVENTS), rows);
        }
    }
}

#[test]
fn a_cut_file_is_told_as_a_gap_once_a_follower_knows_more() {
    let (full, seed) = attack();
    let (disk, rows) = if full { log_of(24) } else { small_log() };
    let events = rows.len() as u64;
    let root = last_root(&disk);
    let mut places = written(&disk);
    if !full {
        places.retain(|(_, at)| (*at as u64 + seed) % 320 == 0);
    }
    each(places.len(), |case| {
        let (name, bytes) = &places[case];
        let damaged = disk.after_kill();
        damaged.damage(name, |file| file.truncate(*bytes));
        let follower = FollowerPosition { group: events / 2, seq: events, root };
        let setup = Setup { follower, ..setup() };
        let world = World::on(damaged, setup).unwrap();
        assert!(world.durable_seq() >= events, "{name} cut to {bytes}: a number comes again");
        let (found, gaps) = Files::of(&world.disk).rows_and_gaps(world.durable_seq());
        for row in &rows {
            let told = gaps.iter().any(|(a, b)| (*a..=*b).contains(&row.seq));
            let kept = found.iter().any(|kept| kept.seq == row.seq && kept.data == row.data);
            assert!(told != kept, "{name} cut to {bytes}: {row:?}");
        }
        let durable_seq = world.durable_seq();
        let world = world.kill();
        assert_eq!(world.durable_seq(), durable_seq, "{name} cut to {bytes}: the second start");
        assert_eq!(world.report.gaps, [], "{name} cut to {bytes}: found twice");
    });
    report("log: cut to a length", places.len(), places.len() * rows.len(), 0);
}

fn last_root(disk: &SimDisk) -> crate::merkle::Hash {
    World::on(disk.after_kill(), setup()).unwrap().writer.position.root
}

#[test]
fn a_follower_above_the_end_is_a_gap_and_no_number_comes_again() {
    let (disk, _) = small_log();
    let follower = FollowerPosition { group: 40, seq: 30, root: [7; 32] };
    let mut world = World::on(disk, Setup { follower, ..setup() }).unwrap();
    assert_eq!(world.report.label, "below-follower");
    let gap = Gap { first_seq: EVENTS + 1, last_seq: 30, reason: "lost" };
    assert_eq!(world.report.gaps, [gap]);
    let status = |world: &World, group, seq| {
        let files = Files::of(&world.disk);
        LogReader::new(&files.dir).position_status(group, &[7; 32], seq).unwrap()
    };
    assert_eq!(status(&world, 40, 30), Status::Ok);
    assert_eq!(status(&world, 41, 30), Status::Diverged);
    for producer in 50..53 {
        let mut worker = world.attach();
        let session = world.connect(&mut worker, producer);
        worker.event(&session, 1, "after the gap");
        world.run();
        assert_eq!(status(&world, 40, 30), Status::Ok);
        world = world.kill();
    }
    let (rows, gaps) = Files::of(&world.disk).rows_and_gaps(world.durable_seq());
    assert_eq!(gaps, [(EVENTS + 1, 30)]);
    assert_eq!(rows.last().unwrap().seq, 33);
}

#[test]
fn who_was_active_before_a_gap_is_refused_and_never_guessed() {
    use crate::envelope::EndReason;
    let (disk, _) = small_log();
    let follower = FollowerPosition { group: 40, seq: 30, root: [7; 32] };
    let mut world = World::on(disk, Setup { follower, ..setup() }).unwrap();
    let mut worker = world.attach();
    for producer in 1..=3 {
        let session = worker.hello(producer, Some(0), 1);
        let reason = EndReason::ProducerExpired;
        assert_eq!(world.answers(&mut worker), [Return::Refused { session, reason }]);
    }
    let fresh = world.connect(&mut worker, 4);
    assert!(fresh.producer_no > 1 << 32, "no number that a lost group may have given out");
    // It has its marks in the next life, too.
    worker.event(&fresh, 1, "x");
    world.run();
    let mut world = world.kill();
    let mut worker = world.attach();
    let (again, told) = world.resume(&mut worker, 4, Some(fresh.birth_seq), 0);
    assert_eq!((again.high, told.len()), (1, 1));
}

#[test]
fn damaged_bytes_are_copied_aside_and_left_in_their_place() {
    let (disk, _) = small_log();
    let names: Vec<String> =
        disk.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    let newest = names.iter().rev().find(|name| disk.read(name)[0] != 0).unwrap();
    disk.damage(newest, |bytes| bytes[2 * 4096 + 200] ^= 1);
    let damaged = disk.read(newest);
    let world = World::on(disk.after_kill(), setup()).unwrap();
    assert_eq!(world.report.label, "holed");
    assert_eq!(world.report.gaps.len(), 1);
    let page = world.board.page(crate::board::PAGE_LOG);
    assert_eq!(page.get(crate::board::log::DAMAGED_TOTAL), 1);
    assert_eq!(page.get(crate::board::log::TORN_TOTAL), 0);
    assert_eq!(world.disk.read(newest)[..3 * 4096], damaged[..3 * 4096]);
    let names = world.disk.names();
    let aside = names.iter().find(|name| name.ends_with(".bin")).unwrap();
    assert_eq!(world.disk.read(aside), damaged[2 * 4096..3 * 4096]);
}

#[test]
fn a_segment_without_header_tells_which_numbers_are_missing_before_it() {
    let (disk, rows) = small_log();
    let names: Vec<String> =
        disk.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    let newest = names.iter().rev().find(|name| disk.read(name)[0] != 0).unwrap();
    disk.damage(newest, |bytes| {
        // The header, the copied group, and the first one of its own.
        for at in [0, 4096, 8192] {
            bytes[at + 20] ^= 1;
        }
    });
    let world = World::on(disk, setup()).unwrap();
    assert_eq!(world.report.label, "lost-header");
    assert_eq!(world.report.gaps, [Gap { first_seq: 9, last_seq: 10, reason: "damaged" }]);
    let (found, gaps) = Files::of(&world.disk).rows_and_gaps(world.durable_seq());
    assert_eq!((found.len(), gaps), (rows.len() - 2, vec![(9, 10)]));
}
