//! The connection: the state machine that ties framing, commands, AUTH and questions together.
//!
//! # Theory of operation
//!
//! `poll` is two halves. `advance` decides: it takes input, moves the state machine, and gives back a
//! small owned [`Next`]. `view` borrows: it turns that into the [`Action`] with its slices. A layer
//! around the connection (TLS) calls the halves itself.
//!
//! [`Stage`] is what the connection is waiting for. What has been decided and not yet given out, at most
//! an event, an abort, a limit that was reached and one reply, lies beside it and goes first, so that nothing
//! is decided while something is still to be said.
//!
//! ```text
//! Header ─► Opening
//! Opening ─► Ready ─┬─► Asking ──► Ready, Content, Closing
//!                   ├─► Exchange ─► Asking (authenticator) ─► Pausing ─► Ready, Closing
//!                   ├─► Content ──► Asking (message) ─► Ready
//!                   ├─► Upgrading ─► Opening's end: Ready, everything forgotten
//!                   └─► Closing
//! ```

mod auth;
mod chunks;
mod commands;
mod content;
mod deadlines;
mod events;
mod hooks;
mod lmtp;
mod relayed;
mod replies;
mod state;
mod view;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use crate::action::{AbortReason, Aborted, Action};
use crate::auth::{Credentials, Running};
use crate::canned;
use crate::command::Verb;
use crate::config::{Config, Events, Hooks};
use crate::envelope::Envelope;
use crate::event::{CloseReason, ReachedLimit, TlsFailure};
use crate::framing::content::Content;
use crate::framing::lines::{Framed, Lines, is_auth};
use crate::proxy::Proxy;
use crate::question::{Answer, AnswerKind, NotAsked, Slot};
use crate::secret::Secret;
use crate::session::{Peer, Session, TlsInfo};

use self::events::{About, Lapsed, Told};
pub(crate) use self::hooks::Asked;
use self::state::{Counts, Pending, Stage};
pub(crate) use self::state::{Next, Outgoing};

/// One SMTP connection, seen from the server.
///
/// **Inputs** are the octets and the clock given to [`poll`](Self::poll), the answers given to
/// [`answer`](Self::answer), and what the adapter knows: [`tls_established`](Self::tls_established),
/// [`tls_failed`](Self::tls_failed), [`end_of_input`](Self::end_of_input),
/// [`begin_shutdown`](Self::begin_shutdown). **Outputs** are the [`Action`]s of `poll`. After any input,
/// poll until an action says to wait. Everything else only looks.
///
/// The same configuration, inputs and answers give the same actions, and it does not matter how the
/// octets are cut into inputs.
pub struct Connection {
    config: Arc<Config>,
    hooks: Hooks,
    events: Events,
    session: Session,
    envelope: Envelope,
    lines: Lines,
    stage: Stage,

    /// The question that is out, and the answer that came.
    slot: Slot,
    answer: Option<Pending>,
    /// What the question is about: a name, an argument, an unknown line, a SASL response.
    held: Secret,

    /// The AUTH exchange in progress, and what it has gathered.
    exchange: Option<Running>,
    turns: u32,
    credentials: Credentials,
    data: Option<Box<dyn Any + Send + Sync>>,

    event: Option<Told>,
    aborted: Option<Aborted>,
    limit: Option<ReachedLimit>,
    outgoing: Option<Outgoing>,
    /// What `outgoing` is about, or the next reply that will be there.
    about: Option<About>,
    /// What is to be let go of before `outgoing` is given out.
    lapsed: Option<Lapsed>,
    /// A reply that was put together for this connection.
    out: Vec<u8>,
    /// How many octets have been given out since the last flush.
    unflushed: u32,
    /// The reply that is out must not wait for those to further commands of its group.
    flush_due: bool,

    /// The message that is coming in chunks.
    chunks: Option<Box<Content>>,

    /// When the wait for the present line or piece of content ends; set when it begins.
    deadline: Option<Duration>,
    /// When the wait for the whole of the present message ends.
    message_deadline: Option<Duration>,
    /// Apart: what it takes would be a twentieth of the whole.
    counts: Box<Counts>,
    /// Its first event has been told, or would have been.
    opened: bool,
    /// The last one.
    closed: bool,
    close_reason: Option<CloseReason>,
    /// The connect hook refused: only QUIT is answered (RFC 5321, section 3.1).
    turned_away: bool,
    /// The client has said QUIT.
    quits: bool,
    input_ended: bool,
    /// Why the session is to end behind the current command.
    ending: Option<CloseReason>,
}

impl Connection {
    /// A connection that has just been accepted. For implicit TLS, call
    /// [`tls_established`](Self::tls_established) before the first poll, and, where the configuration knows
    /// proxies, [`poll_proxy_header`](Self::poll_proxy_header) before that.
    #[must_use]
    pub fn new(config: Arc<Config>, peer: impl Into<Peer>) -> Self {
        let credentials = match config.auth {
            Some(_) => Credentials::with_capacity(USUAL_CREDENTIALS_OCTETS),
            None => Credentials::default(),
        };
        let peer = peer.into();
        let proxy = config.proxy.as_ref().filter(|proxy| proxy.expects_header_from(peer));
        Self {
            stage: proxy.map_or(Stage::Opening, |proxy| Stage::Header(Box::new(Proxy::reader(proxy, peer)))),
            hooks: config.hooks,
            events: config.events,
            session: Session::new(peer, config.name.as_ref()),
            config,
            envelope: Envelope::default(),
            lines: Lines::default(),
            slot: Slot::default(),
            answer: None,
            held: Secret::default(),
            exchange: None,
            turns: 0,
            credentials,
            data: None,
            event: None,
            aborted: None,
            limit: None,
            outgoing: None,
            about: None,
            lapsed: None,
            out: Vec::new(),
            unflushed: 0,
            flush_due: false,
            chunks: None,
            deadline: None,
            message_deadline: None,
            counts: Box::default(),
            opened: false,
            closed: false,
            close_reason: None,
            turned_away: false,
            quits: false,
            input_ended: false,
            ending: None,
        }
    }

    /// Numbers the connection: [`Session::id`]. To be called before the first poll.
    #[must_use]
    pub fn with_id(mut self, id: u64) -> Self {
        self.session.arrival_mut().id = id;
        self
    }

    /// Tells the address at which the connection was accepted: [`Session::local_address`]. To be called before the
    /// first poll.
    #[must_use]
    pub fn with_local_address(mut self, address: SocketAddr) -> Self {
        self.session.arrival_mut().local_address = Some(address);
        self
    }

    /// Asks other hooks than the configuration says: an adapter asks those that its handler has.
    pub fn set_hooks(&mut self, hooks: Hooks) {
        self.hooks = hooks;
    }

    /// Tells other events than the configuration says: an adapter tells those that its handler, and its log, want.
    /// To be called before the first poll.
    pub fn set_events(&mut self, events: Events) {
        self.events = events;
    }

    /// Says what to do next.
    ///
    /// `now` is the time since the connection was accepted and must not run backwards. What is used of
    /// `input` is taken off its front. Never blocks; each call makes progress or says what it waits for.
    /// When it is [`Action::NeedInput`], `input` is used up.
    pub fn poll<'c, 'i: 'c>(&'c mut self, now: Duration, input: &mut &'i [u8]) -> Action<'c> {
        let whole = *input;
        let next = self.advance(now, input);
        self.view(next, whole)
    }

    /// Takes the answer to the open question.
    ///
    /// # Errors
    ///
    /// [`NotAsked`] if the answer belongs to another connection's question, or came after its deadline.
    /// This connection is as it was.
    pub fn answer(&mut self, answer: Answer) -> Result<(), NotAsked> {
        let Answer { mut ticket, kind } = answer;
        if !matches!(self.stage, Stage::Asking { .. }) || !self.slot.redeem(&mut ticket) {
            return Err(NotAsked);
        }
        self.answer = Some(match kind {
            AnswerKind::Hook(verdict) => Pending::Verdict(verdict),
            AnswerKind::Authenticator(result, credentials) => {
                self.credentials = credentials;
                Pending::Result(result)
            }
            AnswerKind::Turn(answer, response) => {
                self.held = response;
                Pending::Turn(answer)
            }
        });
        Ok(())
    }

    /// Says that the connection is under TLS now: after [`Action::StartTls`], or, before the first poll,
    /// for implicit TLS. Everything the client said before is forgotten (RFC 3207, section 4.2).
    ///
    /// # Errors
    ///
    /// [`NotAsked`] at any other time, as before the header that a proxy owes
    /// ([`poll_proxy_header`](Self::poll_proxy_header)); the connection is as it was.
    pub fn tls_established(&mut self, tls: TlsInfo) -> Result<(), NotAsked> {
        match self.stage {
            Stage::Opening if !self.session.is_under_tls() || self.session.is_tls_offloaded() => {}
            Stage::Upgrading { begun_until: Some(_) } => self.stage = Stage::Ready,
            Stage::Header(_)
            | Stage::Opening
            | Stage::Upgrading { .. }
            | Stage::Ready
            | Stage::Exchange
            | Stage::Content(_)
            | Stage::Chunk { .. }
            | Stage::Discarding { .. }
            | Stage::Reporting(_)
            | Stage::Asking { .. }
            | Stage::Pausing { .. }
            | Stage::Closing => return Err(NotAsked),
        }
        self.clear_transaction();
        self.lines.reset();
        self.deadline = None;
        self.session.enter_tls(tls);
        self.tell(Told::TlsEstablished);
        Ok(())
    }

    /// Says that the TLS handshake failed, and why. What the connection is then, RFC 3207 leaves open; the only
    /// safe thing is to close it.
    pub fn tls_failed(&mut self, reason: TlsFailure) {
        self.unflushed = 0;
        self.tell(Told::TlsFailed(reason));
        self.close(CloseReason::TlsFailed);
    }

    /// Says that the peer will send nothing more. What it has sent is still answered; content without
    /// its end is void.
    pub fn end_of_input(&mut self) {
        self.input_ended = true;
    }

    /// Begins to shut down: the current command, with its content and its question, is still carried
    /// out and answered; then the client is told `421 4.3.2` and the connection closes. Calling it again
    /// changes nothing.
    pub fn begin_shutdown(&mut self) {
        self.end_session(CloseReason::Shutdown);
    }

    /// The same for another reason than a shutdown, which [`Event::Closed`](crate::Event::Closed) tells.
    pub fn end_session(&mut self, reason: CloseReason) {
        self.ending.get_or_insert(reason);
    }

    /// Whether the client has said that it will say nothing more: by QUIT (RFC 5321, section 4.1.1.10), or by ending
    /// its side.
    ///
    /// At [`Action::Close`](crate::Action::Close), this tells whether the socket can be closed at once. A client that is
    /// closed on while it is still sending gets a reset, and may lose the last replies by it.
    #[must_use]
    pub fn is_peer_done(&self) -> bool {
        self.quits || self.input_ended
    }

    /// What is known of the client.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The transaction in progress.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Whether what the client says next is content of a message. It may be much, and is worth a larger read than
    /// commands and responses are.
    #[must_use]
    pub fn expects_content(&self) -> bool {
        matches!(self.stage, Stage::Content(_) | Stage::Chunk { .. })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Nothing but [`Next::Close`] comes after what has been said.
    #[cfg(feature = "rustls")]
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing)
    }

    pub(crate) fn advance(&mut self, now: Duration, input: &mut &[u8]) -> Next {
        let whole = input.len();
        let next = self.decide(now, input);
        self.count_received(whole - input.len());
        next
    }

    fn count_received(&mut self, octets: usize) {
        self.counts.received = self.counts.received.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
    }

    fn decide(&mut self, now: Duration, input: &mut &[u8]) -> Next {
        let whole = input.len();
        loop {
            if let Some(opening) = self.next_opening() {
                return opening;
            }
            // `take` would write, and copy, on every turn.
            if let Some(event) = self.event {
                self.event = None;
                return Next::Event(event);
            }
            if let Some(limit) = self.limit {
                self.limit = None;
                return Next::Event(Told::LimitReached(limit));
            }
            if self.exchange.is_none() && !self.credentials.is_empty() {
                self.credentials.clear();
            }
            if let Some(aborted) = self.aborted {
                self.aborted = None;
                return Next::Aborted(aborted);
            }
            if let Some(outgoing) = self.outgoing {
                if let Some(event) = self.next_about_reply(outgoing) {
                    return event;
                }
                self.let_lapse();
                if self.aborted.is_some() {
                    continue;
                }
                let outgoing = self.count_error(outgoing);
                return self.give_out(outgoing);
            }
            let is_group_over = self.flush_due && self.unflushed > 0 && !matches!(self.stage, Stage::Asking { .. });
            if is_group_over || self.unflushed >= MAX_UNFLUSHED_OCTETS {
                return self.flush(now);
            }
            let before = whole - input.len();
            let next = match &self.stage {
                Stage::Header(_) => self.read_header(now, input),
                Stage::Opening => {
                    self.about = Some(About::Client);
                    self.ask(Asked::Connect, &[]);
                    None
                }
                Stage::Ready => self.read_command(now, input),
                Stage::Exchange => self.read_response(now, input),
                Stage::Content(_) => self.read_content(now, input),
                Stage::Chunk { .. } => self.read_chunk(now, input),
                Stage::Discarding { .. } => self.read_discarded(now, input),
                Stage::Reporting(_) => {
                    self.report_next();
                    None
                }
                Stage::Asking { about, asked_until } => {
                    let (about, asked_until) = (*about, *asked_until);
                    self.await_answer(now, about, asked_until)
                }
                Stage::Pausing { until, reply, close } => {
                    let (until, reply, close) = (*until, *reply, *close);
                    if now < until {
                        Some(self.wait(now, Next::Pause { until }))
                    } else {
                        self.stage = Stage::Ready;
                        if close {
                            self.tell_limit(ReachedLimit::AuthFailures);
                            self.close(CloseReason::Limit);
                        }
                        // Not by way of `outgoing`: refused credentials are counted on their own.
                        Some(self.give_out(reply))
                    }
                }
                Stage::Upgrading { begun_until } => {
                    let begun_until = *begun_until;
                    self.upgrade(now, input, begun_until)
                }
                Stage::Closing if self.chunks.is_some() => {
                    // By QUIT, or by a 421: whatever ends the session ends its message.
                    self.abort_chunks(AbortReason::Reset);
                    None
                }
                Stage::Closing if self.unflushed > 0 => Some(self.flush(now)),
                Stage::Closing => Some(self.next_closing(now)),
            };
            match next {
                // Behind a BDAT its chunk begins in the same input.
                Some(Next::Piece { offset, skipped, length }) => {
                    return Next::Piece { offset, skipped: before + skipped, length };
                }
                Some(next) => return next,
                None => {}
            }
        }
    }

    /// Before any wait, what has been said must go out.
    fn wait(&mut self, now: Duration, next: Next) -> Next {
        if self.unflushed > 0 { self.flush(now) } else { next }
    }

    fn flush(&mut self, now: Duration) -> Next {
        self.unflushed = 0;
        self.flush_due = false;
        Next::Flush { deadline: now.saturating_add(self.config.timeouts.write) }
    }

    fn read_command(&mut self, now: Duration, input: &mut &[u8]) -> Option<Next> {
        if let Some(reason) = self.ending {
            self.abort_chunks(AbortReason::ConnectionLost);
            self.say_and_close(canned::SHUTTING_DOWN, reason);
            return None;
        }
        self.message_deadline = self.message_deadline.filter(|_| self.chunks.is_some());
        // The first octet of a TLS record that carries a handshake: no command begins so.
        if !self.session.is_under_tls() && self.lines.first_octet(input) == Some(0x16) {
            self.about = Some(About::Command(Verb::Unknown));
            self.say_and_close(canned::NOT_SMTP, CloseReason::ProtocolAbuse);
            return None;
        }
        let config = &self.config;
        let framed = self.lines.next(input, |beginning| max_line_octets(config, beginning));
        if !matches!(framed, Framed::Incomplete) {
            self.deadline = None;
        }
        if matches!(framed, Framed::TooLong { auth: false } | Framed::BareNewline) {
            self.about = Some(About::Command(Verb::Unknown));
        }
        match framed {
            Framed::Whole(line) => self.execute(now, line, input.is_empty()),
            Framed::Parts(line) => {
                self.execute(now, line.expose_secret(), input.is_empty());
                self.lines.put_back(line);
            }
            Framed::TooLong { auth: true } => self.refuse_long_auth_line(),
            Framed::TooLong { auth: false } => self.say(canned::LINE_TOO_LONG),
            Framed::BareNewline => self.say(canned::BARE_NEWLINE),
            Framed::Skipped => {}
            Framed::Incomplete => return self.await_input(now, self.config.timeouts.command),
        }
        None
    }

    /// Whatever was going on will not be finished.
    fn give_up(&mut self, reason: AbortReason, close_reason: CloseReason) {
        if let Stage::Content(content) = &self.stage {
            if content.fault().is_none() {
                self.abort_content(content.octets(), reason);
            }
        }
        self.abort_chunks(reason);
        self.abandon_exchange();
        self.about = None;
        self.close(close_reason);
    }

    fn upgrade(&mut self, now: Duration, input: &mut &[u8], begun_until: Option<Duration>) -> Option<Next> {
        if !input.is_empty() {
            // These octets came in the clear behind STARTTLS: somebody wants them taken for the client's.
            self.about = Some(About::Command(Verb::StartTls));
            self.say_and_close(canned::CLEAR_AFTER_STARTTLS, CloseReason::ProtocolAbuse);
            return None;
        }
        let Some(deadline) = begun_until else {
            if self.unflushed > 0 {
                return Some(self.wait(now, Next::StartTls));
            }
            let deadline = now.saturating_add(self.config.timeouts.command);
            let deadline = self.final_deadline(now).map_or(deadline, |last| deadline.min(last));
            self.stage = Stage::Upgrading { begun_until: Some(deadline) };
            return Some(Next::StartTls);
        };
        if now >= deadline || self.input_ended {
            self.tls_failed(if self.input_ended { TlsFailure::ConnectionLost } else { TlsFailure::Timeout });
            return None;
        }
        Some(Next::AwaitAnswer { deadline })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session", &self.session)
            .field("envelope", &self.envelope)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// How many octets a command line may have, CRLF included: RFC 5321, section 4.5.3.1.4, and what each
/// extension adds to the commands that it changes.
fn max_line_octets(config: &Config, beginning: &[u8]) -> usize {
    if is_auth(beginning) {
        // RFC 4954, section 4 keeps the command itself to 512 octets; clients with long tokens do not.
        return MAX_AUTH_LINE_OCTETS;
    }
    let is = |verb: &[u8]| beginning.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(verb));
    let utf8 = if config.smtputf8 { 10 } else { 0 };
    if is(b"MAIL") {
        // RFC 1870, section 3; RFC 6152, section 2; RFC 4954, section 3; RFC 6531, section 3.1.
        let auth = if config.auth.is_some() { 500 } else { 0 };
        MAX_COMMAND_LINE_OCTETS + 26 + 17 + auth + utf8 + config.extensions.mail_octets()
    } else if is(b"RCPT") {
        MAX_COMMAND_LINE_OCTETS + config.extensions.rcpt_octets()
    } else if is(b"VRFY") || is(b"EXPN") {
        MAX_COMMAND_LINE_OCTETS + utf8
    } else {
        MAX_COMMAND_LINE_OCTETS
    }
}

/// Credentials of a usual length need no further allocation.
const USUAL_CREDENTIALS_OCTETS: usize = 64;

/// Buffers are kept for the next use up to this size.
const KEPT_OCTETS: usize = 128;

/// Replies to the commands of a group go out together up to this size. A peer that sends commands and reads none of their
/// replies makes nobody hold more.
const MAX_UNFLUSHED_OCTETS: u32 = 4096;

/// RFC 5321, section 4.5.3.1.4.
const MAX_COMMAND_LINE_OCTETS: usize = 512;

/// RFC 4954, section 4.
const MAX_AUTH_LINE_OCTETS: usize = 12_288;

static_assertions::assert_impl_all!(Connection: Send);
static_assertions::assert_impl_all!(Config: Send, Sync);
// With what it owns, an idle connection stays under a KiB: tests/allocations.rs.
static_assertions::const_assert!(size_of::<Connection>() <= 728);
