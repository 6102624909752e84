//! The queue by destination: which message goes when, in which session.
//!
//! A state machine without I/O. Messages, what came of each attempt, and the clock, a number, go in; [`Action`]s come
//! out of [`Queue::poll`]. `M` is a message, `D` a destination: a set of servers of which any takes the mail. A message
//! is a *job* for each part `P` of its recipients that goes the same way, and its jobs go their own ways.
//!
//! ```text
//!             add                    due                     a session takes it
//! (message) ───────► timers ───────────────► destination's ──────────────────────► in a session
//!                      ▲                     fresh mail, backlog                      │      │
//!                      └──────────────── Outcome::Later ──────────────────────────────┘      └─► Outcome::Done
//! ```
//!
//! What a destination may have at once, and in one session, is in [`Limits`]. Besides:
//!
//! * Until a destination has once been reached, it gets few sessions, and one after each back-off: if a password is
//!   wrong, or a host is silent, one message finds out, and not as many as there may be sessions.
//! * A destination that is down is backed off from, for twice as long each time. All its messages wait, and those of
//!   no other destination.
//! * A destination that refuses one session among several gets fewer, and more again as it takes mail.
//! * Mail that has just arrived takes turns with the backlog, so neither waits for the other to end.
//! * Where there are no sessions left, destinations that have several give theirs back after the message under way.
//! * What an operator may do besides is in `operator.rs`: hold a message, release it, try it now, delete it.

mod destination;
mod operator;
#[cfg(test)]
mod operator_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use self::destination::Destination;
pub(crate) use self::operator::{Counts, Deleted};
use crate::schedule::Schedule;

/// What the queue keeps to. Times of the queue are counted from a start that the caller chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Sessions at once, in all. A quarter of them is kept for destinations that have been reached before.
    pub(crate) sessions: usize,
    /// Sessions at once to one destination.
    pub(crate) sessions_per_destination: usize,
    /// Of these, sessions to a destination that has not been reached yet.
    pub(crate) first_sessions: usize,
    /// Messages in one session.
    pub(crate) messages_per_session: u32,
    /// The age of a session at which no further message is begun in it.
    pub(crate) session_age: Duration,
    /// How long a session is kept for the next message.
    pub(crate) session_idle: Duration,
    /// How long a message counts as fresh. Then it is backlog.
    pub(crate) fresh: Duration,
    /// The pauses between attempts of one message, and up to `longest_back_off`, those of a destination.
    pub(crate) schedule: Schedule,
    /// The longest time for which a destination is backed off from.
    pub(crate) longest_back_off: Duration,
}

/// A message on its way to one destination.
#[derive(Clone, Debug)]
pub(crate) struct Job<M, P, D> {
    pub(crate) message: M,
    /// Which of its recipients. No other job of the message has the same.
    pub(crate) part: P,
    pub(crate) destination: D,
    /// How many attempts have been made.
    pub(crate) attempts: u32,
    /// When the next one is to be made.
    pub(crate) due: Duration,
    /// When the message is given up, if its destination is backed off from then.
    pub(crate) expires: Duration,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action<M, P, D> {
    /// Open a session to the destination, and send the message to this part of its recipients. [`Queue::finished`]
    /// tells the outcome of both.
    Open { session: SessionId, destination: D, job: (M, P) },
    /// Send the message in this session, which is idle.
    Send { session: SessionId, job: (M, P) },
    /// Close this session, which is idle. [`Queue::closed`] tells that it is.
    Close { session: SessionId },
    /// Give up this part of the message's recipients, whose destination could not be reached in time. The job is over.
    Expire { job: (M, P), destination: D },
    /// Report to the message's sender what it is to be told of its recipients. [`Queue::reported`] tells that it is done,
    /// [`Queue::report_later`] that it could not be.
    Report { message: M },
    /// Forget the message: all its jobs are over, and reported where that is needed.
    Finish { message: M },
    /// Nothing is to be done before then, or before something happens.
    Wait { until: Option<Duration> },
}

/// What came of a message in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every recipient is delivered to, or has failed for good.
    Done,
    /// Some recipients are to be tried again.
    Later,
}

/// How a destination has behaved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing was found out: it was not asked.
    Unknown,
    /// It was reached and willing to talk, whatever it said to the message.
    Up,
    /// It was reached, and refused the message's recipients for a reason of its own.
    Busy,
    /// It took no session, or ended one, as with 421: it may have too many.
    Full,
    /// It cannot be spoken with: no further session would fare better.
    Down,
}

/// What a session does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<M, P> {
    /// Send this message to this part of its recipients.
    Send((M, P)),
    /// Wait for an [`Action::Send`] or [`Action::Close`].
    Idle,
    /// Close the session, if it is still open. [`Queue::closed`] tells that it is closed.
    Close,
}

/// The number of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(u64);

/// The queue. See the module.
#[derive(Debug)]
pub(crate) struct Queue<M, P, D> {
    limits: Limits,
    destinations: HashMap<D, Destination<(M, P)>>,
    messages: HashMap<M, Message<P>>,
    /// How many of them are on hold.
    on_hold: usize,
    sessions: HashMap<SessionId, Session<(M, P), D>>,
    last_session: u64,
    /// Jobs that are not due yet.
    timers: BTreeSet<(Duration, (M, P))>,
    /// Jobs that are given up at a time, wherever they are.
    expiries: BTreeSet<(Duration, (M, P))>,
    /// Destinations that are backed off from.
    back_offs: BTreeSet<(Duration, D)>,
    /// Sessions that wait for a message.
    idle: BTreeSet<(Duration, SessionId)>,
    /// Reports that could not be written.
    reports: BTreeSet<(Duration, M)>,
    /// Messages of whose delay the sender is to be told, if they are still here then.
    delay_reports: BTreeSet<(Duration, M)>,
    /// What each job that is not over has behind and before it.
    jobs: HashMap<(M, P), Progress<D>>,
    /// Destinations at which something may be begun, in the order of their turns.
    runnable: VecDeque<D>,
    /// Destinations that have not been reached yet and wait for others of the kind.
    held: VecDeque<D>,
    /// Sessions to destinations that have not been reached yet.
    unproven: usize,
    /// Sessions that are being closed.
    closing: usize,
    actions: VecDeque<Action<M, P, D>>,
}

#[derive(Clone, Debug)]
struct Progress<D> {
    destination: D,
    attempts: u32,
    expires: Duration,
    /// When its timer fires, if one is set.
    due: Option<Duration>,
}

#[derive(Debug)]
struct Message<P> {
    /// Jobs that are not over.
    parts: Vec<P>,
    /// Whether an operator holds it: none of its jobs is begun, and none expires.
    is_on_hold: bool,
    /// Those of them that are in a session.
    running: usize,
    /// Whether there is something that the sender is to be told and has not been.
    unreported: bool,
    /// Whether a report is being written, or waits for another try.
    reporting: bool,
    /// Whether its state is being written for an operator. Nor does it end meanwhile.
    is_pinned: bool,
    /// When a report on its delay is due.
    delay_report: Option<Duration>,
}

#[derive(Debug)]
struct Session<J, D> {
    destination: D,
    /// What is sent in it; none while it is idle.
    job: Option<J>,
    /// Whether it is counted in `unproven`.
    unproven: bool,
    /// Whether it is counted in `closing`.
    closing: bool,
    messages: u32,
    opened: Duration,
    /// While idle, until when.
    idle_until: Duration,
}

impl<M: Clone + Ord + Hash, P: Clone + Ord + Hash, D: Clone + Ord + Hash> Queue<M, P, D> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            destinations: HashMap::new(),
            messages: HashMap::new(),
            on_hold: 0,
            sessions: HashMap::new(),
            last_session: 0,
            timers: BTreeSet::new(),
            expiries: BTreeSet::new(),
            back_offs: BTreeSet::new(),
            idle: BTreeSet::new(),
            reports: BTreeSet::new(),
            delay_reports: BTreeSet::new(),
            jobs: HashMap::new(),
            runnable: VecDeque::new(),
            held: VecDeque::new(),
            unproven: 0,
            closing: 0,
            actions: VecDeque::new(),
        }
    }

    /// Adds a message with all its jobs. `unreported` says that it has recipients to
    /// be reported. A message without jobs is finished once these are reported. A message
    /// that is there already is left as it is.
    pub(crate) fn add(&mut self, message: M, jobs: Vec<Job<M, P, D>>, unreported: bool) {
        if self.messages.contains_key(&message) {
            return;
        }
        let parts = jobs.iter().map(|job| job.part.clone()).collect();
        let entry = Message {
            parts,
            is_on_hold: false,
            running: 0,
            unreported,
            reporting: false,
            is_pinned: false,
            delay_report: None,
        };
        self.messages.insert(message.clone(), entry);
        for job in jobs {
            let Job { message, part, destination, attempts, due, expires } = job;
            let job = (message, part);
            self.jobs.insert(job.clone(), Progress { destination, attempts, expires, due: None });
            self.expiries.insert((expires, job.clone()));
            self.set_timer(due, job);
        }
        self.settle(&message);
    }

    /// How many sessions have a message under way.
    pub(crate) fn running(&self) -> usize {
        self.sessions.values().filter(|session| session.job.is_some()).count()
    }

    /// Says what to do next. To be called until it says to wait.
    pub(crate) fn poll(&mut self, now: Duration) -> Action<M, P, D> {
        if let Some(action) = self.actions.pop_front() {
            return action;
        }
        self.advance(now);
        if let Some(action) = self.actions.pop_front() {
            return action;
        }
        while let Some(key) = self.runnable.pop_front() {
            match self.begin(now, &key) {
                Begin::Action(action) => {
                    self.runnable.push_back(key);
                    return action;
                }
                Begin::NoRoom => {
                    self.runnable.push_front(key);
                    match self.idle.first().copied() {
                        Some((_, session)) if self.closing == 0 => {
                            self.close(session);
                            return Action::Close { session };
                        }
                        Some(_) | None => break,
                    }
                }
                Begin::Held => self.held.push_back(key),
                Begin::Nothing => {
                    if let Some(destination) = self.destinations.get_mut(&key) {
                        destination.is_runnable = false;
                        if destination.is_forgettable() {
                            self.destinations.remove(&key);
                        }
                    }
                }
            }
        }
        let firsts = [
            self.timers.first().map(|(at, _)| *at),
            self.expiries.first().map(|(at, _)| *at),
            self.back_offs.first().map(|(at, _)| *at),
            self.idle.first().map(|(at, _)| *at),
            self.reports.first().map(|(at, _)| *at),
            self.delay_reports.first().map(|(at, _)| *at),
        ];
        Action::Wait { until: firsts.into_iter().flatten().min() }
    }

    /// Takes the outcome of the message in a session. `failed` says that recipients are to be reported, `is_open`
    /// that the session can take another message; if not, the answer is [`Next::Close`]. So it is for a session that is
    /// not known.
    pub(crate) fn finished(
        &mut self,
        now: Duration,
        session: SessionId,
        outcome: Outcome,
        failed: bool,
        health: Health,
        is_open: bool,
    ) -> Next<M, P> {
        let Some(entry) = self.sessions.get_mut(&session) else { return Next::Close };
        let (Some(job), key) = (entry.job.take(), entry.destination.clone()) else { return Next::Close };
        entry.messages = entry.messages.saturating_add(1);
        self.prove(session);
        self.take_outcome(now, job, outcome, failed);
        if let Some(destination) = self.destinations.get_mut(&key)
            && let Some(until) = destination.judge(now, health, &self.limits)
        {
            self.back_offs.insert((until, key.clone()));
            self.close_idle(&key);
        }
        self.wake(&key);
        if !is_open || !self.may_go_on(now, session, &key) {
            self.close(session);
            return Next::Close;
        }
        if let Some(job) = self.take(now, &key) {
            self.begin_job(session, &job);
            return Next::Send(job);
        }
        let until = now.saturating_add(self.limits.session_idle);
        self.idle.insert((until, session));
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.idle_until = until;
        }
        if let Some(destination) = self.destinations.get_mut(&key) {
            destination.idle.push(session);
        }
        Next::Idle
    }

    /// A session has been closed.
    pub(crate) fn closed(&mut self, session: SessionId) {
        self.forget(session);
    }

    /// How many attempts have been made at a job.
    pub(crate) fn attempts(&self, job: &(M, P)) -> u32 {
        self.jobs.get(job).map_or(0, |progress| progress.attempts)
    }

    /// What a session was to send goes to another destination, as a new look at DNS says. So do all messages that wait
    /// for the destination of the session, if `with_all`. The queue has forgotten the session.
    pub(crate) fn reroute(&mut self, now: Duration, session: SessionId, destination: &D, with_all: bool) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        let (Some(job), key) = (entry.job.take(), entry.destination.clone()) else { return };
        if let Some(entry) = self.messages.get_mut(&job.0) {
            entry.running = entry.running.saturating_sub(1);
        }
        self.prove(session);
        self.forget(session);
        let mut jobs = vec![job];
        if with_all && let Some(from) = self.destinations.get_mut(&key) {
            while let Some(job) = from.take(now, self.limits.fresh) {
                jobs.push(job);
            }
        }
        for job in jobs {
            if let Some(progress) = self.jobs.get_mut(&job) {
                progress.destination = destination.clone();
                self.set_timer(now, job);
            }
        }
    }

    /// What there was to report on the message has been reported.
    pub(crate) fn reported(&mut self, message: &M) {
        if let Some(entry) = self.messages.get_mut(message) {
            entry.reporting = false;
        }
        self.settle(message);
    }

    /// The message's failed recipients could not be reported now.
    pub(crate) fn report_later(&mut self, now: Duration, message: M) {
        if self.messages.contains_key(&message) {
            self.reports.insert((now.saturating_add(self.limits.schedule.first), message));
        }
    }

    /// A report on the delay of a message is due then, unless the message is finished before, or another time is said.
    pub(crate) fn report_delay(&mut self, at: Duration, message: &M) {
        let Some(entry) = self.messages.get_mut(message) else { return };
        if let Some(before) = entry.delay_report.replace(at) {
            self.delay_reports.remove(&(before, message.clone()));
        }
        self.delay_reports.insert((at, message.clone()));
    }

    /// Does what the time has come for.
    fn advance(&mut self, now: Duration) {
        while let Some((_, job)) = pop_due(&mut self.timers, |(at, _)| *at <= now) {
            let Some(progress) = self.jobs.get_mut(&job) else { continue };
            progress.due = None;
            let (destination, attempts) = (progress.destination.clone(), progress.attempts);
            let entry = self.destinations.entry(destination.clone());
            entry.or_insert_with(|| Destination::new(&self.limits)).push(now, job, attempts > 0);
            self.wake(&destination);
        }
        while let Some((_, key)) = pop_due(&mut self.back_offs, |(at, _)| *at <= now) {
            if let Some(destination) = self.destinations.get_mut(&key) {
                destination.end_back_off();
            }
            self.wake(&key);
        }
        while let Some((_, job)) = pop_due(&mut self.expiries, |(at, _)| *at <= now) {
            self.expire(now, job);
        }
        while let Some((_, session)) = pop_due(&mut self.idle, |(at, _)| *at <= now) {
            self.close(session);
            self.actions.push_back(Action::Close { session });
        }
        while let Some((_, message)) = pop_due(&mut self.reports, |(at, _)| *at <= now) {
            self.actions.push_back(Action::Report { message });
        }
        while let Some((_, message)) = pop_due(&mut self.delay_reports, |(at, _)| *at <= now) {
            if let Some(entry) = self.messages.get_mut(&message) {
                entry.delay_report = None;
                // Who releases it says anew when that is due.
                entry.unreported |= !entry.is_on_hold;
            }
            self.settle(&message);
        }
    }

    fn expire(&mut self, now: Duration, job: (M, P)) {
        let Some(key) = self.jobs.get(&job).map(|progress| progress.destination.clone()) else { return };
        if self.is_on_hold(&job.0) {
            // Its release sets another time.
            return;
        }
        let removed = self.destinations.get_mut(&key).is_some_and(|destination| {
            // Otherwise its turn comes, or the outcome of its session decides.
            destination.is_backed_off() && destination.remove(&job)
        });
        if !removed {
            self.expiries.insert((now.saturating_add(self.limits.schedule.first.max(Duration::from_millis(1))), job));
            return;
        }
        self.jobs.remove(&job);
        if let Some(entry) = self.messages.get_mut(&job.0) {
            entry.is_over(&job.1);
            entry.unreported = true;
        }
        self.actions.push_back(Action::Expire { job: job.clone(), destination: key });
        self.settle(&job.0);
    }

    /// Begins something at a destination, if there is something and it may be.
    fn begin(&mut self, now: Duration, key: &D) -> Begin<Action<M, P, D>> {
        let Some(destination) = self.destinations.get_mut(key) else { return Begin::Nothing };
        if !destination.has_work() {
            return Begin::Nothing;
        }
        if let Some(session) = destination.idle.pop() {
            if let Some(entry) = self.sessions.get(&session) {
                self.idle.remove(&(entry.idle_until, session));
            }
            if !self.may_go_on(now, session, key) {
                self.close(session);
                return Begin::Action(Action::Close { session });
            }
            let Some(job) = self.take(now, key) else { return Begin::Nothing };
            self.begin_job(session, &job);
            return Begin::Action(Action::Send { session, job });
        }
        if !destination.may_open() {
            return Begin::Nothing;
        }
        if self.sessions.len() >= self.limits.sessions {
            return Begin::NoRoom;
        }
        let unproven = !destination.is_proven;
        if unproven && self.unproven >= (self.limits.sessions - self.limits.sessions / 4).max(1) {
            return Begin::Held;
        }
        destination.sessions += 1;
        self.unproven += usize::from(unproven);
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.sessions.insert(
            session,
            Session {
                destination: key.clone(),
                job: None,
                unproven,
                closing: false,
                messages: 0,
                opened: now,
                idle_until: Duration::ZERO,
            },
        );
        let Some(job) = self.take(now, key) else { return Begin::Nothing };
        self.begin_job(session, &job);
        Begin::Action(Action::Open { session, destination: key.clone(), job })
    }

    /// Whether another message may be begun in a session.
    fn may_go_on(&self, now: Duration, session: SessionId, key: &D) -> bool {
        let Some(entry) = self.sessions.get(&session) else { return false };
        let Some(destination) = self.destinations.get(key) else { return false };
        let others_wait = self.sessions.len() >= self.limits.sessions && self.runnable.iter().any(|other| other != key);
        entry.messages < self.limits.messages_per_session
            && now.saturating_sub(entry.opened) < self.limits.session_age
            && !destination.is_backed_off()
            && destination.sessions <= destination.session_limit()
            && !(others_wait && destination.sessions > 1)
    }

    /// A session to a destination that had not been reached has come to something.
    fn prove(&mut self, session: SessionId) {
        if self.sessions.get_mut(&session).is_some_and(|entry| std::mem::take(&mut entry.unproven)) {
            self.unproven = self.unproven.saturating_sub(1);
            self.runnable.extend(std::mem::take(&mut self.held));
        }
    }

    /// The job whose turn it is at a destination.
    fn take(&mut self, now: Duration, key: &D) -> Option<(M, P)> {
        self.destinations.get_mut(key)?.take(now, self.limits.fresh)
    }

    fn begin_job(&mut self, session: SessionId, job: &(M, P)) {
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.job = Some(job.clone());
        }
        if let Some(entry) = self.messages.get_mut(&job.0) {
            entry.running += 1;
        }
    }

    fn take_outcome(&mut self, now: Duration, job: (M, P), outcome: Outcome, failed: bool) {
        let Some(entry) = self.messages.get_mut(&job.0) else { return };
        entry.running = entry.running.saturating_sub(1);
        entry.unreported |= failed;
        let message = job.0.clone();
        match outcome {
            Outcome::Done => {
                entry.is_over(&job.1);
                if let Some(progress) = self.jobs.remove(&job) {
                    self.expiries.remove(&(progress.expires, job));
                }
            }
            Outcome::Later => {
                if let Some(progress) = self.jobs.get_mut(&job) {
                    progress.attempts = progress.attempts.saturating_add(1);
                    let schedule = self.limits.schedule;
                    // The last attempt is at the very end of the time, not long after it.
                    let last = progress.expires.max(now.saturating_add(schedule.first));
                    let due = now.saturating_add(schedule.pause_after(progress.attempts)).min(last);
                    self.set_timer(due, job);
                }
            }
        }
        self.settle(&message);
    }

    /// Reports or finishes a message where the time for that has come.
    fn settle(&mut self, message: &M) {
        let Some(entry) = self.messages.get_mut(message) else { return };
        if entry.running > 0 || entry.reporting || entry.is_pinned {
            return;
        }
        if std::mem::take(&mut entry.unreported) {
            entry.reporting = true;
            self.actions.push_back(Action::Report { message: message.clone() });
        } else if entry.parts.is_empty() {
            self.forget_message(message);
            self.actions.push_back(Action::Finish { message: message.clone() });
        }
    }

    fn forget_message(&mut self, message: &M) {
        let Some(entry) = self.messages.remove(message) else { return };
        self.on_hold -= usize::from(entry.is_on_hold);
        if let Some(at) = entry.delay_report {
            self.delay_reports.remove(&(at, message.clone()));
        }
    }

    /// Has a job come up at a time, unless it is on hold.
    fn set_timer(&mut self, due: Duration, job: (M, P)) {
        if self.is_on_hold(&job.0) {
            return;
        }
        if let Some(progress) = self.jobs.get_mut(&job) {
            if let Some(before) = progress.due.replace(due) {
                self.timers.remove(&(before, job.clone()));
            }
            self.timers.insert((due, job));
        }
    }

    fn is_on_hold(&self, message: &M) -> bool {
        self.messages.get(message).is_some_and(|entry| entry.is_on_hold)
    }

    /// Gives a destination a turn.
    fn wake(&mut self, key: &D) {
        if let Some(destination) = self.destinations.get_mut(key)
            && !std::mem::replace(&mut destination.is_runnable, true)
        {
            self.runnable.push_back(key.clone());
        }
    }

    fn close_idle(&mut self, key: &D) {
        let idle = self.destinations.get_mut(key).map(|destination| std::mem::take(&mut destination.idle));
        for session in idle.into_iter().flatten() {
            self.close(session);
            self.actions.push_back(Action::Close { session });
        }
    }

    /// Gives a session no more messages. It counts until it is closed.
    fn close(&mut self, session: SessionId) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        self.idle.remove(&(entry.idle_until, session));
        self.closing += usize::from(!std::mem::replace(&mut entry.closing, true));
        if let Some(destination) = self.destinations.get_mut(&entry.destination) {
            destination.idle.retain(|idle| *idle != session);
        }
    }

    fn forget(&mut self, session: SessionId) {
        let Some(entry) = self.sessions.remove(&session) else { return };
        self.idle.remove(&(entry.idle_until, session));
        self.closing = self.closing.saturating_sub(usize::from(entry.closing));
        self.unproven = self.unproven.saturating_sub(usize::from(entry.unproven));
        if let Some(destination) = self.destinations.get_mut(&entry.destination) {
            destination.sessions = destination.sessions.saturating_sub(1);
            destination.idle.retain(|idle| *idle != session);
        }
        self.wake(&entry.destination);
    }
}

impl<P: PartialEq> Message<P> {
    /// A job of it is over.
    fn is_over(&mut self, part: &P) {
        if let Some(place) = self.parts.iter().position(|other| other == part) {
            self.parts.swap_remove(place);
        }
    }
}

/// What could be begun at a destination.
enum Begin<A> {
    Action(A),
    /// There is no session left.
    NoRoom,
    /// There is none left for destinations that have not been reached yet.
    Held,
    Nothing,
}

fn pop_due<T: Ord>(set: &mut BTreeSet<T>, is_due: impl Fn(&T) -> bool) -> Option<T> {
    if set.first().is_some_and(is_due) { set.pop_first() } else { None }
}
