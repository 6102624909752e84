use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn limits() -> Limits {
    Limits {
        sessions: 100,
        sessions_per_destination: 3,
        first_sessions: 1,
        messages_per_session: 5,
        session_age: 300 * SECOND,
        session_idle: 5 * SECOND,
        fresh: 60 * SECOND,
        schedule: Schedule { first: 60 * SECOND, longest: 3600 * SECOND, give_up_after: 36_000 * SECOND },
        longest_back_off: 1800 * SECOND,
    }
}

pub(super) fn queue(limits: Limits) -> Queue<u32, u32, u32> {
    Queue::new(limits)
}

pub(super) fn add(queue: &mut Queue<u32, u32, u32>, now: Duration, message: u32, destinations: &[u32]) {
    let expires = now + 36_000 * SECOND;
    let job = |&destination: &u32| Job { message, part: destination, destination, attempts: 0, due: now, expires };
    queue.add(message, destinations.iter().map(job).collect(), false);
}

/// All there is to do at a moment.
pub(super) fn poll(queue: &mut Queue<u32, u32, u32>, now: Duration) -> Vec<Action<u32, u32, u32>> {
    let mut actions = Vec::new();
    loop {
        let action = queue.poll(now);
        if matches!(action, Action::Wait { .. }) {
            return actions;
        }
        actions.push(action);
    }
}

pub(super) fn opened(actions: &[Action<u32, u32, u32>]) -> Vec<(SessionId, u32, u32)> {
    let opened = actions.iter().filter_map(|action| {
        let Action::Open { session, destination, job } = action else { return None };
        Some((*session, *destination, job.0))
    });
    opened.collect()
}

pub(super) fn up(queue: &mut Queue<u32, u32, u32>, now: Duration, session: SessionId) -> Next<u32, u32> {
    queue.finished(now, session, Outcome::Done, false, Health::Up, true)
}

pub(super) fn down(queue: &mut Queue<u32, u32, u32>, now: Duration, session: SessionId) {
    assert_eq!(queue.finished(now, session, Outcome::Later, false, Health::Down, false), Next::Close);
    queue.closed(session);
}

#[test]
fn one_message_finds_out_whether_a_destination_is_there_and_then_several_go_at_once() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    (0..20).for_each(|message| add(&mut queue, now, message, &[7]));
    let first = opened(&poll(&mut queue, now));
    assert_eq!(first.len(), 1);
    assert_eq!(up(&mut queue, now, first[0].0), Next::Send((1, 7)), "in the same session");
    assert_eq!(opened(&poll(&mut queue, now)).len(), 2, "three in all");
}

#[test]
fn who_waits_for_a_destination_that_is_down_does_not_try_it_too() {
    let (mut queue, mut now) = (queue(limits()), Duration::ZERO);
    (0..20).for_each(|message| add(&mut queue, now, message, &[7]));
    add(&mut queue, now, 100, &[8]);
    for pause in [60, 120, 240, 480, 960, 1800, 1800] {
        let open: Vec<_> = opened(&poll(&mut queue, now)).into_iter().filter(|open| open.1 == 7).collect();
        assert_eq!(open.len(), 1, "{now:?}");
        down(&mut queue, now, open[0].0);
        assert!(opened(&poll(&mut queue, now + (pause - 1) * SECOND)).is_empty());
        now += pause * SECOND;
    }
    // It is there again: all go.
    let open = opened(&poll(&mut queue, now));
    let mut delivered = 0;
    let mut next = up(&mut queue, now, open[0].0);
    while let Next::Send(_) = next {
        delivered += 1;
        next = up(&mut queue, now, open[0].0);
    }
    assert_eq!((delivered, next), (4, Next::Close), "as many as one session may have");
    assert_eq!(opened(&poll(&mut queue, now)).len(), 2, "it is still being closed");
    queue.closed(open[0].0);
    assert_eq!(opened(&poll(&mut queue, now)).len(), 1);
}

#[test]
fn a_message_to_several_destinations_goes_to_all_of_them_at_once() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    add(&mut queue, now, 1, &[7, 8, 9]);
    let open = opened(&poll(&mut queue, now));
    assert_eq!(open.len(), 3);
    queue.finished(now, open[0].0, Outcome::Done, true, Health::Up, true);
    assert_eq!(poll(&mut queue, now), [], "not reported before the others have said what they say");
    queue.finished(now, open[1].0, Outcome::Later, false, Health::Up, true);
    queue.finished(now, open[2].0, Outcome::Done, true, Health::Up, true);
    assert_eq!(poll(&mut queue, now), [Action::Report { message: 1 }]);
    queue.reported(&1);
    assert_eq!(poll(&mut queue, now), [], "one is tried again");
    let now = now + 60 * SECOND;
    let open = opened(&poll(&mut queue, now));
    assert_eq!((open.len(), open[0].1), (1, 8));
    up(&mut queue, now, open[0].0);
    assert_eq!(poll(&mut queue, now), [Action::Finish { message: 1 }]);
}

#[test]
fn a_report_that_could_not_be_written_is_written_later() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    queue.add(1, Vec::new(), true);
    assert_eq!(poll(&mut queue, now), [Action::Report { message: 1 }]);
    queue.report_later(now, 1);
    assert_eq!(poll(&mut queue, now + 59 * SECOND), []);
    assert_eq!(poll(&mut queue, now + 60 * SECOND), [Action::Report { message: 1 }]);
    queue.reported(&1);
    assert_eq!(poll(&mut queue, now), [Action::Finish { message: 1 }]);
}

#[test]
fn a_delay_is_reported_once_and_only_while_the_message_is_here() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    for message in [1, 2] {
        add(&mut queue, now, message, &[message]);
        queue.report_delay(10 * SECOND, &message);
    }
    queue.report_delay(10 * SECOND, &3);
    let open = opened(&poll(&mut queue, now));
    up(&mut queue, now, open[0].0);
    assert!(poll(&mut queue, now).contains(&Action::Finish { message: 1 }));
    assert_eq!(queue.delay_reports.len(), 1, "nothing of a finished message is left");
    assert!(poll(&mut queue, now + 9 * SECOND).iter().all(|action| !matches!(action, Action::Report { .. })));
    let is_report = |action: &Action<u32, u32, u32>| matches!(action, Action::Report { message: 2 });
    assert!(!poll(&mut queue, now + 10 * SECOND).iter().any(is_report), "not while it is in a session");
    down(&mut queue, now + 11 * SECOND, open[1].0);
    assert!(poll(&mut queue, now + 11 * SECOND).iter().any(is_report));
    queue.reported(&2);
    let open = opened(&poll(&mut queue, now + 3600 * SECOND));
    assert_eq!(open.len(), 1, "it is still tried, and not reported again");
}

#[test]
fn a_session_is_kept_for_the_next_message_and_not_for_ever() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    add(&mut queue, now, 1, &[7]);
    let session = opened(&poll(&mut queue, now))[0].0;
    assert_eq!(up(&mut queue, now, session), Next::Idle);
    assert_eq!(poll(&mut queue, now), [Action::Finish { message: 1 }]);
    add(&mut queue, now + SECOND, 2, &[7]);
    assert_eq!(poll(&mut queue, now + SECOND), [Action::Send { session, job: (2, 7) }]);
    assert_eq!(up(&mut queue, now + SECOND, session), Next::Idle);
    assert_eq!(poll(&mut queue, now + SECOND), [Action::Finish { message: 2 }]);
    assert_eq!(queue.poll(now + SECOND), Action::Wait { until: Some(now + 6 * SECOND) });
    assert_eq!(poll(&mut queue, now + 6 * SECOND), [Action::Close { session }]);
    queue.closed(session);
    add(&mut queue, now + 6 * SECOND, 3, &[7]);
    assert_eq!(opened(&poll(&mut queue, now + 6 * SECOND)).len(), 1);
}

#[test]
fn a_destination_that_refuses_one_session_of_several_gets_fewer() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    (0..100).for_each(|message| add(&mut queue, now, message, &[7]));
    let first = opened(&poll(&mut queue, now))[0].0;
    up(&mut queue, now, first);
    let open = opened(&poll(&mut queue, now));
    assert_eq!(open.len(), 2);
    queue.finished(now, open[1].0, Outcome::Later, false, Health::Full, false);
    queue.closed(open[1].0);
    assert_eq!(poll(&mut queue, now), [], "two are left, and go on");
    assert!(matches!(up(&mut queue, now, first), Next::Send(_)));
}

#[test]
fn new_mail_is_not_behind_an_old_backlog() {
    let (mut queue, mut now) = (queue(Limits { sessions_per_destination: 1, ..limits() }), Duration::ZERO);
    (0..1000).for_each(|message| add(&mut queue, now, message, &[7]));
    let session = opened(&poll(&mut queue, now))[0].0;
    down(&mut queue, now, session);
    now += 60 * SECOND;
    add(&mut queue, now, 5000, &[7]);
    let mut open = opened(&poll(&mut queue, now))[0];
    let mut order = vec![open.2];
    while !order.contains(&5000) {
        match up(&mut queue, now, open.0) {
            Next::Send(job) => order.push(job.0),
            Next::Idle => panic!("{order:?}"),
            Next::Close => {
                queue.closed(open.0);
                open = opened(&poll(&mut queue, now))[0];
                order.push(open.2);
            }
        }
    }
    assert!(order.len() <= 3, "{order:?}");
}

#[test]
fn what_is_refused_as_a_sender_that_is_not_known_does_not_hold_up_others_at_once() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    (0..10).for_each(|message| add(&mut queue, now, message, &[7]));
    let session = opened(&poll(&mut queue, now))[0].0;
    for _ in 0..2 {
        let next = queue.finished(now, session, Outcome::Later, false, Health::Busy, true);
        assert!(matches!(next, Next::Send(_)));
    }
    let next = queue.finished(now, session, Outcome::Later, false, Health::Busy, true);
    assert_eq!(next, Next::Close, "three in a row are no accident");
    let before = poll(&mut queue, now).len();
    assert!(before <= 2, "those that had been begun");
}

#[test]
fn mail_for_a_destination_that_stays_down_is_given_up_in_time() {
    let (mut queue, mut now) = (queue(limits()), Duration::ZERO);
    let job =
        |message, seconds| Job { message, part: 7, destination: 7, attempts: 0, due: now, expires: seconds * SECOND };
    queue.add(1, vec![job(1, 36_000)], false);
    queue.add(2, vec![job(2, 100)], false);
    let session = opened(&poll(&mut queue, now))[0].0;
    down(&mut queue, now, session);
    now = 60 * SECOND;
    let open = opened(&poll(&mut queue, now));
    down(&mut queue, now, open[0].0);
    let rest = poll(&mut queue, 100 * SECOND);
    let (waiting, given_up) =
        (rest.contains(&Action::Report { message: 2 }), Action::Expire { job: (2, 7), destination: 7 });
    assert!(waiting && rest.contains(&given_up), "{rest:?}");
}

#[test]
fn what_a_new_look_at_dns_says_is_followed() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    (0..5).for_each(|message| add(&mut queue, now, message, &[7]));
    let session = opened(&poll(&mut queue, now))[0].0;
    queue.reroute(now, session, &8, true);
    let open = opened(&poll(&mut queue, now));
    assert_eq!((open.len(), open[0].1), (1, 8));
    let mut sent = 0;
    let mut next = up(&mut queue, now, open[0].0);
    while let Next::Send(_) = next {
        sent += 1;
        next = up(&mut queue, now, open[0].0);
    }
    assert_eq!(sent, 4);
    assert!(!queue.destinations.contains_key(&7) && queue.running() == 0);
}

/// How a destination of the simulation behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Healthy,
    /// Refuses some recipients for good, and some for now.
    Picky,
    /// Refuses the connection.
    Dead,
    /// Takes the connection, and says nothing.
    Silent,
    /// Refuses sessions above this number.
    Crowded(usize),
    /// Dead for some hours.
    DeadUntil(Duration),
}

struct Simulation {
    queue: Queue<u32, u32, u32>,
    limits: Limits,
    kinds: Vec<Kind>,
    random: fastrand::Rng,
    now: Duration,
    /// What ends when, with a number that keeps them apart.
    under_way: BinaryHeap<Reverse<(Duration, SessionId)>>,
    /// Each session's destination, and the message in it.
    sessions: HashMap<SessionId, (u32, Option<u32>, Duration)>,
    per_destination: HashMap<u32, usize>,
    ended: HashMap<(u32, u32), Duration>,
    unreported: HashSet<u32>,
    finished: HashSet<u32>,
    on_hold: HashSet<u32>,
    deleted: HashSet<u32>,
    last_failure: HashMap<u32, Duration>,
    most: usize,
}

impl Simulation {
    fn new(seed: u64, limits: Limits, kinds: Vec<Kind>) -> Self {
        Self {
            queue: Queue::new(limits),
            limits,
            kinds,
            random: fastrand::Rng::with_seed(seed),
            now: Duration::ZERO,
            under_way: BinaryHeap::new(),
            sessions: HashMap::new(),
            per_destination: HashMap::new(),
            ended: HashMap::new(),
            unreported: HashSet::new(),
            finished: HashSet::new(),
            on_hold: HashSet::new(),
            deleted: HashSet::new(),
            last_failure: HashMap::new(),
            most: 0,
        }
    }

    fn begin(&mut self, session: SessionId, destination: u32, message: u32) {
        let takes = match self.kinds[destination as usize] {
            Kind::Silent => Duration::from_secs(300),
            Kind::Dead | Kind::DeadUntil(_) => Duration::from_millis(1),
            Kind::Healthy | Kind::Picky | Kind::Crowded(_) => Duration::from_millis(self.random.u64(5..200)),
        };
        let entry = self.sessions.entry(session).or_insert((destination, None, self.now));
        assert_eq!((entry.0, entry.1), (destination, None), "one message at a time");
        entry.1 = Some(message);
        self.under_way.push(Reverse((self.now + takes, session)));
    }

    fn close(&mut self, session: SessionId) {
        let (destination, message, _) = self.sessions.remove(&session).unwrap();
        assert_eq!(message, None);
        self.queue.closed(session);
        *self.per_destination.get_mut(&destination).unwrap() -= 1;
    }

    fn end(&mut self, message: u32, destination: u32) {
        assert!(
            self.ended.insert((message, destination), self.now).is_none(),
            "{message} at {destination} ended twice"
        );
    }

    fn act(&mut self, action: Action<u32, u32, u32>) {
        match action {
            Action::Open { session, destination, job: (message, _) } => {
                self.may_be_begun(message);
                // The pauses grow for as long as mail waits.
                if let Some(at) = self.last_failure.get(&destination) {
                    assert!(self.now >= *at + self.limits.schedule.first, "{destination} was to be left alone");
                }
                let open = self.per_destination.entry(destination).or_default();
                *open += 1;
                assert!(*open <= self.limits.sessions_per_destination);
                self.begin(session, destination, message);
                self.most = self.most.max(self.sessions.len());
            }
            Action::Send { session, job: (message, _) } => {
                self.may_be_begun(message);
                let destination = self.sessions[&session].0;
                self.begin(session, destination, message);
            }
            Action::Close { session } => self.close(session),
            Action::Expire { job: (message, _), destination } => {
                self.may_be_begun(message);
                self.end(message, destination);
                self.unreported.insert(message);
            }
            Action::Report { message } => {
                // What has failed since the action came out is in the same report.
                let failures = self.unreported.remove(&message);
                if failures && self.random.u8(..) < 20 {
                    self.unreported.insert(message);
                    self.queue.report_later(self.now, message);
                } else {
                    self.queue.reported(&message);
                }
            }
            Action::Finish { message } => {
                assert!(!self.unreported.contains(&message), "{message} was not reported");
                assert!(!self.deleted.contains(&message), "{message} was deleted");
                self.on_hold.remove(&message);
                assert!(self.finished.insert(message), "{message} was finished twice");
            }
            Action::Wait { .. } => unreachable!(),
        }
    }

    fn may_be_begun(&self, message: u32) {
        assert!(!self.on_hold.contains(&message), "{message} is on hold");
        assert!(!self.deleted.contains(&message) && !self.finished.contains(&message), "{message} is gone");
    }

    /// What an operator may do at any moment to any message.
    fn meddle(&mut self, message: u32) {
        let is_known = !self.finished.contains(&message) && !self.deleted.contains(&message);
        match self.random.u8(..5) {
            0 => {
                assert_eq!(self.queue.hold(&message), is_known);
                if is_known {
                    self.on_hold.insert(message);
                }
            }
            1 => {
                // It may be tried sooner than its destination would be.
                self.last_failure.clear();
                assert_eq!(self.queue.release(self.now, &message), is_known);
                self.on_hold.remove(&message);
            }
            2 => {
                // It may be tried sooner than its destination would be.
                self.last_failure.clear();
                assert_eq!(self.queue.flush_message(self.now, &message), is_known);
            }
            3 => {
                self.last_failure.clear();
                let most = self.queue.counts().messages - self.queue.counts().on_hold;
                assert!(self.queue.flush(self.now, |_, _| true) <= most);
            }
            _ => match self.queue.delete(&message) {
                Deleted::Gone => {
                    assert!(is_known && self.sessions.values().all(|session| session.1 != Some(message)));
                    self.deleted.insert(message);
                    self.on_hold.remove(&message);
                    self.unreported.remove(&message);
                }
                Deleted::Busy => assert!(is_known),
                Deleted::Unknown => assert!(!is_known),
            },
        }
        assert_eq!(self.queue.counts().on_hold, self.on_hold.len());
    }

    /// Ends what a session has under way.
    fn step(&mut self, session: SessionId) {
        let (destination, message, opened) = self.sessions[&session];
        let message = message.unwrap();
        let open = self.per_destination[&destination];
        let (outcome, failed, health, is_open) = match self.kinds[destination as usize] {
            Kind::Dead | Kind::Silent => (Outcome::Later, false, Health::Down, false),
            Kind::DeadUntil(until) if self.now < until => (Outcome::Later, false, Health::Down, false),
            Kind::Crowded(most) if open > most => (Outcome::Later, false, Health::Full, false),
            Kind::Picky => match self.random.u8(..10) {
                0 => (Outcome::Later, true, Health::Up, true),
                1 => (Outcome::Later, false, Health::Up, self.random.bool()),
                2 => (Outcome::Done, true, Health::Up, true),
                _ => (Outcome::Done, false, Health::Up, true),
            },
            Kind::Healthy | Kind::Crowded(_) | Kind::DeadUntil(_) => (Outcome::Done, false, Health::Up, true),
        };
        if failed {
            self.unreported.insert(message);
        }
        if outcome == Outcome::Done {
            self.end(message, destination);
        }
        match health {
            Health::Down => {
                // Several sessions may find out, one after the other.
                let at = self.last_failure.entry(destination).or_insert(self.now);
                if self.now >= *at + self.limits.schedule.first {
                    *at = self.now;
                }
            }
            Health::Unknown | Health::Up | Health::Busy | Health::Full => {
                self.last_failure.remove(&destination);
            }
        }
        self.sessions.get_mut(&session).unwrap().1 = None;
        match self.queue.finished(self.now, session, outcome, failed, health, is_open) {
            Next::Send(next) => {
                self.may_be_begun(next.0);
                assert!(is_open && self.now - opened < self.limits.session_age);
                self.begin(session, destination, next.0);
            }
            Next::Idle => assert!(is_open),
            Next::Close => self.close(session),
        }
    }

    /// Runs until nothing is left to do, or the time has come.
    fn run(&mut self, until: Duration) {
        loop {
            let wait = loop {
                let action = self.queue.poll(self.now);
                if let Action::Wait { until } = action {
                    break until;
                }
                self.act(action);
            };
            assert!(self.sessions.len() <= self.limits.sessions);
            assert_eq!(self.sessions.len(), self.queue.sessions.len());
            let next = self.under_way.peek().map(|Reverse((at, _))| *at);
            let Some(at) = wait.into_iter().chain(next).min() else { return };
            assert!(at > self.now || next == Some(at), "the queue says to wait for what has come");
            if at > until {
                self.now = until;
                return;
            }
            self.now = at;
            while let Some(Reverse((at, session))) = self.under_way.peek().copied()
                && at <= self.now
            {
                self.under_way.pop();
                self.step(session);
            }
        }
    }
}

fn kind(random: &mut fastrand::Rng) -> Kind {
    match random.u8(..10) {
        0 => Kind::Dead,
        1 => Kind::Silent,
        2 => Kind::Crowded(random.usize(1..5)),
        3 => Kind::Picky,
        4 => Kind::DeadUntil(Duration::from_secs(random.u64(60..20_000))),
        _ => Kind::Healthy,
    }
}

/// A hundred thousand messages to a thousand destinations, a fifth of which never answers.
#[test]
fn nothing_starves_and_nothing_is_exceeded_with_a_hundred_thousand_messages() {
    let limits = Limits { sessions: 400, sessions_per_destination: 10, messages_per_session: 100, ..limits() };
    let mut random = fastrand::Rng::with_seed(1);
    let kinds: Vec<_> = (0..1000).map(|_| kind(&mut random)).collect();
    let mut simulation = Simulation::new(2, limits, kinds);
    let mut jobs = Vec::new();
    for message in 0..100_000_u32 {
        let mut to: Vec<u32> = (0..if message % 20 == 0 { 3 } else { 1 }).map(|_| random.u32(..1000)).collect();
        to.sort_unstable();
        to.dedup();
        add(&mut simulation.queue, Duration::ZERO, message, &to);
        jobs.extend(to.into_iter().map(|destination| (message, destination)));
    }
    // The healthy do not wait for the others: a silent one holds a session for 300 s.
    simulation.run(200 * SECOND);
    for job in &jobs {
        if simulation.kinds[job.1 as usize] == Kind::Healthy {
            assert!(simulation.ended.contains_key(job), "{job:?} waits behind others");
        }
    }
    simulation.run(Duration::MAX);
    assert_eq!(simulation.ended.len(), jobs.len());
    assert_eq!(simulation.finished.len(), 100_000);
    assert!(simulation.sessions.is_empty() && simulation.unreported.is_empty());
    assert!(simulation.queue.jobs.is_empty() && simulation.queue.expiries.is_empty());
    assert!(simulation.most > 200);
}

/// The same with few destinations, few sessions, and mail that keeps coming.
#[test]
fn every_recipient_ends_once_whatever_the_numbers() {
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits {
            sessions: random.usize(1..12),
            sessions_per_destination: random.usize(1..5),
            first_sessions: random.usize(1..4),
            messages_per_session: random.u32(1..6),
            ..limits()
        };
        let count = random.u32(1..12);
        let kinds: Vec<_> = (0..count).map(|_| kind(&mut random)).collect();
        let mut simulation = Simulation::new(seed, limits, kinds);
        let mut jobs = 0;
        let messages = random.u32(1..200);
        for message in 0..messages {
            if random.u8(..) < 40 {
                let until = simulation.now + Duration::from_millis(random.u64(..400_000));
                simulation.run(until);
                simulation.now = until;
            }
            let mut to: Vec<u32> = (0..random.u32(1..4)).map(|_| random.u32(..count)).collect();
            to.sort_unstable();
            to.dedup();
            let now = simulation.now;
            add(&mut simulation.queue, now, message, &to);
            jobs += to.len();
        }
        simulation.run(Duration::MAX);
        assert_eq!((simulation.ended.len(), simulation.finished.len()), (jobs, messages as usize), "seed {seed}");
        assert!(simulation.queue.destinations.is_empty() && simulation.queue.messages.is_empty(), "seed {seed}");
    }
}

/// An operator who does anything at any time: what is on hold is not touched, each message ends once, or is deleted.
#[test]
fn an_operator_may_do_anything_at_any_moment() {
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits { sessions: random.usize(1..12), messages_per_session: random.u32(1..6), ..limits() };
        let count = random.u32(1..12);
        let kinds: Vec<_> = (0..count).map(|_| kind(&mut random)).collect();
        let mut simulation = Simulation::new(seed, limits, kinds);
        let messages = random.u32(1..100);
        for message in 0..messages {
            let mut to: Vec<u32> = (0..random.u32(1..4)).map(|_| random.u32(..count)).collect();
            to.sort_unstable();
            to.dedup();
            let now = simulation.now;
            add(&mut simulation.queue, now, message, &to);
            for _ in 0..random.u8(..4) {
                let until = simulation.now + Duration::from_millis(random.u64(..40_000));
                simulation.run(until);
                simulation.now = until;
                simulation.meddle(random.u32(..=message));
            }
        }
        simulation.run(Duration::MAX);
        // All that is left is on hold.
        let ended = simulation.finished.len() + simulation.deleted.len();
        assert_eq!(ended + simulation.on_hold.len(), messages as usize, "seed {seed}");
        simulation.now = simulation.now.min(1_000_000 * SECOND);
        for message in simulation.on_hold.drain().collect::<Vec<_>>() {
            assert!(simulation.queue.release(simulation.now, &message));
        }
        simulation.run(Duration::MAX);
        assert_eq!(simulation.finished.len() + simulation.deleted.len(), messages as usize, "seed {seed}");
        let queue = &simulation.queue;
        assert!(queue.messages.is_empty() && queue.jobs.is_empty() && queue.timers.is_empty(), "seed {seed}");
        assert!(queue.destinations.is_empty() && queue.sessions.is_empty(), "seed {seed}");
    }
}
