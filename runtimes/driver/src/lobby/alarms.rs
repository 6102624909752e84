//! When waits end for which nothing happens.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use super::lock;

/// The next alarm of each seat that has one.
#[derive(Debug, Default)]
pub(super) struct Alarms(Mutex<BTreeSet<(Instant, usize)>>);

impl Alarms {
    /// Sets a seat's alarm, instead of its last one. Whether it is the first that will go off now.
    pub(super) fn set(&self, key: usize, at: Instant, instead_of: Option<Instant>) -> bool {
        let mut alarms = lock(&self.0);
        if let Some(last) = instead_of {
            alarms.remove(&(last, key));
        }
        let is_first = alarms.first().is_none_or(|(first, _)| at < *first);
        alarms.insert((at, key));
        is_first
    }

    pub(super) fn clear(&self, key: usize, at: Instant) {
        lock(&self.0).remove(&(at, key));
    }

    /// The first one, if it is due by then.
    pub(super) fn take_due(&self, now: Instant) -> Option<(Instant, usize)> {
        let mut alarms = lock(&self.0);
        alarms.first().is_some_and(|(at, _)| *at <= now).then(|| alarms.pop_first()).flatten()
    }

    /// When the first one goes off.
    pub(super) fn next(&self) -> Option<Instant> {
        lock(&self.0).first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn alarms_go_off_in_order() {
        let (alarms, now) = (Alarms::default(), Instant::now());
        let [early, later, last] = [1, 2, 3].map(|seconds| now + Duration::from_secs(seconds));
        assert_eq!(alarms.next(), None);
        assert!(alarms.set(7, later, None));
        assert!(!alarms.set(8, last, None));
        assert!(!alarms.set(9, later, None));
        assert!(alarms.set(8, early, Some(last)));
        assert_eq!(alarms.next(), Some(early));
        assert_eq!(alarms.take_due(now), None);
        assert_eq!(alarms.take_due(early), Some((early, 8)));
        alarms.clear(9, later);
        assert_eq!(alarms.take_due(last), Some((later, 7)));
        assert_eq!((alarms.take_due(last), alarms.next()), (None, None));
    }
}
