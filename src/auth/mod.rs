//! The AUTH command (RFC 4954): which mechanisms there are, and what a mechanism is.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

mod attempts;
pub(crate) mod credentials;
mod known_password;
mod lower_case;
pub mod mechanism;
mod name;
#[cfg(feature = "std")]
mod normalize;
mod password;
mod policy;
mod prepare;
pub(crate) mod request;
pub(crate) mod result;
mod scram_keys;
pub(crate) mod turn;

pub(crate) use attempts::LoggedExchange;
pub use attempts::{Attempt, AttemptLog, Reservation};
#[cfg(feature = "std")]
pub use attempts::{AttemptLimits, MemoryAttemptLog};
pub use credentials::{Credentials, MalformedCredentials};
pub use known_password::KnownPassword;
pub use lower_case::lower_case;
pub use mechanism::{Exchange, First, Mechanism, Start, Step};
pub use name::MechanismName;
pub use password::{Password, prepare_password};
pub use policy::{Hidden, Needs, Policy};
pub use prepare::Prohibited;
pub use request::{AuthQuestion, AuthRequest};
pub use result::{AuthResult, InvalidMessage, Refusal};
pub use scram_keys::{InvalidScramKeys, ScramHash, ScramKeys};
pub use turn::AuthTurn;

use mechanism::{Login, Plain, Scram};

use crate::config::{Entropy, NoEntropy};
use crate::secret::Secret;
use crate::session::Session;

/// How AUTH is offered: mechanisms, policy, limits.
///
/// ```
/// use sansmtp::Auth;
///
/// // PLAIN alone, TLS or not, three tries.
/// let auth = Auth::new().exclude("SCRAM-SHA-256").exclude("LOGIN").require_tls(false).max_failures(3);
/// # let _ = auth;
/// ```
#[derive(Clone)]
pub struct Auth {
    pub(crate) mechanisms: Vec<Offer>,
    excluded: Vec<String>,
    policies: Vec<(String, Policy)>,
    choose: Option<Arc<Choose>>,
    pub(crate) attempts: Option<Arc<dyn AttemptLog>>,
    pub(crate) salt_key: SaltKey,
    pub(crate) takeover: bool,
    pub(crate) require_tls: bool,
    pub(crate) ignore_case: bool,
    pub(crate) max_failures: u32,
    pub(crate) max_unfinished: u32,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
}

type Choose = dyn Fn(&Session, MechanismName) -> bool + Send + Sync;

/// From what unknown users' SCRAM salts are made.
#[derive(Clone)]
pub(crate) enum SaltKey {
    /// Empty until the configuration is built.
    Known(Arc<Secret>),
    /// Whoever keeps it is asked when it is needed.
    From(Arc<dyn Fn() -> Option<Secret> + Send + Sync>),
}

impl SaltKey {
    /// Does something with the key, if there is one at the moment.
    pub(crate) fn with<T>(&self, what: impl FnOnce(&[u8]) -> T) -> Option<T> {
        match self {
            Self::Known(key) => Some(what(key.expose_secret())),
            Self::From(source) => source().map(|key| what(key.expose_secret())),
        }
    }
}

/// A mechanism by its name, who runs it, and who may use it.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) name: MechanismName,
    pub(crate) by: By,
    policy: Policy,
}

#[derive(Clone)]
pub(crate) enum By {
    Mechanism(Arc<dyn Mechanism>),
    /// The AUTH handler hook.
    Handler,
}

impl Auth {
    /// SCRAM-SHA-256, PLAIN and LOGIN, under TLS only; five refused credentials and the connection is
    /// closed; a pause before each refusal that grows from a quarter of a second to two seconds.
    ///
    /// Clients that know SCRAM choose it, and then the authenticator is asked for
    /// [`ScramKeys`](AuthQuestion::ScramKeys). One that can only check passwords excludes it, or such
    /// clients never get in: `Auth::new().exclude("SCRAM-SHA-256")`.
    #[must_use]
    pub fn new() -> Self {
        Self::without_mechanisms()
            .mechanism(Scram::new(ScramHash::Sha256))
            .mechanism(Plain::new())
            .mechanism(Login::new())
    }

    /// As [`new`](Self::new), with no mechanism yet.
    #[must_use]
    pub fn without_mechanisms() -> Self {
        Self {
            mechanisms: Vec::new(),
            excluded: Vec::new(),
            policies: Vec::new(),
            choose: None,
            attempts: None,
            salt_key: SaltKey::Known(Arc::default()),
            takeover: false,
            require_tls: true,
            ignore_case: false,
            max_failures: 5,
            max_unfinished: 30,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(2),
        }
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

    /// Sets what the mechanism `name`, in any case, asks of a connection. The last policy for a name holds.
    #[must_use]
    pub fn policy(mut self, name: &str, policy: Policy) -> Self {
        self.policies.push((name.into(), policy));
        self
    }

    /// Offers a mechanism only on connections for which `choose` says so: by address, server name, or
    /// whatever else the session knows. It is asked for each mechanism whenever EHLO lists them and when
    /// AUTH names one, and must not wait. To others the mechanism does not exist (`504 5.5.4`).
    ///
    /// ```
    /// use sansmtp::Auth;
    ///
    /// // LOGIN for the printers of one network.
    /// let auth = Auth::new().choose(|session, mechanism| {
    ///     mechanism != "LOGIN" || session.peer().address().is_some_and(|peer| peer.ip().is_loopback())
    /// });
    /// # let _ = auth;
    /// ```
    #[must_use]
    pub fn choose(mut self, choose: impl Fn(&Session, MechanismName) -> bool + Send + Sync + 'static) -> Self {
        self.choose = Some(Arc::new(choose));
        self
    }

    /// Limits guesses across connections: counts failures, and admits no more attempts than `log` has room
    /// for.
    #[must_use]
    pub fn attempts(mut self, log: Arc<dyn AttemptLog>) -> Self {
        self.attempts = Some(log);
        self
    }

    /// The key from which unknown users' SCRAM salts are made. Random for each configuration unless set.
    /// Set it, to 32 random octets, where several servers or restarts should make the same salts: one
    /// that changes belongs to nobody.
    #[must_use]
    pub fn salt_key(mut self, key: Secret) -> Self {
        self.salt_key = SaltKey::Known(Arc::new(key));
        self
    }

    /// Asks `source` for [that key](Self::salt_key) whenever one is needed: for a key that a database keeps, which may not
    /// be there yet when the server starts. It must not wait, and gives the same key each time that it gives one.
    ///
    /// While it gives none, every login by SCRAM is [`AuthResult::cannot_tell`], `454 4.7.0`, whether or not there is such a
    /// user.
    #[must_use]
    pub fn salt_key_from(mut self, source: impl Fn() -> Option<Secret> + Send + Sync + 'static) -> Self {
        self.salt_key = SaltKey::From(Arc::new(source));
        self
    }

    /// Whether AUTH is offered under TLS only, where no [`policy`](Self::policy) says otherwise; without
    /// it, AUTH is refused with `538 5.7.11`. On unless changed: PLAIN and LOGIN show the password to
    /// whoever listens, and no mechanism keeps the mail from them.
    #[must_use]
    pub fn require_tls(mut self, required: bool) -> Self {
        self.require_tls = required;
        self
    }

    /// Whether names are in [lower case](lower_case) from the moment at which a mechanism has them: for the authenticator,
    /// for the counts of failures, in events, in unknown users' SCRAM salts and as
    /// [`Session::login`](crate::Session::login). So a name is the same in any case, for everybody who does not show the
    /// difference: the authenticator has to compare with names in lower case. Off unless set; nothing that the AUTH handler
    /// hook gets changes.
    #[must_use]
    pub fn ignore_case(mut self, ignored: bool) -> Self {
        self.ignore_case = ignored;
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

    /// How many exchanges a connection may leave unfinished, by `*`, or by what is no response to the
    /// challenge; the last is answered `421 4.7.0`. 30 unless changed: clients that find a mechanism not to
    /// their liking cancel once or twice, and go on with another one. An exchange in which the server has
    /// sent no challenge does not count.
    #[must_use]
    pub fn max_unfinished(mut self, exchanges: u32) -> Self {
        self.max_unfinished = exchanges;
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
            None => self.mechanisms.push(Offer { name, by, policy: Policy::new() }),
        }
        self
    }

    /// Drops what is excluded, hands out policies and draws what is random.
    pub(crate) fn settle(&mut self, entropy: &Entropy) -> Result<(), Unusable> {
        let excluded = core::mem::take(&mut self.excluded);
        self.mechanisms.retain(|offer| !excluded.iter().any(|name| offer.name.matches(name.as_bytes())));
        for (name, policy) in core::mem::take(&mut self.policies) {
            match self.mechanisms.iter_mut().find(|offer| offer.name.matches(name.as_bytes())) {
                Some(offer) => offer.policy = policy,
                // A policy that holds for nothing, because of a slip in the name, would be a hole.
                None if excluded.iter().any(|excluded| excluded.eq_ignore_ascii_case(&name)) => {}
                None => return Err(Unusable::PolicyForNothing(name.as_str().into())),
            }
        }
        if let Some(offer) = self.mechanisms.iter().find(|offer| !offer.name.is_valid()) {
            return Err(Unusable::Name(offer.name));
        }
        if self.mechanisms.len() > MAX_MECHANISMS {
            return Err(Unusable::TooMany);
        }
        let is_missing = matches!(&self.salt_key, SaltKey::Known(key) if key.len() == 0);
        if is_missing && self.mechanisms.iter().any(|offer| offer.needs().entropy) {
            let mut key = Secret::default();
            entropy.fill(key.refill(SALT_KEY_OCTETS)).map_err(|NoEntropy| Unusable::NoEntropy)?;
            self.salt_key = SaltKey::Known(Arc::new(key));
        }
        Ok(())
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<&Offer> {
        self.mechanisms.iter().find(|offer| offer.name.matches(name))
    }

    /// What keeps the session's connection from a mechanism, whatever the client has said.
    pub(crate) fn hides(&self, offer: &Offer, session: &Session) -> Option<Hidden> {
        let hidden = offer.policy.hides(offer.needs(), self.require_tls, session);
        hidden.or_else(|| self.leaves_out(offer.name, session).then_some(Hidden::NotChosen))
    }

    /// What keeps the session's connection from a mechanism that nobody offers, when the AUTH handler hook
    /// takes them all.
    pub(crate) fn hides_unknown(&self, name: MechanismName, session: &Session) -> Option<Hidden> {
        let hidden = Policy::new().hides(Needs::NOTHING, self.require_tls, session);
        hidden.or_else(|| self.leaves_out(name, session).then_some(Hidden::NotChosen))
    }

    fn leaves_out(&self, name: MechanismName, session: &Session) -> bool {
        self.choose.as_ref().is_some_and(|choose| !choose(session, name))
    }

    /// The mechanisms that EHLO lists to this session, a bit each.
    pub(crate) fn listed(&self, session: &Session) -> u32 {
        self.bits(|offer| offer.is_listed() && self.hides(offer, session).is_none())
    }

    /// Whether nothing but a lack of TLS keeps a client in the clear from AUTH as a whole.
    pub(crate) fn is_for_tls_only(&self) -> bool {
        let any_in_clear = self.mechanisms.iter().any(|offer| offer.policy.allows_clear(self.require_tls));
        !any_in_clear && (self.require_tls || !self.takeover)
    }

    /// A bit for each mechanism of which `is` holds.
    pub(crate) fn bits(&self, is: impl Fn(&Offer) -> bool) -> u32 {
        self.mechanisms.iter().rev().fold(0, |bits, offer| bits << 1 | u32::from(is(offer)))
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
            .field("policies", &self.policies)
            .field("takeover", &self.takeover)
            .field("require_tls", &self.require_tls)
            .field("ignore_case", &self.ignore_case)
            .field("max_failures", &self.max_failures)
            .field("max_unfinished", &self.max_unfinished)
            .field("first_pause", &self.first_pause)
            .field("longest_pause", &self.longest_pause)
            .finish()
    }
}

impl Offer {
    pub(crate) fn is_listed(&self) -> bool {
        self.policy.is_listed()
    }

    pub(crate) fn needs(&self) -> Needs {
        match &self.by {
            By::Mechanism(mechanism) => mechanism.needs(),
            By::Handler => Needs::NOTHING,
        }
    }
}

/// Why an [`Auth`] cannot be used.
pub(crate) enum Unusable {
    Name(MechanismName),
    PolicyForNothing(MechanismName),
    TooMany,
    NoEntropy,
}

/// An exchange in progress.
pub(crate) struct Running {
    pub(crate) mechanism: MechanismName,
    pub(crate) by: RunningBy,
    /// Where there is an attempt log, as long as nothing is decided.
    pub(crate) logged: Option<Box<LoggedExchange>>,
    /// The client has been sent a challenge.
    pub(crate) challenged: bool,
    /// The authenticator has refused in the middle of the exchange.
    pub(crate) refused: bool,
}

pub(crate) enum RunningBy {
    Mechanism(Box<dyn Exchange>),
    Handler,
    /// Nobody any more: the next line, whatever it is, gets the reply to this result.
    Ended(Box<Ending>),
}

/// What an error challenge is followed by.
pub(crate) enum Ending {
    Result(AuthResult),
    Malformed,
}

impl Running {
    pub(crate) fn new(mechanism: MechanismName, by: RunningBy, logged: Option<Box<LoggedExchange>>) -> Self {
        Self { mechanism, by, logged, challenged: false, refused: false }
    }

    /// What the attempt log has reserved.
    pub(crate) fn reservation(&self) -> Option<Reservation> {
        self.logged.as_ref()?.reservation()
    }

    pub(crate) fn challenge(&mut self) {
        self.challenged = true;
        if let Some(logged) = &mut self.logged {
            logged.challenge();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exchange of {}", self.mechanism)
    }
}

/// What is listed is a bit each.
const MAX_MECHANISMS: usize = 32;

const SALT_KEY_OCTETS: usize = 32;
