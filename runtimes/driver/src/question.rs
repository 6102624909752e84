//! Questions to the handler: put to one that may wait, or copied for one that blocks.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use sansmtp::{
    Aborted, Answer, AsyncHandler, AuthRequest, AuthTurn, Event, Handler, HookCall, Incoming, OwnedClosed,
    OwnedHookCall, Piece, Session,
};

/// What is asked of a handler, or told to it.
#[derive(Debug)]
pub enum Question<'c> {
    /// A hook decides.
    Hook(HookCall<'c>),
    /// The authenticator decides.
    Authenticator(&'c Session, AuthRequest),
    /// The AUTH handler hook takes a turn.
    AuthHandler(&'c Session, AuthTurn),
    /// A piece of the content. It has no answer.
    Content(Piece<'c>),
    /// The message that was coming is void. It has no answer.
    Aborted(Aborted),
}

impl Question<'_> {
    /// Asks a handler that may wait, about the message in `incoming`. `None` comes from what has no answer.
    pub async fn put_to<H: AsyncHandler>(self, handler: &mut H, incoming: &mut Incoming<H::Message>) -> Option<Answer> {
        match self {
            Question::Hook(call) => Some(handler.call_hook(call, incoming).await),
            Question::Authenticator(session, request) => Some(handler.call_authenticator(session, request).await),
            Question::AuthHandler(session, turn) => Some(handler.auth(session, turn).await),
            Question::Content(piece) => {
                handler.call_content(piece, incoming).await;
                None
            }
            Question::Aborted(aborted) => {
                incoming.discard();
                handler.aborted(aborted).await;
                None
            }
        }
    }
}

/// A question with all that it is about.
#[derive(Debug)]
pub enum OwnedQuestion {
    /// [`Question::Hook`].
    Hook(OwnedHookCall),
    /// [`Question::Authenticator`].
    Authenticator(Box<Session>, AuthRequest),
    /// [`Question::AuthHandler`].
    AuthHandler(Box<Session>, AuthTurn),
    /// [`Question::Content`]: what has been gathered.
    Content,
    /// [`Question::Aborted`].
    Aborted(Aborted),
}

impl OwnedQuestion {
    fn put_to<H: Handler>(self, handler: &mut H, incoming: &mut Incoming<H::Message>) -> Option<Answer> {
        match self {
            Self::Hook(call) => Some(call.answer_by(handler, incoming)),
            Self::Authenticator(session, request) => {
                let result = handler.authenticate(&session, &request);
                Some(request.answer(result))
            }
            Self::AuthHandler(session, turn) => Some(handler.auth(&session, turn)),
            Self::Content => None,
            Self::Aborted(aborted) => {
                incoming.discard();
                handler.aborted(aborted);
                None
            }
        }
    }
}

/// A blocking handler, and the message on its way to it.
///
/// A question is [accepted](Self::accept) where the connection is, and [worked on](Self::work) where it is
/// right to block.
pub struct Desk<H: Handler> {
    handler: H,
    incoming: Incoming<H::Message>,
    /// Content is handed over in large pieces: it may have a long way to go.
    content: Vec<u8>,
    /// How many octets of its message come before it.
    offset: u64,
}

impl<H: Handler> Desk<H> {
    /// A desk for `handler`.
    pub fn new(handler: H) -> Self {
        Self { handler, incoming: Incoming::new(), content: Vec::new(), offset: 0 }
    }

    /// Tells the handler of an event, at once.
    pub fn event(&mut self, event: Event<'_>) {
        self.handler.event(event);
    }

    /// Copies a question. `None` if there is nothing to do yet: of content, up to 64 KiB are gathered
    /// first.
    pub fn accept(&mut self, question: Question<'_>) -> Option<OwnedQuestion> {
        Some(match question {
            Question::Hook(call) => OwnedQuestion::Hook(call.into_owned()),
            Question::Authenticator(session, request) => {
                OwnedQuestion::Authenticator(Box::new(session.clone()), request)
            }
            Question::AuthHandler(session, turn) => OwnedQuestion::AuthHandler(Box::new(session.clone()), turn),
            Question::Content(piece) => {
                if piece.offset() == 0 {
                    // What is left of a message that is over is of no use to the next.
                    self.content.clear();
                }
                if self.content.is_empty() {
                    self.offset = piece.offset();
                }
                self.content.extend_from_slice(&piece);
                if self.content.len() < GATHERED_OCTETS {
                    return None;
                }
                OwnedQuestion::Content
            }
            Question::Aborted(aborted) => {
                self.content.clear();
                OwnedQuestion::Aborted(aborted)
            }
        })
    }

    /// Has the content that has been gathered added to its message, and then lets the handler have the question. `None`
    /// comes from what has no answer.
    ///
    /// # Errors
    ///
    /// The panic, if the handler panics. It can be asked again.
    pub fn work(&mut self, question: OwnedQuestion) -> thread::Result<Option<Answer>> {
        let content = mem::take(&mut self.content);
        catch_unwind(AssertUnwindSafe(|| {
            if !content.is_empty() {
                self.handler.call_content(Piece::new(self.offset, &content), &mut self.incoming);
            }
            question.put_to(&mut self.handler, &mut self.incoming)
        }))
    }
}

impl<H: Handler + fmt::Debug> fmt::Debug for Desk<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("handler", &self.handler).finish_non_exhaustive()
    }
}

/// A [`Desk`] that a connection shares with the thread that works at it, so that the handler is told how the connection
/// ends, also while a method of its has not returned: then that thread tells it, when it has.
pub struct SharedDesk<H: Handler> {
    desk: Mutex<Desk<H>>,
    /// The end, while nobody has been able to tell of it.
    closed: Mutex<Option<OwnedClosed>>,
}

impl<H: Handler> SharedDesk<H> {
    /// A desk for `handler`.
    pub fn new(handler: H) -> Self {
        Self { desk: Mutex::new(Desk::new(handler)), closed: Mutex::default() }
    }

    /// [`Desk::accept`], by the connection while nobody works there.
    pub fn accept(&self, question: Question<'_>) -> Option<OwnedQuestion> {
        lock(&self.desk).accept(question)
    }

    /// [`Desk::work`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn work(&self, question: OwnedQuestion) -> thread::Result<Option<Answer>> {
        let outcome = lock(&self.desk).work(question);
        self.tell_closed();
        outcome
    }

    /// Tells the handler of an event, at once; of [`Event::Closed`] later, if a method has not returned, and of another
    /// event not at all then.
    pub fn event(&self, event: Event<'_>) {
        match try_lock(&self.desk) {
            Some(mut desk) => desk.event(event),
            None => {
                *lock(&self.closed) = OwnedClosed::of(&event);
                self.tell_closed();
            }
        }
    }

    /// Whoever comes last, of the one who tells of the end and the one who works, finds the other has been there.
    fn tell_closed(&self) {
        while lock(&self.closed).is_some() {
            let Some(mut desk) = try_lock(&self.desk) else { return };
            let closed = lock(&self.closed).take();
            if let Some(closed) = closed
                && catch_unwind(AssertUnwindSafe(|| desk.event(closed.event()))).is_err()
            {
                tracing::error!(hook = "event", "the handler panicked");
            }
        }
    }
}

impl<H: Handler + fmt::Debug> fmt::Debug for SharedDesk<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedDesk").field(&self.desk).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A handler that has panicked can be asked again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

const GATHERED_OCTETS: usize = 64 * 1024;
