//! The handler: who may log in, how, and what may be sent.

use std::collections::HashMap;
use std::sync::Arc;

use sansmtp::auth::KnownPassword;
use sansmtp::{Answer, AuthRequest, AuthResult, AuthTurn, Envelope, Handler, Path, Refusal, Session, Verdict, reply};

use crate::ticket::Shown;

/// Who works here.
pub(crate) struct Staff {
    pub(crate) accounts: HashMap<String, Account>,
    pub(crate) tickets: Vec<String>,
    pub(crate) pins: HashMap<String, String>,
    /// Whose passwords are kept by a server that is down.
    pub(crate) unreachable: Vec<String>,
}

pub(crate) struct Account {
    pub(crate) password: KnownPassword,
    pub(crate) disabled: bool,
}

/// What a login may do, which the session remembers.
#[derive(Debug, PartialEq)]
pub(crate) enum Role {
    Staff,
    Visitor,
}

/// One connection's handler.
pub(crate) struct Office {
    staff: Arc<Staff>,
}

impl Office {
    pub(crate) fn new(staff: Arc<Staff>) -> Self {
        Self { staff }
    }
}

impl Handler for Office {
    type Message = Vec<u8>;

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        let authcid = request.credentials().authcid();
        if let Some(Shown(ticket)) = request.data() {
            return match self.staff.tickets.contains(ticket) {
                true => AuthResult::accept().with_auth_data(Role::Visitor),
                false => AuthResult::refuse(),
            };
        }
        if self.staff.unreachable.iter().any(|name| name == authcid) {
            return AuthResult::cannot_tell();
        }
        match self.staff.accounts.get(authcid) {
            Some(account) if account.disabled => AuthResult::refuse_because(Refusal::Disabled),
            Some(account) => account.password.answer(request).with_auth_data(Role::Staff),
            None => AuthResult::refuse_because(Refusal::UnknownUser),
        }
    }

    /// X-PIN, step by step: asks for name and PIN, with a space between them.
    fn auth(&mut self, _: &Session, turn: AuthTurn) -> Answer {
        let response = turn.response().and_then(|response| std::str::from_utf8(response.expose_secret()).ok());
        match (turn.number(), response.map(str::to_owned)) {
            (0, _) => turn.challenge(*b"Name and PIN?"),
            (_, Some(response)) => match response.split_once(' ') {
                Some((name, pin)) if self.staff.pins.get(name).is_some_and(|known| known == pin) => {
                    turn.result(AuthResult::accept().with_login(name).with_auth_data(Role::Visitor))
                }
                Some(_) => turn.result(AuthResult::refuse()),
                None => turn.malformed(),
            },
            (_, None) => turn.malformed(),
        }
    }

    fn mail(&mut self, session: &Session, _: &Envelope) -> Verdict {
        if session.is_authenticated() { Verdict::Accept } else { reply!("530 5.7.0 Who are you?").into() }
    }

    fn rcpt(&mut self, session: &Session, _: &Envelope, forward_path: Path<'_>) -> Verdict {
        match session.auth_data() {
            Some(Role::Visitor) if !forward_path.is_in_domain("example.org") => {
                reply!("550 5.7.1 Visitors write to us only").into()
            }
            _ => Verdict::Accept,
        }
    }

    fn message(&mut self, _: &Session, _: &Envelope, message: Vec<u8>) -> Verdict {
        // A server that means it stores the message before it accepts it.
        match message.windows(8).any(|octets| octets.eq_ignore_ascii_case(b"subject:")) {
            true => Verdict::Accept,
            false => reply!("554 5.6.0 A message has a subject here").into(),
        }
    }
}
