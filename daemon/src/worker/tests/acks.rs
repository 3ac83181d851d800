use super::*;
use crate::board::HISTOGRAM_WORDS;
use crate::worker::acks::Acks;

fn page() -> Page {
    let board = memory((BOARD_PAGES * PAGE_BYTES) as u64);
    Board::map(board.as_fd()).unwrap().page(PAGE_WORKER)
}

/// Buckets that are not empty.
fn counted(page: &Page) -> Vec<(usize, u64)> {
    (0..HISTOGRAM_WORDS)
        .map(|bucket| (bucket, page.get(worker::ACK_NS_BUCKETS_64 + bucket)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[test]
fn every_ticket_counts_once_with_the_time_of_its_turn() {
    let page = page();
    let mut acks = Acks::new(0);
    acks.note(3, 1000);
    acks.note(10, 1600);
    acks.count(5, 2000, &page);
    assert_eq!(counted(&page), [(9, 2), (10, 3)], "3 waited 1000 ns, 2 waited 400");
    assert_eq!(page.get(worker::ACK_US_SUM), 3, "whole microseconds of a note");
    assert_eq!(acks.note_count(), 1, "the rest of a turn still waits");
    acks.count(5, 9000, &page);
    assert_eq!(counted(&page), [(9, 2), (10, 3)], "nothing new is settled");
    acks.count(10, 2600, &page);
    assert_eq!(counted(&page), [(9, 2), (10, 8)]);
    assert_eq!(acks.note_count(), 0);
    assert_eq!((acks.buckets[9], acks.buckets[10]), (2, 8), "the session's own");
}

#[test]
fn what_is_read_again_keeps_the_time_of_its_first_reading() {
    let page = page();
    let mut acks = Acks::new(0);
    acks.note(10, 1000);
    acks.note(4, 50_000);
    acks.note(12, 60_000);
    acks.count(12, 61_000, &page);
    assert_eq!(counted(&page), [(10, 2), (16, 10)]);
}

#[test]
fn tickets_decided_before_the_session_are_not_counted() {
    let page = page();
    let mut acks = Acks::new(33);
    acks.note(34, 1000);
    acks.count(33, 2000, &page);
    assert_eq!(counted(&page), []);
    acks.count(34, 3000, &page);
    assert_eq!(counted(&page), [(11, 1)]);
}

#[test]
fn the_kernel_counts_every_event_that_it_settles() {
    let mut world = World::new();
    let (mut one, mut other) = (world.connect(1), world.connect(2));
    for number in 0..300 {
        one.append(&format!("{number}"));
        other.append("{");
    }
    world.run();
    world.log.take();
    world.log.answer(one.accepted(1, 200));
    world.run();
    let events = |world: &World| counted(&world.page).iter().map(|(_, count)| count).sum::<u64>();
    assert_eq!(events(&world), 200);
    assert!(world.page.get(worker::ACK_US_SUM) > 0);
    world.replace_log();
    world.run();
    world.log.take();
    // Those up to 250 were durable: their verdicts come before the welcome.
    let epoch = world.log.next_epoch();
    let Return::Verdict { session, entry, .. } = one.accepted(201, 50) else { unreachable!() };
    world.log.answer(Return::Verdict { session, epoch, entry });
    one.welcome = world.log.welcome(one.number, 250);
    other.welcome = world.log.welcome(other.number, 0);
    world.run();
    world.log.answer(one.accepted(251, 50));
    world.log.answer(other.rejected(1, Reason::InvalidJson));
    world.run();
    assert_eq!(events(&world), 301, "once each, whatever was read twice");
    let session = world.kernel.session(other.number);
    assert_eq!(session.acks.buckets.iter().sum::<u64>(), 1);
    assert!(session.acks.note_count() <= 300, "a note a turn at most");
}
