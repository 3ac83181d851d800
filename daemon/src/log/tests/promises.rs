//! Lines that nothing else would miss: each test here was written for a mutant that had survived.

use super::segments::{encoded, memory_of};
use super::*;
use crate::board::{PAGE_FOLLOWER, PAGE_LOG, follower, log as count};
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::format::{GroupHeader, SEGMENT_HEADER_BYTES};
use crate::log::keeper::{Keeper, Limits as SegmentLimits};
use crate::log::recovery::segment_name;

/// Tickets that were told as accepted, and that the next life must know.
fn last_accepted(worker: &mut Worker, session: &Session) -> u64 {
    let told = verdicts(&worker.take(), session.number);
    told.last().map_or(0, Entry::last_ticket)
}

#[test]
fn the_first_group_of_a_life_survives_the_power_though_nothing_else_was_synced() {
    // Room for one segment: no spare is made, whose directory sync would cover the start's.
    let mut world = World::new(Setup { bytes_max: 64 * 1024, ..Setup::default() });
    for life in 1..=3_u8 {
        let mut worker = world.attach();
        let session = world.connect(&mut worker, life);
        worker.event(&session, 1, "acknowledged");
        world.run();
        assert_eq!(last_accepted(&mut worker, &session), 1);
        world = world.cut_power();
        assert_eq!(world.durable_seq(), u64::from(life));
    }
    assert_eq!(world.read().len(), 3);
}

#[test]
fn the_first_group_of_a_recycled_segment_survives_the_power() {
    let mut world = World::new(Setup { bytes_max: 4 * 64 * 1024, ..Setup::default() });
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    let mut ticket = 0;
    while world.durable_seq() == ticket {
        ticket += 1;
        worker.event(&session, ticket, &"x".repeat(1500));
        world.run();
    }
    assert_eq!(world.board.page(PAGE_LOG).get(count::FULL), 1, "an event waits for room");
    let oldest = world.segments()[0].clone();
    // Only that one may go: a second one would be unlinked, and the directory synced for it.
    let second = oldest.trim_end_matches(".log").parse::<u64>().unwrap() + 1;
    world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, second);
    // One cycle: the oldest segment becomes the next one, and the event goes into it.
    world.writer.cycle().unwrap();
    assert_eq!(last_accepted(&mut worker, &session), ticket);
    assert!(!world.segments().contains(&oldest), "the oldest one is another one now");
    let world = world.cut_power();
    assert_eq!((world.durable_seq(), &world.report.gaps[..]), (ticket, &[][..]));
}

#[test]
fn a_sync_that_failed_is_never_asked_for_again() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    worker.event(&session, 1, "x");
    let before = world.disk.calls();
    world.disk.fail_syncs();
    assert!(world.writer.cycle().is_err());
    assert_eq!(world.disk.calls() - before, 2, "one write, one sync");
    assert_eq!(worker.take(), []);
}

#[test]
fn a_write_that_failed_is_an_end_though_the_sync_says_that_all_is_well() {
    // The first group of a life, one of the middle, and the first of a segment.
    for events in [1, 2, 60] {
        let mut world = World::new(Setup::default());
        let mut worker = world.attach();
        let session = world.connect(&mut worker, 1);
        for ticket in 1..events {
            worker.event(&session, ticket, &"x".repeat(900));
            world.writer.cycle().unwrap();
        }
        worker.take();
        worker.event(&session, events, &"x".repeat(900));
        world.disk.fail_writes();
        assert!(world.writer.cycle().is_err());
        assert_eq!((worker.take(), world.durable_seq()), (vec![], events - 1));
    }
}

/// A log of two segments, the second one just begun; the sidecar of the first is not written yet.
fn just_rotated() -> (World, Worker) {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    let mut ticket = 0;
    while world.durability().get(durability::SEGMENT_NO) == 1 {
        ticket += 1;
        worker.event_with_id(&session, ticket, &ticket.to_string(), &"x".repeat(900));
        world.writer.cycle().unwrap();
    }
    (world, worker)
}

#[test]
fn a_segment_is_recycled_only_behind_a_sidecar_that_survives_the_power() {
    let mut calls = 0;
    loop {
        calls += 1;
        let (mut world, _worker) = just_rotated();
        let (keys, producers) = memory_of(&world);
        world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, 2);
        world.disk.die_after(calls);
        let done = world.writer.cycle().is_ok();
        let segments = world.segments();
        let world = world.cut_power();
        let (same_keys, same_producers) = memory_of(&world);
        assert_eq!(same_keys, keys, "call {calls}");
        assert_eq!(encoded(&same_producers), encoded(&producers), "call {calls}");
        if done {
            assert!(calls > 8 && !segments.contains(&segment_name(1)), "{calls} {segments:?}");
            break;
        }
    }
}

#[test]
fn the_producer_table_outlives_the_segments_that_it_was_made_from() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let (idle, busy) = (world.connect(&mut worker, 1), world.connect(&mut worker, 2));
    worker.event(&idle, 1, "early");
    for ticket in 1..=400 {
        worker.event(&busy, ticket, &"x".repeat(900));
        world.run();
        worker.take();
    }
    let current = world.durability().get(durability::SEGMENT_NO);
    assert!(current > 4);
    // No ids: the window needs no sidecar.
    world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
    world.run();
    let mut world = world.kill();
    let mut worker = world.attach();
    let (again, told) = world.resume(&mut worker, 1, Some(0), 0);
    assert_eq!((again.high, told), (1, vec![accepted(1, 1, 1, 1)]));
}

#[test]
fn a_window_that_was_made_larger_knows_each_id_once_by_its_newest_event() {
    let mut world = World::new(Setup { dedup_keys: 2, ..Setup::default() });
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    // When "a" comes again, the window of two has forgotten it: an event of its own.
    for (ticket, id) in (1..).zip(["a", "b", "c", "a"]) {
        worker.event_with_id(&session, ticket, id, "x");
    }
    assert_eq!(verdicts(&world.answers(&mut worker), session.number), [accepted(1, 1, 1, 4)]);
    let setup = Setup { dedup_keys: 1000, ..world.setup };
    let mut world = World::on(world.disk.after_kill(), setup).unwrap();
    let known: Vec<u64> = world.writer.window.newest().iter().map(|key| key.seq).collect();
    assert_eq!(known, [2, 3, 4]);
    let mut worker = world.attach();
    let (session, _) = world.resume(&mut worker, 1, Some(0), 4);
    worker.event_with_id(&session, 5, "a", "x");
    assert_eq!(verdicts(&world.answers(&mut worker), session.number), [duplicate(5, 4)]);
}

#[test]
fn a_segment_that_somebody_reads_is_not_made_into_another_one() {
    let files = Files::new();
    // No room for a spare: a segment that goes would be the next one.
    let limits = SegmentLimits {
        segment_bytes: 32 * 1024,
        bytes_max: 0,
        disk_reserve_bytes: 0,
        retain_bytes: 0,
        recycle: true,
    };
    for (spare_no, read) in [(8, false), (9, true)] {
        let path = files.dir.join(segment_name(1));
        let bytes = vec![7; limits.segment_bytes as usize];
        std::fs::write(&path, &bytes).unwrap();
        let reader = std::fs::File::open(&path).unwrap();
        if read {
            rustix::fs::flock(&reader, rustix::fs::FlockOperation::LockShared).unwrap();
        }
        let mut keeper = Keeper::start(Arc::new(RealDisk), files.dir.clone(), limits, spare_no);
        std::fs::write(files.dir.join(segment_name(2)), []).unwrap();
        keeper.add(1, limits.segment_bytes, 1, true);
        keeper.add(2, 0, 1, false);
        keeper.trim_below(2, 0);
        while keeper.size().segments > 1 {
            std::thread::yield_now();
        }
        keeper.stop().unwrap();
        let head = std::io::Read::take(&reader, SEGMENT_HEADER_BYTES);
        let head: Vec<u8> = std::io::Read::bytes(head).map(Result::unwrap).collect();
        let untouched = head.iter().all(|byte| *byte == 7);
        assert_eq!(untouched, read, "read by somebody: {read}");
        assert_eq!(files.dir.join(segment_name(spare_no)).exists(), !read);
    }
}

#[test]
fn an_error_of_the_helper_ends_the_log_writer() {
    let files = Files::new();
    let gone = files.dir.join("gone");
    let limits = SegmentLimits {
        segment_bytes: 32 * 1024,
        bytes_max: 1 << 40,
        disk_reserve_bytes: 0,
        retain_bytes: 0,
        recycle: true,
    };
    // Its directory is not there: the first thing that it does fails.
    let keeper = Keeper::start(Arc::new(RealDisk), gone, limits, 1);
    let error = loop {
        match keeper.has_spare() {
            Ok(false) => std::thread::yield_now(),
            Ok(true) => panic!("a spare in a directory that is not there"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    let file = RealDisk.open(&files.dir.join("file"), true).unwrap();
    assert!(file.try_lock().unwrap());
}

#[test]
fn each_group_has_the_root_of_its_own_records() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    for ticket in 1..=3 {
        worker.event(&session, ticket, "x");
        world.run();
    }
    assert_eq!(world.durability().get(durability::DURABLE_GROUP), 3);
    assert_eq!(world.read().len(), 3, "and computes every root anew");
}

#[test]
fn the_link_to_a_group_covers_all_of_its_header_but_the_segments_salt() {
    let header = GroupHeader {
        salt: 1,
        group: 2,
        first_seq: 3,
        count: 4,
        entries_bytes: 5,
        records_bytes: 6,
        body_crc: 7,
        recorded_at_ns: 8,
        epoch: 9,
        chain: [10; 32],
        root: [11; 32],
    };
    let changes: [fn(&mut GroupHeader); 10] = [
        |header| header.group += 1,
        |header| header.first_seq += 1,
        |header| header.count += 1,
        |header| header.entries_bytes += 1,
        |header| header.records_bytes += 1,
        |header| header.body_crc += 1,
        |header| header.recorded_at_ns += 1,
        |header| header.epoch += 1,
        |header| header.chain[31] += 1,
        |header| header.root[31] += 1,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut other = header;
        change(&mut other);
        assert_ne!(other.hash(), header.hash(), "change {index}");
    }
    let copied = GroupHeader { salt: 99, ..header };
    assert_eq!(copied.hash(), header.hash(), "a copy in another segment is the same link");
}

#[test]
fn sessions_of_a_dead_worker_are_over() {
    let setup = Setup { dedup_producers: 2, ..Setup::default() };
    let mut world = World::new(setup);
    let (mut dead, mut worker) = (world.attach(), world.attach());
    let gone = world.connect(&mut dead, 1);
    dead.event(&gone, 1, "x");
    world.run();
    world.writer.detach(dead.number);
    let unlogged = world.writer.producers.len();
    for other in 2..=5 {
        let session = world.connect(&mut worker, other);
        worker.event(&session, 1, "x");
        world.run();
        worker.bye(&session, false);
        world.run();
    }
    worker.take();
    assert_eq!(unlogged, 1);
    // Nobody is connected as this producer any more: it is forgotten like any other.
    let session = worker.hello(1, Some(0), 0);
    let reason = crate::envelope::EndReason::ProducerExpired;
    assert_eq!(world.answers(&mut worker), [Return::Refused { session, reason }]);
}

#[test]
fn a_leave_to_trim_can_be_taken_back() {
    let disk = SimDisk::new();
    let limits = Setup::default().options(Path::new("/quarantine")).segments;
    let keeper = Keeper::start(Arc::new(disk.clone()), PathBuf::from(DIR), limits, 9);
    for number in [1, 2] {
        disk.open(Path::new(&segment_name(number)), true).unwrap();
        keeper.add(number, limits.segment_bytes, number, true);
    }
    // PostgreSQL was at segment 3, and then went back, before the helper had come to it.
    for below in [3, 2, 0] {
        keeper.trim_below(below, 0);
    }
    keeper.step().unwrap();
    assert_eq!(keeper.size().segments, 2);
    keeper.trim_below(2, 0);
    keeper.step().unwrap();
    assert_eq!(keeper.size().segments, 1);
}

#[test]
fn a_copy_in_the_quarantine_survives_the_power() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    for ticket in 1..=3 {
        worker.event(&session, ticket, "x");
        world.run();
    }
    let name = world.segments()[0].clone();
    // The second of three groups.
    world.disk.damage(&name, |bytes| bytes[2 * 4096 + 130] ^= 1);
    let damaged = world.disk.read(&name)[2 * 4096..3 * 4096].to_vec();
    let world = world.kill();
    assert_eq!(world.report.gaps.len(), 1);
    let disk = world.disk.restart(|| false);
    let copy = disk.names().into_iter().find(|name| name.ends_with(".bin")).expect("a copy");
    assert_eq!(disk.read(&copy), damaged);
}
