//! Users in a text file of `user:hash` lines.
//!
//! ```text
//! # What htpasswd, doveadm, mkpasswd and PostgreSQL write.
//! tim:$2y$05$0L9PeCB8KMXaEpmUukJNBOmyBHiti19ZCLBmkohIBDydWq6dKc2w6
//! alice@example.org:{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$…
//! bob:$6$…
//! carol:SCRAM-SHA-256$4096:…
//! dave:!$2y$05$…
//! ```
//!
//! - The name ends at the first colon. It is prepared as a login's is (RFC 4013), so it may have a space inside, but no
//!   colon.
//! - The hash is whatever [`PasswordHash`](crate::stored::PasswordHash) reads. It ends at the next colon; SCRAM keys in
//!   PostgreSQL's form have two of their own. **What follows is ignored**, as in a `passwd` file, also what Dovecot calls
//!   extra fields.
//! - With `!` or `*` in front of the hash, or in its place, the user is disabled, as in `/etc/shadow`.
//! - Empty lines and those that begin with `#` are comments. Lines end with LF or CRLF, and the last need not.
//! - A name may stand there only once.
//! - A line that cannot be used, with a hash of a scheme that is [not taken](crate::stored::InvalidHash) for example, is an
//!   error in the log, which names it by its number and shows nothing of it. Logins of the name that it has, or of a name that
//!   stands there twice, are `454 4.7.0`; all others are as they would be without it.
//!
//! Whoever has SCRAM keys there can log in by that mechanism, and by PLAIN and LOGIN; whoever has a CRAM-MD5 key
//! likewise. Others can log in by PLAIN and LOGIN only: nothing is ever written into the file.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("users");
//! # std::fs::write(&path, "tim:$2y$05$0L9PeCB8KMXaEpmUukJNBOmyBHiti19ZCLBmkohIBDydWq6dKc2w6\n")?;
//! use sansmtp_authenticators::passwd::Passwd;
//! use sansmtp_authenticators::stored::Stored;
//!
//! let authenticator = Stored::new(Passwd::open(&path)?)?;
//! # let _ = authenticator;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Answers;
use crate::stored::{SAMPLE, SCRAM_ITERATIONS, Store, StoreError, StoredUser};

mod error;
mod file;
mod lines;

pub use error::{PasswdError, WrongLine};

use file::Seen;
use lines::Users;

/// Users in a text file, which is read again when it has changed.
///
/// Each look-up sees whether the file is still the one that was read, by its times, its size and its inode: a change
/// holds from the next login on. Replace the file by renaming another to its name, as most tools do; one that is
/// written in place may be read when half of it is there.
///
/// A changed file that cannot be read, or is no file of users, as no line of it names anybody, is an error in the log, and
/// the users stay as they were.
pub struct Passwd {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    users: Arc<Users>,
    /// The file from which the users are, or the one that could not be read after that.
    seen: Seen,
    /// Whether a thread is reading the file. The others do not wait for it.
    reading: bool,
}

impl Passwd {
    /// Reads a file, of at most 64 MiB.
    ///
    /// # Errors
    /// Where it cannot be read, and [`PasswdError::Line`] with the number of the first line that is wrong, where there are
    /// such lines and no user.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, PasswdError> {
        let path = path.into();
        let (users, seen) = read(&path);
        let users = Arc::new(users?);
        tell_wrong_lines(&path, &users);
        if seen.is_readable_by_everyone() {
            tracing::warn!(path = %path.display(), "everybody on this machine can read the hashes of passwords");
        }
        Ok(Self { path, state: Mutex::new(State { users, seen, reading: false }) })
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file now if it has changed, rather than at the next login, so that the log tells now what is wrong with
    /// it. This waits for the disk.
    pub fn refresh(&self) {
        self.users();
    }

    /// The users, those of the changed file if it has changed.
    fn users(&self) -> Arc<Users> {
        let mut state = self.lock();
        if state.reading || state.seen.is_current(&self.path) {
            return Arc::clone(&state.users);
        }
        state.reading = true;
        drop(state);
        // Whatever happens while it is read, the next one may read it.
        let mut reading = Reading { passwd: self, done: false };
        let (users, seen) = read(&self.path);
        let mut state = self.lock();
        state.reading = false;
        reading.done = true;
        let changed = !seen.is_same(&state.seen);
        state.seen = seen;
        match users {
            Ok(users) => {
                state.users = Arc::new(users);
                if changed {
                    tracing::info!(path = %self.path.display(), users = state.users.len(), "read the changed file");
                    tell_wrong_lines(&self.path, &state.users);
                }
            }
            Err(error) if changed => {
                tracing::error!(path = %self.path.display(), %error, "cannot use the changed file; users stay as they were");
            }
            Err(_) => {}
        }
        Arc::clone(&state.users)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each field is replaced at once.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the next one read after a panic.
struct Reading<'a> {
    passwd: &'a Passwd,
    done: bool,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.passwd.lock().reading = false;
        }
    }
}

impl Store for Passwd {
    fn find(&self, name: &str) -> Result<Option<StoredUser>, StoreError> {
        self.users().find(name).map_err(StoreError::new)
    }

    fn names_in_any_case(&self, name: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.users().names_in_any_case(name))
    }

    fn sample(&self) -> Result<Vec<StoredUser>, StoreError> {
        Ok(self.users().sample(SAMPLE))
    }

    fn scram_iterations(&self) -> Result<u32, StoreError> {
        Ok(self.users().scram_iterations().unwrap_or(SCRAM_ITERATIONS))
    }

    fn answers(&self, mechanism: &str) -> Answers {
        self.users().answers(mechanism)
    }
}

impl fmt::Debug for Passwd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwd").field("path", &self.path).finish_non_exhaustive()
    }
}

fn tell_wrong_lines(path: &Path, users: &Users) {
    let (first, lines) = users.wrong();
    for (number, wrong) in first {
        tracing::error!(path = %path.display(), "line {number} cannot be used, and whoever it names cannot log in: {wrong}");
    }
    if lines > first.len() {
        tracing::error!(path = %path.display(), lines, "more lines cannot be used");
    }
}

fn read(path: &Path) -> (Result<Users, PasswdError>, Seen) {
    let (text, seen) = file::read(path);
    (text.and_then(|text| Users::read(&text)), seen)
}

#[cfg(test)]
mod tests;
