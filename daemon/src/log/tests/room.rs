//! A disk without room: back-pressure, nothing lost, and on again by itself when there is room.

use super::*;
use crate::board::{PAGE_FOLLOWER, PAGE_LOG, follower, log as count};

const SEGMENT: u64 = 64 * 1024;

struct Scene {
    world: World,
    worker: Worker,
    session: Session,
    ticket: u64,
}

impl Scene {
    fn new(setup: Setup) -> Self {
        let mut world = World::new(setup);
        let mut worker = world.attach();
        let session = world.connect(&mut worker, 1);
        Self { world, worker, session, ticket: 0 }
    }

    fn append(&mut self) {
        self.ticket += 1;
        self.worker.event(&self.session, self.ticket, &"x".repeat(1500));
        self.world.run();
        self.worker.take();
    }

    /// Appends until an event has to wait; that one is the last of those that were handed over.
    fn append_until_it_waits(&mut self) {
        while self.world.durable_seq() == self.ticket {
            assert!(self.ticket < 1000, "nothing holds it back");
            self.append();
        }
        assert_eq!(self.page(count::FULL), 1);
    }

    fn segments(&self) -> usize {
        self.world.segments().len()
    }

    fn current(&self) -> u64 {
        self.world.durability().get(durability::SEGMENT_NO)
    }

    fn delivered_below(&mut self, segment_no: u64) {
        self.world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, segment_no);
        self.world.run();
    }

    fn page(&mut self, word: usize) -> u64 {
        self.world.writer.publish_gauges();
        self.world.board.page(PAGE_LOG).get(word)
    }
}

#[test]
fn a_disk_that_refuses_what_it_promised_holds_producers_back_and_loses_nothing() {
    for killed in [false, true] {
        let mut scene = Scene::new(Setup::default());
        (0..50).for_each(|_| scene.append());
        scene.world.disk.refuse_room(true);
        scene.append_until_it_waits();
        assert_eq!(scene.page(count::DISK_SHORT), 1);
        let half_made = |name: &String| name == "next" || name.ends_with(".new");
        assert!(!scene.world.disk.names().iter().any(half_made), "{:?}", scene.world.disk.names());
        let (durable, last) = (scene.world.durable_seq(), scene.ticket);
        scene.world.run();
        assert!(!scene.world.writer.cycle().unwrap() && scene.world.writer.is_waiting());
        if killed {
            let disk = scene.world.disk.restart(|| false);
            disk.refuse_room(true);
            let Err(error) = World::on(disk.after_kill(), Setup::default()) else { continue };
            assert_eq!(error.raw_os_error(), Some(28), "a start waits for room");
            disk.refuse_room(false);
            let world = World::on(disk, Setup::default()).unwrap();
            assert_eq!((world.report.next_seq, &world.report.gaps[..]), (durable + 1, &[][..]));
            continue;
        }
        scene.world.disk.refuse_room(false);
        scene.world.run();
        assert_eq!((scene.world.durable_seq(), scene.page(count::FULL)), (last, 0));
        assert_eq!(scene.page(count::DISK_SHORT), 0);
        let sealed = scene.current() - 1;
        let sidecars = (1..=sealed).map(crate::log::sidecar::name);
        let names = scene.world.disk.names();
        assert!(sidecars.into_iter().all(|name| names.contains(&name)), "{names:?}");
    }
}

#[test]
fn a_trim_needs_no_room() {
    let mut scene = Scene::new(Setup::default());
    (0..200).for_each(|_| scene.append());
    let current = scene.current();
    assert!(current > 3);
    scene.world.disk.refuse_room(true);
    scene.delivered_below(current);
    let names = scene.world.segments();
    assert!(names.len() <= 2, "{names:?}");
    let (_, point, _) = crate::log::trim::read(&scene.world.disk, Path::new(DIR)).unwrap().unwrap();
    // The newest segment without a group needs the one before it.
    assert!(point.segment_no >= current - 1);
}

#[test]
fn the_log_stops_at_the_reserve_and_goes_on_only_well_above_it() {
    let reserve = 100 * SEGMENT;
    let mut scene = Scene::new(Setup { disk_reserve_bytes: reserve, ..Setup::default() });
    scene.append();
    scene.world.disk.set_free_bytes(reserve + SEGMENT - 1);
    scene.append_until_it_waits();
    assert_eq!(scene.page(count::DISK_SHORT), 1);
    assert_eq!(scene.page(count::DISK_FREE_BYTES), reserve + SEGMENT - 1);
    let durable = scene.world.durable_seq();
    scene.world.disk.set_free_bytes(reserve + 2 * SEGMENT - 1);
    scene.world.run();
    assert_eq!(scene.world.durable_seq(), durable);
    scene.world.disk.set_free_bytes(reserve + 2 * SEGMENT);
    scene.world.run();
    assert_eq!((scene.world.durable_seq(), scene.page(count::DISK_SHORT)), (scene.ticket, 0));
}

#[test]
fn a_low_disk_gets_back_what_was_delivered_but_for_the_two_that_the_log_needs() {
    let reserve = 100 * SEGMENT;
    let mut scene = Scene::new(Setup { disk_reserve_bytes: reserve, ..Setup::default() });
    (0..250).for_each(|_| scene.append());
    scene.world.disk.set_free_bytes(reserve / 2 - 1);
    scene.append_until_it_waits();
    assert!(scene.segments() > 4);
    // PostgreSQL takes over one segment after the other.
    while scene.segments() > 2 {
        let before = scene.segments();
        let oldest: u64 = scene.world.segments()[0][..20].parse().unwrap();
        scene.delivered_below(oldest + 1);
        assert_eq!(scene.segments(), before - 1);
        assert_eq!(scene.page(count::FULL), 1, "what is given back is not taken again");
    }
    // From here on the log lives in its own two: there is no room for another one.
    scene.world.disk.set_free_bytes(SEGMENT - 1);
    for _ in 0..5 {
        let current = scene.current();
        scene.delivered_below(current);
        assert_eq!((scene.page(count::FULL), scene.segments()), (0, 2));
        scene.append_until_it_waits();
    }
}

#[test]
fn a_start_on_a_disk_without_room_has_its_two_segments_again() {
    let reserve = 100 * SEGMENT;
    let mut scene = Scene::new(Setup { disk_reserve_bytes: reserve, ..Setup::default() });
    (0..10).for_each(|_| scene.append());
    scene.world.disk.set_free_bytes(reserve / 4);
    let mut world = scene.world.kill();
    let mut worker = world.attach();
    let (session, _) = world.resume(&mut worker, 1, Some(0), scene.ticket);
    let mut scene = Scene { world, worker, session, ticket: scene.ticket };
    for _ in 0..200 {
        scene.append();
        let current = scene.current();
        scene.delivered_below(current);
        assert_eq!(scene.world.durable_seq(), scene.ticket, "all is delivered, and it waits");
    }
}

#[test]
fn delivered_segments_are_retained_up_to_their_bound_and_give_way_to_events() {
    let retain_bytes = 3 * SEGMENT;
    let mut scene = Scene::new(Setup { retain_bytes, ..Setup::default() });
    (0..300).for_each(|_| scene.append());
    let current = scene.current();
    assert!(current > 6);
    scene.delivered_below(current);
    // What is retained, the current one, perhaps the one before it, and the spare.
    assert!((5..=6).contains(&scene.segments()), "{}", scene.segments());
    let first_seq = scene.page(count::FIRST_SEQ);
    assert_eq!(scene.world.read().len() as u64, scene.ticket + 1 - first_seq, "and can be read");
    // A disk that is short of room gets all of them.
    let disk = scene.world.disk.clone();
    disk.set_free_bytes(SEGMENT - 1);
    scene.world.run();
    assert!(scene.segments() <= 3, "{}", scene.segments());
    // The bound of the log is another one: retained segments never hold an event back.
    let setup = Setup { retain_bytes: 1 << 40, bytes_max: 6 * SEGMENT, ..Setup::default() };
    let mut scene = Scene::new(setup);
    for _ in 0..500 {
        scene.append();
        let current = scene.current();
        scene.delivered_below(current);
        assert_eq!(scene.world.durable_seq(), scene.ticket);
    }
    assert!(scene.segments() >= 5, "{}", scene.segments());
}
