//! Where an accepted message goes before it is acknowledged.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::maildir::{self, Maildir};
use crate::spool::{self, Spool};

/// The place that takes every accepted message: the end of its way, or the spool from which it travels on.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    Maildir(Arc<Maildir>),
    Spool(Arc<Spool>),
}

/// The envelope of a mail transaction that has come to its mail data.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    /// The name that the message has here; [`QueueId::new`] makes one, so that `received` can tell it.
    pub(crate) id: QueueId,
    /// Without angle brackets; empty if null.
    pub(crate) reverse_path: String,
    /// The forward-paths, without angle brackets.
    pub(crate) recipients: Vec<String>,
    /// Whether BODY=8BITMIME was declared (RFC 6152).
    pub(crate) eight_bit: bool,
    /// Whether SMTPUTF8 was declared (RFC 6531).
    pub(crate) smtputf8: bool,
    /// The trace header for the top of the message: one or more whole `Received:` lines, ending in CRLF.
    pub(crate) received: String,
}

/// The name that a message has in the spool, in the logs and in its `Received:` header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct QueueId(String);

impl Store {
    /// Begins to receive a message.
    ///
    /// # Errors
    /// Where the file system refuses: the peer should hear 451.
    pub(crate) fn begin(&self, envelope: Envelope) -> io::Result<Incoming> {
        Ok(match self {
            Self::Maildir(maildir) => Incoming::Maildir(maildir.begin(envelope)?),
            Self::Spool(spool) => Incoming::Spool(Spool::begin(spool, envelope)?),
        })
    }
}

/// A message on its way in. Dropped before [`Incoming::commit`], it leaves nothing behind.
#[derive(Debug)]
pub(crate) enum Incoming {
    Maildir(maildir::Incoming),
    Spool(spool::Incoming),
}

impl Incoming {
    /// Adds mail data, dot-unstuffed. The octets are kept as they are.
    ///
    /// # Errors
    /// Where the file system refuses: the peer should hear 452 at the end of its mail data.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Maildir(incoming) => incoming.write(piece),
            Self::Spool(incoming) => incoming.write(piece),
        }
    }

    /// Takes responsibility for the message: when this returns, it is on the disk, and 250 is true.
    ///
    /// This waits for the disk, so it does not belong on an executor's thread.
    ///
    /// # Errors
    /// Where the file system refuses. Then the message is gone.
    pub(crate) fn commit(self) -> io::Result<QueueId> {
        match self {
            Self::Maildir(incoming) => incoming.commit(),
            Self::Spool(incoming) => incoming.commit(),
        }
    }
}

impl QueueId {
    /// Makes a name that sorts by time and that no other message has.
    pub(crate) fn new() -> Self {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_micros());
        Self(format!("{micros:013x}{:05x}", fastrand::u32(..1 << 20)))
    }

    /// The name of a report on this message's `attempt`: always the same, so that it is not made twice.
    pub(crate) fn report(&self, attempt: u32) -> Self {
        Self(format!("{}r{attempt}", self.0))
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Only letters and digits: the name becomes a file's.
impl TryFrom<String> for QueueId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if valid { Ok(Self(text)) } else { Err("not a queue id") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_take_a_message() {
        let directory = tempfile::tempdir().unwrap();
        let maildir = Maildir::open(&directory.path().join("mail"), "mx").unwrap();
        let spool = Spool::open(&directory.path().join("spool")).unwrap();
        for store in [Store::Maildir(Arc::new(maildir)), Store::Spool(Arc::new(spool))] {
            let id = QueueId::new();
            let mut incoming = store
                .begin(Envelope {
                    id: id.clone(),
                    reverse_path: String::new(),
                    recipients: vec!["a@example.org".to_owned()],
                    eight_bit: false,
                    smtputf8: false,
                    received: String::new(),
                })
                .unwrap();
            incoming.write(b"Subject: x\r\n").unwrap();
            assert_eq!(incoming.commit().unwrap(), id);
        }
    }

    #[test]
    fn queue_ids_are_file_names_in_order_of_time() {
        let first = QueueId::new();
        std::thread::sleep(std::time::Duration::from_millis(1));
        let second = QueueId::new();
        assert!(first < second);
        assert_eq!(QueueId::try_from(first.to_string()), Ok(first.clone()));
        assert_eq!(QueueId::try_from(first.report(3).to_string()), Ok(first.report(3)));
        for wrong in ["", "../x", "a.b", "a b", &"x".repeat(65)] {
            assert!(QueueId::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
