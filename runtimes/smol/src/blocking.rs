//! A blocking handler on smol: its methods run on the blocking pool, never on the executor.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use futures_lite::future::pending;
use sansmtp::{Aborted, Answer, AsyncHandler, AuthRequest, AuthTurn, Event, Handler, Hook, HookCall, Hooks, Session};
use smol::unblock;

/// Makes an [`AsyncHandler`] of a [`Handler`].
///
/// Content is gathered into pieces of up to 64 KiB before it goes to the pool. A method that panics ends
/// its question with `451 4.3.0` or `454 4.7.0`, and the handler is used further, unless it was about the
/// content or its end; that, and a method that does not return in time, ends the connection.
///
/// Only [`event`](Handler::event) runs on the executor, and must not block there.
#[derive(Debug)]
pub struct Blocking<H> {
    hooks: Hooks,
    /// Absent while a method runs.
    handler: Option<H>,
    pending: Vec<u8>,
}

impl<H: Handler + 'static> Blocking<H> {
    /// Wraps `handler`.
    pub fn new(handler: H) -> Self {
        Self { hooks: handler.hooks(), handler: Some(handler), pending: Vec::new() }
    }

    /// Runs `work` on the pool, after what content is pending.
    async fn run<T: Send + 'static>(&mut self, work: impl FnOnce(&mut H) -> T + Send + 'static) -> T {
        let Some(mut handler) = self.handler.take() else {
            // An earlier method did not return in time, and still has it: neither will this one.
            return pending().await;
        };
        let content = std::mem::take(&mut self.pending);
        let (handler, result) = unblock(move || {
            let result = catch_unwind(AssertUnwindSafe(|| {
                if !content.is_empty() {
                    handler.content(&content);
                }
                work(&mut handler)
            }));
            (handler, result)
        })
        .await;
        self.handler = Some(handler);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl<H: Handler + 'static> AsyncHandler for Blocking<H> {
    fn hooks(&self) -> Hooks {
        self.hooks
    }

    async fn auth(&mut self, session: &Session, turn: AuthTurn) -> Answer {
        let session = session.clone();
        self.run(move |handler| handler.auth(&session, turn)).await
    }

    async fn content(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
        if self.pending.len() >= PENDING_OCTETS {
            self.run(|_| ()).await;
        }
    }

    async fn aborted(&mut self, aborted: Aborted) {
        self.pending.clear();
        self.run(move |handler| handler.aborted(aborted)).await;
    }

    fn event(&mut self, event: Event<'_>) {
        if let Some(handler) = &mut self.handler {
            handler.event(event);
        }
    }

    async fn call_hook(&mut self, call: HookCall<'_>) -> Answer {
        // What is left of a message that is over is of no use to the next.
        if !matches!(call.hook(), Hook::Message { .. }) {
            self.pending.clear();
        }
        let call = call.into_owned();
        self.run(move |handler| call.answer_by(handler)).await
    }

    async fn call_authenticator(&mut self, session: &Session, request: AuthRequest) -> Answer {
        let session = session.clone();
        self.run(move |handler| {
            let result = handler.authenticate(&session, &request);
            request.answer(result)
        })
        .await
    }
}

const PENDING_OCTETS: usize = 64 * 1024;
