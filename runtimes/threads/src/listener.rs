//! A listener in its thread.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sansmtp::Peer;
use sansmtp_driver::{Listener, Stages, Stream, accept_failed};

/// A thread that accepts connections.
#[derive(Debug)]
pub(crate) struct Accepting {
    listener: Arc<Listener>,
    thread: JoinHandle<()>,
}

impl Accepting {
    /// Gives each connection to `take`, until the server is told to end.
    pub(crate) fn start(
        listener: Listener,
        stages: Arc<Stages>,
        take: impl Fn(Stream, Peer) + Send + 'static,
    ) -> io::Result<Self> {
        // Whoever has handed it over may have used it otherwise.
        listener.set_nonblocking(false)?;
        let is_nodelay_inherited = listener.is_nodelay_inherited();
        let listener = Arc::new(listener);
        let accepting = listener.clone();
        let accept = move || {
            loop {
                let accepted = accepting.accept();
                if stages.requested.is_set() {
                    return;
                }
                match accepted {
                    Ok((stream, peer)) => {
                        // Where it fails, the peer has gone already.
                        if is_nodelay_inherited || stream.set_nodelay(true).is_ok() {
                            take(stream, peer);
                        }
                    }
                    Err(error) => {
                        if let Some(pause) = accept_failed(&error) {
                            thread::sleep(pause);
                        }
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("sansmtp accept".to_owned()).spawn(accept)?;
        Ok(Self { listener, thread })
    }

    /// Ends the thread, after the server was told to end. Nobody is listening after that.
    pub(crate) fn stop(self) {
        let begun = Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > STOPPING_TIME {
                // Its address has gone, perhaps: then nobody gets here by it.
                tracing::warn!(listener = ?self.listener, "cannot stop listening");
                return;
            }
            if let Err(error) = self.listener.knock() {
                tracing::debug!(listener = ?self.listener, %error, "cannot connect to myself");
            }
            thread::sleep(STOPPING_PAUSE);
        }
        // It does not panic.
        let _ = self.thread.join();
    }
}

const STOPPING_TIME: Duration = Duration::from_secs(1);
const STOPPING_PAUSE: Duration = Duration::from_millis(1);
