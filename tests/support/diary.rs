//! An attempt log that writes everything down.

#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Mutex;

use sansmtp::auth::{Attempt, AttemptLog, Reservation};

/// Writes everything down, and bars whom `bars` says.
#[derive(Default)]
pub(crate) struct Diary {
    pub(crate) entries: Mutex<Vec<String>>,
    pub(crate) bars: Option<&'static str>,
}

impl Diary {
    fn note(&self, what: &str, attempt: &Attempt<'_>) {
        let entry = format!("{what} {} {:?}", attempt.mechanism, attempt.authcid);
        self.entries.lock().expect("no panic").push(entry);
    }

    /// What became of attempts.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        let entries = self.entries.lock().expect("no panic");
        let is_outcome = |entry: &&String| entry.starts_with("failed") || entry.starts_with("succeeded");
        entries.iter().filter(is_outcome).cloned().collect()
    }

    /// How many attempts were admitted, refused and released.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let entries = self.entries.lock().expect("no panic");
        ["admitted", "failed", "released"].map(|how| entries.iter().filter(|entry| entry.starts_with(how)).count())
    }

    pub(crate) fn unfinished(&self) -> Vec<String> {
        let entries = self.entries.lock().expect("no panic");
        entries.iter().filter(|entry| entry.starts_with("unfinished")).cloned().collect()
    }
}

impl AttemptLog for Diary {
    fn admit(&self, attempt: &Attempt<'_>) -> Option<Reservation> {
        if self.bars == Some(attempt.authcid) || self.bars == Some("*") {
            return None;
        }
        self.note("admitted", attempt);
        Some(Reservation::new(u128::MAX - 1))
    }

    fn release(&self, reservation: Reservation) {
        assert_eq!(reservation.number(), u128::MAX - 1);
        self.entries.lock().expect("no panic").push("released".to_owned());
    }

    fn refused(&self, attempt: &Attempt<'_>) {
        assert_eq!(attempt.reservation, Some(Reservation::new(u128::MAX - 1)));
        self.note("failed", attempt);
    }

    fn unfinished(&self, attempt: &Attempt<'_>) {
        assert_eq!((attempt.authcid, attempt.reservation), ("", None));
        self.note("unfinished", attempt);
    }

    fn succeeded(&self, attempt: &Attempt<'_>) {
        self.note("succeeded", attempt);
    }
}
