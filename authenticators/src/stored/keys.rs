//! What is made of a password, to be kept.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use phc::{Output, ParamsString, PasswordHash as Phc, Salt};
use sansmtp::auth::mechanism::CramMd5Key;
use sansmtp::auth::{MalformedCredentials, ScramHash, ScramKeys, prepare_password};
use sansmtp::{Secret, SecretRef};
use zeroize::Zeroizing;

use super::{AccountError, Hashing, InvalidHash, NOBODY, PasswordHash, StoredUser};

/// Which keys are kept of a password besides its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store must know what to do with each")]
pub enum Keep {
    /// None: whoever has logged in by PLAIN or LOGIN leaves nothing behind for other mechanisms.
    Nothing,
    /// What every SCRAM mechanism needs.
    Scram,
    /// A key for CRAM-MD5, too: it opens that mechanism to whoever steals it, who can also try passwords against it at
    /// the speed of MD5.
    ScramAndCramMd5,
}

/// The keys of a password, each in its text form; `None` for one that is not to be kept.
pub struct Keys {
    scram: Option<[Zeroizing<String>; 3]>,
    cram_md5: Option<Zeroizing<String>>,
}

/// A new password's hash and keys, to be stored.
pub struct NewPassword {
    hash: Zeroizing<String>,
    keys: Keys,
}

impl Keys {
    /// Derives them, which takes about half as long as a hash, most of it for SHA-512. The password is as it was sent, or
    /// typed: SCRAM's keys are of the prepared one, as that mechanism's clients prepare it, and CRAM-MD5's of both.
    pub(super) fn derive(password: &[u8], keep: Keep) -> Result<Self, AccountError> {
        let scram = |hash| -> Result<Zeroizing<String>, AccountError> {
            // A salt for each hash, as unknown users have: one for all would tell which users exist.
            let mut salt = [0; SALT_OCTETS];
            getrandom::fill(&mut salt).map_err(AccountError::Random)?;
            let keys = ScramKeys::derive(hash, password, &salt, SCRAM_ITERATIONS).map_err(AccountError::ScramKeys)?;
            Ok(keys.to_text())
        };
        Ok(Self {
            scram: match keep {
                Keep::Nothing => None,
                Keep::Scram | Keep::ScramAndCramMd5 => {
                    Some([scram(ScramHash::Sha1)?, scram(ScramHash::Sha256)?, scram(ScramHash::Sha512)?])
                }
            },
            cram_md5: match keep {
                Keep::Nothing | Keep::Scram => None,
                Keep::ScramAndCramMd5 => Some(CramMd5Key::derive(SecretRef::new(password)).to_text()),
            },
        })
    }

    /// The SCRAM keys of this hash.
    #[must_use]
    pub fn scram(&self, hash: ScramHash) -> Option<&str> {
        let [sha1, sha256, sha512] = self.scram.as_ref()?;
        Some(match hash {
            ScramHash::Sha1 => sha1,
            ScramHash::Sha256 => sha256,
            ScramHash::Sha512 => sha512,
        })
    }

    /// The CRAM-MD5 key.
    #[must_use]
    pub fn cram_md5(&self) -> Option<&str> {
        self.cram_md5.as_ref().map(|text| text.as_str())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys([redacted])")
    }
}

impl NewPassword {
    /// Prepares a password (RFC 4013), hashes it with Argon2id and derives the keys to be kept, which together takes some
    /// tens of milliseconds. A login is right with the password as it was given here, and prepared. Of many calls at
    /// once, as many hash as the machine has cores.
    ///
    /// # Errors
    /// Where the password is none that is taken, and where there is no entropy.
    pub fn new(password: &[u8], keep: Keep) -> Result<Self, AccountError> {
        let prepared = prepare(password)?;
        Ok(Self { hash: hash(prepared.expose_secret())?, keys: Keys::derive(password, keep)? })
    }

    /// Takes a hash that has been made already, or SCRAM keys, or a CRAM-MD5 key: the text of a [`PasswordHash`]. Keys
    /// for other mechanisms come with the first login by PLAIN or LOGIN.
    ///
    /// # Errors
    /// Where the text is none.
    pub fn from_hash(text: &str) -> Result<Self, InvalidHash> {
        let _: PasswordHash = text.parse()?;
        Ok(Self { hash: Zeroizing::new(text.to_owned()), keys: Keys { scram: None, cram_md5: None } })
    }

    /// The hash: the text of a [`PasswordHash`].
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword([redacted])")
    }
}

fn prepare(password: &[u8]) -> Result<Secret, AccountError> {
    let prepared = prepare_password(password).map_err(|malformed| match malformed {
        MalformedCredentials::Empty => AccountError::EmptyPassword,
        // NUL ends the password in PLAIN (RFC 4616, section 2).
        MalformedCredentials::Nul => AccountError::NulInPassword,
        MalformedCredentials::TooLong => AccountError::LongPassword,
        MalformedCredentials::NotUtf8 | MalformedCredentials::Prohibited(_) | _ => AccountError::Password(malformed),
    })?;
    if prepared.expose_secret().len() > MAX_PASSWORD_OCTETS {
        return Err(AccountError::LongPassword);
    }
    Ok(prepared)
}

/// Hashes a password, as a PHC string.
fn hash(password: &[u8]) -> Result<Zeroizing<String>, AccountError> {
    let mut salt = [0; SALT_OCTETS];
    getrandom::fill(&mut salt).map_err(AccountError::Random)?;
    let mut output = Zeroizing::new([0; HASH_OCTETS]);
    let mut permit = Hashing::shared_permit();
    let mut lent = permit.memory().lend(PARAMS.block_count()).ok_or(argon2::Error::OutOfMemory)?;
    argon2().hash_password_into_with_memory(password, &salt, &mut *output, &mut *lent)?;
    phc_text(&salt, &*output)
}

/// The hash of no password that is known to anybody, made without hashing one.
pub(super) fn nobodys_hash() -> Result<PasswordHash, AccountError> {
    let (mut salt, mut output) = ([0; SALT_OCTETS], Zeroizing::new([0; HASH_OCTETS]));
    getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut *output)).map_err(AccountError::Random)?;
    phc_text(&salt, &*output)?.parse().map_err(AccountError::Unreadable)
}

/// A user that there is not, with a text of each kind, all of the usual length.
pub(super) fn nobody() -> Result<StoredUser, AccountError> {
    let (mut salt, mut output) = ([0; SALT_OCTETS], Zeroizing::new([0; HASH_OCTETS]));
    getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut *output)).map_err(AccountError::Random)?;
    let mut user = StoredUser::new(NOBODY, false).with_password(Some(phc_text(&salt, &*output)?));
    for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
        // No password is tried against them, so that one iteration does; only the text is as long as others.
        let keys = ScramKeys::derive(hash, &*output, &salt, 1).map_err(AccountError::ScramKeys)?;
        let text = keys.to_text().replacen("$1:", &format!("${SCRAM_ITERATIONS}:"), 1);
        user = user.with_scram(hash, Some(Zeroizing::new(text)));
    }
    Ok(user.with_cram_md5(Some(CramMd5Key::derive(SecretRef::new(&*output)).to_text())))
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMS)
}

fn phc_text(salt: &[u8], output: &[u8]) -> Result<Zeroizing<String>, AccountError> {
    let of = |error| AccountError::Hash(error);
    let text = Phc {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&PARAMS).map_err(|_| of(password_hash::Error::ParamsInvalid))?,
        salt: Some(Salt::new(salt).map_err(|_| of(password_hash::Error::SaltInvalid))?),
        hash: Some(Output::new(output).map_err(|_| of(password_hash::Error::OutputSize))?),
    };
    Ok(Zeroizing::new(text.to_string()))
}

/// Makes a text of 192 bits that survives URLs and shells, and that a bearer token may be.
pub(super) fn random_text() -> Result<Zeroizing<String>, AccountError> {
    let mut octets = Zeroizing::new([0; 24]);
    getrandom::fill(&mut *octets).map_err(AccountError::Random)?;
    let mut text = Zeroizing::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*octets));
    // A leading "-" would be an option to some programs' eyes.
    if text.starts_with('-') {
        text.replace_range(..1, "z");
    }
    Ok(text)
}

/// The rounds of every SCRAM key that is made here. RFC 7677, section 4 asks for 4,096 at the least. A server shows as
/// many for unknown users: [`Scram::iterations`](sansmtp::auth::mechanism::Scram::iterations).
pub const SCRAM_ITERATIONS: u32 = 10_000;

/// Longer ones are refused: some hashes take time that grows with the square of the length.
pub(super) const MAX_PASSWORD_OCTETS: usize = 1024;

/// The parameters of every new hash: the first choice of the crate and of OWASP, 19 MiB and two passes.
const PARAMS: Params = Params::DEFAULT;
/// As many as unknown users' salts have.
const SALT_OCTETS: usize = 16;
const HASH_OCTETS: usize = Params::DEFAULT_OUTPUT_LEN;
