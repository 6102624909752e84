//! Bearer tokens: random, given to one program each, and dropped all at once.
//!
//! A token stays good when its user's password changes, as an app password does: it was never derived from it.

use rusqlite::OptionalExtension;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::password::random_text;
use super::{Error, User, Users};

impl Users {
    /// Makes a token for a user and returns the only copy of it.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub(crate) fn add_token(&self, name: &str) -> Result<Zeroizing<String>, Error> {
        let name = self.known(name)?;
        let token = random_text()?;
        self.change(
            &name,
            "INSERT INTO token (hash, user) SELECT ?2, name FROM user WHERE name = ?1",
            (&name, hash(token.as_bytes()).as_slice()),
        )?;
        Ok(token)
    }

    /// Drops all of a user's tokens, and says how many there were.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub(crate) fn drop_tokens(&self, name: &str) -> Result<usize, Error> {
        let name = self.known(name)?;
        Ok(self.lock().execute("DELETE FROM token WHERE user = ?1", [name])?)
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub(crate) fn find_by_token(&self, token: &[u8]) -> Result<Option<User>, Error> {
        let connection = self.lock();
        // What is looked for is a hash, so the time tells nothing of a token that is nearly right.
        let mut statement = connection
            .prepare_cached("SELECT name, disabled FROM user JOIN token ON token.user = user.name WHERE hash = ?1")?;
        Ok(statement.query_row([hash(token).as_slice()], User::from_row).optional()?)
    }
}

/// Nobody can try all of 192 random bits, so the hash needs no salt and may be a quick one.
fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}
