//! The engine on blocking sockets of the standard library: a thread for each connection, and a loop that is all there
//! is between socket and engine. STARTTLS; AUTH by SCRAM-SHA-256, PLAIN and LOGIN.
//!
//! ```sh
//! cargo run --example std_loop -- --listen 127.0.0.1:2525
//! curl smtp://127.0.0.1:2525 --ssl-reqd --insecure --user tim:tanstaaftanstaaf \
//!     --mail-from tim@example.org --mail-rcpt friend@example.org --upload-file README.md
//! ```

mod demo;

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use demo::{Count, Demo};
use sansmtp::{Action, Handler, Incoming, ReadBuffer, tls};

fn main() -> Result<(), Box<dyn Error>> {
    let (demo, listener) = Demo::start()?;
    loop {
        let Ok((stream, peer)) = listener.accept() else {
            // Descriptors have run out, most likely: they come back when connections end.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let (engine, handler) = demo.open(peer);
        // If there is no thread to be had, this drops the connection.
        let _ = std::thread::Builder::new().spawn(move || {
            if let Err(error) = serve(stream, engine, handler) {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

fn serve(mut stream: TcpStream, mut engine: tls::Session, mut handler: Count) -> Result<(), Box<dyn Error>> {
    // Replies leave in one write for each group of commands, so there is nothing to be gained by holding them back.
    stream.set_nodelay(true)?;
    let (start, mut buffer, mut out) = (Instant::now(), ReadBuffer::new(8192), Vec::new());
    let mut incoming = Incoming::new();
    loop {
        match buffer.poll(&mut engine, start.elapsed()) {
            Action::Reply(reply) => out.extend_from_slice(reply.as_bytes()),
            Action::Challenge(challenge) => out.extend_from_slice(challenge.as_bytes()),
            Action::Transmit(ciphertext) => out.extend_from_slice(ciphertext),
            Action::Flush { deadline } => {
                write_all(&mut stream, &out, start + deadline)?;
                out.clear();
            }
            // These answers are quick. Before one that takes time, `out` would have to be written.
            Action::CallAuthenticator(request) => {
                let answer = handler.call_authenticator(engine.connection().session(), request);
                engine.answer(answer)?;
            }
            Action::CallHook(call) => {
                let answer = handler.call_hook(call, &mut incoming);
                engine.answer(answer)?;
            }
            Action::Content(piece) => incoming.append(piece),
            Action::Aborted(_) => incoming.discard(),
            Action::Event(event) => handler.event(event),
            Action::NeedInput { deadline } => match read(&mut stream, buffer.room(), start + deadline)? {
                Some(0) => engine.end_of_input(),
                Some(octets) => buffer.filled(octets),
                // The next poll sees that it is late.
                None => {}
            },
            Action::Pause { until } => std::thread::sleep(until.saturating_sub(start.elapsed())),
            Action::Close => return Ok(close(stream)?),
            // Every question is answered where it is asked; no mechanism is the handler's; `engine` does TLS itself.
            Action::AwaitAnswer { .. } | Action::CallAuthHandler(_) | Action::StartTls => {}
        }
    }
}

/// Writes all of it by `deadline`, however little of it the peer takes at a time.
fn write_all(stream: &mut TcpStream, mut octets: &[u8], deadline: Instant) -> io::Result<()> {
    while !octets.is_empty() {
        stream.set_write_timeout(Some(time_until(deadline).ok_or(ErrorKind::TimedOut)?))?;
        match stream.write(octets) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => octets = octets.get(written..).unwrap_or_default(),
            Err(error) if is_nothing_yet(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what there is; `None` if nothing comes by `deadline`.
fn read(stream: &mut TcpStream, room: &mut [u8], deadline: Instant) -> io::Result<Option<usize>> {
    let Some(timeout) = time_until(deadline) else { return Ok(None) };
    stream.set_read_timeout(Some(timeout))?;
    match stream.read(room) {
        Err(error) if is_nothing_yet(&error) => Ok(None),
        read => read.map(Some),
    }
}

/// Closing a socket with something unread in it would make the peer lose the last replies: what still comes is read,
/// for a moment.
fn close(mut stream: TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    stream.shutdown(Shutdown::Write)?;
    while let Some(1..) = read(&mut stream, &mut [0; 1024], deadline)? {}
    Ok(())
}

fn time_until(deadline: Instant) -> Option<Duration> {
    // A socket takes no timeout of zero.
    Some(deadline.saturating_duration_since(Instant::now())).filter(|time| !time.is_zero())
}

/// What the end of a socket's timeout is called depends on the system.
fn is_nothing_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
