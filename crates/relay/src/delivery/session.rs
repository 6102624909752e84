//! A session with a destination: one message after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::Deliverer;
use super::attempt::Attempt;
use super::client::{Client, OPENING};
use super::error::{Error, Step};
use crate::envelope::QueueId;
use crate::metrics;
use crate::queue::{Next, SessionId};
use crate::routes::{Destination, Host, NextHop};

/// A client past EHLO, TLS and AUTH, and which of the destination's hosts it is with.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) host: Host,
    /// Whether it has carried a message.
    pub(super) is_used: bool,
}

/// Why no host of a destination could be spoken with: the last one's reason.
#[derive(Debug)]
pub(super) struct NoConnection {
    pub(super) host: String,
    pub(super) error: Error,
}

impl Deliverer {
    /// Sends a job in a session with the destination, and then those that the queue says.
    pub(super) async fn session(
        self: Arc<Self>,
        id: SessionId,
        destination: Destination,
        mut job: (QueueId, Arc<str>),
        mut mailbox: UnboundedReceiver<(QueueId, Arc<str>)>,
    ) {
        let mut connection = None;
        loop {
            let next = match self.attempt(&destination, &job, &mut connection).await {
                Attempt::Ended { outcome, failed, unreported, health } => {
                    metrics::attempted(outcome, failed);
                    let (now, is_open) = (self.now(), connection.is_some());
                    self.queue().finished(now, id, outcome, unreported, health, is_open)
                }
                Attempt::Elsewhere(other) => {
                    // All that waited for the domain goes where its exchangers are.
                    let with_all = matches!(destination, Destination::Domain(_));
                    self.queue().reroute(self.now(), id, &other, with_all);
                    Next::Close
                }
            };
            self.wake.notify_one();
            let next = match next {
                // The process ends with what is under way.
                Next::Send(_) if self.is_stopping.load(Ordering::Relaxed) => None,
                Next::Send(next) => Some(next),
                Next::Idle => mailbox.recv().await,
                Next::Close => None,
            };
            match next {
                Some(next) => job = next,
                None => break,
            }
        }
        if let Some(connection) = connection {
            connection.client.quit().await;
        }
    }

    /// Opens a connection to the first of the hosts that is there, other than those at `tried`, whose names are added
    /// to it. Hosts that could not be reached a short while ago come last.
    ///
    /// # Errors
    /// None where there is no host left to try.
    pub(super) async fn connect(
        &self,
        id: &QueueId,
        hosts: &[Host],
        tried: &mut Vec<String>,
    ) -> Result<Connection, Option<NoConnection>> {
        let left = hosts.iter().filter(|host| !tried.contains(&host.next_hop.host));
        let mut candidates: Vec<(&Host, SocketAddr)> =
            left.flat_map(|host| host.addresses.iter().map(move |address| (host, *address))).collect();
        candidates.sort_by_key(|(_, address)| self.hosts.is_doubtful(*address));
        let deadline = Instant::now() + OPENING;
        let mut last = None;
        for (host, address) in candidates {
            match self.client(address, &host.next_hop, deadline).await {
                Ok(client) => {
                    self.hosts.reached(address);
                    tried.push(host.next_hop.host.clone());
                    return Ok(Connection { client, host: host.clone(), is_used: false });
                }
                Err(error) => {
                    tracing::info!(%id, host = %host.next_hop, %address, %error, "no session");
                    self.hosts.failed(address);
                    last = Some(NoConnection { host: host.next_hop.host.clone(), error });
                }
            }
        }
        Err(last)
    }

    async fn client(&self, address: SocketAddr, next_hop: &NextHop, deadline: Instant) -> Result<Client, Error> {
        match Client::open(address, next_hop, &self.tls, &self.hostname, true, deadline).await {
            Err(error) if next_hop.allows_plaintext() && is_broken_tls(&error) => {
                // RFC 7435: encryption that does not work is no reason to keep mail that may go without.
                tracing::info!(host = %next_hop, %error, "STARTTLS failed; going on without");
                Client::open(address, next_hop, &self.tls, &self.hostname, false, deadline).await
            }
            result => result,
        }
    }
}

/// Whether it was TLS that failed, and nothing else is known to be wrong.
fn is_broken_tls(error: &Error) -> bool {
    matches!(
        error,
        Error::Handshake(_)
            | Error::Refused(Step::StartTls, _)
            | Error::Network(Step::StartTls, _)
            | Error::Timeout(Step::StartTls)
    )
}
