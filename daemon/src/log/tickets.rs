//! What becomes of one ticket, one hello, one goodbye: decided while a group is gathered.
//!
//! Nothing here is told at once; `mod.rs` commits the group first.

use certeus_ipc::record::Record;
use certeus_ipc::ring::Violation;
use certeus_ipc::verdict::{Entry, Reason, Verdict};

use super::LogWriter;
use super::peer::{Answer, Peer};
use super::producers::{Found, without_seq};
use super::window::Key;
use crate::board::log as count;
use crate::disk::Disk;
use crate::envelope::{Bye, EndReason, Envelope, Hello, Return, Welcome, reject_reason};
use crate::format::{LogEntry, ProducerEntry, VerdictEntry};
use crate::merkle::Hash;

impl<D: Disk> LogWriter<D> {
    /// One event or rejection, in the order of its ring.
    pub(super) fn take_ticket(
        &mut self,
        peer: &mut Peer,
        envelope: &Envelope,
        ticket: u64,
        record: Option<(&[u8], Hash)>,
    ) -> Result<(), Violation> {
        let Envelope { session, epoch, producer_no, .. } = *envelope;
        let Some(producer) = self.producers.get_mut(producer_no) else {
            // So many others have been active since that its marks are forgotten.
            let reason = EndReason::ProducerExpired;
            peer.others.push(Return::End { session, epoch, reason });
            return Ok(());
        };
        if producer.epoch != epoch {
            self.page.add(count::STALE_TOTAL, 1);
            return Ok(());
        }
        producer.forget_verdicts(envelope.settled_read.min(producer.high));
        if ticket <= producer.high {
            if let Some(entry) = producer.verdict(ticket) {
                peer.tell(session, epoch, entry);
            }
            return Ok(());
        }
        if ticket > producer.high + 1 {
            producer.epoch = 0;
            peer.others.push(Return::End { session, epoch, reason: EndReason::SequenceGap });
            return Ok(());
        }
        let entry = match record {
            None => {
                let reason = reject_reason(envelope).ok_or(Violation::Kind)?;
                without_seq(ticket, Verdict::Rejected, reason, 0)
            }
            Some((record, leaf)) => self.decide(envelope, ticket, record, leaf)?,
        };
        if !entry.verdict.has_seq() {
            let Entry { ticket, seq, verdict, reason, .. } = entry;
            self.wait_for_group(VerdictEntry { producer_no, ticket, seq, verdict, reason });
            let rejected = verdict == Verdict::Rejected;
            let total = if rejected { count::REJECTED_TOTAL } else { count::DUPLICATES_TOTAL };
            self.page.add(total, 1);
            if rejected {
                self.page.add(count::MALFORMED_EVENT_TOTAL + reason as usize - 1, 1);
            }
        }
        self.producers.get_mut(producer_no).expect("found above").decide(entry);
        peer.tell(session, epoch, entry);
        Ok(())
    }

    /// A valid event: a duplicate, a conflict, or the next record.
    fn decide(
        &mut self,
        envelope: &Envelope,
        ticket: u64,
        record: &[u8],
        leaf: Hash,
    ) -> Result<Entry, Violation> {
        let parsed = Record::parse(record).ok_or(Violation::Length)?;
        debug_assert_eq!(parsed.header.ticket, ticket);
        if envelope.has_key {
            if let Some(known) = self.window.get(&envelope.key) {
                return Ok(if known.digest == envelope.digest {
                    without_seq(ticket, Verdict::Duplicate, Reason::None, known.seq)
                } else {
                    without_seq(ticket, Verdict::Rejected, Reason::IdConflict, known.seq)
                });
            }
        }
        let seq = self.next_seq();
        if envelope.has_key {
            let key = Key { key: envelope.key, seq, digest: envelope.digest };
            self.window.insert(key);
            self.group.keys.push(key);
        }
        self.declare(envelope.producer_no, seq);
        self.group.push_record(parsed.bytes, leaf);
        let group = self.position.group + 1;
        let verdict = parsed.header.verdict;
        Ok(Entry { ticket, seq, group, count: 1, verdict, reason: Reason::None })
    }

    /// A verdict entry goes out with the next group that has records.
    fn wait_for_group(&mut self, entry: VerdictEntry) {
        self.pending_bytes += self.pending_cost(&entry, self.pending.last());
        self.pending.push(entry);
    }

    /// At most so many bytes of a group; an entry behind one of the same producer declares nobody.
    fn pending_cost(&self, entry: &VerdictEntry, before: Option<&VerdictEntry>) -> u64 {
        let known = before.is_some_and(|before| before.producer_no == entry.producer_no);
        let producer = self.producers.get(entry.producer_no).filter(|_| !known);
        let names = producer.map_or(0, |p| 64 + p.entry.tenant.len() + p.entry.source.len());
        40 + names as u64
    }

    /// Says in this segment who the producer is, once; `seq` is the last number by then.
    pub(super) fn declare(&mut self, producer_no: u64, seq: u64) {
        let segment_no = self.current.segment_no;
        let Some(producer) = self.producers.get_mut(producer_no) else { return };
        if producer.declared_in != segment_no {
            producer.declared_in = segment_no;
            self.group.push_entry(&LogEntry::Producer(producer.entry.clone()));
        }
        self.producers.touch(producer_no, self.position.group + 1, seq);
    }

    pub(super) fn take_hello(&mut self, worker: usize, peer: &mut Peer, hello: Hello) {
        let Hello { session, uid, producer, birth_seq, settled, tenant, source } = hello;
        let tenant_no = self.producers.tenant_no(&tenant);
        let durable = self.position.next_seq - 1;
        // A producer that never got its first welcome says hello again without a birth.
        let found = self.producers.find(tenant_no, uid, producer, birth_seq.unwrap_or(u64::MAX));
        // Nor was anybody born after what this log holds: it may have been replaced by another one.
        let birth_seq = birth_seq.unwrap_or(durable).min(durable);
        let is_other =
            |no| self.producers.get(no).is_some_and(|known| known.entry.source != source);
        let is_whole = |no| self.producers.get(no).is_some_and(|known| known.can_answer(settled));
        let no = match found {
            Found::Known(no) if !is_whole(no) => {
                peer.others.push(Return::Refused { session, reason: EndReason::ProducerExpired });
                return;
            }
            Found::Known(no) if is_other(no) => {
                peer.others.push(Return::Refused { session, reason: EndReason::SourceChanged });
                return;
            }
            Found::Known(no) => no,
            Found::Nothing => {
                let producer_no = 0;
                self.producers.create(
                    ProducerEntry {
                        producer_no,
                        tenant_no,
                        uid,
                        producer,
                        birth_seq,
                        tenant,
                        source,
                    },
                    settled,
                )
            }
            Found::Expired => {
                peer.others.push(Return::Refused { session, reason: EndReason::ProducerExpired });
                return;
            }
        };
        self.sessions += 1;
        let epoch = self.epoch << 32 | self.sessions;
        let known = self.producers.get_mut(no).expect("just found or created");
        let before = (known.worker, known.session, known.epoch);
        (known.worker, known.session, known.epoch) = (worker, session, epoch);
        known.high = known.high.max(settled);
        known.forget_verdicts(settled);
        let high = known.high;
        let log_uuid = self.log_name;
        let welcome =
            Welcome { session, tenant_no, epoch, producer_no: no, high, birth_seq, log_uuid };
        peer.answers.push(Answer { welcome, settled });
        // Whoever of the two said hello late: the other one must not wait for verdicts.
        let (old_worker, session, epoch) = before;
        let reason = EndReason::Superseded;
        let peer = if old_worker == worker { Some(peer) } else { self.peers.get_mut(&old_worker) };
        if let Some(peer) = peer.filter(|_| epoch != 0) {
            peer.others.push(Return::End { session, epoch, reason });
        }
    }

    pub(super) fn take_bye(&mut self, bye: Bye) {
        let Some(producer) = self.producers.get_mut(bye.producer_no) else { return };
        if producer.epoch != bye.epoch {
            return;
        }
        producer.epoch = 0;
        if bye.clean || producer.active_group == 0 {
            // Its records of this very group still need their entry in the log: that is declared.
            self.producers.remove(bye.producer_no);
            self.prune_pending();
        }
    }

    /// Verdict entries that their client has read need not be logged.
    pub(super) fn prune_pending(&mut self) {
        let producers = &self.producers;
        self.pending.retain(|entry| {
            producers.get(entry.producer_no).is_some_and(|p| p.verdict(entry.ticket).is_some())
        });
        let before = std::iter::once(None).chain(self.pending.iter().map(Some));
        let costs = self.pending.iter().zip(before).map(|(e, before)| self.pending_cost(e, before));
        self.pending_bytes = costs.sum();
    }
}
