//! What a message is called here, and who it is from and to.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::dsn::{Notify, OriginalRecipient, Ret};
use crate::spool::ReportKind;

/// The envelope of a mail transaction that has come to its mail data.
///
/// ```
/// let mut envelope = sansmtp_relay::Envelope::new("tim@example.org", ["friend@example.net"]);
/// envelope.smtputf8 = true;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Envelope {
    /// The name that the message has here; known beforehand, so that `received` can tell it. At most 40 octets.
    pub id: QueueId,
    /// Without angle brackets; empty if null.
    pub reverse_path: String,
    /// At least one.
    pub recipients: Vec<Recipient>,
    /// Whether SMTPUTF8 was declared (RFC 6531). Unset, it was not.
    pub smtputf8: bool,
    /// The trace header for the top of the message: one or more whole `Received:` lines, ending in CRLF. Unset, there
    /// is none.
    pub received: String,
    /// What a report of failure is to return (RFC 3461, section 4.3).
    pub ret: Option<Ret>,
    /// The sender's own name for the message, decoded from xtext (RFC 3461, section 4.4).
    pub envid: Option<String>,
}

/// A recipient of an [`Envelope`]. A path alone becomes one by `into()`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recipient {
    /// Without angle brackets.
    pub forward_path: String,
    /// When the sender wants a report on this recipient; none where it does not say, which means on failure and on delay
    /// (RFC 3461, section 4.1).
    pub notify: Option<Notify>,
    /// To whom the message was addressed before (RFC 3461, section 4.2).
    pub orcpt: Option<OriginalRecipient>,
}

impl Envelope {
    /// An envelope with these paths, without angle brackets, and a new name. Nothing else is asked for.
    pub fn new(reverse_path: impl Into<String>, recipients: impl IntoIterator<Item = impl Into<Recipient>>) -> Self {
        Self {
            id: QueueId::new(),
            reverse_path: reverse_path.into(),
            recipients: recipients.into_iter().map(Into::into).collect(),
            smtputf8: false,
            received: String::new(),
            ret: None,
            envid: None,
        }
    }
}

impl Recipient {
    /// A recipient of whom nothing else is said than the forward-path, without angle brackets.
    pub fn new(forward_path: impl Into<String>) -> Self {
        Self { forward_path: forward_path.into(), notify: None, orcpt: None }
    }
}

impl From<String> for Recipient {
    fn from(forward_path: String) -> Self {
        Self::new(forward_path)
    }
}

impl From<&str> for Recipient {
    fn from(forward_path: &str) -> Self {
        Self::new(forward_path)
    }
}

/// The name that a message has in the spool, in the logs and in its `Received:` header: letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct QueueId(String);

impl QueueId {
    /// Makes a name that sorts by time and that no other message has.
    #[expect(clippy::new_without_default, reason = "each is another, which a default is not")]
    pub fn new() -> Self {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_micros());
        Self(format!("{micros:013x}{:05x}", fastrand::u32(..1 << 20)))
    }

    /// The name of the report of this kind on this message whose first recipient is the one at `index`. As a recipient
    /// is in one report of a kind only, no two reports have the same name, and a report that exists already is found by
    /// it.
    pub(crate) fn report(&self, kind: ReportKind, index: usize) -> Self {
        // No hexadecimal digits, of which names are made.
        let letter = match kind {
            ReportKind::Failed => 'r',
            ReportKind::Delayed => 'l',
            ReportKind::Relayed => 's',
            ReportKind::Undeliverable => 'p',
        };
        Self(format!("{}{letter}{}", self.0, index.saturating_add(1)))
    }

    /// Whether the name leaves room for the names of reports.
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() <= MAX_GIVEN_OCTETS
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Only letters and digits: the name becomes a file's.
impl TryFrom<String> for QueueId {
    type Error = InvalidQueueId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let valid = (1..=MAX_OCTETS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if valid { Ok(Self(text)) } else { Err(InvalidQueueId) }
    }
}

/// A text is no [`QueueId`]: it is empty, has more than 64 octets, or something else than letters and digits in ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidQueueId;

impl fmt::Display for InvalidQueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a queue id")
    }
}

impl std::error::Error for InvalidQueueId {}

const MAX_OCTETS: usize = 64;
/// The longest name of a message that is not a report.
const MAX_GIVEN_OCTETS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_ids_are_file_names_in_order_of_time() {
        let first = QueueId::new();
        std::thread::sleep(std::time::Duration::from_millis(1));
        let second = QueueId::new();
        assert!(first < second);
        assert_eq!(QueueId::try_from(first.to_string()), Ok(first.clone()));
        let report = first.report(ReportKind::Failed, 3);
        assert_eq!(QueueId::try_from(report.to_string()), Ok(report));
        let longest = QueueId::try_from("x".repeat(MAX_GIVEN_OCTETS)).unwrap();
        let last = longest.report(ReportKind::Relayed, 999_999_999).report(ReportKind::Undeliverable, 0);
        assert!(longest.has_room() && QueueId::try_from(last.to_string()).is_ok());
        for wrong in ["", "../x", "a.b", "a b", &"x".repeat(65)] {
            assert!(QueueId::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
