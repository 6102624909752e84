//! When each connection of a loop is to be looked after, if nothing happens to it before.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The alarms of all, by time; `T` says whose each is.
///
/// A wait is put off with every command, and hardly ever comes to its end. So an alarm is not moved to a later time: it
/// rings too early then, and is set anew.
pub(crate) struct Alarms<T>(BTreeSet<(Instant, T)>);

/// When the alarm of one rings, if it is set.
#[derive(Default)]
pub(crate) struct Alarm(Option<Instant>);

impl<T: Copy + Ord> Alarms<T> {
    pub(crate) fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// How long it is until the first rings.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.0.first().map(|(at, _)| at.saturating_duration_since(now))
    }

    /// Whose has rung, once for each. What is set to `now` rings when time has gone on.
    pub(crate) fn rung(&mut self, now: Instant) -> Option<T> {
        self.0.first().filter(|(at, _)| *at < now)?;
        self.0.pop_first().map(|(_, who)| who)
    }

    /// Has it ring at a time, or before.
    pub(crate) fn set(&mut self, alarm: &mut Alarm, who: T, at: Instant) {
        if alarm.0.is_none_or(|before| at < before) {
            self.clear(alarm, who);
            self.0.insert((at, who));
            alarm.0 = Some(at);
        }
    }

    pub(crate) fn clear(&mut self, alarm: &mut Alarm, who: T) {
        if let Some(at) = alarm.0.take() {
            self.0.remove(&(at, who));
        }
    }
}
