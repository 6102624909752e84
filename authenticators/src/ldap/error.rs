//! What is wrong with the settings.

use std::{fmt, io};

use crate::tls_client::InvalidRoots;

/// What is wrong with the settings of [`Ldap`](super::Ldap). No secret is in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum LdapError {
    /// The base of the search is no distinguished name (RFC 4514).
    Base(String),
    /// The server would be sent passwords in the clear, and
    /// [`allow_cleartext`](super::LdapBuilder::allow_cleartext) does not say that it may.
    Cleartext(String),
    /// The template of a distinguished name is none, or has no `{user}` in a value.
    Dn(String),
    /// The URL's extension says nothing that is known (RFC 4516, section 2); its name.
    Extension(String),
    /// The URL's extension wants a value, or has one that it cannot have; its name.
    ExtensionValue(String),
    /// The search filter is none (RFC 4515), or has no `{user}` in a value.
    Filter(String),
    /// The limit may not be zero; its name.
    Limit(&'static str),
    /// What is to become the login is no attribute's type.
    LoginAttribute(String),
    /// What is to have the addresses is no attribute's type.
    MailAttribute(String),
    /// No server is named.
    NoServer,
    /// The distinguished name of nobody, or of the service account, is none; which.
    NotDn(&'static str),
    /// The service account has no password, or an empty one: the server would take it for anonymous (RFC 4513,
    /// section 5.1.2).
    NoPassword,
    /// The file or the variable with the service account's password cannot be read.
    Password {
        /// Which file or variable.
        from: String,
        /// Why.
        error: io::Error,
    },
    /// The URL holds a user or a password, which everybody sees in the list of processes.
    PasswordInUrl,
    /// No server's certificate could be verified.
    Roots(InvalidRoots),
    /// The setting is one of a search, and this is none; its name.
    SearchOnly(&'static str),
    /// The server is no `ldap://host[:port]`, `ldaps://host[:port]` or, with its path percent-encoded, `ldapi://path`.
    Server(String),
    /// The thread that talks to the servers cannot be started.
    Thread(io::Error),
    /// The URL is no LDAP URL (RFC 4516); which part of it.
    Url(&'static str),
}

impl fmt::Display for LdapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(base) => write!(f, "the search base {base:?} is no distinguished name"),
            Self::Cleartext(server) => {
                write!(f, "passwords would be sent to {server} in the clear, which is not allowed unless asked for")
            }
            Self::Dn(dn) => write!(f, "{dn:?} is no distinguished name with {{user}} in a value"),
            Self::Extension(name) => write!(f, "there is no extension {name:?} of the URL"),
            Self::ExtensionValue(name) => write!(f, "the extension {name:?} of the URL has no value that fits"),
            Self::Filter(filter) => write!(f, "{filter:?} is no search filter with {{user}} in a value"),
            Self::Limit(name) => write!(f, "{name} may not be zero"),
            Self::LoginAttribute(name) => write!(f, "the login attribute {name:?} is no attribute"),
            Self::MailAttribute(name) => write!(f, "the mail attribute {name:?} is no attribute"),
            Self::NoServer => f.write_str("no server is named"),
            Self::NotDn(setting) => write!(f, "the {setting} is no distinguished name"),
            Self::NoPassword => f.write_str("the service account has no password"),
            Self::Password { from, error } => {
                write!(f, "cannot read the service account's password from {from}: {error}")
            }
            Self::PasswordInUrl => f.write_str(
                "a password in the URL can be seen by everybody: name a file by x-bindpw-file or a variable by \
                 x-bindpw-env",
            ),
            Self::Roots(error) => error.fmt(f),
            Self::SearchOnly(setting) => write!(f, "{setting} is for a search, but users are found by a template"),
            Self::Server(server) => {
                write!(f, "{server:?} is no ldap://host[:port], ldaps://host[:port] or ldapi://path")
            }
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Url(part) => write!(f, "the URL's {part} cannot be read"),
        }
    }
}

impl std::error::Error for LdapError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Password { error, .. } | Self::Thread(error) => Some(error),
            Self::Roots(error) => Some(error),
            Self::Base(_)
            | Self::Cleartext(_)
            | Self::Dn(_)
            | Self::Extension(_)
            | Self::ExtensionValue(_)
            | Self::Filter(_)
            | Self::Limit(_)
            | Self::LoginAttribute(_)
            | Self::MailAttribute(_)
            | Self::NoServer
            | Self::NotDn(_)
            | Self::NoPassword
            | Self::PasswordInUrl
            | Self::SearchOnly(_)
            | Self::Server(_)
            | Self::Url(_) => None,
        }
    }
}
