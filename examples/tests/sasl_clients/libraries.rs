//! Libraries: nodemailer and Perl's Authen::SCRAM, by the interpreters of the machine, and lettre, in this process.

use std::path::{Path, PathBuf};
use std::process::Command;

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{SmtpTransport, Transport};

use crate::EVERY_MECHANISM;
use crate::support::{Awkward, Login, MESSAGE, PATIENCE, Server, USER, run, skip, tool};

#[test]
fn lettre() {
    let server = Server::offering(EVERY_MECHANISM);
    server.sends(&["PLAIN", "LOGIN", "XOAUTH2"], |login| {
        let pem = std::fs::read(login.directory.join("mail-cert.pem")).expect("the server has a certificate");
        let tls = TlsParameters::builder("localhost".to_owned())
            .add_root_certificate(Certificate::from_pem(&pem).expect("it is PEM"))
            .build()
            .expect("the parameters are sound");
        let mechanism = match login.mechanism {
            "PLAIN" => Mechanism::Plain,
            "LOGIN" => Mechanism::Login,
            _ => Mechanism::Xoauth2,
        };
        let transport = SmtpTransport::builder_dangerous("localhost")
            .port(login.port)
            .tls(if login.implicit_tls { Tls::Wrapper(tls) } else { Tls::Required(tls) })
            .credentials(Credentials::new(USER.to_owned(), login.secret().to_owned()))
            .authentication(vec![mechanism])
            .timeout(Some(PATIENCE))
            .build();
        let address = |text: &str| text.parse().expect("it is an address");
        let envelope = Envelope::new(Some(address(Awkward::REVERSE_PATH)), vec![address(Awkward::RECIPIENT)])
            .expect("there is a recipient");
        match transport.send_raw(&envelope, &Awkward::content_without_last_line_end()) {
            Ok(reply) => (reply.is_positive(), format!("{reply:?}")),
            Err(error) => (false, error.to_string().replace("permanent error (535): ", "535 ")),
        }
    });
    server.stop_without_secrets();
}

#[test]
fn nodemailer() {
    let Some(node) = tool("node") else { return };
    let Some(installed) = install() else { return };
    let server = Server::offering(EVERY_MECHANISM);
    server.sends(&["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"], |login| send(&node, &installed, login));
    server.stop_without_secrets();
}

/// Every hash of SCRAM; Authen::SCRAM binds no channels.
#[test]
fn authen_scram() {
    let Some(perl) = tool("perl") else { return };
    if !run(Command::new(&perl).args(["-MAuthen::SCRAM::Client", "-MIO::Socket::SSL", "-e1"])).0 {
        return skip("Authen::SCRAM or IO::Socket::SSL of Perl is not installed");
    }
    let server = Server::offering(EVERY_MECHANISM);
    server.sends(&["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"], |login| {
        run(Command::new(&perl).args(["-e", include_str!("perl/send.pl"), &submission(login)]))
    });
    server.stop_without_secrets();
}

/// Has nodemailer send. What it needs to know is a JSON on its command line.
fn send(node: &Path, installed: &Path, login: &Login<'_>) -> (bool, String) {
    run(Command::new(node).current_dir(installed).args(["send.js", &submission(login)]))
}

/// What a script needs to know, as JSON.
fn submission(login: &Login<'_>) -> String {
    let submission = serde_json::json!({
        "port": login.port,
        "implicitTls": login.implicit_tls,
        "certificate": login.directory.join("mail-cert.pem"),
        "mechanism": login.mechanism,
        "user": USER,
        "secret": login.secret(),
        "from": Awkward::REVERSE_PATH,
        "to": Awkward::RECIPIENT,
        "message": login.directory.join(MESSAGE),
        "timeout": PATIENCE.as_secs(),
    });
    submission.to_string()
}

/// Installs nodemailer below the target directory, where it is not there yet, and returns where.
fn install() -> Option<PathBuf> {
    // TARGET/tmp
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nodemailer");
    std::fs::create_dir_all(&directory).expect("the target directory can be written to");
    for (name, content) in FILES {
        std::fs::write(directory.join(name), content).expect("the target directory can be written to");
    }
    // npm writes down what it has installed when it is done.
    let wanted = integrity(&directory.join("package-lock.json")).expect("the lock file is sound");
    if integrity(&directory.join("node_modules/.package-lock.json")).as_ref() == Some(&wanted) {
        return Some(directory);
    }
    let npm = tool("npm")?;
    let (done, printed) = run(Command::new(npm).current_dir(&directory).args(["ci", "--ignore-scripts", "--no-audit"]));
    if !done {
        skip(&format!("npm cannot install nodemailer:\n{printed}"));
        return None;
    }
    Some(directory)
}

/// The hash of the nodemailer in a lock file.
fn integrity(lock: &Path) -> Option<String> {
    let lock: serde_json::Value = serde_json::from_slice(&std::fs::read(lock).ok()?).ok()?;
    Some(lock.get("packages")?.get("node_modules/nodemailer")?.get("integrity")?.as_str()?.to_owned())
}

const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("nodemailer/package.json")),
    ("package-lock.json", include_str!("nodemailer/package-lock.json")),
    ("send.js", include_str!("nodemailer/send.js")),
];
