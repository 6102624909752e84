//! Listeners, and the tasks of their connections.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sansmtp::{AsyncHandler, Peer};

use super::Runtime;
use super::combine::{all, first, yield_now};
use super::connection::Connection;
use crate::listening::Service;
use crate::setup::Setup;
use crate::signal::{Alive, Stages};
use crate::time::after;
use crate::trace::put_away;

/// Accepts connections until the server is told to shut down, and then until they have ended. Each has a
/// task, and a handler made by `make_handler`. Dropping the future cuts them off.
///
/// # Errors
///
/// That of [`Setup::start`], and what the runtime says to a listener.
pub async fn serve<R, H>(mut setup: Setup, make_handler: impl Fn(Peer) -> H, runtime: R) -> io::Result<()>
where
    R: Runtime,
    H: AsyncHandler + 'static,
{
    let listeners = setup.start()?;
    let stages = setup.stages().clone();
    let alive = Alive::new(&stages);
    let _ends_with_the_future = CutOff(stages.clone());
    let mut accepting = Vec::new();
    for (listener, service) in listeners {
        let is_nodelay_inherited = listener.is_nodelay_inherited();
        let listener = R::listener(listener)?;
        let (setup, make_handler, runtime, alive) = (&setup, &make_handler, &runtime, &alive);
        accepting.push(Box::pin(async move {
            for accepted in 1_u64.. {
                if accepted % ACCEPTED_IN_A_ROW == 0 {
                    // A flood of clients would keep the executor to itself.
                    yield_now().await;
                }
                let (stream, peer) = accept::<R>(&listener, &service, is_nodelay_inherited).await;
                let place = match setup.admit(&service, peer) {
                    Ok(place) => place,
                    Err(refused) => {
                        refused.tell(R::into_std(stream));
                        continue;
                    }
                };
                let make = |peer| {
                    let handler = make_handler(peer);
                    (handler.hooks(), handler.events(), handler)
                };
                let local_address = R::local_address(&stream);
                let Some((conversation, handler)) = setup.open(&service, peer, local_address, make) else { continue };
                let mut connection = Connection::<R, _>::new(stream, conversation, handler);
                let alive = alive.clone();
                runtime.spawn(async move {
                    connection.run(alive.stages()).await;
                    // A client that comes back at once finds its place free.
                    drop(place);
                    let span = connection.span().clone();
                    put_away(&span, connection);
                    drop(alive);
                });
            }
        }));
    }
    let grace = {
        let accept = pin!(async {
            all(accepting).await;
            // There is nothing to listen on.
            Duration::ZERO
        });
        first(pin!(stages.requested.wait()), accept).await
    };
    // Whoever hears of the end finds nobody listening.
    stages.ending.set(());
    drop(alive);
    let late = pin!(async { drop(R::alarm(after(grace)).await) });
    first(pin!(stages.ended.wait()), late).await;
    stages.cut_off.set(());
    stages.ended.wait().await;
    Ok(())
}

/// Cuts all connections off when it is dropped.
struct CutOff(Arc<Stages>);

impl Drop for CutOff {
    fn drop(&mut self) {
        self.0.ending.set(());
        self.0.cut_off.set(());
    }
}

/// Accepts the next connection, whatever happens to others.
async fn accept<R: Runtime>(
    listener: &R::Listener,
    service: &Service,
    is_nodelay_inherited: bool,
) -> (R::Stream, Peer) {
    loop {
        match R::accept(listener).await {
            Ok((stream, peer)) => {
                // Where it fails, the peer has gone already.
                if is_nodelay_inherited || R::set_nodelay(&stream, true).is_ok() {
                    return (stream, peer);
                }
            }
            Err(error) => {
                if let Some(pause) = service.accept_failed(&error) {
                    R::alarm(after(pause)).await;
                }
            }
        }
    }
}

/// How many connections a listener accepts before others have their turn.
const ACCEPTED_IN_A_ROW: u64 = 16;
