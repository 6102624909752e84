//! LMTP (RFC 2033, section 4.2): behind the content, a reply for each recipient that was accepted.

use alloc::boxed::Box;
use alloc::vec::{IntoIter, Vec};

use super::{About, Connection, Stage};
use crate::canned::{self, Canned};
use crate::event::CloseReason;
use crate::question::Verdict;

/// The replies that are still owed.
#[derive(Debug)]
pub(super) struct Report {
    left: usize,
    verdicts: IntoIter<Verdict>,
    /// For those for whom there is no other.
    otherwise: Verdict,
    close: bool,
}

impl Report {
    /// Whether the last reply has been decided.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }
}

impl Connection {
    pub(super) fn report_to_recipients(&mut self, verdicts: Vec<Verdict>) {
        self.report(verdicts.into_iter(), Verdict::TryLater);
    }

    pub(super) fn report_to_recipients_alike(&mut self, verdict: &Verdict) {
        self.report(Vec::new().into_iter(), verdict.clone());
    }

    fn report(&mut self, verdicts: IntoIter<Verdict>, otherwise: Verdict) {
        let left = self.envelope.recipients();
        self.stage = Stage::Reporting(Box::new(Report { left, verdicts, otherwise, close: false }));
    }

    /// The next recipient's reply, or the end of them.
    pub(super) fn report_next(&mut self) {
        let Stage::Reporting(report) = &mut self.stage else { return };
        let Some(left) = report.left.checked_sub(1) else {
            let close = report.close;
            self.stage = Stage::Ready;
            self.clear_transaction();
            if close {
                self.close(CloseReason::Refused);
            }
            return;
        };
        report.left = left;
        self.about = Some(About::MessageFor);
        self.counts.recipient = self.envelope.recipients().saturating_sub(left + 1);
        let verdict = report.verdicts.next().unwrap_or_else(|| report.otherwise.clone());
        if matches!(&verdict, Verdict::Accept) || matches!(&verdict, Verdict::Reply(reply) if reply.is_positive()) {
            self.counts.errors = 0;
        }
        match verdict {
            Verdict::Accept => self.say(canned::MESSAGE_OK),
            Verdict::Reply(reply) if reply.is_positive() && reply.code() != 250 => self.say(canned::MESSAGE_OK),
            Verdict::Reply(reply) => {
                // All of them are owed before the connection may close.
                report.close |= reply.code() == 421;
                self.say_reply(&reply);
            }
            Verdict::TryLater | Verdict::Recipients(_) => self.say(canned::NOT_ANSWERED),
        }
    }

    /// What DATA and BDAT are told where no recipient was accepted (RFC 2033, section 4.2).
    pub(super) fn no_recipients(&self) -> Canned {
        if self.config.lmtp { canned::NO_RECIPIENTS_LMTP } else { canned::NO_RECIPIENTS }
    }
}
