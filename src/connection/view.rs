//! The second half of `poll`: from what was decided to the borrowing action.

use super::{Connection, Next, Outgoing};
use crate::action::{Action, Challenge, HookCall, HookQuestion};
use crate::auth::{AuthRequest, AuthTurn, Running};
use crate::canned::Canned;
use crate::mail_data::Piece;
use crate::reply::ReplyRef;

impl Connection {
    /// Turns `next`, which `advance` has just given, into its action. `whole` is the input as it was
    /// before `advance`.
    #[inline]
    pub(crate) fn view<'c, 'i: 'c>(&'c mut self, next: Next, whole: &'i [u8]) -> Action<'c> {
        match next {
            Next::Reply(Outgoing::Challenge) => Action::Challenge(Challenge::new(&self.out)),
            Next::Reply(outgoing) => Action::Reply(ReplyRef::new(self.encoded(outgoing))),
            Next::Flush { deadline } => Action::Flush { deadline },
            Next::CallAuthenticator => Action::CallAuthenticator(AuthRequest {
                ticket: self.slot.ask(),
                mechanism: self.mechanism_in_use(),
                credentials: core::mem::take(&mut self.credentials),
                data: self.data.take(),
                peer: self.session.peer(),
                tls: self.session.tls().cloned(),
                reservation: self.exchange.as_ref().and_then(Running::reservation),
            }),
            Next::CallAuthHandler { number, has_response } => Action::CallAuthHandler(AuthTurn {
                ticket: self.slot.ask(),
                mechanism: self.mechanism_in_use(),
                number,
                response: has_response.then(|| core::mem::take(&mut self.held)),
                peer: self.session.peer(),
                reservation: self.exchange.as_ref().and_then(Running::reservation),
            }),
            Next::CallHook(about) => {
                let question = HookQuestion { ticket: self.slot.ask() };
                let (session, envelope, held) = (&self.session, &self.envelope, self.held.as_ref());
                Action::CallHook(HookCall { session, envelope, about, held, question })
            }
            Next::Piece { offset, skipped, length } => {
                let octets = whole.get(skipped..).and_then(|rest| rest.get(..length)).unwrap_or_default();
                Action::Content(Piece::new(offset, octets))
            }
            Next::Inserted { offset, octets } => Action::Content(Piece::new(offset, octets)),
            Next::Aborted(aborted) => Action::Aborted(aborted),
            Next::Event(event) => Action::Event(self.event(event)),
            Next::StartTls => Action::StartTls,
            Next::NeedInput { deadline } => Action::NeedInput { deadline },
            Next::AwaitAnswer { deadline } => Action::AwaitAnswer { deadline },
            Next::Pause { until } => Action::Pause { until },
            Next::Close => Action::Close,
        }
    }

    /// The octets of a reply that `advance` has just given.
    pub(crate) fn encoded(&self, outgoing: Outgoing) -> &[u8] {
        match outgoing {
            Outgoing::Canned(Canned(text)) => text.as_bytes(),
            Outgoing::Greeting => self.config.greeting.as_bytes(),
            Outgoing::Farewell => self.config.closing.as_bytes(),
            Outgoing::Helo => self.config.helo.as_bytes(),
            Outgoing::Ehlo(usual) => self.config.ehlo.usual(usual),
            Outgoing::Help(help) => self.config.help.get(help).as_bytes(),
            Outgoing::Composed | Outgoing::Challenge => &self.out,
        }
    }
}
