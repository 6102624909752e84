//! Bearer tokens: random, given to one program each, and dropped all at once.
//!
//! A token stays good when its user's password changes, as an app password does: it was never derived from it.

use std::fmt;

use sha2::{Digest, Sha256};

/// The SHA-256 of a bearer token, which is all that a store has of it. Nobody can try all of 192 random bits, so it
/// needs no salt and may be a quick hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The octets, to be stored or looked for. The time of looking for them tells nothing of a token that is nearly
    /// right.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash([redacted])")
    }
}
