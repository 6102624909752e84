//! The AUTH command (RFC 4954): which mechanisms there are, and what a mechanism is.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

pub(crate) mod credentials;
pub mod mechanism;
pub(crate) mod request;
pub(crate) mod result;
pub(crate) mod turn;

pub use credentials::{Credentials, MalformedCredentials};
pub use mechanism::{Exchange, First, Mechanism, Step};
pub use request::AuthRequest;
pub use result::{AuthResult, InvalidMessage, Refusal};
pub use turn::AuthTurn;

use mechanism::{Login, Plain};

/// How AUTH is offered: mechanisms, policy, limits.
///
/// ```
/// use sansmtp::Auth;
///
/// // PLAIN alone, TLS or not, three tries.
/// let auth = Auth::new().exclude("LOGIN").require_tls(false).max_failures(3);
/// # let _ = auth;
/// ```
#[derive(Clone)]
pub struct Auth {
    pub(crate) mechanisms: Vec<Offer>,
    excluded: Vec<String>,
    pub(crate) takeover: bool,
    pub(crate) require_tls: bool,
    pub(crate) max_failures: u32,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
}

/// A mechanism by its name, and who runs it.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) name: MechanismName,
    pub(crate) by: By,
}

#[derive(Clone)]
pub(crate) enum By {
    Mechanism(Arc<dyn Mechanism>),
    /// The AUTH handler hook.
    Handler,
}

impl Auth {
    /// PLAIN and LOGIN, under TLS only; five refused credentials and the connection is closed; a pause
    /// before each refusal that grows from a quarter of a second to two seconds.
    #[must_use]
    pub fn new() -> Self {
        let built_in: [Arc<dyn Mechanism>; 2] = [Arc::new(Plain::new()), Arc::new(Login::new())];
        let auth = Self {
            mechanisms: Vec::new(),
            excluded: Vec::new(),
            takeover: false,
            require_tls: true,
            max_failures: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(2),
        };
        built_in.into_iter().fold(auth, |auth, mechanism| auth.offer(mechanism.name().into(), By::Mechanism(mechanism)))
    }

    /// Offers `mechanism` too, in place of one with the same name, behind those offered already.
    ///
    /// Its name is checked by [`ConfigBuilder::build`](crate::ConfigBuilder::build).
    #[must_use]
    pub fn mechanism(self, mechanism: impl Mechanism + 'static) -> Self {
        let name = mechanism.name().into();
        self.offer(name, By::Mechanism(Arc::new(mechanism)))
    }

    /// Offers the mechanism `name` and leaves it to the AUTH handler hook:
    /// [`Action::CallAuthHandler`](crate::Action::CallAuthHandler) asks for each step.
    #[must_use]
    pub fn handler_mechanism(self, name: &str) -> Self {
        self.offer(name.into(), By::Handler)
    }

    /// Leaves every AUTH command to the AUTH handler hook, whatever mechanism it names, as soon as the
    /// conditions of RFC 4954, section 4 hold (EHLO, no transaction, not authenticated, TLS).
    ///
    /// What EHLO lists stays as configured: name further mechanisms with
    /// [`handler_mechanism`](Self::handler_mechanism).
    #[must_use]
    pub fn handler_takes_all(mut self) -> Self {
        self.takeover = true;
        self
    }

    /// Does not offer the mechanism `name`, in any case, built in or not.
    #[must_use]
    pub fn exclude(mut self, name: &str) -> Self {
        self.excluded.push(name.into());
        self
    }

    /// Whether AUTH is offered under TLS only; without it, AUTH is refused with `538 5.7.11`. On unless
    /// changed: the built-in mechanisms show the password to whoever listens.
    #[must_use]
    pub fn require_tls(mut self, required: bool) -> Self {
        self.require_tls = required;
        self
    }

    /// How many refused credentials a connection may bring; the last is answered `421 4.7.0`. 5 unless
    /// changed: clients try each mechanism with the same wrong password. Malformed commands do not
    /// count.
    #[must_use]
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = failures;
        self
    }

    /// The pause before refused credentials are answered: `first` before the first refusal, twice as
    /// long each further time, never longer than `longest`. Zero turns it off.
    ///
    /// Keep it under two or three seconds: clients take a slow server for a broken one.
    #[must_use]
    pub fn pause(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest;
        self
    }

    fn offer(mut self, name: MechanismName, by: By) -> Self {
        match self.mechanisms.iter_mut().find(|offer| offer.name == name) {
            Some(offer) => offer.by = by,
            None => self.mechanisms.push(Offer { name, by }),
        }
        self
    }

    /// Drops what is excluded; gives back the first name that RFC 4422 does not allow.
    pub(crate) fn settle(&mut self) -> Result<(), MechanismName> {
        let excluded = core::mem::take(&mut self.excluded);
        self.mechanisms.retain(|offer| !excluded.iter().any(|name| offer.name.matches(name.as_bytes())));
        match self.mechanisms.iter().find(|offer| !offer.name.is_valid()) {
            Some(offer) => Err(offer.name),
            None => Ok(()),
        }
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<&Offer> {
        self.mechanisms.iter().find(|offer| offer.name.matches(name))
    }

    /// The pause before the refusal that makes it `failures`.
    pub(crate) fn pause_before(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first_pause.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.longest_pause)
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("mechanisms", &self.mechanisms.iter().map(|offer| offer.name).collect::<Vec<_>>())
            .field("excluded", &self.excluded)
            .field("takeover", &self.takeover)
            .field("require_tls", &self.require_tls)
            .field("max_failures", &self.max_failures)
            .field("first_pause", &self.first_pause)
            .field("longest_pause", &self.longest_pause)
            .finish()
    }
}

/// The name of a SASL mechanism: 1–20 upper-case letters, digits, hyphens and underscores (RFC 4422,
/// section 3.1). Clients may write it in any case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MechanismName {
    octets: [u8; MAX_NAME_OCTETS],
    /// One past the maximum marks a name that was too long, so that it can be reported.
    length: u8,
}

impl MechanismName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("?")
    }

    fn as_bytes(&self) -> &[u8] {
        self.octets.get(..usize::from(self.length)).unwrap_or(&self.octets)
    }

    /// The name in upper case if it is one, from a client's AUTH command.
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        let mut parsed = Self::from_octets(name);
        parsed.octets.make_ascii_uppercase();
        parsed.is_valid().then_some(parsed)
    }

    pub(crate) fn is_valid(&self) -> bool {
        let length = usize::from(self.length);
        (1..=MAX_NAME_OCTETS).contains(&length)
            && self.as_bytes().iter().all(|octet| matches!(octet, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_'))
    }

    /// The name, if it is among those that clients are known to send.
    pub(crate) fn well_known(name: &[u8]) -> Option<Self> {
        WELL_KNOWN.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name)).map(|&known| known.into())
    }

    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        self.as_bytes().eq_ignore_ascii_case(name)
    }

    fn from_octets(name: &[u8]) -> Self {
        let mut octets = [0; MAX_NAME_OCTETS];
        let kept = name.get(..MAX_NAME_OCTETS).unwrap_or(name);
        if let Some(room) = octets.get_mut(..kept.len()) {
            room.copy_from_slice(kept);
        }
        let length = u8::try_from(name.len().min(MAX_NAME_OCTETS + 1)).unwrap_or(u8::MAX);
        Self { octets, length }
    }
}

impl From<&str> for MechanismName {
    /// Takes the name as it is; `build` refuses a configuration with a name that is not one.
    fn from(name: &str) -> Self {
        Self::from_octets(name.as_bytes())
    }
}

impl PartialEq<str> for MechanismName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for MechanismName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for MechanismName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MechanismName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a mechanism cannot be used on a connection at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hidden {
    /// The configuration has no [`Auth`].
    AuthNotConfigured,
    /// The mechanism is not registered, or excluded.
    NotOffered,
    /// The client has not said EHLO.
    NoEhlo,
    /// The connection is not under TLS, and [`Auth::require_tls`] holds.
    NeedsTls,
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
            Self::NeedsTls => "the connection is not under TLS, and AUTH requires it",
            Self::AuthenticatedAlready => "the client has authenticated already",
            Self::InTransaction => "a mail transaction is in progress",
        })
    }
}

/// An exchange in progress.
pub(crate) struct Running {
    pub(crate) mechanism: MechanismName,
    pub(crate) by: RunningBy,
}

pub(crate) enum RunningBy {
    Mechanism(Box<dyn Exchange>),
    Handler,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exchange of {}", self.mechanism)
    }
}

/// From IANA's registry and from practice.
const WELL_KNOWN: &[&str] = &[
    "ANONYMOUS",
    "CRAM-MD5",
    "DIGEST-MD5",
    "EXTERNAL",
    "GS2-KRB5",
    "GSSAPI",
    "KERBEROS_V4",
    "LOGIN",
    "NTLM",
    "OAUTHBEARER",
    "OTP",
    "PLAIN",
    "SCRAM-SHA-1",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-512-PLUS",
    "XOAUTH2",
];

/// RFC 4422, section 3.1.
const MAX_NAME_OCTETS: usize = 20;
