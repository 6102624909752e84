//! A server from its start to its end.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sansmtp::{Handler, Peer};
use sansmtp_driver::lobby::{Entrance, Lobby, Socket};
use sansmtp_driver::{Alive, Place, Service, Setup, setup_methods};

use crate::connection::Line;
use crate::guests::{Door, Guests};

/// An SMTP server on threads: listeners, and a handler for each connection.
///
/// ```no_run
/// use sansmtp::{Config, Handler};
/// use sansmtp_threads::Server;
///
/// struct Refuse;
///
/// impl Handler for Refuse {
///     type Message = ();
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::builder("mx.example.org").build()?;
/// let server = Server::new(config, |_peer| Refuse).listen("127.0.0.1:0")?;
/// println!("listening on {:?}", server.local_addresses());
/// server.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server<F> {
    setup: Setup,
    make_handler: F,
    runtime: Threads,
}

/// How large threads are.
#[derive(Clone, Copy, Debug)]
struct Threads {
    stack_octets: usize,
}

impl Default for Threads {
    fn default() -> Self {
        Self { stack_octets: 256 * 1024 }
    }
}

impl<F> Server<F> {
    setup_methods!(Handler);

    /// Gives each thread a stack of so many octets: 256 KiB unless changed. The engine needs less than a
    /// tenth of that, TLS some more; the rest is for the handler's methods.
    #[must_use]
    pub fn stack_octets(mut self, octets: usize) -> Self {
        self.runtime.stack_octets = octets;
        self
    }

    /// Accepts connections until it is told to shut down, and then until they have ended. Blocks that long.
    ///
    /// A method of a handler that has not returned by then is not waited for; its thread ends when it does.
    ///
    /// # Errors
    ///
    /// A mistake that no connection could live with: STARTTLS offered, or a TLS listener, without a TLS
    /// configuration. What the operating system says if it has no thread to give, or cannot watch a listener.
    pub fn run<H>(self) -> io::Result<()>
    where
        F: Fn(Peer) -> H + Send + 'static,
        H: Handler + 'static,
    {
        let Self { mut setup, make_handler, runtime } = self;
        let listeners = setup.start()?;
        if listeners.is_empty() {
            return Ok(());
        }
        let stages = setup.stages().clone();
        let lobby = Lobby::open("sansmtp", runtime.stack_octets)?;
        let (setup, make_handler) = (Arc::new(setup), Arc::new(Mutex::new(make_handler)));
        let alive = Alive::new(&stages);
        let (is_open, open) = mpsc::channel();
        let mut failed = None;
        for (listener, service) in listeners {
            let service = Arc::new(service);
            // Weak: a thread in which no handler gets made is not to be waited for.
            let (setup, make_handler, alive) = (setup.clone(), make_handler.clone(), Arc::downgrade(&alive));
            let served = service.clone();
            let receive = move |socket, peer| receive(&setup, &served, &make_handler, &alive, socket, peer);
            let listens = Entrance::new(listener).and_then(|entrance| {
                let (stages, receive, _is_open) = (stages.clone(), Box::new(receive), is_open.clone());
                lobby.let_in(None, Guests::Door(Door { entrance, service, stages, receive, _is_open }))
            });
            if let Err(error) = listens {
                stages.requested.set(Duration::ZERO);
                failed = Some(error);
            }
        }
        drop(is_open);

        let grace = stages.requested.wait_timeout(Duration::MAX).unwrap_or_default();
        lobby.rouse();
        if open.recv_timeout(STOPPING_TIME) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a listener has not ended yet");
        }
        stages.ending.set(());
        drop(alive);
        lobby.rouse();
        if stages.ended.wait_timeout(grace).is_none() {
            stages.cut_off.set(());
            lobby.cut_off();
            stages.ended.wait_timeout(Duration::MAX);
        }
        // A listener that nobody had time for.
        lobby.cut_off();
        lobby.close();
        failed.map_or(Ok(()), Err)
    }
}

/// Begins a connection, if there is a place for it.
fn receive<F: Fn(Peer) -> H, H: Handler + 'static>(
    setup: &Setup,
    service: &Service,
    make_handler: &Mutex<F>,
    alive: &Weak<Alive>,
    socket: Socket,
    peer: Peer,
) -> Option<(Place, Box<Line<H>>)> {
    let place = match setup.admit(service, peer) {
        Ok(place) => place,
        Err(refused) => {
            refused.tell(Ok(socket.into()));
            return None;
        }
    };
    let make = |peer| {
        // If it panicked for another connection, it may still be right for this one.
        let make_handler = make_handler.lock().unwrap_or_else(PoisonError::into_inner);
        let handler = make_handler(peer);
        (handler.hooks(), handler.events(), handler)
    };
    let (conversation, handler) = setup.open(service, peer, socket.local_address(), make)?;
    Some((place, Line::new(socket, conversation, handler, alive.upgrade()?)))
}

/// How long a listener may take to end.
const STOPPING_TIME: Duration = Duration::from_secs(1);
