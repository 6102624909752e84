//! The command line, and what it means once checked.

mod delivery;
mod listening;
mod operations;
mod policy;
mod queue;
mod security;
mod senders;
#[cfg(test)]
mod tests;
mod user;
mod values;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use sansmtp_authenticators::sending::SendingLimits;

use self::delivery::DeliveryArguments;
pub(crate) use self::delivery::{Delivery, Relaying};
use self::listening::{ListeningArguments, machine_hostname};
use self::operations::OperationsArguments;
use self::policy::PolicyArguments;
pub(crate) use self::queue::{QueueAction, QueueCommand};
use self::security::SecurityArguments;
pub(crate) use self::security::TlsFiles;
pub(crate) use self::senders::{SenderOptions, Senders};
pub(crate) use self::user::{AddressAction, UserAction, UserCommand};
use crate::connection_limits::ConnectionLimits;
use crate::leniency::Leniency;
use crate::listening::Listener;
use crate::mechanisms::Mechanism;
use crate::networks::Proxies;
use crate::runtime::Runtime;
use sansmtp_authenticators::source::ServerUrl;
use sansmtp_authenticators::source::UserSource;

/// What the program was asked to do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is only one, at the start")]
pub(crate) enum Options {
    Queue(QueueCommand),
    Serve(Serve),
    User(UserCommand),
}

/// How to run the server. Every combination that can be written here makes sense.
#[derive(Debug)]
pub(crate) struct Serve {
    /// At least one, unless the service manager hands some over, and no two that collide.
    pub(crate) listeners: Vec<Listener>,
    /// Of the files of unix sockets, if any.
    pub(crate) socket_mode: Option<u32>,
    /// Which peers speak for clients.
    pub(crate) proxies: Proxies,
    /// Where users are looked for, in this order; at least one.
    pub(crate) users: Vec<UserSource>,
    /// Whether databases that are not there are made.
    pub(crate) init: bool,
    /// Whether the case of their names is ignored.
    pub(crate) ignore_case_of_logins: bool,
    /// Who may send as whom.
    pub(crate) senders: SenderOptions,
    /// What EHLO is to list, in this order; none for what does no harm. If there are some, EXTERNAL is among them where
    /// there is a `client_ca`, and only then.
    pub(crate) mechanisms: Vec<Mechanism>,
    /// Whose signature makes a client's certificate good.
    pub(crate) client_ca: Option<PathBuf>,
    /// Refused logins from one address before it has to wait; none for no limit.
    pub(crate) max_failures_per_address: Option<NonZeroU32>,
    /// Where they, and what users send, are counted for several servers. Then there is a limit.
    pub(crate) attempts: Option<ServerUrl>,
    /// How much a login may send.
    pub(crate) sending_limits: SendingLimits,
    /// How long a login is good without asking again, where users are on another machine. Then there are some.
    pub(crate) cache_logins: Option<Duration>,
    /// Whether recipients are not told where a message came from.
    pub(crate) hide_client_address: bool,
    /// Where accepted mail goes.
    pub(crate) delivery: Delivery,
    /// The certificate to show; a self-signed one is made when there is none.
    pub(crate) tls: Option<TlsFiles>,
    /// The name in the greeting, in `Received:` and in EHLO to the next hop.
    pub(crate) hostname: String,
    pub(crate) runtime: Runtime,
    /// Whether AUTH is offered before STARTTLS. Then every listener is on loopback, or the user insisted.
    pub(crate) allow_plaintext_auth: bool,
    /// Whether that is allowed where it could be read on the way.
    pub(crate) plaintext_auth_anywhere: bool,
    /// The most octets that a message may have.
    pub(crate) max_size: u64,
    /// The octets that are to be free where mail is kept, before a message begins.
    pub(crate) min_free: u64,
    /// What is taken against the RFCs.
    pub(crate) leniency: Leniency,
    /// How many connections there may be.
    pub(crate) limits: ConnectionLimits,
    /// Where Prometheus finds what is counted; nothing is counted otherwise.
    pub(crate) metrics: Option<sansmtp_metrics::Address>,
}

impl Serve {
    /// The path of a file that the program keeps beside the first users that are in one, or else where it was started.
    pub(crate) fn beside_users(&self, name: &str) -> PathBuf {
        self.users.iter().find_map(UserSource::file).unwrap_or_else(|| Path::new("")).with_file_name(name)
    }
}

impl Options {
    /// Reads the command line, its first word being the program's name.
    ///
    /// # Errors
    /// Says which option is wrong and why, without showing the text of an option that may hold a password.
    /// `--help` and `--version` are "errors" that go to stdout.
    pub(crate) fn from_arguments<I, T>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let cli = Cli::try_parse_from(arguments)?;
        match cli.action {
            Some(Action::Queue(command)) => Ok(Self::Queue(command)),
            Some(Action::User(command)) => Ok(Self::User(command)),
            None => cli.serve.check().map(Self::Serve).map_err(|(kind, message)| Cli::command().error(kind, message)),
        }
    }
}

/// A mail submission server with logins: takes mail from your users and delivers it.
///
/// With no arguments it listens on 127.0.0.1:8025 with STARTTLS, makes a user database with one user and a
/// self-signed certificate on its first start, delivers into the Maildir ./mail, and prints how to send a first
/// mail. Logs go to stderr as RUST_LOG says (default: info).
///
/// A SIZE is a number of octets, or 512k, 32M, 1.5G (in powers of 1024). A TIME is a number of seconds, or 500ms, 90s, 5m,
/// 1.5h, 4h30m, 2d.
///
/// Of a message, only the header changes (RFC 6409, section 8): Received: goes on top, Date: and Message-ID: are added
/// where they are missing and nothing is signed by DKIM, and Bcc:, Resent-Bcc: and Return-Path: are taken out.
#[derive(Debug, Parser)]
#[command(name = "authenticated_relayer", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List, flush, hold, release and delete the mail that waits to be sent on
    Queue(QueueCommand),
    /// Add, change, delete and list users, and give out tokens
    User(UserCommand),
}

#[derive(Debug, Args)]
struct ServeArguments {
    #[command(flatten)]
    listening: ListeningArguments,
    #[command(flatten)]
    security: SecurityArguments,
    #[command(flatten)]
    senders: SenderOptions,
    #[command(flatten)]
    policy: PolicyArguments,
    #[command(flatten)]
    delivery: DeliveryArguments,
    #[command(flatten)]
    limits: ConnectionLimits,
    #[command(flatten)]
    proxies: Proxies,
    #[command(flatten)]
    leniency: Leniency,
    #[command(flatten)]
    operations: OperationsArguments,
}

impl ServeArguments {
    fn check(self) -> Result<Serve, (ErrorKind, String)> {
        let Self { listening, security, policy, senders, delivery, leniency, limits, operations, proxies } = self;
        let listeners = listening.listeners()?;
        let sending_limits = policy.sending_limits();
        security.check(&listeners, &sending_limits)?;
        senders.check()?;
        Ok(Serve {
            listeners,
            socket_mode: listening.socket_mode,
            proxies,
            tls: security.tls(),
            // A path that was typed may be mistyped.
            init: security.init || security.is_default_users(),
            users: security.users(),
            ignore_case_of_logins: security.ignore_case_of_logins,
            senders,
            mechanisms: security.mechanisms,
            client_ca: security.client_ca,
            max_failures_per_address: NonZeroU32::new(security.max_failures_per_address),
            attempts: security.attempts,
            sending_limits,
            cache_logins: Some(security.cache_logins).filter(|time| !time.is_zero()),
            hide_client_address: policy.hide_client_address,
            allow_plaintext_auth: security.allow_plaintext_auth,
            plaintext_auth_anywhere: security.i_know,
            delivery: delivery.delivery(),
            hostname: listening.hostname.unwrap_or_else(machine_hostname),
            runtime: operations.runtime,
            max_size: listening.max_size,
            min_free: listening.min_free,
            leniency,
            limits,
            metrics: operations.metrics,
        })
    }
}
