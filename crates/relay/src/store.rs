//! Where an accepted message goes before it is acknowledged: a Maildir or a spool, chosen when the program runs.

use std::io;
use std::sync::Arc;

use crate::maildir::{self, Maildir};
use crate::{Envelope, QueueId, Spool, spool};

/// The place that takes every accepted message: the end of its way, or the spool from which it travels on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Store {
    /// The end of its way.
    Maildir(Arc<Maildir>),
    /// From where a [`Worker`](crate::Worker) takes it further.
    Spool(Arc<Spool>),
}

impl Store {
    /// How many octets may still be written there.
    ///
    /// # Errors
    /// Where the file system does not say.
    pub fn free_octets(&self) -> io::Result<u64> {
        match self {
            Self::Maildir(maildir) => maildir.free_octets(),
            Self::Spool(spool) => spool.free_octets(),
        }
    }

    /// Begins to receive a message.
    ///
    /// # Errors
    /// Where the file system refuses: the peer should hear 451.
    pub fn begin(&self, envelope: Envelope) -> io::Result<Incoming> {
        Ok(match self {
            Self::Maildir(maildir) => Incoming::Maildir(maildir.begin(envelope)?),
            Self::Spool(spool) => Incoming::Spool(Spool::begin(spool, envelope)?),
        })
    }
}

/// A message on its way in. Dropped before [`Incoming::commit`], it leaves nothing behind.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// For a Maildir.
    Maildir(maildir::Incoming),
    /// For a spool.
    Spool(spool::Incoming),
}

impl Incoming {
    /// Adds mail data, dot-unstuffed. The octets are kept as they are.
    ///
    /// # Errors
    /// Where the file system refuses: the peer should hear 452 at the end of its mail data.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
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
    pub fn commit(self) -> io::Result<QueueId> {
        match self {
            Self::Maildir(incoming) => incoming.commit(),
            Self::Spool(incoming) => incoming.commit(),
        }
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
            let envelope = Envelope::new("", ["a@example.org"]);
            let id = envelope.id.clone();
            let mut incoming = store.begin(envelope).unwrap();
            incoming.write(b"Subject: x\r\n").unwrap();
            assert_eq!(incoming.commit().unwrap(), id);
        }
    }
}
