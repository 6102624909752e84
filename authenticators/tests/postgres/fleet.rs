//! Several servers over one database.

use std::sync::Arc;

use sansmtp::SecretRef;
use sansmtp::auth::ScramHash;
use sansmtp::auth::mechanism::CramMd5Key;
use sansmtp_authenticators::postgres::{Postgres, PostgresConfig};
use sansmtp_authenticators::stored::{AccountError, Accounts, Keep, NewPassword, Store, TokenHash, WritableStore};

use crate::door;
use crate::support::login::{Door, auth};
use crate::support::postgresql::{ESCAPED, PostgreSql};

#[test]
fn what_one_changes_the_other_sees() {
    let Some(server) = PostgreSql::start() else { return };
    let (here, there) = (Accounts::new(server.users()), server.users());
    let doors = [door(server.users()), door(there)];
    let codes = |password: &str| doors.each_ref().map(|door| door.log_in("tim", password));
    assert_eq!(codes("tanstaaf"), [535, 535]);
    here.add("tim", b"tanstaaf", Keep::Scram).unwrap();
    assert_eq!(codes("tanstaaf"), [235, 235]);
    here.set_password("tim", b"another", Keep::Scram).unwrap();
    assert_eq!((codes("tanstaaf"), codes("another")), ([535, 535], [235, 235]));
    here.set_disabled("tim", true).unwrap();
    assert_eq!(codes("another"), [535, 535]);
    here.set_disabled("tim", false).unwrap();
    assert_eq!(codes("another"), [235, 235]);
    here.delete("tim").unwrap();
    assert_eq!(codes("another"), [535, 535]);
}

#[test]
fn accounts_are_kept_as_elsewhere() {
    let Some(server) = PostgreSql::start() else { return };
    let users = Accounts::new(server.users());
    for name in ["zoë", "tim", "Tim", "o'brien", "a$1", "юзер"] {
        users.add(name, b"tanstaaf", Keep::Nothing).unwrap();
    }
    assert!(matches!(users.add("tim", b"x", Keep::Nothing), Err(AccountError::Exists(name)) if name == "tim"));
    // By their octets.
    let names: Vec<String> = users.list().unwrap().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["Tim", "a$1", "o'brien", "tim", "zoë", "юзер"]);
    for result in [
        users.set_password("nobody", b"x", Keep::Nothing),
        users.set_disabled("nobody", true),
        users.delete("nobody"),
        users.add_token("nobody").map(drop),
        users.drop_tokens("nobody").map(drop),
    ] {
        assert!(matches!(result, Err(AccountError::Unknown(name)) if name == "nobody"));
    }
    assert!(users.store().find("tim\0x").unwrap().is_none());
}

#[test]
fn tokens_belong_to_their_user() {
    let Some(server) = PostgreSql::start() else { return };
    let users = Accounts::new(server.users());
    users.add("tim", b"tanstaaf", Keep::Nothing).unwrap();
    let (one, other) = (users.add_token("tim").unwrap(), users.add_token("tim").unwrap());
    let door = door(server.users());
    let bearer = |user: &str, token: &str| {
        use base64::Engine;
        let response = format!("n,a={user},\x01host=mx\x01port=25\x01auth=Bearer {token}\x01\x01");
        auth(&*door, &format!("OAUTHBEARER {}", base64::prelude::BASE64_STANDARD.encode(response)))
    };
    assert_eq!((bearer("tim", &one), bearer("tim", &other)), (235, 235));
    let found = users.store().find_by_token(&TokenHash::of(one.as_bytes())).unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.disabled), ("tim", false));
    assert!(users.store().find_by_token(&TokenHash::of(b"another")).unwrap().is_none());
    assert_eq!(users.drop_tokens("tim").unwrap(), 2);
    assert!(users.store().find_by_token(&TokenHash::of(one.as_bytes())).unwrap().is_none());
    users.add_token("tim").unwrap();
    users.delete("tim").unwrap();
    assert_eq!(server.admin("mail", "SELECT count(*) FROM sansmtp.token"), "0");
}

/// Whoever logs in with a password leaves behind what other mechanisms need, unless it has been changed meanwhile.
#[test]
fn keys_are_kept() {
    let Some(server) = PostgreSql::start() else { return };
    let users = Accounts::new(server.users());
    users.add("tim", b"tanstaaf", Keep::Nothing).unwrap();
    let column = |name: &str| server.admin("mail", &format!("SELECT {name} FROM sansmtp.user WHERE name = 'tim'"));
    assert_eq!(column("scram_sha_256"), "");
    assert_eq!(door(server.users()).log_in("tim", "tanstaaf"), 235);
    for (name, hash) in
        [("scram_sha_1", ScramHash::Sha1), ("scram_sha_256", ScramHash::Sha256), ("scram_sha_512", ScramHash::Sha512)]
    {
        let keys: sansmtp::auth::ScramKeys = column(name).parse().unwrap();
        assert!(keys.hash() == hash && keys.verify_octets(b"tanstaaf"), "{name}");
    }
    assert_eq!(column("cram_md5"), "");
    let other = NewPassword::new(b"another", Keep::ScramAndCramMd5).unwrap();
    users.store().keep_keys("tim", "the hash of another password", other.keys()).unwrap();
    assert_eq!(column("cram_md5"), "");
    users.store().keep_keys("tim", &column("password"), other.keys()).unwrap();
    let key = CramMd5Key::derive(SecretRef::new(b"another")).to_text();
    assert_eq!(column("cram_md5"), key.as_str());
    users.set_password("tim", b"tanstaaf", Keep::Nothing).unwrap();
    assert_eq!((column("cram_md5"), column("scram_sha_256")), (String::new(), String::new()));
}

/// PostgreSQL's own form of a role's password is a hash like others.
#[test]
fn a_role_s_password_is_good_for_a_login() {
    let Some(server) = PostgreSql::start() else { return };
    let door = door(server.users());
    server.admin("mail", "CREATE ROLE tim PASSWORD 'tanstaaf'");
    let copied = server.admin(
        "mail",
        "INSERT INTO sansmtp.user (name, password) SELECT rolname, rolpassword FROM pg_authid WHERE rolname = 'tim'
         RETURNING password",
    );
    assert!(copied.starts_with("SCRAM-SHA-256$4096:"), "{copied}");
    assert_eq!((door.log_in("tim", "tanstaaf"), door.log_in("tim", "tanstaaff")), (235, 535));
}

/// By no more connections than are allowed, whoever comes at the same time.
#[test]
fn connections_are_few() {
    let Some(server) = PostgreSql::start() else { return };
    let config = PostgresConfig::from_url(&format!("{}?connections=3&application_name=few", server.url())).unwrap();
    let users = Arc::new(Postgres::open(config.time_limit(std::time::Duration::from_secs(30))).unwrap());
    let connections = || server.admin("mail", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'few'");
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| (0..20).for_each(|_| assert!(users.find("tim").unwrap().is_none())));
        }
        for _ in 0..5 {
            assert!(connections().parse::<u32>().unwrap() <= 3);
        }
    });
    assert_eq!(connections(), "3");
    drop(users);
    crate::support::wait::until("the end", || (connections() == "0").then_some(()));
}

#[test]
fn the_key_for_salts_is_the_same_for_all() {
    let Some(server) = PostgreSql::start() else { return };
    let [one, other] = [server.users().salt_key().unwrap(), server.users().salt_key().unwrap()];
    assert!(one.expose_secret().len() == 32 && one.ct_eq(other.expose_secret()));
}

#[test]
fn a_unix_socket_will_do() {
    let Some(server) = PostgreSql::start() else { return };
    let directory = server.directory.path().display();
    let url = format!("postgres://mail:{ESCAPED}@/mail?host={directory}&port={}", server.port);
    let users = Postgres::open(PostgresConfig::from_url(&url).unwrap()).unwrap();
    assert!(users.list().unwrap().is_empty());
}
