//! Which threads serve connections, and what becomes of them.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use sansmtp::{Config, Handler, Hooks, Peer, Session, Timeouts, Verdict};
use sansmtp_conformance::PATIENCE;
use sansmtp_driver::{Shutdown, Signal};
use sansmtp_threads::Server;

/// What all handlers of a server know.
#[derive(Default)]
struct Known {
    /// Those that have greeted somebody.
    threads: Mutex<Vec<ThreadId>>,
    /// Those that are in [`Handler::noop`], which does not return before it is released.
    stuck: Mutex<Vec<ThreadId>>,
    released: Signal<()>,
}

thread_local! {
    /// Kept for as long as the thread is there.
    static KNOWN: RefCell<Option<Arc<Known>>> = const { RefCell::new(None) };
}

struct Tells(Arc<Known>);

impl Handler for Tells {
    type Message = ();

    fn hooks(&self) -> Hooks {
        Hooks::CONNECT | Hooks::NOOP
    }

    fn connect(&mut self, _: &Session) -> Verdict {
        KNOWN.set(Some(Arc::clone(&self.0)));
        self.0.threads.lock().unwrap().push(thread::current().id());
        Verdict::Accept
    }

    fn noop(&mut self, _: &Session, _: &str) -> Verdict {
        KNOWN.set(Some(Arc::clone(&self.0)));
        self.0.stuck.lock().unwrap().push(thread::current().id());
        self.0.released.wait_timeout(PATIENCE);
        Verdict::Accept
    }
}

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(known: &Arc<Known>) -> Self {
        // Short, but not so short that a handler that is quick might be late.
        let timeouts = Timeouts { answer: Duration::from_millis(500), ..Timeouts::default() };
        let config = Config::builder("mx.example.org").timeouts(timeouts).build().unwrap();
        let known = Arc::clone(known);
        let make_handler = move |_: Peer| Tells(Arc::clone(&known));
        let server = Server::new(config, make_handler).listen("127.0.0.1:0").unwrap();
        let (address, shutdown) = (server.local_addresses().pop().unwrap(), server.shutdown_handle());
        Self { address, shutdown, thread: thread::spawn(|| server.run().unwrap()) }
    }

    fn stop(self) {
        self.shutdown.begin(PATIENCE);
        self.thread.join().unwrap();
    }
}

/// Says something after the greeting, and hears what the server has to say to its end.
fn say(address: SocketAddr, what: &str) -> Vec<String> {
    let mut client = BufReader::new(TcpStream::connect(address).unwrap());
    client.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = String::new();
    client.read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("220 "), "{greeting}");
    client.get_ref().write_all(what.as_bytes()).unwrap();
    client.lines().map(Result::unwrap).collect()
}

fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

#[test]
fn a_thread_serves_one_connection_after_another() {
    let known = Arc::default();
    let server = Running::start(&known);
    // The thread of the last one may still be about to end it.
    wait_until(|| {
        assert_eq!(say(server.address, "QUIT\r\n").len(), 1);
        let threads = known.threads.lock().unwrap();
        threads.iter().collect::<HashSet<_>>().len() < threads.len()
    });
    server.stop();
    // Nobody has anything to do any more.
    wait_until(|| Arc::strong_count(&known) == 1);
}

#[test]
fn a_thread_that_is_stuck_in_a_handler_is_not_waited_for() {
    let known = Arc::default();
    let server = Running::start(&known);
    let said = say(server.address, "NOOP\r\n");
    assert!(matches!(&said[..], [late, end] if late.starts_with("451 ") && end.starts_with("421 ")), "{said:?}");
    known.threads.lock().unwrap().clear();
    for _ in 0..20 {
        say(server.address, "QUIT\r\n");
    }
    server.stop();
    let (threads, stuck) = (known.threads.lock().unwrap(), known.stuck.lock().unwrap());
    assert_eq!((threads.len(), stuck.len()), (20, 1));
    assert!(!threads.iter().any(|thread| stuck.contains(thread)));
    drop((threads, stuck));
    // It is there, with its handler, and then not even it.
    wait_until(|| Arc::strong_count(&known) == 3);
    known.released.set(());
    wait_until(|| Arc::strong_count(&known) == 1);
}
