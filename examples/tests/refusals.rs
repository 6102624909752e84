//! What the programs refuse leaves a line in their logs, with the client and the reply, and nothing that is secret.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use support::{Program, add_user, assert_absent};
use tempfile::TempDir;

#[test]
fn what_is_refused_is_logged() {
    for (name, runtime) in [
        // It hashes passwords, which takes its time.
        ("authenticated_relayer", "smol"),
        ("sink", "smol"),
        ("sink", "tokio"),
        ("sink", "threads"),
    ] {
        let directory = TempDir::new().expect("there is room for a directory");
        let options: &[&str] = if name == "sink" {
            &["--user", USER, "--password", PASSWORD, "--plaintext-auth"]
        } else {
            add_user(directory.path(), USER, PASSWORD);
            &["--maildir", "mail", "--allow-plaintext-auth"]
        };
        let listeners = ["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0"];
        let arguments = [&listeners[..], &["--runtime", runtime, "--max-size", "1000"], options].concat();
        let program = Program::start(name, directory.path(), "info", &arguments);
        let large = format!("{TRANSACTION}DATA\r\n{}.\r\n", "0123456\r\n".repeat(200));
        for (listener, client, refused) in [
            (0, "tanstaaftanstaaf\r\n", "command refused command=\"unknown\" reply=500 5.5.1 "),
            (0, "EHLO c\r\nMAIL FROM:<a@b.example>\r\n", "command refused command=\"MAIL\" reply=530 5.7.0 "),
            (0, "EHLO c\r\nAUTH PLAIN AHRpbQB3cm9uZw==\r\n", "authentication failed"),
            (0, "EHLO c\r\nAUTH NTLM\r\n", "authentication failed"),
            (0, "EHLO c\r\nLOGIN\r\nMAIL FROM:a@b@c\r\n", "command refused command=\"MAIL\" reply=501 "),
            (
                0,
                "EHLO c\r\nLOGIN\r\nMAIL FROM:<a@b.example> SIZE=9999\r\n",
                "command refused command=\"MAIL\" reply=552 ",
            ),
            (
                0,
                "EHLO c\r\nLOGIN\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<@>\r\n",
                "recipient refused sender=<a@b.example> reply=501 ",
            ),
            (0, &format!("{TRANSACTION}DATA\r\na\nb\r\n.\r\n"), "octets=1 reply=554 5.6.11 "),
            (0, &large, "message refused login=\"tim\" sender=<a@b.example> recipients=1 octets=1000 reply=552 5.3.4 "),
            (
                0,
                &format!("{TRANSACTION}DATA\r\nhalf a message\r\n"),
                "message given up reason=connection-lost octets=16",
            ),
            (0, "GET / HTTP/1.1\r\n", "command refused command=\"unknown\" reply=554 "),
            (0, "EHLO c\r\nSTARTTLS\r\n", "TLS handshake failed reason=connection-lost"),
            (1, "EHLO c\r\n", "TLS handshake failed reason=not-tls"),
        ] {
            let address = program.address(listener);
            let mut stream = TcpStream::connect(address).expect("the server listens");
            let client = client.replace("LOGIN", LOGIN);
            let peer = stream.local_addr().expect("it is connected");
            stream.write_all(client.as_bytes()).expect("the server reads");
            stream.shutdown(Shutdown::Write).expect("it is connected");
            // Until it has said all. Where the client is not TLS, that may be a reset.
            let _ = stream.read_to_end(&mut Vec::new());
            let connection = format!(" peer={peer} listener={address}}}: ");
            program.stderr.wait(|log| log.lines().any(|line| line.contains(&connection) && line.contains(refused)));
        }
        program.terminate();
        let (_, stdout, stderr) = program.wait();
        for secret in [PASSWORD, "tanstaaftanstaaf", "AHRpbQB3cm9uZw=="] {
            assert_absent(secret, &stdout);
            assert_absent(secret, &stderr);
        }
    }
}

const USER: &str = "tim";
const PASSWORD: &str = "correct horse";
/// `\0tim\0correct horse`.
const LOGIN: &str = "AUTH PLAIN AHRpbQBjb3JyZWN0IGhvcnNl";
const TRANSACTION: &str = "EHLO c\r\nLOGIN\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n";
