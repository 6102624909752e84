//! The two sides of a transcript, where a network is between them.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::player::Mismatch;
use super::transcript::{Item, What, parse};
use super::words::{
    answer_request, answer_turn, describe_event, describe_hook, describe_request, describe_turn, is_question,
    parse_verdict,
};
use crate::action::{AbortReason, Aborted, AuthFailure, HookCall};
use crate::auth::{AuthRequest, AuthResult, AuthTurn};
use crate::config::{Events, Hooks};
use crate::event::Event;
use crate::handler::Handler;
use crate::mail_data::{Incoming, Piece};
use crate::question::{Answer, Verdict};
use crate::session::Session;

/// A transcript taken apart, for a client and an embedder that have a network between them.
///
/// [`Play`](super::Play) tests an engine, both ends of which it has in its hands. Where a server's loop and
/// sockets are to be tested, too, the server has the [embedder](Self::embedder) for a handler, and whoever
/// plays the [client](Self::client) connects to it. Each side is held to its own lines, in their order;
/// which of two lines of different sides comes first is not looked at.
#[derive(Clone, Debug)]
pub struct Transcript {
    items: Vec<Item>,
}

/// A line of the client's side.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "a client that leaves a line out plays another transcript")]
pub enum ClientLine<'t> {
    /// Send these octets; several in a row in one write.
    Send(&'t [u8]),
    /// Expect a line of a reply. Unless it is exact, it has to begin like this.
    Line {
        /// The line, without its end.
        text: &'t str,
        /// Whether it is all of it.
        exact: bool,
    },
    /// Expect a whole reply, of any number of lines, with this code.
    Reply(u16),
    /// Expect the connection to be closed.
    Closed,
    /// Begin TLS, so that it succeeds or fails.
    Handshake {
        /// Whether it succeeds.
        succeeds: bool,
    },
    /// Let some time pass. What was sent before is not in one write with what follows.
    Wait(Duration),
    /// Send nothing more.
    End,
}

impl Transcript {
    /// Reads a transcript.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] says which line is none.
    pub fn parse(transcript: &str) -> Result<Self, Mismatch> {
        Ok(Self { items: parse(transcript)? })
    }

    /// The client's side, with the number of each line.
    pub fn client(&self) -> impl Iterator<Item = (usize, ClientLine<'_>)> {
        self.items.iter().filter_map(|Item { number, what }| {
            let line = match what {
                What::Send(octets) => ClientLine::Send(octets),
                What::Expect { text, exact: true } => ClientLine::Line { text, exact: true },
                What::Expect { text, exact } => ClientLine::Line { text: text.trim_end(), exact: *exact },
                What::ExpectReply(code) => ClientLine::Reply(*code),
                What::ExpectClosed => ClientLine::Closed,
                What::TlsStart => ClientLine::Handshake { succeeds: true },
                What::TlsFail => ClientLine::Handshake { succeeds: false },
                What::Advance(time) => ClientLine::Wait(*time),
                What::EndOfInput => ClientLine::End,
                // A pause is neither seen nor done by a client.
                What::Pause(_) | What::Question { .. } | What::Event(_) | What::Content(_) | What::Aborted(_) => {
                    return None;
                }
            };
            Some((*number, line))
        })
    }

    /// The embedder's side. It has `hooks` asked.
    #[must_use]
    pub fn embedder(&self, hooks: Hooks) -> Embedder {
        let is_embedders = |item: &&Item| {
            matches!(item.what, What::Question { .. } | What::Event(_) | What::Content(_) | What::Aborted(_))
        };
        let lines: VecDeque<_> = self.items.iter().filter(is_embedders).cloned().collect();
        Embedder {
            hooks,
            events: Events::default(),
            watches_events: lines.iter().any(|item| matches!(item.what, What::Event(_))),
            lines,
            content: Vec::new(),
            mismatch: None,
        }
    }
}

/// The embedder of a transcript: a handler that answers as the transcript says, and compares what it is asked
/// and told with it.
///
/// What the transcript forgets to answer (`drop`), this panics on, which is as much as a handler can do.
/// `late` is no answer of a handler's: transcripts with it are for [`Play`](super::Play).
#[derive(Debug)]
pub struct Embedder {
    hooks: Hooks,
    events: Events,
    watches_events: bool,
    /// Those that are still to come.
    lines: VecDeque<Item>,
    /// What no line has mentioned yet.
    content: Vec<u8>,
    /// The first one.
    mismatch: Option<Mismatch>,
}

impl Embedder {
    /// Has these events told.
    #[must_use]
    pub fn with_events(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// Says that the connection has ended.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] says at which line something else was asked or told than the transcript says.
    pub fn finish(&mut self) -> Result<(), Mismatch> {
        self.compare_content(true);
        if let (None, Some(Item { number, what })) = (&self.mismatch, self.lines.front()) {
            return Err(Mismatch { line: *number, expected: what.shown(), found: None });
        }
        self.mismatch.take().map_or(Ok(()), Err)
    }

    /// The words that answer a question, and the number of their line. A `message` that the transcript does
    /// not mention is accepted.
    fn ask(&mut self, short: &str, full: &str) -> (usize, String) {
        self.compare_content(true);
        match self.lines.front() {
            Some(Item { number, what: What::Question { question, answer } }) if is_question(question, short, full) => {
                let words = (*number, answer.clone());
                self.lines.pop_front();
                assert!(words.1 != "drop", "the transcript forgets to answer {short}");
                words
            }
            _ if short.starts_with("message ") => (0, "accept".into()),
            _ => {
                self.differ(format!("the question {short}"));
                (0, "cannot-tell".into())
            }
        }
    }

    /// Takes the next line, which has to be this one.
    fn expect(&mut self, what: &What) {
        match self.lines.front() {
            Some(item) if item.what == *what => drop(self.lines.pop_front()),
            _ => self.differ(what.shown()),
        }
    }

    /// Compares the content that has come with the lines that are next. It may have come in other pieces, but
    /// where a message ends, nothing is left of it.
    fn compare_content(&mut self, ends: bool) {
        let mut rest = core::mem::take(&mut self.content);
        let mut is_mentioned = false;
        while let Some(Item { what: What::Content(expected), .. }) = self.lines.front() {
            let Some(behind) = rest.strip_prefix(&expected[..]) else {
                return self.differ(What::Content(rest).shown());
            };
            (rest, is_mentioned) = (behind.to_vec(), true);
            self.lines.pop_front();
        }
        if is_mentioned && ends && !rest.is_empty() {
            return self.differ(What::Content(rest).shown());
        }
        self.content = rest;
    }

    fn differ(&mut self, found: String) {
        let (line, expected) = match self.lines.front() {
            Some(Item { number, what }) => (*number, what.shown()),
            None => (0, "nothing more".into()),
        };
        self.mismatch.get_or_insert(Mismatch { line, expected, found: Some(found) });
    }

    fn no_use(&mut self, line: usize, words: &str) {
        let expected = format!("an answer, not {words:?}");
        self.mismatch.get_or_insert(Mismatch { line, expected, found: None });
    }
}

impl Handler for Embedder {
    type Message = ();

    fn hooks(&self) -> Hooks {
        self.hooks
    }

    fn events(&self) -> Events {
        self.events
    }

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        let (short, full) = describe_request(request);
        let (line, words) = self.ask(&short, &full);
        answer_request(request, &words).unwrap_or_else(|| {
            self.no_use(line, &words);
            AuthResult::cannot_tell()
        })
    }

    fn auth(&mut self, _: &Session, turn: AuthTurn) -> Answer {
        let (short, full) = describe_turn(&turn);
        let (line, words) = self.ask(&short, &full);
        answer_turn(turn, &words).unwrap_or_else(|turn| {
            self.no_use(line, &words);
            turn.result(AuthResult::cannot_tell())
        })
    }

    fn call_content(&mut self, piece: Piece<'_>, _: &mut Incoming<()>) {
        // It is looked at whether it becomes a message or not.
        self.content.extend_from_slice(&piece);
    }

    fn aborted(&mut self, aborted: Aborted) {
        self.compare_content(false);
        self.content.clear();
        // A client whose lines have come to their end is gone.
        if aborted.reason != AbortReason::ConnectionLost || !self.lines.is_empty() {
            self.expect(&What::Aborted(aborted.reason.to_string()));
        }
    }

    fn event(&mut self, event: Event<'_>) {
        let is_end =
            matches!(event, Event::AuthFailed { reason: AuthFailure::ConnectionLost, .. } | Event::Closed { .. });
        if self.watches_events && !(is_end && self.lines.is_empty()) {
            self.compare_content(true);
            self.expect(&What::Event(describe_event(event)));
        }
    }

    fn call_hook(&mut self, call: HookCall<'_>, _: &mut Incoming<()>) -> Answer {
        let (short, full) = describe_hook(&call);
        let (line, words) = self.ask(&short, &full);
        call.answer(parse_verdict(&words).unwrap_or_else(|_| {
            self.no_use(line, &words);
            Verdict::TryLater
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Auth;
    use crate::config::Config;
    use crate::testing::Play;

    const CLIENT: &str = "S*: 220\nC: EHLO c\nS*: 250\nC: AUTH PLAIN AHRpbQB4\nS*: 235\nC: MAIL FROM:<a@b>\nS*: 250\n\
        C: RCPT TO:<c@d>\nS*: 250\nC: DATA\nS*: 354\nC: x\nC: .\nS*: 250\nC: DATA\nS*: 503";

    /// Plays the client against an engine with the embedder of `lines` for a handler; what both say.
    fn play(lines: &[&str]) -> [Result<(), Mismatch>; 2] {
        let config = Config::builder("mx.example.org").auth(Auth::new().require_tls(false)).build().unwrap();
        let transcript = Transcript::parse(&lines.join("\n")).unwrap();
        let mut embedder = transcript.embedder(Hooks::MAIL | Hooks::MESSAGE);
        [Play::new(config).transcript_with(&mut embedder, CLIENT), embedder.finish()]
    }

    #[test]
    fn an_embedder_is_held_to_its_lines() {
        let right = [
            "?: authenticate PLAIN authcid=tim password=x -> accept",
            "!: auth-ok PLAIN tim",
            "?: mail <a@b> -> accept",
            "=: x\\r\\n",
            "?: message 3 -> accept",
        ];
        assert_eq!(play(&right), [Ok(()), Ok(())]);
        // A message need not be mentioned, nor its content, nor events.
        assert_eq!(play(&[right[0], right[2]]), [Ok(()), Ok(())]);
        for (line, wrong, said) in [
            (0, "?: authenticate LOGIN authcid=tim -> accept", "line 1: expected the question authenticate LOGIN"),
            (1, "!: auth-ok LOGIN tim", "line 2: expected Event(\"auth-ok LOGIN tim\"), found Event(\"auth-ok PLAIN"),
            (1, "A: reset", "line 2: expected Aborted(\"reset\"), found the question mail <a@b>"),
            (2, "?: mail <a@b> -> perhaps", "line 3: expected an answer, not \"perhaps\""),
            (3, "=: x", "line 5: expected the question message 3, found content \"\\r\\n\""),
            (3, "=: y", "line 4: expected content \"y\", found content \"x\\r\\n\""),
            (4, "?: message 4 -> accept", "line 5: expected the question message 4, but the connection waits"),
        ] {
            let mut lines = right;
            lines[line] = wrong;
            let [_, seen] = play(&lines);
            let mismatch = seen.unwrap_err().to_string();
            assert!(mismatch.starts_with(said), "{wrong}: {mismatch}");
        }
        assert!(Transcript::parse("S: 220\nwhat").is_err_and(|mismatch| mismatch.line == 2));
    }
}
