//! The servers: where they are, how they are connected to, and which one is asked first.

use std::fmt;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ldap3::{LdapConnAsync, LdapConnSettings, StdStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sansmtp::Secret;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::fault::Fault;
use super::start_tls::start_tls;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Tcp {
        host: String,
        port: u16,
        security: Security,
    },
    #[cfg(unix)]
    Unix(PathBuf),
}

/// What protects a connection over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// Nothing.
    Cleartext,
    /// TLS after a StartTLS operation in the clear (RFC 4511, section 4.14).
    StartTls,
    /// TLS from the first octet on.
    Tls,
}

impl Server {
    /// Reads a URL of a server alone. `security` is that of `ldap://`.
    pub(super) fn parse(url: &str, security: Security) -> Option<Self> {
        let (scheme, authority) = url.trim_end_matches('/').split_once("://")?;
        let (security, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "ldap" => (security, 389),
            "ldaps" => (Security::Tls, 636),
            #[cfg(unix)]
            "ldapi" => {
                let path = crate::url_text::decoded(authority).filter(|path| path.starts_with('/'))?;
                return Some(Self::Unix(PathBuf::from(path)));
            }
            _ => return None,
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                // No name for TLS to verify can be told to `ldap3` of it.
                if security != Security::Cleartext {
                    return None;
                }
                (address, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = port.map_or(Some(default_port), |port| port.parse().ok().filter(|port| *port != 0))?;
        // A host name or an address, and so nothing that would be another part of a URL.
        ServerName::try_from(host).ok()?;
        Some(Self::Tcp { host: host.to_owned(), port, security })
    }

    pub(super) fn needs_tls(&self) -> bool {
        match self {
            Self::Tcp { security, .. } => *security != Security::Cleartext,
            #[cfg(unix)]
            Self::Unix(_) => false,
        }
    }

    async fn connect(&self, tls: Option<&Arc<ClientConfig>>) -> Result<(LdapConnAsync, ldap3::Ldap), Fault> {
        let mut settings = LdapConnSettings::new();
        if let Some(tls) = tls {
            settings = settings.set_config(tls.clone());
        }
        match self {
            Self::Tcp { host, port, security } => {
                let mut stream = TcpStream::connect((host.as_str(), *port)).await.map_err(Fault::Connect)?;
                stream.set_nodelay(true).map_err(Fault::Connect)?;
                if *security == Security::StartTls {
                    start_tls(&mut stream).await?;
                }
                let stream = stream.into_std().map_err(Fault::Connect)?;
                // `ldap3` speaks LDAP on it at once, or after a handshake for this name.
                let url = match security {
                    Security::Cleartext => "ldap://localhost".to_owned(),
                    Security::StartTls | Security::Tls => format!("ldaps://{host}"),
                };
                Ok(LdapConnAsync::with_settings(settings.set_std_stream(StdStream::Tcp(stream)), &url).await?)
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await.map_err(Fault::Connect)?;
                let stream = stream.into_std().map_err(Fault::Connect)?;
                Ok(LdapConnAsync::with_settings(settings.set_std_stream(StdStream::Unix(stream)), "ldapi:///").await?)
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, security: Security::Tls } => write!(f, "ldaps://{host}:{port}"),
            Self::Tcp { host, port, security: Security::Cleartext | Security::StartTls } => {
                write!(f, "ldap://{host}:{port}")
            }
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "ldapi://{}", path.display()),
        }
    }
}

/// Whom a connection for searches binds as.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) dn: String,
    pub(super) password: Secret,
}

/// The servers in the order in which they were named, shared by the pools.
#[derive(Clone, Debug)]
pub(super) struct Servers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    servers: Vec<Server>,
    tls: Option<Arc<ClientConfig>>,
    /// When each failed, unless it has worked since.
    failed: Mutex<Vec<Option<Instant>>>,
}

impl Servers {
    pub(super) fn new(servers: Vec<Server>, tls: Option<Arc<ClientConfig>>) -> Self {
        let failed = Mutex::new(vec![None; servers.len()]);
        Self(Arc::new(Shared { servers, tls, failed }))
    }

    /// The servers' numbers, those that have failed lately last.
    pub(super) fn in_order(&self) -> Vec<usize> {
        let failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order: Vec<_> = (0..self.0.servers.len()).collect();
        let has_failed =
            |number: &usize| failed.get(*number).copied().flatten().is_some_and(|at| at.elapsed() < ASKED_LAST);
        order.sort_by_key(has_failed);
        order
    }

    pub(super) fn mark(&self, number: usize, works: bool) {
        let mut failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = failed.get_mut(number) {
            *failed = if works { None } else { Some(Instant::now()) };
        }
    }

    pub(super) fn name(&self, number: usize) -> String {
        self.0.servers.get(number).map(ToString::to_string).unwrap_or_default()
    }

    /// Connects to a server, within its limit.
    pub(super) async fn connect(&self, number: usize, until: Instant) -> Result<Connection, Fault> {
        let Some(server) = self.0.servers.get(number) else { return Err(Fault::Closed) };
        let connected = tokio::time::timeout_at(until, server.connect(self.0.tls.as_ref())).await;
        let (connection, ldap) = connected.map_err(|_| Fault::TimedOut("connecting"))??;
        let driver = tokio::spawn(async move {
            // Its end is noticed where the connection is used.
            if let Err(error) = connection.drive().await {
                tracing::debug!(%error, "a connection to an LDAP server ended");
            }
        });
        let now = Instant::now();
        Ok(Connection { ldap, server: number, since: now, used: now, driver: driver.abort_handle() })
    }
}

/// A connection to a server. Closed when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ldap: ldap3::Ldap,
    pub(super) server: usize,
    since: Instant,
    used: Instant,
    driver: AbortHandle,
}

impl Connection {
    pub(super) fn mark_used(&mut self) {
        self.used = Instant::now();
    }

    /// Whether it is as good as a new one.
    pub(super) fn is_fresh(&mut self) -> bool {
        !self.ldap.is_closed() && self.used.elapsed() < MAX_IDLE && self.since.elapsed() < MAX_AGE
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It may be in the middle of sending to a server that does not read.
        self.driver.abort();
    }
}

/// How long a server that has failed is asked last.
const ASKED_LAST: Duration = Duration::from_secs(10);

/// Firewalls forget what is idle, and tell nobody.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// So that a server named earlier is gone back to once it is there again. `ldap3` remembers a number for each search of a
/// connection, too.
const MAX_AGE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, security: Security) -> Option<Server> {
        Some(Server::Tcp { host: host.to_owned(), port, security })
    }

    #[test]
    fn servers_are_read() {
        let parse = |url| Server::parse(url, Security::StartTls);
        assert_eq!(parse("ldap://ldap.example.org"), tcp("ldap.example.org", 389, Security::StartTls));
        assert_eq!(parse("LDAPS://ldap.example.org:1636/"), tcp("ldap.example.org", 1636, Security::Tls));
        assert_eq!(parse("ldaps://192.0.2.1"), tcp("192.0.2.1", 636, Security::Tls));
        assert_eq!(Server::parse("ldap://[::1]:3389", Security::Cleartext), tcp("::1", 3389, Security::Cleartext));
        #[cfg(unix)]
        assert_eq!(parse("ldapi://%2Frun%2Fslapd%2Fldapi"), Some(Server::Unix("/run/slapd/ldapi".into())));
        for bad in [
            "",
            "ldap.example.org",
            "http://ldap.example.org",
            "ldap://",
            "ldap://:389",
            "ldap://a:b",
            "ldap://a:0",
            "ldap://a:65536",
            "ldap://a b",
            "ldap://a@b",
            "ldap://a/dc=org",
            "ldap://a?x",
            "ldaps://[::1]",
            "ldap://[::1]x",
            "ldap://[::g]",
            "ldapi://",
            "ldapi://run",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_failed_is_asked_last_for_a_while() {
        let servers = Servers::new(
            ["ldaps://a", "ldaps://b", "ldaps://c"].map(|url| Server::parse(url, Security::Tls).unwrap()).to_vec(),
            None,
        );
        assert_eq!(servers.in_order(), [0, 1, 2]);
        servers.mark(0, false);
        assert_eq!(servers.in_order(), [1, 2, 0]);
        servers.mark(1, false);
        assert_eq!(servers.in_order(), [2, 0, 1]);
        servers.mark(0, true);
        assert_eq!(servers.in_order(), [0, 2, 1]);
        tokio::time::advance(ASKED_LAST).await;
        assert_eq!(servers.in_order(), [0, 1, 2]);
    }
}
