//! An embedder for transcripts: answers by functions, and writes down what it is told.

#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sansmtp::auth::{Attempt, AttemptLog, Credentials, Exchange, Mechanism, Reservation, Start, Step};
use sansmtp::testing::{Mismatch, Play};
use sansmtp::{
    Answer, Auth, AuthRequest, AuthResult, AuthTurn, Config, Event, Handler, Hooks, Reply, SecretRef, Session, TlsInfo,
};

/// Answers requests by `answer`, and turns by `turn`.
pub(crate) struct Embedder {
    pub(crate) answer: fn(&AuthRequest) -> AuthResult,
    pub(crate) turn: fn(AuthTurn) -> Answer,
    /// The name, reason and count of each event.
    pub(crate) events: Vec<String>,
}

impl Embedder {
    pub(crate) fn new(answer: fn(&AuthRequest) -> AuthResult) -> Self {
        Self { answer, turn: |turn| turn.result(AuthResult::cannot_tell()), events: Vec::new() }
    }
}

impl Handler for Embedder {
    type Message = ();

    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        (self.answer)(request)
    }

    fn auth(&mut self, _: &Session, turn: AuthTurn) -> Answer {
        (self.turn)(turn)
    }

    fn event(&mut self, event: Event<'_>) {
        self.events.push(match event {
            Event::AuthSucceeded { mechanism, login, .. } => format!("{mechanism} {login} ok"),
            Event::AuthFailed { mechanism, reason, failures, .. } => {
                let mechanism = mechanism.map(|mechanism| mechanism.to_string()).unwrap_or_default();
                format!("{mechanism} {reason} {failures}")
            }
            other @ (Event::ProxyRefused { .. } | _) => format!("{other:?}"),
        });
    }
}

/// Counts what is counted across connections.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) failed: AtomicU32,
    pub(crate) succeeded: AtomicU32,
    /// Attempts that are not over.
    pub(crate) open: AtomicU32,
}

impl AttemptLog for Counts {
    fn admit(&self, _: &Attempt<'_>) -> Option<Reservation> {
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Reservation::new(7))
    }

    fn release(&self, reservation: Reservation) {
        assert_eq!(reservation.number(), 7);
        assert_ne!(self.open.fetch_sub(1, Ordering::Relaxed), 0);
    }

    fn refused(&self, attempt: &Attempt<'_>) {
        assert_eq!(attempt.reservation, Some(Reservation::new(7)));
        assert_ne!(self.open.fetch_sub(1, Ordering::Relaxed), 0);
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn succeeded(&self, _: &Attempt<'_>) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn config(auth: Auth) -> Arc<Config> {
    let auth = auth.require_tls(false).pause(Duration::ZERO, Duration::ZERO);
    let builder = Config::builder("mx.example.org").auth(auth).auth_required(true).implicit_tls(true);
    builder.entropy(zeros).build().expect("a sound configuration")
}

/// Makes nonces known beforehand.
pub(crate) fn zeros(room: &mut [u8]) -> bool {
    room.fill(0);
    true
}

/// Plays a dialogue behind EHLO, cut in several ways.
pub(crate) fn play(config: &Arc<Config>, embedder: &mut Embedder, dialogue: &str) -> Result<(), Mismatch> {
    play_under(None, config, embedder, dialogue)
}

pub(crate) fn play_under(
    tls: Option<&TlsInfo>,
    config: &Arc<Config>,
    embedder: &mut Embedder,
    dialogue: &str,
) -> Result<(), Mismatch> {
    let mut events = None;
    for cut in [usize::MAX, 1, 2, 5, 64] {
        embedder.events.clear();
        let play = Play::new(Arc::clone(config)).cut(cut);
        let play = if let Some(tls) = tls { play.implicit_tls(tls.clone()) } else { play };
        play.transcript_with(embedder, &format!("S: 220 mx.example.org ESMTP\nC: EHLO c.example\n{dialogue}"))?;
        assert_eq!(events.get_or_insert(embedder.events.clone()), &embedder.events, "cut {cut}");
    }
    Ok(())
}

pub(crate) fn reply(text: &str) -> Reply {
    text.parse().expect("a reply")
}

/// Ends at its first step, whatever the client says.
pub(crate) struct Ending(pub(crate) &'static str, pub(crate) fn() -> Step);

impl Mechanism for Ending {
    fn name(&self) -> &str {
        self.0
    }

    fn begin(&self, _: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Self(self.0, self.1))
    }
}

impl Exchange for Ending {
    fn step(&mut self, _: Option<SecretRef<'_>>, _: &mut Credentials) -> Step {
        (self.1)()
    }
}
