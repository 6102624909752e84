//! A bounded number of connections, each of which does one operation at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::directory::bind;
use super::fault::{Failure, Fault, ResultCode};
use super::server::{Account, Connection, Servers};

/// How much time there is, and how many connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) operation: Duration,
    pub(super) connections: usize,
}

/// What is done on a connection, perhaps twice: on one that turns out to be dead, and on another.
pub(super) trait Operation {
    type Output: Send;

    fn perform(&self, ldap: &mut ldap3::Ldap) -> impl Future<Output = Result<Self::Output, Fault>> + Send;
}

/// Connections to whichever server works.
#[derive(Debug)]
pub(super) struct Pool {
    servers: Servers,
    account: Option<Account>,
    limits: Limits,
    places: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(servers: Servers, account: Option<Account>, limits: Limits) -> Self {
        Self {
            servers,
            account,
            limits,
            places: Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
        }
    }

    /// Performs an operation, on one server after the other until one does it.
    pub(super) async fn perform<O: Operation>(&self, operation: &O, until: Instant) -> Result<O::Output, Failure> {
        let _place = self.place(until).await?;
        let mut failure = None;
        while let Some(mut connection) = self.take_idle() {
            match self.limited(operation, &mut connection, until).await {
                Ok(output) => {
                    self.put_back(connection);
                    return Ok(output);
                }
                // The server has been restarted, or was tired of waiting, which says nothing about it.
                Err(Fault::Closed) => {}
                Err(fault) => {
                    // The others are hardly better.
                    self.drop_idle(connection.server);
                    failure = Some(self.failure(connection.server, fault));
                    break;
                }
            }
        }
        for server in self.servers.in_order() {
            if until <= Instant::now() {
                break;
            }
            if let Some(failure) = &failure {
                failure.log("an LDAP server cannot be asked; trying again or the next");
            }
            match self.perform_on(server, operation, until).await {
                Ok(output) => {
                    self.servers.mark(server, true);
                    return Ok(output);
                }
                Err(fault) => {
                    self.servers.mark(server, false);
                    failure = Some(self.failure(server, fault));
                }
            }
        }
        Err(failure.unwrap_or_else(|| Fault::TimedOut("the wait for a connection").into()))
    }

    async fn perform_on<O: Operation>(&self, server: usize, operation: &O, until: Instant) -> Result<O::Output, Fault> {
        let mut connection = self.servers.connect(server, within(self.limits.connect, until)).await?;
        if let Some(account) = &self.account {
            self.limited(account, &mut connection, until).await?;
        }
        let output = self.limited(operation, &mut connection, until).await?;
        self.put_back(connection);
        Ok(output)
    }

    async fn limited<O: Operation>(
        &self,
        operation: &O,
        connection: &mut Connection,
        until: Instant,
    ) -> Result<O::Output, Fault> {
        let performed = operation.perform(&mut connection.ldap);
        match tokio::time::timeout_at(within(self.limits.operation, until), performed).await {
            Ok(result) => result,
            Err(_) => Err(Fault::TimedOut("the server's answer")),
        }
    }

    async fn place(&self, until: Instant) -> Result<SemaphorePermit<'_>, Fault> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        match tokio::time::timeout_at(until, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Fault::TimedOut("the wait for a connection")),
        }
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(Connection::is_fresh);
        idle.pop()
    }

    fn put_back(&self, mut connection: Connection) {
        connection.mark_used();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    fn drop_idle(&self, server: usize) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|idle| idle.server != server);
    }

    fn failure(&self, server: usize, fault: Fault) -> Failure {
        Failure { server: Some(self.servers.name(server)), fault }
    }
}

/// So much later, but not after the end.
pub(super) fn within(limit: Duration, until: Instant) -> Instant {
    Instant::now().checked_add(limit).map_or(until, |limited| limited.min(until))
}

impl Operation for Account {
    type Output = ();

    async fn perform(&self, ldap: &mut ldap3::Ldap) -> Result<(), Fault> {
        match bind(ldap, &self.dn, self.password.as_ref()).await?.code() {
            ResultCode::SUCCESS => Ok(()),
            code => Err(Fault::Account(code)),
        }
    }
}
