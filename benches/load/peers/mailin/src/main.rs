//! mailin-embedded: `sansmtp-load-peer THREADS [CERTIFICATE KEY]`
//!
//! It refuses AUTH in the clear, and nothing tells it otherwise: without a certificate, it takes mail from anybody.

use std::error::Error;
use std::net::TcpListener;

use mailin_embedded::response::AUTH_OK;
use mailin_embedded::{AuthMechanism, Handler, Response, Server, SslConfig};

#[derive(Clone)]
struct Sink;

impl Handler for Sink {
    fn auth_plain(&mut self, _: &str, _: &str, _: &str) -> Response {
        AUTH_OK
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().ok_or("how many threads?")?.parse()?;
    let mut server = Server::new(Sink);
    match (arguments.next(), arguments.next()) {
        (Some(cert_path), Some(key_path)) => {
            server.with_ssl(SslConfig::SelfSigned { cert_path, key_path })?.with_auth(AuthMechanism::Plain)
        }
        _ => server.with_ssl(SslConfig::None)?,
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // mailin-embedded does not set TCP_NODELAY; on Linux, what is accepted has it from here.
    socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
    println!("listening on {}", listener.local_addr()?);
    // Its documentation: the number of threads is that of concurrent sessions.
    server.with_num_threads(threads).with_tcp_listener(listener);
    Ok(server.serve()?)
}
