//! What a program is told: one JSON object as its only argument, each field with a default.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub warmup_seconds: f64,
    pub seconds: f64,
    /// The writer runs on the first, the reader on the last.
    pub cpus: Vec<usize>,
    /// For files. What is in `/dev/shm` begins with its name: whoever started this removes both.
    pub home: PathBuf,
    pub payload_bytes: usize,
    /// Data bytes of each ring; the library's default.
    pub ring_bytes: u64,
    /// Events that the writer makes visible at once.
    pub batch_events: u64,
    /// Sleep until the doorbell rings, as a worker does, instead of spinning.
    pub blocking: bool,
    /// What `memcpy` copies from and to: this much each, payload by payload, over and over.
    pub area_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            warmup_seconds: 0.5,
            seconds: 2.0,
            cpus: vec![0, 1],
            home: std::env::temp_dir(),
            payload_bytes: 100,
            ring_bytes: 4 << 20,
            batch_events: 64,
            blocking: false,
            area_bytes: 4 << 20,
        }
    }
}

impl Settings {
    /// The program's only argument; none: all defaults.
    ///
    /// Panics when it is not one JSON object of these fields, and says where.
    #[must_use]
    pub fn of_this_program() -> Self {
        let mut arguments = std::env::args().skip(1);
        let given = arguments.next().unwrap_or_else(|| "{}".into());
        assert!(arguments.next().is_none(), "cannot take more than one argument, a JSON object");
        let settings: Self = serde_json::from_str(&given)
            .unwrap_or_else(|error| panic!("cannot read {given}: {error}"));
        assert!(!settings.cpus.is_empty(), "cannot run on no CPU: name at least one in cpus");
        settings
    }

    #[must_use]
    pub fn first_cpu(&self) -> usize {
        self.cpus[0]
    }

    #[must_use]
    pub fn last_cpu(&self) -> usize {
        self.cpus[self.cpus.len() - 1]
    }
}
