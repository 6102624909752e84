//! Dialogues with every mechanism: what a client with the right password says, bent by edits, which are
//! octets. What holds of them: no panic, no 235 without a yes, and no difference by how they are cut.

#![allow(dead_code, reason = "each test uses its part")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sansmtp::Config;
use sansmtp::auth::ScramKeys;
use sansmtp::auth::mechanism::CramMd5Key;

use super::driver::Session;
use super::mechanisms::{self, MECHANISMS};

/// A mechanism, and what the client sends.
#[derive(Clone, Debug)]
pub(crate) struct Dialogue {
    mechanism: &'static str,
    /// The first goes with the command.
    messages: Vec<Message>,
    is_right: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Message {
    /// No initial response.
    None,
    /// Goes in base64.
    Octets(Vec<u8>),
    /// Goes as it is.
    Line(Vec<u8>),
}

struct Shared {
    config: Arc<Config>,
    keys: [ScramKeys; 3],
    right: Vec<Vec<Message>>,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let auth = mechanisms::every_mechanism().pause(Duration::ZERO, Duration::ZERO);
    let builder = Config::builder("mx.example.org").auth(auth).implicit_tls(true).entropy(mechanisms::zeros);
    let right = |mechanism: &&str| {
        let messages = mechanisms::messages(mechanism, mechanisms::PASSWORD);
        messages.into_iter().map(|message| message.map_or(Message::None, Message::Octets)).collect()
    };
    Shared {
        config: builder.build().expect("a sound configuration"),
        keys: mechanisms::HASHES.map(mechanisms::keys),
        right: MECHANISMS.iter().map(right).collect(),
    }
});

impl Dialogue {
    /// The right dialogue of the mechanism of this number, with its first message behind the command or in
    /// a line of its own.
    pub(crate) fn right(mechanism: usize, initial_response: bool) -> Self {
        let mechanism = mechanism % MECHANISMS.len();
        let mut messages = SHARED.right[mechanism].clone();
        if !initial_response && messages.first() != Some(&Message::None) {
            messages.insert(0, Message::None);
        }
        Self { mechanism: MECHANISMS[mechanism], messages, is_right: true }
    }

    /// Bends it. Any octets are edits.
    pub(crate) fn edit(mut self, edits: &[u8]) -> Self {
        let right = self.responses();
        let mut edits = edits;
        while let Some((&[kind, which, at, length], rest)) = edits.split_first_chunk::<4>() {
            let (given, rest) = rest.split_at(rest.len().min(usize::from(length)));
            // Only some edits need octets of their own.
            edits = if matches!(kind % 8, 0..3) { rest } else { edits.get(4..).unwrap_or_default() };
            self.edit_message(kind % 8, usize::from(which), usize::from(at), given);
        }
        // What comes behind a whole exchange is none of its business.
        self.is_right = self.responses().starts_with(&right);
        self
    }

    /// The lines that the exchange gets, wherever the first of them is.
    fn responses(&self) -> Vec<Vec<u8>> {
        let octets = self.octets();
        let lines = octets.split(|&octet| octet == b'\n').skip(1);
        let mut lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(b"not ended by CRLF"));
        // White space at the end of a command is passed over.
        let command = lines.next().unwrap_or_default().trim_ascii_end();
        let initial =
            command.splitn(3, |&octet| octet == b' ').nth(2).map(|line| if line == b"=" { b"" } else { line });
        initial.into_iter().chain(lines).take_while(|line| *line != b"NOOP").map(<[u8]>::to_vec).collect()
    }

    fn edit_message(&mut self, kind: u8, which: usize, at: usize, given: &[u8]) {
        let Some(which) = which.checked_rem(self.messages.len()) else {
            return self.messages.push(Message::Octets(given.to_vec()));
        };
        match kind {
            0 => self.messages[which] = Message::Octets(given.to_vec()),
            1 => self.messages[which] = Message::Line(given.to_vec()),
            6 => drop(self.messages.remove(which)),
            7 if self.messages.len() < MAX_MESSAGES => self.messages.insert(which, self.messages[which].clone()),
            7 => {}
            _ => {
                let (Message::Octets(octets) | Message::Line(octets)) = &mut self.messages[which] else { return };
                let at = at.checked_rem(octets.len() + 1).unwrap_or(0);
                match kind {
                    2 => drop(octets.splice(at..at, given.iter().copied())),
                    3 => octets.truncate(at),
                    4 if octets.len() < MAX_LINE_OCTETS => octets.extend_from_within(at..),
                    4 => {}
                    _ => octets.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= 1 << (given.len() % 8)),
                }
            }
        }
    }

    fn octets(&self) -> Vec<u8> {
        let mut octets = format!("EHLO c.example\r\nAUTH {}", self.mechanism).into_bytes();
        for (number, message) in self.messages.iter().enumerate() {
            let line = match message {
                Message::None if number == 0 => continue,
                Message::None => Vec::new(),
                // RFC 4954, section 4: behind the command, nothing is "=".
                Message::Octets(message) if message.is_empty() && number == 0 => b"=".to_vec(),
                Message::Octets(message) => STANDARD.encode(message).into_bytes(),
                Message::Line(line) => line.clone(),
            };
            octets.extend_from_slice(if number == 0 { b" " } else { b"\r\n" });
            octets.extend(line);
        }
        octets.extend_from_slice(b"\r\nNOOP\r\n");
        octets
    }

    /// Runs the dialogue, cut in several ways, and says whether AUTH has succeeded.
    pub(crate) fn check(&self, answers: &[u8], ends: bool, cut: impl FnMut(usize) -> usize) -> Result<bool, String> {
        let octets = self.octets();
        let session = Session {
            config: &SHARED.config,
            tls: Some(mechanisms::tls()),
            answers,
            flights: &[&octets],
            ends,
            keys: &SHARED.keys,
            proof_is_right: self.is_right,
        };
        let (_, succeeded) = session.check(cut).map_err(|error| format!("{self:?}: {error}"))?;
        Ok(succeeded)
    }
}

/// Long enough to be refused; edits may double what is there.
const MAX_LINE_OCTETS: usize = 12_288;

const MAX_MESSAGES: usize = 16;

/// What is read of a text is written again, and read as the same; nothing panics.
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    if let Ok(keys) = text.parse::<ScramKeys>() {
        let written = keys.to_text();
        let read: ScramKeys = written.parse().map_err(|error| format!("{text}: {error}"))?;
        if read.to_text() != written || read.salt() != keys.salt() || read.iterations() != keys.iterations() {
            return Err(format!("{text} is written {}", *written));
        }
    }
    if let Ok(key) = text.parse::<CramMd5Key>() {
        let written = key.to_text();
        if !written.eq_ignore_ascii_case(text) {
            return Err(format!("{text} is written {}", *written));
        }
    }
    Ok(())
}
