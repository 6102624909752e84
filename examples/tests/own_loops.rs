//! The programs that run the engine in a loop of their own: what a client gets from each of them.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use support::{Client, PATIENCE, Program, assert_absent, run, tool};
use tempfile::TempDir;

macro_rules! for_each_loop {
    ($($case:ident,)*) => {
        for_each_loop!(@ std_loop: $($case,)*);
        for_each_loop!(@ mio_loop: $($case,)*);
        for_each_loop!(@ executor_loop: $($case,)*);
    };
    (@ $program:ident: $($case:ident,)*) => {
        mod $program {
            $(
                #[test]
                fn $case() {
                    super::$case(stringify!($program));
                }
            )*
        }
    };
}

for_each_loop!(
    a_submission_by_each_mechanism,
    a_message_that_is_refused_gets_into_no_other,
    a_session_in_one_write,
    a_session_octet_by_octet,
    after_half_a_close_all_replies_arrive,
    a_refusal_keeps_nobody_else_waiting,
    a_client_that_does_not_read_is_not_read_either,
    a_client_that_never_reads_is_dropped,
    silence_ends_in_421,
    curl_submits_under_tls,
);

fn a_submission_by_each_mechanism(program: &str) {
    let server = Server::start(program);
    for log_in in [plain, login, scram] {
        let mut client = Client::greet(server.address()).expect("the server talks");
        let reply = client.command("MAIL FROM:<tim@example.org>").expect("the server talks");
        assert!(reply.starts_with("530 5.7.0 "), "{reply}");
        let reply = log_in(&mut client, PASSWORD);
        assert!(reply.starts_with("235 2.7.0 "), "{reply}");
        for _ in 0..2 {
            let reply = client.send("tim@example.org", "friend@example.org", CONTENT).expect("the server talks");
            assert_eq!(reply, format!("250 2.0.0 {} octets by tim", CONTENT.len()));
        }
        assert!(client.command("QUIT").expect("the server talks").starts_with("221 "));
        assert!(client.is_closed());
    }
    let Server { program, directory: _directory } = server;
    program.terminate();
    let (_, stdout, stderr) = program.wait();
    assert_absent(PASSWORD, &stdout);
    assert_absent(PASSWORD, &stderr);
}

/// Which the loops tell by the size: cut at each octet of what was refused, and whole.
fn a_message_that_is_refused_gets_into_no_other(program: &str) {
    let server = Server::start(program);
    let mut client = Client::log_in(server.address(), "tim", PASSWORD).expect("the right password is taken");
    client.send_voids("tim@example.org", "friend@example.org").expect("the server talks");
    let reply = client.send("tim@example.org", "friend@example.org", CONTENT).expect("the server talks");
    assert_eq!(reply, format!("250 2.0.0 {} octets by tim", CONTENT.len()));

    let void = b"void\r\nvo\nid\r\n.\r\n";
    for cut in 1..void.len() {
        client.begin("tim@example.org", &["friend@example.org"]).expect("the server talks");
        let (beginning, rest) = void.split_at(cut);
        for part in [beginning, rest] {
            client.write(part).expect("the server listens");
        }
        assert!(client.reply().expect("the server talks").starts_with("554 5.6.11 "));
        client.begin("tim@example.org", &["friend@example.org"]).expect("the server talks");
        assert_eq!(client.command("hello\r\n.").expect("the server talks"), "250 2.0.0 7 octets by tim");
    }
    client.begin("tim@example.org", &["friend@example.org"]).expect("the server talks");
    assert_eq!(client.command(".").expect("the server talks"), "250 2.0.0 0 octets by tim");
}

fn a_session_in_one_write(program: &str) {
    let server = Server::start(program);
    let mut stream = connect(server.address());
    stream.write_all(&session()).expect("the server listens");
    assert_eq!(codes(&rest(&mut stream)), CODES);
}

fn a_session_octet_by_octet(program: &str) {
    let server = Server::start(program);
    let mut stream = connect(server.address());
    for octet in session() {
        stream.write_all(&[octet]).expect("the server listens");
    }
    assert_eq!(codes(&rest(&mut stream)), CODES);
}

fn after_half_a_close_all_replies_arrive(program: &str) {
    let server = Server::start(program);
    let mut stream = connect(server.address());
    let session = session();
    let without_quit = session.strip_suffix(b"QUIT\r\n").expect("that is its end");
    stream.write_all(without_quit).expect("the server listens");
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    assert_eq!(codes(&rest(&mut stream)), CODES.split_last().expect("there are some").1);
}

/// While the pause before the refusal lasts, others are served; and behind it the session goes on.
fn a_refusal_keeps_nobody_else_waiting(program: &str) {
    let server = Server::start(program);
    let mut guessing = Client::greet(server.address()).expect("the server talks");
    let wrong = STANDARD.encode("\0tim\0wrong");
    guessing.write(format!("AUTH PLAIN {wrong}\r\nNOOP\r\n").as_bytes()).expect("the server listens");
    Client::log_in(server.address(), "tim", PASSWORD).expect("the right password is taken");
    let reply = guessing.reply().expect("the server talks");
    assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    assert!(guessing.reply().expect("the server talks").starts_with("250 "));
    assert!(scram(&mut guessing, "wrong").starts_with("535 5.7.8 "));
    assert!(scram(&mut guessing, PASSWORD).starts_with("235 2.7.0 "));
}

fn a_client_that_does_not_read_is_not_read_either(program: &str) {
    let server = Server::start(program);
    let mut stream = connect(server.address());
    let mut written = write_until_it_stalls(&mut stream).expect("the server stays");
    let mut replies = stream.try_clone().expect("there is a descriptor");
    let reading = std::thread::spawn(move || rest(&mut replies));
    stream.set_write_timeout(Some(PATIENCE)).expect("it is a timeout");
    // The command that the stall has cut in two, and the end.
    let cut = written % RSET.len();
    if cut > 0 {
        stream.write_all(RSET.get(cut..).unwrap_or_default()).expect("the server listens again");
        written += RSET.len() - cut;
    }
    stream.write_all(b"QUIT\r\n").expect("the server listens");
    let replies = reading.join().expect("it reads");
    assert_eq!(replies.lines().filter(|line| line.starts_with("250 ")).count(), written / RSET.len());
    assert!(replies.lines().last().is_some_and(|line| line.starts_with("221 ")), "it ends as it should");
}

fn a_client_that_never_reads_is_dropped(program: &str) {
    let server = Server::start_with(program, &["--timeout", "0.5"]);
    let mut stream = connect(server.address());
    stream.set_write_timeout(Some(PATIENCE)).expect("it is a timeout");
    let error = std::iter::repeat_with(|| stream.write_all(&RSET.repeat(100))).find_map(Result::err);
    let kind = error.expect("it goes on until it fails").kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    Client::greet(server.address()).expect("others are served");
}

fn silence_ends_in_421(program: &str) {
    let server = Server::start_with(program, &["--timeout", "0.2"]);
    let mut silent = connect(server.address());
    let mut halfway = connect(server.address());
    halfway.write_all(b"EHLO client.exam").expect("the server listens");
    for stream in [&mut silent, &mut halfway] {
        assert_eq!(codes(&rest(stream)), ["220", "421"]);
    }
}

fn curl_submits_under_tls(program: &str) {
    let Some(curl) = tool("curl") else { return };
    let server = Server::start(program);
    let message = server.directory.path().join("message.eml");
    // Several TLS records, and more than a socket takes at once.
    let content = CONTENT.repeat(100_000);
    std::fs::write(&message, &content).expect("there is room for a message");
    // The certificate is made anew at each start: there is nothing to verify it against.
    let (sent, printed) = run(Command::new(curl)
        .args(["--verbose", "--silent", "--max-time", "60", "--ssl-reqd", "--insecure"])
        .args(["--url", &format!("smtp://{}", server.address()), "--user", &format!("tim:{PASSWORD}")])
        .args(["--mail-from", "tim@example.org", "--mail-rcpt", "friend@example.org", "--upload-file"])
        .arg(message));
    assert!(sent, "{printed}");
    assert!(printed.contains(&format!("250 2.0.0 {} octets by tim", content.len())), "{printed}");
}

/// Beside the engine, a loop is not much to write.
#[test]
fn each_file_has_120_lines_at_most() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("loops");
    for entry in std::fs::read_dir(folder).expect("there are loops") {
        let path = entry.expect("it is a file").path();
        let lines = std::fs::read_to_string(&path).expect("it is text").lines().count();
        assert!(lines <= 120, "{}: {lines} lines", path.display());
    }
}

#[test]
fn mio_holds_ten_thousand_connections() {
    // A connection takes a descriptor here and one there, and each process needs some besides.
    let limit = rlimit::increase_nofile_limit(u64::MAX).expect("there is a limit");
    let count = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(200).min(10_000);
    let server = Server::start("mio_loop");
    let mut clients: Vec<Client> = Vec::with_capacity(count);
    for number in 0..count {
        match Client::greet(server.address()) {
            Ok(client) => clients.push(client),
            Err(error) => panic!("connection {number} of {count}: {error}"),
        }
    }
    for client in clients.iter_mut().step_by(100) {
        assert!(plain(client, PASSWORD).starts_with("235 2.7.0 "));
    }
    // All of them at once, and each of them has its answer.
    for client in &mut clients {
        client.write(b"NOOP\r\n").expect("the server listens");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let reply = client.reply().unwrap_or_else(|error| panic!("connection {number}: {error}"));
        assert!(reply.starts_with("250 "), "connection {number}: {reply}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.program.id())).unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("unknown").trim();
    eprintln!("mio_loop holds {count} connections, {} of them authenticated, in {memory}", count.div_ceil(100));
    drop(clients);
    let mut client = Client::log_in(server.address(), "tim", PASSWORD).expect("it goes on");
    let reply = client.send("tim@example.org", "friend@example.org", CONTENT).expect("the server talks");
    assert!(reply.starts_with("250 "), "{reply}");
}

struct Server {
    program: Program,
    directory: TempDir,
}

impl Server {
    fn start(program: &str) -> Self {
        Self::start_with(program, &[])
    }

    fn start_with(program: &str, arguments: &[&str]) -> Self {
        let directory = TempDir::new().expect("there is room for a directory");
        let arguments = [&["--listen", "127.0.0.1:0"], arguments].concat();
        Self { program: Program::start(program, directory.path(), "trace", &arguments), directory }
    }

    fn address(&self) -> SocketAddr {
        self.program.address(0)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("it is a TCP connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is a timeout");
    stream
}

/// All that comes until the server closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the server closes in order");
    text
}

/// The codes of the replies, once for each reply.
fn codes(replies: &str) -> Vec<&str> {
    replies.lines().filter(|line| line.as_bytes().get(3) == Some(&b' ')).filter_map(|line| line.get(..3)).collect()
}

/// Sends commands and reads nothing until no more of them are taken; how many octets were.
fn write_until_it_stalls(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    let (commands, mut written) = (RSET.repeat(10_000), 0);
    while written < 256 << 20 {
        match stream.write(commands.get(written % commands.len()..).unwrap_or_default()) {
            Ok(octets) => written += octets,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(written),
            Err(error) => return Err(error),
        }
    }
    panic!("somewhere, the replies to {written} octets of commands are kept");
}

/// A whole session, in which nothing waits for a reply.
fn session() -> Vec<u8> {
    let auth = STANDARD.encode(format!("\0tim\0{PASSWORD}"));
    let group = "MAIL FROM:<tim@example.org>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n";
    let mut session = format!("EHLO client.example\r\nAUTH PLAIN {auth}\r\n").into_bytes();
    for _ in 0..2 {
        session.extend_from_slice(group.as_bytes());
        session.extend_from_slice(&support::stuffed(CONTENT));
        session.extend_from_slice(b".\r\n");
    }
    session.extend_from_slice(b"QUIT\r\n");
    session
}

fn plain(client: &mut Client, password: &str) -> String {
    client.auth_plain("tim", password).expect("the server talks")
}

fn login(client: &mut Client, password: &str) -> String {
    for line in ["AUTH LOGIN", &STANDARD.encode("tim")] {
        let reply = client.command(line).expect("the server talks");
        assert!(reply.starts_with("334 "), "{reply}");
    }
    client.command(&STANDARD.encode(password)).expect("the server talks")
}

/// The client's side of SCRAM-SHA-256 (RFC 5802), which believes what the server says of itself.
fn scram(client: &mut Client, password: &str) -> String {
    let decode = |reply: &str| {
        let encoded = reply.strip_prefix("334 ").unwrap_or_else(|| panic!("{reply}"));
        String::from_utf8(STANDARD.decode(encoded).expect("it is base64")).expect("it is text")
    };
    let first = "n=tim,r=fyko+d2lbbFgONRv9qkxdawL";
    let line = format!("AUTH SCRAM-SHA-256 {}", STANDARD.encode(format!("n,,{first}")));
    let server_first = decode(&client.command(&line).expect("the server talks"));
    let attribute = |name: &str| {
        server_first.split(',').find_map(|part| part.strip_prefix(name)).unwrap_or_else(|| panic!("{server_first}"))
    };
    let last = format!("c=biws,r={}", attribute("r="));
    let salt = STANDARD.decode(attribute("s=")).expect("it is base64");
    let iterations = attribute("i=").parse().expect("it is a number");
    let mut salted = [0; 32];
    pbkdf2::pbkdf2::<Hmac<Sha256>>(password.as_bytes(), &salt, iterations, &mut salted).expect("any length will do");
    let hmac = |key: &[u8], text: &[u8]| {
        let mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do").chain_update(text);
        mac.finalize().into_bytes()
    };
    let client_key = hmac(&salted, b"Client Key");
    let signature = hmac(&Sha256::digest(client_key), format!("{first},{server_first},{last}").as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
    let line = STANDARD.encode(format!("{last},p={}", STANDARD.encode(proof)));
    let reply = client.command(&line).expect("the server talks");
    assert!(decode(&reply).starts_with(['v', 'e']), "{reply}");
    client.command("").expect("the server talks")
}

const PASSWORD: &str = "tanstaaftanstaaf";
const CONTENT: &[u8] = b"Subject: dots\r\n\r\n.\r\n..two\r\nend\r\n";
const RSET: &[u8] = b"RSET\r\n";
/// The replies to [`session`].
const CODES: &[&str] =
    &["220", "250", "235", "250", "250", "250", "354", "250", "250", "250", "250", "354", "250", "221"];
