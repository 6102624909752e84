//! A running `authenticated_relayer` with one user who can log in by every mechanism.

use std::path::Path;

use tempfile::TempDir;

use super::{Authority, Awkward, Program, assert_absent, maildir, user};

/// A server with the user [`USER`], and a directory with the message [`MESSAGE`] to send and the clients' certificates.
pub(crate) struct Server {
    /// Where the clients run. `mail-cert.pem` is the server's certificate.
    pub(crate) directory: TempDir,
    pub(crate) program: Program,
    token: String,
    wrong_token: String,
}

impl Server {
    /// The server with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = TempDir::new().expect("there is room for a directory");
        std::fs::write(directory.path().join(MESSAGE), Awkward::content()).expect("the directory can be written to");
        let authority = Authority::new();
        authority.write(directory.path());
        for name in [USER, STRANGER] {
            authority.write_client(directory.path(), name);
        }
        let (added, printed) = user(directory.path(), &["add", "--cram-md5", USER], RIGHT);
        assert!(added, "{printed}");
        let (given, printed) = user(directory.path(), &["token", USER], "");
        assert!(given, "{printed}");
        let token = printed.trim().to_owned();
        // As long, and of the same characters.
        let wrong_token = token.chars().rev().collect();
        let arguments = [&["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0"], arguments].concat();
        let program = Program::start("authenticated_relayer", directory.path(), "trace", &arguments);
        Self { directory, program, token, wrong_token }
    }

    /// The server with these mechanisms, separated by commas.
    pub(crate) fn offering(mechanisms: &str) -> Self {
        let authority: &[&str] = if mechanisms.contains("EXTERNAL") { &["--client-ca", "ca.pem"] } else { &[] };
        Self::start(&[&["--mechanisms", mechanisms], authority].concat())
    }

    /// Ends the server, and checks that it has written no password and no token. Returns its log.
    pub(crate) fn stop_without_secrets(self) -> String {
        let (stdout, stderr) = self.program.stop();
        for secret in [RIGHT, WRONG, &self.token, &self.wrong_token] {
            assert_absent(secret, &stdout);
            assert_absent(secret, &stderr);
        }
        stderr
    }

    /// Has a client log in and send, over STARTTLS and over implicit TLS, with each of these mechanisms: each right
    /// login's message arrives, each wrong one's does not.
    pub(crate) fn sends(&self, mechanisms: &[&str], client: impl Fn(&Login<'_>) -> (bool, String)) {
        for mechanism in mechanisms {
            for implicit_tls in [false, true] {
                let before = self.mails().len();
                self.logs_in(mechanism, implicit_tls, &client);
                assert_eq!(self.mails().len(), before + 1, "{mechanism}, implicit TLS: {implicit_tls}");
            }
        }
        self.mails().iter().for_each(|mail| Awkward::assert_delivered(mail));
    }

    /// Has a client log in with the right credential, and with the wrong one.
    pub(crate) fn logs_in(&self, mechanism: &str, implicit_tls: bool, client: impl Fn(&Login<'_>) -> (bool, String)) {
        let (succeeded, failed) = (self.logged(SUCCEEDED, mechanism), self.logged(FAILED, mechanism));

        let (accepted, transcript) = client(&self.login(mechanism, implicit_tls, true));
        let at_once = accepted && !transcript.contains("535 5.7.8");
        assert!(at_once, "{mechanism}, implicit TLS: {implicit_tls}\n{transcript}");
        self.program.stderr.wait(|log| logged(log, SUCCEEDED, mechanism) > succeeded);

        let mails = self.mails().len();
        let (accepted, transcript) = client(&self.login(mechanism, implicit_tls, false));
        assert!(!accepted, "{mechanism}, implicit TLS: {implicit_tls}\n{transcript}");
        let refused = refusals(mechanism).iter().any(|refusal| transcript.contains(refusal));
        assert!(refused, "{mechanism}, implicit TLS: {implicit_tls}\n{transcript}");
        // Some clients try twice.
        self.program.stderr.wait(|log| logged(log, FAILED, mechanism) > failed);
        assert_eq!(self.logged(SUCCEEDED, mechanism), succeeded + 1, "{transcript}");
        assert_eq!(self.mails().len(), mails, "{transcript}");
    }

    /// A login with what the mechanism takes: the right one, or a wrong one.
    pub(crate) fn login<'a>(&'a self, mechanism: &'a str, implicit_tls: bool, right: bool) -> Login<'a> {
        let kind = match mechanism {
            "OAUTHBEARER" | "XOAUTH2" => Kind::Token,
            "EXTERNAL" => Kind::Certificate,
            _ => Kind::Password,
        };
        let secret = match (kind, right) {
            (Kind::Password, true) => RIGHT,
            (Kind::Password, false) => WRONG,
            (Kind::Token, true) => &self.token,
            (Kind::Token, false) => &self.wrong_token,
            (Kind::Certificate, true) => USER,
            (Kind::Certificate, false) => STRANGER,
        };
        let port = self.program.address(usize::from(implicit_tls)).port();
        Login { directory: self.directory.path(), port, implicit_tls, mechanism, kind, secret }
    }

    /// What has been delivered.
    pub(crate) fn mails(&self) -> Vec<Vec<u8>> {
        maildir(&self.directory.path().join("mail"))
    }

    /// Waits until the server has told so often of an event of a mechanism: its log is read on a thread of its own.
    pub(crate) fn wait_until_logged(&self, event: &str, mechanism: &str, times: usize) {
        self.program.stderr.wait(|log| logged(log, event, mechanism) >= times);
        assert_eq!(self.logged(event, mechanism), times);
    }

    /// How often the server has told of an event of a mechanism.
    pub(crate) fn logged(&self, event: &str, mechanism: &str) -> usize {
        logged(&self.program.stderr.so_far(), event, mechanism)
    }
}

/// What a client may see last: the error of the exchange, where it hangs up then instead of awaiting the reply.
fn refusals(mechanism: &str) -> &'static [&'static str] {
    match mechanism {
        // A JSON with the status 401, at which curl hangs up, and lettre, which says only this of it.
        "XOAUTH2" => &["535 5.7.8", "334 eyJzdGF0dXMiOiI0MDEi", "This mechanism does not expect a challenge"],
        _ => &["535 5.7.8"],
    }
}

fn logged(log: &str, event: &str, mechanism: &str) -> usize {
    let lines = log.lines().filter(|line| line.contains(event));
    lines.filter(|line| line.replace('"', "").contains(&format!(" mechanism={mechanism} "))).count()
}

/// One login and one message, as a client is told to send it.
pub(crate) struct Login<'a> {
    /// Where the client runs.
    pub(crate) directory: &'a Path,
    pub(crate) port: u16,
    pub(crate) implicit_tls: bool,
    /// [`ANY`] is the client's own choice.
    pub(crate) mechanism: &'a str,
    pub(crate) kind: Kind,
    /// The password, the token, or what the names of the client's certificate and key begin with.
    secret: &'a str,
}

/// By what a client shows who it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Password,
    Token,
    Certificate,
}

impl Login<'_> {
    /// The password; empty where it is by something else.
    pub(crate) fn password(&self) -> &str {
        if self.kind == Kind::Password { self.secret } else { "" }
    }

    /// The bearer token, if it is by one.
    pub(crate) fn token(&self) -> Option<&str> {
        (self.kind == Kind::Token).then_some(self.secret)
    }

    /// The password or the token.
    pub(crate) fn secret(&self) -> &str {
        if self.kind == Kind::Certificate { "" } else { self.secret }
    }

    /// The files of the client's certificate and of its key, if it is by one.
    pub(crate) fn certificate(&self) -> Option<(String, String)> {
        let name = self.secret;
        (self.kind == Kind::Certificate).then(|| (format!("{name}-cert.pem"), format!("{name}-key.pem")))
    }
}

pub(crate) const USER: &str = "tim";
pub(crate) const MESSAGE: &str = "message.eml";
/// With what shells, URLs and configuration files might stumble over.
pub(crate) const RIGHT: &str = "tan$taaf:4%41711 \\staple";
pub(crate) const WRONG: &str = "wrong$taaf:4%41712 \\staple";
pub(crate) const ANY: &str = "any";
/// Has a certificate, and is no user.
const STRANGER: &str = "eve";
pub(crate) const SUCCEEDED: &str = "authentication succeeded";
pub(crate) const FAILED: &str = "authentication failed";
