//! A client of SCRAM (RFC 5802), from the RFC and not from the engine.

#![allow(dead_code, reason = "each test uses its part")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sansmtp::auth::ScramHash;
use sha2::Digest as _;

/// One user's client, who knows a password, or believes to.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) hash: ScramHash,
    /// The GS2 header: `n,,`, `y,,`, `p=tls-exporter,,`, with an authzid in it or not.
    pub(crate) header: &'static str,
    /// The channel binding data behind the header.
    pub(crate) binding: Vec<u8>,
    pub(crate) name: String,
    salt: Vec<u8>,
    iterations: u32,
    pub(crate) salted_password: Vec<u8>,
}

/// The client's final message, and what the server says if it has the keys.
#[derive(Clone, Debug)]
pub(crate) struct Last {
    pub(crate) message: String,
    pub(crate) server_last: String,
}

impl Client {
    /// Hashes the password, once for all exchanges.
    pub(crate) fn new(hash: ScramHash, name: &str, password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted_password = match hash {
            ScramHash::Sha1 => {
                pbkdf2::pbkdf2_hmac_array::<sha1::Sha1, 20>(password.as_bytes(), salt, iterations).into()
            }
            ScramHash::Sha256 => {
                pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(password.as_bytes(), salt, iterations).into()
            }
            ScramHash::Sha512 => {
                pbkdf2::pbkdf2_hmac_array::<sha2::Sha512, 64>(password.as_bytes(), salt, iterations).into()
            }
        };
        let (salt, name) = (salt.to_vec(), name.to_owned());
        Self { hash, header: "n,,", binding: Vec::new(), name, salt, iterations, salted_password }
    }

    pub(crate) fn first(&self) -> String {
        format!("{}{}", self.header, self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n={},r={NONCE}", self.name)
    }

    /// What the server says if its part of the nonce is `server_nonce`.
    pub(crate) fn server_first(&self, server_nonce: &str) -> String {
        format!("r={NONCE}{server_nonce},s={},i={}", STANDARD.encode(&self.salt), self.iterations)
    }

    /// The answer to the server's first message. The salt and the iterations are taken for granted.
    pub(crate) fn last(&self, server_first: &str) -> Last {
        let nonce = server_first.strip_prefix("r=").and_then(|rest| rest.split(',').next()).unwrap_or_default();
        let binding = STANDARD.encode([self.header.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={binding},r={nonce}");
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare());
        let client_key = hmac(self.hash, &self.salted_password, b"Client Key");
        let signature = hmac(self.hash, &digest(self.hash, &client_key), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let server_key = hmac(self.hash, &self.salted_password, b"Server Key");
        let verifier = STANDARD.encode(hmac(self.hash, &server_key, auth_message.as_bytes()));
        Last { message: format!("{without_proof},p={}", STANDARD.encode(proof)), server_last: format!("v={verifier}") }
    }

    /// The lines of an exchange, the AUTH command first, where the server's nonce is known beforehand.
    pub(crate) fn lines(&self, mechanism: &str, server_nonce: &str) -> Vec<String> {
        let last = self.last(&self.server_first(server_nonce)).message;
        let first = STANDARD.encode(self.first());
        vec![format!("AUTH {mechanism} {first}"), STANDARD.encode(last), String::new()]
    }
}

pub(crate) fn digest(hash: ScramHash, octets: &[u8]) -> Vec<u8> {
    match hash {
        ScramHash::Sha1 => sha1::Sha1::digest(octets).to_vec(),
        ScramHash::Sha256 => sha2::Sha256::digest(octets).to_vec(),
        ScramHash::Sha512 => sha2::Sha512::digest(octets).to_vec(),
    }
}

pub(crate) fn hmac(hash: ScramHash, key: &[u8], message: &[u8]) -> Vec<u8> {
    match hash {
        ScramHash::Sha1 => mac::<Hmac<sha1::Sha1>>(key, message),
        ScramHash::Sha256 => mac::<Hmac<sha2::Sha256>>(key, message),
        ScramHash::Sha512 => mac::<Hmac<sha2::Sha512>>(key, message),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// The client's part of the nonce.
pub(crate) const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
