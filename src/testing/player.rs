//! Plays a transcript.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use super::transcript::{Item, What, parse};
use super::words::{
    answer_request, answer_turn, describe_event, describe_hook, describe_request, describe_turn, is_question,
    parse_verdict,
};
use crate::action::{Action, Hook};
use crate::auth::{AuthRequest, AuthTurn};
use crate::config::Config;
use crate::connection::Connection;
use crate::event::TlsFailure;
use crate::handler::Handler;
use crate::mail_data::Incoming;
use crate::question::{Answer, Verdict};
use crate::session::{Peer, TlsInfo, TlsVersion};

/// Plays a transcript against a fresh connection. See the [module](super) for what one looks like.
#[derive(Debug)]
#[must_use = "nothing is played before `transcript`"]
pub struct Play {
    config: Arc<Config>,
    peer: Peer,
    id: u64,
    local_address: Option<SocketAddr>,
    implicit_tls: bool,
    tls: TlsInfo,
    cut: usize,
}

impl Play {
    /// Plays against connections with this configuration.
    pub fn new(config: Arc<Config>) -> Self {
        let tls = TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
        Self { config, peer: Peer::local(), id: 0, local_address: None, implicit_tls: false, tls, cut: usize::MAX }
    }

    /// Connects from `peer`.
    pub fn peer(mut self, peer: impl Into<Peer>) -> Self {
        self.peer = peer.into();
        self
    }

    /// Numbers the connection: [`Session::id`](crate::Session::id).
    pub fn id(mut self, id: u64) -> Self {
        self.id = id;
        self
    }

    /// Says at which address the connection is accepted: [`Session::local_address`](crate::Session::local_address).
    pub fn local_address(mut self, address: SocketAddr) -> Self {
        self.local_address = Some(address);
        self
    }

    /// Puts the connection under TLS from its start.
    pub fn implicit_tls(mut self, tls: TlsInfo) -> Self {
        self.implicit_tls = true;
        self.tls(tls)
    }

    /// What TLS negotiates when the transcript starts it. TLS 1.3, without certificates or channel
    /// binding, unless changed.
    pub fn tls(mut self, tls: TlsInfo) -> Self {
        self.tls = tls;
        self
    }

    /// Feeds what the client sends in pieces of at most `octets` octets. It should make no difference.
    pub fn cut(mut self, octets: usize) -> Self {
        self.cut = octets.max(1);
        self
    }

    /// Plays `transcript`, which holds every answer.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] says at which line the connection did something else.
    pub fn transcript(self, transcript: &str) -> Result<(), Mismatch> {
        self.play(transcript, None::<&mut Nobody>)
    }

    /// Plays `transcript`, and asks `handler` whatever the transcript does not answer.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] says at which line the connection did something else.
    pub fn transcript_with(self, handler: &mut impl Handler, transcript: &str) -> Result<(), Mismatch> {
        self.play(transcript, Some(handler))
    }

    fn play<H: Handler>(self, transcript: &str, handler: Option<&mut H>) -> Result<(), Mismatch> {
        let items = parse(transcript)?;
        let mut connection = Connection::new(self.config, self.peer).with_id(self.id);
        if let Some(address) = self.local_address {
            connection = connection.with_local_address(address);
        }
        if let Some(handler) = &handler {
            connection.set_hooks(handler.hooks());
            let config = connection.config().events();
            connection.set_events(config | handler.events());
        }
        Player {
            connection,
            handler,
            incoming: Incoming::new(),
            tls_from_start: self.implicit_tls,
            tls: self.tls,
            cut: self.cut,
            now: Duration::ZERO,
            unsent: Vec::new(),
            found: VecDeque::new(),
            content: Vec::new(),
            watches_events: items.iter().any(|item| matches!(item.what, What::Event(_))),
            closed: false,
            blocked: false,
            late: Vec::new(),
        }
        .play(&items)
    }
}

/// Where a connection did something else than its transcript says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The number of the transcript's line, from 1; one past the last for something that came after it.
    pub line: usize,
    /// What the transcript says.
    pub expected: String,
    /// What the connection did, if it did anything.
    pub found: Option<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}", self.line, self.expected)?;
        match &self.found {
            Some(found) => write!(f, ", found {found}"),
            None => f.write_str(", but the connection waits"),
        }
    }
}

impl core::error::Error for Mismatch {}

/// The handler of a transcript that has every answer.
struct Nobody;

impl Handler for Nobody {
    type Message = ();
}

struct Player<'h, H: Handler> {
    connection: Connection,
    handler: Option<&'h mut H>,
    incoming: Incoming<H::Message>,
    /// TLS begins as soon as the connection is ready for it.
    tls_from_start: bool,
    tls: TlsInfo,
    cut: usize,
    now: Duration,
    unsent: Vec<u8>,
    /// What the connection has done and the transcript has not come to.
    found: VecDeque<Found>,
    content: Vec<u8>,
    watches_events: bool,
    closed: bool,
    /// A question is out.
    blocked: bool,
    /// Answers to questions whose time had run out.
    late: Vec<Answer>,
}

#[derive(Debug)]
enum Found {
    ReplyLine { text: String, is_last: bool },
    Question { short: String, full: String, asked: Asked },
    Event(String),
    Aborted(String),
    Pause(Duration),
    StartTls,
    Closed,
}

#[derive(Debug)]
enum Asked {
    Hook(crate::action::HookQuestion),
    Authenticator(AuthRequest),
    Turn(AuthTurn),
}

impl<H: Handler> Player<'_, H> {
    fn play(mut self, items: &[Item]) -> Result<(), Mismatch> {
        for item in items {
            self.step(item)?;
        }
        let after = items.last().map_or(1, |item| item.number + 1);
        self.run(true);
        self.skip_unmentioned();
        match self.found.pop_front() {
            Some(found) => Err(mismatch(after, "nothing more".to_string(), Some(&found))),
            None => Ok(()),
        }
    }

    fn step(&mut self, item: &Item) -> Result<(), Mismatch> {
        let line = item.number;
        match &item.what {
            What::Send(octets) => {
                // A whole group goes in at once, with the first line that looks at what comes back.
                self.unsent.extend_from_slice(octets);
                return Ok(());
            }
            What::Advance(time) => {
                self.run(true);
                self.now = self.now.saturating_add(*time);
                return Ok(());
            }
            What::EndOfInput => {
                self.run(true);
                self.connection.end_of_input();
                return Ok(());
            }
            What::Content(expected) => {
                // The end of the message may be the next line.
                self.run(false);
                let found = core::mem::take(&mut self.content);
                if found != *expected {
                    return Err(Mismatch {
                        line,
                        expected: item.what.shown(),
                        found: Some(What::Content(found).shown()),
                    });
                }
                return Ok(());
            }
            What::Question { question, answer } => {
                self.run(false);
                self.skip_unmentioned();
                return match self.found.pop_front() {
                    Some(Found::Question { short, full, asked }) if is_question(question, &short, &full) => {
                        self.blocked = false;
                        self.answer(line, asked, answer)
                    }
                    found => Err(mismatch(line, item.what.shown(), found.as_ref())),
                };
            }
            What::ExpectReply(code) => return self.expect_reply(line, *code),
            What::Expect { .. }
            | What::ExpectClosed
            | What::Event(_)
            | What::Aborted(_)
            | What::Pause(_)
            | What::TlsStart
            | What::TlsFail => {}
        }
        self.run(true);
        if !matches!(item.what, What::Pause(_)) {
            self.skip_unmentioned();
        }
        let found = self.found.pop_front();
        let as_expected = match (&item.what, &found) {
            (What::Expect { text, exact: true }, Some(Found::ReplyLine { text: found, .. })) => text == found,
            (What::Expect { text, .. }, Some(Found::ReplyLine { text: found, .. })) => {
                found.starts_with(text.trim_end())
            }
            (What::ExpectClosed, Some(Found::Closed)) => true,
            (What::Event(event), Some(Found::Event(found))) => event == found,
            (What::Aborted(reason), Some(Found::Aborted(found))) => reason == found,
            (What::Pause(length), Some(Found::Pause(found))) => length == found,
            (What::TlsStart, Some(Found::StartTls)) => self.connection.tls_established(self.tls.clone()).is_ok(),
            (What::TlsFail, Some(Found::StartTls)) => {
                self.connection.tls_failed(TlsFailure::ConnectionLost);
                true
            }
            _ => false,
        };
        if matches!(item.what, What::Aborted(_)) {
            // Void content is of no interest any more.
            self.content.clear();
        }
        if as_expected { Ok(()) } else { Err(mismatch(line, item.what.shown(), found.as_ref())) }
    }

    fn expect_reply(&mut self, line: usize, code: u16) -> Result<(), Mismatch> {
        self.run(true);
        self.skip_unmentioned();
        loop {
            match self.found.pop_front() {
                Some(Found::ReplyLine { text, is_last }) if text.starts_with(&code.to_string()) => {
                    if is_last {
                        return Ok(());
                    }
                }
                found => return Err(mismatch(line, format!("a reply {code}"), found.as_ref())),
            }
        }
    }

    /// Passes over what the transcript need not mention.
    fn skip_unmentioned(&mut self) {
        while let Some(Found::Pause(_)) = self.found.front() {
            self.found.pop_front();
        }
    }

    /// Lets the connection work until it waits for the transcript: for input when there is none, or for
    /// the answer to a question. `answer_messages` accepts a message that the transcript passes over.
    fn run(&mut self, answer_messages: bool) {
        if answer_messages {
            self.accept_unmentioned_message();
        }
        let unsent = core::mem::take(&mut self.unsent);
        let mut input: &[u8] = &[];
        let mut pieces = unsent.chunks(self.cut.min(unsent.len().max(1)));
        let mut rest_at = 0;
        while !self.closed && !self.blocked {
            // Only the header of the PROXY protocol is in front of TLS.
            let before_tls =
                if self.tls_from_start { self.connection.poll_proxy_header(self.now, &mut input) } else { None };
            let action = match before_tls {
                Some(action) => action,
                None => {
                    if core::mem::take(&mut self.tls_from_start) {
                        // Before the greeting it cannot be refused.
                        let _ = self.connection.tls_established(self.tls.clone());
                    }
                    self.connection.poll(self.now, &mut input)
                }
            };
            match action {
                Action::Reply(reply) => self.found.extend(reply_lines(reply.as_bytes())),
                Action::Challenge(challenge) => self.found.extend(reply_lines(challenge.as_bytes())),
                Action::Transmit(_) | Action::Flush { .. } => {}
                Action::Content(piece) => {
                    self.content.extend_from_slice(&piece);
                    if let Some(handler) = &mut self.handler {
                        handler.call_content(piece, &mut self.incoming);
                    }
                }
                Action::Aborted(aborted) => {
                    self.found.push_back(Found::Aborted(aborted.reason.to_string()));
                    self.incoming.discard();
                    if let Some(handler) = &mut self.handler {
                        handler.aborted(aborted);
                    }
                }
                Action::Event(event) => {
                    if self.watches_events {
                        self.found.push_back(Found::Event(describe_event(event)));
                    }
                    if let Some(handler) = &mut self.handler
                        && handler.events().contains(event.kind())
                    {
                        handler.event(event);
                    }
                }
                Action::CallHook(call) => {
                    if let Some(handler) = &mut self.handler {
                        let answer = handler.call_hook(call, &mut self.incoming);
                        // The question was asked a moment ago.
                        let _ = self.connection.answer(answer);
                        continue;
                    }
                    let is_message = matches!(call.hook(), Hook::Message { .. });
                    let (short, full) = describe_hook(&call);
                    let asked = Asked::Hook(call.into_question());
                    self.found.push_back(Found::Question { short, full, asked });
                    self.blocked = true;
                    if answer_messages && is_message {
                        self.accept_unmentioned_message();
                    }
                }
                Action::CallAuthenticator(request) => {
                    if let Some(handler) = &mut self.handler {
                        let result = handler.authenticate(self.connection.session(), &request);
                        let _ = self.connection.answer(request.answer(result));
                        continue;
                    }
                    let (short, full) = describe_request(&request);
                    self.found.push_back(Found::Question { short, full, asked: Asked::Authenticator(request) });
                    self.blocked = true;
                }
                Action::CallAuthHandler(turn) => {
                    if let Some(handler) = &mut self.handler {
                        let answer = handler.auth(self.connection.session(), turn);
                        let _ = self.connection.answer(answer);
                        continue;
                    }
                    let (short, full) = describe_turn(&turn);
                    self.found.push_back(Found::Question { short, full, asked: Asked::Turn(turn) });
                    self.blocked = true;
                }
                Action::Pause { until } => {
                    self.found.push_back(Found::Pause(until.saturating_sub(self.now)));
                    self.now = until;
                }
                Action::StartTls => {
                    self.found.push_back(Found::StartTls);
                    break;
                }
                Action::NeedInput { .. } => match pieces.next() {
                    Some(piece) => {
                        rest_at += piece.len();
                        input = piece;
                    }
                    None => break,
                },
                // Without a question that is out, this is the TLS handshake, which the transcript does;
                // with one, its time runs out.
                Action::AwaitAnswer { deadline } => {
                    if matches!(self.found.back(), Some(Found::StartTls)) {
                        break;
                    }
                    self.now = deadline;
                }
                Action::Close => {
                    self.found.push_back(Found::Closed);
                    self.closed = true;
                }
            }
        }
        // What was not taken waits for the next run.
        let taken = rest_at - input.len();
        self.unsent = unsent.get(taken..).unwrap_or_default().to_vec();
    }

    fn accept_unmentioned_message(&mut self) {
        let is_message =
            |found: &Found| matches!(found, Found::Question { short, .. } if short.starts_with("message "));
        if self.blocked && self.found.back().is_some_and(is_message) {
            if let Some(Found::Question { asked: Asked::Hook(question), .. }) = self.found.pop_back() {
                let _ = self.connection.answer(question.answer(Verdict::Accept));
                self.blocked = false;
            }
        }
    }

    fn answer(&mut self, line: usize, asked: Asked, answer: &str) -> Result<(), Mismatch> {
        let unusable =
            |found: &str| Mismatch { line, expected: format!("an answer, not {answer:?}"), found: Some(found.into()) };
        if answer == "drop" {
            drop(asked);
            return Ok(());
        }
        let is_late = answer == "late";
        let answer = match asked {
            Asked::Hook(question) => {
                let verdict = if is_late { Ok(Verdict::Accept) } else { parse_verdict(answer) };
                question.answer(verdict.map_err(|error| unusable(&error.to_string()))?)
            }
            Asked::Authenticator(request) => {
                let result = answer_request(&request, answer).ok_or_else(|| unusable("no result"))?;
                request.answer(result)
            }
            Asked::Turn(turn) => answer_turn(turn, answer).map_err(|_| unusable("no answer to a turn"))?,
        };
        if is_late {
            self.late.push(answer);
            // The time of the question runs out, and only then does its answer come.
            self.run(true);
            let refused = self.late.drain(..).all(|answer| self.connection.answer(answer).is_err());
            return if refused { Ok(()) } else { Err(unusable("a late answer was taken")) };
        }
        self.connection.answer(answer).map_err(|error| unusable(&error.to_string()))
    }
}

fn mismatch(line: usize, expected: String, found: Option<&Found>) -> Mismatch {
    let found = found.map(|found| match found {
        // Without the password that a question may carry.
        Found::Question { short, .. } => format!("the question {short}"),
        Found::ReplyLine { .. }
        | Found::Event(_)
        | Found::Aborted(_)
        | Found::Pause(_)
        | Found::StartTls
        | Found::Closed => format!("{found:?}"),
    });
    Mismatch { line, expected, found }
}

fn reply_lines(encoded: &[u8]) -> Vec<Found> {
    let text = String::from_utf8_lossy(encoded);
    let lines: Vec<&str> = text.split_inclusive("\r\n").collect();
    let last = lines.len().saturating_sub(1);
    let found = |(index, line): (usize, &&str)| Found::ReplyLine {
        text: line.strip_suffix("\r\n").unwrap_or(line).into(),
        is_last: index == last,
    };
    lines.iter().enumerate().map(found).collect()
}
