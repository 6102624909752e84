//! What logins have sent through all servers that use the same Valkey or Redis.

use std::time::Duration;

use sansmtp::Secret;

use super::{Exceeded, SendingLimits, SendingRefused, Sent, Window};
use crate::attempts::{ValkeyConfig, ValkeyError, WhenUnreachable};
use crate::counting::counted::{Counted, Counts};
use crate::counting::counter_client::{Answer, CounterClient, ServerReservation, Settings};

pub(super) struct Shared {
    limits: SendingLimits,
    key: Secret,
    when_unreachable: WhenUnreachable,
    client: CounterClient,
}

/// What a transaction has reserved at the server. Dropped, it is given back.
#[derive(Default)]
pub(super) struct Reserved {
    messages: Counts,
    recipients: Counts,
    reservations: Vec<ServerReservation>,
    /// What the server could not be asked about.
    uncounted: Uncounted,
}

#[derive(Default)]
struct Uncounted {
    messages: u32,
    recipients: u32,
}

impl Shared {
    pub(super) fn start(limits: SendingLimits, mut config: ValkeyConfig) -> Result<Self, ValkeyError> {
        let key = config.take_key()?;
        let client = CounterClient::start(Settings {
            what: "messages and recipients",
            client: config.client()?,
            address: config.address.clone(),
            time_limit: config.time_limit,
            max_waiting: config.max_waiting,
            window: Window::Day.length(),
            entries: 0,
        });
        let client = client.map_err(ValkeyError::Thread)?;
        Ok(Self { limits, key, when_unreachable: config.when_unreachable, client })
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.client.is_reachable()
    }

    fn counts(&self, login: &str, sent: Sent) -> Counts {
        self.limits.of(sent).map(|(window, limit)| Some(Counted::sent(&self.key, login, sent, window, limit?)))
    }
}

impl Reserved {
    pub(super) fn new(shared: &Shared, login: &str) -> Self {
        let counts = |sent| shared.counts(login, sent);
        Self { messages: counts(Sent::Message), recipients: counts(Sent::Recipient), ..Self::default() }
    }

    pub(super) fn reserve(&mut self, shared: &Shared, sent: Sent) -> Result<(), SendingRefused> {
        let (counts, uncounted) = match sent {
            Sent::Message => (self.messages, &mut self.uncounted.messages),
            Sent::Recipient => (self.recipients, &mut self.uncounted.recipients),
        };
        if counts.iter().all(Option::is_none) {
            return Ok(());
        }
        match (shared.client.ask(counts, true), shared.when_unreachable) {
            (Answer::Admitted(reservation), _) => {
                if let Some(reservation) = reservation {
                    self.add(reservation);
                }
                Ok(())
            }
            (Answer::Barred(waits), _) => {
                // The server tells of those that are counted only.
                let limited = shared.limits.of(sent).into_iter().filter_map(|(window, limit)| Some((window, limit?)));
                let exceeded = limited.zip(waits).map(|((window, limit), wait)| {
                    let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
                    Exceeded { sent, window, limit, wait }
                });
                Err(exceeded
                    .max_by_key(|exceeded| exceeded.wait)
                    .map_or(SendingRefused::CannotTell, SendingRefused::Exceeded))
            }
            (Answer::Unreachable, WhenUnreachable::Open) => {
                *uncounted = uncounted.saturating_add(1);
                Ok(())
            }
            (Answer::Unreachable, WhenUnreachable::Closed) | (Answer::Full, _) => Err(SendingRefused::CannotTell),
        }
    }

    /// Leaves it as what has been sent.
    pub(super) fn keep(mut self, shared: &Shared) {
        for reservation in self.reservations.drain(..) {
            if reservation.age() < MOVED_AFTER {
                reservation.keep();
            } else {
                // It counts from when the message is sent: a transaction that is kept open until what it has reserved is
                // over would otherwise cost nothing.
                shared.client.count(reservation.counts(), reservation.amount());
            }
        }
        for (counts, amount) in [(self.messages, self.uncounted.messages), (self.recipients, self.uncounted.recipients)]
        {
            if amount > 0 {
                shared.client.count(counts, amount);
            }
        }
    }

    /// A thousand recipients are one reservation, mostly.
    fn add(&mut self, reservation: ServerReservation) {
        let mut reservation = Some(reservation);
        for earlier in self.reservations.iter_mut().rev().take(2) {
            reservation = reservation.and_then(|reservation| earlier.merge(reservation));
        }
        self.reservations.extend(reservation);
    }
}

impl std::fmt::Debug for Reserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserved").field("reservations", &self.reservations.len()).finish_non_exhaustive()
    }
}

/// Much less than a part of the window.
const MOVED_AFTER: Duration = Duration::from_secs(60);
