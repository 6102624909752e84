//! The lines of a transcript.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::player::Mismatch;

/// A line of a transcript that does something, with its number.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) number: usize,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Send(Vec<u8>),
    /// A reply line; `exact` unless it only says how the line begins.
    Expect {
        text: String,
        exact: bool,
    },
    ExpectReply(u16),
    ExpectClosed,
    Question {
        question: String,
        answer: String,
    },
    Event(String),
    Content(Vec<u8>),
    Aborted(String),
    Advance(Duration),
    Pause(Duration),
    TlsStart,
    TlsFail,
    EndOfInput,
}

impl What {
    /// For a [`Mismatch`].
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Content(octets) => format!("content {:?}", String::from_utf8_lossy(octets)),
            Self::Question { question, .. } => format!("the question {question}"),
            Self::Send(_)
            | Self::Expect { .. }
            | Self::ExpectReply(_)
            | Self::ExpectClosed
            | Self::Event(_)
            | Self::Aborted(_)
            | Self::Advance(_)
            | Self::Pause(_)
            | Self::TlsStart
            | Self::TlsFail
            | Self::EndOfInput => format!("{self:?}"),
        }
    }
}

/// Reads a transcript.
pub(super) fn parse(transcript: &str) -> Result<Vec<Item>, Mismatch> {
    let mut items = Vec::new();
    for (index, line) in transcript.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let what = parse_line(line).ok_or_else(|| {
            let expected = "not a line of a transcript".to_string();
            Mismatch { line: number, expected, found: None }
        })?;
        items.push(Item { number, what });
    }
    Ok(items)
}

fn parse_line(line: &str) -> Option<What> {
    let (kind, rest) = line.split_once(':')?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    Some(match kind {
        "C" => {
            let mut octets = unescape(rest)?;
            octets.extend_from_slice(b"\r\n");
            What::Send(octets)
        }
        "C-" => What::Send(unescape(rest)?),
        "C*" => {
            let (count, octets) = rest.split_once(' ')?;
            What::Send(unescape(octets)?.repeat(count.parse().ok()?))
        }
        "S" if rest == "<closed>" => What::ExpectClosed,
        "S" => match rest.strip_suffix("...") {
            Some(beginning) => What::Expect { text: text(beginning)?, exact: false },
            None => What::Expect { text: text(rest)?, exact: true },
        },
        "S*" => What::ExpectReply(rest.trim().parse().ok()?),
        "?" => {
            let (question, answer) = rest.split_once(" -> ")?;
            What::Question { question: question.trim().into(), answer: answer.into() }
        }
        "!" => What::Event(rest.trim().into()),
        "=" => What::Content(unescape(rest)?),
        "A" => What::Aborted(rest.trim().into()),
        "T" => What::Advance(seconds(rest)?),
        "P" => What::Pause(seconds(rest)?),
        "TLS" => match rest.trim() {
            "start" => What::TlsStart,
            "fail" => What::TlsFail,
            _ => return None,
        },
        "X" if rest.trim() == "eof" => What::EndOfInput,
        _ => return None,
    })
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

fn text(escaped: &str) -> Option<String> {
    String::from_utf8(unescape(escaped)?).ok()
}

pub(super) fn unescape(escaped: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut rest = escaped.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'\\' => match rest.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(core::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                _ => return None,
            },
            _ => octet,
        });
    }
    Some(octets)
}

/// Writes a value so that it is one word of a question.
pub(super) fn escape(value: &[u8]) -> String {
    let mut word = String::new();
    for character in String::from_utf8_lossy(value).chars() {
        match character {
            '\\' => word.push_str("\\\\"),
            character if character == ' ' || character.is_ascii_control() => {
                word.push_str(&alloc::format!("\\x{:02x}", u32::from(character)));
            }
            character => word.push(character),
        }
    }
    word
}
