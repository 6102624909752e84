//! SCRAM (RFC 5802, RFC 7677), with and without channel binding.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::exchange::{Binding, ExchangeError};

/// The client's side of one exchange.
pub(super) struct Scram {
    hash: Hash,
    binding: Option<Binding>,
    authcid: String,
    password: Zeroizing<String>,
    nonce: String,
    state: State,
}

enum State {
    /// The server's first message comes next.
    First,
    /// Its last one, which must show this signature.
    Final {
        signature: Zeroizing<Vec<u8>>,
    },
    Verified,
    /// The server does not take the proof, and has said why.
    Refused {
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Scram {
    /// Begins an exchange. The nonce is fresh, and holds printable ASCII without a comma.
    pub(super) fn new(
        hash: Hash,
        binding: Option<Binding>,
        authcid: &str,
        password: Zeroizing<String>,
        nonce: String,
    ) -> Self {
        // RFC 5802, section 5.1.
        let authcid = authcid.replace('=', "=3D").replace(',', "=2C");
        Self { hash, binding, authcid, password: prepared(password), nonce, state: State::First }
    }

    /// The client's first message.
    pub(super) fn first(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(format!("{}{}", self.gs2_header(), self.first_bare()).into_bytes())
    }

    /// Answers a message of the server. This derives keys, which takes milliseconds to a second.
    ///
    /// # Errors
    /// Where the message is none of SCRAM, or does not show that the server knows the password.
    pub(super) fn respond(&mut self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, ExchangeError> {
        let message = std::str::from_utf8(message).map_err(|_| ExchangeError::Challenge)?;
        match &self.state {
            State::First => self.prove(message),
            State::Final { signature } => {
                let first = message.split(',').next().unwrap_or_default();
                if let Some(reason) = first.strip_prefix("e=") {
                    // RFC 5802, section 7. SMTP's own reply follows an empty response.
                    self.state = State::Refused { reason: reason.to_owned() };
                    return Ok(Zeroizing::default());
                }
                let told = first.strip_prefix("v=");
                let told = told.and_then(|told| STANDARD.decode(told).ok()).ok_or(ExchangeError::Challenge)?;
                if !bool::from(signature.ct_eq(&told)) {
                    return Err(ExchangeError::ServerSignature);
                }
                self.state = State::Verified;
                Ok(Zeroizing::default())
            }
            State::Verified | State::Refused { .. } => Err(ExchangeError::Challenge),
        }
    }

    /// Whether the server has shown that it knows the password.
    pub(super) fn is_verified(&self) -> bool {
        matches!(self.state, State::Verified)
    }

    /// Why the server does not take the proof, if it has said so.
    pub(super) fn refusal(&self) -> Option<&str> {
        if let State::Refused { reason } = &self.state { Some(reason) } else { None }
    }

    fn prove(&mut self, server_first: &str) -> Result<Zeroizing<Vec<u8>>, ExchangeError> {
        let mut parts = server_first.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ExchangeError::Challenge);
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        let salt = STANDARD.decode(salt).map_err(|_| ExchangeError::Challenge)?;
        let iterations: u32 = iterations.parse().map_err(|_| ExchangeError::Challenge)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() || salt.is_empty() {
            return Err(ExchangeError::Challenge);
        }
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
            return Err(ExchangeError::Iterations(iterations));
        }
        let mut bound = Zeroizing::new(self.gs2_header().into_bytes());
        if let Some(Binding(data)) = &self.binding {
            bound.extend_from_slice(data);
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&*bound));
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare());
        let hash = self.hash;
        let salted = hash.pbkdf2(self.password.as_bytes(), &salt, iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        let client_signature = hash.hmac(&hash.digest(&client_key), auth_message.as_bytes());
        let proof: Zeroizing<Vec<u8>> =
            Zeroizing::new(client_key.iter().zip(client_signature.iter()).map(|(key, other)| key ^ other).collect());
        let signature = hash.hmac(&hash.hmac(&salted, b"Server Key"), auth_message.as_bytes());
        self.state = State::Final { signature };
        let proof = Zeroizing::new(STANDARD.encode(&*proof));
        Ok(Zeroizing::new([without_proof.as_bytes(), b",p=", proof.as_bytes()].concat()))
    }

    /// RFC 5801, section 4, without an authzid.
    fn gs2_header(&self) -> String {
        if self.binding.is_some() { "p=tls-exporter,,".to_owned() } else { "n,,".to_owned() }
    }

    fn first_bare(&self) -> String {
        format!("n={},r={}", self.authcid, self.nonce)
    }
}

impl Hash {
    fn digest(self, octets: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Sha1 => Sha1::digest(octets).to_vec(),
            Self::Sha256 => Sha256::digest(octets).to_vec(),
            Self::Sha512 => Sha512::digest(octets).to_vec(),
        })
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Zeroizing<Vec<u8>> {
        macro_rules! hmac {
            ($hash:ty) => {
                // A key of HMAC has any length.
                Hmac::<$hash>::new_from_slice(key).map_or_else(
                    |_| Vec::new(),
                    |mut hmac| {
                        hmac.update(message);
                        hmac.finalize().into_bytes().to_vec()
                    },
                )
            };
        }
        Zeroizing::new(match self {
            Self::Sha1 => hmac!(Sha1),
            Self::Sha256 => hmac!(Sha256),
            Self::Sha512 => hmac!(Sha512),
        })
    }

    fn pbkdf2(self, password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
        let octets = match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        };
        let mut salted = Zeroizing::new(vec![0; octets]);
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut salted),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut salted),
        }
        salted
    }
}

/// The password after SASLprep (RFC 4013), or as it is where SASLprep forbids it: servers do the same.
fn prepared(password: Zeroizing<String>) -> Zeroizing<String> {
    if password.is_ascii() {
        return password;
    }
    stringprep::saslprep(&password).map(|prepared| Zeroizing::new(prepared.into_owned())).unwrap_or(password)
}

/// RFC 7677, section 4: fewer make it cheap to try passwords on what is overheard.
const MIN_ITERATIONS: u32 = 4096;
/// What a server can make this side work for a login: about a second.
const MAX_ITERATIONS: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the client of an RFC's example. Returns its first and its last message.
    fn play(
        hash: Hash,
        nonce: &str,
        server_first: &str,
        server_final: &str,
    ) -> Result<(String, String), ExchangeError> {
        let mut scram = Scram::new(hash, None, "user", Zeroizing::new("pencil".to_owned()), nonce.to_owned());
        let first = String::from_utf8(scram.first().to_vec()).unwrap();
        let last = String::from_utf8(scram.respond(server_first.as_bytes())?.to_vec()).unwrap();
        assert!(!scram.is_verified());
        let empty = scram.respond(server_final.as_bytes());
        assert_eq!(scram.is_verified(), empty.is_ok());
        assert!(empty?.is_empty());
        assert_eq!(scram.respond(server_final.as_bytes()), Err(ExchangeError::Challenge));
        Ok((first, last))
    }

    const NONCE_1: &str = "fyko+d2lbbFgONRv9qkxdawL";
    const FIRST_1: &str = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
    const FINAL_1: &str = "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=";

    /// RFC 5802, section 5.
    #[test]
    fn the_exchange_with_sha_1() {
        let (first, last) = play(Hash::Sha1, NONCE_1, FIRST_1, FINAL_1).unwrap();
        assert_eq!(first, "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        assert_eq!(last, "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=");
    }

    /// RFC 7677, section 3.
    #[test]
    fn the_exchange_with_sha_256() {
        let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let server_final = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        let (_, last) = play(Hash::Sha256, "rOprNGfwEbeRWgbNEkqO", server_first, server_final).unwrap();
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for (server_final, error) in [
            ("v=rmF9pqV8S7suAoZWja4dJRkFsKR=", ExchangeError::Challenge),
            ("v=AAAApqV8S7suAoZWja4dJRkFsKQ=", ExchangeError::ServerSignature),
            ("v=rmF9pqV8S7suAoZWja4dJRkFsA==", ExchangeError::ServerSignature),
            ("v=", ExchangeError::ServerSignature),
            ("", ExchangeError::Challenge),
        ] {
            assert_eq!(play(Hash::Sha1, NONCE_1, FIRST_1, server_final), Err(error), "{server_final}");
        }
    }

    #[test]
    fn a_reason_is_no_signature() {
        let password = Zeroizing::new("pencil".to_owned());
        let mut scram = Scram::new(Hash::Sha1, None, "user", password, NONCE_1.to_owned());
        scram.respond(FIRST_1.as_bytes()).unwrap();
        assert!(scram.respond(b"e=invalid-proof").unwrap().is_empty());
        assert_eq!((scram.refusal(), scram.is_verified()), (Some("invalid-proof"), false));
        assert_eq!(scram.respond(FINAL_1.as_bytes()), Err(ExchangeError::Challenge));
    }

    #[test]
    fn a_first_message_that_is_wrong_gets_no_proof() {
        for (server_first, error) in [
            ("r=fyko+d2lbbFgONRv9qkxdawL,s=QSXCR+Q6sek8bf92,i=4096", ExchangeError::Challenge),
            ("r=Fyko+d2lbbFgONRv9qkxdawL3rfc,s=QSXCR+Q6sek8bf92,i=4096", ExchangeError::Challenge),
            ("r=fyko+d2lbbFgONRv9qkxdawL3rfc,s=,i=4096", ExchangeError::Challenge),
            ("r=fyko+d2lbbFgONRv9qkxdawL3rfc,s=QSXC*,i=4096", ExchangeError::Challenge),
            ("r=fyko+d2lbbFgONRv9qkxdawL3rfc,s=QSXCR+Q6sek8bf92", ExchangeError::Challenge),
            ("r=fyko+d2lbbFgONRv9qkxdawL3rfc,s=QSXCR+Q6sek8bf92,i=1", ExchangeError::Iterations(1)),
            ("r=fyko+d2lbbFgONRv9qkxdawL3rfc,s=QSXCR+Q6sek8bf92,i=4294967295", ExchangeError::Iterations(u32::MAX)),
            ("m=ext,r=fyko+d2lbbFgONRv9qkxdawL3rfc,s=QSXCR+Q6sek8bf92,i=4096", ExchangeError::Challenge),
            ("\u{e9}", ExchangeError::Challenge),
            ("", ExchangeError::Challenge),
        ] {
            assert_eq!(play(Hash::Sha1, NONCE_1, server_first, FINAL_1), Err(error), "{server_first}");
        }
    }

    #[test]
    fn names_are_escaped_and_passwords_prepared() {
        let password = |text: &str| Zeroizing::new(text.to_owned());
        let scram = Scram::new(Hash::Sha1, None, "a,b=c", password("I\u{ad}X\u{2168}"), "n".to_owned());
        assert_eq!(*scram.first(), b"n,,n=a=2Cb=3Dc,r=n".to_vec());
        // RFC 4013, section 3.
        assert_eq!(scram.password.as_str(), "IXIX");
        // Not allowed by SASLprep, and still a password.
        let scram = Scram::new(Hash::Sha1, None, "a", password("\u{7}\u{e9}"), "n".to_owned());
        assert_eq!(scram.password.as_str(), "\u{7}\u{e9}");
    }

    #[test]
    fn the_binding_data_is_in_the_last_message() {
        let binding = Some(Binding(Zeroizing::new(b"data".to_vec())));
        let password = Zeroizing::new("pencil".to_owned());
        let mut scram = Scram::new(Hash::Sha1, binding, "user", password, NONCE_1.to_owned());
        assert!(scram.first().starts_with(b"p=tls-exporter,,n=user,"));
        let last = scram.respond(FIRST_1.as_bytes()).unwrap();
        let expected = format!("c={},r=", STANDARD.encode("p=tls-exporter,,data"));
        assert!(last.starts_with(expected.as_bytes()));
    }
}
