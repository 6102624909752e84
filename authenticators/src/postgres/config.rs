//! Which database, and how to get there.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use zeroize::Zeroizing;

use crate::limit;
use crate::server_url::{InvalidUrl, ServerUrl};

/// Which database, and how to get there.
pub struct PostgresConfig {
    /// For messages: without anything secret.
    pub(super) address: String,
    pub(super) server: Config,
    pub(super) root_certificates: Option<Zeroizing<Vec<u8>>>,
    pub(super) connections: usize,
    pub(super) time_limit: Duration,
    pub(super) max_waiting: usize,
}

impl PostgresConfig {
    /// Reads a URL: `postgres://user:password@host:port/database`, or `postgresql://`. Several hosts, with commas
    /// between them, are tried in turn until one is found that can be written to. Without a host, `host=` says in
    /// which directory the server's unix socket is. The database is named as the user unless it is named. Behind `?`
    /// may be
    ///
    /// - `password-file=FILE`, whose first line is the password, or `password-env=NAME`, the environment variable that
    ///   has it, instead of one in the URL;
    /// - `sslmode=verify-full` or `require`: TLS, with a certificate for the host that can be verified, which is so
    ///   without it unless all hosts are this machine or sockets; `disable`: no TLS. There is nothing in between, as
    ///   it would not keep off who can change what is sent;
    /// - `sslrootcert=FILE`: root certificates in PEM to trust instead of the system's;
    /// - `host=DIRECTORY`, `port=NUMBER` for a unix socket, and `application_name=NAME`;
    /// - `connections=NUMBER`: [`connections`](Self::connections).
    ///
    /// # Errors
    /// [`InvalidUrl`], which says what is wrong without the password in it.
    pub fn from_url(url: &str) -> Result<Self, InvalidUrl> {
        let mut url = ServerUrl::parse(url)?;
        if !matches!(url.scheme.as_str(), "postgres" | "postgresql") {
            return Err(InvalidUrl::Scheme("postgres, postgresql"));
        }
        let mut server = Config::new();
        if url.hosts.is_empty() {
            let directory = url.take("host")?.filter(|path| path.starts_with('/')).ok_or(InvalidUrl::Host)?;
            server.host(directory);
            let port = url.take("port")?.map_or(Ok(PORT), |port| port.parse().map_err(|_| InvalidUrl::Port))?;
            server.port(port);
        }
        for (host, port) in url.hosts_and_ports()? {
            server.host(host).port(port.unwrap_or(PORT));
        }
        if server.get_hosts().len() > 1 {
            server.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if let Some(user) = &url.user {
            server.user(user);
        }
        if let Some(password) = &url.password {
            server.password(password.expose_secret());
        }
        let database = url.decoded_path()?;
        if database.contains('/') {
            return Err(InvalidUrl::Database);
        }
        if !database.is_empty() {
            server.dbname(database);
        }
        let tls = match url.take("sslmode")?.as_deref() {
            None => !server.get_hosts().iter().all(is_here),
            Some("verify-full" | "require") => true,
            Some("disable") => false,
            Some(_) => {
                return Err(InvalidUrl::Value { name: "sslmode", expected: "verify-full, require or disable" });
            }
        };
        server.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        let root_certificates = url.take_file("sslrootcert")?;
        server.application_name(url.take("application_name")?.as_deref().unwrap_or("sansmtp"));
        let connections = match url.take("connections")? {
            Some(number) => number
                .parse()
                .ok()
                .filter(|number| (1..=MOST_CONNECTIONS).contains(number))
                .ok_or(InvalidUrl::Value { name: "connections", expected: "a number from 1 to 1000" })?,
            None => 8,
        };
        url.refuse_others()?;
        let address = server.get_hosts().iter().zip(server.get_ports()).map(shown).collect::<Vec<_>>().join(",");
        Ok(Self {
            address,
            server,
            root_certificates,
            connections,
            time_limit: Duration::from_secs(5),
            max_waiting: limit::OF_A_SERVER,
        })
    }

    /// How many connections there may be at once, from 1 to 1,000: 8 unless changed. A login takes one for as long as
    /// it takes to find a user, not for as long as it takes to hash.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, MOST_CONNECTIONS);
        self
    }

    /// How long a question to the database may take, the wait for a connection included: 5 s unless changed. A login
    /// asks once or twice.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit.clamp(Duration::from_millis(1), Duration::from_secs(3600));
        self
    }

    /// How many logins may wait for the database at the same time: 96 unless changed. Each occupies a thread, so keep it well
    /// below the size of the pool that connections share (500 with smol, 512 with tokio). One more is `454 4.7.0` at
    /// once.
    #[must_use]
    pub fn max_waiting(mut self, logins: usize) -> Self {
        self.max_waiting = logins;
        self
    }

    /// Where the database is, to be shown: hosts and ports.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn uses_tls(&self) -> bool {
        self.server.get_ssl_mode() == SslMode::Require
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("address", &self.address)
            .field("tls", &self.uses_tls())
            .field("connections", &self.connections)
            .field("time_limit", &self.time_limit)
            .field("max_waiting", &self.max_waiting)
            .finish_non_exhaustive()
    }
}

/// Whether nobody else is between here and there.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn shown((host, port): (&Host, &u16)) -> String {
    match host {
        Host::Tcp(name) => format!("{name}:{port}"),
        #[cfg(unix)]
        Host::Unix(path) => format!("{}/.s.PGSQL.{port}", path.display()),
    }
}

const PORT: u16 = 5432;
const MOST_CONNECTIONS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Result<PostgresConfig, InvalidUrl> {
        PostgresConfig::from_url(url)
    }

    #[test]
    fn urls_say_where_the_database_is() {
        for (url, address, database, tls) in [
            ("postgres://db.example.org/mail", "db.example.org:5432", Some("mail"), true),
            ("postgresql://u@h1:1,h2/ma%20il", "h1:1,h2:5432", Some("ma il"), true),
            ("postgres://[2001:db8::1]:5433", "2001:db8::1:5433", None, true),
            ("postgres://localhost/mail", "localhost:5432", Some("mail"), false),
            ("postgres://[::1],127.0.0.2/mail", "::1:5432,127.0.0.2:5432", Some("mail"), false),
            ("postgres://localhost,other/mail", "localhost:5432,other:5432", Some("mail"), true),
            ("postgres://localhost/mail?sslmode=require", "localhost:5432", Some("mail"), true),
            ("postgres://other/mail?sslmode=disable", "other:5432", Some("mail"), false),
            ("postgres://other/mail?sslmode=verify-full&connections=3", "other:5432", Some("mail"), true),
            ("postgres:///mail?host=/run/postgresql", "/run/postgresql/.s.PGSQL.5432", Some("mail"), false),
            ("postgres://u@/mail?host=/run/pg&port=1", "/run/pg/.s.PGSQL.1", Some("mail"), false),
        ] {
            let config = config(url).unwrap();
            assert_eq!((config.address.as_str(), config.server.get_dbname()), (address, database), "{url}");
            assert_eq!(config.uses_tls(), tls, "{url}");
        }
        let several = config("postgres://a,b/mail").unwrap();
        assert_eq!(several.server.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, expected) in [
            ("mysql://h/mail", "scheme"),
            ("postgres:///mail", "host"),
            ("postgres:///mail?host=relative", "host"),
            ("postgres://,/mail", "host"),
            ("postgres://%2Frun/mail", "host"),
            ("postgres://h:x/mail", "port"),
            ("postgres:///mail?host=/run&port=x", "port"),
            ("postgres://h/mail/x", "database"),
            ("postgres://h/mail?sslmode=prefer", "sslmode"),
            ("postgres://h/mail?sslmode=allow", "sslmode"),
            ("postgres://h/mail?sslmode=verify-ca", "sslmode"),
            ("postgres://h/mail?connections=0", "connections"),
            ("postgres://h/mail?options=-c%20x", "options"),
            ("postgres://h/mail?sslrootcert=/none/such", "/none/such"),
        ] {
            let error = config(url).unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let config = config("postgres://mail:tanstaaf@h/mail").unwrap();
        assert_eq!(config.server.get_password(), Some(&b"tanstaaf"[..]));
        let shown = format!("{config:?} {config:#?}");
        assert!(!shown.contains("tanstaaf"), "{shown}");
    }
}
