//! The service manager: systemd, or another that speaks its protocols. Without one, all of this does nothing.

use std::env;
use std::io;

use sansmtp_smol::{Inherited, inherited_listeners};

use crate::failure::Failure;

/// Whether listeners are said to be handed over, to this process or to one that has started it.
pub(crate) fn is_activated() -> bool {
    env::var_os("LISTEN_FDS").is_some()
}

/// The listeners that are handed over. To be called once, before there are threads.
///
/// # Errors
/// Where something else than a listener is handed over.
pub(crate) fn handed_over() -> Result<Vec<Inherited>, Failure> {
    inherited_listeners().map_err(|error| Failure::new("cannot use the sockets of the service manager", error))
}

/// Whether a listener of this name (`FileDescriptorName=`) has TLS from the first octet.
pub(crate) fn is_implicit_tls(name: &str) -> bool {
    matches!(name, "submissions" | "smtps") || name.ends_with("-tls")
}

/// The program serves, from now on or again.
pub(crate) fn ready() {
    notify(&[State::Ready, State::Status("serving")]);
}

/// The program reads its files anew.
pub(crate) fn reloading() {
    notify(&[State::Reloading, State::Status("reading files anew")]);
}

/// The program ends, when what is under way has come to an end.
pub(crate) fn stopping() {
    notify(&[State::Stopping, State::Status("waiting for sessions and deliveries to end")]);
}

enum State {
    Ready,
    Reloading,
    Stopping,
    Status(&'static str),
}

#[cfg(unix)]
fn notify(states: &[State]) {
    use sd_notify::NotifyState;

    let mut told = Vec::new();
    for state in states {
        match state {
            State::Ready => told.push(NotifyState::Ready),
            State::Reloading => {
                told.push(NotifyState::Reloading);
                // systemd wants to know since when.
                told.extend(NotifyState::monotonic_usec_now());
            }
            State::Stopping => told.push(NotifyState::Stopping),
            State::Status(text) => told.push(NotifyState::Status(text)),
        }
    }
    log(sd_notify::notify(&told));
}

#[cfg(not(unix))]
fn notify(_: &[State]) {
    log(Ok(()));
}

fn log(notified: io::Result<()>) {
    if let Err(error) = notified {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_where_tls_begins() {
        for name in ["submissions", "smtps", "mail-tls"] {
            assert!(is_implicit_tls(name), "{name}");
        }
        for name in ["", "submission", "smtp", "tls", "mail-587.socket"] {
            assert!(!is_implicit_tls(name), "{name}");
        }
    }
}
