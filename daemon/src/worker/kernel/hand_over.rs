//! Letting sessions go: all of them when the worker ends, every second one where another worker has
//! come, which the clients meet when they connect again.

use super::Kernel;
use crate::worker::session::{Closing, Link};

impl Kernel {
    /// Settles what every ring holds at this moment and ends each session when its is done.
    pub fn drain(&mut self) {
        let open: Vec<u32> = self
            .sessions
            .values_mut()
            .filter(|session| session.closing.is_none())
            .map(|session| session.number)
            .collect();
        self.let_go(&open);
    }

    /// As [`drain`](Self::drain), of these; who closes by now, or is freed, does that as it is.
    pub fn let_go(&mut self, numbers: &[u32]) {
        for &number in numbers {
            let Some(session) = self.sessions.get_mut(number) else { continue };
            if session.closing.is_some() {
                continue;
            }
            match session.close(Closing::Drain) {
                Ok(()) => self.look_again(number),
                Err(violation) => self.fail(number, violation),
            }
        }
    }

    /// Drains every second live session: those at work lately first, then by what each has handed
    /// over; the busiest stays. Who drains by now counts among those that go. Returns how many go.
    pub fn hand_over(&mut self) -> usize {
        let (mut live, mut going) = (Vec::new(), 0);
        for session in self.sessions.values_mut() {
            match (session.closing, session.link) {
                (None, Link::Live(_)) => {
                    // This second, or the one before: the last that was whole.
                    let active = session.active_in > 0 && session.active_in + 1 >= self.second;
                    live.push((active, session.tally.events, session.number));
                }
                (Some(Closing::Drain), _) => going += 1,
                _ => {}
            }
        }
        live.sort_unstable_by(|one, other| other.cmp(one));
        let half = (live.len() + going) / 2;
        let numbers = live.iter().skip(1).step_by(2).map(|(_, _, number)| *number);
        let numbers: Vec<u32> = numbers.take(half.saturating_sub(going)).collect();
        self.let_go(&numbers);
        numbers.len()
    }
}
