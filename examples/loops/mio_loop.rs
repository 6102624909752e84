//! The engine on `mio` (epoll, kqueue): ten thousand connections on one thread, which waits for none of them; the
//! authenticator, slow where it is done well, has others. Here is the loop over all, in `mio_client.rs` that of each.
//!
//! ```sh
//! cargo run --release --example mio_loop -- --listen 127.0.0.1:2525
//! ```

mod alarms;
mod buffers;
mod demo;
mod desk;
mod lending;
mod mio_client;
mod mio_listener;
mod mio_socket;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use alarms::{Alarm, Alarms};
use buffers::Buffers;
use demo::Demo;
use desk::Desk;
use lending::Threads;
use mio::{Events, Poll, Token, Waker};
use mio_client::Client;
use mio_listener::Listener;
use sansmtp::{Handler, tls};

/// Serves whoever connects, with the engine and the handler that `open` makes for a peer.
pub(crate) struct Loop<F, H: Handler> {
    open: F,
    poll: Poll,
    listener: Listener,
    clients: HashMap<Token, Box<Client<H>>>,
    alarms: Alarms<Token>,
    spare: Buffers,
    threads: Threads<Token, H>,
    quick: bool,
    now: Instant,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (demo, listener) = Demo::start()?;
    // `KnownPassword` hashes nothing: the loop's own thread asks it.
    let (mut this, mut events) = (Loop::new(listener, true, |peer| demo.open(peer))?, Events::with_capacity(1024));
    loop {
        this.turn(&mut events)?;
    }
}

impl<F: Fn(SocketAddr) -> (tls::Session, H), H: Handler + 'static> Loop<F, H> {
    pub(crate) fn new(listener: std::net::TcpListener, quick: bool, open: F) -> io::Result<Self> {
        let poll = Poll::new()?;
        let listener = Listener::new(listener, poll.registry(), LISTENER, BACK)?;
        let threads = Threads::new(Waker::new(poll.registry(), BACK)?);
        let (clients, alarms, spare, now) = (HashMap::new(), Alarms::new(), Buffers::default(), Instant::now());
        Ok(Self { open, poll, listener, clients, alarms, spare, threads, quick, now })
    }

    /// Waits until something happens, and does what follows.
    pub(crate) fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, self.alarms.wait(self.now)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => self.now = Instant::now(),
        }
        for event in &*events {
            match event.token() {
                LISTENER => self.accept(),
                token => self.attend_to(token, |client| client.notice(event.is_read_closed())),
            }
        }
        while let Some((token, handler, answer)) = self.threads.back() {
            self.attend_to(token, |client| client.take_back(handler, answer));
        }
        while let Some(token) = self.alarms.rung(self.now) {
            let now = self.now;
            if token == LISTENER { self.accept() } else { self.attend_to(token, |client| client.ring(now)) }
        }
        Ok(())
    }

    /// Lets a connection go on until it waits, if what has happened ends its wait.
    fn attend_to(&mut self, token: Token, ends_wait: impl FnOnce(&mut Client<H>) -> bool) {
        // Tokens are never used again: what is late finds nobody, and so does `BACK`.
        let Some(client) = self.clients.get_mut(&token) else { return };
        if ends_wait(client) {
            let wait = client.go_on(self.now, &mut self.spare, |lent| self.threads.ask(token, lent));
            let Some(wait) = wait else {
                self.alarms.clear(&mut client.alarm, token);
                return drop(self.clients.remove(&token));
            };
            client.wait = wait;
        }
        self.alarms.set(&mut client.alarm, token, client.wait.until);
    }

    fn accept(&mut self) {
        loop {
            let (token, socket, peer) = match self.listener.accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return,
                // Descriptors have run out, most likely: they come back when connections end.
                Err(_) => {
                    return self.alarms.set(&mut Alarm::default(), LISTENER, self.now + Duration::from_millis(100));
                }
            };
            let Ok((engine, handler)) = catch_unwind(AssertUnwindSafe(|| (self.open)(peer))) else { continue };
            let client = Client::new(socket, engine, Desk::new(handler, self.quick), self.now);
            self.clients.insert(token, Box::new(client));
            self.attend_to(token, |_| true);
        }
    }
}

const LISTENER: Token = Token(0);
const BACK: Token = Token(1);
