//! What a program saw, as one JSON object: `bench/certeus_bench/results.py`, field for field.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::Serialize;

const TIME_NS_MAX: u64 = 60_000_000_000;
const DIGITS: u8 = 3;

#[derive(Debug, Default, Serialize)]
pub struct Measurement {
    pub operations: u64,
    pub seconds: f64,
    pub warmup_seconds: f64,
    pub bytes_each: u64,
    #[serde(rename = "loop")]
    pub loop_kind: Loop,
    pub concurrency: u64,
    pub histogram: Option<String>,
    pub timer_ns: u64,
    pub intervals: Vec<u64>,
    pub interval_seconds: f64,
    pub written_sum: Option<u64>,
    pub read_sum: Option<u64>,
    pub cpu_seconds: Option<f64>,
    pub facts: BTreeMap<&'static str, f64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loop {
    Open,
    #[default]
    Closed,
}

impl Measurement {
    /// Prints it, on one line.
    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("numbers and text"));
    }
}

/// Times in ns, all of them, to three digits.
pub struct Times(Histogram<u64>);

impl Times {
    #[must_use]
    #[allow(clippy::new_without_default)] // it takes memory
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, TIME_NS_MAX, DIGITS).expect("proper bounds"))
    }

    #[inline]
    pub fn record(&mut self, time_ns: u64) {
        self.0.saturating_record(time_ns);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// As the contract wants it: V2, compressed, in base64.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes).expect("writing to memory");
        STANDARD.encode(bytes)
    }
}
