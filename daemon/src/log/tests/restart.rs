//! What the next life knows.

use super::*;
use crate::board::{PAGE_FOLLOWER, follower};
use crate::disk::Disk;
use crate::envelope::EndReason;

#[test]
fn a_restarted_writer_gives_the_same_verdicts_and_no_event_twice() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    worker.event_with_id(&session, 1, "k", "x");
    worker.event_with_id(&session, 2, "k", "x");
    worker.event_with_id(&session, 3, "k", "other");
    worker.reject(&session, 4, Reason::TooDeep);
    worker.event(&session, 5, "y");
    let first = verdicts(&world.answers(&mut worker), session.number);
    let rows = world.read();
    for restart in [World::kill, World::cut_power] {
        world = restart(world);
        let mut worker = world.attach();
        for settled in 0..=5 {
            let (resumed, told) = world.resume(&mut worker, 1, Some(0), settled);
            assert_eq!((resumed.high, resumed.producer_no), (5, session.producer_no));
            assert!(resumed.epoch >> 32 == world.report.epoch);
            let unread: Vec<Entry> =
                first.iter().filter(|entry| entry.ticket > settled).copied().collect();
            assert_eq!(told, unread, "{settled} were read");
        }
        assert_eq!(world.read(), rows);
    }
}

#[test]
fn verdicts_above_settled_come_again_whole_or_in_part() {
    for settled in 0..=9 {
        let mut world = World::new(Setup::default());
        let mut worker = world.attach();
        let session = world.connect(&mut worker, 1);
        (1..=4).for_each(|ticket| worker.event(&session, ticket, "x"));
        world.run();
        worker.reject(&session, 5, Reason::TooDeep);
        (6..=9).for_each(|ticket| worker.event(&session, ticket, "x"));
        world.run();
        let mut world = world.cut_power();
        let mut worker = world.attach();
        let (resumed, told) = world.resume(&mut worker, 1, Some(0), settled);
        assert_eq!(resumed.high, 9);
        let tickets: Vec<u64> = told.iter().flat_map(|e| e.ticket..=e.last_ticket()).collect();
        assert_eq!(tickets, (settled + 1..=9).collect::<Vec<_>>());
        for entry in told.iter().filter(|entry| entry.verdict == Verdict::Accepted) {
            assert_eq!(entry.seq, if entry.ticket <= 4 { entry.ticket } else { entry.ticket - 1 });
        }
    }
}

#[test]
fn a_hundred_duplicates_and_a_restart_are_no_sequence_gap() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let (first, session) = (world.connect(&mut worker, 1), world.connect(&mut worker, 2));
    worker.event_with_id(&first, 1, "k", "x");
    world.run();
    worker.event(&session, 1, "logged");
    world.run();
    let mut same = session;
    same.producer = 1; // the same source and id
    (2..=101).for_each(|ticket| worker.event_with_id(&same, ticket, "k", "x"));
    world.run();
    let mut world = world.kill();
    let mut worker = world.attach();
    let (resumed, told) = world.resume(&mut worker, 2, Some(0), 101);
    assert_eq!((resumed.high, told), (101, vec![]));
    worker.event(&resumed, 102, "next");
    let told = verdicts(&world.answers(&mut worker), resumed.number);
    assert_eq!(told, [accepted(102, 3, 3, 1)]);
}

#[test]
fn nothing_recovered_is_published_before_its_copy_is_synced() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    worker.event(&session, 1, "synced");
    world.run();
    worker.event(&session, 2, "written, never synced");
    // The write is done, the sync is not, and will not be: the group is in the page cache only.
    world.disk.fail_syncs();
    assert!(world.writer.cycle().is_err());
    let mut world = world.kill();
    assert_eq!(world.durable_seq(), 2, "the next life finds it, and says so");
    let at_once = World::on(world.disk.restart(|| false), world.setup).unwrap();
    assert_eq!(at_once.durable_seq(), 2);
    let mut worker = world.attach();
    let (resumed, told) = world.resume(&mut worker, 1, Some(0), 0);
    assert_eq!(resumed.high, 2);
    assert_eq!(told.last(), Some(&accepted(2, 2, 2, 1)), "and tells of it");
    let world = world.cut_power();
    assert_eq!(world.durable_seq(), 2);
    let (rows, gaps) = Files::of(&world.disk).rows_and_gaps(2);
    assert_eq!((rows.len(), gaps), (2, vec![]), "so it must survive");
}

#[test]
fn the_dead_writers_tail_is_never_read_again() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    worker.event(&session, 1, "synced");
    world.run();
    worker.event(&session, 2, "written, never synced");
    world.disk.die_after(2);
    assert!(world.writer.cycle().is_err());
    // The group did not reach the disk; the number goes to another event.
    let mut world = world.cut_power();
    let mut worker = world.attach();
    let (resumed, _) = world.resume(&mut worker, 1, Some(0), 1);
    assert_eq!(resumed.high, 1);
    worker.event(&resumed, 2, "another");
    assert_eq!(verdicts(&world.answers(&mut worker), resumed.number), [accepted(2, 2, 2, 1)]);
    let rows = world.read();
    assert_eq!(rows.iter().map(|row| row.data.as_str()).collect::<Vec<_>>(), ["synced", "another"]);
}

#[test]
fn a_producer_is_forgotten_in_log_order_and_never_guessed() {
    let setup = Setup { dedup_producers: 3, ..Setup::default() };
    let mut world = World::new(setup);
    let mut worker = world.attach();
    let sessions: Vec<Session> = (1..=5).map(|p| world.connect(&mut worker, p)).collect();
    for session in &sessions {
        worker.event(session, 1, "x");
        world.run();
        worker.bye(session, false);
    }
    world.run();
    worker.take();
    for restarted in [false, true] {
        if restarted {
            world = world.kill();
            worker = world.attach();
        }
        for forgotten in [1, 2] {
            let session = worker.hello(forgotten, Some(0), 0);
            let reason = EndReason::ProducerExpired;
            assert_eq!(world.answers(&mut worker), [Return::Refused { session, reason }]);
        }
        for known in [3, 4, 5] {
            let (resumed, told) = world.resume(&mut worker, known, Some(0), 0);
            let seq = u64::from(known);
            assert_eq!((resumed.high, told), (1, vec![accepted(1, seq, seq, 1)]));
        }
    }
    // Born after those that were forgotten had been active: nothing of it can be durable.
    let (young, told) = world.resume(&mut worker, 9, Some(5), 0);
    assert_eq!((young.high, told), (0, vec![]));
}

#[test]
fn who_has_a_session_is_not_forgotten_because_others_come_and_go() {
    let setup = Setup { dedup_producers: 2, ..Setup::default() };
    let mut world = World::new(setup);
    let mut worker = world.attach();
    let idle = world.connect(&mut worker, 1);
    worker.event(&idle, 1, "early");
    world.run();
    for other in 2..=9 {
        let session = world.connect(&mut worker, other);
        worker.event(&session, 1, "x");
        world.run();
        worker.bye(&session, false);
    }
    world.run();
    worker.take();
    worker.event(&idle, 2, "late");
    assert_eq!(verdicts(&world.answers(&mut worker), idle.number), [accepted(2, 10, 10, 1)]);
    let reason = EndReason::ProducerExpired;
    let session = worker.hello(2, Some(0), 0);
    assert_eq!(world.answers(&mut worker), [Return::Refused { session, reason }]);
    let fresh = world.connect(&mut worker, 77);
    assert_eq!(fresh.high, 0, "a new producer is never expired");
}

#[test]
fn an_id_stays_known_though_a_start_forgets_whose_it_was() {
    let setup = Setup { dedup_producers: 2, segment_bytes: 1 << 20, ..Setup::default() };
    let mut world = World::new(setup);
    let mut worker = world.attach();
    let idle = world.connect(&mut worker, 1);
    worker.event_with_id(&idle, 1, "early", "x");
    world.run();
    for other in 2..=9 {
        let session = world.connect(&mut worker, other);
        worker.event(&session, 1, "x");
        world.run();
    }
    worker.event_with_id(&idle, 2, "late", "y");
    world.run();
    for _ in 0..2 {
        // First its groups are read, then the sidecar that was made of them.
        world = world.kill();
        let mut worker = world.attach();
        let again = Session { producer: 1, ..world.connect(&mut worker, 77) };
        worker.event_with_id(&again, 1, "early", "x");
        worker.event_with_id(&again, 2, "late", "y");
        let told = verdicts(&world.answers(&mut worker), again.number);
        assert_eq!(told, [duplicate(1, 1), duplicate(2, 10)]);
        worker.bye(&again, true);
        world.run();
    }
}

#[test]
fn who_was_told_what_in_segments_that_are_gone_is_never_guessed() {
    for deleted in [false, true] {
        let mut world = World::new(Setup::default());
        let mut worker = world.attach();
        let first = world.connect(&mut worker, 1);
        let mut ticket = 0;
        world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, 3);
        while world.segments()[0] != format!("{:020}.log", 3) {
            ticket += 1;
            assert!(ticket < 1000, "{:?}", world.segments());
            worker.event(&first, ticket, &"x".repeat(1500));
            world.run();
            worker.take();
        }
        let disk = world.disk.after_kill();
        let name = format!("{:020}.keys", 2);
        if deleted {
            disk.unlink(&Path::new(DIR).join(&name)).unwrap();
        } else {
            disk.damage(&name, |bytes| bytes[100] ^= 1);
        }
        let mut world = World::on(disk, Setup::default()).unwrap();
        assert!(world.report.older.contains(&(2, "sidecar-lost")), "{:?}", world.report.older);
        let mut worker = world.attach();
        let session = worker.hello(1, Some(first.birth_seq), 5);
        let reason = EndReason::ProducerExpired;
        assert_eq!(world.answers(&mut worker), [Return::Refused { session, reason }]);
        let fresh = world.connect(&mut worker, 2);
        assert!(fresh.producer_no > 1 << 32, "{} may have been given out", fresh.producer_no);
    }
}

#[test]
fn a_start_that_logs_nothing_uses_the_last_segment_again() {
    for with_events in [false, true] {
        let mut world = World::new(Setup::default());
        if with_events {
            let mut worker = world.attach();
            let session = world.connect(&mut worker, 1);
            worker.event(&session, 1, "x");
            world.run();
        }
        let mut counts = Vec::new();
        for start in 0..6 {
            world = if start % 2 == 0 { world.kill() } else { world.cut_power() };
            counts.push(world.segments().len());
        }
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
        assert_eq!(world.durable_seq(), u64::from(with_events));
        assert_eq!(world.read().len(), usize::from(with_events));
    }
}

#[test]
fn each_life_has_an_epoch_of_its_own() {
    let mut world = World::new(Setup::default());
    for epoch in 1..5 {
        assert_eq!(world.report.epoch, epoch);
        let mut worker = world.attach();
        let session = world.connect(&mut worker, epoch as u8);
        worker.event(&session, 1, "x");
        world.run();
        world = world.kill();
    }
}

#[test]
fn the_log_lives_on_a_real_disk_too() {
    use crate::disk::RealDisk;
    let files = Files::new();
    let fd = memory((BOARD_PAGES * PAGE_BYTES) as u64);
    let board = Board::map(fd.as_fd()).unwrap();
    let options = Setup::default().options(&files.dir);
    for life in 0..3_u64 {
        let (mut writer, report) = open(Arc::new(RealDisk), &files.dir, &board, &options).unwrap();
        assert_eq!(report.next_seq, life * 300 + 1);
        let (mut worker, peer) = Worker::new(0, 1 << 20, 1 << 20);
        writer.attach(0, peer);
        worker.hello(life as u8, None, 0);
        while writer.cycle().unwrap() {}
        let Some(Return::Welcome(welcome)) = worker.take().pop() else { panic!() };
        let session = Session::new(life as u8, &welcome);
        let mut told = 0;
        for ticket in 1..=300 {
            worker.event(&session, ticket, &"x".repeat(1000));
            // A full log waits for the helper's spare.
            while ticket % 10 == 0 && told < ticket {
                writer.cycle().unwrap();
                let entries = verdicts(&worker.take(), session.number);
                told = entries.last().map_or(told, Entry::last_ticket);
            }
        }
        writer.seal().unwrap();
    }
    assert_eq!(files.rows(900).len(), 900);
}
