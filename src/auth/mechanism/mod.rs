//! What a SASL mechanism is to the engine (RFC 4422), and the built-in ones.
//!
//! A [`Mechanism`] is registered once, in the configuration; each AUTH command begins an [`Exchange`]
//! of its own. An exchange sees decoded responses and says what happens next; base64, `*`, line
//! lengths, `=` against nothing, counting, pausing and replying are the engine's.
//!
//! A mechanism of two rounds, with data of its own for the authenticator:
//!
//! ```
//! use sansmtp::auth::{AuthResult, Credentials, Exchange, First, Mechanism, Start, Step};
//! use sansmtp::{Action, Auth, Config, Connection, Peer, SecretRef};
//! use std::time::Duration;
//!
//! /// Asks for a PIN, and then for the answer to a riddle.
//! struct PinAndRiddle;
//!
//! struct PinAndAnswer {
//!     pin: Vec<u8>,
//!     answer: Vec<u8>,
//! }
//!
//! impl Mechanism for PinAndRiddle {
//!     fn name(&self) -> &str {
//!         "X-PIN_RIDDLE"
//!     }
//!
//!     fn first(&self) -> First {
//!         First::Server
//!     }
//!
//!     fn begin(&self, _start: &Start<'_>) -> Box<dyn Exchange> {
//!         Box::new(Riddling { pin: None })
//!     }
//! }
//!
//! struct Riddling {
//!     pin: Option<Vec<u8>>,
//! }
//!
//! impl Exchange for Riddling {
//!     fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
//!         match (response, self.pin.take()) {
//!             (None, _) => Step::Challenge(b"PIN?".into()),
//!             (Some(pin), None) => {
//!                 self.pin = Some(pin.expose_secret().to_vec());
//!                 Step::Challenge(b"Who am I?".into())
//!             }
//!             (Some(answer), Some(pin)) => match credentials.set_authcid(b"sphinx") {
//!                 Ok(()) => Step::Ask(Box::new(PinAndAnswer { pin, answer: answer.expose_secret().to_vec() })),
//!                 Err(malformed) => malformed.into(),
//!             },
//!         }
//!     }
//! }
//!
//! let auth = Auth::new().mechanism(PinAndRiddle).require_tls(false);
//! let config = Config::builder("mx.example.org").auth(auth).build()?;
//! let mut connection = Connection::new(config, Peer::local());
//! // "0000" and "a man", in base64.
//! let mut input: &[u8] = b"EHLO c.example\r\nAUTH X-PIN_RIDDLE\r\nMDAwMA==\r\nYSBtYW4=\r\n";
//! let mut replies = String::new();
//! loop {
//!     match connection.poll(Duration::ZERO, &mut input) {
//!         Action::Reply(reply) => replies += &format!("{reply}\n"),
//!         Action::Challenge(challenge) => replies += &format!("{challenge}\n"),
//!         Action::CallAuthenticator(request) => {
//!             let right = request.data::<PinAndAnswer>().is_some_and(|data| data.pin == b"0000" && data.answer == b"a man");
//!             let result = if right { AuthResult::accept() } else { AuthResult::refuse() };
//!             connection.answer(request.answer(result))?;
//!         }
//!         Action::NeedInput { .. } => break,
//!         _ => {}
//!     }
//! }
//! assert!(replies.ends_with("334 UElOPw==\n334 V2hvIGFtIEk/\n235 2.7.0 Authentication successful\n"));
//! assert_eq!(connection.session().login(), Some("sphinx"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::any::Any;
use core::fmt;

mod anonymous;
mod bearer;
mod cram_md5;
mod external;
mod login;
mod plain;
mod scram;
mod scram_message;

pub use anonymous::{Anonymous, Trace};
pub use bearer::{BearerToken, OAuthBearer, XOAuth2};
pub use cram_md5::{CramMd5, CramMd5Key, CramMd5Response, InvalidCramMd5Key};
pub use external::{ClientCertificate, External};
pub use login::Login;
pub use plain::Plain;
pub use scram::{Scram, ScramLookup};

use super::result::Outcome;
use super::{Auth, AuthResult, Credentials, MalformedCredentials, Needs, SaltKey};
use crate::config::{Config, NoEntropy};
use crate::secret::SecretRef;
use crate::session::Session;

/// A SASL mechanism, server side.
pub trait Mechanism: Send + Sync {
    /// The registered name: 1–20 upper-case letters, digits, hyphens and underscores.
    fn name(&self) -> &str;

    /// Who speaks first. The client, unless overridden.
    fn first(&self) -> First {
        First::Client
    }

    /// What the mechanism cannot do without. Nothing, unless overridden; where it is missing, the
    /// mechanism is neither listed nor accepted.
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    /// Begins an exchange.
    fn begin(&self, start: &Start<'_>) -> Box<dyn Exchange>;
}

/// What there is at the beginning of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    session: &'a Session,
    config: &'a Config,
    auth: &'a Auth,
}

impl<'a> Start<'a> {
    pub(crate) fn new(session: &'a Session, config: &'a Config, auth: &'a Auth) -> Self {
        Self { session, config, auth }
    }

    /// What is known of the client.
    #[must_use]
    pub fn session(&self) -> &'a Session {
        self.session
    }

    /// The name that the server gives itself.
    #[must_use]
    pub fn hostname(&self) -> &'a str {
        self.config.hostname()
    }

    /// Whether the mechanism `name` could be used on this connection, too.
    #[must_use]
    pub fn is_offered(&self, name: &str) -> bool {
        self.auth.find(name.as_bytes()).is_some_and(|offer| self.auth.hides(offer, self.session).is_none())
    }

    /// Fills `octets` from the configuration's entropy function.
    ///
    /// # Errors
    ///
    /// [`NoEntropy`] if it has none; a mechanism that needs it should end with
    /// [`AuthResult::cannot_tell`].
    pub fn fill_random(&self, octets: &mut [u8]) -> Result<(), NoEntropy> {
        self.config.entropy.fill(octets)
    }

    /// The key from which unknown users' salts are made: [`Auth::salt_key`].
    pub(crate) fn salt_key(&self) -> SaltKey {
        self.auth.salt_key.clone()
    }
}

/// Who speaks first in a mechanism (RFC 4422, section 5, item 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The client. Without an initial response, the engine sends an empty challenge for it.
    Client,
    /// The server: [`Exchange::step`] is first called with `None`. An initial response is refused with
    /// `501 5.7.0` (RFC 4954, section 4).
    Server,
    /// The server, but clients that send an initial response all the same are understood.
    Either,
}

/// One AUTH command's exchange with one client.
pub trait Exchange: Send {
    /// Takes the client's response, decoded from base64, and says what happens next.
    ///
    /// `response` is `None` in the first call only, where the server speaks first. An empty response is
    /// `Some`. It is zeroized after the call: copy what must be kept, into `credentials` if it is an
    /// identity or a password.
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step;

    /// Takes the authenticator's result to a [`Step::Consult`], and says what happens next: that result,
    /// unless overridden.
    fn consulted(&mut self, result: AuthResult, credentials: &mut Credentials) -> Step {
        let _ = credentials;
        Step::Finish(result)
    }
}

/// What happens next in an exchange.
pub enum Step {
    /// Sends a challenge, encoded in base64 by the engine; the client's response is the next step.
    ///
    /// Behind a response, the challenge may show what the mechanism thinks of it. So the
    /// [`AttemptLog`](super::AttemptLog) has to admit the attempt first, and the client is sent
    /// `454 4.7.0` if it does not.
    Challenge(Cow<'static, [u8]>),
    /// Sends a challenge as it is, behind `334 `. Octets outside printable ASCII make the exchange fail
    /// with `454 4.7.0`.
    ChallengeVerbatim(Cow<'static, [u8]>),
    /// Asks the authenticator about the credentials; its result ends the exchange.
    AskPassword,
    /// Asks the authenticator about data of the mechanism's own; its result ends the exchange.
    Ask(Box<dyn Any + Send + Sync>),
    /// Asks the authenticator in the middle of the exchange; its result goes to
    /// [`Exchange::consulted`]. If it refuses and the exchange asks again, the refusal counts, and the
    /// next question is another attempt.
    Consult(Box<dyn Any + Send + Sync>),
    /// Ends the exchange with the mechanism's own decision.
    Finish(AuthResult),
    /// Ends the exchange with a result that is no success, after a last challenge that says why, as
    /// SCRAM and OAUTHBEARER have one. Whatever single line the client sends then, it gets the result's
    /// reply, or `501 5.7.0` if that line is `*`; the failure counts even if it sends nothing more.
    ErrorChallenge(Cow<'static, [u8]>, AuthResult),
    /// As [`ErrorChallenge`](Self::ErrorChallenge), and then [`Malformed`](Self::Malformed).
    ErrorChallengeMalformed(Cow<'static, [u8]>),
    /// Ends the exchange: the response is not what the mechanism expects, `501 5.5.2`. Does not count
    /// as a failure.
    Malformed,
}

impl Step {
    /// Whether the authenticator is to be asked.
    pub(crate) fn is_question(&self) -> bool {
        matches!(self, Self::AskPassword | Self::Ask(_) | Self::Consult(_))
    }

    /// Whether this goes to the client, which then responds.
    pub(crate) fn is_challenge(&self) -> bool {
        matches!(self, Self::Challenge(_) | Self::ChallengeVerbatim(_))
    }

    /// Whether the mechanism has looked at credentials, and says what it thinks of them.
    pub(crate) fn is_decision(&self) -> bool {
        match self {
            Self::Finish(result) | Self::ErrorChallenge(_, result) => {
                matches!(result.outcome, Outcome::Accepted { .. } | Outcome::Refused(_))
            }
            Self::Challenge(_)
            | Self::ChallengeVerbatim(_)
            | Self::AskPassword
            | Self::Ask(_)
            | Self::Consult(_)
            | Self::ErrorChallengeMalformed(_)
            | Self::Malformed => false,
        }
    }
}

impl From<MalformedCredentials> for Step {
    fn from(_: MalformedCredentials) -> Self {
        Self::Malformed
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            // Challenges may hold what only this client should see.
            Self::Challenge(_) => "Challenge",
            Self::ChallengeVerbatim(_) => "ChallengeVerbatim",
            Self::AskPassword => "AskPassword",
            Self::Ask(_) => "Ask",
            Self::Consult(_) => "Consult",
            Self::Finish(result) => return f.debug_tuple("Finish").field(result).finish(),
            Self::ErrorChallenge(_, result) => return f.debug_tuple("ErrorChallenge").field(result).finish(),
            Self::ErrorChallengeMalformed(_) => "ErrorChallengeMalformed",
            Self::Malformed => "Malformed",
        })
    }
}
