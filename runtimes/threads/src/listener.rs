//! A listener in its thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sansmtp::Peer;
use sansmtp_driver::{Listener, Stages, Stream, accept_failed};
use socket2::{SockAddr, SockRef, Socket, Type};

/// A thread that accepts connections.
#[derive(Debug)]
pub(crate) struct Accepting {
    address: SockAddr,
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
        let address = reachable(SockRef::from(&listener).local_addr()?);
        let accept = move || {
            loop {
                let accepted = listener.accept();
                if stages.requested.is_set() {
                    return;
                }
                match accepted {
                    Ok((stream, peer)) => {
                        // Where it fails, the peer has gone already.
                        if stream.set_nodelay(true).is_ok() {
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
        Ok(Self { address, thread })
    }

    /// Ends the thread, after the server was told to end. Nobody is listening after that.
    pub(crate) fn stop(self) {
        let begun = Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > WAKING_TIME {
                // Its address has gone, perhaps: then nobody gets here by it.
                tracing::warn!(address = ?self.address, "cannot stop listening");
                return;
            }
            self.wake();
            thread::sleep(WAKING_PAUSE);
        }
        // It does not panic.
        let _ = self.thread.join();
    }

    /// Nothing but a connection ends the wait for one. Another process that listens on the same socket may
    /// get it.
    fn wake(&self) {
        let connect = || {
            let socket = Socket::new(self.address.domain(), Type::STREAM, None)?;
            socket.connect_timeout(&self.address, WAKING_TIME)
        };
        if let Err(error) = connect() {
            tracing::debug!(address = ?self.address, %error, "cannot connect to myself");
        }
    }
}

/// An address by which a listener on every address is reached, too.
fn reachable(address: SockAddr) -> SockAddr {
    let Some(tcp) = address.as_socket() else { return address };
    let ip = match tcp.ip() {
        IpAddr::V4(ip) => IpAddr::V4(if ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { ip }),
        IpAddr::V6(ip) => IpAddr::V6(if ip.is_unspecified() { Ipv6Addr::LOCALHOST } else { ip }),
    };
    SocketAddr::new(ip, tcp.port()).into()
}

const WAKING_TIME: Duration = Duration::from_secs(1);
const WAKING_PAUSE: Duration = Duration::from_millis(1);
