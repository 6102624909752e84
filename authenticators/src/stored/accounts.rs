//! Changes to the users of a store.

use std::fmt;

use sansmtp::Secret;
use sansmtp::auth::{InvalidScramKeys, MalformedCredentials};
use zeroize::Zeroizing;

use super::{InvalidHash, Keep, NewPassword, Store, StoreError, TokenHash, User, keys, prepare_address, prepare_name};
use crate::MAX_ADDRESSES;

/// A [`Store`] whose users can be changed. Its methods are what [`Accounts`] is made of; each is one transaction.
///
/// Names come as SASLprep has them, and are compared octet by octet.
pub trait WritableStore: Store {
    /// Adds a user. `false` where there is one of that name already, who stays as before.
    ///
    /// # Errors
    /// Where the store cannot be changed at the moment; likewise below.
    fn insert(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError>;

    /// Replaces a user's hash and all keys; those that are not there are dropped. `false` where there is no such user.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    fn replace(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError>;

    /// Disables or enables a user. `false` where there is no such user.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    fn set_disabled(&self, name: &str, disabled: bool) -> Result<bool, StoreError>;

    /// Deletes a user, and the user's tokens and addresses. `false` where there is no such user.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    fn delete(&self, name: &str) -> Result<bool, StoreError>;

    /// All users, by name.
    ///
    /// # Errors
    /// As [`find`](Store::find).
    fn list(&self) -> Result<Vec<User>, StoreError>;

    /// Adds a token of a user's. `false` where there is no such user.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    fn insert_token(&self, name: &str, token: &TokenHash) -> Result<bool, StoreError>;

    /// Deletes all of a user's tokens; how many there were.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    fn delete_tokens(&self, name: &str) -> Result<usize, StoreError>;

    /// Adds an address to a user's, who may have it already. `false` where there is no such user.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    fn insert_address(&self, name: &str, address: &str) -> Result<bool, StoreError>;

    /// Takes an address from a user's. `false` where it was none of them.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    fn delete_address(&self, name: &str, address: &str) -> Result<bool, StoreError>;

    /// The key from which unknown users' SCRAM salts are made, the same for every server over this store:
    /// [`Auth::salt_key`](sansmtp::Auth::salt_key).
    ///
    /// # Errors
    /// As [`find`](Store::find).
    fn salt_key(&self) -> Result<Secret, StoreError>;
}

/// The users of a [`WritableStore`], to be changed by whoever runs the server.
///
/// Names and passwords are prepared by SASLprep (RFC 4013). Passwords are hashed by the calling thread,
/// outside of any lock or transaction.
#[derive(Debug)]
pub struct Accounts<S> {
    store: S,
}

/// Why the users of a store are as they were.
#[derive(Debug)]
#[non_exhaustive]
pub enum AccountError {
    /// There is a user of that name already.
    Exists(String),
    /// There is no user of that name.
    Unknown(String),
    /// No login can bring the name, and why: it has 1 to 255 octets that SASLprep does not prohibit.
    Name(MalformedCredentials),
    /// The text is neither an address nor an `@` with a domain behind it.
    Address(String),
    /// The user has no such address.
    UnknownAddress(String),
    /// The user has [`MAX_ADDRESSES`] already.
    TooManyAddresses,
    /// The password is empty.
    EmptyPassword,
    /// NUL ends the password in PLAIN.
    NulInPassword,
    /// The password is not UTF-8, or SASLprep (RFC 4013) prohibits it, and why. Clients that prepare passwords, as RFC 4616
    /// and RFC 5802 want, could never send it.
    Password(MalformedCredentials),
    /// The password has over 1,024 octets when it is prepared.
    LongPassword,
    /// The password cannot be hashed.
    Hash(password_hash::Error),
    /// The text is no hash.
    Unreadable(InvalidHash),
    /// SCRAM keys cannot be made.
    ScramKeys(InvalidScramKeys),
    /// There is no entropy.
    Random(getrandom::Error),
    /// The store's own fault.
    Store(StoreError),
}

impl<S: WritableStore> Accounts<S> {
    /// The users of this store.
    pub fn new(store: S) -> Self {
        Self { store }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, when there is nothing left to change.
    #[must_use]
    pub fn into_store(self) -> S {
        self.store
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`AccountError::Exists`], and where no login can bring the name or the password.
    pub fn add(&self, name: &str, password: &[u8], keep: Keep) -> Result<(), AccountError> {
        let name = prepare_name(name).map_err(AccountError::Name)?;
        let password = NewPassword::new(password, keep)?;
        if self.store.insert(&name, &password)? { Ok(()) } else { Err(AccountError::Exists(name)) }
    }

    /// Adds a user with a hash that has been made already, as [`NewPassword::from_hash`] takes it.
    ///
    /// # Errors
    /// [`AccountError::Exists`], where no login can bring the name, and [`AccountError::Unreadable`].
    pub fn add_hash(&self, name: &str, hash: &str) -> Result<(), AccountError> {
        let name = prepare_name(name).map_err(AccountError::Name)?;
        let password = NewPassword::from_hash(hash).map_err(AccountError::Unreadable)?;
        if self.store.insert(&name, &password)? { Ok(()) } else { Err(AccountError::Exists(name)) }
    }

    /// Sets another password, and replaces or drops the keys of the old one. Tokens stay good.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], and where no login can bring the password.
    pub fn set_password(&self, name: &str, password: &[u8], keep: Keep) -> Result<(), AccountError> {
        let name = self.known(name)?;
        let password = NewPassword::new(password, keep)?;
        found(self.store.replace(&name, &password)?, name)
    }

    /// Disables a user, or enables one again.
    ///
    /// # Errors
    /// [`AccountError::Unknown`].
    pub fn set_disabled(&self, name: &str, disabled: bool) -> Result<(), AccountError> {
        let name = self.known(name)?;
        found(self.store.set_disabled(&name, disabled)?, name)
    }

    /// Deletes a user, and the user's tokens and addresses.
    ///
    /// # Errors
    /// [`AccountError::Unknown`].
    pub fn delete(&self, name: &str) -> Result<(), AccountError> {
        let name = self.known(name)?;
        found(self.store.delete(&name)?, name)
    }

    /// Lists the users by name.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn list(&self) -> Result<Vec<User>, AccountError> {
        Ok(self.store.list()?)
    }

    /// The name under which a user is known: as it was typed, or as logins bring it.
    ///
    /// # Errors
    /// [`AccountError::Unknown`].
    pub fn known(&self, name: &str) -> Result<String, AccountError> {
        let prepared = prepare_name(name).ok();
        for name in [Some(name), prepared.as_deref()].into_iter().flatten() {
            if let Some(found) = self.store.find(name)? {
                return Ok(found.into_user().name);
            }
        }
        Err(AccountError::Unknown(name.to_owned()))
    }

    /// Makes a bearer token for a user, and returns the only copy of it.
    ///
    /// # Errors
    /// [`AccountError::Unknown`].
    pub fn add_token(&self, name: &str) -> Result<Zeroizing<String>, AccountError> {
        let name = self.known(name)?;
        let token = keys::random_text()?;
        found(self.store.insert_token(&name, &TokenHash::of(token.as_bytes()))?, name)?;
        Ok(token)
    }

    /// Drops all of a user's tokens, and says how many there were.
    ///
    /// # Errors
    /// [`AccountError::Unknown`].
    pub fn drop_tokens(&self, name: &str) -> Result<usize, AccountError> {
        let name = self.known(name)?;
        Ok(self.store.delete_tokens(&name)?)
    }

    /// Lets a user send from an address, `tim@example.org`, or from all of a domain, `@example.org`. Several users may have
    /// the same one, and a user who has it already keeps it. A name that is an address needs not be added.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], [`AccountError::Address`] and [`AccountError::TooManyAddresses`].
    pub fn add_address(&self, name: &str, address: &str) -> Result<(), AccountError> {
        let address = prepare_address(address).ok_or_else(|| AccountError::Address(address.to_owned()))?;
        let name = self.known(name)?;
        if self.store.addresses(&name)?.is_some_and(|addresses| addresses.len() >= MAX_ADDRESSES) {
            return Err(AccountError::TooManyAddresses);
        }
        found(self.store.insert_address(&name, &address)?, name)
    }

    /// Takes an address from a user, as [`addresses`](Self::addresses) shows it.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], and [`AccountError::UnknownAddress`] where it is none of the user's.
    pub fn remove_address(&self, name: &str, address: &str) -> Result<(), AccountError> {
        let name = self.known(name)?;
        let unknown = || AccountError::UnknownAddress(address.to_owned());
        let address = prepare_address(address).ok_or_else(unknown)?;
        if self.store.delete_address(&name, &address)? { Ok(()) } else { Err(unknown()) }
    }

    /// A user's addresses, in their order. A name that is an address is not among them.
    ///
    /// # Errors
    /// [`AccountError::Unknown`].
    pub fn addresses(&self, name: &str) -> Result<Vec<String>, AccountError> {
        let name = self.known(name)?;
        self.store.addresses(&name)?.ok_or(AccountError::Unknown(name))
    }

    /// Adds a user with a random password, of which this is the only copy.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_with_random_password(&self, name: &str, keep: Keep) -> Result<Zeroizing<String>, AccountError> {
        let password = keys::random_text()?;
        self.add(name, password.as_bytes(), keep)?;
        Ok(password)
    }
}

fn found(found: bool, name: String) -> Result<(), AccountError> {
    if found { Ok(()) } else { Err(AccountError::Unknown(name)) }
}

impl From<argon2::Error> for AccountError {
    fn from(error: argon2::Error) -> Self {
        Self::Hash(error.into())
    }
}

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(name) => write!(f, "the user {name:?} exists already"),
            Self::Unknown(name) => write!(f, "there is no user {name:?}"),
            Self::Name(malformed) => write!(f, "no login can bring the user's name: {malformed}"),
            Self::Address(text) => {
                write!(
                    f,
                    "{text:?} is neither an address, as tim@example.org, nor a domain with all of its addresses, as @example.org"
                )
            }
            Self::UnknownAddress(text) => write!(f, "the user has no address {text:?}"),
            Self::TooManyAddresses => {
                write!(f, "the user has {MAX_ADDRESSES} addresses already; give them a domain, as @example.org")
            }
            Self::EmptyPassword => f.write_str("the password is empty"),
            Self::NulInPassword => f.write_str("a password with NUL in it cannot be sent in a login"),
            Self::Password(malformed) => write!(f, "SASLprep (RFC 4013) does not take the password: {malformed}"),
            Self::LongPassword => write!(f, "the password has over {} octets", keys::MAX_PASSWORD_OCTETS),
            Self::Hash(error) => write!(f, "cannot hash the password: {error}"),
            Self::Unreadable(error) => error.fmt(f),
            Self::ScramKeys(error) => write!(f, "cannot make SCRAM keys: {error}"),
            Self::Random(error) => write!(f, "no random numbers: {error}"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AccountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(malformed) | Self::Password(malformed) => malformed.source(),
            Self::Hash(error) => Some(error),
            Self::Unreadable(error) => Some(error),
            Self::ScramKeys(error) => Some(error),
            Self::Random(error) => Some(error),
            Self::Store(error) => std::error::Error::source(error),
            Self::Exists(_)
            | Self::Unknown(_)
            | Self::Address(_)
            | Self::UnknownAddress(_)
            | Self::TooManyAddresses
            | Self::EmptyPassword
            | Self::NulInPassword
            | Self::LongPassword => None,
        }
    }
}

macro_rules! passed_on {
    ($($owner:ty),*) => {$(
        impl<S: WritableStore + ?Sized> WritableStore for $owner {
            fn insert(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError> {
                (**self).insert(name, password)
            }

            fn replace(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError> {
                (**self).replace(name, password)
            }

            fn set_disabled(&self, name: &str, disabled: bool) -> Result<bool, StoreError> {
                (**self).set_disabled(name, disabled)
            }

            fn delete(&self, name: &str) -> Result<bool, StoreError> {
                (**self).delete(name)
            }

            fn list(&self) -> Result<Vec<User>, StoreError> {
                (**self).list()
            }

            fn insert_token(&self, name: &str, token: &TokenHash) -> Result<bool, StoreError> {
                (**self).insert_token(name, token)
            }

            fn delete_tokens(&self, name: &str) -> Result<usize, StoreError> {
                (**self).delete_tokens(name)
            }

            fn insert_address(&self, name: &str, address: &str) -> Result<bool, StoreError> {
                (**self).insert_address(name, address)
            }

            fn delete_address(&self, name: &str, address: &str) -> Result<bool, StoreError> {
                (**self).delete_address(name, address)
            }

            fn salt_key(&self) -> Result<Secret, StoreError> {
                (**self).salt_key()
            }
        }
    )*};
}

passed_on!(std::sync::Arc<S>, Box<S>, &S);
