//! A blocking handler in a task: its methods run on the runtime's blocking pool, never on the executor.

use std::fmt;
use std::future::pending;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::Arc;

use sansmtp::{
    Aborted, Answer, AsyncHandler, AuthRequest, AuthTurn, Event, Events, Handler, HookCall, Hooks, Incoming, Piece,
    Session,
};
use tracing::Span;

use super::Runtime;
use crate::question::{Question, SharedDesk};

/// Makes an [`AsyncHandler`] of a [`Handler`].
///
/// Content is gathered into pieces of up to 64 KiB before it goes to the pool, where the handler's
/// [`Message`](Handler::Message) is: made, added to, and dropped. A method that panics ends its question with
/// `451 4.3.0` or `454 4.7.0`, a message that panics over a piece is refused at its end, and the handler is used
/// further. What does not return in time ends the connection.
///
/// Only [`event`](Handler::event) runs on the executor, and must not block there. While a method has not returned, no
/// event is told but the last one, [`Event::Closed`], which comes when it has.
pub struct Blocking<H: Handler, R> {
    hooks: Hooks,
    events: Events,
    desk: Arc<SharedDesk<H>>,
    /// A method runs, or has not returned in time.
    is_busy: bool,
    runtime: PhantomData<fn() -> R>,
}

impl<H: Handler + 'static, R: Runtime> Blocking<H, R> {
    /// Wraps `handler`.
    pub fn new(handler: H) -> Self {
        let (hooks, events) = (handler.hooks(), handler.events());
        Self { hooks, events, desk: Arc::new(SharedDesk::new(handler)), is_busy: false, runtime: PhantomData }
    }

    /// Has the question worked on in the pool.
    async fn put(&mut self, question: Question<'_>) -> Option<Answer> {
        if self.is_busy {
            // An earlier method did not return in time: neither will this one.
            return pending().await;
        }
        let question = self.desk.accept(question)?;
        self.is_busy = true;
        let (desk, span) = (Arc::clone(&self.desk), Span::current());
        let result = R::unblock(move || span.in_scope(|| desk.work(question))).await;
        self.is_busy = false;
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The same for a question that has an answer.
    async fn ask(&mut self, question: Question<'_>) -> Answer {
        match self.put(question).await {
            Some(answer) => answer,
            None => pending().await,
        }
    }
}

impl<H: Handler + 'static, R: Runtime> AsyncHandler for Blocking<H, R> {
    /// The message is where the handler is.
    type Message = ();

    fn hooks(&self) -> Hooks {
        self.hooks
    }

    fn events(&self) -> Events {
        self.events
    }

    async fn auth(&mut self, session: &Session, turn: AuthTurn) -> Answer {
        self.ask(Question::AuthHandler(session, turn)).await
    }

    async fn aborted(&mut self, aborted: Aborted) {
        self.put(Question::Aborted(aborted)).await;
    }

    fn event(&mut self, event: Event<'_>) {
        self.desk.event(event);
    }

    async fn call_hook(&mut self, call: HookCall<'_>, _: &mut Incoming<()>) -> Answer {
        self.ask(Question::Hook(call)).await
    }

    async fn call_content(&mut self, piece: Piece<'_>, _: &mut Incoming<()>) {
        self.put(Question::Content(piece)).await;
    }

    async fn call_authenticator(&mut self, session: &Session, request: AuthRequest) -> Answer {
        self.ask(Question::Authenticator(session, request)).await
    }
}

impl<H: Handler + fmt::Debug, R> fmt::Debug for Blocking<H, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").field("hooks", &self.hooks).field("desk", &self.desk).finish_non_exhaustive()
    }
}
