//! A server that accepts and never answers.

use std::net::{SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(unix)]
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Listens until the process ends; keeps what it has accepted.
pub(crate) fn tcp() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let kept: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| kept.lock().unwrap().push(stream)));
    address
}

/// The same on a unix socket.
#[cfg(unix)]
pub(crate) fn unix(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    let kept: Arc<Mutex<Vec<UnixStream>>> = Arc::default();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| kept.lock().unwrap().push(stream)));
}
