//! What every adapter has to do, and what only tokio has to.

use std::io::{self, Read};
use std::net::TcpStream;

use sansmtp::{AsyncHandler, Config, Handler, Peer};
use sansmtp_conformance::{AsyncRuntime, PATIENCE, Plan, Runtime, Started, set_up};
use sansmtp_tokio::{Blocking, Server};
use tokio::runtime::Builder;

struct Tokio;

impl Runtime for Tokio {
    fn start<H: Handler + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started> {
        Self::start_async(plan, move |peer| Blocking::new(make_handler(peer)))
    }
}

impl AsyncRuntime for Tokio {
    fn start_async<H: AsyncHandler + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started> {
        let server = set_up!(Server::new(plan.config.clone(), make_handler), plan)?;
        Ok(Started::new(server.local_addresses(), server.shutdown_handle(), server.tls_handle(), || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let result = runtime.block_on(server.run());
            // A blocking handler that never returns is not waited for.
            runtime.shutdown_background();
            result
        }))
    }
}

mod blocking {
    sansmtp_conformance::conformance!(sansmtp_conformance::Blocking<super::Tokio>);
    sansmtp_conformance::server_conformance!(sansmtp_conformance::Blocking<super::Tokio>);
    sansmtp_conformance::blocking_conformance!(sansmtp_conformance::Blocking<super::Tokio>);
}

mod waiting {
    sansmtp_conformance::conformance!(sansmtp_conformance::Waiting<super::Tokio>);
    sansmtp_conformance::server_conformance!(sansmtp_conformance::Waiting<super::Tokio>);
    sansmtp_conformance::asynchronous_conformance!(sansmtp_conformance::Waiting<super::Tokio>);
}

/// Takes everything and keeps nothing.
struct ThrowsAway;

impl AsyncHandler for ThrowsAway {
    type Message = ();
}

#[test]
fn a_server_that_is_dropped_ends_its_connections() {
    let config = Config::builder("mx.example.org").build().unwrap();
    let server = Server::new(config, |_| ThrowsAway).listen("127.0.0.1:0").unwrap();
    let address = server.local_addresses()[0];
    // With several threads, and as a task: the server's future can be sent.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let running = runtime.spawn(server.run());
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_ne!(client.read(&mut [0; 64]).unwrap(), 0);
    running.abort();
    // Whether it still hears of the end depends on what is dropped first.
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert!(said.is_empty() || said.starts_with("421 4.3.2 "), "{said}");
}
