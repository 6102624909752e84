//! How a server ends, and what keeps it from beginning.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sansmtp::Config;

use crate::certificate::TLS;
use crate::client::{Client, plain};
use crate::server::{ANY_PORT, Kind, Plan, Running, run_plan};
use crate::{LONG, PATIENCE};

/// Whoever is idle hears of it at once; whoever is busy finishes.
pub fn a_shutdown_lets_everybody_finish<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let (address, shutdown) = (server.clear, server.shutdown().clone());
    let mut idle = server.connect();
    let mut idle_tls = server.connect_tls();
    let mut busy = [server.connect(), server.connect_tls()];
    for client in &mut busy {
        client.begin_message();
        client.say("first half\r\n");
    }
    let mut exchanging = server.connect();
    exchanging.ask("EHLO client.example");
    assert_eq!(exchanging.ask("AUTH PLAIN"), "334 \r\n");
    let mut asking = server.connect();
    asking.ask("EHLO client.example");
    asking.say(format!("{}\r\n", plain("block")));
    server.seen.wait_for("authenticate");

    shutdown.begin(LONG);
    shutdown.begin(Duration::ZERO);
    assert_eq!(idle.rest(), "421 4.3.2 The server is shutting down\r\n");
    assert_eq!(idle_tls.rest(), "421 4.3.2 The server is shutting down\r\n");
    drop((idle, idle_tls));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for mut client in busy {
        client.say("second half\r\n.\r\nNOOP\r\n");
        let said = client.rest();
        assert!(said.starts_with("250 2.0.0 Message accepted\r\n421 4.3.2 "), "{said}");
        assert_eq!(said.lines().count(), 2);
        drop(client);
        assert_eq!(server.seen.messages.lock().unwrap().pop().unwrap(), b"first half\r\nsecond half\r\n");
    }
    exchanging.say("AHRpbQB4\r\nNOOP\r\n");
    let said = exchanging.rest();
    assert!(said.starts_with("235 ") && said.contains("\r\n421 4.3.2 "), "{said}");
    drop(exchanging);
    server.seen.release();
    let said = asking.rest();
    assert!(said.starts_with("235 ") && said.contains("\r\n421 4.3.2 "), "{said}");
    drop(asking);
    let seen = Arc::clone(&server.seen);
    assert!(server.stop(LONG) < PATIENCE);
    assert_eq!(seen.handlers.load(Ordering::Relaxed), 0);
}

/// A client, a handler or a handshake that does not end in time is not waited for.
pub fn what_does_not_end_is_cut_off<K: Kind>() {
    let server = Running::start::<K>(|config| config);
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
    // The authenticator is let go, and nobody hears its answer.
    seen.release();
}

/// Sends messages until the server has no more of it; those that it has accepted.
fn send_until_the_end(address: SocketAddr, tls: bool, name: usize, accepted: &AtomicUsize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut send = || -> io::Result<()> {
        loop {
            let mut client = Client::connect(address)?;
            if tls {
                client = client.under_tls();
            }
            client.try_reply()?;
            for _ in 0..10 {
                let message = format!("{name} {}\r\n", acknowledged.len());
                client.try_say(
                    "EHLO client.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n",
                )?;
                for expected in ["250", "250", "250", "354"] {
                    if !client.try_reply()?.starts_with(expected) {
                        return Ok(());
                    }
                }
                client.try_say(format!("{message}.\r\n"))?;
                let reply = client.try_reply()?;
                assert!(reply.starts_with("250 "), "a message that was taken was answered {reply}");
                acknowledged.push(message);
                accepted.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    // However it ended: what counts is what was acknowledged.
    let _ = send();
    acknowledged
}

fn stop_under_load<K: Kind>(grace: Duration) {
    let server = Running::start::<K>(|config| config);
    let seen = Arc::clone(&server.seen);
    let accepted = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..8)
        .map(|name| {
            let (tls, accepted) = (name % 2 == 1, Arc::clone(&accepted));
            let address = if tls { server.tls } else { server.clear };
            thread::spawn(move || send_until_the_end(address, tls, name, &accepted))
        })
        .collect();
    let begun = Instant::now();
    while accepted.load(Ordering::Relaxed) < 100 {
        assert!(begun.elapsed() < PATIENCE);
        thread::yield_now();
    }
    assert!(server.stop(grace) < PATIENCE);
    let messages = seen.messages.lock().unwrap().clone();
    let kept: BTreeSet<_> = messages.iter().map(|message| String::from_utf8_lossy(message).into_owned()).collect();
    assert_eq!(kept.len(), messages.len(), "a message was kept twice");
    for message in senders.into_iter().flat_map(|sender| sender.join().unwrap()) {
        assert!(kept.contains(&message), "{message:?} was acknowledged and is lost");
    }
}

/// Every 250 was true.
pub fn under_load_nothing_acknowledged_is_lost<K: Kind>() {
    stop_under_load::<K>(LONG);
}

/// Even if there is no time to finish.
pub fn cut_off_under_load_nothing_acknowledged_is_lost<K: Kind>() {
    stop_under_load::<K>(Duration::ZERO);
}

fn plan(starttls: bool) -> Plan {
    let config = Config::builder("mx.example.org").starttls(starttls).build().unwrap();
    Plan::new(config)
}

/// The request is not lost.
pub fn a_server_that_was_stopped_before_it_ran_ends_at_once<K: Kind>() {
    run_plan::<K>(&plan(false)).unwrap();
    run_plan::<K>(&Plan { tls: Some(TLS.0.clone()), implicit: Some(ANY_PORT), ..plan(true) }).unwrap();
}

/// By STARTTLS, or by a listener.
pub fn tls_that_is_offered_needs_a_configuration<K: Kind>() {
    for plan in [plan(true), Plan { implicit: Some(ANY_PORT), ..plan(false) }] {
        assert_eq!(run_plan::<K>(&plan).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

/// Found when the server is set up.
pub fn an_address_in_use_is_an_error<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let taken = Plan { clear: server.clear, ..plan(false) };
    assert_eq!(run_plan::<K>(&taken).unwrap_err().kind(), ErrorKind::AddrInUse);
}
