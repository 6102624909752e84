//! One connection of the loop: its socket and its engine, neither of which is ever waited for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use sansmtp::{Action, AuthRequest, Handler, ReadBuffer, tls};

use crate::demo::Count;

pub(crate) struct Client {
    pub(crate) wait: Wait,
    pub(crate) engine: tls::Session,
    stream: TcpStream,
    handler: Count,
    accepted: Instant,
    /// There while it holds something unread: ten thousand that wait share a few.
    buffer: Option<ReadBuffer>,
    out: Vec<u8>,
    /// When `out` must have been written; nothing else is done before.
    write_by: Option<Instant>,
    /// When to close, though the peer may still be sending.
    close_by: Option<Instant>,
}

/// What a connection waits for: the time at the latest.
#[derive(Clone, Copy)]
pub(crate) struct Wait {
    pub(crate) until: Instant,
    /// Whether its socket can end the wait, too.
    pub(crate) listens: bool,
}

impl Client {
    pub(crate) fn new(stream: TcpStream, engine: tls::Session) -> Self {
        let (accepted, handler, buffer, out) = (Instant::now(), Count::default(), None, Vec::new());
        let wait = Wait { until: accepted, listens: true };
        Self { wait, engine, stream, handler, accepted, buffer, out, write_by: None, close_by: None }
    }

    /// Goes on until there is something to wait for; `None` at the end. An error is a peer that is gone.
    pub(crate) fn go_on(&mut self, spare: &mut Vec<ReadBuffer>, ask: impl Fn(AuthRequest)) -> io::Result<Option<Wait>> {
        let buffer = self.buffer.get_or_insert_with(|| spare.pop().unwrap_or_else(|| ReadBuffer::new(8192)));
        for _ in 0..FAIR_SHARE {
            if let Some(until) = self.write_by {
                if !write(&mut self.stream, &mut self.out)? {
                    return if Instant::now() < until { waiting(until, true) } else { Err(ErrorKind::TimedOut.into()) };
                }
                self.write_by = None;
            }
            if let Some(until) = self.close_by {
                // Closing a socket with something unread in it would make the peer lose the last replies.
                match self.stream.read(&mut [0; 1024]) {
                    Ok(1..) if Instant::now() < until => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                        return waiting(until, true);
                    }
                    Ok(_) | Err(_) => return Ok(None),
                }
            }
            match buffer.poll(&mut self.engine, self.accepted.elapsed()) {
                Action::Reply(reply) => self.out.extend_from_slice(reply.as_bytes()),
                Action::Challenge(challenge) => self.out.extend_from_slice(challenge.as_bytes()),
                Action::Transmit(ciphertext) => self.out.extend_from_slice(ciphertext),
                Action::Flush { deadline } => self.write_by = Some(self.accepted + deadline),
                Action::CallAuthenticator(request) => ask(request),
                Action::CallHook(call) => {
                    let answer = self.handler.call_hook(call);
                    self.engine.answer(answer).map_err(io::Error::other)?;
                }
                Action::Content(piece) => self.handler.content(piece),
                Action::Aborted(aborted) => self.handler.aborted(aborted),
                Action::Event(event) => self.handler.event(event),
                Action::NeedInput { deadline } => match self.stream.read(buffer.room()) {
                    Ok(0) => self.engine.end_of_input(),
                    Ok(octets) => buffer.filled(octets),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        // All of it was taken: somebody else may have it, overwritten.
                        buffer.release();
                        spare.extend(self.buffer.take());
                        return waiting(self.accepted + deadline, true);
                    }
                    Err(error) => return Err(error),
                },
                // Not reading meanwhile fills the peer's window.
                Action::AwaitAnswer { deadline } => return waiting(self.accepted + deadline, false),
                Action::Pause { until } => return waiting(self.accepted + until, false),
                Action::Close => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.close_by = Some(Instant::now() + Duration::from_secs(2));
                }
                // No mechanism is the handler's, and `engine` does TLS itself.
                Action::CallAuthHandler(_) | Action::StartTls => {}
            }
        }
        // The others first; then at once.
        waiting(Instant::now(), false)
    }
}

/// Writes what there is, as far as the socket takes it; whether that was all.
fn write(stream: &mut TcpStream, out: &mut Vec<u8>) -> io::Result<bool> {
    while !out.is_empty() {
        match stream.write(out) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(octets) => drop(out.drain(..octets)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn waiting(until: Instant, listens: bool) -> io::Result<Option<Wait>> {
    Ok(Some(Wait { until, listens }))
}

/// How many actions are done for one connection while others may be waiting.
const FAIR_SHARE: u32 = 256;
