//! What every adapter has to do, and what only threads have to.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use sansmtp::{Config, Handler, Peer};
use sansmtp_conformance::{PATIENCE, Plan, Runtime, Started, set_up};
use sansmtp_threads::Server;

struct Threads;

impl Runtime for Threads {
    fn start<H: Handler + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started> {
        let server = set_up!(Server::new(plan.config.clone(), make_handler), plan)?;
        Ok(Started::new(server.local_addresses(), server.shutdown_handle(), || server.run()))
    }
}

mod blocking {
    sansmtp_conformance::conformance!(sansmtp_conformance::Blocking<super::Threads>);
    sansmtp_conformance::blocking_conformance!(sansmtp_conformance::Blocking<super::Threads>);
}

/// Takes everything and keeps nothing.
struct ThrowsAway;

impl Handler for ThrowsAway {}

fn greeting(client: &mut TcpStream) -> io::Result<String> {
    let mut line = [0; 64];
    let octets = client.read(&mut line)?;
    Ok(String::from_utf8_lossy(&line[..octets]).into_owned())
}

#[test]
fn so_many_connections_at_a_time() {
    let config = Config::builder("mx.example.org").build().unwrap();
    let server = Server::new(config, |_| ThrowsAway).max_connections(2).listen("127.0.0.1:0").unwrap();
    let (address, shutdown) = (server.local_addresses()[0], server.shutdown_handle());
    let running = thread::spawn(|| server.run());
    let connect = || {
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    };
    let mut clients = [connect(), connect()];
    for client in &mut clients {
        assert!(greeting(client).unwrap().starts_with("220 "));
    }
    let mut third = connect();
    third.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(greeting(&mut third).is_err());
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    let [first, second] = clients;
    drop(first);
    assert!(greeting(&mut third).unwrap().starts_with("220 "));
    // Those that wait for a seat do not keep the server from ending.
    let mut fourth = connect();
    shutdown.begin(PATIENCE);
    for mut client in [second, third] {
        assert!(greeting(&mut client).unwrap().starts_with("421 4.3.2 "));
    }
    assert!(!matches!(greeting(&mut fourth), Ok(line) if !line.is_empty()));
    running.join().unwrap().unwrap();
}

#[test]
fn listeners_on_every_address_end_too() {
    let config = Config::builder("mx.example.org").build().unwrap();
    let server = Server::new(config, |_| ThrowsAway).listen("0.0.0.0:0").unwrap();
    // Not every machine has it.
    let server = match TcpListener::bind("[::]:0") {
        Ok(_) => server.listen("[::]:0").unwrap(),
        Err(_) => server,
    };
    let (port, shutdown) = (server.local_addresses()[0].port(), server.shutdown_handle());
    let running = thread::spawn(|| server.run());
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(greeting(&mut client).unwrap().starts_with("220 "));
    shutdown.begin(PATIENCE);
    assert!(greeting(&mut client).unwrap().starts_with("421 4.3.2 "));
    drop(client);
    running.join().unwrap().unwrap();
    assert_eq!(TcpStream::connect(("127.0.0.1", port)).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}
