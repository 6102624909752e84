//! Failures counted across connections: the log in memory, and what a connection tells a log.

#![expect(clippy::indexing_slicing, reason = "a test that goes wrong may stop here")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use allocation_counter::measure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sansmtp::auth::mechanism::{CramMd5, OAuthBearer, XOAuth2};
use sansmtp::auth::{
    Attempt, AttemptLimits, AttemptLog, KnownPassword, MemoryAttemptLog, Reservation, ScramHash, Step,
};
use sansmtp::testing::{Mismatch, Play};
use sansmtp::{Auth, AuthResult, Config, Peer};

#[path = "support/diary.rs"]
mod diary;
#[path = "support/embedder.rs"]
mod embedder;
#[path = "support/scram.rs"]
mod scram;

use diary::Diary;
use embedder::{Embedder, Ending, config};

// ---------------------------------------------------------------------------------------------------
// The log in memory

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    fn log(&self, limits: AttemptLimits) -> MemoryAttemptLog {
        let clock = self.clone();
        MemoryAttemptLog::new(limits, move || Duration::from_millis(clock.0.load(Ordering::Relaxed)))
    }
}

fn from<'a>(address: &str, authcid: &'a str) -> Attempt<'a> {
    let address: IpAddr = address.parse().expect("an address");
    Attempt::new(SocketAddr::new(address, 40_000).into(), "PLAIN".into(), authcid)
}

/// Whether there is room for one more.
fn admits(log: &dyn AttemptLog, attempt: &Attempt<'_>) -> bool {
    log.admit(attempt).map(|reservation| log.release(reservation)).is_some()
}

fn limits(by_address: u32, by_user: u32) -> AttemptLimits {
    AttemptLimits { by_address, by_user, window: Duration::from_secs(100), ..AttemptLimits::default() }
}

#[test]
fn an_address_is_barred_when_its_failures_are_used_up_and_no_other() {
    let log = Clock::default().log(limits(3, 0));
    for left in (0..3).rev() {
        assert!(admits(&log, &from("192.0.2.1", "tim")), "{left} left");
        log.refused(&from("192.0.2.1", "tim"));
    }
    // Whoever it says that it is; and a success washes nothing clean.
    log.succeeded(&from("192.0.2.1", "tom"));
    assert!(!admits(&log, &from("192.0.2.1", "tim")) && !admits(&log, &from("192.0.2.1", "")));
    assert!(admits(&log, &from("192.0.2.2", "tim")));
}

/// A bucket that drains: 4 failures in 100 seconds, one in 25.
#[test]
fn failures_are_forgotten_by_and_by() {
    let clock = Clock::default();
    let log = clock.log(limits(4, 0));
    let attempt = from("192.0.2.1", "tim");
    (0..4).for_each(|_| log.refused(&attempt));
    assert!(!admits(&log, &attempt));
    clock.advance(24);
    assert!(!admits(&log, &attempt));
    clock.advance(2);
    assert!(admits(&log, &attempt));
    log.refused(&attempt);
    assert!(!admits(&log, &attempt));
    // However often it fails while it is barred, it takes no longer than the window.
    (0..1000).for_each(|_| log.refused(&attempt));
    clock.advance(99);
    assert!(admits(&log, &attempt));
    clock.advance(2);
    for _ in 0..4 {
        assert!(admits(&log, &attempt));
        log.refused(&attempt);
    }
    assert!(!admits(&log, &attempt));
    // Longer than anybody waits.
    clock.advance(u64::from(u32::MAX));
    assert!(admits(&log, &attempt));
}

#[test]
fn an_ipv4_address_is_the_same_however_it_is_written() {
    let log = Clock::default().log(limits(2, 0));
    log.refused(&from("192.0.2.1", ""));
    log.refused(&from("::ffff:192.0.2.1", ""));
    assert!(!admits(&log, &from("192.0.2.1", "")) && !admits(&log, &from("::ffff:192.0.2.1", "")));
    // Mapped addresses share 96 bits, and are not one network.
    assert!(admits(&log, &from("::ffff:192.0.2.2", "")) && admits(&log, &from("192.0.2.2", "")));
    // A deprecated form, not a mapping.
    assert!(admits(&log, &from("::192.0.2.1", "")));
}

/// Who has one address of a network of 64 bits has all of them (RFC 4291, section 2.5.1).
#[test]
fn an_ipv6_network_is_one() {
    let log = Clock::default().log(limits(2, 0));
    log.refused(&from("2001:db8:0:1::1", ""));
    log.refused(&from("2001:db8:0:1:ffff:ffff:ffff:ffff", ""));
    assert!(!admits(&log, &from("2001:db8:0:1:1234::5", "")));
    assert!(admits(&log, &from("2001:db8:0:2::1", "")) && admits(&log, &from("2001:db8::1", "")));
}

#[test]
fn a_user_is_counted_wherever_the_failures_come_from() {
    let log = Clock::default().log(limits(0, 2));
    log.refused(&from("192.0.2.1", "tim"));
    log.refused(&Attempt::new(Peer::local(), "LOGIN".into(), "tim"));
    for address in ["192.0.2.1", "198.51.100.7", "2001:db8::1"] {
        assert!(!admits(&log, &from(address, "tim")));
        assert!(admits(&log, &from(address, "tom")) && admits(&log, &from(address, "")));
    }
    // Nobody and nowhere are nothing that is counted.
    (0..10).for_each(|_| log.refused(&Attempt::new(Peer::local(), "PLAIN".into(), "")));
    assert!(admits(&log, &Attempt::new(Peer::local(), "PLAIN".into(), "")));
}

#[test]
fn without_limits_nobody_is_barred() {
    let log = Clock::default().log(limits(0, 0));
    (0..1000).for_each(|_| log.refused(&from("192.0.2.1", "tim")));
    assert!(admits(&log, &from("192.0.2.1", "tim")));
}

/// A million addresses take no more memory than the first, and do not wash the one clean that has failed
/// most.
#[test]
fn a_million_addresses_take_no_memory_and_push_nobody_out_who_is_barred() {
    let mut log = None;
    let built = measure(|| log = Some(Clock::default().log(limits(50, 5))));
    let log = log.expect("a log");
    assert!(built.bytes_current <= 32 * 16_384 + 512, "{built:?}");
    for _ in 0..50 {
        log.refused(&from("192.0.2.1", "tim"));
    }
    let during = measure(|| {
        for number in 0..1_000_000_u32 {
            let address = IpAddr::from((0x0A00_0000 + number).to_be_bytes());
            log.refused(&Attempt::new(SocketAddr::new(address, 1).into(), "PLAIN".into(), ""));
        }
    });
    assert_eq!(during.count_total, 0, "{during:?}");
    assert!(!admits(&log, &from("192.0.2.1", "")));
}

/// Nor do addresses that fail more often than a user may wash a user clean.
#[test]
fn addresses_do_not_push_a_barred_user_out() {
    let clock = Clock::default();
    let log = clock.log(AttemptLimits { entries: 512, ..limits(50, 5) });
    for _ in 0..5 {
        log.refused(&from("192.0.2.1", "tim"));
    }
    clock.advance(10);
    log.refused(&from("192.0.2.1", "tim"));
    clock.advance(10);
    for number in 0..10_000_u32 {
        let address = IpAddr::from((0x0A00_0000 + number).to_be_bytes());
        (0..10).for_each(|_| log.refused(&Attempt::new(SocketAddr::new(address, 1).into(), "PLAIN".into(), "")));
    }
    assert!(!admits(&log, &from("198.51.100.1", "tim")));
}

#[test]
fn few_entries_are_some() {
    for entries in [0, 1, 7, 9] {
        let log = Clock::default().log(AttemptLimits { entries, ..limits(1, 1) });
        log.refused(&from("192.0.2.1", "tim"));
        assert!(!admits(&log, &from("192.0.2.1", "tim")));
    }
}

/// An attempt that is not decided yet counts, does not drain, and is not pushed out by others.
#[test]
fn what_is_reserved_stays_until_it_is_given_back() {
    let clock = Clock::default();
    let log = clock.log(AttemptLimits { entries: 8, ..limits(2, 0) });
    let attempt = from("192.0.2.1", "tim");
    let first = log.admit(&attempt).expect("room");
    clock.advance(1_000_000);
    let second = log.admit(&attempt).expect("room");
    assert!(!admits(&log, &attempt));
    // Seven others take what else there is; the next one would have to push one of them out.
    let others: Vec<_> = (2..9).map(|host| log.admit(&from(&format!("192.0.2.{host}"), "")).expect("room")).collect();
    assert!(!admits(&log, &from("192.0.2.9", "")));
    log.release(first);
    assert!(admits(&log, &attempt));
    log.release(others[0]);
    let ninth = log.admit(&from("192.0.2.9", "")).expect("the room of one that has nothing reserved");
    // It has been pushed out, so there is nothing to give back, of the other's neither.
    log.release(others[0]);
    log.refused(&Attempt::new(Peer::local(), "PLAIN".into(), ""));
    log.release(ninth);
    log.release(second);
    for _ in 0..2 {
        assert!(admits(&log, &attempt));
        log.refused(&attempt);
    }
    assert!(!admits(&log, &attempt));
}

/// A reservation of the address alone is none where the user has no room, and the other way round.
#[test]
fn all_is_reserved_or_nothing() {
    let log = Clock::default().log(limits(2, 1));
    let tim = log.admit(&from("192.0.2.1", "tim")).expect("room");
    assert!((0..10).all(|_| log.admit(&from("192.0.2.2", "tim")).is_none()));
    let [one, other] = ["tom", "joe"].map(|name| log.admit(&from("192.0.2.2", name)).expect("room"));
    assert!((0..10).all(|_| log.admit(&from("192.0.2.2", "ada")).is_none()));
    [tim, one, other].into_iter().for_each(|reservation| log.release(reservation));
    for name in ["tim", "tom", "joe", "ada"] {
        assert!(admits(&log, &from("192.0.2.2", name)), "{name}");
    }
}

/// Failures from many threads are neither lost nor counted twice.
#[test]
fn threads_count_together() {
    let log = Clock::default().log(limits(8_000, 8_000));
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let log = &log;
            scope.spawn(move || {
                let other = format!("2001:db8::{thread}:0:0:0:1");
                for _ in 0..999 {
                    assert!(admits(log, &from("192.0.2.1", "tim")));
                    log.refused(&from("192.0.2.1", "tim"));
                    log.refused(&from(&other, ""));
                }
            });
        }
    });
    for _ in 0..8 {
        assert!(admits(&log, &from("192.0.2.1", "")) && admits(&log, &from("198.51.100.1", "tim")));
        log.refused(&from("192.0.2.1", "tim"));
    }
    assert!(!admits(&log, &from("192.0.2.1", "")) && !admits(&log, &from("198.51.100.1", "tim")));
}

// ---------------------------------------------------------------------------------------------------
// What a connection tells a log

fn auth(log: &Arc<Diary>) -> Auth {
    Auth::new()
        .mechanism(CramMd5::new())
        .mechanism(OAuthBearer::new())
        .mechanism(XOAuth2::new())
        .mechanism(Ending("X-OWN", || Step::Finish(AuthResult::refuse())))
        .mechanism(Ending("X-OWN-YES", || Step::Finish(AuthResult::accept().with_login("tim"))))
        .handler_mechanism("X-TURNS")
        .attempts(Arc::clone(log) as Arc<dyn AttemptLog>)
}

fn play(config: &Arc<Config>, embedder: &mut Embedder, dialogue: &str) -> Result<(), Mismatch> {
    let greeting = "S: 220 mx.example.org ESMTP\nC: EHLO c.example\nS*: 250";
    Play::new(Arc::clone(config)).transcript_with(embedder, &format!("{greeting}\n{dialogue}"))
}

/// The messages of SCRAM by somebody who believes that the password is this one.
fn scram(password: &str) -> [String; 2] {
    let client = scram::Client::new(ScramHash::Sha256, "tim", password, b"sixteen octets..", 4096);
    // The configuration's entropy is zeros.
    let lines = client.lines("SCRAM-SHA-256", &"A".repeat(24));
    [lines[0].clone(), lines[1].clone()]
}

fn encode(octets: impl AsRef<[u8]>) -> String {
    STANDARD.encode(octets)
}

/// Knows tim, whose password is pencil, and no token.
fn know_tim(request: &sansmtp::AuthRequest) -> AuthResult {
    if request.credentials().authcid() == "down" {
        return AuthResult::cannot_tell();
    }
    KnownPassword::new(b"pencil", b"sixteen octets..").expect("a good salt").answer(request)
}

/// Every path on which credentials are refused counts them once: in the log, on the connection, and in
/// one event.
#[test]
fn what_counts_counts_once() -> Result<(), Mismatch> {
    let [first, last] = scram("pen");
    let plain = |message: &str| format!("C: AUTH PLAIN {}\nS: 535 5.7.8 ...", encode(message));
    let bearer = format!("C: AUTH OAUTHBEARER {}\nS*: 334", encode("n,,\x01auth=Bearer x\x01\x01"));
    let xoauth2 = format!("C: AUTH XOAUTH2 {}\nS*: 334", encode("user=tim\x01auth=Bearer x\x01\x01"));
    let proof = format!("C: {first}\nS*: 334\nC: {last}\nS: 334 {}", encode("e=invalid-proof"));
    let cram_md5 =
        format!("C: AUTH CRAM-MD5\nS*: 334\nC: {}\nS: 535 5.7.8 ...", encode(format!("tim {}", "0".repeat(32))));
    let cases = [
        ("PLAIN", "tim", "bad-credentials", plain("\0tim\0wrong")),
        ("PLAIN", "tim", "authzid-not-granted", plain("tom\0tim\0pencil")),
        ("PLAIN", "tim", "empty-credentials", plain("\0tim\0")),
        ("PLAIN", "", "empty-credentials", plain("\0\0pencil")),
        ("LOGIN", "tim", "bad-credentials", "C: AUTH LOGIN dGlt\nS*: 334\nC: d3Jvbmc=\nS: 535 5.7.8 ...".into()),
        ("CRAM-MD5", "tim", "bad-credentials", cram_md5),
        ("SCRAM-SHA-256", "tim", "bad-credentials", format!("{proof}\nC-: \\r\\n\nS: 535 5.7.8 ...")),
        ("SCRAM-SHA-256", "tim", "bad-credentials", format!("{proof}\nC: *\nS: 501 5.7.0 ...")),
        ("SCRAM-SHA-256", "tim", "bad-credentials", format!("{proof}\nX: eof\nS: <closed>")),
        ("SCRAM-SHA-256", "tim", "bad-credentials", format!("{proof}\nT: 3600\nS: 421 4.4.2 ...\nS: <closed>")),
        ("OAUTHBEARER", "", "bad-credentials", format!("{bearer}\nC: AQ==\nS: 535 5.7.8 ...")),
        ("OAUTHBEARER", "", "bad-credentials", format!("{bearer}\nX: eof\nS: <closed>")),
        ("XOAUTH2", "tim", "bad-credentials", format!("{xoauth2}\nC-: \\r\\n\nS: 535 5.7.8 ...")),
        ("XOAUTH2", "tim", "bad-credentials", format!("{xoauth2}\nX: eof\nS: <closed>")),
        ("X-OWN", "", "bad-credentials", "C: AUTH X-OWN =\nS: 535 5.7.8 ...".into()),
        ("X-TURNS", "", "bad-credentials", "C: AUTH X-TURNS =\nS: 535 5.7.8 ...".into()),
    ];
    for (mechanism, authcid, reason, dialogue) in cases {
        let log = Arc::new(Diary::default());
        let mut embedder = Embedder::new(know_tim);
        embedder.turn = |turn| turn.result(AuthResult::refuse());
        play(&config(auth(&log)), &mut embedder, &dialogue)?;
        assert_eq!(log.outcomes(), [format!("failed {mechanism} {authcid:?}")], "{dialogue}");
        assert_eq!(log.counts(), [1, 1, 0], "{dialogue}");
        assert_eq!(log.unfinished(), [""; 0], "{dialogue}");
        assert_eq!(embedder.events, [format!("{mechanism} {reason} 1")], "{dialogue}");
    }
    Ok(())
}

#[test]
fn what_is_no_refused_credential_does_not_count() -> Result<(), Mismatch> {
    let [first, _] = scram("pencil");
    let down = encode("\0down\0pencil");
    // How many attempts are admitted, and given back; and how many exchanges the client left unfinished.
    for (event, admitted, unfinished, dialogue) in [
        ("PLAIN malformed 0", 0, 0, "C: AUTH PLAIN =\nS: 501 5.5.2 ...".to_owned()),
        ("PLAIN malformed 0", 0, 0, "C: AUTH PLAIN !\nS: 501 5.5.2 ...".to_owned()),
        ("PLAIN malformed 0", 0, 1, "C: AUTH PLAIN\nS*: 334\nC: !\nS: 501 5.5.2 ...".to_owned()),
        ("PLAIN cancelled 0", 0, 1, "C: AUTH PLAIN\nS*: 334\nC: *\nS: 501 5.7.0 ...".to_owned()),
        ("PLAIN too-long 0", 0, 1, "C: AUTH PLAIN\nS*: 334\nC*: 12400 A\nC-: \\r\\n\nS: 500 5.5.6 ...".to_owned()),
        ("PLAIN connection-lost 0", 0, 1, "C: AUTH PLAIN\nS*: 334\nT: 3600\nS: 421 4.4.2 ...\nS: <closed>".to_owned()),
        ("PLAIN cannot-tell 0", 1, 0, format!("C: AUTH PLAIN {down}\nS: 454 4.7.0 ...")),
        ("PLAIN cannot-tell 0", 1, 0, format!("C: AUTH PLAIN\nS*: 334\nC: {down}\nS: 454 4.7.0 ...")),
        ("LOGIN cancelled 0", 1, 1, "C: AUTH LOGIN dGlt\nS*: 334\nC: *\nS: 501 5.7.0 ...".to_owned()),
        ("GSSAPI unknown-mechanism 0", 0, 0, "C: AUTH GSSAPI\nS: 504 5.5.4 ...".to_owned()),
        ("SCRAM-SHA-256 connection-lost 0", 1, 1, format!("C: {first}\nS*: 334\nX: eof\nS: <closed>")),
        ("SCRAM-SHA-256 cancelled 0", 1, 1, format!("C: {first}\nS*: 334\nC: *\nS: 501 5.7.0 ...")),
        ("SCRAM-SHA-256 malformed 0", 1, 1, format!("C: {first}\nS*: 334\nC: AQ==\nS*: 334\nC: *\nS: 501 5.7.0 ...")),
        ("OAUTHBEARER malformed 0", 0, 0, "C: AUTH OAUTHBEARER AQ==\nS: 501 5.5.2 ...".to_owned()),
        ("X-TURNS cannot-tell 0", 1, 0, "C: AUTH X-TURNS\nS: 454 4.7.0 ...".to_owned()),
    ] {
        let log = Arc::new(Diary::default());
        let mut embedder = Embedder::new(know_tim);
        play(&config(auth(&log)), &mut embedder, &dialogue)?;
        assert_eq!(log.outcomes(), [""; 0], "{dialogue}");
        assert_eq!(log.counts(), [admitted, 0, admitted], "{dialogue}");
        assert_eq!(log.unfinished().len(), unfinished, "{dialogue}");
        assert_eq!(embedder.events, [event], "{dialogue}");
    }
    Ok(())
}

#[test]
fn a_success_is_told_once() -> Result<(), Mismatch> {
    let [first, last] = scram("pencil");
    for (mechanism, authcid, dialogue) in [
        ("PLAIN", "tim", format!("C: AUTH PLAIN {}\nS: 235 2.7.0 ...", encode("\0tim\0pencil"))),
        ("SCRAM-SHA-256", "tim", format!("C: {first}\nS*: 334\nC: {last}\nS*: 334\nC-: \\r\\n\nS: 235 2.7.0 ...")),
        ("X-OWN-YES", "", "C: AUTH X-OWN-YES =\nS: 235 2.7.0 ...".to_owned()),
    ] {
        let log = Arc::new(Diary::default());
        play(&config(auth(&log)), &mut Embedder::new(know_tim), &dialogue)?;
        assert_eq!(log.outcomes(), [format!("succeeded {mechanism} {authcid:?}")], "{dialogue}");
        assert_eq!(log.counts(), [1, 0, 1], "{dialogue}");
        assert_eq!(log.unfinished(), [""; 0], "{dialogue}");
    }
    Ok(())
}

/// Whoever is not admitted learns nothing, by whatever mechanism: neither the authenticator nor the hook
/// is asked, and a mechanism's own yes is none.
#[test]
fn who_is_not_admitted_is_not_looked_at() -> Result<(), Mismatch> {
    let [first, _] = scram("pencil");
    let cram_md5 = encode(format!("tim {}", "0".repeat(32)));
    for (mechanism, lines) in [
        ("PLAIN", format!("C: AUTH PLAIN {}", encode("\0tim\0pencil"))),
        ("LOGIN", "C: AUTH LOGIN dGlt".to_owned()),
        ("CRAM-MD5", format!("C: AUTH CRAM-MD5\nS*: 334\nC: {cram_md5}")),
        ("SCRAM-SHA-256", format!("C: {first}")),
        ("OAUTHBEARER", format!("C: AUTH OAUTHBEARER {}", encode("n,,\x01auth=Bearer x\x01\x01"))),
        ("XOAUTH2", format!("C: AUTH XOAUTH2 {}", encode("user=tim\x01auth=Bearer x\x01\x01"))),
        ("X-OWN", "C: AUTH X-OWN =".to_owned()),
        ("X-OWN-YES", "C: AUTH X-OWN-YES =".to_owned()),
        ("X-TURNS", "C: AUTH X-TURNS =".to_owned()),
    ] {
        let log = Arc::new(Diary { bars: Some("*"), ..Diary::default() });
        let mut embedder = Embedder::new(|_| panic!("the authenticator is asked"));
        embedder.turn = |_| panic!("the hook is asked");
        let dialogue = format!("{lines}\nS: 454 4.7.0 ...\nC: MAIL FROM:<>\nS: 530 5.7.0 ...");
        play(&config(auth(&log)), &mut embedder, &dialogue).unwrap_or_else(|mismatch| panic!("{lines}: {mismatch}"));
        assert_eq!(log.outcomes(), [""; 0], "{lines}");
        assert_eq!(embedder.events, [format!("{mechanism} too-many-attempts 0")], "{lines}");
    }
    Ok(())
}

/// One who is barred by name is barred when the name is known.
#[test]
fn the_log_sees_the_name_before_the_authenticator_does() -> Result<(), Mismatch> {
    let [first, last] = scram("pencil");
    let log = Arc::new(Diary { bars: Some("tom"), ..Diary::default() });
    let mut embedder = Embedder::new(know_tim);
    let tom = encode("n,,n=tom,r=abc");
    play(
        &config(auth(&log)),
        &mut embedder,
        &format!(
            "C: AUTH SCRAM-SHA-256 {tom}\nS: 454 4.7.0 ...\nC: AUTH LOGIN dG9t\nS: 454 4.7.0 ...\n\
             C: {first}\nS*: 334\nC: {last}\nS*: 334\nC-: \\r\\n\nS: 235 2.7.0 ..."
        ),
    )?;
    let expected = ["SCRAM-SHA-256 too-many-attempts 0", "LOGIN too-many-attempts 0", "SCRAM-SHA-256 tim ok"];
    assert_eq!(embedder.events, expected);
    Ok(())
}

/// What an embedder puts around the log in memory: names that differ in case are one user.
struct AnyCase(MemoryAttemptLog);

impl AttemptLog for AnyCase {
    fn admit(&self, attempt: &Attempt<'_>) -> Option<Reservation> {
        self.0.admit(&Attempt::new(attempt.peer, attempt.mechanism, &attempt.authcid.to_lowercase()))
    }

    fn release(&self, reservation: Reservation) {
        self.0.release(reservation);
    }

    fn refused(&self, attempt: &Attempt<'_>) {
        let name = attempt.authcid.to_lowercase();
        let mut attempt = *attempt;
        attempt.authcid = &name;
        self.0.refused(&attempt);
    }
}

#[test]
fn a_log_of_one_s_own_over_several_connections() -> Result<(), Mismatch> {
    let clock = Clock::default();
    let log: Arc<dyn AttemptLog> = Arc::new(AnyCase(clock.log(limits(0, 3))));
    let config = config(Auth::new().attempts(log));
    let try_as = |name: &str, password: &str, reply: &str| {
        let message = encode(format!("\0{name}\0{password}"));
        play(&config, &mut Embedder::new(know_tim), &format!("C: AUTH PLAIN {message}\nS: {reply} ..."))
    };
    for name in ["tim", "Tim", "TIM"] {
        try_as(name, "wrong", "535 5.7.8")?;
    }
    try_as("tIm", "pencil", "454 4.7.0")?;
    try_as("tom", "pencil", "235 2.7.0")?;
    clock.advance(40);
    try_as("tim", "pencil", "235 2.7.0")
}

/// Else each way to write a name would have a limit of its own.
#[test]
fn failures_of_a_name_in_any_case_are_one_users() {
    for (ignored, names) in [(true, ["tim"; 3]), (false, ["tim", "Tim", "TIM"])] {
        let log = Arc::new(Diary::default());
        let auth = auth(&log).pause(Duration::ZERO, Duration::ZERO).require_tls(false).ignore_case(ignored);
        let config = config(auth);
        for (typed, known) in ["tim", "Tim", "TIM"].into_iter().zip(names) {
            let dialogue = format!("C: AUTH PLAIN {}\nS: 535 5.7.8 ...", encode(format!("\0{typed}\0wrong")));
            play(&config, &mut Embedder::new(|_| AuthResult::refuse()), &dialogue).expect("the reply");
            assert_eq!(log.outcomes().last(), Some(&format!("failed PLAIN {known:?}")));
        }
    }
}
