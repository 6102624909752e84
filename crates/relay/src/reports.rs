//! Delivery status notifications: what a sender gets when its message could not be delivered (RFC 3464).

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::sync::Arc;

use mail_builder::MessageBuilder;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};

use crate::delivery::read_header_section;
use crate::envelope::{Envelope, QueueId};
use crate::spool::{Recipient, ReportOn, Spool, State, Status, Timestamp};

/// Tells the sender of the recipients of `state` that have failed, if there is a sender, and records that.
///
/// The report reaches the disk before the record, and is announced for delivery after it. So a crash in between
/// leaves a report that can be found, and that nobody has yet: this function finds it.
///
/// # Errors
/// Where the file system refuses. Then the recipients are still to be reported.
pub(crate) fn report_failures(spool: &Arc<Spool>, state: &mut State, hostname: &str) -> io::Result<()> {
    let mut failed = state.places(Status::Failed);
    if failed.is_empty() {
        return Ok(());
    }
    for recipient in state.recipients.iter().filter(|recipient| recipient.status == Status::Failed) {
        let reason = recipient.last.as_ref().map_or("unknown", |last| last.text.as_str());
        tracing::warn!(id = %state.id, recipient = recipient.forward_path, reason, "failed");
    }
    let mut reports = Vec::new();
    if state.reverse_path.is_empty() {
        // RFC 5321, section 6.1: a report on a report would be the beginning of a loop.
        tracing::warn!(id = %state.id, "the reverse-path is null: nobody is told of the failure");
        state.reported(&failed);
    } else {
        for &place in &failed {
            if let Some(covered) = covered_by(spool, &state.id, place)?
                && state.reported(&covered)
            {
                reports.push(state.id.report(place));
            }
        }
        failed = state.places(Status::Failed);
        if !failed.is_empty() {
            reports.push(write_report(spool, state, failed, hostname)?);
        }
    }
    spool.save(state)?;
    for report in reports {
        spool.announce(report);
    }
    Ok(())
}

/// Which recipients the report tells of whose first one is at `place`, if there is such a report.
fn covered_by(spool: &Spool, id: &QueueId, place: usize) -> io::Result<Option<Vec<usize>>> {
    let name = id.report(place);
    if !spool.contains(&name)? {
        return Ok(None);
    }
    let report_on = spool.load(&name)?.report_on.filter(|report_on| report_on.id == *id);
    Ok(report_on.map(|report_on| report_on.recipients))
}

fn write_report(spool: &Arc<Spool>, state: &mut State, failed: Vec<usize>, hostname: &str) -> io::Result<QueueId> {
    let name = state.id.report(failed.first().copied().unwrap_or_default());
    // An earlier version named reports otherwise, so one of those may have this name.
    let name = if spool.contains(&name)? { QueueId::new() } else { name };
    let (envelope, message) = report(state, name, hostname, spool.content(&state.id)?)?;
    let report_on = ReportOn { id: state.id.clone(), recipients: failed };
    let mut incoming = Spool::begin_report(spool, envelope, report_on.clone())?;
    incoming.write(&message)?;
    let name = incoming.commit()?;
    tracing::info!(id = %state.id, report = %name, to = state.reverse_path, "the sender is told of the failure");
    state.reported(&report_on.recipients);
    Ok(name)
}

/// Writes the report on the recipients of `state` that have failed, for the spool to take back to the sender.
///
/// The reverse-path is null, so that a failure to deliver the report ends there (RFC 5321, section 6.1).
///
/// # Errors
/// Where the original's `content` cannot be read.
fn report(state: &State, id: QueueId, hostname: &str, content: File) -> io::Result<(Envelope, Vec<u8>)> {
    let failed: Vec<&Recipient> = state.recipients.iter().filter(|r| r.status == Status::Failed).collect();
    let original = original_header(content)?;
    let status = delivery_status(state, &failed, hostname);
    // RFC 6533: addresses in UTF-8 need the wider media types.
    let international = !status.is_ascii() || !state.reverse_path.is_ascii();
    let status_type = if international { "message/global-delivery-status" } else { "message/delivery-status" };
    let status_encoding = if international { "8bit" } else { "7bit" };
    let parts = vec![
        MimePart::new("text/plain", explanation(state, &failed, hostname)),
        MimePart::new(status_type, BodyPart::Binary(Cow::Owned(status.into_bytes())))
            .transfer_encoding(status_encoding),
        // No encoding is named, so the builder picks 7bit or quoted-printable (RFC 6522, section 4).
        MimePart::new("text/rfc822-headers", BodyPart::Binary(Cow::Owned(original))),
    ];
    let report_type = ContentType::new("multipart/report").attribute("report-type", "delivery-status");
    let message = MessageBuilder::new()
        .from(("Mail Delivery System", mailer_daemon(hostname).as_str()))
        .header("To", Raw::new(format!("<{}>", one_line(&state.reverse_path))))
        .subject("Undelivered mail returned to sender")
        .message_id(format!("{id}@{hostname}"))
        .date(Date::new(Timestamp::now().as_secs()))
        // RFC 3834: what answers mail by itself must not answer this.
        .header("Auto-Submitted", Raw::new("auto-replied"))
        .body(MimePart::new(report_type, parts))
        .write_to_vec()?;
    let envelope = Envelope { id, smtputf8: international, ..Envelope::new("", [state.reverse_path.as_str()]) };
    Ok((envelope, message))
}

/// The part for people.
fn explanation(state: &State, failed: &[&Recipient], hostname: &str) -> String {
    let arrived = Date::new(state.arrived.as_secs()).to_rfc822();
    let mut text = format!(
        "This is the mail server {hostname}.\r\n\r\n\
         Your message of {arrived} could not be delivered to\r\n\r\n"
    );
    for recipient in failed {
        let reason = match &recipient.last {
            Some(last) => match &last.remote_mta {
                Some(host) if last.is_reply => format!("{host} said: {last}"),
                Some(host) => format!("{host}: {last}"),
                None => last.to_string(),
            },
            None => "no reason is known".to_owned(),
        };
        let (path, reason) = (one_line(&recipient.forward_path), one_line(&reason));
        text.push_str(&format!("    <{path}>\r\n        {reason}\r\n\r\n"));
    }
    text.push_str(
        "It will not be tried again. What the servers said is above, and below in a form for programs, \
         followed by the header of your message.\r\n",
    );
    text
}

/// The part for programs (RFC 3464, section 2).
fn delivery_status(state: &State, failed: &[&Recipient], hostname: &str) -> String {
    let arrived = Date::new(state.arrived.as_secs()).to_rfc822();
    let mut text = format!("Reporting-MTA: dns; {hostname}\r\nX-Queue-ID: {}\r\nArrival-Date: {arrived}\r\n", state.id);
    for recipient in failed {
        let kind = if recipient.forward_path.is_ascii() { "rfc822" } else { "utf-8" };
        let path = one_line(&recipient.forward_path);
        text.push_str(&format!("\r\nFinal-Recipient: {kind}; {path}\r\nAction: failed\r\n"));
        let Some(last) = &recipient.last else {
            text.push_str("Status: 5.0.0\r\n");
            continue;
        };
        text.push_str(&format!("Status: {}\r\n", last.status));
        if let Some(host) = &last.remote_mta {
            text.push_str(&format!("Remote-MTA: dns; {host}\r\n"));
        }
        let kind = if last.is_reply { "smtp" } else { "x-sansmtp" };
        text.push_str(&format!("Diagnostic-Code: {kind}; {}\r\n", in_ascii(&last.text)));
        let at = Date::new(last.at.as_secs()).to_rfc822();
        text.push_str(&format!("Last-Attempt-Date: {at}\r\n"));
    }
    text
}

/// The header section of the original, as much of it as is useful.
fn original_header(content: File) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    read_header_section(content, |line| {
        if header.len() + line.len() <= MAX_ORIGINAL_OCTETS {
            header.extend_from_slice(line);
        }
    })?;
    Ok(header)
}

fn mailer_daemon(hostname: &str) -> String {
    format!("MAILER-DAEMON@{hostname}")
}

/// What came from elsewhere must not add a header, or a part.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// Only the addresses are a reason to need more than ASCII.
fn in_ascii(text: &str) -> String {
    one_line(text).chars().map(|c| if c.is_ascii() { c } else { '?' }).take(MAX_DIAGNOSTIC).collect()
}

const MAX_ORIGINAL_OCTETS: usize = 64 * 1024;
/// A line of a message has at most 998 characters (RFC 5322, section 2.1.1).
const MAX_DIAGNOSTIC: usize = 900;

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use mail_parser::{MessageParser, MimeHeaders};

    use super::*;
    use crate::spool::Answer;

    fn state(recipients: &[&str], answer: Answer) -> State {
        let mut state = State::new(Envelope::new("tim@sender.example", recipients.iter().copied()));
        for recipient in &mut state.recipients {
            recipient.status = Status::Failed;
            recipient.last = Some(answer.clone());
        }
        state
    }

    fn refusal() -> Answer {
        Answer {
            status: "5.1.1".to_owned(),
            remote_mta: Some("mx.b.example".to_owned()),
            text: "550 5.1.1 no such user".to_owned(),
            is_reply: true,
            at: Timestamp::now(),
        }
    }

    fn content(octets: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(octets).unwrap();
        file.rewind().unwrap();
        file
    }

    const ORIGINAL: &[u8] = b"Subject: Greetings\r\nX-Long: folded\r\n\tline\r\n\r\nsecret body\r\n";

    #[test]
    fn the_report_has_the_three_parts_of_rfc_3464() {
        let state = state(&["a@b.example", "c@b.example"], refusal());
        let (envelope, message) = report(&state, state.id.report(1), "relay.example", content(ORIGINAL)).unwrap();
        assert_eq!(
            (envelope.reverse_path.as_str(), &envelope.recipients[..]),
            ("", &["tim@sender.example".into()][..])
        );
        assert!(!envelope.smtputf8);

        let parsed = MessageParser::default().parse(&message).unwrap();
        let content_type = parsed.content_type().unwrap();
        assert_eq!((content_type.ctype(), content_type.subtype()), ("multipart", Some("report")));
        assert_eq!(content_type.attribute("report-type"), Some("delivery-status"));
        assert_eq!(parsed.header_raw("Auto-Submitted").unwrap().trim(), "auto-replied");
        assert_eq!(parsed.header_raw("To").unwrap().trim(), "<tim@sender.example>");
        assert_eq!(parsed.message_id(), Some(format!("{}@relay.example", state.id.report(1)).as_str()));
        assert!(parsed.date().is_some() && parsed.header_raw("MIME-Version").is_some());

        let parts: Vec<_> = parsed.parts[1..]
            .iter()
            .map(|part| {
                let kind = part.content_type().unwrap();
                format!("{}/{}", kind.ctype(), kind.subtype().unwrap())
            })
            .collect();
        assert_eq!(parts, ["text/plain", "message/delivery-status", "text/rfc822-headers"]);
        let text = |index: usize| String::from_utf8(parsed.parts[index].contents().to_vec()).unwrap();
        assert!(text(1).contains("<a@b.example>") && text(1).contains("mx.b.example said: 550 5.1.1 no such user"));

        let status = text(2);
        let groups: Vec<_> = status.trim().split("\r\n\r\n").collect();
        assert_eq!(groups.len(), 3, "{status}");
        assert!(groups[0].starts_with("Reporting-MTA: dns; relay.example\r\n") && groups[0].contains("Arrival-Date: "));
        assert!(
            groups[2].starts_with(
                "Final-Recipient: rfc822; c@b.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\
                 Remote-MTA: dns; mx.b.example\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
            ),
            "{status}"
        );
        assert!(text(3).contains("Subject: Greetings\r\n") && text(3).contains("\tline"));
        assert!(!String::from_utf8_lossy(&message).contains("secret body"));
    }

    #[test]
    fn the_report_is_lines_that_any_server_takes() {
        let long = Answer { text: format!("550 {}\r\nX-Evil: é", "x".repeat(5000)), ..refusal() };
        let state = state(&["a@b.example"], long);
        let original = [&b"Subject: \xff\xfe\r\nX: "[..], &[b'y'; 200_000], b"\r\nTo: a\r\n\r\n"].concat();
        let (_, message) = report(&state, state.id.report(1), "relay.example", content(&original)).unwrap();
        assert!(message.split(|octet| *octet == b'\n').all(|line| line.len() <= 999));
        assert!(!message.windows(9).any(|window| window == b"\nX-Evil: "));
        let bare =
            message.iter().enumerate().any(|(at, octet)| *octet == b'\n' && (at == 0 || message[at - 1] != b'\r'));
        assert!(!bare, "a bare LF");
    }

    #[test]
    fn addresses_in_utf_8_use_the_media_type_for_them() {
        let state = state(&["ü@b.example"], refusal());
        let (envelope, message) = report(&state, state.id.report(1), "relay.example", content(ORIGINAL)).unwrap();
        assert!(envelope.smtputf8);
        let text = String::from_utf8(message).unwrap();
        assert!(
            text.contains("message/global-delivery-status") && text.contains("Final-Recipient: utf-8; ü@b.example")
        );
    }
}
