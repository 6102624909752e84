//! What a server costs that does nothing: a loop on one thread that answers each line by its first letters, with
//! replies that are made already. No SMTP server on the same sockets can do with less.
//!
//! It believes every password, throws mail away, and keeps no more of a connection than whether content is coming.
//! Replies to a group of commands leave in one write; nothing is read twice to see that there is nothing. To VRFY it
//! answers how many messages it has had. With `--round-trip` it is a next hop that is far away.

mod client;
mod content;
mod late;
#[path = "../support/metered.rs"]
mod metered;

use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use client::{Client, Scratch};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ServerConfig};

#[derive(Parser)]
struct Options {
    /// Listen here
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Certificate chain; without it, there is no STARTTLS
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let each reply come so much later, the greeting twice as much: as over a network on which a round trip takes so
    /// long. Not under TLS
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0, conflicts_with = "tls_cert")]
    round_trip: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let options = Options::parse();
    let tls = match (options.tls_cert, options.tls_key) {
        (Some(certificate), Some(key)) => Some(tls(certificate, key)?),
        _ => None,
    };
    let mut listener = TcpListener::bind(options.listen)?;
    // On Linux, what is accepted has it from here.
    socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
    println!("listening on {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut events, mut scratch) =
        (Events::with_capacity(1024), Scratch::new(Duration::from_millis(options.round_trip)));
    let (mut clients, mut free): (Vec<Option<Client>>, Vec<usize>) = (Vec::new(), Vec::new());
    loop {
        match poll.poll(&mut events, scratch.late.pause()) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        while let Some(reply) = scratch.late.take() {
            let Some(place) = clients.get_mut(reply.place) else { continue };
            // Another client may have the place by now.
            if place.as_mut().is_some_and(|client| client.number() == reply.client && !client.say(&reply)) {
                *place = None;
                free.push(reply.place);
            }
        }
        for event in &events {
            if event.token() != LISTENER {
                let Token(index) = event.token();
                let Some(place) = clients.get_mut(index) else { continue };
                let Some(client) = place else { continue };
                if !client.go_on(&mut scratch, tls.as_ref(), event.is_read_closed() || event.is_error()) {
                    *place = None;
                    free.push(index);
                }
                continue;
            }
            loop {
                let mut stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                };
                let index = free.pop().unwrap_or_else(|| {
                    clients.push(None);
                    clients.len() - 1
                });
                poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
                match (Client::greet(stream, index, &mut scratch), clients.get_mut(index)) {
                    (Some(client), Some(place)) => *place = Some(client),
                    _ => free.push(index),
                }
            }
        }
    }
}

fn tls(certificate: PathBuf, key: PathBuf) -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let mut provider = rustls::crypto::ring::default_provider();
    // As `sink` has it: what comes with AES-128 is cheaper.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

const LISTENER: Token = Token(usize::MAX - 1);
