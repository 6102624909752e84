//! Users in a PostgreSQL database that all servers of a fleet share.
//!
//! ```no_run
//! use sansmtp_authenticators::postgres::{Postgres, PostgresConfig};
//! use sansmtp_authenticators::stored::{Accounts, Keep, Stored};
//!
//! let url = "postgres://mail@db.example.org/mail?password-file=/etc/mail/postgres";
//! let users = Postgres::open(PostgresConfig::from_url(url)?)?;
//! Accounts::new(&users).add("tim", b"tanstaaftanstaaf", Keep::Scram)?;
//! let authenticator = Stored::new(users)?;
//! # let _ = authenticator;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Its tables are those of the SQLite database, in a schema `sansmtp` of their own: `sansmtp.user` has
//! a row for each user, with the name, the hash of the password (any [`PasswordHash`](crate::stored::PasswordHash); new
//! ones are Argon2id), the keys of each SCRAM mechanism and of CRAM-MD5, if they are kept, and whether logins are
//! refused. Tokens are in `sansmtp.token`, as hashes, and in `sansmtp.address` the addresses from which a user may
//! send. What one server changes the others see at once.
//!
//! The tables are made, and brought up to date, by whoever comes first, who must be allowed to; somebody else can make
//! the schema beforehand, `CREATE SCHEMA sansmtp AUTHORIZATION mail`. After that, what `user …` commands do takes
//! `SELECT, INSERT, UPDATE, DELETE` on the tables, and logins `SELECT`, and `UPDATE` on `sansmtp.user` where they leave
//! keys behind. A role that may only read has to be given `SELECT` on tables that a newer version has added, as
//! `sansmtp.address`: until then, addresses [cannot be told](crate::Addresses::CannotTell).
//!
//! A pool of [connections](PostgresConfig::connections) is kept, with prepared statements. No question takes longer
//! than the [time limit](PostgresConfig::time_limit); a database that is gone, or not there yet
//! ([`open_or_later`](Postgres::open_or_later)), is asked again by every login. The
//! library is asynchronous: its runtime is hidden on a thread that ends with the pool.

use std::fmt;

use sansmtp::Secret;
use sansmtp::auth::ScramHash;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};
use zeroize::Zeroizing;

use crate::stored::{
    Found, Keys, Needed, NewPassword, SAMPLE, Store, StoreError, StoredUser, TokenHash, User, WritableStore,
};
use crate::{Answers, MAX_ADDRESSES};

mod config;
mod error;
mod hidden;
mod pool;
mod schema;

pub use config::PostgresConfig;
pub use error::{PostgresError, ServerError};

use hidden::Hidden;
use pool::{Pool, Values, Wanted};

/// Users in a PostgreSQL database. May be shared by threads.
pub struct Postgres {
    pool: Pool,
}

impl Postgres {
    /// Connects to the database, and brings its tables to the newest version, which may take a minute.
    ///
    /// # Errors
    /// Where there is no such database at the moment, or it is one of something else.
    pub fn open(config: PostgresConfig) -> Result<Self, PostgresError> {
        let this = Self::open_later(config)?;
        this.pool.prepare()?;
        Ok(this)
    }

    /// Does that when it is asked for the first user.
    ///
    /// # Errors
    /// Where it could never connect.
    pub fn open_later(config: PostgresConfig) -> Result<Self, PostgresError> {
        Ok(Self { pool: Pool::new(config)? })
    }

    /// Does that now if the database is there, or else when it is asked for the first user, with a warning in the log.
    /// Until then, logins are `454 4.7.0`.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for [what may pass](PostgresError::is_temporary).
    pub fn open_or_later(config: PostgresConfig) -> Result<Self, PostgresError> {
        let this = Self::open_later(config)?;
        // Who does not answer is not waited for as long as new tables may take.
        match this.pool.reach().and_then(|()| this.pool.prepare()) {
            Err(error) if error.is_temporary() => {
                let database = this.pool.config().address();
                tracing::warn!(%database, %error, "the users' database is away; until it is there, logins are refused for now (454)");
            }
            prepared => prepared?,
        }
        Ok(this)
    }

    /// [`salt_key`](WritableStore::salt_key), once a connection has brought it, without waiting: for
    /// [`Auth::salt_key_from`](sansmtp::Auth::salt_key_from).
    #[must_use]
    pub fn known_salt_key(&self) -> Option<Secret> {
        self.pool.salt_key().map(|key| key.expose_secret().into())
    }

    fn rows(&self, sql: &'static str, values: Values) -> Result<Vec<Row>, StoreError> {
        self.pool.run(Wanted::Rows, sql, values).map(|(rows, _)| rows).map_err(store_error)
    }

    fn row<T>(
        &self,
        sql: &'static str,
        values: Values,
        read: impl FnOnce(&Row) -> Result<T, PostgresError>,
    ) -> Result<Option<T>, StoreError> {
        let rows = self.rows(sql, values)?;
        rows.first().map(read).transpose().map_err(StoreError::new)
    }

    /// How many rows were changed.
    fn change(&self, sql: &'static str, values: Values) -> Result<usize, StoreError> {
        let (_, count) = self.pool.run(Wanted::Count, sql, values).map_err(store_error)?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}

impl Store for Postgres {
    fn find(&self, name: &str) -> Result<Option<StoredUser>, StoreError> {
        // Which PostgreSQL cannot have in a text.
        if name.contains('\0') {
            return Ok(None);
        }
        self.row(FIND, vec![text(name)], stored)
    }

    /// By one question, which always finds a row: a second one would take another way over the network.
    fn find_or(&self, name: &str, other: &str) -> Result<Found, StoreError> {
        if name.contains('\0') {
            return self.find(other).map(Found::Other);
        }
        let found = self.row(FIND_OR, vec![text(name), text(other)], stored)?;
        Ok(match found {
            Some(user) if user.name() == name => Found::User(user),
            found => Found::Other(found),
        })
    }

    /// Which characters have a lower case is up to the database's collation: under `C`, those of ASCII. An index on
    /// `lower(name)` spares reading all names.
    fn names_in_any_case(&self, name: &str) -> Result<Vec<String>, StoreError> {
        if name.contains('\0') {
            return Ok(Vec::new());
        }
        let rows = self.rows(IN_ANY_CASE, vec![text(name)])?;
        rows.iter().map(|row| column(row, 0)).collect::<Result<_, _>>().map_err(StoreError::new)
    }

    fn find_by_token(&self, token: &TokenHash) -> Result<Option<User>, StoreError> {
        self.row(FIND_BY_TOKEN, vec![octets(token)], user)
    }

    fn addresses(&self, name: &str) -> Result<Option<Vec<String>>, StoreError> {
        if name.contains('\0') {
            return Ok(None);
        }
        let most = i64::try_from(MAX_ADDRESSES).unwrap_or(i64::MAX);
        let rows = self.rows(ADDRESSES, vec![text(name), Box::new(most)])?;
        let addresses = rows.iter().map(|row| column::<Option<String>>(row, 0)).collect::<Result<Vec<_>, _>>();
        let addresses = addresses.map_err(StoreError::new)?;
        Ok((!addresses.is_empty()).then(|| addresses.into_iter().flatten().collect()))
    }

    fn has_addresses(&self) -> Result<bool, StoreError> {
        let has = self.row(HAS_ADDRESSES, Vec::new(), |row| column(row, 0))?;
        Ok(has.unwrap_or(true))
    }

    fn keep_keys(&self, name: &str, hash: &str, keys: &Keys) -> Result<(), StoreError> {
        let mut values = vec![text(name), text(hash)];
        values.extend(columns(keys));
        self.change(KEEP_KEYS, values).map(drop)
    }

    fn keeps_keys(&self) -> bool {
        true
    }

    fn sample(&self) -> Result<Vec<StoredUser>, StoreError> {
        let rows = self.rows(SOME, vec![Box::new(i64::try_from(SAMPLE).unwrap_or(i64::MAX))])?;
        rows.iter().map(stored).collect::<Result<_, _>>().map_err(StoreError::new)
    }

    fn answers(&self, mechanism: &str) -> Answers {
        match Needed::by(mechanism) {
            Needed::Password | Needed::Scram(_) | Needed::Certificate => Answers::ForAll,
            Needed::CramMd5 | Needed::Token => Answers::ForSome,
            Needed::Other => Answers::ForNone,
        }
    }
}

impl WritableStore for Postgres {
    fn insert(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError> {
        Ok(self.change(INSERT, new(name, password))? > 0)
    }

    fn replace(&self, name: &str, password: &NewPassword) -> Result<bool, StoreError> {
        Ok(self.change(REPLACE, new(name, password))? > 0)
    }

    fn set_disabled(&self, name: &str, disabled: bool) -> Result<bool, StoreError> {
        let sql = "UPDATE sansmtp.user SET disabled = $2 WHERE name = $1";
        Ok(self.change(sql, vec![text(name), Box::new(disabled)])? > 0)
    }

    fn delete(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.change("DELETE FROM sansmtp.user WHERE name = $1", vec![text(name)])? > 0)
    }

    fn list(&self) -> Result<Vec<User>, StoreError> {
        let rows = self.rows("SELECT name, disabled FROM sansmtp.user ORDER BY name", Vec::new())?;
        rows.iter().map(user).collect::<Result<_, _>>().map_err(StoreError::new)
    }

    fn insert_token(&self, name: &str, token: &TokenHash) -> Result<bool, StoreError> {
        let sql = r#"INSERT INTO sansmtp.token (hash, "user") SELECT $2, name FROM sansmtp.user WHERE name = $1"#;
        Ok(self.change(sql, vec![text(name), octets(token)])? > 0)
    }

    fn delete_tokens(&self, name: &str) -> Result<usize, StoreError> {
        self.change(r#"DELETE FROM sansmtp.token WHERE "user" = $1"#, vec![text(name)])
    }

    fn insert_address(&self, name: &str, address: &str) -> Result<bool, StoreError> {
        // "DO UPDATE" counts as a change where "DO NOTHING" would not.
        let sql = r#"INSERT INTO sansmtp.address ("user", address) SELECT name, $2 FROM sansmtp.user WHERE name = $1
                     ON CONFLICT ("user", address) DO UPDATE SET address = excluded.address"#;
        Ok(self.change(sql, vec![text(name), text(address)])? > 0)
    }

    fn delete_address(&self, name: &str, address: &str) -> Result<bool, StoreError> {
        let sql = r#"DELETE FROM sansmtp.address WHERE "user" = $1 AND address = $2"#;
        Ok(self.change(sql, vec![text(name), text(address)])? > 0)
    }

    fn salt_key(&self) -> Result<Secret, StoreError> {
        let sql = "SELECT value FROM sansmtp.setting WHERE name = $1";
        let key = self.row(sql, vec![text(schema::SALT_KEY)], |row| column(row, 0).map(Secret::new))?;
        key.ok_or_else(|| StoreError::new(PostgresError::Foreign))
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("config", self.pool.config()).finish_non_exhaustive()
    }
}

fn store_error(error: PostgresError) -> StoreError {
    if matches!(error, PostgresError::Full) { StoreError::logged(error) } else { StoreError::new(error) }
}

fn text(value: &str) -> Box<dyn ToSql + Send + Sync> {
    Box::new(Hidden(value.to_owned()))
}

fn octets(token: &TokenHash) -> Box<dyn ToSql + Send + Sync> {
    Box::new(Hidden(token.as_bytes().to_vec()))
}

fn new(name: &str, password: &NewPassword) -> Values {
    let mut values = vec![text(name), text(password.hash())];
    values.extend(columns(password.keys()));
    values
}

/// In the order of the columns.
fn columns(keys: &Keys) -> [Box<dyn ToSql + Send + Sync>; 4] {
    let scram = |hash| keys.scram(hash);
    [scram(ScramHash::Sha1), scram(ScramHash::Sha256), scram(ScramHash::Sha512), keys.cram_md5()]
        .map(|key| Box::new(Hidden(key.map(str::to_owned))) as Box<dyn ToSql + Send + Sync>)
}

fn column<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T, PostgresError> {
    Ok(row.try_get(place)?)
}

fn user(row: &Row) -> Result<User, PostgresError> {
    Ok(User::new(column::<String>(row, 0)?, column(row, 1)?))
}

fn stored(row: &Row) -> Result<StoredUser, PostgresError> {
    let text = |place| column::<Option<String>>(row, place).map(|text| text.map(Zeroizing::new));
    Ok(StoredUser::new(column::<String>(row, 0)?, column(row, 1)?)
        .with_password(text(2)?)
        .with_scram(ScramHash::Sha1, text(3)?)
        .with_scram(ScramHash::Sha256, text(4)?)
        .with_scram(ScramHash::Sha512, text(5)?)
        .with_cram_md5(text(6)?))
}

const FIND: &str = "SELECT name, disabled, password, scram_sha_1, scram_sha_256, scram_sha_512, cram_md5
                    FROM sansmtp.user WHERE name = $1";
const FIND_OR: &str = "SELECT name, disabled, password, scram_sha_1, scram_sha_256, scram_sha_512, cram_md5
                       FROM sansmtp.user
                       WHERE name = coalesce((SELECT name FROM sansmtp.user WHERE name = $1), $2)";
const IN_ANY_CASE: &str = "SELECT name FROM sansmtp.user WHERE lower(name) = $1";
const SOME: &str = "SELECT name, disabled, password, scram_sha_1, scram_sha_256, scram_sha_512, cram_md5
                    FROM sansmtp.user LIMIT $1";
const FIND_BY_TOKEN: &str = r#"SELECT u.name, u.disabled FROM sansmtp.user u JOIN sansmtp.token t ON t."user" = u.name
                               WHERE t.hash = $1"#;
/// A row without an address for a user without one.
const ADDRESSES: &str = r#"SELECT a.address FROM sansmtp.user u LEFT JOIN sansmtp.address a ON a."user" = u.name
                           WHERE u.name = $1 ORDER BY a.address LIMIT $2"#;
const HAS_ADDRESSES: &str = "SELECT EXISTS (SELECT FROM sansmtp.address)
                             OR EXISTS (SELECT FROM sansmtp.user WHERE position('@' IN name) > 0)";
const INSERT: &str = "INSERT INTO sansmtp.user (name, password, scram_sha_1, scram_sha_256, scram_sha_512, cram_md5)
                      VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
const REPLACE: &str = "UPDATE sansmtp.user SET password = $2, scram_sha_1 = $3, scram_sha_256 = $4, scram_sha_512 = $5,
                                               cram_md5 = $6
                       WHERE name = $1";
const KEEP_KEYS: &str = "UPDATE sansmtp.user SET scram_sha_1 = coalesce($3, scram_sha_1),
                                                 scram_sha_256 = coalesce($4, scram_sha_256),
                                                 scram_sha_512 = coalesce($5, scram_sha_512),
                                                 cram_md5 = coalesce($6, cram_md5)
                         WHERE name = $1 AND password = $2";

static_assertions::assert_impl_all!(Postgres: Send, Sync);
