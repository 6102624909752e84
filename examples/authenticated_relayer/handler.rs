//! What the program does with a connection: where a message goes, and who may send one.

use std::io;
use std::sync::Arc;

use mail_builder::headers::date::Date;
use sansmtp::{
    Answer, AuthRequest, AuthResult, AuthTurn, EnhancedCode, Envelope, Event, Greeting, Handler, Hooks, MailData, Path,
    Reply, Session, Verdict, reply,
};
use sansmtp_authenticators::Authenticator;
use sansmtp_authenticators::attempts::ValkeyAttemptLog;
use sansmtp_authenticators::dovecot::{Dovecot, Exchange};
use sansmtp_relay::submission::Submission;
use sansmtp_relay::{self as relay, QueueId};

use crate::store::{Incoming, Store};

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) users: Arc<dyn Authenticator>,
    /// Where whole exchanges are left to it.
    pub(crate) dovecot: Option<Dovecot>,
    /// Asked before such an exchange; `users` ask it themselves.
    pub(crate) attempts: Option<Arc<ValkeyAttemptLog>>,
    pub(crate) store: Store,
    /// Octets that are to be free where the store is, before a message begins.
    pub(crate) min_free: u64,
    pub(crate) hostname: String,
}

/// One connection's handler.
pub(crate) struct Relayer {
    shared: Arc<Shared>,
    exchange: Option<Exchange>,
}

/// A message on its way into the store. Dropped, it leaves nothing behind there.
#[derive(Default)]
pub(crate) struct Draft {
    /// Gone where something of it could not be stored.
    writing: Option<Writing>,
}

struct Writing {
    header: Submission,
    incoming: Incoming,
}

impl MailData for Draft {
    fn append(&mut self, piece: &[u8]) {
        if let Some(Writing { header, incoming }) = &mut self.writing
            && let Err(error) = header.push(piece, |octets| incoming.write(octets))
        {
            tracing::error!(%error, "cannot store a message");
            // Its end is then answered 452.
            self.writing = None;
        }
    }
}

impl Writing {
    fn commit(self) -> io::Result<QueueId> {
        let Self { header, mut incoming } = self;
        header.finish(|octets| incoming.write(octets))?;
        incoming.commit()
    }
}

impl Relayer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let exchange = shared.dovecot.as_ref().map(Dovecot::exchange);
        Self { shared, exchange }
    }

    fn begin(&self, session: &Session, envelope: &Envelope) -> io::Result<Writing> {
        let mailbox = |path: Path<'_>| match path.domain() {
            // `<Postmaster>` is this server's (RFC 5321, section 4.5.1), and so is any other name without a domain.
            None if !path.is_null() => format!("{}@{}", path.as_str(), self.shared.hostname),
            _ => path.as_str().to_owned(),
        };
        let reverse_path = envelope.reverse_path().map(mailbox).unwrap_or_default();
        let mut kept = relay::Envelope::new(reverse_path, envelope.forward_paths().map(mailbox));
        kept.smtputf8 = envelope.is_smtputf8();
        kept.received = received(session, envelope, &self.shared.hostname, &kept.id);
        let header = Submission::new(&self.shared.hostname, &kept.id);
        let incoming = self.shared.store.begin(kept)?;
        Ok(Writing { header, incoming })
    }
}

impl Handler for Relayer {
    type Message = Draft;

    fn hooks(&self) -> Hooks {
        Hooks::MAIL | Hooks::DATA | Hooks::MESSAGE
    }

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        self.shared.users.authenticate(request)
    }

    fn auth(&mut self, session: &Session, turn: AuthTurn) -> Answer {
        if turn.number() == 0
            && let Some(log) = &self.shared.attempts
            && let Some(refused) = log.ask(&turn.attempt()).result()
        {
            return turn.result(refused);
        }
        match &mut self.exchange {
            Some(exchange) => exchange.turn(session, turn),
            None => turn.result(AuthResult::cannot_tell()),
        }
    }

    fn event(&mut self, event: Event<'_>) {
        if let (Event::AuthFailed { .. }, Some(exchange)) = (event, &mut self.exchange) {
            exchange.cancel();
        }
    }

    fn mail(&mut self, _: &Session, _: &Envelope) -> Verdict {
        match self.shared.store.free_octets() {
            Ok(free) if free < self.shared.min_free => {
                tracing::warn!(free, min_free = self.shared.min_free, "too little room for mail");
                reply!("452 4.3.1 There is no room for mail now").into()
            }
            // What cannot be found out beforehand is found out by writing.
            Ok(_) | Err(_) => Verdict::Accept,
        }
    }

    fn data(&mut self, session: &Session, envelope: &Envelope, message: &mut Draft) -> Verdict {
        match self.begin(session, envelope) {
            Ok(writing) => {
                message.writing = Some(writing);
                Verdict::Accept
            }
            Err(error) => {
                tracing::error!(%error, "cannot begin to store a message");
                reply!("451 4.3.0 The message cannot be stored now").into()
            }
        }
    }

    /// 250 is said when the message is on the disk, and not before.
    fn message(&mut self, _: &Session, _: &Envelope, message: Draft) -> Verdict {
        let Draft { writing: Some(writing) } = message else {
            return reply!("452 4.3.1 There is no room for the message now").into();
        };
        match writing.commit() {
            // The server logs the reply, with the identifier in it.
            Ok(id) => queued(&id),
            Err(error) => {
                tracing::error!(%error, "cannot store a message");
                reply!("451 4.3.0 The message cannot be stored now").into()
            }
        }
    }
}

fn queued(id: &QueueId) -> Verdict {
    let text = format!("Queued as {id}");
    match EnhancedCode::new(2, 0, 0).and_then(|code| Reply::new(250, code, &text)) {
        Ok(reply) => reply.into(),
        Err(_) => Verdict::Accept,
    }
}

/// The trace header (RFC 5321, section 4.4; RFC 3848 and RFC 6531, section 4.3 for the protocol's name). It
/// tells no login name, and a recipient only where there is one: a second would be disclosed to the first.
fn received(session: &Session, envelope: &Envelope, hostname: &str, id: &QueueId) -> String {
    let utf8 = envelope.is_smtputf8();
    let protocol = match (session.greeting(), utf8) {
        (Some(Greeting::Ehlo), true) => "UTF8SMTP",
        (Some(Greeting::Ehlo), false) => "ESMTP",
        _ => "SMTP",
    };
    let tls = if session.is_under_tls() { "S" } else { "" };
    let authenticated = if session.is_authenticated() { "A" } else { "" };
    let address = match session.peer().address().map(|address| address.ip()) {
        Some(std::net::IpAddr::V4(address)) => format!("[{address}]"),
        Some(std::net::IpAddr::V6(address)) => format!("[IPv6:{address}]"),
        None => "unknown".to_owned(),
    };
    let cipher =
        session.tls().map_or_else(String::new, |tls| format!("\r\n\t(using {} {})", tls.version, tls.cipher_suite));
    let mut recipients = envelope.forward_paths();
    let for_whom = match (recipients.next(), recipients.next()) {
        (Some(only), None) => format!("\r\n\tfor {only}"),
        _ => String::new(),
    };
    format!(
        "Received: from {} ({address}){cipher}\r\n\tby {hostname} with {protocol}{tls}{authenticated} id {id}{for_whom};\r\n\t{}\r\n",
        session.trace_name(),
        Date::now().to_rfc822(),
    )
}
