//! The authenticator over a file of `user:hash` lines, as the tools that people have write them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use sansmtp_authenticators::passwd::{Passwd, PasswdError, WrongLine};
use sansmtp_authenticators::stored::Stored;
use sansmtp_authenticators::{Answers, Authenticator};
use support::battery::{Backend, USERS, battery, missing};
use support::login::Door;
use support::logs::collect_here;
use support::stores::stored;

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let file = Self { _directory: directory, path };
        file.replace(lines);
        file
    }

    /// As editors do, and whoever is careful.
    fn replace(&self, lines: &str) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, lines).unwrap();
        std::fs::rename(&new, &self.path).unwrap();
    }

    fn open(&self) -> Result<Stored<Passwd>, PasswdError> {
        Passwd::open(&self.path).map(stored)
    }
}

/// The users' hashes are bcrypt's, by `htpasswd`.
impl Backend for File {
    fn start() -> Option<Self> {
        let file = Self::new("");
        for (name, password) in USERS {
            htpasswd(&file.path, name, password)?;
        }
        Some(file)
    }

    fn door(&self) -> Arc<dyn Door> {
        Arc::new(self.open().unwrap())
    }
}

battery!(File);

/// Has Apache's tool add a line, with a bcrypt hash.
fn htpasswd(file: &Path, name: &str, password: &str) -> Option<()> {
    let arguments = ["-i", "-B", "-C", "5", &file.to_string_lossy(), name];
    run("htpasswd", &arguments, Some(password)).map(drop)
}

/// What a tool prints. `None`, after the reason was printed, where it is not installed.
fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        missing(program);
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
}

const PASSWORD: &str = "pässwörd: \"x\"";

/// Whoever has this hash, as it is, can log in, by PLAIN.
fn opens(hash: &str) {
    let file = File::new(&format!("tim:{hash}\ntom:{hash}:1000:1000:Tom:/home/tom\nann:!{hash}\n"));
    let users = file.open().unwrap_or_else(|error| panic!("{hash}: {error}"));
    for name in ["tim", "tom"] {
        assert_eq!(users.log_in(name, PASSWORD), 235, "{hash}");
        assert_eq!(users.log_in(name, "password"), 535, "{hash}");
    }
    assert_eq!(users.log_in("ann", PASSWORD), 535, "{hash}");
    assert_eq!(users.log_in("nobody", PASSWORD), 535, "{hash}");
}

#[test]
fn what_htpasswd_writes() {
    let file = File::new("");
    if htpasswd(&file.path, "tim", PASSWORD).is_some() {
        let line = std::fs::read_to_string(&file.path).unwrap();
        assert!(line.starts_with("tim:$2y$05$"), "{line}");
        opens(line.trim_end().trim_start_matches("tim:"));
    }
}

#[test]
fn what_mkpasswd_writes() {
    for method in ["yescrypt", "sha-512", "sha-256", "bcrypt", "bcrypt-a"] {
        let Some(hash) = run("mkpasswd", &["-s", "-m", method], Some(PASSWORD)) else { return };
        opens(&hash);
    }
    // What it makes without being told.
    let Some(hash) = run("mkpasswd", &["-s"], Some(PASSWORD)) else { return };
    opens(&hash);
    opens(&format!("{{CRYPT}}{hash}"));
    let Some(hash) = run("mkpasswd", &["-s", "-m", "sha-512", "-R", "1234"], Some(PASSWORD)) else { return };
    assert!(hash.starts_with("$6$rounds=1234$"), "{hash}");
    opens(&hash);
}

#[test]
fn what_doveadm_writes() {
    for scheme in [
        "ARGON2ID",
        "ARGON2I",
        "BLF-CRYPT",
        "CRAM-MD5",
        "CRYPT",
        "PBKDF2",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "SHA256-CRYPT",
        "SHA512-CRYPT",
    ] {
        // Dovecot does not prepare it; here it is one that SASLprep leaves as it is.
        let Some(hash) = run("doveadm", &["pw", "-s", scheme, "-p", PASSWORD], None) else { return };
        assert!(hash.starts_with(&format!("{{{scheme}}}")), "{hash}");
        opens(&hash);
        opens(&hash.replacen(scheme, &scheme.to_lowercase(), 1));
    }
    for scheme in ["PLAIN", "SHA512", "SSHA", "MD5-CRYPT", "DES-CRYPT", "LDAP-MD5"] {
        let Some(hash) = run("doveadm", &["pw", "-s", scheme, "-p", PASSWORD], None) else { return };
        let file = File::new(&format!("tim:{hash}\ntom:{BCRYPT}\n"));
        let (users, log) = collect_here(|| file.open().unwrap());
        assert!(log.contains("line 1 cannot be used") && !log.contains(&hash), "{scheme}: {log}");
        assert_eq!((users.log_in("tim", PASSWORD), users.log_in("tom", "right")), (454, 235), "{scheme}");
    }
}

/// PostgreSQL's own `SCRAM-SHA-256$…`, made by the server as for `CREATE ROLE … PASSWORD`.
#[test]
fn what_postgresql_writes() {
    let Some(hash) = support::scram_secret::of(PASSWORD) else { return };
    assert!(hash.starts_with("SCRAM-SHA-256$4096:"), "{hash}");
    opens(&hash);
    let file = File::new(&format!("tim:{hash}\n"));
    let users = file.open().unwrap();
    assert_eq!(users.answers("SCRAM-SHA-256"), Answers::ForAll);
    assert_eq!(users.answers("scram-sha-256-plus"), Answers::ForAll);
    assert_eq!(users.answers("SCRAM-SHA-1"), Answers::ForNone);
}

/// In the forms that have no tool in Debian: made by Python's `hashlib` and `argon2`.
#[test]
fn what_other_libraries_write() {
    opens_hashlib("$scrypt$ln=14,r=8,p=1$", "hashlib.scrypt(p, salt=s, n=2**14, r=8, p=1, dklen=32)");
    opens_hashlib("$pbkdf2-sha1$i=1234,l=20$", "hashlib.pbkdf2_hmac('sha1', p, s, 1234)");
    opens_hashlib("$pbkdf2$i=1234$", "hashlib.pbkdf2_hmac('sha1', p, s, 1234)");
    opens_hashlib("$pbkdf2-sha256$i=5000$", "hashlib.pbkdf2_hmac('sha256', p, s, 5000)");
    opens_hashlib("$pbkdf2-sha512$i=5000,l=64$", "hashlib.pbkdf2_hmac('sha512', p, s, 5000)");
}

fn opens_hashlib(parameters: &str, expression: &str) {
    let script = format!(
        "import base64, hashlib, sys\n\
         p, s = sys.stdin.buffer.read(), b'sixteen octets..'\n\
         b = lambda octets: base64.b64encode(octets).decode().rstrip('=')\n\
         print(b(s) + '$' + b({expression}))"
    );
    if let Some(rest) = run("python3", &["-c", &script], Some(PASSWORD)) {
        opens(&format!("{parameters}{rest}"));
    }
}

#[test]
fn a_change_holds_from_the_next_login_on() {
    let file = File::new(&format!("# nobody yet\n\ntim:{BCRYPT}\r\n"));
    let (users, log) = collect_here(|| file.open().unwrap());
    #[cfg(unix)]
    assert!(log.contains("everybody on this machine can read"), "{log}");
    assert_eq!(users.log_in("tim", "right"), 235);
    assert_eq!(users.log_in("tom", "right"), 535);
    file.replace(&format!("tom:{BCRYPT}"));
    let (codes, log) = collect_here(|| (users.log_in("tim", "right"), users.log_in("tom", "right")));
    assert_eq!(codes, (535, 235));
    assert_eq!(log.matches("read the changed file").count(), 1, "{log}");
    // In place, as long as before, within the same tick of the file system's clock or not.
    std::fs::write(&file.path, format!("tum:{BCRYPT}")).unwrap();
    let later = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    std::fs::File::options().write(true).open(&file.path).unwrap().set_modified(later).unwrap();
    assert_eq!((users.log_in("tom", "right"), users.log_in("tum", "right")), (535, 235));
}

#[test]
fn a_broken_line_is_told_by_its_number_and_keeps_out_whom_it_names() {
    let file = File::new(&format!("tim:{BCRYPT}\n"));
    let users = file.open().unwrap();
    let broken = format!("tim:{BCRYPT}\n# comment\ntom:sEcReT{BCRYPT}\n");
    file.replace(&broken);
    let (codes, log) =
        collect_here(|| (users.log_in("tim", "right"), users.log_in("tom", "right"), users.log_in("tim", "x")));
    assert_eq!(codes, (235, 454, 535));
    // Once, not at each login, and for each login of the one whom it names.
    assert_eq!(log.matches("line 3 cannot be used").count(), 1, "{log}");
    assert_eq!(log.matches("error=line 3: ").count(), 1, "{log}");
    assert!(!log.contains("sEcReT") && !log.contains("tom") && !log.contains("$2"), "{log}");
    let (again, log) = collect_here(|| file.open().unwrap());
    assert_eq!((again.log_in("tim", "right"), log.matches("line 3 cannot be used").count()), (235, 1), "{log}");
    // No file of users at all.
    file.replace("-----BEGIN CERTIFICATE-----\n");
    let (code, log) = collect_here(|| users.log_in("tim", "right"));
    assert_eq!((code, log.matches("cannot use the changed file").count()), (235, 1), "{log}");
    assert!(matches!(file.open(), Err(PasswdError::Line { number: 1, wrong: WrongLine::NoColon })));
    // Gone, and back again.
    std::fs::remove_file(&file.path).unwrap();
    let (code, log) = collect_here(|| users.log_in("tim", "right"));
    assert_eq!((code, log.matches("cannot use the changed file").count()), (235, 1), "{log}");
    assert!(matches!(file.open(), Err(PasswdError::File(_))));
    file.replace(&broken.replace("sEcReT", ""));
    assert_eq!(users.log_in("tom", "right"), 235);
}

#[test]
fn whoever_logs_in_while_it_changes_finds_a_whole_file() {
    let padding = "x".repeat(2_000);
    let lines = |who: &str| {
        let others: String = (0..500).map(|n| format!("{who}{n}:{BCRYPT}:{padding}\n")).collect();
        format!("{others}last:{BCRYPT}\n")
    };
    let file = File::new(&lines("a"));
    let users = file.open().unwrap();
    std::thread::scope(|scope| {
        let log_in = || (0..25).all(|_| users.log_in("last", "right") == 235);
        let logins: Vec<_> = (0..4).map(|_| scope.spawn(log_in)).collect();
        for round in 0..20 {
            file.replace(&lines(if round % 2 == 0 { "b" } else { "a" }));
            users.log_in("a1", "right");
        }
        assert!(logins.into_iter().all(|login| login.join().unwrap()));
    });
    assert_eq!((users.log_in("a499", "right"), users.log_in("b499", "right")), (235, 535));
}

#[test]
fn what_is_no_file_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Passwd::open(directory.path()), Err(PasswdError::NoFile)));
    assert!(matches!(Passwd::open("/dev/zero"), Err(PasswdError::NoFile)));
    assert!(matches!(Passwd::open(directory.path().join("none")), Err(PasswdError::File(_))));
}

/// Everybody's, some's, or nobody's: it decides what a server should offer.
#[test]
fn what_is_answered_is_what_there_is() {
    let scram = "SCRAM-SHA-256$1:c2FsdHNhbHRzYWx0c2FsdA==$\
                 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let answers = |lines: &str, mechanism: &str| File::new(lines).open().unwrap().answers(mechanism);
    let (all, some) = (format!("a:{scram}\nb:{scram}\nc:!{BCRYPT}\nd:*\n"), format!("a:{scram}\nb:{BCRYPT}\n"));
    assert_eq!(answers(&all, "SCRAM-SHA-256"), Answers::ForAll);
    assert_eq!(answers(&some, "SCRAM-SHA-256"), Answers::ForSome);
    assert_eq!(answers(&some, "SCRAM-SHA-512"), Answers::ForNone);
    assert_eq!(answers("", "SCRAM-SHA-256"), Answers::ForNone);
    for mechanism in ["plain", "LOGIN", "EXTERNAL"] {
        assert_eq!(answers(&some, mechanism), Answers::ForAll);
    }
    for mechanism in ["CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "ANONYMOUS", "NTLM"] {
        assert_eq!(answers(&some, mechanism), Answers::ForNone);
    }
}

/// Of "right".
const BCRYPT: &str = "$2y$04$OZ0HwRiCGcfHu7.c2HWgaOT8OFfGADGqd.g9uc40LXGCfwqVYnSsa";
