//! The TLS layer against rustls's own client, octets carried in memory: what goes through it, how it ends,
//! and what is never looked at.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use sansmtp::tls::Session;
use sansmtp::{
    Action, Auth, AuthRequest, AuthResult, Config, Connection, HookQuestion, Hooks, Proxy, Timeouts, Verdict,
};

// ---------------------------------------------------------------------------------------------------
// Certificates

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Identity {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }
}

struct Authority {
    certificate: CertificateDer<'static>,
    server: Identity,
    client: Identity,
}

/// Made once: all tests trust it.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test authority");
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let issue = |name: &str, usage| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages.push(usage);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    };
    let server = issue("mx.example.org", ExtendedKeyUsagePurpose::ServerAuth);
    let client = issue("client.example", ExtendedKeyUsagePurpose::ClientAuth);
    Authority { certificate, server, client }
});

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.certificate.clone()).unwrap();
    roots
}

fn server_config() -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(AUTHORITY.server.chain.clone(), AUTHORITY.server.key())
        .unwrap()
}

/// Asks for certificates of the authority.
fn asking_server_config() -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots()), Arc::clone(&provider)).build().unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(AUTHORITY.server.chain.clone(), AUTHORITY.server.key())
        .unwrap()
}

fn client_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots())
        .with_no_client_auth()
}

fn identified_client_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots())
        .with_client_auth_cert(AUTHORITY.client.chain.clone(), AUTHORITY.client.key())
        .unwrap()
}

// ---------------------------------------------------------------------------------------------------
// The server's side

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Input(Duration),
    Answer(Duration),
    Closed,
}

/// A question that is kept open.
enum Open {
    Hook(HookQuestion),
    Authenticator(AuthRequest),
}

struct Server {
    session: Session,
    now: Duration,
    /// Given to the session and not taken yet.
    unread: Vec<u8>,
    /// Appended and not flushed.
    out: Vec<u8>,
    /// Flushed and not carried to the client yet.
    sent: Vec<u8>,
    /// All that ever came as `Transmit`.
    transmitted: Vec<u8>,
    /// All that ever came as a reply in the clear.
    clear: String,
    /// Questions, aborts and events.
    log: Vec<String>,
    content: Vec<u8>,
    /// Keeps questions open instead of answering them.
    hold: bool,
    open: Option<Open>,
    wait: Wait,
}

impl Server {
    fn new(session: Session) -> Self {
        let mut server = Self {
            session,
            now: Duration::ZERO,
            unread: Vec::new(),
            out: Vec::new(),
            sent: Vec::new(),
            transmitted: Vec::new(),
            clear: String::new(),
            log: Vec::new(),
            content: Vec::new(),
            hold: false,
            open: None,
            wait: Wait::Closed,
        };
        server.run();
        server
    }

    fn feed(&mut self, octets: &[u8]) {
        self.unread.extend_from_slice(octets);
        self.run();
    }

    fn end_of_input(&mut self) {
        self.session.end_of_input();
        self.run();
    }

    /// Polls until the session waits.
    fn run(&mut self) {
        loop {
            let unread = std::mem::take(&mut self.unread);
            let mut input = &unread[..];
            let (mut answer, mut wait) = (None, None);
            match self.session.poll(self.now, &mut input) {
                Action::Reply(reply) => {
                    assert!(self.transmitted.is_empty(), "in the clear, after TLS: {reply:?}");
                    self.clear.push_str(&String::from_utf8_lossy(reply.as_bytes()));
                    self.out.extend_from_slice(reply.as_bytes());
                }
                Action::Challenge(challenge) => {
                    assert!(self.transmitted.is_empty(), "a challenge in the clear, after TLS");
                    self.clear.push_str(&String::from_utf8_lossy(challenge.as_bytes()));
                    self.out.extend_from_slice(challenge.as_bytes());
                }
                Action::Transmit(ciphertext) => {
                    self.transmitted.extend_from_slice(ciphertext);
                    self.out.extend_from_slice(ciphertext);
                }
                Action::Flush { .. } => self.sent.append(&mut self.out),
                Action::CallAuthenticator(request) => {
                    let credentials = request.credentials();
                    let right = credentials.password().is_some_and(|password| password.ct_eq(b"tanstaaftanstaaf"));
                    self.log.push(format!("authenticate {} {}", request.mechanism(), credentials.authcid()));
                    if self.hold {
                        self.open = Some(Open::Authenticator(request));
                    } else {
                        let result = if right { AuthResult::accept() } else { AuthResult::refuse() };
                        answer = Some(request.answer(result));
                    }
                }
                Action::CallAuthHandler(turn) => panic!("not configured: {turn:?}"),
                Action::CallHook(call) => {
                    self.log.push(format!("{:?}", call.hook()));
                    if self.hold {
                        self.open = Some(Open::Hook(call.into_question()));
                    } else {
                        answer = Some(call.answer(Verdict::Accept));
                    }
                }
                Action::Content(piece) => self.content.extend_from_slice(piece),
                Action::Aborted(aborted) => self.log.push(format!("{aborted:?}")),
                Action::Event(event) => self.log.push(format!("{event:?}")),
                Action::StartTls => panic!("the layer does the handshake itself"),
                Action::NeedInput { deadline } => wait = Some(Wait::Input(deadline)),
                Action::AwaitAnswer { deadline } => wait = Some(Wait::Answer(deadline)),
                Action::Pause { until } => self.now = until,
                Action::Close => wait = Some(Wait::Closed),
            }
            let taken = unread.len() - input.len();
            self.unread = unread;
            self.unread.drain(..taken);
            if let Some(answer) = answer {
                self.session.answer(answer).unwrap();
            }
            let Some(wait) = wait else { continue };
            assert!(self.out.is_empty(), "a flush comes before every wait and before the end: {wait:?}");
            if matches!(wait, Wait::Input(_)) {
                assert!(self.unread.is_empty(), "input is used up before more is asked for");
            }
            self.wait = wait;
            return;
        }
    }

    fn is_closed(&self) -> bool {
        self.wait == Wait::Closed
    }

    fn logged(&self, what: &str) -> usize {
        self.log.iter().filter(|entry| entry.contains(what)).count()
    }
}

// ---------------------------------------------------------------------------------------------------
// The wire

/// How what the client sends is cut into reads.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Octets,
    Random(u64),
}

impl Cut {
    fn next(&mut self, available: usize) -> usize {
        match self {
            Self::Whole => available,
            Self::Octets => 1,
            Self::Random(state) => {
                // xorshift64; small pieces and large ones.
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let most = if *state & 0x100 == 0 { 40 } else { 9_000 };
                1 + (*state >> 16) as usize % most
            }
        }
        .min(available)
    }
}

struct Wire {
    server: Server,
    client: ClientConnection,
    cut: Cut,
    /// The client has seen close_notify.
    closed_cleanly: bool,
    error: Option<rustls::Error>,
}

fn config(change: impl FnOnce(sansmtp::ConfigBuilder) -> sansmtp::ConfigBuilder) -> Arc<Config> {
    let builder = Config::builder("mx.example.org").auth(Auth::new()).starttls(true).implicit_tls(true);
    change(builder.hooks(Hooks::ALL)).build().unwrap()
}

fn connection(config: Arc<Config>) -> Connection {
    Connection::new(config, SocketAddr::from(([192, 0, 2, 1], 4321)))
}

fn starttls_session() -> Session {
    Session::new(connection(config(|builder| builder)), Some(Arc::new(server_config())))
}

fn implicit_session() -> Session {
    Session::implicit(connection(config(|builder| builder)), Arc::new(server_config())).unwrap()
}

fn client(config: ClientConfig) -> ClientConnection {
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from("mx.example.org").unwrap()).unwrap();
    client.set_buffer_limit(None);
    client
}

impl Wire {
    fn new(session: Session, client_config: ClientConfig) -> Self {
        Self {
            server: Server::new(session),
            client: client(client_config),
            cut: Cut::Whole,
            closed_cleanly: false,
            error: None,
        }
    }

    /// Under TLS from the start, greeted and past EHLO.
    fn implicit(version: &'static SupportedProtocolVersion) -> Self {
        let mut wire = Self::new(implicit_session(), client_config(version));
        assert_eq!(wire.shuttle(), "220 mx.example.org ESMTP\r\n");
        assert!(wire.say("EHLO client.example\r\n").starts_with("250-"));
        wire
    }

    fn cut(mut self, cut: Cut) -> Self {
        self.cut = cut;
        self
    }

    /// Carries `octets` to the server as they are.
    fn carry(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(self.cut.next(rest.len()));
            self.server.feed(piece);
            rest = behind;
        }
    }

    /// Says something in the clear; what came back in the clear.
    fn say_in_the_clear(&mut self, text: &str) -> String {
        self.carry(text.as_bytes());
        String::from_utf8(std::mem::take(&mut self.server.sent)).unwrap()
    }

    /// What the client has to send, as ciphertext.
    fn client_sends(&mut self) -> Vec<u8> {
        let mut ciphertext = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut ciphertext).unwrap();
        }
        ciphertext
    }

    /// Lets the client encrypt without sending.
    fn encrypt(&mut self, text: &str) -> Vec<u8> {
        self.client.writer().write_all(text.as_bytes()).unwrap();
        self.client_sends()
    }

    /// Says something under TLS; what came back.
    fn say(&mut self, text: &str) -> String {
        self.client.writer().write_all(text.as_bytes()).unwrap();
        self.shuttle()
    }

    /// Carries octets both ways until nothing moves; what the client could decrypt.
    fn shuttle(&mut self) -> String {
        let mut said = Vec::new();
        loop {
            let to_server = self.client_sends();
            self.carry(&to_server);
            let to_client = std::mem::take(&mut self.server.sent);
            if to_server.is_empty() && to_client.is_empty() {
                return String::from_utf8(said).unwrap();
            }
            self.receive(&to_client, &mut said);
        }
    }

    fn receive(&mut self, mut ciphertext: &[u8], said: &mut Vec<u8>) {
        while !ciphertext.is_empty() && self.error.is_none() {
            self.client.read_tls(&mut ciphertext).unwrap();
            match self.client.process_new_packets() {
                Ok(state) => self.closed_cleanly |= state.peer_has_closed(),
                Err(error) => self.error = Some(error),
            }
            let mut buffer = [0; 4096];
            loop {
                match self.client.reader().read(&mut buffer) {
                    Ok(0) => break,
                    Ok(octets) => said.extend_from_slice(&buffer[..octets]),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
            if self.closed_cleanly {
                assert!(ciphertext.is_empty(), "close_notify is the last record");
            }
        }
    }

    fn alert(&self) -> String {
        format!("{:?}", self.error)
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// "\0tim\0tanstaaftanstaaf".
const PLAIN: &str = "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n";

// ---------------------------------------------------------------------------------------------------
// Whole sessions

#[derive(Debug, PartialEq)]
struct Played {
    log: Vec<String>,
    content: Vec<u8>,
    replies: String,
}

/// More than four records of content, and lines with dots.
fn message() -> (String, Vec<u8>) {
    let (mut wire, mut content) = (String::new(), String::new());
    for number in 0.. {
        if content.len() > 70_000 {
            break;
        }
        let dot = if number % 7 == 0 { "." } else { "" };
        let line = format!("{dot}line {number} of the message, {}\r\n", "x".repeat(number % 61));
        let _ = write!(wire, "{dot}{line}");
        content.push_str(&line);
    }
    (wire + ".\r\n", content.into_bytes())
}

fn play(version: &'static SupportedProtocolVersion, implicit: bool, cut: Cut) -> Played {
    let session = if implicit { implicit_session() } else { starttls_session() };
    let mut wire = Wire::new(session, client_config(version)).cut(cut);
    let mut replies = String::new();
    if implicit {
        assert_eq!(wire.server.sent, b"", "nothing is said before the handshake");
    } else {
        replies += &wire.say_in_the_clear("");
        let listed = wire.say_in_the_clear("EHLO client.example\r\n");
        assert!(listed.contains("\r\n250-STARTTLS\r\n") && !listed.contains("AUTH"), "{listed}");
        replies += &listed;
        assert!(wire.say_in_the_clear(PLAIN).starts_with("538 5.7.11 "));
        let ready = wire.say_in_the_clear("STARTTLS\r\n");
        assert!(ready.starts_with("220 2.0.0 ") && ready.lines().count() == 1, "{ready}");
    }
    let clear_before = wire.server.clear.len();
    replies += &wire.shuttle();
    assert!(!wire.client.is_handshaking());

    let listed = wire.say("EHLO client.example\r\n");
    assert!(listed.contains("\r\n250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n") && !listed.contains("STARTTLS"), "{listed}");
    replies += &listed;
    replies += &wire.say(PLAIN);
    replies += &wire.say("MAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\nDATA\r\n");
    let (encoded, _) = message();
    replies += &wire.say(&encoded);
    replies += &wire.say("QUIT\r\n");
    assert!(wire.closed_cleanly && wire.server.is_closed());
    assert_eq!(wire.error, None);
    assert_eq!(wire.server.clear.len(), clear_before, "nothing in the clear any more");
    let transmitted = &wire.server.transmitted;
    assert!(
        !transmitted.windows(4).any(|four| [b"250 ", b"250-", b"235 ", b"354 "].contains(&four.try_into().unwrap()))
    );
    Played { log: wire.server.log, content: wire.server.content, replies }
}

#[test]
fn a_whole_session_is_the_same_however_its_ciphertext_is_cut() {
    let (_, content) = message();
    for version in VERSIONS {
        for implicit in [false, true] {
            let whole = play(version, implicit, Cut::Whole);
            assert!(whole.content == content);
            let codes: Vec<_> =
                whole.replies.lines().filter(|line| line.as_bytes()[3] == b' ').map(|line| &line[..3]).collect();
            let expected = ["220", "250", "250", "235", "250", "250", "354", "250", "221"];
            let expected = if implicit { [&expected[..1], &expected[2..]].concat() } else { expected.to_vec() };
            assert_eq!(codes, expected, "{}", whole.replies);
            assert!(whole.log.contains(&format!("Message {{ octets: {} }}", content.len())));
            for cut in [Cut::Octets, Cut::Random(1), Cut::Random(2), Cut::Random(3)] {
                let same = play(version, implicit, cut);
                assert_eq!(same.log, whole.log, "{cut:?}");
                assert_eq!(same.replies, whole.replies, "{cut:?}");
                assert!(same.content == whole.content, "{cut:?}");
            }
        }
    }
}

#[test]
fn what_comes_in_one_flight_with_the_end_of_the_handshake_is_not_lost() {
    for version in VERSIONS {
        let mut wire = Wire::new(implicit_session(), client_config(version));
        // The client says EHLO as soon as it may, without waiting for the greeting.
        wire.client.writer().write_all(b"EHLO client.example\r\nNOOP\r\nQUIT\r\n").unwrap();
        let said = wire.shuttle();
        assert!(said.starts_with("220 ") && said.contains("\r\n250 HELP\r\n250 2.0.0 Ok\r\n221 "), "{said}");
        assert!(wire.closed_cleanly);
    }
}

#[test]
fn replies_to_a_long_pipeline_all_arrive() {
    // Each answer is some sixteen times as long as its command: 16 KiB of plaintext are 260 KiB of replies.
    for version in VERSIONS {
        let mut wire = Wire::implicit(version);
        let commands = 10_000;
        let said = wire.say(&"HELP\r\n".repeat(commands));
        assert_eq!(said.lines().filter(|line| line.starts_with("214 2.0.0 Commands:")).count(), commands);
        assert_eq!(said.lines().count(), commands);
        assert_eq!(wire.say("NOOP\r\n"), "250 2.0.0 Ok\r\n");
    }
}

// ---------------------------------------------------------------------------------------------------
// What TLS negotiated

#[test]
fn the_session_knows_what_was_negotiated() {
    for (version, name) in [(&version::TLS12, "TLSv1.2"), (&version::TLS13, "TLSv1.3")] {
        for implicit in [false, true] {
            let mut tls = asking_server_config();
            tls.alpn_protocols = vec![b"smtp".to_vec()];
            let tls = Arc::new(tls);
            let connection = connection(config(|builder| builder));
            let session = if implicit {
                Session::implicit(connection, tls).unwrap()
            } else {
                Session::new(connection, Some(tls))
            };
            let mut offered = identified_client_config(version);
            offered.alpn_protocols = vec![b"smtp".to_vec()];
            let mut wire = Wire::new(session, offered);
            if !implicit {
                wire.say_in_the_clear("EHLO client.example\r\n");
                wire.say_in_the_clear("STARTTLS\r\n");
                assert!(wire.server.session.connection().session().tls().is_none());
            }
            wire.shuttle();
            let info = Arc::clone(wire.server.session.connection().session().tls().unwrap());
            assert_eq!(info.version.to_string(), name);
            let suite = wire.client.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(info.cipher_suite, suite.as_str().unwrap().replace("TLS13_", "TLS_"));
            assert!(info.cipher_suite.starts_with("TLS_") && !info.cipher_suite.contains("TLS13"));
            assert_eq!(info.server_name.as_deref(), Some("mx.example.org"));
            assert_eq!(info.alpn_protocol.as_deref(), Some(&b"smtp"[..]));
            assert_eq!(info.peer_certificates, [AUTHORITY.client.chain[0].to_vec()]);
            let exported = wire.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).unwrap();
            let expected = (name == "TLSv1.3").then_some(exported);
            assert_eq!(info.exporter, expected);
            // It reaches the authenticator too.
            wire.say("EHLO client.example\r\n");
            wire.server.hold = true;
            wire.say(PLAIN);
            match wire.server.open.take() {
                // EHLO was answered before questions were held.
                Some(Open::Authenticator(request)) => assert_eq!(request.tls(), Some(&*info)),
                Some(Open::Hook(question)) => panic!("{question:?}"),
                None => panic!("the authenticator is asked"),
            }
        }
    }
}

#[test]
fn what_was_not_negotiated_is_absent() {
    let wire = Wire::implicit(&version::TLS13);
    let info = wire.server.session.connection().session().tls().unwrap();
    assert_eq!(info.alpn_protocol, None);
    assert!(info.peer_certificates.is_empty());
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_gets_an_alert() {
    for version in VERSIONS {
        let session =
            Session::implicit(connection(config(|builder| builder)), Arc::new(asking_server_config())).unwrap();
        let mut wire = Wire::new(session, client_config(version));
        assert_eq!(wire.shuttle(), "");
        assert!(wire.server.is_closed());
        assert!(wire.alert().contains("AlertReceived"), "{}", wire.alert());
        assert_eq!(wire.server.log, Vec::<String>::new());
        assert_eq!(wire.server.clear, "");
    }
}

// ---------------------------------------------------------------------------------------------------
// Octets in the clear where TLS should begin (CVE-2011-0411)

#[test]
fn clear_octets_behind_starttls_are_never_commands() {
    for (first, second) in [
        ("STARTTLS\r\nRSET\r\n", ""),
        ("STARTTLS\r\n", "EHLO attacker.example\r\nRSET\r\n"),
        ("STARTTLS\r\n", "\r\n"),
        ("STARTTLS\r\n", "\x17\x03\x03"),
        ("STARTTLS\r\n\n", ""),
        ("STARTTLS\r\n\x16", ""),
    ] {
        let mut wire = Wire::new(starttls_session(), client_config(&version::TLS13));
        wire.say_in_the_clear("EHLO client.example\r\n");
        let mut said = wire.say_in_the_clear(first);
        said += &wire.say_in_the_clear(second);
        assert!(said.ends_with("554 5.5.0 Octets in the clear behind STARTTLS\r\n"), "{first:?} {second:?}: {said}");
        assert!(wire.server.is_closed());
        assert_eq!(wire.server.logged("Reset"), 0);
        assert_eq!(wire.server.logged("Hello"), 1);
        // And it stays so.
        let hello = wire.client_sends();
        wire.server.feed(&hello);
        assert!(wire.server.is_closed() && wire.server.sent.is_empty());
    }
}

#[test]
fn octet_by_octet_too() {
    let mut wire = Wire::new(starttls_session(), client_config(&version::TLS13)).cut(Cut::Octets);
    wire.say_in_the_clear("EHLO client.example\r\n");
    let said = wire.say_in_the_clear("STARTTLS\r\nRSET\r\n");
    assert!(said.starts_with("220 2.0.0 ") && said.contains("\r\n554 5.5.0 "), "{said}");
    assert!(wire.server.is_closed());
    assert_eq!(wire.server.logged("Reset"), 0);
}

#[test]
fn garbage_for_a_client_hello_ends_it() {
    const GARBAGE: [&[u8]; 5] = [
        // A Finished.
        b"\x16\x03\x01\x00\x04\x14\x00\x00\x00",
        // A handshake record that is none.
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"EHLO client.example\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for (number, garbage) in GARBAGE.into_iter().enumerate() {
        for implicit in [true, false] {
            if number >= 3 && !implicit {
                // In the clear behind STARTTLS: another test.
                continue;
            }
            let session = if implicit { implicit_session() } else { starttls_session() };
            let mut server = Server::new(session);
            if !implicit {
                server.feed(b"EHLO client.example\r\n");
                server.feed(b"STARTTLS\r\n");
                server.sent.clear();
            }
            let hooks = server.log.len();
            server.feed(garbage);
            assert!(server.is_closed(), "{garbage:?}");
            // An alert record, fatal, and nothing else. rustls sends none for what is no record at all.
            match server.sent[..] {
                [] => assert_ne!(number, 0),
                [kind, _, _, 0, 2, level, _] => assert_eq!((kind, level), (21, 2)),
                _ => panic!("{garbage:?}: {:?}", server.sent),
            }
            assert_eq!(server.log.len(), hooks);
        }
    }
}

#[test]
fn starttls_that_nobody_can_do_closes_the_connection() {
    let mut server = Server::new(Session::new(connection(config(|builder| builder)), None));
    server.feed(b"EHLO client.example\r\nSTARTTLS\r\n");
    assert!(server.is_closed());
}

// ---------------------------------------------------------------------------------------------------
// Handshakes that do not end

#[test]
fn a_handshake_has_a_deadline() {
    let timeouts = Timeouts { command: Duration::from_secs(60), ..Timeouts::default() };
    for implicit in [true, false] {
        for begun in [true, false] {
            let config = config(|builder| builder.timeouts(timeouts));
            let session = if implicit {
                Session::implicit(connection(config), Arc::new(server_config())).unwrap()
            } else {
                Session::new(connection(config), Some(Arc::new(server_config())))
            };
            let mut wire = Wire::new(session, client_config(&version::TLS13));
            if !implicit {
                wire.say_in_the_clear("EHLO client.example\r\n");
                wire.server.now = Duration::from_secs(7);
                wire.say_in_the_clear("STARTTLS\r\n");
            }
            let due = wire.server.now + timeouts.command;
            assert_eq!(wire.server.wait, Wait::Input(due));
            let clear = wire.server.clear.clone();
            if begun {
                // An octet at a time, it stays the same deadline.
                let hello = wire.client_sends();
                for octet in &hello[..20] {
                    wire.server.now += Duration::from_secs(1);
                    wire.server.feed(&[*octet]);
                    assert_eq!(wire.server.wait, Wait::Input(due));
                }
            }
            wire.server.now = due - Duration::from_millis(1);
            wire.server.run();
            assert_eq!(wire.server.wait, Wait::Input(due));
            wire.server.now = due;
            wire.server.run();
            assert!(wire.server.is_closed());
            assert_eq!(wire.server.clear, clear, "no reply in the clear where the client expects TLS");
            assert!(wire.server.sent.is_empty());
        }
    }
}

#[test]
fn the_end_of_input_in_a_handshake_is_the_end() {
    for implicit in [true, false] {
        for carried in [0, 1, 100, usize::MAX] {
            let session = if implicit { implicit_session() } else { starttls_session() };
            let mut wire = Wire::new(session, client_config(&version::TLS13));
            if !implicit {
                wire.say_in_the_clear("EHLO client.example\r\n");
                wire.say_in_the_clear("STARTTLS\r\n");
            }
            let clear = wire.server.clear.clone();
            let hello = wire.client_sends();
            wire.server.feed(&hello[..carried.min(hello.len())]);
            wire.server.end_of_input();
            assert!(wire.server.is_closed());
            assert_eq!(wire.server.clear, clear);
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// How it ends

#[test]
fn nothing_behind_close_notify_is_read() {
    for version in VERSIONS {
        for (behind, later) in [(true, false), (false, false), (false, true)] {
            for cut in [Cut::Whole, Cut::Octets, Cut::Random(9)] {
                let mut wire = Wire::implicit(version).cut(cut);
                wire.say("MAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\nDATA\r\n");
                let mut octets = wire.encrypt("Subject: x\r\n\r\nhalf a message\r\n");
                wire.client.send_close_notify();
                octets.extend(wire.client_sends());
                let mut more = if behind {
                    // A record that would decrypt if anybody tried: the same connection's, said later.
                    let mut record = vec![0x17, 3, 3, 0, 40];
                    record.extend([7; 40]);
                    record
                } else {
                    Vec::new()
                };
                more.extend_from_slice(b"\r\n.\r\nMAIL FROM:<attacker@example.org>\r\n");
                if later {
                    wire.carry(&octets);
                    assert!(wire.server.is_closed());
                    wire.carry(&more);
                } else {
                    octets.extend(more);
                    wire.carry(&octets);
                }
                assert!(wire.server.is_closed());
                assert_eq!(wire.server.content, b"Subject: x\r\n\r\nhalf a message\r\n");
                assert_eq!(wire.server.logged("Aborted { reason: ConnectionLost"), 1, "{:?}", wire.server.log);
                assert_eq!(wire.server.log.iter().filter(|entry| *entry == "Mail").count(), 1);
                assert_eq!(wire.server.logged("Message"), 0);
                wire.shuttle();
                assert!(wire.closed_cleanly, "close_notify is answered");
            }
        }
    }
}

#[test]
fn everything_before_close_notify_is_carried_out() {
    // However it is cut into records, and however these arrive.
    let session =
        "EHLO c.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nhello\r\n.\r\nNOOP\r\n";
    for record in [1, 2, 3, 5, 7, 11, 1000] {
        for cut in [Cut::Whole, Cut::Octets, Cut::Random(5)] {
            let mut wire = Wire::implicit(&version::TLS13).cut(cut);
            let mut octets = Vec::new();
            for piece in session.as_bytes().chunks(record) {
                octets.extend(wire.encrypt(std::str::from_utf8(piece).unwrap()));
            }
            wire.client.send_close_notify();
            octets.extend(wire.client_sends());
            wire.carry(&octets);
            assert!(wire.server.is_closed());
            assert_eq!(wire.server.content, b"hello\r\n", "records of {record}, {cut:?}");
            assert_eq!(wire.server.logged("Message { octets: 7 }"), 1);
            assert_eq!(wire.server.logged("Noop"), 1);
            let said = wire.shuttle();
            assert!(said.ends_with("250 2.0.0 Message accepted\r\n250 2.0.0 Ok\r\n"), "{said}");
            assert!(wire.closed_cleanly);
        }
    }
}

#[test]
fn what_was_sent_before_the_end_of_input_is_carried_out() {
    for record in [3, 1000] {
        let mut wire = Wire::implicit(&version::TLS13);
        let mut octets = Vec::new();
        for piece in b"NOOP\r\nNOOP\r\nNO".chunks(record) {
            octets.extend(wire.encrypt(std::str::from_utf8(piece).unwrap()));
        }
        // It has come, but nobody has looked at it yet.
        wire.server.unread = octets;
        wire.server.end_of_input();
        assert!(wire.server.is_closed());
        assert_eq!(wire.server.logged("Noop"), 2, "records of {record}");
        assert_eq!(wire.shuttle(), "250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n");
    }
}

#[test]
fn close_notify_behind_quit_is_a_clean_end() {
    for version in VERSIONS {
        let mut wire = Wire::implicit(version);
        wire.client.writer().write_all(b"QUIT\r\n").unwrap();
        wire.client.send_close_notify();
        let said = wire.shuttle();
        assert!(said.starts_with("221 2.0.0 "), "{said}");
        assert!(wire.closed_cleanly && wire.server.is_closed());
        // The server had closed already.
        let mut wire = Wire::implicit(version);
        wire.say("QUIT\r\n");
        wire.client.send_close_notify();
        wire.shuttle();
        assert!(wire.server.is_closed());
    }
}

#[test]
fn the_end_of_input_without_close_notify_voids_content() {
    let mut wire = Wire::implicit(&version::TLS13);
    wire.say("MAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\nDATA\r\nhalf");
    wire.server.end_of_input();
    assert!(wire.server.is_closed());
    assert_eq!(wire.server.logged("Aborted { reason: ConnectionLost"), 1);
    assert_eq!(wire.server.logged("Message"), 0);
}

#[test]
fn a_corrupted_record_ends_it_with_an_alert() {
    for version in VERSIONS {
        for in_content in [true, false] {
            for cut in [Cut::Whole, Cut::Octets] {
                let mut wire = Wire::implicit(version).cut(cut);
                if in_content {
                    wire.say("MAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\nDATA\r\nbegun\r\n");
                }
                let mut record = wire.encrypt("forged\r\n.\r\nNOOP\r\n");
                let middle = record.len() - 20;
                record[middle] ^= 1;
                record.extend(wire.encrypt("NOOP\r\n"));
                wire.carry(&record);
                assert!(wire.server.is_closed());
                assert_eq!(wire.server.logged("Aborted { reason: ConnectionLost"), usize::from(in_content));
                assert_eq!(wire.server.content, if in_content { &b"begun\r\n"[..] } else { b"" });
                assert_eq!(wire.server.logged("Noop") + wire.server.logged("Unknown"), 0);
                assert_eq!(wire.shuttle(), "");
                assert!(wire.alert().contains("AlertReceived(BadRecordMac)"), "{}", wire.alert());
            }
        }
    }
}

#[test]
fn shutting_down_is_said_under_tls() {
    let mut wire = Wire::implicit(&version::TLS13);
    wire.server.session.begin_shutdown();
    wire.server.run();
    assert_eq!(wire.shuttle(), "421 4.3.2 The server is shutting down\r\n");
    assert!(wire.closed_cleanly && wire.server.is_closed());
}

#[test]
fn a_timeout_is_said_under_tls_whatever_trickles_in() {
    let mut wire = Wire::implicit(&version::TLS13);
    let Wait::Input(due) = wire.server.wait else { panic!("{:?}", wire.server.wait) };
    // Octets of a record that never ends are no progress.
    let record = wire.encrypt("NOOP\r\n");
    for octet in &record[..record.len() - 1] {
        wire.server.now += Duration::from_secs(10);
        wire.server.feed(&[*octet]);
        if wire.server.is_closed() {
            break;
        }
        assert_eq!(wire.server.wait, Wait::Input(due));
    }
    wire.server.now = due;
    wire.server.run();
    assert!(wire.server.is_closed());
    assert_eq!(wire.shuttle(), "421 4.4.2 Timeout, closing the connection\r\n");
}

// ---------------------------------------------------------------------------------------------------
// RFC 3207, section 4.2

#[test]
fn nothing_said_before_tls_is_kept() {
    let auth = Auth::new().require_tls(false);
    let session = Session::new(connection(config(|builder| builder.auth(auth))), Some(Arc::new(server_config())));
    let mut wire = Wire::new(session, client_config(&version::TLS13));
    wire.say_in_the_clear("EHLO before.example\r\n");
    assert!(wire.say_in_the_clear(PLAIN).starts_with("235 "));
    assert!(
        wire.say_in_the_clear("MAIL FROM:<before@example.org>\r\nRCPT TO:<b@example.org>\r\n")
            .ends_with("Forward-path ok\r\n")
    );
    let known = wire.server.session.connection();
    assert!(known.session().is_authenticated() && known.envelope().forward_paths().len() == 1);
    wire.say_in_the_clear("STARTTLS\r\n");
    assert_eq!(wire.shuttle(), "");

    let known = wire.server.session.connection();
    assert!(!known.session().is_authenticated() && known.session().login().is_none());
    assert!(known.session().greeting().is_none() && known.session().client_name().is_empty());
    assert!(known.envelope().forward_paths().len() == 0);
    assert!(!format!("{known:?}").contains("before"));
    assert!(wire.say("DATA\r\n").starts_with("503 5.5.1 Say EHLO or HELO first"));
    assert!(wire.say("MAIL FROM:<a@example.org>\r\n").starts_with("503 5.5.1 Say EHLO or HELO first"));
    assert!(wire.say(PLAIN).starts_with("503 5.5.1 Say EHLO first"));
    assert!(wire.say("STARTTLS\r\n").starts_with("503 5.5.1 TLS is active already"));
    let listed = wire.say("EHLO after.example\r\n");
    assert!(listed.contains("250-AUTH SCRAM-SHA-256 PLAIN LOGIN") && !listed.contains("STARTTLS"), "{listed}");
    assert!(wire.say(PLAIN).starts_with("235 "));
    assert_eq!(wire.server.session.connection().session().client_name(), "after.example");
}

// ---------------------------------------------------------------------------------------------------
// Questions

#[test]
fn nothing_is_read_while_a_question_is_open() {
    for version in VERSIONS {
        let mut wire = Wire::implicit(version);
        wire.server.hold = true;
        wire.say(PLAIN);
        let Wait::Answer(due) = wire.server.wait else { panic!("{:?}", wire.server.wait) };
        // 64 records of 16 KiB: not one of them is touched.
        let mut flood = Vec::new();
        for _ in 0..64 {
            flood.extend(wire.encrypt(&"NOOP\r\n".repeat(16 * 1024 / 6)));
        }
        wire.server.feed(&flood);
        for _ in 0..100 {
            wire.server.run();
        }
        assert_eq!(wire.server.unread.len(), flood.len());
        assert_eq!(wire.server.wait, Wait::Answer(due));
        assert_eq!(wire.server.logged("authenticate"), 1);
        assert_eq!(wire.server.logged("Noop"), 0);

        wire.server.hold = false;
        let Some(Open::Authenticator(request)) = wire.server.open.take() else { panic!("a question is open") };
        wire.server.session.answer(request.answer(AuthResult::accept())).unwrap();
        wire.server.run();
        assert_eq!(wire.server.logged("Noop"), 64 * (16 * 1024 / 6));
        let said = wire.shuttle();
        assert!(said.starts_with("235 "), "{}", &said[..80]);
    }
}

#[test]
fn a_question_in_the_middle_of_a_record_holds_the_rest_back() {
    let mut wire = Wire::implicit(&version::TLS13);
    wire.server.hold = true;
    assert_eq!(wire.say("NOOP\r\nMAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\n"), "");
    let mut replies = String::new();
    for hook in ["Noop", "Mail", "Rcpt"] {
        assert!(wire.server.log.last().unwrap().starts_with(hook), "{:?}", wire.server.log);
        let Some(Open::Hook(question)) = wire.server.open.take() else { panic!("a question is open") };
        wire.server.session.answer(question.answer(Verdict::Accept)).unwrap();
        wire.server.run();
        replies += &wire.shuttle();
    }
    assert_eq!(replies, "250 2.0.0 Ok\r\n250 2.1.0 Reverse-path ok\r\n250 2.1.5 Forward-path ok\r\n");
}

#[test]
fn a_question_that_is_dropped_or_late_fails_closed_under_tls() {
    let mut wire = Wire::implicit(&version::TLS13);
    wire.server.hold = true;
    wire.say(PLAIN);
    wire.server.open = None;
    wire.server.run();
    assert!(wire.shuttle().starts_with("454 4.7.0 "));
    wire.say(PLAIN);
    let Wait::Answer(due) = wire.server.wait else { panic!("{:?}", wire.server.wait) };
    wire.server.now = due;
    wire.server.run();
    assert!(wire.shuttle().starts_with("454 4.7.0 "));
    let Some(Open::Authenticator(request)) = wire.server.open.take() else { panic!("a question is open") };
    assert!(wire.server.session.answer(request.answer(AuthResult::accept())).is_err());
    assert!(!wire.server.session.connection().session().is_authenticated());
}

// ---------------------------------------------------------------------------------------------------
// Behind a proxy

const HEADER: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.25 56324 465\r\n";

/// Version 2, TCP over IPv4: the client's TLS 1.2 was taken off.
const OFFLOADED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1E\xC6\x33\x64\x07\xCB\0\x71\x19\xDC\x04\x01\xD1\
    \x20\0\x0F\x01\0\0\0\x01\x21\0\x07TLSv1.2";

/// Connections come from 192.0.2.1.
fn proxied(trusted: &str, implicit: bool) -> Session {
    let proxy = Proxy::from_networks([trusted.parse().unwrap()]).believe_offloaded_tls(true);
    let connection = connection(config(|builder| builder.proxy(proxy)));
    let tls = Arc::new(server_config());
    if implicit { Session::implicit(connection, tls).unwrap() } else { Session::new(connection, Some(tls)) }
}

impl Wire {
    fn session(&self) -> &sansmtp::Session {
        self.server.session.connection().session()
    }

    fn is_silent(&self) -> bool {
        self.server.sent.is_empty() && self.server.clear.is_empty() && self.server.transmitted.is_empty()
    }
}

#[test]
fn the_header_is_in_front_of_implicit_tls() {
    for version in VERSIONS {
        for header in [HEADER, OFFLOADED] {
            for cut in [Cut::Whole, Cut::Octets, Cut::Random(3)] {
                let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(version)).cut(cut);
                assert_eq!(wire.server.wait, Wait::Input(Duration::from_secs(5)));
                let hello = wire.client_sends();
                wire.carry(&header[..header.len() - 1]);
                assert!(wire.is_silent() && wire.server.log.is_empty());
                // The rest of the header and the first flight of TLS in one segment.
                wire.carry(&[&header[header.len() - 1..], &hello].concat());
                assert!(!wire.server.sent.is_empty() && wire.server.clear.is_empty());
                assert_eq!(wire.shuttle(), "220 mx.example.org ESMTP\r\n");

                assert!(wire.say("EHLO client.example\r\n").contains("\r\n250-AUTH "));
                assert_eq!(wire.say(PLAIN), "235 2.7.0 Authentication successful\r\n");
                assert!(
                    wire.server
                        .log
                        .iter()
                        .any(|entry| { entry.starts_with("AuthSucceeded") && entry.contains("198.51.100.7:56324") })
                );
                let (session, proxy) = (wire.session(), wire.session().proxy().unwrap());
                assert_eq!(session.peer(), SocketAddr::from(([198, 51, 100, 7], 56324)).into());
                assert_eq!(proxy.proxy(), SocketAddr::from(([192, 0, 2, 1], 4321)).into());
                // The handshake that was done is the one that counts.
                assert!(!session.tls().unwrap().cipher_suite.is_empty() && !session.is_tls_offloaded());

                // Under TLS, nobody is asked for a header again.
                assert!(wire.say("PROXY TCP4 192.0.2.9 192.0.2.25 1 25\r\n").starts_with("500 5.5.1 "));
                assert!(wire.say("QUIT\r\n").starts_with("221 "));
                assert!(wire.closed_cleanly);
            }
        }
    }
}

#[test]
fn the_header_is_in_front_of_starttls_too() {
    for cut in [Cut::Whole, Cut::Octets] {
        let mut wire = Wire::new(proxied("192.0.2.1", false), client_config(&version::TLS13)).cut(cut);
        assert!(wire.is_silent());
        wire.carry(HEADER);
        assert_eq!(wire.say_in_the_clear(""), "220 mx.example.org ESMTP\r\n");
        wire.say_in_the_clear("EHLO client.example\r\n");
        assert!(wire.say_in_the_clear("STARTTLS\r\n").starts_with("220 2.0.0 "));
        wire.shuttle();
        assert!(wire.say("EHLO client.example\r\n").starts_with("250-"));
        // It is no word of the client's, so it is not forgotten.
        assert_eq!(wire.session().peer().to_string(), "198.51.100.7:56324");
        assert!(wire.session().proxy().is_some() && wire.session().is_under_tls());
    }
}

#[test]
fn tls_that_the_proxy_took_off_is_believed_by_name_only() {
    for believed in [false, true] {
        let proxy = Proxy::from_trusted(|_| true).believe_offloaded_tls(believed);
        let session = Session::new(connection(config(|builder| builder.proxy(proxy))), Some(Arc::new(server_config())));
        let mut wire = Wire::new(session, client_config(&version::TLS13));
        wire.carry(OFFLOADED);
        let listed = wire.say_in_the_clear("EHLO client.example\r\n");
        assert_eq!((listed.contains("AUTH "), listed.contains("STARTTLS")), (believed, !believed));
        assert_eq!((wire.session().is_under_tls(), wire.session().is_tls_offloaded()), (believed, believed));
        assert!(wire.session().proxy().unwrap().ssl().unwrap().is_over_tls());
        if let Some(tls) = wire.session().tls() {
            assert_eq!(tls.version, sansmtp::TlsVersion::Tls1_2);
            assert!(tls.exporter.is_none() && tls.server_end_point.is_none() && tls.peer_certificates.is_empty());
        }
    }
}

#[test]
fn without_its_header_a_proxy_gets_no_handshake() {
    for cut in [Cut::Whole, Cut::Octets] {
        let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(&version::TLS13)).cut(cut);
        let hello = wire.client_sends();
        wire.carry(&hello);
        assert!(wire.server.is_closed() && wire.is_silent());
        assert_eq!(wire.server.logged("ProxyRefused"), 1);
    }
}

#[test]
fn with_a_header_nobody_else_gets_a_handshake() {
    let mut wire = Wire::new(proxied("192.0.2.2", true), client_config(&version::TLS13));
    wire.carry(HEADER);
    assert!(wire.server.is_closed() && wire.server.clear.is_empty());
    assert_eq!(wire.server.logged("ProxyRefused"), 0);
}

#[test]
fn header_and_handshake_have_deadlines_of_their_own() {
    let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(&version::TLS13));
    for octet in HEADER {
        assert_eq!(wire.server.wait, Wait::Input(Duration::from_secs(5)));
        wire.server.now += Duration::from_millis(90);
        wire.server.feed(&[*octet]);
    }
    assert_eq!(wire.server.wait, Wait::Input(wire.server.now + Duration::from_secs(300)));

    let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(&version::TLS13));
    wire.server.feed(&HEADER[..20]);
    wire.server.now = Duration::from_secs(5);
    wire.server.run();
    assert!(wire.server.is_closed() && wire.is_silent());
    assert_eq!(wire.server.logged("Timeout"), 1);
}

#[test]
fn the_end_of_input_at_a_header_is_the_end() {
    for (octets, refused) in [(0, 1), (20, 1), (HEADER.len(), 0)] {
        let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(&version::TLS13));
        wire.server.feed(&HEADER[..octets]);
        wire.server.end_of_input();
        assert!(wire.server.is_closed() && wire.is_silent());
        assert_eq!(wire.server.logged("ConnectionLost"), refused);
    }
}

#[test]
fn shutting_down_before_a_header_is_silent() {
    for implicit in [true, false] {
        let mut wire = Wire::new(proxied("192.0.2.1", implicit), client_config(&version::TLS13));
        wire.server.session.begin_shutdown();
        wire.server.run();
        assert!(wire.server.is_closed() && wire.is_silent());
    }
}
