//! A server for testing clients: one user in memory, every mechanism and extension switched on, any sender
//! and any recipient accepted once authenticated.
//!
//! ```sh
//! cargo run --release --example sink -- --listen 127.0.0.1:2525 --user tim --password tanstaaf
//! ```

#[path = "../support/certificate.rs"]
#[expect(dead_code, reason = "the other programs make certificates that last")]
mod certificate;
mod handler;

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use sansmtp::{Auth, Config, Limits};
use sansmtp_smol::Server;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use handler::{Shared, Sink};

/// A server for testing clients: takes any mail once the one user has logged in.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Listen here, with STARTTLS; repeatable [default: 127.0.0.1:2525, unless --listen-tls is given]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// Listen here, with TLS from the first octet; repeatable
    #[arg(long, value_name = "ADDR")]
    listen_tls: Vec<SocketAddr>,
    /// The user's name
    #[arg(long, default_value = "user")]
    user: String,
    /// The user's password
    #[arg(long, default_value = "password")]
    password: String,
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
    #[arg(long, value_name = "BYTES", default_value_t = 32 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1..))]
    max_size: u64,
    /// Keep each accepted message as a file in this directory
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// What drives the connections
    #[arg(long, value_enum, default_value_t = Runtime::Smol)]
    runtime: Runtime,
}

#[derive(Clone, Copy, ValueEnum)]
enum Runtime {
    Smol,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let mut auth = Auth::new().require_tls(!options.plaintext_auth).max_failures(options.max_failures);
    if options.no_auth_delay {
        auth = auth.pause(Duration::ZERO, Duration::ZERO);
    }
    let config = Config::builder("localhost")
        .banner("ESMTP sink")
        .auth(auth)
        .auth_required(true)
        .starttls(true)
        .implicit_tls(true)
        .smtputf8(true)
        .limits(Limits { max_message_octets: options.max_size, ..Limits::default() })
        .build()?;
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => certificate::load(certificate, key)?,
        _ => certificate::in_memory("localhost")?,
    };
    if let Some(directory) = &options.save {
        std::fs::create_dir_all(directory)?;
    }
    let shared = Arc::new(Shared::new(options.user, Zeroizing::new(options.password.into_bytes()), options.save));

    let Runtime::Smol = options.runtime;
    let mut server = Server::new(config, move |_| Sink::new(Arc::clone(&shared))).tls(tls);
    let default = [SocketAddr::from(([127, 0, 0, 1], 2525))];
    let clear = if options.listen.is_empty() && options.listen_tls.is_empty() { &default[..] } else { &options.listen };
    for address in clear {
        server = server.listen(address)?;
    }
    for address in &options.listen_tls {
        server = server.listen_tls(address)?;
    }
    let mut stdout = std::io::stdout().lock();
    for address in server.local_addresses() {
        writeln!(stdout, "listening on {address}")?;
    }
    stdout.flush()?;
    drop(stdout);
    Ok(smol::block_on(server.run())?)
}
