//! Where Dovecot is, and what it is told.

use std::fmt;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::server::Server;
use super::stream::Address;
use super::{Dovecot, names};

/// Where Dovecot is, and what it is told.
///
/// ```no_run
/// use std::time::Duration;
///
/// use sansmtp_authenticators::dovecot::{Error, Settings};
///
/// # fn main() -> Result<(), Error> {
/// let dovecot = Settings::unix("/run/dovecot/auth-client").time_limit(Duration::from_secs(20)).connect()?;
/// # let _ = dovecot;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Settings {
    pub(super) address: Address,
    pub(super) service: String,
    pub(super) time_limit: Duration,
    pub(super) max_waiting: usize,
    pub(super) lifetime: Duration,
    pub(super) certificate_name: Option<Arc<CertificateName>>,
}

type CertificateName = dyn Fn(&[Vec<u8>]) -> Option<String> + Send + Sync;

impl Settings {
    /// Dovecot's `unix_listener` at this path: `auth-client`, or one that was made for the purpose.
    #[cfg(unix)]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(Address::Unix(path.into()))
    }

    /// Dovecot's `inet_listener` at `host:port`, in the service `auth`. Passwords go there in the clear: it is for
    /// this machine, or a network that nobody else is on.
    pub fn tcp(host_and_port: impl Into<String>) -> Self {
        Self::new(Address::Tcp(host_and_port.into()))
    }

    fn new(address: Address) -> Self {
        Self {
            address,
            service: "smtp".into(),
            time_limit: Duration::from_secs(30),
            max_waiting: MAX_WAITING,
            lifetime: Duration::from_secs(60),
            certificate_name: None,
        }
    }

    /// The service that users log in to, for Dovecot's log and for a configuration that tells services apart: `smtp`
    /// unless changed.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = service.into();
        self
    }

    /// How long Dovecot may take for a step of an exchange, from connecting to the reply: 30 seconds unless changed,
    /// 1 millisecond at the least and an hour at the most. Dovecot holds back a refusal for 2 seconds (`auth_failure_delay`), and makes an
    /// address that has failed before wait for up to 15 more, unless that is turned off (`service anvil {
    /// unix_listener anvil-auth-penalty { mode = 0 } }`).
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit.clamp(SHORTEST, LONGEST);
        self
    }

    /// How many logins may wait for Dovecot at the same time: 256 unless changed. Each occupies a thread, so keep it well
    /// below the size of the pool that connections share (500 with smol, 512 with tokio). One more is `454 4.7.0` at
    /// once.
    ///
    /// A refusal that Dovecot holds back keeps its place, which leaves 128 wrong passwords a second.
    pub fn max_waiting(mut self, logins: usize) -> Self {
        self.max_waiting = logins;
        self
    }

    /// How long a connection is used, before the next request makes another one: a minute unless changed, 1 millisecond
    /// at the least and an hour at the most. A Dovecot that is reloaded or restarted keeps its old process, with what was configured then,
    /// for as long as somebody is connected to it.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.clamp(SHORTEST, LONGEST);
        self
    }

    /// Names the user of a client's verified certificate, given the chain, the client's own first, in DER. `None` if
    /// it names nobody.
    ///
    /// Dovecot takes the name for proved, for EXTERNAL and, with `auth_ssl_username_from_cert = yes`, in place of any
    /// other. Without this, EXTERNAL is not [offered](Dovecot::offer).
    pub fn name_certificates(mut self, name: impl Fn(&[Vec<u8>]) -> Option<String> + Send + Sync + 'static) -> Self {
        self.certificate_name = Some(Arc::new(name));
        self
    }

    /// Connects, and learns which mechanisms there are.
    ///
    /// # Errors
    ///
    /// [`Error`], where Dovecot cannot be asked at the moment.
    pub fn connect(self) -> Result<Dovecot, Error> {
        let dovecot = self.connect_later();
        dovecot.mechanisms()?;
        Ok(dovecot)
    }

    /// Connects, or where Dovecot is not there yet, connects at the next login, with a warning in the log. Until then,
    /// logins are `454 4.7.0`; what to list meanwhile, [`Dovecot::offer_later`] decides.
    ///
    /// # Errors
    ///
    /// [`Error`], where this is not [temporary](Error::is_temporary).
    pub fn connect_or_later(self) -> Result<Dovecot, Error> {
        let dovecot = self.connect_later();
        match dovecot.mechanisms() {
            Err(error) if error.is_temporary() => {
                let address = &dovecot.server.settings().address;
                tracing::warn!(?address, %error, "until Dovecot is there, logins are refused for now (454)");
            }
            mechanisms => drop(mechanisms?),
        }
        Ok(dovecot)
    }

    /// Connects when somebody logs in, so that this server can start before Dovecot does.
    pub fn connect_later(self) -> Dovecot {
        Dovecot { server: Server::new(self) }
    }

    /// The name in a client's certificates.
    pub(super) fn name_of(&self, certificates: &[Vec<u8>]) -> Option<String> {
        let name = self.certificate_name.as_ref()?;
        if certificates.is_empty() { None } else { name(certificates).filter(|name| names::is_login(name)) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("address", &self.address)
            .field("service", &self.service)
            .field("time_limit", &self.time_limit)
            .field("max_waiting", &self.max_waiting)
            .field("lifetime", &self.lifetime)
            .field("names_certificates", &self.certificate_name.is_some())
            .finish()
    }
}

/// More than for other servers, as refusals are held back.
const MAX_WAITING: usize = 256;
/// No time at all would be no limit to a socket.
const SHORTEST: Duration = Duration::from_millis(1);
/// No clock tells the end of a limit without one.
const LONGEST: Duration = Duration::from_secs(3600);
