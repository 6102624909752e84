//! What an operator sees: each event as a line of `tracing`, in a span that says of which connection.
//!
//! What nobody sees costs nothing: the engine tells only the events that the handler wants, or some subscriber.

use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use sansmtp::{AbortReason, Aborted, Envelope, Event, Events, Path, Peer, Session, TlsInfo};
use tracing::field::{DisplayValue, display};
use tracing::{Level, Span};

/// The span of a connection, and what its handler is told.
#[derive(Debug)]
pub(crate) struct Trace {
    span: Span,
    /// Of whom the span tells. A proxy, or XCLIENT, names another one.
    peer: Peer,
    /// The events that the handler wants.
    wanted: Events,
}

impl Trace {
    pub(crate) fn new(session: &Session) -> Self {
        Self { span: span(session), peer: session.peer(), wanted: Events::NONE }
    }

    /// The same for a handler that wants these events.
    pub(crate) fn wanting(self, wanted: Events) -> Self {
        Self { wanted, ..self }
    }

    /// The events to be told: to the handler, or to a subscriber.
    pub(crate) fn events(&self) -> Events {
        self.wanted | traced()
    }

    /// The span as it was last.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The span, which tells of `session` from now on.
    pub(crate) fn span_of(&mut self, session: &Session) -> &Span {
        if self.peer != session.peer() {
            self.peer = session.peer();
            self.span = span(session);
        }
        &self.span
    }

    /// Traces an event. The span, if the handler is to be told of it, too.
    pub(crate) fn note(&mut self, event: &Event<'_>) -> Option<&Span> {
        let is_wanted = self.wanted.contains(event.kind());
        let span = self.span_of(event.session());
        span.in_scope(|| trace(*event));
        is_wanted.then_some(span)
    }

    /// Traces a message that has no end. Where its content was refused, the event of that says so.
    pub(crate) fn note_aborted(&self, aborted: Aborted) {
        let Aborted { reason, octets } = aborted;
        if matches!(reason, AbortReason::ConnectionLost | AbortReason::Timeout | AbortReason::Reset) {
            self.span.in_scope(|| tracing::info!(%reason, octets, "message given up"));
        }
    }
}

/// Tells the handler of an event by `tell`, in the connection's span.
pub fn report(event: Event<'_>, span: &Span, tell: impl FnOnce(Event<'_>)) {
    span.in_scope(|| {
        if catch_unwind(AssertUnwindSafe(|| tell(event))).is_err() {
            tracing::error!(hook = "event", "the handler panicked");
        }
    });
}

/// Drops a handler, or what has it, in the connection's span.
pub fn put_away<T>(span: &Span, handler: T) {
    span.in_scope(|| {
        if catch_unwind(AssertUnwindSafe(|| drop(handler))).is_err() {
            tracing::error!(hook = "drop", "the handler panicked");
        }
    });
}

/// It is there wherever a line of any level is.
fn span(session: &Session) -> Span {
    tracing::error_span!("connection", id = session.id(), peer = %session.peer(), listener = %Listener(session))
}

/// By its name, if it has one, or else by its address.
struct Listener<'s>(&'s Session);

impl fmt::Display for Listener<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.listener(), self.0.local_address()) {
            (Some(name), _) => f.write_str(name),
            (None, Some(address)) => address.fmt(f),
            (None, None) => f.write_str("local"),
        }
    }
}

/// The events that a subscriber would see.
fn traced() -> Events {
    let mut events = Events::NONE;
    if tracing::enabled!(Level::WARN) {
        events = events | Events::AUTH | Events::PROXY_REFUSED | Events::LIMIT_REACHED;
    }
    if tracing::enabled!(Level::INFO) {
        events = events | Events::TLS_FAILED | Events::REFUSED | Events::MESSAGE_ACCEPTED;
    }
    if tracing::enabled!(Level::DEBUG) {
        events = Events::ALL;
    }
    events
}

fn trace(event: Event<'_>) {
    match event {
        Event::Opened { session, .. } => {
            tracing::debug!(local = session.local_address().map(display), "connection opened");
        }
        Event::Closed { reason, received, sent, lasted, .. } => {
            tracing::debug!(%reason, received, sent, seconds = lasted.as_secs_f64(), "connection closed");
        }
        Event::TlsEstablished { session, .. } => {
            let suite = session.tls().map(|tls| tls.cipher_suite.as_str());
            tracing::debug!(tls = session.tls().map(|tls| display(tls.version)), suite, "TLS handshake succeeded");
        }
        Event::TlsFailed { reason, .. } => tracing::info!(%reason, "TLS handshake failed"),
        Event::ClientRefused { reply, .. } => tracing::info!(reply = %Clean(reply), "client refused"),
        Event::CommandRefused { command, envelope, reply, .. } => {
            let command = command.unwrap_or("unknown");
            tracing::info!(command, sender = sender(envelope), reply = %Clean(reply), "command refused");
        }
        Event::TransactionBegun { envelope, .. } => tracing::debug!(sender = sender(envelope), "transaction begun"),
        Event::RecipientRefused { envelope, forward_path, reply, .. } => {
            let recipient = forward_path.map(|path| display(Word(path)));
            tracing::info!(sender = sender(envelope), recipient, reply = %Clean(reply), "recipient refused");
        }
        Event::MessageAccepted { session, envelope, forward_path, octets, reply, .. } => {
            tracing::info!(
                login = session.login(),
                sender = sender(envelope),
                recipient = forward_path.map(|path| display(Word(path))),
                recipients = envelope.forward_paths().len(),
                octets,
                reply = %Clean(reply),
                "message accepted"
            );
        }
        Event::MessageRefused { session, envelope, forward_path, octets, reply, .. } => {
            tracing::info!(
                login = session.login(),
                sender = sender(envelope),
                recipient = forward_path.map(|path| display(Word(path))),
                recipients = envelope.forward_paths().len(),
                octets,
                reply = %Clean(reply),
                "message refused"
            );
        }
        Event::LimitReached { limit, .. } => tracing::warn!(%limit, "limit reached"),
        Event::AuthSucceeded { peer, mechanism, login, tls, .. } => {
            tracing::info!(%peer, %mechanism, login, tls = %version(tls), "authentication succeeded");
        }
        // Without the name that was tried: a password may have been typed into its field.
        Event::AuthFailed { peer, mechanism, reason, failures, tls, .. } => {
            let mechanism = mechanism.map(|mechanism| mechanism.to_string()).unwrap_or_default();
            tracing::warn!(%peer, %mechanism, %reason, failures, tls = %version(tls), "authentication failed");
        }
        Event::ProxyRefused { peer, reason, .. } => tracing::warn!(%peer, %reason, "no header of a proxy"),
        // Of an engine that is newer than this driver.
        other => tracing::debug!(kind = ?other.kind(), "event"),
    }
}

fn version(tls: Option<&TlsInfo>) -> String {
    tls.map(|tls| tls.version.to_string()).unwrap_or_default()
}

fn sender(envelope: &Envelope) -> Option<DisplayValue<Word<Path<'_>>>> {
    envelope.reverse_path().map(|path| display(Word(path)))
}

/// Writes what a client, or a handler on its behalf, has put into words, without anything that could break a log line
/// or change how it is shown.
struct Clean<T>(T);

impl<T: fmt::Display> fmt::Display for Clean<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { f, spaces: false }, "{}", self.0)
    }
}

/// The same without spaces, for what is followed by other fields: a quoted local-part may have the words of another
/// line in it, of a failed login with somebody else's address, say, which programs that ban clients look for.
struct Word<T>(T);

impl<T: fmt::Display> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { f, spaces: true }, "{}", self.0)
    }
}

struct Escaping<'f, 'a> {
    f: &'f mut fmt::Formatter<'a>,
    /// Spaces are escaped, too.
    spaces: bool,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                // What `escape_debug` escapes beside what cannot be printed.
                '"' | '\'' | '\\' => self.f.write_char(character)?,
                ' ' if self.spaces => write!(self.f, "{}", character.escape_unicode())?,
                _ => write!(self.f, "{}", character.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_a_line() {
        for (text, clean) in [
            ("<tim@example.org>", "<tim@example.org>"),
            ("<\"a b\"@example.org>", "<\"a b\"@example.org>"),
            ("<\u{e9}\u{9b}31m@example.org>", "<\u{e9}\\u{9b}31m@example.org>"),
            ("<\u{202e}gro@example.org>", "<\\u{202e}gro@example.org>"),
            ("550 5.1.1 One\n550 5.1.1 Two", "550 5.1.1 One\\n550 5.1.1 Two"),
        ] {
            assert_eq!(Clean(text).to_string(), clean);
        }
    }

    #[test]
    fn a_path_is_one_word() {
        let path = "<\"authentication failed peer=192.0.2.1:25\"@example.org>";
        let word = "<\"authentication\\u{20}failed\\u{20}peer=192.0.2.1:25\"@example.org>";
        assert_eq!(Word(path).to_string(), word);
    }
}
