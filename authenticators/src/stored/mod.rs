//! Users in a store: what is kept of their passwords, and the authenticator that all stores share.
//!
//! A [`Store`] finds users; [`Stored`] is the [`Authenticator`](crate::Authenticator) over it, which compares passwords
//! and proofs, with as much work for users that there are not. A [`WritableStore`] can be changed, too:
//! [`Accounts`] does that. The crate's own stores are behind their features; others are yours to write.

use std::fmt;
use std::sync::Arc;

use sansmtp::auth::mechanism::CramMd5Key;
use sansmtp::auth::{ScramHash, ScramKeys};
use zeroize::Zeroizing;

use crate::Answers;

mod accounts;
mod address;
mod authenticator;
mod decoys;
mod error;
mod hash_memory;
mod hashing;
mod keys;
mod name;
mod password_hash;
mod token;
mod waiting;

pub use accounts::{AccountError, Accounts, WritableStore};
pub use address::prepare_address;
pub use authenticator::Stored;
pub use error::StoreError;
pub use hashing::Hashing;
pub use keys::{Keep, Keys, NewPassword, SCRAM_ITERATIONS};
pub use name::{is_in_any_case, names_in_certificate, prepare_name};
pub use password_hash::{InvalidHash, PasswordHash};
pub use token::TokenHash;

/// Where users are found.
///
/// Its methods may block, for a limited time. What they find is text, as it is stored: it is read when it is needed.
pub trait Store: Send + Sync {
    /// Finds the user of exactly this name, octet by octet. The name is as SASLprep has it (RFC 4013).
    ///
    /// # Errors
    /// Where the store cannot be asked, or holds what cannot be read.
    fn find(&self, name: &str) -> Result<Option<StoredUser>, StoreError>;

    /// Finds the user of this name, or else the one of the `other`, with as much work in either case: by the time nobody
    /// is to find out which names there are. The other may be gone.
    ///
    /// Unless overridden, one of two look-ups finds a user, and one does not.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    fn find_or(&self, name: &str, other: &str) -> Result<Found, StoreError> {
        Ok(match self.find(name)? {
            Some(user) => {
                drop(self.find(NOBODY)?);
                Found::User(user)
            }
            None => Found::Other(self.find(other)?),
        })
    }

    /// The users whose names are this one once they are in [lower case](sansmtp::auth::lower_case), as `name` is already: for
    /// [`Stored::ignore_case`]. As much work for every name.
    ///
    /// Unless overridden, `name` itself, whether or not there is such a user: others are not found.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    fn names_in_any_case(&self, name: &str) -> Result<Vec<String>, StoreError> {
        Ok(vec![name.to_owned()])
    }

    /// Finds whose bearer token has this hash. `None` unless overridden.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    fn find_by_token(&self, token: &TokenHash) -> Result<Option<User>, StoreError> {
        let _ = token;
        Ok(None)
    }

    /// The addresses of the user of exactly this name, as [`prepare_address`] has them: at most
    /// [`MAX_ADDRESSES`](crate::MAX_ADDRESSES). `None` where there is no such user.
    ///
    /// Unless overridden, every user has none.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    fn addresses(&self, name: &str) -> Result<Option<Vec<String>>, StoreError> {
        Ok(self.find(name)?.map(|_| Vec::new()))
    }

    /// Whether any user has an address, or a name with an `@` in it. Yes, unless overridden.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    fn has_addresses(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Stores the keys of a user's password, which a login has brought, unless `hash`, the text of the hash that the
    /// password was compared with, has been replaced in the meantime. Keys that are not there leave stored ones as they
    /// are. Does nothing unless overridden.
    ///
    /// # Errors
    /// Where the store cannot be changed at the moment.
    fn keep_keys(&self, name: &str, hash: &str, keys: &Keys) -> Result<(), StoreError> {
        let _ = (name, hash, keys);
        Ok(())
    }

    /// Whether [`keep_keys`](Self::keep_keys) keeps any. It does not unless overridden.
    fn keeps_keys(&self) -> bool {
        false
    }

    /// Some users, a hundred or so: they tell what logins usually cost, so that it costs as much to find that there is no
    /// such user.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    fn sample(&self) -> Result<Vec<StoredUser>, StoreError>;

    /// How many iterations the users' SCRAM keys usually have, which a server shows for unknown users:
    /// [`Scram::iterations`](sansmtp::auth::mechanism::Scram::iterations). [`SCRAM_ITERATIONS`] unless overridden.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    fn scram_iterations(&self) -> Result<u32, StoreError> {
        Ok(SCRAM_ITERATIONS)
    }

    /// For whom the store has what a mechanism (its name in any case) needs; what
    /// [`Authenticator::answers`](crate::Authenticator::answers) says.
    ///
    /// Unless overridden, PLAIN, LOGIN and EXTERNAL for all, SCRAM for all where the store
    /// [keeps keys](Self::keeps_keys), which come with the first login by PLAIN or LOGIN, and nothing else.
    fn answers(&self, mechanism: &str) -> Answers {
        match Needed::by(mechanism) {
            Needed::Password | Needed::Certificate => Answers::ForAll,
            Needed::Scram(_) if self.keeps_keys() => Answers::ForAll,
            Needed::Scram(_) | Needed::CramMd5 | Needed::Token | Needed::Other => Answers::ForNone,
        }
    }
}

/// Whom [`Store::find_or`] finds.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Found {
    /// The user.
    User(StoredUser),
    /// There is no such user. The other one, if there is.
    Other(Option<StoredUser>),
}

/// What a mechanism needs of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Needed {
    /// Something to compare a password with: PLAIN, LOGIN.
    Password,
    /// The SCRAM keys of this hash.
    Scram(ScramHash),
    /// The CRAM-MD5 key.
    CramMd5,
    /// Bearer tokens: OAUTHBEARER, XOAUTH2.
    Token,
    /// The user's name alone, as a certificate tells it: EXTERNAL.
    Certificate,
    /// What no store has.
    Other,
}

/// A user as it is stored, with everything that is kept of the password.
#[derive(Clone)]
pub struct StoredUser {
    name: String,
    disabled: bool,
    password: Option<Zeroizing<String>>,
    scram: [Option<Zeroizing<String>>; 3],
    cram_md5: Option<Zeroizing<String>>,
}

/// A user, as far as anyone may see.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The name.
    pub name: String,
    /// Whether the user's logins are refused.
    pub disabled: bool,
}

impl User {
    /// A user of this name.
    #[must_use]
    pub fn new(name: impl Into<String>, disabled: bool) -> Self {
        Self { name: name.into(), disabled }
    }
}

impl StoredUser {
    /// A user of whose password nothing is stored yet.
    #[must_use]
    pub fn new(name: impl Into<String>, disabled: bool) -> Self {
        Self { name: name.into(), disabled, password: None, scram: [None, None, None], cram_md5: None }
    }

    /// Adds what passwords are compared with, the text of a [`PasswordHash`].
    #[must_use]
    pub fn with_password(mut self, text: Option<Zeroizing<String>>) -> Self {
        self.password = text;
        self
    }

    /// Adds the text of the [`ScramKeys`] of this hash.
    #[must_use]
    pub fn with_scram(mut self, hash: ScramHash, text: Option<Zeroizing<String>>) -> Self {
        let [sha1, sha256, sha512] = &mut self.scram;
        match hash {
            ScramHash::Sha1 => *sha1 = text,
            ScramHash::Sha256 => *sha256 = text,
            ScramHash::Sha512 => *sha512 = text,
        }
        self
    }

    /// Adds the text of the [`CramMd5Key`].
    #[must_use]
    pub fn with_cram_md5(mut self, text: Option<Zeroizing<String>>) -> Self {
        self.cram_md5 = text;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the user's logins are refused.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    #[cfg(feature = "memory")]
    pub(crate) fn set_disabled(&mut self, disabled: bool) {
        self.disabled = disabled;
    }

    /// What a password is compared with: its hash, or else keys that were made of it.
    pub(crate) fn password_text(&self) -> Option<&Zeroizing<String>> {
        let [sha1, sha256, sha512] = &self.scram;
        self.password.as_ref().or(sha256.as_ref()).or(sha512.as_ref()).or(sha1.as_ref()).or(self.cram_md5.as_ref())
    }

    fn password_hash(&self) -> Result<Option<PasswordHash>, StoreError> {
        if self.password.is_none() && self.scram.iter().all(Option::is_none) {
            return Ok(self.cram_md5_key()?.map(PasswordHash::from));
        }
        self.password_text().map(|text| text.parse()).transpose().map_err(StoreError::new)
    }

    /// The text of the SCRAM keys of this hash, from where they are kept or from where the hash of the password is.
    fn scram_text(&self, hash: ScramHash) -> Option<&Zeroizing<String>> {
        let [sha1, sha256, sha512] = &self.scram;
        let kept = match hash {
            ScramHash::Sha1 => sha1,
            ScramHash::Sha256 => sha256,
            ScramHash::Sha512 => sha512,
        };
        kept.as_ref().or(self.password.as_ref().filter(|text| is_of_scheme(text, hash.mechanism())))
    }

    /// The text of the CRAM-MD5 key, likewise.
    fn cram_md5_text(&self) -> Option<&Zeroizing<String>> {
        self.cram_md5.as_ref().or(self.password.as_ref().filter(|text| is_of_scheme(text, "CRAM-MD5")))
    }

    fn cram_md5_key(&self) -> Result<Option<CramMd5Key>, StoreError> {
        self.cram_md5_text().map(|text| read_cram_md5(text)).transpose()
    }

    /// All that may be kept of the password.
    fn texts(&self) -> [Option<&Zeroizing<String>>; 5] {
        let [sha1, sha256, sha512] = self.scram.each_ref().map(Option::as_ref);
        [self.password.as_ref(), sha1, sha256, sha512, self.cram_md5.as_ref()]
    }

    /// Which of it there is.
    fn has(&self) -> [bool; 5] {
        self.texts().map(|text| text.is_some())
    }

    /// Does with what `full` has, and this user does not, what was done with the rest when it was read, and will be.
    fn make_up_for_what_is_missing(&self, full: &Self) {
        for (own, other) in self.texts().into_iter().zip(full.texts()) {
            if own.is_none() {
                drop(std::hint::black_box(other.cloned()));
            }
        }
    }

    /// Whether keys are missing that are to be kept.
    fn lacks(&self, keep: Keep) -> bool {
        match keep {
            Keep::Nothing => false,
            Keep::Scram => self.scram.iter().any(Option::is_none),
            Keep::ScramAndCramMd5 => self.cram_md5.is_none() || self.scram.iter().any(Option::is_none),
        }
    }

    fn into_user(self) -> User {
        User { name: self.name, disabled: self.disabled }
    }
}

impl fmt::Debug for StoredUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredUser").field("name", &self.name).field("disabled", &self.disabled).finish_non_exhaustive()
    }
}

/// Whether a hash has this scheme of Dovecot's in front, or is of the form that PostgreSQL writes.
fn is_of_scheme(text: &str, scheme: &str) -> bool {
    let text = text.strip_prefix('{').unwrap_or(text);
    let is_scheme = text.get(..scheme.len()).is_some_and(|name| name.eq_ignore_ascii_case(scheme));
    is_scheme && matches!(text.as_bytes().get(scheme.len()), Some(b'$' | b'}'))
}

fn read_scram(text: &str) -> Result<Option<ScramKeys>, StoreError> {
    text.parse().map(PasswordHash::into_scram_keys).map_err(StoreError::new)
}

/// A key in the form of its own, or with the scheme in front.
fn read_cram_md5(text: &str) -> Result<CramMd5Key, StoreError> {
    match text.split_once('}') {
        Some((_, key)) => key.parse().map_err(StoreError::new),
        None => text.parse().map_err(StoreError::new),
    }
}

impl Needed {
    /// What the mechanism of this name, in any case, needs.
    #[must_use]
    pub fn by(mechanism: &str) -> Self {
        let mechanism = mechanism.to_ascii_uppercase();
        match mechanism.as_str() {
            "PLAIN" | "LOGIN" => Self::Password,
            "SCRAM-SHA-1" | "SCRAM-SHA-1-PLUS" => Self::Scram(ScramHash::Sha1),
            "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS" => Self::Scram(ScramHash::Sha256),
            "SCRAM-SHA-512" | "SCRAM-SHA-512-PLUS" => Self::Scram(ScramHash::Sha512),
            "CRAM-MD5" => Self::CramMd5,
            "OAUTHBEARER" | "XOAUTH2" => Self::Token,
            "EXTERNAL" => Self::Certificate,
            _ => Self::Other,
        }
    }
}

/// A name that no user has: SASLprep prohibits it.
const NOBODY: &str = "\u{1}nobody";

/// As many users as a [sample](Store::sample) of the crate's own stores has, or a few more.
pub const SAMPLE: usize = 128;

macro_rules! passed_on {
    ($($owner:ty),*) => {$(
        impl<S: Store + ?Sized> Store for $owner {
            fn find(&self, name: &str) -> Result<Option<StoredUser>, StoreError> {
                (**self).find(name)
            }

            fn find_or(&self, name: &str, other: &str) -> Result<Found, StoreError> {
                (**self).find_or(name, other)
            }

            fn names_in_any_case(&self, name: &str) -> Result<Vec<String>, StoreError> {
                (**self).names_in_any_case(name)
            }

            fn find_by_token(&self, token: &TokenHash) -> Result<Option<User>, StoreError> {
                (**self).find_by_token(token)
            }

            fn addresses(&self, name: &str) -> Result<Option<Vec<String>>, StoreError> {
                (**self).addresses(name)
            }

            fn has_addresses(&self) -> Result<bool, StoreError> {
                (**self).has_addresses()
            }

            fn keep_keys(&self, name: &str, hash: &str, keys: &Keys) -> Result<(), StoreError> {
                (**self).keep_keys(name, hash, keys)
            }

            fn keeps_keys(&self) -> bool {
                (**self).keeps_keys()
            }

            fn sample(&self) -> Result<Vec<StoredUser>, StoreError> {
                (**self).sample()
            }

            fn scram_iterations(&self) -> Result<u32, StoreError> {
                (**self).scram_iterations()
            }

            fn answers(&self, mechanism: &str) -> Answers {
                (**self).answers(mechanism)
            }
        }
    )*};
}

passed_on!(Arc<S>, Box<S>, &S);
