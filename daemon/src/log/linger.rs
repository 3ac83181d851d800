//! How long a group stays open for more: the daemon's one policy of batching.
//!
//! Groups grow with the load by themselves: what arrives while one is synced is the next one. So
//! under low load a group goes at once, and whoever waits for one event waits for one sync. Only
//! when groups are large anyway does the writer linger, in short steps, as long as each of them
//! brings more: a sync costs the same for ten events as for ten thousand, and whoever appends so
//! many waits for the last one. It sleeps meanwhile. Nothing in certeus spins: on a host where
//! cores are shared, what spins takes the core from what it waits for.

/// A group that held so many says that the next one will be large too.
const CROWD: u32 = 64;
/// Between two looks at the rings.
const STEP_US: u64 = 250;

/// How long to wait for more now, in µs; `None`: the group goes.
///
/// `last_count` records were in the group before, `waited_us` have been waited for this one, which
/// is not to be more than `limit_us`; `grew`: the last look brought more.
#[must_use]
pub fn step_us(last_count: u32, grew: bool, waited_us: u64, limit_us: u64) -> Option<u64> {
    let left_us = limit_us.saturating_sub(waited_us);
    (grew && last_count >= CROWD && left_us > 0).then_some(left_us.min(STEP_US))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_policy() {
        for (last_count, grew, waited_us, limit_us, step) in [
            // Low load, and the first group of all.
            (0, true, 0, 1000, None),
            (CROWD - 1, true, 0, 1000, None),
            // High load: in steps, up to the limit.
            (CROWD, true, 0, 1000, Some(250)),
            (u32::MAX, true, 750, 1000, Some(250)),
            (CROWD, true, 1000, 1000, None),
            (CROWD, true, 0, 100, Some(100)),
            (CROWD, true, 250, 300, Some(50)),
            // Nothing more comes.
            (CROWD, false, 0, 1000, None),
            (CROWD, false, 250, 1000, None),
            // Turned off, or a limit that was lowered.
            (CROWD, true, 0, 0, None),
            (CROWD, true, 500, 100, None),
        ] {
            assert_eq!(
                step_us(last_count, grew, waited_us, limit_us),
                step,
                "{last_count} {grew} {waited_us} {limit_us}"
            );
        }
    }

    #[test]
    fn a_group_never_waits_longer_than_the_limit() {
        for limit_us in [0, 1, 249, 250, 1000, 1_000_000] {
            let mut waited_us = 0;
            while let Some(step) = step_us(CROWD, true, waited_us, limit_us) {
                waited_us += step;
            }
            assert_eq!(waited_us, limit_us);
        }
    }
}
