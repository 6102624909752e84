//! Keeps mail in a Maildir (<https://cr.yp.to/proto/maildir.html>).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sansmtp::{Envelope, Handler, Hooks, MailData, Session, Verdict, reply};

use crate::envelope_fields::envelope_fields;
use sansmtp_relay::durable::{self, Scratch};

/// What all connections share.
pub(crate) struct Maildir {
    directory: PathBuf,
    /// The two characters that a name in a Maildir cannot have are written otherwise.
    hostname: String,
    delivered: AtomicU64,
}

impl Maildir {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        for part in ["tmp", "new", "cur"] {
            durable::create_directory(&directory.join(part))?;
        }
        let hostname = gethostname::gethostname().to_string_lossy().replace('/', "\\057").replace(':', "\\072");
        Ok(Self { directory: directory.to_owned(), hostname, delivered: AtomicU64::new(0) })
    }

    /// The time, what no other delivery of this moment has, the host.
    fn unique_name(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros, process) = (now.as_secs(), now.subsec_micros(), std::process::id());
        let delivered = self.delivered.fetch_add(1, Ordering::Relaxed);
        format!("{seconds}.M{micros}P{process}Q{delivered}R{:08x}.{}", fastrand::u32(..), self.hostname)
    }
}

/// One connection's handler. A message is written to `tmp` while it comes, and accepted when it is in `new`, on the
/// disk, name and all.
pub(crate) struct Mailbox {
    maildir: Arc<Maildir>,
}

/// A message on its way into the Maildir. Dropped before its delivery, it takes its file along.
pub(crate) struct Draft {
    name: String,
    file: Scratch,
    /// Whether all of it could be written so far.
    written: io::Result<()>,
}

impl MailData for Draft {
    fn append(&mut self, piece: &[u8]) {
        if self.written.is_ok() {
            self.written = self.file.write(piece);
        }
    }
}

impl Mailbox {
    pub(crate) fn new(maildir: Arc<Maildir>) -> Self {
        Self { maildir }
    }

    fn begin(&self, fields: &str) -> io::Result<Draft> {
        let name = self.maildir.unique_name();
        let mut file = Scratch::create(self.maildir.directory.join("tmp").join(&name))?;
        file.write(fields.as_bytes())?;
        Ok(Draft { name, file, written: Ok(()) })
    }

    fn deliver(&self, draft: Draft) -> io::Result<()> {
        let Draft { name, file, written } = draft;
        written?;
        let new = self.maildir.directory.join("new");
        file.keep(&new.join(name))?;
        durable::sync_directory(&new)
    }
}

impl Handler for Mailbox {
    type Message = Option<Draft>;

    fn hooks(&self) -> Hooks {
        Hooks::DATA | Hooks::MESSAGE
    }

    fn data(&mut self, session: &Session, envelope: &Envelope, message: &mut Option<Draft>) -> Verdict {
        verdict(self.begin(&envelope_fields(session, envelope)).map(|draft| *message = Some(draft)))
    }

    fn message(&mut self, _: &Session, _: &Envelope, message: Option<Draft>) -> Verdict {
        message.map_or(Verdict::TryLater, |draft| verdict(self.deliver(draft)))
    }
}

fn verdict(done: io::Result<()>) -> Verdict {
    match done {
        Ok(()) => Verdict::Accept,
        Err(error) => {
            eprintln!("mailbox: {error}");
            reply!("452 4.3.1 The message cannot be kept").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use sansmtp::Config;
    use sansmtp::testing::Play;

    use super::*;

    fn play(directory: &Path, content: &str) {
        let config = Config::builder("mx.example.org").build().unwrap();
        let maildir = Arc::new(Maildir::open(directory).unwrap());
        let transcript = format!(
            r"
            S: 220 mx.example.org ESMTP
            C: EHLO client.example
            S*: 250
            C: MAIL FROM:<>
            C: RCPT TO:<b@example.org>
            C: DATA
            S*: 250
            S*: 250
            {content}
            "
        );
        Play::new(config).transcript_with(&mut Mailbox::new(maildir), &transcript).unwrap();
    }

    fn files(directory: PathBuf) -> Vec<PathBuf> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_message_is_kept_octet_for_octet_below_its_envelope() {
        let directory = tempfile::tempdir().unwrap();
        play(directory.path(), "S*: 354\nC-: Subject: x\\r\\n\\r\\n..\\xff\\r\\n.\\r\\n\nS*: 250");
        play(directory.path(), "S*: 354\nC: .\nS*: 250");
        let mut kept: Vec<_> =
            files(directory.path().join("new")).iter().map(|path| std::fs::read(path).unwrap()).collect();
        kept.sort();
        let fields = b"X-Peer: local\r\nX-MailFrom: <>\r\nX-RcptTo: b@example.org\r\n";
        assert_eq!(kept, [fields.to_vec(), [fields, &b"Subject: x\r\n\r\n.\xff\r\n"[..]].concat()]);
        assert!(files(directory.path().join("tmp")).is_empty());
    }

    #[test]
    fn what_is_refused_or_broken_off_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        play(directory.path(), "S*: 354\nC-: a\\nb\\r\\n.\\r\\n\nA: bare-lf\nS: 554 5.6.11 ...");
        play(directory.path(), "S*: 354\nC: half\nX: eof\nA: connection-lost\nS: <closed>");
        assert!(files(directory.path().join("new")).is_empty());
        assert!(files(directory.path().join("tmp")).is_empty());
    }

    #[test]
    fn a_message_that_cannot_be_kept_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let maildir = Arc::new(Maildir::open(directory.path()).unwrap());
        std::fs::remove_dir(directory.path().join("new")).unwrap();
        let mailbox = Mailbox::new(maildir);
        let mut draft = mailbox.begin("").unwrap();
        draft.append(b"x");
        assert!(mailbox.deliver(draft).is_err());
        std::fs::remove_dir(directory.path().join("tmp")).unwrap();
        assert!(mailbox.begin("").is_err());
    }
}
