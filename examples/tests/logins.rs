//! The running `authenticated_relayer`, by every kind of login that a client without SASL libraries can do: which
//! mechanisms it offers, tokens, client certificates, and the limit for an address.

mod support;

use std::process::Command;

use support::{Authority, Client, Program, add_user, assert_absent, example, maildir, run, user};
use tempfile::TempDir;

#[test]
fn the_default_mechanisms_do_no_harm() {
    let directory = TempDir::new().expect("there is room for a directory");
    let server = relayer(&directory, &[]);
    let mut client = Client::greet(server.address(0)).expect("the server talks");
    assert_eq!(client.mechanisms().expect("the server talks"), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
    let reply = client.auth("SCRAM-SHA-256", "n,,n=nobody,r=nonce").expect("the server talks");
    assert!(reply.starts_with("334 "), "{reply}");
    // The server would wait for the rest of the exchange.
    drop(client);
    server.stop();
}

/// The same program, whatever drives its connections: it takes mail over both kinds of listener, and ends when it is
/// told to, with the last client told why.
#[test]
fn every_runtime_behaves_the_same() {
    let mut seen = Vec::new();
    for runtime in ["smol", "tokio", "threads"] {
        let directory = TempDir::new().expect("there is room for a directory");
        add_user(directory.path(), USER, PASSWORD);
        let server = relayer(&directory, &["--runtime", runtime]);
        let mut client = Client::log_in(server.address(0), USER, PASSWORD).expect("the server talks");
        let sent = client.send("tim@example.org", "friend@example.org", b"It works.\r\n").expect("the server talks");
        let refused = Client::greet(server.address(0))
            .and_then(|mut client| client.auth_plain(USER, "wrong password"))
            .expect("the server talks");
        let hello = client.command("EHLO client.example").expect("the server talks");
        // The idle client is told; that it has to be told within the grace period is the program's own affair.
        server.terminate();
        let farewell = client.reply().expect("the server says why it ends");
        assert!(client.is_closed());
        let (status, _, stderr) = server.wait();
        assert!(status.success(), "{runtime}: {stderr}");
        assert!(sent.starts_with("250 2.0.0 Queued as "), "{runtime}: {sent}");
        assert_eq!(maildir(&directory.path().join("mail")).len(), 1, "{runtime}");
        seen.push([hello, refused, farewell]);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

#[test]
fn a_token_opens_what_it_is_for_until_it_is_revoked() {
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), USER, PASSWORD);
    let (done, token) = user(directory.path(), &["token", USER], "");
    let token = token.trim();
    assert!(done && token.len() == 32, "{token}");
    let server = relayer(&directory, &["--mechanisms", "XOAUTH2,OAUTHBEARER"]);
    let mut client = Client::greet(server.address(0)).expect("the server talks");
    assert_eq!(client.mechanisms().expect("the server talks"), ["XOAUTH2", "OAUTHBEARER"]);
    let oauthbearer = format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}");
    let xoauth2 = format!("user={USER}\u{1}auth=Bearer {token}\u{1}\u{1}");
    for (mechanism, response) in [("OAUTHBEARER", &oauthbearer), ("XOAUTH2", &xoauth2)] {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        let reply = client.auth(mechanism, response).expect("the server talks");
        assert!(reply.starts_with("235 "), "{reply}");
    }

    let (done, printed) = user(directory.path(), &["revoke", USER], "");
    assert!(done && printed.is_empty(), "{printed}");
    for (mechanism, response) in [("OAUTHBEARER", &oauthbearer), ("XOAUTH2", &xoauth2)] {
        let reply = client.auth(mechanism, response).expect("the server talks");
        assert!(reply.starts_with("334 "), "{reply}");
        let reply = client.command("").expect("the server talks");
        assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    }
    let (stdout, stderr) = server.stop();
    assert!(stderr.contains("mechanism=XOAUTH2"), "{stderr}");
    assert_absent(token, &(stdout + &stderr));
    assert!(
        !user(directory.path(), &["token", "nobody"], "").0 && !user(directory.path(), &["revoke", "nobody"], "").0
    );
}

#[test]
fn a_certificate_is_a_login() {
    let directory = TempDir::new().expect("there is room for a directory");
    let authority = Authority::new();
    authority.write(directory.path());
    add_user(directory.path(), USER, PASSWORD);
    let certificate = ["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--client-ca", "ca.pem"];
    let server = relayer(&directory, &[&["--listen-tls", "127.0.0.1:0"], &certificate[..]].concat());
    let greet = |tls| Client::greet_tls(server.address(1), tls).expect("the server talks");

    let mut client = greet(authority.client());
    assert_eq!(client.mechanisms().expect("the server talks"), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
    for (emails, code) in [(&[USER][..], "235 "), (&["nobody@example.org"], "535 5.7.8 ")] {
        let mut client = greet(authority.client_with_certificate(&authority, "somebody", emails));
        let listed = client.mechanisms().expect("the server talks");
        assert_eq!(listed, ["SCRAM-SHA-256", "PLAIN", "LOGIN", "EXTERNAL"]);
        let reply = client.auth("EXTERNAL", "").expect("the server talks");
        assert!(reply.starts_with(code), "{reply}");
    }
    server.stop();
}

#[test]
fn an_address_has_to_wait_after_too_many_failures() {
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), USER, PASSWORD);
    let server = relayer(&directory, &["--max-failures-per-address", "2"]);
    for _ in 0..2 {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        let reply = client.auth_plain(USER, "wrong password").expect("the server talks");
        assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    }
    let mut client = Client::greet(server.address(0)).expect("the server talks");
    let reply = client.auth_plain(USER, PASSWORD).expect("the server talks");
    assert!(reply.starts_with("454 4.7.0 "), "{reply}");
    server.stop();
}

#[test]
fn a_list_that_cannot_be_offered_is_an_error() {
    for (arguments, message) in [
        (&["--mechanisms", "PLAIN,NTLM"][..], "SCRAM-SHA-512-PLUS"),
        (&["--mechanisms", "EXTERNAL"], "--client-ca"),
        (&["--client-ca", "ca.pem", "--mechanisms", "PLAIN"], "EXTERNAL"),
    ] {
        let (done, printed) = run(Command::new(example("authenticated_relayer")).args(arguments));
        assert!(!done && printed.contains(message), "{printed}");
    }
}

fn relayer(directory: &TempDir, arguments: &[&str]) -> Program {
    let listen = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth"];
    Program::start("authenticated_relayer", directory.path(), "trace", &[&listen, arguments].concat())
}

const USER: &str = "tim@example.org";
const PASSWORD: &str = "tanstaaftanstaaf";
