//! A password that is at hand in the clear, for whatever mechanism asks.

use core::fmt;

use super::mechanism::CramMd5Key;
use super::password::prepared_form;
use super::{AuthQuestion, AuthRequest, AuthResult, InvalidScramKeys, Refusal, ScramHash, ScramKeys};
use crate::secret::{Secret, SecretRef};

/// A user's password, known in the clear: for tests, for small tools, and for the one user of a device.
/// A server with many users stores hashes and [`ScramKeys`] instead.
///
/// ```
/// use sansmtp::auth::{AuthRequest, KnownPassword};
///
/// let password = KnownPassword::new(b"tanstaaftanstaaf", b"16 random octets")?;
/// let authenticate = move |request: &AuthRequest| password.answer_for("tim", request);
/// # let _ = authenticate;
/// # Ok::<(), sansmtp::auth::InvalidScramKeys>(())
/// ```
pub struct KnownPassword {
    password: Secret,
    /// Where SASLprep makes another one of it.
    prepared: Option<Secret>,
    keys: [ScramKeys; 3],
    cram_md5: CramMd5Key,
}

impl KnownPassword {
    /// Takes the password, and derives the keys of every SCRAM mechanism from it, which takes some
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// [`InvalidScramKeys`] if the salt is empty or over 1,024 octets.
    pub fn new(password: &[u8], salt: &[u8]) -> Result<Self, InvalidScramKeys> {
        let derive = |hash| ScramKeys::derive(hash, password, salt, ITERATIONS);
        Ok(Self {
            password: password.into(),
            prepared: prepared_form(password).ok().flatten(),
            keys: [derive(ScramHash::Sha1)?, derive(ScramHash::Sha256)?, derive(ScramHash::Sha512)?],
            cram_md5: CramMd5Key::derive(SecretRef::new(password)),
        })
    }

    /// Answers for the user of this name, whose password this is, if the question is about a password; refuses
    /// otherwise. Any other name is refused as [`UnknownUser`](Refusal::UnknownUser), with as much work.
    pub fn answer_for(&self, user: &str, request: &AuthRequest) -> AuthResult {
        let result = self.answer(request);
        if request.credentials().authcid() == user { result } else { AuthResult::refuse_because(Refusal::UnknownUser) }
    }

    /// As [`answer_for`](Self::answer_for), whatever the name: whether the request's authcid is the user, the caller
    /// knows.
    pub fn answer(&self, request: &AuthRequest) -> AuthResult {
        let right = match request.question() {
            AuthQuestion::Password(password) => {
                let prepared = self.prepared.as_ref().unwrap_or(&self.password);
                password.ct_eq(self.password.expose_secret()) | password.ct_eq(prepared.expose_secret())
            }
            AuthQuestion::ScramKeys(wanted) => {
                return match self.keys.iter().find(|keys| keys.hash() == wanted) {
                    Some(keys) => AuthResult::scram_keys(keys.clone()),
                    None => AuthResult::cannot_tell(),
                };
            }
            AuthQuestion::CramMd5(response) => response.verify_key(&self.cram_md5),
            AuthQuestion::BearerToken(_)
            | AuthQuestion::ClientCertificate(_)
            | AuthQuestion::Anonymous(_)
            | AuthQuestion::Other => false,
        };
        if right { AuthResult::accept() } else { AuthResult::refuse() }
    }
}

impl fmt::Debug for KnownPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownPassword([redacted])")
    }
}

/// As many as unknown users appear to have.
const ITERATIONS: u32 = 4_096;
