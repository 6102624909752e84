//! Where users are, as `--users` names it.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// One place where users are found.
///
/// Neither `Debug` nor `Display` shows what is secret, so that the value can go to logs and reports as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserSource {
    /// `passwd:FILE`: lines of `user:hash`.
    Passwd(PathBuf),
    /// `sqlite:FILE`, or a path alone.
    Sqlite(PathBuf),
}

/// Why a text names no place where users are. Never shows the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidSource {
    /// What is in front of the colon is nothing that is known.
    Kind,
    /// There is no file behind the colon, or no text at all.
    NoFile,
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
            Some(("sqlite", path)) => file(path.as_ref()).map(Self::Sqlite),
            Some(_) => Err(InvalidSource::Kind),
            None => file(text).map(Self::Sqlite),
        }
    }

    /// The file, for whoever keeps others beside it.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Passwd(path) | Self::Sqlite(path) => Some(path),
        }
    }
}

impl fmt::Display for UserSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passwd(path) => write!(f, "passwd:{}", path.display()),
            Self::Sqlite(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for InvalidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "users are in sqlite:FILE or in passwd:FILE; a path alone is SQLite's",
            Self::NoFile => "no file is named",
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
            ("passwd:", Err(InvalidSource::NoFile)),
            ("sqlite:", Err(InvalidSource::NoFile)),
            ("", Err(InvalidSource::NoFile)),
            ("mysql://me:hunter2@host", Err(InvalidSource::Kind)),
            ("SQLITE:x", Err(InvalidSource::Kind)),
        ] {
            assert_eq!(UserSource::parse(text.as_ref()), expected, "{text}");
        }
        let shown =
            ["mail.db", "sqlite:a", "passwd:b"].map(|text| UserSource::parse(text.as_ref()).unwrap().to_string());
        assert_eq!(shown, ["mail.db", "a", "passwd:b"]);
    }
}
