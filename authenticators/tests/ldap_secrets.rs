//! What is logged, whatever happens: no password, and from warnings on no user's name.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

#[path = "ldap/slapd.rs"]
mod slapd;

use std::time::Duration;

use sansmtp::Secret;
use sansmtp_authenticators::ldap::{Ldap, LdapBuilder};
use slapd::{PEOPLE, SERVICE, SERVICE_PASSWORD, Setup, Slapd};
use support::battery::{USERS, missing};
use support::login::{Door, auth};
use support::{logs, stalled};

/// Looks like nothing else that is logged.
const USER: &str = "zaphod";
const PASSWORD: &str = "pan-galactic gargle blaster";
const WRONG: &str = "heart of gold";

#[test]
fn no_secret_is_logged() {
    logs::collect();
    let entries = format!(
        "dn: uid={USER},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {USER}\ncn: x\nsn: x\nuserPassword: {PASSWORD}\n\n\
         dn: ou=more,{PEOPLE}\nobjectClass: organizationalUnit\nou: more\n\n\
         dn: uid={USER},ou=more,{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {USER}\ncn: y\nsn: x\nuserPassword: {PASSWORD}\n\n"
    );
    let Some(mut slapd) = Slapd::start(&Setup { entries: &entries, ..Setup::default() }) else { return };
    let account = |password: &str| {
        Ldap::search(PEOPLE, "(&(uid={user})(cn=x))").service_account(SERVICE, Secret::from(password.as_bytes()))
    };
    let template = || Ldap::bind(format!("uid={{user}},{PEOPLE}"));
    let builders = || -> Vec<LdapBuilder> {
        vec![
            template().server(slapd.url()),
            template().server(slapd.url()).allow_cleartext(true),
            account(SERVICE_PASSWORD).server(slapd.tls_url()),
            account(SERVICE_PASSWORD).server(slapd.unix_url()).login_attribute("mail"),
            account(WRONG).server(slapd.url()),
            account(SERVICE_PASSWORD).server(format!("ldap://{}", stalled::tcp())).allow_cleartext(true),
            account(SERVICE_PASSWORD).server("ldap://localhost:1").server(slapd.url()),
            Ldap::search(PEOPLE, "(uid={user})")
                .service_account(SERVICE, Secret::from(SERVICE_PASSWORD.as_bytes()))
                .server(slapd.url()),
            // Not the certificate that it expects.
            template().server(slapd.tls_url().replace("localhost", "127.0.0.1")),
            Ldap::bind(format!("notAnAttribute={{user}},{PEOPLE}")).server(slapd.url()),
        ]
    };
    let mut shown = Vec::new();
    let mut codes = Vec::new();
    let users: Vec<Ldap> = builders()
        .into_iter()
        .map(|builder| {
            let builder = builder.ca_file(slapd.ca_file()).time_limit(Duration::from_secs(1));
            shown.push(format!("{builder:?}"));
            let ldap = builder.build().unwrap();
            shown.push(format!("{ldap:?}"));
            ldap
        })
        .collect();
    for run in 0..2 {
        for users in &users {
            for password in [PASSWORD, WRONG] {
                codes.push(users.log_in(USER, password));
                // The password where the name goes.
                codes.push(users.log_in(password, USER));
            }
            codes.push(auth(users, "SCRAM-SHA-256 biwsbj16YXBob2Qscj1meWtvK2QybGJiRmdPTlJ2OXFreGRhd0w="));
        }
        if run == 0 {
            slapd.stop();
        }
    }
    for code in [235, 535, 454] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }

    let lines = logs::lines();
    for said in [
        "an LDAP server cannot be asked",
        "several entries match",
        "the service account cannot bind: invalidCredentials (49)",
        "the entry found has not the login attribute",
        "took too long",
        "invalid peer certificate",
        "the bind was answered invalidDNSyntax (34)",
        "SCRAM-SHA-256",
        "log: ",
    ] {
        assert!(logs::count(&[said]) > 0, "{said:?} was not logged: {lines:#?}");
    }
    for secret in [PASSWORD, WRONG, SERVICE_PASSWORD] {
        let octets = format!("{:?}", secret.as_bytes());
        let octets = octets.trim_matches(['[', ']']);
        for text in lines.iter().chain(&shown) {
            assert!(!text.contains(secret) && !text.contains(octets), "{secret:?} in {text}");
        }
    }
    for line in &lines {
        let is_quiet = ["INFO", "DEBUG", "TRACE"].iter().any(|level| line.starts_with(level));
        assert!(is_quiet || !line.contains(USER), "{line}");
    }
}
