//! The code of the README: what those get who copy it.

mod support {
    pub(crate) mod voids;
}

use std::io;
use std::sync::Arc;

use sansmtp::auth::KnownPassword;
use sansmtp::testing::Play;
use sansmtp::{Config, Hooks};

use support::voids::{VOID, bounded, octets_of};

mod handler {
    include!("support/readme_handler.rs");

    pub(super) fn inbox(tim: KnownPassword) -> impl Handler {
        Inbox(Arc::new(tim))
    }
}

mod its_loop {
    include!("support/readme_loop.rs");

    /// What it stores of a session.
    pub(super) fn stored(config: Arc<Config>, session: super::Stream<'_>) -> Vec<Vec<u8>> {
        let stored = std::cell::RefCell::new(Vec::new());
        let store = |message| {
            stored.borrow_mut().push(message);
            Verdict::Accept
        };
        drive(config, session, |_| AuthResult::refuse(), |_| Verdict::Accept, store).expect("it ends in order");
        stored.into_inner()
    }
}

fn config() -> Arc<Config> {
    bounded(Config::builder("mx.example.org")).hooks(Hooks::ALL).build().expect("a sound configuration")
}

#[test]
fn what_is_tested_is_what_stands_there() {
    let readme = include_str!("../README.md");
    for (tested, from) in [
        (include_str!("support/readme_handler.rs"), "struct Inbox"),
        (include_str!("support/readme_loop.rs"), "use sansmtp"),
    ] {
        let (_, code) = tested.split_once(from).unwrap();
        assert!(readme.contains(&format!("{from}{code}")), "the README has another\n{from}{code}");
    }
}

/// Nothing of a message that is void gets into the next one.
#[test]
fn the_handler_stores_each_message_alone() {
    let directory = std::env::temp_dir().join(format!("sansmtp-readme-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::env::set_current_dir(&directory).unwrap();
    for void in VOID {
        for cut in [usize::MAX, 1, 2, 3, 7] {
            let mut inbox = handler::inbox(KnownPassword::new(b"tanstaaf", b"16 random octets").unwrap());
            let transcript = void.transcript("hello\\r\\n");
            Play::new(config()).cut(cut).transcript_with(&mut inbox, &transcript).unwrap();
            assert_eq!(std::fs::read("inbox.eml").unwrap(), b"hello\r\n", "{}, cut {cut}", void.name);
            std::fs::remove_file("inbox.eml").unwrap();
        }
    }
    std::env::set_current_dir("/").unwrap();
    std::fs::remove_dir(directory).unwrap();
}

/// RFC 5321, sections 2.4 and 4.5.1.
#[test]
fn the_handler_knows_its_domain_in_any_case_and_its_postmaster() {
    let mut inbox = handler::inbox(KnownPassword::new(b"tanstaaf", b"16 random octets").unwrap());
    let transcript = "S: 220 mx.example.org ESMTP
         C: EHLO client.example
         S*: 250
         C: MAIL FROM:<tim@example.com>
         S: 250 2.1.0 ...
         C: RCPT TO:<tim@example.org>
         S: 250 2.1.5 ...
         C: RCPT TO:<tim@EXAMPLE.Org>
         S: 250 2.1.5 ...
         C: RCPT TO:<Postmaster>
         S: 250 2.1.5 ...
         C: RCPT TO:<tim@example.com>
         S: 550 5.7.1 ...
         C: RCPT TO:<tim@example.org.example.com>
         S: 550 5.7.1 ...";
    Play::new(config()).transcript_with(&mut inbox, transcript).unwrap();
}

/// Gives out so many octets a read, at the most; nobody looks at what is written.
struct Stream<'s>(&'s [u8], usize);

impl io::Read for Stream<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let octets = room.len().min(self.1);
        io::Read::read(&mut self.0, room.get_mut(..octets).unwrap_or_default())
    }
}

impl io::Write for Stream<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// And it does nothing at `Aborted`.
#[test]
fn the_loop_stores_each_message_alone() {
    for void in VOID.iter().filter(|void| void.is_without_tls()) {
        let session = octets_of(&void.transcript("hello\\r\\n"));
        for cut in 1..=session.len() {
            let stored = its_loop::stored(config(), Stream(&session, cut));
            assert_eq!(stored, [b"hello\r\n"], "{}, cut {cut}", void.name);
        }
    }
}
