//! Every built-in mechanism, and what a client with the right password says by each. With the entropy of
//! [`zeros`], all of it is known beforehand.

#![allow(dead_code, reason = "each test uses its part")]

use hmac::{Hmac, KeyInit as _, Mac as _};
use sansmtp::auth::mechanism::{Anonymous, CramMd5, External, OAuthBearer, Scram, XOAuth2};
use sansmtp::auth::{KnownPassword, ScramHash, ScramKeys};
use sansmtp::{Auth, Secret, TlsInfo, TlsVersion};

use super::scram;

pub(crate) const MECHANISMS: [&str; 13] = [
    "SCRAM-SHA-1",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-512-PLUS",
    "CRAM-MD5",
    "OAUTHBEARER",
    "XOAUTH2",
    "EXTERNAL",
    "ANONYMOUS",
    "PLAIN",
    "LOGIN",
];

pub(crate) const HASHES: [ScramHash; 3] = [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512];

pub(crate) const USER: &str = "tim";
pub(crate) const PASSWORD: &str = "pencil";
pub(crate) const TOKEN: &str = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";
pub(crate) const SALT: &[u8] = b"sixteen octets..";

/// What unknown users appear to have too.
pub(crate) const ITERATIONS: u32 = 64;

const EXPORTER: [u8; 32] = [7; 32];

pub(crate) fn every_mechanism() -> Auth {
    let scrams = HASHES.into_iter().fold(Auth::new(), |auth, hash| {
        auth.mechanism(Scram::new(hash).iterations(ITERATIONS)).mechanism(Scram::plus(hash).iterations(ITERATIONS))
    });
    scrams
        .mechanism(CramMd5::new())
        .mechanism(OAuthBearer::new())
        .mechanism(XOAuth2::new())
        .mechanism(External::new())
        .mechanism(Anonymous::new())
        .salt_key(Secret::new(vec![9; 32]))
}

/// TLS by which every mechanism can be used.
pub(crate) fn tls() -> TlsInfo {
    let mut tls = TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
    tls.peer_certificates = vec![b"a certificate".to_vec()];
    tls.exporter = Some(EXPORTER);
    tls
}

/// Entropy without any.
pub(crate) fn zeros(room: &mut [u8]) -> bool {
    room.fill(0);
    true
}

pub(crate) fn keys(hash: ScramHash) -> ScramKeys {
    ScramKeys::derive(hash, PASSWORD.as_bytes(), SALT, ITERATIONS).expect("good parameters")
}

pub(crate) fn known_password() -> KnownPassword {
    KnownPassword::new(PASSWORD.as_bytes(), SALT).expect("a good salt")
}

/// SCRAM's client, if the mechanism is one.
pub(crate) fn scram_client(mechanism: &str, password: &str) -> Option<scram::Client> {
    let hash = HASHES.into_iter().find(|hash| [hash.mechanism(), hash.plus_mechanism()].contains(&mechanism))?;
    let mut client = scram::Client::new(hash, USER, password, SALT, ITERATIONS);
    if mechanism == hash.plus_mechanism() {
        client.header = "p=tls-exporter,,";
        client.binding = EXPORTER.to_vec();
    }
    Some(client)
}

/// The client's messages, the first of which goes with the command if it is one.
pub(crate) fn messages(mechanism: &str, password: &str) -> Vec<Option<Vec<u8>>> {
    if let Some(client) = scram_client(mechanism, password) {
        let last = client.last(&client.server_first(&"A".repeat(24))).message;
        return vec![Some(client.first().into_bytes()), Some(last.into_bytes()), Some(Vec::new())];
    }
    match mechanism {
        "CRAM-MD5" => {
            // By zeros and the host's name.
            let mut hmac = Hmac::<md5::Md5>::new_from_slice(password.as_bytes()).expect("a key of any length");
            hmac.update(b"<0.0@mx.example.org>");
            let digits: String = hmac.finalize().into_bytes().iter().map(|octet| format!("{octet:02x}")).collect();
            vec![None, Some(format!("{USER} {digits}").into_bytes())]
        }
        "OAUTHBEARER" => {
            vec![Some(format!("n,a={USER},\x01host=mx.example.org\x01port=587\x01auth=Bearer {TOKEN}\x01\x01").into())]
        }
        "XOAUTH2" => vec![Some(format!("user={USER}\x01auth=Bearer {TOKEN}\x01\x01").into())],
        "EXTERNAL" => vec![Some(Vec::new())],
        "ANONYMOUS" => vec![Some(b"tim@example.net".to_vec())],
        "PLAIN" => vec![Some(format!("\0{USER}\0{password}").into())],
        "LOGIN" => vec![None, Some(USER.into()), Some(password.into())],
        _ => panic!("no such mechanism: {mechanism}"),
    }
}
