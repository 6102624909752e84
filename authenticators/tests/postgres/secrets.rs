//! Who may learn what.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sansmtp_authenticators::postgres::{Postgres, PostgresConfig, PostgresError};
use sansmtp_authenticators::stored::{Accounts, Keep, Store};

use crate::support::login::Door;
use crate::support::postgresql::{ESCAPED, PASSWORD, PostgreSql};
use crate::support::{logs, stalled};
use crate::{door, later};

#[test]
fn neither_passwords_nor_hashes_nor_names_are_logged() {
    logs::collect();
    let Some(mut server) = PostgreSql::start() else { return };
    let file = server.directory.path().join("password of mail");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let file = file.display().to_string().replace(' ', "%20");
    let users = Accounts::new(server.users());
    users.add("tim", b"tanstaaftan", Keep::ScramAndCramMd5).unwrap();
    users.add("tom", b"tanstaaftan", Keep::Nothing).unwrap();
    let limit = Duration::from_millis(800);
    let urls = [
        server.url(),
        format!("postgres://mail@127.0.0.1:{}/mail?password-file={file}", server.port),
        format!("postgres://mail:{ESCAPED}x@127.0.0.1:{}/mail", server.port),
        format!("postgres://mail:{ESCAPED}@127.0.0.1:{}/none", server.port),
        format!("postgres://mail:{ESCAPED}@127.0.0.1:{}/mail?sslmode=require", server.port),
        format!("postgres://mail:{ESCAPED}@{}/mail", stalled::tcp()),
    ];
    let stores = urls.each_ref().map(|url| later(url, limit));
    let doors = stores.each_ref().map(|store| door(store.clone()));
    for door in &doors[..2] {
        assert_eq!((door.log_in("tim", "tanstaaftan"), door.log_in("hunter2", "hunter3")), (235, 535));
    }
    for door in &doors[2..] {
        assert_eq!((door.log_in("tim", "tanstaaftan"), door.log_in("hunter2", "hunter3")), (454, 454));
    }
    // The server's errors show rows in their details.
    server.admin("mail", "ALTER TABLE sansmtp.user ADD CHECK (cram_md5 IS NOT NULL OR scram_sha_1 IS NULL)");
    assert_eq!(doors[0].log_in("tom", "tanstaaftan"), 235);
    let refused = users.set_password("tim", b"hunter4", Keep::Scram).unwrap_err();
    assert!(refused.to_string().contains("23514"), "{refused}");
    server.stop();
    assert_eq!(doors[0].log_in("hunter2", "hunter3"), 454);
    let errors: Vec<_> = stores.iter().map(|store| store.find("hunter2").unwrap_err()).collect();
    let shown = format!("{errors:?} {refused:?} {stores:?} {doors:#?} {users:?}\n{}", logs::lines().join("\n"));
    assert!(logs::count(&["ERROR", "cannot check a login"]) >= 9, "{shown}");
    assert!(logs::count(&["WARN", "cannot keep the keys", "23514"]) == 1, "{shown}");
    // The library's own lines are among them, with the values of statements.
    assert!(logs::count(&["log: ", "parameters", "redacted"]) > 0, "{shown}");
    for secret in ["swordfish", "hunter", "tanstaaf", "argon2", "SCRAM-SHA"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(parameters, key), pem }
    }

    /// Writes a certificate of a host, its key, and this authority; the server's settings.
    fn write(&self, directory: &Path, host: &str) -> Vec<String> {
        use std::os::unix::fs::PermissionsExt;
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new([host.to_owned()]).unwrap();
        let path = |name: &str| directory.join(name);
        fs::write(path("ca.pem"), &self.pem).unwrap();
        fs::write(path("server.pem"), parameters.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(path("server.key"), key.serialize_pem()).unwrap();
        fs::set_permissions(path("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
        vec![
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", path("server.pem").display()),
            format!("ssl_key_file={}", path("server.key").display()),
        ]
    }
}

#[test]
fn tls_is_verified() {
    let authority = Authority::new();
    let other = tempfile::tempdir().unwrap();
    Authority::new().write(other.path(), "localhost");
    let open = |server: &PostgreSql, parameters: &str| {
        let url = format!("postgres://mail:{ESCAPED}@localhost:{}/mail?{parameters}", server.port);
        Postgres::open(PostgresConfig::from_url(&url).unwrap()).map(|users| {
            assert!(users.find("tim").unwrap().is_none());
            server.admin(
                "mail",
                "SELECT version FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE application_name = 'sansmtp'",
            )
        })
    };
    let Some(server) = PostgreSql::start_with(|path| authority.write(path, "localhost")) else { return };
    let right = format!("sslrootcert={}", server.directory.path().join("ca.pem").display());
    let wrong = format!("sslrootcert={}", other.path().join("ca.pem").display());
    for mode in ["require", "verify-full"] {
        assert_eq!(open(&server, &format!("sslmode={mode}&{right}")).unwrap(), "TLSv1.3", "{mode}");
        for root in [wrong.as_str(), ""] {
            let error = open(&server, &format!("sslmode={mode}&{root}")).unwrap_err();
            assert!(error.to_string().contains("certificate"), "{mode} {root}: {error}");
        }
    }
    assert_eq!(open(&server, "").unwrap(), "", "without TLS on this machine");
    let none = server.directory.path().join("none.pem");
    fs::write(&none, "no certificate").unwrap();
    let error = open(&server, &format!("sslmode=require&sslrootcert={}", none.display())).unwrap_err();
    assert!(matches!(error, PostgresError::Roots(_)), "{error}");
    drop(server);
    let Some(server) = PostgreSql::start_with(|path| authority.write(path, "db.example.org")) else { return };
    let right = format!("sslrootcert={}", server.directory.path().join("ca.pem").display());
    let error = open(&server, &format!("sslmode=require&{right}")).unwrap_err();
    assert!(error.to_string().contains("certificate"), "of another host: {error}");
}

/// Nobody goes without TLS who has asked for it.
#[test]
fn a_server_without_tls_is_refused() {
    let Some(server) = PostgreSql::start() else { return };
    let url = format!("{}?sslmode=verify-full", server.url());
    let error = Postgres::open(PostgresConfig::from_url(&url).unwrap()).unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
}
