//! Tokens that the server is asked about.

mod client;
mod http;
mod kept;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::{ClientConfig, RootCertStore};
use sansmtp::auth::AuthQuestion;
use sansmtp::{AuthRequest, AuthResult, Refusal};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use self::client::IntrospectionClient;
use self::http::{Endpoint, Fault};
use self::kept::{Digest, Kept};
use super::flaw::Flaw;
use super::jwt::seconds;
use super::rules::Claims;
use super::{RulesError, TokenRules};
use crate::limit::{self, Limit};
use crate::tls_client::{self, InvalidRoots};
use crate::{Answers, Authenticator, Knows};

/// Accepts the access tokens that the authorization server says are active (RFC 7662), whatever they look like.
///
/// ```
/// use sansmtp::Secret;
/// use sansmtp_authenticators::oauth2::{Introspection, IntrospectionClient, TokenRules};
///
/// fn tokens(client_secret: Secret) -> Result<Introspection, Box<dyn std::error::Error>> {
///     let client = IntrospectionClient::basic("mx.example.org", client_secret);
///     let rules = TokenRules::new().audience("https://mx.example.org").scope("mail.send");
///     Ok(Introspection::new("https://id.example.org/introspect", client, rules)?)
/// }
/// ```
///
/// Each answer is remembered for a short while, but not past the token's `exp`: so long a token is good after it was
/// revoked. What is remembered is the SHA-256 of the token and whose it is.
///
/// A server that cannot be asked, does not answer within the [time limit](IntrospectionLimits::time), or answers with
/// anything but a status of 200 and a JSON object with `active` in it makes the login `454 4.7.0`. A redirection is
/// not followed, and no proxy is used. Each question has a connection of its own, with TLS 1.2 or 1.3 by rustls, and
/// without it only to loopback.
///
/// The rules need neither issuer nor audience here: the server may tell neither. It may tell an issuer only if that is
/// the one that is set; an audience that is set must be told.
pub struct Introspection {
    endpoint: Endpoint,
    client: IntrospectionClient,
    rules: TokenRules,
    limits: IntrospectionLimits,
    waiting: Limit,
    tls: Arc<ClientConfig>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    active: Mutex<Kept<Verdict>>,
    refused: Mutex<Kept<Verdict>>,
}

/// How long [`Introspection`] waits, and how much it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntrospectionLimits {
    /// How long to wait for an answer, all in all: 5 seconds unless changed, an hour at the most.
    pub time: Duration,
    /// How many logins may wait for an answer at the same time: 96 unless changed. Each occupies a thread, so keep it well
    /// below the size of the pool that connections share (500 with smol, 512 with tokio). One more is `454 4.7.0` at
    /// once.
    pub waiting: usize,
    /// How many good tokens are remembered: 8,192 unless changed.
    pub active: usize,
    /// How long they are, if they do not expire before: a minute unless changed.
    pub active_for: Duration,
    /// How many that are not good, which have places of their own: 8,192 unless changed.
    pub refused: usize,
    /// How long they are: 10 seconds unless changed.
    pub refused_for: Duration,
}

impl Default for IntrospectionLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(5),
            waiting: limit::OF_A_SERVER,
            active: 8_192,
            active_for: Duration::from_secs(60),
            refused: 8_192,
            refused_for: Duration::from_secs(10),
        }
    }
}

/// A configuration with which the server cannot be asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum IntrospectionError {
    /// The client's credentials cannot be sent; why.
    Client(&'static str),
    /// The endpoint is none; why.
    Endpoint(&'static str),
    /// The server's certificate could never be verified.
    Roots(InvalidRoots),
    /// The rules make no sense.
    Rules(RulesError),
}

/// What a token is worth, whoever brings it.
#[derive(Clone, Debug)]
enum Verdict {
    Good { login: String },
    Bad(Flaw),
}

impl Introspection {
    /// Asks the introspection endpoint of this URL. The authorities that make its certificate good are those of the
    /// operating system.
    ///
    /// # Errors
    ///
    /// [`IntrospectionError`], which says what is wrong with which.
    pub fn new(endpoint: &str, client: IntrospectionClient, rules: TokenRules) -> Result<Self, IntrospectionError> {
        let endpoint = Endpoint::read(endpoint)?;
        // In the clear nobody is asked for one.
        let roots = if endpoint.is_tls() { tls_client::system_roots() } else { Ok(RootCertStore::empty()) };
        let tls = roots.and_then(tls_client::config).map_err(IntrospectionError::Roots)?;
        Self::with_tls(endpoint, client, rules, tls)
    }

    /// Asks with a TLS configuration of the embedder's: for other authorities, or a certificate of the client's.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn new_with_tls(
        endpoint: &str,
        client: IntrospectionClient,
        rules: TokenRules,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, IntrospectionError> {
        Self::with_tls(Endpoint::read(endpoint)?, client, rules, tls)
    }

    fn with_tls(
        endpoint: Endpoint,
        client: IntrospectionClient,
        rules: TokenRules,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, IntrospectionError> {
        rules.check().map_err(IntrospectionError::Rules)?;
        client.check().map_err(IntrospectionError::Client)?;
        let clock = Box::new(SystemTime::now);
        let limits = IntrospectionLimits::default();
        let (active, refused) = (Mutex::new(Kept::new(limits.active)), Mutex::new(Kept::new(limits.refused)));
        let waiting = limit_of(limits.waiting);
        Ok(Self { endpoint, client, rules, limits, waiting, tls, clock, active, refused })
    }

    /// Waits, and remembers, as these say.
    #[must_use]
    pub fn limits(mut self, limits: IntrospectionLimits) -> Self {
        self.limits = limits;
        self.waiting = limit_of(limits.waiting);
        self.active = Mutex::new(Kept::new(limits.active));
        self.refused = Mutex::new(Kept::new(limits.refused));
        self
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    fn now(&self) -> f64 {
        seconds((self.clock)())
    }

    fn find(&self, digest: &Digest, now: f64) -> Option<Verdict> {
        lock(&self.active).find(digest, now).or_else(|| lock(&self.refused).find(digest, now))
    }

    /// Asks the server, and remembers what it says.
    fn ask(&self, digest: Digest, token: &[u8], now: f64) -> Result<Verdict, Fault> {
        let _place = self.waiting.enter().ok_or(Fault::Full)?;
        let request = self.client.request(&self.endpoint, token);
        let answer = http::send(&self.endpoint, &self.tls, &request, self.limits.time)?;
        let claims: Claims = serde_json::from_slice(answer.expose_secret()).map_err(|_| Fault::Malformed)?;
        let Some(Value::Bool(active)) = claims.get("active") else { return Err(Fault::Malformed) };
        match self.judge(*active, &claims, now) {
            Ok((login, expires)) => {
                let verdict = Verdict::Good { login };
                let until = (now + self.limits.active_for.as_secs_f64()).min(expires.unwrap_or(f64::INFINITY));
                lock(&self.active).insert(digest, now, until, verdict.clone());
                Ok(verdict)
            }
            Err(flaw) => {
                let until = now + self.limits.refused_for.as_secs_f64();
                lock(&self.refused).insert(digest, now, until, Verdict::Bad(flaw));
                Ok(Verdict::Bad(flaw))
            }
        }
    }

    fn judge(&self, active: bool, claims: &Claims, now: f64) -> Result<(String, Option<f64>), Flaw> {
        if !active {
            return Err(Flaw::Inactive);
        }
        if claims.contains_key("iss") && self.rules.has_issuer() && !self.rules.is_issuer(claims) {
            return Err(Flaw::Issuer);
        }
        let good = self.rules.judge(claims, now, "username")?;
        Ok((good.login, good.expires))
    }
}

impl Authenticator for Introspection {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let AuthQuestion::BearerToken(token) = request.question() else { return AuthResult::cannot_tell() };
        let token = token.token().expose_secret();
        let (digest, now) = (Sha256::digest(token).into(), self.now());
        let verdict = match self.find(&digest, now).map_or_else(|| self.ask(digest, token, now), Ok) {
            Ok(verdict) => verdict,
            // Which was logged.
            Err(Fault::Full) => return AuthResult::cannot_tell(),
            Err(fault) => {
                tracing::warn!(%fault, host = %self.endpoint.authority, "cannot ask about a token");
                return AuthResult::cannot_tell();
            }
        };
        let accepted = match verdict {
            Verdict::Good { login } => self.rules.accept(request, &login),
            Verdict::Bad(flaw) => Err(flaw),
        };
        accepted.unwrap_or_else(|flaw| {
            tracing::debug!(%flaw, mechanism = %request.mechanism(), "a token is refused");
            // One that the server does not know may be somebody else's.
            let is_unknown = flaw == Flaw::Inactive;
            AuthResult::refuse_because(if is_unknown { Refusal::UnknownUser } else { Refusal::BadCredentials })
        })
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        let is_token = matches!(request.question(), AuthQuestion::BearerToken(_));
        if is_token { Knows::WhenAsked } else { Knows::No }
    }

    fn answers(&self, mechanism: &str) -> Answers {
        super::answers(mechanism)
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection")
            .field("host", &self.endpoint.authority)
            .field("client", &self.client)
            .field("rules", &self.rules)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn limit_of(logins: usize) -> Limit {
    Limit::new("token introspection", logins)
}

fn lock<T>(kept: &Mutex<Kept<T>>) -> MutexGuard<'_, Kept<T>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<&'static str> for IntrospectionError {
    fn from(why: &'static str) -> Self {
        Self::Endpoint(why)
    }
}

impl fmt::Display for IntrospectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(why) => write!(f, "the client's credentials for the introspection endpoint: {why}"),
            Self::Endpoint(why) => write!(f, "the introspection endpoint: {why}"),
            Self::Roots(error) => write!(f, "the introspection endpoint: {error}"),
            Self::Rules(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for IntrospectionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Roots(error) => Some(error),
            Self::Client(_) | Self::Endpoint(_) | Self::Rules(_) => None,
        }
    }
}
