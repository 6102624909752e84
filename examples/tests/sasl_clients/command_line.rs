//! curl, msmtp, swaks, and Python's smtplib.

use std::path::Path;
use std::process::Command;

use crate::EVERY_MECHANISM;
use crate::support::{ANY, Awkward, Login, MESSAGE, Server, USER, run, skip, tool};

/// curl has no SCRAM where it is built without GNU SASL, as Debian's is.
#[test]
fn curl() {
    let Some(curl) = tool("curl") else { return };
    let server = Server::offering(EVERY_MECHANISM);
    server.sends(&["PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER", "EXTERNAL"], |login| by_curl(&curl, login));
    // Without a name, curl says "=" behind the empty challenge.
    server.sends(&["EXTERNAL"], |login| by_curl_as("", &curl, login));
    server.stop_without_secrets();
    // With a token, curl 7 takes OAUTHBEARER where that is offered, whatever the login options say.
    let server = Server::offering("XOAUTH2,PLAIN");
    server.sends(&["XOAUTH2"], |login| by_curl(&curl, login));
    server.stop_without_secrets();
}

/// msmtp 1.8.23, which Debian 12 has, does not know the mechanisms that bind.
#[test]
fn msmtp() {
    let Some(msmtp) = tool("msmtp") else { return };
    let (_, version) = run(Command::new(&msmtp).arg("--version"));
    let binds = version.contains("scram-sha-256-plus");
    let server = Server::offering(EVERY_MECHANISM);
    let scram = if binds { ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"] } else { ["SCRAM-SHA-256", "SCRAM-SHA-1"] };
    for mechanisms in [&scram[..], &["PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "EXTERNAL"]] {
        server.sends(mechanisms, |login| by_msmtp(&msmtp, login));
    }
    server.stop_without_secrets();
}

/// swaks has PLAIN, LOGIN and, by Perl's `Digest::HMAC_MD5`, CRAM-MD5.
#[test]
fn swaks() {
    let Some(swaks) = tool("swaks") else { return };
    let (_, supported) = run(Command::new(&swaks).arg("--support"));
    for feature in ["TLS", "AUTH CRAM-MD5"] {
        if !supported.contains(&format!("=== {feature} supported")) {
            return skip(&format!("swaks has no {feature} here"));
        }
    }
    let server = Server::offering(EVERY_MECHANISM);
    server.sends(&["PLAIN", "LOGIN", "CRAM-MD5"], |login| by_swaks(&swaks, login));
    server.stop_without_secrets();
}

#[test]
fn smtplib() {
    let Some(python) = tool("python3") else { return };
    let server = Server::offering(EVERY_MECHANISM);
    server.sends(&["PLAIN", "LOGIN", "CRAM-MD5"], |login| by_smtplib(&python, login));
    server.stop_without_secrets();
}

/// What most people do: they name no mechanism, neither to the server nor to the client.
#[test]
fn by_the_client_s_own_choice() {
    let clients: [(&str, Send); 4] =
        [("curl", by_curl), ("msmtp", by_msmtp), ("swaks", by_swaks), ("python3", by_smtplib)];
    let server = Server::start(&[]);
    for (name, send) in clients {
        let Some(client) = tool(name) else { continue };
        for implicit_tls in [false, true] {
            let before = server.mails().len();
            let (sent, transcript) = send(&client, &server.login(ANY, implicit_tls, true));
            assert!(sent && server.mails().len() == before + 1, "{name}\n{transcript}");
            let (sent, transcript) = send(&client, &server.login(ANY, implicit_tls, false));
            assert!(!sent && transcript.contains("535 5.7.8"), "{name}\n{transcript}");
            assert_eq!(server.mails().len(), before + 1, "{name}\n{transcript}");
        }
    }
    server.mails().iter().for_each(|mail| Awkward::assert_delivered(mail));
    server.stop_without_secrets();
}

/// Has a client, which is at that path, log in and send, and returns whether it was sent and what was said.
type Send = fn(&Path, &Login<'_>) -> (bool, String);

fn by_curl(curl: &Path, login: &Login<'_>) -> (bool, String) {
    by_curl_as(USER, curl, login)
}

fn by_curl_as(name: &str, curl: &Path, login: &Login<'_>) -> (bool, String) {
    let scheme = if login.implicit_tls { "smtps" } else { "smtp" };
    let mechanism = if login.mechanism == ANY { "*" } else { login.mechanism };
    let mut command = Command::new(curl);
    command
        .current_dir(login.directory)
        .args(["--verbose", "--silent", "--show-error", "--max-time", "60", "--ssl-reqd", "--cacert"])
        .args(["mail-cert.pem", "--url", &format!("{scheme}://localhost:{}", login.port)])
        .args(["--user", &format!("{name}:{}", login.password())])
        .args(["--login-options", &format!("AUTH={mechanism}")])
        .args(["--mail-from", Awkward::REVERSE_PATH, "--mail-rcpt", Awkward::RECIPIENT])
        .args(["--upload-file", MESSAGE]);
    if let Some(token) = login.token() {
        command.args(["--oauth2-bearer", token]);
    }
    if let Some((certificate, key)) = login.certificate() {
        command.args(["--cert", &certificate, "--key", &key]);
    }
    run(&mut command)
}

fn by_msmtp(msmtp: &Path, login: &Login<'_>) -> (bool, String) {
    let mechanism = if login.mechanism == ANY { "on".to_owned() } else { login.mechanism.to_lowercase() };
    // msmtp reads passwords from its configuration only.
    let mut configuration = format!(
        "account default\nhost localhost\nport {}\ntimeout 60\ntls on\ntls_starttls {}\n\
         tls_trust_file mail-cert.pem\nauth {mechanism}\nuser {USER}\n",
        login.port,
        if login.implicit_tls { "off" } else { "on" },
    );
    match login.certificate() {
        Some((certificate, key)) => {
            private(&login.directory.join(&key));
            configuration.push_str(&format!("tls_cert_file {certificate}\ntls_key_file {key}\n"));
        }
        None => configuration.push_str(&format!("password {}\n", login.secret())),
    }
    let path = login.directory.join("msmtprc");
    std::fs::write(&path, configuration).expect("the directory can be written to");
    private(&path);
    let message = std::fs::File::open(login.directory.join(MESSAGE)).expect("the message is there");
    run(Command::new(msmtp)
        .current_dir(login.directory)
        .args(["--file", "msmtprc", "--debug", "--from", Awkward::REVERSE_PATH, "--", Awkward::RECIPIENT])
        .stdin(message))
}

fn by_swaks(swaks: &Path, login: &Login<'_>) -> (bool, String) {
    let content = Awkward::content_without_last_line_end();
    std::fs::write(login.directory.join("swaks.eml"), content).expect("the directory can be written to");
    let tls = if login.implicit_tls { "--tls-on-connect" } else { "--tls" };
    run(Command::new(swaks)
        .current_dir(login.directory)
        .args(["--server", "localhost", "--port", &login.port.to_string(), "--timeout", "60s"])
        .args([tls, "--tls-verify", "--tls-ca-path", "mail-cert.pem"])
        .args(["--auth", login.mechanism, "--auth-user", USER, "--auth-password", login.password()])
        .args(["--from", Awkward::REVERSE_PATH, "--to", Awkward::RECIPIENT, "--data", "swaks.eml"]))
}

fn by_smtplib(python: &Path, login: &Login<'_>) -> (bool, String) {
    let security = if login.implicit_tls { "tls" } else { "starttls" };
    run(Command::new(python)
        .current_dir(login.directory)
        .args(["-c", SMTPLIB_CLIENT, &login.port.to_string(), security, "mail-cert.pem"])
        .args([login.mechanism, USER, login.password(), MESSAGE]))
}

/// Lets nobody else read a file.
#[cfg(unix)]
fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

#[cfg(not(unix))]
fn private(_: &Path) {}

const SMTPLIB_CLIENT: &str = include_str!("../support/smtplib_client.py");
