//! What a client is told that may not send now.

use std::fmt;
use std::time::Duration;

use sansmtp::{EnhancedCode, Reply, reply};

use super::{Sent, Window};

/// Why nothing, or nothing more, may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendingRefused {
    /// A limit is reached.
    Exceeded(Exceeded),
    /// The server that counts cannot be reached, and nothing may be sent without it
    /// ([`WhenUnreachable::Closed`](crate::attempts::WhenUnreachable::Closed)); as many wait for it as may; or no more
    /// logins can be [remembered](super::SendingLimits::max_logins).
    CannotTell,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exceeded {
    /// Of what.
    pub sent: Sent,
    /// In which time.
    pub window: Window,
    /// How many there may be.
    pub limit: u32,
    /// How long there is room for no other. Where transactions that are open have taken all of it, that is not known,
    /// and this is zero.
    pub wait: Duration,
}

impl SendingRefused {
    /// The reply to MAIL or RCPT: `450 4.7.1`, with the limit and when it is over, or `451 4.3.0`.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let exceeded = match self {
            Self::Exceeded(exceeded) => {
                EnhancedCode::new(4, 7, 1).and_then(|code| Reply::new(450, code, &exceeded.to_string()))
            }
            Self::CannotTell => return reply!("451 4.3.0 Nothing can be sent now, try again later"),
        };
        exceeded.unwrap_or(reply!("450 4.7.1 Too much was sent, try again later"))
    }
}

impl fmt::Display for SendingRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exceeded(exceeded) => exceeded.fmt(f),
            Self::CannotTell => f.write_str("what is sent cannot be counted now"),
        }
    }
}

impl std::error::Error for SendingRefused {}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, window, limit, wait } = self;
        let sent = sent.to_string();
        let sent = if *limit == 1 { sent.trim_end_matches('s') } else { &sent };
        let article = match window {
            Window::Hour => "an",
            Window::Day => "a",
        };
        write!(f, "No more than {limit} {sent} {article} {window}, try again in ")?;
        let minutes = wait.as_secs().div_ceil(60);
        match minutes {
            0 | 1 => f.write_str("a minute"),
            ..120 => write!(f, "{minutes} minutes"),
            _ => write!(f, "{} hours", minutes.div_ceil(60)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_tells_the_limit_and_when_it_is_over() {
        let reply = |sent, window, limit, seconds| {
            let exceeded = Exceeded { sent, window, limit, wait: Duration::from_secs(seconds) };
            SendingRefused::Exceeded(exceeded).reply().to_string()
        };
        for (told, expected) in [
            (
                reply(Sent::Message, Window::Hour, 1, 0),
                "450 4.7.1 No more than 1 message an hour, try again in a minute",
            ),
            (
                reply(Sent::Message, Window::Day, 20, 60),
                "450 4.7.1 No more than 20 messages a day, try again in a minute",
            ),
            (
                reply(Sent::Recipient, Window::Hour, 5, 61),
                "450 4.7.1 No more than 5 recipients an hour, try again in 2 minutes",
            ),
            (
                reply(Sent::Recipient, Window::Day, 1, 7201),
                "450 4.7.1 No more than 1 recipient a day, try again in 3 hours",
            ),
        ] {
            assert_eq!(told.trim_end(), expected);
        }
        assert!(SendingRefused::CannotTell.reply().to_string().starts_with("451 4.3.0 "));
    }
}
