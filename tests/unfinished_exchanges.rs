//! AUTH exchanges that the client does not finish, and those that go on after a refusal.

#![expect(clippy::wildcard_enum_match_arm, reason = "a match names what it is about")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sansmtp::auth::mechanism::CramMd5;
use sansmtp::auth::{
    AttemptLimits, AttemptLog, Credentials, Exchange, First, KnownPassword, Mechanism, MemoryAttemptLog, Start, Step,
};
use sansmtp::testing::{Mismatch, Play};
use sansmtp::{Action, Auth, AuthRequest, AuthResult, Connection, Peer, SecretRef};

#[path = "support/diary.rs"]
mod diary;
#[path = "support/embedder.rs"]
mod embedder;

use diary::Diary;
use embedder::{Embedder, config};

const GREETING: &str = "S: 220 mx.example.org ESMTP\nC: EHLO c.example\nS*: 250";

/// Knows tim, whose password is pencil.
fn know_tim(request: &AuthRequest) -> AuthResult {
    KnownPassword::new(b"pencil", b"sixteen octets..").expect("a good salt").answer(request)
}

/// A client that has left too many exchanges gets no challenge for a while; others do, and so does who finishes.
#[test]
fn challenges_cannot_be_asked_for_without_end() -> Result<(), Mismatch> {
    let seconds = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&seconds);
    let limits =
        AttemptLimits { unfinished_by_address: 4, window: Duration::from_secs(100), ..AttemptLimits::default() };
    let log = MemoryAttemptLog::new(limits, move || Duration::from_secs(clock.load(Ordering::Relaxed)));
    let auth = Auth::new().mechanism(CramMd5::new()).handler_mechanism("X-TURNS").attempts(Arc::new(log));
    let config = config(auth);
    let play_from = |address: &str, dialogue: &str| {
        let peer = SocketAddr::new(address.parse().expect("an address"), 1);
        let mut embedder = Embedder::new(know_tim);
        embedder.turn = |turn| turn.challenge(*b"code?");
        let play = Play::new(Arc::clone(&config)).peer(peer);
        play.transcript_with(&mut embedder, &format!("{GREETING}\n{dialogue}")).map(|()| embedder.events)
    };
    let finished = "C: AUTH LOGIN dGlt\nS*: 334\nC: cGVuY2ls\nS: 235 2.7.0 ...";
    let cancelled = "C: AUTH LOGIN\nS*: 334\nC: *\nS: 501 5.7.0 ...";
    play_from("192.0.2.1", &format!("{cancelled}\n{cancelled}\nC: AUTH X-TURNS\nS*: 334\nX: eof\nS: <closed>"))?;
    // What is finished does not count, nor what has no challenge.
    for _ in 0..5 {
        play_from("192.0.2.1", &format!("C: AUTH PLAIN !\nS: 501 5.5.2 ...\n{finished}"))?;
    }
    play_from("192.0.2.1", cancelled)?;
    for mechanism in ["LOGIN", "CRAM-MD5", "X-TURNS", "PLAIN AHRpbQBwZW5jaWw="] {
        let refused = format!("C: AUTH {mechanism}\nS: 454 4.7.0 ...\nC: NOOP\nS: 250 2.0.0 ...");
        let name = mechanism.split(' ').next().unwrap_or_default();
        assert_eq!(play_from("192.0.2.1", &refused)?, [format!("{name} too-many-unfinished 0")]);
    }
    play_from("192.0.2.2", finished)?;
    // One of four is forgotten after a quarter of the window.
    seconds.fetch_add(26, Ordering::Relaxed);
    play_from("192.0.2.1", cancelled)?;
    play_from("192.0.2.1", "C: AUTH LOGIN\nS: 454 4.7.0 ...")?;
    Ok(())
}

/// Nobody polls a connection that its driver drops.
#[test]
fn a_connection_that_is_dropped_leaves_its_exchange_unfinished() {
    for (sent, unfinished) in [("AUTH LOGIN\r\n", 1), ("AUTH PLAIN AHRpbQBwZW5jaWw=\r\n", 0), ("NOOP\r\n", 0)] {
        let log = Arc::new(Diary::default());
        let auth = Auth::new().attempts(Arc::clone(&log) as Arc<dyn AttemptLog>);
        let mut connection = Connection::new(config(auth), Peer::local());
        let sent = format!("EHLO c.example\r\n{sent}");
        let mut input = sent.as_bytes();
        let mut requests = Vec::new();
        loop {
            match connection.poll(Duration::ZERO, &mut input) {
                Action::CallAuthenticator(request) => requests.push(request),
                Action::NeedInput { .. } | Action::AwaitAnswer { .. } => break,
                _ => {}
            }
        }
        drop(connection);
        assert_eq!(log.unfinished().len(), unfinished, "{sent}");
        let [admitted, failed, released] = log.counts();
        assert_eq!((admitted, failed), (released, 0), "{sent}");
    }
}

/// What an unfinished exchange of each connection is, is counted whether there is a log or not.
#[test]
fn a_connection_may_leave_thirty_unfinished() -> Result<(), Mismatch> {
    let mut embedder = Embedder::new(know_tim);
    let dialogue = "C: AUTH LOGIN\nS*: 334\nC: *\nS: 501 5.7.0 ...\n".repeat(29);
    let last = "C: AUTH LOGIN\nS*: 334\nC: *\nS: 421 4.7.0 ...\nS: <closed>";
    Play::new(config(Auth::new())).transcript_with(&mut embedder, &format!("{GREETING}\n{dialogue}{last}"))?;
    assert_eq!(embedder.events.last().map(String::as_str), Some("LOGIN too-many-unfinished 0"));
    Ok(())
}

// ---------------------------------------------------------------------------------------------------
// Several questions in one exchange

/// Asks for a name, and then for a password as often as the client likes.
struct Patient;

struct Asking {
    named: bool,
    /// Whether the authenticator is asked before the name is known, too.
    greets: bool,
}

impl Mechanism for Patient {
    fn name(&self) -> &str {
        "X-PATIENT"
    }

    fn first(&self) -> First {
        First::Server
    }

    fn begin(&self, _: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Asking { named: false, greets: true })
    }
}

impl Exchange for Asking {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        if std::mem::take(&mut self.greets) {
            return Step::Consult(Box::new("Who may come?"));
        }
        let response = response.map_or(&[][..], SecretRef::expose_secret);
        if !std::mem::replace(&mut self.named, true) {
            return credentials
                .set_authcid(response)
                .map_or_else(Step::from, |()| Step::Challenge(b"password?".into()));
        }
        Step::Consult(Box::new(response.to_vec()))
    }

    fn consulted(&mut self, result: AuthResult, _: &mut Credentials) -> Step {
        match result.refusal() {
            Some(_) => Step::Challenge(b"once more?".into()),
            None if !self.named => Step::Challenge(b"name?".into()),
            None => Step::Finish(result),
        }
    }
}

fn answer(request: &AuthRequest) -> AuthResult {
    match request.data::<Vec<u8>>() {
        Some(password) if password == b"pencil" => AuthResult::accept(),
        Some(_) => AuthResult::refuse(),
        None => AuthResult::accept().with_login("anybody"),
    }
}

/// Each guess counts, though the exchange goes on; and it counts for the name once that is known.
#[test]
fn an_exchange_with_many_guesses_counts_them_all() -> Result<(), Mismatch> {
    let log = Arc::new(Diary::default());
    let auth = Auth::new().mechanism(Patient).attempts(Arc::clone(&log) as Arc<dyn AttemptLog>);
    let mut embedder = Embedder::new(answer);
    // "tim", "pen", "pencil".
    let begin = "C: AUTH X-PATIENT\nS*: 334\nC: dGlt\nS*: 334";
    let dialogue = format!("{begin}\nC: cGVu\nS*: 334\nC: cGVu\nS*: 334\nC: cGVuY2ls\nS: 235 2.7.0 ...");
    Play::new(config(auth)).transcript_with(&mut embedder, &format!("{GREETING}\n{dialogue}"))?;
    let failed = "failed X-PATIENT \"tim\"";
    assert_eq!(log.outcomes(), [failed, failed, "succeeded X-PATIENT \"tim\""]);
    // One without a name, whose place one with a name takes; one for each guess behind the first.
    assert_eq!(log.counts(), [4, 2, 2]);

    let limits = AttemptLimits { by_address: 0, by_user: 3, ..AttemptLimits::default() };
    let auth = Auth::new().mechanism(Patient);
    let config = config(auth.attempts(Arc::new(MemoryAttemptLog::new(limits, || Duration::ZERO))));
    let mut embedder = Embedder::new(answer);
    let wrong = "C: cGVu\nS*: 334\n".repeat(3);
    let dialogue = format!("{GREETING}\n{begin}\n{wrong}C: cGVuY2ls\nS: 454 4.7.0 ...");
    Play::new(config).transcript_with(&mut embedder, &dialogue)?;
    assert_eq!(embedder.events, ["X-PATIENT too-many-attempts 3"]);
    Ok(())
}
