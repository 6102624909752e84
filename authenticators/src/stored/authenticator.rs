//! The authenticator over a store.

use std::borrow::Cow;
use std::sync::Arc;

use sansmtp::auth::mechanism::CramMd5Response;
use sansmtp::auth::{Password, ScramHash, lower_case};
use sansmtp::{AuthQuestion, AuthRequest, AuthResult, Peer, Refusal, SecretRef};

use super::decoys::{Decoy, Decoys};
use super::keys::{self, MAX_PASSWORD_OCTETS};
use super::{
    AccountError, Found, Hashing, Keep, Keys, NOBODY, Needed, Store, StoreError, StoredUser, TokenHash, User,
    names_in_certificate, read_cram_md5, read_scram,
};
use crate::{Addresses, Answers, Authenticator, Knows};

/// The authenticator over a [`Store`]: passwords, SCRAM, CRAM-MD5, bearer tokens and client certificates.
///
/// A user that there is not, a wrong password, a disabled account and one without keys for the mechanism look the same to
/// the peer and take the same time: as many look-ups, of which one finds a user, as much to be read and overwritten, and a
/// hash that costs what the hashes of the store usually cost. Where those differ, names without a user share the costs out
/// among them as the users do, each name always at the same.
///
/// A password is compared with its hash, or else with SCRAM keys, or else with a CRAM-MD5 key: as the client sent it
/// and, where SASLprep makes another one of it, prepared, which takes twice as long for everybody. A form of more than
/// 1,024 octets is not compared. Whoever logs in with a password leaves behind the keys that are to be
/// [kept](Self::keep), in a store that can be changed.
///
/// A certificate that the TLS layer has verified names the user by an email address, or else by the common name.
#[derive(Debug)]
pub struct Stored<S> {
    store: S,
    hashing: Arc<Hashing>,
    keep: Keep,
    decoys: Decoys,
    /// Has all that may be kept, of a password that nobody knows.
    nobody: StoredUser,
    reveals: bool,
    ignore_case: bool,
    addresses_are_optional: bool,
}

/// What a look-up finds, whatever the name.
struct Row {
    /// The user, or who stands in.
    user: StoredUser,
    /// It is the user.
    known: bool,
    decoy: Arc<Decoy>,
}

impl<S: Store> Stored<S> {
    /// Over this store, with a [`Hashing`] of its own; SCRAM keys are kept.
    ///
    /// # Errors
    /// Where there is no entropy.
    pub fn new(store: S) -> Result<Self, AccountError> {
        Ok(Self {
            store,
            hashing: Arc::default(),
            keep: Keep::Scram,
            decoys: Decoys::new(keys::nobodys_hash()?),
            nobody: keys::nobody()?,
            reveals: false,
            ignore_case: false,
            addresses_are_optional: false,
        })
    }

    /// Shares the limit of hashes at once with others.
    #[must_use]
    pub fn hashing(mut self, hashing: Arc<Hashing>) -> Self {
        self.hashing = hashing;
        self
    }

    /// Which keys to keep of passwords that logins bring, where they are not there.
    #[must_use]
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Whether a user who has no keys for SCRAM or CRAM-MD5 yet, but would have once they have logged in by PLAIN or LOGIN,
    /// is told so, by `432 4.7.12` (RFC 4954, section 6). **This tells everybody, before any password, that there is such a
    /// user**, and is off unless changed: such a user is refused as an unknown one is, and the event says
    /// [`NoKeys`](Refusal::NoKeys).
    #[must_use]
    pub fn reveal_users_without_keys(mut self, reveals: bool) -> Self {
        self.reveals = reveals;
        self
    }

    /// Whether names are compared without regard to case, and users are logged in by their names in lower case. Off unless
    /// changed.
    ///
    /// Of several users whose names differ in case only, the one whose name is in lower case can log in. Where there is no
    /// such one, none of them can, and a warning is logged.
    ///
    /// The engine has to ignore the case as well, by [`Auth::ignore_case`](sansmtp::Auth::ignore_case): else SCRAM salts tell
    /// which names there are, and failures of one user are counted by each way to write the name. Each look-up asks the store
    /// for [names in any case](Store::names_in_any_case) beforehand.
    #[must_use]
    pub fn ignore_case(mut self, ignored: bool) -> Self {
        self.ignore_case = ignored;
        self
    }

    /// Whether [`addresses`](Authenticator::addresses) says [`NeverGiven`](Addresses::NeverGiven) of a user, rather than
    /// that there are none, as long as nobody in the store has an address, nor a name that is one. Off unless changed.
    #[must_use]
    pub fn addresses_are_optional(mut self, optional: bool) -> Self {
        self.addresses_are_optional = optional;
        self
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    fn check_password(&self, peer: Peer, name: &str, password: Password<'_>) -> Result<AuthResult, StoreError> {
        let is_taken = |form: SecretRef<'_>| (1..=MAX_PASSWORD_OCTETS).contains(&form.expose_secret().len());
        if !password.forms().any(is_taken) {
            return Ok(AuthResult::refuse());
        }
        let Row { user: found, known, decoy } = self.look_up(name)?;
        let stored = found.password_hash()?;
        let Some(mut permit) = self.hashing.permit(peer, name) else { return Ok(AuthResult::cannot_tell()) };
        let hash = stored.as_ref().unwrap_or(&decoy.hash);
        let mut has_memory = true;
        let right = password.check(|form| {
            let right =
                if is_taken(form) { hash.verify_in(permit.memory(), form.expose_secret()) } else { Some(false) };
            has_memory &= right.is_some();
            right.unwrap_or(false)
        });
        if !has_memory {
            return Err(StoreError::new(argon2::Error::OutOfMemory));
        }
        permit.tell(right && known && stored.is_some() && !found.disabled);
        if !known {
            return Ok(AuthResult::refuse_because(Refusal::UnknownUser));
        }
        match (right && stored.is_some(), found.disabled) {
            (false, _) => return Ok(AuthResult::refuse()),
            (true, true) => return Ok(AuthResult::refuse_because(Refusal::Disabled)),
            (true, false) => {}
        }
        if self.keeps_keys()
            && found.lacks(self.keep)
            && let Some(hash) = found.password_text()
        {
            let keys = Keys::derive(password.as_sent().expose_secret(), self.keep);
            drop(permit);
            // The password is right all the same; the next login tries again.
            match keys.map(|keys| self.store.keep_keys(found.name(), hash, &keys)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, user = name, "cannot keep the keys of a password"),
                Err(error) => tracing::warn!(%error, user = name, "cannot make the keys of a password"),
            }
        }
        Ok(AuthResult::accept())
    }

    /// Finds a user, or who stands in: with the same work, and as much of it to be wiped.
    fn look_up(&self, name: &str) -> Result<Row, StoreError> {
        let wanted = self.compared(name);
        let name = if self.ignore_case { self.stored_name(&wanted)? } else { Cow::Borrowed(&*wanted) };
        let decoy = self.decoys.choose(&wanted, &self.store)?;
        let (found, known) = match self.store.find_or(&name, &decoy.name)? {
            Found::User(user) => (Some(user), true),
            Found::Other(other) => (other, false),
        };
        let user = found.unwrap_or_else(|| {
            // Deleted in the meantime, unless there was nobody at all.
            if decoy.name != NOBODY {
                self.decoys.forget();
            }
            self.nobody.clone()
        });
        user.make_up_for_what_is_missing(&self.nobody);
        Ok(Row { user, known, decoy })
    }

    /// A name as it is compared, and as a login is called.
    fn compared<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.ignore_case { Cow::Owned(lower_case(name)) } else { Cow::Borrowed(name) }
    }

    /// As the store has it, the name that is in lower case here. The same name if there is no such user.
    fn stored_name<'n>(&self, name: &'n str) -> Result<Cow<'n, str>, StoreError> {
        let mut names = self.store.names_in_any_case(name)?;
        if names.len() > 1 && !names.iter().any(|known| known == name) {
            tracing::warn!(user = name, "several users have this name in other cases: none of them can log in");
        }
        match (names.pop(), names.is_empty()) {
            (Some(only), true) => Ok(Cow::Owned(only)),
            _ => Ok(Cow::Borrowed(name)),
        }
    }

    fn find_addresses(&self, login: &str) -> Result<Addresses, StoreError> {
        let wanted = self.compared(login);
        let name = if self.ignore_case { self.stored_name(&wanted)? } else { Cow::Borrowed(&*wanted) };
        Ok(match self.store.addresses(&name)? {
            None => Addresses::UnknownLogin,
            Some(none) if none.is_empty() && self.addresses_are_optional && !self.store.has_addresses()? => {
                Addresses::NeverGiven
            }
            Some(addresses) => Addresses::Known(addresses),
        })
    }

    fn of_user(&self, user: User) -> AuthResult {
        let login = self.compared(&user.name);
        if user.disabled {
            AuthResult::refuse_because(Refusal::Disabled).with_login(login)
        } else {
            AuthResult::accept().with_login(login)
        }
    }

    /// Who has the keys is not logged in yet.
    fn scram(&self, name: &str, hash: ScramHash) -> Result<AuthResult, StoreError> {
        let Row { user, known, .. } = self.look_up(name)?;
        let own = user.scram_text(hash);
        // Read in any case: what stands in is as long.
        let keys = own.or(self.nobody.scram_text(hash)).map_or(Ok(None), |text| read_scram(text));
        if !known {
            return Ok(AuthResult::refuse_because(Refusal::UnknownUser));
        }
        let keys = keys?.filter(|keys| own.is_some() && keys.hash() == hash);
        let disabled = || AuthResult::refuse_because(Refusal::Disabled);
        Ok(match (keys, user.disabled) {
            (Some(keys), false) => AuthResult::scram_keys(keys),
            // Looks as before to the peer.
            (Some(keys), true) => disabled().with_scram_keys(keys),
            (None, false) => self.refuse_without_key(),
            (None, true) => disabled(),
        })
    }

    /// The same work whether there is such a user or not.
    fn check_cram_md5(&self, name: &str, response: &CramMd5Response) -> Result<AuthResult, StoreError> {
        let Row { user, known, .. } = self.look_up(name)?;
        let own = user.cram_md5_text();
        let key = own.or(self.nobody.cram_md5_text()).map(|text| read_cram_md5(text)).transpose();
        let right = key.as_ref().is_ok_and(|key| key.as_ref().is_some_and(|key| response.verify_key(key)));
        if !known {
            return Ok(AuthResult::refuse_because(Refusal::UnknownUser));
        }
        drop(key?);
        Ok(match (own.is_some(), user.disabled) {
            (false, false) => self.refuse_without_key(),
            (true, _) if !right => AuthResult::refuse(),
            (_, true) => AuthResult::refuse_because(Refusal::Disabled),
            (true, false) => AuthResult::accept(),
        })
    }

    /// Refuses a user for whom there is nothing that the mechanism needs, as one whom nobody knows. Where a login by PLAIN
    /// or LOGIN would change that, the client can be told.
    fn refuse_without_key(&self) -> AuthResult {
        AuthResult::refuse_because(if self.reveals && self.keeps_keys() {
            Refusal::PasswordTransitionNeeded
        } else {
            Refusal::NoKeys
        })
    }

    fn keeps_keys(&self) -> bool {
        self.keep != Keep::Nothing && self.store.keeps_keys()
    }

    /// XOAUTH2 says whose the token should be; OAUTHBEARER leaves that to the token. The name is not looked up, so there is
    /// nothing to find out about it.
    fn check_token(&self, name: &str, token: &[u8]) -> Result<AuthResult, StoreError> {
        Ok(match self.store.find_by_token(&TokenHash::of(token))? {
            Some(user) if name.is_empty() || self.compared(name) == self.compared(&user.name) => self.of_user(user),
            Some(_) | None => AuthResult::refuse(),
        })
    }

    /// The user whom a verified certificate names; of several, the first that there is. All of them are looked up.
    fn find_by_certificate(&self, chain: &[Vec<u8>]) -> Result<Option<User>, StoreError> {
        let mut found = None;
        for name in names_in_certificate(chain) {
            let Row { user, known, .. } = self.look_up(&name)?;
            if known && found.is_none() {
                found = Some(user.into_user());
            }
        }
        Ok(found)
    }
}

impl<S: Store> Authenticator for Stored<S> {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let name = request.credentials().authcid();
        let result = match request.question() {
            AuthQuestion::Password(password) => self.check_password(request.peer(), name, password),
            AuthQuestion::ScramKeys(hash) => self.scram(name, hash),
            AuthQuestion::CramMd5(response) => self.check_cram_md5(name, response),
            AuthQuestion::BearerToken(token) => self.check_token(name, token.token().expose_secret()),
            AuthQuestion::ClientCertificate(chain) => self.find_by_certificate(chain).map(|user| {
                user.map_or_else(|| AuthResult::refuse_because(Refusal::UnknownUser), |user| self.of_user(user))
            }),
            AuthQuestion::Anonymous(_) | AuthQuestion::Other | _ => return AuthResult::cannot_tell(),
        };
        result.unwrap_or_else(|error| {
            if !error.is_logged() {
                tracing::error!(%error, mechanism = %request.mechanism(), "cannot check a login");
            }
            AuthResult::cannot_tell()
        })
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        let known = match request.question() {
            AuthQuestion::Password(_) | AuthQuestion::ScramKeys(_) | AuthQuestion::CramMd5(_) => {
                self.look_up(request.credentials().authcid()).map(|row| row.known)
            }
            AuthQuestion::BearerToken(token) => {
                let hash = TokenHash::of(token.token().expose_secret());
                self.store.find_by_token(&hash).map(|found| found.is_some())
            }
            AuthQuestion::ClientCertificate(chain) => self.find_by_certificate(chain).map(|found| found.is_some()),
            AuthQuestion::Anonymous(_) | AuthQuestion::Other | _ => return Knows::No,
        };
        match known {
            Ok(true) => Knows::Yes,
            Ok(false) => Knows::No,
            Err(error) => {
                if !error.is_logged() {
                    tracing::error!(%error, mechanism = %request.mechanism(), "cannot look for a user");
                }
                Knows::CannotTell
            }
        }
    }

    fn answers(&self, mechanism: &str) -> Answers {
        match (self.store.answers(mechanism), Needed::by(mechanism)) {
            // Whoever has no keys yet will not get any.
            (Answers::ForAll, Needed::Scram(_)) if self.store.keeps_keys() && !self.keeps_keys() => Answers::ForSome,
            (answers, _) => answers,
        }
    }

    fn addresses(&self, login: &str) -> Addresses {
        self.find_addresses(login).unwrap_or_else(|error| {
            if !error.is_logged() {
                tracing::error!(%error, "cannot look for a user's addresses");
            }
            Addresses::CannotTell
        })
    }
}
