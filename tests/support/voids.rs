//! Messages that are void, each for a reason of its own.

use sansmtp::testing::{ClientLine, Transcript};
use sansmtp::{ConfigBuilder, Extensions, Limits};

/// How a message comes to nothing.
pub(crate) struct Void {
    pub(crate) name: &'static str,
    /// Behind RCPT.
    lines: &'static str,
}

impl Void {
    /// The message, and behind it one that is accepted, with this content.
    pub(crate) fn transcript(&self, content: &str) -> String {
        let Self { lines, .. } = self;
        format!(
            "S: 220 mx.example.org ESMTP
            C: EHLO client.example
            S*: 250
            {TRANSACTION}
            {lines}
            C: EHLO client.example
            S*: 250
            {TRANSACTION}
            C: DATA
            S*: 354
            C-: {content}.\\r\\n
            S*: 250
            C: QUIT
            S*: 221
            S: <closed>"
        )
    }

    #[allow(dead_code, reason = "not every test is of a loop")]
    pub(crate) fn is_without_tls(&self) -> bool {
        !self.lines.contains("TLS: ")
    }
}

/// What bounds the messages.
pub(crate) fn bounded(config: ConfigBuilder) -> ConfigBuilder {
    config
        .extensions(Extensions { chunking: true, ..Extensions::default() })
        .limits(Limits { max_message_octets: 100, max_content_line_octets: 20, ..Limits::default() })
        .starttls(true)
}

/// What the client sends.
#[allow(dead_code, reason = "not every test is of a loop")]
pub(crate) fn octets_of(transcript: &str) -> Vec<u8> {
    let transcript = Transcript::parse(transcript).expect("it is a transcript");
    let sent = transcript.client().filter_map(|(_, line)| match line {
        ClientLine::Send(octets) => Some(octets),
        ClientLine::Line { .. }
        | ClientLine::Reply(_)
        | ClientLine::Closed
        | ClientLine::Handshake { .. }
        | ClientLine::Wait(_)
        | ClientLine::End => None,
    });
    sent.flatten().copied().collect()
}

const TRANSACTION: &str = "C: MAIL FROM:<a@example.org>
            S*: 250
            C: RCPT TO:<b@example.org>
            S*: 250";

pub(crate) const VOID: &[Void] = &[
    Void { name: "a bare LF", lines: "C: DATA\nS*: 354\nC-: vo\\nid\\r\\n.\\r\\n\nA: bare-lf\nS*: 554" },
    Void { name: "a bare LF in front", lines: "C: DATA\nS*: 354\nC-: \\nvoid\\r\\n.\\r\\n\nA: bare-lf\nS*: 554" },
    Void { name: "a bare CR", lines: "C: DATA\nS*: 354\nC-: void\\rvoid\\r\\n.\\r\\n\nA: bare-cr\nS*: 554" },
    Void { name: "a NUL", lines: "C: DATA\nS*: 354\nC-: void\\0\\r\\n.\\r\\n\nA: nul\nS*: 554" },
    Void { name: "too big", lines: "C: DATA\nS*: 354\nC*: 20 void\\r\\n\nC: .\nA: too-big\nS*: 552" },
    Void {
        name: "a line too long",
        lines: "C: DATA\nS*: 354\nC*: 6 void\nC-: \\r\\n.\\r\\n\nA: line-too-long\nS*: 554",
    },
    Void { name: "chunks, and RSET", lines: "C: BDAT 6\nC: void\nS*: 250\nC: RSET\nA: reset\nS*: 250" },
    Void { name: "chunks, and EHLO", lines: "C: BDAT 6\nC: void\nS*: 250\nC: EHLO c.example\nA: reset\nS*: 250" },
    Void {
        name: "chunks, and STARTTLS",
        lines: "C: BDAT 6\nC: void\nS*: 250\nC: RSET\nA: reset\nS*: 250\nC: STARTTLS\nS*: 220\nTLS: start",
    },
    Void {
        name: "a bare LF in the second chunk",
        lines: "C: BDAT 6\nC: void\nS*: 250\nC-: BDAT 6 LAST\\r\\nvoid\\n\\n\nA: bare-lf\nS*: 554",
    },
    Void {
        name: "a chunk that is too big",
        lines: "C: BDAT 6\nC: void\nS*: 250\nC: BDAT 120 LAST\nC*: 20 void\\r\\n\nA: too-big\nS*: 552",
    },
    Void {
        name: "chunks whose first is refused",
        lines: "C-: BDAT 6\\r\\nvo\\nd\\r\\n\nA: bare-lf\nS*: 554\nC-: BDAT 6 LAST\\r\\nvoid\\r\\n\nS*: 503",
    },
];
