//! What the queue knows of one destination.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use super::{Health, Limits, SessionId};

/// The messages that wait for a destination, and how it has behaved.
#[derive(Debug)]
pub(super) struct Destination<M> {
    /// Messages that have just arrived, in that order.
    fresh: VecDeque<(Duration, M)>,
    /// Messages that have waited, in that order.
    backlog: VecDeque<M>,
    /// Those in `fresh` and `backlog` that still wait: one that was given up stays there until its turn comes.
    waiting: HashSet<M>,
    /// Whether the backlog comes next.
    is_backlogs_turn: bool,
    /// Sessions to it, the idle ones among them.
    pub(super) sessions: usize,
    pub(super) idle: Vec<SessionId>,
    /// Whether it is in the queue of those at which something may be begun, or held.
    pub(super) is_runnable: bool,
    /// Whether it was reached, since the last back-off.
    pub(super) is_proven: bool,
    /// Back-offs in a row.
    failures: u32,
    /// Messages in a row of which it has taken none.
    busy: u32,
    /// Until when it is backed off from, if it is.
    backed_off_until: Option<Duration>,
    /// How many sessions it seems to allow.
    allowed: usize,
    /// Messages since that number was changed.
    since_change: usize,
    first: usize,
    most: usize,
}

impl<M: Clone + Eq + Hash> Destination<M> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            fresh: VecDeque::new(),
            backlog: VecDeque::new(),
            waiting: HashSet::new(),
            is_backlogs_turn: false,
            sessions: 0,
            idle: Vec::new(),
            is_runnable: false,
            is_proven: false,
            failures: 0,
            busy: 0,
            backed_off_until: None,
            allowed: limits.sessions_per_destination.max(1),
            since_change: 0,
            first: limits.first_sessions.clamp(1, limits.sessions_per_destination.max(1)),
            most: limits.sessions_per_destination.max(1),
        }
    }

    /// Adds a message that is due.
    pub(super) fn push(&mut self, now: Duration, message: M, is_backlog: bool) {
        if self.waiting.insert(message.clone()) {
            if is_backlog { self.backlog.push_back(message) } else { self.fresh.push_back((now, message)) }
        }
    }

    /// Takes the next message: one that has just arrived and one of the backlog by turns.
    pub(super) fn take(&mut self, now: Duration, fresh_for: Duration) -> Option<M> {
        while self.fresh.front().is_some_and(|(since, _)| now.saturating_sub(*since) >= fresh_for) {
            self.backlog.extend(self.fresh.pop_front().map(|(_, message)| message));
        }
        loop {
            let from_backlog = if self.is_backlogs_turn { !self.backlog.is_empty() } else { self.fresh.is_empty() };
            let message = if from_backlog {
                self.backlog.pop_front()
            } else {
                self.fresh.pop_front().map(|(_, message)| message)
            };
            let message = message?;
            if self.waiting.remove(&message) {
                self.is_backlogs_turn = !from_backlog;
                return Some(message);
            }
        }
    }

    /// Takes a message out. Says whether it was waiting here.
    pub(super) fn remove(&mut self, message: &M) -> bool {
        self.waiting.remove(message)
    }

    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty() && !self.is_backed_off()
    }

    pub(super) fn is_backed_off(&self) -> bool {
        self.backed_off_until.is_some()
    }

    /// Until when it is backed off from, if it is.
    pub(super) fn backed_off_until(&self) -> Option<Duration> {
        self.backed_off_until
    }

    /// Whether nothing would be lost with what is known of it.
    pub(super) fn is_forgettable(&self) -> bool {
        self.waiting.is_empty() && self.sessions == 0 && !self.is_backed_off()
    }

    pub(super) fn may_open(&self) -> bool {
        self.sessions < self.session_limit()
    }

    /// How many sessions it may have at the moment.
    pub(super) fn session_limit(&self) -> usize {
        match (self.is_proven, self.failures) {
            (true, _) => self.allowed,
            (false, 0) => self.first,
            (false, _) => 1,
        }
    }

    pub(super) fn end_back_off(&mut self) {
        self.backed_off_until = None;
        self.busy = 0;
    }

    /// Takes note of how it behaved in one of its sessions. Returns until when it is backed off from, if it is from
    /// now on.
    pub(super) fn judge(&mut self, now: Duration, health: Health, limits: &Limits) -> Option<Duration> {
        match health {
            Health::Up => {
                self.failures = 0;
                self.busy = 0;
                self.is_proven = true;
                self.since_change += 1;
                if self.since_change >= self.allowed * MESSAGES_BEFORE_MORE && self.allowed < self.most {
                    self.allowed += 1;
                    self.since_change = 0;
                }
                return None;
            }
            Health::Unknown => return None,
            Health::Busy => {
                self.is_proven = true;
                self.busy += 1;
                if self.busy < BUSY_BEFORE_BACK_OFF {
                    return None;
                }
            }
            Health::Full if self.is_proven && self.sessions > 1 => {
                // The others go on. This one, which is still counted, is over.
                self.allowed = (self.sessions - 1).min(self.allowed);
                self.since_change = 0;
                return None;
            }
            Health::Full | Health::Down => {}
        }
        if self.is_backed_off() {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        self.is_proven = false;
        let pause = limits.schedule.pause_after(self.failures).min(limits.longest_back_off);
        self.backed_off_until = Some(now.saturating_add(pause));
        self.backed_off_until
    }
}

/// Refusals that seem to be about the destination and may as well be about each message, as greylisting is.
const BUSY_BEFORE_BACK_OFF: u32 = 3;
/// Messages for each allowed session before there is one more.
const MESSAGES_BEFORE_MORE: usize = 10;
