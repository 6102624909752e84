//! Where accepted mail goes, and how.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use sansmtp_relay::{NextHop, Schedule};

use super::values::Unrepeated;
use crate::units::{count_above_zero, time};

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
    /// The age at which a sender is told of a delay; none for never.
    pub(crate) delay_report_after: Option<Duration>,
    /// Who gets what can neither be delivered nor reported.
    pub(crate) postmaster: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DeliveryArguments {
    /// Deliver everything into this Maildir [default: ./mail, unless --relay or --mx is given]
    #[arg(long, value_name = "DIR", group = "delivery", help_heading = DELIVERY)]
    maildir: Option<PathBuf>,
    /// Hand mail to this server; repeatable, the next one is tried when one cannot be reached.
    /// smtp://[user:password@]host[:port] uses STARTTLS where offered, smtp+starttls:// insists on it,
    /// smtps:// is TLS from the first octet; lmtp://host[:port] and lmtp+unix:/path/of/socket deliver by LMTP
    ///
    /// The password can also be in ?password-file=FILE (its first line) or ?password-env=NAME behind the host, as in
    /// smtps://user@host?password-file=/etc/mail/relay: a command line is shown to every user of the machine.
    /// For OAuth 2.0 a token is in ?token-file=FILE, or printed by ?token-command=COMMAND. Files are read for each
    /// session. A command is run by sh and has 30 seconds; its token is used for 5 minutes, or until it is refused.
    /// Percent-encode what is neither letter nor digit in the user, the password and the command, an @ as %40.
    /// The strongest mechanism that the server lists is used: SCRAM, PLAIN, LOGIN, CRAM-MD5; OAUTHBEARER, XOAUTH2 with a
    /// token, or if there is no other. ?mechanism=NAME has another used, such as SCRAM-SHA-256-PLUS.
    #[arg(long, value_name = "URL", groups = ["delivery", ROUTE], value_parser = Unrepeated(relay_url), help_heading = DELIVERY)]
    relay: Vec<NextHop>,
    /// Deliver to the recipients' mail exchangers, found by DNS
    ///
    /// STARTTLS is used where they offer it, with any certificate; where the handshake fails, mail goes without TLS.
    #[arg(long, groups = ["delivery", ROUTE], help_heading = DELIVERY)]
    mx: bool,
    /// Where mail waits for --relay or --mx
    #[arg(long, value_name = "DIR", default_value = "./spool", requires = ROUTE, conflicts_with = "maildir", help_heading = DELIVERY)]
    spool: PathBuf,
    /// Certificates to trust in addition to the system's, for a relay with a private CA; SIGHUP has them read anew
    #[arg(long, value_name = "PEM", requires = "relay", conflicts_with_all = ["maildir", "mx"], help_heading = DELIVERY)]
    relay_ca: Option<PathBuf>,
    /// DNS server to ask rather than the system's; its port is 53 unless it says otherwise
    #[arg(long, value_name = "IP[:PORT]", requires = "mx", conflicts_with_all = NOT_MX, value_parser = resolver, help_heading = DELIVERY)]
    resolver: Option<SocketAddr>,
    /// Port of the mail exchangers
    #[arg(long, value_name = "PORT", default_value_t = 25, requires = "mx", conflicts_with_all = NOT_MX, value_parser = clap::value_parser!(u16).range(1..), help_heading = DELIVERY)]
    mx_port: u16,
    /// Deliver to mail exchangers that are this host, or in a private network, too: whoever has a domain can have mail
    /// for it sent there
    #[arg(long, requires = "mx", conflicts_with_all = NOT_MX, help_heading = DELIVERY)]
    mx_allow_local: bool,
    /// Connections at once to the relays, or to the mail exchangers of one domain [default: 3 to relays, 10 with --mx]
    #[arg(long, value_name = "N", value_parser = count_above_zero::<NonZeroUsize>, requires = ROUTE, conflicts_with = "maildir", help_heading = DELIVERY)]
    max_connections_per_destination: Option<NonZeroUsize>,
    /// Pause after the first attempt; each later one is twice as long
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = time, requires = ROUTE, conflicts_with = "maildir", help_heading = DELIVERY)]
    retry_first: Duration,
    /// Longest pause between attempts
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = time, requires = ROUTE, conflicts_with = "maildir", help_heading = DELIVERY)]
    retry_longest: Duration,
    /// Age at which undelivered mail goes back to its sender
    #[arg(long, value_name = "TIME", default_value = "5d", value_parser = time, requires = ROUTE, conflicts_with = "maildir", help_heading = DELIVERY)]
    give_up_after: Duration,
    /// Age at which a sender is told, once, that mail is still being tried; "none" or 0 for never
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = time_or_none, requires = ROUTE, conflicts_with = "maildir", help_heading = DELIVERY)]
    delay_report_after: TimeOrNone,
    /// Who gets, from this same address, reports that cannot be delivered: the sender's mailbox is gone, or a smart
    /// host takes no null reverse-path. Without it, and where this fails, they are kept in undelivered-reports in the spool
    #[arg(long, value_name = "ADDRESS", value_parser = mailbox, requires = ROUTE, conflicts_with = "maildir", help_heading = DELIVERY)]
    postmaster: Option<String>,
}

impl DeliveryArguments {
    pub(super) fn delivery(self) -> Delivery {
        let schedule = Schedule {
            first: self.retry_first,
            longest: self.retry_longest.max(self.retry_first),
            give_up_after: self.give_up_after,
        };
        let relaying = Relaying {
            spool: self.spool,
            schedule,
            sessions_per_destination: self.max_connections_per_destination,
            delay_report_after: self.delay_report_after.0,
            postmaster: self.postmaster,
        };
        if self.mx {
            Delivery::Mx { port: self.mx_port, resolver: self.resolver, allow_local: self.mx_allow_local, relaying }
        } else if !self.relay.is_empty() {
            Delivery::Relay { relays: self.relay, ca: self.relay_ca, relaying }
        } else {
            Delivery::Maildir(self.maildir.unwrap_or_else(|| PathBuf::from("./mail")))
        }
    }
}

/// An address alone is at the usual port.
fn resolver(text: &str) -> Result<SocketAddr, &'static str> {
    let with_usual_port = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    text.parse()
        .or_else(|_| with_usual_port())
        .map_err(|_| "a DNS server is 192.0.2.53, 192.0.2.53:53 or [2001:db8::53]:53")
}

fn relay_url(text: &OsStr) -> Result<NextHop, String> {
    let text = text.to_str().ok_or("not UTF-8")?;
    text.parse().map_err(|error: <NextHop as FromStr>::Err| error.to_string())
}

/// A time that there may be.
#[derive(Clone, Copy, Debug)]
struct TimeOrNone(Option<Duration>);

fn time_or_none(text: &str) -> Result<TimeOrNone, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(TimeOrNone(None));
    }
    let time = time(text).map_err(|error| format!("{error}, or none"))?;
    Ok(TimeOrNone(Some(time).filter(|time| !time.is_zero())))
}

/// Roughly a mailbox: what else is wrong with it, the next hop says.
fn mailbox(text: &str) -> Result<String, &'static str> {
    let parts = text.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty());
    let is_plain = !text.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | ','));
    if parts.is_some() && is_plain { Ok(text.to_owned()) } else { Err("not an address such as postmaster@example.org") }
}

/// The options of which one makes the program relay.
const ROUTE: &str = "route";
/// What an option that is for `--mx` only does not go with. `requires` alone lets it pass: clap gives a requirement up that
/// what is there excludes.
const NOT_MX: [&str; 2] = ["maildir", "relay"];
const DELIVERY: &str = "Delivery";
