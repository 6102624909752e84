//! The keys of an authorization server, which change.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use std::{error, fmt};

use super::flaw::Flaw;
use super::jwk::Keys;
use super::jws::Jws;

/// The public keys of an authorization server: a JWK Set (RFC 7517, section 5), of which RSA keys of 2,048 to 8,192
/// bits sign with RS256, P-256 keys with ES256, and Ed25519 keys with EdDSA. Keys of other kinds, and those whose
/// `use`, `key_ops` or `alg` is for something else, are passed over.
///
/// Clones are the same set. The file, or what the embedder gets from the server's `jwks_uri`, is read again when a
/// token names a key that is not there, but not more than twice a minute. What is worse than what was there before is
/// an error in the log, and changes nothing.
#[derive(Clone)]
pub struct Jwks {
    inner: Arc<Inner>,
}

struct Inner {
    keys: RwLock<Arc<Keys>>,
    source: Option<Source>,
    read: Mutex<LastRead>,
}

enum Source {
    File(PathBuf),
    Fetch(Box<Fetch>),
}

type Fetch = dyn Fn() -> Result<Vec<u8>, Box<dyn error::Error + Send + Sync>> + Send + Sync;

/// What is known of the source.
struct LastRead {
    /// When it was last looked at for a change.
    looked: Instant,
    /// When it was last read because of an unknown key.
    forced: Option<Instant>,
    /// Whether the last time that it was read was in vain.
    failed: bool,
    version: Option<Version>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    octets: u64,
    #[cfg(unix)]
    inode: u64,
}

/// A set that cannot be used, whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum JwksError {
    /// Two keys have the same `kid`; this is the second (from 0).
    DuplicateKid {
        /// Its place in the set.
        index: usize,
    },
    /// What should get it failed.
    Fetch(Box<dyn error::Error + Send + Sync>),
    /// The file cannot be read.
    Io(io::Error),
    /// No key in it is one that is used.
    NoUsableKey,
    /// A key is private (from 0). Who signs tokens has it, and nobody else.
    PrivateKey {
        /// Its place in the set.
        index: usize,
    },
    /// It is no JSON, or no JWK Set. What is there instead is not shown: it may be another file, with secrets in it.
    Syntax {
        /// Where it is no longer one, from 1.
        line: usize,
        /// In that line.
        column: usize,
    },
    /// It has more than 256 KiB.
    TooLarge,
}

impl Jwks {
    /// A set from its JSON; another one comes by [`replace`](Self::replace) only.
    ///
    /// # Errors
    ///
    /// [`JwksError`], if it cannot be used.
    pub fn from_json(content: &[u8]) -> Result<Self, JwksError> {
        Self::new(content, None, None)
    }

    /// A set from a file, which is read again when it changes: it is looked at once a second, at most.
    ///
    /// # Errors
    ///
    /// [`JwksError`], if it cannot be read, or used.
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, JwksError> {
        let path = path.into();
        let (content, version) = read_file(&path)?;
        Self::new(&content, Some(Source::File(path)), Some(version))
    }

    /// As [`file`](Self::file), or where there is no such file yet, a set that has no key until there is one, with a warning
    /// in the log: until then tokens are `454 4.7.0`.
    ///
    /// # Errors
    ///
    /// [`JwksError`], if it is there and cannot be read, or used.
    pub fn file_or_later(path: impl Into<PathBuf>) -> Result<Self, JwksError> {
        let path = path.into();
        match Self::file(&path) {
            Err(JwksError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                let path_shown = path.display();
                tracing::warn!(path = %path_shown, %error, "the keys of the tokens are not there; until they are, tokens are refused for now (454)");
                let read = LastRead { looked: Instant::now(), forced: None, failed: true, version: None };
                let (keys, source) = (RwLock::default(), Some(Source::File(path)));
                Ok(Self { inner: Arc::new(Inner { keys, source, read: Mutex::new(read) }) })
            }
            result => result,
        }
    }

    /// A set that `fetch` gets, from the server's `jwks_uri` for example: at once, and when a token names a key that
    /// is not there. It may block, for a limited time, in which those that wait for the key do so, too.
    ///
    /// # Errors
    ///
    /// [`JwksError`], if it cannot be had, or used.
    pub fn fetched<F>(fetch: F) -> Result<Self, JwksError>
    where
        F: Fn() -> Result<Vec<u8>, Box<dyn error::Error + Send + Sync>> + Send + Sync + 'static,
    {
        let content = fetch().map_err(JwksError::Fetch)?;
        Self::new(&content, Some(Source::Fetch(Box::new(fetch))), None)
    }

    /// Takes another set in place of the one that there is.
    ///
    /// # Errors
    ///
    /// [`JwksError`], if it cannot be used; the one that there is stays.
    pub fn replace(&self, content: &[u8]) -> Result<(), JwksError> {
        let keys = Keys::read(content)?;
        *self.inner.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    /// Checks a token's signature. `None` where the key may be one that cannot be had at the moment.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Option<Result<(), Flaw>> {
        self.look();
        let keys = self.keys();
        match keys.verify(jws) {
            Err(Flaw::KeyUnknown) => match self.read_again(&keys) {
                Again::Read => Some(self.keys().verify(jws)),
                Again::NotYet => Some(Err(Flaw::KeyUnknown)),
                Again::Failed => None,
            },
            verified => Some(verified),
        }
    }

    fn new(content: &[u8], source: Option<Source>, version: Option<Version>) -> Result<Self, JwksError> {
        if content.len() > MAX_OCTETS {
            return Err(JwksError::TooLarge);
        }
        let read = LastRead { looked: Instant::now(), forced: None, failed: false, version };
        let keys = RwLock::new(Arc::new(Keys::read(content)?));
        Ok(Self { inner: Arc::new(Inner { keys, source, read: Mutex::new(read) }) })
    }

    fn keys(&self) -> Arc<Keys> {
        self.inner.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads a file again that has changed.
    fn look(&self) {
        let Some(Source::File(path)) = &self.inner.source else { return };
        let mut read = self.lock();
        if read.looked.elapsed() < LOOK_EVERY {
            return;
        }
        read.looked = Instant::now();
        let version = std::fs::metadata(path).ok().map(|metadata| Version::of(&metadata));
        if version.is_none() || version != read.version {
            self.read(&mut read);
        }
    }

    /// Reads the source again for a key that is not in `keys`, if that was not tried a short while ago.
    fn read_again(&self, keys: &Arc<Keys>) -> Again {
        if self.inner.source.is_none() {
            return Again::NotYet;
        }
        // Who waits here for somebody else's reading finds that it has just been done.
        let mut read = self.lock();
        if read.forced.is_none_or(|forced| forced.elapsed() >= FORCE_EVERY) {
            read.forced = Some(Instant::now());
            self.read(&mut read);
        } else if !read.failed && Arc::ptr_eq(keys, &self.keys()) {
            return Again::NotYet;
        }
        if read.failed { Again::Failed } else { Again::Read }
    }

    /// Reads the source, and keeps what there is where that fails.
    fn read(&self, read: &mut LastRead) {
        let content = match &self.inner.source {
            Some(Source::File(path)) => read_file(path).map(|(content, version)| (content, Some(version))),
            Some(Source::Fetch(fetch)) => fetch().map(|content| (content, None)).map_err(JwksError::Fetch),
            None => return,
        };
        // What cannot be read at all is looked at again; what is bad, not before it changes.
        read.version = None;
        let replaced = content.and_then(|(content, version)| {
            read.version = version;
            if content.len() > MAX_OCTETS { Err(JwksError::TooLarge) } else { self.replace(&content) }
        });
        if replaced.is_ok() && read.failed {
            tracing::info!("read the keys of the tokens");
        }
        if let Err(error) = &replaced {
            // Once, and not for every look at what stays as it is.
            if !read.failed {
                tracing::warn!(%error, "the keys of the tokens cannot be read again, and stay as they were");
            }
        }
        read.failed = replaced.is_err();
    }

    fn lock(&self) -> MutexGuard<'_, LastRead> {
        self.inner.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Again {
    Read,
    NotYet,
    Failed,
}

impl Version {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            modified: metadata.modified().ok(),
            octets: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(metadata),
        }
    }
}

/// The version is that of what was read, or an earlier one.
fn read_file(path: &Path) -> Result<(Vec<u8>, Version), JwksError> {
    let file = File::open(path)?;
    let version = Version::of(&file.metadata()?);
    let mut content = Vec::new();
    file.take(u64::try_from(MAX_OCTETS).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut content)?;
    Ok((content, version))
}

impl From<io::Error> for JwksError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<serde_json::Error> for JwksError {
    fn from(error: serde_json::Error) -> Self {
        Self::Syntax { line: error.line(), column: error.column() }
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("keys", &self.keys()).finish_non_exhaustive()
    }
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateKid { index } => write!(f, "key {index} of the JWK Set has the kid of another one"),
            Self::Fetch(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::NoUsableKey => f.write_str(
                "the JWK Set has no key to verify signatures with RS256 (of 2,048 bits or more), ES256 or EdDSA",
            ),
            Self::PrivateKey { index } => write!(f, "key {index} of the JWK Set is private"),
            Self::Syntax { line, column } => write!(f, "no JWK Set: line {line}, column {column}"),
            Self::TooLarge => write!(f, "the JWK Set has more than {MAX_OCTETS} octets"),
        }
    }
}

impl error::Error for JwksError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Fetch(error) => error.source(),
            Self::Io(error) => error.source(),
            Self::DuplicateKid { .. }
            | Self::NoUsableKey
            | Self::PrivateKey { .. }
            | Self::Syntax { .. }
            | Self::TooLarge => None,
        }
    }
}

/// How often a file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a token with a key that nobody knows makes the source be read.
const FORCE_EVERY: Duration = Duration::from_secs(30);

const MAX_OCTETS: usize = 256 * 1024;
