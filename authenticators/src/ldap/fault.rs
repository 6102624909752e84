//! Why a server's answer is not to be had. No name and no secret is in it.

use std::{fmt, io};

/// Why the directory cannot tell.
#[derive(Debug)]
pub(super) enum Fault {
    /// There was no time left for this.
    TimedOut(&'static str),
    Connect(io::Error),
    /// The server does not do StartTLS.
    StartTls(ResultCode),
    /// What came in the place of the answer to StartTLS is none.
    StartTlsResponse,
    /// The service account cannot bind.
    Account(ResultCode),
    Bind(ResultCode),
    Search(ResultCode),
    /// The server has closed the connection.
    Closed,
    /// The entry that was found has no name: to bind with none is to be anonymous (RFC 4513, section 5.1.1).
    NoName,
    /// The entry that was found has no login, or not one.
    Login(&'static str),
    Ldap(ldap3::LdapError),
}

/// A fault, and the server that has it, if it is a server's.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) server: Option<String>,
    pub(super) fault: Fault,
}

impl Fault {
    /// Whether the server takes no such bind of anybody, whatever the entry: authMethodNotSupported,
    /// strongerAuthRequired, confidentialityRequired (RFC 4511, section A.2).
    pub(super) fn is_of_every_bind(&self) -> bool {
        matches!(self, Self::Bind(ResultCode(7 | 8 | 13)))
    }
}

impl Failure {
    pub(super) fn log(&self, what: &str) {
        tracing::warn!(server = self.server.as_deref(), fault = %self.fault, "{what}");
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { server: None, fault }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(what) => write!(f, "{what} took too long"),
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::StartTls(code) => write!(f, "StartTLS was refused: {code}"),
            Self::StartTlsResponse => f.write_str("no answer to StartTLS came"),
            Self::Account(code) => write!(f, "the service account cannot bind: {code}"),
            Self::Bind(code) => write!(f, "the bind was answered {code}"),
            Self::Search(code) => write!(f, "the search was answered {code}"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::NoName => f.write_str("the entry found has no name"),
            Self::Login(what) => write!(f, "the entry found has {what} the login attribute"),
            Self::Ldap(error) => write!(f, "{error}"),
        }
    }
}

impl From<ldap3::LdapError> for Fault {
    fn from(error: ldap3::LdapError) -> Self {
        use ldap3::LdapError::{EndOfStream, IdScrubSend, Io, OpSend, ResultRecv};
        if matches!(error, OpSend { .. } | ResultRecv { .. } | IdScrubSend { .. } | EndOfStream) {
            Self::Closed
        } else if let Io { source } = error {
            Self::Connect(source)
        } else {
            Self::Ldap(error)
        }
    }
}

/// A result code of RFC 4511, section 4.1.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResultCode(pub(super) u32);

impl ResultCode {
    pub(super) const SUCCESS: Self = Self(0);
    pub(super) const SIZE_LIMIT_EXCEEDED: Self = Self(4);
    pub(super) const CONSTRAINT_VIOLATION: Self = Self(19);
    pub(super) const NO_SUCH_OBJECT: Self = Self(32);
    pub(super) const INVALID_DN_SYNTAX: Self = Self(34);
    pub(super) const INAPPROPRIATE_AUTHENTICATION: Self = Self(48);
    pub(super) const INVALID_CREDENTIALS: Self = Self(49);
    pub(super) const UNWILLING_TO_PERFORM: Self = Self(53);
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(code, _)| *code == self.0).map_or("unknown", |(_, name)| name);
        write!(f, "{name} ({})", self.0)
    }
}

const NAMES: [(u32, &str); 25] = [
    (0, "success"),
    (1, "operationsError"),
    (2, "protocolError"),
    (3, "timeLimitExceeded"),
    (4, "sizeLimitExceeded"),
    (7, "authMethodNotSupported"),
    (8, "strongerAuthRequired"),
    (10, "referral"),
    (11, "adminLimitExceeded"),
    (12, "unavailableCriticalExtension"),
    (13, "confidentialityRequired"),
    (14, "saslBindInProgress"),
    (18, "inappropriateMatching"),
    (19, "constraintViolation"),
    (32, "noSuchObject"),
    (33, "aliasProblem"),
    (34, "invalidDNSyntax"),
    (48, "inappropriateAuthentication"),
    (49, "invalidCredentials"),
    (50, "insufficientAccessRights"),
    (51, "busy"),
    (52, "unavailable"),
    (53, "unwillingToPerform"),
    (71, "affectsMultipleDSAs"),
    (80, "other"),
];
