//! Other threads for handlers that take their time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use blocking::unblock;
use mio::Waker;
use sansmtp::Answer;

pub(crate) type Question<H> = Box<dyn FnOnce(&mut H) -> Answer + Send>;

/// A handler with its question.
pub(crate) struct Lent<H> {
    pub(crate) handler: H,
    pub(crate) question: Question<H>,
}

/// Threads that handlers are lent to. `T` says whose each is.
pub(crate) struct Threads<T, H> {
    waker: Arc<Waker>,
    sender: Sender<(T, H, Option<Answer>)>,
    receiver: Receiver<(T, H, Option<Answer>)>,
}

impl<T: Send + 'static, H: Send + 'static> Threads<T, H> {
    /// They wake the loop when there is a handler to be taken back.
    pub(crate) fn new(waker: Waker) -> Self {
        let (sender, receiver) = channel();
        Self { waker: Arc::new(waker), sender, receiver }
    }

    /// Has a thread ask.
    pub(crate) fn ask(&self, who: T, lent: Lent<H>) {
        let Lent { mut handler, question } = lent;
        let (sender, waker) = (self.sender.clone(), Arc::clone(&self.waker));
        let work = move || {
            let answer = catch_unwind(AssertUnwindSafe(|| question(&mut handler))).ok();
            // When nobody takes it, the loop has ended.
            let _ = sender.send((who, handler, answer)).map(|()| waker.wake());
        };
        unblock(work).detach();
    }

    /// Whose handler is back, with its answer if it has one.
    pub(crate) fn back(&self) -> Option<(T, H, Option<Answer>)> {
        self.receiver.try_recv().ok()
    }
}
