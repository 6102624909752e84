//! Final delivery into a Maildir (<https://cr.yp.to/proto/maildir.html>).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::durable::{self, Scratch};
use crate::envelope::{Envelope, QueueId};

/// A Maildir that takes every recipient's mail.
///
/// A message is one file however many recipients it has; `Delivered-To:` names them all, so whoever reads this
/// Maildir sees the blind copies, as a single mailbox for a whole machine must.
#[derive(Debug)]
pub struct Maildir {
    directory: PathBuf,
    hostname: String,
    delivered: AtomicU64,
}

impl Maildir {
    /// Opens a Maildir, making its three directories where they are missing.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub fn open(directory: &Path, hostname: &str) -> io::Result<Self> {
        for part in ["tmp", "new", "cur"] {
            durable::create_directory(&directory.join(part))?;
        }
        remove_stale(&directory.join("tmp"))?;
        // The two characters that a Maildir name cannot have, as the convention writes them.
        let hostname = hostname.replace('/', "\\057").replace(':', "\\072");
        Ok(Self { directory: directory.to_owned(), hostname, delivered: AtomicU64::new(0) })
    }

    /// How many octets may still be written there.
    ///
    /// # Errors
    /// Where the file system does not say.
    pub fn free_octets(&self) -> io::Result<u64> {
        durable::free_octets(&self.directory)
    }

    /// Begins to receive a message.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub fn begin(&self, envelope: Envelope) -> io::Result<Incoming> {
        let name = self.unique_name();
        let mut file = Scratch::create(self.directory.join("tmp").join(&name))?;
        file.write(trace_headers(&envelope).as_bytes())?;
        let new = self.directory.join("new");
        Ok(Incoming { id: envelope.id, file, target: new.join(name), new })
    }

    /// Seconds, then what no other delivery of this second has, then the host.
    fn unique_name(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!(
            "{}.M{}P{}Q{}R{:08x}.{}",
            now.as_secs(),
            now.subsec_micros(),
            std::process::id(),
            self.delivered.fetch_add(1, Ordering::Relaxed),
            fastrand::u32(..),
            self.hostname
        )
    }
}

/// A message on its way into the Maildir. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    id: QueueId,
    file: Scratch,
    target: PathBuf,
    new: PathBuf,
}

impl Incoming {
    /// Adds mail data, dot-unstuffed. The octets are kept as they are.
    ///
    /// # Errors
    /// Where the file system refuses: the peer should hear 452 at the end of its mail data.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write(piece)
    }

    /// Takes responsibility for the message: when this returns, it is on the disk.
    ///
    /// # Errors
    /// Where the file system refuses. Then the message is gone.
    pub fn commit(self) -> io::Result<QueueId> {
        self.file.keep(&self.target)?;
        if let Err(error) = durable::sync_directory(&self.new) {
            // The peer will hear a failure and send again: better not to have it twice.
            let _ = std::fs::remove_file(&self.target);
            return Err(error);
        }
        tracing::info!(id = %self.id, file = %self.target.display(), "delivered");
        Ok(self.id)
    }
}

/// Clears away what crashes have left in `tmp`; younger files may be another program's work (maildir(5)).
fn remove_stale(tmp: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(tmp)? {
        let entry = entry?;
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > STALE_AFTER {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What final delivery adds (RFC 5321, section 4.4): the reverse-path, which leaves the envelope here, and the
/// recipients, above the `Received:` that every server adds.
fn trace_headers(envelope: &Envelope) -> String {
    let mut headers = format!("Return-Path: <{}>\r\n", in_header(&envelope.reverse_path));
    for recipient in &envelope.recipients {
        headers.push_str(&format!("Delivered-To: {}\r\n", in_header(&recipient.forward_path)));
    }
    headers.push_str(&envelope.received);
    headers
}

/// The engine lets no control character into a path; a header would be the place where one did harm.
fn in_header(path: &str) -> String {
    path.replace(char::is_control, "?")
}

const STALE_AFTER: Duration = Duration::from_secs(36 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        let received = "Received: from there\r\n\tby here\r\n".to_owned();
        Envelope { received, ..Envelope::new("tim@example.org", ["a@example.org", "b@example.org"]) }
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_message_is_kept_octet_for_octet_below_its_trace() {
        let directory = tempfile::tempdir().unwrap();
        let maildir = Maildir::open(directory.path(), "mx/1:2").unwrap();
        let mut incoming = maildir.begin(envelope()).unwrap();
        let content = b"Bcc: b@example.org\r\n\r\n.\xff\0\r\n";
        incoming.write(&content[..7]).unwrap();
        incoming.write(&content[7..]).unwrap();
        assert!(files(&directory.path().join("new")).is_empty());
        incoming.commit().unwrap();
        let [file] = &files(&directory.path().join("new"))[..] else { panic!("not one message") };
        assert!(file.to_str().unwrap().ends_with(".mx\\0571\\0722"));
        let trace = "Return-Path: <tim@example.org>\r\nDelivered-To: a@example.org\r\nDelivered-To: b@example.org\r\n\
                     Received: from there\r\n\tby here\r\n";
        assert_eq!(std::fs::read(file).unwrap(), [trace.as_bytes(), content].concat());
        assert!(files(&directory.path().join("tmp")).is_empty());
    }

    #[test]
    fn an_unfinished_message_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let maildir = Maildir::open(directory.path(), "mx").unwrap();
        let mut incoming = maildir.begin(envelope()).unwrap();
        incoming.write(b"half").unwrap();
        assert_eq!(files(&directory.path().join("tmp")).len(), 1);
        drop(incoming);
        assert!(files(&directory.path().join("tmp")).is_empty());
        assert!(files(&directory.path().join("new")).is_empty());
    }

    #[test]
    fn only_what_is_long_abandoned_is_cleared_away() {
        let directory = tempfile::tempdir().unwrap();
        Maildir::open(directory.path(), "mx").unwrap();
        for (name, age) in [("old", 37), ("young", 35)] {
            let file = std::fs::File::create(directory.path().join("tmp").join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age * 60 * 60)).unwrap();
        }
        Maildir::open(directory.path(), "mx").unwrap();
        assert_eq!(files(&directory.path().join("tmp")), [directory.path().join("tmp").join("young")]);
    }

    #[test]
    fn a_path_cannot_add_a_header() {
        let evil = Envelope { reverse_path: "a>\r\nX-Evil: yes".to_owned(), ..envelope() };
        assert!(trace_headers(&evil).starts_with("Return-Path: <a>??X-Evil: yes>\r\n"));
    }
}
