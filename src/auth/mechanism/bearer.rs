//! OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's, and everybody's, older form of it).
//!
//! Both carry a bearer token (RFC 6750) in one message. A refused one is answered by a JSON object in a
//! challenge, for which the client owes a line before it hears of the failure.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::{Exchange, Mechanism, Start, Step};
use crate::auth::result::Outcome;
use crate::auth::{AuthResult, Credentials, Refusal};
use crate::canned;
use crate::secret::{Secret, SecretRef};

/// OAUTHBEARER (RFC 7628).
///
/// The authenticator is asked [`AuthQuestion::BearerToken`](crate::auth::AuthQuestion::BearerToken) and
/// says, by [`AuthResult::with_login`], whose the token is. The message names no authcid; what it may
/// name, an authzid, is granted if it is that login, or by
/// [`granting_authzid`](AuthResult::granting_authzid).
#[derive(Clone, Debug, Default)]
pub struct OAuthBearer {
    error: ErrorFields,
}

/// XOAUTH2: what Gmail and Outlook speak.
///
/// The authenticator is asked [`AuthQuestion::BearerToken`](crate::auth::AuthQuestion::BearerToken) about
/// a token that the client says is the authcid's: accepting means that it is.
#[derive(Clone, Debug, Default)]
pub struct XOAuth2 {
    error: ErrorFields,
}

/// What the error object tells besides the error.
#[derive(Clone, Debug, Default)]
struct ErrorFields {
    /// In place of all the others.
    object: Option<Arc<str>>,
    scope: Option<Arc<str>>,
    openid_configuration: Option<Arc<str>>,
}

/// A bearer token: an [`AuthRequest`](crate::AuthRequest)'s data.
pub struct BearerToken {
    token: Secret,
    host: Option<String>,
    port: Option<u16>,
}

impl BearerToken {
    /// The token, in the characters that RFC 6750, section 2.1 allows.
    #[must_use]
    pub fn token(&self) -> SecretRef<'_> {
        self.token.as_ref()
    }

    /// The host to which the client believes it is talking (RFC 7628, section 3.1).
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The port to which the client believes it is talking.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerToken")
            .field("token", &self.token)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish()
    }
}

impl OAuthBearer {
    /// The mechanism.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The scope that a token needs, told to clients that bring another (RFC 7628, section 3.2.2).
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.error.scope = Some(scope.into());
        self
    }

    /// Where a client finds out how to get a token: the URL of an OpenID Provider's configuration.
    #[must_use]
    pub fn openid_configuration(mut self, url: &str) -> Self {
        self.error.openid_configuration = Some(url.into());
        self
    }
}

impl XOAuth2 {
    /// The mechanism.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The scope that a token needs, told to clients that bring another.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.error.scope = Some(scope.into());
        self
    }

    /// Replaces the whole error object, for clients that look for another server's.
    #[must_use]
    pub fn error_object(mut self, json: &str) -> Self {
        self.error.object = Some(json.into());
        self
    }
}

impl Mechanism for OAuthBearer {
    fn name(&self) -> &'static str {
        "OAUTHBEARER"
    }

    fn begin(&self, _start: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Running { form: Form::OAuthBearer, error: self.error.clone() })
    }
}

impl Mechanism for XOAuth2 {
    fn name(&self) -> &'static str {
        "XOAUTH2"
    }

    fn begin(&self, _start: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Running { form: Form::XOAuth2, error: self.error.clone() })
    }
}

struct Running {
    form: Form,
    error: ErrorFields,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    OAuthBearer,
    XOAuth2,
}

impl Exchange for Running {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        let message = response.map_or(&[][..], SecretRef::expose_secret);
        let read = match self.form {
            Form::OAuthBearer => oauthbearer(message, credentials),
            Form::XOAuth2 => xoauth2(message, credentials),
        };
        match read {
            Some(Read::Token(token)) => Step::Consult(Box::new(token)),
            // No credentials have been shown, so none count as refused.
            Some(Read::Discovery) => match AuthResult::handled_with(canned::BAD_CREDENTIALS.into()) {
                Ok(result) => Step::ErrorChallenge(self.object().into(), result),
                Err(_) => Step::Malformed,
            },
            None => Step::Malformed,
        }
    }

    fn consulted(&mut self, result: AuthResult, credentials: &mut Credentials) -> Step {
        if result.denies_authzid(credentials) {
            return Step::ErrorChallenge(self.object().into(), AuthResult::refuse_because(Refusal::AuthzidNotGranted));
        }
        match result.outcome {
            Outcome::Refused(refusal) if refusal.is_uniform() => Step::ErrorChallenge(self.object().into(), result),
            Outcome::Accepted { .. }
            | Outcome::Refused(_)
            | Outcome::CannotTell
            | Outcome::Handled
            | Outcome::Found { .. } => Step::Finish(result.unless_nameless(credentials)),
        }
    }
}

impl Running {
    /// The error object.
    fn object(&self) -> Vec<u8> {
        if let Some(object) = &self.error.object {
            return object.as_bytes().into();
        }
        let (status, fixed) = match self.form {
            Form::OAuthBearer => ("invalid_token", None),
            Form::XOAuth2 => ("401", Some(("schemes", "bearer"))),
        };
        let scope = self.error.scope.as_deref().map(|scope| ("scope", scope));
        let openid = self.error.openid_configuration.as_deref().map(|url| ("openid-configuration", url));
        let mut object = String::from("{");
        for (name, value) in [Some(("status", status)), fixed, scope, openid].into_iter().flatten() {
            if object.len() > 1 {
                object.push(',');
            }
            push_string(&mut object, name);
            object.push(':');
            push_string(&mut object, value);
        }
        object.push('}');
        object.into_bytes()
    }
}

/// RFC 8259, section 7.
fn push_string(object: &mut String, text: &str) {
    object.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => object.extend(['\\', character]),
            '\0'..='\x1F' => object.push_str(&alloc::format!("\\u{:04x}", u32::from(character))),
            _ => object.push(character),
        }
    }
    object.push('"');
}

enum Read {
    Token(BearerToken),
    /// An empty `auth`, by which a client asks where it gets a token (RFC 7628, section 4.3).
    Discovery,
}

/// RFC 7628, section 3.1: a GS2 header, then pairs, each with ^A behind it, and one more ^A.
fn oauthbearer(message: &[u8], credentials: &mut Credentials) -> Option<Read> {
    let (header, pairs) = split(message, KVSEP)?;
    let header = header.strip_prefix(b"n,").or_else(|| header.strip_prefix(b"y,"))?.strip_suffix(b",")?;
    if !header.is_empty() {
        let authzid = super::scram_message::saslname(header.strip_prefix(b"a=")?).ok()?;
        credentials.set_authzid(&authzid).ok()?;
    }
    read_pairs(pairs)
}

/// `user=NAME ^A auth=Bearer TOKEN ^A ^A`.
fn xoauth2(message: &[u8], credentials: &mut Credentials) -> Option<Read> {
    let (user, pairs) = split(message, KVSEP)?;
    credentials.set_authcid(user.strip_prefix(b"user=")?).ok()?;
    if credentials.authcid().is_empty() {
        return None;
    }
    read_pairs(pairs)
}

/// Unknown pairs are passed over (RFC 7628, section 3.1).
fn read_pairs(mut pairs: &[u8]) -> Option<Read> {
    let (mut auth, mut host, mut port) = (None, None, None);
    while pairs != [KVSEP] {
        let (pair, rest) = split(pairs, KVSEP)?;
        pairs = rest;
        let (key, value) = split(pair, b'=')?;
        let is_value = |octet: &u8| matches!(octet, b'!'..=b'~' | b' ' | b'\t' | b'\r' | b'\n');
        if key.is_empty() || !key.iter().all(u8::is_ascii_alphabetic) || !value.iter().all(is_value) {
            return None;
        }
        match key {
            b"auth" if auth.is_none() => auth = Some(value),
            b"host" if host.is_none() => host = Some(text(value)?.into()),
            b"port" if port.is_none() => port = Some(text(value)?.parse().ok()?),
            b"auth" | b"host" | b"port" => return None,
            _ => {}
        }
    }
    match auth? {
        b"" => Some(Read::Discovery),
        auth => Some(Read::Token(BearerToken { token: bearer(auth)?.into(), host, port })),
    }
}

/// RFC 6750, section 2.1; the scheme's name is in any case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = split(value, b' ')?;
    let token = token.trim_ascii();
    let body = token.iter().rposition(|&octet| octet != b'=').map_or(0, |last| last + 1);
    let is_token =
        |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    let valid = body > 0 && token.get(..body)?.iter().all(is_token);
    (valid && scheme.eq_ignore_ascii_case(b"Bearer")).then_some(token)
}

fn text(value: &[u8]) -> Option<&str> {
    core::str::from_utf8(value).ok()
}

fn split(octets: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, octets)?;
    Some((octets.get(..at)?, octets.get(at + 1..)?))
}

/// ^A.
const KVSEP: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_rfc_7628_section_4_1() {
        let mut credentials = Credentials::default();
        let message = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
            auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let Some(Read::Token(token)) = oauthbearer(message, &mut credentials) else { panic!("no token") };
        assert_eq!(token.token().expose_secret(), b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        assert_eq!((token.host(), token.port()), (Some("server.example.com"), Some(143)));
        assert_eq!((credentials.authcid(), credentials.authzid()), ("", Some("user@example.com")));
        assert!(!alloc::format!("{token:?}").contains("vF9d"));
    }

    #[test]
    fn what_is_no_message() {
        for message in [
            &b""[..],
            b"\x01",
            b"n,,",
            b"n,,\x01",
            b"n,,\x01\x01",
            b"n,,\x01auth=Bearer x\x01",
            b"n,,\x01auth=Bearer x\x01\x01\x01",
            b"n,,\x01auth=Basic x\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01",
            b"n,,\x01auth=Bearer =\x01\x01",
            b"n,,\x01auth=Bearer a b\x01\x01",
            b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
            b"n,,\x01port=65536\x01auth=Bearer x\x01\x01",
            b"n,,\x01=\x01auth=Bearer x\x01\x01",
            b"n,,\x01k=\0\x01auth=Bearer x\x01\x01",
            b"n,a=,\x01auth=Bearer x\x01\x01",
            b"n,b=x,\x01auth=Bearer x\x01\x01",
            b"p=tls-exporter,,\x01auth=Bearer x\x01\x01",
            b"n,a=a\nb,\x01auth=Bearer x\x01\x01",
        ] {
            assert!(oauthbearer(message, &mut Credentials::default()).is_none(), "{}", message.escape_ascii());
        }
        for message in [&b"user=\x01auth=Bearer x\x01\x01"[..], b"user=a\x01\x01", b"auth=Bearer x\x01\x01"] {
            assert!(xoauth2(message, &mut Credentials::default()).is_none(), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn the_error_object_is_json() {
        let running = |form, error| String::from_utf8(Running { form, error }.object()).unwrap();
        let mechanism = OAuthBearer::new().scope("a \"b\"").openid_configuration("https://x/\n");
        assert_eq!(
            running(Form::OAuthBearer, mechanism.error),
            r#"{"status":"invalid_token","scope":"a \"b\"","openid-configuration":"https://x/\u000a"}"#
        );
        assert_eq!(running(Form::XOAuth2, ErrorFields::default()), r#"{"status":"401","schemes":"bearer"}"#);
    }
}
