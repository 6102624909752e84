//! What aiosmtpd has as built-in handlers, one to a file, on threads. They take mail from anybody who can reach the
//! port; what they are for is development.
//!
//! ```sh
//! cargo run --example handlers -- debugging            # prints each message
//! cargo run --example handlers -- sink                 # takes mail, and throws it away
//! cargo run --example handlers -- mailbox DIR          # keeps mail in a Maildir
//! cargo run --example handlers -- message              # parses each message, and prints a summary
//! cargo run --example handlers -- proxy HOST:PORT      # has another server answer, and take the mail
//! ```

mod debugging;
mod envelope_fields;
mod mailbox;
mod message;
mod next_hop;
mod proxy;
mod sink;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use sansmtp::{Config, Handler};
use sansmtp_threads::Server;

use debugging::Debugging;
use mailbox::{Mailbox, Maildir};
use message::Messages;
use proxy::Proxy;
use sink::Sink;

/// Takes mail from anybody, for development.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Listen here
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8025", global = true)]
    listen: SocketAddr,
    #[command(subcommand)]
    handler: Choice,
}

#[derive(Subcommand)]
enum Choice {
    /// Print each message
    Debugging,
    /// Take mail, and throw it away
    Sink,
    /// Keep mail in a Maildir
    Mailbox {
        /// The Maildir, which is made if there is none
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Parse each message, and print a summary
    Message,
    /// Have another server answer, and take the mail
    Proxy {
        /// The other server
        #[arg(value_name = "HOST:PORT")]
        next_hop: String,
    },
}

fn main() -> ExitCode {
    let Options { listen, handler } = Options::parse();
    let ended = match handler {
        Choice::Debugging => serve(listen, || Debugging::new(io::stdout())),
        Choice::Sink => serve(listen, || Sink),
        Choice::Mailbox { directory } => Maildir::open(&directory).map_err(Into::into).and_then(|maildir| {
            let maildir = Arc::new(maildir);
            serve(listen, move || Mailbox::new(Arc::clone(&maildir)))
        }),
        Choice::Message => serve(listen, || Messages::new(io::stdout())),
        Choice::Proxy { next_hop } => serve(listen, move || Proxy::new(next_hop.clone())),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves each connection with a handler of its own.
fn serve<H: Handler + 'static>(
    listen: SocketAddr,
    make_handler: impl Fn() -> H + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let config = Config::builder("localhost").build()?;
    let server = Server::new(config, move |_peer| make_handler()).listen(listen)?;
    for address in server.local_addresses() {
        writeln!(io::stdout(), "listening on {address}")?;
    }
    Ok(server.run()?)
}
