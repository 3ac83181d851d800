//! The measured part of a run: what comes after the warm-up, counted in short intervals.

use crate::clock::{cpu_ns, now_ns};
use crate::measurement::Measurement;
use crate::settings::Settings;

const INTERVAL_NS: u64 = 100_000_000;

/// Whoever counts operations tells how many there have been, often, and is told when it is over.
pub struct Span {
    pids: Vec<libc::pid_t>,
    start_ns: u64,
    begin_ns: u64,
    end_ns: u64,
    first: Mark,
    last: Mark,
    interval_end_ns: u64,
    interval_count: u64,
    intervals: Vec<u64>,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    ns: u64,
    count: u64,
    cpu_ns: u64,
}

impl Span {
    /// The warm-up begins now. `pids` are the processes whose processor time counts.
    #[must_use]
    pub fn begin(settings: &Settings, pids: Vec<libc::pid_t>) -> Self {
        let start_ns = now_ns();
        let begin_ns = start_ns + (settings.warmup_seconds * 1e9) as u64;
        let end_ns = begin_ns + (settings.seconds * 1e9) as u64;
        Self {
            pids,
            start_ns,
            begin_ns,
            end_ns,
            first: Mark::default(),
            last: Mark::default(),
            interval_end_ns: 0,
            interval_count: 0,
            intervals: Vec::new(),
        }
    }

    /// `count` operations were completed by `ns`.
    #[inline]
    pub fn tick(&mut self, ns: u64, count: u64) -> Phase {
        if ns < self.begin_ns {
            return Phase::Warmup;
        }
        if self.last.ns > 0 {
            return Phase::Over;
        }
        if self.first.ns == 0 {
            self.first = self.mark(ns, count);
            self.interval_end_ns = ns + INTERVAL_NS;
            self.interval_count = count;
        }
        while ns >= self.interval_end_ns {
            self.intervals.push(count - self.interval_count);
            self.interval_end_ns += INTERVAL_NS;
            self.interval_count = count;
        }
        if ns < self.end_ns {
            return Phase::Measured;
        }
        self.intervals.push(count - self.interval_count);
        self.last = self.mark(ns, count);
        Phase::Over
    }

    /// What was seen. Panics before the span is over.
    #[must_use]
    pub fn measurement(self) -> Measurement {
        assert!(self.last.ns > 0, "the span is not over");
        Measurement {
            operations: self.last.count - self.first.count,
            seconds: (self.last.ns - self.first.ns) as f64 / 1e9,
            warmup_seconds: (self.first.ns - self.start_ns) as f64 / 1e9,
            intervals: self.intervals,
            interval_seconds: INTERVAL_NS as f64 / 1e9,
            cpu_seconds: Some((self.last.cpu_ns - self.first.cpu_ns) as f64 / 1e9),
            ..Measurement::default()
        }
    }

    #[cold]
    fn mark(&self, ns: u64, count: u64) -> Mark {
        Mark { ns, count, cpu_ns: self.pids.iter().map(|pid| cpu_ns(*pid)).sum() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Warmup,
    Measured,
    Over,
}

/// This process's number.
#[must_use]
pub fn own_pid() -> libc::pid_t {
    libc::pid_t::try_from(std::process::id()).expect("a pid")
}
