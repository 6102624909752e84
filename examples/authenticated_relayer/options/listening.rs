//! Where the server listens, and as whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;

use crate::runtime::Runtime;
use crate::service::is_activated;
use crate::units::{size, size_above_zero};

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    /// TLS from the first octet; STARTTLS otherwise.
    pub(crate) implicit_tls: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListeningArguments {
    /// Listen here, with STARTTLS; repeatable [default: 127.0.0.1:8025, unless
    /// --listen-tls is given, or systemd hands over sockets: those are listened on besides, with TLS from the first octet
    /// where their name is submissions, smtps, or ends in -tls]
    #[arg(long, value_name = "ADDR", help_heading = LISTENING)]
    pub(super) listen: Vec<SocketAddr>,
    /// Listen here, with TLS from the first octet; repeatable
    #[arg(long, value_name = "ADDR", help_heading = LISTENING)]
    pub(super) listen_tls: Vec<SocketAddr>,
    /// Name of this server in its greeting and in Received: [default: the machine's host name]
    #[arg(long, value_name = "NAME", value_parser = hostname, help_heading = LISTENING)]
    pub(super) hostname: Option<String>,
    /// Largest message to accept
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = size_above_zero, help_heading = LISTENING)]
    pub(super) max_size: u64,
    /// Refuse mail for now (452) while less than this is free where it is kept
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size, help_heading = LISTENING)]
    pub(super) min_free: u64,
    /// What drives the connections
    #[arg(long, value_enum, default_value_t = Runtime::Smol, help_heading = LISTENING)]
    pub(super) runtime: Runtime,
}

impl ListeningArguments {
    /// At least one, unless the service manager hands some over.
    pub(super) fn listeners(&self) -> Vec<Listener> {
        let starttls = self.listen.iter().map(|&address| Listener { address, implicit_tls: false });
        let implicit = self.listen_tls.iter().map(|&address| Listener { address, implicit_tls: true });
        let mut listeners: Vec<Listener> = starttls.chain(implicit).collect();
        if listeners.is_empty() && !is_activated() {
            listeners.push(Listener { address: DEFAULT_LISTENER, implicit_tls: false });
        }
        listeners
    }
}

/// Checks that a name can stand in a greeting: a domain or an address literal (RFC 5321, section 4.1.2).
fn hostname(text: &str) -> Result<String, &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'[' | b']' | b':');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(allowed) {
        return Err("not a domain name or an address literal");
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
