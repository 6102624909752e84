//! The command line, and what it means once checked.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args, Command, CommandFactory, Parser, Subcommand};
use sansmtp_relay::{NextHop, Schedule};

use crate::connection_limits::ConnectionLimits;
use crate::leniency::Leniency;
use crate::mechanisms::Mechanism;
use crate::runtime::Runtime;
use crate::server_url::ServerUrl;
use crate::user_source::UserSource;

/// What the program was asked to do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is only one, at the start")]
pub(crate) enum Options {
    Serve(Serve),
    User(UserCommand),
}

/// How to run the server. Every combination that can be written here makes sense.
#[derive(Debug)]
pub(crate) struct Serve {
    /// At least one.
    pub(crate) listeners: Vec<Listener>,
    /// Where users are looked for, in this order; at least one.
    pub(crate) users: Vec<UserSource>,
    /// Whether the case of their names is ignored.
    pub(crate) ignore_case_of_logins: bool,
    /// What EHLO is to list, in this order; none for what does no harm. If there are some, EXTERNAL is among them where
    /// there is a `client_ca`, and only then.
    pub(crate) mechanisms: Vec<Mechanism>,
    /// Whose signature makes a client's certificate good.
    pub(crate) client_ca: Option<PathBuf>,
    /// Refused logins from one address before it has to wait; none for no limit.
    pub(crate) max_failures_per_address: Option<NonZeroU32>,
    /// Where they are counted for several servers. Then there is a limit.
    pub(crate) attempts: Option<ServerUrl>,
    /// Where accepted mail goes.
    pub(crate) delivery: Delivery,
    /// The certificate to show; a self-signed one is made when there is none.
    pub(crate) tls: Option<TlsFiles>,
    /// The name in the greeting, in `Received:` and in EHLO to the next hop.
    pub(crate) hostname: String,
    pub(crate) runtime: Runtime,
    /// Whether AUTH is offered before STARTTLS. Then every listener is on loopback, or the user insisted.
    pub(crate) allow_plaintext_auth: bool,
    /// The most octets that a message may have.
    pub(crate) max_size: u64,
    /// The octets that are to be free where mail is kept, before a message begins.
    pub(crate) min_free: u64,
    /// What is taken against the RFCs.
    pub(crate) leniency: Leniency,
    /// How many connections there may be.
    pub(crate) limits: ConnectionLimits,
}

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    /// TLS from the first octet; STARTTLS otherwise.
    pub(crate) implicit_tls: bool,
}

/// Where accepted mail goes.
#[derive(Debug)]
pub(crate) enum Delivery {
    Maildir(PathBuf),
    Relay { relays: Vec<NextHop>, ca: Option<PathBuf>, relaying: Relaying },
    Mx { port: u16, resolver: Option<SocketAddr>, allow_local: bool, relaying: Relaying },
}

/// What both ways out have in common.
#[derive(Debug)]
pub(crate) struct Relaying {
    /// Where mail waits.
    pub(crate) spool: PathBuf,
    pub(crate) schedule: Schedule,
    /// None for the number that is usual on this way.
    pub(crate) sessions_per_destination: Option<NonZeroUsize>,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

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
        name: String,
        /// Keep a key for CRAM-MD5, too: weaker than the rest, it lets whoever steals it log in by that mechanism, and
        /// try passwords quickly
        #[arg(long)]
        cram_md5: bool,
    },
    /// Set another password, from a prompt or the first line of stdin; the user's tokens stay good
    Passwd {
        name: String,
        /// Keep a key for CRAM-MD5 (as with add); without this, one that there was is dropped
        #[arg(long)]
        cram_md5: bool,
    },
    /// Make a bearer token for a user, for OAUTHBEARER and XOAUTH2, and print it: it is shown only once
    Token { name: String },
    /// Drop all of a user's bearer tokens
    Revoke { name: String },
    /// Delete a user, and the user's tokens
    Delete { name: String },
    /// Refuse a user's logins from now on, without deleting them
    Disable { name: String },
    /// Allow a disabled user's logins again
    Enable { name: String },
    /// List the users, one a line
    List,
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
    /// Add, change, delete and list users, and give out tokens
    User(UserCommand),
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// Listen here, with STARTTLS; repeatable [default: 127.0.0.1:8025, unless --listen-tls is given]
    #[arg(long, value_name = "ADDR", help_heading = LISTENING)]
    listen: Vec<SocketAddr>,
    /// Listen here, with TLS from the first octet; repeatable
    #[arg(long, value_name = "ADDR", help_heading = LISTENING)]
    listen_tls: Vec<SocketAddr>,
    /// Name of this server in its greeting and in Received: [default: the machine's host name]
    #[arg(long, value_name = "NAME", value_parser = hostname, help_heading = LISTENING)]
    hostname: Option<String>,
    /// Largest message to accept
    #[arg(long, value_name = "BYTES", default_value_t = 32 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1..), help_heading = LISTENING)]
    max_size: u64,
    /// Refuse mail for now (452) while less than this is free where it is kept
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024, help_heading = LISTENING)]
    min_free: u64,
    /// What drives the connections
    #[arg(long, value_enum, default_value_t = Runtime::Smol, help_heading = LISTENING)]
    runtime: Runtime,

    /// Where the users are; repeatable, the first place that knows a name decides
    ///
    /// sqlite:FILE, or the path alone, is a database, made on the first start.
    ///
    /// passwd:FILE has lines of user:hash, as htpasswd -B, doveadm pw and mkpasswd write them, and is read again when
    /// it has changed.
    ///
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE is for several servers; its password can also be in
    /// ?password-file=FILE or ?password-env=NAME. Other hosts than this one need TLS, with a certificate from the
    /// system's authorities or ?sslrootcert=FILE, or else ?sslmode=disable.
    ///
    /// dovecot:SOCKET asks Dovecot's auth service, whose mechanisms are offered where it is the only place, and which
    /// otherwise has to be the last.
    ///
    /// ldap://HOST/DN, ldaps://HOST/DN or ldapi://PATH/DN is a directory. It has {user} in the DN, as whom to bind then.
    /// Or the DN is where to search, and what follows it is ?ATTRIBUTE?SCOPE?FILTER?EXTENSIONS (RFC 4516): which
    /// attribute is the login, base, one or sub, a filter with {user} in it, and, with commas between them, bindname=DN
    /// with x-bindpw-file=FILE or x-bindpw-env=VARIABLE, x-ca-file=FILE and others. ldap:// begins with StartTLS. Of
    /// several hosts with commas between them, the first is asked that can be.
    ///
    /// jwks:FILE?issuer=URL&audience=NAME has the keys (a JWK Set) of an OAuth 2.0 server, and is read again, too. What
    /// follows the file is joined by "&", with "%" and two hexadecimal digits for a "&", "%", "?" or "#" in it:
    /// issuer=URL, which tokens have in "iss"; audience=NAME, one of those in "aud" (repeatable, one is enough);
    /// scope=WORD, which they have in "scope" or "scp" (repeatable, all are needed); login=CLAIM, which names the login
    /// [default: sub]; case=ignore, if it is to be in lower case. Clients show the tokens by OAUTHBEARER or XOAUTH2.
    #[arg(long, value_name = "USERS", default_value = DEFAULT_USERS, value_parser = Unrepeated(UserSource::parse), help_heading = SECURITY)]
    users: Vec<UserSource>,
    /// Compare users' names without regard to case, so that Tim@Example.org is tim@example.org
    ///
    /// Users are logged in by their names in lower case. Of users whose names differ in case only, the one in lower case can
    /// log in, and where there is none, nobody (the log says so). In PostgreSQL, an index on lower(name) makes it fast. A
    /// directory and Dovecot compare as they are set up to.
    #[arg(long, help_heading = SECURITY)]
    ignore_case_of_logins: bool,
    /// Offer these mechanisms, in this order [default: PLAIN,LOGIN, before them SCRAM-SHA-256 if all users have keys for
    /// it, or get them, and behind them EXTERNAL with --client-ca]
    ///
    /// A -PLUS mechanism notices whoever sits between client and server, but mutt and other clients with GNU SASL
    /// choose it without being able to do it, and give up. CRAM-MD5 needs a weaker key than the rest; while it is
    /// offered, one is kept of everybody who logs in by PLAIN or LOGIN, and "user add --cram-md5" keeps one from the
    /// start. OAUTHBEARER and XOAUTH2 take the tokens that "user token" makes. Users of a database from before SCRAM
    /// have to log in by PLAIN or LOGIN once.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        ignore_case = true,
        value_parser = Mechanism::parser(|mechanism| mechanism != Mechanism::Anonymous),
        help_heading = SECURITY
    )]
    mechanisms: Vec<Mechanism>,
    /// Offer EXTERNAL to clients with a certificate signed by one of these; its email address, or else its common
    /// name, is the user's name
    #[arg(long, value_name = "PEM", help_heading = SECURITY)]
    client_ca: Option<PathBuf>,
    /// Refused logins from one address (in IPv6, one network of 64 bits) within 15 minutes, after which it has to
    /// wait; 0 for no limit. Users behind one proxy share an address
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = SECURITY)]
    max_failures_per_address: u32,
    /// Count refused logins for all servers that name the same Valkey or Redis, valkey://USER:PASSWORD@HOST:PORT/DATABASE
    /// (valkeys:// with TLS, trusting the system's authorities or ?ca-file=FILE) [default: in memory]
    ///
    /// The password can also be in ?password-file=FILE or ?password-env=NAME. Names and addresses are hashed with what
    /// is in ?key-file=FILE, or else with a key made from the password. While the server cannot be reached, each process
    /// counts for itself, or refuses all logins for now with ?when-unreachable=closed.
    #[arg(long, value_name = "URL", value_parser = Unrepeated(valkey_url), help_heading = SECURITY)]
    attempts: Option<ServerUrl>,
    /// Certificate chain to show [default: a self-signed mail-cert.pem beside the users]
    ///
    /// SIGHUP has it, its key and --client-ca read anew, and files of users, too. Connections that there are go on, and
    /// what cannot be used is told in the log and changes nothing.
    #[arg(long, value_name = "PEM", requires = "tls_key", help_heading = SECURITY)]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert
    #[arg(long, value_name = "PEM", requires = "tls_cert", help_heading = SECURITY)]
    tls_key: Option<PathBuf>,
    /// Let users log in without TLS (on loopback only, unless --i-know)
    #[arg(long, help_heading = SECURITY)]
    allow_plaintext_auth: bool,
    /// Allow --allow-plaintext-auth where others can read the passwords
    #[arg(long, requires = "allow_plaintext_auth", help_heading = SECURITY)]
    i_know: bool,

    /// Deliver everything into this Maildir [default: ./mail, unless --relay or --mx is given]
    #[arg(long, value_name = "DIR", group = "delivery", help_heading = DELIVERY)]
    maildir: Option<PathBuf>,
    /// Hand mail to this server; repeatable, the next one is tried when one cannot be reached.
    /// smtp://[user:password@]host[:port] uses STARTTLS where offered, smtp+starttls:// insists on it,
    /// smtps:// is TLS from the first octet
    ///
    /// The password can also be in ?password-file=FILE (its first line) or ?password-env=NAME behind the host, as in
    /// smtps://user@host?password-file=/etc/mail/relay: a command line is shown to every user of the machine.
    /// Percent-encode what is neither letter nor digit in the user and in the password, an @ as %40.
    #[arg(long, value_name = "URL", group = "delivery", value_parser = Unrepeated(relay_url), help_heading = DELIVERY)]
    relay: Vec<NextHop>,
    /// Deliver to the recipients' mail exchangers, found by DNS
    #[arg(long, group = "delivery", help_heading = DELIVERY)]
    mx: bool,
    /// Where mail waits for --relay or --mx
    #[arg(long, value_name = "DIR", default_value = "./spool", help_heading = DELIVERY)]
    spool: PathBuf,
    /// Certificates to trust in addition to the system's, for a relay with a private CA
    #[arg(long, value_name = "PEM", requires = "relay", help_heading = DELIVERY)]
    relay_ca: Option<PathBuf>,
    /// DNS server to ask rather than the system's
    #[arg(long, value_name = "IP:PORT", requires = "mx", help_heading = DELIVERY)]
    resolver: Option<SocketAddr>,
    /// Port of the mail exchangers
    #[arg(long, value_name = "PORT", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..), help_heading = DELIVERY)]
    mx_port: u16,
    /// Deliver to mail exchangers that are this host, or in a private network, too: whoever has a domain can have mail
    /// for it sent there
    #[arg(long, requires = "mx", help_heading = DELIVERY)]
    mx_allow_local: bool,
    /// Connections at once to the relays, or to the mail exchangers of one domain [default: 3 to relays, 10 with --mx]
    #[arg(long, value_name = "N", help_heading = DELIVERY)]
    max_connections_per_destination: Option<NonZeroUsize>,
    /// Pause after the first attempt; each later one is twice as long
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = DELIVERY)]
    retry_first: Duration,
    /// Longest pause between attempts [default: 4 hours]
    #[arg(long, value_name = "SECONDS", default_value = "14400", hide_default_value = true, value_parser = seconds, help_heading = DELIVERY)]
    retry_longest: Duration,
    /// Age at which undelivered mail goes back to its sender [default: 5 days]
    #[arg(long, value_name = "SECONDS", default_value = "432000", hide_default_value = true, value_parser = seconds, help_heading = DELIVERY)]
    give_up_after: Duration,

    #[command(flatten)]
    leniency: Leniency,
    #[command(flatten)]
    limits: ConnectionLimits,
}

impl ServeArguments {
    fn check(self) -> Result<Serve, (ErrorKind, String)> {
        let mut listeners = self.listeners();
        if listeners.is_empty() {
            listeners.push(Listener { address: DEFAULT_LISTENER, implicit_tls: false });
        }
        if self.allow_plaintext_auth && !self.i_know {
            let public = |listener: &&Listener| !listener.implicit_tls && !listener.address.ip().is_loopback();
            if let Some(Listener { address, .. }) = listeners.iter().find(public) {
                return Err((
                    ErrorKind::ArgumentConflict,
                    format!(
                        "with --allow-plaintext-auth, passwords for {address} could be read on the way; \
                         listen on loopback, or add --i-know"
                    ),
                ));
            }
        }
        self.check_mechanisms()?;
        if self.attempts.is_some() && self.max_failures_per_address == 0 {
            let message = "--attempts has nothing to count with --max-failures-per-address 0";
            return Err((ErrorKind::ArgumentConflict, message.to_owned()));
        }
        let schedule = Schedule {
            first: self.retry_first,
            longest: self.retry_longest.max(self.retry_first),
            give_up_after: self.give_up_after,
        };
        let relaying =
            Relaying { spool: self.spool, schedule, sessions_per_destination: self.max_connections_per_destination };
        let delivery = if self.mx {
            Delivery::Mx { port: self.mx_port, resolver: self.resolver, allow_local: self.mx_allow_local, relaying }
        } else if !self.relay.is_empty() {
            Delivery::Relay { relays: self.relay, ca: self.relay_ca, relaying }
        } else {
            Delivery::Maildir(self.maildir.unwrap_or_else(|| PathBuf::from("./mail")))
        };
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            // clap's `requires` leaves only "neither".
            (Some(_), None) | (None, Some(_)) | (None, None) => None,
        };
        Ok(Serve {
            listeners,
            users: self.users,
            ignore_case_of_logins: self.ignore_case_of_logins,
            mechanisms: self.mechanisms,
            client_ca: self.client_ca,
            max_failures_per_address: NonZeroU32::new(self.max_failures_per_address),
            attempts: self.attempts,
            delivery,
            tls,
            hostname: self.hostname.unwrap_or_else(machine_hostname),
            runtime: self.runtime,
            allow_plaintext_auth: self.allow_plaintext_auth,
            max_size: self.max_size,
            min_free: self.min_free,
            leniency: self.leniency,
            limits: self.limits,
        })
    }

    fn check_mechanisms(&self) -> Result<(), (ErrorKind, String)> {
        let external = self.mechanisms.contains(&Mechanism::External);
        match (&self.client_ca, self.mechanisms.is_empty()) {
            (None, false) if external => {
                Err((ErrorKind::MissingRequiredArgument, "EXTERNAL needs --client-ca".to_owned()))
            }
            (Some(_), false) if !external => Err((
                ErrorKind::ArgumentConflict,
                "--client-ca is for EXTERNAL, which --mechanisms does not name".to_owned(),
            )),
            (None | Some(_), _) => Ok(()),
        }
    }

    fn listeners(&self) -> Vec<Listener> {
        let starttls = self.listen.iter().map(|&address| Listener { address, implicit_tls: false });
        let implicit = self.listen_tls.iter().map(|&address| Listener { address, implicit_tls: true });
        starttls.chain(implicit).collect()
    }
}

/// Reads a value that may hold a password, which clap's own parsers would repeat in the error when it is wrong.
#[derive(Clone)]
struct Unrepeated<T, E>(fn(&OsStr) -> Result<T, E>);

impl<T: Clone + Send + Sync + 'static, E: Display + Clone + 'static> TypedValueParser for Unrepeated<T, E> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        (self.0)(value).map_err(|error| {
            let option = arg.and_then(Arg::get_long).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("invalid value for --{option}: {error}\n"))
                .with_cmd(command)
        })
    }
}

fn relay_url(text: &OsStr) -> Result<NextHop, String> {
    let text = text.to_str().ok_or("not UTF-8")?;
    text.parse().map_err(|error: <NextHop as FromStr>::Err| error.to_string())
}

fn valkey_url(text: &OsStr) -> Result<ServerUrl, String> {
    ServerUrl::valkey(text.to_str().ok_or("not UTF-8")?)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Checks that a name can stand in a greeting: a domain or an address literal (RFC 5321, section 4.1.2).
fn hostname(text: &str) -> Result<String, &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'[' | b']' | b':');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(allowed) {
        return Err("not a domain name or an address literal");
    }
    Ok(text.to_owned())
}

fn machine_hostname() -> String {
    gethostname::gethostname()
        .into_string()
        .ok()
        .and_then(|name| hostname(&name).ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

const DEFAULT_LISTENER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8025);
const DEFAULT_USERS: &str = "mail.db";
const LISTENING: &str = "Listening";
const SECURITY: &str = "Logins and TLS";
const DELIVERY: &str = "Delivery";

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
