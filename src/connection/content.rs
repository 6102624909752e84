//! Message content behind DATA, and what becomes of content that is refused, however it comes.

use core::time::Duration;

use super::hooks::Asked;
use super::{About, Connection, Lapsed, Next, Stage};
use crate::action::{AbortReason, Aborted};
use crate::canned;
use crate::envelope::Body;
use crate::framing::content::{Content, Fault, Form, Rules, Unit};
use crate::question::Verdict;

impl Connection {
    pub(super) fn read_content(&mut self, now: Duration, input: &mut &[u8]) -> Option<Next> {
        let Stage::Content(content) = &mut self.stage else { return None };
        let (before, offset) = (input.len(), content.octets());
        let unit = content.next(input, &self.config.dots);
        let (octets, fault) = (content.octets(), content.fault());
        if input.len() < before {
            // Refused content is progress too: its sender is owed the reply at its end.
            self.deadline = None;
        }
        match unit {
            Unit::Piece { skipped, length } => return Some(Next::Piece { offset, skipped, length }),
            Unit::Inserted(octets) => return Some(Next::Inserted { offset, octets }),
            Unit::Fault(fault) => self.abort_content(octets, fault.into()),
            Unit::End => match fault {
                None => self.ask(Asked::Message { octets }, &[]),
                Some(fault) => self.refuse_content(octets, fault),
            },
            Unit::Incomplete => return self.await_input(now, self.config.timeouts.content),
        }
        None
    }

    pub(super) fn begin_content(&mut self) {
        self.stage = Stage::Content(Content::new(self.content_rules(false)));
    }

    pub(super) fn content_rules(&self, chunks: bool) -> Rules {
        Rules {
            form: match self.envelope.body() {
                Some(Body::BinaryMime) => Form::Binary,
                Some(Body::SevenBit | Body::EightBitMime) | None if chunks => Form::Chunks,
                Some(Body::SevenBit | Body::EightBitMime) | None => Form::Data,
            },
            newlines: self.config.newlines,
            max_octets: self.config.limits.max_message_octets,
            max_line_octets: self.config.limits.max_content_line_octets,
        }
    }

    /// Answers content that was found to be unacceptable, at its end.
    pub(super) fn refuse_content(&mut self, octets: u64, fault: Fault) {
        self.about = Some(About::Message);
        self.counts.message = octets;
        let reply = match fault {
            Fault::BareCr | Fault::BareLf | Fault::Nul => canned::BAD_CONTENT,
            Fault::TooBig => canned::MESSAGE_TOO_BIG,
            Fault::LineTooLong => canned::CONTENT_LINE_TOO_LONG,
        };
        let whole = matches!(self.stage, Stage::Content(_) | Stage::Chunk { last: true, .. });
        if self.config.lmtp && whole {
            return self.report_to_recipients_alike(&Verdict::Reply(reply.into()));
        }
        self.lapsed = Some(Lapsed::Transaction);
        self.stage = Stage::Ready;
        self.say(reply);
    }

    pub(super) fn abort_content(&mut self, octets: u64, reason: AbortReason) {
        self.aborted = Some(Aborted { reason, octets });
    }
}

impl From<Fault> for AbortReason {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::BareCr => Self::BareCr,
            Fault::BareLf => Self::BareLf,
            Fault::Nul => Self::Nul,
            Fault::TooBig => Self::TooBig,
            Fault::LineTooLong => Self::LineTooLong,
        }
    }
}
