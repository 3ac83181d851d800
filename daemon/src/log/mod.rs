//! The log writer: orders, deduplicates, gathers, commits; decides every verdict.
//!
//! ```text
//!            ┌───────────────────────────── one cycle ──────────────────────────────┐
//!  forward   │  gather              commit                 publish, in this order   │
//!  rings  ══▶│  epoch, ticket, id → pwrite, fdatasync  →  1 durability page         │
//!            │  → group, verdicts                         2 verdicts → return rings │
//!            │                                            3 forward heads           │
//!            └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! One thread does all of it. While it sits in `fdatasync`, the workers go on filling the forward
//! rings: that is where the next group is gathered. A failed write or sync ends the process:
//! nothing of the group was published, and the producers still hold every event of it.
//!
//! Whatever is decided in a cycle is told only after the cycle's sync, in ticket order; a cycle
//! without records needs no sync, since all that its verdicts rest on is durable already.

pub mod ages;
mod arenas;
pub mod beginning;
pub mod decision;
pub mod ending;
pub mod group;
pub mod keeper;
pub mod line;
pub mod linger;
mod look;
mod newest;
mod older;
pub mod open;
pub mod peer;
pub mod plan;
pub mod producers;
pub mod progress;
mod put_back;
pub mod quarantine;
pub mod recovery;
pub mod replay;
pub mod room;
pub mod run;
pub mod sidecar;
pub mod tickets;
pub mod trim;
pub mod walk;
pub mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;

use certeus_ipc::follow;
use certeus_ipc::ring::{Memory, Violation};

use crate::board::log as count;
use crate::board::{Board, PAGE_DURABILITY, PAGE_FOLLOWER, PAGE_LOG, Page, durability, follower};
use crate::disk::{Disk, DiskFile};
use crate::envelope::{
    Bye, Envelope, FORWARD_BYE, FORWARD_EVENT, FORWARD_HELLO, FORWARD_REJECT, Hello,
};
use crate::failpoint::failpoint;
use crate::format::{
    ALIGN, GROUP_HEADER_BYTES, LogEntry, SEGMENT_HEADER_BYTES, SegmentHeader, VerdictEntry,
};
use ages::Ages;
use group::Group;
use keeper::Keeper;
use peer::Peer;
use producers::Producers;
use sidecar::Sidecar;
use walk::Position;
use window::{Key, Window};

/// Bytes of the verdict entries that may wait for a group with records, each with the entry that
/// says who its producer is.
const PENDING_BYTES_MAX: u64 = 512 * 1024;
/// One entry that says who a producer is: its names are bounded by the configuration.
const PRODUCER_ENTRY_BYTES_MAX: u64 = 2048;
/// Verdicts, of 32 bytes each, that producers without a session have not read; looked at once a
/// segment.
const UNREAD_RUNS_MAX: usize = 1 << 20;
/// From this part of a segment on the next one is wanted: late enough for a follower that keeps up
/// to have left another one, early enough to fill one meanwhile.
const SPARE_WANTED_AT: u64 = 4;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub group_bytes_max: usize,
    pub group_records_max: u32,
    pub linger_us: u64,
}

/// The segment being written.
pub struct Current<F> {
    pub file: F,
    pub segment_no: u64,
    pub salt: u64,
    pub offset: u64,
    pub bytes: u64,
    pub first_seq: u64,
    /// Where the log ended when this segment became the current one; written with its first group.
    pub header: Option<SegmentHeader>,
    pub keys: Vec<Key>,
}

pub struct LogWriter<D: Disk> {
    keeper: Keeper<D>,
    limits: Limits,
    /// In the segments.
    log_uuid: [u8; 16],
    /// What producers are told.
    log_name: [u8; 16],
    epoch: u64,
    sessions: u64,
    position: Position,
    current: Current<D::File>,
    producers: Producers,
    window: Window,
    ages: Ages,
    /// Ids of lower numbers may be missing in the window: their sidecar was gone, or damaged.
    dedup_floor: u64,
    peers: BTreeMap<usize, Peer>,
    group: Group,
    /// Verdict entries that wait for a group with records, with the settled mark at that time.
    pending: Vec<VerdictEntry>,
    pending_bytes: u64,
    last_count: u32,
    /// Events are not taken for now: there is no place for the next group.
    held: bool,
    trimmed_below: u64,
    page: Page,
    durable: Page,
    follower: Page,
    follower_bell: Option<std::os::fd::OwnedFd>,
}

impl<D: Disk> LogWriter<D> {
    fn next_seq(&self) -> u64 {
        self.position.next_seq + u64::from(self.group.count)
    }

    pub fn attach(&mut self, worker: usize, peer: Peer) {
        let before = self.peers.insert(worker, peer);
        assert!(before.is_none(), "worker {worker} is attached already");
    }

    /// The worker died: its pair is dropped with all it held. What was gathered of it commits.
    pub fn detach(&mut self, worker: usize) {
        self.peers.remove(&worker);
        self.producers.end_sessions(worker);
    }

    pub fn peer(&self, worker: usize) -> Option<&Peer> {
        self.peers.get(&worker)
    }

    pub fn set_follower_bell(&mut self, bell: std::os::fd::OwnedFd) {
        self.follower_bell = Some(bell);
    }

    /// Gathers what is there, commits it, publishes. True: something was done, look again.
    ///
    /// Errors: the log cannot be written or synced; nothing of the group is published, and the
    /// process must end.
    pub fn cycle(&mut self) -> io::Result<bool> {
        self.look_for_segment()?;
        self.trim();
        self.keeper.step()?;
        let full = !self.may_gather()?;
        self.held = full;
        // Not full is a log whose next segment is only not ready yet.
        self.page.set(count::FULL, u64::from(full && self.keeper.is_full()));
        if full {
            // Sessions begin and end, and answers that waited for room go out, all the same.
            let taken = self.gather(true)?;
            return Ok(self.publish() || taken);
        }
        if self.left() < self.largest_group() {
            self.rotate()?;
        }
        let gathered = self.gather(false)?;
        let (mut grew, mut waited_us) = (gathered, 0);
        while !self.is_full() {
            let limit_us = self.limits.linger_us;
            let step = linger::step_us(self.last_count, grew, waited_us, limit_us);
            let Some(step_us) = step else { break };
            std::thread::sleep(std::time::Duration::from_micros(step_us));
            waited_us += step_us;
            grew = self.gather(false)?;
        }
        if self.is_crowded() {
            self.prune_pending();
        }
        if self.group.count > 0 || self.is_crowded() {
            self.durable.set(durability::ACCEPTED_SEQ, self.next_seq() - 1);
            self.commit()?;
        }
        Ok(self.publish() || gathered)
    }

    fn is_full(&self) -> bool {
        self.group.count >= self.limits.group_records_max
            || self.group.body_bytes() >= self.limits.group_bytes_max
            || self.is_crowded()
    }

    /// No more verdict entries may wait.
    fn is_crowded(&self) -> bool {
        self.pending_bytes >= self.pending_bytes_max()
    }

    fn pending_bytes_max(&self) -> u64 {
        PENDING_BYTES_MAX.min(self.keeper.segment_bytes() / 4)
    }

    fn left(&self) -> u64 {
        self.current.bytes - self.current.offset
    }

    /// Bytes that no group exceeds: what closes one, one record beyond it, all waiting entries.
    fn largest_group(&self) -> u64 {
        let record = self.peers.values().map(|peer| peer.forward.memory().ring_bytes() / 8).max();
        // The configuration allows no event that takes more than a quarter of a segment.
        let record = record.unwrap_or(0).min(self.keeper.segment_bytes() / 4);
        let entries = self.pending_bytes_max() + 2 * PRODUCER_ENTRY_BYTES_MAX;
        self.limits.group_bytes_max as u64 + record + entries
    }

    /// Whether the next group finds a place: in this segment, or in the spare.
    fn may_gather(&mut self) -> io::Result<bool> {
        Ok(self.left() >= self.largest_group() || self.keeper.has_spare()?)
    }

    /// One round over all rings; of a full log's, only what is no event. True: something was taken.
    fn gather(&mut self, full: bool) -> io::Result<bool> {
        let mut taken = false;
        let workers: Vec<usize> = self.peers.keys().copied().collect();
        for worker in workers {
            let Some(mut peer) = self.peers.remove(&worker) else { continue };
            let result = self.gather_from(worker, &mut peer, full);
            self.peers.insert(worker, peer);
            taken |= result.map_err(|violation| {
                io::Error::other(format!("worker {worker} broke its ring: {}", violation.reason()))
            })?;
        }
        Ok(taken)
    }

    fn gather_from(
        &mut self,
        worker: usize,
        peer: &mut Peer,
        full: bool,
    ) -> Result<bool, Violation> {
        if !peer.poll()? {
            return Ok(false);
        }
        let mut room = peer.room();
        let mut taken = false;
        while room > 0 && !self.is_full() {
            let Some(frame) = peer.next_frame()? else { break };
            if full && matches!(frame.kind, FORWARD_EVENT | FORWARD_REJECT) {
                peer.hold(frame);
                break;
            }
            room -= 1;
            taken = true;
            let memory = peer.forward.memory().clone();
            // SAFETY: frames that the worker, which we trust, has committed and we not released.
            let payload = unsafe { memory.slice(frame.payload_index, frame.payload_bytes) };
            match frame.kind {
                FORWARD_EVENT | FORWARD_REJECT => {
                    let (envelope, leaf) = Envelope::parse(payload).ok_or(Violation::Length)?;
                    let record = (frame.kind == FORWARD_EVENT)
                        .then_some((&payload[Envelope::BYTES..], leaf));
                    self.take_ticket(peer, &envelope, frame.ticket, record)?;
                }
                FORWARD_HELLO => {
                    let hello = Hello::parse(payload).ok_or(Violation::Length)?;
                    self.take_hello(worker, peer, hello);
                }
                FORWARD_BYE => self.take_bye(Bye::parse(payload).ok_or(Violation::Length)?),
                _ => return Err(Violation::Kind),
            }
        }
        Ok(taken)
    }

    /// Writes and syncs the group. Nothing of it is told before this has returned.
    fn commit(&mut self) -> io::Result<()> {
        self.prune_pending();
        self.pending_bytes = 0;
        for entry in std::mem::take(&mut self.pending) {
            self.declare(entry.producer_no, self.next_seq() - 1);
            self.group.push_entry(&LogEntry::Verdict(entry));
        }
        let bytes = (GROUP_HEADER_BYTES + self.group.body_bytes()) as u64;
        assert!(bytes.next_multiple_of(ALIGN) <= self.left(), "may_gather looked for room");
        let now_ns = now_ns();
        let header = self.group.header(&self.position, self.current.salt, self.epoch, now_ns);
        let head = self.current.header.take();
        let offset = if head.is_some() { 0 } else { self.current.offset };
        let bytes = self.group.close(&header, head.as_ref());
        failpoint("log-before-write");
        self.current.file.write_at(offset, bytes)?;
        failpoint("log-after-write");
        let before = std::time::Instant::now();
        self.current.file.sync()?;
        let sync_ns = u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX);
        failpoint("log-after-sync");
        self.current.offset += header.group_bytes();
        if self.current.offset >= self.current.bytes / SPARE_WANTED_AT {
            self.keeper.want_spare();
        }
        self.position = Position::after(&header);
        self.current.keys.append(&mut self.group.keys);
        self.last_count = header.count;
        self.ages.note(header.next_seq(), now_ns);
        self.count_group(&header, sync_ns);
        self.group.clear();
        Ok(())
    }

    /// The spare becomes the current segment; its header goes out with the first group.
    fn rotate(&mut self) -> io::Result<()> {
        let (first_seq, next_seq) = (self.current.first_seq, self.position.next_seq);
        let spare = self.keeper.take_spare(next_seq)?;
        let (segment_no, file) = spare.expect("may_gather saw it, and nobody else takes it");
        self.producers.forget_unread(UNREAD_RUNS_MAX);
        let mut sealed =
            Sidecar::new(self.current.segment_no, first_seq, next_seq, &self.producers);
        sealed.keys = std::mem::take(&mut self.current.keys);
        sealed.recorded_at_ns = self.durable.get(durability::RECORDED_AT_NS);
        self.keeper.seal(sealed);
        let header = SegmentHeader {
            log_uuid: self.log_uuid,
            segment_no,
            salt: open::random_salt()?,
            created_at_ns: now_ns(),
            epoch: self.epoch,
            before_segment_no: self.current.segment_no,
            before_end_offset: self.current.offset,
            before_group: self.position.group,
            before_next_seq: next_seq,
            before_chain: self.position.chain,
            before_root: self.position.root,
        };
        let bytes = file.bytes()?;
        self.current = Current {
            file,
            segment_no,
            salt: header.salt,
            offset: SEGMENT_HEADER_BYTES,
            bytes,
            first_seq: next_seq,
            header: Some(header),
            keys: Vec::new(),
        };
        Ok(())
    }

    fn count_group(&self, header: &crate::format::GroupHeader, sync_ns: u64) {
        self.page.add(count::GROUPS_TOTAL, 1);
        self.page.add(count::RECORDS_TOTAL, u64::from(header.count));
        self.page.add(count::BYTES_TOTAL, header.group_bytes());
        self.page.add(count::SYNC_NS_SUM, sync_ns);
        self.page.observe(count::SYNC_NS_BUCKETS_64, sync_ns);
        self.page.observe(count::GROUP_RECORDS_BUCKETS_64, u64::from(header.count));
        self.durable.set(durability::RECORDED_AT_NS, header.recorded_at_ns);
    }

    /// Tells what the cycle decided; everything that it rests on is durable. True: something was.
    fn publish(&mut self) -> bool {
        self.publish_durability();
        let producers = &self.producers;
        let mut told = false;
        failpoint("log-before-verdicts");
        for peer in self.peers.values_mut() {
            told |= peer.publish_verdicts(|answer| {
                let producer = producers.get(answer.welcome.producer_no);
                producer
                    .map_or_else(Vec::new, |known| known.verdicts_above(answer.settled).collect())
            });
        }
        failpoint("log-after-verdicts");
        failpoint("log-before-head");
        for peer in self.peers.values_mut() {
            peer.release();
        }
        failpoint("log-after-head");
        told
    }

    fn publish_durability(&mut self) {
        let durable_seq = self.position.next_seq - 1;
        let page = &self.durable;
        page.set(durability::ACCEPTED_SEQ, durable_seq);
        page.set(durability::SEGMENT_NO, self.current.segment_no);
        page.set(durability::DURABLE_GROUP, self.position.group);
        failpoint("log-before-page");
        follow::publish(page.word(durability::DURABLE_SEQ), durable_seq);
        failpoint("log-after-page");
        let want = follow::wanted(self.follower.word(follower::WANT_SEQ));
        if let Some(bell) = self.follower_bell.as_ref().filter(|_| want <= durable_seq) {
            peer::ring(bell);
        }
    }

    fn trim(&mut self) {
        let below = self.follower.get(follower::TRIM_SEGMENT);
        // A segment without a group yet does not say where the log ends: the one before does.
        let newest = self.current.segment_no - u64::from(self.current.header.is_some());
        let below = below.min(newest);
        // Lower than before: PostgreSQL was put back, and replays what is still there.
        if below != self.trimmed_below {
            self.trimmed_below = below;
            let from = self.window.oldest().map_or(u64::MAX, |oldest| oldest.seq);
            failpoint("log-before-trim");
            self.keeper.trim_below(below, from);
            failpoint("log-after-trim");
        }
    }

    /// For the board: the bound that is in force.
    pub fn set_bytes_max(&self, bytes: u64) {
        self.page.set(count::LOG_BYTES_MAX, bytes);
    }

    /// Puts the gauges on the board: once a return to Python, not once a group.
    pub fn publish_gauges(&mut self) {
        let size = self.keeper.size();
        let page = &self.page;
        page.set(count::SEGMENTS, size.segments);
        page.set(count::LOG_BYTES, size.bytes);
        page.set(count::FIRST_SEQ, size.first_seq);
        page.set(count::DISK_FREE_BYTES, size.free_bytes);
        page.set(count::DISK_SHORT, u64::from(size.short));
        page.set(count::DEDUP_KEYS, self.window.len() as u64);
        page.set(count::PRODUCERS, self.producers.len() as u64);
        page.set(count::EPOCH, self.epoch);
        page.set(count::HEARTBEAT_NS, crate::board::monotonic_ns());
        let from_seq = self.window.oldest().map_or(self.position.next_seq, |oldest| oldest.seq);
        let from_seq = from_seq.max(self.dedup_floor);
        self.ages.forget_below(from_seq);
        page.set(count::DEDUP_FROM_SEQ, from_seq);
        page.set(count::DEDUP_FROM_NS, self.ages.at(from_seq).unwrap_or(0));
    }

    /// Whether the next cycle should come soon although nobody rings: there is no place yet for the
    /// next group.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.held
    }

    /// Says that the writer is about to sleep. True: nothing has come meanwhile.
    pub fn prepare_sleep(&mut self) -> io::Result<bool> {
        let mut sleep = true;
        for peer in self.peers.values_mut() {
            let quiet = peer.prepare_sleep();
            sleep &= quiet.map_err(|violation| io::Error::other(violation.reason()))?;
        }
        Ok(sleep)
    }

    /// Says that it is awake, and whether it has slept.
    pub fn woke(&mut self, slept: bool) {
        self.page.add(count::WAKEUPS_TOTAL, u64::from(slept));
        for peer in self.peers.values_mut() {
            peer.woke();
        }
    }

    pub fn durable_seq(&self) -> u64 {
        self.position.next_seq - 1
    }

    /// Ends the helper: what it holds is written. The log stays open for nothing more.
    pub fn seal(&mut self) -> io::Result<()> {
        self.keeper.stop()
    }
}

/// Wall clock, nanoseconds since 1970.
#[must_use]
pub fn now_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The board's pages of the log writer.
#[must_use]
pub fn pages(board: &Board) -> (Page, Page, Page) {
    (board.page(PAGE_LOG), board.page(PAGE_DURABILITY), board.page(PAGE_FOLLOWER))
}
