//! One connection in its task: octets in, octets out, questions to the handler, and nothing of SMTP.
//!
//! Most connections wait, most of the time. What a task needs only while it works, the room for the
//! handler's futures above all, is on the heap until then and gone afterwards.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use sansmtp::{AsyncHandler, Incoming};
use tracing::{Instrument, Span};

use super::Runtime;
use super::alarm::Alarm;
use super::combine::{at_once, caught, first, yield_now};
use crate::conversation::{Conversation, LINGER, Step, Unanswered};
use crate::out::Out;
use crate::signal::Stages;
use crate::time::after;
use crate::trace::report;

/// A connection and what serves it.
pub(super) struct Connection<R: Runtime, H: AsyncHandler> {
    stream: R::Stream,
    conversation: Box<Conversation>,
    handler: H,
    incoming: Incoming<H::Message>,
}

impl<R: Runtime, H: AsyncHandler> Connection<R, H> {
    /// A connection that has just been accepted.
    pub(super) fn new(stream: R::Stream, conversation: Box<Conversation>, handler: H) -> Self {
        Self { stream, conversation, handler, incoming: Incoming::new() }
    }

    /// The connection's span.
    pub(super) fn span(&self) -> &Span {
        self.conversation.span()
    }

    /// Runs the connection to its end, or until it is cut off.
    pub(super) async fn run(&mut self, stages: &Stages) {
        let mut end = stages.wait_for_end();
        let mut alarm = pin!(Alarm::<R>::default());
        let mut turns = 0;
        loop {
            let next = {
                let mut work = Box::pin(self.work(&mut turns));
                poll_fn(|context| match work.as_mut().poll(context) {
                    Poll::Ready(next) => Poll::Ready(next),
                    Poll::Pending => end.poll_cut_off(context).map(|()| Next::End),
                })
                .await
            };
            let (until, reads) = match next {
                Next::Read { until } => (until, true),
                Next::Sleep { until } => (until, false),
                Next::End => return,
            };
            turns += READ_TURNS;
            let goes_on = poll_fn(|context| {
                if end.poll_cut_off(context).is_ready() {
                    return Poll::Ready(false);
                }
                let Self { stream, conversation, .. } = self;
                let begins = end.has_begun() && !conversation.is_shutting_down();
                if reads && (begins || conversation.read(|room| at_hand(R::poll_read(stream, context, room)))) {
                    return Poll::Ready(true);
                }
                alarm.as_mut().poll_until(until, context).map(|()| true)
            });
            if !goes_on.await {
                return;
            }
        }
    }

    /// Takes steps until the connection has to wait.
    async fn work(&mut self, turns: &mut u32) -> Next {
        let Self { stream, conversation, handler, incoming } = self;
        let answer_timeout = conversation.answer_timeout();
        let mut out = Out::default();
        loop {
            *turns += 1;
            if *turns > TURNS_IN_A_ROW {
                // A client that always has more to say would keep the executor to itself.
                *turns = 0;
                yield_now().await;
            }
            let Some(step) = conversation.step(&mut out) else { continue };
            let done = match step {
                Step::Write { until } => write::<R>(stream, &mut out, until).await,
                Step::Ask(question, span) => {
                    let outcome = {
                        // Pinned here: what is moved into a future takes its room twice.
                        let answer = pin!(question.put_to(handler, incoming).instrument(span.clone()));
                        ask::<R, _>(stream, &mut out, answer_timeout, answer).await
                    };
                    match outcome {
                        Ok(outcome) => {
                            conversation.settle(outcome);
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                }
                Step::Event(event, span) => {
                    report(event, span, |event| handler.event(event));
                    Ok(())
                }
                Step::Read { until } => {
                    if !conversation.heed_shutdown() {
                        return Next::Read { until };
                    }
                    Ok(())
                }
                Step::Sleep { until } => return Next::Sleep { until },
                Step::Close => break,
            };
            if let Err(error) = done {
                conversation.lose_peer(&mut out, &error);
            }
        }
        if conversation.lingers()
            && let Err(error) = close::<R>(stream, conversation).await
        {
            conversation.span().in_scope(|| tracing::debug!(%error, "connection lost"));
        }
        Next::End
    }
}

impl<R: Runtime, H: AsyncHandler> Drop for Connection<R, H> {
    /// Whatever has ended it: its handler hears of it.
    fn drop(&mut self) {
        let Self { conversation, handler, .. } = self;
        conversation.finish(|event| handler.event(event));
    }
}

/// What a connection does when it has done its work.
enum Next {
    /// Reads, as soon as there is something to read.
    Read { until: Instant },
    /// Nothing.
    Sleep { until: Instant },
    /// It is over.
    End,
}

/// Waits for the handler. What has been said goes out first if that takes time.
async fn ask<R: Runtime, T>(
    stream: &mut R::Stream,
    out: &mut Out,
    timeout: Duration,
    answer: Pin<&mut impl Future<Output = T>>,
) -> io::Result<Result<T, Unanswered>> {
    let mut answer = pin!(caught(answer));
    let in_time = match at_once(answer.as_mut()).await {
        Some(caught) => Some(caught),
        None => {
            write::<R>(stream, out, after(timeout)).await?;
            let late = pin!(async {
                R::alarm(after(timeout)).await;
                None
            });
            first(pin!(async { Some(answer.await) }), late).await
        }
    };
    // Without an answer the question is dropped with the future, and the engine answers by itself.
    Ok(match in_time {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(_)) => Err(Unanswered::Panicked),
        None => Err(Unanswered::Late),
    })
}

async fn write<R: Runtime>(stream: &mut R::Stream, out: &mut Out, until: Instant) -> io::Result<()> {
    let mut alarm = pin!(Alarm::<R>::default());
    poll_fn(|context| {
        if out.write(|octets| at_hand(R::poll_write(stream, context, octets)))? {
            return Poll::Ready(Ok(()));
        }
        // A peer that reads a little now and then does not get more time by that.
        alarm.as_mut().poll_until(until, context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}

/// Closes so that the last reply arrives.
async fn close<R: Runtime>(stream: &mut R::Stream, conversation: &mut Conversation) -> io::Result<()> {
    R::close_write(stream).await?;
    let drain = pin!(async {
        // The peer may be faster than its octets are thrown away.
        while poll_fn(|context| {
            match conversation.discard(|room| at_hand(R::poll_read(stream, context, room))) {
                Ok(octets) => Poll::Ready(octets > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                // How it ends is of no interest: all has been said.
                Err(_) => Poll::Ready(false),
            }
        })
        .await
        {
            yield_now().await;
        }
    });
    first(drain, pin!(async { drop(R::alarm(after(LINGER)).await) })).await;
    Ok(())
}

/// What a poll has to say now.
fn at_hand(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// How many steps a connection takes before others have their turn, and how many of them a read is worth.
const TURNS_IN_A_ROW: u32 = 128;
const READ_TURNS: u32 = 16;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::{Pending, pending};
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};

    use sansmtp::{Auth, Config, Peer};

    use super::*;
    use crate::setup::Setup;
    use crate::sockets::{Listener, Stream};

    /// No runtime: what is read is there already, and no alarm ever goes off.
    struct Frozen;

    impl Runtime for Frozen {
        type Listener = ();
        type Stream = (VecDeque<u8>, Vec<u8>);
        type Alarm = Pending<()>;

        fn listener(_: Listener) -> io::Result<()> {
            Ok(())
        }

        async fn accept((): &()) -> io::Result<(Self::Stream, Peer)> {
            pending().await
        }

        fn local_address(_: &Self::Stream) -> Option<SocketAddr> {
            None
        }

        fn set_nodelay(_: &Self::Stream, _: bool) -> io::Result<()> {
            Ok(())
        }

        fn into_std(_: Self::Stream) -> io::Result<Stream> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn poll_read((input, _): &mut Self::Stream, _: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
            match io::Read::read(input, room) {
                Ok(0) => Poll::Pending,
                read => Poll::Ready(read),
            }
        }

        fn poll_write((_, output): &mut Self::Stream, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
            output.extend_from_slice(octets);
            Poll::Ready(Ok(octets.len()))
        }

        async fn close_write(_: &mut Self::Stream) -> io::Result<()> {
            Ok(())
        }

        fn alarm(_: Instant) -> Self::Alarm {
            pending()
        }

        async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
            work()
        }

        fn spawn(&self, _: impl Future<Output = ()> + Send + 'static) {}
    }

    struct RefusesEverybody;

    impl AsyncHandler for RefusesEverybody {
        type Message = ();

        async fn authenticate(&mut self, _: &sansmtp::Session, _: &sansmtp::AuthRequest) -> sansmtp::AuthResult {
            sansmtp::AuthResult::refuse()
        }
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn connected(client: &str) -> (Setup, Connection<Frozen, RefusesEverybody>) {
        let auth = Auth::new().require_tls(false);
        let config = Config::builder("mx.example.org").auth(auth).build().unwrap();
        let mut setup = Setup::new(config);
        setup.add(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(), crate::Security::Clear);
        let listeners = setup.start().unwrap();
        let make = |_| (sansmtp::Hooks::NONE, sansmtp::Events::default(), RefusesEverybody);
        let (conversation, handler) = setup.open(&listeners[0].1, Peer::local(), None, make).unwrap();
        let stream = (client.bytes().collect(), Vec::new());
        (setup, Connection::new(stream, conversation, handler))
    }

    /// Lets a client say something, and then the end begin. What the client gets, and whether the task still wants to
    /// be polled.
    fn said_at_the_end(client: &str) -> (String, bool) {
        let (setup, mut connection) = connected(client);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        {
            let mut run = pin!(connection.run(setup.stages()));
            assert!(run.as_mut().poll(&mut context).is_pending());
            setup.stages().ending.set(());
            assert!(woken.0.swap(false, Ordering::Relaxed), "the end wakes it");
            let _ = run.as_mut().poll(&mut context);
        }
        (String::from_utf8(connection.stream.1.clone()).unwrap(), woken.0.load(Ordering::Relaxed))
    }

    #[test]
    fn who_has_quit_is_not_listened_to() {
        for (client, is_over) in [("QUIT\r\n", true), ("QUIT\r\nNOOP\r\n", false), ("\x16", false)] {
            let (setup, mut connection) = connected(client);
            let mut run = pin!(connection.run(setup.stages()));
            assert_eq!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready(), is_over, "{client:?}");
        }
    }

    #[test]
    fn the_end_comes_when_it_is_its_turn() {
        let (said, wants_more) = said_at_the_end("NOOP\r\n");
        assert!(said.ends_with("250 2.0.0 Ok\r\n421 4.3.2 The server is shutting down\r\n"), "{said}");
        assert!(!wants_more);
        // A refusal is still to be said, at the end of its pause. Until then nothing is done.
        let (said, wants_more) = said_at_the_end("EHLO c.example\r\nAUTH PLAIN AHRpbQB4\r\n");
        assert!(said.ends_with(" HELP\r\n"), "{said}");
        assert!(!wants_more);
    }
}
