use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use hickory_resolver::proto::rr::rdata::{A, MX};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::*;
use crate::envelope::Envelope;
use crate::spool::{ReportKind, ReportOn, Status};
use crate::testing::{NextHop, PATIENCE, accept, name_server};

/// A spool with messages in it, and what delivers them.
pub(super) struct Fixture {
    pub(super) spool: Arc<Spool>,
    worker: Option<Worker>,
    directory: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    /// What is in a directory already.
    pub(super) fn over(directory: tempfile::TempDir) -> Self {
        let spool = Arc::new(Spool::open(directory.path()).unwrap());
        Self { spool, worker: None, directory }
    }

    pub(super) fn with(mut self, recipients: &[&str], content: &[u8]) -> Self {
        self.add(envelope("tim@sender.example", recipients), content);
        self
    }

    pub(super) fn add(&mut self, envelope: Envelope, content: &[u8]) -> QueueId {
        let mut incoming = Spool::begin(&self.spool, envelope).unwrap();
        incoming.write(content).unwrap();
        incoming.commit().unwrap()
    }

    pub(super) fn relay(self, urls: &[String]) -> Self {
        self.start(Route::Relays(urls.iter().map(|url| url.parse().unwrap()).collect()), QUICK, None)
    }

    pub(super) fn start(self, route: Route, schedule: Schedule, ca: Option<&Path>) -> Self {
        self.deliver(Delivery { schedule, ca: ca.map(Path::to_owned), ..Delivery::new(route, "relay.example") })
    }

    pub(super) fn deliver(mut self, delivery: Delivery) -> Self {
        self.worker = Some(Worker::start(Arc::clone(&self.spool), delivery).unwrap());
        self
    }

    /// The directory of the spool.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until nothing is left to deliver.
    pub(super) fn drain(&self) {
        let start = Instant::now();
        while !self.spool.states().unwrap().is_empty() {
            assert!(start.elapsed() < PATIENCE, "still in the spool: {:?}", self.states());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a message's state is as described.
    pub(super) fn wait(&self, id: &QueueId, condition: impl Fn(&crate::spool::State) -> bool) -> crate::spool::State {
        let start = Instant::now();
        loop {
            let state = self.spool.load(id).unwrap();
            if condition(&state) {
                return state;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain: {state:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(super) fn trust(&self) -> TrustHandle {
        self.worker.as_ref().unwrap().trust()
    }

    pub(super) fn states(&self) -> Vec<crate::spool::State> {
        self.spool.states().unwrap()
    }
}

pub(super) fn envelope(reverse_path: &str, recipients: &[&str]) -> Envelope {
    let received = "Received: by relay.example\r\n".to_owned();
    Envelope { received, ..Envelope::new(reverse_path, recipients.iter().copied()) }
}

pub(super) fn self_signed(directory: &Path) -> (Arc<rustls::ServerConfig>, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let path = directory.join("cert.pem");
    std::fs::write(&path, certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    (Arc::new(config), path)
}

pub(super) const QUICK: Schedule = Schedule {
    first: Duration::from_millis(1),
    longest: Duration::from_millis(5),
    give_up_after: Duration::from_secs(3600),
};
/// Only the first attempt happens while a test looks.
pub(super) const ONCE: Schedule = Schedule {
    first: Duration::from_secs(3600),
    longest: Duration::from_secs(3600),
    give_up_after: Duration::from_secs(36_000),
};
pub(super) const CONTENT: &[u8] = b"Subject: Greetings\r\n\r\nHello\r\n";

#[test]
fn content_arrives_octet_for_octet() {
    let hop = NextHop::start(|_, command| accept(command, &["8BITMIME", "SIZE 1000000"]));
    let content = b"Bcc: c@b.example\r\n\r\n.\r\n..\r\n\xff\xfe \r\n\r\n";
    let mut fixture = Fixture::new();
    fixture.add(envelope("tim@sender.example", &["a@b.example"]), content);
    let fixture = fixture.relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.wait(|seen| seen.has("QUIT"));
    let expected = b"Received: by relay.example\r\nBcc: c@b.example\r\n\r\n..\r\n...\r\n\xff\xfe \r\n\r\n.\r\n";
    assert_eq!(seen.messages, [expected]);
    let size = 28 + content.len();
    assert!(seen.has(&format!("MAIL FROM:<tim@sender.example> SIZE={size} BODY=8BITMIME")), "{seen:#?}");
    assert!(seen.has("EHLO relay.example"));
}

#[test]
fn content_is_declared_by_what_it_is() {
    let hop = NextHop::start(|_, command| accept(command, &["8BITMIME"]));
    let mut fixture = Fixture::new();
    fixture.add(envelope("seven@sender.example", &["a@b.example"]), CONTENT);
    fixture.add(envelope("eight@sender.example", &["a@b.example"]), "Subject: x\r\n\r\nGrüße\r\n".as_bytes());
    let fixture = fixture.relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.seen();
    assert!(seen.has("MAIL FROM:<seven@sender.example>"), "{seen:#?}");
    assert!(seen.has("MAIL FROM:<eight@sender.example> BODY=8BITMIME"), "{seen:#?}");
}

#[test]
fn every_recipient_has_its_own_fate() {
    let tried = AtomicBool::new(false);
    let hop = NextHop::start(move |_, command| match command {
        "RCPT TO:<bad@b.example>" => "550-5.1.1 no such user\r\n550 5.1.1 here\r\n".to_owned(),
        "RCPT TO:<later@b.example>" if !tried.swap(true, Ordering::SeqCst) => "450 4.2.1 try again\r\n".to_owned(),
        command => accept(command, &[]),
    });
    let fixture = Fixture::new()
        .with(&["good@b.example", "bad@b.example", "later@b.example"], CONTENT)
        .relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.wait(|seen| seen.messages.len() == 3);
    let count = |command: &str| seen.commands().iter().filter(|seen| **seen == command).count();
    assert_eq!(count("RCPT TO:<good@b.example>"), 1, "delivered and recorded, so never again");
    assert_eq!(count("RCPT TO:<bad@b.example>"), 1, "failed for good");
    assert_eq!(count("RCPT TO:<later@b.example>"), 2);
    assert_eq!((count("MAIL FROM:<>"), count("RCPT TO:<tim@sender.example>")), (1, 1));
    let report = (0..3).map(|n| seen.text(n)).find(|text| text.contains("multipart/report")).unwrap();
    assert!(report.contains("Final-Recipient: rfc822; bad@b.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"));
    assert!(report.contains("Diagnostic-Code: smtp; 550 5.1.1 no such user / 5.1.1 here\r\n"), "{report}");
    assert!(!report.contains("later@b.example") && !report.contains("good@b.example"));
}

#[test]
fn the_next_relay_is_tried_when_one_cannot_be_reached_or_does_not_want_to_talk() {
    let unreachable = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unwilling = NextHop::start(|_, _| "554 5.3.2 go away\r\n".to_owned());
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let fixture = Fixture::new().with(&["a@b.example"], CONTENT).relay(&[
        format!("smtp://{unreachable}"),
        unwilling.url("smtp", ""),
        hop.url("smtp", ""),
    ]);
    fixture.drain();
    assert_eq!(hop.seen().messages.len(), 1);
    assert_eq!(unwilling.seen().sessions.len(), 1);
}

#[test]
fn what_cannot_be_delivered_in_time_goes_back() {
    let hop = NextHop::start(|_, command| match command {
        "MAIL FROM:<tim@sender.example>" => "451 4.3.0 not now\r\n".to_owned(),
        command => accept(command, &[]),
    });
    let route = || Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]);
    let mut fixture = Fixture::new().with(&["a@b.example"], CONTENT).start(route(), QUICK, None);
    let id = fixture.spool.states().unwrap()[0].id.clone();
    fixture.wait(&id, |state| state.attempts > 1);
    fixture.worker.take().unwrap().stop(PATIENCE);
    let schedule = Schedule { give_up_after: Duration::ZERO, ..QUICK };
    let fixture = fixture.start(route(), schedule, None);
    let seen = hop.wait(|seen| seen.messages.len() == 1);
    fixture.drain();
    assert!(seen.text(0).contains("Status: 4.4.7\r\n"), "{}", seen.text(0));
    assert!(seen.text(0).contains("Diagnostic-Code: smtp; 451 4.3.0 not now\r\n"));
}

#[test]
fn a_null_reverse_path_never_bounces() {
    let hop = NextHop::start(|_, command| match command {
        "." => "554 5.6.0 no\r\n".to_owned(),
        command => accept(command, &[]),
    });
    let mut fixture = Fixture::new();
    fixture.add(envelope("", &["a@b.example"]), CONTENT);
    let fixture = fixture.relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.seen();
    assert_eq!((seen.sessions.len(), seen.messages.len()), (1, 0));
}

#[test]
fn a_message_that_goes_in_circles_is_stopped() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let content = ["Received: again\r\n".repeat(50).as_bytes(), CONTENT].concat();
    let fixture = Fixture::new().with(&["a@b.example"], &content).relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.seen();
    assert_eq!(seen.messages.len(), 1);
    assert!(seen.has("MAIL FROM:<>") && seen.text(0).contains("Status: 5.4.6\r\n"));
}

#[test]
fn smtputf8_is_asked_for_only_where_it_is_needed_and_offered() {
    let offers = NextHop::start(|_, command| accept(command, &["SMTPUTF8", "8BITMIME"]));
    let lacks = NextHop::start(|_, command| accept(command, &["8BITMIME"]));
    let utf8 = |recipient| Envelope { smtputf8: true, ..envelope("tim@sender.example", &[recipient]) };
    for hop in [&offers, &lacks] {
        let mut fixture = Fixture::new();
        fixture.add(utf8("ü@b.example"), CONTENT);
        fixture.add(utf8("plain@b.example"), CONTENT);
        fixture.relay(&[hop.url("smtp", "")]).drain();
    }
    let seen = offers.seen();
    assert!(seen.has("RCPT TO:<ü@b.example>"));
    assert!(seen.has("MAIL FROM:<tim@sender.example> BODY=8BITMIME SMTPUTF8"), "{seen:#?}");
    assert!(seen.has("MAIL FROM:<tim@sender.example>"), "ASCII needs nothing: {seen:#?}");
    let seen = lacks.seen();
    assert!(!seen.has("RCPT TO:<ü@b.example>") && seen.has("RCPT TO:<plain@b.example>"), "{seen:#?}");
    // The report has the address in its body, where 8BITMIME is enough.
    assert!(seen.has("MAIL FROM:<> BODY=8BITMIME"), "{seen:#?}");
    assert!(
        (0..2).any(|message| seen.text(message).contains("utf-8; ü@b.example\r\nAction: failed\r\nStatus: 5.6.7\r\n"))
    );
}

#[test]
fn a_message_that_is_too_large_is_not_even_begun() {
    let hop = NextHop::start(|_, command| accept(command, &["SIZE 2000"]));
    let content = [CONTENT, "x\r\n".repeat(1000).as_bytes()].concat();
    let fixture = Fixture::new().with(&["a@b.example"], &content).relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.seen();
    assert!(!seen.commands().iter().any(|command| command.starts_with("MAIL FROM:<tim")), "{seen:#?}");
    assert!(seen.text(0).contains("Status: 5.3.4\r\n"));
}

#[test]
fn logins_go_through_tls_with_a_valid_certificate_only() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, ca) = self_signed(directory.path());
    let script = |_: usize, command: &str| accept(command, &["STARTTLS", "AUTH LOGIN PLAIN"]);
    let hop = NextHop::start_with_tls(Some(tls), script);
    let route = || Route::Relays(vec![hop.url("smtp+starttls", "tim:s%20cret@").parse().unwrap()]);

    let stranger = Fixture::new().with(&["a@b.example"], CONTENT).start(route(), ONCE, None);
    let id = stranger.spool.states().unwrap()[0].id.clone();
    let state = stranger.wait(&id, |state| state.attempts == 1);
    assert!(state.recipients[0].last.as_ref().unwrap().text.contains("TLS handshake"), "{state:?}");
    assert!(!hop.seen().commands().iter().any(|command| command.contains("AUTH")));

    let fixture = Fixture::new().with(&["a@b.example"], CONTENT).start(route(), ONCE, Some(&ca));
    fixture.drain();
    let seen = hop.seen();
    assert!(seen.has("TLS AUTH PLAIN AHRpbQBzIGNyZXQ="), "{seen:#?}");
    assert_eq!(seen.messages.len(), 1);
}

#[test]
fn a_relay_without_the_tls_that_was_asked_for_gets_nothing() {
    let hop = NextHop::start(|_, command| accept(command, &["AUTH PLAIN"]));
    let route = Route::Relays(vec![hop.url("smtp+starttls", "tim:secret@").parse().unwrap()]);
    let fixture = Fixture::new().with(&["a@b.example"], CONTENT).start(route, ONCE, None);
    let id = fixture.spool.states().unwrap()[0].id.clone();
    let state = fixture.wait(&id, |state| state.attempts == 1);
    let last = state.recipients[0].last.as_ref().unwrap();
    assert_eq!(last.status, "4.7.5");
    let commands = hop.seen();
    assert!(commands.commands().iter().all(|command| command.starts_with("EHLO")), "{commands:#?}");
}

#[test]
fn a_refused_login_keeps_the_mail() {
    let hop = NextHop::start(|_, command| match command.split(' ').next() {
        Some("AUTH") => "334 VXNlcm5hbWU6\r\n".to_owned(),
        Some("dGlt") => "334 UGFzc3dvcmQ6\r\n".to_owned(),
        Some("c2VjcmV0") => "535 5.7.8 no\r\n".to_owned(),
        _ => accept(command, &["AUTH=LOGIN"]),
    });
    let route = Route::Relays(vec![hop.url("smtp", "tim:secret@").parse().unwrap()]);
    let fixture = Fixture::new().with(&["a@b.example"], CONTENT).start(route, ONCE, None);
    let id = fixture.spool.states().unwrap()[0].id.clone();
    let state = fixture.wait(&id, |state| state.attempts == 1);
    assert_eq!(state.recipients[0].status, Status::Pending);
    assert_eq!(state.recipients[0].last.as_ref().unwrap().text, "535 5.7.8 no");
    assert!(!hop.seen().has("MAIL FROM:<tim@sender.example>"));
}

#[test]
fn many_messages_go_in_few_sessions() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let mut fixture = Fixture::new();
    for number in 0..30 {
        fixture.add(envelope("tim@sender.example", &[&format!("a{number}@b.example")]), CONTENT);
    }
    let fixture = fixture.relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.seen();
    assert_eq!(seen.messages.len(), 30);
    assert!(seen.sessions.len() <= 3, "{}", seen.sessions.len());
}

#[test]
fn a_wrong_password_is_shown_once() {
    for (scheme, credentials, parameters) in [
        ("smtp", "tim:secret@", ""),
        ("lmtp", "tim:secret@", ""),
        ("smtp", "tim@", "?token-command=echo%20t0ken"),
        ("lmtp", "tim@", "?token-command=exit%201"),
    ] {
        let hop = NextHop::start(|_, command| match command.split(' ').next() {
            Some("AUTH") => "535 5.7.8 no\r\n".to_owned(),
            _ => accept(&command.replace("LHLO", "EHLO"), &["AUTH PLAIN XOAUTH2"]),
        });
        let mut fixture = Fixture::new();
        for number in 0..20 {
            fixture.add(envelope("tim@sender.example", &[&format!("a{number}@b.example")]), CONTENT);
        }
        let url = format!("{}{parameters}", hop.url(scheme, credentials));
        let mut fixture = fixture.start(Route::Relays(vec![url.parse().unwrap()]), ONCE, None);
        let start = Instant::now();
        while fixture.states().iter().all(|state| state.attempts == 0) {
            assert!(start.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(2));
        }
        // One that arrives now waits with the others.
        fixture.add(envelope("tim@sender.example", &["late@b.example"]), CONTENT);
        fixture.worker.take().unwrap().stop(PATIENCE);
        let seen = hop.seen();
        let logins = seen.commands().iter().filter(|command| command.starts_with("AUTH")).count();
        assert_eq!(logins, usize::from(!parameters.contains("exit")), "{url}: {seen:?}");
        assert_eq!(fixture.states().len(), 21);
        assert_eq!(fixture.states().iter().filter(|state| state.attempts > 0).count(), 1, "{url}");
    }
}

#[test]
fn a_full_disk_sends_nothing_twice() {
    let hop = NextHop::start(|_, command| match command {
        "RCPT TO:<later@b.example>" => "450 4.2.1 not now\r\n".to_owned(),
        command => accept(command, &[]),
    });
    let fixture = Fixture::new().with(&["now@b.example", "later@b.example"], CONTENT);
    // Nothing can be written anew.
    std::fs::remove_dir(fixture.directory.path().join("incoming")).unwrap();
    let mut fixture = fixture.relay(&[hop.url("smtp", "")]);
    let tries = |seen: &crate::testing::Seen| {
        seen.commands().iter().filter(|command| **command == "RCPT TO:<later@b.example>").count()
    };
    hop.wait(|seen| tries(seen) > 5);
    fixture.worker.take().unwrap().stop(PATIENCE);
    // Nor after a restart.
    let before = tries(&hop.seen());
    let _fixture = fixture.relay(&[hop.url("smtp", "")]);
    let seen = hop.wait(|seen| tries(seen) > before + 2);
    assert_eq!(seen.messages.len(), 1, "{:#?}", seen.commands());
}

#[test]
fn empty_lines_in_front_of_a_reply_are_no_reply() {
    let hop = NextHop::start(|_, command| match command.split(' ').next() {
        Some("" | "EHLO" | "MAIL" | "RCPT") => format!("\r\n{}", accept(command, &[])),
        _ => accept(command, &[]),
    });
    Fixture::new().with(&["a@b.example"], CONTENT).relay(&[hop.url("smtp", "")]).drain();
    assert_eq!(hop.seen().messages.len(), 1);
}

#[test]
fn a_server_whose_reply_never_ends_is_left_for_the_next_one() {
    for line in ["\r\n", "220-more\r\n"] {
        let endless = NextHop::start(move |_, _| line.repeat(1000));
        let hop = NextHop::start(|_, command| accept(command, &[]));
        let urls = [endless.url("smtp", ""), hop.url("smtp", "")];
        Fixture::new().with(&["a@b.example"], CONTENT).relay(&urls).drain();
        assert_eq!(hop.seen().messages.len(), 1);
    }
}

#[test]
fn mail_for_others_does_not_wait_for_a_silent_destination() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let port = hop.address.port();
    // It takes connections, and says nothing.
    let _silent = std::net::TcpListener::bind(("127.0.0.2", port)).unwrap();
    let mut fixture = Fixture::new();
    for number in 0..40 {
        fixture.add(envelope("tim@sender.example", &[&format!("a{number}@[127.0.0.2]")]), CONTENT);
    }
    fixture.add(envelope("tim@sender.example", &["b@[127.0.0.1]", "a@[127.0.0.2]"]), CONTENT);
    let _fixture =
        fixture.start(Route::Mx { port, resolver: Some(name_server(vec![])), allow_local: true }, QUICK, None);
    let seen = hop.wait(|seen| seen.messages.len() == 1);
    assert!(seen.has("RCPT TO:<b@[127.0.0.1]>"));
}

/// The server has closed a session that was kept for the next message.
#[test]
fn a_session_that_has_ended_meanwhile_is_opened_anew() {
    for goodbye in ["", "421 4.4.2 idle for too long\r\n"] {
        let hop = NextHop::start(move |session, command| match command {
            "MAIL FROM:<second@sender.example>" if session == 0 => goodbye.to_owned(),
            command => accept(command, &[]),
        });
        let mut fixture = Fixture::new();
        fixture.add(envelope("first@sender.example", &["a@b.example"]), CONTENT);
        let route = Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]);
        let mut fixture = fixture.start(route, ONCE, None);
        hop.wait(|seen| seen.messages.len() == 1);
        fixture.add(envelope("second@sender.example", &["a@b.example"]), CONTENT);
        hop.wait(|seen| seen.messages.len() == 2);
        fixture.drain();
    }
}

#[test]
fn a_message_that_is_in_doubt_goes_to_the_same_server_again() {
    let first = NextHop::start(|session, command| match command {
        // It has the message, and hangs up.
        "." if session == 0 => String::new(),
        command => accept(command, &[]),
    });
    let second = NextHop::start(|_, command| accept(command, &[]));
    let fixture =
        Fixture::new().with(&["a@b.example"], CONTENT).relay(&[first.url("smtp", ""), second.url("smtp", "")]);
    fixture.drain();
    assert_eq!((first.seen().messages.len(), second.seen().sessions.len()), (1, 0));
}

#[test]
fn a_relay_that_does_not_offer_working_tls_gets_mail_that_may_go_without() {
    for answer in ["454 4.7.0 not now\r\n", "502 5.5.1 what\r\n", "554 5.7.3 no\r\n", "421 4.3.2 bye\r\n", ""] {
        let hop = NextHop::start(move |_, command| match command {
            "STARTTLS" => answer.to_owned(),
            command => accept(command, &["STARTTLS"]),
        });
        let fixture = Fixture::new().with(&["a@b.example"], CONTENT).relay(&[hop.url("smtp", "")]);
        fixture.drain();
        let seen = hop.seen();
        assert_eq!((seen.messages.len(), seen.sessions.len()), (1, 2), "{answer:?}: {seen:#?}");

        let route = Route::Relays(vec![hop.url("smtp+starttls", "").parse().unwrap()]);
        let fixture = Fixture::new().with(&["a@b.example"], CONTENT).start(route, ONCE, None);
        let id = fixture.states()[0].id.clone();
        fixture.wait(&id, |state| state.attempts == 1);
        assert_eq!(hop.seen().messages.len(), 1, "{answer:?}");
    }
}

/// Takes so many recipients in a transaction, answers others with `refusal`, and offers these extensions.
fn takes_few(most: usize, refusal: &'static str, extensions: &'static [&'static str]) -> NextHop {
    let taken = Mutex::new(HashMap::<usize, usize>::new());
    NextHop::start(move |session, command| {
        let mut taken = taken.lock().unwrap();
        let taken = taken.entry(session).or_default();
        match command.split(' ').next() {
            Some("MAIL") => *taken = 0,
            Some("RCPT") => {
                *taken += 1;
                if *taken > most {
                    return format!("{refusal}\r\n");
                }
            }
            _ => {}
        }
        accept(command, extensions)
    })
}

#[test]
fn more_recipients_than_a_transaction_may_have_go_in_the_next_one_at_once() {
    let recipients: Vec<_> = (0..35).map(|number| format!("a{number}@b.example")).collect();
    let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    let extensions: [&[&str]; 2] = [&[], &["PIPELINING"]];
    for (refusal, extensions) in [
        ("452 4.5.3 too many recipients", extensions[0]),
        ("452 4.5.3 too many recipients", extensions[1]),
        ("450 4.5.3 too many recipients", extensions[1]),
        ("451 too many recipients", extensions[0]),
        ("552 5.5.3 too many recipients", extensions[1]),
    ] {
        let hop = takes_few(10, refusal, extensions);
        let route = Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]);
        let fixture = Fixture::new().with(&recipients, CONTENT).start(route, ONCE, None);
        fixture.drain();
        let seen = hop.seen();
        assert_eq!((seen.messages.len(), seen.sessions.len()), (4, 1), "{refusal}: {seen:#?}");
        // Four, three, two and one for those that waited.
        assert_eq!(seen.commands().iter().filter(|line| line.starts_with("RCPT")).count(), 35 + 25 + 15 + 5);
    }
}

#[test]
fn limits_that_a_server_tells_are_kept() {
    let recipients: Vec<_> = (0..35).map(|number| format!("a{number}@b.example")).collect();
    let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    let hop = takes_few(10, "550 5.5.3 you were told", &["LIMITS MAILMAX=3 RCPTMAX=10", "PIPELINING"]);
    let route = Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]);
    let fixture = Fixture::new().with(&recipients, CONTENT).start(route, ONCE, None);
    fixture.drain();
    let seen = hop.seen();
    assert_eq!((seen.messages.len(), seen.sessions.len()), (4, 2), "{seen:#?}");
    assert_eq!(seen.commands().iter().filter(|line| line.starts_with("RCPT")).count(), 35);
}

#[test]
fn a_refused_mail_command_refuses_what_was_sent_behind_it() {
    let hop = NextHop::start(|_, command| match command.split(' ').next() {
        Some("MAIL") if command != "MAIL FROM:<>" => "550 5.7.1 not you\r\n".to_owned(),
        Some("RCPT") if command.contains("@b.example") => "503 5.5.1 MAIL first\r\n".to_owned(),
        _ => accept(command, &["PIPELINING"]),
    });
    let fixture = Fixture::new().with(&["a@b.example", "c@b.example"], CONTENT).relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.seen();
    assert_eq!((seen.messages.len(), seen.sessions.len()), (1, 1), "the report, in the same session: {seen:#?}");
    assert_eq!(seen.text(0).matches("Diagnostic-Code: smtp; 550 5.7.1 not you").count(), 2, "{}", seen.text(0));
}

#[test]
fn a_refused_mail_command_counts_although_the_server_hangs_up() {
    let hop = NextHop::start(|_, command| match command.split(' ').next() {
        Some("MAIL") if command != "MAIL FROM:<>" => "550 5.7.1 not you\r\n".to_owned(),
        Some("RCPT") if command.contains("@b.example") => String::new(),
        _ => accept(command, &["PIPELINING"]),
    });
    let fixture = Fixture::new().with(&["a@b.example", "c@b.example"], CONTENT).relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.seen();
    assert_eq!(seen.commands().iter().filter(|command| command.starts_with("MAIL")).count(), 2, "{seen:#?}");
    assert_eq!(seen.text(0).matches("Diagnostic-Code: smtp; 550 5.7.1 not you").count(), 2, "{}", seen.text(0));
}

#[test]
fn replies_that_do_not_belong_there_are_none_to_what_was_sent() {
    for (odd, reply, text) in [
        ("MAIL", "250 2.1.0 ok\r\n250 2.1.0 ok\r\n", "DATA: the server spoke before it was asked"),
        (".", "354 go on\r\n", "the end of mail data: the server spoke before it was asked"),
    ] {
        let hop = NextHop::start(move |_, command| match command.split(' ').next() {
            Some(verb) if verb == odd => reply.to_owned(),
            _ => accept(command, &["PIPELINING"]),
        });
        let mut fixture = Fixture::new();
        let id = fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
        let route = Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]);
        let fixture = fixture.start(route, ONCE, None);
        let state = fixture.wait(&id, |state| state.attempts == 1);
        assert_eq!(state.recipients[0].last.as_ref().unwrap().text, text);
        assert_eq!(state.recipients[0].in_doubt_at.is_some(), odd == ".");
    }
}

#[test]
fn a_recipient_that_is_named_twice_is_sent_once() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let recipients = ["a@b.example", "A@b.example", "a@B.example", "a@b.example"];
    let fixture = Fixture::new().with(&recipients, CONTENT).relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.seen();
    let rcpts: Vec<_> = seen.commands().into_iter().filter(|command| command.starts_with("RCPT")).collect();
    assert_eq!(rcpts, ["RCPT TO:<a@b.example>", "RCPT TO:<A@b.example>"]);
}

#[test]
fn opportunistic_tls_takes_any_certificate_and_does_without_a_broken_one() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, _) = self_signed(directory.path());
    let encrypted = NextHop::start_with_tls(Some(tls), |_, command| accept(command, &["STARTTLS"]));
    // Says yes to STARTTLS and hangs up.
    let broken = NextHop::start(|_, command| accept(command, &["STARTTLS"]));
    for (hop, expected) in [(&encrypted, "TLS DATA"), (&broken, "DATA")] {
        let fixture = Fixture::new().with(&["a@b.example"], CONTENT).relay(&[hop.url("smtp", "")]);
        fixture.drain();
        assert!(hop.seen().has(expected), "{:#?}", hop.seen());
    }
}

#[test]
fn text_that_follows_starttls_in_the_clear_is_an_attack() {
    let hop = NextHop::start(|_, command| match command {
        "STARTTLS" => "220 go on\r\n250-next.hop\r\n250 AUTH PLAIN\r\n".to_owned(),
        command => accept(command, &["STARTTLS"]),
    });
    let route = Route::Relays(vec![hop.url("smtp+starttls", "tim:secret@").parse().unwrap()]);
    let fixture = Fixture::new().with(&["a@b.example"], CONTENT).start(route, ONCE, None);
    let id = fixture.spool.states().unwrap()[0].id.clone();
    let state = fixture.wait(&id, |state| state.attempts == 1);
    assert!(state.recipients[0].last.as_ref().unwrap().text.contains("in the clear after STARTTLS"), "{state:?}");
}

#[test]
fn a_smuggled_end_of_message_is_not_passed_on() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let content = b"Subject: x\r\n\r\nbody\n.\r\nMAIL FROM:<evil@b.example>\r\n";
    let fixture = Fixture::new().with(&["a@b.example"], content).relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.seen();
    assert_eq!(seen.messages.len(), 1, "only the report: {seen:#?}");
    assert!(seen.text(0).contains("Status: 5.6.11\r\n"));
}

#[test]
fn after_a_crash_only_what_is_left_is_done() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let mut fixture = Fixture::new();
    let id =
        fixture.add(envelope("tim@sender.example", &["done@b.example", "failed@b.example", "left@b.example"]), CONTENT);
    let mut state = fixture.spool.load(&id).unwrap();
    state.attempts = 1;
    state.recipients[0].status = Status::Delivered;
    state.recipients[1].status = Status::Failed;
    fixture.spool.save(&state).unwrap();
    let fixture = fixture.relay(&[hop.url("smtp", "")]);
    fixture.drain();
    let seen = hop.wait(|seen| seen.messages.len() == 2);
    let recipients: Vec<_> = seen.commands().into_iter().filter(|command| command.starts_with("RCPT")).collect();
    assert_eq!(recipients.len(), 2, "{seen:#?}");
    assert!(seen.has("RCPT TO:<left@b.example>") && seen.has("RCPT TO:<tim@sender.example>"));
}

/// A report that was spooled before the crash, and not yet recorded, is not written again.
#[test]
fn after_a_crash_nobody_is_told_twice() {
    let hop = NextHop::start(|_, command| match command {
        "MAIL FROM:<>" => "450 4.3.0 not now\r\n".to_owned(),
        command => accept(command, &[]),
    });
    let mut fixture = Fixture::new();
    let id = fixture.add(envelope("tim@sender.example", &["failed@b.example"]), CONTENT);
    let mut state = fixture.spool.load(&id).unwrap();
    state.attempts = 1;
    state.recipients[0].status = Status::Failed;
    fixture.spool.save(&state).unwrap();
    let report = Envelope { id: id.report(ReportKind::Failed, 0), ..envelope("", &["tim@sender.example"]) };
    let report_on = ReportOn { id: id.clone(), recipients: vec![0], kind: ReportKind::Failed };
    Spool::begin_report(&fixture.spool, report, report_on).unwrap().commit().unwrap();
    let route = Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]);
    let fixture = fixture.start(route, ONCE, None);
    fixture.wait(&id.report(ReportKind::Failed, 0), |state| state.attempts == 1);
    while fixture.spool.contains(&id).unwrap() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(fixture.spool.states().unwrap().len(), 1);
}

#[test]
fn a_graceful_stop_finishes_the_delivery_under_way() {
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let released = Mutex::new(released);
    let hop = NextHop::start(move |_, command| {
        if command == "." {
            released.lock().unwrap().recv().unwrap();
        }
        accept(command, &[])
    });
    let mut fixture = Fixture::new().with(&["a@b.example"], CONTENT).relay(&[hop.url("smtp", "")]);
    hop.wait(|seen| seen.has("DATA"));
    let worker = fixture.worker.take().unwrap();
    let stopping = std::thread::spawn(move || worker.stop(PATIENCE));
    // What arrives now waits for the next start.
    let late = fixture.add(envelope("tim@sender.example", &["late@b.example"]), CONTENT);
    release.send(()).unwrap();
    release.send(()).unwrap();
    stopping.join().unwrap();
    assert_eq!(hop.seen().messages.len(), if fixture.spool.contains(&late).unwrap() { 1 } else { 2 });
    assert!(fixture.states().iter().all(|state| state.id == late));
}

#[test]
fn a_stop_that_has_waited_long_enough_leaves_the_rest_to_the_next_start() {
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let released = Mutex::new(released);
    let hop = NextHop::start(move |session, command| {
        if command == "." && session == 0 {
            let _ = released.lock().unwrap().recv();
        }
        accept(command, &[])
    });
    let mut fixture = Fixture::new().with(&["a@b.example"], CONTENT).relay(&[hop.url("smtp", "")]);
    hop.wait(|seen| seen.has("DATA"));
    fixture.worker.take().unwrap().stop(Duration::ZERO);
    assert_eq!(fixture.states().len(), 1);
    let fixture = fixture.relay(&[hop.url("smtp", "")]);
    fixture.drain();
    drop(release);
}

#[test]
fn mail_exchangers_are_tried_in_order() {
    let hop = NextHop::start(|_, command| accept(command, &[]));
    let mx = |preference, host: &str| RData::MX(MX::new(preference, Name::from_ascii(host).unwrap()));
    let a = |ip: [u8; 4]| Ok(vec![RData::A(A(ip.into()))]);
    let server = name_server(vec![
        ("b.example", RecordType::MX, Ok(vec![mx(20, "second.example."), mx(10, "first.example.")])),
        // Nothing listens on this address of the loopback network.
        ("first.example", RecordType::A, a([127, 0, 0, 2])),
        ("second.example", RecordType::A, a([127, 0, 0, 1])),
        ("null.example", RecordType::MX, Ok(vec![mx(0, ".")])),
        ("sender.example", RecordType::A, a([127, 0, 0, 1])),
    ]);
    let route = Route::Mx { port: hop.address.port(), resolver: Some(server), allow_local: true };
    let recipients = ["a@b.example", "b@B.example", "c@null.example", "d@nowhere.example", "e@[127.0.0.1]"];
    let fixture = Fixture::new().with(&recipients, CONTENT).start(route, QUICK, None);
    fixture.drain();
    let seen = hop.wait(|seen| seen.messages.len() == 3);
    let together = seen.sessions.iter().any(|session| {
        ["RCPT TO:<a@b.example>", "RCPT TO:<b@B.example>"].iter().all(|rcpt| session.iter().any(|line| line == rcpt))
    });
    assert!(together && seen.has("RCPT TO:<e@[127.0.0.1]>"), "{seen:#?}");
    let report = (0..3).map(|n| seen.text(n)).find(|text| text.contains("multipart/report")).unwrap();
    assert!(report.contains("c@null.example\r\nAction: failed\r\nStatus: 5.1.10\r\n"), "{report}");
    assert!(report.contains("d@nowhere.example\r\nAction: failed\r\nStatus: 5.1.2\r\n"), "{report}");
}

/// RFC 2920, section 3.1.
#[test]
fn data_goes_with_the_recipients_and_no_mail_data_where_none_is_taken() {
    for (data, then) in [("354 anybody\r\n", None), ("554 5.5.1 no valid recipients\r\n", Some("RSET"))] {
        let hop = NextHop::start(move |_, command| match command {
            "RCPT TO:<b@b.example>" => "550 5.1.1 no b\r\n".to_owned(),
            "DATA" => data.to_owned(),
            command => accept(command, &["PIPELINING"]),
        });
        let mut fixture = Fixture::new();
        fixture.add(envelope("", &["b@b.example"]), CONTENT);
        let fixture = fixture.relay(&[hop.url("smtp", "")]);
        fixture.drain();
        drop(fixture);
        let seen = hop.seen();
        let commands: Vec<_> = seen.sessions[0].iter().map(String::as_str).skip(1).collect();
        assert_eq!(commands[..3], ["MAIL FROM:<>", "RCPT TO:<b@b.example>", "DATA"], "{commands:?}");
        assert_eq!(commands.get(3).copied(), then, "{commands:?}");
        assert!(seen.messages.is_empty());
    }
}
