//! Replies on their way out, and which of them count as errors of the client's.

use super::{Connection, Next, Outgoing, Stage};
use crate::action::AbortReason;
use crate::canned::{self, Canned};
use crate::event::{CloseReason, ReachedLimit};
use crate::reply::Reply;

impl Connection {
    pub(super) fn say(&mut self, reply: Canned) {
        self.outgoing = Some(Outgoing::Canned(reply));
    }

    /// Says a reply of the embedder's, in ASCII.
    pub(super) fn say_reply(&mut self, reply: &Reply) {
        self.compose(reply);
        self.outgoing = Some(Outgoing::Composed);
    }

    /// Says a reply of the embedder's to a client that takes UTF-8 in it.
    pub(super) fn say_reply_in_utf8(&mut self, reply: &Reply) {
        self.out.clear();
        self.out.extend_from_slice(reply.as_bytes());
        self.outgoing = Some(Outgoing::Composed);
    }

    pub(super) fn compose(&mut self, reply: &Reply) {
        self.out.clear();
        reply.write_ascii(&mut self.out);
    }

    pub(super) fn say_and_close(&mut self, reply: Canned, reason: CloseReason) {
        self.say(reply);
        self.close(reason);
    }

    pub(super) fn give_out(&mut self, outgoing: Outgoing) -> Next {
        self.outgoing = None;
        let octets = u32::try_from(self.encoded(outgoing).len()).unwrap_or(u32::MAX);
        self.unflushed = self.unflushed.saturating_add(octets);
        self.counts.sent = self.counts.sent.saturating_add(octets.into());
        Next::Reply(outgoing)
    }

    /// Counts a reply that is an error of the client's; the last that is borne becomes the last of all.
    pub(super) fn count_error(&mut self, outgoing: Outgoing) -> Outgoing {
        if !self.is_error(outgoing) {
            return outgoing;
        }
        let said = self.said(outgoing);
        let is_last = self.is_last_error(outgoing);
        self.counts.errors = self.counts.errors.saturating_add(1);
        if is_last {
            self.give_up(AbortReason::Reset, CloseReason::Limit);
            self.tell_limit(ReachedLimit::Errors);
        }
        said
    }

    /// What the client is told where `outgoing` is to be given out next.
    pub(super) fn said(&self, outgoing: Outgoing) -> Outgoing {
        if self.is_last_error(outgoing) { Outgoing::Canned(canned::TOO_MANY_ERRORS) } else { outgoing }
    }

    fn is_last_error(&self, outgoing: Outgoing) -> bool {
        let most = self.config.limits.max_errors;
        most.is_some_and(|most| self.counts.errors.saturating_add(1) >= most) && self.is_error(outgoing)
    }

    fn is_error(&self, outgoing: Outgoing) -> bool {
        // 4yz says that the server cannot now (RFC 5321, section 4.2.1), as behind `max_recipients`; but who is
        // to wait for the next login and does not is in error.
        let is_error = matches!(self.encoded(outgoing), [b'5', ..])
            || matches!(outgoing, Outgoing::Canned(canned::TOO_MANY_ATTEMPTS | canned::TOO_MANY_UNFINISHED));
        // The recipients behind it are owed their replies (RFC 2033, section 4.2): the last counts for the message.
        let is_followed = matches!(&self.stage, Stage::Reporting(report) if !report.is_over());
        is_error && !is_followed && !matches!(self.stage, Stage::Closing)
    }
}
