//! What is in a report.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::IpAddr;

use mail_builder::MessageBuilder;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};

use super::Reporting;
use crate::delivery::{MAX_LINE_OCTETS, is_convertible, read_header_section};
use crate::dsn::{Notify, Ret};
use crate::envelope::{self, Envelope, QueueId};
use crate::spool::{Recipient, ReportKind, State, Timestamp};

/// Recipients of a message to report on.
pub(super) struct About<'a> {
    pub(super) state: &'a State,
    pub(super) places: &'a [usize],
    pub(super) reporting: &'a Reporting,
}

/// What a sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Failed,
    Delayed,
    Relayed,
}

impl Subject {
    /// None where it is not the sender who is told.
    pub(super) fn of(kind: ReportKind) -> Option<Self> {
        match kind {
            ReportKind::Failed => Some(Self::Failed),
            ReportKind::Delayed => Some(Self::Delayed),
            ReportKind::Relayed => Some(Self::Relayed),
            ReportKind::Undeliverable => None,
        }
    }

    /// RFC 3464, section 2.3.3.
    fn action(self, recipient: &Recipient) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Relayed if recipient.is_in_mailbox => "delivered",
            Self::Relayed => "relayed",
        }
    }

    /// Where none is known (RFC 3463).
    fn status(self) -> &'static str {
        match self {
            Self::Failed => "5.0.0",
            Self::Delayed => "4.0.0",
            Self::Relayed => "2.0.0",
        }
    }
}

impl About<'_> {
    /// Writes the report, for the spool to take back to the sender.
    ///
    /// The reverse-path is null and NOTIFY is NEVER, so that it begins no loop (RFC 3461, section 6.1).
    ///
    /// # Errors
    /// Where the original's `content` cannot be read.
    pub(super) fn report(&self, subject: Subject, id: QueueId, content: File) -> io::Result<(Envelope, Vec<u8>)> {
        let Self { state, reporting, .. } = self;
        let hostname = &reporting.hostname;
        // RFC 3461, section 4.3: RET is about failures.
        let is_whole = subject == Subject::Failed && state.ret == Some(Ret::Full);
        let original = Original::read(content, is_whole)?;
        let status = self.delivery_status(subject);
        // RFC 6533: addresses in UTF-8 need the wider media types.
        let international = !status.is_ascii() || !state.reverse_path.is_ascii();
        let status_type = if international { "message/global-delivery-status" } else { "message/delivery-status" };
        let status_encoding = if international { "8bit" } else { "7bit" };
        let parts = vec![
            MimePart::new("text/plain", self.explanation(subject, original.is_whole())),
            MimePart::new(status_type, BodyPart::Binary(Cow::Owned(status.into_bytes())))
                .transfer_encoding(status_encoding),
            original.part(international),
        ];
        let report_type = ContentType::new("multipart/report").attribute("report-type", "delivery-status");
        let from = format!("MAILER-DAEMON@{hostname}");
        let mut message = MessageBuilder::new()
            .from(("Mail Delivery System", from.as_str()))
            .header("To", Raw::new(format!("<{}>", one_line(&state.reverse_path))))
            .subject(self.header(subject))
            .message_id(format!("{id}@{hostname}"))
            .date(Date::new(Timestamp::now().as_secs()))
            // RFC 3834, section 3.1.7: what answers mail by itself must not answer this.
            .header("Auto-Submitted", Raw::new("auto-replied"));
        if let Some(message_id) = &original.message_id {
            message = message
                .header("In-Reply-To", Raw::new(message_id.clone()))
                .header("References", Raw::new(message_id.clone()));
        }
        let message = message.body(MimePart::new(report_type, parts)).write_to_vec()?;
        let mut sender = envelope::Recipient::new(state.reverse_path.as_str());
        sender.notify = Some(Notify::NEVER);
        let envelope =
            Envelope { received: received(hostname, &id), id, smtputf8: international, ..Envelope::new("", [sender]) };
        Ok((envelope, message))
    }

    /// Writes to the postmaster that a message from the null reverse-path has failed.
    ///
    /// It is from the postmaster, too: the null reverse-path may be what the next hop does not take.
    ///
    /// # Errors
    /// Where the message's `content` cannot be read.
    pub(super) fn to_postmaster(
        &self,
        postmaster: &str,
        id: QueueId,
        content: File,
    ) -> io::Result<(Envelope, Vec<u8>)> {
        let hostname = &self.reporting.hostname;
        let original = Original::read(content, true)?;
        let what = match self.state.report_on.as_ref().and_then(|report_on| Subject::of(report_on.kind)) {
            Some(Subject::Failed) => "A report of this server on the failure of a message",
            Some(Subject::Delayed) => "A report of this server on the delay of a message",
            Some(Subject::Relayed) => "A report of this server on the success of a message",
            None => "A message from the null reverse-path",
        };
        let mut text = format!(
            "This is the mail server {hostname}.\r\n\r\n\
             {what} could not be delivered to\r\n\r\n"
        );
        self.list(&mut text);
        text.push_str("Nobody else is told of that. What it says is below.\r\n");
        let international = !text.is_ascii() || !postmaster.is_ascii();
        let parts = vec![MimePart::new("text/plain", text), original.part(international)];
        let message = MessageBuilder::new()
            .from(("Mail Delivery System", postmaster))
            .header("To", Raw::new(format!("<{}>", one_line(postmaster))))
            .subject("Report that could not be delivered")
            .message_id(format!("{id}@{hostname}"))
            .date(Date::new(Timestamp::now().as_secs()))
            .header("Auto-Submitted", Raw::new("auto-generated"))
            .body(MimePart::new(ContentType::new("multipart/mixed"), parts))
            .write_to_vec()?;
        let envelope = Envelope {
            received: received(hostname, &id),
            id,
            smtputf8: international,
            ..Envelope::new(postmaster, [postmaster])
        };
        Ok((envelope, message))
    }

    fn header(&self, subject: Subject) -> &'static str {
        match subject {
            Subject::Failed => "Undelivered mail returned to sender",
            Subject::Delayed => "Delayed mail, still being tried",
            Subject::Relayed if self.is_delivered() => "Mail delivered",
            Subject::Relayed => "Mail handed on, without further reports",
        }
    }

    /// Whether all are in their mailboxes.
    fn is_delivered(&self) -> bool {
        self.recipients().all(|recipient| recipient.is_in_mailbox)
    }

    fn recipients(&self) -> impl Iterator<Item = &Recipient> {
        self.places.iter().filter_map(|place| self.state.recipients.get(*place))
    }

    /// The part for people.
    fn explanation(&self, subject: Subject, is_whole: bool) -> String {
        let arrived = Date::new(self.state.arrived.as_secs()).to_rfc822();
        let hostname = &self.reporting.hostname;
        let mut text = format!("This is the mail server {hostname}.\r\n\r\n");
        _ = match subject {
            Subject::Failed => write!(text, "Your message of {arrived} could not be delivered to\r\n\r\n"),
            Subject::Delayed => write!(
                text,
                "THIS IS ONLY A WARNING. YOU NEED NOT SEND YOUR MESSAGE AGAIN.\r\n\r\n\
                 Your message of {arrived} has not been delivered yet to\r\n\r\n"
            ),
            Subject::Relayed if self.is_delivered() => {
                write!(text, "Your message of {arrived} has been delivered to\r\n\r\n")
            }
            Subject::Relayed => write!(
                text,
                "Your message of {arrived} has been handed on, to a server that does not report\r\n\
                 on success, for\r\n\r\n"
            ),
        };
        self.list(&mut text);
        let rest = if is_whole { "your message" } else { "the header of your message" };
        match subject {
            Subject::Failed => text.push_str("It will not be tried again. "),
            Subject::Delayed => {
                let until = Date::new(self.retry_until().as_secs()).to_rfc822();
                _ = write!(text, "It is tried again until {until}. ");
            }
            Subject::Relayed => {}
        }
        _ = write!(
            text,
            "What the servers said is above, and below in a form for programs, followed by\r\n{rest}.\r\n"
        );
        text
    }

    /// The recipients, each with what was last heard of it.
    fn list(&self, text: &mut String) {
        for recipient in self.recipients() {
            let reason = reason(recipient);
            _ = write!(text, "    <{}>\r\n        {reason}\r\n\r\n", one_line(&recipient.forward_path));
        }
    }

    /// The part for programs (RFC 3464, section 2; RFC 3461, section 6.3).
    fn delivery_status(&self, subject: Subject) -> String {
        let state = self.state;
        let mut text = String::new();
        if let Some(envid) = &state.envid {
            _ = write!(text, "Original-Envelope-Id: {}\r\n", one_line(envid));
        }
        let arrived = Date::new(state.arrived.as_secs()).to_rfc822();
        let reporter = reporting_mta(&self.reporting.hostname);
        _ = write!(text, "Reporting-MTA: {reporter}\r\nX-Queue-ID: {}\r\nArrival-Date: {arrived}\r\n", state.id);
        for recipient in self.recipients() {
            text.push_str("\r\n");
            if let Some(original) = &recipient.orcpt {
                let (kind, address) = (one_line(&original.address_type), one_line(&original.address));
                _ = write!(text, "Original-Recipient: {kind}; {address}\r\n");
            }
            let kind = if recipient.forward_path.is_ascii() { "rfc822" } else { "utf-8" };
            let path = one_line(&recipient.forward_path);
            _ = write!(text, "Final-Recipient: {kind}; {path}\r\nAction: {}\r\n", subject.action(recipient));
            match &recipient.last {
                Some(last) => {
                    _ = write!(text, "Status: {}\r\n", last.status);
                    if let Some(host) = &last.remote_mta {
                        _ = write!(text, "Remote-MTA: dns; {}\r\n", mta_name(host));
                    }
                    let kind = if last.is_reply { "smtp" } else { "x-sansmtp" };
                    let at = Date::new(last.at.as_secs()).to_rfc822();
                    let said = in_ascii(&last.text);
                    _ = write!(text, "Diagnostic-Code: {kind}; {said}\r\nLast-Attempt-Date: {at}\r\n");
                }
                None => _ = write!(text, "Status: {}\r\n", subject.status()),
            }
            if subject == Subject::Delayed {
                let until = Date::new(self.retry_until().as_secs()).to_rfc822();
                _ = write!(text, "Will-Retry-Until: {until}\r\n");
            }
        }
        text
    }

    fn retry_until(&self) -> Timestamp {
        self.state.arrived.after(self.reporting.give_up_after)
    }
}

/// RFC 3461, section 6.3 (b): `dns` is for a name that everybody can look up.
fn reporting_mta(hostname: &str) -> String {
    let name = mta_name(hostname);
    let kind = if name.contains('.') || name.starts_with('[') { "dns" } else { "x-local-hostname" };
    format!("{kind}; {name}")
}

/// A domain name, or the literal of an address (RFC 3461, section 9.3; RFC 5321, section 4.1.3).
fn mta_name(host: &str) -> Cow<'_, str> {
    match host.parse() {
        Ok(IpAddr::V4(address)) => format!("[{address}]").into(),
        Ok(IpAddr::V6(address)) => format!("[IPv6:{address}]").into(),
        Err(_) => host.into(),
    }
}

/// Lines for the top of what is kept in a file: who it was for, and why nobody has it.
pub(super) fn undelivered_head(state: &State) -> String {
    let mut head = format!("Return-Path: <{}>\r\n", one_line(&state.reverse_path));
    for recipient in state.recipients.iter().filter(|recipient| state.wishes(recipient).failure) {
        if matches!(recipient.status, crate::spool::Status::Failed | crate::spool::Status::Reported) {
            let path = one_line(&recipient.forward_path);
            _ = write!(head, "X-Undelivered-To: <{path}>;\r\n\t{}\r\n", in_ascii(&reason(recipient)));
        }
    }
    head
}

/// What is returned of the original.
struct Original {
    octets: Vec<u8>,
    /// Where it is whole, whether it has octets above 127.
    whole: Option<bool>,
    message_id: Option<String>,
}

impl Original {
    /// # Errors
    /// Where the content cannot be read.
    fn read(mut content: File, is_whole: bool) -> io::Result<Self> {
        let mut header = Vec::new();
        let mut message_id = MessageId::default();
        read_header_section(&mut content, |line| {
            message_id.take(line);
            if header.len() + line.len() <= MAX_HEADER_OCTETS {
                header.extend_from_slice(line);
            }
        })?;
        let message_id = message_id.finish();
        if is_whole && content.metadata()?.len() <= MAX_WHOLE_OCTETS && header.is_ascii() {
            let mut octets = Vec::new();
            content.rewind()?;
            content.read_to_end(&mut octets)?;
            let eight_bit = !octets.is_ascii();
            // What is signed must not change, and the report must not fail for that.
            if is_clean(&octets) && (!eight_bit || is_convertible(io::Cursor::new(&octets))?) {
                return Ok(Self { octets, whole: Some(eight_bit), message_id });
            }
        }
        Ok(Self { octets: header, whole: None, message_id })
    }

    fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    fn part(&self, international: bool) -> MimePart<'_> {
        let body = BodyPart::Binary(Cow::Borrowed(&self.octets[..]));
        match self.whole {
            // RFC 2046, section 5.2.1: no encoding that would hide what is inside.
            Some(eight_bit) => {
                MimePart::new("message/rfc822", body).transfer_encoding(if eight_bit { "8bit" } else { "7bit" })
            }
            // No encoding is named, so the builder picks 7bit or quoted-printable (RFC 6522, section 4).
            None if international && !self.octets.is_ascii() && std::str::from_utf8(&self.octets).is_ok() => {
                MimePart::new("message/global-headers", body)
            }
            None => MimePart::new("text/rfc822-headers", body),
        }
    }
}

/// Finds the first Message-ID of a header section, which is fit for a header of ours.
#[derive(Default)]
struct MessageId {
    value: Option<Vec<u8>>,
    goes_on: bool,
}

impl MessageId {
    fn take(&mut self, line: &[u8]) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let (true, Some(value)) = (self.goes_on, &mut self.value) {
                value.extend_from_slice(line);
            }
            return;
        }
        let colon = line.iter().position(|octet| *octet == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        self.goes_on = self.value.is_none() && name.trim_ascii_end().eq_ignore_ascii_case(b"Message-ID");
        if self.goes_on {
            self.value = Some(value.get(1..).unwrap_or_default().to_vec());
        }
    }

    fn finish(self) -> Option<String> {
        let value = String::from_utf8(self.value?.trim_ascii().to_vec()).ok()?;
        let inside = value.strip_prefix('<')?.strip_suffix('>')?;
        let is_plain = inside.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>'));
        (is_plain && (3..=MAX_MESSAGE_ID_OCTETS).contains(&value.len())).then_some(value)
    }
}

/// Whether every next hop takes these lines.
fn is_clean(octets: &[u8]) -> bool {
    octets.split_inclusive(|octet| *octet == b'\n').all(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() <= MAX_LINE_OCTETS && !text.iter().any(|octet| matches!(octet, b'\r' | b'\n' | b'\0'))
    })
}

/// RFC 5321, section 4.4, as far as there is something to tell: no client has sent this message.
fn received(hostname: &str, id: &QueueId) -> String {
    format!("Received: by {hostname} id {id};\r\n\t{}\r\n", Date::new(Timestamp::now().as_secs()).to_rfc822())
}

/// What was last heard of a recipient, for people.
fn reason(recipient: &Recipient) -> String {
    let Some(last) = &recipient.last else { return "no reason is known".to_owned() };
    one_line(&match &last.remote_mta {
        Some(host) if last.is_reply => format!("{host} said: {last}"),
        Some(host) => format!("{host}: {last}"),
        None => last.to_string(),
    })
}

/// What came from elsewhere must not add a header, or a part.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// Only the addresses are a reason to need more than ASCII.
fn in_ascii(text: &str) -> String {
    one_line(text).chars().map(|c| if c.is_ascii() { c } else { '?' }).take(MAX_DIAGNOSTIC).collect()
}

const MAX_HEADER_OCTETS: usize = 64 * 1024;
/// Of a longer original, a report has the header section (RFC 3461, section 6.2).
const MAX_WHOLE_OCTETS: u64 = 256 * 1024;
const MAX_DIAGNOSTIC: usize = 900;
const MAX_MESSAGE_ID_OCTETS: usize = 500;
