//! Questions to the handler: put to one that may wait, or copied for one that blocks.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use sansmtp::{
    Aborted, Answer, AsyncHandler, AuthRequest, AuthTurn, Event, Handler, Hook, HookCall, OwnedHookCall, Session,
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
    Content(&'c [u8]),
    /// The content given so far is void. It has no answer.
    Aborted(Aborted),
}

impl Question<'_> {
    /// Asks a handler that may wait. `None` comes from what has no answer.
    pub async fn put_to(self, handler: &mut impl AsyncHandler) -> Option<Answer> {
        match self {
            Question::Hook(call) => Some(handler.call_hook(call).await),
            Question::Authenticator(session, request) => Some(handler.call_authenticator(session, request).await),
            Question::AuthHandler(session, turn) => Some(handler.auth(session, turn).await),
            Question::Content(piece) => {
                handler.content(piece).await;
                None
            }
            Question::Aborted(aborted) => {
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
    fn put_to(self, handler: &mut impl Handler) -> Option<Answer> {
        match self {
            Self::Hook(call) => Some(call.answer_by(handler)),
            Self::Authenticator(session, request) => {
                let result = handler.authenticate(&session, &request);
                Some(request.answer(result))
            }
            Self::AuthHandler(session, turn) => Some(handler.auth(&session, turn)),
            Self::Content => None,
            Self::Aborted(aborted) => {
                handler.aborted(aborted);
                None
            }
        }
    }
}

/// A blocking handler, and the content on its way to it.
///
/// A question is [accepted](Self::accept) where the connection is, and [worked on](Self::work) where it is
/// right to block.
pub struct Desk<H> {
    handler: H,
    /// Content is handed over in large pieces: it may have a long way to go.
    content: Vec<u8>,
}

impl<H: Handler> Desk<H> {
    /// A desk for `handler`.
    pub fn new(handler: H) -> Self {
        Self { handler, content: Vec::new() }
    }

    /// Tells the handler of an event, at once.
    pub fn event(&mut self, event: Event<'_>) {
        self.handler.event(event);
    }

    /// Copies a question. `None` if there is nothing to do yet: of content, up to 64 KiB are gathered
    /// first.
    pub fn accept(&mut self, question: Question<'_>) -> Option<OwnedQuestion> {
        Some(match question {
            Question::Hook(call) => {
                // What is left of a message that is over is of no use to the next.
                if !matches!(call.hook(), Hook::Message { .. }) {
                    self.content.clear();
                }
                OwnedQuestion::Hook(call.into_owned())
            }
            Question::Authenticator(session, request) => {
                OwnedQuestion::Authenticator(Box::new(session.clone()), request)
            }
            Question::AuthHandler(session, turn) => OwnedQuestion::AuthHandler(Box::new(session.clone()), turn),
            Question::Content(piece) => {
                self.content.extend_from_slice(piece);
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

    /// Lets the handler have the content that has been gathered, and then the question. `None` comes from
    /// what has no answer.
    ///
    /// # Errors
    ///
    /// The panic, if the handler panics. It can be asked again.
    pub fn work(&mut self, question: OwnedQuestion) -> thread::Result<Option<Answer>> {
        let content = mem::take(&mut self.content);
        catch_unwind(AssertUnwindSafe(|| {
            if !content.is_empty() {
                self.handler.content(&content);
            }
            question.put_to(&mut self.handler)
        }))
    }
}

impl<H: fmt::Debug> fmt::Debug for Desk<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("handler", &self.handler).finish_non_exhaustive()
    }
}

const GATHERED_OCTETS: usize = 64 * 1024;
