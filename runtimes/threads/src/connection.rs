//! One connection: octets in, octets out, questions to the handler, and nothing of SMTP.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use sansmtp::Handler;
use sansmtp_driver::lobby::{Guest, Left, News, Socket, Turn, WaitFor};
use sansmtp_driver::{
    Alive, Conversation, LINGER, Out, OwnedQuestion, SharedDesk, Step, Unanswered, after, is_nothing_yet, put_away,
    report,
};

use crate::guests::Guests;

/// A connection, on its way from thread to thread.
pub(crate) struct Line<H: Handler> {
    /// Closed before the handler is dropped.
    pub(crate) socket: Socket,
    conversation: Box<Conversation>,
    desk: Arc<SharedDesk<H>>,
    /// A method runs, or has not returned in time.
    is_busy: bool,
    out: Out,
    doing: Doing,
    /// Dropped last.
    alive: Arc<Alive>,
}

/// What goes on over several waits.
enum Doing {
    /// Takes steps.
    Talking,
    /// Writes what has been said, and then has this worked on.
    Writing { until: Instant, then: Option<Box<OwnedQuestion>> },
    /// Hears the peer out, after the last reply.
    Lingering { until: Instant },
}

/// What comes next.
#[expect(clippy::large_enum_variant, reason = "it is there for a moment")]
enum Next {
    GoOn,
    Ask(OwnedQuestion),
    Wait(WaitFor, Instant),
    End,
    CutOff,
}

impl<H: Handler + 'static> Line<H> {
    /// A connection that has just been accepted.
    pub(crate) fn new(socket: Socket, conversation: Box<Conversation>, handler: H, alive: Arc<Alive>) -> Box<Self> {
        let (out, doing, desk) = (Out::default(), Doing::Talking, Arc::new(SharedDesk::new(handler)));
        Box::new(Self { socket, conversation, desk, is_busy: false, out, doing, alive })
    }

    /// Serves the connection until it waits, or to its end.
    pub(crate) fn go_on(mut self: Box<Self>, turn: &Turn<'_, Guests<H>>, mut news: News) {
        let mut steps = 0;
        loop {
            self.socket.notice(news);
            if news.is_late {
                self.conversation.settle(Err(Unanswered::Late));
            }
            let (wait, until) = loop {
                if steps == STEPS_IN_A_ROW {
                    // A client that always has more to say would keep the others waiting.
                    break (WaitFor::Turn, None);
                }
                steps += 1;
                match self.advance(turn) {
                    Next::GoOn => {}
                    Next::Ask(question) => match self.ask(turn, question) {
                        Some(line) => self = line,
                        None => return,
                    },
                    Next::Wait(wait, until) => break (wait, Some(until)),
                    Next::End => {
                        // The handler may be long in being dropped.
                        turn.may_block();
                        return self.end();
                    }
                    Next::CutOff => {
                        turn.may_block();
                        return Guests::Line(self).cut_off();
                    }
                }
            };
            self.conversation.spare_buffer();
            match turn.leave(Guests::Line(self), wait, until) {
                Left::GoesOn(Guests::Line(line), more) => (self, news) = (line, more),
                Left::Over(over) => {
                    turn.may_block();
                    return over.cut_off();
                }
                Left::Waits | Left::GoesOn(..) => return,
            }
        }
    }

    /// Ends where it is, whatever the handler does when it is dropped.
    pub(crate) fn end(self: Box<Self>) {
        let span = self.conversation.span().clone();
        put_away(&span, self);
    }

    fn advance(&mut self, turn: &Turn<'_, Guests<H>>) -> Next {
        match mem::replace(&mut self.doing, Doing::Talking) {
            Doing::Talking => self.step(turn),
            Doing::Writing { until, then } => self.write(until, then.map(|question| *question)),
            Doing::Lingering { .. } if self.alive.stages().cut_off.is_set() => Next::CutOff,
            Doing::Lingering { until } => self.linger(until),
        }
    }

    fn step(&mut self, turn: &Turn<'_, Guests<H>>) -> Next {
        let Self { socket, conversation, desk, is_busy, out, alive, .. } = self;
        match conversation.step(out) {
            None => {}
            Some(Step::Write { until }) => return self.write(until, None),
            // An earlier method did not return in time.
            Some(Step::Ask(..)) if *is_busy => conversation.settle(Err(Unanswered::Late)),
            Some(Step::Ask(question, _)) => match desk.accept(question) {
                // It may take long: what has been said goes out first.
                Some(question) => {
                    let until = after(conversation.answer_timeout());
                    return self.write(until, Some(question));
                }
                // Content that is only gathered.
                None => conversation.settle(Ok(None)),
            },
            Some(Step::Event(event, span)) => {
                turn.may_block();
                report(event, span, |event| desk.event(event));
            }
            Some(Step::Read { until }) => {
                // Whoever always has more to say is never waited for.
                if alive.stages().cut_off.is_set() {
                    return Next::CutOff;
                }
                let goes_on =
                    conversation.heed_shutdown() || socket.may_read() && conversation.read(|room| socket.read(room));
                if !goes_on {
                    return Next::Wait(WaitFor::Socket, until);
                }
            }
            Some(Step::Sleep { until }) => return Next::Wait(WaitFor::Time, until),
            Some(Step::Close) => return self.close(),
        }
        Next::GoOn
    }

    /// Writes what has been said, until then at the latest.
    fn write(&mut self, until: Instant, then: Option<OwnedQuestion>) -> Next {
        let error = match self.socket.write(&mut self.out) {
            Ok(true) => return then.map_or(Next::GoOn, Next::Ask),
            // A peer that reads a little now and then does not get more time by that.
            Ok(false) if Instant::now() < until => {
                self.doing = Doing::Writing { until, then: then.map(Box::new) };
                return Next::Wait(WaitFor::Socket, until);
            }
            Ok(false) => io::ErrorKind::TimedOut.into(),
            Err(error) => error,
        };
        self.conversation.lose_peer(&mut self.out, &error);
        Next::GoOn
    }

    fn close(&mut self) -> Next {
        if !self.conversation.lingers() {
            return Next::End;
        }
        if let Err(error) = self.socket.close_write() {
            self.conversation.span().in_scope(|| tracing::debug!(%error, "connection lost"));
            return Next::End;
        }
        self.linger(after(LINGER))
    }

    /// Throws away what still comes, until then at the latest.
    fn linger(&mut self, until: Instant) -> Next {
        if until <= Instant::now() {
            return Next::End;
        }
        self.doing = Doing::Lingering { until };
        if !self.socket.may_read() {
            return Next::Wait(WaitFor::Socket, until);
        }
        match self.conversation.discard(|room| self.socket.read(room)) {
            Ok(1..) => Next::GoOn,
            Err(error) if is_nothing_yet(&error) => Next::GoOn,
            // How it ends is of no interest: all has been said.
            Ok(0) | Err(_) => Next::End,
        }
    }

    /// Has the question worked on, in this thread. `None` if another one has taken over.
    fn ask(mut self: Box<Self>, turn: &Turn<'_, Guests<H>>, question: OwnedQuestion) -> Option<Box<Self>> {
        if !turn.may_block() {
            self.conversation.settle(Err(Unanswered::NotAsked));
            return Some(self);
        }
        let late_at = after(self.conversation.answer_timeout());
        self.is_busy = true;
        let (desk, span) = (Arc::clone(&self.desk), self.conversation.span().clone());
        match turn.leave(Guests::Line(self), WaitFor::Thread, Some(late_at)) {
            Left::Waits => {}
            Left::Over(over) | Left::GoesOn(over, _) => {
                over.cut_off();
                return None;
            }
        }
        let outcome = span.in_scope(|| desk.work(question));
        let Some(Guests::Line(mut line)) = turn.come_back() else {
            // The connection may have gone meanwhile.
            put_away(&span, desk);
            return None;
        };
        line.is_busy = false;
        line.conversation.settle(outcome.map_err(|_| Unanswered::Panicked));
        Some(line)
    }
}

impl<H: Handler> Drop for Line<H> {
    /// Whatever has ended it: its handler hears of it.
    fn drop(&mut self) {
        let Self { conversation, desk, .. } = self;
        conversation.finish(|event| desk.event(event));
    }
}

/// How many steps a connection takes before others have their turn.
const STEPS_IN_A_ROW: u32 = 128;
