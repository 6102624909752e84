//! What an operator does to `authenticated_relayer` while it runs.
#![cfg(unix)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{
    Authority, Client, NextHop, PATIENCE, Program, add_user, eventually, example, numbered, run, spooled, user,
};
use tempfile::TempDir;

#[test]
fn a_new_certificate_is_shown_from_sighup_on_and_nobody_is_cut_off() {
    for runtime in RUNTIMES {
        let (directory, old, new) = (directory(), Authority::new(), Authority::new());
        old.write(directory.path());
        let program = start(directory.path(), &[&["--runtime", runtime], TLS].concat());
        let mut before = Client::greet_tls(program.address(0), old.client()).expect("the old certificate is shown");

        new.write(directory.path());
        hang_up(&program, "read the certificate anew");
        let mut after = Client::greet_tls(program.address(0), new.client()).expect("the new certificate is shown");
        assert!(Client::greet_tls(program.address(0), old.client()).is_err(), "{runtime}");

        fs::write(directory.path().join("cert.pem"), "no certificate").expect("it can be written");
        hang_up(&program, "cannot use the new certificate; the one before stays error=cert.pem: ");
        // One whose key has not come yet.
        old.write(directory.path());
        fs::copy(directory.path().join("ca.pem"), directory.path().join("cert.pem")).expect("it can be written");
        hang_up(&program, "cannot use the certificate with its key");
        Client::greet_tls(program.address(0), new.client()).expect("the one before is shown");

        for client in [&mut before, &mut after] {
            assert!(client.command("NOOP").expect("the session goes on").starts_with("250 "), "{runtime}");
        }
        program.stop();
    }
}

#[test]
fn sighup_reads_files_of_users_and_tells_what_is_wrong() {
    let directory = directory();
    let file = directory.path().join("users");
    let hash = "$2y$05$0L9PeCB8KMXaEpmUukJNBOmyBHiti19ZCLBmkohIBDydWq6dKc2w6";
    fs::write(&file, format!("tim:{hash}\n")).expect("it can be written");
    let program =
        start(directory.path(), &["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--users", "passwd:users"]);
    fs::write(&file, format!("tim:{hash}\nann:{hash}\n")).expect("it can be written");
    hang_up(&program, "read the changed file");
    fs::write(&file, "tim\n").expect("it can be written");
    hang_up(&program, "cannot use the changed file; users stay as they were");
    program.stop();
}

/// As where the program that took the log has ended.
#[test]
fn a_log_that_nothing_takes_harms_nothing() {
    for runtime in RUNTIMES {
        let (directory, hop) = (directory(), NextHop::start());
        add_user(directory.path(), USER, PASSWORD);
        let url = hop.url();
        let arguments = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--runtime", runtime, "--relay", &url];
        let (reader, closed) = std::io::pipe().expect("there are pipes");
        drop(reader);
        let program =
            Program::start_with_stderr("authenticated_relayer", directory.path(), "trace", &arguments, closed.into());
        let mut client = Client::log_in(program.address(0), USER, PASSWORD).expect("a login is possible");
        for number in 1..=3 {
            let reply = client.send("tim@example.org", "friend@example.org", &numbered(number));
            assert!(reply.expect("the session goes on").starts_with("250 "), "{runtime}");
        }
        assert!(Client::log_in(program.address(0), USER, "wrong").is_err());
        hop.wait(|mails| mails.len() >= 3);
        eventually(|| spooled(&directory.path().join("spool")) == 0);
        program.signal("HUP");
        program.stop();
        assert_eq!(hop.mails().len(), 3, "{runtime}");
    }
}

#[test]
fn names_are_taken_in_any_case_where_that_is_asked_for() {
    let directory = directory();
    add_user(directory.path(), "Tim@Example.org", PASSWORD);
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--allow-plaintext-auth"];
    for ignored in [false, true] {
        let program = start(directory.path(), &arguments);
        for (name, taken) in [("Tim@Example.org", true), ("tim@example.org", ignored), ("TIM@EXAMPLE.ORG", ignored)] {
            assert_eq!(Client::log_in(program.address(0), name, PASSWORD).is_ok(), taken, "{name}, {ignored}");
        }
        program.stop();
        arguments.push("--ignore-case-of-logins");
    }
}

#[test]
fn an_operator_sees_the_queue_and_changes_it_while_the_server_runs_and_while_it_does_not() {
    let directory = directory();
    add_user(directory.path(), USER, PASSWORD);
    let defers = Arc::new(AtomicBool::new(true));
    let hop = {
        let defers = Arc::clone(&defers);
        NextHop::with_script(move |line| {
            (line.starts_with("RCPT") && defers.load(Ordering::SeqCst)).then_some("451 4.2.1 later")
        })
    };
    let url = hop.url();
    let arguments = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--relay", &url, "--retry-first", "1h"];
    let metrics = ["--metrics", "unix:metrics"];
    let program = start(directory.path(), &[&arguments[..], &metrics].concat());
    let mut client = Client::log_in(program.address(0), USER, PASSWORD).expect("a login is possible");
    for number in 1..=3 {
        let reply = client.send("tim@example.org", "friend@example.org", &numbered(number));
        assert!(reply.expect("the session goes on").starts_with("250 "));
    }
    let listed = || -> Vec<serde_json::Value> {
        let (done, printed) = queue(directory.path(), &["list", "--json"]);
        assert!(done, "{printed}");
        printed.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
    };
    eventually(|| listed().iter().filter(|entry| entry["attempts"] == 1 && entry["state"] == "waiting").count() == 3);
    let ids: Vec<String> = listed().iter().map(|entry| entry["id"].as_str().expect("a name").to_owned()).collect();
    let (_, table) = queue(directory.path(), &["list"]);
    assert!(table.contains("tim@example.org") && table.contains("friend@example.org: 451 4.2.1 later"), "{table}");
    let (_, shown) = queue(directory.path(), &["show", &ids[0], "--content"]);
    assert!(shown.contains("recipient:     friend@example.org (pending)") && shown.contains("\nReceived: "), "{shown}");
    assert_eq!(queue(directory.path(), &["hold", &ids[0]]), (true, String::new()));
    assert_eq!(queue(directory.path(), &["delete", &ids[1]]), (true, String::new()));
    let (done, printed) = queue(directory.path(), &["delete", &ids[1]]);
    assert!(!done && printed.contains("there is no message"), "{printed}");
    defers.store(false, Ordering::SeqCst);
    let (_, printed) = queue(directory.path(), &["flush"]);
    assert_eq!(printed, "messages that are tried now: 1\n");
    hop.wait(|mails| mails.len() == 1);

    let counted = || {
        let mut stream = UnixStream::connect(directory.path().join("metrics")).expect("it is listened on");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it can be written to");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        text
    };
    eventually(|| counted().contains("\nsansmtp_queue_messages 1\n"));
    let text = counted();
    for line in [
        "sansmtp_messages_accepted_total 3",
        "sansmtp_authentications_total{mechanism=\"PLAIN\",result=\"succeeded\"} 1",
        "sansmtp_delivery_attempts_total{result=\"deferred\"} 3",
        "sansmtp_delivery_attempts_total{result=\"delivered\"} 1",
        "sansmtp_queue_held_messages 1",
        "sansmtp_deleted_messages_total 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert!(!text.contains("\"tim") && !text.contains("example.org"), "{text}");

    // Who hangs at the sockets does not keep the server from ending.
    let hanging = ["spool/control", "metrics"].map(|name| UnixStream::connect(directory.path().join(name)));
    let (_, log) = program.stop();
    assert!(hanging.iter().all(Result::is_ok) && log.contains("deleted by an operator"), "{log}");
    assert!(!directory.path().join("spool/control").exists());

    assert_eq!(listed().len(), 1);
    assert_eq!(queue(directory.path(), &["release", &ids[0]]), (true, String::new()));
    let program = start(directory.path(), &arguments);
    hop.wait(|mails| mails.len() == 2);
    program.stop();
    let (done, printed) = queue(directory.path(), &["list", "--spool", "spol"]);
    assert!(!done && printed.contains("there is no spool in spol"), "{printed}");
}

#[test]
fn systemd_hands_over_a_socket_and_is_told_how_it_goes() {
    for runtime in RUNTIMES {
        let (directory, authority) = (directory(), Authority::new());
        authority.write(directory.path());
        let notify = directory.path().join("notify");
        let told = UnixDatagram::bind(&notify).expect("it can be made");
        told.set_read_timeout(Some(PATIENCE)).expect("it can be set");
        let hear = |what: &str| {
            let mut text = [0; 1024];
            let octets = told.recv(&mut text).expect("something is told");
            let text = String::from_utf8_lossy(&text[..octets]).into_owned();
            assert!(text.lines().any(|line| line == what), "{what}: {text}");
            text
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it has one");
        let environment = [
            ("LISTEN_FDS", "1"),
            ("LISTEN_FDNAMES", "submissions"),
            ("NOTIFY_SOCKET", notify.to_str().expect("UTF-8")),
        ];
        let arguments = ["--runtime", runtime, "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
        let program = Program::start_activated(directory.path(), listener.into(), &environment, &arguments);
        assert_eq!(program.address(0), address, "and nothing else is listened on");
        hear("READY=1");
        let mut client = Client::greet_tls(address, authority.client()).expect("TLS begins at once, by the name");
        program.signal("HUP");
        let reloading = hear("RELOADING=1");
        assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
        hear("READY=1");
        assert!(client.command("NOOP").expect("the session goes on").starts_with("250 "), "{runtime}");
        drop(client);
        program.terminate();
        hear("STOPPING=1");
        let (status, _, log) = program.wait();
        assert!(status.success(), "{log}");
    }
}

/// Runs `queue` with these arguments, and returns whether it succeeded and what it printed.
fn queue(directory: &Path, arguments: &[&str]) -> (bool, String) {
    run(Command::new(example("authenticated_relayer")).arg("queue").args(arguments).current_dir(directory))
}

#[test]
fn it_listens_where_the_options_say() {
    use std::os::unix::fs::PermissionsExt;
    for runtime in RUNTIMES {
        let (directory, authority) = (directory(), Authority::new());
        authority.write(directory.path());
        add_user(directory.path(), USER, PASSWORD);
        let arguments =
            ["--listen", "localhost:0", "--listen", ":0", "--listen", "unix:clear", "--listen-tls", "unix:tls"];
        let more = ["--socket-mode", "600", "--tls-cert", "cert.pem", "--tls-key", "key.pem", "--runtime", runtime];
        let plaintext = ["--allow-plaintext-auth", "--i-know"];
        let program = start(directory.path(), &[&arguments[..], &more, &plaintext].concat());
        for place in ["listening on unix:clear\n", "listening on unix:tls\n"] {
            program.stdout.wait(|text| text.contains(place));
        }
        let (any, local) = program.addresses().split_last().expect("it listens");
        assert!(!local.is_empty() && local.iter().all(|address| address.ip().is_loopback()), "{local:?}");
        assert!(any.ip().is_unspecified(), "{any}");
        let mut addresses = local.to_vec();
        addresses.push(([127, 0, 0, 1], any.port()).into());
        if any.is_ipv6() && local.iter().any(std::net::SocketAddr::is_ipv6) {
            addresses.push((std::net::Ipv6Addr::LOCALHOST, any.port()).into());
        }
        for address in addresses {
            Client::log_in(address, USER, PASSWORD).unwrap_or_else(|error| panic!("{runtime}, {address}: {error}"));
        }
        for (name, tls) in [("clear", None), ("tls", Some(authority.client()))] {
            let path = directory.path().join(name);
            assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
            let mut client = Client::greet_unix(&path, tls).expect("it listens there");
            assert!(client.auth_plain(USER, PASSWORD).expect("it talks").starts_with("235 "), "{runtime}, {name}");
        }
        program.stop();
        assert!(!directory.path().join("clear").exists());
    }
}

#[test]
fn clients_behind_a_balancer_are_told_apart() {
    for runtime in RUNTIMES {
        let (directory, authority) = (directory(), Authority::new());
        authority.write(directory.path());
        add_user(directory.path(), USER, PASSWORD);
        let listen = ["--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--runtime", runtime];
        let arguments = ["--proxy-from", "127.0.0.1", "--max-failures-per-address", "2"];
        let arguments = [&listen[..], TLS, &arguments, &["--max-connections-per-address", "1"]].concat();
        let program = start(directory.path(), &arguments);
        let greet = |client: &str, under_tls: bool| {
            let header = format!("PROXY TCP4 {client} 198.51.100.1 40000 587\r\n");
            let tls = under_tls.then(|| authority.client());
            Client::greet_behind(program.address(under_tls.into()), &header, tls).expect("the server talks")
        };
        // What one has used up is there for others, who come through the same balancer.
        for (under_tls, address) in [(false, "192.0.2.8"), (true, "192.0.2.9")] {
            let mut client = greet(address, under_tls);
            for (password, code) in [("wrong", "535 "), ("wrong", "535 "), (PASSWORD, "454 ")] {
                let reply = client.auth_plain(USER, password).expect("the server talks");
                assert!(reply.starts_with(code), "{runtime}: {reply}");
            }
        }
        for (under_tls, address, other) in [(false, "192.0.2.10", "192.0.2.20"), (true, "192.0.2.11", "192.0.2.21")] {
            let mut client = greet(address, under_tls);
            assert!(client.auth_plain(USER, PASSWORD).expect("the server talks").starts_with("235 "), "{runtime}");
            client.send("tim@example.org", "friend@example.org", b"It works.\r\n").expect("the server talks");
            // Connections, too, are limited by the client's address.
            let header = format!("PROXY TCP4 {address} 198.51.100.1 40001 587\r\n");
            assert!(Client::greet_behind(program.address(0), &header, None).is_err(), "{runtime}");
            greet(other, under_tls);
        }
        let mails = support::maildir(&directory.path().join("mail"));
        assert!(
            mails.len() == 2
                && mails
                    .iter()
                    .all(|mail| mail.windows(13).any(|part| part == b"([192.0.2.10]" || part == b"([192.0.2.11]"))
        );
        // Nothing is said to a balancer without a header, nor under TLS.
        let wrong = Client::greet_behind(program.address(0), "EHLO client.example\r\n", None);
        assert!(wrong.is_err(), "{runtime}");
        let (_, log) = program.stop();
        assert!(log.contains("192.0.2.9:40000") && log.contains("192.0.2.10:40000"), "{log}");

        // Who is not trusted cannot claim anything.
        let arguments = [&listen[..], &["--proxy-from", "192.0.2.1", "--xclient-from", "192.0.2.1"]].concat();
        let program = start(directory.path(), &arguments);
        let mut client = Client::connect(program.address(0)).expect("it is greeted");
        for claim in ["PROXY TCP4 192.0.2.9 198.51.100.1 40000 587", "XCLIENT ADDR=192.0.2.9"] {
            let reply = client.command(claim).expect("the server talks");
            assert!(reply.starts_with('5'), "{runtime}: {reply}");
        }
        let listed = client.command("EHLO client.example").expect("the server talks");
        assert!(!listed.contains("XCLIENT"), "{listed}");
        let arguments = [&listen[..], &["--xclient-from", "127.0.0.1"]].concat();
        let program = start(directory.path(), &arguments);
        let mut client = Client::connect(program.address(0)).expect("it is greeted");
        for (line, code) in [
            ("EHLO proxy.example", "250"),
            ("XCLIENT ADDR=192.0.2.9 NAME=client.example", "220"),
            ("EHLO client.example", "250"),
        ] {
            let reply = client.command(line).expect("the server talks");
            assert!(reply.starts_with(code) && (line != "EHLO proxy.example" || reply.contains("XCLIENT ")), "{reply}");
        }
        assert!(client.auth_plain(USER, "wrong").expect("the server talks").starts_with("535 "));
        let (_, log) = program.stop();
        assert!(log.contains("192.0.2.9"), "{log}");
    }
}

#[test]
fn a_database_is_made_where_none_was_named_or_where_that_is_asked_for() {
    let directory = directory();
    let refused = |arguments: &[&str]| {
        let mut command = Command::new(example("authenticated_relayer"));
        let (done, printed) = run(command.args(arguments).current_dir(directory.path()));
        assert!(!done && printed.contains("there is no user database mial.db"), "{printed}");
    };
    refused(&["--listen", "127.0.0.1:0", "--users", "mial.db"]);
    let left = fs::read_dir(directory.path()).expect("it is there").count();
    assert_eq!(left, 0, "neither a database nor a certificate beside it");
    // Whoever cannot listen tells the password all the same, as the next start will not.
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let taken = taken.local_addr().map(|address| (address.to_string(), taken)).expect("it has an address");
    let mut command = Command::new(example("authenticated_relayer"));
    let (done, printed) = run(command.args(["--listen", &taken.0]).current_dir(directory.path()));
    assert!(
        !done && printed.contains("\n    password  ") && printed.contains("another program listens there"),
        "{printed}"
    );
    let program = start(directory.path(), &["--listen", "127.0.0.1:0", "--users", "other.db", "--init"]);
    program.stdout.wait(|text| text.contains("The user database other.db is new"));
    program.stop();
    let (done, printed) = user(directory.path(), &["add", USER, "--users", "typed.db"], PASSWORD);
    assert!(done && printed.contains("made a new database typed.db"), "{printed}");
    let (done, printed) = user(directory.path(), &["add", "tom", "--users", "typed.db"], PASSWORD);
    assert!(done && printed.is_empty(), "{printed}");
    start(directory.path(), &["--listen", "127.0.0.1:0", "--users", "typed.db"]).stop();
}

fn directory() -> TempDir {
    TempDir::new().expect("there is room for a directory")
}

fn start(directory: &Path, arguments: &[&str]) -> Program {
    Program::start("authenticated_relayer", directory, "info", arguments)
}

/// Sends SIGHUP, and waits for what the log tells of it.
fn hang_up(program: &Program, told: &str) {
    let before = program.stderr.so_far().matches(told).count();
    program.signal("HUP");
    program.stderr.wait(|log| log.matches(told).count() > before);
}

const RUNTIMES: [&str; 3] = ["smol", "tokio", "threads"];
const TLS: &[&str] = &["--listen-tls", "127.0.0.1:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
const USER: &str = "tim";
const PASSWORD: &str = "tanstaaftanstaaf";
