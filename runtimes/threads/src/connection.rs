//! One connection: octets in, octets out, questions to the handler, and nothing of SMTP.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sansmtp::{Handler, Peer};
use sansmtp_driver::{
    Alive, Conversation, Desk, Early, Out, OwnedQuestion, Place, Stages, Step, Stream, Timed, Unanswered, after, report,
};

/// A connection's socket, and its [`Line`] while the thread that serves it is blocked.
pub(crate) struct Seat<H> {
    peer: Peer,
    stream: Timed,
    stages: Arc<Stages>,
    left: Mutex<Left<H>>,
    /// Free again when no thread is left that has served the connection: a handler's method that does not
    /// return has one for as long.
    _place: Place,
}

/// What a blocked thread has left on its seat.
struct Left<H> {
    /// Whose turn it is: the number goes up with each thread that takes over.
    turn: u32,
    line: Option<Box<Line<H>>>,
    /// When the handler's time is up, if that is where the thread is blocked.
    late_at: Option<Instant>,
}

/// A connection without its socket: what goes from thread to thread.
pub(crate) struct Line<H> {
    conversation: Box<Conversation>,
    /// Absent while a method runs.
    desk: Option<Desk<H>>,
    out: Out,
    /// Why the peer is out of reach.
    lost: Option<io::Error>,
    /// Dropped last.
    _alive: Arc<Alive>,
}

/// The right to serve a connection, which one thread has at a time.
pub(crate) struct Turn<H> {
    seat: Arc<Seat<H>>,
    number: u32,
}

impl<H: Handler> Seat<H> {
    pub(crate) fn new(stream: Stream, peer: Peer, place: Place, stages: &Arc<Stages>) -> Arc<Self> {
        let left = Mutex::new(Left { turn: 0, line: None, late_at: None });
        Arc::new(Self { peer, stream: Timed::new(stream), stages: stages.clone(), left, _place: place })
    }

    /// The first turn.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn<H> {
        Turn { seat: Arc::clone(self), number: 0 }
    }

    /// Takes over from a thread that is blocked, if `is_due` says so: of when its handler's time is up, or
    /// `None` if it waits for input.
    pub(crate) fn take_over(
        self: &Arc<Self>,
        is_due: impl FnOnce(Option<Instant>) -> bool,
    ) -> Option<(Turn<H>, Box<Line<H>>)> {
        let mut left = self.left();
        if !is_due(left.late_at) {
            return None;
        }
        let mut line = left.line.take()?;
        left.turn += 1;
        if left.late_at.is_some() {
            line.conversation.settle(Err(Unanswered::Late));
        }
        Some((Turn { seat: Arc::clone(self), number: left.turn }, line))
    }

    /// Ends the connection, whatever its thread is doing.
    pub(crate) fn cut_off(&self) {
        let line = {
            let mut left = self.left();
            left.turn += 1;
            left.line.take()
        };
        self.stream.cut_off();
        // The handler may have a `drop` of its own: not under the lock.
        drop(line);
    }

    fn left(&self) -> MutexGuard<'_, Left<H>> {
        // No panic leaves it half changed.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Handler> Turn<H> {
    /// Serves the connection to its end, or until another thread takes over.
    pub(crate) fn serve(&self, line: Box<Line<H>>) {
        let Some(mut line) = self.converse(line) else { return };
        let Seat { stream, peer, .. } = &*self.seat;
        if line.conversation.lingers() {
            line.lost = stream.close(&mut line.conversation).err();
        }
        // A thread whose turn is over may still be waiting for input, and the handler may be long in being dropped.
        if self.number > 0 || line.lost.is_some() {
            stream.hang_up();
        }
        if let Some(error) = &line.lost {
            tracing::debug!(%peer, %error, "connection lost");
        }
    }

    /// Takes the connection to where it is to be closed. `None` if another thread has taken over.
    fn converse(&self, mut line: Box<Line<H>>) -> Option<Box<Line<H>>> {
        loop {
            let Line { conversation, desk, out, .. } = &mut *line;
            match conversation.step(out) {
                None => {}
                Some(Step::Write { until }) => {
                    if let Err(error) = self.seat.stream.write(out, until) {
                        line.lose(error);
                    }
                }
                Some(Step::Ask(question)) => match desk.as_mut().map(|desk| desk.accept(question)) {
                    Some(Some(question)) => line = self.ask(line, question)?,
                    // Content that is only gathered.
                    Some(None) => conversation.settle(Ok(None)),
                    // An earlier method did not return in time, and still has it.
                    None => conversation.settle(Err(Unanswered::Late)),
                },
                Some(Step::Event(event)) => report(event, |event| {
                    if let Some(desk) = desk {
                        desk.event(event);
                    }
                }),
                Some(Step::Read { until }) => {
                    if conversation.heed_shutdown() {
                        continue;
                    }
                    line = self.read(line, until)?;
                }
                Some(Step::Sleep { until }) => {
                    let pause = until.saturating_duration_since(Instant::now());
                    if self.seat.stages.cut_off.wait_timeout(pause).is_some() {
                        return None;
                    }
                }
                Some(Step::Close) => return Some(line),
            }
        }
    }

    /// Has the question worked on, in this thread. `None` if another one has taken over.
    fn ask(&self, mut line: Box<Line<H>>, question: OwnedQuestion) -> Option<Box<Line<H>>> {
        let late_at = after(line.conversation.answer_timeout());
        // It may take long: what has been said goes out first.
        if let Err(error) = self.seat.stream.write(&mut line.out, late_at) {
            line.lose(error);
            return Some(line);
        }
        let mut desk = line.desk.take()?;
        self.leave(line, Some(late_at))?;
        let outcome = desk.work(question);
        let mut line = self.come_back()?;
        line.desk = Some(desk);
        line.conversation.settle(outcome.map_err(|_| Unanswered::Panicked));
        Some(line)
    }

    /// Waits for input, and reads it. `None` if another thread has taken over.
    ///
    /// Not inlined: what it has on the stack would be there, too, while the engine and the handler need theirs.
    #[inline(never)]
    fn read(&self, mut line: Box<Line<H>>, until: Instant) -> Option<Box<Line<H>>> {
        let Seat { stream, stages, .. } = &*self.seat;
        if let Err(error) = stream.set_read_deadline(until) {
            line.lose(error);
            return Some(line);
        }
        line.conversation.give_buffer_back();
        let knows_of_shutdown = line.conversation.is_shutting_down();
        // Another thread would say that the server shuts down, and not look at the command that comes here.
        let may_take = line.conversation.is_between_commands();
        let mut early = Early::default();
        self.leave(line, None)?;
        // Whoever begins the shutdown looks at the seats after it has been announced: what has been left
        // here later must not be waited with.
        let is_ready = (knows_of_shutdown || !stages.ending.is_set())
            && if may_take { stream.read_early(&mut early) } else { stream.wait_readable() };
        let mut line = self.come_back()?;
        // The shutdown comes before what came meanwhile.
        if is_ready && !line.conversation.heed_shutdown() {
            line.conversation.read(|room| early.take(room).unwrap_or_else(|| stream.read(room)));
        }
        Some(line)
    }

    /// Leaves the connection on its seat, for as long as this thread is blocked. `None` if its turn is over.
    fn leave(&self, line: Box<Line<H>>, late_at: Option<Instant>) -> Option<()> {
        let mut left = self.seat.left();
        if left.turn == self.number {
            left.line = Some(line);
            left.late_at = late_at;
            return Some(());
        }
        drop(left);
        None
    }

    /// Takes the connection from its seat again. `None` if this thread's turn is over.
    fn come_back(&self) -> Option<Box<Line<H>>> {
        let mut left = self.seat.left();
        if left.turn == self.number { left.line.take() } else { None }
    }
}

impl<H> Line<H> {
    /// A connection that has just been accepted.
    pub(crate) fn new(conversation: Box<Conversation>, desk: Desk<H>, alive: Arc<Alive>) -> Box<Self> {
        Box::new(Self { conversation, desk: Some(desk), out: Out::default(), lost: None, _alive: alive })
    }

    fn lose(&mut self, error: io::Error) {
        self.conversation.lose_peer(&mut self.out);
        self.lost = Some(error);
    }
}
