//! What the spool knows of a message besides its content.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, QueueId};

/// The envelope of a spooled message and how far its delivery has come. One JSON file each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) id: QueueId,
    /// Empty if null: then nobody is told of failures.
    pub(crate) reverse_path: String,
    /// Whether the content has octets above 127, whatever the client has said of it.
    pub(crate) eight_bit: bool,
    pub(crate) smtputf8: bool,
    pub(crate) arrived: Timestamp,
    /// How many attempts have ended.
    pub(crate) attempts: u32,
    pub(crate) next_attempt: Timestamp,
    pub(crate) recipients: Vec<Recipient>,
    /// What this message reports on, if it is a report that this spool has written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) report_on: Option<ReportOn>,
}

/// Which recipients of which message a report tells of. With the report, this reaches the disk: from then on, these
/// recipients have been reported, whatever the state of the message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportOn {
    pub(crate) id: QueueId,
    /// Their places among the message's recipients, counted from 0.
    pub(crate) recipients: Vec<usize>,
}

/// One recipient of a spooled message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipient {
    pub(crate) forward_path: String,
    pub(crate) status: Status,
    /// What the last attempt came to, for the report and for whoever looks into the spool.
    pub(crate) last: Option<Answer>,
    /// The server with which the connection was lost when it had all of the message and had not replied yet. It may
    /// have taken it, and then knows the message when it comes again (RFC 1047).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_doubt_at: Option<String>,
}

/// How far the delivery to one recipient has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// To be tried, or tried again.
    Pending,
    /// The next hop took responsibility.
    Delivered,
    /// Will not be tried again; the sender has not been told yet.
    Failed,
    /// Failed, and the sender has been told, or there is nobody to tell.
    Reported,
}

/// What an attempt came to: the next hop's reply, or what kept us from getting one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The enhanced status code (RFC 3463).
    pub(crate) status: String,
    /// The host that we spoke with, or tried to.
    pub(crate) remote_mta: Option<String>,
    /// A reply as it came, or our own words.
    pub(crate) text: String,
    /// Whether `text` is a reply of `remote_mta`.
    pub(crate) is_reply: bool,
    pub(crate) at: Timestamp,
}

/// Milliseconds since 1970: unlike [`std::time::Instant`], this means something after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Timestamp(u64);

impl State {
    /// The state of a message that has just arrived.
    pub(crate) fn new(envelope: Envelope) -> Self {
        let now = Timestamp::now();
        let recipient =
            |forward_path| Recipient { forward_path, status: Status::Pending, last: None, in_doubt_at: None };
        Self {
            id: envelope.id,
            reverse_path: envelope.reverse_path,
            eight_bit: false,
            smtputf8: envelope.smtputf8,
            arrived: now,
            attempts: 0,
            next_attempt: now,
            recipients: distinct(envelope.recipients).map(recipient).collect(),
            report_on: None,
        }
    }

    /// Whether there is a recipient with this status.
    pub(crate) fn has(&self, status: Status) -> bool {
        self.recipients.iter().any(|recipient| recipient.status == status)
    }

    /// The places of the recipients with this status.
    pub(crate) fn places(&self, status: Status) -> Vec<usize> {
        let with_status = |(_, recipient): &(usize, &Recipient)| recipient.status == status;
        self.recipients.iter().enumerate().filter(with_status).map(|(place, _)| place).collect()
    }

    /// Notes that the sender has been told of the failed recipients at these places. Says whether there were some.
    pub(crate) fn reported(&mut self, places: &[usize]) -> bool {
        let mut changed = false;
        for &place in places {
            if let Some(recipient) = self.recipients.get_mut(place)
                && recipient.status == Status::Failed
            {
                recipient.status = Status::Reported;
                changed = true;
            }
        }
        changed
    }

    /// Notes that recipients at these places have failed, as a report says. Says whether there are some of which the
    /// sender may not have been told.
    pub(crate) fn has_failed_at(&mut self, places: &[usize]) -> bool {
        let mut unreported = false;
        for &place in places {
            if let Some(recipient) = self.recipients.get_mut(place)
                && matches!(recipient.status, Status::Pending | Status::Failed)
            {
                recipient.status = Status::Failed;
                unreported = true;
            }
        }
        unreported
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_finished(&self) -> bool {
        !self.has(Status::Pending) && !self.has(Status::Failed)
    }
}

/// The paths without those that were there before. Domains are the same in any case, local-parts are not (RFC 5321,
/// section 2.4).
fn distinct(paths: Vec<String>) -> impl Iterator<Item = String> {
    let mut seen = HashSet::new();
    paths.into_iter().filter(move |path| {
        let (local, domain) = path.rsplit_once('@').unwrap_or((path, ""));
        seen.insert(format!("{local}@{}", domain.to_lowercase()))
    })
}

impl Recipient {
    /// Notes what an attempt came to that did not deliver.
    pub(crate) fn settle(&mut self, is_permanent: bool, answer: Answer) {
        self.last = Some(answer);
        if is_permanent {
            self.status = Status::Failed;
        }
    }

    /// Fails because the time is over: for the reason that there was last, or else for this one.
    pub(crate) fn give_up(&mut self, otherwise: Answer) {
        let last = self.last.take().unwrap_or(otherwise);
        self.settle(true, Answer { status: "4.4.7".to_owned(), ..last });
    }
}

impl Timestamp {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The time from `earlier` to this; none if this is before it, as after the clock was set back.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    pub(crate) fn as_secs(self) -> i64 {
        i64::try_from(self.0 / 1000).unwrap_or(i64::MAX)
    }
}

impl Answer {
    /// What is known here without a reply.
    pub(crate) fn own_words(status: &str, text: &str) -> Self {
        Self {
            status: status.to_owned(),
            remote_mta: None,
            text: text.to_owned(),
            is_reply: false,
            at: Timestamp::now(),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
