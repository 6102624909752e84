//! The users who may log in: what `--users` names, opened.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sansmtp::Secret;
use sansmtp_authenticators::dovecot::{Dovecot, Settings};
use sansmtp_authenticators::ldap::LdapBuilder;
use sansmtp_authenticators::oauth2::{Jwks, Jwt};
use sansmtp_authenticators::passwd::Passwd;
use sansmtp_authenticators::postgres::{Postgres, PostgresConfig};
use sansmtp_authenticators::sqlite::Sqlite;
use sansmtp_authenticators::stored::{
    Accounts, Hashing, Keep, SCRAM_ITERATIONS, Store, Stored, WritableStore, names_in_certificate,
};
use sansmtp_authenticators::{Answers, Authenticator, Cache, CacheLimits, Chain};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::options::Senders;
use sansmtp_authenticators::source::UserSource;

/// All who may log in.
pub(crate) struct Users {
    /// One for each `--users`, in that order.
    pub(crate) members: Vec<Arc<dyn Authenticator>>,
    /// Dovecot, where it is the only place of users: then its own mechanisms are offered, and left to it.
    pub(crate) dovecot: Option<Dovecot>,
    /// From which unknown users' SCRAM salts are made, where one of the databases keeps it, and can be asked for it.
    pub(crate) salt_key: Option<Arc<SaltKey>>,
    /// The iterations that SCRAM shows for unknown users. They are refused as if they were in the last of the places
    /// that have SCRAM keys, so as many as most keys there have.
    pub(crate) scram_iterations: u32,
    /// Those of them that are files of `user:hash` lines.
    pub(crate) passwd: Vec<Arc<Passwd>>,
    /// What remembers logins.
    pub(crate) caches: Vec<LoginCache>,
    /// How long.
    cache_logins: Option<Duration>,
    /// Those of them in which nobody has an address, nor a name that is one, and all may send from any.
    pub(crate) without_addresses: Vec<UserSource>,
    /// Whether the case of names is ignored.
    ignore_case: bool,
    /// What users may send from, if that is said.
    senders: Option<Senders>,
    /// Made on the first start.
    pub(crate) first_user: Option<FirstUser>,
}

/// Remembers logins by password that were right.
pub(crate) type LoginCache = Arc<Cache<Arc<dyn Authenticator>>>;

/// The user made on the first start, with the only copy of the password.
pub(crate) struct FirstUser {
    pub(crate) name: String,
    pub(crate) password: Zeroizing<String>,
}

/// What a database keeps, once it has been reached. Does not wait.
pub(crate) type SaltKey = dyn Fn() -> Option<Secret> + Send + Sync;

type Cause = Box<dyn Error + Send + Sync>;

impl Users {
    /// Opens them all. Logins leave the keys behind that are to be kept, where that is possible. Servers that are not there
    /// are asked later.
    ///
    /// With `init`, an SQLite database is made where there is none; if it is the only place of users, with one user in it.
    ///
    /// # Errors
    /// Says what cannot be opened, and why.
    pub(crate) fn open(
        sources: &[UserSource],
        init: bool,
        keep: Keep,
        ignore_case: bool,
        cache_logins: Option<Duration>,
        senders: Option<Senders>,
    ) -> Result<Self, Failure> {
        let missing = |source: &&UserSource| matches!(source, UserSource::Sqlite(path) if is_new(path));
        let first_user = match (sources, sources.iter().find(missing)) {
            (_, Some(source)) if !init => {
                return Err(Failure::plain(format!(
                    "there is no user database {source}; \"user add NAME --users {source}\" makes it, or --init"
                )));
            }
            ([only @ UserSource::Sqlite(path)], Some(_)) => {
                Some(first_start(path, keep).map_err(|error| cannot_open(only, error))?)
            }
            _ => None,
        };
        let mut users = Self {
            members: Vec::new(),
            dovecot: None,
            salt_key: None,
            scram_iterations: SCRAM_ITERATIONS,
            passwd: Vec::new(),
            caches: Vec::new(),
            cache_logins,
            without_addresses: Vec::new(),
            ignore_case,
            senders,
            first_user,
        };
        // One limit for all: they share the machine.
        let hashing = Arc::new(Hashing::new());
        for (place, source) in sources.iter().enumerate() {
            // Whoever it refuses may be unknown to it, or not: nobody behind it would ever be asked.
            if matches!(source, UserSource::Dovecot(_)) && place + 1 < sources.len() {
                return Err(Failure::plain(format!("{source} has to be the last of the --users")));
            }
            let added = users.add(source, keep, &hashing).and_then(|()| users.cache_last(source));
            added.map_err(|error| cannot_open(source, error))?;
        }
        if users.members.len() > 1 {
            users.dovecot = None;
        }
        Ok(users)
    }

    fn add(&mut self, source: &UserSource, keep: Keep, hashing: &Arc<Hashing>) -> Result<(), Cause> {
        match source {
            UserSource::Dovecot(path) => {
                let settings = Settings::unix(path).service("submission");
                let dovecot = settings.name_certificates(|chain| names_in_certificate(chain).into_iter().next());
                let dovecot = dovecot.connect_or_later()?;
                self.members.push(Arc::new(dovecot.clone()));
                self.dovecot = Some(dovecot);
                Ok(())
            }
            UserSource::Ldap(url) => {
                let directory = LdapBuilder::from_url(url.expose())?;
                let needs_attribute = self.senders != Some(Senders::Any) && !directory.has_mail_attribute();
                let directory = if needs_attribute { directory.mail_attribute("mail") } else { directory };
                self.members.push(Arc::new(directory.build()?));
                Ok(())
            }
            UserSource::Jwks(source) => {
                let rules = source.rules();
                let rules = if self.ignore_case { rules.ignore_case(true) } else { rules };
                self.members.push(Arc::new(Jwt::new(rules, Jwks::file_or_later(source.file())?)?));
                Ok(())
            }
            UserSource::Passwd(path) => {
                let store = Arc::new(Passwd::open(path)?);
                self.passwd.push(Arc::clone(&store));
                self.add_store(store, keep, hashing)
            }
            UserSource::Postgres(url) => {
                let store = Arc::new(Postgres::open_or_later(PostgresConfig::from_url(url.expose_secret())?)?);
                let keeper = Arc::clone(&store);
                self.salt_key.get_or_insert_with(|| Arc::new(move || keeper.known_salt_key()));
                self.add_store(store, keep, hashing)
            }
            UserSource::Sqlite(path) => {
                let store = Sqlite::open_or_create(path)?;
                let salt_key = store.salt_key()?;
                let salt_key = move || Some(salt_key.expose_secret().into());
                self.salt_key.get_or_insert_with(|| Arc::new(salt_key));
                let optional = self.senders.is_none();
                if optional && !store.has_addresses()? {
                    self.without_addresses.push(source.clone());
                }
                self.add_store_with(store, keep, hashing, optional)
            }
        }
    }

    /// Has what it says remembered, where that is asked for, and a server is asked.
    fn cache_last(&mut self, source: &UserSource) -> Result<(), Cause> {
        if let Some(time) = self.cache_logins.filter(|_| source.is_remote())
            && let Some(member) = self.members.pop()
        {
            let cache = remember(member, time)?;
            self.caches.push(Arc::clone(&cache));
            self.members.push(cache);
        }
        Ok(())
    }

    fn add_store(&mut self, store: impl Store + 'static, keep: Keep, hashing: &Arc<Hashing>) -> Result<(), Cause> {
        self.add_store_with(store, keep, hashing, false)
    }

    fn add_store_with(
        &mut self,
        store: impl Store + 'static,
        keep: Keep,
        hashing: &Arc<Hashing>,
        addresses_are_optional: bool,
    ) -> Result<(), Cause> {
        if store.answers("SCRAM-SHA-256") != Answers::ForNone {
            self.scram_iterations = store.scram_iterations()?;
        }
        let stored = Stored::new(store)?.keep(keep).ignore_case(self.ignore_case).hashing(Arc::clone(hashing));
        self.members.push(Arc::new(stored.addresses_are_optional(addresses_are_optional)));
        Ok(())
    }

    /// Asks whoever knows the user.
    pub(crate) fn authenticator(&self) -> Arc<dyn Authenticator> {
        match self.members.as_slice() {
            [only] => Arc::clone(only),
            members => Arc::new(members.iter().cloned().collect::<Chain>()),
        }
    }
}

/// Remembers for so long what an authenticator accepts, and nothing else: a password that was wrong may be right by now.
fn remember(authenticator: Arc<dyn Authenticator>, time: Duration) -> io::Result<LoginCache> {
    let limits = CacheLimits { accepted_for: time, refused: 0, ..CacheLimits::default() };
    Cache::new(authenticator, limits).map(Arc::new)
}

/// Opens users to be changed; with `create`, those that there are not are made, and told on stderr.
///
/// # Errors
/// Says what cannot be opened, and why, and which cannot be changed from here.
pub(crate) fn accounts(source: &UserSource, create: bool) -> Result<Accounts<Box<dyn WritableStore>>, Failure> {
    let store: Box<dyn WritableStore> = match source {
        UserSource::Dovecot(_) => {
            return Err(Failure::plain(format!("{source} is not changed from here, but where Dovecot has its users")));
        }
        UserSource::Ldap(_) => {
            return Err(Failure::plain(format!(
                "{source} is not changed from here: use what the directory is kept with"
            )));
        }
        UserSource::Jwks(_) => {
            return Err(Failure::plain(format!(
                "{source} is not changed from here: the authorization server has the users"
            )));
        }
        UserSource::Passwd(_) => {
            return Err(Failure::plain(format!(
                "{source} is not changed from here: edit the file, with what \"htpasswd -B\" or \"doveadm pw\" writes"
            )));
        }
        UserSource::Postgres(url) => {
            let config = PostgresConfig::from_url(url.expose_secret());
            let config = config.map_err(|error| Failure::new(source.to_string(), error))?;
            Box::new(Postgres::open(config).map_err(|error| Failure::new(source.to_string(), error))?)
        }
        UserSource::Sqlite(path) => {
            let makes = is_new(path);
            if makes && !create {
                return Err(Failure::plain(format!(
                    "there is no user database {source}; \"user add NAME --users {source}\" makes it"
                )));
            }
            let opened = if create { Sqlite::open_or_create(path) } else { Sqlite::open(path) };
            let opened = opened.map_err(|error| Failure::new(source.to_string(), error))?;
            if makes {
                // A pipe that is closed leaves nobody to tell.
                let _ = writeln!(io::stderr(), "made a new database {source}");
            }
            Box::new(opened)
        }
    };
    Ok(Accounts::new(store))
}

/// Whether there is no database yet. An empty file is a first start that was interrupted. What cannot be looked at may be one.
fn is_new(path: &Path) -> bool {
    match path.metadata() {
        Ok(metadata) => metadata.is_file() && metadata.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// On the first start, makes the database with one user and a random password, to be shown once.
fn first_start(path: &Path, keep: Keep) -> Result<FirstUser, Cause> {
    let accounts = Accounts::new(Sqlite::open_or_create(path)?);
    let password = accounts.add_with_random_password(FIRST_USER, keep)?;
    Ok(FirstUser { name: FIRST_USER.to_owned(), password })
}

fn cannot_open(source: &UserSource, error: Cause) -> Failure {
    Failure::new(format!("cannot open {source}"), error)
}

impl fmt::Debug for FirstUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstUser").field("name", &self.name).finish_non_exhaustive()
    }
}

const FIRST_USER: &str = "user";

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(path: &Path) -> [UserSource; 1] {
        [UserSource::Sqlite(path.to_owned())]
    }

    #[test]
    fn the_first_start_makes_one_user_and_the_second_none() {
        for (keep, has_cram_md5) in [(Keep::Scram, false), (Keep::ScramAndCramMd5, true)] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("mail.db");
            let first = Users::open(&sqlite(&path), true, keep, false, None, None).unwrap();
            let user = first.first_user.as_ref().unwrap();
            assert!(user.password.len() >= 24);
            assert!(!format!("{user:?}").contains(user.password.as_str()));
            let database = rusqlite::Connection::open(&path).unwrap();
            let row = database.query_row("SELECT name, cram_md5 IS NOT NULL FROM user", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?))
            });
            assert_eq!(row.unwrap(), ("user".to_owned(), has_cram_md5));
            let password = user.password.clone();
            drop((first, database));
            assert!(Users::open(&sqlite(&path), true, keep, false, None, None).unwrap().first_user.is_none());
            let octets = std::fs::read(&path).unwrap();
            assert!(!octets.windows(password.len()).any(|window| window == password.as_bytes()));
        }
    }

    #[test]
    fn a_database_among_others_is_made_empty() {
        let directory = tempfile::tempdir().unwrap();
        let (passwd, database) = (directory.path().join("users"), directory.path().join("mail.db"));
        std::fs::write(&passwd, "").unwrap();
        let users = Users::open(
            &[UserSource::Passwd(passwd), UserSource::Sqlite(database.clone())],
            true,
            Keep::Scram,
            false,
            None,
            None,
        );
        let users = users.unwrap();
        assert!(users.first_user.is_none() && users.salt_key.is_some() && users.members.len() == 2);
        assert!(accounts(&UserSource::Sqlite(database), false).unwrap().list().unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_opened_or_changed_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        std::fs::write(&path, "sEcReT\n").unwrap();
        let source = UserSource::Passwd(path);
        let error = Users::open(std::slice::from_ref(&source), false, Keep::Scram, false, None, None)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("passwd:/") && error.contains("line 1: ") && !error.contains("sEcReT"), "{error}");
        let error = accounts(&source, true).err().unwrap().to_string();
        assert!(error.contains("htpasswd"), "{error}");
        let keys = directory.path().join("jwks.json");
        let text = format!("jwks:{}?issuer=a&audience=b", keys.display());
        let source = UserSource::parse(text.as_ref()).unwrap();
        for (content, why) in [("{}", "no JWK Set: line 1"), ("{\"keys\":[]}", "no key")] {
            std::fs::write(&keys, content).unwrap();
            let error = Users::open(std::slice::from_ref(&source), false, Keep::Scram, false, None, None)
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains("cannot open jwks:/") && error.contains(why), "{error}");
        }
        let error = accounts(&source, true).err().unwrap().to_string();
        assert!(error.contains("authorization server"), "{error}");
        let none = &sqlite(&directory.path().join("none"));
        let error = Users::open(none, false, Keep::Scram, false, None, None).err().unwrap().to_string();
        assert!(error.contains("there is no user database /") && error.contains("--init"), "{error}");
        let error = accounts(&none[0], false).err().unwrap().to_string();
        assert!(error.contains("there is no user database /") && error.contains("user add NAME"), "{error}");
    }
}
