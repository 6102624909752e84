//! A client's dialogue with the engine, whose AUTH commands go to Dovecot.

use std::time::Duration;

use sansmtp::auth::mechanism::{OAuthBearer, XOAuth2};
use sansmtp::{Action, Auth, AuthFailure, AuthResult, AuthTurn, Config, Connection, Event, Peer, Session, TlsInfo};
use sansmtp_authenticators::Authenticator as _;
use sansmtp_authenticators::dovecot::{Dovecot, Exchange};

use crate::{base64, unbase64};

/// A connection, and the handler's part of it.
pub(crate) struct Dialogue {
    connection: Connection,
    exchange: Exchange,
    authenticator: Option<Dovecot>,
    /// Asked before an exchange; it may refuse.
    pub(crate) guard: Option<Guard>,
    /// What TLS will have negotiated.
    tls: Option<TlsInfo>,
    pub(crate) failures: Vec<AuthFailure>,
    /// Without, the handler does not look at events.
    pub(crate) cancels: bool,
}

pub(crate) type Guard = Box<dyn Fn(&AuthTurn) -> Option<AuthResult> + Send>;

/// All mechanisms that Dovecot offers, as if they might be used in the clear.
pub(crate) fn all_in_the_clear(dovecot: &Dovecot) -> Auth {
    let mut auth = dovecot.offer(Auth::without_mechanisms().require_tls(false)).unwrap();
    for mechanism in dovecot.mechanisms().unwrap().iter().filter(|mechanism| mechanism.plaintext) {
        auth = auth.policy(mechanism.name.as_str(), sansmtp::auth::Policy::new());
    }
    auth
}

impl Dialogue {
    /// As if all mechanisms might be used in the clear.
    pub(crate) fn in_the_clear(dovecot: &Dovecot) -> Self {
        Self::new(dovecot.exchange(), all_in_the_clear(dovecot), Peer::local(), None)
    }

    /// By mechanisms of the engine's own, which ask Dovecot.
    pub(crate) fn of_the_engine(dovecot: &Dovecot) -> Self {
        let auth = Auth::new().mechanism(OAuthBearer::new()).mechanism(XOAuth2::new()).require_tls(false);
        let mut dialogue = Self::new(dovecot.exchange(), auth, Peer::local(), None);
        dialogue.authenticator = Some(dovecot.clone());
        dialogue
    }

    pub(crate) fn new(exchange: Exchange, auth: Auth, peer: Peer, tls: Option<TlsInfo>) -> Self {
        let auth = auth.pause(Duration::ZERO, Duration::ZERO);
        let config = Config::builder("mx.example.org").auth(auth).starttls(tls.is_some()).build().unwrap();
        let connection = Connection::new(config, peer);
        let (failures, cancels) = (Vec::new(), true);
        let mut dialogue = Self { connection, exchange, authenticator: None, guard: None, tls, failures, cancels };
        if dialogue.tls.is_some() {
            dialogue.say("EHLO client.example.com");
            dialogue.say("STARTTLS");
        }
        dialogue.say("EHLO client.example.com");
        dialogue
    }

    /// Sends a line. What the server says to it, without the line's end.
    pub(crate) fn say(&mut self, line: &str) -> String {
        let input = format!("{line}\r\n");
        let (mut input, mut said) = (input.as_bytes(), String::new());
        loop {
            let turn = match self.connection.poll(Duration::ZERO, &mut input) {
                Action::Reply(reply) => {
                    said = reply.to_string();
                    continue;
                }
                Action::Challenge(challenge) => {
                    said = challenge.to_string();
                    continue;
                }
                Action::CallAuthHandler(turn) => turn,
                Action::CallAuthenticator(request) => {
                    let result = self.authenticator.as_ref().unwrap().authenticate(&request);
                    self.connection.answer(request.answer(result)).unwrap();
                    continue;
                }
                Action::CallHook(call) => {
                    let answer = call.answer(sansmtp::Verdict::Accept);
                    self.connection.answer(answer).unwrap();
                    continue;
                }
                Action::Event(event) => {
                    if let Event::AuthFailed { reason, .. } = event {
                        self.failures.push(reason);
                        if self.cancels {
                            self.exchange.cancel();
                        }
                    }
                    continue;
                }
                Action::StartTls => {
                    self.connection.tls_established(self.tls.take().unwrap()).unwrap();
                    continue;
                }
                Action::Flush { .. } => continue,
                Action::NeedInput { .. } | Action::Close => return said.trim_end_matches(['\r', '\n']).to_owned(),
                other @ (Action::Transmit(_)
                | Action::Content(_)
                | Action::Aborted(_)
                | Action::Pause { .. }
                | Action::AwaitAnswer { .. }) => panic!("{other:?} does not belong here"),
            };
            let guard = self.guard.as_ref().filter(|_| turn.number() == 0);
            let answer = match guard.and_then(|refuses| refuses(&turn)) {
                Some(refused) => turn.result(refused),
                None => self.exchange.turn(self.connection.session(), turn),
            };
            self.connection.answer(answer).unwrap();
        }
    }

    /// Sends a response, encoded.
    pub(crate) fn respond(&mut self, response: impl AsRef<[u8]>) -> String {
        self.say(&base64(response.as_ref()))
    }

    /// AUTH with an initial response.
    pub(crate) fn auth(&mut self, mechanism: &str, response: impl AsRef<[u8]>) -> String {
        let response = response.as_ref();
        let response = if response.is_empty() { "=".to_owned() } else { base64(response) };
        self.say(&format!("AUTH {mechanism} {response}"))
    }

    pub(crate) fn session(&self) -> &Session {
        self.connection.session()
    }
}

/// The challenge behind a 334.
pub(crate) fn challenge(said: &str) -> Vec<u8> {
    unbase64(said.strip_prefix("334 ").unwrap_or_else(|| panic!("{said:?} is no challenge")))
}

/// What 334, 235 or 535 begins with.
pub(crate) fn code(said: &str) -> u16 {
    said.get(..3).and_then(|code| code.parse().ok()).unwrap_or_default()
}
