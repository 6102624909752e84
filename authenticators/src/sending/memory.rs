//! What logins have sent through this process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::limits::PARTS;
use super::{Exceeded, SendingLimits, SendingRefused, Sent, Window};

/// By login. Takes a limited amount of memory.
pub(super) struct Usages {
    limits: SendingLimits,
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    logins: HashMap<u64, Usage>,
    /// Before then, none has to go by itself.
    full_until: Duration,
    /// That there is no room was told.
    told_full: bool,
}

/// What one login has sent: messages in an hour and in a day, recipients in an hour and in a day.
#[derive(Default)]
struct Usage([Series; 4]);

/// What was sent in the parts of a window.
#[derive(Clone, Default)]
struct Series {
    /// By the number of the part, modulo their number.
    parts: [u32; SLOTS],
    /// The number of the part that was used last.
    last: u64,
    /// What transactions that are open have taken. It does not become less with time.
    reserved: u32,
    /// Until then, that the limit is reached has been told.
    told_until: Duration,
}

impl Usages {
    pub(super) fn new(limits: SendingLimits, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { limits, clock: Box::new(clock), table: Mutex::default() }
    }

    /// Reserves one.
    pub(super) fn reserve(&self, login: u64, sent: Sent) -> Result<(), SendingRefused> {
        if self.limits.of(sent).iter().all(|(_, limit)| limit.is_none()) {
            return Ok(());
        }
        let now = (self.clock)();
        let mut table = self.lock();
        let usage = table.find_or_insert(login, now, self.limits.max_logins).ok_or(SendingRefused::CannotTell)?;
        let exceeded = self.limits.of(sent).into_iter().filter_map(|(window, limit)| {
            let limit = limit?;
            let wait = usage.series(sent, window).wait(now, window, limit)?;
            Some(Exceeded { sent, window, limit, wait })
        });
        if let Some(exceeded) = exceeded.max_by_key(|exceeded| exceeded.wait) {
            return Err(SendingRefused::Exceeded(exceeded));
        }
        self.each(usage, sent, |series, _| series.reserved = series.reserved.saturating_add(1));
        Ok(())
    }

    /// Makes what has been sent of what was reserved.
    pub(super) fn keep(&self, login: u64, sent: Sent, amount: u32) {
        let now = (self.clock)();
        if let Some(usage) = self.lock().logins.get_mut(&login) {
            self.each(usage, sent, |series, window| {
                series.reserved = series.reserved.saturating_sub(amount);
                series.count(now, window, amount);
            });
        }
    }

    /// Gives back what was reserved.
    pub(super) fn release(&self, login: u64, sent: Sent, amount: u32) {
        if let Some(usage) = self.lock().logins.get_mut(&login) {
            self.each(usage, sent, |series, _| series.reserved = series.reserved.saturating_sub(amount));
        }
    }

    /// Whether that the limit is reached is to be told: once in each window.
    pub(super) fn is_news(&self, login: u64, exceeded: &Exceeded) -> bool {
        let now = (self.clock)();
        let mut table = self.lock();
        let Some(usage) = table.find_or_insert(login, now, self.limits.max_logins) else { return false };
        let series = usage.series(exceeded.sent, exceeded.window);
        let is_news = series.told_until <= now;
        if is_news {
            series.told_until = now.saturating_add(exceeded.window.length());
        }
        is_news
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.lock().logins.len()
    }

    fn each(&self, usage: &mut Usage, sent: Sent, change: impl Fn(&mut Series, Window)) {
        for (window, limit) in self.limits.of(sent) {
            if limit.is_some() {
                change(usage.series(sent, window), window);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// `None` where there is no room for another, as all count.
    fn find_or_insert(&mut self, login: u64, now: Duration, most: usize) -> Option<&mut Usage> {
        if !self.logins.contains_key(&login) && self.logins.len() >= most {
            if now >= self.full_until {
                self.logins.retain(|_, usage| usage.counts(now));
                self.full_until = now.saturating_add(BETWEEN_SWEEPS);
            }
            if self.logins.len() >= most {
                if !std::mem::replace(&mut self.told_full, true) {
                    tracing::warn!(logins = most, "too many logins have sent something to count others");
                }
                return None;
            }
            self.told_full = false;
        }
        Some(self.logins.entry(login).or_default())
    }
}

impl Usage {
    fn series(&mut self, sent: Sent, window: Window) -> &mut Series {
        let Self([messages_hour, messages_day, recipients_hour, recipients_day]) = self;
        match (sent, window) {
            (Sent::Message, Window::Hour) => messages_hour,
            (Sent::Message, Window::Day) => messages_day,
            (Sent::Recipient, Window::Hour) => recipients_hour,
            (Sent::Recipient, Window::Day) => recipients_day,
        }
    }

    /// Whether there is something that is not over.
    fn counts(&mut self, now: Duration) -> bool {
        [Sent::Message, Sent::Recipient].into_iter().any(|sent| {
            [Window::Hour, Window::Day].into_iter().any(|window| {
                let series = self.series(sent, window);
                series.reserved > 0 || series.told_until > now || series.sum(part(now, window)) > 0
            })
        })
    }
}

impl Series {
    /// What was sent in this part and in those before it that are not over.
    fn sum(&mut self, part: u64) -> u32 {
        self.forget(part);
        self.parts.iter().fold(0, |sum, sent| sum.saturating_add(*sent))
    }

    /// How long there is no room for another; `None` where there is.
    fn wait(&mut self, now: Duration, window: Window, limit: u32) -> Option<Duration> {
        let part = part(now, window);
        let mut taken = self.sum(part).saturating_add(self.reserved);
        if taken < limit {
            return None;
        }
        // From the one that is over first. That it is only reserved may change at any time.
        for number in part.saturating_sub(PARTS)..=part {
            taken = taken.saturating_sub(*self.at(number));
            if taken < limit {
                let over = u32::try_from(number.saturating_add(PARTS + 1)).unwrap_or(u32::MAX);
                return Some(window.part().saturating_mul(over).saturating_sub(now));
            }
        }
        Some(Duration::ZERO)
    }

    fn count(&mut self, now: Duration, window: Window, amount: u32) {
        let part = part(now, window);
        self.forget(part);
        let sent = self.at(part);
        *sent = sent.saturating_add(amount);
    }

    /// Makes room for what is sent in this part.
    fn forget(&mut self, part: u64) {
        for number in self.last.saturating_add(1)..=part.min(self.last.saturating_add(PARTS + 1)) {
            *self.at(number) = 0;
        }
        self.last = self.last.max(part);
    }

    #[expect(clippy::indexing_slicing, reason = "in range by the modulo")]
    fn at(&mut self, number: u64) -> &mut u32 {
        &mut self.parts[usize::try_from(number % (PARTS + 1)).unwrap_or(0)]
    }
}

fn part(now: Duration, window: Window) -> u64 {
    now.as_secs() / window.part().as_secs()
}

/// All are looked at, when there is no room: not for each login that comes then.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(60);

/// The parts that count: those of a window, and the one that has begun.
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
const SLOTS: usize = PARTS as usize + 1;
