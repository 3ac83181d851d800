//! Random histories of appends, resumes, kills and power cuts at any call that changes the disk.
//!
//! The model is the clients: what each has offered, and what it was told. Whatever was told must be
//! so for ever: in the log under that number, once, and told again when the ticket comes again.
//! Segments and groups are tiny, so that rotation and trimming are common.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::board::{PAGE_FOLLOWER, follower};
use crate::envelope::Welcome;

const CLIENTS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    /// One more ticket: an event without id, with one of few ids, with other content, a rejection.
    Append {
        client: usize,
        kind: u8,
        bytes: usize,
    },
    /// The writer works; the workers read their answers now or later.
    Cycle {
        take: bool,
    },
    /// The client goes to a worker, and says that it has read all but `unread` of what it could.
    Resume {
        client: usize,
        worker: usize,
        unread: u64,
    },
    Detach {
        worker: usize,
    },
    Trim,
    /// At this many more changing calls, the writer dies in the middle of its work.
    Doom {
        calls: u64,
    },
    Crash(Crash),
}

#[derive(Clone, Debug)]
struct Crash {
    /// Of what was not synced, what survives; without it only the process dies.
    power: Option<u64>,
    /// The starts after it die too, at these calls.
    starts_die_at: Vec<u64>,
    unread: u64,
}

fn crash() -> impl Strategy<Value = Crash> {
    let starts = prop::collection::vec(1..14_u64, 0..3);
    (prop::option::of(any::<u64>()), starts, 0..4_u64)
        .prop_map(|(power, starts_die_at, unread)| Crash { power, starts_die_at, unread })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        24 => (0..CLIENTS, 0..6_u8, 0..1800_usize)
            .prop_map(|(client, kind, bytes)| Op::Append { client, kind, bytes }),
        10 => any::<bool>().prop_map(|take| Op::Cycle { take }),
        3 => (0..CLIENTS, 0..2_usize, 0..4_u64)
            .prop_map(|(client, worker, unread)| Op::Resume { client, worker, unread }),
        1 => (0..2_usize).prop_map(|worker| Op::Detach { worker }),
        1 => Just(Op::Trim),
        3 => (1..12_u64).prop_map(|calls| Op::Doom { calls }),
        2 => crash().prop_map(Op::Crash),
    ]
}

#[derive(Clone)]
enum Content {
    Event { id: Option<String>, data: String },
    Reject,
}

struct Client {
    producer: u8,
    /// By ticket, from 1.
    contents: Vec<Content>,
    session: Option<(usize, Session)>,
    birth_seq: Option<u64>,
    /// Tickets offered in this session.
    offered: u64,
    told: BTreeMap<u64, Entry>,
    /// The last ticket up to which a worker has told everything.
    known: u64,
    /// What it said in a hello; it never says less.
    settled: u64,
}

struct Game {
    world: World,
    workers: [Worker; 2],
    clients: Vec<Client>,
    greeting: BTreeMap<u32, (usize, usize)>,
    trimmed: bool,
}

/// Two bits at a time: three quarters of what was not synced survive.
fn survivors(mut seed: u64) -> impl FnMut() -> bool {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed & 3 != 0
    }
}

fn setup() -> Setup {
    Setup { segment_bytes: 32 * 1024, group_records_max: 5, ..Setup::default() }
}

impl Game {
    fn new() -> Self {
        let mut world = World::new(setup());
        let workers = [world.attach(), world.attach()];
        let client = |number: usize| Client {
            producer: number as u8 + 1,
            contents: Vec::new(),
            session: None,
            birth_seq: None,
            offered: 0,
            told: BTreeMap::new(),
            known: 0,
            settled: 0,
        };
        let clients = (0..CLIENTS).map(client).collect();
        let mut game = Self { world, workers, clients, greeting: BTreeMap::new(), trimmed: false };
        (0..CLIENTS).for_each(|client| game.resume(client, client % 2, 0));
        game
    }

    fn play(&mut self, op: &Op) {
        match op {
            Op::Append { client, kind, bytes } => {
                let known = &mut self.clients[*client];
                let ticket = known.contents.len();
                let pad = "x".repeat(*bytes);
                known.contents.push(match kind {
                    0 | 1 => Content::Event { id: None, data: format!("{client} {ticket}{pad}") },
                    2 | 3 => {
                        let id = (ticket / 3).to_string();
                        Content::Event { data: format!("{client} of {id}"), id: Some(id) }
                    }
                    4 => {
                        Content::Event { id: Some("0".into()), data: format!("{client} {ticket}") }
                    }
                    _ => Content::Reject,
                });
                self.offer(*client);
            }
            Op::Cycle { take } => {
                let alive = self.world.writer.cycle().is_ok();
                if *take || !alive {
                    self.take();
                }
                if !alive {
                    let power = (self.world.disk.calls() % 2 == 0).then_some(7919);
                    self.crash(&Crash { power, starts_die_at: vec![], unread: 1 });
                }
            }
            Op::Resume { client, worker, unread } => self.resume(*client, *worker, *unread),
            Op::Detach { worker } => self.replace(*worker),
            Op::Trim => {
                let current = self.world.durability().get(durability::SEGMENT_NO);
                let below = current.saturating_sub(1);
                self.world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, below);
                self.trimmed = true;
            }
            Op::Doom { calls } => self.world.disk.die_after(*calls),
            Op::Crash(crash) => self.crash(crash),
        }
    }

    /// Puts into the ring whatever the session has not offered yet, as far as there is room.
    fn offer(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Some((worker, session)) = &mut client.session else { return };
        session.settled = client.settled;
        while let Some(content) = client.contents.get(client.offered as usize) {
            let (worker, ticket) = (&mut self.workers[*worker], client.offered + 1);
            let sent = match content {
                Content::Event { id, data } => worker.offer(session, ticket, id.as_deref(), data),
                Content::Reject => worker.reject(session, ticket, Reason::InvalidJson),
            };
            if !sent {
                break;
            }
            client.offered = ticket;
        }
    }

    fn resume(&mut self, number: usize, worker: usize, unread: u64) {
        let client = &mut self.clients[number];
        client.session = None;
        client.settled = client.settled.max(client.known.saturating_sub(unread));
        let session = self.workers[worker].hello(client.producer, client.birth_seq, client.settled);
        self.greeting.retain(|_, (other, _)| *other != number);
        self.greeting.insert(session, (number, worker));
    }

    /// A worker died, another one takes its place, and its clients find it.
    fn replace(&mut self, worker: usize) {
        self.world.writer.detach(self.workers[worker].number);
        self.workers[worker] = self.world.attach();
        for number in 0..CLIENTS {
            let at = self.clients[number].session.as_ref().map(|(at, _)| *at);
            if at.is_none_or(|at| at == worker) {
                self.resume(number, worker, 2);
            }
        }
    }

    fn crash(&mut self, crash: &Crash) {
        let restart = |disk: &SimDisk| match crash.power {
            Some(seed) => disk.restart(survivors(seed | 1)),
            None => disk.after_kill(),
        };
        let mut disk = restart(&self.world.disk);
        for calls in &crash.starts_die_at {
            disk.die_after(*calls);
            drop(World::on(disk.clone(), setup()));
            disk = restart(&disk);
        }
        self.world = World::on(disk, setup()).unwrap();
        assert_eq!(self.world.report.gaps, []);
        self.workers = [self.world.attach(), self.world.attach()];
        self.greeting.clear();
        self.check();
        (0..CLIENTS).for_each(|client| self.resume(client, client % 2, crash.unread));
    }

    fn take(&mut self) {
        for worker in 0..self.workers.len() {
            for answer in self.workers[worker].take() {
                match answer {
                    Return::Verdict { session, entry, .. } => self.verdict(session, entry),
                    Return::Welcome(welcome) => self.welcome(&welcome),
                    Return::End { session, .. } => self.ended(session),
                    // A hello that came late says that less is read than is known by now.
                    Return::Refused { session, .. } => {
                        assert!(!self.greeting.contains_key(&session), "nobody is forgotten here");
                    }
                }
            }
        }
    }

    /// A live client whose session was ended says hello again.
    fn ended(&mut self, number: u32) {
        let live =
            |client: &Client| client.session.as_ref().is_some_and(|(_, s)| s.number == number);
        if let Some(client) = self.clients.iter().position(live) {
            self.resume(client, 0, 1);
        }
    }

    fn verdict(&mut self, number: u32, run: Entry) {
        let greeted = self.greeting.get(&number).map(|(client, _)| *client);
        let live =
            |client: &Client| client.session.as_ref().is_some_and(|(_, s)| s.number == number);
        let Some(index) = greeted.or_else(|| self.clients.iter().position(live)) else { return };
        let client = &mut self.clients[index];
        for offset in 0..u64::from(run.count) {
            let (ticket, seq) = (run.ticket + offset, run.seq + offset);
            let entry = Entry { ticket, seq, count: 1, ..run };
            let before = client.told.insert(ticket, entry);
            assert!(before.is_none_or(|before| before == entry), "{before:?}, then {entry:?}");
            assert!(ticket <= client.known + 1, "ticket {ticket} after {}", client.known);
            client.known = client.known.max(ticket);
        }
    }

    fn welcome(&mut self, welcome: &Welcome) {
        let Some((number, worker)) = self.greeting.remove(&welcome.session) else { return };
        let client = &mut self.clients[number];
        assert!(welcome.high >= client.settled && welcome.high <= client.contents.len() as u64);
        let durable = client.told.values().rev().find(|entry| entry.verdict.has_seq());
        assert!(durable.is_none_or(|entry| welcome.high >= entry.ticket), "acknowledged, and lost");
        assert!(client.known >= welcome.high, "decided, and not told");
        client.birth_seq.get_or_insert(welcome.birth_seq);
        client.session = Some((worker, Session::new(client.producer, welcome)));
        client.offered = welcome.high;
        self.offer(number);
    }

    /// Everything that was acknowledged is in the log, and nothing is there twice.
    fn check(&self) {
        let files = Files::of(&self.world.disk);
        let mut check = LogReader::new(&files.dir).check(Some(LOG_KEY)).unwrap();
        while check.step().unwrap() {}
        assert_eq!(check.finish().findings, [], "{:?} {:?}", self.world.disk.names(), self.trimmed);
        let (rows, gaps) = files.rows_and_gaps(self.world.durable_seq());
        assert!(gaps.len() <= usize::from(self.trimmed), "{gaps:?}");
        let first_seq = gaps.first().map_or(1, |(first, last)| {
            assert_eq!(*first, 1, "only the oldest ones were trimmed");
            last + 1
        });
        let by_seq: BTreeMap<u64, &Row> = rows.iter().map(|row| (row.seq, row)).collect();
        let mut tickets: Vec<(&str, u64)> =
            rows.iter().map(|row| (row.data.as_str(), row.ticket)).collect();
        tickets.sort_unstable();
        assert!(tickets.windows(2).all(|pair| pair[0] != pair[1]), "a ticket twice");
        for client in &self.clients {
            let source = format!("source-{}", client.producer);
            let accepted = client.told.values().filter(|entry| entry.verdict.has_seq());
            for entry in accepted.filter(|entry| entry.seq >= first_seq) {
                let row = by_seq.get(&entry.seq).unwrap_or_else(|| panic!("lost: {entry:?}"));
                assert_eq!(row.ticket, entry.ticket);
                // Where it was told of may be trimmed, when its group was carried over.
                assert!(row.source == source || row.source.is_empty() && self.trimmed);
                let Content::Event { data, .. } = &client.contents[entry.ticket as usize - 1]
                else {
                    panic!("a rejection was accepted")
                };
                assert_eq!(&row.data, data);
            }
            let mut order = rows.iter().filter(|row| row.source == source).map(|row| row.ticket);
            let mut last = 0;
            assert!(order.all(|ticket| std::mem::replace(&mut last, ticket) < ticket), "order");
        }
    }
}

fn play(ops: &[Op]) {
    let mut game = Game::new();
    ops.iter().for_each(|op| game.play(op));
    // In the end everything is decided, whatever happened before.
    game.crash(&Crash { power: None, starts_die_at: vec![], unread: 0 });
    loop {
        let busy = game.world.writer.cycle().unwrap();
        game.take();
        (0..CLIENTS).for_each(|client| game.offer(client));
        let done = |client: &Client| client.known == client.contents.len() as u64;
        if !busy && game.clients.iter().all(done) {
            break;
        }
    }
    game.check();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(debug_assertions) { 200 } else { 3000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_told_stays_true_through_kills_and_power_cuts(
        ops in prop::collection::vec(op(), 1..80),
    ) {
        play(&ops);
    }
}
