//! LDAP directories (RFC 4511): a password is right if the server takes it in a simple bind.
//!
//! The user's entry is either named by a template, or searched for by a filter:
//!
//! ```no_run
//! use sansmtp::Secret;
//! use sansmtp_authenticators::ldap::Ldap;
//!
//! // As whom to bind follows from the name.
//! let users = Ldap::bind("uid={user},ou=people,dc=example,dc=org").server("ldaps://ldap.example.org").build()?;
//!
//! // The one entry that fits is looked for first: by two attributes, and in a group that may send mail.
//! let filter = "(&(objectClass=person)(memberOf=cn=mail,ou=groups,dc=example,dc=org)(|(uid={user})(mail={user})))";
//! let users = Ldap::search("ou=people,dc=example,dc=org", filter)
//!     .server("ldap://ldap1.example.org")
//!     .server("ldap://ldap2.example.org")
//!     .service_account("cn=smtp,ou=services,dc=example,dc=org", Secret::new(std::fs::read("/etc/smtp/ldap.secret")?))
//!     .login_attribute("uid")
//!     .build()?;
//!
//! // The same as a URL.
//! let users = Ldap::from_url(
//!     "ldap://ldap1.example.org,ldap2.example.org/ou=people,dc=example,dc=org?uid?sub\
//!      ?(%26(objectClass=person)(memberOf=cn=mail,ou=groups,dc=example,dc=org)(%7C(uid=%7Buser%7D)(mail=%7Buser%7D)))\
//!      ?bindname=cn=smtp%2Cou=services%2Cdc=example%2Cdc=org,x-bindpw-file=/etc/smtp/ldap.secret",
//! )?;
//! # let _ = users;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Mechanisms
//!
//! A server checks a password, and shows nothing of it. So only mechanisms that bring the password itself, PLAIN and
//! LOGIN, have an answer; to all others it is [`AuthResult::cannot_tell`]. Clients choose SCRAM where it is offered, so
//! it must not be:
//!
//! ```
//! use sansmtp::Auth;
//!
//! let auth = Auth::new().exclude("SCRAM-SHA-256");
//! # let _ = auth;
//! ```
//!
//! and no other of them may be added.
//!
//! # TLS
//!
//! Nothing is sent in the clear unless [`LdapBuilder::allow_cleartext`] says that it may: `ldap://` begins with
//! StartTLS, and a server that does not do it is not used. Certificates are verified, and have to name the host as the
//! URL does. A unix socket (`ldapi://`) needs no TLS.
//!
//! # Who is refused
//!
//! Whom the server refuses by `invalidCredentials`, `noSuchObject` or `inappropriateAuthentication`, whom no entry or
//! more than one fits (a warning tells of the latter), and whom the server says to be disabled, locked or expired, by
//! the password policy control or as Active Directory and 389 Directory Server do. Any other result is a fault,
//! `454 4.7.0`. Accounts that are disabled by an attribute are left out by the filter. References to other servers are
//! not followed: one would get the password.
//!
//! An empty password is refused without asking: servers take it for anonymous, and say yes (RFC 4513, section 5.1.2).
//!
//! # Which password
//!
//! A directory compares what is sent, and most compare it with what was typed. So the password is tried as the client
//! sent it, and where SASLprep makes another one of it, and the first was refused, prepared: two binds at the most, as
//! many for an unknown user as for a wrong password. A server that locks accounts counts both.
//!
//! # Time
//!
//! Where a search finds nobody, the entry of [`LdapBuilder::nobody`] is read and the password tried on it, and where it
//! finds somebody, an entry that there is not is looked for: an unknown user takes as many steps as a wrong password. What
//! is left is in the server's hands: how long it looks for one filter and for another, and that it has no hash to compare
//! if that entry is none with a password. A template's binds are the server's alone.
//!
//! # In a chain
//!
//! A search knows who there is, so that a [`Chain`](crate::Chain) asks others for the rest. A template does not, and a
//! server hardly ever tells a wrong password from an unknown user: with one it can only be the last.
//!
//! # Secrets
//!
//! Logs and errors hold no password, nor, from the level of warnings on, a user's name. `ldap3` does not overwrite its
//! own copy of a password that it has sent.

use std::fmt;
use std::time::Duration;

use sansmtp::auth::{AuthQuestion, Refusal};
use sansmtp::{AuthRequest, AuthResult, Secret};
use tokio::time::Instant;

use crate::limit::Limit;
use crate::{Authenticator, Knows, LoginAddresses};

mod addresses;
mod builder;
mod directory;
mod error;
mod fault;
mod pool;
mod server;
mod start_tls;
mod template;
mod url;
mod worker;

pub use builder::{LdapBuilder, LdapScope};
pub use error::LdapError;

use builder::FoundBy;
use directory::{Directory, Verdict};
use fault::Failure;
use worker::{NoAnswer, Worker};

/// Asks LDAP servers. See the [module](self).
///
/// Has a thread of its own, which ends when this is dropped.
pub struct Ldap {
    worker: Worker,
    time_limit: Duration,
    waiting: Limit,
}

impl Ldap {
    /// Binds as the entry of this distinguished name (RFC 4514), with `{user}` where the user's name goes, which is
    /// escaped.
    pub fn bind(dn: impl Into<String>) -> LdapBuilder {
        LdapBuilder::new(FoundBy::Template(dn.into()))
    }

    /// Searches below this base for the one entry that fits this filter (RFC 4515), with `{user}` where the user's name
    /// goes, which is escaped; then binds as that entry, on another connection.
    pub fn search(base: impl Into<String>, filter: impl Into<String>) -> LdapBuilder {
        LdapBuilder::new(FoundBy::Search { base: base.into(), filter: filter.into() })
    }

    /// Reads a URL, as [`LdapBuilder::from_url`] does, and has everything else as it is unless set.
    ///
    /// # Errors
    ///
    /// [`LdapError`] says which setting is wrong, and why.
    pub fn from_url(url: &str) -> Result<Self, LdapError> {
        LdapBuilder::from_url(url)?.build()
    }

    /// What comes of a question to the directory; `None`, after a line in the log, where it cannot tell.
    fn ask<T, F>(&self, question: impl FnOnce(std::sync::Arc<Directory>, Instant) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let _place = self.waiting.enter()?;
        let until = Instant::now().checked_add(self.time_limit);
        let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        match self.worker.ask(self.time_limit.saturating_add(GRACE), |directory| question(directory, until)) {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(failure)) => {
                failure.log("LDAP cannot tell");
                None
            }
            Err(NoAnswer::Late) => {
                tracing::warn!("LDAP cannot tell: its thread is stuck");
                None
            }
            Err(NoAnswer::Panicked) => {
                tracing::warn!("LDAP cannot tell: a server's answer cannot be understood");
                None
            }
        }
    }
}

impl Authenticator for Ldap {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let AuthQuestion::Password(password) = request.question() else {
            tracing::warn!(mechanism = %request.mechanism(), "LDAP has no answer for this mechanism: exclude it");
            return AuthResult::cannot_tell();
        };
        let user = request.credentials().authcid().to_owned();
        if user.is_empty() {
            return AuthResult::refuse_because(Refusal::UnknownUser);
        }
        let forms = password.forms().map(|form| Secret::from(form.expose_secret())).collect();
        match self.ask(|directory, until| async move { directory.check(&user, forms, until).await }) {
            Some(Verdict::Accept { login, addresses }) => {
                let accepted = login.map_or_else(AuthResult::accept, |login| AuthResult::accept().with_login(login));
                match addresses {
                    Some(addresses) => accepted.with_auth_data(addresses.into_iter().collect::<LoginAddresses>()),
                    None => accepted,
                }
            }
            Some(Verdict::Refuse(refusal)) => AuthResult::refuse_because(refusal),
            None => AuthResult::cannot_tell(),
        }
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        use AuthQuestion::{Anonymous, BearerToken, ClientCertificate};
        if matches!(request.question(), BearerToken(_) | ClientCertificate(_) | Anonymous(_)) {
            return Knows::No;
        }
        let user = request.credentials().authcid().to_owned();
        if user.is_empty() {
            return Knows::No;
        }
        match self.ask(|directory, until| async move { directory.knows(&user, until).await }) {
            Some(Some(true)) => Knows::Yes,
            Some(Some(false)) => Knows::No,
            Some(None) => Knows::WhenAsked,
            None => Knows::CannotTell,
        }
    }
}

impl fmt::Debug for Ldap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ldap").field("time_limit", &self.time_limit).finish_non_exhaustive()
    }
}

/// The limits are kept by whoever is asked; this is for the case that they cannot.
const GRACE: Duration = Duration::from_millis(500);
