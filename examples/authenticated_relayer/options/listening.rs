//! Where the server listens, and as whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;
use clap::error::ErrorKind;

use crate::listening::{Listener, Place, collision, mode};
use crate::service::is_activated;
use crate::units::{size, size_above_zero};

#[derive(Debug, Args)]
pub(super) struct ListeningArguments {
    /// Listen here, with STARTTLS; repeatable [default: 127.0.0.1:8025, unless --listen-tls is given, or systemd hands over
    /// sockets]
    ///
    /// :587 is that port of all addresses, of IPv4 and IPv6; 192.0.2.1:587 and [2001:db8::1]:587 are one address each;
    /// localhost:587 is all addresses of the name; unix:PATH is a unix socket.
    ///
    /// Sockets that systemd hands over are listened on besides, with TLS from the first octet where their name is
    /// submissions, smtps, or ends in -tls.
    #[arg(long, value_name = "PLACE", value_parser = Place::starttls, help_heading = LISTENING)]
    listen: Vec<Place>,
    /// Listen here (as with --listen), with TLS from the first octet; repeatable
    #[arg(long, value_name = "PLACE", value_parser = Place::implicit_tls, help_heading = LISTENING)]
    listen_tls: Vec<Place>,
    /// Mode of the files of unix sockets: who may write there may connect. 660, for example, is for the owner and the
    /// group [default: what the umask leaves of 777]
    #[arg(long, value_name = "MODE", value_parser = mode, help_heading = LISTENING)]
    pub(super) socket_mode: Option<u32>,
    /// Name of this server in its greeting and in Received: [default: the machine's host name]
    #[arg(long, value_name = "NAME", value_parser = hostname, help_heading = LISTENING)]
    pub(super) hostname: Option<String>,
    /// Largest message to accept
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = size_above_zero, help_heading = LISTENING)]
    pub(super) max_size: u64,
    /// Refuse mail for now (452) while less than this is free where it is kept
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size, help_heading = LISTENING)]
    pub(super) min_free: u64,
}

impl ListeningArguments {
    /// At least one, unless the service manager hands some over.
    ///
    /// # Errors
    /// Says what does not go together.
    pub(super) fn listeners(&self) -> Result<Vec<Listener>, (ErrorKind, String)> {
        let starttls = self.listen.iter().map(|place| Listener { place: place.clone(), implicit_tls: false });
        let implicit = self.listen_tls.iter().map(|place| Listener { place: place.clone(), implicit_tls: true });
        let mut listeners: Vec<Listener> = starttls.chain(implicit).collect();
        if listeners.is_empty() && !is_activated() {
            listeners.push(Listener { place: DEFAULT_LISTENER.into(), implicit_tls: false });
        }
        if let Some(collision) = collision(&listeners) {
            return Err((ErrorKind::ArgumentConflict, collision));
        }
        let has_sockets = listeners.iter().any(|listener| matches!(listener.place, Place::Unix(_)));
        if self.socket_mode.is_some() && !has_sockets {
            let message = "--socket-mode is for the unix sockets of --listen unix:PATH, and there is none";
            return Err((ErrorKind::ArgumentConflict, message.to_owned()));
        }
        Ok(listeners)
    }
}

/// Checks that a name can stand in a greeting: a domain or an address literal (RFC 5321, section 4.1.2).
fn hostname(text: &str) -> Result<String, &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'[' | b']' | b':');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(allowed) {
        return Err("not a domain name, mail.example.org for example, or an address literal, [192.0.2.1]");
    }
    Ok(text.to_owned())
}

pub(super) fn machine_hostname() -> String {
    gethostname::gethostname()
        .into_string()
        .ok()
        .and_then(|name| hostname(&name).ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

const DEFAULT_LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8025);
const LISTENING: &str = "Listening";
