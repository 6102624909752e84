//! Message content: after DATA (RFC 5321, sections 4.1.1.4 and 4.5.2), and in chunks (RFC 3030).
//!
//! Only `<CRLF>.<CRLF>` ends the content. The dot that transparency put in front of a line is taken
//! out; everything else is handed on as it lies in the input, in pieces as large as the input allows.
//!
//! A fault (a bare CR or LF, a NUL, too many octets) does not end the content: nothing more is handed
//! on, and the octets are only searched for the end. That is what keeps SMTP smuggling out: however a
//! sender and this server disagree on line ends, no octet of the content is read as a command.

use memchr::{memchr3_iter, memmem, memrchr};

use crate::config::Newlines;

/// The content being received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    state: State,
    rules: Rules,
    /// Octets handed on, which is the message's size (RFC 1870, section 3).
    octets: u64,
    /// Octets handed on since the last end of a line.
    line_octets: usize,
    fault: Option<Fault>,
}

/// Finds the lines that begin with a dot. Made once, as making it takes longer than a short search.
#[derive(Clone, Debug)]
pub(crate) struct DotFinder(memmem::Finder<'static>);

impl DotFinder {
    pub(crate) fn new() -> Self {
        Self(memmem::Finder::new(b"\n."))
    }
}

/// What content is accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) form: Form,
    pub(crate) newlines: Newlines,
    pub(crate) max_octets: u64,
    pub(crate) max_line_octets: usize,
}

/// How the content comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Behind DATA: with transparency, and an end that is a line of its own.
    Data,
    /// By BDAT: lines of text, whose octets are counted beforehand.
    Chunks,
    /// By BDAT, with BODY=BINARYMIME: octets of any kind.
    Binary,
}

/// Why the content cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    BareCr,
    BareLf,
    Nul,
    TooBig,
    LineTooLong,
}

/// What the framer found at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// This many octets of content, `skipped` octets into what the input was.
    Piece { skipped: usize, length: usize },
    /// Content that stands in for a line end of another kind.
    Inserted(&'static [u8]),
    /// From here on nothing is handed on. Reported once.
    Fault(Fault),
    /// The end of mail data; the input behind it is the next command.
    End,
    /// The input is used up.
    Incomplete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// After CRLF, and at the very beginning.
    LineStart,
    /// Inside a line.
    Text,
    /// A CR has been handed on.
    AfterCr,
    /// A CR has been put in for a LF, which comes next and begins no line that a dot could end.
    AfterInsertedCr,
    /// A dot at the start of a line is held back.
    Dot,
    /// A dot at the start of a line, and a CR, are held back.
    DotCr,
}

impl Content {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { state: State::LineStart, rules, octets: 0, line_octets: 0, fault: None }
    }

    /// How many octets have been handed on.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Takes the next unit of a chunk off `input`, of which `left` octets are the chunk's. At the end of
    /// the chunk, which is `last` or not, it is [`Unit::End`].
    pub(crate) fn next_of_chunk(&mut self, input: &mut &[u8], left: &mut u64, last: bool, dots: &DotFinder) -> Unit {
        let ours = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
        let (mut chunk, rest) = input.split_at(ours);
        let unit = self.next(&mut chunk, dots);
        let taken = ours - chunk.len();
        *left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        *input = if chunk.is_empty() { rest } else { input.get(taken..).unwrap_or_default() };
        match unit {
            Unit::Incomplete if *left > 0 => Unit::Incomplete,
            // A CR at the very end of the message is bare.
            Unit::Incomplete if last && self.state == State::AfterCr && self.fault.is_none() => {
                self.state = State::Text;
                match self.rules.newlines {
                    Newlines::Refuse => self.fail(Fault::BareCr),
                    Newlines::Convert => self.insert(b"\n"),
                }
            }
            Unit::Incomplete => Unit::End,
            Unit::Piece { .. } | Unit::Inserted(_) | Unit::Fault(_) | Unit::End => unit,
        }
    }

    /// Takes the next unit off `input`.
    pub(crate) fn next(&mut self, input: &mut &[u8], dots: &DotFinder) -> Unit {
        let whole = input.len();
        loop {
            let Some(&octet) = input.first() else { return Unit::Incomplete };
            match (self.state, octet) {
                (State::LineStart, b'.') if self.rules.form == Form::Data => {
                    self.state = State::Dot;
                    advance(input, 1);
                }
                (State::Dot, b'\r') => {
                    self.state = State::DotCr;
                    advance(input, 1);
                }
                (State::DotCr, b'\n') => {
                    advance(input, 1);
                    return Unit::End;
                }
                (State::DotCr, _) if self.fault.is_some() => self.state = State::Text,
                (State::DotCr, _) => {
                    // The held CR turns out to be bare, behind a dot that transparency removes.
                    self.state = State::AfterCr;
                    return match self.rules.newlines {
                        Newlines::Refuse => self.fail(Fault::BareCr),
                        Newlines::Convert => self.insert(b"\r"),
                    };
                }
                (State::AfterCr, b'\n') => {
                    if let Some(unit) = self.hand_on_newline(input, whole, State::LineStart) {
                        return unit;
                    }
                }
                (State::AfterInsertedCr, _) => {
                    if let Some(unit) = self.hand_on_newline(input, whole, State::Text) {
                        return unit;
                    }
                }
                (State::AfterCr, _) => {
                    self.state = State::Text;
                    match (self.fault, self.rules.newlines) {
                        (Some(_), _) => {}
                        (None, Newlines::Refuse) => return self.fail(Fault::BareCr),
                        (None, Newlines::Convert) => return self.insert(b"\n"),
                    }
                }
                (State::LineStart | State::Text | State::Dot, _) => {
                    self.state = State::Text;
                    if let Some(unit) = self.bulk(input, whole, dots) {
                        return unit;
                    }
                }
            }
        }
    }

    /// Hands on an octet that is not in the input.
    fn insert(&mut self, inserted: &'static [u8; 1]) -> Unit {
        if let (_, Some(fault)) = self.check_limits(inserted) {
            return self.fail(fault);
        }
        Unit::Inserted(inserted)
    }

    /// Hands on the LF of a CRLF whose CR has been handed on already.
    fn hand_on_newline(&mut self, input: &mut &[u8], whole: usize, then: State) -> Option<Unit> {
        let skipped = whole - input.len();
        if self.fault.is_none() {
            if let (_, Some(fault)) = self.check_limits(b"\n") {
                // The LF is met again, and ends its line all the same.
                return Some(self.fail(fault));
            }
        }
        self.state = then;
        advance(input, 1);
        if self.fault.is_some() {
            return None;
        }
        Some(Unit::Piece { skipped, length: 1 })
    }

    /// Takes text up to the next line that begins with a dot, or all there is.
    fn bulk(&mut self, input: &mut &[u8], whole: usize, dots: &DotFinder) -> Option<Unit> {
        let skipped = whole - input.len();
        let dot = if self.rules.form == Form::Data { dots.0.find(input) } else { None };
        let end = dot.map_or(input.len(), |newline| newline + 1);
        let text = input.get(..end).unwrap_or_default();
        if self.fault.is_some() {
            self.state = state_after(text);
            advance(input, end);
            return None;
        }
        let any_octets = self.rules.form == Form::Binary;
        let (clean, bad) = if any_octets || is_clean(text) { (text, None) } else { up_to_fault(text) };
        let (accepted, exceeded) = self.check_limits(clean);
        let fault = exceeded.or(bad);
        self.state = if any_octets { State::Text } else { state_after(clean.get(..accepted).unwrap_or_default()) };
        advance(input, accepted);
        if accepted > 0 {
            // Whatever stopped us is met again at the front of what is left.
            return Some(Unit::Piece { skipped, length: accepted });
        }
        match fault {
            Some(Fault::BareLf) if self.rules.newlines == Newlines::Convert => {
                self.state = State::AfterInsertedCr;
                Some(self.insert(b"\r"))
            }
            Some(fault) => Some(self.fail(fault)),
            None => None,
        }
    }

    /// Counts `text` as handed on, as far as the limits let it.
    fn check_limits(&mut self, text: &[u8]) -> (usize, Option<Fault>) {
        let left = usize::try_from(self.rules.max_octets.saturating_sub(self.octets)).unwrap_or(usize::MAX);
        let (fitting, mut fault) = match text.get(..left) {
            Some(fitting) if fitting.len() < text.len() => (fitting, Some(Fault::TooBig)),
            _ => (text, None),
        };
        let mut accepted = 0;
        while let Some(rest) = fitting.get(accepted..).filter(|rest| !rest.is_empty()) {
            // A window of the longest permitted line must hold an end of line; the last one in it will
            // do, which makes this a look at a few octets per kilobyte.
            let budget = match self.rules.form {
                Form::Data | Form::Chunks => self.rules.max_line_octets.saturating_sub(self.line_octets),
                Form::Binary => usize::MAX,
            };
            let window = rest.get(..budget).unwrap_or(rest);
            match memrchr(b'\n', window) {
                Some(newline) if window.len() < rest.len() => {
                    accepted += newline + 1;
                    self.line_octets = 0;
                }
                Some(newline) => {
                    accepted += window.len();
                    self.line_octets = window.len() - newline - 1;
                }
                None => {
                    accepted += window.len();
                    self.line_octets = self.line_octets.saturating_add(window.len());
                    if window.len() < rest.len() {
                        fault = Some(Fault::LineTooLong);
                        break;
                    }
                }
            }
        }
        self.octets += accepted as u64;
        (accepted, fault)
    }

    fn fail(&mut self, fault: Fault) -> Unit {
        self.fault = Some(fault);
        Unit::Fault(fault)
    }
}

fn advance(input: &mut &[u8], octets: usize) {
    *input = input.get(octets..).unwrap_or_default();
}

/// The state that text leaves behind which was entered in the middle of a line.
fn state_after(text: &[u8]) -> State {
    match text {
        [.., b'\r', b'\n'] => State::LineStart,
        [.., b'\r'] => State::AfterCr,
        _ => State::Text,
    }
}

/// Whether every CR is followed by LF, every LF preceded by CR, and no octet is NUL. A CR at the very
/// end is still open. Branchless, so that it runs at the speed of memory.
fn is_clean(text: &[u8]) -> bool {
    let first = text.first().is_none_or(|&octet| octet != b'\n' && octet != 0);
    let faults = text.iter().zip(text.iter().skip(1)).fold(0u8, |faults, (&left, &right)| {
        faults | u8::from((left == b'\r') != (right == b'\n')) | u8::from(right == 0)
    });
    first && faults == 0
}

/// The text in front of the first fault, and the fault. The CR of a bare CR belongs to the text: when
/// it is the last octet of an input it has been handed on before anybody can know.
fn up_to_fault(text: &[u8]) -> (&[u8], Option<Fault>) {
    for at in memchr3_iter(b'\r', b'\n', 0, text) {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        let (end, fault) = match (text.get(at), text.get(at + 1)) {
            (Some(0), _) => (at, Fault::Nul),
            (Some(b'\n'), _) if before != Some(&b'\r') => (at, Fault::BareLf),
            (Some(b'\r'), Some(next)) if *next != b'\n' => (at + 1, Fault::BareCr),
            _ => continue,
        };
        return (text.get(..end).unwrap_or_default(), Some(fault));
    }
    (text, None)
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;

    const RULES: Rules = Rules { form: Form::Data, newlines: Newlines::Refuse, max_octets: 1000, max_line_octets: 100 };

    /// The content handed on, the fault, and how many octets were left behind the end.
    fn receive(input: &[u8], cut: usize, rules: Rules) -> (Vec<u8>, Option<Fault>, Option<usize>) {
        let (mut content, mut handed, mut consumed) = (Content::new(rules), Vec::new(), 0);
        for chunk in input.chunks(cut) {
            let mut rest = chunk;
            loop {
                let before = rest;
                match content.next(&mut rest, &DotFinder::new()) {
                    Unit::Piece { skipped, length } => handed.extend(&before[skipped..skipped + length]),
                    Unit::Inserted(inserted) => handed.extend(inserted),
                    Unit::Fault(_) => {}
                    Unit::End => {
                        return (handed, content.fault(), Some(input.len() - consumed - chunk.len() + rest.len()));
                    }
                    Unit::Incomplete => break,
                }
            }
            consumed += chunk.len();
        }
        (handed, content.fault(), None)
    }

    /// Receives with every cut and checks that it makes no difference.
    fn check(input: &[u8], rules: Rules) -> (String, Option<Fault>, Option<usize>) {
        let (handed, fault, left) = receive(input, input.len().max(1), rules);
        for cut in 1..=input.len() {
            assert_eq!(
                receive(input, cut, rules),
                (handed.clone(), fault, left),
                "cut {cut} of {:?}",
                String::from_utf8_lossy(input)
            );
        }
        (String::from_utf8_lossy(&handed).into_owned(), fault, left)
    }

    #[test]
    fn dots_are_unstuffed_and_the_end_found() {
        assert_eq!(check(b".\r\nQ", RULES), (String::new(), None, Some(1)));
        assert_eq!(check(b"a\r\n..b\r\n...\r\n.c\r\n.\r\n", RULES), ("a\r\n.b\r\n..\r\nc\r\n".into(), None, Some(0)));
        assert_eq!(check(b"a.\r\n.\r", RULES), ("a.\r\n".into(), None, None));
    }

    #[test]
    fn no_other_line_end_ends_the_content() {
        for end in [
            "\n.\n",
            "\n.\r\n",
            "\r\n.\n",
            "\r.\r",
            "\r\n.\r",
            "\r.\r\n",
            "\r\r\n.\r\r\n",
            "\r\n\x00.\r\n",
            "\r\n.\x00\r\n",
            "\r\n.\r\r\n",
        ] {
            let input = format!("text{end}MAIL FROM:<smuggled@example.org>\r\n.\r\nNOOP\r\n");
            let (handed, fault, left) = check(input.as_bytes(), RULES);
            assert!(fault.is_some(), "{end:?}");
            assert!(!handed.contains("MAIL"), "{end:?}");
            assert_eq!(left, Some(6), "{end:?}");
        }
    }

    #[test]
    fn conversion_makes_crlf_and_never_an_end() {
        let rules = Rules { newlines: Newlines::Convert, ..RULES };
        for end in ["\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n"] {
            let (handed, fault, left) = check(format!("a{end}b\r\n.\r\n").as_bytes(), rules);
            assert_eq!((handed.as_str(), fault, left), ("a\r\n.\r\nb\r\n", None, Some(0)), "{end:?}");
        }
        for end in ["\r\n.\n", "\r\n.\r"] {
            let (handed, fault, left) = check(format!("a{end}b\r\n.\r\n").as_bytes(), rules);
            assert_eq!((handed.as_str(), fault, left), ("a\r\n\r\nb\r\n", None, Some(0)), "{end:?}");
        }
    }

    #[test]
    fn limits_hold_to_the_octet() {
        let rules = Rules { max_octets: 10, ..RULES };
        assert_eq!(check(b"12345678\r\n.\r\n", rules), ("12345678\r\n".into(), None, Some(0)));
        assert_eq!(check(b"123456789\r\n.\r\n", rules), ("123456789\r".into(), Some(Fault::TooBig), Some(0)));
        assert_eq!(check(b"12345678901\r\n.\r\n", rules), ("1234567890".into(), Some(Fault::TooBig), Some(0)));
        let rules = Rules { max_line_octets: 5, ..RULES };
        assert_eq!(check(b"123\r\n..34\r\n123\r\n.\r\n", rules), ("123\r\n.34\r\n123\r\n".into(), None, Some(0)));
        assert_eq!(check(b"123\r\n1234\r\n.\r\n", rules), ("123\r\n1234\r".into(), Some(Fault::LineTooLong), Some(0)));
    }
}
