//! What the program does with a connection: where a message goes, and who may send one.

use std::io;
use std::sync::Arc;

use sansmtp::{
    Aborted, Answer, AuthRequest, AuthResult, AuthTurn, EnhancedCode, Envelope, Event, Events, Greeting, Handler,
    Hooks, MailData, Path, Reply, Session, Verdict, reply,
};
use sansmtp_authenticators::Authenticator;
use sansmtp_authenticators::attempts::ValkeyAttemptLog;
use sansmtp_authenticators::dovecot::{Dovecot, Exchange};
use sansmtp_authenticators::sending::{SendingLog, Transaction};
use sansmtp_relay::received::{Client, Protocol, Received};
use sansmtp_relay::senders::CurrentSender;
use sansmtp_relay::submission::Submission;
use sansmtp_relay::{self as relay, QueueId};

use crate::senders::SenderCheck;
use sansmtp_relay::store::{Incoming, Store};

/// What all connections share.
pub(crate) struct Shared {
    /// Whether there are metrics.
    pub(crate) is_counted: bool,
    pub(crate) users: Arc<dyn Authenticator>,
    pub(crate) senders: SenderCheck,
    /// Where whole exchanges are left to it.
    pub(crate) dovecot: Option<Dovecot>,
    /// Asked before such an exchange; `users` ask it themselves.
    pub(crate) attempts: Option<Arc<ValkeyAttemptLog>>,
    /// Counts what logins send, if there is a limit.
    pub(crate) sending: Option<Arc<SendingLog>>,
    pub(crate) store: Store,
    /// Octets that are to be free where the store is, before a message begins.
    pub(crate) min_free: u64,
    pub(crate) hostname: String,
    /// Whether `Received:` does not tell of clients.
    pub(crate) hide_client_address: bool,
}

/// One connection's handler.
pub(crate) struct Relayer {
    shared: Arc<Shared>,
    exchange: Option<Exchange>,
    /// What the mail transaction has reserved of the login's limits, where there are some.
    transaction: Option<Transaction>,
    sender: CurrentSender,
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
        Self { shared, exchange, transaction: None, sender: CurrentSender::default() }
    }

    fn begin(&self, session: &Session, envelope: &Envelope) -> io::Result<Writing> {
        let mailbox = |path: Path<'_>| match path.domain() {
            // `<Postmaster>` is this server's (RFC 5321, section 4.5.1), and so is any other name without a domain.
            None if !path.is_null() => format!("{}@{}", path.as_str(), self.shared.hostname),
            _ => path.as_str().to_owned(),
        };
        let reverse_path = envelope.reverse_path().map(mailbox).unwrap_or_default();
        let recipients = envelope.forward_paths().map(|path| {
            let mut recipient = relay::Recipient::new(mailbox(path));
            recipient.notify = path.notify().map(|sansmtp::Notify { success, failure, delay }| relay::Notify {
                success,
                failure,
                delay,
            });
            recipient.orcpt = path.original_recipient().map(|(address_type, address)| relay::OriginalRecipient {
                address_type: address_type.to_owned(),
                address: address.to_owned(),
            });
            recipient
        });
        let mut kept = relay::Envelope::new(reverse_path, recipients);
        kept.smtputf8 = envelope.is_smtputf8();
        kept.envid = envelope.envid().map(str::to_owned);
        kept.ret = envelope.ret().map(|ret| match ret {
            sansmtp::Ret::Full => relay::Ret::Full,
            sansmtp::Ret::Headers => relay::Ret::Headers,
        });
        kept.received = self.received(session, envelope, &kept.id);
        let header = Submission::new(&self.shared.hostname, &kept.id);
        let incoming = self.shared.store.begin(kept)?;
        Ok(Writing { header, incoming })
    }

    fn received(&self, session: &Session, envelope: &Envelope, id: &QueueId) -> String {
        let protocol = Protocol {
            extended: session.greeting().is_some_and(Greeting::is_extended),
            smtputf8: envelope.is_smtputf8(),
            tls: session.is_under_tls(),
            authenticated: session.is_authenticated(),
        };
        let name = session.trace_name().to_string();
        let tls = session.tls().map(|tls| format!("{} {}", tls.version, tls.cipher_suite));
        let mut recipients = envelope.forward_paths();
        let only = match (recipients.next(), recipients.next()) {
            (Some(only), None) => Some(only.to_string()),
            _ => None,
        };
        let mut received = Received::new(&self.shared.hostname, id, protocol);
        if !self.shared.hide_client_address {
            let address = session.peer().address().map(|address| address.ip());
            received = received.from(Client { name: &name, address, tls: tls.as_deref() });
        }
        if let Some(only) = &only {
            received = received.recipient(only);
        }
        received.to_string()
    }
}

impl Handler for Relayer {
    type Message = Draft;

    fn hooks(&self) -> Hooks {
        let hooks = Hooks::MAIL | Hooks::DATA | Hooks::MESSAGE;
        // Whatever ends a transaction gives back what it has reserved.
        let of_transactions = Hooks::HELLO | Hooks::RCPT | Hooks::RSET;
        if self.shared.sending.is_some() { hooks | of_transactions } else { hooks }
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

    fn events(&self) -> Events {
        if self.shared.is_counted { Events::ALL } else { Events::default() }
    }

    fn event(&mut self, event: Event<'_>) {
        if self.shared.is_counted {
            sansmtp_metrics::count(&event);
        }
        if let (Event::AuthFailed { .. }, Some(exchange)) = (event, &mut self.exchange) {
            exchange.cancel();
        }
    }

    fn hello(&mut self, _: &Session, _: Greeting, _: &str) -> Verdict {
        self.transaction = None;
        Verdict::Accept
    }

    fn mail(&mut self, session: &Session, envelope: &Envelope) -> Verdict {
        self.transaction = None;
        if let Err(refused) = self.shared.senders.reverse_path(&mut self.sender, session, envelope) {
            return refused;
        }
        match self.shared.store.free_octets() {
            Ok(free) if free < self.shared.min_free => {
                tracing::warn!(free, min_free = self.shared.min_free, "too little room for mail");
                return reply!("452 4.3.1 There is no room for mail now").into();
            }
            // What cannot be found out beforehand is found out by writing.
            Ok(_) | Err(_) => {}
        }
        match self.shared.sending.as_ref().zip(session.login()).map(|(log, login)| SendingLog::begin(log, login)) {
            None => Verdict::Accept,
            Some(Ok(transaction)) => {
                self.transaction = Some(transaction);
                Verdict::Accept
            }
            Some(Err(refused)) => refused.reply().into(),
        }
    }

    fn rcpt(&mut self, _: &Session, _: &Envelope, _: Path<'_>) -> Verdict {
        match self.transaction.as_mut().map(Transaction::add_recipient) {
            None | Some(Ok(())) => Verdict::Accept,
            Some(Err(refused)) => refused.reply().into(),
        }
    }

    fn reset(&mut self, _: &Session) -> Verdict {
        self.transaction = None;
        Verdict::Accept
    }

    fn aborted(&mut self, _: Aborted) {
        self.transaction = None;
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
    fn message(&mut self, session: &Session, _: &Envelope, message: Draft) -> Verdict {
        // What becomes no message is given back.
        let transaction = self.transaction.take();
        let Draft { writing: Some(writing) } = message else {
            return reply!("452 4.3.1 There is no room for the message now").into();
        };
        if let Err(refused) = self.shared.senders.header(&mut self.sender, session, writing.header.originators()) {
            return refused;
        }
        match writing.commit() {
            // The server logs the reply, with the identifier in it.
            Ok(id) => {
                if let Some(transaction) = transaction {
                    transaction.sent();
                }
                queued(&id)
            }
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
