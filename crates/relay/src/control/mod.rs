//! What an operator does to the queue: looks at it, and flushes, holds, releases and deletes messages.
//!
//! [`Control`] is given the spool's directory. Looking takes the files as they are, and needs no lock. For a change, a
//! [`Worker`](crate::Worker) that runs is asked by the socket `control` in the spool, which only the worker's own user
//! and root may use; where none runs, the change is made in the files, under the spool's lock.
//!
//! * **Flush**: tries mail now instead of at the time of its next attempt, even where the destination is backed off from.
//!   One session finds out for all mail that waits for a destination, and the limits on sessions hold. (A start of the
//!   worker tries all that waits, likewise.)
//! * **Hold**: begins nothing of a message until it is released. It does not expire meanwhile, its sender is not told that
//!   it is late, and it is still on hold after a restart. When it is released, it is tried at once; its age is counted from its arrival as ever, so one that is too
//!   old by then is given up after that attempt.
//! * **Delete**: removes a message. Neither its sender nor its recipients are told; the log is. One that is being sent
//!   at the moment is not deleted ([`ControlError::Busy`]): its next hop may have it already.
//!
//! ```no_run
//! use sansmtp_relay::control::Control;
//!
//! let control = Control::new("spool")?;
//! for entry in control.list()? {
//!     println!("{}", entry?.row());
//! }
//! control.flush()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod entry;
mod error;
#[cfg(unix)]
mod socket;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod text;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use self::entry::{Condition, Entry, QueuedRecipient};
pub use self::error::ControlError;
#[cfg(unix)]
pub(crate) use self::socket::ControlSocket;
use crate::envelope::QueueId;
use crate::spool::{self, Spool, State};

/// The queue in a spool, as an operator has it.
#[derive(Clone, Debug)]
pub struct Control {
    directory: PathBuf,
}

/// What the worker is asked for: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum Request {
    Delete {
        id: QueueId,
    },
    Flush {
        id: QueueId,
    },
    FlushAll,
    FlushDestination {
        domain: String,
    },
    Hold {
        id: QueueId,
    },
    Release {
        id: QueueId,
    },
    /// Which messages are being sent now.
    Sending,
}

/// What it answers: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// The message is being sent now, or reported on.
    Busy,
    /// It is done to so many messages.
    Done {
        messages: usize,
    },
    Failed {
        reason: String,
    },
    OnHold,
    Sending {
        ids: Vec<QueueId>,
    },
    /// There is no such message.
    Unknown,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is made.
    Made {
        /// To so many messages.
        messages: usize,
    },
    /// Nothing is to be done now: no worker runs, and one tries all mail when it starts.
    AtTheNextStart,
}

impl Control {
    /// The queue in this directory. Nothing is made or changed.
    ///
    /// # Errors
    /// [`ControlError::NoSpool`] where it is no spool, and where one may not look into it.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self, ControlError> {
        let directory = directory.into();
        match std::fs::metadata(directory.join("queue")) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { directory }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.into()),
            Ok(_) | Err(_) => Err(ControlError::NoSpool(directory)),
        }
    }

    /// The messages, oldest first, each read when its turn comes. What is delivered meanwhile is left out, and so is a
    /// file that makes no sense, which the worker moves to `damaged` at its next start.
    ///
    /// # Errors
    /// Where the directory, or one of the files, cannot be read.
    pub fn list(&self) -> Result<impl Iterator<Item = Result<Entry, ControlError>> + use<'_>, ControlError> {
        let ids = spool::read_ids(&self.directory)?;
        let sending = self.sending();
        Ok(ids.into_iter().filter_map(move |id| match self.entry(&id, &sending) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => None,
            entry => Some(entry.map_err(ControlError::from)),
        }))
    }

    /// A message.
    ///
    /// # Errors
    /// [`ControlError::Unknown`] where there is none of that name, and where its files cannot be read.
    pub fn show(&self, id: &QueueId) -> Result<Entry, ControlError> {
        self.entry(id, &self.sending()).map_err(|error| unless_unknown(id, error))
    }

    /// A message's content, header first, as it was taken in.
    ///
    /// # Errors
    /// [`ControlError::Unknown`] where there is none of that name, and where the file cannot be read.
    pub fn content(&self, id: &QueueId) -> Result<File, ControlError> {
        File::open(spool::queued(&self.directory, id, "eml")).map_err(|error| unless_unknown(id, error))
    }

    /// Has all mail tried now that is not on hold.
    ///
    /// # Errors
    /// Where a worker runs and cannot be asked.
    pub fn flush(&self) -> Result<Change, ControlError> {
        self.change(&Request::FlushAll, |_| Ok(Change::AtTheNextStart))
    }

    /// Has the mail tried now that goes to a domain, or to a mail exchanger of this name.
    ///
    /// # Errors
    /// Where a worker runs and cannot be asked, or hands all mail to relays.
    pub fn flush_destination(&self, domain: &str) -> Result<Change, ControlError> {
        self.change(&Request::FlushDestination { domain: domain.to_owned() }, |_| Ok(Change::AtTheNextStart))
    }

    /// Has a message tried now.
    ///
    /// # Errors
    /// [`ControlError::OnHold`] where it is on hold. [`ControlError::Unknown`] where there is none of that name.
    pub fn flush_message(&self, id: &QueueId) -> Result<Change, ControlError> {
        self.change(&Request::Flush { id: id.clone() }, |spool| match spool.load(id) {
            Ok(state) if state.held => Err(ControlError::OnHold(id.clone())),
            Ok(_) => Ok(Change::AtTheNextStart),
            Err(error) => Err(unless_unknown(id, error)),
        })
    }

    /// Puts a message on hold; fine where it is.
    ///
    /// # Errors
    /// [`ControlError::Unknown`] where there is none of that name, and where its state cannot be written.
    pub fn hold(&self, id: &QueueId) -> Result<Change, ControlError> {
        self.change(&Request::Hold { id: id.clone() }, |spool| write_hold(spool, id, true))
    }

    /// Lets a message go that is on hold; fine where it is not.
    ///
    /// # Errors
    /// [`ControlError::Unknown`] where there is none of that name, and where its state cannot be written.
    pub fn release(&self, id: &QueueId) -> Result<Change, ControlError> {
        self.change(&Request::Release { id: id.clone() }, |spool| write_hold(spool, id, false))
    }

    /// Removes a message. Nobody is told.
    ///
    /// # Errors
    /// [`ControlError::Busy`] where it is being sent, [`ControlError::Unknown`] where there is none of that name, and
    /// where its files cannot be removed. Then it stays.
    pub fn delete(&self, id: &QueueId) -> Result<Change, ControlError> {
        self.change(&Request::Delete { id: id.clone() }, |spool| {
            if !spool.contains(id)? {
                return Err(ControlError::Unknown(id.clone()));
            }
            spool.forget(id)?;
            spool.remove(std::slice::from_ref(id))?;
            Ok(Change::Made { messages: 1 })
        })
    }

    fn entry(&self, id: &QueueId, sending: &HashSet<QueueId>) -> io::Result<Entry> {
        let state: State = spool::read_state(&self.directory, id)?;
        let octets = std::fs::metadata(spool::queued(&self.directory, id, "eml"))?.len();
        Ok(Entry::new(state, octets, sending.contains(id)))
    }

    /// The messages that are being sent now, as far as the worker says so.
    fn sending(&self) -> HashSet<QueueId> {
        match self.ask(&Request::Sending) {
            Ok(Some(Reply::Sending { ids })) => ids.into_iter().collect(),
            // The rest can be told without.
            Ok(_) | Err(_) => HashSet::new(),
        }
    }

    /// Has the worker make a change, or makes it here where none runs.
    fn change(
        &self,
        request: &Request,
        without_worker: impl FnOnce(&Spool) -> Result<Change, ControlError>,
    ) -> Result<Change, ControlError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(reply) = self.ask(request)? {
                return outcome(request, reply);
            }
            match Spool::open(&self.directory) {
                Ok(spool) => return without_worker(&spool),
                // It is about to listen, or has just ceased to, or another such command is at work.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The worker's reply; none where no worker listens, or it ended before it replied.
    #[cfg(unix)]
    fn ask(&self, request: &Request) -> Result<Option<Reply>, ControlError> {
        socket::ask(&self.directory, request)
    }

    #[cfg(not(unix))]
    fn ask(&self, _: &Request) -> Result<Option<Reply>, ControlError> {
        Ok(None)
    }
}

fn outcome(request: &Request, reply: Reply) -> Result<Change, ControlError> {
    let id = match request {
        Request::Delete { id } | Request::Flush { id } | Request::Hold { id } | Request::Release { id } => Some(id),
        Request::FlushAll | Request::FlushDestination { .. } | Request::Sending => None,
    };
    match (reply, id) {
        (Reply::Done { messages }, _) => Ok(Change::Made { messages }),
        (Reply::Failed { reason }, _) => Err(ControlError::Failed(reason)),
        (Reply::Busy, Some(id)) => Err(ControlError::Busy(id.clone())),
        (Reply::OnHold, Some(id)) => Err(ControlError::OnHold(id.clone())),
        (Reply::Unknown, Some(id)) => Err(ControlError::Unknown(id.clone())),
        (Reply::Busy | Reply::OnHold | Reply::Unknown | Reply::Sending { .. }, _) => {
            Err(ControlError::Failed("the worker's answer is to another question".to_owned()))
        }
    }
}

fn write_hold(spool: &Spool, id: &QueueId, held: bool) -> Result<Change, ControlError> {
    let mut state = spool.load(id).map_err(|error| unless_unknown(id, error))?;
    if state.held != held {
        state.held = held;
        spool.save(&state)?;
        give_to_owner(spool, id)?;
    }
    Ok(Change::Made { messages: 1 })
}

/// What root has written belongs to the worker's user, as the rest does.
fn give_to_owner(spool: &Spool, id: &QueueId) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let path = spool::queued(spool.directory(), id, "json");
        let (owner, file) = (std::fs::metadata(spool.directory().join("queue"))?, std::fs::metadata(&path)?);
        if owner.uid() != file.uid() {
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    #[cfg(not(unix))]
    let _ = (spool, id);
    Ok(())
}

fn unless_unknown(id: &QueueId, error: io::Error) -> ControlError {
    if error.kind() == io::ErrorKind::NotFound { ControlError::Unknown(id.clone()) } else { error.into() }
}

/// How long a command waits for a worker that is about to listen.
const PATIENCE: Duration = Duration::from_secs(5);
