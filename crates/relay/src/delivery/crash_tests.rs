//! What a crash between any two changes of the spool leaves, and what the next start makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::tests::{CONTENT, Fixture, QUICK};
use super::{Delivery, NonZeroUsize};
use crate::dsn::Notify;
use crate::envelope::{Envelope, Recipient};
use crate::routes::Route;
use crate::testing::{NextHop, accept};

/// The spool as a crash would leave it, and how much mail the next hop had taken by then.
struct Crash {
    directory: tempfile::TempDir,
    taken: usize,
}

fn copy(spool: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for part in ["incoming", "queue", KEPT] {
        let Ok(entries) = std::fs::read_dir(spool.join(part)) else { continue };
        std::fs::create_dir(copy.path().join(part)).unwrap();
        for entry in entries {
            let entry = entry.unwrap();
            let copied = std::fs::copy(entry.path(), copy.path().join(part).join(entry.file_name()));
            // What is being written may go away at any time, and is worth nothing after a crash.
            assert!(copied.is_ok() || part == "incoming");
        }
    }
    copy
}

const KEPT: &str = "undelivered-reports";

/// What reports tell of which recipients, by the reports' boundaries: one that is sent twice has the same again, and one
/// that is written twice has another.
fn reported(messages: &[Vec<u8>]) -> BTreeMap<String, BTreeSet<(String, String)>> {
    let mut reported = BTreeMap::<_, BTreeSet<_>>::new();
    for message in messages {
        let text = String::from_utf8(message.clone()).unwrap();
        let value = |name: &'static str| {
            text.lines().filter_map(move |line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let told: BTreeSet<_> = value("Action: ").zip(value("Final-Recipient: rfc822; ")).collect();
        if !told.is_empty() {
            // The first is the report's own.
            let boundary = text.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            reported.entry(boundary.to_owned()).or_default().extend(told);
        }
    }
    reported
}

/// What was kept in files.
fn kept(spool: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(spool.join(KEPT)) else { return Vec::new() };
    entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// A next hop that knows what it has taken.
fn hop(
    script: impl Fn(&[Vec<u8>], &str) -> Option<&'static str> + Send + Sync + 'static,
    before: Vec<Vec<u8>>,
) -> NextHop {
    let itself = Arc::new(OnceLock::<NextHop>::new());
    let hop = {
        let itself = Arc::clone(&itself);
        NextHop::start(move |_, command| {
            let taken = itself.get().map(|hop| [&before[..], &hop.seen().messages[..]].concat()).unwrap_or_default();
            script(&taken, command).map_or_else(|| accept(command, &[]), |reply| format!("{reply}\r\n"))
        })
    };
    itself.set(hop.clone()).ok().unwrap();
    hop
}

/// Delivers a message by `script`, and goes on from each moment at which a crash could have come. Each of `expected` is
/// then in one report, whoever has it.
fn crash_everywhere(
    envelope: Envelope,
    postmaster: Option<&str>,
    script: fn(&[Vec<u8>], &str) -> Option<&'static str>,
    expected: &[(&str, &str)],
) {
    let delivery = |hop: &NextHop| Delivery {
        schedule: QUICK,
        delay_report_after: Some(Duration::ZERO),
        postmaster: postmaster.map(str::to_owned),
        sessions_per_destination: NonZeroUsize::MIN,
        ..Delivery::new(Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]), "relay.example")
    };
    let first = hop(script, Vec::new());
    let crashes = Arc::new(Mutex::new(Vec::new()));
    let mut fixture = Fixture::new();
    let (all, server) = (Arc::clone(&crashes), first.clone());
    fixture.spool.on_change(move |spool| {
        all.lock().unwrap().push(Crash { directory: copy(spool), taken: server.seen().messages.len() });
    });
    fixture.add(envelope, CONTENT);
    let fixture = fixture.deliver(delivery(&first));
    fixture.drain();
    let check = |taken: &[Vec<u8>], spool: &Path, when: &str| {
        let reported = reported(&[taken, &kept(spool)[..]].concat());
        for (action, recipient) in expected {
            let told = ((*action).to_owned(), (*recipient).to_owned());
            let reports = reported.values().filter(|recipients| recipients.contains(&told)).count();
            assert_eq!(reports, 1, "{when}: {told:?} is in {reports} reports: {reported:#?}");
        }
    };
    let taken = first.seen().messages;
    check(&taken, fixture.directory(), "without a crash");
    drop(fixture);
    let crashes = std::mem::take(&mut *crashes.lock().unwrap());
    assert!(crashes.len() > 10, "{}", crashes.len());
    for (number, crash) in crashes.into_iter().enumerate() {
        // The message was not acknowledged yet.
        let acknowledged = std::fs::read_dir(crash.directory.path().join("queue"))
            .unwrap()
            .any(|entry| entry.unwrap().path().extension().is_some_and(|end| end == "json"));
        if !acknowledged && crash.taken == 0 && kept(crash.directory.path()).is_empty() {
            continue;
        }
        let taken = &taken[..crash.taken];
        let after = hop(script, taken.to_vec());
        let fixture = Fixture::over(crash.directory).deliver(delivery(&after));
        fixture.drain();
        check(&[taken, &after.seen().messages[..]].concat(), fixture.directory(), &format!("after change {number}"));
    }
}

fn has_told(taken: &[Vec<u8>], action: &str) -> bool {
    reported(taken).values().flatten().any(|(told, _)| told == action)
}

fn with_success() -> Envelope {
    let success =
        Recipient { notify: Some(Notify { success: true, ..Notify::NEVER }), ..Recipient::new("s@b.example") };
    Envelope { recipients: vec!["l@b.example".into(), success], ..Envelope::new("tim@sender.example", ["x"]) }
}

#[test]
fn whenever_the_process_ends_delay_success_and_failure_are_in_one_report_each() {
    let script = |taken: &[Vec<u8>], command: &str| match command {
        "RCPT TO:<l@b.example>" if has_told(taken, "delayed") => Some("550 5.1.1 no l"),
        "RCPT TO:<l@b.example>" => Some("450 4.2.1 no l for now"),
        _ => None,
    };
    let expected = [("delayed", "l@b.example"), ("failed", "l@b.example"), ("relayed", "s@b.example")];
    crash_everywhere(with_success(), None, script, &expected);
}

#[test]
fn whenever_the_process_ends_reports_that_nobody_takes_are_kept_once() {
    let script = |_: &[Vec<u8>], command: &str| match command {
        "RCPT TO:<l@b.example>" => Some("550 5.1.1 no l"),
        "MAIL FROM:<>" => Some("501 5.5.4 no"),
        _ => None,
    };
    crash_everywhere(with_success(), None, script, &[("failed", "l@b.example"), ("relayed", "s@b.example")]);
}

#[test]
fn whenever_the_process_ends_the_postmaster_has_one_copy_of_what_nobody_takes() {
    let script = |_: &[Vec<u8>], command: &str| match command {
        "RCPT TO:<l@b.example>" => Some("550 5.1.1 no l"),
        "RCPT TO:<tim@sender.example>" => Some("550 5.1.1 no tim"),
        _ => None,
    };
    let expected = [("failed", "l@b.example"), ("relayed", "s@b.example")];
    crash_everywhere(with_success(), Some("postmaster@relay.example"), script, &expected);
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
        std::thread::sleep(Duration::from_millis(2));
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
            let told = ("failed".to_owned(), recipient.to_owned());
            let reports = reported.values().filter(|recipients| recipients.contains(&told)).count();
            assert_eq!(reports, 1, "after change {number}, {recipient} is in {reports} reports: {reported:#?}");
        }
    }
}
