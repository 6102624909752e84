//! `authenticated_relayer --relay`: who may send, and what becomes of a message that the next hop does not take at
//! once.

/// Mailboxes as the next hop.
#[cfg(unix)]
#[path = "relaying/lmtp.rs"]
mod lmtp;
/// Logins at the next hop.
#[path = "relaying/logins.rs"]
mod logins;
/// Postfix as the next hop.
#[cfg(unix)]
#[path = "relaying/postfix.rs"]
mod postfix;
mod support;
/// The name server of the tests of `sansmtp-relay`.
#[cfg(test)]
#[path = "../../crates/relay/src/testing.rs"]
#[expect(dead_code, reason = "the rest of the file is for those tests")]
mod testing;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::rr::rdata::{A, MX};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use mail_parser::{MessageParser, MimeHeaders};
use support::{Awkward, Client, NextHop, Program, add_user, long_line, maildir, number_of, numbered, spooled};
use tempfile::TempDir;

#[test]
fn nothing_is_relayed_without_a_login() {
    let hop = NextHop::start();
    let relayer = relayer(&["--relay", &hop.url()]);
    for greeting in ["EHLO client.example", "HELO client.example"] {
        let mut client = Client::greet(relayer.program.address(0)).expect("the server talks");
        client.command(greeting).expect("the server talks");
        // A next hop on loopback is no reason to trust a client on loopback.
        for line in ["MAIL FROM:<tim@example.org>", "MAIL FROM:<>", "MAIL FROM:<tim@example.org> AUTH=<>"] {
            let reply = client.command(line).expect("the server talks");
            // After HELO there are no parameters.
            let refused = if greeting.starts_with("HELO") && line.contains("AUTH=") { "5" } else { "530 5.7.0 " };
            assert!(reply.starts_with(refused), "{line}: {reply}");
        }
        for line in ["RCPT TO:<friend@example.org>", "DATA"] {
            let reply = client.command(line).expect("the server talks");
            assert!(reply.starts_with("503 ") || reply.starts_with("530 "), "{line}: {reply}");
        }
        let reply = client.auth_plain(USER, "wrong").expect("the server talks");
        assert!(!reply.starts_with('2'), "{reply}");
        let reply = client.send("tim@example.org", "friend@example.org", &numbered(1)).expect("the server talks");
        assert!(reply.starts_with("530 "), "{reply}");
    }
    assert_eq!(spooled(&relayer.directory.path().join("spool")), 0);
    relayer.program.stop();
    assert_eq!(hop.sessions(), 0);
}

#[test]
fn a_message_arrives_at_the_next_hop_octet_for_octet() {
    let hop = NextHop::start();
    let relayer = relayer(&["--relay", &hop.url()]);
    relayer.send(&Awkward::content());
    let mails = hop.wait(|mails| !mails.is_empty());
    let [mail] = &mails[..] else { panic!("one message has become {}", mails.len()) };
    assert_eq!(mail.reverse_path, SENDER);
    assert_eq!(mail.recipients, ["friend@example.org"]);
    let trace = mail.content.strip_suffix(&Awkward::content()[..]).expect("it is unchanged");
    let trace = std::str::from_utf8(trace).expect("the trace is ASCII");
    assert!(trace.starts_with("Received: from client.example ([127.0.0.1])\r\n\tby "), "{trace}");
    assert!(trace.contains(" with ESMTPA id "), "{trace}");
    assert_eq!(trace.lines().filter(|line| !line.starts_with('\t')).count(), 1, "{trace}");
    relayer.program.stop();
    assert_eq!(spooled(&relayer.directory.path().join("spool")), 0);
}

/// A line of any length is taken, and sent on in lines that any server takes.
#[test]
fn long_lines_are_broken_on_their_way() {
    let hop = NextHop::start();
    let relayer = relayer(&["--relay", &hop.url()]);
    let message = long_line();
    relayer.send(&message);
    let mails = hop.wait(|mails| !mails.is_empty());
    let sent = std::str::from_utf8(&mails[0].content).expect("it is ASCII");
    assert!(sent.lines().all(|line| line.len() <= 998) && sent.contains("Transfer-Encoding: quoted-printable\r\n"));
    let (_, body) = sent.split_once("\r\n\r\n").expect("there is a body");
    assert!(message.ends_with(body.replace("=\r\n", "").as_bytes()) && body.len() > message.len() / 2);
}

/// Whatever a client calls itself is taken, and its trace is a field like others; who has no domain is of this server.
#[test]
fn a_strange_client_is_served_and_leaves_a_sound_trace() {
    let hop = NextHop::start();
    let relayer = relayer(&["--relay", &hop.url(), "--hostname", "relay.example"]);
    for (number, (name, traced)) in
        [("(none)", "?none?"), ("a (b) <c@d>; caf\u{e9}", "a??b???c?d???caf?"), ("[fe80::1%eth0]", "?fe80??1?eth0?")]
            .into_iter()
            .enumerate()
    {
        let mut client = Client::log_in(relayer.program.address(0), USER, PASSWORD).expect("the server talks");
        let reply = client.command(&format!("EHLO {name}")).expect("the server talks");
        assert!(reply.starts_with("250-"), "{name}: {reply}");
        let reply = client.send("root", "friend@example.org", &numbered(number)).expect("the server talks");
        assert!(reply.starts_with("250 "), "{name}: {reply}");
        let mails = hop.wait(|mails| mails.len() > number);
        let mail = mails.last().expect("it has come");
        assert_eq!(mail.reverse_path, "root@relay.example");
        let trace = String::from_utf8_lossy(&mail.content);
        assert!(trace.starts_with(&format!("Received: from {traced} ([127.0.0.1])\r\n\tby relay.example ")), "{trace}");
    }
    relayer.program.stop();
}

/// RFC 6409, section 8.
#[test]
fn what_a_header_lacks_is_added_and_what_nobody_should_see_is_taken_out() {
    let hop = NextHop::start();
    let (relayed, delivered) = (relayer(&["--relay", &hop.url()]), relayer(&["--maildir", "mail"]));
    let header = "Bcc: secret@example.org,\r\n other@example.org\r\nSubject: Gr\u{fc}\u{df}e\r\nReturn-Path: <forged@example.org>\r\n";
    // In a header of 8 bits that begins in one segment and ends in another.
    let content = format!("{header}X: {}\r\n\r\nBcc: text\r\n", "x".repeat(70_000));
    for relayer in [&relayed, &delivered] {
        let mut client = Client::log_in(relayer.program.address(0), USER, PASSWORD).expect("the server talks");
        let folded = content.replace("xxxxxxxxxx", "xxxxxxxxx\r\n ");
        let reply = client.send(SENDER, "friend@example.org", folded.as_bytes()).expect("the server talks");
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let relayed = hop.wait(|mails| !mails.is_empty()).remove(0).content;
    for mail in [relayed, maildir(&delivered.directory.path().join("mail")).remove(0)] {
        let mail = String::from_utf8(mail).expect("it is as it was sent");
        let (header, body) = mail.split_once("\r\n\r\n").expect("there is a body");
        assert_eq!(body, "Bcc: text\r\n");
        let below = header.split_once("\r\nSubject: Gr\u{fc}\u{df}e\r\nX: xxx").expect("they follow each other").1;
        assert!(!header.contains("Bcc:") && !header.contains("other@") && !header.contains("forged"));
        let added: Vec<_> = below.lines().skip_while(|line| line.starts_with([' ', 'x'])).collect();
        let [date, id] = added[..] else { panic!("{added:?}") };
        assert!(date.starts_with("Date: ") && date.ends_with(" +0000"), "{date}");
        assert!(id.starts_with("Message-ID: <") && id.ends_with('>') && id.contains('@'), "{id}");
        let parsed = MessageParser::new().parse(mail.as_bytes()).expect("it is a message");
        assert!(parsed.date().is_some_and(|date| date.is_valid()) && parsed.message_id().is_some());
    }
}

/// On whatever runtime, into the spool and into a Maildir.
#[test]
fn what_was_refused_gets_into_no_other_message() {
    for runtime in ["smol", "tokio", "threads"] {
        let hop = NextHop::start();
        let into_spool = relayer(&["--runtime", runtime, "--relay", &hop.url()]);
        let into_maildir = relayer(&["--runtime", runtime, "--maildir", "mail"]);
        for relayer in [&into_spool, &into_maildir] {
            let mut client = Client::log_in(relayer.program.address(0), USER, PASSWORD).expect("the server talks");
            for number in 1..=2 {
                client.send_voids("other@example.org", "other@example.org").expect("the server talks");
                let reply = client.send(SENDER, "friend@example.org", &numbered(number)).expect("the server talks");
                assert!(reply.starts_with("250 2.0.0 "), "{reply}");
            }
        }
        let relayed = hop.wait(|mails| mails.len() == 2).into_iter().map(|mail| mail.content).collect();
        for mails in [relayed, maildir(&into_maildir.directory.path().join("mail"))] {
            let mut numbers: Vec<_> = mails.iter().map(|mail| number_of(mail)).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, [1, 2]);
            // `number_of` looks at what is below the trace.
            assert!(mails.iter().all(|mail| !mail.windows(5).any(|octets| octets == b"other")));
        }
        let directory = into_spool.directory.path();
        into_spool.program.stop();
        assert_eq!(spooled(&directory.join("spool")), 0);
        for left in [directory.join("spool/incoming"), into_maildir.directory.path().join("mail/tmp")] {
            assert_eq!(std::fs::read_dir(left).expect("it is there").count(), 0);
        }
    }
}

#[test]
fn without_enough_room_mail_is_put_off_before_it_is_sent() {
    let hop = NextHop::start();
    let most = u64::MAX.to_string();
    for place in [["--relay", &hop.url()], ["--maildir", "mail"]] {
        let relayer = relayer(&[&place[..], &["--min-free", &most]].concat());
        let mut client = Client::log_in(relayer.program.address(0), USER, PASSWORD).expect("the server talks");
        let reply = client.command("MAIL FROM:<tim@example.org>").expect("the server talks");
        assert!(reply.starts_with("452 4.3.1 "), "{reply}");
        let reply = client.command("NOOP").expect("the session goes on");
        assert!(reply.starts_with("250 "), "{reply}");
        relayer.program.stop();
    }
}

#[test]
fn a_refused_message_goes_back_to_its_sender_as_a_report() {
    let hop = NextHop::with_script(|line| (line == "RCPT TO:<nobody@example.org>").then_some("550 5.1.1 no such user"));
    let relayer = relayer(&["--relay", &hop.url()]);
    let mut client = Client::log_in(relayer.program.address(0), USER, PASSWORD).expect("the server talks");
    let reply = client.send(SENDER, "nobody@example.org", &numbered(7)).expect("the server talks");
    assert!(reply.starts_with("250 "), "{reply}");

    let mails = hop.wait(|mails| !mails.is_empty());
    let [mail] = &mails[..] else { panic!("one report has become {}", mails.len()) };
    assert_eq!((mail.reverse_path.as_str(), &mail.recipients[..]), ("", &[SENDER.to_owned()][..]));
    let report = MessageParser::new().parse(&mail.content).expect("the report is a message");
    let kind = report.content_type().expect("it has a type");
    assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    let text = String::from_utf8_lossy(&mail.content);
    for field in ["Action: failed\r\n", "Status: 5.1.1\r\n", "Final-Recipient: rfc822;"] {
        assert!(text.contains(field), "{field} is missing: {text}");
    }
    assert!(text.contains("550 5.1.1 no such user") && text.contains("X-Number: 7\r\n"), "{text}");
    relayer.program.stop();
    assert_eq!(spooled(&relayer.directory.path().join("spool")), 0);
}

#[test]
fn a_report_that_is_refused_is_kept_and_not_reported() {
    let hop = NextHop::with_script(|line| line.starts_with("RCPT ").then_some("550 5.1.1 no such user"));
    let relayer = relayer(&["--relay", &hop.url()]);
    relayer.send(&numbered(1));
    relayer.program.stderr.wait(|log| log.contains("nobody is told of this failure"));
    relayer.program.stderr.wait(|log| log.matches(" done id=").count() == 2);
    relayer.program.stop();
    let spool = relayer.directory.path().join("spool");
    assert_eq!(spooled(&spool), 0);
    assert!(hop.mails().is_empty());
    let kept: Vec<_> = std::fs::read_dir(spool.join("undelivered-reports")).expect("it is there").collect();
    let [Ok(kept)] = &kept[..] else { panic!("one report has become {}", kept.len()) };
    let kept = std::fs::read_to_string(kept.path()).expect("a report is text");
    assert!(kept.contains("X-Undelivered-To: <tim@example.org>;") && kept.contains("Action: failed\r\n"), "{kept}");
}

/// RFC 3461: what the sender asks of reports is offered where it can be had, and done where the next hop does not.
#[test]
fn a_sender_who_asks_for_it_is_told_of_success() {
    let hop = NextHop::start();
    let relayer = relayer(&["--relay", &hop.url(), "--postmaster", "postmaster@example.org"]);
    let mut client = Client::log_in(relayer.program.address(0), USER, PASSWORD).expect("the server talks");
    let offered = client.command("EHLO client.example").expect("the server talks");
    assert!(offered.lines().any(|line| line == "250-DSN"), "{offered}");
    for (line, expected) in [
        ("MAIL FROM:<tim@example.org> RET=HDRS ENVID=a+2Bb", "250"),
        ("RCPT TO:<friend@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old+2Bfriend@example.org", "250"),
        ("RCPT TO:<quiet@example.org> NOTIFY=NEVER", "250"),
        ("DATA", "354"),
        ("Message-ID: <1@client.example>\r\n\r\nx\r\n.", "250"),
    ] {
        let reply = client.command(line).expect("the server talks");
        assert!(reply.starts_with(expected), "{line}: {reply}");
    }
    let mails = hop.wait(|mails| mails.len() == 2);
    let report = mails.iter().find(|mail| mail.reverse_path.is_empty()).expect("there is a report");
    let text = String::from_utf8_lossy(&report.content);
    for field in [
        "In-Reply-To: <1@client.example>\r\n",
        "Original-Envelope-Id: a+b\r\n",
        "Original-Recipient: rfc822; old+friend@example.org\r\nFinal-Recipient: rfc822; friend@example.org\r\n",
        "Action: relayed\r\n",
    ] {
        assert!(text.contains(field), "{field} is missing: {text}");
    }
    assert!(!text.contains("quiet@example.org"), "{text}");
    relayer.program.stop();
}

#[test]
fn what_is_refused_for_now_is_tried_again() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let refusals = Arc::clone(&attempts);
    let hop = NextHop::with_script(move |line| {
        // Once in each place where a next hop may say "not now".
        let refused = match (line.split(' ').next(), refusals.load(Ordering::SeqCst)) {
            (Some("EHLO"), 0) => Some("421 4.3.2 not now"),
            (Some("MAIL"), 1) | (Some("RCPT"), 2) | (Some("DATA"), 3) => Some("451 4.7.1 not now"),
            (Some("."), 4) => Some("452 4.3.1 no room now"),
            _ => None,
        };
        refusals.fetch_add(usize::from(refused.is_some()), Ordering::SeqCst);
        refused
    });
    let relayer = relayer(&["--relay", &hop.url(), "--retry-first", "0.05", "--retry-longest", "0.1"]);
    relayer.send(&numbered(3));
    let mails = hop.wait(|mails| !mails.is_empty());
    assert_eq!(mails.iter().map(|mail| number_of(&mail.content)).collect::<Vec<_>>(), [3]);
    assert_eq!(attempts.load(Ordering::SeqCst), 5);
    relayer.program.stop();
    assert_eq!((hop.mails().len(), spooled(&relayer.directory.path().join("spool"))), (1, 0));
}

#[test]
fn what_is_never_taken_comes_back_in_the_end() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let refusals = Arc::clone(&attempts);
    let hop = NextHop::with_script(move |line| {
        let refused = line == "RCPT TO:<friend@example.org>";
        refusals.fetch_add(usize::from(refused), Ordering::SeqCst);
        refused.then_some("450 4.2.1 not now")
    });
    let relayer = relayer(&["--relay", &hop.url(), "--retry-first", "0.05", "--give-up-after", "0.3"]);
    relayer.send(&numbered(3));
    let mails = hop.wait(|mails| !mails.is_empty());
    let report = String::from_utf8_lossy(&mails.first().expect("it is there").content).into_owned();
    assert!(report.contains("Status: 4.4.7\r\n") && report.contains("450 4.2.1 not now"), "{report}");
    assert!(attempts.load(Ordering::SeqCst) > 2);
}

#[test]
fn the_second_relay_is_used_when_the_first_is_dead() {
    let hop = NextHop::start();
    // Nobody listens on the port of tcpmux.
    let relayer = relayer(&["--relay", "smtp://127.0.0.1:1", "--relay", &hop.url()]);
    relayer.send(&numbered(5));
    let mails = hop.wait(|mails| !mails.is_empty());
    assert_eq!(mails.iter().map(|mail| number_of(&mail.content)).collect::<Vec<_>>(), [5]);
    let (_, log) = relayer.program.stop();
    assert!(log.contains("no session") && log.contains("smtp://127.0.0.1:1"), "{log}");
}

#[test]
fn a_recipients_mail_exchanger_is_found_by_dns() {
    let hop = NextHop::start();
    let exchanger = Name::from_ascii("mx.example.org.").expect("it is a name");
    let resolver = testing::name_server(vec![
        ("example.org", RecordType::MX, Ok(vec![RData::MX(MX::new(10, exchanger))])),
        ("mx.example.org", RecordType::A, Ok(vec![RData::A(A(Ipv4Addr::LOCALHOST))])),
    ]);
    let (resolver, port) = (resolver.to_string(), hop.address.port().to_string());
    let arguments = ["--mx", "--resolver", &resolver, "--mx-port", &port];
    // Whoever has the domain could otherwise reach what trusts this host.
    let careful = relayer(&arguments);
    careful.send(&numbered(6));
    careful.program.stderr.wait(|log| log.contains("this host, or in a private network"));
    careful.program.stop();
    assert_eq!(hop.sessions(), 0);
    let relayer = relayer(&[&arguments[..], &["--mx-allow-local"]].concat());
    relayer.send(&numbered(6));
    let mails = hop.wait(|mails| !mails.is_empty());
    assert_eq!(mails.iter().map(|mail| number_of(&mail.content)).collect::<Vec<_>>(), [6]);
    let (_, log) = relayer.program.stop();
    assert!(log.contains("mx.example.org"), "{log}");
}

/// The two programs together, with a login at the next hop.
#[test]
fn a_sink_is_a_next_hop() {
    let directory = TempDir::new().expect("there is room for a directory");
    let login = ["--user", "relay", "--password", "p@ss word", "--save", "saved"];
    let sink = Program::start("sink", directory.path(), "info", &[&["--listen", "127.0.0.1:0"], &login[..]].concat());
    let file = directory.path().join("password");
    std::fs::write(&file, "p@ss word\n").expect("it can be written");
    let urls = [
        format!("smtp://relay:p%40ss%20word@{}", sink.address(0)),
        format!("smtp://relay@{}?password-file={}", sink.address(0), file.display()),
    ];
    for (number, url) in (1..).zip(urls) {
        let relayer = relayer(&["--relay", &url]);
        relayer.send(&Awkward::content());
        relayer.program.stderr.wait(|log| log.contains(" done id="));
        let saved = std::fs::read(directory.path().join(format!("saved/{number:06}.eml"))).expect("it is saved");
        assert!(saved.ends_with(&Awkward::content()) && saved.starts_with(b"Received: from client.example "));
        let (stdout, stderr) = relayer.program.stop();
        support::assert_absent("p@ss word", &stdout);
        support::assert_absent("p@ss word", &stderr);
        support::assert_absent("p%40ss%20word", &stderr);
    }
}

/// A relayer with one user, who may log in without TLS.
struct Relayer {
    directory: TempDir,
    program: Program,
}

impl Relayer {
    /// Sends a message that is accepted.
    fn send(&self, content: &[u8]) {
        let mut client = Client::log_in(self.program.address(0), USER, PASSWORD).expect("the server talks");
        let reply = client.send(SENDER, "friend@example.org", content).expect("the server talks");
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    }
}

fn relayer(arguments: &[&str]) -> Relayer {
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), USER, PASSWORD);
    let arguments = [&["--listen", "127.0.0.1:0", "--allow-plaintext-auth"], arguments].concat();
    let program = Program::start("authenticated_relayer", directory.path(), "debug", &arguments);
    Relayer { directory, program }
}

const USER: &str = "tim";
const PASSWORD: &str = "tanstaaftanstaaf";
const SENDER: &str = "tim@example.org";
