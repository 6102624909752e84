//! How many threads it takes to serve clients that always have more to say. Apart from other tests: it counts threads.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;

use sansmtp::{Config, Handler, Hooks};
use sansmtp_conformance::PATIENCE;
use sansmtp_threads::Server;

struct Refuses;

impl Handler for Refuses {
    type Message = ();

    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }
}

/// The server's threads.
fn threads() -> usize {
    let names = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "sansmtp").count()
}

/// Sixty clients, each with more commands than it has its turn for.
#[test]
fn bursts_of_commands_take_no_more_threads_than_there_are_processors() {
    let config = Config::builder("mx.example.org").build().unwrap();
    let server = Server::new(config, |_| Refuses).listen("127.0.0.1:0").unwrap();
    let (address, shutdown) = (server.local_addresses().pop().unwrap(), server.shutdown_handle());
    let running = thread::spawn(|| server.run().unwrap());
    let commands = b"NOOP\r\n".repeat(COMMANDS);
    let mut clients: Vec<_> = (0..60)
        .map(|_| {
            let client = TcpStream::connect(address).unwrap();
            client.set_nonblocking(true).unwrap();
            (client, &commands[..], 0)
        })
        .collect();
    let mut most = 0;
    // Nobody leaves before all have been answered: the end of a connection may take a thread.
    while clients.iter().any(|(_, _, lines)| *lines < 1 + COMMANDS) {
        for (client, left, lines) in &mut clients {
            if !left.is_empty() {
                let written = unless_it_would_block(client.write(left)).unwrap_or_default();
                *left = left.get(written..).unwrap();
            }
            let mut room = [0; 4096];
            let read = unless_it_would_block(client.read(&mut room)).unwrap_or_default();
            *lines += room.get(..read).unwrap().iter().filter(|octet| **octet == b'\n').count();
        }
        most = most.max(threads());
    }
    // One for each processor, one that takes connections, one that watches, and one that waits to do so.
    assert!(most <= thread::available_parallelism().unwrap().get() + 3, "{most} threads");
    drop(clients);
    shutdown.begin(PATIENCE);
    running.join().unwrap();
}

fn unless_it_would_block(result: io::Result<usize>) -> Option<usize> {
    result.map(Some).or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(None) } else { Err(error) }).unwrap()
}

const COMMANDS: usize = 3_000;
