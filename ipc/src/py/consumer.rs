//! `Consumer`: the daemon's side of one session, one call a step. For tests and tools only.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::ring::map_for_consumer;
use crate::layout::{P_SETTLED_READ, P_WAKE_HEAD, P_WAKE_SETTLED};
use crate::memory::{Mapped, Mapping};
use crate::ring::{Consumer as RingConsumer, Violation};
use crate::verdict::{Entry, Reason, Verdict};
use crate::verdict_ring::{Words, Writer};

#[pyclass(module = "certeus._native")]
pub struct Consumer {
    ring: RingConsumer<Mapped>,
    writer: Writer<Mapping>,
    /// `(ticket, end_position)` of what was read and not released.
    unreleased: VecDeque<(u64, u64)>,
}

#[pymethods]
impl Consumer {
    #[new]
    fn new(p: RawFd, c: RawFd, ring_bytes: u64) -> PyResult<Self> {
        let memory = map_for_consumer(p, c, ring_bytes)?;
        let writer = Writer::new(memory.p.clone(), memory.c.clone());
        Ok(Self { ring: RingConsumer::new(memory), writer, unreleased: VecDeque::new() })
    }

    /// `(ticket, payload)` of every frame that has come since the last call.
    fn read<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<(u64, Bound<'py, PyBytes>)>> {
        let mut frames = Vec::new();
        self.ring.poll().map_err(violation)?;
        while let Some(frame) = self.ring.next_frame().map_err(violation)? {
            let memory = self.ring.memory();
            let mut payload = vec![0; frame.payload_bytes as usize];
            memory.p.copy_out(memory.data_offset(frame.payload_index), &mut payload);
            frames.push((frame.ticket, PyBytes::new(py, &payload)));
            self.unreleased.push_back((frame.ticket, frame.end_position));
        }
        Ok(frames)
    }

    fn room(&mut self) -> usize {
        self.writer.room()
    }

    #[pyo3(signature = (ticket, verdict, seq=0, group=0, count=1, reason=""))]
    fn push(
        &mut self,
        ticket: u64,
        verdict: &str,
        seq: u64,
        group: u64,
        count: u32,
        reason: &str,
    ) -> PyResult<()> {
        let verdict = Verdict::ALL.into_iter().find(|known| known.word() == verdict);
        let reason = Reason::ALL.iter().copied().find(|known| known.word() == reason);
        let (Some(verdict), Some(reason)) = (verdict, reason) else {
            return Err(PyValueError::new_err("no such verdict or reason"));
        };
        if self.writer.room() == 0 {
            return Err(PyValueError::new_err("the verdict ring has no room"));
        }
        self.writer.push(Entry { ticket, seq, group, count, verdict, reason });
        Ok(())
    }

    fn publish(&mut self, settled: u64) {
        self.writer.publish(settled);
    }

    /// Moves `head` behind `ticket`. True: the producer asked for a bell at what is now reached.
    fn release(&mut self, ticket: u64) -> bool {
        while let Some((first, end)) = self.unreleased.front().copied() {
            if first > ticket {
                break;
            }
            self.ring.release(end);
            self.unreleased.pop_front();
        }
        let (head_wanted, settled_wanted) = (self.ring.head_wanted(), self.writer.settled_wanted());
        settled_wanted <= self.writer.settled() || head_wanted <= self.ring.released()
    }

    /// Says that this side is about to sleep. True: nothing has come meanwhile.
    fn prepare_sleep(&mut self) -> PyResult<bool> {
        self.ring.prepare_sleep().map_err(violation)
    }

    fn woke(&mut self) {
        self.ring.woke();
    }

    /// Stores any word of C, as no honest daemon would.
    fn scribble(&self, offset: usize, value: u64) {
        self.ring.memory().c.store_release(offset, value);
    }

    #[getter]
    fn settled_read(&self) -> u64 {
        self.ring.memory().p.load_relaxed(P_SETTLED_READ)
    }

    #[getter]
    fn wake_words(&self) -> (u64, u64) {
        let p = &self.ring.memory().p;
        (p.load_relaxed(P_WAKE_SETTLED), p.load_relaxed(P_WAKE_HEAD))
    }
}

fn violation(violation: Violation) -> PyErr {
    PyValueError::new_err(violation.reason())
}
