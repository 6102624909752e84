//! The users who may log in: what `--users` names, opened as the options say.

use std::io::Write;

use sansmtp_authenticators::source::{AddressUse, OpenError, UserSource, Users};
use sansmtp_authenticators::stored::{Accounts, Keep, WritableStore};

use crate::failure::Failure;
use crate::mechanisms::Mechanism;
use crate::options::{Senders, Serve};

/// Opens them all. With `--init`, a database is made where there is none; if it is the only place of users, with one user
/// in it.
///
/// # Errors
/// Says what cannot be opened, and why.
pub(crate) fn open(options: &Serve) -> Result<Users, Failure> {
    let keep = if options.mechanisms.contains(&Mechanism::CramMd5) { Keep::ScramAndCramMd5 } else { Keep::Scram };
    let addresses = match options.senders.senders {
        Some(Senders::Any) => AddressUse::Any,
        Some(Senders::Own) => AddressUse::Own,
        None => AddressUse::OwnWhereKept,
    };
    let users = Users::builder()
        .keep(keep)
        .ignore_case(options.ignore_case_of_logins)
        .remember_for(options.cache_logins)
        .addresses(addresses)
        .create(options.init)
        .first_user(FIRST_USER);
    users.open(&options.users).map_err(|error| failure(error, ", or --init"))
}

/// Opens users to be changed; with `create`, those that there are not are made, and told on stderr.
///
/// # Errors
/// Says what cannot be opened, and why, and which cannot be changed from here.
pub(crate) fn accounts(source: &UserSource, create: bool) -> Result<Accounts<Box<dyn WritableStore>>, Failure> {
    let makes = create && source.is_new_database();
    let accounts = Users::accounts(source, create).map_err(|error| failure(error, ""))?;
    if makes {
        // A pipe that is closed leaves nobody to tell.
        let _ = writeln!(std::io::stderr(), "made a new database {source}");
    }
    Ok(accounts)
}

/// What cannot be opened, with how a database is made where there is none.
fn failure(error: OpenError, or_else: &str) -> Failure {
    let message = error.to_string();
    if let OpenError::NoDatabase(source) = error {
        return Failure::plain(format!("{message}; \"user add NAME --users {source}\" makes it{or_else}"));
    }
    Failure::plain(message)
}

const FIRST_USER: &str = "user";
