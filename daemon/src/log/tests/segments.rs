//! Rotation, sidecars, trimming, and a log that is full.

use super::*;
use crate::board::{PAGE_FOLLOWER, PAGE_LOG, follower, log as count};
use crate::log::producers::Producers;
use crate::log::window::Key;
use crate::log::{Current, SPARE_WANTED_AT};

/// What a life remembers: ids in the window's order, and the producer table as it is sealed.
pub fn memory_of(world: &World) -> (Vec<Key>, Producers) {
    let mut table = Vec::new();
    world.writer.producers.encode(&mut table);
    let table = Producers::decode(&table, world.setup.dedup_producers).unwrap();
    (world.writer.window.newest(), table)
}

pub fn encoded(producers: &Producers) -> Vec<u8> {
    let mut out = Vec::new();
    producers.encode(&mut out);
    out
}

/// Appends events of several producers, with ids that come again, in small groups.
fn fill(world: &mut World, worker: &mut Worker, sessions: &mut [Session], count: u64) {
    for number in 0..count {
        let index = number as usize % sessions.len();
        let session = &mut sessions[index];
        let ticket = session.high + 1;
        session.high = ticket;
        match number % 7 {
            0 => worker.event(session, ticket, &"y".repeat(900)),
            5 => assert!(worker.reject(session, ticket, Reason::TooDeep)),
            _ => worker.event_with_id(session, ticket, &format!("{}", ticket / 2), "x"),
        }
        if number % 5 == 4 {
            world.run();
            worker.take();
        }
    }
    worker.event(&sessions[0], sessions[0].high + 1, "the last one logs what waits");
    sessions[0].high += 1;
    world.run();
    worker.take();
}

#[test]
fn the_next_life_remembers_the_same_ids_and_producers() {
    for (dedup_keys, dedup_producers) in [(1000, 100), (7, 3), (0, 1)] {
        let setup = Setup { dedup_keys, dedup_producers, ..Setup::default() };
        let mut world = World::new(setup);
        let mut worker = world.attach();
        let mut sessions: Vec<Session> =
            (1..=dedup_producers.min(5) as u8).map(|p| world.connect(&mut worker, p)).collect();
        fill(&mut world, &mut worker, &mut sessions, 300);
        assert!(world.segments().len() > 5, "it rotates");
        let (keys, producers) = memory_of(&world);
        for lost in [false, true] {
            if lost {
                for name in world.disk.names().iter().filter(|name| name.ends_with(".keys")) {
                    world.disk.damage(name, |bytes| bytes[70] ^= 1);
                }
            }
            world = world.cut_power();
            assert_eq!(world.report.gaps, []);
            assert_eq!(world.report.groups_read > 20, lost, "{}", world.report.groups_read);
            let (same_keys, same_producers) = memory_of(&world);
            assert_eq!(same_keys, keys, "lost sidecars: {lost}");
            assert_eq!(encoded(&same_producers), encoded(&producers), "lost sidecars: {lost}");
        }
    }
}

#[test]
fn trimmed_segments_leave_the_ids_that_the_window_still_holds() {
    let setup = Setup { dedup_keys: 60, ..Setup::default() };
    let mut world = World::new(setup);
    let mut worker = world.attach();
    let mut sessions = [world.connect(&mut worker, 1)];
    for round in 0..20 {
        fill(&mut world, &mut worker, &mut sessions, 40);
        let current = world.durability().get(durability::SEGMENT_NO);
        world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
        world.run();
        if round % 5 == 4 {
            let (keys, producers) = memory_of(&world);
            world = world.kill();
            let (same_keys, same_producers) = memory_of(&world);
            assert_eq!(same_keys, keys);
            assert_eq!(encoded(&same_producers), encoded(&producers));
            worker = world.attach();
            sessions[0] = world.resume(&mut worker, 1, Some(0), sessions[0].high).0;
        }
    }
    assert!(world.segments().len() < 6, "{:?}", world.segments());
    let sidecars = world.disk.names().iter().filter(|name| name.ends_with(".keys")).count();
    assert!(sidecars < 20, "{sidecars} sidecars of the {} segments", 60);
}

#[test]
fn a_segment_goes_only_once_its_sidecar_is_durable() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let mut sessions = [world.connect(&mut worker, 1)];
    fill(&mut world, &mut worker, &mut sessions, 200);
    let (keys, producers) = memory_of(&world);
    let current = world.durability().get(durability::SEGMENT_NO);
    world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
    // At every call on the way, the power goes; nothing that was not synced survives.
    let start = world.disk.after_kill();
    for call in 1.. {
        let disk = start.after_kill();
        let mut world = World::on(disk, world.setup).unwrap();
        world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
        world.disk.die_after(call);
        let done = world.writer.cycle().is_ok();
        let world = world.cut_power();
        let (same_keys, same_producers) = memory_of(&world);
        assert_eq!(same_keys, keys, "call {call}");
        assert_eq!(encoded(&same_producers), encoded(&producers), "call {call}");
        if done {
            assert!(call > 10, "{call}");
            break;
        }
    }
}

#[test]
fn a_full_log_holds_back_and_goes_on_after_trimming() {
    for by_space in [false, true] {
        let bytes_max = if by_space { 1 << 40 } else { 4 * 64 * 1024 };
        let mut world = World::new(Setup { bytes_max, ..Setup::default() });
        let mut worker = world.attach();
        let session = world.connect(&mut worker, 1);
        if by_space {
            world.disk.set_free_bytes(64 * 1024 - 1);
        }
        let page = world.board.page(PAGE_LOG);
        let mut ticket = 0;
        while world.durable_seq() == ticket {
            ticket += 1;
            worker.event(&session, ticket, &"x".repeat(1500));
            world.run();
        }
        let durable = world.durable_seq();
        assert!(durable > 5 && durable < ticket, "{durable} of {ticket}");
        assert_eq!(page.get(count::FULL), 1, "nothing else held it back");
        assert!(by_space || world.segments().len() <= 4, "{:?}", world.segments());
        assert!(!world.writer.cycle().unwrap() && world.writer.is_waiting());
        let told = verdicts(&worker.take(), session.number);
        assert_eq!(told.last().unwrap().last_ticket(), durable, "what is durable is told");
        // Sessions come and go all the same.
        let mut other = world.attach();
        let late = world.connect(&mut other, 2);
        other.bye(&late, true);
        world.run();
        // Somebody makes room.
        if by_space {
            world.disk.set_free_bytes(1 << 40);
        } else {
            let current = world.durability().get(durability::SEGMENT_NO);
            world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
        }
        world.run();
        assert_eq!(page.get(count::FULL), 0);
        assert_eq!(world.durable_seq(), ticket);
        let told = verdicts(&worker.take(), session.number);
        let tickets: Vec<u64> = told.iter().flat_map(|e| e.ticket..=e.last_ticket()).collect();
        assert_eq!(tickets, (durable + 1..=ticket).collect::<Vec<_>>());
    }
}

#[test]
fn a_follower_that_keeps_up_gives_each_segment_back_before_another_one_is_filled() {
    let mut world = World::new(Setup { recycle: true, ..Setup::default() });
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    let mut ticket = 0;
    let mut append = |world: &mut World| {
        ticket += 1;
        worker.event(&session, ticket, &"x".repeat(1500));
        world.run();
        worker.take();
        world.durability().get(durability::SEGMENT_NO)
    };
    while append(&mut world) < 4 {
        assert_eq!(world.segments().len(), 2);
        let current = world.durability().get(durability::SEGMENT_NO);
        world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
    }
    // It stops: the next one is filled in time all the same.
    while world.segments().len() == 2 {
        let Current { offset, bytes, .. } = world.writer.current;
        assert!(offset < bytes / SPARE_WANTED_AT, "{offset} of {bytes}");
        append(&mut world);
    }
    assert!(world.writer.current.offset < world.writer.current.bytes / 2);
    assert_eq!(append(&mut world), 4);
}

#[test]
fn answers_that_waited_for_room_go_out_though_the_log_is_full() {
    let mut world = World::new(Setup { bytes_max: 2 * 64 * 1024, ..Setup::default() });
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    (1..=60).for_each(|ticket| assert!(worker.reject(&session, ticket, Reason::TooDeep)));
    world.run();
    worker.take();
    let mut small = world.attach_with(64 * 1024, 4096);
    small.hello(1, Some(0), 0);
    world.run();
    let other = world.connect(&mut worker, 2);
    let mut ticket = 0;
    while world.board.page(PAGE_LOG).get(count::FULL) == 0 {
        ticket += 1;
        worker.event(&other, ticket, &"x".repeat(1500));
        world.run();
    }
    let mut told = small.take();
    while !matches!(told.last(), Some(Return::Welcome(_))) {
        world.run();
        let some = small.take();
        assert!(!some.is_empty(), "it is told, though the log is full");
        told.extend(some);
    }
    assert_eq!(told.len(), 61);
}

#[test]
fn groups_of_an_earlier_life_of_a_recycled_file_are_never_read() {
    let mut world = World::new(Setup { recycle: true, ..Setup::default() });
    let mut worker = world.attach();
    let mut session = world.connect(&mut worker, 1);
    for ticket in 1..=600 {
        worker.event(&session, ticket, &format!("{ticket:0200}"));
        world.run();
        worker.take();
        session.settled = ticket;
        if ticket % 10 == 0 {
            let current = world.durability().get(durability::SEGMENT_NO);
            world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
        }
        if ticket % 37 == 0 {
            world = if ticket % 2 == 0 { world.kill() } else { world.cut_power() };
            assert_eq!((world.report.next_seq, &world.report.gaps[..]), (ticket + 1, &[][..]));
            worker = world.attach();
            session = world.resume(&mut worker, 1, Some(0), ticket).0;
        }
    }
    assert!(world.segments().len() < 5);
    assert_eq!(world.durable_seq(), 600);
}

#[test]
fn a_file_that_is_being_read_is_not_recycled() {
    use crate::disk::{Disk, DiskFile, RealDisk};
    let files = Files::new();
    let path = files.dir.join("file");
    let file = RealDisk.open(&path, true).unwrap();
    let reader = std::fs::File::open(&path).unwrap();
    rustix::fs::flock(&reader, rustix::fs::FlockOperation::NonBlockingLockShared).unwrap();
    assert!(!file.try_lock().unwrap());
    drop(reader);
    assert!(file.try_lock().unwrap());
}

#[test]
fn the_next_file_and_spares_that_a_dead_start_left_do_no_harm() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    worker.event(&session, 1, "x");
    world.run();
    let start = world.disk.after_kill();
    for power in [false, true] {
        let mut call = 0;
        loop {
            call += 1;
            let disk = start.after_kill();
            disk.die_after(call);
            let opened = World::on(disk.clone(), world.setup).is_ok();
            let disk = if power { disk.restart(|| false) } else { disk.after_kill() };
            let again = World::on(disk, world.setup).unwrap();
            assert_eq!((again.durable_seq(), again.report.gaps.len()), (1, 0), "call {call}");
            assert_eq!(again.read().len(), 1);
            assert!(again.segments().len() <= 4, "{:?}", again.segments());
            assert!(!again.disk.names().contains(&"next".to_owned()));
            if opened {
                break;
            }
        }
        assert!(call > 5);
    }
}

#[test]
fn one_idle_writer_rotates_nothing() {
    let mut world = World::new(Setup { segment_bytes: 32 * 1024, ..Setup::default() });
    let _worker = world.attach_with(1 << 20, 64 * 1024);
    for _ in 0..10 {
        world.run();
    }
    assert!(world.segments().len() <= 2, "{:?}", world.segments());
}

#[test]
fn a_sidecar_of_a_number_that_came_again_is_not_believed() {
    // The segment of a start that logged nothing is sealed, and its number then used again.
    let mut world = World::new(Setup { segment_bytes: 32 * 1024, ..Setup::default() });
    let mut worker = world.attach();
    let mut session = world.connect(&mut worker, 1);
    worker.event_with_id(&session, 1, "big", &"x".repeat(7900));
    worker.event_with_id(&session, 2, "bigger", &"x".repeat(7000));
    world.run();
    for _ in 0..3 {
        world = world.kill();
        world.run();
    }
    worker = world.attach();
    session = world.resume(&mut worker, 1, Some(0), 2).0;
    for ticket in 3..40 {
        worker.event_with_id(&session, ticket, &ticket.to_string(), &"x".repeat(900));
        world.run();
    }
    let (keys, producers) = memory_of(&world);
    let world = world.kill();
    let (same_keys, same_producers) = memory_of(&world);
    assert_eq!(same_keys, keys);
    assert_eq!(encoded(&same_producers), encoded(&producers));
}

#[test]
fn segments_may_become_smaller_than_the_group_that_a_start_copies() {
    let mut world = World::new(Setup { segment_bytes: 1 << 20, ..Setup::default() });
    let mut worker = world.attach_with(1 << 20, 64 * 1024);
    let session = world.connect(&mut worker, 1);
    worker.event(&session, 1, &"x".repeat(100_000));
    world.run();
    world.setup.segment_bytes = 64 * 1024;
    for start in 1..4 {
        world = world.kill();
        assert_eq!((world.durable_seq(), world.read().len()), (1, 1), "start {start}");
    }
    let mut worker = world.attach();
    let (session, _) = world.resume(&mut worker, 1, Some(0), 1);
    for ticket in 2..100 {
        worker.event(&session, ticket, &"y".repeat(1500));
        world.run();
        worker.take();
    }
    assert_eq!((world.durable_seq(), world.read().len()), (99, 99));
    assert_eq!(world.kill().durable_seq(), 99);
}

/// The bytes of a segment appear in its file, group after group, while it is checked.
#[test]
fn a_check_of_a_segment_that_is_being_written_finds_no_damage() {
    use crate::reader::segment::BEFORE_READ;
    use std::os::unix::fs::FileExt;
    let mut world = World::new(Setup { segment_bytes: 1 << 20, ..Setup::default() });
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    for ticket in 1..=200 {
        worker.event(&session, ticket, &"x".repeat(800));
        world.run();
        worker.take();
    }
    let name = &world.segments()[0];
    let bytes = world.disk.read(name);
    let files = Files::new();
    let file = std::fs::File::create(files.dir.join(name)).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    let written = 32 << 10;
    file.write_all_at(&bytes[..written], 0).unwrap();
    // Zeros were read ahead; then they are written, and what stands behind them, too.
    BEFORE_READ.set(Box::new(move |offset| {
        if offset > written as u64 {
            file.write_all_at(&bytes[written..], written as u64).unwrap();
        }
    }));
    let mut check = crate::reader::LogReader::new(&files.dir).check(None).unwrap();
    while check.step().unwrap() {}
    BEFORE_READ.set(Box::new(|_| ()));
    assert_eq!(check.finish().findings, []);
}
