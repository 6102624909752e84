//! `user add|passwd|delete|disable|enable|list|token|revoke|address`.

use std::io::{self, BufRead, IsTerminal, Write};

use sansmtp_authenticators::stored::{AccountError, Accounts, Keep, WritableStore};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::options::{AddressAction, UserAction, UserCommand};
use crate::users;

/// Changes or lists the users, and gives out and drops their tokens.
///
/// # Errors
/// Says what could not be done; the database is then as it was.
pub(crate) fn run(command: UserCommand) -> Result<(), Failure> {
    let source = &command.users;
    let explain = |error: AccountError| Failure::new(source.to_string(), error);
    let users = users::accounts(source, matches!(command.action, UserAction::Add { .. }))?;
    match command.action {
        UserAction::Add { name, cram_md5 } => {
            users.add(&name, read_password()?.as_bytes(), keep(cram_md5)).map_err(explain)
        }
        UserAction::Passwd { name, cram_md5 } => {
            // Before the prompt: nobody wants to type a password twice to hear that there is no such user.
            let name = users.known(&name).map_err(explain)?;
            users.set_password(&name, read_password()?.as_bytes(), keep(cram_md5)).map_err(explain)
        }
        UserAction::Delete { name } => users.delete(&name).map_err(explain),
        UserAction::Address(action) => addresses(action, &users, &explain),
        UserAction::Disable { name } => users.set_disabled(&name, true).map_err(explain),
        UserAction::Enable { name } => users.set_disabled(&name, false).map_err(explain),
        UserAction::Token { name } => {
            let token = users.add_token(&name).map_err(explain)?;
            writeln!(io::stdout(), "{}", *token).map_err(|error| Failure::new("cannot write the token", error))
        }
        UserAction::Revoke { name } => users.drop_tokens(&name).map(drop).map_err(explain),
        UserAction::List => {
            let users = users.list().map_err(explain)?;
            let mut out = io::stdout().lock();
            users
                .iter()
                .try_for_each(|user| writeln!(out, "{}{}", user.name, if user.disabled { " (disabled)" } else { "" }))
                .map_err(|error| Failure::new("cannot write the list", error))
        }
    }
}

fn addresses(
    action: AddressAction,
    users: &Accounts<Box<dyn WritableStore>>,
    explain: &impl Fn(AccountError) -> Failure,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let cannot = |error| Failure::new("cannot write the list", error);
    match action {
        AddressAction::Add { name, address } => users.add_address(&name, &address).map_err(explain),
        AddressAction::Remove { name, address } => users.remove_address(&name, &address).map_err(explain),
        AddressAction::List { name: Some(name) } => {
            let addresses = users.addresses(&name).map_err(explain)?;
            addresses.iter().try_for_each(|address| writeln!(out, "{address}")).map_err(cannot)
        }
        AddressAction::List { name: None } => {
            for user in users.list().map_err(explain)? {
                let name = &user.name;
                let addresses = users.addresses(name).map_err(explain)?;
                addresses.iter().try_for_each(|address| writeln!(out, "{name} {address}")).map_err(cannot)?;
            }
            Ok(())
        }
    }
}

fn keep(cram_md5: bool) -> Keep {
    if cram_md5 { Keep::ScramAndCramMd5 } else { Keep::Scram }
}

/// Asks twice, without echo, on a terminal; takes the first line elsewhere.
fn read_password() -> Result<Zeroizing<String>, Failure> {
    let cannot = |error: io::Error| Failure::new("cannot read the password", error);
    if !io::stdin().is_terminal() {
        return first_line(&mut io::stdin().lock()).map_err(cannot);
    }
    let first = Zeroizing::new(rpassword::prompt_password("Password: ").map_err(cannot)?);
    let second = Zeroizing::new(rpassword::prompt_password("Once more: ").map_err(cannot)?);
    if *first == *second { Ok(first) } else { Err(Failure::plain("the two passwords differ")) }
}

fn first_line(input: &mut impl BufRead) -> io::Result<Zeroizing<String>> {
    // Room for any sensible password, lest growing leave copies behind.
    let mut line = Zeroizing::new(String::with_capacity(1024));
    input.read_line(&mut line)?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_end_is_not_part_of_the_password() {
        for (input, password) in [("secret\n", "secret"), ("secret\r\nmore\n", "secret"), (" s \n", " s "), ("", "")] {
            assert_eq!(*first_line(&mut input.as_bytes()).unwrap(), password);
        }
    }
}
