//! One login: the client's messages, whatever the mechanism.

use std::fmt;

use zeroize::Zeroizing;

use super::mechanism::SaslMechanism;
use super::scram::{Hash, Scram};
use super::{bearer, cram_md5};

/// A login at a next hop: the identity, its secret, and the server.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) authcid: &'a str,
    /// A password or a token.
    pub(crate) secret: &'a str,
    /// The server's name and port, which OAUTHBEARER tells.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
}

/// Data of `tls-exporter` (RFC 9266).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Binding(pub(crate) Zeroizing<Vec<u8>>);

/// One exchange.
pub(crate) struct Exchange {
    kind: Kind,
    /// What the server said of a token or a proof that it does not take.
    refusal: Option<String>,
}

enum Kind {
    CramMd5 {
        authcid: String,
        password: Zeroizing<String>,
    },
    /// The messages that are left.
    Login {
        messages: std::vec::IntoIter<Zeroizing<Vec<u8>>>,
    },
    /// PLAIN, and what carries a token: one message says all. The other answers what a server says of a token that
    /// it does not take.
    Single {
        message: Zeroizing<Vec<u8>>,
        after_refusal: Option<&'static [u8]>,
        is_sent: bool,
    },
    Scram(Box<Scram>),
}

/// Why an exchange cannot go on, apart from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    /// A challenge is none of the mechanism's.
    Challenge,
    /// SCRAM's iterations are too few to be safe, or too many to be done.
    Iterations(u32),
    /// The server does not know the password: it is another one than it seems to be.
    ServerSignature,
    /// The TLS session has no data to bind to, or there is no TLS.
    NoBinding,
    /// The operating system gives no random octets.
    NoEntropy,
}

impl Exchange {
    /// Prepares an exchange.
    ///
    /// # Errors
    /// Where the mechanism needs what there is not.
    pub(crate) fn new(
        mechanism: SaslMechanism,
        login: &Login<'_>,
        binding: Option<Binding>,
    ) -> Result<Self, ExchangeError> {
        let secret = || Zeroizing::new(login.secret.to_owned());
        let scram = |hash| {
            let binding = if mechanism.binds() { Some(binding.ok_or(ExchangeError::NoBinding)?) } else { None };
            Ok(Kind::Scram(Box::new(Scram::new(hash, binding, login.authcid, secret(), nonce()?))))
        };
        let single = |message, after_refusal| Kind::Single { message, after_refusal, is_sent: false };
        let kind = match mechanism {
            SaslMechanism::CramMd5 => Kind::CramMd5 { authcid: login.authcid.to_owned(), password: secret() },
            SaslMechanism::Login => {
                let messages = [login.authcid, login.secret].map(|text| Zeroizing::new(text.as_bytes().to_vec()));
                Kind::Login { messages: Vec::from(messages).into_iter() }
            }
            SaslMechanism::Plain => {
                let parts = [b"\0", login.authcid.as_bytes(), b"\0", login.secret.as_bytes()];
                single(Zeroizing::new(parts.concat()), None)
            }
            // RFC 7628, section 3.2.3.
            SaslMechanism::OAuthBearer => single(bearer::oauth_bearer(login), Some(b"\x01")),
            SaslMechanism::XOAuth2 => single(bearer::xoauth2(login), Some(b"")),
            SaslMechanism::ScramSha1 | SaslMechanism::ScramSha1Plus => scram(Hash::Sha1)?,
            SaslMechanism::ScramSha256 | SaslMechanism::ScramSha256Plus => scram(Hash::Sha256)?,
            SaslMechanism::ScramSha512 | SaslMechanism::ScramSha512Plus => scram(Hash::Sha512)?,
        };
        Ok(Self { kind, refusal: None })
    }

    /// The initial response (RFC 4954, section 4), if the client speaks first.
    pub(crate) fn initial_response(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        match &mut self.kind {
            Kind::CramMd5 { .. } | Kind::Login { .. } => None,
            Kind::Single { message, is_sent, .. } => {
                *is_sent = true;
                Some(std::mem::take(message))
            }
            Kind::Scram(scram) => Some(scram.first()),
        }
    }

    /// Answers a challenge. With SCRAM this can take a second.
    ///
    /// # Errors
    /// Where it is none of the mechanism's, or shows that the server is not the right one.
    pub(crate) fn respond(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, ExchangeError> {
        match &mut self.kind {
            Kind::CramMd5 { authcid, password } if !password.is_empty() => {
                Ok(cram_md5::response(authcid, &std::mem::take(password), challenge))
            }
            Kind::CramMd5 { .. } => Err(ExchangeError::Challenge),
            Kind::Login { messages } => messages.next().ok_or(ExchangeError::Challenge),
            Kind::Single { after_refusal: Some(answer), is_sent: true, .. } if self.refusal.is_none() => {
                self.refusal = Some(told(challenge));
                Ok(Zeroizing::new(answer.to_vec()))
            }
            Kind::Single { .. } => Err(ExchangeError::Challenge),
            Kind::Scram(scram) => {
                let response = scram.respond(challenge);
                self.refusal = scram.refusal().map(|reason| told(reason.as_bytes()));
                response
            }
        }
    }

    /// Whether answers take long enough to be made on another thread.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.kind, Kind::Scram(_))
    }

    /// What the server said of a token or a proof that it does not take.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Takes note that the server says that the login has succeeded.
    ///
    /// # Errors
    /// Where it had to show first that it knows the password, and has not.
    pub(crate) fn succeeded(&self) -> Result<(), ExchangeError> {
        match &self.kind {
            Kind::Scram(scram) if !scram.is_verified() => Err(ExchangeError::ServerSignature),
            Kind::CramMd5 { .. } | Kind::Login { .. } | Kind::Single { .. } | Kind::Scram(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Challenge => f.write_str("the server's challenge is none of this mechanism"),
            Self::Iterations(count) => write!(f, "the server asks for {count} iterations of SCRAM"),
            Self::ServerSignature => {
                f.write_str("the server has not shown that it knows the password: it may be another one than it seems")
            }
            Self::NoBinding => f.write_str("a mechanism that ends in -PLUS needs TLS 1.3"),
            Self::NoEntropy => f.write_str("the operating system gives no random numbers"),
        }
    }
}

/// The server's words for a log: without control characters, and not endless.
fn told(challenge: &[u8]) -> String {
    let text = String::from_utf8_lossy(challenge.get(..MAX_TOLD_OCTETS).unwrap_or(challenge)).into_owned();
    text.replace(char::is_control, "?")
}

fn nonce() -> Result<String, ExchangeError> {
    use base64::Engine;
    let mut octets = [0; NONCE_OCTETS];
    getrandom::fill(&mut octets).map_err(|_| ExchangeError::NoEntropy)?;
    Ok(base64::engine::general_purpose::STANDARD.encode(octets))
}

const NONCE_OCTETS: usize = 18;
const MAX_TOLD_OCTETS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(mechanism: SaslMechanism) -> Exchange {
        let login = Login { authcid: "tim", secret: "hunter2", host: "mx.example", port: 587 };
        Exchange::new(mechanism, &login, None).unwrap()
    }

    #[test]
    fn one_message_says_all() {
        let mut plain = exchange(SaslMechanism::Plain);
        assert_eq!(**plain.initial_response().unwrap(), b"\0tim\0hunter2"[..]);
        assert_eq!(plain.respond(b""), Err(ExchangeError::Challenge));
        let mut login = exchange(SaslMechanism::Login);
        assert_eq!(login.initial_response(), None);
        assert_eq!(**login.respond(b"Username:").unwrap(), b"tim"[..]);
        assert_eq!(**login.respond(b"Password:").unwrap(), b"hunter2"[..]);
        assert_eq!(login.respond(b"More:"), Err(ExchangeError::Challenge));
    }

    #[test]
    fn what_a_server_says_of_a_token_is_answered_once() {
        for (mechanism, answer) in [(SaslMechanism::OAuthBearer, &b"\x01"[..]), (SaslMechanism::XOAuth2, b"")] {
            let mut exchange = exchange(mechanism);
            assert!(exchange.initial_response().unwrap().ends_with(b"auth=Bearer hunter2\x01\x01"));
            assert_eq!(**exchange.respond(b"{\"status\":\"401\"\n}").unwrap(), *answer);
            assert_eq!(exchange.refusal(), Some("{\"status\":\"401\"?}"));
            assert_eq!(exchange.respond(b""), Err(ExchangeError::Challenge));
        }
    }

    #[test]
    fn success_counts_once_the_server_has_shown_itself() {
        let mut scram = exchange(SaslMechanism::ScramSha256);
        scram.initial_response();
        assert_eq!(scram.succeeded(), Err(ExchangeError::ServerSignature));
        assert_eq!(exchange(SaslMechanism::Plain).succeeded(), Ok(()));
    }

    #[test]
    fn binding_needs_something_to_bind_to() {
        let login = Login { authcid: "tim", secret: "hunter2", host: "mx.example", port: 587 };
        let error = Exchange::new(SaslMechanism::ScramSha256Plus, &login, None).unwrap_err();
        assert_eq!(error, ExchangeError::NoBinding);
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce(), nonce());
    }
}
