//! Stores with users in them, and the authenticator over those.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use sansmtp_authenticators::stored::{Accounts, Hashing, Keep, Store, Stored, WritableStore};

use super::battery::USERS;

/// With the [`USERS`] in it.
pub(crate) fn with_users<S: WritableStore>(store: S) -> S {
    let users = Accounts::new(store);
    for (name, password) in USERS {
        users.add(name, password.as_bytes(), Keep::Scram).unwrap();
    }
    users.into_store()
}

/// The authenticator over them, with room for everybody who waits for a hash.
pub(crate) fn stored<S: Store>(store: S) -> Stored<S> {
    let hashing = Hashing::with_limits(NonZeroUsize::new(2).unwrap(), 2000).longest_wait(Duration::from_secs(300));
    Stored::new(store).unwrap().hashing(Arc::new(hashing))
}
