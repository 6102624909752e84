//! What is wrong with a configuration.

use core::fmt;

use crate::auth::MechanismName;

/// Why a configuration cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The host name is neither a domain nor an address literal.
    Hostname,
    /// The banner holds something other than printable ASCII, or makes the greeting too long.
    Banner,
    /// A mechanism has a name that RFC 4422 does not allow.
    MechanismName(MechanismName),
    /// A policy names a mechanism that is not offered.
    PolicyForNothing(MechanismName),
    /// There are more than 32 mechanisms.
    TooManyMechanisms,
    /// A mechanism needs random octets, and the entropy function gives none.
    NoEntropy,
    /// A verb that is open to everybody is not 1 to 32 letters, digits and hyphens, or is one of the engine's.
    OpenVerb,
    /// Every mechanism is excluded: AUTH could never be offered.
    NoMechanism,
    /// BINARYMIME is for BDAT, which CHUNKING offers.
    BinaryMimeWithoutChunking,
    /// FUTURERELEASE holds for 1 to 999,999,999 seconds, until a time in UTC.
    FutureRelease,
    /// AUTH requires TLS, and there is none: AUTH could never be offered.
    AuthNeedsTls,
    /// Authentication is required, and AUTH is not configured: no mail could ever be sent.
    AuthRequiredButAbsent,
    /// TLS is required, and there is none.
    TlsRequiredButImpossible,
    /// A limit or timeout of zero would refuse everything.
    ZeroLimit(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname => f.write_str("hostname: neither a domain nor an address literal"),
            Self::Banner => f.write_str("banner: not printable ASCII, or too long for a greeting of 512 octets"),
            Self::MechanismName(name) => {
                write!(f, "auth: {name:?} is no mechanism name (1 to 20 of A-Z, 0-9, hyphen, underscore)")
            }
            Self::PolicyForNothing(name) => {
                write!(f, "auth: a policy is for {name:?}, which is not among the mechanisms")
            }
            Self::TooManyMechanisms => f.write_str("auth: there are more than 32 mechanisms"),
            Self::NoEntropy => f.write_str("entropy: none is to be had, and a mechanism of auth needs it"),
            Self::OpenVerb => f.write_str(
                "open_verb: takes 1 to 32 letters, digits and hyphens, and no command that the engine carries out itself",
            ),
            Self::NoMechanism => f.write_str("auth: no mechanism is left, so AUTH could never be offered"),
            Self::BinaryMimeWithoutChunking => f.write_str("extensions: binarymime needs chunking"),
            Self::FutureRelease => f.write_str(
                "extensions: future_release takes 1 to 999999999 seconds and a time such as 2030-01-01T00:00:00Z",
            ),
            Self::AuthNeedsTls => f.write_str(
                "auth: require_tls holds, but neither starttls nor implicit_tls is set, so AUTH could never be offered",
            ),
            Self::AuthRequiredButAbsent => f.write_str("auth_required: needs auth to be configured"),
            Self::TlsRequiredButImpossible => f.write_str("tls_required: needs starttls or implicit_tls"),
            Self::ZeroLimit(name) => write!(f, "{name}: must not be zero"),
        }
    }
}

impl core::error::Error for ConfigError {}
