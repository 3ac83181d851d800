//! When a number was recorded, by notes of the groups' times: the dedup window's age in `status`.
//!
//! Never too early: what is told is the time of the first note behind the number, so that every id
//! recorded since then is known. Notes are a second apart; when there are too many, every other one
//! goes and they are two seconds apart, and so on: memory is bounded, whatever the window spans.
//! A sealed segment leaves one note, in its sidecar, so after a restart the steps are segments.

const NOTES_MAX: usize = 4096;
const STEP_NS: u64 = 1_000_000_000;

/// `(next_seq, recorded_at_ns)` of groups, oldest first.
pub struct Ages {
    notes: Vec<(u64, u64)>,
    /// Of the last group, which may not be worth a note yet.
    newest: (u64, u64),
    step_ns: u64,
}

impl Default for Ages {
    fn default() -> Self {
        Self { notes: Vec::new(), newest: (0, 0), step_ns: STEP_NS }
    }
}

impl Ages {
    /// A group that ends before `next_seq` was recorded at that time.
    pub fn note(&mut self, next_seq: u64, recorded_at_ns: u64) {
        if next_seq <= self.newest.0 {
            return;
        }
        let last_ns = self.notes.last().map_or(0, |(_, ns)| *ns);
        // A clock that was set back makes notes, too.
        if recorded_at_ns.abs_diff(last_ns) >= self.step_ns && self.newest.0 > 0 {
            self.notes.push(self.newest);
        }
        self.newest = (next_seq, recorded_at_ns);
        if self.notes.len() > NOTES_MAX {
            let mut keep = false;
            self.notes.retain(|_| {
                keep = !keep;
                !keep
            });
            self.step_ns *= 2;
        }
    }

    /// When `seq` was recorded, at the latest. `None`: no group holds it yet.
    #[must_use]
    pub fn at(&self, seq: u64) -> Option<u64> {
        let noted = self.notes.iter().chain([&self.newest]);
        noted.copied().find(|(next_seq, _)| *next_seq > seq).map(|(_, ns)| ns)
    }

    /// Nobody asks for a number below `seq` any more.
    pub fn forget_below(&mut self, seq: u64) {
        let older = self.notes.partition_point(|(next_seq, _)| *next_seq <= seq);
        self.notes.drain(..older);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of the group that ends before each number, in milliseconds.
    fn noted(times_ms: &[u64]) -> Ages {
        let mut ages = Ages::default();
        for (group, ms) in (1..).zip(times_ms) {
            ages.note(group + 1, ms * 1_000_000);
        }
        ages
    }

    #[test]
    fn a_time_is_never_too_early_and_at_most_a_step_too_late() {
        let times: Vec<u64> = (0..5000).map(|at| 9000 + at * 37 + at / 100 * 60_000).collect();
        let mut ages = noted(&times);
        for (seq, ms) in (1..).zip(&times) {
            ages.forget_below(seq);
            let told = ages.at(seq).unwrap() / 1_000_000;
            assert!((*ms..=ms + 1000).contains(&told), "seq {seq}, recorded at {ms}, told {told}");
        }
        assert_eq!(ages.at(5001), None);
    }

    #[test]
    fn notes_are_bounded_and_stay_on_the_safe_side() {
        let times: Vec<u64> = (0..50_000).map(|at| 9000 + at * 2000).collect();
        let ages = noted(&times);
        assert!(ages.notes.len() <= NOTES_MAX);
        let step_ms = ages.step_ns / 1_000_000;
        assert!(step_ms <= 64_000, "{step_ms}");
        for (seq, ms) in (1..).zip(&times) {
            let told = ages.at(seq).unwrap() / 1_000_000;
            assert!((*ms..=ms + 2 * step_ms).contains(&told), "seq {seq}: {ms}, told {told}");
        }
    }
}
