//! Servers, however they are run.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use sansmtp::{AsyncHandler, Auth, Config, ConfigBuilder, Connection, Handler, Network, Peer, tls};
use sansmtp_driver::{Certificates, Listener, Shutdown};

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
    /// Where it listens for other processes of this machine, if it does.
    pub unix: Option<PathBuf>,
    /// Sockets that are handed over to it, and whether they are for TLS from the first octet.
    pub handed_over: Vec<(Arc<Listener>, bool)>,
    /// The configuration of one listener more, if there is one.
    pub other: Option<Arc<Config>>,
    /// How many connections there may be.
    pub max_connections: Option<usize>,
    /// How many there may be from one address.
    pub max_connections_per_address: Option<usize>,
    /// From where there may be any number.
    pub exempt: Vec<Network>,
}

impl Plan {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            tls: None,
            clear: ANY_PORT,
            implicit: None,
            unix: None,
            handed_over: Vec::new(),
            other: None,
            max_connections: None,
            max_connections_per_address: None,
            exempt: Vec::new(),
        }
    }

    /// The engine of a connection that was accepted, and its handler.
    pub fn open<H: Handler>(
        &self,
        implicit: bool,
        peer: SocketAddr,
        make_handler: impl Fn(Peer) -> H,
    ) -> (tls::Session, H) {
        let handler = make_handler(peer.into());
        let mut connection = Connection::new(self.config.clone(), peer);
        connection.set_hooks(handler.hooks());
        connection.set_events(handler.events());
        let engine = match (&self.tls, implicit) {
            (Some(tls), true) => tls::Session::implicit(connection, tls.clone()).unwrap(),
            (tls, _) => tls::Session::new(connection, tls.clone()),
        };
        (engine, handler)
    }
}

/// Another descriptor of the same socket.
///
/// # Errors
///
/// What the operating system says.
pub fn another(listener: &Listener) -> io::Result<Listener> {
    Ok(match listener {
        Listener::Tcp(listener) => listener.try_clone()?.into(),
        Listener::Unix(listener) => listener.try_clone()?.into(),
    })
}

/// Sets up a `Server` as a [`Plan`] says. An `io::Result`.
#[macro_export]
macro_rules! set_up {
    ($server:expr, $plan:expr) => {{
        let (mut server, plan) = ($server, &$plan);
        if let Some(tls) = &plan.tls {
            server = server.tls(tls.clone());
        }
        if let Some(connections) = plan.max_connections {
            server = server.max_connections(connections);
        }
        if let Some(connections) = plan.max_connections_per_address {
            server = server.max_connections_per_address(connections);
        }
        server = server.exempt_from_address_limit(plan.exempt.iter().copied());
        let set_up = || {
            server = server.listen(plan.clear)?;
            if let Some(address) = plan.implicit {
                server = server.listen_tls(address)?;
            }
            if let Some(path) = &plan.unix {
                server = server.listen_unix(path)?;
            }
            for (listener, tls) in &plan.handed_over {
                let listener = $crate::another(listener)?;
                server = if *tls { server.listener_tls(listener) } else { server.listener(listener) };
            }
            if let Some(config) = &plan.other {
                server = server.config(config.clone()).listen("127.0.0.1:0")?;
            }
            ::std::io::Result::Ok(server)
        };
        set_up()
    }};
}

/// A server, or a loop, that is running in a thread.
#[derive(Debug)]
pub struct Started {
    addresses: Vec<SocketAddr>,
    handles: Handles,
    thread: JoinHandle<io::Result<()>>,
}

/// What reaches into it from outside.
enum Handles {
    Server(Shutdown, Certificates),
    /// What makes it drop all it has.
    Loop(Box<dyn Fn() + Send + Sync>),
}

impl Started {
    /// Starts a thread that does nothing but run the server. For a runtime that has an executor, it is the
    /// only thread of it.
    pub fn new(
        addresses: Vec<SocketAddr>,
        shutdown: Shutdown,
        certificates: Certificates,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self { addresses, handles: Handles::Server(shutdown, certificates), thread: thread::spawn(run) }
    }

    /// Starts loops that are no servers: for each of a [`Plan`]'s first two listeners a thread that runs `serve`,
    /// which is told whether connections are under TLS from the first octet. When the flag is set, which a
    /// connection follows, it has to drop all it has and return.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn a_loop(
        plan: &Plan,
        serve: impl Fn(TcpListener, bool, &AtomicBool) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let clear = TcpListener::bind(plan.clear)?;
        let implicit = TcpListener::bind(plan.implicit.unwrap_or(ANY_PORT))?;
        let addresses = [clear.local_addr()?, implicit.local_addr()?];
        let ends = Arc::new(AtomicBool::new(false));
        let run = {
            let ends = Arc::clone(&ends);
            move || {
                thread::scope(|scope| {
                    let other = scope.spawn(|| serve(clear, false, &ends));
                    serve(implicit, true, &ends).and(other.join().unwrap())
                })
            }
        };
        let stop = move || {
            ends.store(true, Ordering::Relaxed);
            // They are not there any more if they have been stopped before.
            for address in addresses {
                let _ = TcpStream::connect(address);
            }
        };
        Ok(Self { addresses: addresses.into(), handles: Handles::Loop(Box::new(stop)), thread: thread::spawn(run) })
    }
}

impl Handles {
    fn stop(&self, grace: Duration) {
        match self {
            Self::Server(shutdown, _) => shutdown.begin(grace),
            Self::Loop(stop) => stop(),
        }
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(..) => "a server's",
            Self::Loop(_) => "a loop's",
        })
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
    /// Of the listeners after these.
    pub(crate) others: Vec<SocketAddr>,
    pub(crate) seen: Arc<Seen>,
    handles: Handles,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    pub(crate) fn start<K: Kind>(change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        Self::start_like::<K>(change, |_| {})
    }

    /// Not only with a configuration changed.
    pub(crate) fn start_like<K: Kind>(
        change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
        change_plan: impl FnOnce(&mut Plan),
    ) -> Self {
        let seen = Arc::new(Seen::default());
        let handlers = Arc::clone(&seen);
        let mut plan = usual_plan(change);
        change_plan(&mut plan);
        Self::start_plan::<K, _>(&plan, seen, move |peer| {
            handlers.made(peer);
            Play::new(&handlers)
        })
    }

    pub(crate) fn start_with<K: Kind, H: Scripted + Sync + 'static>(
        change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
        seen: Arc<Seen>,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> Self {
        Self::start_plan::<K, _>(&usual_plan(change), seen, make_handler)
    }

    pub(crate) fn start_plan<K: Kind, H: Scripted + Sync + 'static>(
        plan: &Plan,
        seen: Arc<Seen>,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> Self {
        let Started { addresses, handles, thread } = K::start(plan, make_handler).unwrap();
        let &[clear, tls, ref others @ ..] = &addresses[..] else { panic!("two listeners") };
        let others = others.to_vec();
        Self { clear, tls, others, seen, handles, thread: Some(thread) }
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
        self.handles.stop(grace);
        self.join();
        begun.elapsed()
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        let Handles::Server(shutdown, _) = &self.handles else { panic!("no server") };
        shutdown
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        let Handles::Server(_, certificates) = &self.handles else { panic!("no server") };
        certificates
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
        self.handles.stop(Duration::ZERO);
        if !thread::panicking() {
            self.join();
        }
    }
}

pub(crate) fn usual_plan(change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Plan {
    let auth = Auth::new().require_tls(false).pause(Duration::from_millis(1), Duration::from_millis(1));
    let builder = Config::builder("mx.example.org").auth(auth).starttls(true);
    let config = change(builder).build().unwrap();
    Plan { tls: Some(TLS.0.clone()), implicit: Some(ANY_PORT), ..Plan::new(config) }
}

/// Starts a server of which only it is of interest how it fails.
pub(crate) fn run_plan<K: Kind>(plan: &Plan) -> io::Result<()> {
    let started = K::start(plan, |_| Play::new(&Arc::default()))?;
    started.handles.stop(Duration::ZERO);
    started.thread.join().unwrap()
}

/// A port that the system chooses.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
