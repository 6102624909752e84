//! The running `authenticated_relayer`, by every kind of login that a client without SASL libraries can do: which
//! mechanisms it offers, tokens, client certificates, and the limit for an address.

mod support;

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{KeyPair, SigningKey};

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

/// Users of a file, beside those of a database: each logs in, and is refused with the other's password.
#[test]
fn users_are_looked_for_in_several_places() {
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), USER, PASSWORD);
    let file = directory.path().join("users");
    let write = |users: &str| std::fs::write(&file, users).expect("the directory can be written to");
    // The second one has a user of the same name, and another password; the first decides.
    write(&format!("printer:{BCRYPT}\n{USER}:{BCRYPT}\n"));
    let server = relayer(&directory, &["--users", "sqlite:mail.db", "--users", "passwd:users"]);
    let log_in = |user: &str, password: &str| {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        // Those of the file cannot use SCRAM.
        assert_eq!(client.mechanisms().expect("the server talks"), ["PLAIN", "LOGIN"]);
        client.auth_plain(user, password).expect("the server talks")
    };
    assert!(log_in(USER, PASSWORD).starts_with("235 "));
    assert!(log_in("printer", PRINTER).starts_with("235 "));
    for (user, password) in [(USER, PRINTER), ("printer", PASSWORD), ("scanner", PRINTER)] {
        assert!(log_in(user, password).starts_with("535 5.7.8 "), "{user}");
    }
    // A broken file changes nothing, and is told.
    write("scanner\n");
    assert!(log_in("printer", PRINTER).starts_with("235 "));
    write(&format!("scanner:{BCRYPT}\n"));
    assert!(log_in("scanner", PRINTER).starts_with("235 "));
    assert!(log_in("printer", PRINTER).starts_with("535 5.7.8 "));
    let (stdout, stderr) = server.stop();
    assert!(stderr.contains("line 1: no colon"), "{stderr}");
    for secret in [PASSWORD, PRINTER, BCRYPT] {
        assert_absent(secret, &(stdout.clone() + &stderr));
    }

    let (done, printed) = user(directory.path(), &["add", "x", "--users", "passwd:users"], "x");
    assert!(!done && printed.contains("passwd:users") && printed.contains("htpasswd"), "{printed}");
    let (done, printed) = user(directory.path(), &["list", "--users", "sqlite:mail.db"], "");
    assert_eq!((done, printed), (true, format!("{USER}\n")));
}

#[test]
fn what_the_users_can_log_in_by_is_offered() {
    let directory = TempDir::new().expect("there is room for a directory");
    let file = directory.path().join("users");
    std::fs::write(&file, format!("tim:{SCRAM}\n")).expect("the directory can be written to");
    let challenge = |server: &Program| {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        assert_eq!(client.mechanisms().expect("the server talks"), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
        let reply = client.auth("SCRAM-SHA-256", "n,,n=nobody,r=nonce").expect("the server talks");
        let text = STANDARD.decode(reply.trim_start_matches("334 ").trim_end()).expect("base64");
        let text = String::from_utf8(text).expect("ASCII");
        text.split_once(",s=").map(|(_, rest)| rest.to_owned()).expect("a salt")
    };
    // Whoever is unknown has as many iterations as the others, and after a restart the same salt.
    let server = relayer(&directory, &["--users", "passwd:users"]);
    let first = challenge(&server);
    assert!(first.ends_with(",i=4096"), "{first}");
    server.stop();
    let server = relayer(&directory, &["--users", "passwd:users"]);
    assert_eq!(challenge(&server), first);
    let mut client = Client::greet(server.address(0)).expect("the server talks");
    assert!(client.auth_plain("tim", "pencil").expect("the server talks").starts_with("235 "));
    server.stop();

    let mut command = Command::new(example("authenticated_relayer"));
    let arguments = ["--listen", "127.0.0.1:0", "--users", "passwd:users", "--mechanisms", "PLAIN,SCRAM-SHA-512"];
    let (done, printed) = run(command.current_dir(directory.path()).args(arguments));
    assert!(!done && printed.contains("SCRAM-SHA-512, which --mechanisms names"), "{printed}");
    assert!(!printed.contains("SCRAM-SHA-256$"), "{printed}");
    std::fs::write(&file, "hunter2\n").expect("the directory can be written to");
    let mut command = Command::new(example("authenticated_relayer"));
    let (done, printed) = run(command.current_dir(directory.path()).args(["--users", "passwd:users"]));
    assert!(
        !done && printed.contains("cannot open passwd:users: line 1: ") && !printed.contains("hunter2"),
        "{printed}"
    );
}

/// Tokens of an authorization server, beside the users of a database; it changes its key meanwhile.
#[test]
fn tokens_of_an_authorization_server() {
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), USER, PASSWORD);
    let [old, new] = ["old", "new"].map(|kid| (kid, KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key")));
    let publish = |(kid, key): &(&str, KeyPair)| {
        let jwk =
            serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": url_safe(key.public_key_raw()) });
        let set = serde_json::json!({ "keys": [jwk] }).to_string();
        std::fs::write(directory.path().join("jwks.json"), set).expect("the directory can be written to");
    };
    let token = |(kid, key): &(&str, KeyPair), audience: &str| {
        let header = serde_json::json!({ "alg": "EdDSA", "kid": kid, "typ": "at+jwt" }).to_string();
        let claims = serde_json::json!({
            "iss": "https://id.example.org", "aud": audience, "sub": "7", "email": USER, "exp": 4_000_000_000_u64,
        });
        let signed = [header, claims.to_string()].map(|part| url_safe(part.as_bytes())).join(".");
        let signature = key.sign(signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", url_safe(&signature))
    };
    publish(&old);
    let keys = "jwks:jwks.json?issuer=https://id.example.org&audience=mx&login=email";
    let server = relayer(&directory, &["--users", "mail.db", "--users", keys]);
    let log_in = |user: &str, token: &str| {
        let mut client = Client::greet(server.address(0)).expect("the server talks");
        let listed = client.mechanisms().expect("the server talks");
        assert_eq!(listed, ["SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"]);
        let (mechanism, start) = match user {
            "" => ("OAUTHBEARER", "n,,\u{1}".to_owned()),
            user => ("XOAUTH2", format!("user={user}\u{1}")),
        };
        let response = format!("{start}auth=Bearer {token}\u{1}\u{1}");
        let reply = client.auth(mechanism, &response).expect("the server talks");
        // To what is wrong with the token the client has to say something.
        if reply.starts_with("334 ") { client.command("AQ==").expect("the server talks") } else { reply }
    };
    let tokens = [token(&old, "mx"), token(&new, "mx"), token(&old, "other")];
    for user in ["", USER] {
        assert!(log_in(user, &tokens[0]).starts_with("235 "));
        assert!(log_in(user, &tokens[2]).starts_with("535 5.7.8 "));
    }
    assert!(log_in("kurt@example.org", &tokens[0]).starts_with("535 5.7.8 "));
    publish(&new);
    assert!(log_in(USER, &tokens[1]).starts_with("235 "));
    assert!(log_in(USER, &tokens[0]).starts_with("535 5.7.8 "));
    // The others log in as before.
    let mut client = Client::greet(server.address(0)).expect("the server talks");
    assert!(client.auth_plain(USER, PASSWORD).expect("the server talks").starts_with("235 "));
    drop(client);
    let (stdout, stderr) = server.stop();
    assert!(stderr.contains("it is for another audience"), "{stderr}");
    for token in &tokens {
        token.split('.').skip(1).for_each(|part| assert_absent(part, &(stdout.clone() + &stderr)));
    }

    let (done, printed) = user(directory.path(), &["list", "--users", keys], "");
    assert!(!done && printed.contains("jwks:jwks.json") && printed.contains("authorization server"), "{printed}");
    let (done, printed) = run(Command::new(example("authenticated_relayer")).args(["--users", "jwks:jwks.json"]));
    assert!(!done && printed.contains("invalid value for --users") && printed.contains("issuer"), "{printed}");
}

fn url_safe(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

fn relayer(directory: &TempDir, arguments: &[&str]) -> Program {
    let listen = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth"];
    Program::start("authenticated_relayer", directory.path(), "trace", &[&listen, arguments].concat())
}

const USER: &str = "tim@example.org";
const PRINTER: &str = "bright red printer";
/// Of [`PRINTER`], by htpasswd.
const BCRYPT: &str = "$2y$05$QW7AwUSAAv9eRKpV/bMTEuvLzX6DK8uRzzmAGm46TY8eWr1nedI.C";
/// Of "pencil" (RFC 7677, section 3), as PostgreSQL writes it.
const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                     WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const PASSWORD: &str = "tanstaaftanstaaf";
