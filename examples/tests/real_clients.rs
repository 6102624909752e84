//! The `authenticated_relayer` as its users meet it: its first start, logins without TLS, its users, its options. How
//! clients log in by each mechanism is in `sasl_clients`.

mod support;

use std::process::Command;

use support::{
    Awkward, Client, MESSAGE, Program, RIGHT, Server, USER, WRONG, assert_absent, example, maildir, run, tool,
};
use tempfile::TempDir;

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
    let server = Server::start(&[]);
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
    server.stop_without_secrets();
}

#[test]
fn plaintext_auth_is_offered_where_it_was_allowed() {
    let server = Server::start(&["--allow-plaintext-auth"]);
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
    server.stop_without_secrets();
}

#[test]
fn users_are_added_listed_changed_and_deleted() {
    let server = Server::start(&["--allow-plaintext-auth"]);
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
    server.stop_without_secrets();
}

#[test]
fn help_tells_the_options() {
    let relayer = example("authenticated_relayer");
    let (done, printed) = run(Command::new(&relayer).arg("--help"));
    assert!(done);
    let options =
        ["--listen-tls <PLACE>", "--users <USERS>", "--maildir <DIR>", "--relay <URL>", "--mx", "--spool <DIR>"];
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

const SMTPLIB_CLIENT: &str = include_str!("support/smtplib_client.py");
