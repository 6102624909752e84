//! curl, swaks, Python's smtplib and msmtp against the running `authenticated_relayer`: each logs in with PLAIN and
//! LOGIN, over STARTTLS and over implicit TLS, with the right password and a wrong one. The server logs at `trace`
//! all the while, and no password may be in what it writes.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Awkward, Client, Program, add_user, assert_absent, example, maildir, run, skip, tool};
use tempfile::TempDir;

/// One login and one message, as a client is told to send it.
struct Submission<'a> {
    directory: &'a Path,
    port: String,
    implicit_tls: bool,
    mechanism: &'a str,
    password: &'a str,
}

#[test]
fn curl() {
    let Some(curl) = tool("curl") else { return };
    every_login(|submission| {
        let scheme = if submission.implicit_tls { "smtps" } else { "smtp" };
        run(Command::new(&curl)
            .current_dir(submission.directory)
            .args(["--verbose", "--silent", "--show-error", "--max-time", "60", "--ssl-reqd", "--cacert"])
            .args(["mail-cert.pem", "--url", &format!("{scheme}://localhost:{}", submission.port)])
            .args(["--user", &format!("{USER}:{}", submission.password)])
            .args(["--login-options", &format!("AUTH={}", submission.mechanism)])
            .args(["--mail-from", Awkward::REVERSE_PATH, "--mail-rcpt", Awkward::RECIPIENT])
            .args(["--upload-file", MESSAGE]))
    });
}

#[test]
fn swaks() {
    let Some(swaks) = tool("swaks") else { return };
    if !run(Command::new(&swaks).arg("--support")).1.contains("=== TLS supported") {
        return skip("swaks cannot speak TLS here");
    }
    every_login(|submission| {
        // swaks adds a line end to what it reads.
        let content = Awkward::content();
        let content = content.strip_suffix(b"\r\n").expect("it ends a line");
        std::fs::write(submission.directory.join("swaks.eml"), content).expect("the directory can be written to");
        let tls = if submission.implicit_tls { "--tls-on-connect" } else { "--tls" };
        run(Command::new(&swaks)
            .current_dir(submission.directory)
            .args(["--server", "localhost", "--port", &submission.port, "--timeout", "60s"])
            .args([tls, "--tls-verify", "--tls-ca-path", "mail-cert.pem"])
            .args(["--auth", submission.mechanism, "--auth-user", USER, "--auth-password", submission.password])
            .args(["--from", Awkward::REVERSE_PATH, "--to", Awkward::RECIPIENT, "--data", "swaks.eml"]))
    });
}

#[test]
fn smtplib() {
    let Some(python) = tool("python3") else { return };
    every_login(|submission| {
        let security = if submission.implicit_tls { "tls" } else { "starttls" };
        run(Command::new(&python)
            .current_dir(submission.directory)
            .args(["-c", SMTPLIB_CLIENT, &submission.port, security, "mail-cert.pem"])
            .args([submission.mechanism, USER, submission.password, MESSAGE]))
    });
}

#[test]
fn msmtp() {
    let Some(msmtp) = tool("msmtp") else { return };
    every_login(|submission| {
        // msmtp reads passwords from its configuration only.
        let configuration = format!(
            "account default\nhost localhost\nport {}\ntimeout 60\ntls on\ntls_starttls {}\n\
             tls_trust_file mail-cert.pem\nauth {}\nuser {USER}\npassword {}\n",
            submission.port,
            if submission.implicit_tls { "off" } else { "on" },
            submission.mechanism.to_lowercase(),
            submission.password,
        );
        let path = submission.directory.join("msmtprc");
        std::fs::write(&path, configuration).expect("the directory can be written to");
        private(&path);
        let message = std::fs::File::open(submission.directory.join(MESSAGE)).expect("the message is there");
        run(Command::new(&msmtp)
            .current_dir(submission.directory)
            .args(["--file", "msmtprc", "--debug", "--from", Awkward::REVERSE_PATH, "--", Awkward::RECIPIENT])
            .stdin(message))
    });
}

/// What the program prints at its first start is what users type first.
#[test]
fn the_lines_of_the_first_start_send_a_mail_as_they_are() {
    let Some(_) = tool("curl") else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    let server = Program::start("authenticated_relayer", directory.path(), "trace", &["--listen", "127.0.0.1:0"]);
    let printed = server.stdout.so_far();
    let password = printed.lines().find_map(|line| line.trim().strip_prefix("password ")).expect("it is shown").trim();

    let mut expected = 0;
    for (name, first_word) in [("curl", "    printf "), ("swaks", "    swaks ")] {
        let Some(_) = tool(name) else { continue };
        let start = printed.find(first_word).expect("the command is printed");
        let command = printed.get(start..).and_then(|rest| rest.split("\n\n").next()).expect("and ends");
        let (sent, transcript) = run(Command::new("sh").args(["-c", command]).current_dir(directory.path()));
        assert!(sent, "{command}\n{transcript}");
        expected += 1;
        let mails = maildir(&directory.path().join("mail"));
        assert_eq!(mails.len(), expected, "{transcript}");
        let it_works = |mail: &Vec<u8>| mail.windows(9).any(|window| window == b"It works.");
        assert!(mails.iter().all(it_works), "{transcript}");
    }

    let password = password.to_owned();
    let (stdout, stderr) = server.stop();
    assert!(stderr.contains("mechanism=PLAIN"), "{stderr}");
    assert_absent(&password, &stderr);
    let lines_with_it = stdout.lines().filter(|line| line.contains(&password)).count();
    assert_eq!(lines_with_it, 3, "shown once, and in the two commands: {stdout}");

    // The second start has nothing to tell.
    let server = Program::start("authenticated_relayer", directory.path(), "trace", &["--listen", "127.0.0.1:0"]);
    let (stdout, _) = server.stop();
    assert!(stdout.lines().all(|line| line.starts_with("listening on ")), "{stdout}");
}

#[test]
fn without_tls_auth_is_not_offered_and_gets_538() {
    let server = server(&[]);
    let mut client = Client::greet(server.program.address(0)).expect("the server talks");
    let extensions = client.command("EHLO client.example").expect("the server talks");
    assert!(!extensions.contains("AUTH") && extensions.contains("STARTTLS"), "{extensions}");
    for password in [RIGHT, WRONG] {
        let reply = client.auth_plain(USER, password).expect("the server talks");
        assert!(reply.starts_with("538 5.7.11 "), "{reply}");
    }
    let reply = client.command("AUTH LOGIN").expect("the server talks");
    assert!(reply.starts_with("538 5.7.11 "), "{reply}");
    let reply = client.command("MAIL FROM:<tim@example.org>").expect("the server talks");
    assert!(reply.starts_with("530 5.7.0 "), "{reply}");

    if let Some(python) = tool("python3") {
        let script = "import base64, smtplib, sys\n\
            with smtplib.SMTP('localhost', int(sys.argv[1]), timeout=60) as smtp:\n\
            \x20   smtp.ehlo()\n\
            \x20   print('offered' if smtp.has_extn('auth') else 'not offered')\n\
            \x20   print(smtp.docmd('AUTH', 'PLAIN ' + base64.b64encode(sys.argv[2].encode()).decode())[0])\n\
            \x20   try: smtp.login('tim', 'x')\n\
            \x20   except smtplib.SMTPNotSupportedError: print('not supported')\n";
        let port = server.program.address(0).port().to_string();
        // Python's argument cannot hold the NUL of PLAIN; before TLS it makes no difference.
        let (done, printed) = run(Command::new(python).args(["-c", script, &port, RIGHT]));
        assert!(done && printed == "not offered\n538\nnot supported\n", "{printed}");
    }
    if let Some(curl) = tool("curl") {
        let (done, printed) = run(Command::new(curl)
            .current_dir(server.directory.path())
            .args(["--verbose", "--silent", "--url", &format!("smtp://{}", server.program.address(0))])
            .args(["--user", &format!("{USER}:{RIGHT}"), "--mail-from", Awkward::REVERSE_PATH])
            .args(["--mail-rcpt", Awkward::RECIPIENT, "--upload-file", MESSAGE]));
        assert!(!done && !printed.contains("> AUTH"), "{printed}");
    }
    assert!(maildir(&server.directory.path().join("mail")).is_empty());
    server.stop_without_passwords();
}

#[test]
fn plaintext_auth_is_offered_where_it_was_allowed() {
    let server = server(&["--allow-plaintext-auth"]);
    let mut client = Client::greet(server.program.address(0)).expect("the server talks");
    let reply = client.auth_plain(USER, WRONG).expect("the server talks");
    assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    let reply = client.auth_plain("nobody", RIGHT).expect("the server talks");
    assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    let reply = client.auth_plain(USER, RIGHT).expect("the server talks");
    assert!(reply.starts_with("235 2.7.0 "), "{reply}");

    if let Some(python) = tool("python3") {
        let port = server.program.address(0).port().to_string();
        for mechanism in ["any", "PLAIN", "LOGIN"] {
            let (sent, printed) = run(Command::new(&python).current_dir(server.directory.path()).args([
                "-c",
                SMTPLIB_CLIENT,
                &port,
                "clear",
                "mail-cert.pem",
                mechanism,
                USER,
                RIGHT,
                MESSAGE,
            ]));
            assert!(sent, "{printed}");
        }
        let mails = maildir(&server.directory.path().join("mail"));
        assert_eq!(mails.len(), 3);
        for mail in mails {
            assert!(mail.ends_with(&Awkward::content()));
            assert!(String::from_utf8_lossy(&mail).contains(" with ESMTPA id "));
        }
    }
    server.stop_without_passwords();
}

#[test]
fn users_are_added_listed_changed_and_deleted() {
    let server = server(&["--allow-plaintext-auth"]);
    let directory = server.directory.path();
    let user = |arguments: &[&str], password: &str| {
        let (done, printed) = support::user(directory, arguments, password);
        assert_absent(RIGHT, &printed);
        (done, printed)
    };
    let log_in = |name: &str, password: &str| {
        Client::greet(server.program.address(0))
            .and_then(|mut client| client.auth_plain(name, password))
            .expect("the server talks")
    };

    assert_eq!(user(&["add", "ann"], RIGHT), (true, String::new()));
    let (added, printed) = user(&["add", "ann"], RIGHT);
    assert!(!added && printed.contains("\"ann\" exists already"), "{printed}");
    let (added, printed) = user(&["add", "bob"], "");
    assert!(!added && printed.contains("the password is empty"), "{printed}");
    assert_eq!(user(&["list"], ""), (true, "ann\ntim\n".to_owned()));
    assert!(log_in("ann", RIGHT).starts_with("235 "));

    // The running server knows at once.
    assert_eq!(user(&["passwd", "ann"], "another password"), (true, String::new()));
    assert!(log_in("ann", RIGHT).starts_with("535 5.7.8 "));
    assert!(log_in("ann", "another password").starts_with("235 "));
    assert_eq!(user(&["disable", "ann"], ""), (true, String::new()));
    assert_eq!(user(&["list"], ""), (true, "ann (disabled)\ntim\n".to_owned()));
    assert!(log_in("ann", "another password").starts_with("5"));
    assert_eq!(user(&["enable", "ann"], ""), (true, String::new()));
    assert!(log_in("ann", "another password").starts_with("235 "));
    assert_eq!(user(&["delete", "ann"], ""), (true, String::new()));
    assert!(log_in("ann", "another password").starts_with("535 5.7.8 "));
    for action in ["delete", "passwd", "disable"] {
        let (done, printed) = user(&[action, "ann"], RIGHT);
        assert!(!done && printed.contains("there is no user \"ann\""), "{printed}");
    }
    server.stop_without_passwords();
}

#[test]
fn help_tells_the_options() {
    let relayer = example("authenticated_relayer");
    let (done, printed) = run(Command::new(&relayer).arg("--help"));
    assert!(done);
    let options =
        ["--listen-tls <ADDR>", "--users <FILE>", "--maildir <DIR>", "--relay <URL>", "--mx", "--spool <DIR>"];
    for option in options {
        assert!(printed.contains(option), "{option} is missing: {printed}");
    }
    let (done, printed) = run(Command::new(&relayer).args(["user", "--help"]));
    assert!(done && ["add", "passwd", "delete", "list"].iter().all(|action| printed.contains(action)), "{printed}");
    let (done, printed) = run(Command::new(example("sink")).arg("--help"));
    assert!(done && printed.contains("--save <DIR>"), "{printed}");

    // Nobody should give passwords away by accident.
    let arguments = ["--listen", "0.0.0.0:0", "--allow-plaintext-auth"];
    let (done, printed) = run(Command::new(&relayer).args(arguments));
    assert!(!done && printed.contains("--i-know"), "{printed}");
}

/// A server with one user, and a directory with a message to send.
struct Server {
    directory: TempDir,
    program: Program,
}

fn server(arguments: &[&str]) -> Server {
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), USER, RIGHT);
    std::fs::write(directory.path().join(MESSAGE), Awkward::content()).expect("the directory can be written to");
    let arguments = [&["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0"], arguments].concat();
    let program = Program::start("authenticated_relayer", directory.path(), "trace", &arguments);
    Server { directory, program }
}

impl Server {
    /// Ends the server, and checks that it has written no password. Returns its log.
    fn stop_without_passwords(self) -> String {
        let (stdout, stderr) = self.program.stop();
        for password in [RIGHT, WRONG] {
            assert_absent(password, &stdout);
            assert_absent(password, &stderr);
        }
        stderr
    }
}

/// Has a client log in and send in every way: each right login's message arrives, each wrong one's does not.
fn every_login(client: impl Fn(&Submission<'_>) -> (bool, String)) {
    let server = server(&[]);
    let mail = server.directory.path().join("mail");
    let mut arrived = 0;
    for mechanism in ["PLAIN", "LOGIN"] {
        for implicit_tls in [false, true] {
            let port = server.program.address(usize::from(implicit_tls)).port().to_string();
            let submission =
                Submission { directory: server.directory.path(), port, implicit_tls, mechanism, password: RIGHT };
            let (sent, transcript) = client(&submission);
            assert!(sent, "{mechanism}, implicit TLS: {implicit_tls}\n{transcript}");
            arrived += 1;
            assert_eq!(maildir(&mail).len(), arrived, "{transcript}");

            let (sent, transcript) = client(&Submission { password: WRONG, ..submission });
            assert!(!sent && transcript.contains("535 5.7.8"), "{mechanism}, {implicit_tls}\n{transcript}");
        }
    }
    let mails = maildir(&mail);
    assert_eq!(mails.len(), arrived);
    mails.iter().for_each(|mail| Awkward::assert_delivered(mail));

    let log = server.stop_without_passwords();
    for mechanism in ["PLAIN", "LOGIN"] {
        let logged = |event: &str| {
            let lines = log.lines().filter(|line| line.contains(event));
            lines.filter(|line| line.replace('"', "").contains(&format!(" mechanism={mechanism} "))).count()
        };
        assert_eq!(logged("authentication succeeded"), 2, "{log}");
        assert_eq!(logged("authentication failed"), 2, "{log}");
    }
}

/// Lets nobody else read a file.
#[cfg(unix)]
fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

#[cfg(not(unix))]
fn private(_: &Path) {}

const SMTPLIB_CLIENT: &str = include_str!("support/smtplib_client.py");
const USER: &str = "tim";
const MESSAGE: &str = "message.eml";
/// With what shells, URLs and configuration files might stumble over.
const RIGHT: &str = "tan$taaf:4%41711 \\staple";
const WRONG: &str = "wrong$taaf:4%41712 \\staple";
