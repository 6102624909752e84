//! An AUTH handler hook that waits for something, and the other connections on its executor meanwhile.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sansmtp::{Answer, AsyncHandler, Auth, AuthRequest, AuthResult, AuthTurn, Config, Hooks, Session};
use sansmtp_smol::{Server, Shutdown};
use smol::Executor;
use smol::channel::{Receiver, Sender, unbounded};

/// Asks somebody else about each turn, and waits for what they say.
struct Waiting {
    /// The turns that wait, by the number of the turn.
    asked: Sender<u32>,
    said: Receiver<&'static str>,
}

impl AsyncHandler for Waiting {
    type Message = ();

    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }

    async fn authenticate(&mut self, _: &Session, _: &AuthRequest) -> AuthResult {
        AuthResult::accept()
    }

    async fn auth(&mut self, _: &Session, turn: AuthTurn) -> Answer {
        self.asked.send(turn.number()).await.unwrap();
        match self.said.recv().await {
            Ok("yes") => turn.result(AuthResult::accept().with_login("tim")),
            Ok("no") => turn.result(AuthResult::refuse()),
            Ok(challenge) => turn.challenge(challenge),
            Err(_) => turn.result(AuthResult::cannot_tell()),
        }
    }
}

/// A server on a thread of its own, which is its only executor.
struct Running {
    address: SocketAddr,
    asked: Receiver<u32>,
    say: Option<Sender<&'static str>>,
    shutdown: Shutdown,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        let ((asks, asked), (say, said)) = (unbounded(), unbounded());
        let auth = Auth::new().require_tls(false).pause(Duration::ZERO, Duration::ZERO).handler_mechanism("X-WAIT");
        let config = Config::builder("mx.example.org").auth(auth).build().unwrap();
        let executor = Arc::new(Executor::new());
        let make_handler = move |_| Waiting { asked: asks.clone(), said: said.clone() };
        let server = Server::new(config, make_handler).executor(Arc::clone(&executor)).listen("127.0.0.1:0").unwrap();
        let (address, shutdown) = (*server.local_addresses().first().unwrap(), server.shutdown_handle());
        let thread = Some(thread::spawn(move || smol::block_on(executor.run(server.run())).unwrap()));
        Self { address, asked, say: Some(say), shutdown, thread }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client(BufReader::new(stream));
        assert!(client.reply().starts_with("220 "));
        assert!(client.ask("EHLO c.example").contains("X-WAIT"));
        client
    }

    fn say(&self, what: &'static str) {
        self.say.as_ref().unwrap().send_blocking(what).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.say = None;
        self.shutdown.begin(Duration::ZERO);
        if !thread::panicking() {
            self.thread.take().unwrap().join().unwrap();
        }
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The next reply, all lines of it.
    fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            assert_ne!(self.0.read_line(&mut reply).unwrap(), 0, "{reply}");
            if reply.get(start + 3..start + 4) == Some(" ") {
                return reply;
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.reply()
    }
}

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_hook_that_waits_does_not_block_the_others() {
    let server = Running::start();
    let mut waits = server.connect();
    for (round, response) in [(0, "AUTH X-WAIT dGlt"), (1, "MzE0MTU5")] {
        waits.send(response);
        assert_eq!(server.asked.recv_blocking(), Ok(round));
        // The question is out, and nobody has answered it; everybody else is served, also by AUTH.
        for _ in 0..3 {
            let mut other = server.connect();
            assert!(other.ask("AUTH PLAIN AHRpbQB4").starts_with("235 2.7.0 "));
            assert!(other.ask("MAIL FROM:<a@example.org>").starts_with("250 2.1.0 "));
            assert!(other.ask("QUIT").starts_with("221 2.0.0 "));
        }
        if round == 0 {
            server.say("code?");
            assert_eq!(waits.reply(), "334 Y29kZT8=\r\n");
        }
    }
    server.say("yes");
    assert!(waits.reply().starts_with("235 2.7.0 "));
    assert!(waits.ask("NOOP").starts_with("250 2.0.0 "));
}

/// Several hooks wait at the same time, each on its connection, and a pipelined command behind the answer.
#[test]
fn hooks_wait_side_by_side() {
    let server = Running::start();
    let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("AUTH X-WAIT\r\nNOOP");
        assert_eq!(server.asked.recv_blocking(), Ok(0));
    }
    let mut other = server.connect();
    assert!(other.ask("NOOP").starts_with("250 2.0.0 "));
    clients.iter().for_each(|_| server.say("no"));
    for client in &mut clients {
        assert!(client.reply().starts_with("535 5.7.8 "));
        assert!(client.reply().starts_with("250 2.0.0 "));
    }
}

/// Whom the hook waits for is gone, or the client is: the exchange ends, and the server goes on.
#[test]
fn a_hook_that_waits_in_vain_fails_closed() {
    let mut server = Running::start();
    let mut leaves = server.connect();
    leaves.send("AUTH X-WAIT");
    assert_eq!(server.asked.recv_blocking(), Ok(0));
    drop(leaves);
    let mut waits = server.connect();
    waits.send("AUTH X-WAIT");
    assert_eq!(server.asked.recv_blocking(), Ok(0));
    server.say = None;
    assert!(waits.reply().starts_with("454 4.7.0 "));
    assert!(waits.ask("MAIL FROM:<a@example.org>").starts_with("250 2.1.0 "));
}
