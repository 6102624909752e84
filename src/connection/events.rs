//! What is told for logs and counters, and when.
//!
//! A refusal is told in one place, where its reply is given out, so that none can be forgotten: [`About`] says
//! what the reply is about. The reply, and the path or the transaction that lapses by it, are there until its
//! event has been looked at.

use core::time::Duration;

use super::{Connection, Next, Outgoing, Stage};
use crate::action::{AbortReason, AuthFailure};
use crate::auth::MechanismName;
use crate::command::Verb;
use crate::config::Events;
use crate::event::{CloseReason, Event, ReachedLimit, TlsFailure};
use crate::proxy::ProxyRefusal;
use crate::reply::ReplyRef;

/// What the embedder is to be told; the view adds who and what it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    Opened,
    Closed { lasted: Duration },
    TlsEstablished,
    TlsFailed(TlsFailure),
    Reply(About),
    LimitReached(ReachedLimit),
    AuthSucceeded { mechanism: MechanismName },
    AuthFailed { mechanism: Option<MechanismName>, reason: AuthFailure },
    ProxyRefused(ProxyRefusal),
}

/// What the next reply is about. Nothing in it is larger than its tag: what a smaller variant leaves unused would keep
/// what lay on the stack, which may be a piece of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    /// The connection itself.
    Client,
    Command(Verb),
    /// A message of as many octets as were [counted](super::state::Counts::message).
    Message,
    /// LMTP's reply for one recipient, who was [counted](super::state::Counts::recipient).
    MessageFor,
}

/// What is over by the reply that comes next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lapsed {
    /// The last forward-path.
    ForwardPath,
    Transaction,
}

impl Told {
    fn kind(self) -> Events {
        match self {
            Self::Opened => Events::OPENED,
            Self::Closed { .. } => Events::CLOSED,
            Self::TlsEstablished => Events::TLS_ESTABLISHED,
            Self::TlsFailed(_) => Events::TLS_FAILED,
            // Asked for each of its events where the reply is known.
            Self::Reply(_) => Events::NONE,
            Self::LimitReached(_) => Events::LIMIT_REACHED,
            Self::AuthSucceeded { .. } | Self::AuthFailed { .. } => Events::AUTH,
            Self::ProxyRefused(_) => Events::PROXY_REFUSED,
        }
    }
}

impl Connection {
    /// Has the embedder told before anything else is done.
    pub(super) fn tell(&mut self, told: Told) {
        if self.events.contains(told.kind()) {
            self.event = Some(told);
        }
    }

    pub(super) fn tell_limit(&mut self, limit: ReachedLimit) {
        if self.events.contains(Events::LIMIT_REACHED) {
            self.limit = Some(limit);
        }
    }

    /// Ends the connection once what is to be said has been said.
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.close_reason.get_or_insert(reason);
        self.stage = Stage::Closing;
    }

    /// The first event, once it is known who the client is.
    #[inline]
    pub(super) fn next_opening(&mut self) -> Option<Next> {
        if self.opened || matches!(self.stage, Stage::Header(_)) {
            return None;
        }
        self.opened = true;
        self.events.contains(Events::OPENED).then_some(Next::Event(Told::Opened))
    }

    /// The last event, and then the end.
    pub(super) fn next_closing(&mut self, now: Duration) -> Next {
        if self.closed || !self.events.contains(Events::CLOSED) {
            return Next::Close;
        }
        self.closed = true;
        Next::Event(Told::Closed { lasted: now })
    }

    /// The event, if any, that belongs to the reply that is to be given out.
    pub(super) fn next_about_reply(&mut self, outgoing: Outgoing) -> Option<Next> {
        let about = self.about.take()?;
        let is_refusal = matches!(self.encoded(outgoing), [b'4' | b'5', ..]);
        let kind = match about {
            _ if is_refusal => Events::REFUSED,
            About::Message | About::MessageFor => Events::MESSAGE_ACCEPTED,
            About::Command(Verb::Mail) => Events::TRANSACTION_BEGUN,
            About::Client | About::Command(_) => return None,
        };
        self.events.contains(kind).then_some(Next::Event(Told::Reply(about)))
    }

    /// Lets go of what is over by the reply that is to be given out, and was kept for its event.
    pub(super) fn let_lapse(&mut self) {
        match self.lapsed.take() {
            Some(Lapsed::ForwardPath) => self.envelope.pop_forward_path(),
            Some(Lapsed::Transaction) => self.clear_transaction(),
            None => {}
        }
    }

    /// Says that the connection is over, whatever it was doing: nothing can be written to the peer, or read from
    /// it, any more.
    ///
    /// An open question is given up: its answer is [`NotAsked`](crate::NotAsked). The polls that are left give
    /// [`Action::Aborted`](crate::Action::Aborted), [`Action::Event`](crate::Action::Event) and
    /// [`Action::Close`](crate::Action::Close) and nothing else. [`Event::Closed`] has `reason`, unless the
    /// connection was closing already for one of its own.
    pub fn abandon(&mut self, reason: CloseReason) {
        if !matches!(self.stage, Stage::Closing) {
            self.give_up(AbortReason::ConnectionLost, reason);
        }
        (self.outgoing, self.about, self.limit) = (None, None, None);
        self.answer = None;
        self.slot.expire();
        self.unflushed = 0;
        self.flush_due = false;
        self.let_lapse();
    }

    /// TLS that was established broke: nothing more can be read.
    #[cfg(feature = "rustls")]
    pub(crate) fn tls_broke(&mut self, reason: TlsFailure) {
        self.close_reason.get_or_insert(CloseReason::TlsFailed);
        self.tell(Told::TlsFailed(reason));
        self.end_of_input();
    }

    pub(super) fn event(&self, told: Told) -> Event<'_> {
        let session = &self.session;
        let (peer, tls) = (session.peer(), session.tls().map(|tls| &**tls));
        match told {
            Told::Opened => Event::Opened { session },
            Told::Closed { lasted } => Event::Closed {
                session,
                reason: self.close_reason.unwrap_or(CloseReason::PeerClosed),
                received: self.counts.received,
                sent: self.counts.sent,
                lasted,
            },
            Told::TlsEstablished => Event::TlsEstablished { session },
            Told::TlsFailed(reason) => Event::TlsFailed { session, reason },
            Told::Reply(about) => self.event_about_reply(about),
            Told::LimitReached(limit) => Event::LimitReached { session, limit },
            Told::AuthSucceeded { mechanism } => Event::AuthSucceeded {
                peer,
                mechanism,
                login: session.login().unwrap_or_default(),
                authzid: session.authzid(),
                tls,
                session,
            },
            Told::AuthFailed { mechanism, reason } => Event::AuthFailed {
                peer,
                mechanism,
                authcid: Some(self.credentials.authcid()).filter(|authcid| !authcid.is_empty()),
                reason,
                failures: session.failed_authentications(),
                tls,
                session,
            },
            Told::ProxyRefused(reason) => Event::ProxyRefused { peer, reason, session },
        }
    }

    fn event_about_reply(&self, about: About) -> Event<'_> {
        let (session, envelope) = (&self.session, &self.envelope);
        let reply = ReplyRef::new(self.outgoing.map_or(&[][..], |outgoing| self.encoded(self.said(outgoing))));
        let is_refusal = reply.code() >= 400;
        let octets = self.counts.message;
        let forward_path = match about {
            About::Client => return Event::ClientRefused { session, reply },
            About::Command(Verb::Mail) if !is_refusal => return Event::TransactionBegun { session, envelope },
            About::Command(Verb::Rcpt) => {
                let is_read = matches!(self.lapsed, Some(Lapsed::ForwardPath));
                let forward_path = envelope.forward_paths().next_back().filter(|_| is_read);
                return Event::RecipientRefused { session, envelope, forward_path, reply };
            }
            About::Command(verb) => {
                return Event::CommandRefused { session, envelope, command: verb.name(), reply };
            }
            About::Message => None,
            About::MessageFor => envelope.forward_paths().nth(self.counts.recipient),
        };
        if is_refusal {
            Event::MessageRefused { session, envelope, forward_path, octets, reply }
        } else {
            Event::MessageAccepted { session, envelope, forward_path, octets, reply }
        }
    }
}
