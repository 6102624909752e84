//! A handler with an authenticator, a mechanism and an AUTH handler hook of its own, and how all of them are tested:
//! by transcripts (`tests.rs`), without a socket, a thread or a clock, in milliseconds.
//!
//! ```sh
//! cargo test -p sansmtp-examples --example unit_test
//! cargo run --example unit_test   # the same handler, on 127.0.0.1:2525 or where its argument says
//! ```

mod handler;
mod ticket;

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use handler::{Account, Office, Staff};
use sansmtp::auth::KnownPassword;
use sansmtp::{Auth, Config, ConfigError};
use ticket::Ticket;

fn main() -> Result<(), Box<dyn Error>> {
    let staff = Arc::new(staff()?);
    let server = sansmtp_threads::Server::new(config()?, move |_peer| Office::new(Arc::clone(&staff)));
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2525".to_owned());
    let server = server.listen(&address)?;
    println!("listening on {address}");
    Ok(server.run()?)
}

/// What the server offers: the tests play against the configuration that it runs with.
fn config() -> Result<Arc<Config>, ConfigError> {
    // For a try on this machine: where there is a network in between, AUTH is for TLS only.
    let auth = Auth::new().mechanism(Ticket).handler_mechanism("X-PIN").require_tls(false);
    Config::builder("mx.example.org").auth(auth).build()
}

fn staff() -> Result<Staff, Box<dyn Error>> {
    let account = |password: &str, disabled| {
        Ok::<_, Box<dyn Error>>(Account { password: KnownPassword::new(password.as_bytes(), SALT)?, disabled })
    };
    let accounts = HashMap::from([
        ("tim".to_owned(), account("tanstaaftanstaaf", false)?),
        ("kurt".to_owned(), account("xipj3plmq", true)?),
    ]);
    Ok(Staff {
        accounts,
        tickets: vec!["f00dcafe".to_owned()],
        pins: HashMap::from([("ann".to_owned(), "4711".to_owned())]),
        unreachable: vec!["remote".to_owned()],
    })
}

const SALT: &[u8] = b"16 random octets";

#[cfg(test)]
mod tests;
