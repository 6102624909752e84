//! A connection between its engine and its handler: what an adapter would otherwise have to know.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sansmtp::{Action, Answer, AuthRequest, AuthTurn, CloseReason, Event, Hook, ReadBuffer};
use tracing::Span;

use crate::buffers::{Buffers, is_large};
use crate::engine::Engine;
use crate::limits::Gate;
use crate::out::{Out, is_nothing_yet};
use crate::question::Question;
use crate::signal::Stages;
use crate::time::{after, at};
use crate::trace::{Trace, report};

/// One connection, without its socket and its handler.
///
/// It turns the engine's actions into the few [`Step`]s that an adapter takes. It knows what becomes of a
/// message that the handler does not have whole, when the shutdown begins for this connection, and what
/// the handler is still told when the peer is gone.
#[derive(Debug)]
pub struct Conversation {
    engine: Engine,
    accepted: Instant,
    /// The time since then. Looked at again after whatever may have taken time, and not before: the engine takes
    /// several steps in less time than it takes to look.
    now: Duration,
    stages: Arc<Stages>,
    buffers: Arc<Buffers>,
    /// An idle connection has none: it takes one when there is something to read.
    buffer: Option<Box<ReadBuffer>>,
    /// Where a proxy is still to say who the client is, or has said so, and that is counted.
    gate: Option<Box<Gate>>,
    /// A question whose session is still to be borrowed.
    held: Option<Box<Held>>,
    /// What was asked last: a hook, or another method of the handler.
    asked: &'static str,
    /// The engine knows of the shutdown.
    shutting_down: bool,
    /// Nothing more can be asked of the handler: the engine is to end the session.
    broken: bool,
    /// The handler is still busy with the content, which nothing more is added to.
    incomplete: bool,
    /// The peer is out of reach.
    lost: bool,
    /// What the adapter was told to do may have taken time.
    has_waited: bool,
    trace: Trace,
}

/// What an adapter does next.
#[derive(Debug)]
pub enum Step<'c> {
    /// Write what has been said until `until`, or call [`Conversation::lose_peer`].
    Write {
        /// When to give up on the peer.
        until: Instant,
    },
    /// Ask the handler, and give the outcome to [`Conversation::settle`]. Where that takes time, write what
    /// has been said first. What is done about it belongs into the span.
    Ask(Question<'c>, &'c Span),
    /// [Report](crate::report) it to the handler.
    Event(Event<'c>, &'c Span),
    /// Unless [`Conversation::heed_shutdown`] says that something else comes first,
    /// [read](Conversation::read); if there is nothing to read, wait until there is, or the server is
    /// ending, or `until`.
    Read {
        /// When to take the next step at the latest.
        until: Instant,
    },
    /// Do nothing, not even read, until `until`.
    Sleep {
        /// When to take the next step.
        until: Instant,
    },
    /// Close the connection; if it [lingers](Conversation::lingers), after the write half.
    Close,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "adapters make it")]
pub enum Unanswered {
    /// The handler panicked.
    Panicked,
    /// It did not answer in time, and may still be busy with it.
    Late,
    /// It could not be asked.
    NotAsked,
}

#[derive(Debug)]
enum Held {
    Authenticator(AuthRequest),
    AuthHandler(AuthTurn),
}

impl Conversation {
    pub(crate) fn new(
        engine: Engine,
        stages: Arc<Stages>,
        buffers: Arc<Buffers>,
        gate: Option<Box<Gate>>,
        trace: Trace,
    ) -> Self {
        Self {
            engine,
            accepted: Instant::now(),
            now: Duration::ZERO,
            stages,
            buffers,
            buffer: None,
            gate,
            held: None,
            asked: CONTENT,
            shutting_down: false,
            broken: false,
            incomplete: false,
            lost: false,
            has_waited: true,
            trace,
        }
    }

    /// Says what to do next; what is to be written is appended to `out`. `None` if there is nothing for the
    /// adapter in this step.
    pub fn step(&mut self, out: &mut Out) -> Option<Step<'_>> {
        if mem::take(&mut self.has_waited) {
            self.now = self.accepted.elapsed();
        }
        if let Some(step) = self.pass_gate(out) {
            return Some(step);
        }
        if mem::take(&mut self.broken) {
            self.engine.end_session(CloseReason::HandlerFailed);
        }
        if let Some(held) = self.held.take() {
            let session = self.engine.connection().session();
            let (question, asked) = match *held {
                Held::Authenticator(request) => (Question::Authenticator(session, request), "authenticate"),
                Held::AuthHandler(turn) => (Question::AuthHandler(session, turn), "auth"),
            };
            self.asked = asked;
            return Some(Step::Ask(question, self.trace.span_of(session)));
        }
        if self.lost {
            return self.step_alone();
        }
        let (accepted, now) = (self.accepted, self.now);
        let action = match &mut self.buffer {
            Some(buffer) => buffer.poll(&mut self.engine, now),
            None => self.engine.poll(now, &mut &[][..]),
        };
        match action {
            Action::Reply(reply) => out.append(reply.as_bytes()),
            Action::Challenge(challenge) => out.append(challenge.as_bytes()),
            Action::Transmit(ciphertext) => out.append(ciphertext),
            Action::Flush { deadline } => {
                self.has_waited = true;
                return Some(Step::Write { until: at(accepted, deadline) });
            }
            Action::CallHook(call) => {
                // It may be the proxy's header that was just read: the gate is before the connect hook, too.
                if self.gate.as_mut().is_some_and(|gate| gate.refuses(call.session())) {
                    return None;
                }
                // A message that the handler does not have whole is not offered to it: unanswered, it is refused.
                if !(self.incomplete && matches!(call.hook(), Hook::Message { .. })) {
                    self.asked = call.hook().name();
                    let span = self.trace.span_of(call.session());
                    return Some(Step::Ask(Question::Hook(call), span));
                }
            }
            Action::CallAuthenticator(request) => self.held = Some(Box::new(Held::Authenticator(request))),
            Action::CallAuthHandler(turn) => self.held = Some(Box::new(Held::AuthHandler(turn))),
            Action::Content(piece) => {
                if !self.incomplete {
                    self.asked = CONTENT;
                    return Some(Step::Ask(Question::Content(piece), self.trace.span()));
                }
            }
            Action::Aborted(aborted) => {
                self.asked = ABORTED;
                self.trace.note_aborted(aborted);
                return Some(Step::Ask(Question::Aborted(aborted), self.trace.span()));
            }
            Action::Event(event) => return self.trace.note(&event).map(|span| Step::Event(event, span)),
            Action::NeedInput { deadline } => {
                self.has_waited = true;
                // It may have been the proxy's header that was read last, and TLS comes next: the gate is first.
                if !self.gate.as_mut().is_some_and(|gate| gate.has_news()) {
                    return Some(Step::Read { until: at(accepted, deadline) });
                }
            }
            // Questions are answered before the next step; only the time of one that was not can be waited
            // for.
            Action::AwaitAnswer { deadline } | Action::Pause { until: deadline } => {
                self.has_waited = true;
                return Some(Step::Sleep { until: at(accepted, deadline) });
            }
            // A configuration that offers STARTTLS without TLS is refused by `Setup::start`.
            Action::StartTls => self.lost = true,
            Action::Close => return Some(Step::Close),
        }
        None
    }

    /// Turns a client of a proxy away from whose address there are too many, before it has heard anything.
    fn pass_gate(&mut self, out: &mut Out) -> Option<Step<'static>> {
        let gate = self.gate.as_mut()?;
        if gate.is_closed() {
            return Some(Step::Close);
        }
        let connection = self.engine.connection();
        if !gate.refuses(connection.session()) {
            return None;
        }
        let line = gate.close();
        self.held = None;
        let timeout = connection.config().timeouts().write;
        self.engine.abandon(CloseReason::Limit);
        out.clear();
        let Some(line) = line else { return Some(Step::Close) };
        out.append(line.as_bytes());
        Some(Step::Write { until: after(timeout) })
    }

    /// Tells the handler how what was begun ends, after the peer was lost.
    fn step_alone(&mut self) -> Option<Step<'_>> {
        match self.engine.poll(self.now, &mut &[][..]) {
            Action::Aborted(aborted) => {
                self.asked = ABORTED;
                self.trace.note_aborted(aborted);
                Some(Step::Ask(Question::Aborted(aborted), self.trace.span()))
            }
            Action::Event(event) => self.trace.note(&event).map(|span| Step::Event(event, span)),
            // An engine that has been abandoned does nothing else.
            Action::Close
            | Action::NeedInput { .. }
            | Action::Reply(_)
            | Action::Challenge(_)
            | Action::Transmit(_)
            | Action::Flush { .. }
            | Action::CallAuthenticator(_)
            | Action::CallAuthHandler(_)
            | Action::CallHook(_)
            | Action::Content(_)
            | Action::StartTls
            | Action::AwaitAnswer { .. }
            | Action::Pause { .. } => Some(Step::Close),
        }
    }

    /// Ends the connection where it is, unless it has ended, and tells the handler by `tell` what events are left; the
    /// last is [`Event::Closed`]. An adapter calls it whenever a connection is over, whatever ended it.
    pub fn finish(&mut self, mut tell: impl FnMut(Event<'_>)) {
        self.held = None;
        self.engine.abandon(CloseReason::CutOff);
        let now = self.accepted.elapsed();
        loop {
            match self.engine.poll(now, &mut &[][..]) {
                Action::Event(event) => {
                    if let Some(span) = self.trace.note(&event) {
                        report(event, span, &mut tell);
                    }
                }
                // The handler is not asked any more, nor told but by events: its message is dropped with it.
                Action::Aborted(aborted) => self.trace.note_aborted(aborted),
                Action::Close
                | Action::NeedInput { .. }
                | Action::Reply(_)
                | Action::Challenge(_)
                | Action::Transmit(_)
                | Action::Flush { .. }
                | Action::CallAuthenticator(_)
                | Action::CallAuthHandler(_)
                | Action::CallHook(_)
                | Action::Content(_)
                | Action::StartTls
                | Action::AwaitAnswer { .. }
                | Action::Pause { .. } => return,
            }
        }
    }

    /// Takes what became of the question asked last: its answer, or `None` if it has none.
    ///
    /// Without the handler's answer, the engine gives its own. A handler that is still busy, or cannot be asked, ends the
    /// session; one that has panicked does not, as its message is lost and cannot be accepted.
    pub fn settle(&mut self, outcome: Result<Option<Answer>, Unanswered>) {
        self.has_waited = true;
        let unanswered = match outcome {
            Ok(answer) => {
                if let Some(answer) = answer {
                    // Too late at the worst; the engine has answered by itself then.
                    let _ = self.engine.answer(answer);
                }
                return;
            }
            Err(unanswered) => unanswered,
        };
        let hook = self.asked;
        self.trace.span().in_scope(|| match unanswered {
            Unanswered::Panicked => tracing::error!(hook, "the handler panicked"),
            Unanswered::Late => tracing::error!(hook, "the handler did not answer in time"),
            Unanswered::NotAsked => tracing::error!(hook, "the handler could not be asked"),
        });
        if unanswered != Unanswered::Panicked {
            self.broken = true;
            self.incomplete |= self.asked == CONTENT;
        }
    }

    /// Whether the shutdown begins for this connection just now: then there is another step before any
    /// input.
    ///
    /// Asked before each read and not only while waiting, because a client that always has more to say is
    /// never waited for.
    pub fn heed_shutdown(&mut self) -> bool {
        if self.shutting_down || !self.stages.ending.is_set() {
            return false;
        }
        self.shutting_down = true;
        self.engine.begin_shutdown();
        true
    }

    /// Whether the shutdown has begun for this connection.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// Lets `read` read what has come. `false` if nothing had (`WouldBlock`, or `TimedOut`): it is time to
    /// wait.
    pub fn read(&mut self, read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> bool {
        match self.fill(read) {
            Ok(1..) => {
                if let Some(gate) = &mut self.gate {
                    gate.expect_news();
                }
                true
            }
            Err(error) if is_nothing_yet(&error) => {
                self.drop_buffer();
                false
            }
            // Whether the peer has ended or is gone, the engine says what becomes of what was begun.
            Ok(0) => {
                self.drop_buffer();
                self.engine.end_of_input();
                true
            }
            Err(error) => {
                self.be_lost(&error);
                true
            }
        }
    }

    /// Whether the peer may still be sending when the connection is to be closed. A reset would throw the last reply
    /// away: what still comes is to be [discarded](Self::discard), for up to [`LINGER`].
    #[must_use]
    pub fn lingers(&self) -> bool {
        let is_read = self.buffer.as_ref().is_none_or(|buffer| buffer.is_empty());
        !(self.lost || is_read && self.engine.connection().is_peer_done())
    }

    /// Reads with `read` and throws away what the peer still says. How much that was; 0 is its end.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn discard(&mut self, read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        // What is in it is thrown away, too: a full one would have no room, which looks like the end.
        self.drop_buffer();
        let result = self.fill(read);
        self.drop_buffer();
        result
    }

    fn fill(&mut self, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let is_large_wanted = self.engine.connection().expects_content();
        if self.buffer.as_ref().is_some_and(|buffer| is_large(buffer) != is_large_wanted) {
            // A client that never pauses has had it since it said something else.
            self.spare_buffer();
        }
        let buffer = self.buffer.get_or_insert_with(|| self.buffers.take(is_large_wanted));
        loop {
            match read(buffer.room()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(octets) => {
                    buffer.filled(octets);
                    return Ok(octets);
                }
            }
        }
    }

    /// Lets others have the read buffer while this connection waits, unless there is something in it that the engine
    /// has not come to.
    pub fn spare_buffer(&mut self) {
        if self.buffer.as_ref().is_some_and(|buffer| buffer.is_empty()) {
            self.drop_buffer();
        }
    }

    fn drop_buffer(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.buffers.give_back(buffer);
        }
    }

    /// Says that the peer is out of reach, and why, and forgets what was to be written to it. The steps that are left
    /// tell the handler how what was begun ends.
    pub fn lose_peer(&mut self, out: &mut Out, error: &io::Error) {
        out.clear();
        self.be_lost(error);
    }

    fn be_lost(&mut self, error: &io::Error) {
        self.trace.span().in_scope(|| tracing::debug!(%error, "connection lost"));
        self.lost = true;
        self.held = None;
        self.has_waited = true;
        self.drop_buffer();
        self.engine.abandon(CloseReason::Lost);
    }

    /// The connection's span, for what is done about it.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.trace.span()
    }

    /// How long the handler may take for an answer.
    #[must_use]
    pub fn answer_timeout(&self) -> Duration {
        self.engine.connection().config().timeouts().answer
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.drop_buffer();
    }
}

/// How what is no hook is called where it has no answer.
const CONTENT: &str = "content";
const ABORTED: &str = "aborted";

/// How long a closed connection is listened to, so that its peer sees the last reply.
pub const LINGER: Duration = Duration::from_secs(2);
