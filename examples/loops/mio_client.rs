//! One connection of the loop: its socket, its engine and its handler, none of which is ever waited for.

use std::io;
use std::time::Instant;

use sansmtp::{Action, Answer, Handler, ReadBuffer, tls};

use super::alarms::Alarm;
use super::buffers::Buffers;
use super::desk::Desk;
use super::lending::Lent;
use super::mio_socket::{First, Socket};

pub(crate) struct Client<H: Handler> {
    pub(crate) wait: Wait,
    pub(crate) alarm: Alarm,
    socket: Socket,
    engine: tls::Session,
    desk: Desk<H>,
    accepted: Instant,
    /// There while it holds something unread.
    buffer: Option<ReadBuffer>,
}

/// What a connection waits for: the time at the latest.
#[derive(Clone, Copy)]
pub(crate) struct Wait {
    pub(crate) until: Instant,
    /// Whether its socket can end the wait, too.
    listens: bool,
}

impl<H: Handler> Client<H> {
    pub(crate) fn new(socket: Socket, engine: tls::Session, desk: Desk<H>, accepted: Instant) -> Self {
        let wait = Wait { until: accepted, listens: true };
        Self { wait, alarm: Alarm::default(), socket, engine, desk, accepted, buffer: None }
    }

    /// Something has happened to the socket. Like the next two: whether that ends the wait.
    pub(crate) fn notice(&mut self, end: bool) -> bool {
        self.socket.notice(end);
        self.wait.listens
    }

    /// Its alarm has rung.
    pub(crate) fn ring(&mut self, now: Instant) -> bool {
        self.alarm = Alarm::default();
        self.wait.until < now
    }

    /// The handler is back from another thread. If it is late, nobody wants its answer.
    pub(crate) fn take_back(&mut self, handler: H, answer: Option<Answer>) -> bool {
        self.desk.take_back(handler, answer);
        true
    }

    /// Goes on until there is something to wait for; `None` at the end.
    pub(crate) fn go_on(&mut self, now: Instant, spare: &mut Buffers, lend: impl Fn(Lent<H>)) -> Option<Wait> {
        let mut buffer = self.buffer.take().unwrap_or_else(|| spare.take());
        let wait = self.work(now, &mut buffer, lend);
        self.buffer = spare.give_back(buffer);
        wait.ok().flatten()
    }

    /// An error is a peer that is gone.
    fn work(&mut self, now: Instant, buffer: &mut ReadBuffer, lend: impl Fn(Lent<H>)) -> io::Result<Option<Wait>> {
        let elapsed = now.saturating_duration_since(self.accepted);
        let waiting = |until, listens| Ok(Some(Wait { until, listens }));
        for _ in 0..FAIR_SHARE {
            match self.socket.first(now)? {
                First::Nothing => {}
                First::Again => continue,
                First::Wait(until) => return waiting(until, true),
                First::End => return Ok(None),
            }
            // Late at the worst.
            let _ = self.desk.answer.take().map(|answer| self.engine.answer(answer));
            // Its handler is late with an answer.
            if self.desk.is_empty() {
                self.engine.begin_shutdown();
            }
            match buffer.poll(&mut self.engine, elapsed) {
                Action::Reply(reply) => self.socket.out.extend_from_slice(reply.as_bytes()),
                Action::Challenge(challenge) => self.socket.out.extend_from_slice(challenge.as_bytes()),
                Action::Transmit(ciphertext) => self.socket.out.extend_from_slice(ciphertext),
                Action::Flush { deadline } => self.socket.write_by = Some(self.accepted + deadline),
                Action::CallAuthenticator(request) => {
                    self.desk.authenticate(self.engine.connection().session(), request);
                }
                Action::CallAuthHandler(turn) => self.desk.auth(self.engine.connection().session(), turn),
                Action::CallHook(call) => self.desk.hook(call),
                Action::Content(piece) => self.desk.content(piece),
                Action::Aborted(aborted) => self.desk.aborted(aborted),
                Action::Event(event) => self.desk.event(event),
                Action::NeedInput { deadline } => match self.socket.read(buffer) {
                    Some(1..) => {}
                    Some(0) => self.engine.end_of_input(),
                    None => return waiting(self.accepted + deadline, true),
                },
                Action::AwaitAnswer { deadline } => {
                    // What was said before is written by now. Not reading meanwhile fills the peer's window.
                    self.desk.lend().into_iter().for_each(&lend);
                    return waiting(self.accepted + deadline, false);
                }
                Action::Pause { until } => return waiting(self.accepted + until, false),
                Action::Close => {
                    let lingers = !(buffer.is_empty() && self.engine.connection().is_peer_done());
                    self.socket.close(lingers, now)?;
                }
                // `engine` does TLS itself.
                Action::StartTls => {}
            }
        }
        // The others first; then at once.
        waiting(now, false)
    }
}

/// How many actions are done for one connection while others may be waiting.
const FAIR_SHARE: u32 = 256;
