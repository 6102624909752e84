//! Signed tokens: JWS in the compact serialization (RFC 7515, section 7.1).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use zeroize::Zeroizing;

use super::flaw::Flaw;
use super::jwk::Algorithm;
use super::rules::Claims;

/// A token that has been taken apart. Nothing in it can be believed.
pub(super) struct Jws<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// What the signature is over.
    pub(super) signed: &'t [u8],
    pub(super) payload: Zeroizing<Vec<u8>>,
    pub(super) signature: Zeroizing<Vec<u8>>,
}

/// The headers that matter (RFC 7515, section 4.1). One that comes twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    b64: bool,
    #[serde(default, deserialize_with = "present")]
    jku: bool,
    #[serde(default, deserialize_with = "present")]
    jwk: bool,
    #[serde(default, deserialize_with = "present")]
    x5c: bool,
    #[serde(default, deserialize_with = "present")]
    x5u: bool,
}

impl<'t> Jws<'t> {
    pub(super) fn read(token: &'t str) -> Result<Self, Flaw> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Flaw::Malformed)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Flaw::Malformed)?;
        // RFC 7515, section 4.1.11: who does not understand them must refuse.
        if header.crit || header.b64 {
            return Err(Flaw::Critical);
        }
        // Whoever signs with their own key can say where it is.
        if header.jku || header.jwk || header.x5c || header.x5u {
            return Err(Flaw::EmbeddedKey);
        }
        // RFC 8725, section 3.11: not what the same server signs for other purposes (logout, DPoP, events).
        if header.typ.is_some_and(|typ| !is_access_token(&typ)) {
            return Err(Flaw::Type);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Flaw::Algorithm)?;
        let [payload, signature] = [payload, signature].map(|part| decode(part).map(Zeroizing::new));
        Ok(Self { algorithm, kid: header.kid, signed: signed.as_bytes(), payload: payload?, signature: signature? })
    }
}

/// What a token claims, before anything of it is checked: only good for telling whose it would be.
pub(super) fn peek(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let payload = parts.nth(1)?;
    parts.next()?;
    claims(&Zeroizing::new(decode(payload).ok()?)).ok()
}

/// The payload's claims (RFC 7519, section 4). Of one that comes twice, the last.
pub(super) fn claims(payload: &[u8]) -> Result<Claims, Flaw> {
    serde_json::from_slice(payload).map_err(|_| Flaw::Malformed)
}

/// RFC 7519, section 5.1; RFC 9068, section 2.1.
fn is_access_token(typ: &str) -> bool {
    ["JWT", "at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
}

/// Base64url without padding, in the one way in which each octet string is written. No dot is in it.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, Flaw> {
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Flaw::Malformed)
}

fn present<'d, D: Deserializer<'d>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
