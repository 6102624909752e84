//! What is kept of a password.

use std::fmt;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use sansmtp::SecretRef;
use sansmtp::auth::mechanism::CramMd5Key;
use sansmtp::auth::{Credentials, ScramHash, ScramKeys};
use zeroize::Zeroizing;

use super::Error;

/// Which keys are kept of a password besides its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// What every SCRAM mechanism needs.
    Scram,
    /// A key for CRAM-MD5, too: it opens that mechanism to whoever steals it, who can also try passwords against it at
    /// the speed of MD5.
    ScramAndCramMd5,
}

/// A password that a login can bring, prepared as it is then (RFC 4013).
pub(super) struct Password(Credentials);

impl Password {
    /// # Errors
    /// Where no login can bring it.
    pub(super) fn new(password: &[u8]) -> Result<Self, Error> {
        if password.is_empty() {
            return Err(Error::EmptyPassword);
        }
        // NUL ends the password in PLAIN (RFC 4616, section 2).
        if password.contains(&0) {
            return Err(Error::NulInPassword);
        }
        let mut credentials = Credentials::default();
        credentials.set_password(password).map_err(|_| Error::ProhibitedPassword)?;
        let password = Self(credentials);
        if password.as_ref().is_empty() { Err(Error::ProhibitedPassword) } else { Ok(password) }
    }
}

impl AsRef<[u8]> for Password {
    fn as_ref(&self) -> &[u8] {
        self.0.password().map_or(&[], SecretRef::expose_secret)
    }
}

/// The keys of a password, each in its text form.
pub(super) struct Keys {
    pub(super) scram_sha_1: Zeroizing<String>,
    pub(super) scram_sha_256: Zeroizing<String>,
    pub(super) scram_sha_512: Zeroizing<String>,
    pub(super) cram_md5: Option<Zeroizing<String>>,
}

impl Keys {
    /// Derives them, which takes about half as long as [`hash`], most of it for SHA-512. The password is one that a
    /// login has brought, or could.
    pub(super) fn derive(password: &[u8], keep: Keep) -> Result<Self, Error> {
        let scram = |hash| -> Result<Zeroizing<String>, Error> {
            // A salt for each hash, as unknown users have: one for all would tell which users exist.
            let mut salt = [0; SALT_OCTETS];
            getrandom::fill(&mut salt)?;
            Ok(ScramKeys::derive(hash, password, &salt, SCRAM_ITERATIONS)?.to_text())
        };
        Ok(Self {
            scram_sha_1: scram(ScramHash::Sha1)?,
            scram_sha_256: scram(ScramHash::Sha256)?,
            scram_sha_512: scram(ScramHash::Sha512)?,
            cram_md5: match keep {
                Keep::Scram => None,
                Keep::ScramAndCramMd5 => Some(CramMd5Key::derive(SecretRef::new(password)).to_text()),
            },
        })
    }
}

/// What is looked at where there is no user, so that the answer takes as long: the hash and the key of a password that
/// nobody has.
pub(super) struct Nobody {
    pub(super) hash: Zeroizing<String>,
    pub(super) cram_md5: Zeroizing<String>,
}

impl Nobody {
    pub(super) fn new() -> Result<Self, Error> {
        let password = random_text()?;
        let password = password.as_bytes();
        Ok(Self { hash: hash(password)?, cram_md5: CramMd5Key::derive(SecretRef::new(password)).to_text() })
    }
}

impl fmt::Debug for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nobody")
    }
}

/// Hashes a password, as a PHC string.
pub(super) fn hash(password: &[u8]) -> Result<Zeroizing<String>, Error> {
    let hash = hasher().hash_password(password).map_err(|error| Error::Hash(error.to_string()))?;
    Ok(Zeroizing::new(hash.to_string()))
}

/// Whether `hash` is the password's.
pub(super) fn verify(password: &[u8], hash: &str) -> Result<bool, Error> {
    let hash = PasswordHash::new(hash).map_err(|error| Error::Hash(error.to_string()))?;
    match hasher().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(Error::Hash(error.to_string())),
    }
}

/// Makes a text of 192 bits that survives URLs and shells, and that a bearer token may be.
pub(super) fn random_text() -> Result<Zeroizing<String>, Error> {
    let mut octets = Zeroizing::new([0; 24]);
    getrandom::fill(&mut *octets)?;
    let mut text = Zeroizing::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*octets));
    // A leading "-" would be an option to some programs' eyes.
    if text.starts_with('-') {
        text.replace_range(..1, "z");
    }
    Ok(text)
}

fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMS)
}

/// The rounds of every SCRAM key. RFC 7677, section 4 asks for 4,096 at the least.
pub(crate) const SCRAM_ITERATIONS: u32 = 10_000;

/// The parameters of every new hash: the first choice of the crate and of OWASP, 19 MiB and two passes.
const PARAMS: Params = Params::DEFAULT;
/// As many as unknown users' salts have.
const SALT_OCTETS: usize = 16;
