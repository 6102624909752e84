//! The engine on `async-executor` and `async-io`: a task for each connection. The authenticator works on a pool of
//! threads meanwhile, and is given up when its time is up. STARTTLS; AUTH by SCRAM-SHA-256, PLAIN and LOGIN.
//!
//! ```sh
//! cargo run --example executor_loop -- --listen 127.0.0.1:2525
//! ```

mod demo;

use std::error::Error;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use blocking::{Task, unblock};
use demo::{Count, Demo};
use futures_lite::future::{or, yield_now};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use sansmtp::{Action, Answer, Handler, Incoming, ReadBuffer, tls};

fn main() -> Result<(), Box<dyn Error>> {
    let (demo, listener) = Demo::start()?;
    let listener = Async::<TcpListener>::new(listener)?;
    let executor = LocalExecutor::new();
    async_io::block_on(executor.run(async {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                // Descriptors have run out, most likely: they come back when connections end.
                Timer::after(Duration::from_millis(100)).await;
                continue;
            };
            let (engine, handler) = demo.open(peer);
            let connection = async move {
                if let Err(error) = serve(stream, engine, handler).await {
                    eprintln!("{peer}: {error}");
                }
            };
            executor.spawn(connection).detach();
        }
    }))
}

async fn serve(
    mut stream: Async<TcpStream>,
    mut engine: tls::Session,
    mut handler: Count,
) -> Result<(), Box<dyn Error>> {
    stream.get_ref().set_nodelay(true)?;
    let (start, mut buffer, mut out) = (Instant::now(), ReadBuffer::new(8192), Vec::new());
    let (mut incoming, mut asked) = (Incoming::new(), None::<Task<Answer>>);
    loop {
        match buffer.poll(&mut engine, start.elapsed()) {
            Action::Reply(reply) => out.extend_from_slice(reply.as_bytes()),
            Action::Challenge(challenge) => out.extend_from_slice(challenge.as_bytes()),
            Action::Transmit(ciphertext) => out.extend_from_slice(ciphertext),
            Action::Flush { deadline } => {
                by(start + deadline, stream.write_all(&out)).await.ok_or("the client does not read")??;
                out.clear();
            }
            Action::CallAuthenticator(request) => {
                let demo = Arc::clone(&handler.demo);
                asked = Some(unblock(move || {
                    let result = demo.authenticate(&request);
                    request.answer(result)
                }));
            }
            // Dropped when it is late, the question is answered by the engine.
            Action::AwaitAnswer { deadline } => {
                if let Some(question) = asked.take()
                    && let Some(answer) = by(start + deadline, question).await
                {
                    engine.answer(answer)?;
                }
            }
            // What takes long in a hook can wait in the same way, as an `OwnedHookCall`.
            Action::CallHook(call) => {
                let answer = handler.call_hook(call, &mut incoming);
                engine.answer(answer)?;
            }
            Action::Content(piece) => incoming.append(piece),
            Action::Aborted(_) => incoming.discard(),
            Action::Event(event) => handler.event(event),
            Action::NeedInput { deadline } => match by(start + deadline, stream.read(buffer.room())).await {
                Some(Ok(0)) => engine.end_of_input(),
                Some(octets) => {
                    buffer.filled(octets?);
                    // A client that never pauses must not keep the others waiting.
                    yield_now().await;
                }
                // The next poll sees that it is late.
                None => {}
            },
            Action::Pause { until } => drop(Timer::at(start + until).await),
            Action::Close => return Ok(close(stream).await?),
            // No mechanism is the handler's, and `engine` does TLS itself.
            Action::CallAuthHandler(_) | Action::StartTls => {}
        }
    }
}

/// Closing a socket with something unread in it would make the peer lose the last replies: what still comes is read,
/// for a moment.
async fn close(mut stream: Async<TcpStream>) -> io::Result<()> {
    stream.get_ref().shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + Duration::from_secs(2);
    while let Some(Ok(1..)) = by(deadline, stream.read(&mut [0; 1024])).await {}
    Ok(())
}

/// What comes of waiting, unless it takes until `deadline`.
async fn by<T>(deadline: Instant, waiting: impl Future<Output = T>) -> Option<T> {
    or(async { Some(waiting.await) }, async {
        Timer::at(deadline).await;
        None
    })
    .await
}
