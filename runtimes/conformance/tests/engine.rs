//! What any embedding has to do, done by the engine alone: without an adapter or a driver, in the smallest loop over
//! blocking sockets that keeps what the engine promises. A thread for each connection, and one for each question about
//! credentials.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use sansmtp::{Action, Answer, Handler, Incoming, Peer, ReadBuffer, tls};
use sansmtp_conformance::{Blocking, Plan, Runtime, Started, conformance};
use socket2::SockRef;

conformance!(Blocking<Engine>);

struct Engine;

impl Runtime for Engine {
    fn start<H: Handler + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started> {
        let open = Arc::new((plan.clone(), make_handler));
        Started::a_loop(plan, move |listener, implicit, ends| {
            let open = Arc::clone(&open);
            accept(&listener, ends, move |stream, peer| {
                let (engine, handler) = open.0.open(implicit, peer, &open.1);
                serve(stream, engine, handler)
            })
        })
    }
}

fn accept(
    listener: &TcpListener,
    ends: &AtomicBool,
    serve: impl Fn(&TcpStream, SocketAddr) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<()> {
    let mut connections = Vec::<Weak<TcpStream>>::new();
    loop {
        let (stream, peer) = listener.accept()?;
        if ends.load(Ordering::Relaxed) {
            for stream in connections.iter().filter_map(Weak::upgrade) {
                // A client that is still writing would not hear of an end for long.
                SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
                let _ = stream.shutdown(Shutdown::Both);
            }
            return Ok(());
        }
        let (stream, serve) = (Arc::new(stream), serve.clone());
        connections.push(Arc::downgrade(&stream));
        // A connection that is lost has nobody left to tell; one whose handler cannot be made is dropped.
        thread::spawn(move || serve(&stream, peer));
    }
}

fn serve<H: Handler + 'static>(stream: &TcpStream, mut engine: tls::Session, handler: H) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (start, mut buffer, mut out) = (Instant::now(), ReadBuffer::new(8192), Vec::new());
    let (mut handler, mut question, mut incoming) = (Some(handler), None::<Question<H>>, Incoming::new());
    loop {
        // It is late with an answer.
        if handler.is_none() {
            engine.begin_shutdown();
        }
        match buffer.poll(&mut engine, start.elapsed()) {
            Action::Reply(reply) => out.extend_from_slice(reply.as_bytes()),
            Action::Challenge(challenge) => out.extend_from_slice(challenge.as_bytes()),
            Action::Transmit(ciphertext) => out.extend_from_slice(ciphertext),
            Action::Flush { deadline } => {
                write_all(stream, &out, start + deadline)?;
                out.clear();
            }
            // Put when the engine waits for the answer: what was said before has been written then.
            Action::CallAuthenticator(request) => {
                let session = engine.connection().session().clone();
                question = Some(Box::new(move |handler| handler.call_authenticator(&session, request)));
            }
            Action::CallAuthHandler(turn) => {
                let session = engine.connection().session().clone();
                question = Some(Box::new(move |handler| handler.auth(&session, turn)));
            }
            Action::AwaitAnswer { deadline } => {
                let asked = question.take().and_then(|question| Some(ask(handler.take()?, question)));
                let wait = deadline.saturating_sub(start.elapsed());
                if let Some((back, answer)) = asked.and_then(|asked| asked.recv_timeout(wait).ok()) {
                    handler = Some(back);
                    answer.map_or(Ok(()), |answer| engine.answer(answer)).map_err(io::Error::other)?;
                }
            }
            Action::CallHook(call) => {
                if let Some(answer) = tell(&mut handler, |handler| handler.call_hook(call, &mut incoming)) {
                    engine.answer(answer).map_err(io::Error::other)?;
                }
            }
            Action::Content(piece) => {
                let _ = tell(&mut handler, |handler| handler.call_content(piece, &mut incoming));
            }
            Action::Aborted(aborted) => {
                incoming.discard();
                let _ = tell(&mut handler, |handler| handler.aborted(aborted));
            }
            Action::Event(event) => drop(tell(&mut handler, |handler| handler.event(event))),
            Action::NeedInput { deadline } => match read(stream, buffer.room(), start + deadline) {
                Ok(Some(octets @ 1..)) => buffer.filled(octets),
                Ok(None) => {}
                Ok(Some(0)) | Err(_) => engine.end_of_input(),
            },
            Action::Pause { until } => thread::sleep(until.saturating_sub(start.elapsed())),
            Action::Close => {
                if buffer.is_empty() && engine.connection().is_peer_done() {
                    return Ok(());
                }
                // A reset would take the last reply from a peer that is still sending.
                stream.shutdown(Shutdown::Write)?;
                let deadline = Instant::now() + Duration::from_secs(2);
                while let Some(1..) = read(stream, &mut [0; 1024], deadline)? {}
                return Ok(());
            }
            Action::StartTls => unreachable!("the engine does TLS itself"),
        }
    }
}

type Question<H> = Box<dyn FnOnce(&mut H) -> Answer + Send>;

/// Lends the handler to a thread that asks it. It comes back with its answer, if it has any.
fn ask<H: Handler + 'static>(mut handler: H, question: Question<H>) -> Receiver<(H, Option<Answer>)> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let answer = catch_unwind(AssertUnwindSafe(|| question(&mut handler)));
        // Too late, and nobody is there any more.
        let _ = sender.send((handler, answer.ok()));
    });
    receiver
}

/// `None` if there is no handler, or it panics.
fn tell<H, T>(handler: &mut Option<H>, tell: impl FnOnce(&mut H) -> T) -> Option<T> {
    let handler = handler.as_mut()?;
    catch_unwind(AssertUnwindSafe(|| tell(handler))).ok()
}

/// `None` if nothing comes in time.
fn read(mut stream: &TcpStream, room: &mut [u8], deadline: Instant) -> io::Result<Option<usize>> {
    let Some(timeout) = time_until(deadline) else { return Ok(None) };
    stream.set_read_timeout(Some(timeout))?;
    match stream.read(room) {
        Err(error) if is_nothing_yet(&error) => Ok(None),
        read => read.map(Some),
    }
}

fn write_all(mut stream: &TcpStream, mut octets: &[u8], deadline: Instant) -> io::Result<()> {
    while !octets.is_empty() {
        stream.set_write_timeout(Some(time_until(deadline).ok_or(ErrorKind::TimedOut)?))?;
        match stream.write(octets) {
            Ok(written) => octets = octets.get(written..).unwrap_or_default(),
            Err(error) if is_nothing_yet(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn time_until(deadline: Instant) -> Option<Duration> {
    // A socket takes no timeout of zero.
    Some(deadline.saturating_duration_since(Instant::now())).filter(|time| !time.is_zero())
}

fn is_nothing_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
