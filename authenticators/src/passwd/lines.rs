//! The lines of a file of users.

use std::collections::{BTreeMap, HashMap};

use sansmtp::auth::ScramHash;
use zeroize::Zeroizing;

use super::{PasswdError, WrongLine};
use crate::Answers;
use crate::stored::{Needed, PasswordHash, StoredUser, is_in_any_case, prepare_name};

/// The users of a file.
#[derive(Default)]
pub(super) struct Users {
    by_name: HashMap<String, User>,
    kinds: Kinds,
    /// The first of the lines that cannot be used, with their numbers.
    wrong: Vec<(usize, WrongLine)>,
    wrong_lines: usize,
}

struct User {
    line: usize,
    disabled: bool,
    hash: Option<Zeroizing<String>>,
    /// The line, or a second one of the same user, cannot be used. Then there is no hash.
    wrong: Option<(usize, WrongLine)>,
}

/// How many of the users who may log in there are, and what is kept of their passwords.
#[derive(Default)]
struct Kinds {
    users: usize,
    scram: [usize; 3],
    cram_md5: usize,
    /// How often each number of iterations is there.
    iterations: BTreeMap<u32, usize>,
}

impl Users {
    /// Reads all lines that can be used. Where there are others only, and none of them names anybody, it is no file of
    /// users.
    pub(super) fn read(text: &[u8]) -> Result<Self, PasswdError> {
        let mut users = Self::default();
        for (number, line) in (1..).zip(text.split(|octet| *octet == b'\n')) {
            if let Err(wrong) = users.add(number, line) {
                users.wrong_lines += 1;
                if users.wrong.len() < MOST_TOLD {
                    users.wrong.push((number, wrong));
                }
            }
        }
        match users.wrong.first() {
            Some(&(number, wrong)) if users.by_name.is_empty() => Err(PasswdError::Line { number, wrong }),
            _ => Ok(users),
        }
    }

    /// The first of the lines that cannot be used, and how many there are in all.
    pub(super) fn wrong(&self) -> (&[(usize, WrongLine)], usize) {
        (&self.wrong, self.wrong_lines)
    }

    fn add(&mut self, number: usize, line: &[u8]) -> Result<(), WrongLine> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first().is_none_or(|first| *first == b'#') {
            return Ok(());
        }
        let line = std::str::from_utf8(line).map_err(|_| WrongLine::Utf8)?;
        let (name, rest) = line.split_once(':').ok_or(WrongLine::NoColon)?;
        let name = prepare_name(name).map_err(WrongLine::Name)?;
        if let Some(user) = self.by_name.get_mut(&name) {
            // Which of the two is meant cannot be told: the other may be the password that was taken away.
            let wrong = WrongLine::Duplicate { first: user.line };
            (user.hash, user.wrong) = (None, Some((number, wrong)));
            return Err(wrong);
        }
        let field = hash_field(rest);
        let text = field.trim_start_matches(['!', '*']);
        let disabled = text.len() < field.len();
        let hash: Result<Option<PasswordHash>, WrongLine> = match text {
            "" if disabled => Ok(None),
            "" => Err(WrongLine::NoHash),
            text => text.parse().map(Some).map_err(WrongLine::Hash),
        };
        if !disabled && let Ok(Some(hash)) = &hash {
            self.kinds.count(hash);
        }
        let (hash, result) = match hash {
            Ok(hash) => (hash.map(|_| Zeroizing::new(text.to_owned())), Ok(())),
            Err(wrong) => (None, Err(wrong)),
        };
        let wrong = result.err().map(|wrong| (number, wrong));
        self.by_name.insert(name, User { line: number, disabled, hash, wrong });
        result
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// # Errors
    /// Where the user's line cannot be used.
    pub(super) fn find(&self, name: &str) -> Result<Option<StoredUser>, PasswdError> {
        let Some(user) = self.by_name.get(name) else { return Ok(None) };
        match user.wrong {
            Some((number, wrong)) => Err(PasswdError::Line { number, wrong }),
            None => Ok(Some(StoredUser::new(name, user.disabled).with_password(user.hash.clone()))),
        }
    }

    pub(super) fn names_in_any_case(&self, name: &str) -> Vec<String> {
        self.by_name.keys().filter(|known| is_in_any_case(known, name)).cloned().collect()
    }

    /// So many users with a hash, from all over the file.
    pub(super) fn sample(&self, users: usize) -> Vec<StoredUser> {
        let step = self.by_name.len().checked_div(users).unwrap_or(1).max(1);
        let with_hash = self.by_name.iter().filter(|(_, user)| user.hash.is_some());
        with_hash.step_by(step).filter_map(|(name, _)| self.find(name).ok().flatten()).collect()
    }

    /// The most frequent number of iterations of SCRAM keys.
    pub(super) fn scram_iterations(&self) -> Option<u32> {
        self.kinds.iterations.iter().max_by_key(|(_, count)| **count).map(|(iterations, _)| *iterations)
    }

    pub(super) fn answers(&self, mechanism: &str) -> Answers {
        let [sha1, sha256, sha512] = self.kinds.scram;
        let those = match Needed::by(mechanism) {
            Needed::Password | Needed::Certificate => return Answers::ForAll,
            Needed::Scram(ScramHash::Sha1) => sha1,
            Needed::Scram(ScramHash::Sha256) => sha256,
            Needed::Scram(ScramHash::Sha512) => sha512,
            Needed::CramMd5 => self.kinds.cram_md5,
            Needed::Token | Needed::Other => 0,
        };
        match those {
            0 => Answers::ForNone,
            those if those == self.kinds.users => Answers::ForAll,
            _ => Answers::ForSome,
        }
    }
}

impl Kinds {
    fn count(&mut self, hash: &PasswordHash) {
        self.users += 1;
        self.cram_md5 += usize::from(hash.cram_md5_key().is_some());
        if let Some(keys) = hash.scram_keys() {
            let [sha1, sha256, sha512] = &mut self.scram;
            *match keys.hash() {
                ScramHash::Sha1 => sha1,
                ScramHash::Sha256 => sha256,
                ScramHash::Sha512 => sha512,
            } += 1;
            *self.iterations.entry(keys.iterations()).or_default() += 1;
        }
    }
}

/// How many lines that cannot be used are told of.
const MOST_TOLD: usize = 10;

/// What is in front of the next colon that is not part of the hash.
fn hash_field(rest: &str) -> &str {
    // `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`
    let own = if rest.trim_start_matches(['!', '*']).starts_with("SCRAM-") { 2 } else { 0 };
    let end = rest.match_indices(':').nth(own).map(|(at, _)| at);
    rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest)
}
