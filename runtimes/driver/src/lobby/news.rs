//! What happens to guests.

use std::time::Instant;

use mio::event::Event;

/// What has happened to a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct News {
    /// There may be something to read.
    pub is_readable: bool,
    /// What there is to read is the last: the peer has ended its side, or is gone.
    pub is_last: bool,
    /// The thread that it [waited for](super::WaitFor::Thread) is late, and has lost its turn.
    pub is_late: bool,
}

/// Why it is a guest's turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reason {
    Event(News),
    /// Its alarm for then.
    Alarm(Instant),
    /// It has let others go first.
    Turn,
}

impl News {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            is_readable: self.is_readable || other.is_readable,
            is_last: self.is_last || other.is_last,
            is_late: self.is_late || other.is_late,
        }
    }
}

impl From<&Event> for News {
    fn from(event: &Event) -> Self {
        let is_last = event.is_read_closed() || event.is_error();
        Self { is_readable: event.is_readable() || is_last, is_last, is_late: false }
    }
}
