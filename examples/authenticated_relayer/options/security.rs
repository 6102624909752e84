//! Who may log in, and TLS.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::error::ErrorKind;
use sansmtp_authenticators::sending::SendingLimits;

use super::values::Unrepeated;
use crate::listening::Listener;
use crate::mechanisms::Mechanism;
use crate::units::{count, time};
use sansmtp_authenticators::source::ServerUrl;
use sansmtp_authenticators::source::UserSource;

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct SecurityArguments {
    /// Where the users are; repeatable, the first place that knows a name decides [default: mail.db, made on the first
    /// start]
    ///
    /// sqlite:FILE, or the path alone, is a database. One that is named here has to be there: "user add" makes it, or
    /// --init.
    ///
    /// passwd:FILE has lines of user:hash, as htpasswd -B, doveadm pw and mkpasswd write them, and is read again when
    /// it has changed. A line that cannot be used keeps out whom it names.
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
    /// with x-bindpw-file=FILE or x-bindpw-env=VARIABLE, x-ca-file=FILE, x-mail-attribute=NAME (repeatable: where users'
    /// addresses are, mail without it) and others. ldap:// begins with StartTLS. Of
    /// several hosts with commas between them, the first is asked that can be.
    ///
    /// jwks:FILE?issuer=URL&audience=NAME has the keys (a JWK Set) of an OAuth 2.0 server, and is read again, too. What
    /// follows the file is joined by "&", with "%" and two hexadecimal digits for a "&", "%", "?" or "#" in it:
    /// issuer=URL, which tokens have in "iss"; audience=NAME, one of those in "aud" (repeatable, one is enough);
    /// scope=WORD, which they have in "scope" or "scp" (repeatable, all are needed); login=CLAIM, which names the login
    /// [default: sub]; case=ignore, if it is to be in lower case. Clients show the tokens by OAUTHBEARER or XOAUTH2.
    ///
    /// While a server, or the file of keys, is not there, also at the start, logins that need it are put off (454). Of a
    /// Dovecot that has not been there yet, PLAIN and LOGIN are offered, or what --mechanisms names.
    #[arg(long, value_name = "USERS", value_parser = Unrepeated(UserSource::parse), help_heading = SECURITY)]
    users: Vec<UserSource>,
    /// Make the databases of --users that are not there; if there is only one place of users, with one user in it, whose
    /// password is shown
    #[arg(long, help_heading = SECURITY)]
    pub(super) init: bool,
    /// Compare users' names without regard to case, so that Tim@Example.org is tim@example.org
    ///
    /// Users are logged in by their names in lower case. Of users whose names differ in case only, the one in lower case can
    /// log in, and where there is none, nobody (the log says so). In PostgreSQL, an index on lower(name) makes it fast. A
    /// directory and Dovecot compare as they are set up to.
    #[arg(long, help_heading = SECURITY)]
    pub(super) ignore_case_of_logins: bool,
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
    pub(super) mechanisms: Vec<Mechanism>,
    /// Offer EXTERNAL to clients with a certificate signed by one of these; its email address, or else its common
    /// name, is the user's name
    #[arg(long, value_name = "PEM", help_heading = SECURITY)]
    pub(super) client_ca: Option<PathBuf>,
    /// Refused logins from one address (in IPv6, one network of 64 bits) within 15 minutes, after which it has to
    /// wait; 0 for no limit. Users behind one proxy share an address, unless --proxy-from has it tell them apart
    #[arg(long, value_name = "N", default_value = "50", value_parser = count::<u32>, help_heading = SECURITY)]
    pub(super) max_failures_per_address: u32,
    /// Count refused logins, and what logins send where that is limited, for all servers that name the same Valkey or
    /// Redis, valkey://USER:PASSWORD@HOST:PORT/DATABASE (valkeys:// with TLS, trusting the system's authorities or
    /// ?ca-file=FILE) [default: in memory]
    ///
    /// The password can also be in ?password-file=FILE or ?password-env=NAME. Names and addresses are hashed with what
    /// is in ?key-file=FILE, or else with a key made from the password. While the server cannot be reached, each process
    /// counts for itself, or refuses all logins, and mail that would have to be counted, for now with
    /// ?when-unreachable=closed.
    #[arg(long, value_name = "URL", value_parser = Unrepeated(valkey_url), help_heading = SECURITY)]
    pub(super) attempts: Option<ServerUrl>,
    /// Remember for so long, such as 5m, that a password was right, and do not ask again, where users are in PostgreSQL, in a
    /// directory, or in Dovecot behind others; 0 to ask each time
    ///
    /// It is for clients that log in for each message, and gets them through a short outage. Only PLAIN and LOGIN are
    /// remembered, and only what was right: a keyed hash of the password, never the password. So long may users still
    /// log in who were disabled or deleted, and with a password that was changed, until the new one was used; SIGHUP has
    /// all of it forgotten. Where Dovecot is the only place of users, it is asked each time, and has a cache of its
    /// own.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = time, help_heading = SECURITY)]
    pub(super) cache_logins: Duration,
    /// Certificate chain to show [default: a self-signed mail-cert.pem beside the users]
    ///
    /// SIGHUP has it, its key and --client-ca read anew, and files of users, too, and forgets --cache-logins. Connections that there are go on, and
    /// what cannot be used is told in the log and changes nothing.
    #[arg(long, value_name = "PEM", requires = "tls_key", help_heading = SECURITY)]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert
    #[arg(long, value_name = "PEM", requires = "tls_cert", help_heading = SECURITY)]
    tls_key: Option<PathBuf>,
    /// Let users log in without TLS (on loopback and unix sockets only, unless --i-know)
    #[arg(long, help_heading = SECURITY)]
    pub(super) allow_plaintext_auth: bool,
    /// Allow --allow-plaintext-auth where others can read the passwords
    #[arg(long, requires = "allow_plaintext_auth", help_heading = SECURITY)]
    pub(super) i_know: bool,
}

impl SecurityArguments {
    /// # Errors
    /// Says what does not go together.
    pub(super) fn check(
        &self,
        listeners: &[Listener],
        sending_limits: &SendingLimits,
    ) -> Result<(), (ErrorKind, String)> {
        if self.allow_plaintext_auth && !self.i_know {
            let public = |listener: &&Listener| !listener.implicit_tls && !listener.place.is_local();
            if let Some(Listener { place, .. }) = listeners.iter().find(public) {
                return Err((
                    ErrorKind::ArgumentConflict,
                    format!(
                        "with --allow-plaintext-auth, passwords for {place} could be read on the way; \
                         listen on loopback or a unix socket, or add --i-know"
                    ),
                ));
            }
        }
        self.check_mechanisms()?;
        if self.attempts.is_some() && self.max_failures_per_address == 0 && sending_limits.is_unlimited() {
            let message =
                "--attempts has nothing to count with --max-failures-per-address 0 and no limit for what is sent";
            return Err((ErrorKind::ArgumentConflict, message.to_owned()));
        }
        self.check_cache()
    }

    fn check_cache(&self) -> Result<(), (ErrorKind, String)> {
        if self.cache_logins.is_zero() {
            return Ok(());
        }
        let message = match self.users.as_slice() {
            [UserSource::Dovecot(_)] => {
                "--cache-logins does nothing where Dovecot is the only place of users, as it is asked by its own \
                 mechanisms; set auth_cache_size there"
            }
            users if users.iter().any(UserSource::is_remote) => return Ok(()),
            _ => "--cache-logins is for users in PostgreSQL, in a directory or in Dovecot: files are here",
        };
        Err((ErrorKind::ArgumentConflict, message.to_owned()))
    }

    /// At least one.
    pub(super) fn users(&self) -> Vec<UserSource> {
        if self.is_default_users() { vec![UserSource::Sqlite(DEFAULT_USERS.into())] } else { self.users.clone() }
    }

    /// Whether no place of users was named.
    pub(super) fn is_default_users(&self) -> bool {
        self.users.is_empty()
    }

    pub(super) fn tls(&self) -> Option<TlsFiles> {
        // Neither is there without the other.
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(TlsFiles { certificate, key })
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
}

fn valkey_url(text: &OsStr) -> Result<ServerUrl, String> {
    ServerUrl::valkey(text.to_str().ok_or("not UTF-8")?)
}

pub(super) const DEFAULT_USERS: &str = "mail.db";
const SECURITY: &str = "Logins and TLS";
