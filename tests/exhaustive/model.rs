//! What a server must answer, line by line, written from RFC 5321, RFC 3207, RFC 4954 and RFC 4616; where
//! those leave a choice, from the documentation of the engine's configuration. It knows nothing of the
//! engine's insides.

/// What a listener offers and demands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    pub(crate) starttls: bool,
    pub(crate) tls_from_start: bool,
    pub(crate) tls_required: bool,
    pub(crate) auth: Option<Auth>,
    pub(crate) auth_required: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Auth {
    pub(crate) require_tls: bool,
    pub(crate) max_failures: u32,
}

/// What the authenticator does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    CannotTell,
    Nothing,
}

pub(crate) const ANSWERS: [Answer; 4] = [Answer::Yes, Answer::No, Answer::CannotTell, Answer::Nothing];

/// What a line is, when the server reads commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Ehlo,
    Helo,
    HelloWithoutName,
    Mail,
    MailBadPath,
    MailTooBig,
    MailAuth,
    Rcpt,
    RcptBadPath,
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    StartTlsWithArgument,
    /// AUTH PLAIN with an initial response.
    AuthPlain(&'static str),
    AuthPlainAlone,
    AuthLogin,
    AuthUnknownMechanism,
    /// Over 512 octets, and no AUTH.
    TooLong,
    /// A LF without a CR.
    BareNewline,
    Unknown,
}

/// A line of the alphabet, as it goes over the wire.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) octets: &'static [u8],
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    Helo,
    Ehlo,
}

/// What the server knows of the client, and what it reads next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) tls: bool,
    pub(crate) hello: Option<Hello>,
    pub(crate) authenticated: bool,
    /// The recipients so far, in a transaction.
    pub(crate) transaction: Option<usize>,
    pub(crate) reads: Reads,
    pub(crate) failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Commands,
    Content { faulty: bool },
    PlainMessage,
    LoginName,
    LoginPassword,
    Nothing,
}

/// What a line brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The one reply; none to a line of content.
    pub(crate) code: Option<u16>,
    /// The authenticator is asked.
    pub(crate) asks: bool,
    /// An AUTH ends, well or badly, and an event says so.
    pub(crate) ends_auth: Option<bool>,
    pub(crate) starts_tls: bool,
}

impl State {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            tls: policy.tls_from_start,
            hello: None,
            authenticated: false,
            transaction: None,
            reads: Reads::Commands,
            failures: 0,
        }
    }

    /// Takes a line; `answer` is what the authenticator says if it is asked.
    pub(crate) fn take(&mut self, policy: Policy, line: &Line, answer: Answer) -> Outcome {
        let text = line.octets.strip_suffix(b"\r\n").expect("every line ends in CRLF");
        match self.reads {
            Reads::Nothing => unreachable!("nothing is sent behind the end"),
            Reads::Commands => self.command(policy, line.command, answer),
            Reads::Content { faulty } => self.content(text, faulty),
            Reads::PlainMessage | Reads::LoginName | Reads::LoginPassword => self.response(policy, text, answer),
        }
    }

    /// RFC 5321, section 4.1.1.4: everything is content but the line that is a dot. A bare LF (section
    /// 2.3.8) makes it unacceptable, and never ends it.
    fn content(&mut self, text: &[u8], faulty: bool) -> Outcome {
        if text == b"." {
            self.reads = Reads::Commands;
            self.transaction = None;
            return reply(if faulty { 554 } else { 250 });
        }
        self.reads = Reads::Content { faulty: faulty || text.contains(&b'\n') };
        Outcome { code: None, asks: false, ends_auth: None, starts_tls: false }
    }

    fn command(&mut self, policy: Policy, command: Command, answer: Answer) -> Outcome {
        use Command::{
            AuthLogin, AuthPlain, AuthPlainAlone, AuthUnknownMechanism, BareNewline, Data, Ehlo, HelloWithoutName,
            Helo, Help, Mail, MailAuth, MailBadPath, MailTooBig, Noop, Quit, Rcpt, RcptBadPath, Rset, StartTls,
            StartTlsWithArgument, TooLong, Unknown, Vrfy,
        };
        let needs_hello = matches!(command, Mail | MailBadPath | MailTooBig | MailAuth | Rcpt | RcptBadPath | Data);
        let needs_login = needs_hello || matches!(command, Vrfy | Help);
        // RFC 3207, section 4: 530 to everything but NOOP, EHLO, STARTTLS and QUIT; AUTH has its 538.
        let needs_tls = needs_login || matches!(command, Helo | Rset);
        if needs_tls && policy.tls_required && !self.tls {
            return reply(530);
        }
        // RFC 5321, section 4.1.4.
        if needs_hello && self.hello.is_none() {
            return reply(503);
        }
        // RFC 4954, section 6.
        if needs_login && policy.auth_required && !self.authenticated {
            return reply(530);
        }
        let extended = self.hello == Some(Hello::Ehlo);
        reply(match command {
            Ehlo | Helo => {
                // RFC 5321, section 4.1.4: as if RSET had been given.
                self.transaction = None;
                self.hello = Some(if command == Ehlo { Hello::Ehlo } else { Hello::Helo });
                250
            }
            HelloWithoutName => 501,
            Mail | MailBadPath | MailTooBig | MailAuth if self.transaction.is_some() => 503,
            MailBadPath => 501,
            // RFC 5321, section 4.1.1.11: a parameter that is not known, as none is after HELO.
            MailTooBig | MailAuth if !extended => 555,
            MailAuth if policy.auth.is_none() => 555,
            // RFC 1870, section 6.1.
            MailTooBig => 552,
            Mail | MailAuth => {
                self.transaction = Some(0);
                250
            }
            Rcpt | RcptBadPath if self.transaction.is_none() => 503,
            RcptBadPath => 501,
            Rcpt => {
                self.transaction = self.transaction.map(|recipients| recipients + 1);
                250
            }
            // RFC 5321, section 4.1.1.4, and section 3.3: 503 or 554 without recipients.
            Data => match self.transaction {
                None => 503,
                Some(0) => 554,
                Some(_) => {
                    self.reads = Reads::Content { faulty: false };
                    354
                }
            },
            Rset => {
                self.transaction = None;
                250
            }
            Noop => 250,
            Vrfy => 252,
            Help => 214,
            Quit => {
                self.reads = Reads::Nothing;
                221
            }
            StartTlsWithArgument => 501,
            StartTls if self.tls => 503,
            StartTls if !policy.starttls => 502,
            // RFC 5321, section 4.1.4: EHLO is for mail transactions.
            StartTls => {
                // Section 4.2: everything that was learnt from the client is discarded. What is counted
                // against it is not.
                *self = Self { tls: true, failures: self.failures, ..Self::new(policy) };
                return Outcome { starts_tls: true, ..reply(220) };
            }
            AuthPlain(_) | AuthPlainAlone | AuthLogin | AuthUnknownMechanism => {
                return self.auth(policy, command, answer);
            }
            TooLong | BareNewline | Unknown => 500,
        })
    }

    /// RFC 4954, section 4.
    fn auth(&mut self, policy: Policy, command: Command, answer: Answer) -> Outcome {
        let Some(auth) = policy.auth else { return failed(502) };
        let hidden = (auth.require_tls || policy.tls_required) && !self.tls;
        match command {
            _ if self.hello != Some(Hello::Ehlo) => failed(503),
            _ if hidden => failed(538),
            _ if self.authenticated || self.transaction.is_some() => failed(503),
            Command::AuthUnknownMechanism => failed(504),
            Command::AuthPlain(response) => {
                self.reads = Reads::PlainMessage;
                self.response(policy, response.as_bytes(), answer)
            }
            Command::AuthPlainAlone => {
                self.reads = Reads::PlainMessage;
                reply(334)
            }
            _ => {
                self.reads = Reads::LoginName;
                reply(334)
            }
        }
    }

    fn response(&mut self, policy: Policy, line: &[u8], answer: Answer) -> Outcome {
        let step = std::mem::replace(&mut self.reads, Reads::Commands);
        // "*" cancels; what is not base64 ends the exchange: 501 both (RFC 4954, section 4). "=" stands for
        // an empty response on the command line only. A line has at most 12,288 octets.
        let decoded = match line {
            b"*" => None,
            _ if line.len() + 2 > 12_288 => return failed(500),
            _ => decode(line),
        };
        let Some(decoded) = decoded else { return failed(501) };
        match step {
            Reads::PlainMessage if is_plain(&decoded) => self.ask(policy, answer),
            Reads::LoginName if is_identity(&decoded) => {
                self.reads = Reads::LoginPassword;
                reply(334)
            }
            Reads::LoginPassword if decoded.is_empty() => self.refuse(policy, false),
            // One that SASLprep prohibits (RFC 4013, section 2.3) is asked about as well.
            Reads::LoginPassword if is_password(&decoded) => self.ask(policy, answer),
            _ => failed(501),
        }
    }

    /// RFC 4954, section 6; an omission is a failure of the server's, never a success.
    fn ask(&mut self, policy: Policy, answer: Answer) -> Outcome {
        match answer {
            Answer::Yes => {
                self.authenticated = true;
                Outcome { code: Some(235), asks: true, ends_auth: Some(true), starts_tls: false }
            }
            Answer::No => self.refuse(policy, true),
            Answer::CannotTell | Answer::Nothing => Outcome { asks: true, ..failed(454) },
        }
    }

    fn refuse(&mut self, policy: Policy, asks: bool) -> Outcome {
        self.failures += 1;
        let last = policy.auth.is_some_and(|auth| self.failures >= auth.max_failures);
        if last {
            self.reads = Reads::Nothing;
        }
        Outcome { asks, ..failed(if last { 421 } else { 535 }) }
    }
}

fn reply(code: u16) -> Outcome {
    Outcome { code: Some(code), asks: false, ends_auth: None, starts_tls: false }
}

fn failed(code: u16) -> Outcome {
    Outcome { ends_auth: Some(false), ..reply(code) }
}

/// `[authzid] UTF8NUL authcid UTF8NUL passwd` (RFC 4616, section 2).
fn is_plain(message: &[u8]) -> bool {
    let parts: Vec<&[u8]> = message.split(|&octet| octet == 0).collect();
    matches!(parts[..], [authzid, authcid, password] if is_identity(authzid) && is_identity(authcid) && is_password(password))
}

fn is_identity(octets: &[u8]) -> bool {
    octets.len() < 256 && std::str::from_utf8(octets).is_ok_and(|text| !text.chars().any(char::is_control))
}

fn is_password(octets: &[u8]) -> bool {
    std::str::from_utf8(octets).is_ok() && !octets.contains(&0)
}

/// RFC 4648, section 4, strictly.
fn decode(line: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let groups = line.chunks(4).len();
    for (index, group) in line.chunks(4).enumerate() {
        let padding = match group {
            [_, _, b'=', b'='] => 2,
            [_, _, _, b'='] => 1,
            [_, _, _, _] => 0,
            _ => return None,
        };
        if padding > 0 && index + 1 < groups {
            return None;
        }
        let mut bits = 0u32;
        for octet in &group[..4 - padding] {
            let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                .iter()
                .position(|known| known == octet)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        bits <<= 6 * padding;
        let octets = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        if octets[3 - padding..].iter().any(|&stray| stray != 0) {
            return None;
        }
        decoded.extend_from_slice(&octets[..3 - padding]);
    }
    Some(decoded)
}
