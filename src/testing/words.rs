//! What questions, answers and events are called in a transcript.

use alloc::format;
use alloc::string::{String, ToString};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::transcript::{escape, unescape};
use crate::action::{Hook, HookCall};
use crate::auth::{AuthQuestion, AuthRequest, AuthResult, AuthTurn, KnownPassword, Refusal, ScramHash, ScramKeys};
use crate::envelope::Path;
use crate::event::Event;
use crate::question::{Answer, Verdict};
use crate::reply::InvalidReply;
use crate::session::Greeting;

/// The authenticator's answer to `request`, by its words.
pub(super) fn answer_request(request: &AuthRequest, words: &str) -> Option<AuthResult> {
    if let Some(password) = words.strip_prefix("password ") {
        return Some(KnownPassword::new(&unescape(password)?, b"sixteen octets..").ok()?.answer(request));
    }
    let asked_for = if let AuthQuestion::ScramKeys(hash) = request.question() { hash } else { ScramHash::Sha256 };
    parse_result(words, asked_for)
}

/// A result by its words. Keys are of `hash` unless another is named.
fn parse_result(answer: &str, hash: ScramHash) -> Option<AuthResult> {
    let (outcome, message) = match answer.split_once(" with ") {
        Some((outcome, message)) => (outcome, Some(message.parse().ok()?)),
        None => (answer, None),
    };
    let (word, rest) = outcome.split_once(' ').unwrap_or((outcome, ""));
    let result = match (word, rest) {
        ("accept" | "late", "") => AuthResult::accept(),
        ("grant", "") => AuthResult::accept().granting_authzid(),
        ("refuse", "") => AuthResult::refuse(),
        ("cannot-tell", "") => AuthResult::cannot_tell(),
        ("accept" | "grant", login) if login.starts_with("as ") => {
            let result = AuthResult::accept().with_login(login.strip_prefix("as ")?);
            if word == "grant" { result.granting_authzid() } else { result }
        }
        ("refuse", reason) if reason.starts_with("because ") => {
            AuthResult::refuse_because(parse_refusal(reason.strip_prefix("because ")?)?)
        }
        ("keys", _) => AuthResult::scram_keys(parse_keys(rest, hash)?),
        ("grant-keys", _) => AuthResult::scram_keys(parse_keys(rest, hash)?).granting_authzid(),
        ("keys-but", _) => {
            let (refusal, keys) = rest.split_once(' ')?;
            AuthResult::refuse_because(parse_refusal(refusal)?).with_scram_keys(parse_keys(keys, hash)?)
        }
        _ => AuthResult::handled_with(outcome.parse().ok()?).ok()?,
    };
    match message {
        Some(message) => result.with_message(message).ok(),
        None => Some(result),
    }
}

/// A turn's answer by its words; the turn, if they are none.
#[expect(clippy::result_large_err, reason = "the turn itself, handed back")]
pub(super) fn answer_turn(turn: AuthTurn, words: &str) -> Result<Answer, AuthTurn> {
    match words.split_once(' ') {
        Some(("challenge", text)) => match unescape(text) {
            Some(text) => Ok(turn.challenge(text)),
            None => Err(turn),
        },
        None if words == "malformed" => Ok(turn.malformed()),
        _ => match parse_result(words, ScramHash::Sha256) {
            Some(result) => Ok(turn.result(result)),
            None => Err(turn),
        },
    }
}

/// Whether a transcript's words are the question's: all of them, or those up to a secret.
pub(super) fn is_question(words: &str, short: &str, full: &str) -> bool {
    let rest = full.strip_prefix(words).filter(|_| words.starts_with(short));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// A hook's verdict by its words.
pub(super) fn parse_verdict(words: &str) -> Result<Verdict, InvalidReply> {
    match words.strip_prefix("each ") {
        Some(verdicts) => verdicts.split("; ").map(|word| parse_single_verdict(word.trim())).collect::<Result<_, _>>(),
        None => return parse_single_verdict(words),
    }
    .map(Verdict::Recipients)
}

fn parse_single_verdict(word: &str) -> Result<Verdict, InvalidReply> {
    match word {
        "accept" => Ok(Verdict::Accept),
        "try-later" => Ok(Verdict::TryLater),
        reply => reply.parse().map(Verdict::Reply),
    }
}

fn parse_refusal(word: &str) -> Option<Refusal> {
    Some(match word {
        "wrong" => Refusal::BadCredentials,
        "unknown-user" => Refusal::UnknownUser,
        "disabled" => Refusal::Disabled,
        "no-keys" => Refusal::NoKeys,
        "too-weak" => Refusal::MechanismTooWeak,
        "transition" => Refusal::PasswordTransitionNeeded,
        "encryption" => Refusal::EncryptionRequired,
        _ => return None,
    })
}

/// Keys by `[HASH] ITERATIONS SALT PASSWORD`; of the hash that is asked for where there is none.
fn parse_keys(text: &str, asked_for: ScramHash) -> Option<ScramKeys> {
    let hashes = [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512];
    let (first, rest) = text.split_once(' ')?;
    let (hash, text) = match hashes.into_iter().find(|hash| hash.mechanism() == first) {
        Some(hash) => (hash, rest),
        None => (asked_for, text),
    };
    let mut words = text.splitn(3, ' ');
    let iterations = words.next()?.parse().ok()?;
    let salt = STANDARD.decode(words.next()?).ok()?;
    ScramKeys::derive(hash, &unescape(words.next()?)?, &salt, iterations).ok()
}

pub(super) fn describe_hook(call: &HookCall<'_>) -> (String, String) {
    let last_path = |path: Option<Path<'_>>| escape(path.map(|path| path.to_string()).unwrap_or_default().as_bytes());
    let short: String = match call.hook() {
        Hook::Connect => "connect".into(),
        Hook::Hello(Greeting::Helo, name) => format!("helo {}", escape(name.as_bytes())),
        Hook::Hello(Greeting::Ehlo, name) => format!("ehlo {}", escape(name.as_bytes())),
        Hook::Hello(Greeting::Lhlo, name) => format!("lhlo {}", escape(name.as_bytes())),
        Hook::Mail => format!("mail {}", last_path(call.envelope().reverse_path())),
        Hook::Rcpt => format!("rcpt {}", last_path(call.envelope().forward_paths().next_back())),
        Hook::Data => "data".into(),
        Hook::Message { octets } => format!("message {octets}"),
        Hook::Reset => "rset".into(),
        Hook::Noop(argument) => format!("noop {}", escape(argument.as_bytes())).trim_end().into(),
        Hook::Verify(argument) => format!("vrfy {}", escape(argument.as_bytes())),
        Hook::Expand(argument) => format!("expn {}", escape(argument.as_bytes())),
        Hook::Help(argument) => format!("help {}", escape(argument.as_bytes())).trim_end().into(),
        Hook::Unknown(_) => "unknown".into(),
        Hook::Quit => "quit".into(),
    };
    let full =
        if call.hook() == Hook::Connect { format!("connect from {}", call.session().peer()) } else { short.clone() };
    (short, full)
}

pub(super) fn describe_request(request: &AuthRequest) -> (String, String) {
    let credentials = request.credentials();
    let mut short =
        format!("authenticate {} authcid={}", request.mechanism(), escape(credentials.authcid().as_bytes()));
    if let Some(authzid) = credentials.authzid() {
        short = format!("{short} authzid={}", escape(authzid.as_bytes()));
    }
    let full = match request.question() {
        AuthQuestion::Password(password) => {
            let prepared = password.prepared().map(|form| format!(" password={}", escape(form.expose_secret())));
            let sent = Some(password.as_sent()).filter(|sent| Some(*sent) != password.prepared());
            let sent = sent.map(|sent| format!(" sent={}", escape(sent.expose_secret())));
            [short.as_str(), &prepared.unwrap_or_default(), &sent.unwrap_or_default()].concat()
        }
        AuthQuestion::BearerToken(token) => format!("{short} token={}", escape(token.token().expose_secret())),
        AuthQuestion::Anonymous(trace) => format!("{short} trace={}", escape(trace.as_str().as_bytes())),
        AuthQuestion::ScramKeys(_)
        | AuthQuestion::CramMd5(_)
        | AuthQuestion::ClientCertificate(_)
        | AuthQuestion::Other => short.clone(),
    };
    (short, full)
}

pub(super) fn describe_turn(turn: &AuthTurn) -> (String, String) {
    let short = format!("auth {}", turn.mechanism());
    let full = match turn.response() {
        Some(response) => format!("{short} response={}", escape(response.expose_secret())),
        None => short.clone(),
    };
    (short, full)
}

pub(super) fn describe_event(event: Event<'_>) -> String {
    let path = |path: Option<Path<'_>>| path.map_or_else(|| "-".into(), |path| escape(path.to_string().as_bytes()));
    let recipient = |path: Option<Path<'_>>| {
        path.map_or_else(String::new, |path| format!(" {}", escape(path.to_string().as_bytes())))
    };
    match event {
        Event::AuthSucceeded { mechanism, login, .. } => format!("auth-ok {mechanism} {}", escape(login.as_bytes())),
        Event::AuthFailed { mechanism: Some(mechanism), reason, .. } => format!("auth-failed {mechanism} {reason}"),
        Event::AuthFailed { mechanism: None, reason, .. } => format!("auth-failed - {reason}"),
        Event::ProxyRefused { reason, .. } => format!("proxy-refused {reason}"),
        Event::Opened { .. } => "opened".into(),
        Event::Closed { reason, .. } => format!("closed {reason}"),
        Event::TlsEstablished { session } => {
            format!("tls-ok {}", session.tls().map(|tls| tls.version.to_string()).unwrap_or_default())
        }
        Event::TlsFailed { reason, .. } => format!("tls-failed {reason}"),
        Event::ClientRefused { reply, .. } => format!("client-refused {}", reply.code()),
        Event::CommandRefused { command, reply, .. } => format!("refused {} {}", command.unwrap_or("-"), reply.code()),
        Event::TransactionBegun { envelope, .. } => format!("transaction {}", path(envelope.reverse_path())),
        Event::RecipientRefused { forward_path, reply, .. } => {
            format!("rcpt-refused {} {}", path(forward_path), reply.code())
        }
        Event::MessageAccepted { forward_path, octets, reply, .. } => {
            format!("message-ok {octets} {}{}", reply.code(), recipient(forward_path))
        }
        Event::MessageRefused { forward_path, octets, reply, .. } => {
            format!("message-refused {octets} {}{}", reply.code(), recipient(forward_path))
        }
        Event::LimitReached { limit, .. } => format!("limit {limit}"),
    }
}
