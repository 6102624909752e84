//! BDAT (RFC 3030): content in chunks whose octets are counted beforehand.
//!
//! Whatever is wrong with a BDAT, as many octets as it names are taken off the input before it is
//! answered: they are the message's, and must not be read as commands.

use alloc::boxed::Box;
use core::time::Duration;

use super::hooks::Asked;
use super::{Connection, Next, Outgoing, Stage};
use crate::action::AbortReason;
use crate::canned::{self, Canned};
use crate::event::CloseReason;
use crate::framing::content::{Content, Unit};

impl Connection {
    pub(super) fn bdat(&mut self, arguments: &[u8], forbidden: Option<Canned>) {
        let Some((octets, last)) = read_arguments(arguments) else {
            return self.say(canned::BDAT_SYNTAX);
        };
        let refusal = forbidden.or_else(|| {
            if !self.envelope.is_open() {
                Some(canned::MAIL_FIRST)
            } else if self.envelope.recipients() == 0 {
                Some(self.no_recipients())
            } else {
                None
            }
        });
        if let Some(refusal) = refusal {
            self.discard_chunk(octets, false);
            self.say(refusal);
            self.hold_reply_back();
        } else if self.chunks.is_some() {
            self.stage = Stage::Chunk { left: octets, last };
        } else {
            self.ask(Asked::FirstChunk { octets, last }, &[]);
        }
    }

    pub(super) fn begin_chunk(&mut self, octets: u64, last: bool) {
        let rules = self.content_rules(true);
        self.chunks = Some(Box::new(Content::new(rules)));
        self.stage = Stage::Chunk { left: octets, last };
    }

    pub(super) fn discard_chunk(&mut self, octets: u64, close: bool) {
        self.stage = Stage::Discarding { left: octets, reply: None, close };
    }

    /// Keeps the reply that is to be given out until the chunk that it is about has been taken in.
    pub(super) fn hold_reply_back(&mut self) {
        if let Stage::Discarding { reply, .. } = &mut self.stage {
            *reply = self.outgoing.take();
        }
    }

    pub(super) fn read_chunk(&mut self, now: Duration, input: &mut &[u8]) -> Option<Next> {
        let (Stage::Chunk { left, last }, Some(content)) = (&mut self.stage, &mut self.chunks) else { return None };
        let (before, offset) = (input.len(), content.octets());
        let unit = content.next_of_chunk(input, left, *last, &self.config.dots);
        let (last, octets, fault) = (*last, content.octets(), content.fault());
        if input.len() < before {
            self.deadline = None;
        }
        match unit {
            Unit::Piece { skipped, length } => return Some(Next::Piece { offset, skipped, length }),
            Unit::Inserted(octets) => return Some(Next::Inserted { offset, octets }),
            Unit::Fault(fault) => self.abort_content(octets, fault.into()),
            Unit::Incomplete => return self.await_input(now, self.config.timeouts.content),
            Unit::End => match fault {
                // RFC 3030, section 2: the transaction has failed, and further chunks of it are in vain.
                Some(fault) => self.refuse_content(octets, fault),
                None if last => {
                    self.chunks = None;
                    self.ask(Asked::Message { octets }, &[]);
                }
                None => {
                    self.stage = Stage::Ready;
                    self.say(canned::CHUNK_OK);
                }
            },
        }
        None
    }

    pub(super) fn read_discarded(&mut self, now: Duration, input: &mut &[u8]) -> Option<Next> {
        let Stage::Discarding { left, reply, close } = &mut self.stage else { return None };
        let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
        *input = input.get(taken..).unwrap_or_default();
        *left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        let (done, reply, close): (_, Option<Outgoing>, _) = (*left == 0, *reply, *close);
        if taken > 0 {
            self.deadline = None;
        }
        if !done {
            return self.await_input(now, self.config.timeouts.content);
        }
        self.outgoing = reply;
        self.stage = Stage::Ready;
        if close {
            self.close(CloseReason::Refused);
        }
        None
    }

    /// Ends the transaction; chunks that have come so far are void.
    pub(super) fn clear_transaction(&mut self) {
        self.envelope.clear();
        self.abort_chunks(AbortReason::Reset);
    }

    pub(super) fn abort_chunks(&mut self, reason: AbortReason) {
        if let Some(content) = self.chunks.take() {
            if content.fault().is_none() {
                self.abort_content(content.octets(), reason);
            }
        }
    }
}

/// `chunk-size [SP "LAST"]`
fn read_arguments(arguments: &[u8]) -> Option<(u64, bool)> {
    let (digits, last) = match memchr::memchr(b' ', arguments) {
        Some(space) => {
            let word = arguments.get(space + 1..)?;
            (arguments.get(..space)?, word.eq_ignore_ascii_case(b"LAST").then_some(true)?)
        }
        None => (arguments, false),
    };
    let fits = (1..=MAX_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let octets = core::str::from_utf8(digits).ok().filter(|_| fits)?.parse().ok()?;
    Some((octets, last))
}

/// Exabytes.
const MAX_DIGITS: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        assert_eq!(read_arguments(b"86 LAST"), Some((86, true)));
        assert_eq!(read_arguments(b"0 last"), Some((0, true)));
        assert_eq!(read_arguments(b"100000"), Some((100_000, false)));
        assert_eq!(read_arguments(b"9999999999999999999"), Some((9_999_999_999_999_999_999, false)));
        for bad in [&b""[..], b"LAST", b"1 FIRST", b"1  LAST", b"1 LAST ", b"-1", b"+1", b"1x", b"99999999999999999999"]
        {
            assert_eq!(read_arguments(bad), None, "{}", bad.escape_ascii());
        }
    }
}
