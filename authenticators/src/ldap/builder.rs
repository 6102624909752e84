//! The settings.

use std::path::PathBuf;
use std::time::Duration;

use sansmtp::Secret;

use super::directory::{Directory, Lookup};
use super::pool::{Limits, Pool};
use super::server::{Account, Security, Server, Servers};
use super::template::{DnTemplate, FilterTemplate, is_attribute_type, is_dn, is_dn_or_root};
use super::worker::Worker;
use super::{Ldap, LdapError};
use crate::limit::{self, Limit};
use crate::tls_client;

/// How far below its base a search looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "RFC 4511, section 4.5.1.2 has no more")]
pub enum LdapScope {
    /// The base itself.
    Base,
    /// The entries right below the base.
    OneLevel,
    /// The base, and everything below it.
    #[default]
    Subtree,
}

/// The settings of [`Ldap`]: what is not set has the value that the method names.
#[derive(Debug)]
#[must_use]
pub struct LdapBuilder {
    pub(super) found_by: FoundBy,
    pub(super) servers: Vec<String>,
    pub(super) scope: Option<LdapScope>,
    pub(super) account: Option<(String, Secret)>,
    pub(super) login_attribute: Option<String>,
    pub(super) mail_attributes: Vec<String>,
    pub(super) nobody: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) allow_cleartext: bool,
    connect_timeout: Duration,
    operation_timeout: Duration,
    time_limit: Duration,
    max_binds: usize,
    max_searches: usize,
    max_waiting: usize,
}

/// What leads from a user's name to an entry.
#[derive(Clone, Debug)]
pub(super) enum FoundBy {
    Template(String),
    Search { base: String, filter: String },
}

impl LdapBuilder {
    pub(super) fn new(found_by: FoundBy) -> Self {
        Self {
            found_by,
            servers: Vec::new(),
            scope: None,
            account: None,
            login_attribute: None,
            mail_attributes: Vec::new(),
            nobody: None,
            ca_file: None,
            allow_cleartext: false,
            connect_timeout: Duration::from_secs(3),
            operation_timeout: Duration::from_secs(5),
            time_limit: Duration::from_secs(15),
            max_binds: 16,
            max_searches: 4,
            max_waiting: limit::OF_A_SERVER,
        }
    }

    /// Adds a server: `ldaps://host[:port]`; `ldap://host[:port]`, which has to upgrade to TLS by StartTLS before
    /// anything else is sent; or `ldapi://path`, a unix socket, with the path percent-encoded. All of them have the
    /// same entries: a server that cannot be reached, or does not answer, is passed over in favour of the next, and
    /// for ten seconds asked last.
    pub fn server(mut self, url: impl Into<String>) -> Self {
        self.servers.push(url.into());
        self
    }

    /// Searches as this account; anonymously, unless set. It needs the right to find entries, and to read the login
    /// attribute, nothing more.
    pub fn service_account(mut self, dn: impl Into<String>, password: Secret) -> Self {
        self.account = Some((dn.into(), password));
        self
    }

    /// How far below its base a search looks: [`Subtree`](LdapScope::Subtree), unless set.
    pub fn scope(mut self, scope: LdapScope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Makes the value of this attribute the login ([`Session::login`](sansmtp::Session::login)); what the client
    /// wrote, unless set. Servers compare names without regard to case and to some spaces, so that a user may write
    /// their own in many ways: this gives them one. An entry without the attribute, or with several values of it, is a
    /// fault: `454 4.7.0`.
    pub fn login_attribute(mut self, name: impl Into<String>) -> Self {
        self.login_attribute = Some(name.into());
        self
    }

    /// Reads the user's addresses in this attribute after each login; in none, unless set. Repeatable, as for `mail` and
    /// `mailAlternateAddress`. `smtp:` in front of a value, as Active Directory has it in `proxyAddresses`, is no part of
    /// the address, and what is no address counts for nothing.
    ///
    /// They come with the result, as [`LoginAddresses`](crate::LoginAddresses). Where users are searched for, the service
    /// account reads them, and where a template names the entry, the user: the directory has to let them. What may not be
    /// read is not there, and a server that does not answer is `454 4.7.0`.
    pub fn mail_attribute(mut self, name: impl Into<String>) -> Self {
        self.mail_attributes.push(name.into());
        self
    }

    /// Whether any [`mail_attribute`](Self::mail_attribute) is set.
    #[must_use]
    pub fn has_mail_attribute(&self) -> bool {
        !self.mail_attributes.is_empty()
    }

    /// The entry that is read, and against which the password is tried, where a search finds nobody, so that it takes as
    /// long as a wrong password: one that the account may read, and of which nobody knows the password, hashed as those of
    /// users are. An entry right below the base that does not exist, unless set; then a server answers sooner by the time
    /// of a hash, as it has none to compare, and **tells by that who exists**.
    pub fn nobody(mut self, dn: impl Into<String>) -> Self {
        self.nobody = Some(dn.into());
        self
    }

    /// Trusts the certificates of this PEM file, read once; those that the system trusts, unless set.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Whether `ldap://` goes without TLS, over loopback too: whoever is in between reads all passwords. `false`,
    /// unless set.
    pub fn allow_cleartext(mut self, allowed: bool) -> Self {
        self.allow_cleartext = allowed;
        self
    }

    /// How long a connection may take to come about, its TLS included: 3 seconds, unless set.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a server may take for a bind or a search: 5 seconds, unless set.
    pub fn operation_timeout(mut self, limit: Duration) -> Self {
        self.operation_timeout = limit;
        self
    }

    /// How long an answer may take in all, with the wait for a free connection, and with all servers that are tried:
    /// 15 seconds, unless set. After that it is `454 4.7.0`.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How many connections there may be on which passwords are tried: 16, unless set.
    pub fn max_binds(mut self, connections: usize) -> Self {
        self.max_binds = connections;
        self
    }

    /// How many connections there may be for searches: 4, unless set.
    pub fn max_searches(mut self, connections: usize) -> Self {
        self.max_searches = connections;
        self
    }

    /// How many logins may wait at the same time, for a connection or for an answer: 96, unless set. Each occupies a
    /// thread, so keep it well below the size of the pool that connections share (500 with smol, 512 with tokio). One
    /// more is `454 4.7.0` at once.
    pub fn max_waiting(mut self, logins: usize) -> Self {
        self.max_waiting = logins;
        self
    }

    /// Checks the settings, and starts the thread that will talk to the servers. No server is asked yet.
    ///
    /// # Errors
    ///
    /// [`LdapError`] says which setting is wrong, and why.
    pub fn build(self) -> Result<Ldap, LdapError> {
        for (name, is_zero) in [
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("operation_timeout", self.operation_timeout.is_zero()),
            ("time_limit", self.time_limit.is_zero()),
            ("max_binds", self.max_binds == 0),
            ("max_searches", self.max_searches == 0),
        ] {
            if is_zero {
                return Err(LdapError::Limit(name));
            }
        }
        if let Some(name) = self.mail_attributes.iter().find(|name| !is_attribute_type(name)) {
            return Err(LdapError::MailAttribute(name.clone()));
        }
        let lookup = self.lookup()?;
        let servers = Servers::new(self.parsed_servers()?, self.tls()?);
        let account = self.account.map(|(dn, password)| Account { dn, password });
        let limits =
            |connections| Limits { connect: self.connect_timeout, operation: self.operation_timeout, connections };
        let directory = Directory {
            lookup,
            mail_attributes: self.mail_attributes,
            searches: Pool::new(servers.clone(), account, limits(self.max_searches)),
            binds: Pool::new(servers, None, limits(self.max_binds)),
        };
        let worker = Worker::start(directory).map_err(LdapError::Thread)?;
        Ok(Ldap { worker, time_limit: self.time_limit, waiting: Limit::new("LDAP", self.max_waiting) })
    }

    fn lookup(&self) -> Result<Lookup, LdapError> {
        let (base, filter) = match &self.found_by {
            FoundBy::Template(dn) => {
                for (setting, is_set) in [
                    ("a scope", self.scope.is_some()),
                    ("a service account", self.account.is_some()),
                    ("a login attribute", self.login_attribute.is_some()),
                    ("nobody's entry", self.nobody.is_some()),
                ] {
                    if is_set {
                        return Err(LdapError::SearchOnly(setting));
                    }
                }
                return DnTemplate::parse(dn).map(Lookup::Template).ok_or_else(|| LdapError::Dn(dn.clone()));
            }
            FoundBy::Search { base, filter } => (base, filter),
        };
        if !is_dn_or_root(base) {
            return Err(LdapError::Base(base.clone()));
        }
        if let Some(name) = self.login_attribute.as_ref().filter(|name| !is_attribute_type(name)) {
            return Err(LdapError::LoginAttribute(name.clone()));
        }
        if let Some((dn, password)) = &self.account {
            if !is_dn(dn) {
                return Err(LdapError::NotDn("service account"));
            }
            if password.expose_secret().is_empty() || str::from_utf8(password.expose_secret()).is_err() {
                return Err(LdapError::NoPassword);
            }
        }
        if self.nobody.as_ref().is_some_and(|dn| !is_dn(dn)) {
            return Err(LdapError::NotDn("entry of nobody"));
        }
        let below = if base.is_empty() { String::new() } else { format!(",{base}") };
        Ok(Lookup::Search {
            base: base.clone(),
            scope: match self.scope.unwrap_or_default() {
                LdapScope::Base => ldap3::Scope::Base,
                LdapScope::OneLevel => ldap3::Scope::OneLevel,
                LdapScope::Subtree => ldap3::Scope::Subtree,
            },
            filter: FilterTemplate::parse(filter).ok_or_else(|| LdapError::Filter(filter.clone()))?,
            login_attribute: self.login_attribute.clone(),
            nobody: self.nobody.clone().unwrap_or_else(|| format!("{NOBODY}{below}")),
            missing: format!("{NOBODY}{below}"),
        })
    }

    fn parsed_servers(&self) -> Result<Vec<Server>, LdapError> {
        let security = if self.allow_cleartext { Security::Cleartext } else { Security::StartTls };
        if self.servers.is_empty() {
            return Err(LdapError::NoServer);
        }
        // What stands in front of an `@` may be a password.
        let wrong = |url: &String| {
            if url.contains('@') { LdapError::PasswordInUrl } else { LdapError::Server(url.clone()) }
        };
        self.servers.iter().map(|url| Server::parse(url, security).ok_or_else(|| wrong(url))).collect()
    }

    fn tls(&self) -> Result<Option<std::sync::Arc<rustls::ClientConfig>>, LdapError> {
        if !self.parsed_servers()?.iter().any(Server::needs_tls) {
            return Ok(None);
        }
        let roots = self.ca_file.as_ref().map_or_else(tls_client::system_roots, |path| tls_client::file_roots(path));
        roots.and_then(tls_client::config).map(Some).map_err(LdapError::Roots)
    }
}

/// Right below the base.
const NOBODY: &str = "cn=nobody of this name";
