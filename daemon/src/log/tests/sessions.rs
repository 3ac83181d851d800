//! The session protocol, ticket by ticket, without a death.

use super::*;
use crate::board::PAGE_LOG;
use crate::board::log as count;
use crate::envelope::EndReason;

#[test]
fn events_get_dense_numbers_in_the_order_of_their_ring() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let (a, b) = (world.connect(&mut worker, 1), world.connect(&mut worker, 2));
    for ticket in 1..=5 {
        worker.event(&a, ticket, &format!("a{ticket}"));
        worker.event(&b, ticket, &format!("b{ticket}"));
    }
    let told = world.answers(&mut worker);
    let seqs = |session: &Session| -> Vec<(u64, u64)> {
        verdicts(&told, session.number).iter().map(|e| (e.ticket, e.seq)).collect()
    };
    assert_eq!(seqs(&a), [(1, 1), (2, 3), (3, 5), (4, 7), (5, 9)]);
    assert_eq!(seqs(&b), [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]);
    let rows = world.read();
    let data: Vec<&str> = rows.iter().map(|row| row.data.as_str()).collect();
    assert_eq!(data, ["a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4", "a5", "b5"]);
    assert_eq!(rows[0].source, "source-1");
}

#[test]
fn a_run_of_accepted_tickets_is_told_as_one() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    (1..=9).for_each(|ticket| worker.event(&session, ticket, "x"));
    let told = world.answers(&mut worker);
    assert_eq!(verdicts(&told, session.number), [accepted(1, 1, 1, 9)]);
}

#[test]
fn two_workers_share_one_order() {
    let mut world = World::new(Setup::default());
    let (mut one, mut two) = (world.attach(), world.attach());
    let (a, b) = (world.connect(&mut one, 1), world.connect(&mut two, 2));
    one.event(&a, 1, "a");
    two.event(&b, 1, "b");
    world.run();
    assert_eq!(verdicts(&one.take(), a.number), [accepted(1, 1, 1, 1)]);
    assert_eq!(verdicts(&two.take(), b.number), [accepted(1, 2, 1, 1)]);
    assert_eq!(world.read().len(), 2);
}

#[test]
fn a_record_of_an_older_epoch_is_dropped() {
    let mut world = World::new(Setup::default());
    let (mut one, mut two) = (world.attach(), world.attach());
    let old = world.connect(&mut one, 1);
    let (new, _) = world.resume(&mut two, 1, Some(old.birth_seq), 0);
    assert!(new.epoch > old.epoch);
    assert_eq!(new.producer_no, old.producer_no);
    let Session { number, epoch, .. } = old;
    let reason = EndReason::Superseded;
    assert_eq!(one.take(), [Return::End { session: number, epoch, reason }]);
    one.event(&old, 1, "old");
    assert_eq!(world.answers(&mut one), []);
    two.event(&new, 1, "new");
    world.run();
    one.event(&old, 2, "old");
    assert_eq!(world.answers(&mut one), []);
    assert_eq!(world.read().iter().map(|row| row.data.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(world.board.page(PAGE_LOG).get(count::STALE_TOTAL), 2);
}

#[test]
fn a_decided_ticket_is_answered_as_it_was() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    worker.event_with_id(&session, 1, "k", "same");
    worker.event_with_id(&session, 2, "k", "same");
    worker.event_with_id(&session, 3, "k", "other");
    worker.reject(&session, 4, Reason::TooDeep);
    worker.event(&session, 5, "x");
    let first = verdicts(&world.answers(&mut worker), session.number);
    for ticket in 1..=5 {
        worker.event(&session, ticket, "whatever comes now");
    }
    let again = verdicts(&world.answers(&mut worker), session.number);
    assert_eq!(again, first);
    assert_eq!(
        first,
        [
            accepted(1, 1, 1, 1),
            duplicate(2, 1),
            rejected(3, Reason::IdConflict, 1),
            rejected(4, Reason::TooDeep, 0),
            accepted(5, 2, 1, 1),
        ]
    );
    assert_eq!(world.read().len(), 2);
}

#[test]
fn a_missing_ticket_ends_the_session() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    worker.event(&session, 1, "1");
    worker.event(&session, 3, "3");
    worker.event(&session, 2, "2");
    let told = world.answers(&mut worker);
    assert_eq!(verdicts(&told, session.number), [accepted(1, 1, 1, 1)]);
    let Session { number, epoch, .. } = session;
    let reason = EndReason::SequenceGap;
    assert_eq!(told.last(), Some(&Return::End { session: number, epoch, reason }));
    assert_eq!(world.read().len(), 1, "nothing is taken from it any more");
}

#[test]
fn a_rejection_is_told_at_once_and_logged_with_the_next_records() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    let groups = || world.board.page(PAGE_DURABILITY).get(durability::DURABLE_GROUP);
    let before = groups();
    worker.reject(&session, 1, Reason::InvalidJson);
    worker.reject(&session, 2, Reason::InvalidTime);
    let board = world.board.clone();
    let told = verdicts(&world.answers(&mut worker), session.number);
    assert_eq!(told, [rejected(1, Reason::InvalidJson, 0), rejected(2, Reason::InvalidTime, 0)]);
    let groups = || board.page(PAGE_DURABILITY).get(durability::DURABLE_GROUP);
    assert_eq!(groups(), before, "no group for verdicts alone");
    worker.event(&session, 3, "x");
    world.run();
    assert_eq!(groups(), before + 1);
    // The next life knows what was logged: the verdicts come again to who has not read them.
    let mut world = world.kill();
    let mut worker = world.attach();
    let (resumed, told) = world.resume(&mut worker, 1, Some(session.birth_seq), 0);
    assert_eq!(resumed.high, 3);
    assert_eq!(
        told,
        [
            rejected(1, Reason::InvalidJson, 0),
            rejected(2, Reason::InvalidTime, 0),
            accepted(3, 1, 1, 1),
        ]
    );
}

#[test]
fn verdicts_of_all_kinds_come_in_ticket_order() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    for ticket in 1..=30 {
        match ticket % 3 {
            0 => assert!(worker.reject(&session, ticket, Reason::TooLarge)),
            1 => worker.event(&session, ticket, "x"),
            _ => worker.event_with_id(&session, ticket, "k", "x"),
        }
    }
    let told = verdicts(&world.answers(&mut worker), session.number);
    let tickets: Vec<u64> =
        told.iter().flat_map(|entry| entry.ticket..=entry.last_ticket()).collect();
    assert_eq!(tickets, (1..=30).collect::<Vec<_>>());
}

#[test]
fn an_id_with_other_content_is_rejected_with_the_first_seq() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let (a, b) = (world.connect(&mut worker, 1), world.connect(&mut worker, 2));
    worker.event(&a, 1, "before");
    worker.event_with_id(&a, 2, "k", "first");
    world.run();
    worker.take();
    worker.event_with_id(&a, 3, "k", "other");
    worker.event_with_id(&a, 4, "k", "first");
    worker.event_with_id(&b, 1, "k", "of another source");
    let told = world.answers(&mut worker);
    assert_eq!(verdicts(&told, a.number), [rejected(3, Reason::IdConflict, 2), duplicate(4, 2)]);
    assert_eq!(verdicts(&told, b.number), [accepted(1, 3, 2, 1)]);
}

#[test]
fn a_rejection_is_counted_by_its_reason_once_however_often_it_is_offered() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    let board = world.board.clone();
    let counted = |word| board.page(PAGE_LOG).get(word);
    for _ in 0..2 {
        worker.reject(&session, 1, Reason::MalformedEvent);
        worker.reject(&session, 2, Reason::SourceNotAllowed);
        worker.event_with_id(&session, 3, "k", "first");
        worker.event_with_id(&session, 4, "k", "other");
        world.run();
    }
    assert_eq!(counted(count::MALFORMED_EVENT_TOTAL), 1);
    assert_eq!(counted(count::SOURCE_NOT_ALLOWED_TOTAL), 1);
    assert_eq!(counted(count::ID_CONFLICT_TOTAL), 1);
    assert_eq!(counted(count::INVALID_JSON_TOTAL), 0);
    assert_eq!(counted(count::REJECTED_TOTAL), 3);
}

#[test]
fn a_hello_repeated_before_its_first_welcome_is_the_same_producer() {
    let mut world = World::new(Setup::default());
    let (mut one, mut two) = (world.attach(), world.attach());
    one.hello(1, None, 0);
    world.run();
    // The worker died before the client got anything; the client tries the other one.
    world.writer.detach(one.number);
    let session = world.connect(&mut two, 1);
    two.event(&session, 1, "x");
    assert_eq!(verdicts(&world.answers(&mut two), session.number), [accepted(1, 1, 1, 1)]);
    let (again, told) = world.resume(&mut two, 1, None, 0);
    assert_eq!((again.producer_no, again.high), (session.producer_no, 1));
    assert_eq!(told, [accepted(1, 1, 1, 1)]);
}

#[test]
fn a_hello_that_comes_late_leaves_nobody_waiting() {
    let mut world = World::new(Setup::default());
    let (mut one, mut two) = (world.attach(), world.attach());
    // The client gave up on worker two and went to one, whose hello is taken first.
    two.hello(1, None, 0);
    one.hello(1, None, 0);
    world.run();
    let told = one.take();
    let [Return::Welcome(welcome), Return::End { session, epoch, reason }] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((session, epoch, reason), (welcome.session, welcome.epoch, EndReason::Superseded));
    // It says hello again, and the session that nobody uses is ended.
    let (live, _) = world.resume(&mut one, 1, Some(welcome.birth_seq), 0);
    assert!(matches!(two.take()[..], [Return::Welcome(_), Return::End { .. }]));
    one.event(&live, 1, "x");
    assert_eq!(verdicts(&world.answers(&mut one), live.number), [accepted(1, 1, 1, 1)]);
}

#[test]
fn a_clean_goodbye_forgets_the_producer() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    worker.event(&session, 1, "x");
    worker.reject(&session, 2, Reason::TooDeep);
    worker.bye(&session, true);
    world.run();
    worker.take();
    world.writer.publish_gauges();
    assert_eq!(world.board.page(PAGE_LOG).get(count::PRODUCERS), 0);
    let other = world.connect(&mut worker, 1);
    assert_ne!(other.producer_no, session.producer_no, "a number is given once");
    assert_eq!(world.read().len(), 1);
}

#[test]
fn a_goodbye_of_an_older_session_changes_nothing() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let old = world.connect(&mut worker, 1);
    let (new, _) = world.resume(&mut worker, 1, Some(0), 0);
    worker.bye(&old, true);
    worker.event(&new, 1, "x");
    assert_eq!(verdicts(&world.answers(&mut worker), new.number), [accepted(1, 1, 1, 1)]);
}

#[test]
fn what_a_detached_worker_had_in_its_ring_is_forgotten() {
    let mut world = World::new(Setup::default());
    let (mut one, mut two) = (world.attach(), world.attach());
    let session = world.connect(&mut one, 1);
    one.event(&session, 1, "in time");
    world.run();
    one.event(&session, 2, "too late");
    world.writer.detach(one.number);
    let (resumed, told) = world.resume(&mut two, 1, Some(session.birth_seq), 0);
    assert_eq!((resumed.high, told), (1, vec![accepted(1, 1, 1, 1)]));
    assert_eq!(world.read().len(), 1);
}

#[test]
fn a_full_return_ring_stops_taking_and_loses_nothing() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach_with(64 * 1024, 4096);
    let session = world.connect(&mut worker, 1);
    let (mut next, mut told) = (1, Vec::new());
    while told.len() < 400 {
        while next <= 400 && worker.reject(&session, next, Reason::TooLarge) {
            next += 1;
        }
        world.run();
        assert!(!world.writer.cycle().unwrap(), "it does not spin while the ring is full");
        let high = world.writer.producers.get(session.producer_no).unwrap().high;
        assert!(high - told.len() as u64 <= 4096 / 80, "no more than can be answered");
        let some = worker.take_some(7);
        assert!(!some.is_empty(), "it goes on when there is room");
        told.extend(verdicts(&some, session.number));
    }
    let tickets: Vec<u64> = told.iter().map(|entry| entry.ticket).collect();
    assert_eq!(tickets, (1..=400).collect::<Vec<_>>());
}

#[test]
fn a_writer_without_room_for_answers_sleeps_until_half_of_them_are_read() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach_with(64 * 1024, 4096);
    let session = world.connect(&mut worker, 1);
    (1..=200).for_each(|ticket| assert!(worker.reject(&session, ticket, Reason::TooLarge)));
    world.run();
    assert!(!world.writer.is_waiting(), "nothing is tried again and again");
    assert!(world.writer.prepare_sleep().unwrap(), "though events wait");
    assert!(!worker.forward.publish(), "more of them would not wake it");
    let (mut read, half) = (0, 4096 / 2 / 80);
    while worker.returns.head_wanted() > worker.returns.released() {
        read += worker.take_some(1).len();
    }
    assert!((half - 1..=half + 2).contains(&read), "woken at half: {read} of {}", 2 * half);
    assert!(!world.writer.prepare_sleep().unwrap(), "it would not sleep now");
    world.writer.woke(false);
    world.writer.woke(true);
    assert_eq!(world.board.page(PAGE_LOG).get(count::WAKEUPS_TOTAL), 1);
    assert_eq!(worker.returns.head_wanted(), u64::MAX, "awake, it wants no bell");
    assert!(world.writer.cycle().unwrap());
}

#[test]
fn more_verdicts_than_the_return_ring_holds_come_before_the_welcome_all_the_same() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    for ticket in 1..=200 {
        worker.reject(&session, ticket, Reason::TooLarge);
    }
    world.run();
    let mut small = world.attach_with(4096, 4096);
    small.hello(1, Some(session.birth_seq), 0);
    let mut told = Vec::new();
    while !matches!(told.last(), Some(Return::Welcome(_))) {
        world.run();
        let some = small.take();
        assert!(!some.is_empty());
        told.extend(some);
    }
    assert_eq!(told.len(), 201);
}

#[test]
fn rejections_without_end_are_bounded_and_need_no_event() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    for ticket in 1..=2000 {
        assert!(worker.reject(&session, ticket, Reason::TooLarge));
        if ticket % 100 == 0 {
            assert_eq!(world.answers(&mut worker).len(), 100);
        }
    }
    assert!(world.durability().get(durability::DURABLE_GROUP) > 0, "they were logged");
    assert_eq!(world.durable_seq(), 0);
    assert!(world.segments().len() > 2);
    let mut world = world.kill();
    let mut worker = world.attach_with(64 * 1024, 1 << 20);
    let (resumed, told) = world.resume(&mut worker, 1, Some(0), 0);
    assert!(resumed.high > 1000 && told.len() as u64 == resumed.high);
}

#[test]
fn verdicts_that_were_read_are_not_logged() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let mut session = world.connect(&mut worker, 1);
    for ticket in 1..=5000 {
        assert!(worker.reject(&session, ticket, Reason::TooLarge));
        if ticket % 50 == 0 {
            world.run();
            worker.take();
            session.settled = ticket;
        }
    }
    assert_eq!(world.durability().get(durability::DURABLE_GROUP), 0);
}

#[test]
fn a_known_producer_keeps_the_source_that_its_events_are_logged_under() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let known = world.connect(&mut worker, 1);
    worker.event(&known, 1, "x");
    world.run();
    worker.take();
    let session = worker.hello_as(1, "another", Some(known.birth_seq), 1);
    let reason = EndReason::SourceChanged;
    assert_eq!(world.answers(&mut worker), [Return::Refused { session, reason }]);
    // Its session goes on.
    worker.event(&known, 2, "y");
    assert_eq!(verdicts(&world.answers(&mut worker), known.number), [accepted(2, 2, 2, 1)]);
}
