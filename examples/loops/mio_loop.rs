//! The engine on `mio` (epoll, kqueue): ten thousand connections on one thread, which waits for none of them; the
//! authenticator, slow where it is done well, has others. Here is the loop over all, in `mio_client.rs` that of each.
//!
//! ```sh
//! cargo run --release --example mio_loop -- --listen 127.0.0.1:2525
//! ```

mod alarms;
mod demo;
mod desk;
mod mio_client;
mod mio_socket;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use alarms::{Alarm, Alarms};
use demo::Demo;
use desk::Threads;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use mio_client::Client;
use sansmtp::{Handler, ReadBuffer, tls};

/// Serves whoever connects, with the engine and the handler that `open` makes for a peer.
pub(crate) struct Loop<F, H> {
    open: F,
    poll: Poll,
    listener: TcpListener,
    clients: HashMap<Token, Box<Client<H>>>,
    last: Token,
    alarms: Alarms<Token>,
    spare: Vec<ReadBuffer>,
    threads: Threads<Token, H>,
    now: Instant,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (demo, listener) = Demo::start()?;
    let (mut this, mut events) = (Loop::new(listener, |peer| demo.open(peer))?, Events::with_capacity(1024));
    // `KnownPassword` hashes nothing.
    this.threads.quick = true;
    loop {
        this.turn(&mut events)?;
    }
}

impl<F: Fn(SocketAddr) -> (tls::Session, H), H: Handler + 'static> Loop<F, H> {
    pub(crate) fn new(listener: std::net::TcpListener, open: F) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (poll, mut listener) = (Poll::new()?, TcpListener::from_std(listener));
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), BACK)?;
        let threads = Threads::new(move || drop(waker.wake()));
        let (clients, alarms, spare, now) = (HashMap::new(), Alarms::new(), Vec::new(), Instant::now());
        Ok(Self { open, poll, listener, clients, last: BACK, alarms, spare, threads, now })
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
                BACK => {}
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
        // Tokens are never used again: what is late finds nobody.
        let Some(client) = self.clients.get_mut(&token) else { return };
        if ends_wait(client) {
            let wait = client.go_on(self.now, &mut self.spare, |lent| self.threads.ask(token, lent));
            let Ok(Some(wait)) = wait else {
                self.alarms.clear(&mut client.alarm, token);
                return drop(self.clients.remove(&token));
            };
            client.wait = wait;
        }
        self.alarms.set(&mut client.alarm, token, client.wait.until);
    }

    fn accept(&mut self) {
        loop {
            let (stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Descriptors have run out, most likely: they come back when connections end.
                Err(_) => return self.alarms.set(&mut Alarm::default(), LISTENER, self.now + ACCEPT_PAUSE),
            };
            self.last.0 += 1;
            let socket = mio_socket::Socket::new(stream, self.poll.registry(), self.last);
            if let (Ok(socket), Ok(opened)) = (socket, catch_unwind(AssertUnwindSafe(|| (self.open)(peer)))) {
                self.clients.insert(self.last, Box::new(Client::new(socket, opened, self.now)));
                self.attend_to(self.last, |_| true);
            }
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const LISTENER: Token = Token(0);
const BACK: Token = Token(1);
