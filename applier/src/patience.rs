//! How long a run waits for one process: all its steps together.

use std::time::{Duration, Instant};

/// A time that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    begun: Instant,
    limit: Duration,
}

impl Patience {
    /// It begins now.
    pub fn of(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit }
    }

    /// How much of it has passed.
    pub fn waited(self) -> Duration {
        self.begun.elapsed()
    }

    /// All of it.
    pub fn limit(self) -> Duration {
        self.limit
    }

    /// What is left of it.
    pub fn left(self) -> Duration {
        self.limit.saturating_sub(self.waited())
    }

    /// Whether nothing is left.
    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// No more than so long from now on.
    #[must_use]
    pub fn at_most(self, limit: Duration) -> Self {
        Self::of(self.left().min(limit))
    }

    /// So long from now on even if less is left: what has been begun is not given up untried.
    #[must_use]
    pub fn at_least(self, least: Duration) -> Self {
        if self.left() < least { Self::of(least) } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_share_it() {
        let (none, minute, hour) = (Duration::ZERO, Duration::from_secs(60), Duration::from_secs(3600));
        assert!(Patience::of(none).is_over());
        let patience = Patience::of(minute);
        assert!(!patience.is_over() && patience.left() <= minute);
        assert!(patience.at_most(hour).left() <= minute);
        assert!(patience.at_most(none).is_over());
        assert!(patience.at_least(hour).left() > minute);
        assert!(patience.at_least(none).left() <= minute);
        let used_up = Patience { begun: patience.begun, limit: patience.waited() };
        assert!(used_up.is_over() && used_up.at_most(hour).is_over() && !used_up.at_least(minute).is_over());
    }
}
