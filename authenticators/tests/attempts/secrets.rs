//! Who may learn what: the server, the log, and who listens in between.

use std::fs;
use std::time::Duration;

use sansmtp::auth::{Attempt, AttemptLimits, AttemptLog};
use sansmtp::{Peer, Secret};
use sansmtp_authenticators::attempts::{Standing, ValkeyAttemptLog, ValkeyConfig, ValkeyError, WhenUnreachable};

use crate::client::Server;
use crate::log;
use crate::support::valkey::{ESCAPED, PASSWORD, Valkey};
use crate::support::wait::until;
use crate::support::{self, stalled};

fn by_user(config: ValkeyConfig) -> ValkeyConfig {
    let limits = AttemptLimits { by_user: 3, ..AttemptLimits::default() };
    config.limits(limits).time_limit(Duration::from_secs(5)).when_unreachable(WhenUnreachable::Closed)
}

fn attempt() -> Attempt<'static> {
    Attempt::new(Peer::local(), "PLAIN".into(), "tim")
}

/// A password that was typed into the field of the name.
#[test]
fn the_server_learns_no_names() {
    let Some(mut valkey) = Valkey::start() else { return };
    let server = Server::new(&log(&valkey.url(), by_user));
    for name in ["hunter2hunter2", "tim", "hunter2hunter2"] {
        assert_eq!(server.plain("192.0.2.77", name, "hunter3hunter3"), 535);
    }
    until("the counts", || (valkey.times_to_live().len() == 3).then_some(()));
    for (key, time_to_live) in valkey.times_to_live() {
        assert!(key.starts_with("sansmtp:attempts:") && time_to_live > 0, "{key}");
        // A random number.
        assert!(valkey.ask::<u64>(&["GET", &key]) > 0);
    }
    // Everything that it has, and that comes into its backups.
    valkey.stop();
    let dump = fs::read(valkey.directory.path().join("dump.rdb")).unwrap();
    let has = |text: &str| dump.windows(text.len()).any(|octets| octets == text.as_bytes());
    assert!(has("sansmtp:attempts:user:"));
    assert!(!has("hunter2") && !has("hunter3") && !has("192.0.2.77"));
}

/// Servers with different keys do not count together, so the hash does depend on it.
#[test]
fn names_are_hashed_with_the_key() {
    let Some(valkey) = Valkey::start() else { return };
    for key in ["one key of 16 octets", "another key of 16 octets"] {
        let log = log(&valkey.url(), |config| by_user(config).key(Secret::new(key.into())));
        log.refused(&attempt());
    }
    // Made from the password that both have.
    for login in [format!(":{ESCAPED}"), format!("default:{ESCAPED}")] {
        let url = format!("redis://{login}@127.0.0.1:{}", valkey.port);
        ValkeyAttemptLog::new(by_user(ValkeyConfig::from_url(&url).unwrap())).unwrap().refused(&attempt());
    }
    until("three keys", || (valkey.times_to_live().len() == 3).then_some(()));
}

#[test]
fn neither_password_nor_names_are_logged() {
    support::logs::collect();
    let Some(mut valkey) = Valkey::start() else { return };
    let file = valkey.directory.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let urls = [
        valkey.url(),
        format!("redis://127.0.0.1:{}?password-file={}", valkey.port, file.display()),
        format!("redis://:{ESCAPED}x@127.0.0.1:{}", valkey.port),
        format!("redis://mail:{ESCAPED}@127.0.0.1:{}", valkey.port),
        format!("redis://mail:{ESCAPED}@{}", stalled::tcp()),
        format!("rediss://mail:{ESCAPED}@127.0.0.1:{}", valkey.port),
    ];
    let logs = urls.each_ref().map(|url| log(url, |config| by_user(config).time_limit(Duration::from_millis(500))));
    let servers = logs.each_ref().map(Server::new);
    assert_eq!(servers[0].plain("192.0.2.1", "tim", "tanstaaftanstaaf"), 235);
    assert_eq!(servers[1].plain("192.0.2.1", "hunter2", "hunter3"), 535);
    for server in &servers[2..] {
        assert_eq!(server.plain("192.0.2.1", "hunter2", "hunter3"), 454);
    }
    valkey.stop();
    assert_eq!(servers[0].plain("192.0.2.1", "hunter2", "hunter3"), 454);
    valkey.start_again();
    until("all that can be", || (logs[0].is_reachable() && logs[1].is_reachable()).then_some(()));
    assert!(support::logs::count(&["WARN", "not counted for all", &format!("127.0.0.1:{}", valkey.port)]) >= 3);
    let shown = format!("{:?} {:#?} {}", logs, logs, support::logs::lines().join("\n"));
    for secret in ["swordfish", "hunter2", "hunter3", "tanstaaf", "the key of the tests"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

/// Something that is no Valkey repeats what it was told.
#[test]
fn what_a_stranger_answers_is_not_logged() {
    support::logs::collect();
    for prefix in ["-", "-ERR unknown command ", "+", "", "HTTP/1.1 400 ", "$5\r\n", "*3\r\n-"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut told = [0; 512];
                let length = std::io::Read::read(&mut stream, &mut told).unwrap_or(0);
                let _ = std::io::Write::write_all(&mut stream, &[prefix.as_bytes(), &told[..length]].concat());
            }
        });
        let log =
            log(&format!("redis://:swordfish@{address}"), |config| by_user(config).time_limit(Duration::from_secs(1)));
        assert_eq!(log.ask(&attempt()), Standing::CannotTell);
        until("a warning", || (support::logs::count(&["WARN", &address.to_string()]) > 0).then_some(()));
    }
    let lines = support::logs::lines().join("\n");
    assert!(!lines.to_lowercase().contains("swordfish"), "{lines}");
}

#[test]
fn tls_is_verified() {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer_certificate = parameters.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let make = |name: &str, host: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        fs::write(path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    };
    fs::write(path("ca.pem"), issuer_certificate.pem()).unwrap();
    fs::write(path("none.pem"), "no certificate").unwrap();
    make("localhost", "localhost");
    make("other", "other.example.org");
    let start = |name: &str| {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        let options = ["--tls-port", &port.to_string(), "--tls-cert-file", &certificate, "--tls-key-file", &key]
            .into_iter()
            .chain(["--tls-auth-clients", "no", "--tls-ca-cert-file"])
            .map(str::to_owned)
            .chain([path("ca.pem")])
            .collect::<Vec<_>>();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Some((Valkey::start_with(&options)?, port))
    };
    let standing = |port: u16, ca: &str| {
        let url = format!("valkeys://:{ESCAPED}@localhost:{port}{ca}");
        log(&url, by_user).ask(&attempt())
    };
    let ca = format!("?ca-file={}", path("ca.pem"));
    let Some((_right, port)) = start("localhost") else { return };
    assert_eq!(standing(port, &ca), Standing::Admitted);
    assert_eq!(standing(port, ""), Standing::CannotTell, "an authority that nobody knows");
    let Some((_other, port)) = start("other") else { return };
    assert_eq!(standing(port, &ca), Standing::CannotTell, "a certificate of somebody else");
    let url = format!("valkeys://:{ESCAPED}@localhost:{port}?ca-file={}", path("none.pem"));
    let config = ValkeyConfig::from_url(&url).unwrap();
    assert!(matches!(ValkeyAttemptLog::new(config), Err(ValkeyError::RootCertificates(_))));
}
