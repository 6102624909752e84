//! Dovecot's authentication service, by the protocol that Postfix and Exim speak with it: an installation with
//! Dovecot needs no second user database, and offers every mechanism that Dovecot does.
//!
//! # In Dovecot
//!
//! There is a socket of that protocol at `/run/dovecot/auth-client` as it is; only root and Dovecot's own user may
//! use it. One for a server that runs as `sansmtp`, in `conf.d/10-master.conf`:
//!
//! ```text
//! service auth {
//!   unix_listener /run/sansmtp/auth {
//!     mode = 0600
//!     user = sansmtp
//!   }
//! }
//! ```
//!
//! # Here
//!
//! [`Dovecot`] is shared by all connections, and each handler has an [`Exchange`] of it. The engine leaves the
//! mechanisms to the handler, and the handler leaves them to Dovecot:
//!
//! ```no_run
//! use sansmtp::{Answer, Auth, AuthTurn, Config, Event, Handler, Session};
//! use sansmtp_authenticators::dovecot::{Dovecot, Exchange};
//!
//! struct Submission {
//!     exchange: Exchange,
//! }
//!
//! impl Handler for Submission {
//!     type Message = ();
//!
//!     fn auth(&mut self, session: &Session, turn: AuthTurn) -> Answer {
//!         self.exchange.turn(session, turn)
//!     }
//!
//!     fn event(&mut self, event: Event<'_>) {
//!         if let Event::AuthFailed { .. } = event {
//!             self.exchange.cancel();
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dovecot = Dovecot::connect("/run/dovecot/auth-client")?;
//! let auth = dovecot.offer(Auth::without_mechanisms())?;
//! let config = Config::builder("mx.example.org").auth(auth).starttls(true).build()?;
//! let handler = move || Submission { exchange: dovecot.exchange() };
//! # let _ = (config, handler);
//! # Ok(())
//! # }
//! ```
//!
//! As an [`Authenticator`](crate::Authenticator) it answers for passwords and tokens only, in a chain for example,
//! where it has to be the last.
//!
//! # What holds
//!
//! All requests share one connection, over which Dovecot answers them in any order, so that a refusal that it holds
//! back is in nobody's way; two threads belong to it, which end when the last [`Dovecot`] and [`Exchange`] are
//! dropped. It is made anew every [minute](Settings::lifetime), if it is needed, and when it was lost: what was in
//! progress by then is `454 4.7.0`, and so is whatever is asked while there is no Dovecot. Nothing is waited for beyond
//! [`Settings::time_limit`]; where nothing at all came by then, the connection is given up.
//!
//! What a client can find out about the users is up to Dovecot: an unknown user, a wrong password and a user who may
//! not log in get the same reply, but Dovecot 2.3 refuses an unknown user of SCRAM before it challenges.
//!
//! Which mechanisms EHLO lists stays as it was when [`Dovecot::offer`] asked. [`Dovecot::offer_later`] is for a Dovecot that
//! may not be there yet.

mod authenticator;
mod client;
mod error;
mod escape;
mod exchange;
mod handshake;
mod line;
mod lines;
mod link;
mod mechanism;
mod names;
mod reply;
mod server;
mod settings;
mod stream;
mod verdict;

use std::sync::Arc;
use std::time::Instant;

use sansmtp::Auth;
use sansmtp::auth::{MechanismName, Policy};

pub use error::Error;
pub use exchange::Exchange;
pub use mechanism::Mechanism;
pub use settings::Settings;
pub use verdict::Login;

use server::Server;

/// Dovecot's authentication service. Clones share its connection.
#[derive(Clone, Debug)]
pub struct Dovecot {
    server: Arc<Server>,
}

impl Dovecot {
    /// Connects to Dovecot's socket at `path`, and learns which mechanisms there are: [`Settings::unix`] with nothing
    /// changed.
    ///
    /// # Errors
    ///
    /// [`Error`], where Dovecot cannot be asked at the moment.
    #[cfg(unix)]
    pub fn connect(path: impl Into<std::path::PathBuf>) -> Result<Self, Error> {
        Settings::unix(path).connect()
    }

    /// What Dovecot offers at the moment. Waits for a connection where there is none.
    ///
    /// # Errors
    ///
    /// [`Error`], where Dovecot cannot be asked at the moment.
    pub fn mechanisms(&self) -> Result<Vec<Mechanism>, Error> {
        let _place = self.server.enter()?;
        Ok(self.server.link(self.deadline())?.mechanisms().to_vec())
    }

    /// Offers in `auth` the mechanisms that Dovecot does, and leaves them to the AUTH handler hook, where an
    /// [`Exchange`] takes them.
    ///
    /// Those that show a password or a token need TLS, whatever [`Auth::require_tls`] says; a
    /// [policy](Auth::policy) set later says otherwise. EXTERNAL is offered to clients with a verified certificate,
    /// where [somebody can name them](Settings::name_certificates). Left out are those that are for Dovecot's own use,
    /// those that bind to a channel, and ANONYMOUS, which [`Auth::handler_mechanism`] offers all the same.
    ///
    /// # Errors
    ///
    /// [`Error`], where Dovecot cannot be asked at the moment.
    pub fn offer(&self, mut auth: Auth) -> Result<Auth, Error> {
        for mechanism in self.mechanisms()? {
            let (name, is_external) = (mechanism.name.as_str(), mechanism.name == "EXTERNAL");
            let has_names = self.server.settings().certificate_name.is_some();
            if !mechanism.is_for_clients() || is_external && !has_names {
                continue;
            }
            auth = auth.handler_mechanism(name);
            if mechanism.plaintext {
                auth = auth.policy(name, Policy::new().require_tls(true));
            } else if is_external {
                auth = auth.policy(name, Policy::new().require_client_certificate(true));
            }
        }
        Ok(auth)
    }

    /// Offers in `auth` what Dovecot will once it is there: of those that are in `auth` already and of [`NAMES`](Self::NAMES),
    /// EHLO lists those that Dovecot named when it was last connected to. Until it was for the first time, it lists those of
    /// `until_then`, whose logins are `454 4.7.0` for as long as Dovecot is away.
    ///
    /// Until then, EHLO makes it be tried, without waiting, once a second at most; and so does every login. What the password
    /// or a token is sent by needs TLS, as with [`offer`](Self::offer). This sets [`Auth::choose`].
    #[must_use]
    pub fn offer_later(&self, mut auth: Auth, until_then: &[&str]) -> Auth {
        let has_names = self.server.settings().certificate_name.is_some();
        for name in Self::NAMES {
            if name != "EXTERNAL" || has_names {
                auth = auth.handler_mechanism(name);
            }
        }
        for name in Self::NAMED_PLAINTEXT {
            auth = auth.policy(name, Policy::new().require_tls(true));
        }
        if has_names {
            auth = auth.policy("EXTERNAL", Policy::new().require_client_certificate(true));
        }
        let server = Arc::clone(&self.server);
        let until_then: Vec<_> = until_then.iter().map(|name| MechanismName::from(*name)).collect();
        auth.choose(move |_, name| match server.known_mechanisms() {
            Some(known) => known.iter().any(|known| known.name == name && known.is_for_clients()),
            None => until_then.contains(&name),
        })
    }

    /// The mechanisms of Dovecot that clients have a use for, in the order in which [`offer_later`](Self::offer_later) lists
    /// them.
    pub const NAMES: [&str; 12] = [
        "PLAIN",
        "LOGIN",
        "CRAM-MD5",
        "DIGEST-MD5",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "OAUTHBEARER",
        "XOAUTH2",
        "EXTERNAL",
        "GSSAPI",
        "GSS-SPNEGO",
        "NTLM",
    ];

    /// Those of them by which a password or a token is sent as it is.
    pub const NAMED_PLAINTEXT: [&str; 4] = ["PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"];

    /// Takes the AUTH commands of a connection, one after the other.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        Exchange::new(Arc::clone(&self.server))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.server.settings().time_limit
    }
}
