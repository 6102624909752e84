//! Two `authenticated_relayer`s over one PostgreSQL and one Valkey or Redis.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../support/mod.rs"]
mod support;

/// The servers that the tests of the authenticators start, too.
#[path = "../../../authenticators/tests/support"]
mod servers {
    #![allow(dead_code, reason = "the tests of the authenticators take more")]

    #[path = "postgresql.rs"]
    pub(crate) mod postgresql;
    #[path = "valkey.rs"]
    pub(crate) mod valkey;
    #[path = "wait.rs"]
    pub(crate) mod wait;

    pub(crate) mod battery {
        pub(crate) fn missing(what: &str) {
            crate::support::skip(&format!("{what} is not installed"));
        }
    }
}

use servers::postgresql::PostgreSql;
use servers::valkey::Valkey;
use support::dovecot::{self, Dovecot};
use support::{Client, Program, assert_absent, eventually, user};
use tempfile::TempDir;

/// A relayer with a directory of its own, as on a machine of its own.
struct Relayer {
    directory: TempDir,
    program: Program,
    users: String,
}

impl Relayer {
    fn start(users: &str, attempts: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let arguments = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--users", users];
        let counting = ["--attempts", attempts, "--max-failures-per-address", "3"];
        let arguments = [&arguments[..], &counting].concat();
        let program = Program::start("authenticated_relayer", directory.path(), "trace", &arguments);
        Self { directory, program, users: users.to_owned() }
    }

    /// The code of the reply to AUTH PLAIN.
    fn log_in(&self, name: &str, password: &str) -> String {
        let reply = Client::greet(self.program.address(0)).and_then(|mut client| client.auth_plain(name, password));
        reply.unwrap()[..3].to_owned()
    }

    /// Runs `user …` beside it. What it prints.
    fn user(&self, arguments: &[&str], password: &str) -> String {
        let (done, printed) = user(self.directory.path(), &[&["--users", &self.users], arguments].concat(), password);
        assert!(done, "{printed}");
        SECRETS.iter().for_each(|secret| assert_absent(secret, &printed));
        printed
    }
}

const SECRETS: [&str; 4] = [FIRST, SECOND, servers::postgresql::PASSWORD, servers::postgresql::ESCAPED];
const FIRST: &str = "tanstaaftanstaaf";
const SECOND: &str = "correct horse battery staple";

#[test]
fn two_servers_share_users_and_failures() {
    let (Some(mut database), Some(counts)) = (PostgreSql::start(), Valkey::start()) else { return };
    let file = database.directory.path().join("the password");
    std::fs::write(&file, format!("{}\n", servers::postgresql::PASSWORD)).unwrap();
    let file = file.display().to_string().replace(' ', "%20");
    let (port, counted) = (database.port, counts.port);
    let one = Relayer::start(&database.url(), &counts.url());
    let other = Relayer::start(
        &format!("postgresql://mail@127.0.0.1:{port}/mail?password-file={file}"),
        &format!("valkey://127.0.0.1:{counted}?password-file={file}&when-unreachable=closed"),
    );

    // A user added through one logs in through the other.
    one.user(&["add", "tim"], FIRST);
    assert_eq!(other.user(&["list"], ""), "tim\n");
    assert_eq!((one.log_in("tim", FIRST), other.log_in("tim", FIRST)), ("235".into(), "235".into()));
    other.user(&["passwd", "tim"], SECOND);
    assert_eq!(one.log_in("tim", SECOND), "235");
    one.user(&["disable", "tim"], "");
    assert_eq!(one.user(&["list"], ""), "tim (disabled)\n");
    one.user(&["enable", "tim"], "");
    let token = one.user(&["token", "tim"], "");
    assert!(token.trim().len() >= 32, "{token}");
    other.user(&["revoke", "tim"], "");

    // So are addresses.
    let mut client = Client::log_in(one.program.address(0), "tim", SECOND).unwrap();
    let mut send = |path: &str| {
        let reply = client.send(path, "friend@example.net", b"From: tim@example.org\r\n\r\nHello\r\n");
        reply.unwrap()[..9].to_owned()
    };
    assert_eq!(send("tim@example.org"), "550 5.7.1");
    other.user(&["address", "add", "tim", "tim@example.org"], "");
    assert_eq!(one.user(&["address", "list"], ""), "tim tim@example.org\n");
    assert_eq!(send("tim@example.org"), "250 2.0.0");

    // The database goes away and comes back.
    database.stop();
    assert_eq!(send("boss@example.org"), "451 4.3.0");
    assert_eq!((one.log_in("tim", SECOND), other.log_in("tim", SECOND)), ("454".into(), "454".into()));
    database.start_again();
    assert_eq!((one.log_in("tim", SECOND), other.log_in("tim", SECOND)), ("235".into(), "235".into()));

    // Failures against one count in the other.
    assert_eq!(one.log_in("tim", FIRST), "535");
    assert_eq!(one.log_in("nobody", FIRST), "535");
    eventually(|| counts.times_to_live().iter().any(|(_, ttl)| *ttl > 9 * 60 * 1000));
    assert_eq!(other.log_in("tim", SECOND), "235");
    assert_eq!(other.log_in("tim", FIRST), "535");
    eventually(|| counts.times_to_live().iter().any(|(_, ttl)| *ttl > 14 * 60 * 1000));
    assert_eq!((one.log_in("tim", SECOND), other.log_in("tim", SECOND)), ("454".into(), "454".into()));

    // Nobody has written down what is secret.
    for relayer in [one, other] {
        let (stdout, stderr) = relayer.program.stop();
        for secret in SECRETS {
            assert_absent(secret, &stdout);
            assert_absent(secret, &stderr);
        }
    }
}

/// A server that starts before its database offers the same, and salts unknown users as the others do, once it is there.
#[test]
fn the_database_may_start_later() {
    let (Some(mut database), Some(counts)) = (PostgreSql::start(), Valkey::start()) else { return };
    let early = Relayer::start(&database.url(), &counts.url());
    early.user(&["add", "tim"], FIRST);
    database.stop();
    let late = Relayer::start(&database.url(), &counts.url());
    assert!(late.program.stderr.so_far().contains("the users' database is away"));
    let client = || Client::greet(late.program.address(0)).unwrap();
    assert_eq!(client().mechanisms().unwrap(), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
    let first = |relayer: &Relayer, name: &str| {
        let mut client = Client::greet(relayer.program.address(0)).unwrap();
        client.auth("SCRAM-SHA-256", &format!("n,,n={name},r=nonce")).unwrap()
    };
    assert_eq!(late.log_in("tim", FIRST), "454");
    assert!(["tim", "nobody"].iter().all(|name| first(&late, name).starts_with("454 4.7.0 ")));
    database.start_again();
    assert_eq!(late.log_in("tim", FIRST), "235");
    let salt = |relayer: &Relayer| {
        use base64::Engine as _;
        let challenge = base64::engine::general_purpose::STANDARD.decode(&first(relayer, "nobody")[4..]).unwrap();
        String::from_utf8(challenge).unwrap().split_once(",s=").unwrap().1.to_owned()
    };
    assert_eq!(salt(&late), salt(&early));
}

/// Where Dovecot runs the exchanges, the server that counts is asked before they begin.
#[test]
fn failures_count_where_dovecot_runs_the_exchanges() {
    let (Some(dovecot), Some(counts)) = (Dovecot::start(), Valkey::start()) else { return };
    let [one, other] = [(); 2].map(|()| Relayer::start(&dovecot.users(), &counts.url()));
    for _ in 0..3 {
        assert_eq!(one.log_in(dovecot::USER, "not-what-it-is"), "535");
    }
    eventually(|| counts.times_to_live().iter().any(|(_, ttl)| *ttl > 14 * 60 * 1000));
    // It has not been told by anybody, so it has to ask.
    assert_eq!(other.log_in(dovecot::USER, dovecot::PASSWORD), "454");
}

/// Two relayers with users of their own, of the same names.
#[test]
fn what_users_send_counts_for_all() {
    let Some(counts) = Valkey::start() else { return };
    let relayers = [(); 2].map(|()| {
        let directory = TempDir::new().unwrap();
        assert!(user(directory.path(), &["add", "tim"], FIRST).0);
        let url = counts.url();
        let arguments = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--attempts", &url];
        let limits = ["--max-failures-per-address", "0", "--max-messages-per-day", "3"];
        let program =
            Program::start("authenticated_relayer", directory.path(), "trace", &[&arguments[..], &limits].concat());
        (directory, program)
    });
    let send = |(_, program): &(TempDir, Program)| {
        let client = Client::log_in(program.address(0), "tim", FIRST);
        client.and_then(|mut client| client.send("a@b.example", "c@d.example", b"It works.\r\n"))
    };
    let [one, other] = &relayers;
    let codes = [one, other, one, other, one].map(|relayer| send(relayer).unwrap());
    assert!(codes[..3].iter().all(|reply| reply.starts_with("250 ")), "{codes:?}");
    assert!(codes[3..].iter().all(|reply| reply.contains("450 4.7.1 No more than 3 messages a day")), "{codes:?}");
    for (_, program) in relayers {
        let (_, stderr) = program.stop();
        assert_eq!(stderr.matches("limit reached: ").count(), 1, "{stderr}");
    }
}

/// What cannot work is said at the start, without what is secret.
#[test]
fn what_cannot_be_opened_is_said() {
    let Some(database) = PostgreSql::start() else { return };
    let directory = TempDir::new().unwrap();
    let wrong = database.url().replace("swordfish", "swordfisch");
    for (users, expected) in [
        (wrong.as_str(), "28P01"),
        (&format!("{}x", database.url()), "3D000"),
        ("postgres://mail:swordfisch@127.0.0.1:1/mail", "refused"),
    ] {
        let (done, printed) = user(directory.path(), &["--users", users, "add", "tim"], FIRST);
        assert!(
            !done && printed.contains("error: cannot open postgres://127.0.0.1:") && printed.contains(expected),
            "{printed}"
        );
        assert!(!printed.contains("swordfis") && !printed.contains(FIRST), "{printed}");
    }
}
