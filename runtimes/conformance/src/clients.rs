//! Clients that go away, or do not.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sansmtp::{Limits, Timeouts};

use crate::PATIENCE;
use crate::client::{Client, Stream};
use crate::handler::ThrowsAway;
use crate::server::{Kind, Running};

/// By an end or by a reset.
pub fn a_client_that_leaves_in_the_middle_of_content<K: Kind>() {
    for tls in [false, true] {
        for reset in [false, true] {
            let server = Running::start::<K>(|config| config);
            let mut client = server.connect_by(tls);
            client.begin_message();
            client.say("half a message\r\n");
            if reset {
                client.say(".\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nhalf\r\n");
                server.seen.wait_for("message");
                while client.socket().peek(&mut [0; 512]).unwrap() < 100 {}
                client.reset();
            } else {
                drop(client);
            }
            server.seen.wait_for("Aborted { reason: ConnectionLost");
            assert_eq!(server.seen.has("message"), reset);
            assert_eq!(server.seen.messages.lock().unwrap().len(), usize::from(reset));
            server.seen.wait_until_all_have_gone();
        }
    }
}

/// Each step ends with a reply that the client does not read.
pub fn a_reset_at_any_step_harms_nobody_else<K: Kind>() {
    let steps = [
        "EHLO client.example\r\n",
        "AUTH LOGIN\r\n",
        "dGlt\r\n",
        "eA==\r\n",
        "MAIL FROM:<a@example.org>\r\n",
        "RCPT TO:<b@example.org>\r\n",
        "DATA\r\n",
        "x\r\n.\r\n",
        "QUIT\r\n",
    ];
    let server = Running::start::<K>(|config| config);
    for tls in [false, true] {
        let mut other = server.connect_by(tls);
        for last in 0..steps.len() {
            let mut client = server.connect_by(tls);
            for step in &steps[..last] {
                client.say(step);
                assert!(client.reply().starts_with(['2', '3']));
            }
            client.say(steps[last]);
            client.reset();
        }
        assert!(other.ask("NOOP").starts_with("250 "));
    }
    // The greeting, the reply to STARTTLS, and the server's part of the handshake.
    server.connect_silently(false).reset();
    let mut client = server.connect();
    client.ask("EHLO client.example");
    client.say("STARTTLS\r\n");
    client.reset();
    let mut client = server.connect_silently(true);
    let Stream::Tls(tls) = &mut client.stream else { panic!("not under TLS") };
    tls.conn.write_tls(&mut tls.sock).unwrap();
    client.reset();

    server.seen.wait_until_all_have_gone();
    assert_eq!(server.seen.messages.lock().unwrap().len(), 2 * 2);
    assert!(server.connect().ask("NOOP").starts_with("250 "));
}

/// What fail2ban and its like count.
pub fn an_exchange_that_ends_in_a_reset_is_reported_too<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let mut client = server.connect();
    client.ask("EHLO client.example");
    client.say("AUTH LOGIN\r\n");
    client.reset();
    server.seen.wait_for("ConnectionLost");
}

/// Between commands, in content, and in a handshake.
pub fn silence_ends_in_421<K: Kind>() {
    let short = Duration::from_millis(300);
    let timeouts = Timeouts { command: short, content: short, ..Timeouts::default() };
    let server = Running::start::<K>(|config| config.timeouts(timeouts));
    let mut client = server.connect();
    assert!(client.rest().starts_with("421 4.4.2 "));
    let mut client = server.connect();
    client.begin_message();
    client.say("x");
    assert!(client.rest().starts_with("421 4.4.2 "));
    server.seen.wait_for("Aborted { reason: Timeout");
    // In a handshake there is nothing to say.
    let mut client = Client::new(server.tls);
    assert_eq!(client.rest(), "");
}

/// One octet after the other, never so late that it is silent.
fn drip(client: &mut Client, octets: &[u8]) -> String {
    client.transport().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let begun = Instant::now();
    for octet in octets.iter().cycle() {
        assert!(begun.elapsed() < PATIENCE);
        // When it has been cut off, there may be nobody to say it to.
        let _ = client.try_say([*octet]);
        match client.read() {
            Ok(0) => break,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            _ => {}
        }
    }
    String::from_utf8_lossy(&client.received).into_owned()
}

/// Nor does it help to go on without an end: a command, a message and a handshake have their time.
pub fn a_client_that_drips_is_cut_off<K: Kind>() {
    let timeouts =
        Timeouts { command: Duration::from_millis(300), message: Duration::from_millis(300), ..Timeouts::default() };
    let server = Running::start::<K>(|config| config.timeouts(timeouts));
    for tls in [false, true] {
        let mut client = server.connect_silently(tls);
        client.reply();
        assert!(drip(&mut client, b"x").starts_with("421 4.4.2 "));
        let mut client = server.connect_silently(tls);
        client.reply();
        client.say("EHLO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
        while !client.reply().starts_with("354 ") {}
        assert!(drip(&mut client, b"xyz\r\n").starts_with("421 4.4.2 "));
        server.seen.wait_for("Aborted { reason: Timeout");
    }
    // The head of a record of 64 octets, and what could be a ClientHello of them.
    let mut client = Client::new(server.tls);
    client.say([22, 3, 1, 0, 64, 1, 0, 0, 60]);
    assert!(!drip(&mut client, &[0]).contains("421"));
    server.seen.wait_until_all_have_gone();
}

/// What a handler has not taken stays with the client.
pub fn a_slow_handler_closes_the_window<K: Kind>() {
    let limits = Limits { max_message_octets: u64::MAX, ..Limits::default() };
    for tls in [false, true] {
        let server = Running::start::<K>(|config| config.limits(limits));
        let mut client = server.connect_by(tls);
        client.begin_message();
        client.say("BLOCK\r\n");
        let lines = "z".repeat(62) + "\r\n";
        let (group, mut written) = (lines.repeat(1024), 0);
        // Under TLS, a write that cannot go on reads.
        let set_timeouts = |client: &Client, timeout| {
            client.transport().set_write_timeout(timeout).and(client.transport().set_read_timeout(timeout)).unwrap();
        };
        set_timeouts(&client, Some(Duration::from_millis(500)));
        let error = loop {
            assert!(written < WINDOW, "{written} octets, and nobody has taken any");
            match client.write(group.get(written % 64..).unwrap().as_bytes()) {
                Ok(octets) => written += octets,
                Err(error) => break error,
            }
        };
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error:?}");
        println!("TLS {tls}: {written} octets until the window is closed");
        server.seen.wait_for("content blocks");
        server.seen.release();
        set_timeouts(&client, Some(PATIENCE));
        client.say(lines.get(written % 64..).unwrap().to_owned() + ".\r\n");
        assert!(client.reply().starts_with("250 2.0.0 "));
        let message = server.seen.messages.lock().unwrap().pop().unwrap();
        assert_eq!(message.len(), 7 + written + 64 - written % 64);
    }
}

/// More than the kernel's buffers on both sides, and the connection's own.
const WINDOW: usize = 64 << 20;

/// It would keep what is to be written in memory.
pub fn a_client_that_does_not_read_is_dropped<K: Kind>() {
    let timeouts = Timeouts { write: Duration::from_millis(100), ..Timeouts::default() };
    let server = Running::start::<K>(|config| config.timeouts(timeouts));
    for tls in [false, true] {
        let mut client = server.connect_by(tls);
        let commands = "HELP\r\nEHLO client.example\r\n".repeat(2_000);
        let (mut written, begun) = (0, Instant::now());
        let error = loop {
            match client.try_say(&commands) {
                Ok(()) => written += commands.len(),
                Err(error) => break error,
            }
            assert!(begun.elapsed() < PATIENCE);
        };
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error:?}");
        // The kernel's buffers and no more.
        assert!(written < 64 << 20, "{written}");
        server.seen.wait_until_all_have_gone();
    }
}

/// It says more than there is room for answers, before it reads any of them: each comes in its turn.
pub fn a_client_that_reads_late_misses_nothing<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let mut client = server.connect();
    let mut writer = client.socket().try_clone().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let so_far = Arc::clone(&written);
    let writing = thread::spawn(move || {
        for _ in 0..LATE_GROUPS {
            // None of them ends where a read does.
            writer.write_all("EHLO client.example\r\nVRFY a\r\n".repeat(100).as_bytes()).unwrap();
            so_far.fetch_add(1, Ordering::Relaxed);
        }
    });
    // Until all is on its way, or nothing goes on before somebody reads.
    let mut last = 0;
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = written.load(Ordering::Relaxed);
        if now == LATE_GROUPS || now == last {
            break;
        }
        last = now;
    }
    for number in 0..LATE_GROUPS * 100 {
        for reply in ["250-", "252 "] {
            let got = client.reply();
            assert!(got.starts_with(reply), "{number}: {got}");
        }
    }
    writing.join().unwrap();
    client.say("QUIT\r\n");
    assert!(client.rest().starts_with("221 "));
}

/// More than the kernel's buffers on both sides have room for, in replies.
const LATE_GROUPS: usize = 250;

/// Writes commands forever, and reads what comes, on two threads.
fn pour(client: Client, what: &'static str) -> [JoinHandle<()>; 2] {
    let mut reader = client.socket().try_clone().unwrap();
    let mut writer = reader.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while let Ok(1..) = reader.read(&mut buffer) {}
    });
    let pouring = thread::spawn(move || while writer.write_all(what.repeat(10_000).as_bytes()).is_ok() {});
    [reading, pouring]
}

/// Nor does it keep the server from ending.
pub fn a_client_that_never_pauses_keeps_nobody_else_waiting<K: Kind>() {
    let limits = Limits { max_message_octets: u64::MAX, ..Limits::default() };
    for what in ["NOOP\r\n", "content\r\n"] {
        let server = Running::start_with::<K, _>(|config| config.limits(limits), Arc::default(), |_| ThrowsAway);
        let pourers: Vec<_> = (0..2)
            .map(|_| {
                let mut client = server.connect();
                if what == "content\r\n" {
                    client.begin_message();
                }
                pour(client, what)
            })
            .collect();
        for _ in 0..5 {
            assert!(server.connect().ask("NOOP").starts_with("250 "));
        }
        // And they hear of the end, or are cut off.
        assert!(server.stop(Duration::from_millis(50)) < PATIENCE);
        for thread in pourers.into_iter().flatten() {
            thread.join().unwrap();
        }
    }
}

/// A closed connection is listened to only so that the last reply arrives, and only if more may come.
pub fn a_client_that_goes_on_after_the_end_is_not_listened_to_for_long<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let mut client = server.connect();
    client.say("QUIT\r\nNOOP\r\n");
    for thread in pour(client, "NOOP\r\n") {
        thread.join().unwrap();
    }
    server.seen.wait_until_all_have_gone();
}
