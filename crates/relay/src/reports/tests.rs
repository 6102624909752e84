use std::fs::File;
use std::io::{Seek, Write};

use mail_parser::{MessageParser, MimeHeaders};

use super::content::{About, Subject};
use super::*;
use crate::dsn::{Notify, OriginalRecipient, Ret};
use crate::envelope::Envelope;

fn reporting() -> Reporting {
    Reporting {
        hostname: "relay.example".to_owned(),
        delay_after: Some(Duration::from_secs(4 * 3600)),
        give_up_after: Duration::from_secs(5 * 24 * 3600),
        postmaster: None,
    }
}

/// A report on all recipients.
fn report(state: &State, subject: Subject, content: File) -> (Envelope, Vec<u8>) {
    let places: Vec<usize> = (0..state.recipients.len()).collect();
    let name = state.id.report(ReportKind::Failed, 0);
    About { state, places: &places, reporting: &reporting() }.report(subject, name, content).unwrap()
}

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
    let (envelope, message) = report(&state, Subject::Failed, content(ORIGINAL));
    let mut sender = crate::envelope::Recipient::new("tim@sender.example");
    sender.notify = Some(Notify::NEVER);
    assert_eq!((envelope.reverse_path.as_str(), &envelope.recipients[..]), ("", &[sender][..]));
    assert!(envelope.received.starts_with("Received: by relay.example id ") && envelope.received.ends_with("\r\n"));
    assert!(!envelope.smtputf8);

    let parsed = MessageParser::default().parse(&message).unwrap();
    let content_type = parsed.content_type().unwrap();
    assert_eq!((content_type.ctype(), content_type.subtype()), ("multipart", Some("report")));
    assert_eq!(content_type.attribute("report-type"), Some("delivery-status"));
    assert_eq!(parsed.header_raw("Auto-Submitted").unwrap().trim(), "auto-replied");
    assert_eq!(parsed.header_raw("To").unwrap().trim(), "<tim@sender.example>");
    assert_eq!(parsed.message_id(), Some(format!("{}r1@relay.example", state.id).as_str()));
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
    let (_, message) = report(&state, Subject::Failed, content(&original));
    assert!(message.split(|octet| *octet == b'\n').all(|line| line.len() <= 999));
    assert!(!message.windows(9).any(|window| window == b"\nX-Evil: "));
    let bare = message.iter().enumerate().any(|(at, octet)| *octet == b'\n' && (at == 0 || message[at - 1] != b'\r'));
    assert!(!bare, "a bare LF");
}

#[test]
fn addresses_in_utf_8_use_the_media_type_for_them() {
    let state = state(&["ü@b.example"], refusal());
    let (envelope, message) = report(&state, Subject::Failed, content(ORIGINAL));
    assert!(envelope.smtputf8);
    let text = String::from_utf8(message).unwrap();
    assert!(text.contains("message/global-delivery-status") && text.contains("Final-Recipient: utf-8; ü@b.example"));
}

/// The parts behind the one for people.
fn parts(message: &[u8]) -> (String, String) {
    let parsed = MessageParser::default().parse(message).unwrap();
    let text = |index: usize| String::from_utf8(parsed.parts[index].contents().to_vec()).unwrap();
    (text(2), text(3))
}

#[test]
fn what_the_client_said_comes_back() {
    let mut state = state(&["new@b.example"], refusal());
    state.envid = Some("QQ 314159".to_owned());
    state.recipients[0].orcpt =
        Some(OriginalRecipient { address_type: "rfc822".to_owned(), address: "old@b.example".to_owned() });
    let original = b"message-id :\r\n <id.1@client.example>\r\nReferences: <0@x>\r\n\r\nx\r\n";
    let (_, message) = report(&state, Subject::Failed, content(original));
    let (status, _) = parts(&message);
    assert!(status.starts_with("Original-Envelope-Id: QQ 314159\r\nReporting-MTA: dns; relay.example\r\n"), "{status}");
    assert!(
        status.contains("\r\n\r\nOriginal-Recipient: rfc822; old@b.example\r\nFinal-Recipient: rfc822; new@b.example")
    );
    let text = String::from_utf8(message).unwrap();
    for field in ["In-Reply-To", "References"] {
        assert!(text.contains(&format!("{field}: <id.1@client.example>\r\n")), "{text}");
    }
    for none in
        ["Message-ID: no brackets", "X-Message-ID: <a@b>", "Message-ID: <a@b> <c@d>", "Message-ID: <a\u{e9}@b>", ""]
    {
        let (_, message) = report(&state, Subject::Failed, content(format!("{none}\r\n\r\nx\r\n").as_bytes()));
        assert!(!String::from_utf8_lossy(&message).contains("In-Reply-To"), "{none}");
    }
}

#[test]
fn the_whole_message_is_returned_where_that_is_asked_for_and_can_be_done() {
    let mut state = state(&["a@b.example"], refusal());
    let returned = |state: &State, subject, octets: &[u8]| {
        let (_, message) = report(state, subject, content(octets));
        let parsed = MessageParser::default().parse(&message).unwrap();
        let kind = parsed.parts[3].content_type().unwrap();
        let is_whole = kind.subtype() == Some("rfc822");
        assert_eq!(message.windows(octets.len()).any(|window| window == octets), is_whole);
        is_whole
    };
    assert!(!returned(&state, Subject::Failed, ORIGINAL), "it is not asked for");
    state.ret = Some(Ret::Headers);
    assert!(!returned(&state, Subject::Failed, ORIGINAL));
    state.ret = Some(Ret::Full);
    assert!(returned(&state, Subject::Failed, ORIGINAL));
    assert!(returned(&state, Subject::Failed, "Subject: x\r\n\r\nGr\u{fc}\u{df}e\r\n".as_bytes()));
    for subject in [Subject::Delayed, Subject::Relayed] {
        assert!(!returned(&state, subject, ORIGINAL), "RFC 3461, section 4.3");
    }
    let long_line = [b"Subject: x\r\n\r\n", &[b'x'; 999][..], b"\r\n"].concat();
    let large = [b"Subject: x\r\n\r\n".to_vec(), b"x\r\n".repeat(100_000)].concat();
    for unfit in [
        &b"Subject: x\r\n\r\na\nb\r\n"[..],
        b"Subject: x\r\n\r\na\rb\r\n",
        b"Subject: \xff\r\n\r\nx\r\n",
        "DKIM-Signature: v=1\r\n\r\nGr\u{fc}\u{df}e\r\n".as_bytes(),
        &long_line,
        &large,
    ] {
        assert!(!returned(&state, Subject::Failed, unfit));
    }
}

#[test]
fn delay_and_success_are_told_as_what_they_are() {
    let later = Answer { status: "4.2.1".to_owned(), text: "450 4.2.1 not now".to_owned(), ..refusal() };
    let (_, message) = report(&state(&["a@b.example"], later), Subject::Delayed, content(ORIGINAL));
    let (status, _) = parts(&message);
    assert!(
        status.contains("Action: delayed\r\nStatus: 4.2.1\r\n") && status.contains("\r\nWill-Retry-Until: "),
        "{status}"
    );
    let text = String::from_utf8(message).unwrap();
    assert!(
        text.contains("Subject: Delayed mail") && text.contains("THIS IS ONLY A WARNING") && !text.contains("failed")
    );

    let taken = Answer { status: "2.0.0".to_owned(), text: "250 2.0.0 queued".to_owned(), ..refusal() };
    let (_, message) = report(&state(&["a@b.example"], taken), Subject::Relayed, content(ORIGINAL));
    let (status, _) = parts(&message);
    assert!(status.contains("Action: relayed\r\nStatus: 2.0.0\r\nRemote-MTA: dns; mx.b.example\r\n"), "{status}");
    assert!(!status.contains("Will-Retry-Until"));
}

#[test]
fn servers_without_a_name_are_told_as_rfc_3461_has_them() {
    for (host, name) in [("192.0.2.1", "[192.0.2.1]"), ("2001:db8::1", "[IPv6:2001:db8::1]"), ("mx", "mx")] {
        let answer = Answer { remote_mta: Some(host.to_owned()), ..refusal() };
        let (_, message) = report(&state(&["a@b.example"], answer), Subject::Failed, content(ORIGINAL));
        let (status, _) = parts(&message);
        assert!(status.contains(&format!("Remote-MTA: dns; {name}\r\n")), "{status}");
    }
    for (hostname, told) in [("printer", "x-local-hostname; printer"), ("[192.0.2.1]", "dns; [192.0.2.1]")] {
        let reporting = Reporting { hostname: hostname.to_owned(), ..reporting() };
        let state = state(&["a@b.example"], refusal());
        let about = About { state: &state, places: &[0], reporting: &reporting };
        let name = state.id.report(ReportKind::Failed, 0);
        let (_, message) = about.report(Subject::Failed, name, content(ORIGINAL)).unwrap();
        let (status, _) = parts(&message);
        assert!(status.starts_with(&format!("Reporting-MTA: {told}\r\n")), "{status}");
    }
}

#[test]
fn a_report_that_is_damaged_does_not_keep_the_next_one_from_being_written() {
    let (directory, spool, mut state) = spooled("tim@sender.example", vec![(Status::Failed, None)]);
    let name = state.id.report(ReportKind::Failed, 0);
    std::fs::write(directory.path().join(format!("queue/{name}.json")), "{").unwrap();
    write(&spool, &mut state, &reporting(), &|_| refusal()).unwrap();
    assert_eq!(state.recipients[0].status, Status::Reported);
}

/// A spool with a message whose recipients are as given.
fn spooled(reverse_path: &str, recipients: Vec<(Status, Option<Notify>)>) -> (tempfile::TempDir, Arc<Spool>, State) {
    let directory = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(directory.path()).unwrap());
    let paths = (0..recipients.len()).map(|number| format!("a{number}@b.example"));
    let mut incoming = Spool::begin(&spool, Envelope::new(reverse_path, paths)).unwrap();
    incoming.write(ORIGINAL).unwrap();
    let mut state = spool.load(&incoming.commit().unwrap()).unwrap();
    for (recipient, (status, notify)) in state.recipients.iter_mut().zip(recipients) {
        (recipient.status, recipient.notify) = (status, notify);
    }
    (directory, spool, state)
}

/// The kinds of the reports that are in the spool, and the recipients that they tell of.
fn written(spool: &Spool) -> Vec<(ReportKind, Vec<usize>)> {
    let states = spool.states().unwrap();
    states.into_iter().filter_map(|state| state.report_on).map(|on| (on.kind, on.recipients)).collect()
}

fn write_all(spool: &Arc<Spool>, state: &mut State, reporting: &Reporting) {
    write(spool, state, reporting, &|_| Answer::own_words("4.4.1", "not reached")).unwrap();
    assert!(state.unannounced.is_empty());
    assert_eq!(spool.load(&state.id).unwrap(), *state, "recorded");
}

#[test]
fn each_recipient_is_reported_on_as_its_notify_says_and_once() {
    let only = |success, failure, delay| Some(Notify { success, failure, delay });
    let recipients = vec![
        (Status::Failed, None),
        (Status::Failed, Some(Notify::NEVER)),
        (Status::Failed, only(true, false, true)),
        (Status::Failed, only(false, true, false)),
        (Status::Pending, None),
        (Status::Pending, only(true, true, false)),
        (Status::Pending, only(false, false, true)),
        (Status::Relayed, only(true, false, false)),
        (Status::Delivered, None),
    ];
    let (_directory, spool, mut state) = spooled("tim@sender.example", recipients);
    write_all(&spool, &mut state, &reporting());
    let on = [(ReportKind::Failed, vec![0, 3]), (ReportKind::Relayed, vec![7])];
    assert_eq!(written(&spool), on, "nothing is late yet");
    let quick = Reporting { delay_after: Some(Duration::ZERO), ..reporting() };
    assert!(state.delay_report_due(None).is_none());
    write_all(&spool, &mut state, &Reporting { delay_after: None, ..reporting() });
    assert_eq!(written(&spool).len(), 2);
    write_all(&spool, &mut state, &quick);
    assert_eq!(written(&spool)[0], (ReportKind::Delayed, vec![4, 6]));
    write_all(&spool, &mut state, &quick);
    assert_eq!(written(&spool).len(), 3, "once");
    assert!(state.delay_report_due(quick.delay_after).is_none());
    // Who has been told of the delay is told of the failure, too.
    state.recipients[4].status = Status::Failed;
    write_all(&spool, &mut state, &quick);
    assert_eq!(written(&spool).len(), 4);
    assert!(!state.is_finished(), "5 and 6 are still tried");
}

#[test]
fn a_report_that_could_not_be_recorded_is_not_written_again() {
    let (_directory, spool, mut state) = spooled("tim@sender.example", vec![(Status::Failed, None)]);
    let before = state.clone();
    write_all(&spool, &mut state, &reporting());
    // As where the state could not be saved, and is what it was.
    let mut state = before;
    write_all(&spool, &mut state, &reporting());
    assert_eq!(written(&spool), [(ReportKind::Failed, vec![0])]);
    assert!(state.is_finished());
}

#[test]
fn one_message_makes_few_reports() {
    let recipients = vec![(Status::Pending, None); 100];
    let (_directory, spool, mut state) = spooled("tim@sender.example", recipients);
    for place in 0..100 {
        state.recipients[place].status = Status::Failed;
        if state.owes_report() {
            write_all(&spool, &mut state, &reporting());
        }
    }
    let reports = written(&spool);
    assert_eq!(reports.len(), 11);
    assert_eq!(reports.iter().map(|(_, places)| places.len()).sum::<usize>(), 100);
    assert!(state.is_finished());
}

#[test]
fn what_nobody_takes_goes_to_the_postmaster_or_into_a_file_and_there_it_ends() {
    for (postmaster, reports) in [(None, 1), (Some("postmaster@relay.example"), 2)] {
        let reporting = Reporting { postmaster: postmaster.map(str::to_owned), ..reporting() };
        let (directory, spool, mut state) = spooled("tim@sender.example", vec![(Status::Failed, None)]);
        write_all(&spool, &mut state, &reporting);
        let mut last = state;
        for number in 1..=3 {
            // Each report fails, and would be late.
            let Some(mut report) = spool
                .states()
                .unwrap()
                .into_iter()
                .find(|state| state.report_on.as_ref().is_some_and(|on| on.id == last.id))
            else {
                assert_eq!(number, reports + 1);
                break;
            };
            report.recipients[0].settle(true, refusal());
            write_all(&spool, &mut report, &Reporting { delay_after: Some(Duration::ZERO), ..reporting.clone() });
            assert!(report.is_finished());
            last = report;
        }
        let file = directory.path().join("undelivered-reports").join(format!("{}.eml", last.id));
        let kept = std::fs::read_to_string(file).unwrap();
        let to = postmaster.unwrap_or("tim@sender.example");
        assert!(
            kept.contains(&format!("X-Undelivered-To: <{to}>;\r\n\tmx.b.example said: 550 5.1.1 no such user\r\n"))
        );
        assert!(kept.contains("Final-Recipient: rfc822; a0@b.example"), "{kept}");
        if let Some(postmaster) = postmaster {
            assert_eq!((last.reverse_path.as_str(), last.recipients[0].notify), (postmaster, None));
            assert!(kept.starts_with(&format!("Return-Path: <{postmaster}>\r\n")), "{kept}");
            assert!(kept.contains("Auto-Submitted: auto-generated\r\n") && kept.contains("message/rfc822"), "{kept}");
        }
    }
}

#[test]
fn other_mail_from_the_null_reverse_path_is_kept_unless_that_is_not_wanted() {
    let recipients = vec![(Status::Failed, None), (Status::Failed, Some(Notify::NEVER)), (Status::Delivered, None)];
    let (directory, spool, mut state) = spooled("", recipients);
    write_all(&spool, &mut state, &reporting());
    assert!(written(&spool).is_empty() && state.is_finished());
    let file = directory.path().join("undelivered-reports").join(format!("{}.eml", state.id));
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(kept.contains("<a0@b.example>") && !kept.contains("a1@") && !kept.contains("a2@"), "{kept}");
    assert!(kept.ends_with(std::str::from_utf8(ORIGINAL).unwrap()));

    let (directory, spool, mut state) = spooled("", vec![(Status::Failed, Some(Notify::NEVER))]);
    write_all(&spool, &mut state, &reporting());
    assert!(state.is_finished() && !directory.path().join("undelivered-reports").exists());
}
