//! `Ring`: the producer's side of one session.

use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::GarbageError;
use super::fork::Stamp;
use super::json::json_text;
use super::payloads;
use crate::layout::{
    C_BYTES, KIND_EVENT_FRAME, MAGIC, P_MAGIC, P_RING_BYTES, P_VERSION, PAGE_BYTES, RING_BYTES_MAX,
    RING_BYTES_MIN, VERSION, payload_bytes_max,
};
use crate::memory::{Mapped, Mapping};
use crate::record::{Attributes, FLAG_OPAQUE, PREFIX_BYTES, Tag, write_payload_to};
use crate::ring::{Consumer, Full, Memory, Producer};
use crate::verdict_ring::{Garbage, Reader, Words};

/// `(ticket, count, seq, group, verdict, reason)`, verdict and reason as their words.
type EntryTuple = (u64, u32, u64, u64, &'static str, &'static str);

/// Events that one `append_many` takes: it bounds how long the first of them waits for publication,
/// and other threads for the GIL.
const BATCH_EVENTS_MAX: usize = 256;

/// Payloads, and bytes of them, after which one `append_payloads` ends, for the same two reasons:
/// there is nothing to encode, only to copy.
const PAYLOADS_MAX: usize = 1024;
const PAYLOADS_BYTES_MAX: usize = 512 * 1024;

#[pyclass(module = "certeus._native")]
pub struct Ring {
    // Never dropped in a forked child, where these addresses may be somebody else's by now.
    inner: ManuallyDrop<Inner>,
    bell: OwnedFd,
    stamp: Stamp,
    event_bytes_max: usize,
    last_ticket: u64,
    /// The last ticket whose verdict was drained.
    settled: u64,
    open: bool,
    /// The daemon wrote what cannot be: nothing of it is read any more.
    garbage: bool,
}

struct Inner {
    producer: Producer<Mapped>,
    reader: Reader<Mapping>,
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.stamp.is_current() {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}

#[pymethods]
impl Ring {
    #[new]
    fn new(
        p: RawFd,
        c: RawFd,
        e: RawFd,
        ring_bytes: u64,
        last_ticket: u64,
        event_bytes_max: usize,
    ) -> PyResult<Self> {
        if !ring_bytes.is_power_of_two() || !(RING_BYTES_MIN..=RING_BYTES_MAX).contains(&ring_bytes)
        {
            return Err(PyValueError::new_err(format!(
                "cannot use a ring of {ring_bytes} bytes: give a power of two from \
                 {RING_BYTES_MIN} to {RING_BYTES_MAX}"
            )));
        }
        // SAFETY: the caller owns these descriptors for the duration of the call.
        let [p, c, e] = [p, c, e].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
        let (p_bytes, c_bytes) = (PAGE_BYTES as u64 + ring_bytes, C_BYTES as u64);
        for (fd, bytes) in [(p, p_bytes), (c, c_bytes)] {
            if rustix::fs::fstat(fd).map_err(os_error)?.st_size as u64 != bytes {
                return Err(GarbageError::new_err("a shared object has another size than agreed"));
            }
        }
        let p = Mapping::new(p, p_bytes as usize, true).map_err(os_error)?;
        let c = Mapping::new(c, C_BYTES, false).map_err(os_error)?;
        for mapping in [&p, &c] {
            mapping.forbid_fork().map_err(os_error)?;
        }
        let head = [P_MAGIC, P_VERSION, P_RING_BYTES].map(|at| p.load_relaxed(at));
        if head != [MAGIC, VERSION, ring_bytes] {
            return Err(GarbageError::new_err("the producer page is of another version"));
        }
        let bell = rustix::io::fcntl_dupfd_cloexec(e, 0).map_err(os_error)?;
        let stamp = Stamp::take()?;
        let producer = Producer::new(Mapped::new(p.clone(), c.clone(), ring_bytes));
        let inner = ManuallyDrop::new(Inner { producer, reader: Reader::new(p, c) });
        let settled = last_ticket;
        let (open, garbage) = (true, false);
        let ring =
            Self { inner, bell, stamp, event_bytes_max, last_ticket, settled, open, garbage };
        ring.disarm();
        Ok(ring)
    }

    #[pyo3(signature = (r#type, data, opaque=false, id=None, subject=None, time=None, source=None,
                        dataschema=None, content_type=None, extensions=None))]
    #[allow(clippy::too_many_arguments)] // one frame's attributes, each by name
    fn append(
        &mut self,
        r#type: &str,
        data: &[u8],
        opaque: bool,
        id: Option<&str>,
        subject: Option<&str>,
        time: Option<&str>,
        source: Option<&str>,
        dataschema: Option<&str>,
        content_type: Option<&str>,
        extensions: Option<&str>,
    ) -> PyResult<u64> {
        let mut attributes = Attributes::default();
        set(&mut attributes, Tag::Type, Some(r#type))?;
        set(&mut attributes, Tag::Id, id)?;
        set(&mut attributes, Tag::Subject, subject)?;
        set(&mut attributes, Tag::Time, time)?;
        set(&mut attributes, Tag::Source, source)?;
        set(&mut attributes, Tag::DataSchema, dataschema)?;
        set(&mut attributes, Tag::ContentType, content_type)?;
        set(&mut attributes, Tag::Extensions, extensions)?;
        let payload_bytes = self.payload_bytes(&attributes, data)?;
        if !self.is_open() {
            return Ok(0);
        }
        let flags = if opaque { FLAG_OPAQUE } else { 0 };
        match self.put(&attributes, flags, data, payload_bytes) {
            Err(Full) => Ok(0),
            Ok(()) => {
                self.publish();
                Ok(self.last_ticket)
            }
        }
    }

    #[pyo3(signature = (r#type, data, id=None, subject=None, source=None, dataschema=None))]
    fn append_plain(
        &mut self,
        r#type: &str,
        data: &Bound<'_, PyAny>,
        id: Option<&str>,
        subject: Option<&str>,
        source: Option<&str>,
        dataschema: Option<&str>,
    ) -> PyResult<u64> {
        let mut attributes = Attributes::default();
        set(&mut attributes, Tag::Type, Some(r#type))?;
        set(&mut attributes, Tag::Id, id)?;
        set(&mut attributes, Tag::Subject, subject)?;
        set(&mut attributes, Tag::Source, source)?;
        set(&mut attributes, Tag::DataSchema, dataschema)?;
        let mut buffer = Vec::new();
        let Some(text) = json_text(data, &mut buffer) else { return Ok(0) };
        let payload_bytes = self.payload_bytes(&attributes, text)?;
        if !self.is_open() || self.put(&attributes, 0, text, payload_bytes).is_err() {
            return Ok(0);
        }
        self.publish();
        Ok(self.last_ticket)
    }

    fn append_many(
        &mut self,
        r#type: &str,
        items: &Bound<'_, PyList>,
        start: usize,
    ) -> PyResult<(usize, u64)> {
        let mut attributes = Attributes::default();
        set(&mut attributes, Tag::Type, Some(r#type))?;
        if !self.is_open() {
            return Ok((0, self.last_ticket));
        }
        let (mut count, mut buffer) = (0, Vec::new());
        while count < BATCH_EVENTS_MAX {
            // What cannot be appended is left to `append`, which says why.
            let Ok(item) = items.get_item(start + count) else { break };
            let Some(text) = json_text(&item, &mut buffer) else { break };
            let Ok(payload_bytes) = self.payload_bytes(&attributes, text) else { break };
            if self.put(&attributes, 0, text, payload_bytes).is_err() {
                break;
            }
            count += 1;
        }
        if count > 0 {
            self.publish();
        }
        Ok((count, self.last_ticket))
    }

    fn append_payloads(&mut self, payloads: &[u8], start: usize) -> PyResult<(usize, usize, u64)> {
        let (mut count, mut at) = (0, start);
        let malformed = |at, what| {
            PyValueError::new_err(format!(
                "cannot append: the payload at byte {at} is malformed: {what}; this is a bug"
            ))
        };
        let is_open = self.is_open();
        while at != payloads.len() && count < PAYLOADS_MAX && at - start < PAYLOADS_BYTES_MAX {
            let checked = payloads::next(payloads, at)
                .and_then(|(payload, next)| Ok((payload, next, payloads::data_bytes(payload)?)))
                .map_err(|what| malformed(at, what))
                .and_then(|(payload, next, data_bytes)| {
                    self.check_bytes(payload.len() as u64, data_bytes).map(|()| (payload, next))
                });
            let (payload, next) = match checked {
                Ok(one) => one,
                // What is before it is told first; the next call begins here and says this.
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            };
            if !is_open
                || self.put_with(payload.len() as u64, |out| out.copy_from_slice(payload)).is_err()
            {
                break;
            }
            (count, at) = (count + 1, next);
        }
        if count > 0 {
            self.publish();
        }
        Ok((count, at, self.last_ticket))
    }

    fn drain(&mut self) -> PyResult<(u64, Vec<EntryTuple>)> {
        if !self.stamp.is_current() || self.garbage {
            return Ok((self.settled, Vec::new()));
        }
        // Until all is read and found possible; what a broken ring still says is not listened to.
        self.garbage = true;
        let mut entries = Vec::new();
        let mut mark = self.settled;
        let Inner { producer, reader } = &mut *self.inner;
        mark = mark.max(reader.poll().map_err(garbage)?);
        while let Some(entry) = reader.next().map_err(garbage)? {
            mark = mark.max(entry.last_ticket());
            entries.push((
                entry.ticket,
                entry.count,
                entry.seq,
                entry.group,
                entry.verdict.word(),
                entry.reason.word(),
            ));
        }
        if mark > self.last_ticket {
            return Err(GarbageError::new_err("the daemon settled a ticket that was never given"));
        }
        if !producer.head_is_possible() {
            return Err(GarbageError::new_err("the daemon released bytes that were never written"));
        }
        if (mark > self.settled || !entries.is_empty()) && reader.acknowledge(mark) {
            self.ring_bell();
        }
        self.garbage = false;
        self.settled = mark;
        Ok((mark, entries))
    }

    fn arm_settled(&self, ticket: u64) -> bool {
        !self.stamp.is_current() || self.inner.reader.arm(ticket)
    }

    fn arm_room(&self) -> bool {
        if !self.stamp.is_current() {
            return true;
        }
        self.inner.producer.arm_room()
    }

    fn disarm(&self) {
        if self.stamp.is_current() {
            self.inner.reader.disarm();
            self.inner.producer.disarm_room();
        }
    }

    fn retire(&mut self) {
        self.open = false;
    }

    fn adopt_unsettled(&mut self, old: &Bound<'_, Ring>, high: u64) -> PyResult<u64> {
        let mut old = old.try_borrow_mut().map_err(|_| {
            PyValueError::new_err("cannot adopt a ring into itself: give the old one")
        })?;
        if !self.stamp.is_current() || !old.stamp.is_current() {
            return Err(PyValueError::new_err(
                "cannot adopt: this process was forked from the one that made it",
            ));
        }
        if high < old.settled || high > old.last_ticket || self.last_ticket != high {
            return Err(GarbageError::new_err(format!(
                "the daemon answers ticket {high}, which is not from {} to {}",
                old.settled, old.last_ticket
            )));
        }
        // The verdicts between are told again by the new ring, where not all may find room at once.
        self.settled = old.settled;
        self.copy_frames(&mut old, high)?;
        if self.last_ticket != old.last_ticket {
            return Err(GarbageError::new_err(format!(
                "the old ring holds no ticket {}, which the daemon has not",
                self.last_ticket + 1
            )));
        }
        old.open = false;
        self.publish();
        Ok(self.last_ticket - high)
    }

    #[getter]
    fn last_ticket(&self) -> u64 {
        self.last_ticket
    }

    #[getter]
    fn settled(&self) -> u64 {
        self.settled
    }

    #[getter]
    fn open(&self) -> bool {
        self.is_open()
    }

    #[getter]
    fn forked(&self) -> bool {
        !self.stamp.is_current()
    }

    #[getter]
    fn used_bytes(&mut self) -> u64 {
        if !self.stamp.is_current() {
            return 0;
        }
        let head = self.inner.producer.head();
        self.inner.producer.committed() - head
    }
}

impl Ring {
    fn is_open(&self) -> bool {
        self.open && self.stamp.is_current()
    }

    /// Bytes of the payload, checked against every limit; nothing is written.
    fn payload_bytes(&self, attributes: &Attributes<'_>, data: &[u8]) -> PyResult<u64> {
        let bytes = (PREFIX_BYTES + attributes.bytes() + data.len()) as u64;
        self.check_bytes(bytes, data.len())?;
        Ok(bytes)
    }

    /// Whether a payload of `bytes`, `data_bytes` of them data, is within every limit.
    fn check_bytes(&self, bytes: u64, data_bytes: usize) -> PyResult<()> {
        if data_bytes > self.event_bytes_max {
            return Err(PyValueError::new_err(format!(
                "cannot append: data has {data_bytes} bytes, the daemon takes {}; split it, or \
                 raise event_bytes_max in its configuration",
                self.event_bytes_max
            )));
        }
        if self.stamp.is_current() {
            let ring_bytes = self.inner.producer.memory().ring_bytes();
            let max = payload_bytes_max(ring_bytes);
            if bytes > max {
                return Err(PyValueError::new_err(format!(
                    "cannot append: the event has {bytes} bytes, this ring takes {max}; connect \
                     with larger ring_bytes"
                )));
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        attributes: &Attributes<'_>,
        flags: u8,
        data: &[u8],
        payload_bytes: u64,
    ) -> Result<(), Full> {
        self.put_with(payload_bytes, |out| write_payload_to(out, attributes, flags, data))
    }

    fn put_with(&mut self, payload_bytes: u64, write: impl FnOnce(&mut [u8])) -> Result<(), Full> {
        let producer = &mut self.inner.producer;
        let claim = producer.claim(payload_bytes)?;
        // SAFETY: within the claim that this side holds.
        write(unsafe { producer.memory().slice(claim.payload_index, payload_bytes) });
        producer.commit(claim, payload_bytes, KIND_EVENT_FRAME, 0, self.last_ticket + 1);
        self.last_ticket += 1;
        Ok(())
    }

    fn publish(&mut self) {
        if self.inner.producer.publish() {
            self.ring_bell();
        }
    }

    /// A full counter, or a daemon that is gone, needs no bell.
    fn ring_bell(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Copies every frame above `high` from the old ring, byte for byte, in its order.
    fn copy_frames(&mut self, old: &mut Self, high: u64) -> PyResult<()> {
        let head = old.inner.producer.head();
        let memory = old.inner.producer.memory().clone();
        // What the dead consumer says of `head` is believed only where it can be true; the bytes
        // before that are intact in any case, since this side has never overwritten them.
        let mut reader = Consumer::at(memory.clone(), head);
        let broken = |_| GarbageError::new_err("the old ring cannot be read: this is a bug");
        reader.poll().map_err(broken)?;
        while let Some(frame) = reader.next_frame().map_err(broken)? {
            if frame.ticket <= high {
                continue;
            }
            if frame.ticket != self.last_ticket + 1 {
                break;
            }
            let producer = &mut self.inner.producer;
            let claim = producer.claim(frame.payload_bytes).map_err(|Full| {
                GarbageError::new_err("the new ring is smaller than the old one")
            })?;
            // SAFETY: within the claim that this side holds.
            let out = unsafe { producer.memory().slice(claim.payload_index, frame.payload_bytes) };
            memory.p.copy_out(memory.data_offset(frame.payload_index), out);
            producer.commit(claim, frame.payload_bytes, frame.kind, frame.flags, frame.ticket);
            self.last_ticket = frame.ticket;
        }
        Ok(())
    }
}

fn set<'a>(attributes: &mut Attributes<'a>, tag: Tag, value: Option<&'a str>) -> PyResult<()> {
    let Some(value) = value else { return Ok(()) };
    let (bytes, max) = (value.len(), tag.bytes_max());
    if bytes == 0 || bytes > max {
        return Err(PyValueError::new_err(format!(
            "cannot append: {} has {bytes} bytes; give it 1 to {max}",
            tag.word()
        )));
    }
    if value.as_bytes().contains(&0) {
        return Err(PyValueError::new_err(format!(
            "cannot append: {} has a NUL character, which PostgreSQL cannot hold; remove it",
            tag.word()
        )));
    }
    attributes.set(tag, Some(value.as_bytes()));
    Ok(())
}

fn os_error(error: rustix::io::Errno) -> PyErr {
    PyOSError::new_err((error.raw_os_error(), error.to_string()))
}

fn garbage(_: Garbage) -> PyErr {
    GarbageError::new_err("the verdict ring holds what no honest daemon writes")
}

/// The mappings of a ring, for [`super::consumer`].
pub fn map_for_consumer(p: RawFd, c: RawFd, ring_bytes: u64) -> PyResult<Mapped> {
    // SAFETY: the caller owns these descriptors for the duration of the call.
    let [p, c] = [p, c].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
    let p_bytes = PAGE_BYTES + ring_bytes as usize;
    let p: Arc<Mapping> = Mapping::new(p, p_bytes, false).map_err(os_error)?;
    let c = Mapping::new(c, C_BYTES, true).map_err(os_error)?;
    Ok(Mapped::new(p, c, ring_bytes))
}
