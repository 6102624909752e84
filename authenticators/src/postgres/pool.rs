//! Connections to a database, on a thread of their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use sansmtp::Secret;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{PostgresConfig, PostgresError, schema};
use crate::limit::Limit;
use crate::tls_client;

/// A limited number of connections. Their thread, on which an asynchronous runtime is hidden, ends when it is dropped.
pub(super) struct Pool {
    shared: Arc<Shared>,
    runtime: Handle,
    waiting: Limit,
    /// Ends the thread when it is dropped.
    _running: oneshot::Sender<()>,
}

/// The values of a statement's parameters.
pub(super) type Values = Vec<Box<dyn ToSql + Send + Sync>>;

/// What is wanted of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Its rows. Can be asked again where the connection turns out to be gone.
    Rows,
    /// How many rows it has changed.
    Count,
}

struct Shared {
    config: PostgresConfig,
    tls: Option<MakeRustlsConnect>,
    free: Semaphore,
    idle: Mutex<Vec<Connection>>,
    /// Whether the tables are known to be as they should be.
    ready: AtomicBool,
    /// From which unknown users' SCRAM salts are made; the first connection brings it.
    salt_key: OnceLock<Secret>,
}

struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    used: Instant,
}

impl Pool {
    /// Does not connect yet.
    pub(super) fn new(config: PostgresConfig) -> Result<Self, PostgresError> {
        let tls = if config.uses_tls() {
            let pem = config.root_certificates.as_ref();
            let roots = pem.map_or_else(tls_client::system_roots, |pem| tls_client::pem_roots(pem));
            let tls = roots.and_then(tls_client::config).map_err(PostgresError::Roots)?;
            Some(MakeRustlsConnect::new(Arc::unwrap_or_clone(tls)))
        } else {
            None
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(PostgresError::Thread)?;
        let handle = runtime.handle().clone();
        let (running, dropped) = oneshot::channel();
        thread::Builder::new()
            .name("sansmtp-postgres".to_owned())
            .spawn(move || {
                // An error is what it waits for.
                let _ = runtime.block_on(dropped);
                // Names are looked up on threads, which may take their time.
                runtime.shutdown_background();
            })
            .map_err(PostgresError::Thread)?;
        let free = Semaphore::new(config.connections);
        let waiting = Limit::new("the PostgreSQL database", config.max_waiting);
        let shared = Shared {
            config,
            tls,
            free,
            idle: Mutex::default(),
            ready: AtomicBool::new(false),
            salt_key: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared), runtime: handle, waiting, _running: running })
    }

    pub(super) fn config(&self) -> &PostgresConfig {
        &self.shared.config
    }

    pub(super) fn salt_key(&self) -> Option<&Secret> {
        self.shared.salt_key.get()
    }

    /// Finds out whether the server is there.
    pub(super) fn reach(&self) -> Result<(), PostgresError> {
        self.wait_for(self.shared.config.time_limit, |shared| async move { shared.connect().await.map(drop) })
    }

    /// Connects, and brings the tables to the newest version.
    pub(super) fn prepare(&self) -> Result<(), PostgresError> {
        self.wait_for(schema::TIME_LIMIT, |shared| async move {
            let (connection, _) = shared.take(true).await?;
            shared.give_back(connection);
            Ok(())
        })
    }

    /// Runs a statement: its rows, and how many it has changed.
    pub(super) fn run(
        &self,
        wanted: Wanted,
        sql: &'static str,
        values: Values,
    ) -> Result<(Vec<Row>, u64), PostgresError> {
        self.wait_for(self.shared.config.time_limit, move |shared| async move {
            let (connection, reused) = shared.take(true).await?;
            match shared.run_on(connection, wanted, sql, &values).await {
                // The server was started again before anybody noticed.
                Err(PostgresError::Server(error)) if reused && error.is_closed() && wanted == Wanted::Rows => {
                    let (connection, _) = shared.take(false).await?;
                    shared.run_on(connection, wanted, sql, &values).await
                }
                result => result,
            }
        })
    }

    /// Waits for what happens on the pool's thread, for a limited time.
    fn wait_for<T, F>(&self, limit: Duration, work: impl FnOnce(Arc<Shared>) -> F) -> Result<T, PostgresError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PostgresError>> + Send + 'static,
    {
        let _place = self.waiting.enter().ok_or(PostgresError::Full)?;
        let (answer, answered) = mpsc::sync_channel(1);
        let deadline = Instant::now() + limit;
        let shared = Arc::clone(&self.shared);
        let work = work(Arc::clone(&shared));
        self.runtime.spawn(async move {
            // Whose permit is dropped with the work, so are connections in the middle of something.
            let result = match timeout_at(deadline, shared.free.acquire()).await {
                Err(_) => Err(PostgresError::Busy),
                Ok(_permit) => {
                    // Whoever gets a connection at the last moment cannot blame the server.
                    let late = deadline - Instant::now() < limit / 2;
                    let too_late = if late { PostgresError::Busy } else { PostgresError::NoAnswer };
                    timeout_at(deadline, work).await.unwrap_or(Err(too_late))
                }
            };
            let _ = answer.try_send(result);
        });
        // The thread only waits and parses: it is there in time.
        answered.recv_timeout(limit + GRACE).unwrap_or(Err(PostgresError::NoAnswer))
    }
}

impl Shared {
    /// A connection, and whether it was used before. Whoever has a permit may have one.
    async fn take(&self, idle: bool) -> Result<(Connection, bool), PostgresError> {
        while idle && let Some(connection) = self.idle().pop() {
            if !connection.client.is_closed() && connection.used.elapsed() < MOST_IDLE {
                return Ok((connection, true));
            }
        }
        let mut client = self.connect().await?;
        if !self.ready.load(Ordering::Acquire) {
            schema::bring_up_to_date(&mut client).await?;
            self.ready.store(true, Ordering::Release);
        }
        if self.salt_key.get().is_none() {
            match schema::salt_key(&client).await {
                // Another connection may have brought the same.
                Ok(key) => drop(self.salt_key.set(key)),
                // Only SCRAM needs it.
                Err(error) => tracing::warn!(%error, "cannot read from what unknown users' salts are made"),
            }
        }
        Ok((Connection { client, statements: HashMap::new(), used: Instant::now() }, false))
    }

    async fn connect(&self) -> Result<Client, PostgresError> {
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.server.connect(tls.clone()).await?;
                tokio::spawn(connection);
                client
            }
            None => {
                let (client, connection) = self.config.server.connect(NoTls).await?;
                tokio::spawn(connection);
                client
            }
        };
        // What nobody waits for any more, the server need not finish.
        let limit = self.config.time_limit.as_millis();
        client.batch_execute(&format!("SET statement_timeout = {limit}")).await?;
        Ok(client)
    }

    /// Drops the connection after an error: whether it is still good is not worth finding out.
    async fn run_on(
        &self,
        mut connection: Connection,
        wanted: Wanted,
        sql: &'static str,
        values: &Values,
    ) -> Result<(Vec<Row>, u64), PostgresError> {
        let client = &connection.client;
        let statement = match connection.statements.get(sql) {
            Some(statement) => statement.clone(),
            None => {
                let statement = client.prepare(sql).await?;
                connection.statements.insert(sql, statement.clone());
                statement
            }
        };
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        let result = match wanted {
            Wanted::Rows => (client.query(&statement, &values).await?, 0),
            Wanted::Count => (Vec::new(), client.execute(&statement, &values).await?),
        };
        self.give_back(connection);
        Ok(result)
    }

    fn give_back(&self, mut connection: Connection) {
        connection.used = Instant::now();
        self.idle().push(connection);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longer than this a connection may have been forgotten by something in between.
const MOST_IDLE: Duration = Duration::from_secs(300);

/// What the thread may need to give an answer.
const GRACE: Duration = Duration::from_millis(500);
