//! Listeners, the threads of their connections, and the one that looks after them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use sansmtp::{Handler, Peer};
use sansmtp_driver::{Alive, Crew, Desk, Service, Setup, Signal, Stream, setup_methods};

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
        let answer_timeout = listeners.iter().map(|(_, service)| service.config().timeouts().answer).min();
        let round = (answer_timeout.unwrap_or(MAX_ROUND) / ROUNDS).clamp(MIN_ROUND, MAX_ROUND);
        let crew = Crew::new("sansmtp", runtime.stack_octets);
        let house = Arc::new(House { setup, crew, round, seats: Mutex::default() });
        let make_handler = Arc::new(Mutex::new(make_handler));
        let alive = Alive::new(&stages);

        let mut accepting = Vec::new();
        let mut failed = None;
        for (listener, service) in listeners {
            // Weak: a thread that cannot be stopped is not to be waited for.
            let (at, make_handler, alive) = (house.clone(), make_handler.clone(), Arc::downgrade(&alive));
            let take = move |stream, peer| {
                if let Some(alive) = alive.upgrade() {
                    at.receive(stream, peer, &service, &make_handler, alive);
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
        accepting.into_iter().for_each(Accepting::stop);
        stages.ending.set(());
        drop(alive);
        house.go_on_where(|late_at| late_at.is_none());
        if house.watch(&stages.ended, grace).is_none() {
            stages.cut_off.set(());
            house.seats().iter().filter_map(Weak::upgrade).for_each(|seat| seat.cut_off());
            house.watch(&stages.ended, Duration::MAX);
        }
        house.crew.dismiss();
        failed.map_or(Ok(()), Err)
    }
}

/// Where the connections are.
struct House<H> {
    setup: Setup,
    crew: Crew,
    /// How often somebody looks after handlers that are late.
    round: Duration,
    seats: Mutex<Vec<Weak<Seat<H>>>>,
}

impl<H: Handler + 'static> House<H> {
    /// Gives a connection its thread, if there is a place for it.
    fn receive<F: Fn(Peer) -> H>(
        self: &Arc<Self>,
        stream: Stream,
        peer: Peer,
        service: &Service,
        make_handler: &Mutex<F>,
        alive: Arc<Alive>,
    ) {
        let place = match self.setup.admit(service, peer) {
            Ok(place) => place,
            Err(refused) => return refused.tell(Ok(stream)),
        };
        let make = |peer| {
            // If it panicked for another connection, it may still be right for this one.
            let make_handler = make_handler.lock().unwrap_or_else(PoisonError::into_inner);
            let handler = make_handler(peer);
            (handler.hooks(), handler)
        };
        if let Some((conversation, handler)) = self.setup.open(service, peer, make) {
            let seat = Seat::new(stream, peer, place, self.setup.stages());
            self.remember(&seat);
            self.serve(&seat, seat.turn(), Line::new(conversation, Desk::new(handler), alive));
        }
    }

    /// Keeps a seat in view, until it is gone.
    fn remember(&self, seat: &Arc<Seat<H>>) {
        let mut seats = self.seats();
        if seats.len() == seats.capacity() {
            seats.retain(|seat| seat.strong_count() > 0);
            // As many more come before anybody looks through them again.
            let left = seats.len();
            seats.reserve(left + MIN_SEATS);
        }
        seats.push(Arc::downgrade(seat));
    }

    /// Waits for the signal for so long, and meanwhile has connections go on whose handler is late.
    fn watch<T: Clone>(self: &Arc<Self>, signal: &Signal<T>, limit: Duration) -> Option<T> {
        let begun = Instant::now();
        while let Some(left) = limit.checked_sub(begun.elapsed()) {
            if let Some(value) = signal.wait_timeout(self.round.min(left)) {
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
        if let Err(error) = self.crew.assign(move || turn.serve(line)) {
            tracing::error!(%error, "cannot start a thread");
            seat.cut_off();
        }
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

const MIN_SEATS: usize = 64;
