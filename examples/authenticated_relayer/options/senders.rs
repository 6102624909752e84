//! Who may send as whom.

use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use sansmtp_relay::senders::SenderPattern;

/// What users may send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Senders {
    /// Their own addresses
    Own,
    /// Any address
    Any,
}

/// Who may send as whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct SenderOptions {
    /// Addresses that users may send from: their own, or any [default: own; any for the users of an SQLite database in
    /// which nobody has an address, as on a first start]
    ///
    /// It is about MAIL FROM, and about From: and Sender: in the message, where another address is refused (550). A user's
    /// own are those that "user address add" has given them in SQLite or PostgreSQL, those in the directory's mail (or in
    /// the attribute that x-mail-attribute=NAME in the URL of --users names), those of --sender-pattern, and the user's name
    /// where that is an address. In a database, own begins for all of its users with the first address, or with the first
    /// user whose name is one. Answers from <> are for everybody, under a From: of their own.
    ///
    /// Addresses are compared in any case.
    #[arg(long, value_enum, value_name = "own|any", hide_possible_values = true, help_heading = SENDERS)]
    pub(crate) senders: Option<Senders>,
    /// Give each user this address, with the user's name for {user}, as in {user}@example.org; or @example.org, for all
    /// addresses of a domain; repeatable
    #[arg(long, value_name = "PATTERN", help_heading = SENDERS)]
    pub(crate) sender_pattern: Vec<SenderPattern>,
    /// Take tim+anything@example.org for an address of whose tim@example.org is, where this is + [default: none]
    #[arg(long, value_name = "CHARACTER", value_parser = separator, help_heading = SENDERS)]
    pub(crate) subaddress_separator: Option<char>,
}

impl SenderOptions {
    /// # Errors
    /// Says what does not go together.
    pub(super) fn check(&self) -> Result<(), (ErrorKind, String)> {
        let has_others = !self.sender_pattern.is_empty() || self.subaddress_separator.is_some();
        if self.senders == Some(Senders::Any) && has_others {
            let message = "with --senders any, --sender-pattern and --subaddress-separator say nothing";
            return Err((ErrorKind::ArgumentConflict, message.to_owned()));
        }
        Ok(())
    }
}

/// Something that a local-part can have in it without quotes.
fn separator(text: &str) -> Result<char, &'static str> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) if one.is_ascii_punctuation() && !".\"()<>[]:;@\\,".contains(one) => Ok(one),
        _ => Err("not one character such as + or -"),
    }
}

/// Of this and of [`PolicyArguments`](super::policy::PolicyArguments).
pub(super) const SENDERS: &str = "What users may send";
