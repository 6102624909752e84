//! GNU SASL's own client, which knows more mechanisms than any mail program, and really binds to the TLS channel.
//!
//! It sends no mail. That it is logged in is seen by its MAIL command, which the server takes from nobody else.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::EVERY_MECHANISM;
use crate::support::{
    Authority, Awkward, Client, FAILED, Login, Program, RIGHT, SUCCEEDED, Server, Tunnel, USER, assert_absent, run,
    tool,
};

/// Without the binding. Where gsasl 2.2.0 could bind it never gets through a mechanism that does not, be there one that
/// does or not: it stops before its first message.
const UNBOUND: &str = "--no-cb";

#[test]
fn over_starttls() {
    let Some(_) = tool("gsasl") else { return };
    let server = Server::offering(EVERY_MECHANISM);
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL"] {
        server.logs_in(mechanism, false, |login| gsasl(login, login.port, &[UNBOUND]));
    }
    // tls-exporter (RFC 9266): on TLS 1.3 gsasl 2.2 takes that, and nothing else.
    for mechanism in ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"] {
        server.logs_in(mechanism, false, |login| {
            let (accepted, transcript) = gsasl(login, login.port, &[]);
            assert_eq!(client_first(&transcript), format!("p=tls-exporter,,n={USER},"), "{transcript}");
            (accepted, transcript)
        });
    }
    server.stop_without_secrets();
}

/// Told to use STARTTLS, gsasl says it before EHLO.
#[test]
fn starttls_before_ehlo() {
    let Some(_) = tool("gsasl") else { return };
    let server = Server::offering(EVERY_MECHANISM);
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL"] {
        server.logs_in(mechanism, false, |login| {
            let (accepted, transcript) = gsasl(login, login.port, &["--starttls", UNBOUND]);
            let (before, _) = transcript.split_once("\nSTARTTLS\n").expect("it is what gsasl was told");
            assert!(!before.contains("EHLO"), "{transcript}");
            (accepted, transcript)
        });
    }
    server.stop_without_secrets();
}

/// gsasl knows STARTTLS only, so that the TLS is not its own here. It has nothing to bind to then, and no certificate
/// of its own.
#[test]
fn over_implicit_tls() {
    let Some(_) = tool("gsasl") else { return };
    let server = Server::offering(EVERY_MECHANISM);
    let tunnel = Tunnel::to(server.program.address(1), &server.directory.path().join("mail-cert.pem"));
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"] {
        server.logs_in(mechanism, true, |login| gsasl(login, tunnel.address().port(), &["--no-starttls"]));
    }
    drop(tunnel);
    server.stop_without_secrets();
}

/// Of its own accord gsasl takes the best of what is offered.
#[test]
fn the_mechanism_that_binds_is_chosen_where_it_is_offered() {
    let Some(_) = tool("gsasl") else { return };
    for (offered, chosen) in [(EVERY_MECHANISM, "SCRAM-SHA-256-PLUS"), ("LOGIN,PLAIN", "PLAIN")] {
        let server = Server::offering(offered);
        let arguments = ["--authentication-id", USER, "--password", RIGHT];
        let (accepted, transcript) = converse(server.directory.path(), server.program.address(0).port(), &arguments);
        assert!(accepted && transcript.contains(&format!("AUTH {chosen}\n")), "{transcript}");
        server.wait_until_logged(SUCCEEDED, chosen, 1);
        server.stop_without_secrets();
    }
}

/// On TLS 1.2 gsasl 2.2 takes tls-unique, which this server does not do: it is not unique without the extended master
/// secret (RFC 7627, section 1). tls-server-end-point would do, and gsasl does not know it. So the relayer offers the
/// mechanisms that bind from TLS 1.3 on; where somebody offers them all the same, the error says what is the matter.
#[test]
fn tls_unique_is_refused_by_its_name() {
    let Some(_) = tool("gsasl") else { return };
    let tls_1_2 = ["--priority", "NORMAL:-VERS-TLS1.3", "--authentication-id", USER, "--password", RIGHT];
    let login = |directory: &Path, port, mechanism, further: &[&str]| {
        converse(directory, port, &[&["--mechanism", mechanism], &tls_1_2[..], further].concat())
    };

    let server = Server::offering(EVERY_MECHANISM);
    let (directory, port) = (server.directory.path(), server.program.address(0).port());
    let (accepted, transcript) = login(directory, port, "SCRAM-SHA-256-PLUS", &[]);
    assert!(!accepted && !transcript.contains(" SCRAM-SHA-256-PLUS "), "{transcript}");
    let (accepted, transcript) = login(directory, port, "SCRAM-SHA-256", &[UNBOUND]);
    assert!(accepted, "{transcript}");

    let arguments = ["--listen", "127.0.0.1:0", "--user", USER, "--password", RIGHT];
    let certificate = ["--tls-cert", "mail-cert.pem", "--tls-key", "mail-key.pem"];
    let sink = Program::start("sink", directory, "trace", &[&arguments[..], &certificate].concat());
    let (accepted, transcript) = login(directory, sink.address(0).port(), "SCRAM-SHA-256-PLUS", &[]);
    assert!(!accepted, "{transcript}");
    assert_eq!(client_first(&transcript), format!("p=tls-unique,,n={USER},"), "{transcript}");
    assert!(transcript.contains(&server_error("unsupported-channel-binding-type")), "{transcript}");
    drop(sink);
    server.stop_without_secrets();
}

/// A client that can bind, and is made to believe that the server cannot (RFC 5802, section 6).
#[test]
fn a_downgrade_is_noticed() {
    let Some(_) = tool("gsasl") else { return };
    let server = Server::offering(EVERY_MECHANISM);
    let directory = server.directory.path();
    // gsasl 2.2.0 does not even begin: it never says that it could have bound.
    let arguments = ["--mechanism", "SCRAM-SHA-256", "--authentication-id", USER, "--password", RIGHT];
    let (accepted, transcript) = converse(directory, server.program.address(0).port(), &arguments);
    assert!(!accepted && transcript.contains("AUTH SCRAM-SHA-256\n334 \n"), "{transcript}");
    let noticed = ["mechanism error: Error authenticating user", &server_error("server-does-support-channel-binding")];
    assert!(noticed.iter().any(|end| transcript.contains(end)), "{transcript}");
    // Nor does it take the mechanism that binds without binding.
    let arguments = [&["--mechanism", "SCRAM-SHA-256-PLUS", UNBOUND], &arguments[2..]].concat();
    let (accepted, transcript) = converse(directory, server.program.address(0).port(), &arguments);
    assert!(!accepted && transcript.contains("channel binding was not provided"), "{transcript}");

    // One that does say so is refused.
    let tunnel = Tunnel::to(server.program.address(1), &directory.join("mail-cert.pem"));
    let mut client = Client::greet(tunnel.address()).expect("the server talks");
    let first = STANDARD.encode(format!("y,,n={USER},r=fyko+d2lbbFgONRv9qkxdawL"));
    let reply = client.command(&format!("AUTH SCRAM-SHA-256 {first}")).expect("the server talks");
    assert_eq!(reply, server_error("server-does-support-channel-binding"));
    let reply = client.command("").expect("the server talks");
    assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    server.wait_until_logged(FAILED, "SCRAM-SHA-256", 2);
    assert_eq!(server.logged(SUCCEEDED, "SCRAM-SHA-256"), 0);
    drop((client, tunnel));
    server.stop_without_secrets();

    // Where no mechanism binds, it is no downgrade.
    let server = Server::offering("SCRAM-SHA-256,PLAIN");
    let tunnel = Tunnel::to(server.program.address(1), &server.directory.path().join("mail-cert.pem"));
    let mut client = Client::greet(tunnel.address()).expect("the server talks");
    let reply = client.command(&format!("AUTH SCRAM-SHA-256 {first}")).expect("the server talks");
    assert!(decoded(&reply).starts_with("r=fyko+d2lbbFgONRv9qkxdawL"), "{reply}");
    drop((client, tunnel));
    server.stop_without_secrets();
}

/// A client that has no certificate is not offered EXTERNAL, and does not get it.
#[test]
fn external_needs_a_certificate() {
    let Some(_) = tool("gsasl") else { return };
    let server = Server::offering(EVERY_MECHANISM);
    let arguments = ["--mechanism", "EXTERNAL", "--authorization-id", USER];
    let (accepted, transcript) = converse(server.directory.path(), server.program.address(0).port(), &arguments);
    assert!(!accepted && !transcript.contains(" EXTERNAL "), "{transcript}");
    assert!(transcript.contains("504 5.5.4"), "{transcript}");
    server.stop_without_secrets();
}

/// The relayer lets nobody in who is nobody; `sink` does.
#[test]
fn anonymous() {
    let Some(_) = tool("gsasl") else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    Authority::new().write(directory.path());
    let certificate = directory.path().join("mail-cert.pem");
    std::fs::rename(directory.path().join("ca.pem"), &certificate).expect("the authority has a certificate");
    let sink = |mechanisms: &str| {
        let arguments = ["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--mechanisms", mechanisms];
        let login = ["--user", USER, "--password", RIGHT, "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
        Program::start("sink", directory.path(), "trace", &[&arguments[..], &login].concat())
    };
    let anonymous = ["--mechanism", "ANONYMOUS", "--anonymous-token", TRACE];

    let offering = sink("ANONYMOUS,PLAIN");
    let tunnel = Tunnel::to(offering.address(1), &certificate);
    let over_tunnel = [&anonymous[..], &["--no-starttls"]].concat();
    for (address, arguments) in [(offering.address(0), &anonymous[..]), (tunnel.address(), &over_tunnel)] {
        let (accepted, transcript) = converse(directory.path(), address.port(), arguments);
        assert!(accepted && transcript.contains(&STANDARD.encode(TRACE)), "{transcript}");
    }
    drop(tunnel);
    offering.terminate();
    let (_, stdout, stderr) = offering.wait();
    assert_eq!(stderr.lines().filter(|line| line.contains(SUCCEEDED) && line.contains("ANONYMOUS")).count(), 2);
    assert_absent(RIGHT, &format!("{stdout}{stderr}"));

    let not_offering = sink("PLAIN");
    let (accepted, transcript) = converse(directory.path(), not_offering.address(0).port(), &anonymous);
    assert!(!accepted && transcript.contains("504 5.5.4"), "{transcript}");
}

/// Logs in as it is told to, by way of a port.
fn gsasl(login: &Login<'_>, port: u16, further: &[&str]) -> (bool, String) {
    let certificate = login.certificate();
    let credentials = match &certificate {
        Some((certificate, key)) => {
            vec!["--authorization-id", USER, "--x509-cert-file", certificate, "--x509-key-file", key]
        }
        None => vec!["--authentication-id", USER, "--password", login.password()],
    };
    converse(login.directory, port, &[&["--mechanism", login.mechanism], &credentials[..], further].concat())
}

/// Whether gsasl was logged in, and all that was said.
fn converse(directory: &Path, port: u16, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("gsasl");
    command
        .current_dir(directory)
        .args(["--smtp", "--verbose", "--x509-ca-file", "mail-cert.pem", "--connect", &format!("localhost:{port}")])
        .args(arguments)
        .stdin(Stdio::piped());
    // What comes from stdin is sent after the login, line by line.
    let (reading, mut writing) = std::io::pipe().expect("a pipe can be had");
    write!(writing, "MAIL FROM:<{}>\r\n", Awkward::REVERSE_PATH).expect("it fits into the pipe");
    drop(writing);
    let (done, transcript) = run(command.stdin(reading));
    let transcript = transcript.replace("\r\n", "\n");
    let logged_in = transcript.contains("\n235 2.7.0 ");
    assert_eq!(done, logged_in, "{transcript}");
    assert_eq!(logged_in, transcript.contains("\n250 2.1.0 "), "{transcript}");
    (logged_in, transcript)
}

/// What the client's first message of SCRAM says before its nonce.
fn client_first(transcript: &str) -> String {
    let (_, after) = transcript.split_once("\nAUTH SCRAM-").expect("it has begun");
    let line = after.lines().nth(2).expect("there is an empty challenge, and the response");
    let message = decoded(line);
    message.split_once("r=").expect("there is a nonce").0.to_owned()
}

/// What a line holds in base64, behind the code of a reply or by itself.
fn decoded(line: &str) -> String {
    let message = STANDARD.decode(line.trim_start_matches("334 ")).expect("it is base64");
    String::from_utf8(message).expect("SCRAM is UTF-8")
}

/// The server's line that ends an exchange of SCRAM.
fn server_error(value: &str) -> String {
    format!("334 {}", STANDARD.encode(format!("e={value}")))
}

const TRACE: &str = "sirhc@example.org";
