//! Tokens that are signed.

use std::fmt;
use std::time::{Duration, SystemTime};

use sansmtp::auth::AuthQuestion;
use sansmtp::auth::mechanism::BearerToken;
use sansmtp::{AuthRequest, AuthResult, Refusal};

use super::flaw::Flaw;
use super::jws::{self, Jws};
use super::{Jwks, RulesError, TokenRules};
use crate::{Answers, Authenticator, Knows};

/// Accepts access tokens that are signed JWTs (RFC 7519; RFC 9068 is one form of them), without asking anybody.
///
/// The signature is one of RS256, ES256 and EdDSA with Ed25519, by a key of the [`Jwks`]; which of them is a matter of
/// the key, not of what the token says. Everything else is refused: `none`, HMACs, keys that come with the token,
/// critical headers, other types than those of access tokens, encryption, tokens without `exp` or over
/// [a length](Self::max_token_octets), and those that are bound to a key of the client's (`cnf`).
///
/// It [knows](Authenticator::knows) the tokens of its issuer, so that several stand in a [`Chain`](crate::Chain). With
/// anything but tokens it has nothing to do.
///
/// A token is good until it expires, also if its user has been disabled: authorization servers give out tokens for
/// minutes or hours, and this is what those bound. Where it must not be so, the server has to be asked
/// (`Introspection`).
pub struct Jwt {
    rules: TokenRules,
    keys: Jwks,
    max_token_octets: usize,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Jwt {
    /// Accepts what is signed by one of the keys and says what it has to.
    ///
    /// # Errors
    ///
    /// [`RulesError`], if the rules name no issuer or no audience, or something that is empty.
    pub fn new(rules: TokenRules, keys: Jwks) -> Result<Self, RulesError> {
        rules.check_told()?;
        Ok(Self { rules, keys, max_token_octets: 8_192, clock: Box::new(SystemTime::now) })
    }

    /// The most octets that a token may have: 8,192 unless changed. The engine's limit is not much above it.
    #[must_use]
    pub fn max_token_octets(mut self, octets: usize) -> Self {
        self.max_token_octets = octets;
        self
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Whether the token would be of the issuer whose keys these are.
    fn is_own(&self, token: &BearerToken) -> bool {
        let token = token.token().expose_secret();
        let is_own = |token: &str| jws::peek(token).is_some_and(|claims| self.rules.is_issuer(&claims));
        // What is too long is refused by whoever would have to parse it.
        token.len() <= self.max_token_octets && std::str::from_utf8(token).is_ok_and(is_own)
    }

    /// `None` where a key cannot be had at the moment.
    fn check(&self, request: &AuthRequest, token: &BearerToken) -> Option<Result<AuthResult, Flaw>> {
        let token = token.token().expose_secret();
        if token.len() > self.max_token_octets {
            return Some(Err(Flaw::TooLong));
        }
        let jws = match std::str::from_utf8(token).map_err(|_| Flaw::Malformed).and_then(Jws::read) {
            Ok(jws) => jws,
            Err(flaw) => return Some(Err(flaw)),
        };
        Some(self.keys.verify(&jws)?.and_then(|()| {
            let claims = jws::claims(&jws.payload)?;
            if !self.rules.is_issuer(&claims) {
                return Err(Flaw::Issuer);
            }
            let good = self.rules.judge(&claims, seconds((self.clock)()), "sub")?;
            good.expires.ok_or(Flaw::NoExpiry)?;
            self.rules.accept(request, &good.login)
        }))
    }
}

impl Authenticator for Jwt {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let AuthQuestion::BearerToken(token) = request.question() else { return AuthResult::cannot_tell() };
        if !self.is_own(token) {
            return AuthResult::refuse_because(Refusal::UnknownUser);
        }
        match self.check(request, token) {
            Some(Ok(result)) => result,
            Some(Err(flaw)) => {
                tracing::debug!(%flaw, mechanism = %request.mechanism(), "a token is refused");
                AuthResult::refuse()
            }
            None => AuthResult::cannot_tell(),
        }
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        let is_own = matches!(request.question(), AuthQuestion::BearerToken(token) if self.is_own(token));
        if is_own { Knows::Yes } else { Knows::No }
    }

    fn answers(&self, mechanism: &str) -> Answers {
        super::answers(mechanism)
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("rules", &self.rules).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| Duration::as_secs_f64(&since))
}
