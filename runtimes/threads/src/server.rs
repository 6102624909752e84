//! Listeners, the threads of their connections, and the one that looks after them.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use sansmtp::{Handler, Peer};
use sansmtp_driver::{Alive, Desk, Security, Setup, Signal, setup_methods};

use crate::connection::{Line, Seat, Turn};
use crate::listener::Accepting;

/// An SMTP server on threads: listeners, a thread for each connection, a handler for each connection.
///
/// ```no_run
/// use sansmtp::{Config, Handler};
/// use sansmtp_threads::Server;
///
/// struct Refuse;
///
/// impl Handler for Refuse {}
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

/// How many threads there are, and how large.
#[derive(Clone, Copy, Debug)]
struct Threads {
    max_connections: usize,
    stack_octets: usize,
}

impl Default for Threads {
    fn default() -> Self {
        Self { max_connections: 1000, stack_octets: 256 * 1024 }
    }
}

impl<F> Server<F> {
    setup_methods!(Handler);

    /// Serves so many connections at a time, each with its thread: 1000 unless changed, at least one.
    /// Further clients wait until one ends. A method of a handler that never returns keeps its thread for
    /// good, though its connection ends when the handler's time is up.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.runtime.max_connections = connections.max(1);
        self
    }

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
    /// configuration. What the operating system says if it lets no thread be started for a listener.
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
        let house = Arc::new(House { setup, runtime, seats: Mutex::default(), changed: Condvar::new() });
        let make_handler = Arc::new(Mutex::new(make_handler));
        let alive = Alive::new(&stages);

        let mut accepting = Vec::new();
        let mut failed = None;
        for (listener, security) in listeners {
            // Weak: a thread that cannot be stopped is not to be waited for.
            let (at, make_handler, alive) = (house.clone(), make_handler.clone(), Arc::downgrade(&alive));
            let take = move |stream, peer| {
                if let Some(alive) = alive.upgrade() {
                    at.receive(stream, peer, security, &make_handler, alive);
                }
            };
            match Accepting::start(listener, stages.clone(), take) {
                Ok(thread) => accepting.push(thread),
                Err(error) => {
                    stages.requested.set(Duration::ZERO);
                    failed = Some(error);
                }
            }
        }

        let grace = house.watch(&stages.requested, Duration::MAX).unwrap_or_default();
        house.seats_changed();
        accepting.into_iter().for_each(Accepting::stop);
        stages.ending.set(());
        drop(alive);
        house.go_on_where(|late_at| late_at.is_none());
        if house.watch(&stages.ended, grace).is_none() {
            stages.cut_off.set(());
            house.seats().iter().filter_map(Weak::upgrade).for_each(|seat| seat.cut_off());
            house.watch(&stages.ended, Duration::MAX);
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Where the connections are.
struct House<H> {
    setup: Setup,
    runtime: Threads,
    seats: Mutex<Vec<Weak<Seat<H>>>>,
    /// A seat is free, or none will be any more.
    changed: Condvar,
}

impl<H: Handler + 'static> House<H> {
    /// Gives a connection its thread, when there is room for it.
    fn receive<F: Fn(Peer) -> H>(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        security: Security,
        make_handler: &Mutex<F>,
        alive: Arc<Alive>,
    ) {
        let stages = self.setup.stages();
        let is_full = |seats: &mut Vec<Weak<Seat<H>>>| {
            seats.retain(|seat| seat.strong_count() > 0);
            seats.len() >= self.runtime.max_connections && !stages.requested.is_set()
        };
        let seat = Seat::new(stream, peer, stages);
        let seats = self.changed.wait_while(self.seats(), is_full);
        seats.unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&seat));
        if stages.requested.is_set() {
            return;
        }
        let make = |peer| {
            // If it panicked for another connection, it may still be right for this one.
            let make_handler = make_handler.lock().unwrap_or_else(PoisonError::into_inner);
            let handler = make_handler(peer);
            (handler.hooks(), handler)
        };
        if let Some((conversation, handler)) = self.setup.open(peer, security, make) {
            self.serve(&seat, seat.turn(), Line::new(conversation, Desk::new(handler), alive));
        }
        // It is free again if it got no thread.
        drop(seat);
        self.seats_changed();
    }

    /// Waits for the signal for so long, and meanwhile has connections go on whose handler is late.
    fn watch<T: Clone>(self: &Arc<Self>, signal: &Signal<T>, limit: Duration) -> Option<T> {
        let begun = Instant::now();
        let round = (self.setup.config().timeouts().answer / ROUNDS).clamp(MIN_ROUND, MAX_ROUND);
        while let Some(left) = limit.checked_sub(begun.elapsed()) {
            if let Some(value) = signal.wait_timeout(round.min(left)) {
                return Some(value);
            }
            self.go_on_where(|late_at| late_at.is_some_and(|late_at| late_at <= Instant::now()));
        }
        None
    }

    /// Has connections go on in threads of their own where [`Seat::take_over`] says so.
    fn go_on_where(self: &Arc<Self>, is_due: impl Fn(Option<Instant>) -> bool) {
        let seats: Vec<_> = self.seats().iter().filter_map(Weak::upgrade).collect();
        for seat in seats {
            if let Some((turn, line)) = seat.take_over(&is_due) {
                self.serve(&seat, turn, line);
            }
        }
    }

    fn serve(self: &Arc<Self>, seat: &Seat<H>, turn: Turn<H>, line: Box<Line<H>>) {
        let house = self.clone();
        let serve = move || {
            turn.serve(line);
            drop(turn);
            house.seats_changed();
        };
        let thread = thread::Builder::new().name("sansmtp".to_owned()).stack_size(self.runtime.stack_octets);
        if let Err(error) = thread.spawn(serve) {
            tracing::error!(%error, "cannot start a thread");
            seat.cut_off();
        }
    }

    /// Has those look again who wait for a seat.
    fn seats_changed(&self) {
        // With the lock, nobody is between looking and waiting.
        let _seats = self.seats();
        self.changed.notify_all();
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Weak<Seat<H>>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often somebody looks after handlers that are late: so many times in the time that they have for an
/// answer, within limits.
const ROUNDS: u32 = 8;
const MIN_ROUND: Duration = Duration::from_millis(1);
const MAX_ROUND: Duration = Duration::from_secs(60);
