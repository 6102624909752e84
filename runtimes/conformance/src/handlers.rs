//! Handlers that are slow, or break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sansmtp::{Auth, ConfigBuilder, Timeouts};

use crate::PATIENCE;
use crate::client::plain;
use crate::handler::{Breaks, BreaksAtItsEnd, Play};
use crate::server::{Kind, Running};

fn answer_timeout(builder: ConfigBuilder) -> ConfigBuilder {
    builder.timeouts(Timeouts { answer: Duration::from_millis(250), ..Timeouts::default() })
}

/// Where the server's thread is an executor, a handler that blocks would keep all connections waiting.
pub fn a_blocking_handler_is_never_on_the_servers_thread<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let mut client = server.connect();
    client.ask("EHLO client.example");
    assert!(client.ask(plain("tim")).starts_with("235 "));
    client.begin_transaction();
    client.say(".\r\n");
    assert!(client.reply().starts_with("250 "));
    let threads = server.seen.threads.lock().unwrap().clone();
    assert_eq!(threads.len(), 3);
    assert!(!threads.contains(&server.thread()));
}

/// Password hashing is slow on purpose.
pub fn a_slow_authenticator_keeps_nobody_else_waiting<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    for tls in [false, true] {
        let mut slow = server.connect_by(tls);
        slow.ask("EHLO client.example");
        slow.say(format!("{}\r\n", plain("block")));
        server.seen.wait_for("authenticate block");
        let mut other = server.connect_by(tls);
        other.begin_message();
        other.say("x\r\n.\r\n");
        assert!(other.reply().starts_with("250 "));
        server.seen.release();
        assert!(slow.reply().starts_with("235 "));
    }
}

/// So that a client sees how far its group has come.
pub fn what_was_said_before_a_slow_answer_goes_out_first<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let mut client = server.connect();
    client.ask("EHLO client.example");
    client.say("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<block@example.org>\r\n");
    assert!(client.reply().starts_with("250 2.1.0 "));
    assert!(client.reply().starts_with("250 2.1.5 "));
}

/// The same for an authenticator.
pub fn what_was_said_before_a_slow_authenticator_goes_out_first<K: Kind>() {
    for tls in [false, true] {
        let server = Running::start::<K>(|config| config);
        let mut client = server.connect_by(tls);
        client.ask("EHLO client.example");
        client.say(format!("NOOP\r\n{}\r\nNOOP\r\n", plain("block")));
        assert!(client.reply().starts_with("250 2.0.0 "));
        server.seen.release();
        assert!(client.reply().starts_with("235 2.7.0 "));
        assert!(client.reply().starts_with("250 2.0.0 "));
    }
}

/// And the session goes on.
pub fn a_panic_is_a_temporary_failure<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    for tls in [false, true] {
        let mut other = server.connect_by(tls);
        let mut client = server.connect_by(tls);
        client.ask("EHLO client.example");
        assert!(client.ask(plain("panic")).starts_with("454 4.7.0 "));
        assert!(client.ask("NOOP").starts_with("250 "));
        assert!(client.ask(plain("tim")).starts_with("235 "));
        client.ask("MAIL FROM:<a@example.org>");
        assert!(client.ask("RCPT TO:<panic@example.org>").starts_with("451 4.3.0 "));
        assert!(client.ask("RCPT TO:<b@example.org>").starts_with("250 "));
        assert!(client.ask("DATA").starts_with("354 "));
        client.say("x\r\n.\r\n");
        assert!(client.reply().starts_with("250 "));
        assert!(client.ask("QUIT").starts_with("221 "));
        assert!(other.ask("NOOP").starts_with("250 "));
    }
}

/// Acceptance takes responsibility for the whole message.
pub fn a_message_whose_content_was_not_kept_is_not_accepted<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    for tls in [false, true] {
        for more in [0, 300_000] {
            let mut client = server.connect_by(tls);
            client.begin_message();
            client.say("kept\r\n");
            client.say("PANIC\r\n");
            client.say("z\r\n".repeat(more) + ".\r\n");
            assert!(client.reply().starts_with("451 4.3.0 "), "{more}");
            assert_eq!(server.seen.messages.lock().unwrap().len(), 0);
            // What was kept of it cannot get into the next one.
            client.begin_transaction();
            assert!(client.ask("whole\r\n.").starts_with("250 "));
            assert_eq!(server.seen.messages.lock().unwrap().pop().unwrap(), b"whole\r\n");
        }
    }
}

/// Not even the connection that it was about.
pub fn a_panic_in_an_event_harms_nobody<K: Kind>() {
    let server = Running::start_with::<K, _>(|config| config, Arc::default(), |_| Breaks);
    let mut other = server.connect();
    let mut client = server.connect();
    client.ask("EHLO client.example");
    assert!(client.ask("AUTH PLAIN ?").starts_with("501 "));
    assert!(client.ask("NOOP").starts_with("250 "));
    assert!(other.ask("NOOP").starts_with("250 "));
}

/// Its client is not greeted.
pub fn a_handler_that_cannot_be_made_harms_nobody_else<K: Kind>() {
    let first = AtomicBool::new(true);
    let make = move |_| {
        assert!(!first.swap(false, Ordering::Relaxed), "as asked");
        Play::new(&Arc::default())
    };
    let server = Running::start_with::<K, _>(|config| config, Arc::default(), make);
    let mut unlucky = server.connect_silently(false);
    assert_eq!(unlucky.rest(), "");
    assert!(server.connect().ask("NOOP").starts_with("250 "));
}

/// Whether its client leaves, or is cut off.
pub fn a_handler_that_panics_when_it_is_dropped_harms_nobody_else<K: Kind>() {
    let server = Running::start_with::<K, _>(|config| config, Arc::default(), |_| BreaksAtItsEnd);
    let mut other = server.connect();
    for _ in 0..3 {
        let mut client = server.connect();
        client.say("QUIT\r\n");
        assert!(client.rest().starts_with("221 "));
        assert!(other.ask("NOOP").starts_with("250 "));
    }
    let another = server.connect();
    server.stop(Duration::ZERO);
    drop((other, another));
}

/// A handler that never returns does not keep its client for ever.
pub fn no_answer_in_time_is_451_and_the_end<K: Kind>() {
    let server = Running::start::<K>(answer_timeout);
    for tls in [false, true] {
        let mut client = server.connect_by(tls);
        client.ask("EHLO client.example");
        client.ask("MAIL FROM:<a@example.org>");
        client.say("RCPT TO:<block@example.org>\r\nNOOP\r\n");
        assert!(client.reply().starts_with("451 4.3.0 "));
        assert!(client.rest().starts_with("421 "));
    }
    assert!(server.connect().ask("NOOP").starts_with("250 "));
}

/// Nor does an authenticator.
pub fn no_authentication_in_time_is_454_and_the_end<K: Kind>() {
    let server = Running::start::<K>(answer_timeout);
    for tls in [false, true] {
        let mut client = server.connect_by(tls);
        client.ask("EHLO client.example");
        client.say(format!("{}\r\n", plain("block")));
        assert!(client.reply().starts_with("454 4.7.0 "));
        assert!(client.rest().starts_with("421 "));
    }
    assert!(server.connect().ask("NOOP").starts_with("250 "));
}

/// Nor a message.
pub fn content_that_is_not_taken_in_time_is_451_and_the_end<K: Kind>() {
    let server = Running::start::<K>(answer_timeout);
    for tls in [false, true] {
        let mut client = server.connect_by(tls);
        client.begin_message();
        client.say("BLOCK\r\n".to_owned() + &"z\r\n".repeat(100_000) + ".\r\n");
        assert!(client.reply().starts_with("451 4.3.0 "));
        assert!(client.rest().starts_with("421 "));
        assert_eq!(server.seen.messages.lock().unwrap().len(), 0);
    }
}

/// Also those that end with the connection.
pub fn failed_authentications_reach_the_handler<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let mut client = server.connect();
    client.ask("EHLO client.example");
    assert!(client.ask(plain("wrong")).starts_with("535 "));
    server.seen.wait_for("AuthFailed");
    {
        let log = server.seen.log.lock().unwrap();
        let event = log.iter().find(|entry| entry.starts_with("AuthFailed")).unwrap();
        assert!(event.contains("PLAIN") && event.contains("wrong") && event.contains("BadCredentials"), "{event}");
        assert!(event.contains("failures: 1") && event.contains("127.0.0.1"), "{event}");
    }
    assert!(client.ask("AUTH LOGIN").starts_with("334 "));
    drop(client);
    server.seen.wait_for("ConnectionLost");
}

/// And nobody else has to wait meanwhile.
pub fn a_refusal_has_its_pause<K: Kind>() {
    let pause = Duration::from_millis(60);
    let auth = Auth::new().require_tls(false).pause(pause, pause).max_failures(2);
    let server = Running::start::<K>(|config| config.auth(auth));
    let mut client = server.connect();
    client.ask("EHLO client.example");
    let begun = Instant::now();
    client.say(format!("{}\r\n", plain("wrong")));
    server.connect().ask("NOOP");
    assert!(client.reply().starts_with("535 "));
    assert!(begun.elapsed() >= pause && begun.elapsed() < PATIENCE);
    client.say(format!("{}\r\n", plain("wrong")));
    assert!(client.rest().starts_with("421 4.7.0 "));
}

/// What a client says while it is made to wait is heard afterwards.
pub fn what_comes_behind_a_refusal_is_answered_after_it<K: Kind>() {
    let pause = Duration::from_millis(20);
    let auth = Auth::new().require_tls(false).pause(pause, pause);
    let server = Running::start::<K>(|config| config.auth(auth));
    for tls in [false, true] {
        let mut client = server.connect_by(tls);
        client.ask("EHLO client.example");
        client.say(format!("{}\r\nNOOP\r\n{}\r\nVRFY somebody\r\n", plain("wrong"), plain("wrong")));
        for reply in ["535 ", "250 ", "535 ", "252 "] {
            assert!(client.reply().starts_with(reply), "{tls} {reply}");
        }
    }
}
