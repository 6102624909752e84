//! A connection to Dovecot, and the requests that share it.
//!
//! Replies come in any order (a refusal is held back for two seconds, unless configured otherwise), so one thread
//! reads, and hands each to whoever asked. Another one writes: nobody who asks, or cancels, waits for a socket.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::error::Error;
use super::handshake::{Handshake, hello};
use super::line::Line;
use super::lines::Lines;
use super::mechanism::Mechanism;
use super::reply::{NoReply, Reply};
use super::stream::{Address, Stream};

pub(super) struct Link {
    stream: Stream,
    mechanisms: Vec<Mechanism>,
    /// `None` when it has ended.
    open: Mutex<Option<Open>>,
    /// How many lines have come.
    received: AtomicU64,
}

struct Open {
    requests: HashMap<u32, SyncSender<Result<Reply, Error>>>,
    last_id: u32,
    /// Takes no further requests, and ends with the last that it has.
    retired: bool,
    queue: Sender<Queued>,
}

impl Open {
    fn unless_done(&self) -> Result<(), Error> {
        if self.retired && self.requests.is_empty() { Err(Error::Closed) } else { Ok(()) }
    }
}

/// A line to be written, if the request still waits for the reply to it.
struct Queued {
    id: u32,
    octets: Zeroizing<Vec<u8>>,
    cancels: bool,
}

impl Link {
    /// Connects, and waits for what Dovecot says of itself. The lines that follow are for [`run`](Self::run).
    pub(super) fn connect(address: &Address, limit: Duration) -> Result<(Arc<Self>, Lines), Error> {
        let stream = Stream::connect(address, limit)?;
        let deadline = Instant::now() + limit;
        stream.write_all(hello().as_bytes())?;
        let (mut lines, mut handshake) = (Lines::new(), Handshake::default());
        while !handshake.take(lines.next(&stream, Some(deadline))?)? {}
        let (queue, queued) = channel();
        let open = Open { requests: HashMap::new(), last_id: 0, retired: false, queue };
        let link = Arc::new(Self {
            stream,
            mechanisms: handshake.into_mechanisms(),
            open: Mutex::new(Some(open)),
            received: AtomicU64::new(0),
        });
        let writer = Arc::clone(&link);
        std::thread::Builder::new().name("dovecot writer".into()).spawn(move || writer.write(&queued))?;
        Ok((link, lines))
    }

    /// Hands out replies until the connection ends: it is closed when it is past its lifetime, and all requests are
    /// over. Says why it has ended.
    pub(super) fn run(&self, mut lines: Lines, lifetime: Duration) -> Error {
        let mut retires = Some(Instant::now() + lifetime);
        let error = loop {
            let taken = match lines.next(&self.stream, retires) {
                Ok(line) => self.take(line),
                Err(Error::TimedOut) if retires.is_some() => {
                    retires = None;
                    self.retire()
                }
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                break error;
            }
        };
        self.end();
        error
    }

    /// Whether it takes requests.
    pub(super) fn is_open(&self) -> bool {
        self.lock().as_ref().is_some_and(|open| !open.retired)
    }

    pub(super) fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    /// Ends the connection; who waits for a reply learns that none will come.
    pub(super) fn end(&self) {
        drop(self.lock().take());
        self.stream.shut_down();
    }

    /// Begins a request.
    pub(super) fn request(self: &Arc<Self>) -> Result<Request, Error> {
        let mut open = self.lock();
        let open = open.as_mut().filter(|open| !open.retired).ok_or(Error::Closed)?;
        // Never 0, and never one that is in use.
        let mut id = open.last_id;
        loop {
            id = id.wrapping_add(1).max(1);
            if !open.requests.contains_key(&id) {
                break;
            }
        }
        open.last_id = id;
        // One reply may be waiting to be looked at: more come only from a server that is broken.
        let (sender, replies) = sync_channel(1);
        open.requests.insert(id, sender);
        Ok(Request { link: Arc::clone(self), id, replies, over: false })
    }

    fn retire(&self) -> Result<(), Error> {
        let mut open = self.lock();
        let open = open.as_mut().ok_or(Error::Closed)?;
        open.retired = true;
        open.unless_done()
    }

    fn take(&self, line: &[u8]) -> Result<(), Error> {
        self.received.fetch_add(1, Ordering::Relaxed);
        let mut open = self.lock();
        let open = open.as_mut().ok_or(Error::Closed)?;
        let broken = Error::Protocol("a reply cannot be read");
        let (id, reply) = match Reply::parse(line) {
            Ok((id, reply)) => (id, Ok(reply)),
            Err(NoReply::Ignored) => return Ok(()),
            Err(NoReply::Broken(Some(id))) => (id, Err(broken)),
            Err(NoReply::Broken(None)) => return Err(broken),
        };
        let goes_on = matches!(reply, Ok(Reply::Challenge(_)));
        // Those for requests that were cancelled have nobody to go to.
        let Some(sender) = open.requests.get(&id) else { return Ok(()) };
        let taken = sender.try_send(reply).is_ok();
        if !goes_on || !taken {
            open.requests.remove(&id);
        }
        open.unless_done()
    }

    /// Frees an id, on both sides.
    fn cancel(&self, id: u32) {
        let mut open = self.lock();
        let Some(open) = open.as_mut() else { return };
        if open.requests.remove(&id).is_none() {
            return;
        }
        if open.unless_done().is_err() {
            // That cancels it, too; and wakes the thread that reads.
            return self.stream.shut_down();
        }
        if let Ok(octets) = Line::new("CANCEL", id).finish() {
            // A connection that has ended has nothing to cancel.
            let _ = open.queue.send(Queued { id, octets, cancels: true });
        }
    }

    fn queue(&self, id: u32, octets: Zeroizing<Vec<u8>>) -> Result<(), Error> {
        let open = self.lock();
        let open = open.as_ref().ok_or(Error::Closed)?;
        open.queue.send(Queued { id, octets, cancels: false }).map_err(|_| Error::Closed)
    }

    fn write(&self, queued: &Receiver<Queued>) {
        for Queued { id, octets, cancels } in queued {
            let wanted = cancels || self.lock().as_ref().is_some_and(|open| open.requests.contains_key(&id));
            if wanted && self.stream.write_all(&octets).is_err() {
                return self.end();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An authentication request, which occupies an id until it is over or dropped.
pub(super) struct Request {
    link: Arc<Link>,
    id: u32,
    replies: Receiver<Result<Reply, Error>>,
    over: bool,
}

impl Request {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Sends a line of this request and waits for the reply.
    pub(super) fn ask(&mut self, line: Zeroizing<Vec<u8>>, deadline: Instant) -> Result<Reply, Error> {
        // What has come before it was asked for cannot be the answer.
        match self.replies.try_recv() {
            Ok(_) => return Err(Error::Protocol("it answers without being asked")),
            Err(TryRecvError::Disconnected) => return Err(Error::Closed),
            Err(TryRecvError::Empty) => {}
        }
        let received = self.link.received.load(Ordering::Relaxed);
        self.link.queue(self.id, line)?;
        match self.replies.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(reply) => {
                self.over = !matches!(reply, Ok(Reply::Challenge(_)));
                reply
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::Closed),
            Err(RecvTimeoutError::Timeout) => {
                // Nothing at all came for as long: the other end may be gone without a word, or stuck. A new
                // connection finds out.
                if self.link.received.load(Ordering::Relaxed) == received {
                    self.link.end();
                }
                Err(Error::TimedOut)
            }
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.over {
            self.link.cancel(self.id);
        }
    }
}
