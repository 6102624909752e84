//! The database's tables, and how those of older versions become those of this one.

use std::time::Duration;

use sansmtp::Secret;
use tokio_postgres::{Client, Transaction};
use zeroize::Zeroizing;

use super::PostgresError;
use super::hidden::Hidden;

/// Brings the tables to the newest version. Where they are there already, nothing but reading them is asked for; else
/// it happens in a transaction, under a lock that all servers share: another one may be doing the same.
pub(super) async fn bring_up_to_date(client: &mut Client) -> Result<(), PostgresError> {
    let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.try_get(0)?;
    if encoding != "UTF8" {
        return Err(PostgresError::Encoding(encoding));
    }
    let transaction = client.build_transaction().read_only(true).start().await?;
    let version = version(&transaction).await?;
    transaction.commit().await?;
    if version == NEWEST { Ok(()) } else { migrate(client).await }
}

async fn migrate(client: &mut Client) -> Result<(), PostgresError> {
    let transaction = client.transaction().await?;
    let limit = TIME_LIMIT.as_millis();
    transaction.batch_execute(&format!("SET LOCAL statement_timeout = {limit}")).await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let version = version(&transaction).await?;
    if version == NEWEST {
        return Ok(());
    }
    let missing = VERSIONS.get(usize::try_from(version).map_err(|_| PostgresError::Foreign)?..);
    for statements in missing.unwrap_or_default() {
        transaction.batch_execute(statements).await?;
    }
    if version < SALT_KEY_SINCE {
        let mut key = Zeroizing::new([0; SALT_KEY_OCTETS]);
        getrandom::fill(&mut *key).map_err(PostgresError::Random)?;
        let sql = "INSERT INTO sansmtp.setting (name, value) VALUES ($1, $2)";
        transaction.execute(sql, &[&SALT_KEY, &Hidden(key.as_slice())]).await?;
    }
    transaction.execute("UPDATE sansmtp.version SET version = $1", &[&NEWEST]).await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn salt_key(client: &Client) -> Result<Secret, PostgresError> {
    let row = client.query_opt("SELECT value FROM sansmtp.setting WHERE name = $1", &[&SALT_KEY]).await?;
    Ok(Secret::new(row.ok_or(PostgresError::Foreign)?.try_get(0)?))
}

/// The version of the tables that are there; 0 where there are none.
async fn version(transaction: &Transaction<'_>) -> Result<i32, PostgresError> {
    // Of the catalogue: whoever may not use the schema would get an error for what is in it.
    let sql =
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                              WHERE n.nspname = 'sansmtp' AND c.relname = 'version'),
                      EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                              WHERE n.nspname = 'sansmtp')";
    let row = transaction.query_one(sql, &[]).await?;
    match (row.try_get(0)?, row.try_get(1)?) {
        (false, false) => return Ok(0),
        (false, true) => return Err(PostgresError::Foreign),
        (true, _) => {}
    }
    let rows = transaction.query("SELECT version FROM sansmtp.version", &[]).await?;
    let [row] = rows.as_slice() else { return Err(PostgresError::Foreign) };
    match row.try_get(0)? {
        version if version > NEWEST => Err(PostgresError::Newer(version)),
        version if version < 1 => Err(PostgresError::Foreign),
        version => Ok(version),
    }
}

/// How long all of it may take, the wait for others included.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The setting from which unknown users' SCRAM salts are made: every server over this database makes the same.
pub(super) const SALT_KEY: &str = "salt_key";

const SALT_KEY_OCTETS: usize = 32;
const SALT_KEY_SINCE: i32 = 2;

/// Of the locks that all who use a database share, the one of these tables: "sansmtp" in ASCII.
const LOCK: i64 = 0x0073_616e_736d_7470;

const NEWEST: i32 = 3;

/// What leads from each version to the next, from the empty database on. Versions are those of the SQLite database.
const VERSIONS: [&str; 3] = [
    // A schema of their own, so that they are found whatever the search path is. It may have been made by somebody who
    // is allowed to, and given to us. Names are compared octet by octet, whatever the database's collation.
    "
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'sansmtp') THEN
        CREATE SCHEMA sansmtp;
    END IF;
END $$;
CREATE TABLE sansmtp.version (version integer NOT NULL);
INSERT INTO sansmtp.version VALUES (1);
CREATE TABLE sansmtp.user (
    name     text COLLATE \"C\" PRIMARY KEY NOT NULL,
    password text NOT NULL,                 -- PHC string, Argon2id
    disabled boolean NOT NULL DEFAULT false
);
",
    // Keys are of the same password as the hash beside them. Users of version 1 have none until they log in with
    // PLAIN or LOGIN. A token belongs to its user, not to a password.
    "
ALTER TABLE sansmtp.user
    ADD COLUMN scram_sha_1   text,          -- as PostgreSQL writes them
    ADD COLUMN scram_sha_256 text,
    ADD COLUMN scram_sha_512 text,
    ADD COLUMN cram_md5      text;          -- as Dovecot writes it; only where it was asked for
CREATE TABLE sansmtp.token (
    hash   bytea PRIMARY KEY NOT NULL,      -- SHA-256
    \"user\" text COLLATE \"C\" NOT NULL REFERENCES sansmtp.user (name) ON DELETE CASCADE
);
CREATE INDEX token_user ON sansmtp.token (\"user\");
CREATE TABLE sansmtp.setting (
    name  text PRIMARY KEY NOT NULL,
    value bytea NOT NULL
);
",
    // From which a user may send. Several users may have the same.
    "
CREATE TABLE sansmtp.address (
    \"user\"  text COLLATE \"C\" NOT NULL REFERENCES sansmtp.user (name) ON DELETE CASCADE,
    address text COLLATE \"C\" NOT NULL,    -- or @ and a domain, for all of its addresses
    PRIMARY KEY (\"user\", address)
);
",
];
