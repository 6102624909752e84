//! What a connection holds for a peer that has proved nothing, whatever it sends and however little it reads: the
//! figures of the README's "Bounded".
//!
//! The counting allocator counts by thread, so tests that run at the same time do not disturb each other.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "tls/certificates.rs"]
#[expect(dead_code, reason = "the tests of the TLS layer show more certificates")]
mod certificates;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use allocation_counter::measure;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConfig, version};
use sansmtp::tls::Session;
use sansmtp::{Action, Auth, AuthResult, Config, Connection, Hooks, Limits, Proxy, Verdict};

use certificates::{client_config, server_config};

/// Replies that wait for their flush: 4 KiB and the last of them.
const MAX_UNFLUSHED: usize = 4096 + 512;
/// In the clear: one line of 12,288 octets, in a buffer that has grown to it, and what makes the connection.
const MAX_HELD_IN_THE_CLEAR: i64 = 20 << 10;
/// A handshake of at most 12,288 octets, in a buffer that has grown to it.
const MAX_HELD_IN_HANDSHAKE: i64 = 28 << 10;
const MAX_IDLE_UNDER_TLS: i64 = 12 << 10;
/// A record of 16 KiB, in a buffer that has grown to it, or decrypted; one line of it, and replies.
const MAX_HELD_UNDER_TLS: i64 = 64 << 10;

/// A client that sends and does not read: nobody polls behind the first flush that it does not take.
struct Deaf {
    session: Session,
    /// What could be written before the client's window was full.
    window: usize,
    out: Vec<u8>,
    now: Duration,
    is_stuck: bool,
    is_closed: bool,
    largest_out: usize,
    /// What the session owns, with all that it has to say.
    held: i64,
    /// The most that it has owned after something was sent.
    most: i64,
}

impl Deaf {
    /// A client of the session that `begin` gives.
    fn new(window: usize, begin: impl FnOnce() -> Session) -> Self {
        let mut session = None;
        let memory = measure(|| session = Some(begin()));
        let mut this = Self {
            session: session.unwrap(),
            window,
            out: Vec::new(),
            now: Duration::ZERO,
            is_stuck: false,
            is_closed: false,
            largest_out: 0,
            held: memory.bytes_current + i64::try_from(size_of::<Session>()).unwrap(),
            most: 0,
        };
        this.hear(b"");
        this
    }

    /// What is written to the client, as long as it takes it.
    fn hear(&mut self, input: &[u8]) -> Vec<u8> {
        let mut written = Vec::new();
        let memory = measure(|| written = self.poll_with(input));
        self.held += memory.bytes_current - i64::try_from(written.capacity()).unwrap();
        self.most = self.most.max(self.held);
        written
    }

    fn poll_with(&mut self, mut input: &[u8]) -> Vec<u8> {
        let mut written = Vec::new();
        while !self.is_stuck && !self.is_closed {
            self.largest_out = self.largest_out.max(self.out.len());
            let answer = match self.session.poll(self.now, &mut input) {
                Action::Reply(reply) => {
                    self.out.extend_from_slice(reply.as_bytes());
                    continue;
                }
                Action::Challenge(challenge) => {
                    self.out.extend_from_slice(challenge.as_bytes());
                    continue;
                }
                Action::Transmit(ciphertext) => {
                    self.out.extend_from_slice(ciphertext);
                    continue;
                }
                Action::Flush { .. } => {
                    self.is_stuck = self.window < self.out.len();
                    if !self.is_stuck {
                        self.window -= self.out.len();
                        written.append(&mut self.out);
                        self.out = Vec::new();
                    }
                    continue;
                }
                Action::CallAuthenticator(request) => request.answer(AuthResult::refuse()),
                Action::CallHook(call) => call.answer(Verdict::Accept),
                Action::NeedInput { .. } => {
                    assert!(input.is_empty());
                    break;
                }
                Action::Pause { until } => {
                    self.now = until;
                    continue;
                }
                Action::Close => {
                    self.is_closed = true;
                    continue;
                }
                Action::Event(_) | Action::Aborted(_) | Action::Content(_) => continue,
                other @ (Action::CallAuthHandler(_) | Action::StartTls | Action::AwaitAnswer { .. }) => {
                    panic!("{other:?} does not belong here")
                }
            };
            self.session.answer(answer).unwrap();
        }
        written
    }

    /// Sends all of it, as long as the server reads.
    fn send(&mut self, octets: &[u8], cut: usize) {
        for piece in octets.chunks(cut) {
            self.hear(piece);
        }
    }
}

fn config(lmtp: bool) -> Arc<Config> {
    let auth = Auth::new().require_tls(false).max_failures(u32::MAX);
    let limits = Limits { max_unrecognized_commands: u32::MAX, max_errors: None, ..Limits::default() };
    let proxy = Proxy::from_networks(["192.0.2.100".parse().unwrap()]).max_octets(4096);
    let builder = Config::builder("mx.example.org").auth(auth).limits(limits).proxy(proxy).lmtp(lmtp);
    builder.starttls(true).implicit_tls(true).hooks(Hooks::MESSAGE).build().unwrap()
}

fn connection(config: Arc<Config>, host: u8) -> Connection {
    Connection::new(config, SocketAddr::from(([192, 0, 2, host], 4321)))
}

fn auth_line(octets: usize) -> Vec<u8> {
    [&b"AUTH PLAIN "[..], &vec![b'A'; octets]].concat()
}

#[test]
fn in_the_clear() {
    let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\x00"[..], &[0; 4095]].concat();
    let cases: [(&str, u8, Vec<u8>); 11] = [
        ("nothing", 1, Vec::new()),
        ("a header of a proxy that does not end", 100, header),
        ("a line that does not end", 1, vec![b'x'; 1 << 20]),
        ("an AUTH line that does not end", 1, auth_line(12_270)),
        ("a response that does not end", 1, [&b"AUTH PLAIN\r\n"[..], &[b'A'; 12_280]].concat()),
        ("AUTH lines", 1, [auth_line(12_272), b"\r\n".to_vec()].concat().repeat(33)),
        ("RSET", 1, b"RSET\r\n".repeat(66_667)),
        ("NOOP", 1, b"NOOP\r\n".repeat(66_667)),
        ("EHLO", 1, b"EHLO client.example\r\n".repeat(20_000)),
        ("HELP", 1, b"HELP\r\n".repeat(66_667)),
        ("unknown commands", 1, b"X\r\n".repeat(133_333)),
    ];
    for (case, host, input) in cases {
        for (cut, window) in [(1, 500), (4096, 500), (65_536, 500), (4096, 10_000), (65_536, usize::MAX)] {
            let config = config(false);
            let mut client = Deaf::new(window, || Session::new(connection(config, host), None));
            client.send(&input, cut);
            let (most, to_write) = (client.most, client.largest_out);
            assert!(to_write <= MAX_UNFLUSHED, "{case}, cut {cut}: {to_write} to be written");
            assert!(most <= MAX_HELD_IN_THE_CLEAR, "{case}, cut {cut}, window {window}: {most}");
        }
    }
}

/// A thousand recipients in one group, and as many replies behind the content.
#[test]
fn replies_to_groups_are_written_at_four_kibibytes() {
    let recipients: String = (0..1000).map(|number| format!("RCPT TO:<user{number}@example.org>\r\n")).collect();
    let group = format!("LHLO c.example\r\nMAIL FROM:<a@example.com>\r\n{recipients}DATA\r\n");
    let mut client = Deaf::new(usize::MAX, || Session::new(connection(config(true), 1), None));
    let replies = client.hear(group.as_bytes());
    assert_eq!(replies.split(|octet| *octet == b'\n').filter(|line| line.starts_with(b"250 2.1.5 ")).count(), 1000);
    let replies = client.hear(b"x\r\n.\r\n");
    assert_eq!(replies.split(|octet| *octet == b'\n').filter(|line| line.starts_with(b"250 2.0.0 ")).count(), 1000);
    assert!((4096..=MAX_UNFLUSHED).contains(&client.largest_out), "{}", client.largest_out);
}

/// What all connections share is made before it is measured what one takes.
static TLS: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| Arc::new(server_config()));
static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| config(false));

fn implicit() -> Deaf {
    let (config, tls) = (Arc::clone(LazyLock::force(&CONFIG)), Arc::clone(LazyLock::force(&TLS)));
    Deaf::new(usize::MAX, || Session::implicit(connection(config, 1), tls).unwrap())
}

/// Records of a handshake message that announces more than comes of it.
fn unfinished_client_hello(octets: usize, record: usize) -> Vec<u8> {
    let mut message = vec![1, 0, 0xff, 0xff];
    message.resize(octets, 0);
    message
        .chunks(record)
        .flat_map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], part].concat()
        })
        .collect()
}

#[test]
fn under_tls_before_the_handshake_is_done() {
    for octets in [1, 4_000, 12_200, 60_000] {
        for record in [1, 100, 16_384] {
            for cut in [1, 4096, usize::MAX] {
                let hello = unfinished_client_hello(octets, record);
                let mut client = implicit();
                client.send(&hello, cut);
                let most = client.most;
                assert!(most <= MAX_HELD_IN_HANDSHAKE, "{octets} octets in records of {record}, cut {cut}: {most}");
                assert_eq!(client.is_closed, hello.len() > 12_288, "{octets} octets in records of {record}");
            }
        }
    }
}

/// The client's side of a handshake that is done.
fn established(deaf: &mut Deaf, version: &'static rustls::SupportedProtocolVersion) -> ClientConnection {
    let name = ServerName::try_from("mx.example.org").unwrap();
    let mut client = ClientConnection::new(Arc::new(client_config(version)), name).unwrap();
    client.set_buffer_limit(None);
    while client.is_handshaking() || client.wants_write() {
        let written = deaf.hear(&ciphertext(&mut client));
        client.read_tls(&mut &written[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    client
}

fn ciphertext(client: &mut ClientConnection) -> Vec<u8> {
    let mut ciphertext = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut ciphertext).unwrap();
    }
    ciphertext
}

#[test]
fn under_tls_before_authentication() {
    let cases: [(&str, Vec<u8>); 6] = [
        ("nothing", Vec::new()),
        ("RSET", b"RSET\r\n".repeat(66_667)),
        ("NOOP", b"NOOP\r\n".repeat(66_667)),
        ("an AUTH line that does not end", auth_line(12_270)),
        ("AUTH lines", [auth_line(12_272), b"\r\n".to_vec()].concat().repeat(33)),
        ("a line that does not end", vec![b'x'; 1 << 20]),
    ];
    for version in [&version::TLS12, &version::TLS13] {
        for (case, input) in &cases {
            for (cut, window) in [(1, 8192), (4096, 8192), (65_536, 8192), (65_536, usize::MAX)] {
                // All but the last octet of the last record.
                for left_out in [0, 1] {
                    let mut deaf = implicit();
                    let mut client = established(&mut deaf, version);
                    let idle = deaf.held;
                    assert!(idle <= MAX_IDLE_UNDER_TLS, "{idle}");
                    deaf.window = window;
                    client.writer().write_all(input).unwrap();
                    let sent = ciphertext(&mut client);
                    deaf.send(&sent[..sent.len().saturating_sub(left_out)], cut);
                    let most = deaf.most;
                    assert!(most <= MAX_HELD_UNDER_TLS, "{case}, cut {cut}, window {window}: {most}");
                }
            }
        }
    }
}

/// What a line has brought, and what a record has: the most that there is.
#[test]
fn a_line_and_a_record_that_do_not_end() {
    for version in [&version::TLS12, &version::TLS13] {
        let mut deaf = implicit();
        let mut client = established(&mut deaf, version);
        client.writer().write_all(&auth_line(12_270)).unwrap();
        deaf.send(&ciphertext(&mut client), 4096);
        client.writer().write_all(&[b'A'; 16_384]).unwrap();
        let record = ciphertext(&mut client);
        deaf.send(&record[..record.len() - 1], 4096);
        assert!((48 << 10..=MAX_HELD_UNDER_TLS).contains(&deaf.most), "{}", deaf.most);
    }
}
