//! Who is barred, as far as this process has learnt of the server.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::counted::Key;

/// Who is barred, and until when. Takes a limited amount of memory; of what is not in it, the server is asked.
pub(super) struct Barred {
    until: Mutex<HashMap<Key, Instant>>,
    most: usize,
}

impl Barred {
    pub(super) fn new(most: usize) -> Self {
        Self { until: Mutex::default(), most: most.max(1) }
    }

    pub(super) fn learn(&self, key: Key, barred_for: Duration) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if barred_for.is_zero() {
            until.remove(&key);
            return;
        }
        if until.len() >= self.most && !until.contains_key(&key) {
            until.retain(|_, until| *until > now);
            if until.len() >= self.most {
                return;
            }
        }
        until.insert(key, now + barred_for.min(LONGEST));
    }

    pub(super) fn is_barred(&self, key: Key) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(&key).is_some_and(|until| *until > Instant::now())
    }
}

/// Then the server is asked again: what has used up the limit may have been logins that were under way, of other
/// processes.
const LONGEST: Duration = Duration::from_secs(1);
