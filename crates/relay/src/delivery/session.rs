//! A session with a destination: one message after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::Deliverer;
use super::attempt::Attempt;
use super::client::{Client, OPENING, SessionLogin};
use super::error::{Error, Step};
use super::log::Peer;
use crate::credentials::SecretError;
use crate::envelope::QueueId;
use crate::metrics;
use crate::queue::{Next, SessionId};
use crate::routes::{Address, Destination, Host, NextHop};

/// A client past EHLO, TLS and AUTH, and which of the destination's hosts it is with.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) host: Host,
    /// How the log names it.
    pub(super) peer: Peer,
    /// Whether it has carried a message.
    pub(super) is_used: bool,
}

/// Why no host of a destination could be spoken with: the last one's reason.
#[derive(Debug)]
pub(super) struct NoConnection {
    pub(super) host: String,
    pub(super) peer: Peer,
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

    /// Opens a connection to the first of the hosts that is there, other than those at `tried`, whose URLs are added
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
        let left = hosts.iter().filter(|host| !tried.contains(&host.next_hop.to_string()));
        let mut candidates: Vec<(&Host, &Address)> =
            left.flat_map(|host| host.addresses.iter().map(move |address| (host, address))).collect();
        candidates.sort_by_key(|(_, address)| self.hosts.is_doubtful(address));
        let deadline = Instant::now() + OPENING;
        let mut last = None;
        let mut refused: Vec<&NextHop> = Vec::new();
        for (host, address) in candidates {
            if refused.contains(&&host.next_hop) {
                continue;
            }
            match self.client(address, &host.next_hop, deadline).await {
                Ok(client) => {
                    self.hosts.reached(address);
                    tried.push(host.next_hop.to_string());
                    let peer = Peer::new(host, address, client.tls());
                    return Ok(Connection { client, host: host.clone(), peer, is_used: false });
                }
                Err(error) => {
                    // In quotes, as it may be a reply: nothing in it makes other fields.
                    let told = error.to_string();
                    tracing::info!(%id, host = %host.next_hop, %address, error = told, "no session");
                    self.hosts.failed(address);
                    if error.is_about_login() {
                        refused.push(&host.next_hop);
                    }
                    let peer = Peer::new(host, address, None);
                    last = Some(NoConnection { host: host.next_hop.host.clone(), peer, error });
                }
            }
        }
        Err(last)
    }

    /// Opens a session, and logs in. A token that may have been too old is replaced once.
    async fn client(&self, address: &Address, next_hop: &NextHop, deadline: Instant) -> Result<Client, Error> {
        let Some(credentials) = &next_hop.credentials else {
            return self.client_with(address, next_hop, None, deadline).await;
        };
        let secret = credentials.secret().await.map_err(|error| no_secret(next_hop, &error))?;
        let login = |secret| Some(SessionLogin { credentials, secret });
        match self.client_with(address, next_hop, login(&secret), deadline).await {
            Err(Error::Refused(Step::Auth, reply)) if reply.is_permanent() => {
                if !credentials.refused(&secret).await {
                    return Err(Error::Refused(Step::Auth, reply));
                }
                let secret = credentials.secret().await.map_err(|error| no_secret(next_hop, &error))?;
                let result = self.client_with(address, next_hop, login(&secret), deadline).await;
                if matches!(&result, Err(Error::Refused(Step::Auth, reply)) if reply.is_permanent()) {
                    credentials.refused(&secret).await;
                }
                result
            }
            result => result,
        }
    }

    async fn client_with(
        &self,
        address: &Address,
        next_hop: &NextHop,
        login: Option<SessionLogin<'_>>,
        deadline: Instant,
    ) -> Result<Client, Error> {
        let tls = self.tls.current();
        match Client::open(address, next_hop, &tls, &self.hostname, true, login, deadline).await {
            Err(error) if next_hop.allows_plaintext() && is_broken_tls(&error) => {
                // RFC 7435: encryption that does not work is no reason to keep mail that may go without.
                tracing::info!(host = %next_hop, error = error.to_string(), "STARTTLS failed; going on without");
                Client::open(address, next_hop, &tls, &self.hostname, false, login, deadline).await
            }
            result => result,
        }
    }
}

fn no_secret(next_hop: &NextHop, error: &SecretError) -> Error {
    tracing::error!(relay = %next_hop, %error, "cannot log in");
    Error::NoSecret
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
