//! Whether a login is right. The peer must not learn why it is not; the log may.

use rusqlite::OptionalExtension;
use sansmtp::auth::mechanism::{CramMd5Key, CramMd5Response};
use sansmtp::auth::{ScramHash, ScramKeys};
use zeroize::Zeroizing;

use super::password::{Keys, verify};
use super::{Error, Keep, Users};

/// What came of checking a password, or a proof that was made with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Accepted,
    Disabled,
    /// The key for the mechanism is not there. A login with the password itself makes it.
    NoKey,
    UnknownUser,
    WrongPassword,
}

/// What there is for a SCRAM exchange.
#[derive(Clone, Debug)]
pub(crate) enum Scram {
    Keys(ScramKeys),
    /// The user may not log in, but looks as before to the peer.
    Disabled(Option<ScramKeys>),
    /// The user has none yet. A login with the password itself makes them.
    NoKeys,
    UnknownUser,
}

/// What a password is checked against.
struct FoundHash {
    hash: Zeroizing<String>,
    disabled: bool,
    lacks_scram: bool,
    lacks_cram_md5: bool,
}

/// What one other mechanism needs, as text; a user may have none.
struct FoundKey {
    disabled: bool,
    key: Option<Zeroizing<String>>,
}

impl Users {
    /// Checks a password. An unknown user, a wrong password and a disabled account take the same time. Where it is
    /// right, and keys are to be kept that are not there, they are made from it.
    ///
    /// # Errors
    /// Where the database cannot be read: then nothing is known of the password.
    pub(crate) fn check_password(&self, name: &str, password: &[u8], keep: Keep) -> Result<Check, Error> {
        let found = self.find_hash(name)?;
        let hash = found.as_ref().map_or(&self.nobody.hash, |found| &found.hash);
        let permit = self.hashing.take();
        let right = verify(password, hash)?;
        let Some(found) = found else { return Ok(Check::UnknownUser) };
        match (right, found.disabled) {
            (false, _) => return Ok(Check::WrongPassword),
            (true, true) => return Ok(Check::Disabled),
            (true, false) => {}
        }
        if found.lacks_scram || (keep == Keep::ScramAndCramMd5 && found.lacks_cram_md5) {
            let keys = Keys::derive(password, keep);
            drop(permit);
            // The password is right all the same; the next login tries again.
            if let Err(error) = keys.and_then(|keys| self.keep_keys(name, &found.hash, &keys)) {
                tracing::warn!(%error, user = name, "cannot keep the keys of a password");
            }
        }
        Ok(Check::Accepted)
    }

    /// Looks for the keys of a SCRAM exchange. Who has them is not logged in yet.
    ///
    /// # Errors
    /// Where the database cannot be read, or what it holds are no keys.
    pub(crate) fn scram_keys(&self, name: &str, hash: ScramHash) -> Result<Scram, Error> {
        let found = self.find_key(
            name,
            match hash {
                ScramHash::Sha1 => "SELECT disabled, scram_sha_1 FROM user WHERE name = ?1",
                ScramHash::Sha256 => "SELECT disabled, scram_sha_256 FROM user WHERE name = ?1",
                ScramHash::Sha512 => "SELECT disabled, scram_sha_512 FROM user WHERE name = ?1",
            },
        )?;
        let Some(FoundKey { disabled, key }) = found else { return Ok(Scram::UnknownUser) };
        let keys: Option<ScramKeys> = key.map(|text| text.parse()).transpose()?;
        Ok(match keys {
            keys if disabled => Scram::Disabled(keys),
            Some(keys) => Scram::Keys(keys),
            None => Scram::NoKeys,
        })
    }

    /// Checks the proof of CRAM-MD5, with the same work whether there is such a user or not.
    ///
    /// # Errors
    /// Where the database cannot be read, or what it holds is no key.
    pub(crate) fn check_cram_md5(&self, name: &str, response: &CramMd5Response) -> Result<Check, Error> {
        let found = self.find_key(name, "SELECT disabled, cram_md5 FROM user WHERE name = ?1")?;
        let stored = found.as_ref().and_then(|found| found.key.as_ref());
        let has_key = stored.is_some();
        let key: CramMd5Key = stored.unwrap_or(&self.nobody.cram_md5).parse()?;
        let right = response.verify_key(&key);
        Ok(match found {
            None => Check::UnknownUser,
            Some(FoundKey { disabled: false, .. }) if !has_key => Check::NoKey,
            Some(_) if !right => Check::WrongPassword,
            Some(FoundKey { disabled: true, .. }) => Check::Disabled,
            Some(FoundKey { disabled: false, .. }) => Check::Accepted,
        })
    }

    fn find_hash(&self, name: &str) -> Result<Option<FoundHash>, Error> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT password, disabled, scram_sha_1 IS NULL OR scram_sha_256 IS NULL OR scram_sha_512 IS NULL,
                    cram_md5 IS NULL
             FROM user WHERE name = ?1",
        )?;
        let found = statement.query_row([name], |row| {
            Ok(FoundHash {
                hash: Zeroizing::new(row.get(0)?),
                disabled: row.get(1)?,
                lacks_scram: row.get(2)?,
                lacks_cram_md5: row.get(3)?,
            })
        });
        Ok(found.optional()?)
    }

    fn find_key(&self, name: &str, sql: &str) -> Result<Option<FoundKey>, Error> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql)?;
        let found = statement.query_row([name], |row| {
            Ok(FoundKey { disabled: row.get(0)?, key: row.get::<_, Option<String>>(1)?.map(Zeroizing::new) })
        });
        Ok(found.optional()?)
    }

    /// Keeps the keys of the password whose hash this is, unless it has been changed in the meantime.
    pub(super) fn keep_keys(&self, name: &str, hash: &str, keys: &Keys) -> Result<(), Error> {
        self.lock().execute(
            "UPDATE user
             SET scram_sha_1 = ?3, scram_sha_256 = ?4, scram_sha_512 = ?5, cram_md5 = coalesce(?6, cram_md5)
             WHERE name = ?1 AND password = ?2",
            (
                name,
                hash,
                keys.scram_sha_1.as_str(),
                keys.scram_sha_256.as_str(),
                keys.scram_sha_512.as_str(),
                keys.cram_md5.as_ref().map(|text| text.as_str()),
            ),
        )?;
        Ok(())
    }
}
