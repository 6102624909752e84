//! What an LDAP directory may hold, against OpenLDAP's server.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

#[path = "ldap/addresses.rs"]
mod addresses;
#[path = "ldap/slapd.rs"]
mod slapd;
#[path = "ldap/watched.rs"]
mod watched;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sansmtp::{Refusal, Secret};
use sansmtp_authenticators::ldap::{Ldap, LdapBuilder};
use sansmtp_authenticators::{Answers, Authenticator as _, Chain, Knows};

use slapd::{NOBODY, PEOPLE, SERVICE, SERVICE_PASSWORD, Setup, Slapd};
use support::battery::{USERS, missing};
use support::login::Door as _;
use support::logs;
use watched::Watched;

const PASSWORD: &str = "tanstaaftanstaaf";

fn searching(base: &str, filter: &str) -> LdapBuilder {
    Ldap::search(base, filter).service_account(SERVICE, Secret::from(SERVICE_PASSWORD.as_bytes()))
}

/// In the clear, where the log shows each operation.
fn built(builder: LdapBuilder, slapd: &Slapd) -> Watched {
    Watched::new(builder.server(slapd.url()).allow_cleartext(true).build().unwrap())
}

#[test]
fn several_entries_of_one_name_let_nobody_in() {
    logs::collect();
    let entries = "dn: ou=more,dc=example,dc=org\nobjectClass: organizationalUnit\nou: more\n\n\
                   dn: uid=tim,ou=more,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: tim\ncn: x\nsn: x\n\
                   userPassword: another\n\n";
    for global in ["", "sizelimit 1"] {
        let Some(slapd) = Slapd::start(&Setup { entries, global, ..Setup::default() }) else { return };
        let users = built(searching("dc=example,dc=org", "(uid={user})"), &slapd);
        let warnings = || logs::count(&["several entries match"]);
        let before = warnings();
        for password in [PASSWORD, "another", "wrong"] {
            let last = users.log_in("tim", password);
            assert_eq!((last.code, last.refusal), (535, Some(Refusal::BadCredentials)), "{password} {global}");
            // Another database's user of the name must not get in, either.
            assert_eq!(last.knows, Some(Knows::Yes));
        }
        assert!(warnings() >= before + 3);
        let users = built(searching(PEOPLE, "(uid={user})"), &slapd);
        assert_eq!(users.log_in("tim", PASSWORD).code, 235, "{global}");
    }
}

#[test]
fn names_that_are_syntax_are_names_all_the_same() {
    // As OpenLDAP's own tools would write them.
    let names = [
        ("smith, john", "smith\\, john"),
        ("a+b=c", "a\\+b\\=c"),
        ("#1", "\\#1"),
        ("back\\slash", "back\\\\slash"),
        ("\\2a", "\\\\2a"),
        ("quo\"te", "quo\\\"te"),
        ("<x>;y", "\\<x\\>\\;y"),
        ("*", "*"),
        ("t*", "t*"),
        ("(uid=*)", "(uid\\=*)"),
        ("{user}", "{user}"),
    ];
    let mut entries = format!("dn: ou=more,{PEOPLE}\nobjectClass: organizationalUnit\nou: more\n\n");
    let mut add = |dn: &str, name: &str, password: &str| {
        let (dn, name) = (BASE64_STANDARD.encode(dn), BASE64_STANDARD.encode(name));
        entries +=
            &format!("dn:: {dn}\nobjectClass: inetOrgPerson\nuid:: {name}\ncn: x\nsn: x\nuserPassword: {password}\n\n");
    };
    for (name, value) in names {
        add(&format!("uid={value},{PEOPLE}"), name, &format!("password of {name}"));
    }
    add(&format!("uid=x,ou=more,{PEOPLE}"), "x", "password of x");
    add(&format!("uid=tim+cn=x,{PEOPLE}"), "tim", "password of both");
    let Some(slapd) = Slapd::start(&Setup { entries: &entries, ..Setup::default() }) else { return };
    let template = built(Ldap::bind(format!("uid={{user}},{PEOPLE}")), &slapd);
    let search = built(searching(PEOPLE, "(uid={user})"), &slapd);
    for (name, _) in names {
        for users in [&template, &search] {
            assert_eq!(users.log_in(name, &format!("password of {name}")).code, 235, "{name}");
            assert_eq!(users.log_in(name, PASSWORD).code, 535, "{name}");
        }
    }
    // Were they not escaped, they would name these entries.
    for (name, password) in [("x,ou=more", "password of x"), ("tim+cn=x", "password of both")] {
        for users in [&template, &search] {
            assert_eq!(users.log_in(name, password).code, 535, "{name}");
        }
    }
}

#[test]
fn the_login_attribute_gives_one_name_to_all_spellings() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    let filter = "(|(uid={user})(mail={user}))";
    let users = built(searching(PEOPLE, filter).login_attribute("UID"), &slapd);
    for spelling in ["tim", "TIM", "Tim", " tim ", "user0@mail.example.org", "USER0@mail.example.org"] {
        let last = users.log_in(spelling, PASSWORD);
        assert_eq!((last.code, last.login.as_deref()), (235, Some("tim")), "{spelling:?}");
    }
    let users = built(searching(PEOPLE, filter), &slapd);
    assert_eq!(users.log_in("TIM", PASSWORD).login, None);
    // The entry has none, which only its owner learns.
    let users = built(searching(PEOPLE, filter).login_attribute("telephoneNumber"), &slapd);
    assert_eq!(users.log_in("tim", PASSWORD).code, 454);
    assert_eq!(users.log_in("tim", "wrong").code, 535);
}

#[test]
fn the_filter_leaves_out_who_is_disabled() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    let users = built(searching(PEOPLE, "(uid={user})"), &slapd);
    assert_eq!(users.log_in("gone", "gone's password").code, 235);
    let users = built(searching(PEOPLE, "(&(uid={user})(!(employeeType=disabled)))"), &slapd);
    let last = users.log_in("gone", "gone's password");
    assert_eq!((last.code, last.refusal, last.knows), (535, Some(Refusal::UnknownUser), Some(Knows::No)));
    assert_eq!(users.log_in("tim", PASSWORD).code, 235);
}

#[test]
fn an_account_that_the_password_policy_locks_is_disabled() {
    let setup = Setup {
        global: "moduleload ppolicy",
        database: "overlay ppolicy\nppolicy_default cn=policy,dc=example,dc=org\nppolicy_use_lockout",
        entries: "dn: cn=policy,dc=example,dc=org\nobjectClass: device\nobjectClass: pwdPolicy\ncn: policy\n\
                  pwdAttribute: userPassword\npwdLockout: TRUE\npwdMaxFailure: 2\n\n",
        ..Setup::default()
    };
    let Some(slapd) = Slapd::start(&setup) else { return };
    for (builder, user, password) in [
        (Ldap::bind(format!("uid={{user}},{PEOPLE}")), "tim", PASSWORD),
        (searching(PEOPLE, "(uid={user})"), "jürgen", "pässwörd€"),
    ] {
        let users = built(builder, &slapd);
        assert_eq!(users.log_in(user, password).code, 235, "{user}");
        for _ in 0..2 {
            assert_eq!(users.log_in(user, "wrong").refusal, Some(Refusal::BadCredentials));
        }
        let last = users.log_in(user, password);
        assert_eq!((last.code, last.refusal), (535, Some(Refusal::Disabled)), "{user}");
    }
}

#[test]
fn a_referral_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let entries = format!(
        "dn: ou=away,{PEOPLE}\nobjectClass: referral\nobjectClass: extensibleObject\nou: away\n\
         ref: ldap://127.0.0.1:{port}/ou=away,{PEOPLE}\n\n"
    );
    let Some(slapd) = Slapd::start(&Setup { entries: &entries, ..Setup::default() }) else { return };
    // A part of what is searched is elsewhere, all of what is searched, and the entry itself, for which OpenLDAP has no
    // referral.
    let users = built(searching(PEOPLE, "(uid={user})"), &slapd);
    assert_eq!(users.log_in("tim", PASSWORD).code, 235);
    assert_eq!(users.log_in("tom", PASSWORD).code, 535);
    let users = built(searching(&format!("ou=away,{PEOPLE}"), "(uid={user})"), &slapd);
    assert_eq!(users.log_in("tim", PASSWORD).code, 454);
    let users = built(Ldap::bind(format!("uid={{user}},ou=away,{PEOPLE}")), &slapd);
    assert_eq!(users.log_in("tim", PASSWORD).code, 535);
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "the password went elsewhere");
    slapd.wait_for_log(|log| log.contains("err=10 "));
}

#[test]
fn an_empty_password_is_refused_where_the_server_takes_it() {
    let Some(slapd) = Slapd::start(&Setup { global: "allow bind_anon_dn", ..Setup::default() }) else { return };
    let whoami = Command::new("ldapwhoami")
        .args(["-x", "-H", &format!("ldap://127.0.0.1:{}", slapd.port()), "-D", &format!("uid=tim,{PEOPLE}"), "-w", ""])
        .output();
    let mut connections = 1;
    if let Ok(output) = whoami {
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "anonymous\n");
        connections += 1;
    } else {
        missing("ldapwhoami");
    }
    // Another is that by which the test saw that it has started.
    let accepted = |log: &str| log.matches(" ACCEPT ").count();
    slapd.wait_for_log(|log| accepted(log) == connections);
    for builder in [Ldap::bind(format!("uid={{user}},{PEOPLE}")), searching(PEOPLE, "(uid={user})")] {
        let users = built(builder, &slapd);
        assert_eq!(users.log_in("tim", "").code, 535);
        // SASLprep maps a soft hyphen to nothing.
        assert_eq!(users.log_in("tim", "\u{ad}").code, 535);
    }
    // slapd writes its log on its own time, but accepts one connection after the other: with the line about this one
    // there are those about all before it.
    let last = TcpStream::connect((Ipv4Addr::LOCALHOST, slapd.port())).unwrap();
    slapd.wait_for_log(|log| log.contains(&format!(" ACCEPT from IP={} ", last.local_addr().unwrap())));
    assert_eq!(accepted(&slapd.log()), connections + 1, "the server was asked:\n{}", slapd.log());
}

#[test]
fn an_unknown_user_takes_as_many_steps_as_a_wrong_password() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    for (builder, nobody) in [
        (searching(PEOPLE, "(uid={user})").nobody(NOBODY), NOBODY.to_owned()),
        (searching(PEOPLE, "(uid={user})"), format!("cn=nobody of this name,{PEOPLE}")),
    ] {
        let users = built(builder, &slapd);
        users.log_in("tim", "wrong");
        let steps = |user: &str| {
            let before = slapd.log().len();
            let last = users.log_in(user, "wrong");
            assert_eq!(last.code, 535);
            let log = slapd.log();
            let of = |what: &str| log[before..].matches(what).count();
            (last.refusal, of(" SRCH base="), of(" BIND dn="), of(&format!(" BIND dn=\"{nobody}\"")), of(" ACCEPT "))
        };
        // The first search is that of `knows`.
        // Behind each is another, which finds what the first did not.
        assert_eq!(steps("tim"), (Some(Refusal::BadCredentials), 4, 1, 0, 0));
        assert_eq!(steps("tom"), (Some(Refusal::UnknownUser), 4, 1, 1, 0));
    }
}

#[test]
fn only_passwords_have_an_answer() {
    let Some(mut slapd) = Slapd::start(&Setup::default()) else { return };
    let users = built(searching(PEOPLE, "(uid={user})"), &slapd);
    let template = built(Ldap::bind(format!("uid={{user}},{PEOPLE}")), &slapd);
    // "n,a=tim,\x01auth=Bearer vF9dft4qmT\x01\x01"
    let bearer = "OAUTHBEARER bixhPXRpbSwBYXV0aD1CZWFyZXIgdkY5ZGZ0NHFtVAEB";
    assert_eq!(users.log_in("tim", "wrong").knows, Some(Knows::Yes));
    assert_eq!(users.log_in("tom", "wrong").knows, Some(Knows::No));
    assert_eq!(template.log_in("tim", "wrong").knows, Some(Knows::WhenAsked));
    for (user, knows) in [("tim", Knows::Yes), ("tom", Knows::No)] {
        let last = users.scram(user);
        assert_eq!((last.code, last.knows), (454, Some(knows)), "{user}");
        assert_eq!(template.scram(user).code, 454);
    }
    let last = users.auth(bearer);
    assert_eq!((last.code, last.knows), (454, Some(Knows::No)));
    slapd.stop();
    assert_eq!(users.log_in("tim", PASSWORD).knows, Some(Knows::CannotTell));
}

#[test]
fn a_chain_of_two_directories() {
    let person = |name: &str, password: &str| {
        format!(
            "dn: uid={name},ou=more,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: {name}\ncn: x\nsn: x\n\
             userPassword: {password}\n\n"
        )
    };
    let more = "dn: ou=more,dc=example,dc=org\nobjectClass: organizationalUnit\nou: more\n\n".to_owned();
    let entries = more + &person("tim", "another") + &person("tom", "tom's");
    let Some(slapd) = Slapd::start(&Setup { entries: &entries, ..Setup::default() }) else { return };
    let below = |base: &str| {
        let users = searching(base, "(uid={user})").server(slapd.url()).allow_cleartext(true);
        users.build().unwrap()
    };
    let users = Chain::new().then(below(PEOPLE)).then(below("ou=more,dc=example,dc=org"));
    for (user, password, code) in [
        ("tim", PASSWORD, 235),
        // The first who knows the name is the only one to be asked.
        ("tim", "another", 535),
        ("tom", "tom's", 235),
        ("tom", PASSWORD, 535),
        ("tam", PASSWORD, 535),
    ] {
        assert_eq!(users.log_in(user, password), code, "{user} with {password}");
    }
    assert_eq!(users.answers("PLAIN"), Answers::ForAll);
    assert_eq!(users.answers("SCRAM-SHA-256"), Answers::ForNone);
}

#[test]
fn what_is_set_up_wrong_is_no_refusal() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    for builder in [
        searching("ou=nowhere,dc=example,dc=org", "(uid={user})"),
        Ldap::search(PEOPLE, "(uid={user})").service_account(SERVICE, Secret::from(b"wrong".as_slice())),
        // No attribute of this name.
        Ldap::bind(format!("notAnAttribute={{user}},{PEOPLE}")),
    ] {
        assert_eq!(built(builder, &slapd).log_in("tim", PASSWORD).code, 454);
    }
}

#[test]
fn an_anonymous_search_finds_who_may_be_seen() {
    let database =
        "access to filter=(uid=tim) attrs=entry,uid by * read\naccess to dn.base=ou=people,dc=example,dc=org by * read";
    let Some(slapd) = Slapd::start(&Setup { database, ..Setup::default() }) else { return };
    let users = built(Ldap::search(PEOPLE, "(uid={user})"), &slapd);
    assert_eq!(users.log_in("tim", PASSWORD).code, 235);
    let last = users.log_in("o'brien", "quote'and\\backslash\"*)(uid=*");
    assert_eq!((last.code, last.refusal), (535, Some(Refusal::UnknownUser)));
}

#[test]
fn a_name_that_the_attribute_cannot_hold_is_nobody_s() {
    let Some(slapd) = Slapd::start(&Setup::default()) else { return };
    // An IA5String.
    let users = built(Ldap::bind(format!("mail={{user}},{PEOPLE}")), &slapd);
    let last = users.log_in("jürgen", PASSWORD);
    assert_eq!((last.code, last.refusal), (535, Some(Refusal::UnknownUser)));
    slapd.wait_for_log(|log| log.contains("err=34 "));
}

/// Whoever there is, and whoever there is not.
#[test]
fn a_server_that_takes_no_bind_does_not_tell_who_exists() {
    let global = "security simple_bind=64";
    let database =
        "access to filter=(uid=tim) attrs=entry,uid by * read\naccess to dn.base=ou=people,dc=example,dc=org by * read";
    let Some(slapd) = Slapd::start(&Setup { global, database, ..Setup::default() }) else { return };
    let users = built(Ldap::search(PEOPLE, "(uid={user})"), &slapd);
    assert_eq!(["tim", "nobody"].map(|user| users.log_in(user, PASSWORD).code), [454, 454]);
}
