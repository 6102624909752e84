//! What every adapter has to do, and what only threads have to.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::thread;

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
        Ok(Started::new(server.local_addresses(), server.shutdown_handle(), server.tls_handle(), || server.run()))
    }
}

mod blocking {
    sansmtp_conformance::conformance!(sansmtp_conformance::Blocking<super::Threads>);
    sansmtp_conformance::server_conformance!(sansmtp_conformance::Blocking<super::Threads>);
    sansmtp_conformance::blocking_conformance!(sansmtp_conformance::Blocking<super::Threads>);
}

/// Takes everything and keeps nothing.
struct ThrowsAway;

impl Handler for ThrowsAway {
    type Message = ();
}

fn greeting(client: &mut TcpStream) -> io::Result<String> {
    let mut line = [0; 64];
    let octets = client.read(&mut line)?;
    Ok(String::from_utf8_lossy(&line[..octets]).into_owned())
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
