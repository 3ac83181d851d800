//! The loop itself, and the calls by which Python steers it.
//!
//! Longer than 500 lines: every step of the loop changes the same few fields.

mod hand_over;

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use certeus_ipc::memory::Mapped;
use certeus_ipc::ring::Violation;
use rustix::io::Errno;

use super::forward::{Counts, Rules, Stop, take_turn};
use super::pair::Pair;
use super::poller::{Poller, Ready};
use super::session::{Closing, Identity, Link, Published, Session};
use super::slots::Slots;
use super::tally::Seen;
use crate::board::{Page, monotonic_ns, worker};
use crate::envelope::{Bye, FORWARD_BYE, FORWARD_HELLO, Return, Welcome};
use crate::memory::{Preparer, Region};
use crate::validate::Limits;

/// Passes between two looks at descriptors while there is work and nobody takes a whole turn.
const PASSES_BETWEEN_LOOKS: u32 = 16;
/// Looks in a row that find nothing, after which a session's client has to ring.
const IDLE_LOOKS_MAX: u32 = 64;

/// Words that begin anew with each life.
const GAUGES: [usize; 4] =
    [worker::SESSIONS, worker::RING_BYTES, worker::IN_FLIGHT, worker::ACTIVE_SESSIONS];
const SECOND: Duration = Duration::from_secs(1);

/// What Python has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A watched descriptor can be read.
    Readable(RawFd),
    /// A session is live for the first time: its client can have its descriptors.
    Welcomed(u32, Welcome),
    /// A session was never live, and is freed.
    Refused(u32, &'static str),
    /// A session was ended from this side, and is freed.
    Ended(u32, &'static str),
    /// A session that `end_session` was called for is freed.
    Closed(u32),
}

/// A worker's half of every session it serves. One thread at a time.
pub struct Kernel {
    rules: Rules,
    page: Page,
    sessions: Slots<Session>,
    pair: Option<Pair>,
    poller: Poller,
    /// Sessions that are looked at in each pass; the others are armed or not live.
    listed: VecDeque<u32>,
    events: Vec<Event>,
    /// What the last look found; kept for its room.
    ready: Vec<Ready>,
    /// A session has an event that found the forward ring full.
    blocked: bool,
    /// A session had a whole turn: others may have rung meanwhile.
    crowded: bool,
    in_flight: u64,
    /// Sessions that handed something over in this second, by the number of which each knows it.
    active: u64,
    second: u64,
    second_began: Instant,
    /// `[memory]`, for every ring that is mapped from now on.
    pub memory: Preparer,
}

impl Kernel {
    /// A worker that counts in `page` of the board.
    pub fn new(page: Page, log_key: [u8; 32], limits: Limits) -> rustix::io::Result<Self> {
        for gauge in GAUGES {
            page.set(gauge, 0);
        }
        Ok(Self {
            rules: Rules { limits, log_key },
            page,
            sessions: Slots::default(),
            pair: None,
            poller: Poller::new()?,
            listed: VecDeque::new(),
            events: Vec::new(),
            ready: Vec::new(),
            blocked: false,
            crowded: false,
            in_flight: 0,
            active: 0,
            second: 1,
            second_began: Instant::now(),
            memory: Preparer::default(),
        })
    }

    /// A log writer is there: says hello again for every session. Descriptors are owned; that of
    /// the memory is lent for the call.
    pub fn attach(
        &mut self,
        memory: BorrowedFd<'_>,
        forward_bytes: u64,
        return_bytes: u64,
        forward_bell: OwnedFd,
        return_bell: OwnedFd,
    ) -> rustix::io::Result<()> {
        self.detach()?;
        let mut pair = Pair::map(memory, forward_bytes, return_bytes, forward_bell, return_bell)?;
        for mapping in pair.mappings() {
            self.memory.prepare("internal rings", Region::of_mapping(mapping));
        }
        self.poller.add_bell(pair.return_bell(), Ready::Returns)?;
        for session in self.sessions.values_mut() {
            pair.control(FORWARD_HELLO, session.hello().encode());
            session.link = Link::Greeting;
        }
        self.pair = Some(pair);
        Ok(())
    }

    /// The log writer is gone: forgets all that it had not answered. Sessions wait for the next
    /// one.
    pub fn detach(&mut self) -> rustix::io::Result<()> {
        let Some(pair) = self.pair.take() else { return Ok(()) };
        self.poller.remove(pair.return_bell())?;
        self.listed.clear();
        self.blocked = false;
        self.in_flight = 0;
        let mut closing = Vec::new();
        for session in self.sessions.values_mut() {
            session.forget();
            session.listed = false;
            if session.closing.is_some() {
                closing.push(session.number);
            }
        }
        for number in closing {
            self.finish_if_done(number);
        }
        Ok(())
    }

    /// Makes [`Event::Readable`] of a descriptor that can be read; it stays the caller's.
    pub fn watch(&self, fd: BorrowedFd<'_>, number: RawFd) -> rustix::io::Result<()> {
        self.poller.add_watched(fd, number)
    }

    /// Comes before the caller closes the descriptor.
    pub fn unwatch(&self, fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
        self.poller.remove(fd)
    }

    /// Begins a session; it is live after [`Event::Welcomed`]. C must not be sealed against writing
    /// before this returns. Errors: sizes that are not those of a ring, or no slot.
    pub fn add_session(
        &mut self,
        identity: Identity,
        p: BorrowedFd<'_>,
        c: BorrowedFd<'_>,
        ring_bytes: u64,
        doorbell: OwnedFd,
        socket: OwnedFd,
    ) -> rustix::io::Result<u32> {
        let mut session = Session::new(identity, p, c, ring_bytes, doorbell, socket)?;
        let Mapped { p, c, .. } = session.consumer.memory();
        for mapping in [p, c] {
            self.memory.prepare("client rings", Region::of_mapping(mapping));
        }
        let insert = |number| {
            session.number = number;
            session
        };
        let number = self.sessions.insert(insert).ok_or(Errno::MFILE)?;
        let session = self.sessions.get_mut(number).expect("just inserted");
        if let Err(error) = self.poller.add_bell(session.doorbell(), Ready::Session(number)) {
            self.sessions.remove(number);
            return Err(error);
        }
        if let Some(pair) = &mut self.pair {
            pair.control(FORWARD_HELLO, session.hello().encode());
            session.link = Link::Greeting;
        }
        self.page.add(worker::RING_BYTES, ring_bytes);
        self.page.set(worker::SESSIONS, self.sessions.len() as u64);
        Ok(number)
    }

    /// The client said goodbye (`clean`) or is gone. What it committed is still forwarded;
    /// [`Event::Closed`] follows. An ended session is nobody: nothing happens.
    pub fn end_session(&mut self, number: u32, clean: bool) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        match session.close(Closing::Gone { clean }) {
            Ok(()) => self.look_again(number),
            Err(violation) => self.fail(number, violation),
        }
    }

    /// Tickets that were read and are not settled.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// At most `count` live sessions, of the table's places from `first` on, and the place to go
    /// on at.
    #[must_use]
    pub fn seen(&self, first: usize, count: usize) -> (Vec<Seen>, Option<usize>) {
        let live = |(_, session): &(usize, &Session)| session.welcomed;
        let mut places = self.sessions.from(first).filter(live);
        let mut seen = Vec::new();
        for (place, session) in places.by_ref() {
            if seen.len() == count {
                return (seen, Some(place));
            }
            seen.push(Seen::of(session));
        }
        (seen, None)
    }

    #[cfg(test)]
    pub(super) fn session(&mut self, number: u32) -> &mut Session {
        self.sessions.get_mut(number).expect("a session of the test")
    }

    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Serves all sessions until Python is wanted, at most `timeout_ms`; a signal ends it too.
    pub fn run(&mut self, timeout_ms: u64) -> rustix::io::Result<Vec<Event>> {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let mut passes = 0;
        loop {
            let progress = self.pass();
            passes += 1;
            let look = self.crowded || passes % PASSES_BETWEEN_LOOKS == 0;
            if progress && self.events.is_empty() && !look {
                continue;
            }
            let sleep = !progress && self.events.is_empty() && self.prepare_sleep();
            let left = deadline.saturating_duration_since(Instant::now());
            let woken = self.look(if sleep { left } else { Duration::ZERO })?;
            // What woke it is served even when the time is over: `run(0)` does all there is to do.
            let done = if sleep { !woken } else { Instant::now() >= deadline };
            if done || !self.events.is_empty() {
                self.page.set(worker::IN_FLIGHT, self.in_flight);
                self.end_second();
                return Ok(std::mem::take(&mut self.events));
            }
        }
    }

    /// Tells how many sessions were at work, once a second.
    fn end_second(&mut self) {
        if self.second_began.elapsed() >= SECOND {
            self.page.set(worker::ACTIVE_SESSIONS, std::mem::take(&mut self.active));
            self.second += 1;
            self.second_began = Instant::now();
        }
    }

    /// Looks at every ring once. True: something moved.
    fn pass(&mut self) -> bool {
        let answered = self.take_returns();
        let greeted = self.pair.as_mut().is_some_and(|pair| {
            let went = pair.flush_control();
            pair.publish();
            went
        });
        let turned = self.take_turns();
        answered || greeted || turned
    }

    /// Waits for descriptors at most `timeout`. False: nothing came.
    fn look(&mut self, timeout: Duration) -> rustix::io::Result<bool> {
        let timeout_ms = timeout.as_micros().div_ceil(1000) as u64;
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        self.poller.wait(timeout_ms, &mut ready)?;
        if !timeout.is_zero() {
            self.page.add(worker::WAKEUPS_TOTAL, 1);
        }
        self.page.set(worker::HEARTBEAT_NS, monotonic_ns());
        if let Some(pair) = &mut self.pair {
            pair.woke();
        }
        for ready in &ready {
            match *ready {
                Ready::Session(number) => self.list(number),
                Ready::Returns => {}
                Ready::Watched(fd) => self.events.push(Event::Readable(fd)),
            }
        }
        let any = !ready.is_empty();
        self.ready = ready;
        Ok(any)
    }

    /// Arms every session, so that a doorbell tells of what comes. True: nothing has come
    /// meanwhile.
    fn prepare_sleep(&mut self) -> bool {
        let mut quiet = true;
        let mut failed = Vec::new();
        for _ in 0..self.listed.len() {
            let number = self.listed.pop_front().expect("counted");
            let Some(session) = self.sessions.get_mut(number) else { continue };
            if session.pending.is_some() {
                self.listed.push_back(number);
                continue;
            }
            match session.arm() {
                Ok(true) => session.listed = false,
                Ok(false) => {
                    quiet = false;
                    self.listed.push_back(number);
                }
                Err(violation) => failed.push((number, violation)),
            }
        }
        quiet &= failed.is_empty();
        for (number, violation) in failed {
            self.fail(number, violation);
        }
        quiet && self.pair.as_mut().is_none_or(|pair| pair.prepare_sleep(self.blocked))
    }

    /// Puts a live session on the list of those that are looked at.
    fn list(&mut self, number: u32) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        if !session.listed && matches!(session.link, Link::Live(_)) {
            session.listed = true;
            session.idle_looks = 0;
            self.listed.push_back(number);
        }
    }

    /// A session has begun to close.
    fn look_again(&mut self, number: u32) {
        self.list(number);
        self.finish_if_done(number);
    }

    fn take_turns(&mut self) -> bool {
        (self.blocked, self.crowded) = (false, false);
        let mut moved = false;
        for _ in 0..self.listed.len() {
            let number = self.listed.pop_front().expect("counted");
            moved |= self.turn(number);
        }
        moved
    }

    /// One turn of one session. True: something moved.
    fn turn(&mut self, number: u32) -> bool {
        let (Some(session), Some(pair)) = (self.sessions.get_mut(number), &mut self.pair) else {
            return false;
        };
        session.disarm();
        let mut counts = Counts::default();
        let stop = take_turn(session, pair, &self.rules, &mut counts);
        pair.publish();
        self.in_flight += counts.read;
        if counts.read > 0 {
            session.acks.note(session.next_ticket - 1, monotonic_ns());
            if std::mem::replace(&mut session.active_in, self.second) != self.second {
                self.active += 1;
            }
        }
        let published = publish(session, &self.page);
        let moved = count(&self.page, session, &counts) || published != Published::default();
        session.idle_looks = if moved { 0 } else { session.idle_looks + 1 };
        let rest = session.idle_looks > IDLE_LOOKS_MAX;
        let armed = match stop {
            Ok(Stop::Empty) if rest => session.arm(),
            Ok(_) => Ok(false),
            Err(violation) => Err(violation),
        };
        session.listed = armed != Ok(true);
        if session.listed {
            self.listed.push_back(number);
        }
        self.crowded |= stop == Ok(Stop::Budget);
        if stop == Ok(Stop::Full) {
            self.blocked = true;
            self.page.add(worker::FORWARD_FULL_TOTAL, 1);
        }
        self.note_published(published);
        match armed {
            Ok(_) => self.finish_if_done(number),
            Err(violation) => self.fail(number, violation),
        }
        moved
    }

    /// Takes all that the log writer has answered, then publishes it, once a session.
    fn take_returns(&mut self) -> bool {
        let Some(pair) = &mut self.pair else { return false };
        let (sessions, events, page) = (&mut self.sessions, &mut self.events, &self.page);
        let (mut touched, mut live, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        let mut orphans = Vec::new();
        let any = pair.take_returns(|answer| match answer {
            Return::Verdict { session: number, epoch, entry } => {
                let Some(session) = sessions.get_mut(number) else { return };
                session.enqueue(epoch, entry);
                if touched.last() != Some(&number) {
                    touched.push(number);
                }
            }
            Return::Welcome(welcome) => {
                let Some(session) = sessions.get_mut(welcome.session) else {
                    // It broke its ring while it said hello again: nobody else takes its leave.
                    let Welcome { session, epoch, producer_no, .. } = welcome;
                    orphans.push(Bye { session, clean: false, epoch, producer_no });
                    return;
                };
                if !session.welcomed {
                    events.push(Event::Welcomed(session.number, welcome));
                    page.add(worker::SESSIONS_TOTAL, 1);
                }
                session.welcome(welcome);
                touched.push(session.number);
                live.push(session.number);
            }
            Return::Refused { session, reason } => ended.push((session, None, reason)),
            Return::End { session, epoch, reason } => ended.push((session, Some(epoch), reason)),
        });
        for bye in orphans {
            pair.control(FORWARD_BYE, bye.encode().to_vec());
        }
        for number in touched {
            self.publish(number);
        }
        for number in live {
            self.list(number);
        }
        for (number, epoch, reason) in ended {
            let Some(session) = self.sessions.get_mut(number) else { continue };
            let ours = match session.link {
                Link::Live(welcome) => epoch == Some(welcome.epoch),
                Link::Greeting => epoch.is_none(),
                Link::Away => false,
            };
            if ours {
                self.end(number, reason.word());
            }
        }
        any
    }

    fn publish(&mut self, number: u32) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        let published = publish(session, &self.page);
        self.note_published(published);
        self.finish_if_done(number);
    }

    fn note_published(&mut self, published: Published) {
        self.in_flight -= published.released;
        self.page.add(worker::SETTLED_TOTAL, published.settled);
        self.page.add(worker::BELLS_TOTAL, u64::from(published.bell));
    }

    /// Frees a closing session once all that it still owed is done.
    fn finish_if_done(&mut self, number: u32) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        let done = match (session.closing, session.link) {
            (None, _) => false,
            (Some(_), Link::Greeting) => false,
            // Its client never got a ring, so there is nothing in it.
            (Some(_), Link::Away) if !session.welcomed => true,
            (Some(Closing::Drain), _) => session.is_drained() && session.is_settled(),
            (Some(Closing::Gone { .. }), Link::Away) => false,
            (Some(Closing::Gone { .. }), Link::Live(_)) => session.is_drained(),
        };
        if done {
            let clean = session.closing == Some(Closing::Gone { clean: true });
            let clean = clean && session.is_settled();
            self.say_bye(number, clean);
            self.end(number, "draining");
        }
    }

    /// Ends a session whose client broke the protocol of the ring.
    fn fail(&mut self, number: u32, violation: Violation) {
        let index = match violation {
            Violation::Position => worker::RING_POSITION_TOTAL,
            Violation::Length => worker::RING_LENGTH_TOTAL,
            Violation::Kind => worker::RING_KIND_TOTAL,
            Violation::Ticket => worker::RING_TICKET_TOTAL,
        };
        self.page.add(index, 1);
        self.page.add(worker::VIOLATIONS_TOTAL, 1);
        self.say_bye(number, false);
        self.end(number, violation.reason());
    }

    fn say_bye(&mut self, number: u32, clean: bool) {
        let bye = self.sessions.get_mut(number).and_then(|session| session.bye(clean));
        if let (Some(bye), Some(pair)) = (bye, &mut self.pair) {
            pair.control(FORWARD_BYE, bye.encode().to_vec());
            pair.flush_control();
            pair.publish();
        }
    }

    /// Frees a session and tells Python how it went.
    fn end(&mut self, number: u32, reason: &'static str) {
        let Some(session) = self.sessions.remove(number) else { return };
        self.poller.remove(session.doorbell()).expect("a doorbell that we watch");
        self.in_flight -= session.in_flight();
        let ring_bytes = self.page.get(worker::RING_BYTES) - session.ring_bytes();
        self.page.set(worker::RING_BYTES, ring_bytes);
        self.page.set(worker::SESSIONS, self.sessions.len() as u64);
        self.page.add(worker::ENDED_TOTAL, u64::from(session.welcomed));
        self.events.push(match session.closing {
            Some(Closing::Gone { .. }) => Event::Closed(number),
            _ if session.welcomed => Event::Ended(number, reason),
            _ => Event::Refused(number, reason),
        });
    }
}

/// Publishes what a session has, and counts how long that was waited for.
fn publish(session: &mut Session, page: &Page) -> Published {
    let published = session.publish();
    if published.settled > 0 {
        session.acks.count(session.settled(), monotonic_ns(), page);
    }
    published
}

/// Adds one turn to the counters. True: there was something.
fn count(page: &Page, session: &mut Session, counts: &Counts) -> bool {
    let mut rejected = 0;
    for (code, count) in counts.rejected.iter().enumerate() {
        if *count > 0 {
            page.add(worker::MALFORMED_EVENT_TOTAL + code - 1, u64::from(*count));
            rejected += u64::from(*count);
        }
    }
    if counts.forwarded + rejected + counts.read == 0 {
        return false;
    }
    session.tally.events += counts.forwarded + rejected;
    session.tally.bytes += counts.bytes;
    page.add(worker::EVENTS_TOTAL, counts.forwarded + rejected);
    page.add(worker::BYTES_TOTAL, counts.bytes);
    page.add(worker::FORWARDED_TOTAL, counts.forwarded);
    page.add(worker::REJECTED_TOTAL, rejected);
    true
}
