//! The server over loopback sockets: order, slowness, panics, disconnects, timeouts, shutdown.
//!
//! Nothing sleeps: what has to be waited for is waited for, and where time itself is the subject, it is
//! configured to be short.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::future::pending;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown as Half, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use sansmtp::{
    Aborted, AsyncHandler, Auth, AuthRequest, AuthResult, Config, ConfigBuilder, Envelope, Event, Handler, Hooks, Path,
    Peer, Session, Timeouts, Verdict,
};
use sansmtp_smol::{Blocking, Server, Shutdown};
use smol::Executor;

// ---------------------------------------------------------------------------------------------------
// Handlers

/// What the handlers of a server have seen, and what lets them go on.
#[derive(Default)]
struct Seen {
    log: Mutex<Vec<String>>,
    messages: Mutex<Vec<Vec<u8>>>,
    threads: Mutex<Vec<ThreadId>>,
    released: Mutex<bool>,
    changed: Condvar,
    handlers: AtomicUsize,
}

impl Seen {
    fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
        self.threads.lock().unwrap().push(thread::current().id());
        self.changed.notify_all();
    }

    fn wait_for(&self, what: &str) {
        let found = |log: &mut Vec<String>| !log.iter().any(|entry| entry.starts_with(what));
        let log = self.log.lock().unwrap();
        let (log, waited) = self.changed.wait_timeout_while(log, PATIENCE, found).unwrap();
        assert!(!waited.timed_out(), "no {what:?} in {log:?}");
    }

    fn has(&self, what: &str) -> bool {
        self.log.lock().unwrap().iter().any(|entry| entry.starts_with(what))
    }

    fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn block_until_released(&self) {
        let released = self.released.lock().unwrap();
        drop(self.changed.wait_timeout_while(released, PATIENCE, |released| !*released).unwrap());
    }
}

/// Does what the names in its commands say: `panic`, `block`, `wrong`.
struct Play {
    seen: Arc<Seen>,
    content: Vec<u8>,
}

impl Play {
    fn new(seen: &Arc<Seen>) -> Self {
        seen.handlers.fetch_add(1, Ordering::Relaxed);
        Self { seen: Arc::clone(seen), content: Vec::new() }
    }

    fn keep(&mut self, piece: &[u8]) {
        self.content.extend_from_slice(piece);
    }

    fn deliver(&mut self) -> Verdict {
        self.seen.messages.lock().unwrap().push(std::mem::take(&mut self.content));
        self.seen.note("message");
        Verdict::Accept
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        self.seen.handlers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handler for Play {
    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        let authcid = request.credentials().authcid();
        self.seen.note(format!("authenticate {authcid}"));
        match authcid {
            "panic" => panic!("as asked"),
            "block" => self.seen.block_until_released(),
            "wrong" => return AuthResult::refuse(),
            _ => {}
        }
        AuthResult::accept()
    }

    fn rcpt(&mut self, _: &Session, _: &Envelope, forward_path: Path<'_>) -> Verdict {
        self.seen.note(format!("rcpt {}", forward_path.local_part()));
        match forward_path.local_part() {
            "panic" => panic!("as asked"),
            "block" => self.seen.block_until_released(),
            _ => {}
        }
        Verdict::Accept
    }

    fn content(&mut self, piece: &[u8]) {
        if piece.windows(5).any(|five| five == b"PANIC") {
            self.seen.note("content panics");
            panic!("as asked");
        }
        if piece.windows(5).any(|five| five == b"BLOCK") {
            self.seen.note("content blocks");
            self.seen.block_until_released();
        }
        self.keep(piece);
    }

    fn message(&mut self, _: &Session, _: &Envelope, _: u64) -> Verdict {
        self.deliver()
    }

    fn aborted(&mut self, aborted: Aborted) {
        self.content.clear();
        self.seen.note(format!("{aborted:?}"));
    }

    fn event(&mut self, event: Event<'_>) {
        self.seen.log.lock().unwrap().push(format!("{event:?}"));
        self.seen.changed.notify_all();
    }
}

/// The same, waiting instead of blocking.
struct AsyncPlay(Play);

impl AsyncHandler for AsyncPlay {
    async fn authenticate(&mut self, session: &Session, request: &AuthRequest) -> AuthResult {
        if request.credentials().authcid() == "block" {
            self.0.seen.note("authenticate block");
            return pending().await;
        }
        Handler::authenticate(&mut self.0, session, request)
    }

    async fn rcpt(&mut self, session: &Session, envelope: &Envelope, forward_path: Path<'_>) -> Verdict {
        if forward_path.local_part() == "block" {
            self.0.seen.note("rcpt block");
            return pending().await;
        }
        Handler::rcpt(&mut self.0, session, envelope, forward_path)
    }

    async fn content(&mut self, piece: &[u8]) {
        if piece.windows(5).any(|five| five == b"BLOCK") {
            self.0.seen.note("content blocks");
            return pending().await;
        }
        Handler::content(&mut self.0, piece);
    }

    async fn message(&mut self, _: &Session, _: &Envelope, _: u64) -> Verdict {
        self.0.deliver()
    }

    async fn aborted(&mut self, aborted: Aborted) {
        Handler::aborted(&mut self.0, aborted);
    }

    fn event(&mut self, event: Event<'_>) {
        Handler::event(&mut self.0, event);
    }
}

// ---------------------------------------------------------------------------------------------------
// Servers

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Blocking,
    Async,
}

const KINDS: [Kind; 2] = [Kind::Blocking, Kind::Async];

/// A server on a thread of its own, which is its only executor.
struct Running {
    clear: SocketAddr,
    tls: SocketAddr,
    seen: Arc<Seen>,
    shutdown: Shutdown,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    fn start(kind: Kind, change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let seen = Arc::new(Seen::default());
        let handlers = Arc::clone(&seen);
        match kind {
            Kind::Blocking => Self::start_with(change, seen, move |_: Peer| Blocking::new(Play::new(&handlers))),
            Kind::Async => Self::start_with(change, seen, move |_: Peer| AsyncPlay(Play::new(&handlers))),
        }
    }

    fn start_with<H: AsyncHandler + 'static>(
        change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
        seen: Arc<Seen>,
        make_handler: impl Fn(Peer) -> H + Send + 'static,
    ) -> Self {
        let auth = Auth::new().require_tls(false).pause(Duration::from_millis(1), Duration::from_millis(1));
        let builder = Config::builder("mx.example.org").auth(auth).starttls(true);
        let executor = Arc::new(Executor::new());
        let server = Server::new(change(builder).build().unwrap(), make_handler)
            .tls(TLS.0.clone())
            .executor(executor.clone())
            .listen("127.0.0.1:0")
            .and_then(|server| server.listen_tls("127.0.0.1:0"))
            .unwrap();
        let addresses = server.local_addresses();
        let shutdown = server.shutdown_handle();
        let thread = thread::spawn(move || smol::block_on(executor.run(server.run())));
        Self { clear: addresses[0], tls: addresses[1], seen, shutdown, thread: Some(thread) }
    }

    fn connect(&self) -> Client {
        let mut client = Client::new(self.clear);
        assert_eq!(client.reply(), "220 mx.example.org ESMTP\r\n");
        client
    }

    fn connect_tls(&self) -> Client {
        let mut client = Client::new(self.tls).under_tls();
        assert_eq!(client.reply(), "220 mx.example.org ESMTP\r\n");
        client
    }

    /// Shuts down; how long that took.
    fn stop(mut self, grace: Duration) -> Duration {
        let begun = Instant::now();
        self.shutdown.begin(grace);
        self.join();
        begun.elapsed()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }

    fn executor_thread(&self) -> ThreadId {
        self.thread.as_ref().unwrap().thread().id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.seen.release();
        self.shutdown.begin(Duration::ZERO);
        if !thread::panicking() {
            self.join();
        }
    }
}

static TLS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["mx.example.org".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
});

// ---------------------------------------------------------------------------------------------------
// Clients

enum Stream {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

struct Client {
    stream: Stream,
    received: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream: Stream::Clear(stream), received: Vec::new() }
    }

    fn under_tls(self) -> Self {
        let Stream::Clear(stream) = self.stream else { panic!("under TLS already") };
        let name = ServerName::try_from("mx.example.org").unwrap();
        let tls = ClientConnection::new(TLS.1.clone(), name).unwrap();
        Self { stream: Stream::Tls(Box::new(StreamOwned::new(tls, stream))), received: Vec::new() }
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Clear(stream) => stream,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    fn say(&mut self, text: impl AsRef<[u8]>) {
        match &mut self.stream {
            Stream::Clear(stream) => stream.write_all(text.as_ref()).unwrap(),
            Stream::Tls(tls) => {
                tls.write_all(text.as_ref()).unwrap();
                tls.flush().unwrap();
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let octets = match &mut self.stream {
            Stream::Clear(stream) => stream.read(&mut buffer)?,
            Stream::Tls(tls) => tls.read(&mut buffer)?,
        };
        self.received.extend(buffer.iter().take(octets));
        Ok(octets)
    }

    /// The next reply, all lines of it.
    fn reply(&mut self) -> String {
        let mut start = 0;
        loop {
            match self.received.get(start..).and_then(|rest| rest.iter().position(|octet| *octet == b'\n')) {
                Some(newline) => {
                    let last = self.received.get(start + 3) == Some(&b' ');
                    start += newline + 1;
                    if last {
                        return String::from_utf8(self.received.drain(..start).collect()).unwrap();
                    }
                }
                None => assert_ne!(self.read().unwrap(), 0, "{:?}", String::from_utf8_lossy(&self.received)),
            }
        }
    }

    fn ask(&mut self, command: &str) -> String {
        self.say(format!("{command}\r\n"));
        self.reply()
    }

    /// All that comes until the server closes.
    fn rest(&mut self) -> String {
        while self.read().unwrap() > 0 {}
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    fn begin_message(&mut self) {
        assert!(self.ask("EHLO client.example").starts_with("250-"));
        self.begin_transaction();
    }

    fn begin_transaction(&mut self) {
        assert!(self.ask("MAIL FROM:<a@example.org>").starts_with("250 "));
        assert!(self.ask("RCPT TO:<b@example.org>").starts_with("250 "));
        assert!(self.ask("DATA").starts_with("354 "));
    }
}

fn plain(name: &str) -> &'static str {
    match name {
        "tim" => "AUTH PLAIN AHRpbQB4",
        "panic" => "AUTH PLAIN AHBhbmljAHg=",
        "block" => "AUTH PLAIN AGJsb2NrAHg=",
        "wrong" => "AUTH PLAIN AHdyb25nAHg=",
        _ => panic!("no such user: {name}"),
    }
}

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// A grace period that is never used up.
const LONG: Duration = Duration::from_secs(60);

fn answer_timeout(builder: ConfigBuilder) -> ConfigBuilder {
    builder.timeouts(Timeouts { answer: Duration::from_millis(50), ..Timeouts::default() })
}

// ---------------------------------------------------------------------------------------------------
// Sessions

fn first_read_of_a_group(server: &Running) -> Vec<String> {
    let mut client = server.connect();
    client.ask("EHLO client.example");
    client.say("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n");
    client.read().unwrap();
    String::from_utf8(client.received).unwrap().lines().map(|line| line[..3].to_owned()).collect()
}

#[test]
fn the_replies_to_a_group_come_at_once() {
    struct AsksNothing;
    impl AsyncHandler for AsksNothing {
        fn hooks(&self) -> Hooks {
            Hooks::NONE
        }
    }
    let server = Running::start_with(|config| config, Arc::default(), |_: Peer| AsksNothing);
    assert_eq!(first_read_of_a_group(&server), ["250", "250", "250", "354"]);
}

#[test]
fn the_replies_to_a_group_come_at_once_with_hooks_too() {
    let server = Running::start(Kind::Async, |config| config);
    for _ in 0..20 {
        assert_eq!(first_read_of_a_group(&server), ["250", "250", "250", "354"]);
    }
}

#[test]
fn mail_in_the_clear_after_starttls_and_under_tls() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config.auth_required(true));
        for security in ["clear", "starttls", "tls"] {
            let mut client = if security == "tls" { server.connect_tls() } else { server.connect() };
            let listed = client.ask("EHLO client.example");
            assert_eq!(listed.contains("250-STARTTLS\r\n"), security != "tls", "{listed}");
            if security == "starttls" {
                assert!(client.ask("STARTTLS").starts_with("220 2.0.0 "));
                client = client.under_tls();
                assert!(!client.ask("EHLO client.example").contains("STARTTLS"));
            }
            assert!(client.ask("MAIL FROM:<a@example.org>").starts_with("530 5.7.0 "));
            assert!(client.ask(plain("wrong")).starts_with("535 5.7.8 "));
            assert!(client.ask(plain("tim")).starts_with("235 2.7.0 "));
            client.begin_transaction();
            client.say(format!("Subject: {security}\r\n\r\n..x\r\n.\r\n"));
            assert!(client.reply().starts_with("250 2.0.0 "));
            client.say("QUIT\r\n");
            // Under TLS, an end without close_notify would be an error here.
            assert!(client.rest().starts_with("221 2.0.0 "), "{kind:?} {security}");
            let message = server.seen.messages.lock().unwrap().pop().unwrap();
            assert_eq!(message, format!("Subject: {security}\r\n\r\n.x\r\n").into_bytes());
        }
    }
}

#[test]
fn ten_mebibytes_arrive_as_they_were_sent() {
    let mut content = Vec::new();
    while content.len() < 10 << 20 {
        let number = content.len();
        let dot = if number % 5 == 0 { "." } else { "" };
        let _ = write!(content, "{dot}{number} {}\r\n", "y".repeat(number % 75));
    }
    let text = std::str::from_utf8(&content).unwrap();
    let mut stuffed: Vec<u8> = text
        .split_inclusive('\n')
        .flat_map(|line| {
            let dot = if line.starts_with('.') { "." } else { "" };
            [dot, line]
        })
        .collect::<String>()
        .into_bytes();
    stuffed.extend_from_slice(b".\r\nQUIT\r\n");
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        for tls in [false, true] {
            let mut client = if tls { server.connect_tls() } else { server.connect() };
            client.begin_message();
            client.say(&stuffed);
            assert!(client.reply().starts_with("250 2.0.0 "), "{kind:?}, TLS {tls}");
            assert!(client.reply().starts_with("221 "));
            let message = server.seen.messages.lock().unwrap().pop().unwrap();
            assert!(message == content, "{kind:?}, TLS {tls}: {} of {} octets", message.len(), content.len());
        }
    }
}

#[test]
fn lines_that_lie_across_reads_are_read_once() {
    for tls in [false, true] {
        let server = Running::start(Kind::Async, |config| config);
        let mut client = if tls { server.connect_tls() } else { server.connect() };
        // Far more than one read, and no read ends with a line.
        let commands = 50_000;
        let mut writer = client.socket().try_clone().unwrap();
        if tls {
            for _ in 0..200 {
                client.say("NOOP\r\n".repeat(100));
                for _ in 0..100 {
                    assert_eq!(client.reply(), "250 2.0.0 Ok\r\n");
                }
            }
            continue;
        }
        let writing = thread::spawn(move || writer.write_all("RSET\r\n".repeat(commands).as_bytes()).unwrap());
        for _ in 0..commands {
            assert_eq!(client.reply(), "250 2.0.0 Reset\r\n");
        }
        writing.join().unwrap();
        // Octet by octet, as fast as they go.
        for octet in "NOOP\r\n".repeat(500).bytes() {
            client.say([octet]);
        }
        for _ in 0..500 {
            assert_eq!(client.reply(), "250 2.0.0 Ok\r\n");
        }
    }
}

#[test]
fn after_half_a_close_all_replies_arrive() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        let mut client = server.connect();
        client.say("EHLO client.example\r\n".to_owned() + &"NOOP\r\n".repeat(300) + "RCPT");
        client.socket().shutdown(Half::Write).unwrap();
        let replies = client.rest();
        assert_eq!(replies.matches("250 2.0.0 Ok\r\n").count(), 300);
        assert!(replies.ends_with("250 2.0.0 Ok\r\n"));
    }
}

#[test]
fn two_hundred_at_a_time() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        let mut clients: Vec<_> = (0..200).map(|_| Client::new(server.clear)).collect();
        for client in &mut clients {
            client.say("EHLO client.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.say(format!("{number}\r\n.\r\nQUIT\r\n"));
        }
        for client in &mut clients {
            let said = client.rest();
            assert!(said.contains("\r\n354 ") && said.contains("\r\n250 2.0.0 Message accepted\r\n221 "), "{said}");
        }
        let mut messages = server.seen.messages.lock().unwrap().clone();
        messages.sort();
        messages.dedup();
        assert_eq!(messages.len(), 200);
    }
}

// ---------------------------------------------------------------------------------------------------
// Handlers that are slow, or break

#[test]
fn a_blocking_handler_is_never_on_the_executor() {
    let server = Running::start(Kind::Blocking, |config| config);
    let mut client = server.connect();
    client.ask("EHLO client.example");
    assert!(client.ask(plain("tim")).starts_with("235 "));
    client.begin_transaction();
    client.say(".\r\n");
    assert!(client.reply().starts_with("250 "));
    let threads = server.seen.threads.lock().unwrap().clone();
    assert_eq!(threads.len(), 3);
    assert!(!threads.contains(&server.executor_thread()));
}

#[test]
fn a_slow_authenticator_keeps_nobody_else_waiting() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        let mut slow = server.connect();
        slow.ask("EHLO client.example");
        slow.say(format!("{}\r\n", plain("block")));
        server.seen.wait_for("authenticate block");
        let mut other = server.connect();
        other.begin_message();
        other.say("x\r\n.\r\n");
        assert!(other.reply().starts_with("250 "));
        if kind == Kind::Blocking {
            server.seen.release();
            assert!(slow.reply().starts_with("235 "));
        }
    }
}

#[test]
fn what_was_said_before_a_slow_answer_goes_out_first() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        let mut client = server.connect();
        client.ask("EHLO client.example");
        client.say("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<block@example.org>\r\n");
        assert!(client.reply().starts_with("250 2.1.0 "));
        assert!(client.reply().starts_with("250 2.1.5 "));
    }
}

#[test]
fn a_panic_is_a_temporary_failure() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        let mut client = server.connect();
        client.ask("EHLO client.example");
        assert!(client.ask(plain("panic")).starts_with("454 4.7.0 "));
        assert!(client.ask("NOOP").starts_with("250 "));
        assert!(client.ask(plain("tim")).starts_with("235 "));
        client.ask("MAIL FROM:<a@example.org>");
        assert!(client.ask("RCPT TO:<panic@example.org>").starts_with("451 4.3.0 "));
        assert!(client.ask("RCPT TO:<b@example.org>").starts_with("250 "));
        assert!(client.ask("DATA").starts_with("354 "));
        client.say("x\r\n.\r\n");
        assert!(client.reply().starts_with("250 "));
        assert!(client.ask("QUIT").starts_with("221 "));
    }
}

#[test]
fn a_message_whose_content_was_not_kept_is_not_accepted() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        for more in [0, 300_000] {
            let mut client = server.connect();
            client.begin_message();
            client.say("kept\r\n");
            client.say("PANIC\r\n");
            client.say("z\r\n".repeat(more) + ".\r\n");
            assert!(client.reply().starts_with("451 4.3.0 "), "{kind:?} {more}");
            assert_eq!(server.seen.messages.lock().unwrap().len(), 0);
            // What the handler has kept of it cannot get into the next one.
            assert!(client.rest().starts_with("421 "));
        }
    }
}

#[test]
fn a_panic_in_an_event_harms_nobody() {
    struct Breaks;
    impl AsyncHandler for Breaks {
        fn event(&mut self, _: Event<'_>) {
            panic!("as asked");
        }
    }
    let server = Running::start_with(|config| config, Arc::default(), |_: Peer| Breaks);
    let mut other = server.connect();
    let mut client = server.connect();
    client.ask("EHLO client.example");
    assert!(client.ask("AUTH PLAIN ?").starts_with("501 "));
    assert!(client.ask("NOOP").starts_with("250 "));
    assert!(other.ask("NOOP").starts_with("250 "));
}

#[test]
fn a_handler_that_cannot_be_made_harms_nobody_else() {
    let first = AtomicBool::new(true);
    let server = Running::start_with(
        |config| config,
        Arc::default(),
        move |_: Peer| {
            assert!(!first.swap(false, Ordering::Relaxed), "as asked");
            Blocking::new(Play::new(&Arc::default()))
        },
    );
    let mut unlucky = Client::new(server.clear);
    assert_eq!(unlucky.rest(), "");
    assert!(server.connect().ask("NOOP").starts_with("250 "));
}

#[test]
fn no_answer_in_time_is_451_and_the_end() {
    for kind in KINDS {
        let server = Running::start(kind, answer_timeout);
        let mut client = server.connect();
        client.ask("EHLO client.example");
        client.ask("MAIL FROM:<a@example.org>");
        client.say("RCPT TO:<block@example.org>\r\nNOOP\r\n");
        assert!(client.reply().starts_with("451 4.3.0 "));
        assert!(client.rest().starts_with("421 "), "{kind:?}");

        let mut client = server.connect();
        client.ask("EHLO client.example");
        client.say(format!("{}\r\n", plain("block")));
        assert!(client.reply().starts_with("454 4.7.0 "));
        assert!(client.rest().starts_with("421 "), "{kind:?}");
    }
}

#[test]
fn content_that_is_not_taken_in_time_is_451_and_the_end() {
    for kind in KINDS {
        let server = Running::start(kind, answer_timeout);
        let mut client = server.connect();
        client.begin_message();
        client.say("BLOCK\r\n".to_owned() + &"z\r\n".repeat(100_000) + ".\r\n");
        assert!(client.reply().starts_with("451 4.3.0 "));
        assert!(client.rest().starts_with("421 "), "{kind:?}");
        assert_eq!(server.seen.messages.lock().unwrap().len(), 0);
    }
}

#[test]
fn failed_authentications_reach_the_handler() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        let mut client = server.connect();
        client.ask("EHLO client.example");
        assert!(client.ask(plain("wrong")).starts_with("535 "));
        server.seen.wait_for("AuthFailed");
        {
            let log = server.seen.log.lock().unwrap();
            let event = log.iter().find(|entry| entry.starts_with("AuthFailed")).unwrap();
            assert!(event.contains("PLAIN") && event.contains("wrong") && event.contains("BadCredentials"), "{event}");
            assert!(event.contains("failures: 1") && event.contains("127.0.0.1"), "{event}");
        }
        assert!(client.ask("AUTH LOGIN").starts_with("334 "));
        drop(client);
        let lost = |log: &mut Vec<String>| !log.iter().any(|entry| entry.contains("ConnectionLost"));
        let log = server.seen.log.lock().unwrap();
        let (log, waited) = server.seen.changed.wait_timeout_while(log, PATIENCE, lost).unwrap();
        assert!(!waited.timed_out(), "{log:?}");
        drop(log);
    }
}

#[test]
fn an_exchange_that_ends_in_a_reset_is_reported_too() {
    let server = Running::start(Kind::Async, |config| config);
    let mut client = server.connect();
    client.ask("EHLO client.example");
    // The challenge is never read: closing then resets the connection.
    client.say("AUTH LOGIN\r\n");
    client.socket().peek(&mut [0]).unwrap();
    drop(client);
    let lost = |log: &mut Vec<String>| !log.iter().any(|entry| entry.contains("ConnectionLost"));
    let log = server.seen.log.lock().unwrap();
    let (log, waited) = server.seen.changed.wait_timeout_while(log, PATIENCE, lost).unwrap();
    assert!(!waited.timed_out(), "{log:?}");
    drop(log);
}

#[test]
fn a_refusal_has_its_pause() {
    let pause = Duration::from_millis(60);
    let auth = Auth::new().require_tls(false).pause(pause, pause).max_failures(2);
    let server = Running::start(Kind::Async, |config| config.auth(auth));
    let mut client = server.connect();
    client.ask("EHLO client.example");
    let begun = Instant::now();
    client.say(format!("{}\r\n", plain("wrong")));
    // Meanwhile others are served.
    server.connect().ask("NOOP");
    assert!(client.reply().starts_with("535 "));
    assert!(begun.elapsed() >= pause && begun.elapsed() < PATIENCE);
    client.say(format!("{}\r\n", plain("wrong")));
    assert!(client.rest().starts_with("421 4.7.0 "));
}

// ---------------------------------------------------------------------------------------------------
// Clients that go away, or do not

#[test]
fn a_client_that_leaves_in_the_middle_of_content() {
    for kind in KINDS {
        for reset in [false, true] {
            let server = Running::start(kind, |config| config);
            let mut client = server.connect();
            client.begin_message();
            client.say("half a message\r\n");
            if reset {
                // What is not read when the socket closes makes it a reset.
                let mut other = client;
                other.say(".\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nhalf\r\n");
                server.seen.wait_for("message");
                while other.socket().peek(&mut [0; 512]).unwrap() < 100 {}
                drop(other);
            } else {
                drop(client);
            }
            server.seen.wait_for("Aborted { reason: ConnectionLost");
            assert_eq!(server.seen.has("message"), reset);
            assert!(server.seen.messages.lock().unwrap().len() == usize::from(reset));
        }
    }
}

#[test]
fn silence_ends_in_421() {
    let timeouts =
        Timeouts { command: Duration::from_millis(50), content: Duration::from_millis(50), ..Timeouts::default() };
    let server = Running::start(Kind::Blocking, |config| config.timeouts(timeouts));
    let mut client = server.connect();
    assert!(client.rest().starts_with("421 4.4.2 "));
    let mut client = server.connect();
    client.begin_message();
    client.say("x");
    assert!(client.rest().starts_with("421 4.4.2 "));
    server.seen.wait_for("Aborted { reason: Timeout");
    // In a handshake there is nothing to say.
    let mut client = Client::new(server.tls);
    assert_eq!(client.rest(), "");
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let timeouts = Timeouts { write: Duration::from_millis(100), ..Timeouts::default() };
    for kind in KINDS {
        let server = Running::start(kind, |config| config.timeouts(timeouts));
        let mut client = server.connect();
        let Stream::Clear(stream) = &mut client.stream else { panic!("in the clear") };
        let commands = "HELP\r\nEHLO client.example\r\n".repeat(2_000);
        let (mut written, begun) = (0, Instant::now());
        let error = loop {
            match stream.write(commands.as_bytes()) {
                Ok(octets) => written += octets,
                Err(error) => break error,
            }
            assert!(begun.elapsed() < PATIENCE);
        };
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error:?}");
        // The kernel's buffers and no more.
        assert!(written < 64 << 20, "{written}");
        let begun = Instant::now();
        while server.seen.handlers.load(Ordering::Relaxed) > 0 {
            assert!(begun.elapsed() < PATIENCE);
            thread::yield_now();
        }
    }
}

/// Writes commands forever, and reads what comes, on two threads.
fn pour(client: Client, what: &'static str) -> (Arc<AtomicUsize>, [JoinHandle<()>; 2]) {
    let Stream::Clear(mut reader) = client.stream else { panic!("in the clear") };
    let mut writer = reader.try_clone().unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let reading = thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while let Ok(octets @ 1..) = reader.read(&mut buffer) {
            count.fetch_add(octets, Ordering::Relaxed);
        }
    });
    let pouring = thread::spawn(move || while writer.write_all(what.repeat(10_000).as_bytes()).is_ok() {});
    (read, [reading, pouring])
}

#[test]
fn a_client_that_never_pauses_keeps_nobody_else_waiting() {
    struct ThrowsAway;
    impl AsyncHandler for ThrowsAway {}
    let limits = sansmtp::Limits { max_message_octets: u64::MAX, ..sansmtp::Limits::default() };
    for what in ["NOOP\r\n", "content\r\n"] {
        let server = Running::start_with(|config| config.limits(limits), Arc::default(), |_: Peer| ThrowsAway);
        let pourers: Vec<_> = (0..2)
            .map(|_| {
                let mut client = server.connect();
                if what == "content\r\n" {
                    client.begin_message();
                }
                pour(client, what)
            })
            .collect();
        for _ in 0..5 {
            assert!(server.connect().ask("NOOP").starts_with("250 "));
        }
        // And they hear of the end, or are cut off.
        assert!(server.stop(Duration::from_millis(50)) < PATIENCE);
        for thread in pourers.into_iter().flat_map(|(_, threads)| threads) {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_client_that_goes_on_after_the_end_is_not_listened_to_for_long() {
    let server = Running::start(Kind::Async, |config| config);
    let mut client = server.connect();
    client.say("QUIT\r\n");
    let (_, threads) = pour(client, "NOOP\r\n");
    for thread in threads {
        thread.join().unwrap();
    }
    let begun = Instant::now();
    while server.seen.handlers.load(Ordering::Relaxed) > 0 {
        assert!(begun.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

// ---------------------------------------------------------------------------------------------------
// The end

#[test]
fn a_shutdown_lets_everybody_finish() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        let (address, shutdown) = (server.clear, server.shutdown.clone());
        let mut idle = server.connect();
        let mut idle_tls = server.connect_tls();
        let mut busy = server.connect();
        busy.begin_message();
        busy.say("first half\r\n");
        let mut asking = server.connect();
        asking.ask("EHLO client.example");
        asking.say(format!("{}\r\n", plain(if kind == Kind::Blocking { "block" } else { "tim" })));
        server.seen.wait_for("authenticate");

        shutdown.begin(LONG);
        shutdown.begin(Duration::ZERO);
        assert_eq!(idle.rest(), "421 4.3.2 The server is shutting down\r\n");
        assert_eq!(idle_tls.rest(), "421 4.3.2 The server is shutting down\r\n");
        drop((idle, idle_tls));
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        busy.say("second half\r\n.\r\nNOOP\r\n");
        let said = busy.rest();
        assert!(said.starts_with("250 2.0.0 Message accepted\r\n421 4.3.2 "), "{said}");
        assert_eq!(said.lines().count(), 2);
        drop(busy);
        assert_eq!(server.seen.messages.lock().unwrap().pop().unwrap(), b"first half\r\nsecond half\r\n");
        server.seen.release();
        let said = asking.rest();
        assert!(said.starts_with("235 ") && said.contains("\r\n421 4.3.2 "), "{said}");
        drop(asking);
        let seen = Arc::clone(&server.seen);
        assert!(server.stop(LONG) < PATIENCE);
        assert_eq!(seen.handlers.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_does_not_end_is_cut_off() {
    for kind in KINDS {
        let server = Running::start(kind, |config| config);
        let mut stuck = server.connect();
        stuck.begin_message();
        let mut asking = server.connect();
        asking.ask("EHLO client.example");
        asking.say(format!("{}\r\n", plain("block")));
        server.seen.wait_for("authenticate block");
        let handshaking = Client::new(server.tls);
        let seen = Arc::clone(&server.seen);
        let took = server.stop(Duration::from_millis(50));
        assert!(took >= Duration::from_millis(50) && took < PATIENCE, "{took:?}");
        for mut client in [stuck, asking, handshaking] {
            // Whether it is an end or a reset depends on what was unread.
            assert!(!matches!(client.read(), Ok(1..)));
        }
        // The authenticator on its thread is let go, and nobody hears its answer.
        seen.release();
    }
}

#[test]
fn a_server_that_is_dropped_ends_its_connections() {
    let executor = Arc::new(Executor::new());
    let seen = Arc::new(Seen::default());
    let handlers = Arc::clone(&seen);
    let config = Config::builder("mx.example.org").build().unwrap();
    let server = Server::new(config, move |_: Peer| AsyncPlay(Play::new(&handlers)))
        .executor(executor.clone())
        .listen("127.0.0.1:0")
        .unwrap();
    let address = server.local_addresses()[0];
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let (end, ended) = smol::channel::bounded::<()>(1);
    let thread = thread::spawn(move || {
        smol::block_on(executor.run(async {
            let until = async {
                let _ = stopped.recv().await;
                Ok(())
            };
            futures_lite::future::or(server.run(), until).await.unwrap();
            let _ = ended.recv().await;
        }));
    });
    let mut client = Client::new(address);
    assert!(client.reply().starts_with("220 "));
    stop.close();
    // Whether it still hears of it depends on what is dropped first.
    let said = client.rest();
    assert!(said.is_empty() || said.starts_with("421 4.3.2 "), "{said}");
    end.close();
    thread.join().unwrap();
    assert_eq!(seen.handlers.load(Ordering::Relaxed), 0);
}

#[test]
fn tls_that_is_offered_needs_a_configuration() {
    let offered = Config::builder("mx.example.org").starttls(true).build().unwrap();
    let server = Server::new(offered, |_: Peer| AsyncPlay(Play::new(&Arc::default()))).listen("127.0.0.1:0").unwrap();
    assert_eq!(smol::block_on(server.run()).unwrap_err().kind(), ErrorKind::InvalidInput);
    let plain = Config::builder("mx.example.org").build().unwrap();
    let server = Server::new(plain, |_: Peer| AsyncPlay(Play::new(&Arc::default()))).listen_tls("127.0.0.1:0").unwrap();
    assert_eq!(smol::block_on(server.run()).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn an_address_in_use_is_an_error() {
    let config = Config::builder("mx.example.org").build().unwrap();
    let first = Server::new(config.clone(), |_: Peer| AsyncPlay(Play::new(&Arc::default())));
    let first = first.listen("127.0.0.1:0").unwrap();
    let second = Server::new(config, |_: Peer| AsyncPlay(Play::new(&Arc::default())));
    assert_eq!(second.listen(first.local_addresses()[0]).err().unwrap().kind(), ErrorKind::AddrInUse);
}
