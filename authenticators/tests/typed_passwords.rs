//! The right password is right in the form in which its hash was made, by whatever program: of what was typed, or of what
//! SASLprep (RFC 4013) makes of it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

#[path = "ldap/slapd.rs"]
mod slapd;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sansmtp::Secret;
use sansmtp::auth::mechanism::CramMd5Key;
use sansmtp::auth::{MalformedCredentials, Prohibited};
use sansmtp_authenticators::ldap::Ldap;
use sansmtp_authenticators::memory::Memory;
use sansmtp_authenticators::passwd::Passwd;
use sansmtp_authenticators::stored::{AccountError, Accounts, Keep, NewPassword, WritableStore};
use sha1::{Digest as _, Sha1};

use slapd::{NOBODY, PEOPLE, SERVICE, SERVICE_PASSWORD, Setup, Slapd};
use support::battery::{USERS, missing};
use support::login::Door as _;
use support::postgresql::PostgreSql;
use support::stores::stored;
use support::typed::{self, TYPED};

/// Lines of `user:hash`, with bcrypt's hashes by Apache's tool. `None`, after the reason was printed, where it is not
/// installed.
fn htpasswd<'p>(users: impl IntoIterator<Item = (String, &'p str)>) -> Option<String> {
    let mut lines = String::new();
    for (name, password) in users {
        let mut command = Command::new("htpasswd");
        command.args(["-n", "-i", "-B", "-C", "4", &name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = command.stderr(Stdio::null()).spawn() else {
            missing("htpasswd");
            return None;
        };
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        lines += String::from_utf8(output.stdout).unwrap().trim_end();
        lines.push('\n');
    }
    Some(lines)
}

/// A file of users, and the way in.
fn in_a_file(lines: &str) -> impl support::login::Door {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    stored(Passwd::open(file.path()).unwrap())
}

/// What stands behind the name.
fn hashes(lines: &str) -> impl Iterator<Item = (&str, &str)> {
    lines.lines().map(|line| line.split_once(':').unwrap())
}

#[test]
fn what_htpasswd_made_of_them() {
    let Some(lines) = htpasswd(typed::users()) else { return };
    typed::log_in(&in_a_file(&lines), typed::users());
}

/// A hash of the prepared password is as good, and so is one of another form that prepares to the same: "café" as
/// another computer types it.
#[test]
fn what_was_made_of_the_prepared_password() {
    let users = [("m2", "m²"), ("caf\u{e9}", "cafe\u{301}"), ("fish", "ﬁsh"), ("a b", "a\u{a0}b")];
    let named = || users.iter().enumerate().map(|(number, (made_of, typed))| (format!("u{number}"), *made_of, *typed));
    let Some(lines) = htpasswd(named().map(|(name, made_of, _)| (name, made_of))) else { return };
    let door = in_a_file(&lines);
    for (name, made_of, typed) in named() {
        assert_eq!(door.log_in(&name, typed), 235, "{typed}");
        assert_eq!(door.log_in(&name, made_of), 235, "{made_of}");
    }
    // But nothing else is taken for what was typed.
    let Some(lines) = htpasswd([("tim".to_owned(), "m²")]) else { return };
    assert_eq!(in_a_file(&lines).log_in("tim", "m2"), 535);
}

/// bcrypt looks at 72 octets only.
#[test]
fn a_long_password_and_bcrypt() {
    let long = "correct horse battery staple ".repeat(4);
    let Some(lines) = htpasswd([("long".to_owned(), long.as_str())]) else { return };
    let door = in_a_file(&lines);
    assert_eq!(door.log_in("long", &long), 235);
    assert_eq!(door.log_in("long", long.get(..72).unwrap()), 235);
    assert_eq!(door.log_in("long", long.get(..71).unwrap()), 535);
}

#[test]
fn hashes_that_are_imported() {
    let Some(lines) = htpasswd(typed::users()) else { return };
    let import = |users: &dyn Fn(&str, &str)| hashes(&lines).for_each(|(name, hash)| users(name, hash));
    let memory = Accounts::new(Memory::new().unwrap());
    import(&|name, hash| memory.add_hash(name, hash).unwrap());
    typed::log_in(&stored(memory.into_store()), typed::users());
    let directory = tempfile::tempdir().unwrap();
    let sqlite = sansmtp_authenticators::sqlite::Sqlite::open_or_create(&directory.path().join("mail.db")).unwrap();
    let sqlite = Accounts::new(sqlite);
    import(&|name, hash| sqlite.add_hash(name, hash).unwrap());
    typed::log_in(&stored(sqlite.into_store()), typed::users());
    let Some(server) = PostgreSql::start() else { return };
    let postgres = Accounts::new(server.users());
    import(&|name, hash| postgres.add_hash(name, hash).unwrap());
    typed::log_in(&stored(server.users()), typed::users());
}

/// PostgreSQL prepares the passwords of its roles, and leaves those as they are which its own SASLprep prohibits: with
/// what Unicode 3.2 did not know, for one.
#[test]
fn scram_keys_that_postgresql_made() {
    let Some(server) = PostgreSql::start() else { return };
    let mut lines = String::new();
    for (name, password) in typed::users() {
        server.admin("postgres", &format!("CREATE ROLE {name} PASSWORD '{password}'"));
        let keys = server.admin("postgres", &format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{name}'"));
        assert!(keys.starts_with("SCRAM-SHA-256$"), "{keys}");
        lines += &format!("{name}:{keys}\n");
    }
    typed::log_in(&in_a_file(&lines), typed::users());
    let users = Accounts::new(server.users());
    hashes(&lines).for_each(|(name, keys)| users.add_hash(name, keys).unwrap());
    typed::log_in(&stored(server.users()), typed::users());
}

/// The entries' hashes are of what was typed.
#[test]
fn binds_to_a_directory() {
    let mut entries = String::new();
    for (name, password) in typed::users() {
        let mut hash = Sha1::digest([password.as_bytes(), b"salt"].concat()).to_vec();
        hash.extend_from_slice(b"salt");
        entries += &format!(
            "dn: uid={name},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: x\nsn: x\nuserPassword: {{SSHA}}{}\n\n",
            BASE64_STANDARD.encode(hash)
        );
    }
    let Some(slapd) = Slapd::start(&Setup { entries: &entries, ..Setup::default() }) else { return };
    let build = |builder: sansmtp_authenticators::ldap::LdapBuilder| {
        builder.server(slapd.url()).allow_cleartext(true).build().unwrap()
    };
    typed::log_in(&build(Ldap::bind(format!("uid={{user}},{PEOPLE}"))), typed::users());
    let search = Ldap::search(PEOPLE, "(uid={user})").nobody(NOBODY);
    let search = build(search.service_account(SERVICE, Secret::from(SERVICE_PASSWORD.as_bytes())));
    typed::log_in(&search, typed::users());
    // Whoever has another form of a password takes as many binds, whether there is such a user or not.
    for (user, dn) in [("tim", format!("uid=tim,{PEOPLE}")), ("nobody", NOBODY.to_owned())] {
        let binds = |log: &str| log.matches(&format!("BIND dn=\"{dn}\" method=128")).count();
        let before = binds(&slapd.log());
        assert_eq!(search.log_in(user, "wrong²"), 535);
        slapd.wait_for_log(|log| binds(log) >= before + 2);
        assert_eq!(search.log_in(user, "wrong"), 535);
        slapd.wait_for_log(|log| binds(log) >= before + 3);
        assert_eq!(binds(&slapd.log()), before + 3, "{user}");
    }
    assert_eq!(search.log_in(USERS[0].0, USERS[0].1), 235);
}

/// What is stored here is prepared, so every form is right that prepares to the same; what SASLprep prohibits is not
/// taken, with the reason.
#[test]
fn users_that_are_added_here() {
    let users = Accounts::new(Arc::new(Memory::new().unwrap()));
    for ((name, password), (_, is_taken)) in typed::users().zip(TYPED) {
        match users.add(&name, password.as_bytes(), Keep::ScramAndCramMd5) {
            Ok(()) => assert!(is_taken, "{}", password.escape_unicode()),
            Err(AccountError::Password(MalformedCredentials::Prohibited(why))) => {
                assert!(!is_taken, "{}", password.escape_unicode());
                assert!(matches!(why, Prohibited::DirectionAtEnds | Prohibited::MixedDirections), "{why}");
            }
            Err(error) => panic!("{}: {error}", password.escape_unicode()),
        }
    }
    let door = stored(Arc::clone(users.store()));
    let taken = typed::users().zip(TYPED).filter(|(_, (_, is_taken))| *is_taken).map(|(user, _)| user);
    typed::log_in(&door, taken);
    for (name, prepared) in [("typed0", "m2-house"), ("typed8", "caf\u{e9}"), ("typed9", "cafe\u{301}")] {
        assert_eq!(door.log_in(name, prepared), 235, "{prepared}");
    }
    // CRAM-MD5's clients prepare the password, or do not.
    let password = NewPassword::new("m²".as_bytes(), Keep::ScramAndCramMd5).unwrap();
    let key: CramMd5Key = password.keys().cram_md5().unwrap().parse().unwrap();
    assert!(key.verify_octets("m²".as_bytes()) && key.verify_octets(b"m2"));
    // What a login leaves behind is as good.
    let store = Arc::clone(users.store());
    let Some(lines) = htpasswd([("tim".to_owned(), "m²")]) else { return };
    hashes(&lines).for_each(|(name, hash)| users.add_hash(name, hash).unwrap());
    let door = stored(Arc::clone(&store)).keep(Keep::ScramAndCramMd5);
    assert_eq!(door.log_in("tim", "m²"), 235);
    assert!(store.delete("tim").unwrap());
}
