//! An exchange of a client with Dovecot, passed through step by step.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use sansmtp::{Answer, AuthResult, AuthTurn, SecretRef, Session};

use super::client::{Client, Unanswered};
use super::line::Line;
use super::link::Request;
use super::reply::Reply;
use super::server::Server;
use super::verdict::{Accepted, of_accepted, of_refused, of_unanswered};

/// Takes the turns of one connection's AUTH commands to Dovecot, one exchange after the other.
///
/// It blocks for as long as Dovecot takes, up to the [time limit](super::Settings::time_limit). Dropped in the middle
/// of an exchange, it tells Dovecot (`CANCEL`).
#[derive(Debug)]
pub struct Exchange {
    server: Arc<Server>,
    state: State,
    local_address: Option<SocketAddr>,
    session_id: Option<String>,
}

enum State {
    /// No exchange is in progress.
    Idle,
    /// The client has a challenge of Dovecot's.
    Challenged(Request),
    /// The client has the additional data of a success.
    Accepted(AuthResult),
}

impl Exchange {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, state: State::Idle, local_address: None, session_id: None }
    }

    /// Tells Dovecot which address clients have connected to. What a proxy or XCLIENT says goes before it.
    #[must_use]
    pub fn local_address(mut self, address: SocketAddr) -> Self {
        self.local_address = Some(address);
        self
    }

    /// Names the connection in Dovecot's log (`session=`). An id of some 16 letters and digits, unique for a while.
    #[must_use]
    pub fn session_id(mut self, id: impl Into<String>) -> Self {
        self.session_id = Some(id.into());
        self
    }

    /// Takes a turn of the AUTH handler hook: [`Handler::auth`](sansmtp::Handler::auth).
    ///
    /// The first turn of an AUTH command begins a new exchange; one that is still open is cancelled. The user's name
    /// as Dovecot has it becomes the session's login, and what else Dovecot says a [`Login`](super::Login) in its
    /// data.
    pub fn turn(&mut self, session: &Session, turn: AuthTurn) -> Answer {
        let mechanism = turn.mechanism();
        let state = std::mem::replace(&mut self.state, State::Idle);
        let replied = match state {
            _ if turn.number() == 0 => {
                drop(state);
                let client = self.client(session);
                client.begin(&self.server, mechanism, turn.response().map(SecretRef::expose_secret))
            }
            State::Challenged(request) => self.respond(request, turn.response()),
            // RFC 4422, section 5: the client answers the additional data with an empty response.
            State::Accepted(result) => {
                let is_empty = turn.response().is_none_or(|response| response.expose_secret().is_empty());
                return if is_empty { turn.result(result) } else { turn.malformed() };
            }
            // It was cancelled from outside.
            State::Idle => return turn.result(AuthResult::cannot_tell()),
        };
        match replied {
            Ok((request, Reply::Challenge(challenge))) => {
                self.state = State::Challenged(request);
                turn.challenge(challenge)
            }
            Ok((_, Reply::Accepted(fields))) => match of_accepted(fields, mechanism) {
                Accepted::Result(result) => turn.result(result),
                Accepted::Challenge(data, result) => {
                    self.state = State::Accepted(result);
                    turn.challenge(data)
                }
            },
            Ok((_, Reply::Refused(fields))) => turn.result(of_refused(&fields, mechanism)),
            Err(unanswered) => turn.result(of_unanswered(&unanswered, mechanism)),
        }
    }

    /// Cancels the exchange, if there is one. For [`Handler::event`](sansmtp::Handler::event), where an AUTH that
    /// failed may be one that the client has cancelled; without it Dovecot learns of that by the connection's next
    /// AUTH, or by its end.
    pub fn cancel(&mut self) {
        self.state = State::Idle;
    }

    fn client<'c>(&'c self, session: &'c Session) -> Client<'c> {
        let client = Client::of_session(session);
        Client { local: client.local.or(self.local_address), session_id: self.session_id.as_deref(), ..client }
    }

    fn respond(&self, mut request: Request, response: Option<SecretRef<'_>>) -> Result<(Request, Reply), Unanswered> {
        let _place = self.server.enter()?;
        let deadline = Instant::now() + self.server.settings().time_limit;
        let response = response.map(SecretRef::expose_secret).unwrap_or_default();
        let line = Line::new("CONT", request.id()).base64("", response).finish().map_err(|_| Unanswered::TooLong)?;
        let reply = request.ask(line, deadline)?;
        Ok((request, reply))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Challenged(_) => "Challenged",
            Self::Accepted(_) => "Accepted",
        })
    }
}
