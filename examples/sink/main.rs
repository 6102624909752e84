//! A server for testing clients: one user in memory, every mechanism and extension switched on, any sender
//! and any recipient accepted once authenticated.
//!
//! ```sh
//! cargo run --release --example sink -- --listen 127.0.0.1:2525 --user tim --password tanstaaf --token t0ken
//! ```

#[path = "../support/certificate.rs"]
#[expect(dead_code, reason = "the other programs make certificates that last")]
mod certificate;
#[path = "../support/connection_limits.rs"]
mod connection_limits;
mod handler;
#[path = "../support/leniency.rs"]
mod leniency;
#[path = "../support/listening.rs"]
#[expect(dead_code, reason = "this program does not mind who reads passwords")]
mod listening;
#[path = "../support/mechanisms.rs"]
mod mechanisms;
#[path = "../support/networks.rs"]
mod networks;
#[path = "../support/runtime.rs"]
#[expect(dead_code, reason = "this program ends when it is killed")]
mod runtime;
#[path = "../support/units.rs"]
mod units;

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use sansmtp::auth::KnownPassword;
use sansmtp::{Auth, Config, Extensions, FutureRelease, Limits, Secret};
use sansmtp_authenticators::stored::prepare_name;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use connection_limits::ConnectionLimits;
use handler::{Shared, Sink, User};
use leniency::Leniency;
use listening::{Bound, Listener, Place};
use mechanisms::Mechanism;
use networks::Proxies;
use runtime::{Runtime, Serve};

/// A server for testing clients: takes any mail once the one user has logged in.
///
/// It offers every mechanism that it can: with --token those that carry one, with --client-ca EXTERNAL to clients that
/// show a certificate, and under TLS those with channel binding. Some clients choose one that they cannot do, and give
/// up: see --mechanisms.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Listen here, with STARTTLS; repeatable: :587 (all addresses), 192.0.2.1:587, [2001:db8::1]:587, localhost:587 or
    /// unix:PATH [default: 127.0.0.1:2525, unless --listen-tls is given]
    #[arg(long, value_name = "PLACE", value_parser = Place::starttls)]
    listen: Vec<Place>,
    /// Listen here (as with --listen), with TLS from the first octet; repeatable
    #[arg(long, value_name = "PLACE", value_parser = Place::implicit_tls)]
    listen_tls: Vec<Place>,
    /// Mode of the files of unix sockets, 660 for example [default: what the umask leaves of 777]
    #[arg(long, value_name = "MODE", value_parser = listening::mode)]
    socket_mode: Option<u32>,
    /// The user's name
    #[arg(long, default_value = "user")]
    user: String,
    /// The user's password
    #[arg(long, default_value = "password")]
    password: String,
    /// Bearer token of the user, for OAUTHBEARER and XOAUTH2
    #[arg(long)]
    token: Option<String>,
    /// Offer these only, in this order, for example SCRAM-SHA-256,PLAIN,LOGIN. mutt with GNU SASL chooses a -PLUS
    /// mechanism without being able to do it; ANONYMOUS lets in anybody [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', ignore_case = true, value_parser = Mechanism::parser(|_| true))]
    mechanisms: Vec<Mechanism>,
    /// Offer EXTERNAL to clients with a certificate signed by one of these. Its email address, or else its common
    /// name, must be the user's name
    #[arg(long, value_name = "PEM")]
    client_ca: Option<PathBuf>,
    /// Certificate chain to show [default: self-signed, for this run]
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Offer AUTH without TLS
    #[arg(long)]
    plaintext_auth: bool,
    /// Answer refused credentials at once
    #[arg(long)]
    no_auth_delay: bool,
    /// Refused credentials per connection
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    max_failures: u32,
    /// Largest message to accept
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = units::size_above_zero)]
    max_size: u64,
    /// Keep each accepted message as a file in this directory
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    #[command(flatten)]
    leniency: Leniency,
    #[command(flatten)]
    limits: ConnectionLimits,
    #[command(flatten)]
    proxies: Proxies,
    /// What drives the connections
    #[arg(long, value_enum, default_value_t = Runtime::Smol)]
    runtime: Runtime,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // A closed pipe would be told of on stderr, which panics where that is the pipe.
        .log_internal_errors(false)
        .init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let mut auth = Auth::without_mechanisms().require_tls(!options.plaintext_auth).max_failures(options.max_failures);
    if options.no_auth_delay {
        auth = auth.pause(Duration::ZERO, Duration::ZERO);
    }
    for mechanism in offered(&options)? {
        auth = mechanism.offer(auth, SCRAM_ITERATIONS);
    }
    let builder = Config::builder("localhost")
        .banner("ESMTP sink")
        .auth(auth)
        .auth_required(true)
        .starttls(true)
        .implicit_tls(true)
        .smtputf8(true)
        .extensions(every_extension())
        .limits(Limits { max_message_octets: options.max_size, ..Limits::default() });
    let config = options.proxies.apply(options.limits.apply(options.leniency.apply(builder))).build()?;
    let clients = certificate::clients(options.client_ca.as_deref())?;
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => certificate::load(certificate, key, clients)?,
        _ => certificate::in_memory("localhost", clients)?,
    };
    if let Some(directory) = &options.save {
        std::fs::create_dir_all(directory)?;
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)?;
    let user = User {
        name: prepare_name(&options.user).map_err(|why| format!("no login can bring the name of --user: {why}"))?,
        password: KnownPassword::new(&Zeroizing::new(options.password.into_bytes()), &salt)?,
        token: options.token.map(|token| Secret::new(token.into_bytes())),
    };
    let shared = Arc::new(Shared::new(user, options.save));

    let default = [Place::from(SocketAddr::from(([127, 0, 0, 1], 2525)))];
    let clear = if options.listen.is_empty() && options.listen_tls.is_empty() { &default[..] } else { &options.listen };
    let in_the_clear = clear.iter().map(|place| Listener { place: place.clone(), implicit_tls: false });
    let under_tls = options.listen_tls.iter().map(|place| Listener { place: place.clone(), implicit_tls: true });
    let listeners: Vec<Listener> = in_the_clear.chain(under_tls).collect();
    if let Some(collision) = listening::collision(&listeners) {
        return Err(collision.into());
    }
    let (listeners, mode) = (listeners.as_slice(), options.socket_mode);
    let sink = move |_| Sink::new(Arc::clone(&shared));
    let limits = &options.limits;
    match options.runtime {
        Runtime::Smol => serve(sansmtp_smol::Server::new(config, sink).tls(tls).limit(limits), listeners, mode),
        Runtime::Tokio => serve(sansmtp_tokio::Server::new(config, sink).tls(tls).limit(limits), listeners, mode),
        Runtime::Threads => serve(sansmtp_threads::Server::new(config, sink).tls(tls).limit(limits), listeners, mode),
    }
}

fn serve(server: impl Serve, listeners: &[Listener], socket_mode: Option<u32>) -> Result<(), Box<dyn Error>> {
    let (server, bound) = listening::listen(server, listeners, socket_mode)?;
    let mut stdout = std::io::stdout().lock();
    for Bound { shown, .. } in bound {
        writeln!(stdout, "listening on {shown}")?;
    }
    stdout.flush()?;
    drop(stdout);
    Ok(server.serve()?)
}

/// All that the engine has. What they ask for is easily done with messages that go nowhere; REQUIRETLS is for
/// connections under TLS.
fn every_extension() -> Extensions {
    Extensions {
        chunking: true,
        binarymime: true,
        dsn: true,
        deliver_by: Some(0),
        mt_priority: true,
        future_release: Some(FutureRelease {
            max_interval: 999_999_999,
            max_date_time: "9999-12-31T23:59:59Z".to_owned(),
        }),
        requiretls: true,
        limits: true,
    }
}

/// The mechanisms that are asked for, or all that there is something to check against.
fn offered(options: &Options) -> Result<Vec<Mechanism>, &'static str> {
    let lacks_token =
        |mechanism| matches!(mechanism, Mechanism::OAuthBearer | Mechanism::XOAuth2) && options.token.is_none();
    let lacks_ca = |mechanism| mechanism == Mechanism::External && options.client_ca.is_none();
    if options.mechanisms.iter().any(|mechanism| lacks_token(*mechanism)) {
        return Err("OAUTHBEARER and XOAUTH2 need --token");
    }
    if options.token.as_deref().is_some_and(|token| !is_token(token)) {
        return Err("--token has to be letters, digits, and -._~+/, with = at the end only (RFC 6750, section 2.1)");
    }
    if options.mechanisms.iter().any(|mechanism| lacks_ca(*mechanism)) {
        return Err("EXTERNAL needs --client-ca");
    }
    if !options.mechanisms.is_empty() {
        return Ok(options.mechanisms.clone());
    }
    let all = Mechanism::value_variants().iter().copied();
    Ok(all.filter(|mechanism| !lacks_token(*mechanism) && !lacks_ca(*mechanism)).collect())
}

fn is_token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty() && body.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c))
}

/// As many as the keys of a [`KnownPassword`] have.
const SCRAM_ITERATIONS: u32 = 4_096;
