//! What an operator sees of a connection, line by line.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use sansmtp::{Auth, AuthResult, Config, ConfigBuilder, Events, Hook, Hooks, Proxy, Verdict, reply};
use sansmtp_driver::{Conversation, Out, Question, Security, Setup, Step, Unanswered, report};
use tracing::Level;
use tracing::subscriber::with_default;

/// Where the lines go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn usual(builder: ConfigBuilder) -> ConfigBuilder {
    builder
}

fn open(configure: fn(ConfigBuilder) -> ConfigBuilder, events: Events) -> Box<Conversation> {
    let builder = Config::builder("mx.example.org").auth(Auth::new().require_tls(false)).name("submission");
    let mut setup = Setup::new(configure(builder).build().unwrap());
    setup.add(TcpListener::bind("127.0.0.1:0").unwrap().into(), Security::Clear);
    let (_listener, service) = setup.start().unwrap().pop().unwrap();
    let peer: SocketAddr = "192.0.2.7:4321".parse().unwrap();
    let local: SocketAddr = "[::ffff:192.0.2.1]:587".parse().unwrap();
    setup.open(&service, peer.into(), Some(local), |_| (Hooks::RCPT | Hooks::MESSAGE, events, ())).unwrap().0
}

/// Plays a session. What the handler is told of it.
fn play(mut conversation: Box<Conversation>, client: &str, unanswered: Option<Unanswered>) -> Vec<String> {
    let (mut out, mut told, mut client) = (Out::default(), Vec::new(), Some(client));
    loop {
        let outcome = match conversation.step(&mut out) {
            None => continue,
            Some(Step::Event(event, span)) => {
                report(event, span, |event| told.push(format!("{:?}", event.kind())));
                continue;
            }
            Some(Step::Write { .. }) => {
                out.write(|octets| Ok(octets.len())).unwrap();
                continue;
            }
            Some(Step::Read { .. }) => {
                // Who has said all is cut off.
                let Some(said) = client.take() else { break };
                conversation.read(|room| {
                    room.get_mut(..said.len()).unwrap().copy_from_slice(said.as_bytes());
                    Ok(said.len())
                });
                continue;
            }
            Some(Step::Ask(question, span)) => span.in_scope(|| match (unanswered, question) {
                (Some(unanswered), _) => Err(unanswered),
                (None, Question::Authenticator(_, request)) => {
                    tracing::info!("the handler's own line");
                    let result = match request.credentials().authcid() {
                        "tim" => AuthResult::accept(),
                        _ => AuthResult::refuse(),
                    };
                    Ok(Some(request.answer(result)))
                }
                (None, Question::Hook(call)) => {
                    let refuses = call.hook() == Hook::Rcpt
                        && call.envelope().forward_paths().next_back().unwrap().local_part() == "nobody";
                    let no: Verdict = reply!("550 5.1.1 No such user").into();
                    Ok(Some(call.answer(if refuses { no } else { Verdict::Accept })))
                }
                (None, _) => Ok(None),
            }),
            Some(Step::Sleep { .. }) => break,
            Some(Step::Close) => break,
        };
        conversation.settle(outcome);
    }
    conversation.finish(|event| told.push(format!("{:?}", event.kind())));
    // Whatever is called again changes nothing.
    conversation.finish(|event| panic!("{event:?}"));
    told
}

/// What is seen, at this level, of what `play` does.
fn seen<T>(level: Level, play: impl FnOnce() -> T) -> (T, Vec<String>) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(level)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .finish();
    let result = with_default(subscriber, play);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    (result, text.lines().map(|line| line.trim_start().to_owned()).collect())
}

const SESSION: &str = "tanstaaftanstaaf\r\nEHLO c\r\nAUTH PLAIN AHdyb25nAHRhbnN0YWFmdGFuc3RhYWY=\r\n";
const MAIL: &str = "EHLO c\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<nobody@c.example>\r\n\
    RCPT TO:<d@c.example>\r\nDATA\r\nhello\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<d@c.example>\r\nDATA\r\nbare\n\r\n.\r\nQUIT\r\n";

fn has(lines: &[String], parts: &[&str]) -> usize {
    lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

/// All in one, as what one subscriber wants changes what `tracing` asks for another.
#[test]
fn every_line_says_which_connection_and_none_a_secret() {
    for (level, accepted, opened) in [(Level::DEBUG, 1, 1), (Level::INFO, 1, 0), (Level::WARN, 0, 0)] {
        let (told, lines) = seen(level, || play(open(usual, Events::NONE), MAIL, None));
        assert_eq!(told, [""; 0], "the handler wants nothing");
        for line in &lines {
            let (_, connection) = line.split_once("connection{id=").unwrap_or_else(|| panic!("{line}"));
            assert!(connection.contains(" peer=192.0.2.7:4321 listener=submission}: "), "{line}");
            assert!(!line.contains("tanstaaf"), "{line}");
        }
        assert_eq!(has(&lines, &["DEBUG ", "connection opened", "local=192.0.2.1:587"]), opened, "{lines:#?}");
        assert_eq!(has(&lines, &["DEBUG ", "connection closed", "reason=quit", "received=", "sent="]), opened);
        assert_eq!(has(&lines, &["DEBUG ", "transaction begun", "sender=<a@b.example>"]), 2 * opened);
        assert_eq!(has(&lines, &["INFO ", "authentication succeeded", "login=\"tim\""]), accepted);
        assert_eq!(has(&lines, &["INFO ", "the handler's own line"]), accepted);
        let refused = ["INFO ", "recipient refused", "recipient=<nobody@c.example>", "reply=550 5.1.1 No such user"];
        assert_eq!(has(&lines, &refused), accepted);
        assert_eq!(has(&lines, &["INFO ", "message accepted", "login=\"tim\"", "recipients=1 octets=7"]), accepted);
        assert_eq!(has(&lines, &["INFO ", "message refused", "sender=<a@b.example>", "reply=554 5.6.11"]), accepted);
    }

    let (_, lines) = seen(Level::DEBUG, || play(open(usual, Events::NONE), SESSION, None));
    assert_eq!(has(&lines, &["INFO ", "command refused", "command=\"unknown\"", "reply=500 5.5.1 "]), 1, "{lines:#?}");
    assert_eq!(has(&lines, &["WARN ", "authentication failed", "reason=bad-credentials"]), 1, "{lines:#?}");
    assert_eq!(has(&lines, &["DEBUG ", "connection closed", "reason=cut-off"]), 1, "{lines:#?}");
    assert_eq!(has(&lines, &["tanstaaf"]), 0, "{lines:#?}");

    // A handler is told what it wants, whatever is seen.
    let (told, lines) = seen(Level::ERROR, || play(open(usual, Events::ALL), MAIL, None));
    assert_eq!(told.len(), 8, "{told:?}");
    assert_eq!(lines, [""; 0]);

    for (unanswered, said) in [
        (Unanswered::Panicked, "the handler panicked"),
        (Unanswered::Late, "the handler did not answer in time"),
        (Unanswered::NotAsked, "the handler could not be asked"),
    ] {
        for (client, hook) in [("AUTH PLAIN AHRpbQB4", "authenticate"), ("MAIL FROM:<>\r\nRCPT TO:<a@b>", "RCPT")] {
            let client = format!("EHLO c\r\n{client}\r\n");
            let (_, lines) = seen(Level::ERROR, || play(open(usual, Events::NONE), &client, Some(unanswered)));
            let hook = format!("hook=\"{hook}\"");
            assert_eq!(
                has(&lines, &["ERROR ", " peer=192.0.2.7:4321 listener=submission}: ", said, &hook]),
                1,
                "{lines:?}"
            );
        }
    }

    // Behind a proxy, the client is who is seen.
    fn proxied(builder: ConfigBuilder) -> ConfigBuilder {
        builder.proxy(Proxy::from_networks(["192.0.2.7".parse().unwrap()]))
    }
    let client = "PROXY TCP4 198.51.100.9 203.0.113.1 56324 587\r\nNOOP\r\n";
    let (_, lines) = seen(Level::DEBUG, || play(open(proxied, Events::NONE), client, None));
    assert_eq!(has(&lines, &["peer=198.51.100.9:56324 ", "connection opened"]), 1, "{lines:?}");
    let (_, lines) = seen(Level::DEBUG, || play(open(proxied, Events::NONE), "EHLO c\r\n", None));
    assert_eq!(has(&lines, &["WARN ", "peer=192.0.2.7:4321 ", "reason=no-header"]), 1, "{lines:?}");
    assert_eq!(has(&lines, &["connection closed", "reason=proxy-refused"]), 1, "{lines:?}");
}
