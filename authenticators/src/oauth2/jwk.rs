//! Public keys: JSON Web Keys (RFC 7517, RFC 7518, RFC 8037).

use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256};
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use super::JwksError;
use super::flaw::Flaw;
use super::jws::{Jws, decode};

/// How a token is signed. Nothing symmetric is among them, nor nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

/// The usable keys of a set.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

/// A public key, which is good for one algorithm only.
#[derive(Debug)]
struct Key {
    kid: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed, as SEC 1 has it.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The members that matter.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

impl Algorithm {
    /// RFC 7518, section 3.1; RFC 8037, section 3.1; RFC 9864, section 2.2.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

impl Keys {
    /// Reads a set (RFC 7517, section 5). A key that is not understood, or not for this, is passed over.
    pub(super) fn read(content: &[u8]) -> Result<Self, JwksError> {
        let set: JwkSet = serde_json::from_slice(content)?;
        let mut keys: Vec<Key> = Vec::new();
        for (index, jwk) in set.keys.iter().enumerate() {
            let is_private = jwk.get("d").is_some() && jwk.get("kty").is_some_and(|kty| kty != "oct");
            if is_private {
                return Err(JwksError::PrivateKey { index });
            }
            match Key::read(jwk) {
                Ok(key) if keys.iter().any(|other| other.kid == key.kid && key.kid.is_some()) => {
                    return Err(JwksError::DuplicateKid { index });
                }
                Ok(key) => keys.push(key),
                Err(why) => tracing::debug!(index, why, "a key of the set is passed over"),
            }
        }
        if keys.is_empty() { Err(JwksError::NoUsableKey) } else { Ok(Self { keys }) }
    }

    /// Checks a token's signature, by the key that it names. One that names none is checked by the only key there is
    /// for its algorithm.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Result<(), Flaw> {
        let key = match &jws.kid {
            Some(kid) => self.keys.iter().find(|key| key.kid.as_ref() == Some(kid)),
            None => {
                let mut fitting = self.keys.iter().filter(|key| key.algorithm() == jws.algorithm);
                fitting.next().filter(|_| fitting.next().is_none())
            }
        };
        let key = key.ok_or(Flaw::KeyUnknown)?;
        // The key says which algorithm it is, never the token.
        if key.algorithm() != jws.algorithm {
            return Err(Flaw::Algorithm);
        }
        let verified = match &key.material {
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, jws.signed, &jws.signature)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(jws.signed, &jws.signature)
            }
            Material::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point).verify(jws.signed, &jws.signature),
        };
        verified.map_err(|_| Flaw::Signature)
    }
}

impl Key {
    fn read(jwk: &Value) -> Result<Self, &'static str> {
        let jwk = Jwk::deserialize(jwk).map_err(|_| "it is no JSON Web Key")?;
        if jwk.purpose.as_ref().is_some_and(|purpose| purpose != "sig") {
            return Err("its use is not to sign");
        }
        if jwk.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
            return Err("it is not to verify with");
        }
        let material = Material::read(&jwk)?;
        if jwk.alg.as_ref().is_some_and(|alg| Algorithm::named(alg) != Some(material.algorithm())) {
            return Err("it is for another algorithm");
        }
        Ok(Self { kid: jwk.kid, material })
    }

    fn algorithm(&self) -> Algorithm {
        self.material.algorithm()
    }
}

impl Material {
    fn read(jwk: &Jwk) -> Result<Self, &'static str> {
        match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (number(jwk.n.as_ref())?, number(jwk.e.as_ref())?);
                // RFC 7518, section 3.3; more than the upper limit would take too long.
                match bits(&n) {
                    2048..=8192 => Ok(Self::Rsa { n, e }),
                    _ => Err("its modulus has less than 2,048 bits, or more than 8,192"),
                }
            }
            ("EC", Some("P-256")) => {
                let coordinates = [coordinate(jwk.x.as_ref())?, coordinate(jwk.y.as_ref())?];
                Ok(Self::P256([&[4][..], &coordinates.concat()].concat()))
            }
            ("OKP", Some("Ed25519")) => match octets(jwk.x.as_ref())? {
                // RFC 8037, section 2: no number, so nothing of it can be missing.
                x if x.len() == POINT_OCTETS => Ok(Self::Ed25519(x)),
                _ => Err("its x has not 32 octets"),
            },
            _ => Err("its type or its curve is not one of those that are used"),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }
}

/// Without the zeros that should not be in front (RFC 7518, section 2, Base64urlUInt), and sometimes are.
fn number(text: Option<&String>) -> Result<Vec<u8>, &'static str> {
    let octets = octets(text)?;
    Ok(octets.into_iter().skip_while(|octet| *octet == 0).collect())
}

/// Of 32 octets, as RFC 7518, section 6.2.1.2 has it, whatever zeros are missing in front, or are too many there: not
/// all libraries count them.
fn coordinate(text: Option<&String>) -> Result<Vec<u8>, &'static str> {
    let number = number(text)?;
    let zeros = POINT_OCTETS.checked_sub(number.len()).ok_or("a coordinate has more than 32 octets")?;
    Ok([vec![0; zeros], number].concat())
}

fn octets(text: Option<&String>) -> Result<Vec<u8>, &'static str> {
    decode(text.ok_or("a part of it is missing")?).map_err(|_| "a part of it is not base64url")
}

fn bits(number: &[u8]) -> usize {
    let zeros = number.first().map_or(0, |first| first.leading_zeros());
    (number.len() * 8).saturating_sub(usize::try_from(zeros).unwrap_or(0))
}

/// Of each coordinate on P-256, and of a point on edwards25519.
const POINT_OCTETS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(keys: &str, token: &str) -> Result<(), Flaw> {
        Keys::read(keys.as_bytes()).unwrap().verify(&Jws::read(token).unwrap())
    }

    /// Whatever is changed in it, it is no longer signed.
    fn vector(keys: &str, token: &str) {
        assert_eq!(verify(keys, token), Ok(()));
        let signature = token.rfind('.').unwrap() + 1;
        let payload = token.find('.').unwrap() + 1;
        for at in [payload, payload + 5, signature, signature + 20] {
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            assert_eq!(verify(keys, &changed), Err(Flaw::Signature), "{at}");
        }
    }

    #[test]
    fn rs256_of_rfc_7515_section_a_2() {
        vector(
            r#"{"keys":[{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}"#,
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        );
    }

    #[test]
    fn es256_of_rfc_7515_section_a_3() {
        vector(
            r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#,
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        );
    }

    #[test]
    fn eddsa_of_rfc_8037_section_a_4() {
        vector(
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        );
    }
}
