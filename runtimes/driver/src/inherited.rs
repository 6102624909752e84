//! Listeners that the service manager has opened.

use std::env;
use std::io;

use listenfd::ListenFd;

use crate::sockets::Listener;

/// A listener that was handed over, and what it is called.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inherited {
    /// Its name in `LISTEN_FDNAMES`, which systemd takes from `FileDescriptorName=`; empty if there is none.
    pub name: String,
    /// The listener.
    pub listener: Listener,
}

/// The listeners that systemd, or whatever speaks its protocol, has handed to this process: those of
/// `LISTEN_FDS`, if `LISTEN_PID` is this process or not set, with their names from `LISTEN_FDNAMES`. None if
/// nothing was handed over.
///
/// They stay open in the service manager when this process ends: whoever connects during a restart waits, and
/// nobody is refused. Nor does the process need the right to listen on port 25.
///
/// ```text
/// # mail-465.socket                        # mail.service
/// [Socket]                                 [Service]
/// ListenStream=465                         ExecStart=/usr/local/bin/mail
/// FileDescriptorName=submissions           Sockets=mail-465.socket mail-587.socket
/// Service=mail.service
/// ```
///
/// ```
/// # use sansmtp_driver::{Inherited, Listener, inherited_listeners};
/// # struct Server;
/// # impl Server {
/// #     fn listener(self, _: Listener) -> Self { self }
/// #     fn listener_tls(self, _: Listener) -> Self { self }
/// # }
/// # let mut server = Server;
/// for Inherited { name, listener, .. } in inherited_listeners()? {
///     server = match &*name {
///         "submissions" => server.listener_tls(listener),
///         _ => server.listener(listener),
///     };
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Call it once, at the beginning of `main`: it removes `LISTEN_FDS` and `LISTEN_PID` from the environment, so
/// that a second call finds nothing and no child takes them for its own, and other threads must not be looking
/// at the environment at that moment.
///
/// # Errors
///
/// If one of the descriptors is neither a TCP socket nor a unix stream socket.
pub fn inherited_listeners() -> io::Result<Vec<Inherited>> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed_over = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..handed_over.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let listener = match handed_over.take_tcp_listener(index) {
            Ok(listener) => listener.map(Listener::from),
            // Not one of TCP.
            Err(_) => handed_over.take_unix_listener(index)?.map(Listener::from),
        };
        listeners.extend(listener.map(|listener| Inherited { name, listener }));
    }
    Ok(listeners)
}
