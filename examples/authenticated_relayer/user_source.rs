//! Where users are, as `--users` names it.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::server_url::ServerUrl;

/// One place where users are found.
///
/// Neither `Debug` nor `Display` shows what is secret, so that the value can go to logs and reports as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserSource {
    /// `passwd:FILE`: lines of `user:hash`.
    Passwd(PathBuf),
    /// `postgres://…`.
    Postgres(ServerUrl),
    /// `sqlite:FILE`, or a path alone.
    Sqlite(PathBuf),
}

/// Why a text names no place where users are. Never shows the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InvalidSource {
    /// What is in front of the colon is nothing that is known.
    Kind,
    /// There is no file behind the colon, or no text at all.
    NoFile,
    /// What is wrong with a URL.
    Url(String),
}

impl UserSource {
    /// Reads the value of `--users`.
    ///
    /// # Errors
    /// Where it names a kind of place that is not known.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, InvalidSource> {
        let file = |path: &OsStr| {
            if path.is_empty() { Err(InvalidSource::NoFile) } else { Ok(PathBuf::from(path)) }
        };
        match text.to_str().and_then(kind) {
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

    /// The file, for whoever keeps others beside it.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Passwd(path) | Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl fmt::Display for UserSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passwd(path) => write!(f, "passwd:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
            Self::Sqlite(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for InvalidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "users are in sqlite:FILE, passwd:FILE or postgres://HOST/DATABASE; a path alone is SQLite's",
            Self::NoFile => "no file is named",
            Self::Url(error) => error,
        })
    }
}

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
            (
                "postgres://h/x?y=1",
                Err(InvalidSource::Url("the URL's parameter \"y\" is unknown, or there twice".to_owned())),
            ),
            ("passwd:", Err(InvalidSource::NoFile)),
            ("sqlite:", Err(InvalidSource::NoFile)),
            ("", Err(InvalidSource::NoFile)),
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
        let shown =
            ["mail.db", "sqlite:a", "passwd:b"].map(|text| UserSource::parse(text.as_ref()).unwrap().to_string());
        assert_eq!(shown, ["mail.db", "a", "passwd:b"]);
    }
}
