//! Message content, octet by octet as RFC 5321 describes it: section 4.1.1.4 for its end, 4.5.2 for
//! transparency, 2.3.8 for line ends. As slow as it is plain; `properties.rs` and the fuzz targets hold the
//! engine against it.

use sansmtp::{AbortReason, Newlines};

/// What becomes of the octets behind a 354.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// What is handed on.
    pub(crate) content: Vec<u8>,
    pub(crate) fault: Option<AbortReason>,
    /// How many octets the content took, its end included; `None` if it has not ended.
    pub(crate) taken: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) newlines: Newlines,
    pub(crate) max_octets: usize,
    pub(crate) max_line_octets: usize,
}

pub(crate) fn receive(input: &[u8], rules: Rules) -> Received {
    // 1. Only `<CRLF>.<CRLF>` ends the content; the CRLF of the DATA command counts as the first.
    let from_data = [b"\r\n", input].concat();
    let end = from_data.windows(5).position(|window| window == b"\r\n.\r\n");
    let raw = match end {
        Some(at) => &from_data[2..(at + 2)],
        None => input,
    };
    // 2. Transparency: a dot that begins a line is taken out. Only CRLF ends a line.
    let mut unstuffed = Vec::new();
    for (at, &octet) in raw.iter().enumerate() {
        let begins_a_line = at == 0 || raw[..at].ends_with(b"\r\n");
        if !(begins_a_line && octet == b'.') {
            unstuffed.push((octet, at > 0 && raw[at - 1] == b'.' && (at == 1 || raw[..at - 1].ends_with(b"\r\n"))));
        }
    }
    // 3. Line ends. What follows the very last octet is not known before it comes.
    let mut out = Out { rules, content: Vec::new(), line: 0, fault: None };
    for at in 0..unstuffed.len() {
        let (octet, behind_dot) = unstuffed[at];
        let next = unstuffed.get(at + 1).map(|&(octet, _)| octet);
        // A dot that was taken out stood behind a LF, so none stood between a CR and this.
        let follows_cr = at > 0 && unstuffed[at - 1].0 == b'\r';
        match octet {
            0 => out.fail(AbortReason::Nul),
            b'\n' if follows_cr => out.push(b'\n'),
            b'\n' if rules.newlines == Newlines::Refuse => out.fail(AbortReason::BareLf),
            b'\n' => {
                out.push(b'\r');
                out.push(b'\n');
            }
            b'\r' => {
                match next {
                    // A CR behind a dot may begin the end of the content, and is held back.
                    None if behind_dot => {}
                    None => out.push(b'\r'),
                    Some(b'\n') => out.push(b'\r'),
                    _ if rules.newlines == Newlines::Refuse => {
                        if !behind_dot {
                            out.push(b'\r');
                        }
                        out.fail(AbortReason::BareCr);
                    }
                    _ => {
                        out.push(b'\r');
                        out.push(b'\n');
                    }
                }
            }
            _ => out.push(octet),
        }
        if out.fault.is_some() {
            break;
        }
    }
    Received { content: out.content, fault: out.fault, taken: end.map(|at| at + 3) }
}

struct Out {
    rules: Rules,
    content: Vec<u8>,
    line: usize,
    fault: Option<AbortReason>,
}

impl Out {
    fn push(&mut self, octet: u8) {
        if self.fault.is_some() {
            return;
        }
        if self.content.len() == self.rules.max_octets {
            return self.fail(AbortReason::TooBig);
        }
        if self.line == self.rules.max_line_octets {
            return self.fail(AbortReason::LineTooLong);
        }
        self.content.push(octet);
        self.line = if octet == b'\n' { 0 } else { self.line + 1 };
    }

    fn fail(&mut self, fault: AbortReason) {
        self.fault.get_or_insert(fault);
    }
}
