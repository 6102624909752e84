//! A handler in a loop that must not wait. Where it may take its time, it is lent to another thread; where it panics,
//! its session fails and nobody else's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sansmtp::{Aborted, Answer, AuthRequest, AuthTurn, Event, Handler, HookCall, Incoming, Piece, Session};

use super::lending::{Lent, Question};

/// Where a connection's handler is asked.
pub(crate) struct Desk<H: Handler> {
    /// Not there while it is lent.
    handler: Option<H>,
    incoming: Incoming<H::Message>,
    question: Option<Question<H>>,
    /// What the engine is to be told. Without an answer, it gives its own.
    pub(crate) answer: Option<Answer>,
    /// Authenticators answer at once, as hooks do.
    quick: bool,
}

impl<H: Handler> Desk<H> {
    pub(crate) fn new(handler: H, quick: bool) -> Self {
        Self { handler: Some(handler), incoming: Incoming::new(), question: None, answer: None, quick }
    }

    /// Asks at once: a hook that takes time would do as `authenticate` does, with [`HookCall::into_owned`].
    pub(crate) fn hook(&mut self, call: HookCall<'_>) {
        self.answer = self.tell(|handler, incoming| handler.call_hook(call, incoming));
    }

    pub(crate) fn authenticate(&mut self, session: &Session, request: AuthRequest) {
        self.put(session, |handler, session| handler.call_authenticator(session, request));
    }

    pub(crate) fn auth(&mut self, session: &Session, turn: AuthTurn) {
        self.put(session, |handler, session| handler.auth(session, turn));
    }

    /// Asks at once where that is quick, and else keeps the question for whom the handler is lent to.
    fn put(&mut self, session: &Session, ask: impl FnOnce(&mut H, &Session) -> Answer + Send + 'static) {
        if self.quick {
            self.answer = self.tell(|handler, _| ask(handler, session));
        } else {
            let session = session.clone();
            self.question = Some(Box::new(move |handler| ask(handler, &session)));
        }
    }

    pub(crate) fn content(&mut self, piece: Piece<'_>) {
        self.tell(|handler, incoming| handler.call_content(piece, incoming));
    }

    pub(crate) fn aborted(&mut self, aborted: Aborted) {
        self.incoming.discard();
        self.tell(|handler, _| handler.aborted(aborted));
    }

    pub(crate) fn event(&mut self, event: Event<'_>) {
        self.tell(|handler, _| handler.event(event));
    }

    /// Whether nothing can be asked any more, so that the session has to end.
    pub(crate) fn is_empty(&self) -> bool {
        self.handler.is_none()
    }

    /// Gives the handler away with the question that was kept. Until it is back, or late, nothing else is asked.
    pub(crate) fn lend(&mut self) -> Option<Lent<H>> {
        Some(Lent { question: self.question.take()?, handler: self.handler.take()? })
    }

    pub(crate) fn take_back(&mut self, handler: H, answer: Option<Answer>) {
        (self.handler, self.answer) = (Some(handler), answer);
    }

    /// A message of which a piece was lost in a panic is not handed over any more.
    fn tell<T>(&mut self, tell: impl FnOnce(&mut H, &mut Incoming<H::Message>) -> T) -> Option<T> {
        let (handler, incoming) = (self.handler.as_mut()?, &mut self.incoming);
        catch_unwind(AssertUnwindSafe(|| tell(handler, incoming))).ok()
    }
}
