//! The command `user`.

use clap::{Args, Subcommand};

use super::security::DEFAULT_USERS;
use super::values::Unrepeated;
use sansmtp_authenticators::source::UserSource;

/// A change to the user database, or a look at it.
#[derive(Debug, Args)]
pub(crate) struct UserCommand {
    #[command(subcommand)]
    pub(crate) action: UserAction,
    /// Where the users are: sqlite:FILE, or the path alone; postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, global = true, value_name = "USERS", default_value = DEFAULT_USERS, value_parser = Unrepeated(UserSource::parse))]
    pub(crate) users: UserSource,
}

/// What to do with the user database.
#[derive(Debug, Subcommand)]
pub(crate) enum UserAction {
    /// Add a user (makes the database when there is none); the password comes from a prompt or the first line of stdin
    Add {
        /// The name that the user logs in by
        name: String,
        /// Keep a key for CRAM-MD5, too: weaker than the rest, it lets whoever steals it log in by that mechanism, and
        /// try passwords quickly
        #[arg(long)]
        cram_md5: bool,
    },
    /// Set another password, from a prompt or the first line of stdin; the user's tokens stay valid
    Passwd {
        /// The name that the user logs in by
        name: String,
        /// Keep a key for CRAM-MD5 (as with add); without this, one that there was is dropped
        #[arg(long)]
        cram_md5: bool,
    },
    /// Make a bearer token for a user, for OAUTHBEARER and XOAUTH2, and print it: it is shown only once
    Token {
        /// The name that the user logs in by
        name: String,
    },
    /// Drop all of a user's bearer tokens
    Revoke {
        /// The name that the user logs in by
        name: String,
    },
    /// Delete a user, and the user's tokens and addresses
    Delete {
        /// The name that the user logs in by
        name: String,
    },
    /// Add, remove and list the addresses that users may send from (--senders)
    #[command(subcommand)]
    Address(AddressAction),
    /// Refuse a user's logins from now on, without deleting them
    Disable {
        /// The name that the user logs in by
        name: String,
    },
    /// Allow a disabled user's logins again
    Enable {
        /// The name that the user logs in by
        name: String,
    },
    /// List the users, one a line
    List,
}

/// What to do with the addresses of users.
#[derive(Debug, Subcommand)]
pub(crate) enum AddressAction {
    /// Let a user send from an address, tim@example.org, or from all of a domain, @example.org. A user whose name is an
    /// address may send from that anyway
    Add {
        /// The name that the user logs in by
        name: String,
        /// tim@example.org, or @example.org
        address: String,
    },
    /// Take an address from a user. Connections on which the user is logged in keep it
    Remove {
        /// The name that the user logs in by
        name: String,
        /// tim@example.org, or @example.org
        address: String,
    },
    /// List a user's addresses, one a line, or those of all users, behind their names
    List {
        /// The name that the user logs in by; without it, all users
        name: Option<String>,
    },
}
