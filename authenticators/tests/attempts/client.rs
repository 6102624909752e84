//! Clients that come from an address, to an engine that counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sansmtp::auth::{AuthQuestion, ScramKeys};
use sansmtp::{Action, Answer, Auth, AuthRequest, AuthResult, AuthTurn, Config, Connection, Peer, Refusal};
use sansmtp_authenticators::attempts::{Guarded, ValkeyAttemptLog};
use sansmtp_authenticators::{Authenticator, Knows};

use crate::support::battery::USERS;

/// Who there is, at hand.
pub(crate) struct Users;

impl Authenticator for Users {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let found = USERS.iter().find(|(user, _)| *user == request.credentials().authcid());
        match (request.question(), found) {
            (_, None) => AuthResult::refuse_because(Refusal::UnknownUser),
            (AuthQuestion::Password(given), Some((_, password))) if given.ct_eq(password.as_bytes()) => {
                AuthResult::accept()
            }
            (AuthQuestion::ScramKeys(hash), Some((_, password))) => {
                AuthResult::scram_keys(ScramKeys::derive(hash, password.as_bytes(), b"salt", 4096).unwrap())
            }
            _ => AuthResult::refuse(),
        }
    }

    fn knows(&self, _: &AuthRequest) -> Knows {
        Knows::WhenAsked
    }
}

/// One server of a fleet.
pub(crate) struct Server {
    pub(crate) log: Arc<ValkeyAttemptLog>,
    /// Whether the engine counts, too, or is only guarded.
    pub(crate) users: Arc<dyn Authenticator>,
}

impl Server {
    pub(crate) fn new(log: &Arc<ValkeyAttemptLog>) -> Self {
        Self { log: Arc::clone(log), users: Arc::new(Guarded::new(Users, Arc::clone(log))) }
    }

    /// The code of the reply to AUTH PLAIN.
    pub(crate) fn plain(&self, from: &str, user: &str, password: &str) -> u16 {
        let words = format!("PLAIN {}", BASE64_STANDARD.encode(format!("\0{user}\0{password}")));
        self.auth(from, &words, |_| unreachable!())
    }

    /// The code of the reply to AUTH SCRAM-SHA-256 with a proof that is made of nothing.
    pub(crate) fn scram_without_password(&self, from: &str, user: &str) -> u16 {
        let words = format!("SCRAM-SHA-256 {}", BASE64_STANDARD.encode(format!("n,,n={user},r=0123456789")));
        self.auth(from, &words, |challenge| {
            let challenge = String::from_utf8(BASE64_STANDARD.decode(challenge).unwrap()).unwrap();
            if challenge.starts_with("e=") {
                return String::new();
            }
            let nonce = challenge.split(',').next().unwrap();
            BASE64_STANDARD.encode(format!("c=biws,{nonce},p={}", BASE64_STANDARD.encode([0; 32])))
        })
    }

    fn auth(&self, from: &str, words: &str, respond: impl Fn(&str) -> String) -> u16 {
        let auth = Auth::new().attempts(self.log.clone()).require_tls(false).pause(Duration::ZERO, Duration::ZERO);
        let config = Config::builder("mx.example.org").auth(auth).build().unwrap();
        let connection = Connection::new(config, peer(from));
        talk(
            connection,
            words,
            |challenge| Some(respond(challenge)),
            |asked| match asked {
                Asked::Request(request) => {
                    let result = self.users.authenticate(&request);
                    Some(request.answer(result))
                }
                Asked::Turn(turn) => panic!("{turn:?} is asked"),
            },
        )
    }
}

pub(crate) fn peer(from: &str) -> Peer {
    Peer::from(SocketAddr::new(from.parse().unwrap(), 12345))
}

/// What is asked of the embedder.
pub(crate) enum Asked {
    Request(AuthRequest),
    Turn(AuthTurn),
}

/// Says EHLO, and AUTH with these words, and responds to challenges until there is no response, or questions until
/// there is no answer. The code of the last reply.
pub(crate) fn talk(
    mut connection: Connection,
    words: &str,
    respond: impl Fn(&str) -> Option<String>,
    mut answer: impl FnMut(Asked) -> Option<Answer>,
) -> u16 {
    let mut lines = vec![format!("AUTH {words}\r\n"), "EHLO client.example.com\r\n".to_owned()];
    let mut last = 0;
    loop {
        let line = lines.pop();
        let mut input = line.as_deref().unwrap_or_default().as_bytes();
        loop {
            let asked = match connection.poll(Duration::ZERO, &mut input) {
                Action::Reply(reply) => {
                    last = reply.code();
                    continue;
                }
                Action::CallAuthenticator(request) => Asked::Request(request),
                Action::CallAuthHandler(turn) => Asked::Turn(turn),
                Action::Challenge(challenge) => {
                    match respond(challenge.to_string().trim_start_matches("334 ")) {
                        Some(response) => lines.push(response + "\r\n"),
                        None => return 334,
                    }
                    continue;
                }
                Action::NeedInput { .. } if line.is_none() => return last,
                Action::NeedInput { .. } => break,
                Action::Flush { .. } | Action::Event(_) => continue,
                other @ (Action::Transmit(_)
                | Action::CallHook(_)
                | Action::Content(_)
                | Action::Aborted(_)
                | Action::StartTls
                | Action::AwaitAnswer { .. }
                | Action::Pause { .. }
                | Action::Close) => panic!("{other:?} does not belong here"),
            };
            match answer(asked) {
                Some(answer) => connection.answer(answer).unwrap(),
                None => return last,
            }
        }
    }
}
