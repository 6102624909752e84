//! Users in memory, for tests and small tools.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sansmtp::Secret;
use sansmtp::auth::ScramHash;
use zeroize::Zeroizing;

use crate::stored::{
    AccountError, Keys, Needed, NewPassword, SAMPLE, Store, StoreError, StoredUser, TokenHash, User, WritableStore,
    is_in_any_case,
};
use crate::{Answers, MAX_ADDRESSES};

/// Users in memory, who are gone with the process.
///
/// ```
/// use sansmtp_authenticators::memory::Memory;
/// use sansmtp_authenticators::stored::{Accounts, Keep, Stored};
///
/// let users = Accounts::new(Memory::new()?);
/// users.add("tim", b"tanstaaftanstaaf", Keep::Scram)?;
/// // What is hashed already, by whatever `PasswordHash` reads.
/// users.add_hash("tom", "$2y$05$0L9PeCB8KMXaEpmUukJNBOmyBHiti19ZCLBmkohIBDydWq6dKc2w6")?;
/// let authenticator = Stored::new(users.into_store())?;
/// # let _ = authenticator;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Memory {
    users: RwLock<Users>,
    salt_key: Secret,
}

#[derive(Default)]
struct Users {
    by_name: BTreeMap<String, StoredUser>,
    /// The users of tokens, by the hashes of those.
    tokens: HashMap<[u8; 32], String>,
    /// The addresses of users, by their names.
    addresses: BTreeMap<String, BTreeSet<String>>,
}

impl Memory {
    /// Nobody yet.
    ///
    /// # Errors
    /// Where there is no entropy.
    pub fn new() -> Result<Self, AccountError> {
        let mut key = vec![0; SALT_KEY_OCTETS];
        getrandom::fill(&mut key).map_err(AccountError::Random)?;
        Ok(Self { users: RwLock::default(), salt_key: Secret::new(key) })
    }

    fn add(&self, user: StoredUser) -> bool {
        let users = &mut self.write().by_name;
        let free = !users.contains_key(user.name());
        if free {
            users.insert(user.name().to_owned(), user);
        }
        free
    }

    fn read(&self) -> RwLockReadGuard<'_, Users> {
        // No change has a half in which it could panic.
        self.users.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Users> {
        self.users.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn find(&self, name: &str) -> Result<Option<StoredUser>, StoreError> {
        Ok(self.read().by_name.get(name).cloned())
    }

    fn names_in_any_case(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let users = self.read();
        Ok(users.by_name.keys().filter(|known| is_in_any_case(known, name)).cloned().collect())
    }

    fn find_by_token(&self, token: &TokenHash) -> Result<Option<User>, StoreError> {
        let users = self.read();
        let owner = users.tokens.get(token.as_bytes()).and_then(|name| users.by_name.get(name));
        Ok(owner.map(|user| User::new(user.name(), user.is_disabled())))
    }

    fn addresses(&self, name: &str) -> Result<Option<Vec<String>>, StoreError> {
        let users = self.read();
        let of_user = || users.addresses.get(name).into_iter().flatten().take(MAX_ADDRESSES).cloned().collect();
        Ok(users.by_name.contains_key(name).then(of_user))
    }

    fn has_addresses(&self) -> Result<bool, StoreError> {
        let users = self.read();
        Ok(!users.addresses.is_empty() || users.by_name.keys().any(|name| name.contains('@')))
    }

    fn keep_keys(&self, name: &str, hash: &str, keys: &Keys) -> Result<(), StoreError> {
        let mut users = self.write();
        if let Some(user) = users.by_name.get_mut(name)
            && user.password_text().is_some_and(|text| text.as_str() == hash)
        {
            *user = with_keys(user.clone(), keys);
        }
        Ok(())
    }

    fn keeps_keys(&self) -> bool {
        true
    }

    fn sample(&self) -> Result<Vec<StoredUser>, StoreError> {
        let users = self.read();
        let step = (users.by_name.len() / SAMPLE).max(1);
        Ok(users.by_name.values().step_by(step).cloned().collect())
    }

    fn answers(&self, mechanism: &str) -> Answers {
        match Needed::by(mechanism) {
            Needed::Password | Needed::Certificate | Needed::Scram(_) => Answers::ForAll,
            Needed::CramMd5 | Needed::Token => Answers::ForSome,
            Needed::Other => Answers::ForNone,
        }
    }
}

impl WritableStore for Memory {
    fn insert(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError> {
        Ok(self.add(with_password(StoredUser::new(name, false), password)))
    }

    fn replace(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError> {
        let mut users = self.write();
        let Some(user) = users.by_name.get_mut(name) else { return Ok(false) };
        *user = with_password(StoredUser::new(name, user.is_disabled()), password);
        Ok(true)
    }

    fn set_disabled(&self, name: &str, disabled: bool) -> Result<bool, StoreError> {
        let mut users = self.write();
        let Some(user) = users.by_name.get_mut(name) else { return Ok(false) };
        user.set_disabled(disabled);
        Ok(true)
    }

    fn delete(&self, name: &str) -> Result<bool, StoreError> {
        let mut users = self.write();
        users.tokens.retain(|_, owner| owner != name);
        users.addresses.remove(name);
        Ok(users.by_name.remove(name).is_some())
    }

    fn list(&self) -> Result<Vec<User>, StoreError> {
        Ok(self.read().by_name.values().map(|user| User::new(user.name(), user.is_disabled())).collect())
    }

    fn insert_token(&self, name: &str, token: &TokenHash) -> Result<bool, StoreError> {
        let mut users = self.write();
        let known = users.by_name.contains_key(name);
        if known {
            users.tokens.insert(*token.as_bytes(), name.to_owned());
        }
        Ok(known)
    }

    fn delete_tokens(&self, name: &str) -> Result<usize, StoreError> {
        let tokens = &mut self.write().tokens;
        let before = tokens.len();
        tokens.retain(|_, owner| owner != name);
        Ok(before - tokens.len())
    }

    fn insert_address(&self, name: &str, address: &str) -> Result<bool, StoreError> {
        let mut users = self.write();
        let known = users.by_name.contains_key(name);
        if known {
            users.addresses.entry(name.to_owned()).or_default().insert(address.to_owned());
        }
        Ok(known)
    }

    fn delete_address(&self, name: &str, address: &str) -> Result<bool, StoreError> {
        let mut users = self.write();
        let Some(addresses) = users.addresses.get_mut(name) else { return Ok(false) };
        let found = addresses.remove(address);
        if addresses.is_empty() {
            users.addresses.remove(name);
        }
        Ok(found)
    }

    fn salt_key(&self) -> Result<Secret, StoreError> {
        Ok(self.salt_key.expose_secret().into())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("users", &self.read().by_name.len()).finish_non_exhaustive()
    }
}

fn with_password(user: StoredUser, password: &NewPassword) -> StoredUser {
    with_keys(user, password.keys()).with_password(Some(Zeroizing::new(password.hash().to_owned())))
}

/// With those that are there; others stay.
fn with_keys(mut user: StoredUser, keys: &Keys) -> StoredUser {
    let owned = |text: &str| Zeroizing::new(text.to_owned());
    for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
        if let Some(text) = keys.scram(hash) {
            user = user.with_scram(hash, Some(owned(text)));
        }
    }
    if let Some(text) = keys.cram_md5() {
        user = user.with_cram_md5(Some(owned(text)));
    }
    user
}

const SALT_KEY_OCTETS: usize = 32;
