//! Limits and timeouts, and how far the RFCs are bent.

use core::time::Duration;

/// Sizes and counts that a connection cannot exceed.
///
/// Command lines have RFC 5321's 512 octets, and what extensions add to them: 26 for SIZE, 17 for
/// 8BITMIME, 500 for AUTH, 10 for SMTPUTF8 on MAIL, and what each of [`Extensions`](crate::Extensions)
/// adds; 12,288 for AUTH commands and SASL responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size of a message in octets, after transparency (RFC 1870): 32 MiB unless changed.
    pub max_message_octets: u64,
    /// The length of a line of content in octets, CRLF included. RFC 5321, section 4.5.3.1.6 asks for at
    /// least 1,000; much mail in the wild has longer ones, so it is 65,536 unless changed.
    pub max_content_line_octets: usize,
    /// Forward-paths in a transaction: 1,000 unless changed; RFC 5321, section 4.5.3.1.8 asks for at
    /// least 100.
    pub max_recipients: usize,
    /// Commands in a row that are not recognised, after which the connection is closed: 10 unless
    /// changed.
    pub max_unrecognized_commands: u32,
    /// Commands on a connection, SASL responses and chunks not counted, after which it is closed with
    /// `421 4.7.0`: no limit unless changed.
    pub max_commands: Option<u32>,
    /// Errors of the client on a connection, after which it is closed with `421 4.7.0`: 100 unless
    /// changed. Whoever tries out addresses gets no further.
    ///
    /// An error is a reply with 5yz, and `454 4.7.0` for too many failed attempts to log in. It is none of
    /// the client's when the server cannot do something now (4yz: RFC 5321, section 4.2.1), as with more
    /// recipients than `max_recipients`; refused credentials have a limit of their own. Of LMTP's replies behind a
    /// message the last counts, as the others must not be cut off (RFC 2033, section 4.2). A message that is
    /// accepted, and a login, make the engine forget the errors before it, so that a connection that is used for
    /// long may have a wrong recipient now and then.
    pub max_errors: Option<u32>,
    /// Octets that a client may send for the TLS handshake, its certificates included: 12,288 unless
    /// changed, which has room for any usual chain. A client that sends more is disconnected. For the layer of
    /// [`tls`](crate::tls) only. Up to 65,535 make sense: rustls gathers no longer message.
    pub max_handshake_octets: usize,
    /// Mail transactions on a connection, of which one more is refused with `421 4.7.0`: no limit unless
    /// changed.
    pub max_transactions: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_octets: 32 << 20,
            max_content_line_octets: 65_536,
            max_recipients: 1_000,
            max_unrecognized_commands: 10,
            max_commands: None,
            max_errors: Some(100),
            max_handshake_octets: 12_288,
            max_transactions: None,
        }
    }
}

/// How long the engine waits (RFC 5321, section 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a whole command line, SASL response or TLS handshake, however many reads it takes: five
    /// minutes unless changed (section 4.5.3.2.7).
    pub command: Duration,
    /// For more content, from one piece to the next: five minutes unless changed.
    pub content: Duration,
    /// For the embedder's answer: five minutes unless changed.
    pub answer: Duration,
    /// For the peer to take what is written to it: five minutes unless changed.
    pub write: Duration,
    /// For the whole content of a message, however it trickles in, and by BDAT with what is between its chunks: an
    /// hour unless changed. A message of the largest size must be able to come in that time.
    pub message: Duration,
    /// For a client to log in, where [AUTH is required](crate::ConfigBuilder::auth_required): ten minutes from
    /// the beginning of the connection unless changed, twice what RFC 5321 gives a client for one command. However
    /// many commands it gives meanwhile, it is then told `421 4.4.2`, and the connection closes. What the embedder's
    /// answers take is not counted.
    pub before_auth: Option<Duration>,
    /// For a client to send a message, where AUTH is not required: an hour unless changed, from the beginning of
    /// the connection or from the last message that came, to the content of the next. It ends as
    /// [`before_auth`](Self::before_auth) does. A client that has logged in all the same has no such limit.
    pub before_message: Option<Duration>,
    /// For the whole connection: no limit unless changed. When it has passed, what is in progress ends as
    /// by a timeout of its own.
    pub session: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let five_minutes = Duration::from_secs(300);
        Self {
            command: five_minutes,
            content: five_minutes,
            answer: five_minutes,
            write: five_minutes,
            message: Duration::from_secs(3600),
            before_auth: Some(Duration::from_secs(600)),
            before_message: Some(Duration::from_secs(3600)),
            session: None,
        }
    }
}

/// What to do with line ends in the content that are not CRLF. In a command or a SASL response they are
/// always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Newlines {
    /// Refuses content that holds one with `554 5.6.11`, once it has ended. What SMTP smuggling needs is
    /// a server that does anything else.
    #[default]
    Refuse,
    /// For old senders: a bare CR or LF is handed on as CRLF. It never ends the content, and a dot behind
    /// it is no more than a dot.
    Convert,
}

/// Bends of the RFCs for clients that need them. All off.
///
/// White space in a row, names at EHLO that are no domains, and STARTTLS before EHLO are taken without
/// any of these, as by every server in the field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each with its own name")]
pub struct Quirks {
    /// Lists the mechanisms a second time as `250-AUTH=…`, for Outlook Express and its age.
    pub auth_equals_line: bool,
    /// Takes AUTH after HELO, for printers and scanners that skip EHLO.
    pub auth_after_helo: bool,
    /// Takes AUTH before EHLO and HELO, which some libraries leave out where nobody asks for mechanisms.
    /// Mail needs EHLO or HELO all the same.
    pub auth_before_ehlo: bool,
    /// Takes `MAIL FROM: <path>` and `RCPT TO: <path>`, with spaces behind the colon.
    pub space_after_colon: bool,
    /// Takes paths without angle brackets.
    pub bare_paths: bool,
    /// Takes local-parts with dots in a row, at the start or at the end, without quotes:
    /// `<a..b.@docomo.ne.jp>`. Japanese mobile operators gave such addresses out. A server that the
    /// message is relayed to may refuse them.
    pub dots_in_local_parts: bool,
    /// Takes underscores in domains: `<user@my_host.example.com>`.
    pub underscores_in_domains: bool,
    /// Takes a local-part alone: `<root>`. [`Path::domain`](crate::Path::domain) is then `None`; that the
    /// mailbox is one of this server's is for the embedder to say.
    pub unqualified_paths: bool,
}
