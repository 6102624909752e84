//! Users in a real PostgreSQL.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod fleet;
mod migration;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use sansmtp_authenticators::postgres::{Postgres, PostgresConfig};
use sansmtp_authenticators::stored::{Accounts, Keep, Stored};
use sansmtp_authenticators::{Addresses, Authenticator as _};
use support::battery::{Backend, battery};
use support::login::Door;
use support::postgresql::PostgreSql;
use support::stores::{stored, with_users};

impl Backend for PostgreSql {
    fn start() -> Option<Self> {
        let server = Self::start()?;
        with_users(server.users());
        Some(server)
    }

    fn door(&self) -> Arc<dyn Door> {
        door(self.users())
    }

    fn stop(&mut self) -> bool {
        Self::stop(self);
        true
    }

    fn start_again(&mut self) {
        Self::start_again(self);
    }

    fn stalled(&self) -> Option<Arc<dyn Door>> {
        Some(door(later(&format!("postgres://mail:x@{}/mail", support::stalled::tcp()), Duration::from_millis(200))))
    }
}

battery!(PostgreSql);

#[test]
fn addresses_belong_to_users() {
    let Some(server) = PostgreSql::start() else { return };
    support::addresses::belong_to_users(&server.users());
}

/// Where it cannot be told which they are, nobody may send.
#[test]
fn a_database_that_is_gone_or_keeps_them_back_cannot_tell_addresses() {
    let Some(mut server) = PostgreSql::start() else { return };
    let users = server.users();
    Accounts::new(&users).add("tim", b"x", Keep::Nothing).unwrap();
    let authenticator = Stored::new(Arc::clone(&users)).unwrap().addresses_are_optional(true);
    assert_eq!(authenticator.addresses("tim"), Addresses::NeverGiven);
    server.admin("mail", "ALTER TABLE sansmtp.address OWNER TO admin");
    assert_eq!(authenticator.addresses("tim"), Addresses::CannotTell);
    server.stop();
    assert_eq!(authenticator.addresses("tim"), Addresses::CannotTell);
}

/// The users, when they are asked for.
fn later(url: &str, time_limit: Duration) -> Arc<Postgres> {
    Arc::new(
        Postgres::open_later(PostgresConfig::from_url(url).unwrap().time_limit(time_limit).max_waiting(1000)).unwrap(),
    )
}

fn door(users: Arc<Postgres>) -> Arc<Stored<Arc<Postgres>>> {
    Arc::new(stored(users))
}
