//! How attempts follow one another: to find a quiet moment, or a thread that can be used.
//!
//! A stop breaks off what sleeping threads wait for. Most of that goes on afterwards, but timeouts start anew: were stops never
//! farther apart than a timeout is long, it would not come before lp-apply gives up.

use crate::pause::First;
use std::time::Duration;

/// First and longest pause between two attempts.
const FIRST_NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_millis(20);
/// A pause is at least so many times as long as the attempt before it.
const REST: u32 = 2;
/// After so many stops of sleeping threads in vain there is a long rest: few timeouts that come again and again are longer.
const SERIES: u32 = 8;
const LONG_REST: Duration = Duration::from_millis(500);

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
        let nap = self.nap.max(took.saturating_mul(REST));
        self.nap = self.nap.saturating_mul(2).min(LONGEST_NAP);
        self.woken = self.woken.saturating_add(u32::from(woken));
        if woken && self.woken.is_multiple_of(SERIES) { nap.max(LONG_REST) } else { nap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer() {
        let (mut pace, ms) = (Pace::begin(), Duration::from_millis);
        for want in [1, 2, 4, 8, 16, 20, 20] {
            assert_eq!((pace.pause_after(ms(0), false), pace.first()), (ms(want), First::Sleepers));
        }
        assert_eq!((pace.pause_after(ms(3), true), pace.first()), (ms(20), First::Runners), "sleepers were stopped");
        assert_eq!(pace.pause_after(ms(100), true), ms(200), "after a long stop");
        let pauses: Vec<_> = (0..16).map(|_| pace.pause_after(ms(3), true)).collect();
        let long: Vec<_> = (0..16).filter(|n| pauses[*n] == LONG_REST).collect();
        assert_eq!(long, [5, 13], "after every eighth stop: {pauses:?}");
    }
}
