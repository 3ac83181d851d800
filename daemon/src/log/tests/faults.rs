//! The disk refuses one call, whichever: the writer ends, and nobody was told too much.
//!
//! Every call that the log makes of its disk is refused once, in a start and in a life that
//! rotates, seals, trims and recycles. The next life goes on from what is there, after a kill and
//! after a loss of power.

use super::*;
use crate::board::{PAGE_FOLLOWER, follower};

const TICKETS: u64 = 48;
const EIO: i32 = 5;
const EROFS: i32 = 30;

/// What the producer has been told, and where it stands.
#[derive(Debug, Default)]
struct Told {
    settled: u64,
    next: u64,
}

/// Appends up to `last` and trims on the way; stops at the first error of the writer.
fn live(
    world: &mut World,
    worker: &mut Worker,
    session: &mut Session,
    told: &mut Told,
    last: u64,
) -> std::io::Result<()> {
    while told.settled < last {
        told.next = (told.settled + 3).min(last);
        for ticket in told.settled + 1..=told.next {
            worker.event(session, ticket, &"x".repeat(3000));
        }
        let ended = cycles(world);
        for entry in verdicts(&worker.take(), session.number) {
            told.settled = told.settled.max(entry.ticket + u64::from(entry.count.max(1)) - 1);
        }
        ended?;
        session.settled = told.settled;
        if told.settled % 6 == 0 {
            let current = world.durability().get(durability::SEGMENT_NO);
            world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
        }
    }
    Ok(())
}

fn cycles(world: &mut World) -> std::io::Result<()> {
    while world.writer.cycle()? {}
    Ok(())
}

/// A log of a life that was killed, so that the next start reads, copies and seals.
fn begun() -> (SimDisk, Told) {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let mut session = world.connect(&mut worker, 1);
    let mut told = Told::default();
    live(&mut world, &mut worker, &mut session, &mut told, TICKETS / 2).unwrap();
    (world.disk.after_kill(), told)
}

/// A start, the rest of the tickets, and an orderly end; the error that ended it.
fn second_life(disk: &SimDisk, told: &mut Told) -> (u64, std::io::Result<()>) {
    let mut world = match World::on(disk.clone(), Setup::default()) {
        Ok(world) => world,
        Err(error) => return (0, Err(error)),
    };
    if !world.report.gaps.is_empty() {
        // Bytes between groups that the disk refuses are damage of an exact range, and told.
        assert_eq!(disk.faulted(), Some("read_at"));
        return (world.durable_seq(), Ok(()));
    }
    let durable_seq = world.durable_seq();
    assert!(durable_seq >= told.settled, "{durable_seq}: acknowledged and gone");
    let mut worker = world.attach();
    let number = worker.hello(1, Some(0), told.settled);
    let answers = cycles(&mut world).map(|()| worker.take());
    let ended = answers.and_then(|mut answers| {
        let Some(Return::Welcome(welcome)) = answers.pop() else { panic!("{answers:?}") };
        assert_eq!(welcome.session, number);
        let mut session = Session::new(1, &welcome);
        assert!(session.high >= told.settled, "what was told is known");
        told.settled = session.high;
        live(&mut world, &mut worker, &mut session, told, TICKETS)?;
        world.writer.seal()
    });
    (world.durable_seq(), ended)
}

fn the_rest_comes_once(disk: SimDisk, durable_before: u64, settled: u64, what: &str) {
    let world = World::on(disk.clone(), Setup::default()).unwrap();
    assert!(world.durable_seq() >= durable_before.max(settled), "{what}: acknowledged and gone");
    drop(world);
    let mut told = Told { settled, next: settled };
    let (durable_seq, ended) = second_life(&disk, &mut told);
    ended.unwrap();
    assert_eq!((durable_seq, told.settled), (TICKETS, TICKETS), "{what}: each once");
    let (rows, gaps) = Files::of(&disk).rows_and_gaps(durable_seq);
    let trimmed = gaps.first().map_or(0, |gap| gap.1);
    assert!(gaps.len() <= 1 && gaps.iter().all(|gap| gap.0 == 1), "{what}: {gaps:?}");
    let found: Vec<u64> = rows.iter().map(|row| row.ticket).collect();
    assert_eq!(found, (trimmed + 1..=TICKETS).collect::<Vec<_>>(), "{what}");
}

#[test]
fn every_call_that_the_disk_refuses_ends_the_writer_and_nothing_is_lost() {
    // A sidecar that cannot be read is one that is lost, and its segment is read instead.
    let may_pass = [("read_at", EIO)];
    let mut met = std::collections::BTreeSet::new();
    let errors: &[i32] = if attack().0 { &[EIO, EROFS] } else { &[EIO] };
    for &errno in errors {
        for call in 1.. {
            let (disk, mut told) = begun();
            disk.fail_once(call, errno);
            let (durable_seq, ended) = second_life(&disk, &mut told);
            let Some(what) = disk.faulted() else {
                ended.unwrap();
                break;
            };
            met.insert(what);
            let call_name = what;
            let what = format!("{what}, call {call}, error {errno}");
            match ended {
                Ok(()) => {
                    assert!(may_pass.contains(&(call_name, errno)), "{what}: nobody minded");
                    let (rows, gaps) = Files::of(&disk).rows_and_gaps(durable_seq);
                    let last = rows.last().expect("rows").ticket;
                    assert!(last == told.settled && gaps.iter().all(|gap| gap.0 == 1), "{what}");
                    continue;
                }
                Err(error) => {
                    let cause = std::io::Error::from_raw_os_error(errno).to_string();
                    assert!(error.to_string().contains(&cause), "{what}: {error}");
                }
            }
            assert!(told.settled <= durable_seq.max(TICKETS / 2), "{what}: told before the sync");
            the_rest_comes_once(disk.after_kill(), durable_seq, told.settled, &what);
            the_rest_comes_once(disk.restart(|| false), durable_seq, told.settled, &what);
        }
    }
    let all = ["bytes", "list", "open", "read_at", "rename", "space", "sync", "sync_dir"];
    let more = ["truncate", "try_lock", "unlink", "write_at"];
    assert!(all.iter().chain(&more).all(|call| met.contains(call)), "{met:?}");
}

#[test]
fn an_error_of_the_helper_ends_a_writer_that_needs_nothing_of_it() {
    use crate::disk::RealDisk;
    use crate::log::keeper::{Keeper, Limits};
    let files = Files::new();
    let (segment_bytes, bytes_max) = (64 * 1024, 1 << 40);
    let limits =
        Limits { segment_bytes, bytes_max, disk_reserve_bytes: 0, retain_bytes: 0, recycle: true };
    let keeper = Keeper::start(Arc::new(RealDisk), files.dir.join("gone"), limits, 1);
    // Each cycle asks this, though its segment has room for days.
    let error = loop {
        match keeper.step() {
            Ok(()) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_start_that_cannot_read_who_was_active_before_forgets_nobody() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let early = world.connect(&mut worker, 2);
    worker.event(&early, 1, "x");
    let mut session = world.connect(&mut worker, 1);
    let mut told = Told::default();
    live(&mut world, &mut worker, &mut session, &mut told, TICKETS).unwrap();
    let disk = world.disk.after_kill();
    let mut refused = 0;
    for call in 1.. {
        let disk = disk.after_kill();
        disk.fail_once(call, EIO);
        let next = World::on(disk.clone(), Setup::default());
        if disk.faulted().is_none() {
            break;
        }
        match next {
            Err(_) => refused += 1,
            Ok(world) if world.report.gaps.is_empty() => {
                assert_eq!(world.writer.producers.len(), 2, "call {call}: somebody is forgotten");
            }
            Ok(_) => {}
        }
    }
    assert!(refused > 5, "{refused}");
}
