//! Servers, however they are run.

use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use sansmtp::{AsyncHandler, Auth, Config, ConfigBuilder, Handler, Peer};
use sansmtp_driver::Shutdown;

use crate::certificate::TLS;
use crate::client::Client;
use crate::handler::{Play, Scripted, Seen, Waits};

/// What a server is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its configuration.
    pub config: Arc<Config>,
    /// Its TLS configuration, if it has any.
    pub tls: Option<Arc<ServerConfig>>,
    /// Where it listens in the clear.
    pub clear: SocketAddr,
    /// Where it listens with TLS from the first octet, if it does.
    pub implicit: Option<SocketAddr>,
}

/// Sets up a `Server` as a [`Plan`] says. An `io::Result`.
#[macro_export]
macro_rules! set_up {
    ($server:expr, $plan:expr) => {{
        let (mut server, plan) = ($server, &$plan);
        if let Some(tls) = &plan.tls {
            server = server.tls(tls.clone());
        }
        server.listen(plan.clear).and_then(|server| match plan.implicit {
            Some(address) => server.listen_tls(address),
            None => Ok(server),
        })
    }};
}

/// A server that is running in a thread.
#[derive(Debug)]
pub struct Started {
    addresses: Vec<SocketAddr>,
    shutdown: Shutdown,
    thread: JoinHandle<io::Result<()>>,
}

impl Started {
    /// Starts a thread that does nothing but run the server. For a runtime that has an executor, it is the
    /// only thread of it.
    pub fn new(
        addresses: Vec<SocketAddr>,
        shutdown: Shutdown,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self { addresses, shutdown, thread: thread::spawn(run) }
    }
}

/// An adapter.
pub trait Runtime {
    /// Starts a server with handlers that may block.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    fn start<H: Handler + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started>;
}

/// An adapter of an asynchronous runtime.
pub trait AsyncRuntime: Runtime {
    /// Starts a server with handlers that may wait.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    fn start_async<H: AsyncHandler + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started>;
}

/// An adapter with one kind of handler: what the suite is run for.
pub trait Kind {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    fn start<H: Scripted + Sync + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started>;
}

/// Handlers that block.
#[derive(Debug)]
pub struct Blocking<R>(PhantomData<R>);

impl<R: Runtime> Kind for Blocking<R> {
    fn start<H: Scripted + Sync + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started> {
        R::start(plan, make_handler)
    }
}

/// Handlers that wait.
#[derive(Debug)]
pub struct Waiting<R>(PhantomData<R>);

impl<R: AsyncRuntime> Kind for Waiting<R> {
    fn start<H: Scripted + Sync + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started> {
        R::start_async(plan, move |peer| Waits::new(make_handler(peer)))
    }
}

/// A server, and what its handlers have seen.
pub(crate) struct Running {
    pub(crate) clear: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    pub(crate) shutdown: Shutdown,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    pub(crate) fn start<K: Kind>(change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let seen = Arc::new(Seen::default());
        let handlers = Arc::clone(&seen);
        Self::start_with::<K, _>(change, seen, move |_| Play::new(&handlers))
    }

    pub(crate) fn start_with<K: Kind, H: Scripted + Sync + 'static>(
        change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
        seen: Arc<Seen>,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> Self {
        let auth = Auth::new().require_tls(false).pause(Duration::from_millis(1), Duration::from_millis(1));
        let builder = Config::builder("mx.example.org").auth(auth).starttls(true);
        let plan = Plan {
            config: change(builder).build().unwrap(),
            tls: Some(TLS.0.clone()),
            clear: ANY_PORT,
            implicit: Some(ANY_PORT),
        };
        let started = K::start(&plan, make_handler).unwrap();
        let &[clear, tls] = &started.addresses[..] else { panic!("two listeners") };
        Self { clear, tls, seen, shutdown: started.shutdown, thread: Some(started.thread) }
    }

    pub(crate) fn connect(&self) -> Client {
        self.connect_by(false)
    }

    pub(crate) fn connect_tls(&self) -> Client {
        self.connect_by(true)
    }

    pub(crate) fn connect_by(&self, tls: bool) -> Client {
        let mut client = self.connect_silently(tls);
        assert_eq!(client.reply(), "220 mx.example.org ESMTP\r\n");
        client
    }

    /// Connects, and does not wait for the greeting, nor do the handshake yet.
    pub(crate) fn connect_silently(&self, tls: bool) -> Client {
        if tls { Client::new(self.tls).under_tls() } else { Client::new(self.clear) }
    }

    /// Shuts down; how long that took.
    pub(crate) fn stop(mut self, grace: Duration) -> Duration {
        let begun = Instant::now();
        self.shutdown.begin(grace);
        self.join();
        begun.elapsed()
    }

    pub(crate) fn thread(&self) -> ThreadId {
        self.thread.as_ref().unwrap().thread().id()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.seen.release();
        self.shutdown.begin(Duration::ZERO);
        if !thread::panicking() {
            self.join();
        }
    }
}

/// Starts a server of which only it is of interest how it fails.
pub(crate) fn run_plan<K: Kind>(plan: &Plan) -> io::Result<()> {
    let started = K::start(plan, |_| Play::new(&Arc::default()))?;
    started.shutdown.begin(Duration::ZERO);
    started.thread.join().unwrap()
}

/// A port that the system chooses.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
