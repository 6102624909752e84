//! What every adapter has to do, and what only smol has to.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use sansmtp::{AsyncHandler, Config, Handler, Peer};
use sansmtp_conformance::{AsyncRuntime, PATIENCE, Plan, Runtime, Started, set_up};
use sansmtp_smol::{Blocking, Server};
use smol::Executor;

struct Smol;

impl Runtime for Smol {
    fn start<H: Handler + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started> {
        Self::start_async(plan, move |peer| Blocking::new(make_handler(peer)))
    }
}

impl AsyncRuntime for Smol {
    fn start_async<H: AsyncHandler + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started> {
        let executor = Arc::new(Executor::new());
        let server = set_up!(Server::new(plan.config.clone(), make_handler).executor(executor.clone()), plan)?;
        Ok(Started::new(server.local_addresses(), server.shutdown_handle(), server.tls_handle(), move || {
            smol::block_on(executor.run(server.run()))
        }))
    }
}

mod blocking {
    sansmtp_conformance::conformance!(sansmtp_conformance::Blocking<super::Smol>);
    sansmtp_conformance::server_conformance!(sansmtp_conformance::Blocking<super::Smol>);
    sansmtp_conformance::blocking_conformance!(sansmtp_conformance::Blocking<super::Smol>);
}

mod waiting {
    sansmtp_conformance::conformance!(sansmtp_conformance::Waiting<super::Smol>);
    sansmtp_conformance::server_conformance!(sansmtp_conformance::Waiting<super::Smol>);
    sansmtp_conformance::asynchronous_conformance!(sansmtp_conformance::Waiting<super::Smol>);
}

/// Takes everything and keeps nothing.
struct ThrowsAway;

impl AsyncHandler for ThrowsAway {
    type Message = ();
}

#[test]
fn a_server_that_is_dropped_ends_its_connections() {
    let config = Config::builder("mx.example.org").build().unwrap();
    let executor = Arc::new(Executor::new());
    let server = Server::new(config, |_| ThrowsAway).executor(executor.clone()).listen("127.0.0.1:0").unwrap();
    let address = server.local_addresses()[0];
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let (end, ended) = smol::channel::bounded::<()>(1);
    let thread = thread::spawn(move || {
        smol::block_on(executor.run(async {
            let until = async {
                let _ = stopped.recv().await;
                Ok(())
            };
            smol::future::or(server.run(), until).await.unwrap();
            let _ = ended.recv().await;
        }));
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_ne!(client.read(&mut [0; 64]).unwrap(), 0);
    stop.close();
    // Whether it still hears of the end depends on what is dropped first.
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert!(said.is_empty() || said.starts_with("421 4.3.2 "), "{said}");
    end.close();
    thread.join().unwrap();
}
