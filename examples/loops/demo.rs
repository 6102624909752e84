//! What the loops serve: one user, `tim` with the password `tanstaaftanstaaf`, whose mail is counted and thrown away.

#[path = "../support/certificate.rs"]
#[expect(dead_code, reason = "the other programs make certificates that last")]
mod certificate;

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rustls::ServerConfig;
use sansmtp::auth::KnownPassword;
use sansmtp::{
    Auth, AuthRequest, AuthResult, Config, Connection, EnhancedCode, Envelope, Handler, Hooks, MailData, Reply,
    Session, Timeouts, Verdict, tls,
};

#[derive(Parser)]
struct Options {
    /// Listen here
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How long to wait for a client
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    timeout: f64,
}

/// What all connections share.
pub(crate) struct Demo {
    config: Arc<Config>,
    tls: Arc<ServerConfig>,
    tim: KnownPassword,
}

impl Demo {
    /// Listens, and says where. Offers SCRAM-SHA-256, PLAIN and LOGIN, and STARTTLS with a certificate made on the spot.
    pub(crate) fn start() -> Result<(Arc<Self>, TcpListener), Box<dyn Error>> {
        let options = Options::parse();
        // A connection takes one.
        rlimit::increase_nofile_limit(u64::MAX)?;
        // Without TLS as well, for a first try by hand; a server that is not for trying out leaves this as it is.
        let auth = Auth::new().require_tls(false);
        let config = Config::builder("localhost").auth(auth).auth_required(true).starttls(true);
        let timeout = Duration::try_from_secs_f64(options.timeout)?;
        let timeouts = Timeouts { command: timeout, content: timeout, write: timeout, ..Timeouts::default() };
        let tim = KnownPassword::new(b"tanstaaftanstaaf", b"16 random octets")?;
        let this = Self {
            config: config.timeouts(timeouts).build()?,
            tls: certificate::in_memory("localhost", certificate::clients(None)?)?,
            tim,
        };
        let listener = TcpListener::bind(options.listen)?;
        println!("listening on {}", listener.local_addr()?);
        Ok((Arc::new(this), listener))
    }

    /// The engine and the handler for a connection that has just been accepted.
    pub(crate) fn open(self: &Arc<Self>, peer: SocketAddr) -> (tls::Session, Count) {
        let handler = Count { demo: Arc::clone(self) };
        let mut connection = Connection::new(Arc::clone(&self.config), peer);
        connection.set_hooks(handler.hooks());
        connection.set_events(handler.events());
        (tls::Session::new(connection, Some(Arc::clone(&self.tls))), handler)
    }

    /// Answers whatever a mechanism wants to know.
    pub(crate) fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        self.tim.answer_for("tim", request)
    }
}

/// One connection's handler. Nothing in it takes time but the authenticator.
pub(crate) struct Count {
    pub(crate) demo: Arc<Demo>,
}

/// Of a message, nothing is kept but its size.
#[derive(Default)]
pub(crate) struct Octets(usize);

impl MailData for Octets {
    fn append(&mut self, piece: &[u8]) {
        self.0 += piece.len();
    }
}

impl Handler for Count {
    type Message = Octets;

    fn hooks(&self) -> Hooks {
        Hooks::MESSAGE
    }

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        self.demo.authenticate(request)
    }

    fn message(&mut self, session: &Session, _: &Envelope, Octets(octets): Octets) -> Verdict {
        let counted = format!("{octets} octets by {}", session.login().unwrap_or_default());
        // Accepts, as whoever wants to try something out expects; where mail matters, it has to be safe by now.
        let reply = EnhancedCode::new(2, 0, 0).and_then(|code| Reply::new(250, code, &counted));
        reply.map_or(Verdict::Accept, Verdict::Reply)
    }
}
