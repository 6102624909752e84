//! Replies that come as late as those of a server that is far away.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The replies that are on their way, the next one first.
pub(crate) struct Late {
    round_trip: Duration,
    replies: VecDeque<(Instant, Reply)>,
}

/// What a client is to hear.
pub(crate) struct Reply {
    /// Where the client is kept.
    pub(crate) place: usize,
    /// Which client that has to be.
    pub(crate) client: u64,
    pub(crate) octets: Vec<u8>,
    /// Whether the connection ends with it.
    pub(crate) is_last: bool,
}

impl Late {
    pub(crate) fn new(round_trip: Duration) -> Self {
        Self { round_trip, replies: VecDeque::new() }
    }

    /// Whether replies come late at all.
    pub(crate) fn is_on(&self) -> bool {
        !self.round_trip.is_zero()
    }

    /// Sends a reply on its way, which takes so many round trips.
    pub(crate) fn push(&mut self, round_trips: u32, reply: Reply) {
        let due = Instant::now() + self.round_trip * round_trips;
        let place = self.replies.partition_point(|(other, _)| *other <= due);
        self.replies.insert(place, (due, reply));
    }

    /// For how long none arrives; none where none is on its way.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let (due, _) = self.replies.front()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// A reply that arrives now.
    pub(crate) fn take(&mut self) -> Option<Reply> {
        if self.replies.front()?.0 > Instant::now() {
            return None;
        }
        self.replies.pop_front().map(|(_, reply)| reply)
    }
}
