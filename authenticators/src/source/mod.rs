//! Where users are, as an option or a setting of a program names it in one word ([`UserSource`]), and all of them opened
//! together ([`Users`]).
//!
//! ```
//! use sansmtp_authenticators::source::UserSource;
//!
//! let source = UserSource::parse("ldaps://ldap.example.org/uid={user},dc=example,dc=org".as_ref()).unwrap();
//! assert!(source.is_remote());
//! assert_eq!(source.to_string(), "ldaps://ldap.example.org/uid={user},dc=example,dc=org");
//! let wrong = UserSource::parse("mysql://me:hunter2@db".as_ref()).unwrap_err();
//! assert!(!wrong.to_string().contains("hunter2"));
//! ```

mod jwks;
mod url;
mod users;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use jwks::{InvalidJwks, JwksSource};
pub use url::ServerUrl;
pub use users::{AddressUse, FirstUser, OpenError, Refresher, SaltKey, Users, UsersBuilder};

/// One place where users are found.
///
/// Neither `Debug` nor `Display` shows what is secret, so that the value can go to logs and reports as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever opens them must know what to do with each")]
pub enum UserSource {
    /// `dovecot:SOCKET`: Dovecot's auth service.
    Dovecot(PathBuf),
    /// `jwks:FILE?…`: nobody in particular, but tokens.
    Jwks(Box<JwksSource>),
    /// `ldap://…`, `ldaps://…`, `ldapi://…`: a directory.
    Ldap(DirectoryUrl),
    /// `passwd:FILE`: lines of `user:hash`.
    Passwd(PathBuf),
    /// `postgres://…`.
    Postgres(ServerUrl),
    /// `sqlite:FILE`, or a path alone.
    Sqlite(PathBuf),
}

/// The URL of a directory. What could be a password in it is not shown, although it would not be taken for one.
#[derive(Clone, PartialEq, Eq)]
pub struct DirectoryUrl(String);

/// Why a text names no place where users are. Never shows the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidSource {
    /// What follows `jwks:`.
    Jwks(InvalidJwks),
    /// What is in front of the colon is nothing that is known.
    Kind,
    /// There is no file behind the colon, or no text at all.
    NoFile,
    /// What is wrong with a URL.
    Url(String),
}

impl UserSource {
    /// Reads the text, of whose forms the variants tell.
    ///
    /// # Errors
    /// Where it names a kind of place that is not known.
    pub fn parse(text: &OsStr) -> Result<Self, InvalidSource> {
        let file = |path: &OsStr| {
            if path.is_empty() { Err(InvalidSource::NoFile) } else { Ok(PathBuf::from(path)) }
        };
        match text.to_str().and_then(kind) {
            Some(("dovecot", path)) => file(path.as_ref()).map(Self::Dovecot),
            Some((kind @ ("ldap" | "ldaps" | "ldapi"), rest)) if rest.starts_with("//") => {
                Ok(Self::Ldap(DirectoryUrl(format!("{kind}:{rest}"))))
            }
            Some(("jwks", text)) => JwksSource::parse(text).map(Box::new).map(Self::Jwks).map_err(InvalidSource::Jwks),
            Some(("passwd", path)) => file(path.as_ref()).map(Self::Passwd),
            Some(("postgres" | "postgresql", _)) => {
                let url = text.to_str().unwrap_or_default();
                ServerUrl::postgres(url).map(Self::Postgres).map_err(InvalidSource::Url)
            }
            Some(("sqlite", path)) => file(path.as_ref()).map(Self::Sqlite),
            Some(_) => Err(InvalidSource::Kind),
            None => file(text).map(Self::Sqlite),
        }
    }

    /// Whether a server is asked there.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Dovecot(_) | Self::Ldap(_) | Self::Postgres(_) => true,
            Self::Jwks(_) | Self::Passwd(_) | Self::Sqlite(_) => false,
        }
    }

    /// Whether it is an SQLite database that does not exist yet. An empty file is a first start that was interrupted; what
    /// cannot be looked at may be one.
    #[must_use]
    pub fn is_new_database(&self) -> bool {
        let Self::Sqlite(path) = self else { return false };
        match path.metadata() {
            Ok(metadata) => metadata.is_file() && metadata.len() == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// The file, for whoever keeps others beside it.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Dovecot(_) | Self::Ldap(_) => None,
            Self::Passwd(path) | Self::Sqlite(path) => Some(path),
            // It is the authorization server's.
            Self::Jwks(_) => None,
            Self::Postgres(_) => None,
        }
    }
}

impl DirectoryUrl {
    /// The whole of it, for whoever opens it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DirectoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.split('?').next().unwrap_or_default();
        let (scheme, _) = shown.split_once("//").unwrap_or_default();
        // A password may stand in front of an `@`, whatever characters it has.
        if self.0.contains('@') { write!(f, "{scheme}//...") } else { f.write_str(shown) }
    }
}

impl fmt::Debug for DirectoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for UserSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dovecot(path) => write!(f, "dovecot:{}", path.display()),
            Self::Ldap(url) => write!(f, "{url}"),
            Self::Jwks(source) => write!(f, "jwks:{}", source.file().display()),
            Self::Passwd(path) => write!(f, "passwd:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
            Self::Sqlite(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for InvalidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jwks(error) => error.fmt(f),
            Self::Kind => f.write_str(
                "users are in sqlite:FILE, passwd:FILE, jwks:FILE?…, dovecot:SOCKET, or at ldap://HOST/DN or \
                 postgres://HOST/DATABASE; a path alone is SQLite's",
            ),
            Self::NoFile => {
                f.write_str("no file is named, as in sqlite:mail.db, passwd:users or dovecot:/run/dovecot/auth-client")
            }
            Self::Url(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for InvalidSource {}

/// What is in front of the first colon, and behind it. None where it is a part of a path.
fn kind(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = text.split_once(':')?;
    // "C:\mail.db" has a single letter there.
    let word = kind.len() > 1 && kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'+');
    word.then_some((kind, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_alone_is_sqlite_s() {
        let sqlite = |path: &str| Ok(UserSource::Sqlite(path.into()));
        for (text, expected) in [
            ("mail.db", sqlite("mail.db")),
            ("/var/lib/mail.db", sqlite("/var/lib/mail.db")),
            ("./passwd:x", sqlite("./passwd:x")),
            ("C:\\mail.db", sqlite("C:\\mail.db")),
            ("sqlite:mail.db", sqlite("mail.db")),
            ("sqlite:/a:b", sqlite("/a:b")),
            ("sqlite:passwd:x", sqlite("passwd:x")),
            ("passwd:/etc/mail/users", Ok(UserSource::Passwd("/etc/mail/users".into()))),
            ("dovecot:/run/dovecot/auth-client", Ok(UserSource::Dovecot("/run/dovecot/auth-client".into()))),
            ("dovecot:", Err(InvalidSource::NoFile)),
            (
                "postgres://h/x?y=1",
                Err(InvalidSource::Url("the URL's parameter \"y\" is unknown, or there twice".to_owned())),
            ),
            ("passwd:", Err(InvalidSource::NoFile)),
            ("jwks:keys.json", Err(InvalidSource::Jwks(InvalidJwks::Missing("issuer")))),
            ("sqlite:", Err(InvalidSource::NoFile)),
            ("", Err(InvalidSource::NoFile)),
            ("ldapi:/run/ldapi", Err(InvalidSource::Kind)),
            ("mysql://me:hunter2@host", Err(InvalidSource::Kind)),
            ("SQLITE:x", Err(InvalidSource::Kind)),
        ] {
            assert_eq!(UserSource::parse(text.as_ref()), expected, "{text}");
        }
        let url = "postgres://me:hunter2@h/mail";
        let postgres = UserSource::parse(url.as_ref()).unwrap();
        assert_eq!(format!("{postgres} {postgres:?}"), "postgres://h:5432 Postgres(ServerUrl(postgres://h:5432))");
        let UserSource::Postgres(parsed) = &postgres else { panic!("{postgres}") };
        assert_eq!((parsed.expose_secret(), postgres.file()), (url, None));
        let shown = ["mail.db", "sqlite:a", "passwd:b", "dovecot:c", "jwks:c?issuer=d&audience=e"]
            .map(|text| UserSource::parse(text.as_ref()).unwrap().to_string());
        assert_eq!(shown, ["mail.db", "a", "passwd:b", "dovecot:c", "jwks:c"]);
    }

    #[test]
    fn a_directory_is_shown_without_what_may_be_secret() {
        for (text, shown) in [
            ("ldap://a,b:1389/uid={user},dc=org", "ldap://a,b:1389/uid={user},dc=org"),
            ("ldaps://a/dc=org?uid??(uid={user})?bindname=cn=c,x-bindpw=hunter2", "ldaps://a/dc=org"),
            ("ldapi://%2Frun%2Fldapi/dc=org", "ldapi://%2Frun%2Fldapi/dc=org"),
            ("ldap://me:hunter2@a/dc=org", "ldap://..."),
            ("ldap://me:hunter2/?@a/dc=org", "ldap://..."),
        ] {
            let source = UserSource::parse(text.as_ref()).unwrap();
            assert!(matches!(&source, UserSource::Ldap(url) if url.expose() == text), "{text}");
            assert_eq!((source.to_string(), format!("{source:?}")), (shown.to_owned(), format!("Ldap(\"{shown}\")")));
        }
    }
}
