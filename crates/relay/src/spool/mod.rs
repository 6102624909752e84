//! The spool: where an acknowledged message waits for its delivery, whatever happens to this process.
//!
//! ```text
//! spool/lock                 held while a process uses the spool; tells when the system was started
//! spool/control             a socket, by which an operator's commands come in while it does
//! spool/incoming/…           being written; worthless after a crash
//! spool/queue/ID.eml         a message's content, never changed
//! spool/queue/ID.json        its state; exists exactly as long as the message is ours to deliver
//! spool/damaged/…            what cannot be understood, kept for a human
//! spool/undelivered-reports/ID.eml
//!                            what could neither be delivered nor reported, kept for a human
//! ```
//!
//! Every file is written in `incoming`, and renamed into its place. The content comes before the state, and goes after
//! it, so **the state file is the commit point**: with it, the message is complete; without it, the message was never
//! acknowledged, or is done with. Before a message is acknowledged, the disk is waited for once, for both files and their
//! names at the same time. A power failure before that can leave names without what they stand for; so the state holds
//! the content's checksum, which is compared once after each start of the system. A crash at any moment leaves one of
//! these:
//!
//! | left behind | at the next start |
//! |---|---|
//! | a file in `incoming` | removed: its reception or its update was not finished |
//! | content without a state | removed: not acknowledged yet, or finished |
//! | content and a state | delivered from where the state says |
//! | a state without content, or with another; half a state | put into `damaged`: an accident leaves this, or a power failure before the message was acknowledged |
//! | a state half written in its place | put into `damaged`; only a crash while the disk is full leaves this |
//!
//! States of earlier versions are read. An earlier version sends what is on hold, and puts aside a state that has a
//! recipient `relayed`: the queue should be empty before one goes back.
//!
//! A state is replaced by a new file, except where there is no room for one: then it is overwritten in its place, with
//! what has become of the recipients and without what the servers said.
//!
//! Delivery is *at least once*: a recipient recorded as delivered is never tried again, but a crash between the
//! next hop's 250 and the record means a second copy. SMTP offers no way around that (RFC 1047); the other order
//! would lose mail.
//!
//! A report is a message like any other, whose state names the recipients that it is on. It is written first, then
//! these recipients are recorded as reported, and only then is it delivered:
//!
//! | left behind | at the next start |
//! |---|---|
//! | a recipient to report on, and no report that names it | the report is written |
//! | a recipient to report on, and a report that names it | the recipient is recorded as reported |
//! | a recipient reported on, and the report | the report is delivered |
//!
//! Each recipient is in one report of each kind at most: on failure, on delay, and on success. What the report says is
//! true, whatever the state says: a recipient that has failed or been relayed by the report is not tried again.
//!
//! A message from the null reverse-path that fails, as a report that no next hop takes, goes to the postmaster by a report of a
//! kind of its own, or into `undelivered-reports`, where a second copy replaces the first. It comes there before its
//! recipients are recorded as reported.

mod state;
mod undelivered;

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use state::{Answer, Recipient, ReportKind, ReportOn, State, Status, Timestamp};

use crate::delivery::MAX_LINE_OCTETS;
use crate::durable::{self, Scratch};
use crate::envelope::{Envelope, QueueId};

/// The spool directory, held by this process alone.
pub struct Spool {
    directory: PathBuf,
    subscriber: Mutex<Option<Box<Subscriber>>>,
    /// Is shown the directory after each change that a crash can leave behind as the last one.
    #[cfg(test)]
    changed: Mutex<Option<Box<Watcher>>>,
    /// The lock goes when the file is closed, by a crash too.
    lock: File,
}

/// Is told of every message that arrives, when it is on the disk.
type Subscriber = dyn Fn(QueueId) + Send;

#[cfg(test)]
type Watcher = dyn Fn(&Path) + Send;

impl Spool {
    /// Opens a spool, making it where there is none, and clears away what a crash left unfinished.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] where another process holds the spool, and where the file system refuses.
    pub fn open(directory: &Path) -> io::Result<Self> {
        for part in ["incoming", "queue"] {
            durable::create_directory(&directory.join(part))?;
        }
        let lock = File::options().create(true).append(true).open(directory.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another process is using this spool")
            }
            TryLockError::Error(error) => error,
        })?;
        let spool = Self {
            directory: directory.to_owned(),
            subscriber: Mutex::new(None),
            #[cfg(test)]
            changed: Mutex::new(None),
            lock,
        };
        spool.recover()?;
        spool.check_after_boot()?;
        Ok(spool)
    }

    /// Begins to receive a message.
    ///
    /// # Errors
    /// Where the file system refuses, and [`io::ErrorKind::InvalidInput`] where there is no recipient, or the queue id
    /// has more than 40 octets.
    pub fn begin(spool: &Arc<Self>, envelope: Envelope) -> io::Result<Incoming> {
        let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if envelope.recipients.is_empty() {
            return invalid("the envelope has no recipient");
        }
        if !envelope.id.has_room() {
            return invalid("the queue id has more than 40 octets");
        }
        Self::receive(spool, envelope)
    }

    fn receive(spool: &Arc<Self>, envelope: Envelope) -> io::Result<Incoming> {
        let content = Scratch::create(spool.incoming(&envelope.id, "eml"))?;
        let received = envelope.received.clone();
        let mut incoming = Incoming {
            spool: Arc::clone(spool),
            content,
            state: State::new(envelope),
            line_octets: 0,
            checksum: crc32fast::Hasher::new(),
        };
        incoming.write(received.as_bytes())?;
        Ok(incoming)
    }

    /// Begins to write a report. Committed, it waits to be announced until the message that it is on says so.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub(crate) fn begin_report(spool: &Arc<Self>, envelope: Envelope, report_on: ReportOn) -> io::Result<Incoming> {
        let mut incoming = Self::receive(spool, envelope)?;
        incoming.state.report_on = Some(report_on);
        Ok(incoming)
    }

    /// Names to `subscriber` every message that arrives from now on.
    pub(crate) fn subscribe(&self, subscriber: impl Fn(QueueId) + Send + 'static) {
        *self.subscriber.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(subscriber));
    }

    /// Tells the subscriber of a message.
    pub(crate) fn announce(&self, id: QueueId) {
        if let Some(subscriber) = &*self.subscriber.lock().unwrap_or_else(PoisonError::into_inner) {
            subscriber(id);
        }
    }

    /// The states of the messages in the spool, oldest first.
    ///
    /// # Errors
    /// Where the directory or a state cannot be read, as for want of a permission. A state that makes no sense is moved
    /// aside instead: one bad file must not stop the mail.
    pub(crate) fn states(&self) -> io::Result<Vec<State>> {
        let mut states = Vec::new();
        for (id, extension) in self.queue()? {
            if extension != "json" {
                continue;
            }
            match self.load(&id) {
                Ok(state) => states.push(state),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    if let Err(error) = self.set_aside(&id, &error) {
                        tracing::error!(%id, %error, "cannot move the damaged message; it is left alone");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let path = self.queued(&id, "json");
                    return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
                }
            }
        }
        states.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(states)
    }

    /// Reads a message's state.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where the message is gone, [`io::ErrorKind::InvalidData`] where the state makes
    /// no sense.
    pub(crate) fn load(&self, id: &QueueId) -> io::Result<State> {
        read_state(&self.directory, id)
    }

    /// Opens a message's content.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub(crate) fn content(&self, id: &QueueId) -> io::Result<File> {
        File::open(self.queued(id, "eml"))
    }

    /// Where the spool is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Records a message's state: after this, a crash goes on from there.
    ///
    /// # Errors
    /// Where the file system refuses; then the earlier state stands.
    pub(crate) fn save(&self, state: &State) -> io::Result<()> {
        let Err(error) = self.replace(state) else { return Ok(()) };
        // As with a full disk. Who has the message must not get it again and again until there is room: the statuses
        // go into the room that the earlier state has. What the servers said has to wait.
        let bare = |recipient: &Recipient| Recipient { last: None, ..recipient.clone() };
        let recipients = state.recipients.iter().map(bare).collect();
        let content = serde_json::to_vec(&State { recipients, ..state.clone() })?;
        self.change(|| durable::overwrite(&self.queued(&state.id, "json"), &content)).map_err(|_| error)
    }

    /// Has the octets that may still be written where the spool is.
    ///
    /// # Errors
    /// Where the file system does not say.
    pub fn free_octets(&self) -> io::Result<u64> {
        durable::free_octets(&self.directory)
    }

    fn replace(&self, state: &State) -> io::Result<()> {
        let record = self.record(state)?;
        self.change(|| record.keep(&self.queued(&state.id, "json")))?;
        self.sync_names()
    }

    /// Writes a state, and does not put it into its place yet.
    fn record(&self, state: &State) -> io::Result<Scratch> {
        let mut file = Scratch::create(self.incoming(&state.id, "json"))?;
        file.write(&serde_json::to_vec_pretty(state)?)?;
        Ok(file)
    }

    /// Forgets a message with which nothing is left to do: a process that ends from now on does not know it any more.
    /// This does not wait for the disk.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub(crate) fn forget(&self, id: &QueueId) -> io::Result<()> {
        match self.change(|| std::fs::remove_file(self.queued(id, "json"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the content of messages that are forgotten. However many they are, the disk is waited for once.
    ///
    /// # Errors
    /// Where the disk does not have it that they are forgotten; then their content stays.
    pub(crate) fn remove(&self, ids: &[QueueId]) -> io::Result<()> {
        // Else the two could reach the disk in the other order, and leave a state without its content.
        self.sync_names()?;
        for id in ids {
            // What cannot be removed now is removed at the next start.
            let _ = self.change(|| std::fs::remove_file(self.queued(id, "eml")));
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn on_change(&self, changed: impl Fn(&Path) + Send + 'static) {
        *self.changed.lock().unwrap() = Some(Box::new(changed));
    }

    /// Makes one change of those between which a crash may come. In tests, nothing else changes meanwhile.
    fn change<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        let watcher = self.changed.lock().unwrap();
        let changed = change();
        #[cfg(test)]
        if let Some(watcher) = &*watcher {
            watcher(&self.directory);
        }
        changed
    }

    /// Whether a message is in the spool.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub(crate) fn contains(&self, id: &QueueId) -> io::Result<bool> {
        self.queued(id, "json").try_exists()
    }

    fn sync_names(&self) -> io::Result<()> {
        durable::sync_directory(&self.directory.join("queue"))
    }

    fn recover(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.directory.join("incoming"))? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                tracing::warn!(directory = %path.display(), "a directory that does not belong into the spool is left alone");
                continue;
            }
            tracing::info!(file = %path.display(), "removing an unfinished reception");
            std::fs::remove_file(path)?;
        }
        for (id, extension) in self.queue()? {
            if extension == "eml" && !self.contains(&id)? {
                tracing::info!(%id, "removing content that was not acknowledged, or is done with");
                std::fs::remove_file(self.queued(&id, "eml"))?;
            }
        }
        self.sync_names()
    }

    /// After a power failure, sets aside messages whose content is not on the disk as it was received: these were not
    /// acknowledged. Otherwise nothing can be missing, and nothing is read.
    fn check_after_boot(&self) -> io::Result<()> {
        // Where the system does not tell its starts apart, each is taken for one after a power failure.
        let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let path = self.directory.join("lock");
        if !boot.is_empty() && std::fs::read(&path)? == boot {
            return Ok(());
        }
        for (id, extension) in self.queue()? {
            if extension != "json" {
                continue;
            }
            // What else there is, the worker finds.
            let Ok(state) = self.load(&id) else { continue };
            let Some(checksum) = state.checksum.filter(|_| state.attempts == 0) else { continue };
            match self.content(&id).and_then(checksum_of) {
                Ok(found) if found == checksum => {}
                Ok(_) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "the content is not what was received");
                    self.set_aside(&id, &error)?;
                }
                // One bad file must not stop the mail. It may have been acknowledged.
                Err(error) => tracing::error!(%id, %error, "cannot read a message's content; it is left alone"),
            }
        }
        // With a full disk, the next start looks again.
        let _ = self.lock.set_len(0).and_then(|()| (&self.lock).write_all(&boot));
        Ok(())
    }

    /// Moves a message's files to where they disturb nothing and nothing removes them.
    fn set_aside(&self, id: &QueueId, error: &io::Error) -> io::Result<()> {
        tracing::error!(%id, %error, "a spooled message is damaged: moved to the directory `damaged`");
        let damaged = self.directory.join("damaged");
        durable::create_directory(&damaged)?;
        // The content first: it alone would be removed at the next start.
        for extension in ["eml", "json"] {
            match std::fs::rename(self.queued(id, extension), damaged.join(format!("{id}.{extension}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The files of the queue by name and extension. What has another name, or is a directory, a link or a pipe, has no
    /// business there, and is left alone.
    fn queue(&self) -> io::Result<Vec<(QueueId, String)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.directory.join("queue"))? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                tracing::warn!(path = %entry.path().display(), "this does not belong into the spool, and is left alone");
                continue;
            }
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.split_once('.'));
            if let Some((stem, extension)) = parts
                && let Ok(id) = QueueId::try_from(stem.to_owned())
            {
                files.push((id, extension.to_owned()));
            }
        }
        Ok(files)
    }

    fn incoming(&self, id: &QueueId, extension: &str) -> PathBuf {
        self.directory.join("incoming").join(format!("{id}.{extension}"))
    }

    fn queued(&self, id: &QueueId, extension: &str) -> PathBuf {
        queued(&self.directory, id, extension)
    }
}

/// Reads a message's state in a spool that another process may have. With a full disk, one may be found half written.
///
/// # Errors
/// As [`Spool::load`].
pub(crate) fn read_state(directory: &Path, id: &QueueId) -> io::Result<State> {
    let state: State = serde_json::from_slice(&std::fs::read(queued(directory, id, "json"))?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if state.id != *id || state.recipients.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the state is of another message, or of none"));
    }
    if !queued(directory, id, "eml").try_exists()? {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the state has lost its content"));
    }
    Ok(state)
}

/// The names of the messages in a spool that another process may have, oldest first.
///
/// # Errors
/// Where the directory cannot be read.
pub(crate) fn read_ids(directory: &Path) -> io::Result<Vec<QueueId>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(directory.join("queue"))? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
        ids.extend(stem.and_then(|stem| QueueId::try_from(stem.to_owned()).ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// The path of one of a message's files.
pub(crate) fn queued(directory: &Path, id: &QueueId, extension: &str) -> PathBuf {
    directory.join("queue").join(format!("{id}.{extension}"))
}

fn checksum_of(mut content: impl Read) -> io::Result<u32> {
    let mut checksum = crc32fast::Hasher::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match content.read(&mut piece) {
            Ok(0) => return Ok(checksum.finalize()),
            Ok(read) => checksum.update(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A message on its way into the spool. Dropped before [`Incoming::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    spool: Arc<Spool>,
    content: Scratch,
    state: State,
    /// How long the last line is so far, with what it has of its end.
    line_octets: usize,
    /// Of the content.
    checksum: crc32fast::Hasher,
}

impl Incoming {
    /// Adds mail data, dot-unstuffed. The octets are kept as they are.
    ///
    /// # Errors
    /// Where the file system refuses: the peer should hear 452 at the end of its mail data.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.state.eight_bit |= !piece.is_ascii();
        self.measure(piece);
        self.checksum.update(piece);
        self.content.write(piece)
    }

    /// Looks for lines that not every server takes.
    fn measure(&mut self, piece: &[u8]) {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            self.state.long_lines |= self.line_octets + (end - begin) > MAX_LINE_OCTETS + 1;
            self.line_octets = 0;
            begin = end + 1;
        }
        self.line_octets += piece.len() - begin;
    }

    /// Takes responsibility for the message: when this returns, it is on the disk, and 250 is true.
    ///
    /// This waits for the disk, so it does not belong on an executor's thread.
    ///
    /// # Errors
    /// Where the file system refuses. Then the message is gone.
    pub fn commit(self) -> io::Result<QueueId> {
        let Self { spool, content, mut state, line_octets, checksum } = self;
        state.long_lines |= line_octets > MAX_LINE_OCTETS;
        let id = state.id.clone();
        if spool.contains(&id)? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the queue id is taken"));
        }
        state.checksum = Some(checksum.finalize());
        let record = spool.record(&state)?;
        let queued = spool.queued(&id, "eml");
        let content = spool.change(|| content.place(&queued))?;
        // All of it reaches the disk in one wait, in whatever order: the checksum tells what a power failure has cut off.
        let committed = spool
            .change(|| record.place(&spool.queued(&id, "json")))
            .and_then(|record| durable::sync_together(&content, &record, &spool.directory.join("queue")));
        if let Err(error) = committed {
            // The peer will hear a failure and send again: better not to have it twice.
            let _ = std::fs::remove_file(spool.queued(&id, "json"));
            let _ = std::fs::remove_file(queued);
            return Err(error);
        }
        tracing::info!(%id, reverse_path = state.reverse_path, recipients = state.recipients.len(), "queued");
        crate::metrics::queued();
        if state.report_on.is_none() {
            spool.announce(id.clone());
        }
        Ok(id)
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("directory", &self.directory).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
