//! Places of users, opened.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sansmtp::Secret;
use zeroize::Zeroizing;

use super::UserSource;
use crate::dovecot::{Dovecot, Settings};
use crate::ldap::LdapBuilder;
use crate::oauth2::{Jwks, Jwt};
use crate::passwd::Passwd;
use crate::postgres::{Postgres, PostgresConfig};
use crate::sqlite::Sqlite;
use crate::stored::{Accounts, Hashing, Keep, SCRAM_ITERATIONS, Store, Stored, WritableStore, names_in_certificate};
use crate::{Answers, Authenticator, Cache, CacheLimits, Chain};

/// All who may log in, from one place or several: made by [`Users::builder`].
///
/// ```no_run
/// use sansmtp_authenticators::source::{UserSource, Users};
/// use sansmtp_authenticators::stored::Keep;
/// # fn open() -> Result<(), Box<dyn std::error::Error>> {
///
/// let places = ["passwd:/etc/mail/users", "sqlite:mail.db"];
/// let places = places.map(|place| UserSource::parse(place.as_ref())).into_iter().collect::<Result<Vec<_>, _>>()?;
/// let users = Users::builder().keep(Keep::Scram).ignore_case(true).open(&places)?;
/// let authenticator = users.authenticator();
/// # Ok(())
/// # }
/// ```
pub struct Users {
    members: Vec<Arc<dyn Authenticator>>,
    dovecot: Option<Dovecot>,
    salt_key: Option<SaltKey>,
    scram_iterations: u32,
    refresher: Refresher,
    without_addresses: Vec<UserSource>,
    lacking_addresses: Vec<UserSource>,
    first_user: Option<FirstUser>,
}

/// How to open places of users.
#[derive(Clone, Debug)]
#[must_use]
pub struct UsersBuilder {
    keep: Keep,
    ignore_case: bool,
    remember_for: Option<Duration>,
    addresses: AddressUse,
    create: bool,
    first_user: Option<String>,
}

/// What the addresses of users are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth way")]
pub enum AddressUse {
    /// Users may send from any. A directory is not asked for them.
    Any,
    /// Users may send from their own only.
    Own,
    /// As [`Own`](Self::Own), but in an SQLite database in which nobody has an address, nor a name that is one, all may send
    /// from any.
    OwnWhereKept,
}

/// What is to be done now and then, or when an operator says so: files are read anew, and what was remembered is asked
/// for anew.
#[derive(Clone, Default)]
pub struct Refresher {
    passwd: Vec<Arc<Passwd>>,
    caches: Vec<Arc<Cache<Arc<dyn Authenticator>>>>,
}

/// The user of a database that was new, with the only copy of the password.
#[expect(clippy::exhaustive_structs, reason = "it is made to be shown")]
pub struct FirstUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Zeroizing<String>,
}

/// From which unknown users' SCRAM salts are made, once the database that keeps it has been reached. Does not wait: for
/// [`Auth::salt_key_from`](sansmtp::Auth::salt_key_from).
pub type SaltKey = Arc<dyn Fn() -> Option<Secret> + Send + Sync>;

/// Why users cannot be opened, or not be changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// They cannot be opened.
    Open {
        /// These.
        place: UserSource,
        /// For this reason.
        error: Cause,
    },
    /// There is no such database, and none was to be [made](UsersBuilder::create).
    NoDatabase(UserSource),
    /// Of several places, this one has to be the last: whoever it refuses may be unknown to it, or not, and nobody behind
    /// it would ever be asked.
    NotLast(UserSource),
    /// They are not changed from here.
    NotWritable(UserSource),
    /// The place is named twice. The second time, nobody would ever be found there.
    Twice(UserSource),
}

/// The error of the place.
type Cause = Box<dyn Error + Send + Sync>;

impl Users {
    /// Opens places with everything as usual.
    pub fn builder() -> UsersBuilder {
        UsersBuilder {
            keep: Keep::Nothing,
            ignore_case: false,
            remember_for: None,
            addresses: AddressUse::OwnWhereKept,
            create: false,
            first_user: None,
        }
    }

    /// Opens users to be changed; with `create`, a database that there is not is made.
    ///
    /// # Errors
    /// Says what cannot be opened, and why, and which cannot be changed from here.
    pub fn accounts(place: &UserSource, create: bool) -> Result<Accounts<Box<dyn WritableStore>>, OpenError> {
        let opened = match place {
            UserSource::Dovecot(_) | UserSource::Ldap(_) | UserSource::Jwks(_) | UserSource::Passwd(_) => {
                return Err(OpenError::NotWritable(place.clone()));
            }
            UserSource::Postgres(url) => PostgresConfig::from_url(url.expose_secret())
                .map_err(Cause::from)
                .and_then(|config| Ok(Box::new(Postgres::open(config)?) as Box<dyn WritableStore>)),
            UserSource::Sqlite(_) if !create && place.is_new_database() => {
                return Err(OpenError::NoDatabase(place.clone()));
            }
            UserSource::Sqlite(path) => {
                let opened = if create { Sqlite::open_or_create(path) } else { Sqlite::open(path) };
                opened.map(|store| Box::new(store) as _).map_err(Cause::from)
            }
        };
        opened.map(Accounts::new).map_err(|error| OpenError::Open { place: place.clone(), error })
    }

    /// What is asked in each place, in their order.
    #[must_use]
    pub fn members(&self) -> &[Arc<dyn Authenticator>] {
        &self.members
    }

    /// Asks the first place that knows the user.
    #[must_use]
    pub fn authenticator(&self) -> Arc<dyn Authenticator> {
        match self.members.as_slice() {
            [only] => Arc::clone(only),
            members => Arc::new(members.iter().cloned().collect::<Chain>()),
        }
    }

    /// Dovecot, where it is the only place of users: then its own mechanisms can be offered, and left to it.
    #[must_use]
    pub fn dovecot(&self) -> Option<&Dovecot> {
        self.dovecot.as_ref()
    }

    /// From which unknown users' SCRAM salts are to be made, where one of the databases keeps it.
    #[must_use]
    pub fn salt_key(&self) -> Option<SaltKey> {
        self.salt_key.clone()
    }

    /// The iterations that SCRAM is to show for unknown users. They are refused as if they were in the last of the places
    /// that have SCRAM keys, so as many as most keys there have.
    #[must_use]
    pub fn scram_iterations(&self) -> u32 {
        self.scram_iterations
    }

    /// What reads files anew, and forgets.
    #[must_use]
    pub fn refresher(&self) -> Refresher {
        self.refresher.clone()
    }

    /// Those of them in which nobody has an address, nor a name that is one, and all may send from any.
    #[must_use]
    pub fn without_addresses(&self) -> &[UserSource] {
        &self.without_addresses
    }

    /// Those databases in which nobody has an address, nor a name that is one, although users may send from their own only:
    /// as long as nothing else gives them some, they can send nothing. A database that is away is none of them.
    #[must_use]
    pub fn lacking_addresses(&self) -> &[UserSource] {
        &self.lacking_addresses
    }

    /// Gives the user that was made away: whoever takes it has the only copy of the password.
    #[must_use]
    pub fn take_first_user(&mut self) -> Option<FirstUser> {
        self.first_user.take()
    }

    fn add(&mut self, place: &UserSource, options: &UsersBuilder, hashing: &Arc<Hashing>) -> Result<(), Cause> {
        match place {
            UserSource::Dovecot(path) => {
                let settings = Settings::unix(path).service("submission");
                let dovecot = settings.name_certificates(|chain| names_in_certificate(chain).into_iter().next());
                let dovecot = dovecot.connect_or_later()?;
                self.members.push(Arc::new(dovecot.clone()));
                self.dovecot = Some(dovecot);
            }
            UserSource::Ldap(url) => {
                let directory = LdapBuilder::from_url(url.expose())?;
                let needs_attribute = options.addresses != AddressUse::Any && !directory.has_mail_attribute();
                let directory = if needs_attribute { directory.mail_attribute("mail") } else { directory };
                self.members.push(Arc::new(directory.build()?));
            }
            UserSource::Jwks(source) => {
                let rules = source.rules();
                let rules = if options.ignore_case { rules.ignore_case(true) } else { rules };
                self.members.push(Arc::new(Jwt::new(rules, Jwks::file_or_later(source.file())?)?));
            }
            UserSource::Passwd(path) => {
                let store = Arc::new(Passwd::open(path)?);
                self.refresher.passwd.push(Arc::clone(&store));
                self.add_store(store, options, hashing, false)?;
            }
            UserSource::Postgres(url) => {
                let store = Arc::new(Postgres::open_or_later(PostgresConfig::from_url(url.expose_secret())?)?);
                let keeper = Arc::clone(&store);
                // Asked only where it has just answered.
                let is_there = options.addresses != AddressUse::Any && store.known_salt_key().is_some();
                if is_there && matches!(store.has_addresses(), Ok(false)) {
                    self.lacking_addresses.push(place.clone());
                }
                self.salt_key.get_or_insert_with(|| Arc::new(move || keeper.known_salt_key()));
                self.add_store(store, options, hashing, false)?;
            }
            UserSource::Sqlite(path) => {
                let store = Sqlite::open_or_create(path)?;
                let salt_key = store.salt_key()?;
                let salt_key = move || Some(salt_key.expose_secret().into());
                self.salt_key.get_or_insert_with(|| Arc::new(salt_key));
                let optional = options.addresses == AddressUse::OwnWhereKept;
                if options.addresses != AddressUse::Any && !store.has_addresses()? {
                    let places = if optional { &mut self.without_addresses } else { &mut self.lacking_addresses };
                    places.push(place.clone());
                }
                self.add_store(store, options, hashing, optional)?;
            }
        }
        self.remember_last(place, options)
    }

    fn add_store(
        &mut self,
        store: impl Store + 'static,
        options: &UsersBuilder,
        hashing: &Arc<Hashing>,
        addresses_are_optional: bool,
    ) -> Result<(), Cause> {
        if store.answers("SCRAM-SHA-256") != Answers::ForNone {
            self.scram_iterations = store.scram_iterations()?;
        }
        let stored = Stored::new(store)?.keep(options.keep).ignore_case(options.ignore_case);
        let stored = stored.hashing(Arc::clone(hashing)).addresses_are_optional(addresses_are_optional);
        self.members.push(Arc::new(stored));
        Ok(())
    }

    /// Has what the last one says remembered, where that is asked for, and a server is asked.
    fn remember_last(&mut self, place: &UserSource, options: &UsersBuilder) -> Result<(), Cause> {
        if let Some(time) = options.remember_for.filter(|_| place.is_remote())
            && let Some(member) = self.members.pop()
        {
            let cache = remember(member, time)?;
            self.refresher.caches.push(Arc::clone(&cache));
            self.members.push(cache);
        }
        Ok(())
    }
}

impl UsersBuilder {
    /// Which keys logins leave behind, where that is possible. None unless changed.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Whether the case of names is ignored. It is not unless changed. For the engine there is
    /// [`Auth::ignore_case`](sansmtp::Auth::ignore_case).
    pub fn ignore_case(mut self, ignore: bool) -> Self {
        self.ignore_case = ignore;
        self
    }

    /// For how long a password that was right is good without asking, where a server is asked ([`Cache`]). Nothing else is
    /// remembered: a password that was wrong may be right by now. Unless changed, nothing is.
    pub fn remember_for(mut self, time: Option<Duration>) -> Self {
        self.remember_for = time;
        self
    }

    /// What the addresses of users are for: [`AddressUse::OwnWhereKept`] unless changed.
    pub fn addresses(mut self, addresses: AddressUse) -> Self {
        self.addresses = addresses;
        self
    }

    /// Whether an SQLite database is made where there is none. It is not unless changed: a mistyped path would be an empty
    /// one.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Makes a user of this name, with a random password, if a new SQLite database is the only place of users.
    pub fn first_user(mut self, name: impl Into<String>) -> Self {
        self.first_user = Some(name.into());
        self
    }

    /// Opens all places. Servers that are not there, and the file of a JWK Set, are asked later.
    ///
    /// # Errors
    /// Says what cannot be opened, and why.
    pub fn open(self, places: &[UserSource]) -> Result<Users, OpenError> {
        let cannot = |place: &UserSource, error| OpenError::Open { place: place.clone(), error };
        // Whether or not the others are there.
        let before_the_last = places.split_last().map_or(&[][..], |(_, before)| before);
        if let Some(place) = before_the_last.iter().find(|place| matches!(place, UserSource::Dovecot(_))) {
            return Err(OpenError::NotLast(place.clone()));
        }
        if let Some(place) =
            places.iter().enumerate().find_map(|(at, place)| places.iter().take(at).find(|other| *other == place))
        {
            return Err(OpenError::Twice(place.clone()));
        }
        let new = places.iter().find(|place| place.is_new_database());
        let first_user = match (new, places, &self.first_user) {
            (Some(new), ..) if !self.create => return Err(OpenError::NoDatabase(new.clone())),
            (Some(_), [only @ UserSource::Sqlite(path)], Some(name)) => {
                Some(first_start(path, name, self.keep).map_err(|error| cannot(only, error))?)
            }
            _ => None,
        };
        let mut users = Users {
            members: Vec::new(),
            dovecot: None,
            salt_key: None,
            scram_iterations: SCRAM_ITERATIONS,
            refresher: Refresher::default(),
            without_addresses: Vec::new(),
            lacking_addresses: Vec::new(),
            first_user,
        };
        // One limit for all: they share the machine.
        let hashing = Arc::new(Hashing::new());
        for place in places {
            users.add(place, &self, &hashing).map_err(|error| cannot(place, error))?;
        }
        if users.members.len() > 1 {
            users.dovecot = None;
        }
        Ok(users)
    }
}

impl Refresher {
    /// Reads files of users anew if they have changed, and forgets who has logged in.
    pub fn refresh(&self) {
        self.passwd.iter().for_each(|file| file.refresh());
        self.caches.iter().for_each(|cache| cache.forget_all());
        if !self.caches.is_empty() {
            tracing::info!("forgot who has logged in");
        }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, caches) = (self.passwd.len(), self.caches.len());
        f.debug_struct("Refresher").field("files", &files).field("caches", &caches).finish()
    }
}

impl fmt::Debug for FirstUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { place, error } => write!(f, "cannot open {place}: {error}"),
            Self::NoDatabase(place) => write!(f, "there is no user database {place}"),
            Self::NotLast(place) => write!(f, "{place} has to be the last place of users"),
            Self::Twice(place) => write!(f, "{place} is there twice"),
            Self::NotWritable(place) => {
                write!(f, "{place} is not changed from here")?;
                f.write_str(match place {
                    UserSource::Dovecot(_) => ", but where Dovecot has its users",
                    UserSource::Ldap(_) => ": use what the directory is kept with",
                    UserSource::Jwks(_) => ": the authorization server has the users",
                    UserSource::Passwd(_) => ": edit the file, with what \"htpasswd -B\" or \"doveadm pw\" writes",
                    UserSource::Postgres(_) | UserSource::Sqlite(_) => "",
                })
            }
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Open { error, .. } => Some(&**error),
            Self::NoDatabase(_) | Self::NotLast(_) | Self::NotWritable(_) | Self::Twice(_) => None,
        }
    }
}

fn remember(authenticator: Arc<dyn Authenticator>, time: Duration) -> io::Result<Arc<Cache<Arc<dyn Authenticator>>>> {
    let limits = CacheLimits { accepted_for: time, refused: 0, ..CacheLimits::default() };
    Cache::new(authenticator, limits).map(Arc::new)
}

/// On the first start, makes the database with one user and a random password, to be shown once.
fn first_start(path: &Path, name: &str, keep: Keep) -> Result<FirstUser, Cause> {
    let accounts = Accounts::new(Sqlite::open_or_create(path)?);
    let password = accounts.add_with_random_password(name, keep)?;
    Ok(FirstUser { name: name.to_owned(), password })
}

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
            let open = || Users::builder().keep(keep).create(true).first_user("user").open(&sqlite(&path)).unwrap();
            let mut first = open();
            let user = first.take_first_user().unwrap();
            assert!(user.password.len() >= 24);
            assert!(!format!("{user:?} {first:?}").contains(user.password.as_str()));
            let database = rusqlite::Connection::open(&path).unwrap();
            let row = database.query_row("SELECT name, cram_md5 IS NOT NULL FROM user", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?))
            });
            assert_eq!(row.unwrap(), ("user".to_owned(), has_cram_md5));
            let password = user.password.clone();
            drop((first, database));
            assert!(open().take_first_user().is_none());
            let octets = std::fs::read(&path).unwrap();
            assert!(!octets.windows(password.len()).any(|window| window == password.as_bytes()));
        }
    }

    #[test]
    fn a_database_among_others_is_made_empty() {
        let directory = tempfile::tempdir().unwrap();
        let (passwd, database) = (directory.path().join("users"), directory.path().join("mail.db"));
        std::fs::write(&passwd, "").unwrap();
        let places = [UserSource::Passwd(passwd), UserSource::Sqlite(database.clone())];
        let error = Users::builder().open(&places).unwrap_err();
        assert!(matches!(&error, OpenError::NoDatabase(place) if *place == places[1]), "{error}");
        let mut users = Users::builder().create(true).first_user("user").open(&places).unwrap();
        assert!(users.take_first_user().is_none() && users.salt_key().is_some() && users.members().len() == 2);
        assert_eq!((users.without_addresses(), users.lacking_addresses()), (&places[1..], &[][..]));
        assert!(Users::accounts(&places[1], false).unwrap().list().unwrap().is_empty());
        let own = Users::builder().addresses(AddressUse::Own).open(&places).unwrap();
        assert_eq!((own.without_addresses(), own.lacking_addresses()), (&[][..], &places[1..]));
        let any = Users::builder().addresses(AddressUse::Any).open(&places).unwrap();
        assert_eq!((any.without_addresses(), any.lacking_addresses()), (&[][..], &[][..]));
        Users::accounts(&places[1], false).unwrap().add("tim@example.org", b"pw", Keep::Nothing).unwrap();
        let own = Users::builder().addresses(AddressUse::Own).open(&places).unwrap();
        assert!(own.lacking_addresses().is_empty());
    }

    #[test]
    fn dovecot_is_the_last_and_nobody_is_made_unless_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mail.db");
        let places = [UserSource::Dovecot("socket".into()), UserSource::Sqlite(path.clone())];
        let error = Users::builder().create(true).open(&places).unwrap_err().to_string();
        assert_eq!(error, "dovecot:socket has to be the last place of users");
        let mut users = Users::builder().create(true).open(&sqlite(&path)).unwrap();
        assert!(users.take_first_user().is_none() && users.dovecot().is_none());
        assert!(Users::accounts(&sqlite(&path)[0], false).unwrap().list().unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_opened_or_changed_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        std::fs::write(&path, "sEcReT\n").unwrap();
        let open = |place: &UserSource| Users::builder().open(std::slice::from_ref(place)).unwrap_err().to_string();
        let place = UserSource::Passwd(path);
        let error = open(&place);
        assert!(error.contains("passwd:/") && error.contains("line 1: ") && !error.contains("sEcReT"), "{error}");
        let change = |place: &UserSource, create| Users::accounts(place, create).err().unwrap().to_string();
        assert!(change(&place, true).contains("htpasswd"));
        let keys = directory.path().join("jwks.json");
        let text = format!("jwks:{}?issuer=a&audience=b", keys.display());
        let place = UserSource::parse(text.as_ref()).unwrap();
        for (content, why) in [("{}", "no JWK Set: line 1"), ("{\"keys\":[]}", "no key")] {
            std::fs::write(&keys, content).unwrap();
            let error = open(&place);
            assert!(error.contains("cannot open jwks:/") && error.contains(why), "{error}");
        }
        assert!(change(&place, true).contains("authorization server"));
        let twice = [place.clone(), place.clone()];
        assert_eq!(Users::builder().open(&twice).unwrap_err().to_string(), format!("{place} is there twice"));
        let none = &sqlite(&directory.path().join("none"))[0];
        assert!(open(none).contains("there is no user database /"));
        assert!(change(none, false).contains("there is no user database /"));
    }
}
