//! Message content, octet by octet as RFC 5321 describes it: section 4.1.1.4 for its end, 4.5.2 for
//! transparency, 2.3.8 for line ends. As slow as it is plain; `properties.rs` and the fuzz targets hold the
//! engine against it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sansmtp::{AbortReason, Action, Config, Connection, Hook, Hooks, Limits, Newlines, Peer, Verdict};

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

/// What the engine makes of content, and what it says in the end.
#[derive(PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) content: Vec<u8>,
    pub(crate) fault: Option<(AbortReason, u64)>,
    pub(crate) accepted: Option<u64>,
    pub(crate) code: Option<u16>,
    /// How many octets had been taken when the reply came.
    pub(crate) taken: Option<usize>,
}

impl fmt::Debug for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, fault, accepted, code, taken } = self;
        write!(
            f,
            "{:?} fault {fault:?} accepted {accepted:?} code {code:?} taken {taken:?}",
            content.escape_ascii().to_string()
        )
    }
}

pub(crate) fn deliver(config: &Arc<Config>, content: &[u8], cut: usize) -> Delivered {
    let mut connection = Connection::new(Arc::clone(config), Peer::local());
    let start = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n";
    let mut delivered = Delivered { content: Vec::new(), fault: None, accepted: None, code: None, taken: None };
    let mut before = 0;
    for (index, mut input) in std::iter::once(&start[..]).chain(content.chunks(cut.max(1))).enumerate() {
        let length = input.len();
        loop {
            match connection.poll(Duration::ZERO, &mut input) {
                Action::Content(piece) => {
                    assert!(!piece.is_empty());
                    assert_eq!(usize::try_from(piece.offset()), Ok(delivered.content.len()));
                    delivered.content.extend_from_slice(&piece);
                }
                Action::Aborted(aborted) => {
                    assert!(delivered.fault.replace((aborted.reason, aborted.octets)).is_none());
                }
                Action::CallHook(call) => {
                    let Hook::Message { octets } = call.hook() else { panic!("{call:?}") };
                    delivered.accepted = Some(octets);
                    let answer = call.answer(Verdict::Accept);
                    connection.answer(answer).expect("it was asked");
                }
                Action::Reply(reply) if index > 0 => {
                    delivered.code = Some(reply.code());
                    delivered.taken = Some(before + length - input.len());
                    return delivered;
                }
                Action::NeedInput { .. } => break,
                Action::Reply(_) | Action::Flush { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        before += if index > 0 { length } else { 0 };
    }
    delivered
}

/// Says where the engine, fed `cut` octets at a time, makes something else of the content.
pub(crate) fn check(content: &[u8], rules: Rules, cut: usize) -> Result<(), String> {
    let limits = Limits {
        max_message_octets: rules.max_octets as u64,
        max_content_line_octets: rules.max_line_octets,
        ..Limits::default()
    };
    let config = Config::builder("mx.example.org").newlines(rules.newlines).limits(limits).hooks(Hooks::MESSAGE);
    let delivered = deliver(&config.build().expect("a sound configuration"), content, cut);
    let mut received = receive(content, rules);
    // Of a CRLF that stands in for another line end, the CR alone may still fit.
    if rules.newlines == Newlines::Convert && received.fault.is_some() && received.content.ends_with(b"\r") {
        received.content.truncate(delivered.content.len().max(received.content.len() - 1));
    }
    let octets = received.content.len() as u64;
    let ended = received.taken.is_some();
    let wanted = Delivered {
        content: received.content,
        fault: received.fault.map(|fault| (fault, octets)),
        accepted: (ended && received.fault.is_none()).then_some(octets),
        code: ended.then_some(match received.fault {
            None => 250,
            Some(AbortReason::TooBig) => 552,
            Some(_) => 554,
        }),
        taken: received.taken,
    };
    if delivered == wanted {
        return Ok(());
    }
    Err(format!("{} cut {cut} {rules:?}\n   got {delivered:?}\nwanted {wanted:?}", content.escape_ascii()))
}
