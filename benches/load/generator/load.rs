//! Many connections that play the same script, on one thread.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use rustls::ClientConfig;

use crate::connection::{Connection, Progress};
use crate::script::Script;

/// The connections, and what they have done.
pub(crate) struct Load {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    target: Target,
    room: Vec<u8>,
    operations: u64,
}

/// Who is talked to, and how.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) script: Script,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Load {
    pub(crate) fn new(target: Target) -> io::Result<Self> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(1024));
        Ok(Self { poll, events, connections: Vec::new(), target, room: vec![0; 64 * 1024], operations: 0 })
    }

    /// Begins one more connection.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        let token = Token(self.connections.len());
        self.connections.push(self.target.connect(self.poll.registry(), token)?);
        Ok(())
    }

    /// How many operations are complete.
    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    /// Waits until something happens, and lets every connection to which it happened go on.
    ///
    /// # Errors
    /// What a server has said or done that is not in the script; also a server from which nothing comes any more.
    pub(crate) fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        let Self { poll, events, connections, target, room, operations } = self;
        match poll.poll(events, Some(PATIENCE)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        if events.is_empty() {
            let stuck = connections.first().map(|connection| connection.at(&target.script, "nothing more comes"));
            return Err(stuck.unwrap_or_default().into());
        }
        for event in &*events {
            let Some(connection) = connections.get_mut(event.token().0) else { continue };
            let closes = event.is_read_closed() || event.is_error();
            match connection.go_on(&target.script, &target.tls, room, closes)? {
                Progress::Operations(complete) => *operations += complete,
                Progress::Ended => {
                    *operations += 1;
                    *connection = target.connect(poll.registry(), event.token())?;
                }
            }
        }
        Ok(())
    }
}

impl Target {
    fn connect(&self, registry: &Registry, token: Token) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let (read, both) = (Interest::READABLE, Interest::READABLE | Interest::WRITABLE);
        // Where all fits at any time, an event that says so is work for nothing.
        registry.register(&mut stream, token, if self.script.fills_sockets() { both } else { read })?;
        Ok(Connection::new(stream))
    }
}

/// How long a server may say nothing to anybody.
const PATIENCE: Duration = Duration::from_secs(20);
