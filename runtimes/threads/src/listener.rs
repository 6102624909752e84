//! A listener in its thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sansmtp_driver::{ACCEPT_PAUSE, Stages};

/// A thread that accepts connections.
#[derive(Debug)]
pub(crate) struct Accepting {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Accepting {
    /// Gives each connection to `take`, until the server is told to end.
    pub(crate) fn start(
        listener: TcpListener,
        stages: Arc<Stages>,
        take: impl Fn(TcpStream, SocketAddr) + Send + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
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
                        tracing::warn!(%error, "cannot accept");
                        thread::sleep(ACCEPT_PAUSE);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("sansmtp accept".to_owned()).spawn(accept)?;
        Ok(Self { address, thread })
    }

    /// Ends the thread, after the server was told to end. Nobody is listening after that.
    pub(crate) fn stop(self) {
        // Nothing but a connection ends the wait for one.
        let woken = TcpStream::connect_timeout(&self.reachable(), WAKING_TIME);
        if woken.is_ok() || self.thread.is_finished() {
            // It does not panic.
            let _ = self.thread.join();
        } else {
            // Its address has gone, perhaps: then nobody gets here by it.
            tracing::warn!(address = %self.address, "cannot stop listening");
        }
    }

    fn reachable(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) => IpAddr::V4(if ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { ip }),
            IpAddr::V6(ip) => IpAddr::V6(if ip.is_unspecified() { Ipv6Addr::LOCALHOST } else { ip }),
        };
        SocketAddr::new(ip, self.address.port())
    }
}

const WAKING_TIME: Duration = Duration::from_secs(1);
