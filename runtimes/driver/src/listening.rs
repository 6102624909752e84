//! Listeners: opened here, or handed over.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sansmtp::{Config, Peer};
use socket2::{Domain, Socket, Type};

use crate::engine::Security;
use crate::sockets::Listener;

/// What the connections of one listener get.
#[derive(Debug)]
pub struct Service {
    pub(crate) config: Arc<Config>,
    pub(crate) security: Security,
    pub(crate) log: Arc<ListenerLog>,
    /// It goes when nobody listens any more.
    #[cfg(unix)]
    pub(crate) _socket_file: Option<unix::SocketFile>,
}

impl Service {
    /// Traces, once a second at most, that no connection could be accepted. How long to wait before trying again, if it
    /// was not the connection's own fault: descriptors have run out, most likely, and they come back when connections
    /// end.
    #[must_use]
    pub fn accept_failed(&self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return None;
        }
        self.log.cannot_accept(error);
        Some(ACCEPT_PAUSE)
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is traced of a listener, however often it happens: once a second at most.
#[derive(Debug)]
pub(crate) struct ListenerLog {
    /// Where it listens.
    listener: String,
    cannot_accept: Throttle,
    too_many: Throttle,
}

impl ListenerLog {
    pub(crate) fn new(listener: String) -> Arc<Self> {
        Arc::new(Self { listener, cannot_accept: Throttle::default(), too_many: Throttle::default() })
    }

    fn cannot_accept(&self, error: &io::Error) {
        if let Some(suppressed) = self.cannot_accept.pass(Instant::now()) {
            tracing::warn!(listener = %self.listener, %error, suppressed, "cannot accept");
        }
    }

    /// A client was turned away.
    pub(crate) fn too_many(&self, peer: Peer) {
        if let Some(suppressed) = self.too_many.pass(Instant::now()) {
            tracing::warn!(listener = %self.listener, %peer, suppressed, "too many connections");
        }
    }
}

/// Lets something be said once a second.
#[derive(Debug, Default)]
struct Throttle(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// How often it was not to be said since the last time, if it may be said now.
    fn pass(&self, now: Instant) -> Option<u64> {
        // No panic leaves it half changed.
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| now.saturating_duration_since(last) < ONCE_IN) {
            said.suppressed += 1;
            return None;
        }
        said.last = Some(now);
        Some(mem::take(&mut said.suppressed))
    }
}

const ONCE_IN: Duration = Duration::from_secs(1);

/// Listens on the first address of those where that is possible.
pub(crate) fn tcp(address: impl ToSocketAddrs) -> io::Result<Listener> {
    let mut failed = None;
    for address in address.to_socket_addrs()? {
        match tcp_at(address) {
            Ok(listener) => return Ok(listener.into()),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on")))
}

/// Listens on a port of all addresses: those of both protocols, whatever the system does unasked, or those of IPv4 where
/// there is no other.
pub(crate) fn tcp_on_port(port: u16) -> io::Result<Listener> {
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    let listener = match tcp_socket(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), Some(false)) {
        Err(error) if !matches!(error.kind(), AddrInUse | PermissionDenied) => {
            tcp_socket(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), None)
        }
        listener => listener,
    };
    listener.map(Into::into)
}

fn tcp_at(address: SocketAddr) -> io::Result<TcpListener> {
    tcp_socket(address, None)
}

/// For IPv6, it may be set whether IPv4 is left out.
fn tcp_socket(address: SocketAddr, only_ipv6: Option<bool>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(only_ipv6) = only_ipv6 {
        socket.set_only_v6(only_ipv6)?;
    }
    // Connections of the server before may not be over yet. On Windows, this would let others listen there, too.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Before any connection comes: what they inherit, they get as they do.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    // The standard library lets 128 wait; what the system has less, it takes.
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many clients wait to be accepted. A client too many tries again after a second, then after two, and
/// so on.
const BACKLOG: i32 = 4096;

#[cfg(unix)]
pub(crate) mod unix {
    //! Unix sockets, and the files by which they are reached.

    use std::fs::{self, Metadata};
    use std::io::{self, ErrorKind};
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};

    use socket2::{Domain, SockAddr, Socket, Type};

    use crate::sockets::Listener;

    /// Listens at `path`, also if a server has left its socket's file there.
    pub(crate) fn listen(path: &Path) -> io::Result<(Listener, SocketFile)> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        }?;
        let file = SocketFile { path: std::path::absolute(path)?, id: id(&fs::symlink_metadata(path)?) };
        Ok((listener.into(), file))
    }

    /// Whether there is a socket that nobody listens on.
    fn is_stale(path: &Path) -> bool {
        let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // If too many wait already, neither is this one to wait.
            socket.set_nonblocking(true)?;
            socket.connect(&SockAddr::unix(path)?)
        };
        is_socket && connect().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }

    /// The file of a socket, which goes with it.
    #[derive(Debug)]
    pub(crate) struct SocketFile {
        path: PathBuf,
        id: (u64, u64),
    }

    impl Drop for SocketFile {
        fn drop(&mut self) {
            // Unless somebody else listens there by now.
            if fs::symlink_metadata(&self.path).is_ok_and(|metadata| id(&metadata) == self.id) {
                // Where it fails, the next server finds that nobody listens.
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    fn id(metadata: &Metadata) -> (u64, u64) {
        (metadata.dev(), metadata.ino())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::sockets::Stream;

    #[test]
    fn what_happens_often_is_said_once_a_second() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let at = |milliseconds| throttle.pass(start + Duration::from_millis(milliseconds));
        assert_eq!([0, 1, 999, 1000, 1500, 2001, 5000].map(at), [Some(0), None, None, Some(2), None, Some(1), Some(0)]);
    }

    fn accepts_nodelay(listener: &Listener) -> bool {
        let _client = TcpStream::connect(listener.address().unwrap()).unwrap();
        match listener.accept().unwrap().0 {
            Stream::Tcp(stream) => stream.nodelay().unwrap(),
            #[cfg(unix)]
            Stream::Unix(_) => false,
        }
    }

    #[test]
    fn connections_have_nodelay_where_they_inherit_it() {
        let opened_here = tcp("127.0.0.1:0").unwrap();
        assert_eq!(opened_here.is_nodelay_inherited(), cfg!(any(target_os = "android", target_os = "linux")));
        let handed_over = Listener::from(TcpListener::bind("127.0.0.1:0").unwrap());
        assert!(!handed_over.is_nodelay_inherited());
        for listener in [opened_here, handed_over] {
            assert!(accepts_nodelay(&listener) || !listener.is_nodelay_inherited());
        }
    }

    #[test]
    fn a_port_alone_is_for_both_protocols() {
        let listener = tcp_on_port(0).unwrap();
        let address = listener.address().unwrap();
        let mut clients = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))];
        // Where IPv6 is off, the socket is one of IPv4.
        if address.is_ipv6() {
            clients.push(SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())));
        }
        for address in clients {
            let Ok(client) = TcpStream::connect(address) else { panic!("{address}") };
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer.address(), client.local_addr().ok());
        }
        assert_eq!(tcp_on_port(address.port()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_first_address_that_is_free_is_listened_on() {
        let other = tcp("127.0.0.1:0").unwrap();
        let taken = other.address().unwrap();
        assert_eq!(tcp(taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_ne!(tcp(&[taken, free][..]).unwrap().address(), Some(taken));
        assert_eq!(tcp(&[][..]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
