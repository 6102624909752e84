//! Hooks and authenticator as methods, for adapters to call.
//!
//! A handler is made for each connection, so its fields are that connection's state: a counter, a handle
//! to what all share. What belongs to one message is in a value of the message's own. [`Handler`] may
//! block; [`AsyncHandler`] may wait. Each method has the default answer of its hook.

use core::future::{Future, ready};

use crate::action::{Aborted, Hook, HookCall, HookQuestion};
use crate::auth::{AuthRequest, AuthResult, AuthTurn};
use crate::canned::NO_MESSAGE_HANDLER;
use crate::config::{Events, Hooks};
use crate::connection::Asked;
use crate::envelope::{Envelope, Path};
use crate::event::Event;
use crate::mail_data::{AsyncMailData, Incoming, MailData, Piece};
use crate::question::{Answer, Verdict};
use crate::reply::Reply;
use crate::secret::{Secret, SecretRef};
use crate::session::{Greeting, Session};

/// What a server does with its connections; methods may block.
///
/// ```
/// use sansmtp::auth::KnownPassword;
/// use sansmtp::{AuthRequest, AuthResult, Envelope, Handler, Path, Session, Verdict, reply};
///
/// struct OnlyTim {
///     password: KnownPassword,
/// }
///
/// impl Handler for OnlyTim {
///     type Message = Vec<u8>;
///
///     fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
///         self.password.answer_for("tim", request)
///     }
///
///     fn rcpt(&mut self, _: &Session, _: &Envelope, forward_path: Path<'_>) -> Verdict {
///         if forward_path.is_in_domain("example.org") {
///             return Verdict::Accept;
///         }
///         reply!("550 5.7.1 We do not relay").into()
///     }
///
///     fn message(&mut self, _: &Session, _: &Envelope, message: Vec<u8>) -> Verdict {
///         match std::fs::write("inbox.eml", message) {
///             Ok(()) => Verdict::Accept,
///             Err(_) => Verdict::TryLater,
///         }
///     }
/// }
/// ```
pub trait Handler: Send {
    /// What gathers a message: `Vec<u8>` the whole of it in memory, `()` nothing. Each message has a value of its
    /// own; [`MailData`] says how long it lives.
    type Message: MailData + Default;

    /// The hooks to ask. All of them unless overridden; naming those that are implemented spares the
    /// engine asking the others.
    fn hooks(&self) -> Hooks {
        Hooks::ALL
    }

    /// The events to tell. [`Events::default`] unless overridden: AUTH, and proxies that were refused.
    fn events(&self) -> Events {
        Events::default()
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

    /// HELO, EHLO or LHLO. The `name` can be nearly anything: see [`ClientName`](crate::ClientName). A positive reply is
    /// used for HELO only: EHLO's and LHLO's is the list of extensions.
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

    /// DATA or the first BDAT, before any content. The `message` is new, and may be prepared: with a file, for one.
    /// A refusal drops it.
    fn data(&mut self, session: &Session, envelope: &Envelope, message: &mut Self::Message) -> Verdict {
        let _ = (session, envelope, message);
        Verdict::Accept
    }

    /// The end of the content, all of which `message` has taken. `451 4.3.5` unless overridden: accepting takes
    /// responsibility for the message, which must be safe by then.
    fn message(&mut self, session: &Session, envelope: &Envelope, message: Self::Message) -> Verdict {
        let _ = (session, envelope, message);
        no_message_handler()
    }

    /// The message that was coming is void, and what had been gathered of it has been dropped. For logs and counters:
    /// there is nothing to clean up.
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

    /// HELP; `argument` may be empty. By default, the commands that the client could use.
    fn help(&mut self, session: &Session, argument: &str) -> Verdict {
        let _ = (session, argument);
        Verdict::Accept
    }

    /// A line that is no command of the engine's; it may be a password out of step. Asked once TLS and AUTH are active,
    /// where they are required, unless [`ConfigBuilder::open_verb`](crate::ConfigBuilder::open_verb) names the verb.
    fn unknown(&mut self, session: &Session, line: SecretRef<'_>) -> Verdict {
        let _ = (session, line);
        Verdict::Accept
    }

    /// QUIT.
    fn quit(&mut self, session: &Session) -> Verdict {
        let _ = session;
        Verdict::Accept
    }

    /// Something for logs and counters, of what [`events`](Self::events) chooses. Adapters log them all by
    /// themselves.
    fn event(&mut self, event: Event<'_>) {
        let _ = event;
    }

    /// Answers a hook's question by the method for it. The message comes from `incoming`, which each connection has one
    /// of; without the whole of it, [`message`](Self::message) is not called, and the answer is `451 4.3.0`.
    fn call_hook(&mut self, call: HookCall<'_>, incoming: &mut Incoming<Self::Message>) -> Answer {
        let (session, envelope) = (call.session, call.envelope);
        let verdict = match call.hook() {
            Hook::Connect => self.connect(session),
            Hook::Hello(greeting, name) => self.hello(session, greeting, name),
            Hook::Mail => self.mail(session, envelope),
            Hook::Rcpt => match envelope.forward_paths().next_back() {
                Some(forward_path) => self.rcpt(session, envelope, forward_path),
                None => Verdict::TryLater,
            },
            Hook::Data => {
                incoming.discard();
                let mut message = Self::Message::default();
                let verdict = self.data(session, envelope, &mut message);
                if verdict.lets_go_on() {
                    incoming.begin(message);
                }
                verdict
            }
            Hook::Message { octets } => match incoming.take(octets) {
                Some(message) => self.message(session, envelope, message),
                None => Verdict::TryLater,
            },
            Hook::Reset => self.reset(session),
            Hook::Noop(argument) => self.noop(session, argument),
            Hook::Verify(argument) => self.verify(session, argument),
            Hook::Expand(argument) => self.expand(session, argument),
            Hook::Help(argument) => self.help(session, argument),
            Hook::Unknown(line) => self.unknown(session, line),
            Hook::Quit => self.quit(session),
        };
        call.answer(verdict)
    }

    /// Adds a piece of the content to the message. For handlers around others to override.
    fn call_content(&mut self, piece: Piece<'_>, incoming: &mut Incoming<Self::Message>) {
        incoming.append(piece);
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
    /// What gathers a message: `Vec<u8>` the whole of it in memory, `()` nothing. Each message has a value of its
    /// own; [`MailData`] says how long it lives.
    type Message: AsyncMailData + Default;

    /// The hooks to ask. All of them unless overridden.
    fn hooks(&self) -> Hooks {
        Hooks::ALL
    }

    /// The events to tell. [`Events::default`] unless overridden: AUTH, and proxies that were refused.
    fn events(&self) -> Events {
        Events::default()
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

    /// HELO, EHLO or LHLO. The `name` can be nearly anything: see [`ClientName`](crate::ClientName). A positive reply is
    /// used for HELO only: EHLO's and LHLO's is the list of extensions.
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

    /// DATA or the first BDAT, before any content. The `message` is new, and may be prepared: with a file, for one.
    /// A refusal drops it.
    fn data(
        &mut self,
        session: &Session,
        envelope: &Envelope,
        message: &mut Self::Message,
    ) -> impl Future<Output = Verdict> + Send {
        let _ = (session, envelope, message);
        ready(Verdict::Accept)
    }

    /// The end of the content, all of which `message` has taken. `451 4.3.5` unless overridden: accepting takes
    /// responsibility for the message, which must be safe by then.
    fn message(
        &mut self,
        session: &Session,
        envelope: &Envelope,
        message: Self::Message,
    ) -> impl Future<Output = Verdict> + Send {
        let _ = (session, envelope, message);
        ready(no_message_handler())
    }

    /// The message that was coming is void, and what had been gathered of it has been dropped. For logs and counters:
    /// there is nothing to clean up.
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

    /// HELP; `argument` may be empty. By default, the commands that the client could use.
    fn help(&mut self, session: &Session, argument: &str) -> impl Future<Output = Verdict> + Send {
        let _ = (session, argument);
        ready(Verdict::Accept)
    }

    /// A line that is no command of the engine's; it may be a password out of step. Asked once TLS and AUTH are active,
    /// where they are required, unless [`ConfigBuilder::open_verb`](crate::ConfigBuilder::open_verb) names the verb.
    fn unknown(&mut self, session: &Session, line: SecretRef<'_>) -> impl Future<Output = Verdict> + Send {
        let _ = (session, line);
        ready(Verdict::Accept)
    }

    /// QUIT.
    fn quit(&mut self, session: &Session) -> impl Future<Output = Verdict> + Send {
        let _ = session;
        ready(Verdict::Accept)
    }

    /// Something for logs and counters, of what [`events`](Self::events) chooses. Adapters log them all by
    /// themselves.
    fn event(&mut self, event: Event<'_>) {
        let _ = event;
    }

    /// Answers a hook's question by the method for it. The message comes from `incoming`, which each connection has one
    /// of; without the whole of it, [`message`](Self::message) is not called, and the answer is `451 4.3.0`.
    fn call_hook(
        &mut self,
        call: HookCall<'_>,
        incoming: &mut Incoming<Self::Message>,
    ) -> impl Future<Output = Answer> + Send {
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
                Hook::Data => {
                    incoming.discard();
                    let mut message = Self::Message::default();
                    let verdict = self.data(session, envelope, &mut message).await;
                    if verdict.lets_go_on() {
                        incoming.begin(message);
                    }
                    verdict
                }
                Hook::Message { octets } => match incoming.take(octets) {
                    Some(message) => self.message(session, envelope, message).await,
                    None => Verdict::TryLater,
                },
                Hook::Reset => self.reset(session).await,
                Hook::Noop(argument) => self.noop(session, argument).await,
                Hook::Verify(argument) => self.verify(session, argument).await,
                Hook::Expand(argument) => self.expand(session, argument).await,
                Hook::Help(argument) => self.help(session, argument).await,
                Hook::Unknown(line) => self.unknown(session, line).await,
                Hook::Quit => self.quit(session).await,
            };
            call.answer(verdict)
        }
    }

    /// Adds a piece of the content to the message. For handlers around others to override.
    fn call_content(
        &mut self,
        piece: Piece<'_>,
        incoming: &mut Incoming<Self::Message>,
    ) -> impl Future<Output = ()> + Send {
        incoming.append_async(piece)
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
    /// Answers by [`Handler::call_hook`].
    pub fn answer_by<H: Handler>(self, handler: &mut H, incoming: &mut Incoming<H::Message>) -> Answer {
        let Self { session, envelope, about, held, question } = self;
        let call = HookCall { session: &session, envelope: &envelope, about, held: held.as_ref(), question };
        handler.call_hook(call, incoming)
    }
}

fn no_message_handler() -> Verdict {
    Verdict::Reply(Reply::from(NO_MESSAGE_HANDLER))
}
