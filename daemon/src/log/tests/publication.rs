//! What is visible when: nothing before the sync, then page, verdicts, head.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::failpoint::watch;
use certeus_ipc::layout::{C_HEAD, P_TAIL};

/// Durable seq, bytes of verdicts told, bytes of events released.
type Seen = (u64, u64, u64);

/// What is visible at each failpoint while `act` runs.
fn seen_at(world: &World, worker: &Worker) -> Rc<RefCell<Vec<(String, Seen)>>> {
    let log = Rc::new(RefCell::new(Vec::new()));
    let (page, out) = (world.durability(), log.clone());
    let (forward, returns) = (worker.forward.memory().clone(), worker.returns.memory().clone());
    watch::with(move |name| {
        let seen = (
            page.word(durability::DURABLE_SEQ).load(Ordering::Acquire),
            returns.p.word(P_TAIL).load(Ordering::Acquire),
            forward.c.word(C_HEAD).load(Ordering::Acquire),
        );
        out.borrow_mut().push((name.to_owned(), seen));
    });
    log
}

fn at(log: &[(String, Seen)], name: &str) -> Seen {
    log.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}: {log:?}")).1
}

#[test]
fn the_page_the_verdicts_and_the_head_come_after_the_sync_in_this_order() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    (1..=3).for_each(|ticket| worker.event(&session, ticket, "x"));
    let log = seen_at(&world, &worker);
    let (_, told, released) = {
        watch::passed("before");
        at(&log.borrow(), "before")
    };
    world.writer.cycle().unwrap();
    watch::clear();
    let log = log.borrow();
    for name in ["log-before-write", "log-after-write", "log-after-sync"] {
        assert_eq!(at(&log, name), (0, told, released), "{name}: nothing is told");
    }
    assert_eq!(at(&log, "log-after-page"), (3, told, released), "the durability page first");
    let after = at(&log, "log-after-verdicts");
    assert!(after.1 > told && after.2 == released, "then the verdicts, with the head in its place");
    assert!(at(&log, "log-after-head").2 > released, "then the head");
}

#[test]
fn a_failed_sync_tells_nobody_anything() {
    for fail_write in [false, true] {
        let mut world = World::new(Setup::default());
        let mut worker = world.attach();
        let session = world.connect(&mut worker, 1);
        worker.event(&session, 1, "x");
        worker.reject(&session, 2, Reason::TooDeep);
        worker.hello(2, None, 0);
        if fail_write {
            world.disk.die_after(1);
        } else {
            world.disk.fail_syncs();
        }
        let released = worker.forward.head();
        assert!(world.writer.cycle().is_err());
        assert_eq!(worker.take(), []);
        assert_eq!(worker.forward.head(), released, "the worker still has it");
        assert_eq!(world.durable_seq(), 0);
    }
}

#[test]
fn a_duplicate_is_told_only_once_its_original_is_durable() {
    let mut world = World::new(Setup::default());
    let (mut one, mut two) = (world.attach(), world.attach());
    let (a, b) = (world.connect(&mut one, 1), world.connect(&mut two, 1));
    let _superseded = a;
    let (a, b) = (b, world.connect(&mut one, 2));
    two.event_with_id(&a, 1, "k", "x");
    two.event_with_id(&a, 2, "k", "x");
    one.event(&b, 1, "y");
    world.disk.fail_syncs();
    assert!(world.writer.cycle().is_err());
    assert_eq!((one.take(), two.take()), (vec![], vec![]));
    // Nothing of it survives the power, so nobody was told of an original that is not there.
    let mut world = world.cut_power();
    let mut worker = world.attach();
    let (a, told) = world.resume(&mut worker, 1, Some(0), 0);
    assert_eq!((a.high, told), (0, vec![]));
    worker.event_with_id(&a, 1, "k", "x");
    worker.event_with_id(&a, 2, "k", "x");
    let told = verdicts(&world.answers(&mut worker), a.number);
    assert_eq!(told, [accepted(1, 1, 1, 1), duplicate(2, 1)]);
}

#[test]
fn a_resume_is_answered_only_after_the_sync_of_what_was_accepted() {
    let mut world = World::new(Setup::default());
    let (mut one, mut two) = (world.attach(), world.attach());
    let session = world.connect(&mut one, 1);
    // In one cycle: the events are gathered from one worker, the hello from the other.
    (1..=3).for_each(|ticket| one.event(&session, ticket, "x"));
    two.hello(1, Some(session.birth_seq), 1);
    let log = seen_at(&world, &two);
    world.writer.cycle().unwrap();
    watch::clear();
    for name in ["log-before-write", "log-after-sync", "log-after-page"] {
        assert_eq!(at(&log.borrow(), name).1, at(&log.borrow(), "log-before-write").1, "{name}");
    }
    let told = two.take();
    let Some(Return::Welcome(welcome)) = told.last() else { panic!("{told:?}") };
    assert_eq!(welcome.high, 3);
    assert_eq!(verdicts(&told, welcome.session), [accepted(2, 2, 1, 2)]);
    // And when that sync fails, it is not answered at all.
    let (again, _) = world.resume(&mut one, 1, Some(session.birth_seq), 3);
    two.take();
    one.event(&again, 4, "x");
    two.hello(1, Some(session.birth_seq), 3);
    world.disk.fail_syncs();
    assert!(world.writer.cycle().is_err());
    assert_eq!(two.take(), []);
}

#[test]
fn the_follower_is_rung_once_what_it_waits_for_is_durable() {
    use crate::board::{PAGE_FOLLOWER, follower};
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    world.writer.set_follower_bell(bell.try_clone().unwrap());
    let rung = || rustix::io::read(&bell, &mut [0; 8]).is_ok();
    world.board.page(PAGE_FOLLOWER).set(follower::WANT_SEQ, 3);
    for ticket in 1..=3 {
        worker.event(&session, ticket, "x");
        world.run();
        assert_eq!(rung(), ticket == 3);
    }
}
