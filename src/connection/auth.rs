//! The AUTH command and its exchange (RFC 4954, section 4).

use alloc::boxed::Box;
use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr;

use super::hooks::Asked;
use super::{Connection, KEPT_OCTETS, MAX_AUTH_LINE_OCTETS, Next, Outgoing, Stage, Told};
use crate::action::AuthFailure;
use crate::auth::result::Outcome;
use crate::auth::turn::TurnAnswer;
use crate::auth::{
    Auth, AuthResult, By, Ending, First, Hidden, LoggedExchange, MechanismName, Refusal, Running, RunningBy, Start,
    Step,
};
use crate::canned::{self, Canned};
use crate::config::Config;
use crate::event::{CloseReason, ReachedLimit};
use crate::framing::lines::Framed;
use crate::reply::Reply;
use crate::secret::{SecretRef, ShortSecret};
use crate::session::{Greeting, Session};

impl Session {
    /// Whether the client has said what AUTH needs.
    fn is_greeted_for_auth(&self, config: &Config) -> bool {
        match self.greeting() {
            Some(Greeting::Ehlo | Greeting::Lhlo) => true,
            Some(Greeting::Helo) => config.quirks.auth_after_helo,
            None => config.quirks.auth_before_ehlo,
        }
    }

    /// What hides every mechanism from this client for longer than a transaction.
    pub(super) fn auth_hidden(&self, config: &Config) -> Option<Hidden> {
        let for_tls_only = config.tls_required || config.auth.as_ref().is_some_and(Auth::is_for_tls_only);
        if for_tls_only && !self.is_under_tls() {
            Some(Hidden::NeedsTls)
        } else if !self.is_greeted_for_auth(config) {
            Some(Hidden::NoEhlo)
        } else if self.is_authenticated() {
            Some(Hidden::AuthenticatedAlready)
        } else {
            None
        }
    }
}

impl Connection {
    pub(super) fn auth_hidden(&self) -> Option<Hidden> {
        let in_transaction = self.envelope.is_open().then_some(Hidden::InTransaction);
        self.session.auth_hidden(&self.config).or(in_transaction)
    }

    /// Why the mechanism `name` could not be used at this moment; `None` if it could.
    ///
    /// ```
    /// use sansmtp::{Auth, Config, Connection, Hidden, Peer};
    ///
    /// let config = Config::builder("mx.example.org").auth(Auth::new()).starttls(true).build()?;
    /// let connection = Connection::new(config, Peer::local());
    /// assert_eq!(connection.why_hidden("PLAIN"), Some(Hidden::NeedsTls));
    /// assert_eq!(connection.why_hidden("GSSAPI"), Some(Hidden::NotOffered));
    /// # Ok::<(), sansmtp::ConfigError>(())
    /// ```
    #[must_use]
    pub fn why_hidden(&self, name: &str) -> Option<Hidden> {
        let Some(auth) = &self.config.auth else { return Some(Hidden::AuthNotConfigured) };
        let hidden = match auth.find(name.as_bytes()) {
            Some(offer) => auth.hides(offer, &self.session),
            None if auth.takeover => auth.hides_unknown(name.into(), &self.session),
            None => Some(Hidden::NotOffered),
        };
        hidden.or_else(|| self.auth_hidden())
    }

    /// The AUTH command.
    pub(super) fn auth(&mut self, now: Duration, arguments: &[u8]) {
        let (name, initial_response) = match memchr(b' ', arguments) {
            Some(space) => (arguments.get(..space).unwrap_or_default(), arguments.get(space + 1..)),
            None => (arguments, None),
        };
        let offer = self.config.auth.as_ref().and_then(|auth| auth.find(name));
        // Only a name from a list of ours is shown, or even copied: another word may be a password.
        let shown = offer.map(|offer| offer.name).or_else(|| MechanismName::well_known(name));
        let failed = |connection: &mut Self, reason, reply| connection.fail(shown, reason, reply);

        let Some(auth) = &self.config.auth else {
            return failed(self, AuthFailure::NotOffered, canned::NOT_IMPLEMENTED);
        };
        // Sequence before encryption: a client that has not said EHLO cannot know what is offered.
        if !self.session.is_greeted_for_auth(&self.config) {
            let reply = if self.config.lmtp { canned::SAY_LHLO_FIRST } else { canned::SAY_EHLO_FIRST };
            return failed(self, AuthFailure::OutOfSequence, reply);
        }
        match self.auth_hidden() {
            Some(Hidden::NeedsTls) => return failed(self, AuthFailure::TlsRequired, canned::ENCRYPTION_REQUIRED),
            Some(Hidden::AuthenticatedAlready) => {
                return failed(self, AuthFailure::OutOfSequence, canned::AUTHENTICATED_ALREADY);
            }
            Some(Hidden::InTransaction) => {
                return failed(self, AuthFailure::OutOfSequence, canned::AUTH_IN_TRANSACTION);
            }
            // Whether this mechanism is hidden is asked below.
            Some(_) | None => {}
        }
        let is_word = |word: &[u8]| !word.is_empty() && memchr(b' ', word).is_none();
        if name.is_empty() || !initial_response.is_none_or(is_word) {
            return failed(self, AuthFailure::Syntax, canned::AUTH_SYNTAX);
        }
        let taken_over = || auth.takeover.then(|| MechanismName::parse(name)).flatten();
        let Some(mechanism) = shown.or_else(taken_over) else {
            return failed(self, AuthFailure::UnknownMechanism, canned::UNKNOWN_MECHANISM);
        };
        let hidden = match offer {
            Some(offer) => auth.hides(offer, &self.session),
            None if auth.takeover => auth.hides_unknown(mechanism, &self.session),
            None => Some(Hidden::NotOffered),
        };
        match hidden {
            Some(Hidden::NeedsTls | Hidden::NeedsNewerTls) => {
                return failed(self, AuthFailure::TlsRequired, canned::ENCRYPTION_REQUIRED);
            }
            // What this client cannot use, it need not know of.
            Some(_) => return failed(self, AuthFailure::UnknownMechanism, canned::UNKNOWN_MECHANISM),
            None => {}
        }
        let (by, first) = match (auth.takeover, offer.map(|offer| &offer.by)) {
            (true, _) | (false, Some(By::Handler) | None) => (RunningBy::Handler, First::Either),
            (false, Some(By::Mechanism(by))) => {
                let start = Start::new(&self.session, &self.config, auth);
                (RunningBy::Mechanism(by.begin(&start)), by.first())
            }
        };
        if initial_response.is_some() && first == First::Server {
            return failed(self, AuthFailure::InitialResponseNotAllowed, canned::INITIAL_RESPONSE_NOT_ALLOWED);
        }
        let begin = |log| LoggedExchange::begin(log, self.session.peer(), mechanism).ok_or(());
        let Ok(logged) = auth.attempts.as_ref().map(begin).transpose() else {
            return failed(self, AuthFailure::TooManyUnfinished, canned::TOO_MANY_UNFINISHED);
        };
        self.exchange = Some(Running::new(mechanism, by, logged));
        self.credentials.clear();
        self.credentials.ignore_case(auth.ignore_case);
        match initial_response {
            // RFC 4954, section 4: "=" is an empty initial response, which is not the same as none.
            Some(b"=") => self.take_response(now, Some(&[]), 0),
            Some(encoded) => self.take_response(now, Some(encoded), 0),
            None if first == First::Client => {
                self.turns = 0;
                self.outgoing = Some(Outgoing::Canned(canned::EMPTY_CHALLENGE));
                self.await_response();
            }
            None => self.take_response(now, None, 0),
        }
    }

    /// The next line of the exchange.
    pub(super) fn read_response(&mut self, now: Duration, input: &mut &[u8]) -> Option<Next> {
        match self.lines.next(input, |_| MAX_AUTH_LINE_OCTETS) {
            Framed::Whole(line) => self.take_line(now, line),
            Framed::Parts(line) => {
                self.take_line(now, line.expose_secret());
                self.lines.put_back(line);
            }
            Framed::TooLong { .. } | Framed::BareNewline if self.is_ended() => self.take_line(now, &[]),
            Framed::TooLong { .. } => self.end_exchange(AuthFailure::TooLong, canned::AUTH_LINE_TOO_LONG),
            Framed::BareNewline => self.end_exchange(AuthFailure::Malformed, canned::BAD_BASE64),
            Framed::Skipped => {}
            Framed::Incomplete => return self.await_input(now, self.config.timeouts.command),
        }
        None
    }

    fn take_line(&mut self, now: Duration, line: &[u8]) {
        self.deadline = None;
        if let Some(ending) = self.take_ending() {
            return self.conclude_ended(now, ending, line == b"*");
        }
        if line == b"*" {
            return self.end_exchange(AuthFailure::Cancelled, canned::AUTH_CANCELLED);
        }
        // Behind the empty challenge curl writes an empty initial response as if it stood in the command. Only
        // for EXTERNAL does it have one to write; to the others, "=" is no base64.
        let is_empty = line == b"=" && self.turns == 0 && self.mechanism_in_use() == "EXTERNAL";
        let line = if is_empty { &[] } else { line };
        self.take_response(now, Some(line), self.turns);
    }

    /// Decodes a response and takes the exchange a step further.
    fn take_response(&mut self, now: Duration, encoded: Option<&[u8]>, turn: u32) {
        self.turns = turn.saturating_add(1);
        let Some(Running { by, .. }) = &mut self.exchange else { return };
        // What goes to the AUTH handler hook has to be owned; a mechanism only looks at it.
        let (mut short, most) = (ShortSecret::new(), encoded.map_or(0, |encoded| encoded.len() / 4 * 3 + 3));
        let room = match (&by, short.room(most)) {
            (RunningBy::Mechanism(_), Some(room)) => room,
            _ => self.held.refill(most),
        };
        // Strict: padding required, no white space, no stray bits (RFC 4648, section 3).
        let Ok(length) = STANDARD.decode_slice(encoded.unwrap_or_default(), &mut *room) else {
            return self.end_exchange(AuthFailure::Malformed, canned::BAD_BASE64);
        };
        match by {
            RunningBy::Handler => {
                self.held.truncate(length);
                if turn == 0 && !self.admit() {
                    return self.turn_away();
                }
                let about = Asked::Turn { number: turn, has_response: encoded.is_some() };
                self.stage = Stage::Asking { about, asked_until: None };
            }
            RunningBy::Mechanism(exchange) => {
                let response = encoded.and_then(|_| room.get(..length)).map(SecretRef::new);
                let step = exchange.step(response, &mut self.credentials);
                self.held.clear_and_shrink(KEPT_OCTETS);
                self.take_step(now, step, encoded.is_some());
            }
            // Taken before the line was decoded.
            RunningBy::Ended(_) => {}
        }
    }

    /// Does what the mechanism says. `responded` is whether the client's response led to it.
    fn take_step(&mut self, now: Duration, step: Step, responded: bool) {
        if step.is_question() {
            self.count_earlier_refusal();
        }
        // A challenge behind a response may show what the mechanism thinks of it.
        let may_judge = step.is_question() || step.is_decision() || responded && step.is_challenge();
        if may_judge && !self.admit() {
            return self.turn_away();
        }
        let (data, consulted) = match step {
            Step::Challenge(challenge) => return self.challenge(&challenge),
            Step::ChallengeVerbatim(challenge) => return self.challenge_verbatim(&challenge),
            Step::Malformed => return self.end_exchange(AuthFailure::Malformed, canned::MALFORMED_RESPONSE),
            Step::Finish(result) => return self.conclude(now, result),
            Step::ErrorChallenge(challenge, result) => return self.error_challenge(&challenge, Ending::Result(result)),
            Step::ErrorChallengeMalformed(challenge) => return self.error_challenge(&challenge, Ending::Malformed),
            // RFC 4616, section 2: neither may be empty, and no authenticator should have to know.
            Step::AskPassword if self.credentials.is_incomplete() => {
                return self.refuse_credentials(now, AuthFailure::EmptyCredentials, None, canned::BAD_CREDENTIALS);
            }
            Step::AskPassword => (None, false),
            Step::Ask(data) => (Some(data), false),
            Step::Consult(data) => (Some(data), true),
        };
        self.data = data;
        self.stage = Stage::Asking { about: Asked::Authenticator { consulted }, asked_until: None };
    }

    /// Says why the exchange fails. What the client says to that makes no difference, so the failure is
    /// told to the embedder, and counted, already.
    fn error_challenge(&mut self, challenge: &[u8], ending: Ending) {
        let mechanism = self.mechanism_in_use();
        if matches!(ending, Ending::Malformed) && self.count_unfinished(AuthFailure::Malformed) {
            return self.close_unfinished();
        }
        let reason = match &ending {
            Ending::Result(AuthResult { outcome: Outcome::Refused(refusal), .. }) => {
                self.count_failure();
                AuthFailure::Refused(*refusal)
            }
            Ending::Result(AuthResult { outcome: Outcome::Handled, .. }) => AuthFailure::Handled,
            Ending::Result(_) => AuthFailure::CannotTell,
            Ending::Malformed => AuthFailure::Malformed,
        };
        self.finish(Told::AuthFailed { mechanism: Some(mechanism), reason });
        self.exchange = Some(Running::new(mechanism, RunningBy::Ended(Box::new(ending)), None));
        self.challenge(challenge);
    }

    fn is_ended(&self) -> bool {
        matches!(&self.exchange, Some(Running { by: RunningBy::Ended(_), .. }))
    }

    fn take_ending(&mut self) -> Option<Ending> {
        match self.exchange.take_if(|running| matches!(running.by, RunningBy::Ended(_))) {
            Some(Running { by: RunningBy::Ended(ending), .. }) => Some(*ending),
            _ => None,
        }
    }

    /// The line behind an error challenge has come. `*` is answered as everywhere (RFC 4954, section 4);
    /// what was decided, stays decided.
    fn conclude_ended(&mut self, now: Duration, ending: Ending, cancelled: bool) {
        self.stage = Stage::Ready;
        let (message, default, refused) = match ending {
            Ending::Malformed => (None, canned::MALFORMED_RESPONSE, false),
            Ending::Result(AuthResult { outcome: Outcome::Refused(refusal), message, .. }) => {
                (message, refusal.reply(), true)
            }
            Ending::Result(AuthResult { outcome: Outcome::Handled | Outcome::CannotTell, message, .. }) => {
                (message, canned::AUTH_UNAVAILABLE, false)
            }
            // A mechanism that does not know what it says.
            Ending::Result(_) => (None, canned::AUTH_UNAVAILABLE, false),
        };
        let (message, default) = if cancelled { (None, canned::AUTH_CANCELLED) } else { (message, default) };
        if refused {
            self.pause_before_refusal(now, message, default);
        } else {
            self.say_either(message, default);
        }
    }

    /// Whether the log lets the client be judged, which it has to once for an exchange.
    fn admit(&mut self) -> bool {
        let authcid = self.credentials.authcid();
        self.exchange.as_mut().and_then(|running| running.logged.as_mut()).is_none_or(|logged| logged.admit(authcid))
    }

    fn turn_away(&mut self) {
        self.end_exchange(AuthFailure::TooManyAttempts, canned::TOO_MANY_ATTEMPTS);
    }

    fn count_failure(&mut self) {
        self.session.count_failed_authentication();
        if let Some(logged) = self.exchange.as_mut().and_then(|running| running.logged.as_mut()) {
            logged.refuse(self.credentials.authcid());
        }
    }

    /// A mechanism that asks again, after its authenticator has refused, has taken another guess.
    fn count_earlier_refusal(&mut self) {
        if self.exchange.as_mut().is_some_and(|running| core::mem::take(&mut running.refused)) {
            self.count_failure();
        }
    }

    /// The authenticator's result.
    pub(super) fn take_result(&mut self, now: Duration, about: Asked, result: AuthResult) {
        if let (
            Asked::Authenticator { consulted: true },
            Some(Running { by: RunningBy::Mechanism(exchange), refused, .. }),
        ) = (about, &mut self.exchange)
        {
            *refused = result.refusal().is_some();
            let step = exchange.consulted(result, &mut self.credentials);
            self.take_step(now, step, true);
        } else {
            self.conclude(now, result);
        }
    }

    /// The AUTH handler hook's answer.
    pub(super) fn take_turn(&mut self, now: Duration, answer: TurnAnswer) {
        match answer {
            TurnAnswer::Challenge(challenge) => self.challenge(&challenge),
            TurnAnswer::ChallengeVerbatim(challenge) => self.challenge_verbatim(&challenge),
            TurnAnswer::Finish(result) => self.conclude(now, result),
            TurnAnswer::Malformed => self.end_exchange(AuthFailure::Malformed, canned::MALFORMED_RESPONSE),
        }
    }

    pub(super) fn auth_unanswered(&mut self) {
        self.end_exchange(AuthFailure::Unanswered, canned::AUTH_UNAVAILABLE);
    }

    /// The connection ends in the middle of an exchange.
    pub(super) fn abandon_exchange(&mut self) {
        // One that has ended has been told of. Of any other, its drop tells the log.
        if self.take_ending().is_some() {
            return;
        }
        if let Some(running) = self.exchange.take() {
            let mechanism = Some(running.mechanism);
            self.tell(Told::AuthFailed { mechanism, reason: AuthFailure::ConnectionLost });
        }
    }

    pub(super) fn refuse_long_auth_line(&mut self) {
        self.fail(None, AuthFailure::TooLong, canned::AUTH_LINE_TOO_LONG);
    }

    pub(super) fn malformed_auth_command(&mut self, reply: Canned) {
        self.fail(None, AuthFailure::Syntax, reply);
    }

    pub(super) fn mechanism_in_use(&self) -> MechanismName {
        self.exchange.as_ref().map_or_else(|| "".into(), |running| running.mechanism)
    }

    fn challenge(&mut self, challenge: &[u8]) {
        self.out.clear();
        self.out.extend_from_slice(b"334 ");
        let start = self.out.len();
        self.out.resize(start + challenge.len().div_ceil(3) * 4, 0);
        if let Some(room) = self.out.get_mut(start..) {
            // The room is exactly what the encoding takes.
            let _ = STANDARD.encode_slice(challenge, room);
        }
        self.send_challenge();
    }

    fn challenge_verbatim(&mut self, challenge: &[u8]) {
        if !challenge.iter().all(|octet| matches!(octet, b' '..=b'~')) {
            return self.end_exchange(AuthFailure::CannotTell, canned::AUTH_UNAVAILABLE);
        }
        self.out.clear();
        self.out.extend_from_slice(b"334 ");
        self.out.extend_from_slice(challenge);
        self.send_challenge();
    }

    fn send_challenge(&mut self) {
        self.out.extend_from_slice(b"\r\n");
        self.outgoing = Some(Outgoing::Challenge);
        self.await_response();
    }

    fn await_response(&mut self) {
        self.stage = Stage::Exchange;
        if let Some(running) = &mut self.exchange {
            running.challenge();
        }
    }

    fn conclude(&mut self, now: Duration, result: AuthResult) {
        let mechanism = self.mechanism_in_use();
        match result.outcome {
            Outcome::Accepted { .. } if result.denies_authzid(&self.credentials) => {
                let reason = AuthFailure::Refused(Refusal::AuthzidNotGranted);
                self.refuse_credentials(now, reason, None, canned::BAD_CREDENTIALS);
            }
            Outcome::Accepted { .. } => {
                let attached = result.attached.map(|attached| *attached).unwrap_or_default();
                if let Some(logged) = self.exchange.as_mut().and_then(|running| running.logged.as_mut()) {
                    logged.succeed(self.credentials.authcid());
                }
                let mut credentials = core::mem::take(&mut self.credentials);
                // A mechanism that decided by itself has not handed them to anybody yet.
                credentials.forget_password();
                self.session.authenticate(mechanism, attached.login, credentials, attached.auth_data);
                self.counts.errors = 0;
                self.finish(Told::AuthSucceeded { mechanism });
                self.say_either(result.message, canned::AUTHENTICATED);
            }
            Outcome::Refused(refusal) => {
                let reason = AuthFailure::Refused(refusal);
                self.refuse_credentials(now, reason, result.message, refusal.reply());
            }
            Outcome::CannotTell => {
                self.finish(Told::AuthFailed { mechanism: Some(mechanism), reason: AuthFailure::CannotTell });
                self.say_either(result.message, canned::AUTH_UNAVAILABLE);
            }
            // Keys for which nobody asked.
            Outcome::Found { .. } => {
                self.finish(Told::AuthFailed { mechanism: Some(mechanism), reason: AuthFailure::CannotTell });
                self.say(canned::AUTH_UNAVAILABLE);
            }
            Outcome::Handled => {
                self.finish(Told::AuthFailed { mechanism: Some(mechanism), reason: AuthFailure::Handled });
                self.say_either(result.message, canned::AUTH_UNAVAILABLE);
            }
        }
    }

    /// Refuses credentials: counts them, and pauses before the client learns of it.
    fn refuse_credentials(&mut self, now: Duration, reason: AuthFailure, message: Option<Reply>, default: Canned) {
        let mechanism = self.mechanism_in_use();
        self.count_failure();
        self.finish(Told::AuthFailed { mechanism: Some(mechanism), reason });
        self.pause_before_refusal(now, message, default);
    }

    fn pause_before_refusal(&mut self, now: Duration, message: Option<Reply>, default: Canned) {
        let failures = self.session.failed_authentications();
        let (pause, close) = match &self.config.auth {
            Some(auth) => (auth.pause_before(failures), failures >= auth.max_failures),
            None => return,
        };
        let reply = match message {
            _ if close => Outgoing::Canned(canned::TOO_MANY_AUTH_FAILURES),
            Some(message) => {
                self.compose(&message);
                Outgoing::Composed
            }
            None => Outgoing::Canned(default),
        };
        self.stage = Stage::Pausing { until: now.saturating_add(pause), reply, close };
    }

    /// Ends an exchange that failed for another reason than its credentials.
    fn end_exchange(&mut self, reason: AuthFailure, reply: Canned) {
        let mechanism = self.exchange.as_ref().map(|running| running.mechanism);
        if self.count_unfinished(reason) {
            self.close_unfinished();
        } else {
            self.fail(mechanism, reason, reply);
        }
    }

    fn close_unfinished(&mut self) {
        let mechanism = self.exchange.as_ref().map(|running| running.mechanism);
        self.fail(mechanism, AuthFailure::TooManyUnfinished, canned::TOO_MANY_CANCELLED);
        self.tell_limit(ReachedLimit::UnfinishedExchanges);
        self.close(CloseReason::Limit);
    }

    /// Counts the exchange if the client leaves it unfinished by this. Whether it is the last that is borne.
    fn count_unfinished(&mut self, reason: AuthFailure) -> bool {
        let was_challenged = self.exchange.as_ref().is_some_and(|running| running.challenged);
        if !was_challenged || !reason.leaves_unfinished() {
            return false;
        }
        self.counts.unfinished = self.counts.unfinished.saturating_add(1);
        self.config.auth.as_ref().is_some_and(|auth| self.counts.unfinished >= auth.max_unfinished)
    }

    fn fail(&mut self, mechanism: Option<MechanismName>, reason: AuthFailure, reply: Canned) {
        self.finish(Told::AuthFailed { mechanism, reason });
        self.say(reply);
    }

    /// Ends the exchange. The credentials stay until the event has been looked at.
    fn finish(&mut self, told: Told) {
        let logged = self.exchange.take().and_then(|running| running.logged);
        let leaves_unfinished = matches!(told, Told::AuthFailed { reason, .. } if reason.leaves_unfinished());
        if let Some(mut logged) = logged.filter(|_| !leaves_unfinished) {
            logged.finish();
        }
        self.data = None;
        self.deadline = None;
        self.held.clear_and_shrink(KEPT_OCTETS);
        self.stage = Stage::Ready;
        // The reply is about what is told so.
        self.about = None;
        self.tell(told);
    }

    fn say_either(&mut self, message: Option<Reply>, default: Canned) {
        match message {
            Some(message) => self.say_reply(&message),
            None => self.say(default),
        }
    }
}
