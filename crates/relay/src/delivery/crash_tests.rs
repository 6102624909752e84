//! What a crash between any two changes of the spool leaves, and what the next start makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mail_parser::{MessageParser, MimeHeaders};

use super::tests::{CONTENT, Fixture, QUICK};
use crate::routes::Route;
use crate::testing::{NextHop, accept};

/// The spool as a crash would leave it, and how much mail the next hop had taken by then.
struct Crash {
    directory: tempfile::TempDir,
    taken: usize,
}

fn copy(spool: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for part in ["incoming", "queue"] {
        std::fs::create_dir(copy.path().join(part)).unwrap();
        for entry in std::fs::read_dir(spool.join(part)).unwrap() {
            let entry = entry.unwrap();
            let copied = std::fs::copy(entry.path(), copy.path().join(part).join(entry.file_name()));
            // What is being written may go away at any time, and is worth nothing after a crash.
            assert!(copied.is_ok() || part == "incoming");
        }
    }
    copy
}

/// The recipients that reports tell of, by the reports' Message-IDs.
fn reported(messages: &[Vec<u8>]) -> BTreeMap<String, BTreeSet<String>> {
    let mut reported = BTreeMap::<_, BTreeSet<_>>::new();
    for message in messages {
        let message = MessageParser::default().parse(message).unwrap();
        let Some(part) = message
            .parts
            .iter()
            .find(|part| part.content_type().is_some_and(|kind| kind.subtype() == Some("delivery-status")))
        else {
            continue;
        };
        let status = String::from_utf8(part.contents().to_vec()).unwrap();
        let recipients = status.lines().filter_map(|line| line.strip_prefix("Final-Recipient: rfc822; "));
        let id = message.message_id().unwrap().to_owned();
        reported.entry(id).or_default().extend(recipients.map(|recipient| recipient.trim().to_owned()));
    }
    reported
}

/// Two recipients fail at different attempts while the report on the first still waits.
#[test]
fn whenever_the_process_ends_each_failure_is_in_one_report() {
    let up = Arc::new(AtomicBool::new(false));
    let (is_up, tried) = (Arc::clone(&up), AtomicBool::new(false));
    let hop = NextHop::start(move |_, command| match command {
        "RCPT TO:<b@b.example>" => "550 5.1.1 no b\r\n".to_owned(),
        "RCPT TO:<c@b.example>" if !tried.swap(true, Ordering::SeqCst) => "450 4.2.1 no c for now\r\n".to_owned(),
        "RCPT TO:<c@b.example>" => "550 5.1.1 no c\r\n".to_owned(),
        "RCPT TO:<tim@sender.example>" if !is_up.load(Ordering::SeqCst) => "450 4.2.1 not now\r\n".to_owned(),
        command => accept(command, &[]),
    });
    let crashes = Arc::new(Mutex::new(Vec::new()));
    let mut fixture = Fixture::new();
    let (all, server) = (Arc::clone(&crashes), hop.clone());
    fixture.spool.on_change(move |spool| {
        all.lock().unwrap().push(Crash { directory: copy(spool), taken: server.seen().messages.len() });
    });
    fixture.add(super::tests::envelope("tim@sender.example", &["b@b.example", "c@b.example"]), CONTENT);
    let fixture = fixture.start(Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]), QUICK, None);
    // Both have failed.
    let start = std::time::Instant::now();
    while hop.seen().commands().iter().filter(|command| **command == "RCPT TO:<c@b.example>").count() < 2
        || fixture.states().iter().any(|state| !state.reverse_path.is_empty())
    {
        assert!(start.elapsed() < crate::testing::PATIENCE, "{:#?}", fixture.states());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    up.store(true, Ordering::SeqCst);
    fixture.drain();
    drop(fixture);
    let taken = hop.seen().messages;
    let crashes = std::mem::take(&mut *crashes.lock().unwrap());
    assert!(crashes.len() > 10, "{}", crashes.len());
    for (number, crash) in crashes.into_iter().enumerate() {
        // The message was not acknowledged yet.
        let acknowledged = std::fs::read_dir(crash.directory.path().join("queue"))
            .unwrap()
            .any(|entry| entry.unwrap().path().extension().is_some_and(|end| end == "json"));
        if !acknowledged && crash.taken == 0 {
            continue;
        }
        let after = NextHop::start(|_, command| match command {
            "RCPT TO:<b@b.example>" | "RCPT TO:<c@b.example>" => "550 5.1.1 no\r\n".to_owned(),
            command => accept(command, &[]),
        });
        let fixture = Fixture::over(crash.directory).relay(&[after.url("smtp", "")]);
        fixture.drain();
        drop(fixture);
        let messages = [&taken[..crash.taken], &after.seen().messages[..]].concat();
        let reported = reported(&messages);
        for recipient in ["b@b.example", "c@b.example"] {
            let reports = reported.values().filter(|recipients| recipients.contains(recipient)).count();
            assert_eq!(reports, 1, "after change {number}, {recipient} is in {reports} reports: {reported:#?}");
        }
    }
}
