//! The two programs, or `sink` and the library, with every login at the next hop.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use sansmtp_relay::{Delivery, Envelope, NextHop, Route, Spool, Worker};
use tempfile::TempDir;

use crate::relayer;
use crate::support::{Program, assert_absent, numbered, spooled};

/// `sink` is built on the engine, so that this is its SCRAM against ours, and so on.
#[test]
fn every_mechanism_logs_in_at_a_sink() {
    let directory = TempDir::new().expect("there is room for a directory");
    let login = ["--user", "re,l=y", "--password", "p@ss w\u{f6}rd", "--token", "t0ken", "--no-auth-delay"];
    let sink = Program::start("sink", directory.path(), "info", &[&["--listen", "127.0.0.1:0"], &login[..]].concat());
    let file = directory.path().join("token");
    fs::write(&file, "t0ken\n").expect("it can be written");
    let password = |mechanism| (mechanism, "re%2Cl%3Dy:p%40ss%20w%C3%B6rd@".to_owned(), String::new());
    let in_file = format!("&token-file={}", file.display());
    let logins = [
        password("CRAM-MD5"),
        password("LOGIN"),
        password("PLAIN"),
        password("SCRAM-SHA-1"),
        password("SCRAM-SHA-1-PLUS"),
        password("SCRAM-SHA-256"),
        password("SCRAM-SHA-256-PLUS"),
        password("SCRAM-SHA-512"),
        password("SCRAM-SHA-512-PLUS"),
        ("OAUTHBEARER", "re%2Cl%3Dy@".to_owned(), in_file.clone()),
        ("OAUTHBEARER", "re%2Cl%3Dy@".to_owned(), "&token-command=echo%20t0ken".to_owned()),
        ("XOAUTH2", "re%2Cl%3Dy@".to_owned(), in_file),
        // A password in the URL is a token where the mechanism takes one.
        ("XOAUTH2", "re%2Cl%3Dy:t0ken@".to_owned(), String::new()),
    ];
    for (number, (mechanism, user, parameter)) in (1..).zip(logins) {
        let url = format!("smtp://{user}{}/?mechanism={mechanism}{parameter}", sink.address(0));
        let spool = TempDir::new().expect("there is room for a directory");
        let spool = Arc::new(Spool::open(spool.path()).expect("it can be opened"));
        let hop: NextHop = url.parse().expect("it is a URL");
        let worker = Worker::start(Arc::clone(&spool), Delivery::new(Route::Relays(vec![hop]), "relay.example"));
        let worker = worker.expect("it starts");
        let mut incoming =
            Spool::begin(&spool, Envelope::new("tim@example.org", ["friend@example.org"])).expect("there is room");
        incoming.write(&numbered(number)).expect("there is room");
        incoming.commit().expect("there is room");
        let (succeeded, accepted) = ("authentication succeeded", "message accepted");
        sink.stderr.wait(|log| [succeeded, accepted].iter().all(|event| log.matches(event).count() == number));
        let log = sink.stderr.so_far();
        let line = log.lines().rfind(|line| line.contains(succeeded)).expect("it is there");
        assert!(line.contains(&format!("mechanism={mechanism} ")), "{mechanism}: {line}");
        worker.stop(Duration::from_secs(30));
    }
    let log = sink.stderr.so_far();
    assert!(!log.contains("authentication failed"), "{log}");
}

/// The strongest is chosen, and nothing secret is told.
#[test]
fn a_relayer_is_a_next_hop_that_both_trust() {
    let directory = TempDir::new().expect("there is room for a directory");
    let login = ["--user", "relay", "--password", "hunter2 hunter2", "--save", "saved"];
    let sink = Program::start("sink", directory.path(), "info", &[&["--listen", "127.0.0.1:0"], &login[..]].concat());
    let relayer = relayer(&["--relay", &format!("smtp://relay:hunter2%20hunter2@{}", sink.address(0))]);
    relayer.send(&numbered(1));
    relayer.program.stderr.wait(|log| log.contains(" done id="));
    let (stdout, stderr) = relayer.program.stop();
    assert_absent("hunter2 hunter2", &stdout);
    assert_absent("hunter2 hunter2", &stderr);
    let sent = stderr.lines().find(|line| line.contains(" delivery id=")).expect("it is told");
    for field in [
        " from=\"tim@example.org\" to=\"friend@example.org\" relay=\"127.0.0.1[127.0.0.1]:",
        " tls=TLSv1.3 verified=false delay=",
        " status=sent dsn=2.",
        " reply=\"250 2.",
    ] {
        assert!(sent.contains(field), "{field}: {sent}");
    }
    assert_eq!(spooled(&relayer.directory.path().join("spool")), 0);
    let log = sink.stderr.so_far();
    assert!(log.contains("mechanism=SCRAM-SHA-512 "), "{log}");
}

/// SIGHUP has the certificates read that are trusted; passwords in files are read for each session.
#[cfg(unix)]
#[test]
fn a_new_authority_and_a_new_password_need_no_restart() {
    let directory = TempDir::new().expect("there is room for a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let make = |name: &str| {
        let key = rcgen::KeyPair::generate().expect("there is entropy");
        let parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("it is a name");
        let certificate = parameters.self_signed(&key).expect("it can be signed");
        fs::write(path(&format!("{name}.pem")), certificate.pem()).expect("it can be written");
        fs::write(path(&format!("{name}.key")), key.serialize_pem()).expect("it can be written");
    };
    make("old");
    make("new");
    fs::copy(path("old.pem"), path("ca.pem")).expect("it can be written");
    fs::write(path("password"), "old").expect("it can be written");
    let (certificate, key) = (path("new.pem"), path("new.key"));
    let arguments = ["--listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key, "--user", "relay"];
    let sink =
        Program::start("sink", directory.path(), "info", &[&arguments[..], &["--password", "new password"]].concat());
    let url = format!("smtp+starttls://relay@localhost:{}?password-file={}", sink.address(0).port(), path("password"));
    let relayer =
        relayer(&["--relay", &url, "--relay-ca", &path("ca.pem"), "--retry-first", "0.05", "--retry-longest", "0.1"]);
    relayer.send(&numbered(1));
    relayer.program.stderr.wait(|log| log.contains("status=deferred"));
    fs::write(path("ca.pem"), "nothing").expect("it can be written");
    relayer.program.signal("HUP");
    relayer.program.stderr.wait(|log| log.contains("cannot use the new certificates"));
    fs::copy(path("new.pem"), path("ca.pem")).expect("it can be written");
    relayer.program.signal("HUP");
    relayer.program.stderr.wait(|log| log.contains("the login is refused"));
    fs::write(path("password"), "new password").expect("it can be written");
    relayer.program.stderr.wait(|log| log.contains(" done id="));
    let (_, log) = relayer.program.stop();
    assert!(log.contains(" tls=TLSv1.3 verified=true "), "{log}");
}
