//! What an authenticator said a short while ago.

mod mark;
mod store;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sansmtp::auth::AuthQuestion;
use sansmtp::{AuthRequest, AuthResult, Refusal};

use self::mark::{Mark, Marker};
use self::store::{Names, Store};
use crate::{Addresses, Answers, Authenticator, Knows};

/// How much a [`Cache`] remembers, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// How many logins that were right: 8,192 unless changed, of some 500 octets each.
    pub accepted: usize,
    /// How long a password is good without asking: 5 minutes unless changed. So long it may be good after it was
    /// changed, or its user disabled, where nobody calls [`Cache::forget`].
    pub accepted_for: Duration,
    /// How many that were wrong: 8,192 unless changed. They have places of their own, so that wrong passwords push
    /// out nothing but others.
    pub refused: usize,
    /// How long a password is wrong without asking: 10 seconds unless changed. So long it may be refused after it
    /// was made the right one.
    pub refused_for: Duration,
    /// How long a bearer token is good without asking, and so, how long it may be good after it has expired or was
    /// revoked. Unless changed, none: tokens are not remembered, the right ones nor the wrong ones.
    pub token_for: Duration,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            accepted: 8_192,
            accepted_for: Duration::from_secs(5 * 60),
            refused: 8_192,
            refused_for: Duration::from_secs(10),
            token_for: Duration::ZERO,
        }
    }
}

/// Remembers for a short while what an authenticator said, and does not ask again.
///
/// It spares the hash where clients log in for every message, and gets them through a short outage. What it remembers
/// are yes and no to passwords, and to bearer tokens where [asked for](CacheLimits::token_for): each with everything
/// that the result had (login, data, message). Everything else is passed on, and what could
/// [not be told](AuthResult::cannot_tell) is asked again.
///
/// A "no" holds for the very password that was wrong, never for its user: the right one is not refused because of it.
/// Failed logins count as ever, since the engine counts them itself; what counts beside it, and whatever looks at the
/// address of the client, goes around the cache, not into it: `Attempts(Cache(Database))`.
///
/// Those of a user are dropped when another password of theirs is accepted, when the authenticator says that there is
/// no such user (any more) or that they are disabled, and by [`forget`](Self::forget).
///
/// ```
/// use sansmtp_authenticators::{Authenticator, Cache, CacheLimits};
///
/// fn with_cache(directory: impl Authenticator) -> std::io::Result<impl Authenticator> {
///     Cache::new(directory, CacheLimits::default())
/// }
/// ```
///
/// # What is in memory
///
/// No password: an HMAC-SHA-256 of it, and of everything that belongs to it, under a random key of this cache. This is
/// quick to compute on purpose, or nothing would be gained. It is as good as random to everybody who does not have
/// the key; but the key is in the same memory, and who reads that (from a core dump, from swap) can try some
/// billion passwords a second against the users of the last five minutes, where the database's own hash would let them
/// try some dozens. They could read the passwords themselves as they come in, too. Where that is more than is
/// acceptable, do not use a cache; a short [`accepted_for`](CacheLimits::accepted_for) makes it less. What is dropped
/// is overwritten.
pub struct Cache<A> {
    inner: A,
    marker: Marker,
    /// For names, of which nothing needs to be remembered but whether they are the same.
    names: RandomState,
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    limits: CacheLimits,
    state: Mutex<State>,
}

struct State {
    accepted: Store,
    tokens: Store,
    refused: Store,
    /// Goes up when something is forgotten: what was asked before then is not remembered.
    generation: u64,
}

impl<A: Authenticator> Cache<A> {
    /// Remembers what `inner` says.
    ///
    /// # Errors
    ///
    /// The operating system has no random octets for the key.
    pub fn new(inner: A, limits: CacheLimits) -> io::Result<Self> {
        let started = Instant::now();
        Ok(Self {
            inner,
            marker: Marker::new()?,
            names: RandomState::new(),
            clock: Box::new(move || started.elapsed()),
            limits,
            state: Mutex::new(State {
                accepted: Store::new(limits.accepted, limits.accepted_for),
                tokens: Store::new(limits.accepted, limits.token_for),
                refused: Store::new(limits.refused, limits.refused_for),
                generation: 0,
            }),
        })
    }

    /// Takes the time from `clock`, which tells the time since some moment before, and must not run backwards.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Forgets what it remembers of a user, whether by the name that the client gave or by the login that the
    /// authenticator made of it, in any letter case: to be called when the password changes, and when the user is
    /// disabled or deleted. What is being asked at this moment is not remembered.
    pub fn forget(&self, user: &str) {
        let name = self.name(user);
        let mut state = self.lock();
        state.forget(name);
        state.generation += 1;
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        let mut state = self.lock();
        let State { accepted, tokens, refused, generation } = &mut *state;
        for store in [accepted, tokens, refused] {
            store.clear();
        }
        *generation += 1;
    }

    /// The authenticator that it asks.
    pub fn inner(&self) -> &A {
        &self.inner
    }

    /// What this is remembered by, if it is to be remembered at all.
    fn mark(&self, request: &AuthRequest) -> Option<Mark> {
        let is_token = matches!(request.question(), AuthQuestion::BearerToken(_));
        if is_token && self.limits.token_for.is_zero() { None } else { self.marker.mark(request) }
    }

    fn remember(&self, request: &AuthRequest, mark: Mark, result: &AuthResult, asked: Asked) {
        let is_password = matches!(request.question(), AuthQuestion::Password(_));
        // Only a password is asked about a user: a token that is nobody's says nothing of the one who was named.
        let authcid = Some(request.credentials().authcid()).filter(|authcid| is_password && !authcid.is_empty());
        let names =
            Names { authcid: authcid.map(|name| self.name(name)), login: result.login().map(|login| self.name(login)) };
        let mut state = self.lock();
        if state.generation != asked.generation {
            return;
        }
        // Another answer that came while this one was awaited: nobody knows which of them is the later, and neither is
        // remembered.
        if result.success() {
            if state.refused.remove(&mark) {
                return;
            }
            if is_password {
                state.accepted.remove_other_passwords(names, &mark);
                state.accepted.insert(mark, names, result.clone(), asked.at);
            } else {
                state.tokens.insert(mark, names, result.clone(), asked.at);
            }
            return;
        }
        match result.refusal() {
            Some(Refusal::BadCredentials) => {}
            Some(Refusal::UnknownUser | Refusal::Disabled) => {
                let dropped = names.each().map(|name| state.forget_accepted(name)).sum::<usize>();
                state.generation += u64::from(dropped > 0);
            }
            // These are not about the password alone, or no answer.
            Some(_) | None => return,
        }
        if !state.accepted.remove(&mark) && !state.tokens.remove(&mark) {
            state.refused.insert(mark, names, result.clone(), asked.at);
        }
    }

    /// The same for the same name, in whatever case it is written: to forget too much does no harm.
    fn name(&self, name: &str) -> u64 {
        self.names.hash_one(name.to_lowercase())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the authenticator was asked.
#[derive(Clone, Copy)]
struct Asked {
    at: Duration,
    generation: u64,
}

impl State {
    fn find(&mut self, mark: &Mark, now: Duration) -> Option<&AuthResult> {
        [&mut self.accepted, &mut self.tokens, &mut self.refused].into_iter().find_map(|store| store.find(mark, now))
    }

    fn forget(&mut self, name: u64) {
        self.forget_accepted(name);
        self.refused.remove_named(name);
    }

    /// How many there were.
    fn forget_accepted(&mut self, name: u64) -> usize {
        self.accepted.remove_named(name) + self.tokens.remove_named(name)
    }
}

impl<A: Authenticator> Authenticator for Cache<A> {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let Some(mark) = self.mark(request) else { return self.inner.authenticate(request) };
        let at = (self.clock)();
        let asked = {
            let mut state = self.lock();
            if let Some(result) = state.find(&mark, at) {
                return result.clone();
            }
            Asked { at, generation: state.generation }
        };
        let result = self.inner.authenticate(request);
        self.remember(request, mark, &result, asked);
        result
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        let Some(mark) = self.mark(request) else { return self.inner.knows(request) };
        let unknown = {
            let now = (self.clock)();
            self.lock().find(&mark, now).map(|result| result.refusal() == Some(Refusal::UnknownUser))
        };
        match unknown {
            Some(true) => Knows::No,
            Some(false) => Knows::Yes,
            None => self.inner.knows(request),
        }
    }

    fn answers(&self, mechanism: &str) -> Answers {
        self.inner.answers(mechanism)
    }

    /// Not remembered; those that have come with a login are.
    fn addresses(&self, login: &str) -> Addresses {
        self.inner.addresses(login)
    }
}

impl<A> fmt::Debug for Cache<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("limits", &self.limits).finish_non_exhaustive()
    }
}
