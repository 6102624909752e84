//! The `sink` program: what it saves, its limits, and the mechanisms that it offers.

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use support::{Authority, Awkward, Client, Program, assert_absent, example, long_line, run, tool};
use tempfile::TempDir;

#[test]
fn a_message_is_saved_octet_for_octet() {
    for runtime in ["smol", "tokio", "threads"] {
        saves_octet_for_octet(runtime);
    }
}

fn saves_octet_for_octet(runtime: &str) {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &["--save", "saved", "--runtime", runtime]);
    let mut client = Client::log_in(sink.address(0), USER, PASSWORD).expect("the server talks");
    for number in 1..=2 {
        // Nothing of what is refused gets into what is not.
        client.send_voids(Awkward::REVERSE_PATH, Awkward::RECIPIENT).expect("the server talks");
        let reply = client.send(Awkward::REVERSE_PATH, Awkward::RECIPIENT, &long_line()).expect("the server talks");
        assert!(reply.starts_with("554 5.6.0 "), "{reply}");
        let reply =
            client.send(Awkward::REVERSE_PATH, Awkward::RECIPIENT, &Awkward::content()).expect("the server talks");
        assert!(reply.starts_with("250 "), "{reply}");
        let saved = directory.path().join("saved").join(format!("{number:06}.eml"));
        assert_eq!(std::fs::read(saved).expect("it is saved before 250"), Awkward::content());
    }

    // What is begun and not ended is no message.
    client.begin(Awkward::REVERSE_PATH, &[Awkward::RECIPIENT]).expect("the server talks");
    client.write(b"half a message\r\n").expect("the server listens");
    drop(client);
    let (stdout, stderr) = stop(sink);
    assert_eq!(std::fs::read_dir(directory.path().join("saved")).expect("it is there").count(), 2);
    assert_absent(PASSWORD, &stdout);
    assert_absent(PASSWORD, &stderr);
}

#[test]
fn a_message_over_the_limit_gets_552() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &["--save", "saved", "--max-size", "1000"]);
    let mut client = Client::log_in(sink.address(0), USER, PASSWORD).expect("the server talks");

    let reply = client.command("MAIL FROM:<tim@example.org> SIZE=1001").expect("the server talks");
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    let line = b"0123456\r\n".repeat(1000 / 9 + 1);
    let reply = client.send("tim@example.org", "friend@example.org", &line).expect("the server talks");
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    let fits = line.get(9..).expect("it has several lines");
    let reply = client.send("tim@example.org", "friend@example.org", fits).expect("the server talks");
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(std::fs::read_dir(directory.path().join("saved")).expect("it is there").count(), 1);
}

#[test]
fn refused_credentials_are_counted() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &["--max-failures", "2"]);
    let mut client = Client::greet(sink.address(0)).expect("the server talks");
    let reply = client.auth_plain(USER, "wrong password").expect("the server talks");
    assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    let reply = client.auth_plain("nobody", PASSWORD).expect("the server talks");
    assert!(reply.starts_with("421 4.7.0 "), "{reply}");
    assert!(client.is_closed());

    // The count is the connection's.
    Client::log_in(sink.address(0), USER, PASSWORD).expect("the right password is taken");
    let (_, stderr) = stop(sink);
    assert_absent("wrong password", &stderr);
}

/// Who is turned away hears why; the log says where that was, and not once for each.
#[test]
fn a_crowd_from_one_address_is_turned_away() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &["--max-connections-per-address", "2"]);
    let clients = [(); 2].map(|()| Client::greet(sink.address(0)).expect("the server talks"));
    for _ in 0..50 {
        let mut said = String::new();
        let mut crowd = TcpStream::connect(sink.address(0)).expect("the server listens");
        crowd.read_to_string(&mut said).expect("the server talks");
        assert!(said.starts_with("421 4.7.0 "), "{said}");
    }
    drop(clients);
    let address = sink.address(0);
    let (_, stderr) = stop(sink);
    assert!(stderr.contains(&format!("too many connections listener={address} peer=127.0.0.1:")), "{stderr}");
}

/// So that any client's use of them can be tried.
#[test]
fn every_extension_is_offered_and_taken() {
    let (directory, authority) = authority();
    let sink = sink(directory.path(), &[&["--save", "saved"], TLS_AND_CA].concat());
    let listed = |client: &mut Client| {
        let reply = client.command("EHLO client.example").expect("the server talks");
        reply.lines().filter_map(|line| line.get(4..)).map(str::to_owned).collect::<Vec<_>>()
    };
    let always = [
        "PIPELINING",
        "8BITMIME",
        "ENHANCEDSTATUSCODES",
        "SIZE 33554432",
        "SMTPUTF8",
        "CHUNKING",
        "BINARYMIME",
        "DSN",
        "MT-PRIORITY",
        "DELIVERBY",
        "FUTURERELEASE 999999999 9999-12-31T23:59:59Z",
        "LIMITS RCPTMAX=1000",
        "HELP",
    ];
    let mut client = Client::greet(sink.address(0)).expect("the server talks");
    let in_clear = listed(&mut client);
    assert!(
        always.iter().chain(&["STARTTLS"]).all(|wanted| in_clear.iter().any(|line| line == wanted)),
        "{in_clear:?}"
    );
    assert!(!in_clear.iter().any(|line| line == "REQUIRETLS"), "{in_clear:?}");

    let mut client = Client::greet_tls(sink.address(1), authority.client()).expect("the server talks");
    let under_tls = listed(&mut client);
    assert!(
        always.iter().chain(&["REQUIRETLS"]).all(|wanted| under_tls.iter().any(|line| line == wanted)),
        "{under_tls:?}"
    );
    let reply = client.auth_plain(USER, PASSWORD).expect("the server talks");
    assert!(reply.starts_with("235 "), "{reply}");
    for (command, code) in [
        (
            "MAIL FROM:<a@b.test> BODY=BINARYMIME SMTPUTF8 RET=HDRS ENVID=x BY=60;R MT-PRIORITY=3 HOLDFOR=60 REQUIRETLS",
            "250 2.1.0 ",
        ),
        ("RCPT TO:<c@d.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d.test", "250 2.1.5 "),
        ("BDAT 2\r\n\0\n", "250 2.0.0 "),
        ("BDAT 1 LAST\r\nx", "250 2.0.0 "),
    ] {
        let (line, octets) = command.split_once("\r\n").unwrap_or((command, ""));
        client.write(format!("{line}\r\n{octets}").as_bytes()).expect("the server listens");
        let reply = client.reply().expect("the server talks");
        assert!(reply.starts_with(code), "{command}: {reply}");
    }
    assert_eq!(std::fs::read(directory.path().join("saved/000001.eml")).expect("it is saved"), b"\0\nx");
}

/// What clients do against the RFCs is taken where it does no harm; by option, it is not.
#[test]
fn quirks_can_be_chosen() {
    let directory = TempDir::new().expect("there is room for a directory");
    let tell = |client: &mut Client, line: &str| {
        let reply = client.command(line).expect("the server talks");
        reply.split([' ', '-']).next().unwrap_or_default().to_owned()
    };
    let taken = |arguments: &[&str]| {
        let sink = sink(directory.path(), arguments);
        let mut client = Client::connect(sink.address(0)).expect("the server talks");
        let mut codes = vec![tell(&mut client, "AUTH LOGIN")];
        tell(&mut client, "*");
        tell(&mut client, "HELO client.example");
        codes.push(tell(&mut client, "AUTH LOGIN"));
        tell(&mut client, "*");
        codes.push(tell(&mut client, "EHLO (none)"));
        tell(&mut client, "EHLO client.example");
        client.auth_plain(USER, PASSWORD).expect("the server talks");
        for path in [" <a@b.test>", "a@b.test", "<a..b.@docomo.ne.jp>", "<a@my_host>", "<root>"] {
            codes.push(tell(&mut client, &format!("MAIL FROM:{path}")));
            tell(&mut client, "RSET");
        }
        for command in ["MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"] {
            tell(&mut client, command);
        }
        codes.push(tell(&mut client, "a\nb\r\n."));
        codes
    };
    let default = ["334", "334", "250", "250", "250", "250", "250", "250", "554"];
    assert_eq!(taken(&[]), default);
    let none = ["503", "503", "501", "501", "501", "501", "501", "501", "250"];
    assert_eq!(taken(&["--quirks", "none", "--bare-newlines", "convert", "--strict-client-names"]), none);
    let one = ["503", "503", "250", "501", "501", "250", "501", "501", "554"];
    assert_eq!(taken(&["--quirks", "dots-in-local-parts"]), one);
}

#[test]
fn nothing_is_taken_without_a_login() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &[]);
    let mut client = Client::greet(sink.address(0)).expect("the server talks");
    let reply = client.command("MAIL FROM:<tim@example.org>").expect("the server talks");
    assert!(reply.starts_with("530 5.7.0 "), "{reply}");
}

#[test]
fn curl_sends_over_tls() {
    let Some(curl) = tool("curl") else { return };
    let directory = TempDir::new().expect("there is room for a directory");
    std::fs::write(directory.path().join("message.eml"), Awkward::content()).expect("there is room for a message");
    let sink = sink(directory.path(), &["--listen-tls", "127.0.0.1:0", "--save", "saved"]);
    for (number, scheme) in [(0, "smtp"), (1, "smtps")] {
        // The certificate is made anew at each start: there is nothing to verify it against.
        let (sent, printed) = run(Command::new(&curl)
            .current_dir(directory.path())
            .args(["--verbose", "--silent", "--max-time", "60", "--ssl-reqd", "--insecure"])
            .args(["--url", &format!("{scheme}://{}", sink.address(number)), "--user", &format!("{USER}:{PASSWORD}")])
            .args(["--mail-from", Awkward::REVERSE_PATH, "--mail-rcpt", Awkward::RECIPIENT])
            .args(["--upload-file", "message.eml"]));
        assert!(sent, "{printed}");
        let saved = directory.path().join(format!("saved/{:06}.eml", number + 1));
        assert_eq!(std::fs::read(saved).expect("it is saved"), Awkward::content());
    }
}

#[test]
fn every_mechanism_is_offered_where_it_can_be_used() {
    let (directory, authority) = authority();
    let sink = sink(directory.path(), &[&["--token", TOKEN], TLS_AND_CA].concat());
    let mut client = Client::greet(sink.address(0)).expect("the server talks");
    let in_clear = ["SCRAM-SHA-256", "SCRAM-SHA-512", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER"];
    let in_clear = [&in_clear[..], &["XOAUTH2", "ANONYMOUS"]].concat();
    assert_eq!(client.mechanisms().expect("the server talks"), in_clear);

    let mut client = Client::greet_tls(sink.address(1), authority.client()).expect("the server talks");
    let plus = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-1-PLUS"];
    let listed = client.mechanisms().expect("the server talks");
    assert_eq!(listed.len(), in_clear.len() + plus.len());
    assert!(in_clear.iter().chain(&plus).all(|name| listed.iter().any(|listed| listed == name)), "{listed:?}");

    let certified = authority.client_with_certificate(&authority, USER, &[]);
    let mut client = Client::greet_tls(sink.address(1), certified).expect("the server talks");
    assert_eq!(client.mechanisms().expect("the server talks").len(), in_clear.len() + plus.len() + 1);

    let reply = client.auth("ANONYMOUS", "somebody").expect("the server talks");
    assert!(reply.starts_with("235 "), "{reply}");
}

#[test]
fn without_a_token_and_a_ca_the_mechanisms_that_need_them_are_left_out() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &[]);
    let mut client = Client::greet(sink.address(0)).expect("the server talks");
    let expected = ["SCRAM-SHA-256", "SCRAM-SHA-512", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5", "ANONYMOUS"];
    assert_eq!(client.mechanisms().expect("the server talks"), expected);
    // SCRAM asks with a salt, CRAM-MD5 with a challenge.
    let reply = client.auth("SCRAM-SHA-256", &format!("n,,n={USER},r=nonce")).expect("the server talks");
    assert!(reply.starts_with("334 cj1ub25jZ"), "{reply}");
    client.command("*").expect("the server talks");
    let reply = client.command("AUTH CRAM-MD5").expect("the server talks");
    assert!(reply.starts_with("334 P"), "{reply}");
}

#[test]
fn the_list_and_its_order_can_be_chosen() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &["--mechanisms", "login,SCRAM-SHA-1,PLAIN"]);
    let mut client = Client::greet(sink.address(0)).expect("the server talks");
    assert_eq!(client.mechanisms().expect("the server talks"), ["LOGIN", "SCRAM-SHA-1", "PLAIN"]);
    let reply = client.auth("SCRAM-SHA-256", "n,,n=tim,r=nonce").expect("the server talks");
    assert!(reply.starts_with("504 5.5.4 "), "{reply}");
}

#[test]
fn what_cannot_be_offered_is_an_error() {
    for (arguments, message) in [
        (&["--mechanisms", "PLAIN,NTLM"][..], "SCRAM-SHA-512-PLUS"),
        (&["--mechanisms", "PLAIN,XOAUTH2"], "--token"),
        (&["--mechanisms", "EXTERNAL"], "--client-ca"),
        (&["--client-ca", "no-such-ca.pem"], "no-such-ca.pem"),
        (&["--user", "\u{7}"], "--user"),
        (&["--token", "two tokens"], "--token"),
    ] {
        let (done, printed) = run(Command::new(example("sink")).args(["--listen", "127.0.0.1:0"]).args(arguments));
        assert!(!done && printed.contains(message) && !printed.contains("two tokens"), "{printed}");
    }
}

#[test]
fn the_token_is_the_users() {
    let directory = TempDir::new().expect("there is room for a directory");
    let sink = sink(directory.path(), &["--token", TOKEN]);
    let oauthbearer = |token: &str| format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}");
    let xoauth2 = |user: &str, token: &str| format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}");
    let accepted = [("OAUTHBEARER", oauthbearer(TOKEN)), ("XOAUTH2", xoauth2(USER, TOKEN))];
    for (mechanism, response) in &accepted {
        let mut client = Client::greet(sink.address(0)).expect("the server talks");
        let reply = client.auth(mechanism, response).expect("the server talks");
        assert!(reply.starts_with("235 "), "{reply}");
    }
    let mut client = Client::greet(sink.address(0)).expect("the server talks");
    let refused = [
        ("OAUTHBEARER", oauthbearer("anotherBearerToken")),
        ("XOAUTH2", xoauth2(USER, "anotherBearerToken")),
        ("XOAUTH2", xoauth2("tom", TOKEN)),
    ];
    for (mechanism, response) in &refused {
        let reply = client.auth(mechanism, response).expect("the server talks");
        assert!(reply.starts_with("334 "), "{reply}");
        let reply = client.command("AQ==").expect("the server talks");
        assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    }
    let (_, stderr) = stop(sink);
    assert_absent(TOKEN, &stderr);
    assert_absent("anotherBearerToken", &stderr);
}

#[test]
fn a_certificate_names_the_user() {
    let (directory, authority) = authority();
    let sink = sink(directory.path(), TLS_AND_CA);
    let external = |tls, authzid: &str| {
        let mut client = Client::greet_tls(sink.address(1), tls).expect("the server talks");
        client.auth("EXTERNAL", authzid).expect("the server talks")
    };
    let certified = |name: &str, emails: &[&str]| authority.client_with_certificate(&authority, name, emails);
    assert!(external(certified(USER, &[]), "").starts_with("235 "));
    assert!(external(certified("Tim", &["other@example.org", USER]), USER).starts_with("235 "));
    assert!(external(certified(USER, &["tom@example.org"]), "").starts_with("535 5.7.8 "));
    assert!(external(certified("tom", &[]), USER).starts_with("535 5.7.8 "));
    assert!(external(certified(USER, &[]), "tom").starts_with("535 5.7.8 "));
    assert!(external(authority.client(), "").starts_with("504 5.5.4 "));
    // Nobody gets as far as SMTP with a certificate that some other authority has signed.
    let foreign = authority.client_with_certificate(&Authority::new(), USER, &[]);
    assert!(Client::greet_tls(sink.address(1), foreign).is_err());
}

/// A directory with the files of an authority: [`TLS_AND_CA`] names them.
fn authority() -> (TempDir, Authority) {
    let directory = TempDir::new().expect("there is room for a directory");
    let authority = Authority::new();
    authority.write(directory.path());
    (directory, authority)
}

fn sink(directory: &Path, arguments: &[&str]) -> Program {
    let login = ["--user", USER, "--password", PASSWORD, "--plaintext-auth", "--no-auth-delay"];
    Program::start("sink", directory, "trace", &[&["--listen", "127.0.0.1:0"], &login[..], arguments].concat())
}

/// Ends the sink, which does not handle signals, and returns what it wrote.
fn stop(sink: Program) -> (String, String) {
    sink.terminate();
    let (_, stdout, stderr) = sink.wait();
    (stdout, stderr)
}

const USER: &str = "tim";
const PASSWORD: &str = "tanstaaftanstaaf";
const TOKEN: &str = "ya29.vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg";
/// A listener with TLS from the first octet, a certificate for it, and one to verify clients' by.
const TLS_AND_CA: &[&str] =
    &["--listen-tls", "127.0.0.1:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem", "--client-ca", "ca.pem"];
