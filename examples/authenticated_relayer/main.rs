//! A mail submission server that people can run: its users log in, and their mail is delivered into a local
//! Maildir, handed to a relay, or sent to the recipients' mail exchangers.
//!
//! ```sh
//! cargo run --example authenticated_relayer
//! ```
//!
//! listens on 127.0.0.1:8025 with STARTTLS, makes the user database and the certificate that it needs, and
//! prints the lines that send a first mail. `--help` has the rest.
//!
//! | file | what it is about |
//! |---|---|
//! | `options` | the command line |
//! | `users.rs`, `user_command.rs`, `offer.rs` | who may log in, and by which mechanisms |
//! | `senders.rs` | who may send as whom |
//! | `queue_command.rs` | the mail that waits, for an operator |
//! | `server.rs`, `handler.rs`, `greeting.rs` | the listeners, and what they do with a connection |
//! | `signals.rs`, `tls_source.rs` | the end of the program, and what it reads anew while it runs |
//! | `service.rs` | what systemd hands over, and is told |
//!
//! The spool, the way from there to the next hop or back to the sender, the Maildir, and what becomes of a message's header,
//! are the crate `sansmtp-relay`. Where users are, what they are asked and what they may send is `sansmtp-authenticators`.

#[path = "../support/certificate.rs"]
mod certificate;
#[path = "../support/connection_limits.rs"]
mod connection_limits;
mod failure;
mod greeting;
mod handler;
#[path = "../support/leniency.rs"]
mod leniency;
#[path = "../support/listening.rs"]
mod listening;
#[path = "../support/mechanisms.rs"]
mod mechanisms;
#[path = "../support/networks.rs"]
mod networks;
mod offer;
mod options;
mod queue_command;
#[path = "../support/runtime.rs"]
mod runtime;
mod senders;
mod server;
mod service;
mod signals;
mod tls_source;
#[path = "../support/units.rs"]
mod units;
mod user_command;
mod users;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use options::Options;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = match Options::from_arguments(std::env::args_os()) {
        Ok(options) => options,
        Err(error) => {
            // Writing to a closed pipe is the only failure here, and leaves nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Err(error) = start_log() {
        return fail(&error);
    }
    let result = match options {
        Options::Queue(command) => queue_command::run(command),
        Options::Serve(serve) => server::run(serve),
        Options::User(command) => user_command::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Sends events to stderr, as `RUST_LOG` says; stdout is kept for what scripts read.
fn start_log() -> Result<(), failure::Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) => {
            EnvFilter::try_new(directives).map_err(|error| failure::Failure::new("cannot read RUST_LOG", error))?
        }
        Err(_) => EnvFilter::new("info"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A log that nothing takes any more, as a closed pipe, would be told of on stderr, which panics where that is the log.
        .log_internal_errors(false)
        .init();
    Ok(())
}

fn fail(error: &failure::Failure) -> ExitCode {
    // A pipe that is closed leaves nobody to tell, and is no reason to panic.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::FAILURE
}

/// What a command line that makes no sense exits with, by custom.
const USAGE: u8 = 2;
