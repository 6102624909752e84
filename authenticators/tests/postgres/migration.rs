//! Tables that are not there, of another version, or of something else.

use sansmtp_authenticators::postgres::{Postgres, PostgresConfig, PostgresError};
use sansmtp_authenticators::stored::{Accounts, Keep, NewPassword, WritableStore};

use crate::door;
use crate::support::login::Door;
use crate::support::postgresql::PostgreSql;

fn open(server: &PostgreSql) -> Result<Postgres, PostgresError> {
    Postgres::open(PostgresConfig::from_url(&server.url()).unwrap())
}

#[test]
fn tables_of_version_1_are_brought_up_to_date() {
    let Some(server) = PostgreSql::start() else { return };
    let password = NewPassword::new(b"tanstaaf", Keep::Nothing).unwrap();
    let version_1 = format!(
        "SET ROLE mail;
         CREATE SCHEMA sansmtp;
         CREATE TABLE sansmtp.version (version integer NOT NULL);
         INSERT INTO sansmtp.version VALUES (1);
         CREATE TABLE sansmtp.user (name text COLLATE \"C\" PRIMARY KEY NOT NULL, password text NOT NULL,
                                    disabled boolean NOT NULL DEFAULT false);
         INSERT INTO sansmtp.user VALUES ('tim', '{0}', false), ('gone', '{0}', true)",
        password.hash()
    );
    server.admin("mail", &version_1);
    let users = Accounts::new(server.users());
    assert_eq!(server.admin("mail", "SELECT version FROM sansmtp.version"), "3");
    let names: Vec<_> = users.list().unwrap().into_iter().map(|user| (user.name, user.disabled)).collect();
    assert_eq!(names, [("gone".to_owned(), true), ("tim".to_owned(), false)]);
    users.add_token("tim").unwrap();
    let door = door(server.users());
    assert_eq!((door.log_in("tim", "tanstaaf"), door.log_in("gone", "tanstaaf")), (235, 535));
    assert!(server.admin("mail", "SELECT scram_sha_512 FROM sansmtp.user WHERE name = 'tim'").starts_with("SCRAM"));
}

#[test]
fn servers_that_start_at_the_same_time_do_not_disturb_each_other() {
    let Some(server) = PostgreSql::start() else { return };
    for _ in 0..3 {
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10).map(|_| scope.spawn(|| open(&server).unwrap().salt_key().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| key.ct_eq(keys[0].expose_secret())));
        assert_eq!(server.admin("mail", "SELECT count(*) || ' ' || max(version) FROM sansmtp.version"), "1 3");
        server.admin("mail", "DROP SCHEMA sansmtp CASCADE");
    }
}

#[test]
fn tables_of_version_2_are_brought_up_to_date_by_whoever_comes_first() {
    let Some(server) = PostgreSql::start() else { return };
    Accounts::new(server.users()).add("tim", b"tanstaaf", Keep::Scram).unwrap();
    server.admin("mail", "DROP TABLE sansmtp.address; UPDATE sansmtp.version SET version = 2");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let users = Accounts::new(open(server).unwrap());
                users.add_address("tim", &format!("{number}@example.org")).unwrap();
            });
        }
    });
    assert_eq!(Accounts::new(server.users()).addresses("tim").unwrap().len(), 4);
    assert_eq!(server.admin("mail", "SELECT count(*) || ' ' || max(version) FROM sansmtp.version"), "1 3");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let Some(server) = PostgreSql::start() else { return };
    let error = |sql: &str| {
        server.admin("mail", sql);
        open(&server).unwrap_err()
    };
    assert!(matches!(
        error("SET ROLE mail; CREATE SCHEMA sansmtp; CREATE TABLE sansmtp.x (y int)"),
        PostgresError::Foreign
    ));
    let other =
        "SET ROLE mail; DROP SCHEMA sansmtp CASCADE; CREATE SCHEMA sansmtp; CREATE TABLE sansmtp.version (version int)";
    assert!(matches!(error(other), PostgresError::Foreign));
    assert!(matches!(error("INSERT INTO sansmtp.version VALUES (4)"), PostgresError::Newer(4)));
    assert!(matches!(error("UPDATE sansmtp.version SET version = 0"), PostgresError::Foreign));
    // What else there is does not matter.
    server.admin("mail", "DROP SCHEMA sansmtp CASCADE; CREATE SCHEMA other; CREATE TABLE other.user (x int)");
    open(&server).unwrap();
}

/// Somebody who may not make schemas is given one, and somebody who may change nothing can check logins.
#[test]
fn as_few_rights_as_needed() {
    let Some(server) = PostgreSql::start() else { return };
    server.admin("mail", "ALTER DATABASE mail OWNER TO admin; REVOKE ALL ON DATABASE mail FROM PUBLIC");
    server.admin("mail", "GRANT CONNECT ON DATABASE mail TO mail");
    let error = open(&server).unwrap_err();
    assert!(matches!(&error, PostgresError::Server(error) if error.code() == Some("42501")), "{error}");
    server.admin("mail", "CREATE SCHEMA sansmtp AUTHORIZATION mail");
    Accounts::new(open(&server).unwrap()).add("tim", b"tanstaaf", Keep::Scram).unwrap();
    server.admin("mail", "CREATE ROLE reader LOGIN PASSWORD 'x'; GRANT CONNECT ON DATABASE mail TO reader");
    server.admin(
        "mail",
        "GRANT USAGE ON SCHEMA sansmtp TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA sansmtp TO reader",
    );
    let url = format!("postgres://reader:x@127.0.0.1:{}/mail", server.port);
    let door = door(Postgres::open(PostgresConfig::from_url(&url).unwrap()).unwrap().into());
    assert_eq!((door.log_in("tim", "tanstaaf"), door.log_in("tim", "x")), (235, 535));
}

#[test]
fn a_database_that_cannot_hold_every_name_is_refused() {
    let Some(server) = PostgreSql::start() else { return };
    server.admin("postgres", "CREATE DATABASE old OWNER mail ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let url = server.url().replace(&format!("{}/mail", server.port), &format!("{}/old", server.port));
    let error = Postgres::open(PostgresConfig::from_url(&url).unwrap()).unwrap_err();
    assert!(matches!(&error, PostgresError::Encoding(encoding) if encoding == "LATIN1"), "{error}");
}
