//! What a token has to say.

use std::fmt;
use std::time::Duration;

use sansmtp::auth::Credentials;
use sansmtp::{AuthRequest, AuthResult};
use serde_json::{Map, Value};

use super::flaw::Flaw;

/// What a token has to say: who issued it, for whom, for what, until when, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    issuer: Option<String>,
    audiences: Vec<String>,
    scopes: Vec<String>,
    login_claim: Option<String>,
    ignore_case: bool,
    skew: Duration,
}

/// Rules with which tokens must not be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesError {
    /// No [audience](TokenRules::audience): tokens that were given to other services would be good here.
    NoAudience,
    /// No [issuer](TokenRules::issuer).
    NoIssuer,
    /// This one is empty.
    Empty(&'static str),
}

/// What became of a token that says what it has to.
pub(super) struct Good {
    pub(super) login: String,
    /// When it expires, in seconds since 1970 (RFC 7519, section 2, `NumericDate`).
    pub(super) expires: Option<f64>,
}

pub(super) type Claims = Map<String, Value>;

impl TokenRules {
    /// Asks for nothing but a login, and that the token has not expired, nor is for later; the clocks may be a minute
    /// apart.
    #[must_use]
    pub fn new() -> Self {
        let (issuer, audiences, scopes, login_claim, ignore_case) = Default::default();
        Self { issuer, audiences, scopes, login_claim, ignore_case, skew: Duration::from_secs(60) }
    }

    /// Who issues the tokens: the claim `iss`, to the octet (RFC 7519, section 4.1.1).
    #[must_use]
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.issuer = Some(issuer.to_owned());
        self
    }

    /// For whom a token may be: the claim `aud` has this, to the octet (RFC 7519, section 4.1.3). Of several, one is
    /// enough.
    #[must_use]
    pub fn audience(mut self, audience: &str) -> Self {
        self.audiences.push(audience.to_owned());
        self
    }

    /// What a token has to allow: a word of the claim `scope` (RFC 8693, section 4.2), or of `scp`, as some servers
    /// call it. Of several, all are needed.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scopes.push(scope.to_owned());
        self
    }

    /// The claim that is the login, a string. Unless set, `sub` of a [`Jwt`](super::Jwt), and `username` of what is
    /// found by introspection.
    ///
    /// Others than `sub` are what a user may have chosen: it has to be sure that the server gives the same to nobody
    /// else, now or later. An `email` that the token says is not verified is nobody's.
    #[must_use]
    pub fn login_claim(mut self, claim: &str) -> Self {
        self.login_claim = Some(claim.to_owned());
        self
    }

    /// Whether the login is written in lower case, and compared so with the user whom the client names. Unless set,
    /// `Tim` and `tim` are two users.
    #[must_use]
    pub fn ignore_case(mut self, ignore_case: bool) -> Self {
        self.ignore_case = ignore_case;
        self
    }

    /// How far the clocks may be apart: so much longer after it has expired, and earlier than it begins, a token is
    /// good.
    #[must_use]
    pub fn skew(mut self, skew: Duration) -> Self {
        self.skew = skew;
        self
    }

    /// Whether there is anything that means nothing.
    pub(super) fn check(&self) -> Result<(), RulesError> {
        let empty = |text: &String| text.is_empty();
        // A scope with a space in it is no word, and would never be found.
        let no_word = |scope: &String| scope.is_empty() || scope.contains(' ');
        for (setting, wrong) in [
            ("issuer", self.issuer.iter().any(empty)),
            ("audience", self.audiences.iter().any(empty)),
            ("scope", self.scopes.iter().any(no_word)),
            ("login claim", self.login_claim.iter().any(empty)),
        ] {
            if wrong {
                return Err(RulesError::Empty(setting));
            }
        }
        Ok(())
    }

    /// [`check`](Self::check), and whether issuer and audience are told.
    pub(super) fn check_told(&self) -> Result<(), RulesError> {
        self.check()?;
        match (&self.issuer, self.audiences.is_empty()) {
            (None, _) => Err(RulesError::NoIssuer),
            (_, true) => Err(RulesError::NoAudience),
            (Some(_), false) => Ok(()),
        }
    }

    #[cfg(feature = "introspection")]
    pub(super) fn has_issuer(&self) -> bool {
        self.issuer.is_some()
    }

    pub(super) fn is_issuer(&self, claims: &Claims) -> bool {
        text(claims, "iss").is_some_and(|issuer| Some(issuer) == self.issuer.as_deref())
    }

    /// Whether claims that can be believed say what they have to, at a time in seconds since 1970.
    pub(super) fn judge(&self, claims: &Claims, now: f64, default_claim: &str) -> Result<Good, Flaw> {
        let skew = self.skew.as_secs_f64();
        let expires = date(claims, "exp")?;
        if expires.is_some_and(|expires| now >= expires + skew) {
            return Err(Flaw::Expired);
        }
        if date(claims, "nbf")?.is_some_and(|begins| now + skew < begins) {
            return Err(Flaw::NotYetValid);
        }
        if !self.audiences.is_empty() && !self.audiences.iter().any(|audience| has(claims, "aud", audience, false)) {
            return Err(Flaw::Audience);
        }
        let has_scope = |scope: &String| has(claims, "scope", scope, true) || has(claims, "scp", scope, true);
        if !self.scopes.iter().all(has_scope) {
            return Err(Flaw::Scope);
        }
        // RFC 7800, RFC 8705, RFC 9449: good only together with a proof, for which neither mechanism has a place.
        if claims.get("cnf").is_some_and(|confirmation| !confirmation.is_null()) {
            return Err(Flaw::SenderConstrained);
        }
        Ok(Good { login: self.login(claims, default_claim).ok_or(Flaw::Login)?, expires })
    }

    fn login(&self, claims: &Claims, default_claim: &str) -> Option<String> {
        let claim = self.login_claim.as_deref().unwrap_or(default_claim);
        let verified = claims.get("email_verified").is_none_or(|verified| *verified == true || *verified == "true");
        if claim == "email" && !verified {
            return None;
        }
        // The rules for a name that a client sends: prepared, not empty, without control characters.
        let mut credentials = Credentials::default();
        credentials.set_authcid(text(claims, claim)?.as_bytes()).ok()?;
        let login = credentials.authcid();
        if login.is_empty() { None } else { Some(self.folded(login)) }
    }

    /// What is said of a good token, if the user whom the client names is the one whose it is.
    pub(super) fn accept(&self, request: &AuthRequest, login: &str) -> Result<AuthResult, Flaw> {
        let credentials = request.credentials();
        let is_login = |named: &str| self.folded(named) == login;
        if !credentials.authcid().is_empty() && !is_login(credentials.authcid()) {
            return Err(Flaw::User);
        }
        let accept = AuthResult::accept().with_login(login);
        // Another authzid is refused by the engine.
        Ok(if credentials.authzid().is_some_and(is_login) { accept.granting_authzid() } else { accept })
    }

    fn folded(&self, name: &str) -> String {
        if self.ignore_case { name.to_lowercase() } else { name.to_owned() }
    }
}

impl Default for TokenRules {
    fn default() -> Self {
        Self::new()
    }
}

fn text<'c>(claims: &'c Claims, claim: &str) -> Option<&'c str> {
    claims.get(claim)?.as_str()
}

/// A date of any kind of number; anything else is not passed over, since it was meant to limit the token.
fn date(claims: &Claims, claim: &str) -> Result<Option<f64>, Flaw> {
    match claims.get(claim) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_f64().map(Some).ok_or(Flaw::Malformed),
        Some(Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => Err(Flaw::Malformed),
    }
}

/// Whether a claim is this string or an array with it; or has it as one of its words.
fn has(claims: &Claims, claim: &str, wanted: &str, words: bool) -> bool {
    let is = |text: &str| if words { text.split(' ').any(|word| word == wanted) } else { text == wanted };
    match claims.get(claim) {
        Some(Value::String(text)) => is(text),
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).any(is),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    }
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAudience => f.write_str("no audience of the tokens is set"),
            Self::NoIssuer => f.write_str("no issuer of the tokens is set"),
            Self::Empty(setting) => write!(f, "a {setting} of the tokens is empty, or not one word"),
        }
    }
}

impl std::error::Error for RulesError {}
