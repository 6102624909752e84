//! How failures are counted in Valkey or Redis.

use std::fmt;
use std::io;
use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};
use sansmtp::Secret;
use sansmtp::auth::AttemptLimits;
use zeroize::Zeroizing;

use crate::counting::counted::mac;
use crate::server_url::{InvalidUrl, ServerUrl};

/// Where and how a [`ValkeyAttemptLog`](super::ValkeyAttemptLog) counts.
pub struct ValkeyConfig {
    /// For messages: without anything secret.
    pub(crate) address: String,
    connection: ConnectionInfo,
    root_certificates: Option<Zeroizing<Vec<u8>>>,
    key: Option<Secret>,
    pub(crate) limits: AttemptLimits,
    pub(crate) when_unreachable: WhenUnreachable,
    pub(crate) time_limit: Duration,
    pub(crate) max_waiting: usize,
}

/// What becomes of logins while the server that counts cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum WhenUnreachable {
    /// They go on, and each process counts what happens in it, as
    /// [`MemoryAttemptLog`](sansmtp::auth::MemoryAttemptLog) does. Who guesses gets a limit's worth of attempts from
    /// each.
    Open,
    /// They get `454 4.7.0`. Who keeps the server from answering keeps everybody from logging in.
    Closed,
}

/// Why failures cannot be counted as configured.
#[derive(Debug)]
#[non_exhaustive]
pub enum ValkeyError {
    /// There is neither a key to hash names with, of 16 octets at the least, nor a password to make one from.
    Key,
    /// The server's root certificates are not PEM. The text says what is wrong.
    RootCertificates(String),
    /// No thread can be started.
    Thread(io::Error),
}

impl ValkeyConfig {
    /// Reads a URL: `valkey://` or `redis://`, `valkeys://` or `rediss://` for TLS, and then
    /// `user:password@host:port/database`, of which only the host is needed; or `valkey+unix:///path` or
    /// `redis+unix:///path`. Behind `?` may be
    ///
    /// - `password-file=FILE`, whose first line is the password, or `password-env=NAME`, the environment variable that
    ///   has it, instead of one in the URL;
    /// - `key-file=FILE`, whose octets are the [`key`](Self::key);
    /// - `ca-file=FILE`, root certificates in PEM to trust for TLS instead of the system's;
    /// - `database=N`, for a unix socket;
    /// - `when-unreachable=open` or `closed`.
    ///
    /// # Errors
    /// [`InvalidUrl`], which says what is wrong without the password in it.
    pub fn from_url(url: &str) -> Result<Self, InvalidUrl> {
        let mut url = ServerUrl::parse(url)?;
        let (address, shown, database) = address(&mut url)?;
        let key = url.take_file("key-file")?.map(|mut octets| Secret::new(std::mem::take(&mut *octets)));
        let root_certificates = url.take_file("ca-file")?;
        let when_unreachable = match url.take("when-unreachable")?.as_deref() {
            None | Some("open") => WhenUnreachable::Open,
            Some("closed") => WhenUnreachable::Closed,
            Some(_) => return Err(InvalidUrl::Value { name: "when-unreachable", expected: "open or closed" }),
        };
        url.refuse_others()?;
        let mut login = RedisConnectionInfo::default().set_db(database.into()).set_skip_set_lib_name();
        if let Some(user) = &url.user {
            login = login.set_username(user);
        }
        if let Some(password) = &url.password {
            login = login.set_password(str::from_utf8(password.expose_secret()).map_err(|_| InvalidUrl::Escape)?);
        }
        let connection = address.into_connection_info().map_err(|_| InvalidUrl::Host)?.set_redis_settings(login);
        Ok(Self {
            address: shown,
            connection,
            root_certificates,
            key: key.or_else(|| url.password.map(|password| Secret::from(&mac(&password, "attempts", b"")[..]))),
            limits: AttemptLimits::default(),
            when_unreachable,
            time_limit: Duration::from_millis(250),
            max_waiting: MAX_WAITING,
        })
    }

    /// The key that names are hashed with, 16 octets or more that all servers of a fleet share and nobody else knows.
    /// Made from the password of the server that counts unless it is set.
    #[must_use]
    pub fn key(mut self, key: Secret) -> Self {
        self.key = Some(key);
        self
    }

    /// How many failures are too many: as in memory unless changed.
    /// [`entries`](AttemptLimits::entries) is how many are remembered in each process.
    #[must_use]
    pub fn limits(mut self, limits: AttemptLimits) -> Self {
        self.limits = limits;
        self
    }

    /// What becomes of logins while the server cannot be reached: [`Open`](WhenUnreachable::Open) unless changed, or
    /// told by the URL.
    #[must_use]
    pub fn when_unreachable(mut self, policy: WhenUnreachable) -> Self {
        self.when_unreachable = policy;
        self
    }

    /// How long a login waits for the server at the most: 250 ms unless changed.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        // No time at all would be no limit at all to a socket.
        self.time_limit = limit.max(Duration::from_millis(1));
        self
    }

    /// How many logins may wait for the server at the same time: 256 unless changed. Each occupies a thread, so keep it well
    /// below the size of the pool that connections share (500 with smol, 512 with tokio). One more is `454 4.7.0` at
    /// once, with [`WhenUnreachable::Open`], too.
    #[must_use]
    pub fn max_waiting(mut self, logins: usize) -> Self {
        self.max_waiting = logins;
        self
    }

    /// Where the server is, to be shown: host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The key to hash with.
    pub(crate) fn take_key(&mut self) -> Result<Secret, ValkeyError> {
        self.key.take().filter(|key| key.expose_secret().len() >= LEAST_KEY_OCTETS).ok_or(ValkeyError::Key)
    }

    /// What makes connections.
    pub(crate) fn client(&self) -> Result<Client, ValkeyError> {
        let ConnectionAddr::TcpTls { .. } = self.connection.addr() else {
            // The address is one that is supported: it is not looked up yet.
            return Client::open(self.connection.clone()).map_err(|error| invalid(&error));
        };
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // rustls would choose it by itself where it is the only one in the program, and panic where it is not. That
            // somebody else is quicker does no harm.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let root_cert = self.root_certificates.as_ref().map(|pem| pem.to_vec());
        if let Some(pem) = &root_cert
            && !pem.windows(BEGIN.len()).any(|octets| octets == BEGIN)
        {
            return Err(ValkeyError::RootCertificates("there is none".to_owned()));
        }
        Client::build_with_tls(self.connection.clone(), TlsCertificates { client_tls: None, root_cert })
            .map_err(|error| invalid(&error))
    }
}

impl fmt::Debug for ValkeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkeyConfig")
            .field("address", &self.address)
            .field("limits", &self.limits)
            .field("when_unreachable", &self.when_unreachable)
            .field("time_limit", &self.time_limit)
            .field("max_waiting", &self.max_waiting)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ValkeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => write!(
                f,
                "names need a key (key-file) of {LEAST_KEY_OCTETS} octets or more to be hashed with, or a password \
                 of the server to make one from"
            ),
            Self::RootCertificates(error) => write!(f, "the root certificates cannot be used: {error}"),
            Self::Thread(error) => write!(f, "no thread to count with: {error}"),
        }
    }
}

impl std::error::Error for ValkeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Thread(error) => Some(error),
            Self::Key | Self::RootCertificates(_) => None,
        }
    }
}

fn invalid(error: &redis::RedisError) -> ValkeyError {
    ValkeyError::RootCertificates(error.to_string())
}

/// Where the server is, for the library and for messages, and the number of the database.
fn address(url: &mut ServerUrl) -> Result<(ConnectionAddr, String, u32), InvalidUrl> {
    let number = |text: &str| text.parse().map_err(|_| InvalidUrl::Database);
    let tls = match url.scheme.as_str() {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        "redis+unix" | "valkey+unix" if url.hosts.is_empty() && !url.path.is_empty() => {
            let path = format!("/{}", url.decoded_path()?);
            let database = url.take("database")?.map_or(Ok(0), |text| number(&text))?;
            return Ok((ConnectionAddr::Unix((&path).into()), path, database));
        }
        "redis+unix" | "valkey+unix" => return Err(InvalidUrl::Form),
        _ => return Err(InvalidUrl::Scheme("valkey, valkeys, redis, rediss, valkey+unix, redis+unix")),
    };
    let Ok([(host, port)]) = <[_; 1]>::try_from(url.hosts_and_ports()?) else { return Err(InvalidUrl::Host) };
    let port = port.unwrap_or(PORT);
    let database = if url.path.is_empty() { 0 } else { number(&url.path)? };
    let shown = format!("{host}:{port}");
    let address = if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    Ok((address, shown, database))
}

const PORT: u16 = 6379;
/// More than for other servers: after one question has waited for the time limit, no other waits.
const MAX_WAITING: usize = 256;
/// Of 128 random bits nobody tries all.
const LEAST_KEY_OCTETS: usize = 16;
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Result<String, InvalidUrl> {
        let config = ValkeyConfig::from_url(url)?;
        Ok(format!("{} {}", config.address, config.connection.redis_settings().db()))
    }

    #[test]
    fn urls_say_where_the_server_is() {
        for (url, expected) in [
            ("redis://h", "h:6379 0"),
            ("valkey://h:1234/5", "h:1234 5"),
            ("rediss://[2001:db8::1]/", "2001:db8::1:6379 0"),
            ("valkey+unix:///run/valkey%20/s?database=3", "/run/valkey /s 3"),
        ] {
            assert_eq!(shown(url).unwrap(), expected, "{url}");
        }
        for url in [
            "http://h",
            "redis:///0",
            "redis://a,b",
            "redis://h/x",
            "redis://h/-1",
            "redis+unix://h/s",
            "redis+unix://",
            "h",
        ] {
            assert!(shown(url).is_err(), "{url}");
        }
        for (url, parameter) in [("redis://h?database=1", "database"), ("redis://h?keyfile=x", "keyfile")] {
            assert!(matches!(shown(url), Err(InvalidUrl::Parameter(name)) if name == parameter), "{url}");
        }
        assert!(matches!(shown("redis://h?when-unreachable=no"), Err(InvalidUrl::Value { .. })));
    }

    #[test]
    fn a_key_is_needed_or_a_password() {
        let config = |url| ValkeyConfig::from_url(url).unwrap();
        assert!(matches!(config("redis://h").take_key(), Err(ValkeyError::Key)));
        assert!(matches!(config("redis://h").key(Secret::new(vec![7; 15])).take_key(), Err(ValkeyError::Key)));
        assert!(config("redis://h").key(Secret::new(vec![7; 16])).take_key().unwrap().ct_eq(&[7; 16]));
        let made = |url| config(url).take_key().unwrap();
        assert!(made("redis://:a@h").ct_eq(made("rediss://user:a@other/3").expose_secret()));
        assert!(!made("redis://:a@h").ct_eq(made("redis://:b@h").expose_secret()));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, b"sixteen octets..").unwrap();
        assert!(made(&format!("redis://:a@h?key-file={}", file.display())).ct_eq(b"sixteen octets.."));
    }

    #[test]
    fn neither_password_nor_key_is_shown() {
        let config =
            ValkeyConfig::from_url("redis://user:tanstaaf@h").unwrap().key(Secret::new(b"tanstaaftan".to_vec()));
        let shown = format!("{config:?} {:#?}", config);
        assert!(!shown.contains("tanstaaf"), "{shown}");
    }
}
