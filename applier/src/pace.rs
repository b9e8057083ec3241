//! How attempts follow one another: to find a quiet moment, or a thread that can be used.
//!
//! A stop breaks off what sleeping threads wait for. Most of that goes on afterwards, but timeouts start anew: were stops never
//! farther apart than a timeout is long, it would not come before lp-apply gives up.

use crate::pause::First;
use std::time::Duration;

/// First and longest pause between two attempts.
const FIRST_NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_millis(50);
/// After so many stops of sleeping threads in vain there is a long rest: few timeouts that come again and again are longer.
const SERIES: u32 = 8;
const LONG_REST: Duration = Duration::from_millis(500);
/// After such a stop, a pause is at least so many times as long as the attempt was.
const REST: u32 = 2;

/// The pauses so far.
#[derive(Debug)]
pub struct Pace {
    nap: Duration,
    /// Attempts for which sleeping threads were stopped.
    woken: u32,
}

impl Pace {
    /// Nothing yet.
    pub fn begin() -> Self {
        Self { nap: FIRST_NAP, woken: 0 }
    }

    /// Which threads the next stop takes first: one has come to nothing, perhaps because a thread computes where it must not be.
    pub fn first(&self) -> First {
        if self.woken == 0 { First::Sleepers } else { First::Runners }
    }

    /// The pause after an attempt in vain that took so long. `woken`: sleeping threads were stopped for it.
    pub fn pause_after(&mut self, took: Duration, woken: bool) -> Duration {
        let nap = self.nap;
        self.nap = nap.saturating_mul(2).min(LONGEST_NAP);
        if !woken {
            return nap;
        }
        self.woken = self.woken.saturating_add(1);
        let rest = if self.woken.is_multiple_of(SERIES) { LONG_REST } else { nap };
        rest.max(took.saturating_mul(REST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer() {
        let (mut pace, ms) = (Pace::begin(), Duration::from_millis);
        for want in [1, 2, 4, 8, 16, 32, 50, 50] {
            assert_eq!((pace.pause_after(ms(100), false), pace.first()), (ms(want), First::Sleepers));
        }
        assert_eq!((pace.pause_after(ms(3), true), pace.first()), (ms(50), First::Runners), "none that sleeps");
        assert_eq!(pace.pause_after(ms(100), true), ms(200), "after a long stop");
        let pauses: Vec<_> = (0..16).map(|_| pace.pause_after(ms(3), true)).collect();
        let long: Vec<_> = (0..16).filter(|n| pauses[*n] == LONG_REST).collect();
        assert_eq!(long, [5, 13], "after every eighth stop: {pauses:?}");
    }
}
