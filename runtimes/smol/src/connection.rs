//! One connection: octets in, octets out, questions to the handler, and nothing of SMTP.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures_lite::{FutureExt, future};
use sansmtp::{Action, AsyncHandler, Event, Hook, ReadBuffer};
use smol::channel::Receiver;

use crate::buffers::Buffers;
use crate::engine::Engine;

/// What a connection's task has to work with.
pub(crate) struct Driver {
    stream: Async<TcpStream>,
    buffers: Arc<Buffers>,
    /// Closed when the server begins to shut down.
    shutdown: Receiver<()>,
    accepted: Instant,
    out: Vec<u8>,
    /// Nothing more can be asked of the handler.
    broken: bool,
    /// The handler does not have all of the content.
    incomplete: bool,
}

/// What ended a wait.
enum Woken {
    Readable(io::Result<()>),
    Deadline,
    Shutdown,
}

impl Driver {
    pub(crate) fn new(stream: Async<TcpStream>, buffers: Arc<Buffers>, shutdown: Receiver<()>) -> Self {
        let (broken, incomplete) = (false, false);
        Self { stream, buffers, shutdown, accepted: Instant::now(), out: Vec::new(), broken, incomplete }
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(mut self, mut engine: Engine, mut handler: impl AsyncHandler) -> io::Result<()> {
        if let Err(error) = self.drive(&mut engine, &mut handler).await {
            self.wind_up(&mut engine, &mut handler).await;
            return Err(error);
        }
        self.close().await
    }

    async fn drive(&mut self, engine: &mut Engine, handler: &mut impl AsyncHandler) -> io::Result<()> {
        let answer_timeout = engine.connection().config().timeouts().answer;
        // An idle connection has no buffer: it takes one from the pool when there is something to read.
        let mut buffer: Option<ReadBuffer> = None;
        let mut shutting_down = false;
        let mut work = 0;
        loop {
            work += 1;
            if work > WORK_IN_A_ROW {
                // A client that always has more to say would keep the executor to itself.
                work = 0;
                future::yield_now().await;
            }
            let now = self.accepted.elapsed();
            let action = match &mut buffer {
                Some(buffer) => buffer.poll(engine, now),
                None => engine.poll(now, &mut &[][..]),
            };
            let mut answer = None;
            match action {
                Action::Reply(reply) => self.out.extend_from_slice(reply.as_bytes()),
                Action::Challenge(challenge) => self.out.extend_from_slice(challenge.as_bytes()),
                Action::Transmit(ciphertext) => self.out.extend_from_slice(ciphertext),
                Action::Flush { deadline } => self.flush(deadline).await?,
                Action::CallHook(call) => {
                    let ends_message = matches!(call.hook(), Hook::Message { .. });
                    // A message that the handler does not have whole is not offered to it: unanswered, it
                    // is refused.
                    if !(ends_message && self.incomplete) {
                        answer = self.ask(answer_timeout, handler.call_hook(call)).await?;
                    }
                    // Nor may what the handler has kept of it get into the next one.
                    self.broken |= ends_message && answer.is_none();
                }
                Action::CallAuthenticator(request) => {
                    let session = engine.connection().session();
                    answer = self.ask(answer_timeout, handler.call_authenticator(session, request)).await?;
                }
                Action::CallAuthHandler(turn) => {
                    let session = engine.connection().session();
                    answer = self.ask(answer_timeout, handler.auth(session, turn)).await?;
                }
                Action::Content(piece) => {
                    if !self.incomplete {
                        self.incomplete = self.ask(answer_timeout, handler.content(piece)).await?.is_none();
                        self.broken |= self.incomplete;
                    }
                }
                Action::Aborted(aborted) => {
                    self.ask(answer_timeout, handler.aborted(aborted)).await?;
                }
                Action::Event(event) => report(event, handler),
                Action::NeedInput { .. } if !shutting_down && self.shutdown.is_closed() => {
                    // A client that always has more to say is never waited for.
                    shutting_down = true;
                    engine.begin_shutdown();
                }
                Action::NeedInput { deadline } => {
                    let mut readable = match buffer.take() {
                        Some(buffer) => buffer,
                        None => self.buffers.take(),
                    };
                    match self.read(&mut readable) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.buffers.give_back(readable);
                            match self.wait(deadline, shutting_down).await {
                                Woken::Readable(result) => result?,
                                Woken::Deadline => {}
                                Woken::Shutdown => {
                                    shutting_down = true;
                                    engine.begin_shutdown();
                                }
                            }
                            continue;
                        }
                        Ok(0) => {
                            self.buffers.give_back(readable);
                            engine.end_of_input();
                        }
                        Ok(_) => {
                            buffer = Some(readable);
                            work += READ_WORK;
                        }
                        // The peer is gone; the engine says what becomes of what was begun.
                        Err(_) => {
                            self.buffers.give_back(readable);
                            engine.end_of_input();
                        }
                    }
                    continue;
                }
                // Questions are answered before the next poll; only the time of one that was not can be
                // waited for, and the engine has ended it.
                Action::AwaitAnswer { deadline } | Action::Pause { until: deadline } => {
                    Timer::at(self.instant(deadline)).await;
                }
                Action::StartTls => {
                    return Err(io::Error::other("STARTTLS is offered, but there is no TLS configuration"));
                }
                Action::Close => break,
            }
            if std::mem::take(&mut self.broken) {
                engine.begin_shutdown();
            }
            if let Some(answer) = answer {
                // It is the answer to the question just asked.
                let _ = engine.answer(answer);
            }
        }
        if let Some(buffer) = buffer {
            self.buffers.give_back(buffer);
        }
        Ok(())
    }

    /// The peer is out of reach: tells the handler how what was begun ends.
    async fn wind_up(&mut self, engine: &mut Engine, handler: &mut impl AsyncHandler) {
        let answer_timeout = engine.connection().config().timeouts().answer;
        self.out.clear();
        engine.end_of_input();
        loop {
            // Every deadline is past.
            match engine.poll(Duration::MAX, &mut &[][..]) {
                Action::Aborted(aborted) => {
                    let _ = self.ask(answer_timeout, handler.aborted(aborted)).await;
                }
                Action::Event(event) => report(event, handler),
                Action::NeedInput { .. } | Action::Close => return,
                // Nobody hears a reply, and no question is worth asking.
                Action::Reply(_)
                | Action::Challenge(_)
                | Action::Transmit(_)
                | Action::Flush { .. }
                | Action::CallAuthenticator(_)
                | Action::CallAuthHandler(_)
                | Action::CallHook(_)
                | Action::Content(_)
                | Action::StartTls
                | Action::AwaitAnswer { .. }
                | Action::Pause { .. } => {}
            }
        }
    }

    /// Waits for the handler. What has been said goes out first if that takes time. `None` if the time
    /// for the answer ran out, or the handler panicked: the question is dropped with the future, and
    /// the engine answers in its place.
    async fn ask<T>(&mut self, timeout: Duration, answer: impl Future<Output = T>) -> io::Result<Option<T>> {
        let mut answer = pin!(AssertUnwindSafe(answer).catch_unwind());
        let caught = match future::poll_once(&mut answer).await {
            Some(caught) => Some(caught),
            None => {
                self.write_out(Timer::after(timeout)).await?;
                let timer = async {
                    Timer::after(timeout).await;
                    None
                };
                async { Some(answer.await) }.or(timer).await
            }
        };
        match caught {
            Some(Ok(answer)) => Ok(Some(answer)),
            Some(Err(_)) => {
                tracing::error!("the handler panicked");
                Ok(None)
            }
            None => {
                // It is still busy with this.
                self.broken = true;
                tracing::error!("the handler did not answer in time");
                Ok(None)
            }
        }
    }

    async fn flush(&mut self, deadline: Duration) -> io::Result<()> {
        let timer = Timer::at(self.instant(deadline));
        self.write_out(timer).await
    }

    async fn write_out(&mut self, timer: Timer) -> io::Result<()> {
        let mut written = 0;
        let mut timer = pin!(timer);
        while let Some(rest) = self.out.get(written..).filter(|rest| !rest.is_empty()) {
            match self.stream.get_ref().write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(octets) => written += octets,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let late = async {
                        timer.as_mut().await;
                        Err(io::ErrorKind::TimedOut.into())
                    };
                    self.stream.writable().or(late).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.out.shrink_to(KEPT_OUT_OCTETS);
        Ok(())
    }

    fn read(&self, buffer: &mut ReadBuffer) -> io::Result<usize> {
        loop {
            match self.stream.get_ref().read(buffer.room()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(octets) => {
                    buffer.filled(octets);
                    return Ok(octets);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn wait(&self, deadline: Duration, shutting_down: bool) -> Woken {
        let readable = async { Woken::Readable(self.stream.readable().await) };
        let late = async {
            Timer::at(self.instant(deadline)).await;
            Woken::Deadline
        };
        let shutdown = async {
            if shutting_down {
                future::pending::<()>().await;
            }
            // Nothing is ever sent: the channel only closes.
            let _ = self.shutdown.recv().await;
            Woken::Shutdown
        };
        readable.or(late).or(shutdown).await
    }

    fn instant(&self, deadline: Duration) -> Instant {
        // A deadline past the end of the clock's range is as good as none within a day.
        self.accepted.checked_add(deadline).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
    }

    /// Closes so that the last reply arrives: a reset would throw it away if the peer is still sending.
    async fn close(self) -> io::Result<()> {
        self.stream.get_ref().shutdown(Shutdown::Write)?;
        let drain = async {
            let mut buffer = self.buffers.take();
            loop {
                match self.stream.get_ref().read(buffer.room()) {
                    Ok(0) => break,
                    Ok(octets) => {
                        buffer.filled(octets);
                        buffer.release();
                        // The peer may be faster than its octets are thrown away.
                        future::yield_now().await;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if self.stream.readable().await.is_err() {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
            self.buffers.give_back(buffer);
        };
        let late = async {
            Timer::after(LINGER).await;
        };
        late.or(drain).await;
        Ok(())
    }
}

fn report(event: Event<'_>, handler: &mut impl AsyncHandler) {
    trace(event);
    if catch_unwind(AssertUnwindSafe(|| handler.event(event))).is_err() {
        tracing::error!("the handler panicked");
    }
}

fn trace(event: Event<'_>) {
    match event {
        Event::AuthSucceeded { peer, mechanism, login, tls, .. } => {
            let tls = tls.map(|tls| tls.version.to_string()).unwrap_or_default();
            tracing::info!(%peer, %mechanism, login, %tls, "authentication succeeded");
        }
        // Without the name that was tried: a password may have been typed into its field.
        Event::AuthFailed { peer, mechanism, reason, failures, tls, .. } => {
            let mechanism = mechanism.map(|mechanism| mechanism.to_string()).unwrap_or_default();
            let tls = tls.map(|tls| tls.version.to_string()).unwrap_or_default();
            tracing::warn!(%peer, %mechanism, %reason, failures, %tls, "authentication failed");
        }
        _ => {}
    }
}

/// How long a closed connection is listened to, so that its peer sees the last reply.
const LINGER: Duration = Duration::from_secs(2);

/// How many actions a connection takes before others have their turn, and how many of them a read is worth.
const WORK_IN_A_ROW: u32 = 128;
const READ_WORK: u32 = 16;

const KEPT_OUT_OCTETS: usize = 512;
