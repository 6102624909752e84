//! Connections that somebody relays: the header of the PROXY protocol, and XCLIENT.

use core::time::Duration;

use super::hooks::Asked;
use super::{Connection, Next, Stage, Told};
use crate::action::Action;
use crate::auth::{Credentials, MechanismName};
use crate::canned;
use crate::event::CloseReason;
use crate::proxy::{Proxy, ProxyRefusal};
use crate::xclient::{XClient, XClientInfo};

impl Connection {
    /// Reads the header of the PROXY protocol and nothing else, for a TLS stack of one's own where TLS is
    /// implicit: [`poll`](Self::poll), and the TLS layer of this crate, do it by themselves.
    ///
    /// `None` when the header is out of the way: it has come, or none is expected from this peer. What is
    /// left of `input` then belongs to the TLS handshake, behind which come
    /// [`tls_established`](Self::tls_established) and `poll`.
    pub fn poll_proxy_header<'c>(&'c mut self, now: Duration, input: &mut &[u8]) -> Option<Action<'c>> {
        let next = self.advance_header(now, input)?;
        Some(self.view(next, &[]))
    }

    /// `None` when the header is out of the way, and who the client is has been told.
    pub(crate) fn advance_header(&mut self, now: Duration, input: &mut &[u8]) -> Option<Next> {
        let whole = input.len();
        let next = self.read_header(now, input);
        self.count_received(whole - input.len());
        if next.is_some() {
            return next;
        }
        if matches!(self.stage, Stage::Closing) {
            return Some(self.advance(now, &mut &[][..]));
        }
        self.next_opening()
    }

    /// What to wait for, until the header has come.
    pub(super) fn read_header(&mut self, now: Duration, input: &mut &[u8]) -> Option<Next> {
        let Stage::Header(reader) = &mut self.stage else { return None };
        let proxy = self.config.proxy.as_ref();
        let refusal = match reader.read(input) {
            Ok(Some(info)) => {
                self.session.relay(info, proxy.is_some_and(Proxy::believes_offloaded_tls));
                self.stage = Stage::Opening;
                self.deadline = None;
                return None;
            }
            Err(malformed) => ProxyRefusal::Malformed(malformed),
            Ok(None) if self.input_ended => ProxyRefusal::ConnectionLost,
            // Nothing may be said before the header has come, so nobody is told.
            Ok(None) if self.ending.is_some() => {
                self.close(self.ending.unwrap_or(CloseReason::Shutdown));
                return None;
            }
            Ok(None) => {
                let timeout = proxy.map_or(Duration::ZERO, Proxy::header_timeout);
                let deadline = *self.deadline.get_or_insert(now.saturating_add(timeout));
                if now < deadline {
                    return Some(Next::NeedInput { deadline });
                }
                ProxyRefusal::Timeout
            }
        };
        self.tell(Told::ProxyRefused(refusal));
        self.close(CloseReason::ProxyRefused);
        None
    }

    /// The attributes of XCLIENT, if the peer may use it. Whom it names by ADDR usually may not.
    pub(super) fn xclient_listed(&self) -> &'static str {
        self.usable_xclient().map_or("", XClient::attributes)
    }

    fn usable_xclient(&self) -> Option<&XClient> {
        self.config.xclient.as_ref().filter(|xclient| xclient.trusts(self.session.peer()))
    }

    pub(super) fn xclient(&mut self, arguments: &[u8]) {
        let Some(xclient) = self.usable_xclient() else { return self.say(canned::XCLIENT_NOT_AUTHORIZED) };
        if self.envelope.is_open() {
            return self.say(canned::NESTED_MAIL);
        }
        if arguments.is_empty() {
            return self.say(canned::XCLIENT_SYNTAX);
        }
        let known = self.session.xclient().cloned();
        let mut info = known.unwrap_or_else(|| XClientInfo::new(self.session.peer()));
        let mut credentials = Credentials::default();
        let sound = info.update(arguments, xclient.allows_login()).is_some()
            && info.logged_in().is_none_or(|login| credentials.set_authcid(login.as_bytes()).is_ok());
        if !sound {
            return self.say(canned::BAD_ATTRIBUTE);
        }
        let logs_in = info.logged_in().is_some();
        self.session.impersonate(info);
        if logs_in {
            let mechanism = MechanismName::from("XCLIENT");
            self.session.authenticate(mechanism, None, credentials, None);
            self.tell(Told::AuthSucceeded { mechanism });
        }
        // As at the beginning: the hook decides about the client that has now been named.
        self.ask(Asked::Connect, &[]);
    }
}
