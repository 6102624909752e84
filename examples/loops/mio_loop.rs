//! The engine on `mio` (epoll, kqueue): ten thousand connections on one thread, which waits for none of them; the
//! authenticator, slow where it is done well, has its own. Here is the loop over all, in `mio_client.rs` that of each.
//!
//! ```sh
//! cargo run --release --example mio_loop -- --listen 127.0.0.1:2525
//! ```

mod demo;
mod mio_client;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use demo::Demo;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use mio_client::Client;
use sansmtp::{AuthRequest, ReadBuffer};

struct Loop {
    demo: Arc<Demo>,
    poll: Poll,
    listener: TcpListener,
    clients: HashMap<Token, Box<Client>>,
    next: Token,
    /// Who is to be looked at, and when, if nothing happens to them before.
    deadlines: BTreeSet<(Instant, Token)>,
    spare: Vec<ReadBuffer>,
    questions: Sender<(Token, AuthRequest)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let ((demo, listener), poll) = (Demo::start()?, Poll::new()?);
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (waker, authenticator) = (Waker::new(poll.registry(), ANSWERS)?, Arc::clone(&demo));
    let ((questions, asked), (answer, answers)) = (channel::<(Token, AuthRequest)>(), channel());
    std::thread::spawn(move || {
        for (token, request) in asked {
            let result = authenticator.authenticate(&request);
            // Where one of them fails, the loop has ended.
            let _ = answer.send((token, request.answer(result))).map(|()| waker.wake());
        }
    });
    let (clients, next, deadlines, spare) = (HashMap::new(), Token(ANSWERS.0 + 1), BTreeSet::new(), Vec::new());
    let mut this = Loop { demo, poll, listener, clients, next, deadlines, spare, questions };
    let mut events = Events::with_capacity(1024);
    loop {
        let first = this.deadlines.first().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        match this.poll.poll(&mut events, first) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => this.accept(),
                ANSWERS => answers.try_iter().for_each(|(token, answer)| {
                    // Neither a connection that has ended nor one that has waited long enough wants the answer.
                    if this.clients.get_mut(&token).is_some_and(|client| client.engine.answer(answer).is_ok()) {
                        this.attend_to(token);
                    }
                }),
                token if this.clients.get(&token).is_some_and(|client| client.wait.listens) => this.attend_to(token),
                _ => {}
            }
        }
        let now = Instant::now();
        while let Some((_, token)) = this.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            this.deadlines.pop_first();
            if token == LISTENER { this.accept() } else { this.attend_to(token) }
        }
    }
}

impl Loop {
    /// Lets a connection go on until it waits.
    fn attend_to(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        self.deadlines.remove(&(client.wait.until, token));
        let ask = |request| drop(self.questions.send((token, request)));
        match client.go_on(&mut self.spare, ask) {
            Ok(Some(wait)) => {
                self.deadlines.insert((wait.until, token));
                client.wait = wait;
            }
            Ok(None) | Err(_) => drop(self.clients.remove(&token)),
        }
    }

    fn accept(&mut self) {
        loop {
            let (mut stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Descriptors have run out, most likely: they come back when connections end.
                    self.deadlines.insert((Instant::now() + Duration::from_millis(100), LISTENER));
                    return;
                }
            };
            let token = self.next;
            let registered = self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE);
            if registered.and_then(|()| stream.set_nodelay(true)).is_ok() {
                // Tokens are never used again: what is late finds nobody.
                self.next = Token(token.0 + 1);
                self.clients.insert(token, Box::new(Client::new(stream, self.demo.engine(peer))));
                self.attend_to(token);
            }
        }
    }
}

const LISTENER: Token = Token(0);
const ANSWERS: Token = Token(1);
