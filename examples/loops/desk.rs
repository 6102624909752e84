//! A handler in a loop that must not wait. Where it may take its time, it is lent to another thread; where it panics,
//! its session fails and nobody else's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use blocking::unblock;
use sansmtp::{Aborted, Answer, AuthRequest, AuthTurn, Event, Handler, Hook, HookCall, Session};

/// Where a connection's handler is asked.
pub(crate) struct Desk<H> {
    /// Not there while it is lent, nor after a panic over a message.
    handler: Option<H>,
    question: Option<Question<H>>,
}

type Question<H> = Box<dyn FnOnce(&mut H) -> Answer + Send>;

impl<H: Handler> Desk<H> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler: Some(handler), question: None }
    }

    /// Asks at once: a hook that takes time would do as `authenticate` does, with [`HookCall::into_owned`]. Without
    /// an answer, the engine gives its own.
    pub(crate) fn hook(&mut self, call: HookCall<'_>) -> Option<Answer> {
        self.tell(matches!(call.hook(), Hook::Message { .. }), |handler| handler.call_hook(call))
    }

    /// Keeps the question for whom the handler is lent to.
    pub(crate) fn authenticate(&mut self, session: &Session, request: AuthRequest) {
        let session = session.clone();
        self.question = Some(Box::new(move |handler| handler.call_authenticator(&session, request)));
    }

    /// Likewise.
    pub(crate) fn auth(&mut self, session: &Session, turn: AuthTurn) {
        let session = session.clone();
        self.question = Some(Box::new(move |handler| handler.auth(&session, turn)));
    }

    pub(crate) fn content(&mut self, piece: &[u8]) {
        self.tell(true, |handler| handler.content(piece));
    }

    pub(crate) fn aborted(&mut self, aborted: Aborted) {
        self.tell(false, |handler| handler.aborted(aborted));
    }

    pub(crate) fn event(&mut self, event: Event<'_>) {
        self.tell(false, |handler| handler.event(event));
    }

    /// Whether nothing can be asked any more, so that the session has to end.
    pub(crate) fn is_empty(&self) -> bool {
        self.handler.is_none()
    }

    /// Gives the handler away with the question that was kept. Until it is back, or late, nothing else is asked.
    pub(crate) fn lend(&mut self) -> Option<Lent<H>> {
        Some(Lent { question: self.question.take()?, handler: self.handler.take()? })
    }

    pub(crate) fn take_back(&mut self, handler: H) {
        self.handler = Some(handler);
    }

    /// A panic over a message is its handler's end: it must not accept what it has not kept whole, nor mix it with what
    /// comes next.
    fn tell<T>(&mut self, over_message: bool, tell: impl FnOnce(&mut H) -> T) -> Option<T> {
        let handler = self.handler.as_mut()?;
        let told = catch_unwind(AssertUnwindSafe(|| tell(handler))).ok();
        if over_message && told.is_none() {
            self.handler = None;
        }
        told
    }
}

/// A handler with its question.
pub(crate) struct Lent<H> {
    handler: H,
    question: Question<H>,
}

/// Threads that handlers are lent to. `T` says whose each is.
pub(crate) struct Threads<T, H> {
    /// The answers are quick: the loop's own thread asks.
    pub(crate) quick: bool,
    wake: Arc<dyn Fn() + Send + Sync>,
    sender: Sender<(T, H, Option<Answer>)>,
    receiver: Receiver<(T, H, Option<Answer>)>,
}

impl<T: Send + 'static, H: Send + 'static> Threads<T, H> {
    /// Each calls `wake` when there is a handler to be taken back.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (sender, receiver) = channel();
        Self { quick: false, wake: Arc::new(wake), sender, receiver }
    }

    /// Has a thread ask.
    pub(crate) fn ask(&self, who: T, lent: Lent<H>) {
        let Lent { mut handler, question } = lent;
        let (sender, wake) = (self.sender.clone(), (!self.quick).then(|| Arc::clone(&self.wake)));
        let work = move || {
            let answer = catch_unwind(AssertUnwindSafe(|| question(&mut handler))).ok();
            // When nobody takes it, the loop has ended.
            let _ = sender.send((who, handler, answer)).map(|()| wake.map(|wake| wake()));
        };
        if self.quick { work() } else { unblock(work).detach() }
    }

    /// Whose handler is back, with its answer if it has one.
    pub(crate) fn back(&self) -> Option<(T, H, Option<Answer>)> {
        self.receiver.try_recv().ok()
    }
}
