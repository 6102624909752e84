//! Hooks and authenticator as methods, for adapters to call.
//!
//! A handler is made for each connection, so its fields are that connection's state: the file that the
//! content goes to, a counter, a handle to what all share. [`Handler`] may block; [`AsyncHandler`] may
//! wait. Each method has the default answer of its hook.

use core::future::{Future, ready};

use crate::action::{Aborted, Event, Hook, HookCall, HookQuestion};
use crate::auth::{AuthRequest, AuthResult, AuthTurn};
use crate::canned::NO_MESSAGE_HANDLER;
use crate::config::Hooks;
use crate::connection::Asked;
use crate::envelope::{Envelope, Path};
use crate::question::{Answer, Verdict};
use crate::reply::Reply;
use crate::secret::{Secret, SecretRef};
use crate::session::{Greeting, Session};

/// What a server does with its connections; methods may block.
///
/// ```
/// use sansmtp::auth::{KnownPassword, Refusal};
/// use sansmtp::{AuthRequest, AuthResult, Envelope, Handler, Path, Session, Verdict, reply};
///
/// struct OnlyTim {
///     password: KnownPassword,
/// }
///
/// impl Handler for OnlyTim {
///     fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
///         match request.credentials().authcid() {
///             "tim" => self.password.answer(request),
///             _ => AuthResult::refuse_because(Refusal::UnknownUser),
///         }
///     }
///
///     fn rcpt(&mut self, _: &Session, _: &Envelope, forward_path: Path<'_>) -> Verdict {
///         match forward_path.domain() {
///             Some("example.org") => Verdict::Accept,
///             _ => reply!("550 5.7.1 We do not relay").into(),
///         }
///     }
/// }
/// ```
pub trait Handler: Send {
    /// The hooks to ask. All of them unless overridden; naming those that are implemented spares the
    /// engine asking the others.
    fn hooks(&self) -> Hooks {
        Hooks::ALL
    }

    /// Answers what a mechanism wants to know ([`AuthRequest::question`]): [`AuthResult::cannot_tell`] unless
    /// overridden.
    fn authenticate(&mut self, session: &Session, request: &AuthRequest) -> AuthResult {
        let _ = (session, request);
        AuthResult::cannot_tell()
    }

    /// Takes a turn of an AUTH exchange that the configuration leaves to the AUTH handler hook.
    fn auth(&mut self, session: &Session, turn: AuthTurn) -> Answer {
        let _ = session;
        turn.result(AuthResult::cannot_tell())
    }

    /// A client connected.
    fn connect(&mut self, session: &Session) -> Verdict {
        let _ = session;
        Verdict::Accept
    }

    /// HELO or EHLO.
    fn hello(&mut self, session: &Session, greeting: Greeting, name: &str) -> Verdict {
        let _ = (session, greeting, name);
        Verdict::Accept
    }

    /// MAIL; the envelope has the reverse-path and parameters.
    fn mail(&mut self, session: &Session, envelope: &Envelope) -> Verdict {
        let _ = (session, envelope);
        Verdict::Accept
    }

    /// RCPT; the forward-path is the envelope's last.
    fn rcpt(&mut self, session: &Session, envelope: &Envelope, forward_path: Path<'_>) -> Verdict {
        let _ = (session, envelope, forward_path);
        Verdict::Accept
    }

    /// DATA, before any content.
    fn data(&mut self, session: &Session, envelope: &Envelope) -> Verdict {
        let _ = (session, envelope);
        Verdict::Accept
    }

    /// A piece of the content, dot-unstuffed. An error in keeping it is told by [`message`](Self::message).
    fn content(&mut self, piece: &[u8]) {
        let _ = piece;
    }

    /// The end of the content, of `octets` octets. `451 4.3.5` unless overridden: accepting takes
    /// responsibility for the message, which must be safe by then.
    fn message(&mut self, session: &Session, envelope: &Envelope, octets: u64) -> Verdict {
        let _ = (session, envelope, octets);
        no_message_handler()
    }

    /// The content given so far is void.
    fn aborted(&mut self, aborted: Aborted) {
        let _ = aborted;
    }

    /// RSET.
    fn reset(&mut self, session: &Session) -> Verdict {
        let _ = session;
        Verdict::Accept
    }

    /// NOOP.
    fn noop(&mut self, session: &Session, argument: &str) -> Verdict {
        let _ = (session, argument);
        Verdict::Accept
    }

    /// VRFY.
    fn verify(&mut self, session: &Session, argument: &str) -> Verdict {
        let _ = (session, argument);
        Verdict::Accept
    }

    /// EXPN.
    fn expand(&mut self, session: &Session, argument: &str) -> Verdict {
        let _ = (session, argument);
        Verdict::Accept
    }

    /// A line that is no command; it may be a password out of step.
    fn unknown(&mut self, session: &Session, line: SecretRef<'_>) -> Verdict {
        let _ = (session, line);
        Verdict::Accept
    }

    /// QUIT.
    fn quit(&mut self, session: &Session) -> Verdict {
        let _ = session;
        Verdict::Accept
    }

    /// Something for logs and counters.
    fn event(&mut self, event: Event<'_>) {
        let _ = event;
    }

    /// Answers a hook's question by the method for it.
    fn call_hook(&mut self, call: HookCall<'_>) -> Answer {
        let (session, envelope) = (call.session, call.envelope);
        let verdict = match call.hook() {
            Hook::Connect => self.connect(session),
            Hook::Hello(greeting, name) => self.hello(session, greeting, name),
            Hook::Mail => self.mail(session, envelope),
            Hook::Rcpt => match envelope.forward_paths().next_back() {
                Some(forward_path) => self.rcpt(session, envelope, forward_path),
                None => Verdict::TryLater,
            },
            Hook::Data => self.data(session, envelope),
            Hook::Message { octets } => self.message(session, envelope, octets),
            Hook::Reset => self.reset(session),
            Hook::Noop(argument) => self.noop(session, argument),
            Hook::Verify(argument) => self.verify(session, argument),
            Hook::Expand(argument) => self.expand(session, argument),
            Hook::Unknown(line) => self.unknown(session, line),
            Hook::Quit => self.quit(session),
        };
        call.answer(verdict)
    }

    /// Answers the authenticator's question by [`authenticate`](Self::authenticate).
    fn call_authenticator(&mut self, session: &Session, request: AuthRequest) -> Answer {
        let result = self.authenticate(session, &request);
        request.answer(result)
    }
}

/// What a server does with its connections; methods may wait.
///
/// The same methods as [`Handler`], as `async fn`. None is boxed.
pub trait AsyncHandler: Send {
    /// The hooks to ask. All of them unless overridden.
    fn hooks(&self) -> Hooks {
        Hooks::ALL
    }

    /// Answers what a mechanism wants to know ([`AuthRequest::question`]): [`AuthResult::cannot_tell`] unless
    /// overridden.
    ///
    /// Hashing a password takes tens of milliseconds: do it on a thread pool, not here.
    fn authenticate(&mut self, session: &Session, request: &AuthRequest) -> impl Future<Output = AuthResult> + Send {
        let _ = (session, request);
        ready(AuthResult::cannot_tell())
    }

    /// Takes a turn of an AUTH exchange that the configuration leaves to the AUTH handler hook.
    fn auth(&mut self, session: &Session, turn: AuthTurn) -> impl Future<Output = Answer> + Send {
        let _ = session;
        ready(turn.result(AuthResult::cannot_tell()))
    }

    /// A client connected.
    fn connect(&mut self, session: &Session) -> impl Future<Output = Verdict> + Send {
        let _ = session;
        ready(Verdict::Accept)
    }

    /// HELO or EHLO.
    fn hello(&mut self, session: &Session, greeting: Greeting, name: &str) -> impl Future<Output = Verdict> + Send {
        let _ = (session, greeting, name);
        ready(Verdict::Accept)
    }

    /// MAIL; the envelope has the reverse-path and parameters.
    fn mail(&mut self, session: &Session, envelope: &Envelope) -> impl Future<Output = Verdict> + Send {
        let _ = (session, envelope);
        ready(Verdict::Accept)
    }

    /// RCPT; the forward-path is the envelope's last.
    fn rcpt(
        &mut self,
        session: &Session,
        envelope: &Envelope,
        forward_path: Path<'_>,
    ) -> impl Future<Output = Verdict> + Send {
        let _ = (session, envelope, forward_path);
        ready(Verdict::Accept)
    }

    /// DATA, before any content.
    fn data(&mut self, session: &Session, envelope: &Envelope) -> impl Future<Output = Verdict> + Send {
        let _ = (session, envelope);
        ready(Verdict::Accept)
    }

    /// A piece of the content, dot-unstuffed. While it waits, the peer's window closes.
    fn content(&mut self, piece: &[u8]) -> impl Future<Output = ()> + Send {
        let _ = piece;
        ready(())
    }

    /// The end of the content, of `octets` octets. `451 4.3.5` unless overridden: accepting takes
    /// responsibility for the message, which must be safe by then.
    fn message(&mut self, session: &Session, envelope: &Envelope, octets: u64) -> impl Future<Output = Verdict> + Send {
        let _ = (session, envelope, octets);
        ready(no_message_handler())
    }

    /// The content given so far is void.
    fn aborted(&mut self, aborted: Aborted) -> impl Future<Output = ()> + Send {
        let _ = aborted;
        ready(())
    }

    /// RSET.
    fn reset(&mut self, session: &Session) -> impl Future<Output = Verdict> + Send {
        let _ = session;
        ready(Verdict::Accept)
    }

    /// NOOP.
    fn noop(&mut self, session: &Session, argument: &str) -> impl Future<Output = Verdict> + Send {
        let _ = (session, argument);
        ready(Verdict::Accept)
    }

    /// VRFY.
    fn verify(&mut self, session: &Session, argument: &str) -> impl Future<Output = Verdict> + Send {
        let _ = (session, argument);
        ready(Verdict::Accept)
    }

    /// EXPN.
    fn expand(&mut self, session: &Session, argument: &str) -> impl Future<Output = Verdict> + Send {
        let _ = (session, argument);
        ready(Verdict::Accept)
    }

    /// A line that is no command; it may be a password out of step.
    fn unknown(&mut self, session: &Session, line: SecretRef<'_>) -> impl Future<Output = Verdict> + Send {
        let _ = (session, line);
        ready(Verdict::Accept)
    }

    /// QUIT.
    fn quit(&mut self, session: &Session) -> impl Future<Output = Verdict> + Send {
        let _ = session;
        ready(Verdict::Accept)
    }

    /// Something for logs and counters.
    fn event(&mut self, event: Event<'_>) {
        let _ = event;
    }

    /// Answers a hook's question by the method for it.
    fn call_hook(&mut self, call: HookCall<'_>) -> impl Future<Output = Answer> + Send {
        async move {
            let (session, envelope) = (call.session, call.envelope);
            let verdict = match call.hook() {
                Hook::Connect => self.connect(session).await,
                Hook::Hello(greeting, name) => self.hello(session, greeting, name).await,
                Hook::Mail => self.mail(session, envelope).await,
                Hook::Rcpt => match envelope.forward_paths().next_back() {
                    Some(forward_path) => self.rcpt(session, envelope, forward_path).await,
                    None => Verdict::TryLater,
                },
                Hook::Data => self.data(session, envelope).await,
                Hook::Message { octets } => self.message(session, envelope, octets).await,
                Hook::Reset => self.reset(session).await,
                Hook::Noop(argument) => self.noop(session, argument).await,
                Hook::Verify(argument) => self.verify(session, argument).await,
                Hook::Expand(argument) => self.expand(session, argument).await,
                Hook::Unknown(line) => self.unknown(session, line).await,
                Hook::Quit => self.quit(session).await,
            };
            call.answer(verdict)
        }
    }

    /// Answers the authenticator's question by [`authenticate`](Self::authenticate).
    fn call_authenticator(&mut self, session: &Session, request: AuthRequest) -> impl Future<Output = Answer> + Send {
        async move {
            let result = self.authenticate(session, &request).await;
            request.answer(result)
        }
    }
}

/// A hook's question with all that it is about, for another thread.
#[derive(Debug)]
pub struct OwnedHookCall {
    session: Session,
    envelope: Envelope,
    about: Asked,
    held: Secret,
    question: HookQuestion,
}

impl HookCall<'_> {
    /// Copies what the question is about.
    #[must_use]
    pub fn into_owned(self) -> OwnedHookCall {
        OwnedHookCall {
            session: self.session.clone(),
            envelope: self.envelope.clone(),
            about: self.about,
            held: self.held.expose_secret().into(),
            question: self.question,
        }
    }
}

impl OwnedHookCall {
    /// Answers by the method of `handler` for it.
    pub fn answer_by(self, handler: &mut impl Handler) -> Answer {
        let Self { session, envelope, about, held, question } = self;
        handler.call_hook(HookCall { session: &session, envelope: &envelope, about, held: held.as_ref(), question })
    }
}

fn no_message_handler() -> Verdict {
    Verdict::Reply(Reply::from(NO_MESSAGE_HANDLER))
}
