//! Which mechanisms a connection may use: what a mechanism needs by itself, and what the configuration
//! asks of it besides.

use core::fmt;

use crate::session::{Session, TlsVersion};

/// What a mechanism cannot do without, whatever the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// A client certificate that the TLS layer has verified.
    pub client_certificate: bool,
    /// Channel binding data of the TLS connection.
    pub channel_binding: bool,
    /// Random octets: [`Start::fill_random`](super::Start::fill_random).
    pub entropy: bool,
}

impl Needs {
    /// Nothing.
    pub const NOTHING: Self = Self { client_certificate: false, channel_binding: false, entropy: false };
    /// A verified client certificate.
    pub const CLIENT_CERTIFICATE: Self = Self { client_certificate: true, ..Self::NOTHING };
    /// Random octets.
    pub const ENTROPY: Self = Self { entropy: true, ..Self::NOTHING };
}

/// What the configuration asks of a connection before it may use a mechanism:
/// [`Auth::policy`](super::Auth::policy).
///
/// ```
/// use sansmtp::auth::{Auth, Policy};
/// use sansmtp::TlsVersion;
///
/// let auth = Auth::new()
///     // A printer knows LOGIN; nobody else should be tempted.
///     .policy("LOGIN", Policy::new().listed(false))
///     .policy("PLAIN", Policy::new().min_tls(TlsVersion::Tls1_3));
/// # let _ = auth;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Policy {
    require_tls: Option<bool>,
    min_tls: Option<TlsVersion>,
    client_certificate: bool,
    listed: bool,
}

impl Policy {
    /// What [`Auth::require_tls`](super::Auth::require_tls) says, and nothing more.
    pub const fn new() -> Self {
        Self { require_tls: None, min_tls: None, client_certificate: false, listed: true }
    }

    /// Whether the mechanism needs TLS, in place of what [`Auth::require_tls`](super::Auth::require_tls)
    /// says. Without it the mechanism is refused with `538 5.7.11`.
    pub const fn require_tls(mut self, required: bool) -> Self {
        self.require_tls = Some(required);
        self
    }

    /// The oldest version of TLS that will do; it implies TLS. With an older one the mechanism is refused
    /// with `538 5.7.11`.
    pub const fn min_tls(mut self, version: TlsVersion) -> Self {
        self.min_tls = Some(version);
        self
    }

    /// Whether the mechanism is for clients with a verified certificate only; to others it does not
    /// exist (`504 5.5.4`).
    pub const fn require_client_certificate(mut self, required: bool) -> Self {
        self.client_certificate = required;
        self
    }

    /// Whether EHLO lists the mechanism. One that is not listed still works.
    pub const fn listed(mut self, listed: bool) -> Self {
        self.listed = listed;
        self
    }

    pub(crate) fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether a connection in the clear will do.
    pub(crate) fn allows_clear(&self, require_tls: bool) -> bool {
        self.min_tls.is_none() && !self.require_tls.unwrap_or(require_tls)
    }

    /// What keeps `session` from a mechanism that needs `needs`.
    pub(crate) fn hides(&self, needs: Needs, require_tls: bool, session: &Session) -> Option<Hidden> {
        let tls = session.tls();
        let version = tls.map(|tls| tls.version);
        if version.is_none() && !self.allows_clear(require_tls) {
            Some(Hidden::NeedsTls)
        } else if self.min_tls.is_some_and(|least| version < Some(least)) {
            Some(Hidden::NeedsNewerTls)
        } else if (needs.client_certificate || self.client_certificate)
            && tls.is_none_or(|tls| tls.peer_certificates.is_empty())
        {
            Some(Hidden::NeedsClientCertificate)
        } else if needs.channel_binding && !tls.is_some_and(|tls| tls.has_channel_binding()) {
            Some(Hidden::NeedsChannelBinding)
        } else {
            None
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a mechanism cannot be used on a connection at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hidden {
    /// The configuration has no [`Auth`](super::Auth).
    AuthNotConfigured,
    /// The mechanism is not registered, or excluded.
    NotOffered,
    /// The client has not said EHLO.
    NoEhlo,
    /// The connection is not under TLS, and the mechanism requires it.
    NeedsTls,
    /// The connection's TLS is older than [`Policy::min_tls`].
    NeedsNewerTls,
    /// The client has shown no certificate, or none that was verified.
    NeedsClientCertificate,
    /// The TLS connection has no channel binding data.
    NeedsChannelBinding,
    /// [`Auth::choose`](super::Auth::choose) leaves the mechanism out on this connection.
    NotChosen,
    /// An AUTH has succeeded: RFC 4954, section 4 allows no second one.
    AuthenticatedAlready,
    /// A mail transaction is in progress.
    InTransaction,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuthNotConfigured => "the configuration offers no AUTH",
            Self::NotOffered => "the mechanism is not registered, or excluded",
            Self::NoEhlo => "the client has not said EHLO",
            Self::NeedsTls => "the connection is not under TLS, and the mechanism requires it",
            Self::NeedsNewerTls => "the mechanism requires a newer version of TLS",
            Self::NeedsClientCertificate => "the client has shown no verified certificate",
            Self::NeedsChannelBinding => "the TLS connection has no channel binding data",
            Self::NotChosen => "the session is not among those that the configuration chooses",
            Self::AuthenticatedAlready => "the client has authenticated already",
            Self::InTransaction => "a mail transaction is in progress",
        })
    }
}
