//! What an operator sees of a message.

use std::fmt::Write;
use std::time::Duration;

use mail_builder::headers::date::Date;
use serde::Serialize;

use super::text::{clean, short, size};
use crate::envelope::QueueId;
use crate::spool::{Recipient, State, Status, Timestamp};

/// A message in the queue, as it was a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub id: QueueId,
    /// When it was taken in, in seconds since 1970.
    pub arrived: i64,
    /// The size of its content, with the header that was added here.
    pub octets: u64,
    /// The reverse-path; empty if null.
    pub sender: String,
    /// What is done with it at the moment.
    pub state: Condition,
    /// How many attempts have ended.
    pub attempts: u32,
    /// When it is tried again, in seconds since 1970; a time that has passed while it waits for its turn. It is earlier
    /// after a start, and later where its destination is backed off from.
    pub next_attempt: i64,
    /// All of them, those that have it already too.
    pub recipients: Vec<QueuedRecipient>,
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// It waits for its next attempt.
    Waiting,
    /// It is being sent.
    Sending,
    /// It is on hold.
    Held,
}

/// A recipient of a message in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueuedRecipient {
    /// The forward-path.
    pub address: String,
    /// `pending`, `delivered`, `failed` or `reported`.
    pub status: &'static str,
    /// What the last attempt came to: a reply, or why there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// The server that said so, if one was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

impl Entry {
    pub(super) fn new(state: State, octets: u64, is_sending: bool) -> Self {
        let recipient = |recipient: Recipient| {
            let (last, server) = match recipient.last {
                Some(answer) => (Some(answer.text), answer.remote_mta),
                None => (None, None),
            };
            QueuedRecipient { address: recipient.forward_path, status: status(recipient.status), last, server }
        };
        Self {
            id: state.id,
            arrived: state.arrived.as_secs(),
            octets,
            sender: state.reverse_path,
            state: match (is_sending, state.held) {
                (true, _) => Condition::Sending,
                (false, true) => Condition::Held,
                (false, false) => Condition::Waiting,
            },
            attempts: state.attempts,
            next_attempt: state.next_attempt.as_secs(),
            recipients: state.recipients.into_iter().map(recipient).collect(),
        }
    }

    /// The names of the columns of [`row`](Self::row).
    #[must_use]
    pub fn heading() -> String {
        columns("ID", "AGE", "SIZE", "NEXT", "LEFT", "SENDER", "RECIPIENTS LEFT, LAST REPLY")
    }

    /// The message in a line: name, age, size, time to the next attempt (`held`, `sending`, or `now` where it waits for
    /// its turn), how many recipients are left, sender, the first of these recipients, and what the last attempt came to.
    #[must_use]
    pub fn row(&self) -> String {
        let left: Vec<_> = self.recipients.iter().filter(|recipient| is_left(recipient)).collect();
        let mut about = left.first().map_or_else(|| "-".to_owned(), |recipient| clean(&recipient.address));
        if left.len() > 1 {
            let _ = write!(about, " +{}", left.len() - 1);
        }
        if let Some(last) = left.iter().find_map(|recipient| recipient.last.as_deref()) {
            let _ = write!(about, ": {}", clean(last));
        }
        let next = match self.state {
            Condition::Sending => "sending".to_owned(),
            Condition::Held => "held".to_owned(),
            Condition::Waiting => {
                let pause = seconds(self.next_attempt.saturating_sub(now()));
                if pause.is_zero() { "now".to_owned() } else { short(pause) }
            }
        };
        columns(
            &self.id.to_string(),
            &short(seconds(now().saturating_sub(self.arrived))),
            &size(self.octets),
            &next,
            &left.len().to_string(),
            &sender(&self.sender),
            &about,
        )
    }

    /// The message in several lines.
    #[must_use]
    pub fn details(&self) -> String {
        let state = match self.state {
            Condition::Waiting => "waiting",
            Condition::Sending => "being sent",
            Condition::Held => "on hold",
        };
        let mut text = format!(
            "id:            {}\nsender:        {}\narrived:       {}\nsize:          {} octets\nstate:         {state}\n\
             attempts:      {}\nnext attempt:  {}\n",
            self.id,
            sender(&self.sender),
            date(self.arrived),
            self.octets,
            self.attempts,
            if self.state == Condition::Waiting { date(self.next_attempt) } else { "-".to_owned() },
        );
        for recipient in &self.recipients {
            let _ = writeln!(text, "recipient:     {} ({})", clean(&recipient.address), recipient.status);
            if let Some(last) = &recipient.last {
                let server = recipient.server.as_deref().map(|server| format!("{}: ", clean(server)));
                let _ = writeln!(text, "  last reply:  {}{}", server.unwrap_or_default(), clean(last));
            }
        }
        text
    }

    /// The message as an object of JSON in one line: the fields of this type.
    #[must_use]
    pub fn json(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn columns(id: &str, age: &str, size: &str, next: &str, left: &str, sender: &str, about: &str) -> String {
    format!("{id:<20} {age:>6} {size:>5} {next:>7} {left:>4} {sender:<28} {about}")
}

fn is_left(recipient: &QueuedRecipient) -> bool {
    matches!(recipient.status, "pending" | "failed")
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        // The report on it is not here yet, and that is all that is left to do.
        Status::Relayed | Status::Delivered => "delivered",
        Status::Failed => "failed",
        Status::Reported => "reported",
    }
}

fn sender(reverse_path: &str) -> String {
    if reverse_path.is_empty() { "<>".to_owned() } else { clean(reverse_path) }
}

fn date(at: i64) -> String {
    Date::new(at).to_rfc822()
}

fn now() -> i64 {
    Timestamp::now().as_secs()
}

fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}
