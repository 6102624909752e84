//! Mail programs that log in at a server on threads, whose logins go through to a real Dovecot.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use sansmtp::auth::Policy;
use sansmtp::{Answer, Auth, AuthTurn, Config, Envelope, Event, Handler, Session, Verdict};
use sansmtp_authenticators::dovecot::{Dovecot, Exchange};
use sansmtp_threads::{Server as Smtp, Shutdown};
use tempfile::TempDir;

use crate::server::Server;
use crate::support::battery::missing;

/// The handler of the documentation, which also takes mail.
struct Submission {
    exchange: Exchange,
}

impl Handler for Submission {
    type Message = ();

    fn auth(&mut self, session: &Session, turn: AuthTurn) -> Answer {
        self.exchange.turn(session, turn)
    }

    fn message(&mut self, session: &Session, _: &Envelope, (): ()) -> Verdict {
        assert_eq!(session.login(), Some(USER));
        Verdict::Accept
    }

    fn event(&mut self, event: Event<'_>) {
        if let Event::AuthFailed { .. } = event {
            self.exchange.cancel();
        }
    }
}

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Offers one mechanism, in the clear.
    fn offering(dovecot: &Dovecot, mechanism: &str) -> Self {
        let mut auth = dovecot.offer(Auth::without_mechanisms().require_tls(false)).unwrap();
        for other in dovecot.mechanisms().unwrap() {
            if other.name != mechanism {
                auth = auth.exclude(other.name.as_str());
            }
        }
        let auth = auth.policy(mechanism, Policy::new()).pause(Duration::ZERO, Duration::ZERO);
        let config = Config::builder("localhost").auth(auth).auth_required(true).build().unwrap();
        let dovecot = dovecot.clone();
        let smtp =
            Smtp::new(config, move |_| Submission { exchange: dovecot.exchange() }).listen("127.0.0.1:0").unwrap();
        let (address, shutdown) = (smtp.local_addresses()[0], smtp.shutdown_handle());
        Self { address, shutdown, thread: Some(std::thread::spawn(|| smtp.run().unwrap())) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.begin(Duration::ZERO);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Each mechanism with the right password, and with a wrong one, by which nobody gets in.
fn send_by(tool: &str, mechanisms: &[&str], command: impl Fn(SocketAddr, &str, &str, &Path) -> Command) {
    let Some(server) = Server::start() else { return };
    if Command::new(tool).arg("--version").stdout(Stdio::null()).status().is_err() {
        return missing(tool);
    }
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    let directory = TempDir::new().unwrap();
    let message = directory.path().join("message");
    fs::write(&message, "Subject: Greetings\r\n\r\nHello.\r\n").unwrap();
    for mechanism in mechanisms {
        let smtp = Running::offering(&dovecot, mechanism);
        for (password, accepted) in [("tanstaaftanstaaf", true), ("wrong", false)] {
            let mut command = command(smtp.address, mechanism, password, &message);
            let output = command.stdin(fs::File::open(&message).unwrap()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), accepted, "{mechanism} with {password}: {said}");
            assert!(
                accepted || ["535", "denied", "No authentication type succeeded"].iter().any(|end| said.contains(end)),
                "{mechanism}: {said}"
            );
        }
    }
}

#[test]
fn curl() {
    send_by("curl", &["PLAIN", "LOGIN", "CRAM-MD5"], |address, mechanism, password, message| {
        let mut curl = Command::new("curl");
        curl.args(["--no-progress-meter", "--max-time", "30", "--user", &format!("{USER}:{password}")]);
        curl.args(["--login-options", &format!("AUTH={mechanism}"), &format!("smtp://{address}/client.example.com")]);
        curl.args(["--mail-from", "tim@example.org", "--mail-rcpt", "ada@example.com", "--upload-file"]).arg(message);
        curl
    });
}

#[test]
fn msmtp() {
    let mechanisms = ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"];
    send_by("msmtp", &mechanisms, |address, mechanism, password, _| {
        let mut msmtp = Command::new("msmtp");
        msmtp.arg(format!("--host={}", address.ip())).arg(format!("--port={}", address.port()));
        msmtp.arg(format!("--auth={}", mechanism.to_lowercase())).arg(format!("--user={USER}"));
        msmtp.arg(format!("--passwordeval=echo {password}")).args(["--tls=off", "--timeout=30"]);
        msmtp.args(["--from=tim@example.org", "ada@example.com"]);
        msmtp
    });
}

#[test]
fn swaks() {
    send_by("swaks", &["PLAIN", "LOGIN", "CRAM-MD5"], |address, mechanism, password, message| {
        let mut swaks = Command::new("swaks");
        swaks.args(["--server", &address.to_string(), "--auth", mechanism, "--auth-user", USER]);
        swaks.args(["--auth-password", password, "--from", "tim@example.org", "--to", "ada@example.com"]);
        swaks.args(["--timeout", "30", "--data"]).arg(format!("@{}", message.display()));
        swaks
    });
}

const USER: &str = "tim";
