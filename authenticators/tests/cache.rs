//! A cache: what it remembers, for how long, and what it forgets.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sansmtp::auth::{AttemptLimits, AuthQuestion, MemoryAttemptLog};
use sansmtp::{Auth, AuthRequest, AuthResult, Refusal, TlsInfo, TlsVersion};
use sansmtp_authenticators::{Authenticator, Cache, CacheLimits, Chain, Knows};
use support::battery::{Backend, USERS, battery};
use support::login::{Door, auth, auth_as, auth_over, offer, xoauth2};
use support::scripted::{Asked, Scripted, Users, looked_up};

/// A clock that stands still until it is told otherwise.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn forward(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

const LIMITS: CacheLimits = CacheLimits {
    accepted: 100,
    accepted_for: Duration::from_secs(300),
    refused: 20,
    refused_for: Duration::from_secs(10),
    token_for: Duration::ZERO,
};

fn cache<A: Authenticator>(inner: A, limits: CacheLimits) -> (Cache<A>, Clock) {
    let clock = Clock::default();
    let millis = clock.0.clone();
    let cache = Cache::new(inner, limits).unwrap();
    (cache.with_clock(move || Duration::from_millis(millis.load(Ordering::SeqCst))), clock)
}

fn users() -> (Cache<Users>, Clock) {
    cache(Users::new(&USERS, looked_up), LIMITS)
}

fn plain(authzid: &str, user: &str, password: &str) -> String {
    format!("PLAIN {}", BASE64_STANDARD.encode(format!("{authzid}\0{user}\0{password}")))
}

/// SASLprep makes the same of both, but only who is asked knows which of them is right.
#[test]
fn what_was_said_of_one_form_of_a_password_is_not_said_of_another() {
    let (cache, _) = cache(Users::new(&[("tim", "m²")], looked_up), LIMITS);
    for (password, code, asked) in
        [("m²", 235, 1), ("m2", 535, 1), ("m²", 235, 0), ("m2", 535, 0), ("m\u{2072}", 535, 1), ("m²", 235, 0)]
    {
        assert_eq!(cache.log_in("tim", password), code, "{password}");
        assert_eq!(cache.inner().take_asked(), asked, "{password}");
    }
}

/// An authenticator may name the user by it.
#[test]
fn what_was_said_to_one_certificate_is_not_said_to_another() {
    let (cache, _) = users();
    let mut asked = |certificates: &[&[u8]]| {
        let mut tls = TlsInfo::new(TlsVersion::Tls1_3, "TLS13_AES_256_GCM_SHA384");
        tls.peer_certificates = certificates.iter().map(|certificate| certificate.to_vec()).collect();
        let words = plain("", "tim", "tanstaaftanstaaf");
        assert_eq!(auth_over(Some(tls), &offer(Auth::new()), &cache, &words), 235);
        cache.inner().take_asked()
    };
    let (tim, tom): (&[u8], &[u8]) = (b"tim's certificate", b"tom's certificate");
    assert_eq!([&[][..], &[tim], &[tom], &[tim, tom], &[tim]].map(&mut asked), [1, 1, 1, 1, 0]);
}

#[test]
fn each_is_asked_for_once_while_it_lasts() {
    let (cache, clock) = users();
    for _ in 0..3 {
        assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
        assert_eq!(cache.log_in("tim", "wrong"), 535);
        assert_eq!(cache.log_in("nobody", "wrong"), 535);
    }
    assert_eq!(cache.inner().take_asked(), 3);
    clock.forward(LIMITS.refused_for - Duration::from_millis(1));
    assert_eq!(cache.log_in("tim", "wrong"), 535);
    assert_eq!(cache.inner().take_asked(), 0);
    clock.forward(Duration::from_millis(1));
    assert_eq!((cache.log_in("tim", "wrong"), cache.log_in("nobody", "wrong")), (535, 535));
    assert_eq!(cache.inner().take_asked(), 2);
    clock.forward(LIMITS.accepted_for - LIMITS.refused_for - Duration::from_millis(1));
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
    assert_eq!(cache.inner().take_asked(), 0);
    // Being used does not make it last longer.
    clock.forward(Duration::from_millis(1));
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
    assert_eq!(cache.inner().take_asked(), 1);
}

#[test]
fn a_wrong_password_does_not_stand_in_the_way_of_the_right_one() {
    let (cache, _) = users();
    for number in 0..50 {
        assert_eq!(cache.log_in("tim", &format!("wrong {number}")), 535);
        assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
    }
}

#[test]
fn nothing_is_shared_between_users_identities_and_ways_in() {
    let (cache, _) = users();
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
    cache.inner().take_asked();
    // Whoever else has the same password, or name and password cut elsewhere.
    assert_eq!(cache.log_in("kurt", "tanstaaftanstaaf"), 535);
    assert_eq!(cache.log_in("ti", "mtanstaaftanstaaf"), 535);
    assert_eq!(cache.log_in("timt", "anstaaftanstaaf"), 535);
    assert_eq!(auth(&cache, &plain("kurt", "tim", "tanstaaftanstaaf")), 535);
    assert_eq!(auth(&cache, &plain("kurt2", "tim", "tanstaaftanstaaf")), 535);
    assert_eq!(cache.inner().take_asked(), 5);
    // Who asks to act as themselves asks for nothing.
    assert_eq!(auth(&cache, &plain("tim", "tim", "tanstaaftanstaaf")), 235);
    assert_eq!(cache.inner().take_asked(), 0);
}

#[test]
fn an_authzid_is_granted_to_whom_it_was() {
    struct TimIsAdmin;
    impl Authenticator for TimIsAdmin {
        fn authenticate(&self, request: &AuthRequest) -> AuthResult {
            let accept = AuthResult::accept();
            if request.credentials().authzid() == Some("kurt") { accept.granting_authzid() } else { accept }
        }

        fn knows(&self, _: &AuthRequest) -> Knows {
            Knows::Yes
        }
    }
    let (cache, _) = cache(TimIsAdmin, LIMITS);
    for _ in 0..2 {
        assert_eq!(auth(&cache, &plain("kurt", "tim", "x")), 235);
        assert_eq!(auth(&cache, &plain("alice", "tim", "x")), 535);
        assert_eq!(auth(&cache, &plain("", "tim", "x")), 235);
    }
}

#[test]
fn what_cannot_be_told_is_asked_again() {
    let (cache, clock) = users();
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
    cache.inner().out_of_order.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        // It gets those through who were there a short while ago.
        assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
        assert_eq!(cache.log_in("tim", "wrong"), 454);
        assert_eq!(cache.log_in("o'brien", USERS[3].1), 454);
    }
    clock.forward(LIMITS.accepted_for);
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 454);
    cache.inner().out_of_order.store(false, Ordering::SeqCst);
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
    assert_eq!(cache.log_in("tim", "wrong"), 535);
}

#[test]
fn a_changed_password_ends_the_old_one_at_its_first_use() {
    let (cache, clock) = users();
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
    assert_eq!(cache.log_in("tim", "new"), 535);
    cache.inner().set_password("tim", "new");
    // Nobody has told the cache, and nobody has used the new one since.
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
    clock.forward(LIMITS.refused_for);
    assert_eq!(cache.log_in("tim", "new"), 235);
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 535);
}

#[test]
fn a_changed_password_ends_the_old_one_at_once_where_the_cache_is_told() {
    let (cache, _) = users();
    assert_eq!(cache.log_in("jürgen", "pässwörd€"), 235);
    assert_eq!(cache.log_in("jürgen", "new"), 535);
    cache.inner().set_password("jürgen", "new");
    cache.forget("JÜRGEN");
    assert_eq!(cache.log_in("jürgen", "pässwörd€"), 535);
    assert_eq!(cache.log_in("jürgen", "new"), 235);
    cache.inner().set_password("jürgen", "newer");
    cache.forget_all();
    assert_eq!(cache.log_in("jürgen", "new"), 535);
    assert_eq!(cache.log_in("jürgen", "newer"), 235);
}

#[test]
fn forgetting_one_forgets_nobody_else() {
    let (cache, _) = users();
    for (user, password) in USERS {
        assert_eq!(cache.log_in(user, password), 235);
    }
    cache.inner().take_asked();
    cache.forget("tim");
    for (user, password) in USERS {
        assert_eq!(cache.log_in(user, password), 235);
    }
    assert_eq!(cache.inner().take_asked(), 1);
}

/// As a program sets it up that does not want a password refused because it was wrong a while ago.
#[test]
fn without_places_for_what_was_refused_only_right_passwords_are_remembered() {
    let (cache, clock) = cache(Users::new(&USERS, looked_up), CacheLimits { refused: 0, ..LIMITS });
    for _ in 0..3 {
        assert_eq!(cache.log_in("tim", "wrong"), 535);
        assert_eq!(cache.log_in("nobody", "wrong"), 535);
    }
    assert_eq!(cache.inner().take_asked(), 6);
    assert_eq!([cache.log_in("tim", "tanstaaftanstaaf"), cache.log_in("tim", "tanstaaftanstaaf")], [235; 2]);
    assert_eq!(cache.inner().take_asked(), 1);
    assert_eq!(cache.log_in("tim", "wrong"), 535);
    // What was wrong is right at once.
    cache.inner().set_password("tim", "wrong");
    assert_eq!(cache.log_in("tim", "wrong"), 235);
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 535);
    cache.inner().take_asked();
    cache.forget_all();
    assert_eq!(cache.log_in("tim", "wrong"), 235);
    assert_eq!(cache.inner().take_asked(), 1);
    clock.forward(LIMITS.accepted_for);
    assert_eq!(cache.log_in("tim", "wrong"), 235);
    assert_eq!(cache.inner().take_asked(), 1);
}

/// Whose first answer waits, after it was found, until the test lets it go on.
struct Slow {
    users: Users,
    found: Barrier,
    go_on: Barrier,
    slow: Mutex<bool>,
}

impl Authenticator for Slow {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let result = self.users.authenticate(request);
        if std::mem::take(&mut *self.slow.lock().unwrap()) {
            self.found.wait();
            self.go_on.wait();
        }
        result
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        self.users.knows(request)
    }
}

/// Logs in, and does something between the answer and its being remembered.
fn while_asked(password: &str, code: u16, between: impl FnOnce(&Cache<Slow>)) -> Cache<Slow> {
    let (found, go_on, slow) = (Barrier::new(2), Barrier::new(2), Mutex::new(true));
    let (cache, _) = cache(Slow { users: Users::new(&USERS, looked_up), found, go_on, slow }, LIMITS);
    std::thread::scope(|scope| {
        let login = scope.spawn(|| cache.log_in("tim", password));
        cache.inner().found.wait();
        between(&cache);
        cache.inner().go_on.wait();
        assert_eq!(login.join().unwrap(), code);
    });
    cache
}

/// The password is changed after the old one was found right, and before that is remembered.
#[test]
fn what_is_being_asked_while_it_is_forgotten_is_not_remembered() {
    for (password, first, then) in [("tanstaaftanstaaf", 235, 535), ("new", 535, 235)] {
        let cache = while_asked(password, first, |cache| {
            cache.inner().users.set_password("tim", "new");
            cache.forget("tim");
        });
        assert_eq!(cache.log_in("tim", password), then);
    }
}

/// The same, and nobody tells the cache, but somebody else gets the other answer meanwhile.
#[test]
fn of_two_answers_at_the_same_time_neither_is_remembered() {
    for (password, first, then) in [("tanstaaftanstaaf", 235, 535), ("new", 535, 235)] {
        let cache = while_asked(password, first, |cache| {
            cache.inner().users.set_password("tim", "new");
            assert_eq!(cache.log_in("tim", password), then);
        });
        cache.inner().users.take_asked();
        assert_eq!(cache.log_in("tim", password), then);
        assert_eq!(cache.inner().users.take_asked(), 1);
    }
}

#[test]
fn who_is_disabled_or_gone_is_dropped_with_the_first_that_is_heard_of_it() {
    struct Told(Mutex<AuthResult>);
    impl Authenticator for Told {
        fn authenticate(&self, _: &AuthRequest) -> AuthResult {
            self.0.lock().unwrap().clone()
        }

        fn knows(&self, _: &AuthRequest) -> Knows {
            Knows::WhenAsked
        }
    }
    for refusal in [Refusal::Disabled, Refusal::UnknownUser] {
        let (cache, _) = cache(Told(Mutex::new(AuthResult::accept())), LIMITS);
        assert_eq!((cache.log_in("tim", "right"), cache.log_in("kurt", "right")), (235, 235));
        *cache.inner().0.lock().unwrap() = AuthResult::refuse();
        assert_eq!((cache.log_in("tim", "wrong"), cache.log_in("tim", "right")), (535, 235));
        *cache.inner().0.lock().unwrap() = AuthResult::refuse_because(refusal);
        assert_eq!((cache.log_in("tim", "other"), cache.log_in("tim", "right")), (535, 535), "{refusal:?}");
        assert_eq!(cache.log_in("kurt", "right"), 235);
        // A token that is nobody's is no news of the user whom it names.
        assert_eq!((auth(&cache, &xoauth2("kurt", "x")), cache.log_in("kurt", "right")), (535, 235));
    }
}

#[test]
fn no_flood_pushes_out_what_others_have() {
    let everybody: Vec<_> = (0..90).map(|number| (format!("user{number}"), "right".to_owned())).collect();
    let everybody: Vec<_> = everybody.iter().map(|(user, password)| (user.as_str(), password.as_str())).collect();
    let (cache, _) = cache(Users::new(&everybody, looked_up), LIMITS);
    let all_in = || everybody.iter().filter(|(user, password)| cache.log_in(user, password) == 235).count();
    assert_eq!((all_in(), cache.inner().take_asked()), (90, 90));
    for number in 0..1_000 {
        assert_eq!(cache.log_in(&format!("user{}", number % 90), &format!("wrong {number}")), 535);
        assert_eq!(cache.log_in(&format!("nobody {number}"), "wrong"), 535);
        // Somebody who may log in, in as many ways as there are authzids.
        assert_eq!(auth(&cache, &plain(&format!("other{number}"), "user7", "right")), 535);
    }
    cache.inner().take_asked();
    let others = everybody.iter().filter(|(user, _)| *user != "user7");
    assert_eq!(others.filter(|(user, password)| cache.log_in(user, password) == 235).count(), 89);
    assert_eq!(cache.inner().take_asked(), 0);
}

#[test]
fn where_there_is_no_room_the_oldest_goes() {
    let limits = CacheLimits { accepted: 2, refused: 0, ..LIMITS };
    let (cache, _) = cache(Users::new(&USERS, looked_up), limits);
    for (user, password) in &USERS[..3] {
        assert_eq!((cache.log_in(user, password), cache.log_in(user, password)), (235, 235));
    }
    assert_eq!(cache.inner().take_asked(), 3);
    assert_eq!(cache.log_in(USERS[2].0, USERS[2].1), 235);
    assert_eq!(cache.log_in(USERS[1].0, USERS[1].1), 235);
    assert_eq!(cache.inner().take_asked(), 0);
    assert_eq!(cache.log_in(USERS[0].0, USERS[0].1), 235);
    assert_eq!(cache.inner().take_asked(), 1);
    // No room at all: asked each time.
    assert_eq!((cache.log_in("tim", "wrong"), cache.log_in("tim", "wrong")), (535, 535));
    assert_eq!(cache.inner().take_asked(), 2);
}

#[test]
fn the_whole_result_is_remembered() {
    struct Seen(Cache<Scripted>, Mutex<Vec<AuthResult>>);
    impl Authenticator for Seen {
        fn authenticate(&self, request: &AuthRequest) -> AuthResult {
            let result = self.0.authenticate(request);
            self.1.lock().unwrap().push(result.clone());
            result
        }

        fn knows(&self, request: &AuthRequest) -> Knows {
            self.0.knows(request)
        }
    }
    let asked = Asked::default();
    let message = "235 2.7.0 Welcome".parse().unwrap();
    let result = AuthResult::accept().with_login("Tim").with_auth_data(42_u64).with_message(message).unwrap();
    let inner = Scripted { name: 0, knows: Knows::Yes, result: Some(result), asked: asked.clone() };
    let seen = Seen(cache(inner, LIMITS).0, Mutex::default());
    assert_eq!((seen.log_in("tim@example.org", "x"), seen.log_in("tim@example.org", "x")), (235, 235));
    assert_eq!(asked.lock().unwrap().len(), 1);
    let results = seen.1.lock().unwrap();
    for result in results.iter() {
        assert_eq!((result.login(), result.auth_data()), (Some("Tim"), Some(&42_u64)));
        assert_eq!(result.message().unwrap().to_string(), "235 2.7.0 Welcome");
    }
    let data = |result: &AuthResult| std::ptr::from_ref(result.auth_data::<u64>().unwrap());
    assert_eq!(data(&results[0]), data(&results[1]));
    drop(results);
    seen.0.forget("TIM");
    assert_eq!(seen.log_in("tim@example.org", "x"), 235);
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[test]
fn tokens_are_remembered_where_that_is_asked_for() {
    struct Tokens(Mutex<usize>);
    impl Authenticator for Tokens {
        fn authenticate(&self, request: &AuthRequest) -> AuthResult {
            *self.0.lock().unwrap() += 1;
            let AuthQuestion::BearerToken(token) = request.question() else { return AuthResult::cannot_tell() };
            if token.token().ct_eq(b"good") {
                AuthResult::accept().with_login("tim")
            } else {
                AuthResult::refuse_because(Refusal::UnknownUser)
            }
        }

        fn knows(&self, _: &AuthRequest) -> Knows {
            Knows::WhenAsked
        }
    }
    for (token_for, asked) in [(Duration::ZERO, 4), (Duration::from_secs(60), 2)] {
        let (cache, clock) = cache(Tokens(Mutex::new(0)), CacheLimits { token_for, ..LIMITS });
        for _ in 0..2 {
            assert_eq!(auth(&cache, &xoauth2("tim", "good")), 235);
            assert_eq!(auth(&cache, &xoauth2("tim", "bad")), 535);
        }
        let count = || std::mem::take(&mut *cache.inner().0.lock().unwrap());
        assert_eq!(count(), asked, "{token_for:?}");
        clock.forward(token_for);
        assert_eq!((auth(&cache, &xoauth2("tim", "good")), count()), (235, 1));
        cache.forget("tim");
        assert_eq!((auth(&cache, &xoauth2("tim", "good")), count()), (235, 1));
    }
}

#[test]
fn two_mechanisms_with_one_password_are_no_change() {
    let (cache, _) = users();
    let login = format!("LOGIN {}\r\n{}", BASE64_STANDARD.encode("tim"), BASE64_STANDARD.encode("tanstaaftanstaaf"));
    for _ in 0..3 {
        assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
        assert_eq!(auth(&cache, &login), 235);
    }
    assert_eq!(cache.inner().take_asked(), 2);
}

#[test]
fn what_it_remembers_it_knows() {
    let (cache, clock) = users();
    let database = Arc::new(cache);
    let chain = Chain::new().then(database.clone()).then(Users::new(&[("kurt", "x")], looked_up));
    assert_eq!((chain.log_in("tim", "tanstaaftanstaaf"), chain.log_in("kurt", "x")), (235, 235));
    database.inner().out_of_order.store(true, Ordering::SeqCst);
    assert_eq!((chain.log_in("tim", "tanstaaftanstaaf"), chain.log_in("kurt", "x")), (235, 454));
    clock.forward(LIMITS.accepted_for);
    assert_eq!(chain.log_in("tim", "tanstaaftanstaaf"), 454);
}

/// A password that is wrong counts, whoever it was that said so.
#[test]
fn failures_out_of_the_cache_count() {
    let (cache, _) = users();
    let limits = AttemptLimits { by_user: 3, ..AttemptLimits::default() };
    let log = MemoryAttemptLog::new(limits, || Duration::ZERO);
    let config = offer(Auth::new().attempts(Arc::new(log)));
    let log_in = |password: &str| auth_as(&config, &cache, &plain("", "tim", password));
    assert_eq!((log_in("wrong"), log_in("wrong"), log_in("wrong")), (535, 535, 535));
    assert_eq!(cache.inner().take_asked(), 1);
    assert_eq!(log_in("tanstaaftanstaaf"), 454);
}

#[test]
fn debug_shows_nobody() {
    let (cache, _) = users();
    assert_eq!(cache.log_in("tim", "tanstaaftanstaaf"), 235);
    let shown = format!("{cache:?} {cache:#?}");
    assert!(shown.contains("accepted_for") && !shown.contains("tim\"") && !shown.contains("tanstaaf"), "{shown}");
}

/// A cache over a map. Its server cannot be stopped: a cache is there to outlast that.
struct Cached(Arc<Cache<Users>>);

impl Backend for Cached {
    fn start() -> Option<Self> {
        Some(Self(Arc::new(Cache::new(Users::new(&USERS, looked_up), CacheLimits::default()).unwrap())))
    }

    fn door(&self) -> Arc<dyn Door> {
        self.0.clone()
    }
}

battery!(Cached);
