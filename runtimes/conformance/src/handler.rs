//! Handlers that do what the names in their commands say, and what they have seen.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};

use sansmtp::{
    Aborted, Answer, AsyncHandler, AsyncMailData, AuthRequest, AuthResult, AuthTurn, Envelope, Event, Events, Handler,
    Hook, HookCall, Hooks, Incoming, MailData, Path, Peer, Piece, Session, Verdict,
};
use sansmtp_driver::Signal;

use crate::{LONG, PATIENCE};

/// What the handlers of a server have seen, and what lets them go on.
#[derive(Debug, Default)]
pub struct Seen {
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) messages: Mutex<Vec<Vec<u8>>>,
    pub(crate) threads: Mutex<Vec<ThreadId>>,
    pub(crate) handlers: AtomicUsize,
    /// For whom handlers were made.
    pub(crate) peers: Mutex<Vec<Peer>>,
    released: Signal<()>,
    changed: Condvar,
}

impl Seen {
    pub(crate) fn made(&self, peer: Peer) {
        self.peers.lock().unwrap().push(peer);
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.threads.lock().unwrap().push(thread::current().id());
        self.log.lock().unwrap().push(what.into());
        self.changed.notify_all();
    }

    /// Waits until something has been seen that contains `what`.
    pub(crate) fn wait_for(&self, what: &str) {
        self.wait_until(|log| log.iter().any(|entry| entry.contains(what)), what);
    }

    /// Waits until no handler is left.
    pub(crate) fn wait_until_all_have_gone(&self) {
        self.wait_until(|_| self.handlers.load(Ordering::Relaxed) == 0, "end of the handlers");
    }

    fn wait_until(&self, is_done: impl Fn(&[String]) -> bool, what: &str) {
        let log = self.log.lock().unwrap();
        let (log, waited) = self.changed.wait_timeout_while(log, PATIENCE, |log| !is_done(log)).unwrap();
        assert!(!waited.timed_out(), "no {what:?} in {log:?}");
    }

    pub(crate) fn has(&self, what: &str) -> bool {
        self.log.lock().unwrap().iter().any(|entry| entry.starts_with(what))
    }

    /// Lets everybody go on who blocks, now and later.
    pub(crate) fn release(&self) {
        self.released.set(());
    }
}

/// A handler that a test knows how to make wait instead of blocking.
pub trait Scripted: Handler<Message: AsyncMailData> {
    /// Whether it looks at content itself, in [`Handler::call_content`].
    const WATCHES_CONTENT: bool = false;

    /// Where to wait, if it would block on `word`.
    fn blocks_on(&self, word: &[u8]) -> Option<Arc<Seen>> {
        let _ = word;
        None
    }
}

/// Does what the names in its commands say: `panic`, `block`, `wrong`.
#[derive(Debug)]
pub(crate) struct Play {
    seen: Arc<Seen>,
}

/// Gathers a message, and does what the words in it say: `PANIC`, `BLOCK`.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// There once the message has been prepared.
    seen: Option<Arc<Seen>>,
    content: Vec<u8>,
}

impl Gathered {
    /// What to wait for, if this piece says that it should.
    fn blocks_on(&self, piece: &[u8]) -> Option<&Signal<()>> {
        let seen = self.seen.as_ref().filter(|_| contains(piece, b"BLOCK"))?;
        seen.note("content blocks");
        Some(&seen.released)
    }

    fn keep(&mut self, piece: &[u8]) {
        if let Some(seen) = self.seen.as_ref().filter(|_| contains(piece, b"PANIC")) {
            seen.note("content panics");
            panic!("as asked");
        }
        self.content.extend_from_slice(piece);
    }
}

impl MailData for Gathered {
    fn append(&mut self, piece: &[u8]) {
        if let Some(released) = self.blocks_on(piece) {
            released.wait_timeout(LONG);
        }
        self.keep(piece);
    }
}

impl AsyncMailData for Gathered {
    async fn append(&mut self, piece: &[u8]) {
        if let Some(released) = self.blocks_on(piece) {
            released.wait().await;
        }
        self.keep(piece);
    }
}

impl Play {
    pub(crate) fn new(seen: &Arc<Seen>) -> Self {
        seen.handlers.fetch_add(1, Ordering::Relaxed);
        Self { seen: Arc::clone(seen) }
    }

    fn block(&self) {
        self.seen.released.wait_timeout(LONG);
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        let _log = self.seen.log.lock();
        self.seen.handlers.fetch_sub(1, Ordering::Relaxed);
        self.seen.changed.notify_all();
    }
}

impl Handler for Play {
    type Message = Gathered;

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        let authcid = request.credentials().authcid();
        self.seen.note(format!("authenticate {authcid}"));
        match authcid {
            "panic" => panic!("as asked"),
            "block" => self.block(),
            "wrong" => return AuthResult::refuse(),
            _ => {}
        }
        AuthResult::accept()
    }

    fn rcpt(&mut self, _: &Session, _: &Envelope, forward_path: Path<'_>) -> Verdict {
        self.seen.note(format!("rcpt {}", forward_path.local_part()));
        match forward_path.local_part() {
            "panic" => panic!("as asked"),
            "block" => self.block(),
            _ => {}
        }
        Verdict::Accept
    }

    fn data(&mut self, _: &Session, envelope: &Envelope, message: &mut Gathered) -> Verdict {
        message.seen = Some(Arc::clone(&self.seen));
        match envelope.reverse_path() {
            Some(path) if path.local_part() == "refuse" => {
                message.content.extend_from_slice(b"prepared for a message that is refused");
                Verdict::TryLater
            }
            _ => Verdict::Accept,
        }
    }

    fn message(&mut self, _: &Session, _: &Envelope, message: Gathered) -> Verdict {
        let panics = contains(&message.content, b"EXPLODE");
        assert!(!panics, "as asked");
        self.seen.messages.lock().unwrap().push(message.content);
        self.seen.note("message");
        Verdict::Accept
    }

    fn aborted(&mut self, aborted: Aborted) {
        self.seen.note(format!("{aborted:?}"));
    }

    fn event(&mut self, event: Event<'_>) {
        self.seen.log.lock().unwrap().push(format!("{event:?}"));
        self.seen.changed.notify_all();
    }
}

impl Scripted for Play {
    fn blocks_on(&self, word: &[u8]) -> Option<Arc<Seen>> {
        (word == b"block").then(|| Arc::clone(&self.seen))
    }
}

/// Keeps what it takes, has nothing to say before that, and no clean-up of its own.
pub(crate) struct Keeps(pub(crate) Arc<Seen>);

impl Handler for Keeps {
    type Message = Vec<u8>;

    fn hooks(&self) -> Hooks {
        Hooks::MESSAGE
    }

    fn message(&mut self, _: &Session, _: &Envelope, message: Vec<u8>) -> Verdict {
        self.0.messages.lock().unwrap().push(message);
        Verdict::Accept
    }
}

impl Scripted for Keeps {}

/// Takes everything and keeps nothing.
pub(crate) struct ThrowsAway;

impl Handler for ThrowsAway {
    type Message = ();
}

impl Scripted for ThrowsAway {}

/// Has no hooks.
pub(crate) struct AsksNothing;

impl Handler for AsksNothing {
    type Message = ();

    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }
}

impl Scripted for AsksNothing {}

/// Panics when it is dropped.
pub(crate) struct BreaksAtItsEnd;

impl Handler for BreaksAtItsEnd {
    type Message = ();
}

impl Drop for BreaksAtItsEnd {
    fn drop(&mut self) {
        panic!("as asked");
    }
}

impl Scripted for BreaksAtItsEnd {}

/// Panics at every event.
pub(crate) struct Breaks;

impl Handler for Breaks {
    type Message = ();

    fn event(&mut self, _: Event<'_>) {
        panic!("as asked");
    }
}

impl Scripted for Breaks {}

/// The same as an asynchronous handler, which waits instead of blocking.
#[derive(Debug)]
pub struct Waits<H>(H);

impl<H> Waits<H> {
    pub(crate) fn new(handler: H) -> Self {
        Self(handler)
    }
}

impl<H: Scripted> Waits<H> {
    async fn wait(&self, word: &[u8], method: &str) {
        if let Some(seen) = self.0.blocks_on(word) {
            seen.note(method);
            seen.released.wait().await;
        }
    }
}

impl<H: Scripted + Sync> AsyncHandler for Waits<H> {
    type Message = H::Message;

    fn hooks(&self) -> Hooks {
        self.0.hooks()
    }

    fn events(&self) -> Events {
        self.0.events()
    }

    async fn authenticate(&mut self, session: &Session, request: &AuthRequest) -> AuthResult {
        self.wait(request.credentials().authcid().as_bytes(), "authenticate block").await;
        self.0.authenticate(session, request)
    }

    async fn auth(&mut self, session: &Session, turn: AuthTurn) -> Answer {
        self.0.auth(session, turn)
    }

    async fn aborted(&mut self, aborted: Aborted) {
        self.0.aborted(aborted);
    }

    fn event(&mut self, event: Event<'_>) {
        self.0.event(event);
    }

    async fn call_content(&mut self, piece: Piece<'_>, incoming: &mut Incoming<H::Message>) {
        if H::WATCHES_CONTENT {
            self.0.call_content(piece, incoming);
        } else {
            incoming.append_async(piece).await;
        }
    }

    async fn call_hook(&mut self, call: HookCall<'_>, incoming: &mut Incoming<H::Message>) -> Answer {
        if let (Hook::Rcpt, Some(path)) = (call.hook(), call.envelope().forward_paths().next_back()) {
            self.wait(path.local_part().as_bytes(), "rcpt block").await;
        }
        self.0.call_hook(call, incoming)
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
