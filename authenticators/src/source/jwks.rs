//! Which tokens to accept, as `jwks:FILE?…` says it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::oauth2::TokenRules;
use percent_encoding::percent_decode_str;

/// Keys, and what a token that is signed by one of them has to say.
///
/// `FILE?issuer=URL&audience=NAME`, and where wanted `&scope=WORD`, `&login=CLAIM` and `&case=ignore`; audience and
/// scope can be repeated. `%` and two hexadecimal digits stand for an octet, `+` for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksSource {
    file: PathBuf,
    issuer: String,
    /// At least one.
    audiences: Vec<String>,
    scopes: Vec<String>,
    login: Option<String>,
    ignore_case: bool,
}

/// Why a text says nothing of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidJwks {
    /// What is encoded is not UTF-8.
    Encoding,
    /// This one has no value, or one that it cannot have.
    Invalid(&'static str),
    /// This one has to be there.
    Missing(&'static str),
    /// This one can only be there once.
    Repeated(&'static str),
    /// There is one that is not known, or has no `=`.
    Unknown,
}

impl JwksSource {
    /// Reads what follows `jwks:`.
    ///
    /// # Errors
    /// Says what is wrong with which part.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidJwks> {
        let (file, parameters) = text.split_once('?').unwrap_or((text, ""));
        let (mut issuer, mut login, mut case) = (None, None, None);
        let (mut audiences, mut scopes) = (Vec::new(), Vec::new());
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or(InvalidJwks::Unknown)?;
            let value = decoded(value)?;
            match name {
                "issuer" => once("issuer", &mut issuer, value)?,
                "audience" if value.is_empty() => return Err(InvalidJwks::Invalid("audience")),
                "audience" => audiences.push(value),
                "scope" if value.is_empty() || value.contains(' ') => return Err(InvalidJwks::Invalid("scope")),
                "scope" => scopes.push(value),
                "login" => once("login", &mut login, value)?,
                "case" if value != "ignore" => return Err(InvalidJwks::Invalid("case")),
                "case" => once("case", &mut case, value)?,
                _ => return Err(InvalidJwks::Unknown),
            }
        }
        let file = decoded(file)?;
        let issuer = issuer.ok_or(InvalidJwks::Missing("issuer"))?;
        match (file.is_empty(), audiences.is_empty()) {
            (true, _) => Err(InvalidJwks::Missing("file")),
            (false, true) => Err(InvalidJwks::Missing("audience")),
            (false, false) => {
                let (file, ignore_case) = (PathBuf::from(file), case.is_some());
                Ok(Self { file, issuer, audiences, scopes, login, ignore_case })
            }
        }
    }

    /// The file with the keys, a JWK Set.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What tokens have to say.
    #[must_use]
    pub fn rules(&self) -> TokenRules {
        let rules = TokenRules::new().issuer(&self.issuer).ignore_case(self.ignore_case);
        let rules = self.audiences.iter().fold(rules, |rules, audience| rules.audience(audience));
        let rules = self.scopes.iter().fold(rules, |rules, scope| rules.scope(scope));
        self.login.iter().fold(rules, |rules, claim| rules.login_claim(claim))
    }
}

impl fmt::Display for InvalidJwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => f.write_str("what is encoded behind jwks: is not UTF-8"),
            Self::Invalid(name) => write!(f, "the {name} behind jwks: is none"),
            Self::Missing(name) => write!(f, "jwks:FILE?issuer=URL&audience=NAME is without its {name}"),
            Self::Repeated(name) => write!(f, "there is more than one {name} behind jwks:"),
            Self::Unknown => f.write_str("behind jwks:FILE? are issuer=, audience=, scope=, login= and case=ignore"),
        }
    }
}

impl std::error::Error for InvalidJwks {}

fn once(name: &'static str, place: &mut Option<String>, value: String) -> Result<(), InvalidJwks> {
    if value.is_empty() {
        return Err(InvalidJwks::Invalid(name));
    }
    if place.replace(value).is_some() { Err(InvalidJwks::Repeated(name)) } else { Ok(()) }
}

fn decoded(text: &str) -> Result<String, InvalidJwks> {
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| InvalidJwks::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_asked_for() {
        let all = "/etc/mail/a%3Fb.json?issuer=https://id.example.org/x?y%26z&audience=mx&audience=https%3A//mx&\
                   scope=mail.send&scope=a+b&login=email&case=ignore";
        let source = JwksSource::parse(all).unwrap();
        assert_eq!(source.file, PathBuf::from("/etc/mail/a?b.json"));
        let rules = TokenRules::new().issuer("https://id.example.org/x?y&z").audience("mx").audience("https://mx");
        let rules = rules.scope("mail.send").scope("a+b").login_claim("email").ignore_case(true);
        assert_eq!(source.rules(), rules);
        let source = JwksSource::parse("keys?&issuer=i&audience=a&").unwrap();
        assert_eq!(source.rules(), TokenRules::new().issuer("i").audience("a"));
    }

    #[test]
    fn what_would_accept_too_much_or_nothing() {
        use InvalidJwks::{Encoding, Invalid, Missing, Repeated, Unknown};
        for (text, error) in [
            ("", Missing("issuer")),
            ("keys", Missing("issuer")),
            ("keys?audience=a", Missing("issuer")),
            ("keys?issuer=i", Missing("audience")),
            ("?issuer=i&audience=a", Missing("file")),
            ("keys?issuer=&audience=a", Invalid("issuer")),
            ("keys?issuer=i&audience=", Invalid("audience")),
            ("keys?issuer=i&audience=a&scope=", Invalid("scope")),
            ("keys?issuer=i&audience=a&scope=b%20c", Invalid("scope")),
            ("keys?issuer=i&audience=a&login=", Invalid("login")),
            ("keys?issuer=i&audience=a&case=fold", Invalid("case")),
            ("keys?issuer=i&issuer=j&audience=a", Repeated("issuer")),
            ("keys?issuer=i&audience=a&login=sub&login=email", Repeated("login")),
            ("keys?issuer=i&audience=a&aud=b", Unknown),
            ("keys?issuer=i&audience=a&scope", Unknown),
            ("keys?Issuer=i&audience=a", Unknown),
            ("keys?issuer=%ff&audience=a", Encoding),
        ] {
            assert_eq!(JwksSource::parse(text), Err(error), "{text}");
        }
    }
}
