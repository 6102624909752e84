//! When a message that could not be delivered is tried again.

use std::time::Duration;

/// When a message that could not be delivered is tried again (RFC 5321, section 4.5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The pause after the first attempt; each later one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The age at which what is left undelivered goes back to its sender.
    pub give_up_after: Duration,
}

impl Schedule {
    /// The pause after this many attempts.
    pub fn pause_after(self, attempts: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.longest)
    }
}

/// A minute, then twice as long each time up to four hours, for five days.
impl Default for Schedule {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(60),
            longest: Duration::from_secs(4 * 60 * 60),
            give_up_after: Duration::from_secs(5 * 24 * 60 * 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let minutes = |attempts| Schedule::default().pause_after(attempts).as_secs() / 60;
        assert_eq!([1, 2, 3, 8, 9, 31, 32, 33, u32::MAX].map(minutes), [1, 2, 4, 128, 240, 240, 240, 240, 240]);
    }
}
