//! What is stored of a password, in the forms that servers and tools write.

use std::fmt;
use std::str::FromStr;

use sansmtp::Secret;
use sansmtp::auth::mechanism::{CramMd5Key, InvalidCramMd5Key};
use sansmtp::auth::{InvalidScramKeys, ScramHash, ScramKeys};

mod crypt;
mod dovecot;
mod phc;

use crypt::{Bcrypt, ShaCrypt, Yescrypt};
use phc::{Argon2Hash, Pbkdf2Hash, ScryptHash};

use super::Hashing;
use super::hash_memory::HashMemory;

/// What is stored of a password, by which it is recognised. Read from text in one of these forms:
///
/// - the PHC string format: `$argon2id$…`, `$argon2i$…`, `$argon2d$…`, `$scrypt$…`, `$pbkdf2-sha1$…` (also `$pbkdf2$…`),
///   `$pbkdf2-sha256$…`, `$pbkdf2-sha512$…`;
/// - bcrypt, as `htpasswd -B` and others write it: `$2a$…`, `$2b$…`, `$2y$…`. It takes no notice of what follows a
///   password's first 72 octets;
/// - SHA-crypt and yescrypt, as in `/etc/shadow`: `$5$…`, `$6$…`, `$y$…`;
/// - SCRAM keys, as PostgreSQL writes them: `SCRAM-SHA-256$…`, likewise for SHA-1 and SHA-512;
/// - what `doveadm pw` writes: the above behind `{ARGON2ID}`, `{ARGON2I}`, `{BLF-CRYPT}`, `{SHA256-CRYPT}`,
///   `{SHA512-CRYPT}` or `{CRYPT}`, and `{SCRAM-SHA-1}`, `{SCRAM-SHA-256}`, `{PBKDF2}` and `{CRAM-MD5}` in Dovecot's own
///   forms.
///
/// Fast hashes (MD5, SHA-1, crypt of old) and passwords in the clear are not accepted, except for CRAM-MD5's key, which
/// that mechanism needs. Neither is anything that would take longer than some five seconds on one core, or more than
/// 1 GiB of memory: a slip in a file must not stall the server.
#[derive(Clone)]
pub struct PasswordHash {
    form: Form,
}

#[derive(Clone)]
enum Form {
    Argon2(Argon2Hash),
    Scrypt(ScryptHash),
    Pbkdf2(Pbkdf2Hash),
    Bcrypt(Bcrypt),
    ShaCrypt(ShaCrypt),
    Yescrypt(Yescrypt),
    Scram(ScramKeys),
    CramMd5(CramMd5Key),
}

/// What a comparison costs: two hashes for which this is the same take as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cost {
    Argon2 { variant: u32, version: u32, memory: u32, passes: u32, lanes: u32 },
    Scrypt { log_n: u8, r: u32, p: u32 },
    Pbkdf2 { mechanism: &'static str, iterations: u32, octets: usize },
    Bcrypt { cost: u32 },
    ShaCrypt { sha512: bool, rounds: u32 },
    Yescrypt { log_n: u8, r: u32 },
    Scram { mechanism: &'static str, iterations: u32 },
    CramMd5,
}

/// Text that is no [`PasswordHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidHash {
    /// It is in no form that is known here.
    Form,
    /// It has one of Dovecot's schemes in front that is not accepted: one that is unknown, too fast, or no hash at all.
    Scheme,
    /// Its parameters cannot be read, or cannot be.
    Parameters,
    /// Comparing a password with it would take too much time or memory.
    TooCostly,
    /// The salt or the hash is missing, or encoded wrongly.
    Encoding,
    /// It has the form of SCRAM keys.
    ScramKeys(InvalidScramKeys),
    /// It has the scheme of a CRAM-MD5 key.
    CramMd5Key(InvalidCramMd5Key),
}

impl PasswordHash {
    /// Whether it was made of exactly these octets. Takes as long as it was made to; compares in constant time.
    ///
    /// A login's password may have two forms, of which either may be right:
    /// `password.check(|form| hash.verify(form.expose_secret()))`.
    ///
    /// Where the text holds what cannot be computed with after all, or there is no memory for it, no password fits.
    ///
    /// Waits for a permit of a [`Hashing`] that the whole process shares, so that many calls at once do not take more
    /// memory than as many of them as the machine has cores.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        self.verify_in(Hashing::shared_permit().memory(), password).unwrap_or(false)
    }

    /// As [`verify`](Self::verify), in this memory. `None` where there is not enough.
    pub(crate) fn verify_in(&self, memory: &mut HashMemory, password: &[u8]) -> Option<bool> {
        match &self.form {
            Form::Argon2(hash) => hash.verify(password, memory),
            Form::Scrypt(hash) => hash.verify(password, memory),
            Form::Pbkdf2(hash) => Some(hash.verify(password)),
            Form::Bcrypt(hash) => Some(hash.verify(password)),
            Form::ShaCrypt(hash) => Some(hash.verify(password)),
            Form::Yescrypt(hash) => hash.verify(password, memory),
            Form::Scram(keys) => Some(keys.verify_octets(password)),
            Form::CramMd5(key) => Some(key.verify_octets(password)),
        }
    }

    /// The SCRAM keys, if it is some.
    #[must_use]
    pub fn scram_keys(&self) -> Option<&ScramKeys> {
        if let Form::Scram(keys) = &self.form { Some(keys) } else { None }
    }

    pub(crate) fn into_scram_keys(self) -> Option<ScramKeys> {
        if let Form::Scram(keys) = self.form { Some(keys) } else { None }
    }

    /// The CRAM-MD5 key, if it is one.
    #[must_use]
    pub fn cram_md5_key(&self) -> Option<&CramMd5Key> {
        if let Form::CramMd5(key) = &self.form { Some(key) } else { None }
    }

    pub(crate) fn cost(&self) -> Cost {
        match &self.form {
            Form::Argon2(hash) => hash.cost(),
            Form::Scrypt(hash) => hash.cost(),
            Form::Pbkdf2(hash) => hash.cost(),
            Form::Bcrypt(hash) => hash.cost(),
            Form::ShaCrypt(hash) => hash.cost(),
            Form::Yescrypt(hash) => hash.cost(),
            Form::Scram(keys) => Cost::Scram { mechanism: keys.hash().mechanism(), iterations: keys.iterations() },
            Form::CramMd5(_) => Cost::CramMd5,
        }
    }
}

impl FromStr for PasswordHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let form = match text.strip_prefix('{') {
            Some(text) => dovecot::read(text)?,
            None => read(text)?,
        };
        Ok(Self { form })
    }
}

impl From<ScramKeys> for PasswordHash {
    fn from(keys: ScramKeys) -> Self {
        Self { form: Form::Scram(keys) }
    }
}

impl From<CramMd5Key> for PasswordHash {
    fn from(key: CramMd5Key) -> Self {
        Self { form: Form::CramMd5(key) }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({:?}, [redacted])", self.cost())
    }
}

impl fmt::Display for InvalidHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("not a password's hash in a form that is known here"),
            Self::Scheme => f.write_str("a hash in a scheme that is not accepted here: unknown, too fast, or no hash"),
            Self::Parameters => f.write_str("the parameters of the hash cannot be read"),
            Self::TooCostly => f.write_str("comparing a password with the hash would take too much time or memory"),
            Self::Encoding => f.write_str("the salt or the output of the hash is missing, or encoded wrongly"),
            Self::ScramKeys(error) => write!(f, "not SCRAM keys: {error}"),
            Self::CramMd5Key(error) => write!(f, "not a CRAM-MD5 key: {error}"),
        }
    }
}

impl std::error::Error for InvalidHash {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ScramKeys(error) => Some(error),
            Self::CramMd5Key(error) => Some(error),
            Self::Form | Self::Scheme | Self::Parameters | Self::TooCostly | Self::Encoding => None,
        }
    }
}

/// Reads a hash without a scheme of Dovecot's in front.
fn read(text: &str) -> Result<Form, InvalidHash> {
    if text.starts_with("SCRAM-") {
        return scram(text);
    }
    let identifier = text.strip_prefix('$').and_then(|text| text.split('$').next()).unwrap_or_default();
    match identifier {
        "argon2d" | "argon2i" | "argon2id" | "pbkdf2" | "pbkdf2-sha1" | "pbkdf2-sha256" | "pbkdf2-sha512"
        | "scrypt" => phc::read(text),
        "2a" | "2b" | "2y" | "5" | "6" | "y" => crypt::read(text),
        _ => Err(InvalidHash::Form),
    }
}

fn scram(text: &str) -> Result<Form, InvalidHash> {
    let keys: ScramKeys = text.parse().map_err(InvalidHash::ScramKeys)?;
    if keys.iterations() > MOST_ITERATIONS {
        return Err(InvalidHash::TooCostly);
    }
    Ok(Form::Scram(keys))
}

/// The name of a SCRAM mechanism stands for its hash.
fn hash_of(mechanism: &str) -> Option<ScramHash> {
    [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512].into_iter().find(|hash| hash.mechanism() == mechanism)
}

/// Compares in constant time, and forgets what was computed.
fn is_same(computed: Vec<u8>, stored: &Secret) -> bool {
    Secret::new(computed).ct_eq(stored.expose_secret())
}

/// Of PBKDF2, SCRAM and SHA-crypt: some seconds. OWASP asks for 1,300,000 at the most.
const MOST_ITERATIONS: u32 = 5_000_000;

#[cfg(test)]
mod tests;
