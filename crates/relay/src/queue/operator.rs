//! What an operator does to the queue by hand.
//!
//! ```text
//!             hold                              release
//! waiting ──────────► on hold: in no destination ──────────► due at once
//!    │ delete            │ delete
//!    └───────────────────┴──────► gone
//! ```
//!
//! A message in a session stays there, whatever is done to it: its next hop may have it already. Held, it is not tried
//! again when that is over; and it is not deleted.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

use super::{Action, Queue};

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages, those on hold among them.
    pub(crate) messages: usize,
    pub(crate) on_hold: usize,
    /// Sessions in which something is sent.
    pub(crate) sending: usize,
    /// Sessions, idle ones among them.
    pub(crate) sessions: usize,
    /// Destinations that are backed off from.
    pub(crate) backed_off: usize,
}

/// What came of deleting a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// The queue knows nothing of it any more.
    Gone,
    /// It is in a session, or a report on it is being written: nothing was done.
    Busy,
    /// There is no such message.
    Unknown,
}

impl<M: Clone + Ord + Hash, P: Clone + Ord + Hash, D: Clone + Ord + Hash> Queue<M, P, D> {
    /// Begins nothing of the message from now on, until it is released. It does not expire meanwhile. What has failed
    /// already is reported. Says whether there is such a message.
    pub(crate) fn hold(&mut self, message: &M) -> bool {
        let Some(entry) = self.messages.get_mut(message) else { return false };
        if std::mem::replace(&mut entry.is_on_hold, true) {
            return true;
        }
        self.on_hold += 1;
        for part in entry.parts.clone() {
            self.take_out(&(message.clone(), part));
        }
        true
    }

    /// Lets a message go that is on hold: all that is left of it is tried now, even if its destinations are backed off
    /// from, and does not expire before a first pause is over. Says whether there is such a message.
    pub(crate) fn release(&mut self, now: Duration, message: &M) -> bool {
        let Some(entry) = self.messages.get_mut(message) else { return false };
        if !std::mem::take(&mut entry.is_on_hold) {
            return true;
        }
        self.on_hold -= 1;
        let parts = entry.parts.clone();
        let running: HashSet<P> = self.running_parts(message);
        for part in parts {
            let job = (message.clone(), part);
            if let Some(progress) = self.jobs.get_mut(&job) {
                let before = (progress.expires, job.clone());
                progress.expires = progress.expires.max(now.saturating_add(self.limits.schedule.first));
                // The earlier one would give it up before that.
                self.expiries.remove(&before);
                self.expiries.insert((progress.expires, job.clone()));
            }
            if !running.contains(&job.1) {
                self.set_timer(now, job.clone());
                self.hurry(now, job);
            }
        }
        true
    }

    /// Has the message tried now, even if its destinations are backed off from: one message finds out for all that
    /// wait there. Nothing is changed where it is on hold. Says whether there is such a message.
    pub(crate) fn flush_message(&mut self, now: Duration, message: &M) -> bool {
        let Some(entry) = self.messages.get(message) else { return false };
        for part in entry.parts.clone() {
            self.hurry(now, (message.clone(), part));
        }
        true
    }

    /// The same for all messages that have such a job. Returns how many they are, without those on hold.
    pub(crate) fn flush(&mut self, now: Duration, is_wanted: impl Fn(&P, &D) -> bool) -> usize {
        let is_wanted = |(job, progress): &(&(M, P), &super::Progress<D>)| is_wanted(&job.1, &progress.destination);
        let mut jobs: Vec<(M, P)> = self.jobs.iter().filter(is_wanted).map(|(job, _)| job.clone()).collect();
        jobs.retain(|job| !self.is_on_hold(&job.0));
        // In the order of their arrival.
        jobs.sort_unstable();
        let mut messages = 0;
        let mut last = None;
        for job in jobs {
            if last.as_ref() != Some(&job.0) {
                messages += 1;
                last = Some(job.0.clone());
            }
            self.hurry(now, job);
        }
        messages
    }

    /// Keeps a message, whatever ends meanwhile, until it is unpinned. Says whether there is such a message.
    pub(crate) fn pin(&mut self, message: &M) -> bool {
        self.messages.get_mut(message).is_some_and(|entry| {
            entry.is_pinned = true;
            true
        })
    }

    /// Lets a message end again.
    pub(crate) fn unpin(&mut self, message: &M) {
        if let Some(entry) = self.messages.get_mut(message) {
            entry.is_pinned = false;
        }
        self.settle(message);
    }

    /// Whether there is such a message, and it is on hold.
    pub(crate) fn holds(&self, message: &M) -> bool {
        self.is_on_hold(message)
    }

    /// Forgets a message, and all that is left to do about it: nobody is told.
    pub(crate) fn delete(&mut self, message: &M) -> Deleted {
        let Some(entry) = self.messages.get(message) else { return Deleted::Unknown };
        let waits_for_report = self.reports.iter().any(|(_, other)| other == message);
        let is_given_up = |action: &Action<M, P, D>| matches!(action, Action::Expire { job, .. } if job.0 == *message);
        if entry.running > 0
            || entry.is_pinned
            || (entry.reporting && !waits_for_report)
            || self.actions.iter().any(is_given_up)
        {
            return Deleted::Busy;
        }
        self.reports.retain(|(_, other)| other != message);
        for part in entry.parts.clone() {
            let job = (message.clone(), part);
            self.take_out(&job);
            if let Some(progress) = self.jobs.remove(&job) {
                self.expiries.remove(&(progress.expires, job));
            }
        }
        self.forget_message(message);
        Deleted::Gone
    }

    /// The messages that are in a session now.
    pub(crate) fn sending(&self) -> Vec<M> {
        self.sessions.values().filter_map(|session| session.job.as_ref().map(|job| job.0.clone())).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            messages: self.messages.len(),
            on_hold: self.on_hold,
            sending: self.running(),
            sessions: self.sessions.len(),
            backed_off: self.back_offs.len(),
        }
    }

    fn running_parts(&self, message: &M) -> HashSet<P> {
        let jobs = self.sessions.values().filter_map(|session| session.job.as_ref());
        jobs.filter(|job| job.0 == *message).map(|job| job.1.clone()).collect()
    }

    /// Takes a job from where it waits.
    fn take_out(&mut self, job: &(M, P)) {
        let Some(progress) = self.jobs.get_mut(job) else { return };
        if let Some(due) = progress.due.take() {
            self.timers.remove(&(due, job.clone()));
        }
        if let Some(destination) = self.destinations.get_mut(&progress.destination)
            && destination.remove(job)
        {
            // It may have been the last one there.
            let key = progress.destination.clone();
            self.wake(&key);
        }
    }

    /// Has a job come up now, if it waits for a time, and ends the back-off from its destination.
    fn hurry(&mut self, now: Duration, job: (M, P)) {
        if self.is_on_hold(&job.0) {
            return;
        }
        let Some(progress) = self.jobs.get(&job) else { return };
        let (key, is_timed) = (progress.destination.clone(), progress.due.is_some());
        if is_timed {
            self.set_timer(now, job);
        }
        if let Some(destination) = self.destinations.get_mut(&key)
            && let Some(until) = destination.backed_off_until()
        {
            self.back_offs.remove(&(until, key.clone()));
            destination.end_back_off();
            self.wake(&key);
        }
    }
}
