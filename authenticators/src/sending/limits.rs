//! What is limited, and by how much.

use std::fmt;
use std::time::Duration;

/// How much a login may send. 0 is no limit, which all are unless changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendingLimits {
    /// Messages in an hour.
    pub messages_per_hour: u32,
    /// Messages in a day.
    pub messages_per_day: u32,
    /// Recipients in an hour, of all messages together.
    pub recipients_per_hour: u32,
    /// Recipients in a day, of all messages together.
    pub recipients_per_day: u32,
    /// How many logins are remembered at the same time, at some 300 octets each: 65,536 unless changed. Those whose
    /// counts are over make room for others. Where there is none, another login gets `451 4.3.0` until there is.
    pub max_logins: usize,
}

impl Default for SendingLimits {
    fn default() -> Self {
        Self {
            messages_per_hour: 0,
            messages_per_day: 0,
            recipients_per_hour: 0,
            recipients_per_day: 0,
            max_logins: 65_536,
        }
    }
}

impl SendingLimits {
    /// Whether there is no limit.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        SENT.into_iter().all(|sent| self.of(sent).iter().all(|(_, limit)| limit.is_none()))
    }

    /// The limits of what is sent, in the order of the windows.
    pub(super) fn of(&self, sent: Sent) -> [(Window, Option<u32>); 2] {
        let (hour, day) = match sent {
            Sent::Message => (self.messages_per_hour, self.messages_per_day),
            Sent::Recipient => (self.recipients_per_hour, self.recipients_per_day),
        };
        [(Window::Hour, hour), (Window::Day, day)]
            .map(|(window, limit)| (window, Some(limit).filter(|limit| *limit > 0)))
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to count")]
pub enum Sent {
    /// Messages.
    Message,
    /// Recipients.
    Recipient,
}

/// The time in which it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a limit for another time would have a field of its own")]
pub enum Window {
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Window {
    /// Its length.
    #[must_use]
    pub const fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::from_secs(60 * 60),
            Self::Day => Duration::from_secs(24 * 60 * 60),
        }
    }

    /// The length of each of its [`PARTS`].
    #[must_use]
    pub(crate) const fn part(self) -> Duration {
        match self {
            Self::Hour => Duration::from_secs(5 * 60),
            Self::Day => Duration::from_secs(2 * 60 * 60),
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message => "messages",
            Self::Recipient => "recipients",
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
        })
    }
}

const SENT: [Sent; 2] = [Sent::Message, Sent::Recipient];

/// How many parts a window has, each of which is over at once.
pub(super) const PARTS: u64 = 12;
