//! In front of a server: lets through so many requests, and nothing after them, without a word.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Works until the process ends.
pub(crate) struct Valve {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Valve {
    /// In front of this port. Each request has to be in the clear, and to be sent at once.
    pub(crate) fn new(port: u16, requests: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(requests));
        let left = requests.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut answers, &mut to_client));
                let left = left.clone();
                std::thread::spawn(move || pass_on(client, server, &left));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    /// Lets through so many from now on.
    pub(crate) fn set(&self, requests: usize) {
        self.requests.store(requests, Ordering::SeqCst);
    }
}

fn pass_on(mut client: TcpStream, mut server: TcpStream, left: &AtomicUsize) {
    let mut buffer = [0; 4096];
    let less = |left: usize| left.checked_sub(1);
    while let Ok(octets @ 1..) = client.read(&mut buffer) {
        let request = buffer.get(..octets).unwrap();
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() && server.write_all(request).is_err() {
            return;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}
