//! One connection in its task: octets in, octets out, questions to the handler, and nothing of SMTP.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sansmtp::AsyncHandler;

use super::Runtime;
use super::combine::{at_once, caught, first, yield_now};
use crate::conversation::{Conversation, LINGER, Step, Unanswered, report};
use crate::out::Out;
use crate::signal::Stages;
use crate::time::after;

/// Runs the connection to its end.
pub(super) async fn run<R: Runtime>(
    stream: &mut R::Stream,
    conversation: &mut Conversation,
    handler: &mut impl AsyncHandler,
    stages: &Arc<Stages>,
) -> io::Result<()> {
    let answer_timeout = conversation.answer_timeout();
    let mut out = Out::default();
    let mut lost = None;
    let mut work = 0;
    loop {
        work += 1;
        if work > WORK_IN_A_ROW {
            // A client that always has more to say would keep the executor to itself.
            work = 0;
            yield_now().await;
        }
        let Some(step) = conversation.step(&mut out) else { continue };
        let done = match step {
            Step::Write { until } => write::<R>(stream, &mut out, until).await,
            Step::Ask(question) => {
                let outcome = {
                    // Pinned here: what is moved into a future takes its room twice.
                    let answer = pin!(question.put_to(handler));
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
            Step::Event(event) => {
                report(event, |event| handler.event(event));
                Ok(())
            }
            Step::Read { until } => {
                if conversation.heed_shutdown() {
                    Ok(())
                } else if conversation.read(|room| R::try_read(stream, room)) {
                    work += READ_WORK;
                    Ok(())
                } else if conversation.is_shutting_down() {
                    wait_until::<R>(pin!(R::readable(stream)), until).await
                } else {
                    let ending = pin!(async {
                        stages.ending.wait().await;
                        Ok(())
                    });
                    wait_until::<R>(pin!(first(pin!(R::readable(stream)), ending)), until).await
                }
            }
            Step::Sleep { until } => {
                R::sleep_until(until).await;
                Ok(())
            }
            Step::Close => break,
        };
        if let Err(error) = done {
            conversation.lose_peer(&mut out);
            lost = Some(error);
        }
    }
    match lost {
        Some(error) => Err(error),
        None => close::<R>(stream, conversation).await,
    }
}

/// Waits for the handler. What has been said goes out first if that takes time.
async fn ask<R: Runtime, T>(
    stream: &R::Stream,
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
                R::sleep_until(after(timeout)).await;
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

async fn write<R: Runtime>(stream: &R::Stream, out: &mut Out, until: Instant) -> io::Result<()> {
    while !out.write(|octets| R::try_write(stream, octets))? {
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        wait_until::<R>(pin!(R::writable(stream)), until).await?;
    }
    Ok(())
}

/// Waits for `ready`, until `until` at the latest.
async fn wait_until<R: Runtime>(
    ready: Pin<&mut impl Future<Output = io::Result<()>>>,
    until: Instant,
) -> io::Result<()> {
    let late = pin!(async {
        R::sleep_until(until).await;
        Ok(())
    });
    first(ready, late).await
}

/// Closes so that the last reply arrives.
async fn close<R: Runtime>(stream: &mut R::Stream, conversation: &mut Conversation) -> io::Result<()> {
    R::close_write(stream).await?;
    let stream = &*stream;
    let drain = pin!(async {
        loop {
            match conversation.discard(|room| R::try_read(stream, room)) {
                // The peer may be faster than its octets are thrown away.
                Ok(1..) => yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => R::readable(stream).await?,
                Ok(0) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    // How it ends is of no interest: all has been said.
    let _ = wait_until::<R>(drain, after(LINGER)).await;
    Ok(())
}

/// How many steps a connection takes before others have their turn, and how many of them a read is worth.
const WORK_IN_A_ROW: u32 = 128;
const READ_WORK: u32 = 16;
