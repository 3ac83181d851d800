use super::*;
use crate::envelope::EndReason;

/// A client with ten events forwarded, of which four are settled, and a log writer that died.
fn interrupted() -> (World, Client) {
    let mut world = World::new();
    let mut client = world.connect(1);
    for number in 1..=10 {
        client.append(&format!("{number}"));
    }
    world.run();
    world.log.take();
    world.log.answer(client.accepted(1, 4));
    world.run();
    world.replace_log();
    (world, client)
}

fn take_hello(world: &mut World) -> Hello {
    assert_eq!(world.run(), []);
    let frames = world.log.take();
    let [Forward::Hello(hello)] = &frames[..] else { panic!("{frames:?}") };
    hello.clone()
}

fn bye(client: &Client, clean: bool) -> Forward {
    let Welcome { session, epoch, producer_no, .. } = client.welcome;
    Forward::Bye(Bye { session, clean, epoch, producer_no })
}

#[test]
fn a_new_log_writer_hears_who_is_there_and_what_is_settled() {
    let (mut world, client) = interrupted();
    let hello = take_hello(&mut world);
    assert_eq!(hello.session, client.number);
    assert_eq!((hello.birth_seq, hello.settled), (Some(17), 4));
    assert_eq!((hello.producer, hello.source.as_str()), ([1; 16], "check"));
}

#[test]
fn tickets_above_the_mark_are_read_again_and_those_below_are_not() {
    let (mut world, mut client) = interrupted();
    take_hello(&mut world);
    // 5 and 6 were durable: their verdicts come before the welcome, and 3 and 4 are known.
    let epoch = world.log.next_epoch();
    let Return::Verdict { entry, .. } = client.accepted(3, 4) else { unreachable!() };
    world.log.answer(Return::Verdict { session: client.number, epoch, entry });
    client.welcome = world.log.welcome(client.number, 6);
    client.append("11");
    assert_eq!(world.run(), [], "the client is not told again");
    assert_eq!(tickets(&world.log.take()), (7..=11).collect::<VecDeque<_>>());
    assert_eq!(client.settled(), 6);
    let verdicts: Vec<_> =
        client.read_verdicts().iter().map(|entry| (entry.ticket, entry.count, entry.seq)).collect();
    assert_eq!(verdicts, [(1, 4, 1001), (5, 2, 1005)]);
    world.log.answer(client.accepted(7, 5));
    world.run();
    assert_eq!(client.settled(), 11);
    assert_eq!(client.ring.head(), client.ring.committed());
    assert_eq!(world.kernel.in_flight(), 0);
}

#[test]
fn nothing_is_forwarded_before_the_welcome() {
    let (mut world, mut client) = interrupted();
    take_hello(&mut world);
    client.append("11");
    client.ring_doorbell();
    world.run();
    assert_eq!(world.log.take(), []);
    assert_eq!(client.settled(), 4);
}

#[test]
fn verdicts_of_an_older_epoch_are_ignored() {
    let (mut world, mut client) = interrupted();
    take_hello(&mut world);
    let old = client.accepted(5, 1);
    client.welcome = world.log.welcome(client.number, 4);
    world.run();
    assert_eq!(world.log.take().len(), 6);
    world.log.answer(old);
    world.run();
    assert_eq!(client.settled(), 4);
    world.log.answer(client.accepted(5, 1));
    world.run();
    assert_eq!(client.settled(), 5);
}

#[test]
fn rejections_that_wait_for_room_are_forgotten_with_the_log_writer_and_come_again() {
    let mut world = World::new();
    let mut client = world.connect(1);
    let full = certeus_ipc::layout::VERDICT_COUNT as u64;
    for ticket in 1..=full + 2 {
        client.append("1");
        world.run();
        world.log.take();
        world.log.answer(client.rejected(ticket, Reason::InvalidJson));
        world.run();
    }
    assert_eq!(client.settled(), full);
    world.replace_log();
    let hello = take_hello(&mut world);
    assert_eq!(hello.settled, full);
    // The log had nothing of it: what was published stays, the rest is offered again.
    client.welcome = world.log.welcome(client.number, full);
    world.run();
    assert_eq!(tickets(&world.log.take()), [full + 1, full + 2]);
}

#[test]
fn a_client_that_died_while_no_log_writer_was_there_is_still_heard() {
    let (mut world, mut client) = interrupted();
    world.kernel.detach().unwrap();
    client.append("11");
    world.kernel.end_session(client.number, false);
    assert_eq!(world.run(), [], "its ring is the only copy");
    world.log = Log::attach(&mut world.kernel, RING_BYTES, RING_BYTES);
    take_hello(&mut world);
    client.welcome = world.log.welcome(client.number, 4);
    assert_eq!(world.run(), [Event::Closed(client.number)]);
    let frames = world.log.take();
    assert_eq!(tickets(&frames), (5..=11).collect::<VecDeque<_>>());
    assert_eq!(frames.last(), Some(&bye(&client, false)));
    assert_eq!(world.kernel.session_count(), 0);
}

#[test]
fn the_end_of_a_client_comes_behind_all_that_it_committed() {
    let mut world = World::with_rings(8 * 1024, RING_BYTES);
    let mut client = world.connect(1);
    let mut last = 0;
    while let Some(ticket) = client.append_with(&[], "{\"last\":\"words\"}") {
        last = ticket;
    }
    world.kernel.end_session(client.number, false);
    let (mut frames, mut events) = (Vec::new(), Vec::new());
    while events.is_empty() {
        events = world.run();
        frames.extend(world.log.take());
    }
    frames.extend(world.log.take());
    assert_eq!(events, [Event::Closed(client.number)]);
    assert_eq!(tickets(&frames), (1..=last).collect::<VecDeque<_>>());
    assert_eq!(frames.last(), Some(&bye(&client, false)));
}

#[test]
fn a_goodbye_is_clean_only_when_everything_is_settled() {
    for settled in [true, false] {
        let mut world = World::new();
        let mut client = world.connect(1);
        client.append("1");
        world.run();
        world.log.take();
        if settled {
            world.log.answer(client.accepted(1, 1));
            world.run();
        }
        world.kernel.end_session(client.number, true);
        assert_eq!(world.run(), [Event::Closed(client.number)]);
        assert_eq!(world.log.take(), [bye(&client, settled)]);
    }
}

#[test]
fn draining_settles_what_the_ring_holds_and_then_ends() {
    let mut world = World::new();
    let mut client = world.connect(1);
    client.append("1");
    client.append("2");
    world.kernel.drain();
    client.append("3");
    assert_eq!(world.run(), []);
    assert_eq!(tickets(&world.log.take()), [1, 2]);
    world.log.answer(client.accepted(1, 2));
    assert_eq!(world.run(), [Event::Ended(client.number, "draining")]);
    assert_eq!(client.settled(), 2);
    assert_eq!(world.log.take(), [bye(&client, false)]);
}

#[test]
fn a_worker_hands_over_every_second_session_and_settles_it_first() {
    let mut world = World::new();
    let mut clients: Vec<Client> = (1..=4).map(|producer| world.connect(producer)).collect();
    for (client, events) in clients.iter_mut().zip([1, 4, 3, 2]) {
        for _ in 0..events {
            client.append("1");
        }
    }
    world.run();
    world.log.take();
    assert_eq!(world.kernel.hand_over(), 2);
    assert_eq!(world.run(), [], "what was read has no verdict yet");
    clients[2].append("late");
    for (at, events) in [(0, 1), (2, 3)] {
        let answer = clients[at].accepted(1, events);
        world.log.answer(answer);
    }
    let mut ended = world.run();
    ended.sort_by_key(|event| format!("{event:?}"));
    let wanted = [0, 2].map(|at| Event::Ended(clients[at].number, "draining"));
    assert_eq!(ended, wanted, "of 4, 3, 2 and 1 events: the second and the fourth");
    assert_eq!(clients[2].settled(), 3, "what came later is offered to the next worker");
    assert_eq!(world.kernel.session_count(), 2);
    assert_eq!(world.kernel.hand_over(), 1);
    world.kernel.detach().unwrap();
    assert_eq!(world.kernel.hand_over(), 0, "nobody is asked to go before the log writer is back");
}

#[test]
fn who_is_at_work_is_shared_and_not_who_was_once() {
    let mut world = World::new();
    let mut clients: Vec<Client> = (1..=4).map(|producer| world.connect(producer)).collect();
    for (client, events) in clients.iter_mut().zip([4, 3, 2, 1]) {
        for _ in 0..events {
            client.append("1");
        }
    }
    world.run();
    for idle in [1, 3] {
        world.kernel.session(clients[idle].number).active_in = 0;
    }
    assert_eq!(world.kernel.hand_over(), 2);
    let going = [0, 1, 2, 3].map(|at| world.kernel.session(clients[at].number).closing.is_some());
    assert_eq!(going, [false, false, true, true], "one at work, and one that is not");
}

#[test]
fn who_goes_for_another_reason_counts_among_those_handed_over() {
    let mut world = World::new();
    let mut clients: Vec<Client> = (1..=5).map(|producer| world.connect(producer)).collect();
    for client in &mut clients {
        client.append("1");
    }
    world.run();
    let (first, nobody) = (clients[0].number, 99);
    world.kernel.let_go(&[first, first, nobody]);
    assert!(world.kernel.session(first).closing.is_some());
    assert_eq!(world.kernel.hand_over(), 1);
    assert_eq!(world.kernel.hand_over(), 0);
}

#[test]
fn a_worker_alone_with_its_only_producer_keeps_it() {
    let mut world = World::new();
    world.connect(1);
    assert_eq!(world.kernel.hand_over(), 0);
}

#[test]
fn who_breaks_its_ring_while_it_says_hello_again_leaves_no_session_behind() {
    let mut world = World::new();
    let client = world.connect(1);
    world.replace_log();
    take_hello(&mut world);
    client.p.word(certeus_ipc::layout::P_TAIL).store(8, std::sync::atomic::Ordering::SeqCst);
    world.kernel.end_session(client.number, false);
    assert_eq!(world.run(), [Event::Ended(client.number, "ring-position")]);
    let Welcome { epoch, producer_no, .. } = world.log.welcome(client.number, 0);
    assert_eq!(world.run(), []);
    let bye = Bye { session: client.number, clean: false, epoch, producer_no };
    assert_eq!(world.log.take(), [Forward::Bye(bye)]);
}

#[test]
fn draining_without_a_log_writer_ends_who_waits_for_nothing() {
    let mut world = World::new();
    let (mut settled, mut waiting) = (world.connect(1), world.connect(2));
    settled.append("1");
    world.run();
    world.log.take();
    world.log.answer(settled.accepted(1, 1));
    world.run();
    world.kernel.detach().unwrap();
    waiting.append("1");
    world.kernel.drain();
    assert_eq!(world.run(), [Event::Ended(settled.number, "draining")]);
    assert_eq!(world.kernel.session_count(), 1, "an event without a verdict is worth the wait");
}

#[test]
fn a_resuming_client_has_its_verdicts_before_its_welcome() {
    let mut world = World::new();
    let mut client = Client::add(&mut world.kernel, 1, Some(12), 30);
    let hello = take_hello(&mut world);
    assert_eq!((hello.birth_seq, hello.settled), (Some(12), 30));
    let epoch = world.log.next_epoch();
    let Return::Verdict { entry, .. } = client.accepted(31, 3) else { unreachable!() };
    world.log.answer(Return::Verdict { session: client.number, epoch, entry });
    client.welcome = world.log.welcome(client.number, 33);
    assert_eq!(world.run(), [Event::Welcomed(client.number, client.welcome)]);
    assert_eq!(client.settled(), 33);
    assert_eq!(client.read_verdicts().len(), 1);
    client.ticket = 33;
    client.append("34");
    world.run();
    assert_eq!(tickets(&world.log.take()), [34]);
}

#[test]
fn a_client_that_claims_less_than_it_read_is_only_told_less() {
    let mut world = World::new();
    let mut client = Client::add(&mut world.kernel, 1, Some(12), 0);
    take_hello(&mut world);
    client.welcome = world.log.welcome(client.number, 33);
    world.run();
    assert_eq!(client.settled(), 33);
    client.ticket = 33;
    client.append("34");
    world.run();
    assert_eq!(tickets(&world.log.take()), [34]);
}

#[test]
fn the_log_writer_can_refuse_and_end_a_session() {
    let mut world = World::new();
    let client = Client::add(&mut world.kernel, 1, Some(12), 30);
    take_hello(&mut world);
    let reason = EndReason::ProducerExpired;
    world.log.answer(Return::Refused { session: client.number, reason });
    assert_eq!(world.run(), [Event::Refused(client.number, "producer-expired")]);
    let live = world.connect(2);
    let (session, epoch) = (live.number, live.welcome.epoch);
    let reason = EndReason::Superseded;
    world.log.answer(Return::End { session, epoch: epoch + 1, reason });
    assert_eq!(world.run(), [], "of another epoch");
    world.log.answer(Return::End { session, epoch, reason });
    assert_eq!(world.run(), [Event::Ended(session, "superseded")]);
    assert_eq!(world.log.take(), []);
}

#[test]
fn a_client_that_goes_before_it_is_welcome_leaves_nothing() {
    let mut world = World::new();
    let client = Client::add(&mut world.kernel, 1, None, 0);
    take_hello(&mut world);
    world.kernel.end_session(client.number, false);
    assert_eq!(world.run(), []);
    let welcome = world.log.welcome(client.number, 0);
    let events = world.run();
    assert!(events.contains(&Event::Closed(client.number)), "{events:?}");
    let Welcome { session, epoch, producer_no, .. } = welcome;
    let bye = Bye { session, clean: false, epoch, producer_no };
    assert_eq!(world.log.take(), [Forward::Bye(bye)]);
    let client = Client::add(&mut world.kernel, 1, None, 0);
    world.run();
    world.kernel.end_session(client.number, false);
    world.kernel.detach().unwrap();
    assert_eq!(world.run(), [Event::Closed(client.number)]);
}
