//! What a relay is logged in at with, and where that comes from.

mod command;
mod file;
mod redact;

use std::fmt;
use std::path::PathBuf;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use self::command::TokenCommand;
pub(crate) use self::file::{SecretFile, read_first_line, text_of};
use crate::sasl::{SaslMechanism, SecretKind};

/// What this program logs in with at a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The login name.
    pub authcid: String,
    /// Its password, or a token for it.
    pub secret: SecretSource,
    /// The only mechanism to use, whatever the server lists. Otherwise the strongest that it lists and that the secret
    /// can be used with: SCRAM, then PLAIN, LOGIN and CRAM-MD5; OAUTHBEARER and XOAUTH2 for a token, and for a password
    /// where nothing else is listed.
    pub mechanism: Option<SaslMechanism>,
}

/// Where a password or a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretSource {
    /// The password itself.
    Password(Password),
    /// The first line of a file, read for each session: a new password needs no restart.
    PasswordFile(PathBuf),
    /// The token itself (OAuth 2.0).
    Token(Password),
    /// A command that prints a token.
    TokenCommand(TokenCommand),
    /// The first line of a file, read for each session: whatever renews the token writes it there.
    TokenFile(PathBuf),
}

/// A password that `Debug` does not show and that is wiped from memory when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// Why there is no password or token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read.
    File(PathBuf, std::io::ErrorKind),
    /// There is nothing in the first line of the file, or in the environment variable of that name.
    Empty(String),
    /// It is not UTF-8, or has a NUL or another control character.
    NotText,
    /// The command cannot be started.
    CommandStart(std::io::ErrorKind),
    /// The command has failed, with this exit status unless a signal has ended it.
    CommandFailed(Option<i32>),
    /// The command has not ended within 30 seconds.
    CommandTimeout,
    /// The command has printed more than 64 KiB.
    CommandOutput,
    /// The first line that the command has printed is empty.
    CommandEmpty,
}

/// A password or a token, for one session.
#[derive(Clone)]
pub(crate) struct Secret {
    text: Zeroizing<String>,
    /// Whether it is a token that was used before, which may have come to the end of its time.
    is_kept: bool,
}

impl Credentials {
    /// The password or token to log in with now. Files are read, and commands run, on threads that may wait.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) async fn secret(&self) -> Result<Secret, SecretError> {
        match &self.secret {
            SecretSource::Password(secret) | SecretSource::Token(secret) => Ok(Secret::fresh(secret.0.clone())),
            SecretSource::PasswordFile(path) | SecretSource::TokenFile(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_first_line(&path)).await;
                // It does not panic, and is not cancelled.
                read.unwrap_or(Err(SecretError::NotText)).map(Secret::fresh)
            }
            SecretSource::TokenCommand(command) => command.token().await,
        }
    }

    /// Takes note that the server has refused a secret. Says whether it may have been too old, so that another one is
    /// worth a try.
    pub(crate) async fn refused(&self, secret: &Secret) -> bool {
        if let SecretSource::TokenCommand(command) = &self.secret {
            command.forget(secret).await;
        }
        secret.is_kept
    }

    pub(crate) fn kind(&self) -> SecretKind {
        match self.secret {
            SecretSource::Password(_) | SecretSource::PasswordFile(_) => SecretKind::Password,
            SecretSource::Token(_) | SecretSource::TokenCommand(_) | SecretSource::TokenFile(_) => SecretKind::Token,
        }
    }
}

impl Password {
    /// Shows the password to the code that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<Zeroizing<String>> for Password {
    fn from(password: Zeroizing<String>) -> Self {
        Self(password)
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Secret {
    fn fresh(text: Zeroizing<String>) -> Self {
        Self { text, is_kept: false }
    }

    pub(crate) fn expose(&self) -> &str {
        &self.text
    }

    fn is_same(&self, text: &str) -> bool {
        self.text.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Empty(name) => write!(f, "there is no password or token in {name}"),
            Self::NotText => f.write_str("the password or token must be UTF-8 without NUL"),
            Self::CommandStart(error) => write!(f, "the token command cannot be started: {error}"),
            Self::CommandFailed(Some(status)) => write!(f, "the token command has failed with exit status {status}"),
            Self::CommandFailed(None) => f.write_str("a signal has ended the token command"),
            Self::CommandTimeout => f.write_str("the token command did not end in time"),
            Self::CommandOutput => f.write_str("the token command prints more than a token"),
            Self::CommandEmpty => f.write_str("the first line of what the token command prints is empty"),
        }
    }
}

impl std::error::Error for SecretError {}
