//! `authenticated_relayer` loses nothing that it has acknowledged: kill -9 at any moment, and SIGTERM.
//!
//! A killed process leaves what it had written with the operating system, so these tests show that 250 comes after
//! the last write and that every state between two writes is one to go on from. That the disk has it too
//! is up to `sansmtp_relay::durable`.

mod support;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use support::{
    Client, Gate, NextHop, PATIENCE, Program, add_user, eventually, maildir, number_of, numbered, spooled, stuffed,
};
use tempfile::TempDir;

#[test]
fn what_was_acknowledged_is_delivered_whenever_the_relayer_is_killed() {
    let hop = NextHop::start();
    let directory = directory();
    // Whatever a kill cuts off goes on at the next start, not at the next attempt.
    let arguments = ["--relay", &hop.url(), "--retry-first", "3600"];
    let acknowledged = kill_while_clients_send(directory.path(), &arguments, ROUNDS, one_recipient);

    let program = start(directory.path(), &arguments);
    eventually(|| spooled(&directory.path().join("spool")) == 0);
    program.stop();
    assert!(!directory.path().join("spool/damaged").exists());
    assert_each_arrived(&acknowledged, hop.mails().iter().map(|mail| &mail.content[..]));
}

/// Messages with recipients that are taken, refused, and put off at first, whose senders are told. `KILLS` says how often
/// the program is killed.
#[test]
fn no_recipient_is_lost_or_unreported_whenever_the_relayer_is_killed() {
    let put_off = Arc::new(Mutex::new(HashSet::new()));
    let hop = NextHop::with_script(move |line| {
        let recipient = line.strip_prefix("RCPT TO:<")?;
        if recipient.starts_with("refused") {
            return Some("550 5.1.1 nobody here");
        }
        let is_new = || put_off.lock().unwrap_or_else(PoisonError::into_inner).insert(recipient.to_owned());
        (recipient.starts_with("later") && is_new()).then_some("450 4.2.1 not now")
    });
    let directory = directory();
    let arguments = ["--relay", &hop.url(), "--retry-first", "0.05"];
    let kills = std::env::var("KILLS").ok().map_or(ROUNDS, |kills| kills.parse().expect("KILLS is a number"));
    let acknowledged = kill_while_clients_send(directory.path(), &arguments, kills, mixed_recipients);

    let program = start(directory.path(), &arguments);
    eventually(|| spooled(&directory.path().join("spool")) == 0);
    program.stop();
    assert!(!directory.path().join("spool/damaged").exists());

    let mails = hop.mails();
    let (mut copies, mut doubtful) = (HashMap::<String, usize>::new(), 0);
    for (place, mail) in mails.iter().enumerate() {
        // Only a report has a null reverse-path, and who is refused is told of in one.
        let recipients = if mail.reverse_path.is_empty() { reported(&mail.content) } else { mail.recipients.clone() };
        assert!(!recipients.is_empty(), "{}", mail.content.escape_ascii());
        if mail.reverse_path.is_empty() {
            assert_eq!(mail.recipients, [SENDER]);
        } else {
            number_of(&mail.content);
        }
        // A copy too many is right only behind one whose reply may have been lost.
        let is_last = !mails.iter().skip(place + 1).any(|other| other.session == mail.session);
        let may_be_lost = is_last && !hop.has_ended(mail.session);
        for recipient in recipients {
            let count = copies.entry(recipient.clone()).or_default();
            assert_eq!(*count, 0, "seed {SEED:#x}: another copy for {recipient}, who had it");
            if may_be_lost { doubtful += 1 } else { *count += 1 }
        }
    }
    let known: HashSet<_> = mails
        .iter()
        .flat_map(|mail| if mail.reverse_path.is_empty() { reported(&mail.content) } else { mail.recipients.clone() })
        .collect();
    let lost: Vec<_> =
        acknowledged.iter().flat_map(|number| mixed_recipients(*number)).filter(|path| !known.contains(path)).collect();
    assert!(lost.is_empty(), "neither delivered nor reported, seed {SEED:#x}: {lost:?}");
    eprintln!(
        "{kills} kills: {} messages acknowledged, {} recipients heard of, {doubtful} last of a session that was cut off",
        acknowledged.len(),
        known.len()
    );
}

#[test]
fn what_was_acknowledged_is_in_the_maildir_whenever_the_program_is_killed() {
    let directory = directory();
    let acknowledged = kill_while_clients_send(directory.path(), &[], ROUNDS, one_recipient);
    let mails = maildir(&directory.path().join("mail"));
    let most = assert_each_arrived(&acknowledged, mails.iter().map(Vec::as_slice));
    assert_eq!(most, 1, "a message is in the Maildir more than once");
}

#[test]
fn a_delivery_that_a_kill_cuts_off_is_made_again() {
    let gate = Gate::default();
    let (hop, directory) = (held_at_the_end(&gate), directory());
    let arguments = ["--relay", &hop.url()];
    let program = start(directory.path(), &arguments);
    send(program.address(0), 1);
    gate.await_visitors(1);
    // The next hop has the message, and the relayer does not know yet.
    program.kill();
    assert_eq!(spooled(&directory.path().join("spool")), 1);

    let program = start(directory.path(), &arguments);
    gate.await_visitors(2);
    gate.open();
    hop.wait(|mails| mails.len() == 2);
    program.stop();
    assert!(hop.mails().iter().all(|mail| number_of(&mail.content) == 1));
    assert_eq!((hop.mails().len(), spooled(&directory.path().join("spool"))), (2, 0));
}

#[test]
fn a_recipient_that_has_the_message_does_not_get_it_again() {
    let gate = Gate::default();
    let tried = AtomicBool::new(false);
    let held = gate.clone();
    let hop = NextHop::with_script(move |line| match line {
        "RCPT TO:<b@example.org>" if !tried.swap(true, Ordering::SeqCst) => Some("450 4.2.1 not now"),
        "RCPT TO:<b@example.org>" => {
            held.pass();
            None
        }
        _ => None,
    });
    let directory = directory();
    let arguments = ["--relay", &hop.url(), "--retry-first", "0.05"];
    let program = start(directory.path(), &arguments);
    let mut client = Client::log_in(program.address(0), USER, PASSWORD).expect("the server talks");
    let recipients = ["a@example.org", "b@example.org"];
    let reply = client.send_to(SENDER, &recipients, &numbered(1)).expect("the server talks");
    assert!(reply.starts_with("250 "), "{reply}");
    // The second attempt is under way: the first has been recorded.
    gate.await_visitors(1);
    program.kill();
    gate.open();

    let program = start(directory.path(), &arguments);
    let mails = hop.wait(|mails| mails.len() >= 2);
    program.stop();
    let recipients: Vec<_> = mails.iter().map(|mail| mail.recipients.join(" ")).collect();
    assert_eq!(recipients, ["a@example.org", "b@example.org"]);
    assert_eq!((hop.mails().len(), spooled(&directory.path().join("spool"))), (2, 0));
}

#[test]
fn a_message_whose_end_had_not_come_is_no_message() {
    let hop = NextHop::start();
    let directory = directory();
    let arguments = ["--relay", &hop.url()];
    let program = start(directory.path(), &arguments);
    let mut client = Client::log_in(program.address(0), USER, PASSWORD).expect("the server talks");
    client.begin(SENDER, &[RECIPIENT]).expect("the server talks");
    client.write(&b"half a message\r\n".repeat(10_000)).expect("the server listens");
    program.kill();

    let program = start(directory.path(), &arguments);
    send(program.address(0), 2);
    let mails = hop.wait(|mails| !mails.is_empty());
    program.stop();
    assert_eq!(mails.iter().map(|mail| number_of(&mail.content)).collect::<Vec<_>>(), [2]);
    for part in ["incoming", "queue"] {
        let left = std::fs::read_dir(directory.path().join("spool").join(part)).expect("it is there").count();
        assert_eq!(left, 0, "{part}");
    }
}

#[test]
fn sigterm_lets_a_message_end_and_tells_the_others() {
    let directory = directory();
    let program = start(directory.path(), &[]);
    let mut sending = Client::log_in(program.address(0), USER, PASSWORD).expect("the server talks");
    let mut idle = Client::log_in(program.address(0), USER, PASSWORD).expect("the server talks");
    let mut stranger = Client::greet(program.address(0)).expect("the server talks");
    let content = stuffed(&numbered(1));
    let (first, rest) = content.split_at(content.len() / 2);
    let reply = sending.begin(SENDER, &[RECIPIENT]).expect("the server talks");
    assert!(reply.starts_with("354 "), "{reply}");
    sending.write(first).expect("the server listens");

    let address = program.address(0);
    program.terminate();
    for client in [&mut idle, &mut stranger] {
        let reply = client.reply().expect("the server says goodbye");
        assert!(reply.starts_with("421 4.3.2 "), "{reply}");
        assert!(client.is_closed());
    }
    assert!(Client::greet(address).is_err(), "nobody listens any more");

    sending.write(rest).expect("the server listens");
    let reply = sending.command(".").expect("the message may end");
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    let reply = sending.reply().expect("the server says goodbye");
    assert!(reply.starts_with("421 4.3.2 "), "{reply}");
    assert!(sending.is_closed());
    drop((sending, idle, stranger));
    let (status, _, stderr) = program.wait();
    assert!(status.success(), "{status}: {stderr}");
    assert_eq!(maildir(&directory.path().join("mail")).iter().map(|mail| number_of(mail)).collect::<Vec<_>>(), [1]);
}

#[test]
fn sigterm_lets_a_delivery_end() {
    let gate = Gate::default();
    let (hop, directory) = (held_at_the_end(&gate), directory());
    let program = start(directory.path(), &["--relay", &hop.url()]);
    send(program.address(0), 1);
    gate.await_visitors(1);
    program.terminate();
    program.stderr.wait(|log| log.contains("waiting for deliveries to end"));
    gate.open();
    let (status, _, stderr) = program.wait();
    assert!(status.success(), "{status}: {stderr}");
    assert_eq!((hop.mails().len(), spooled(&directory.path().join("spool"))), (1, 0));
}

/// Has clients send without a pause while the program is killed and started again, so many times, and returns the
/// numbers of the messages that were answered 250. `recipients` says to whom each message goes.
fn kill_while_clients_send(
    directory: &Path,
    arguments: &[&str],
    kills: usize,
    recipients: impl Fn(usize) -> Vec<String> + Sync,
) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let next = AtomicUsize::new(1);
    let acknowledged = Tally::default();
    for round in 0..kills {
        let program = start(directory, arguments);
        let address = program.address(0);
        let enough = acknowledged.count() + random.usize(..MOST_MESSAGES_A_ROUND);
        let moment = Duration::from_micros(random.u64(..5_000));
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| send_until_killed(address, &next, &acknowledged, &recipients)))
                .collect();
            acknowledged.wait_for(enough);
            // Not a wait for anything: it only chooses where, between two replies, the end comes.
            let now = Instant::now();
            while now.elapsed() < moment {
                std::hint::spin_loop();
            }
            program.kill();
            for client in clients {
                client.join().unwrap_or_else(|_| panic!("a client failed in round {round}, seed {SEED:#x}"));
            }
        });
    }
    let acknowledged = acknowledged.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(acknowledged.len() >= kills, "the rounds have sent next to nothing");
    acknowledged
}

fn send_until_killed(
    address: SocketAddr,
    next: &AtomicUsize,
    acknowledged: &Tally,
    recipients: impl Fn(usize) -> Vec<String>,
) {
    // Every error is the kill: nothing else ends a session here.
    let Ok(mut client) = Client::log_in(address, USER, PASSWORD) else { return };
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let recipients = recipients(number);
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        match client.send_to(SENDER, &recipients, &numbered(number)) {
            Ok(reply) if reply.starts_with("250 ") => acknowledged.add(number),
            Ok(reply) => panic!("message {number}: {reply}"),
            Err(_) => return,
        }
    }
}

/// Checks that every message that was answered 250 is among those that arrived, and that each of these is whole.
/// Returns how often the most frequent one arrived.
fn assert_each_arrived<'a>(acknowledged: &[usize], arrived: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut copies = HashMap::<usize, usize>::new();
    for mail in arrived {
        *copies.entry(number_of(mail)).or_default() += 1;
    }
    let lost: Vec<_> = acknowledged.iter().filter(|number| !copies.contains_key(number)).collect();
    assert!(lost.is_empty(), "acknowledged and lost, seed {SEED:#x}: {lost:?}");
    let total: usize = copies.values().sum();
    eprintln!(
        "{} acknowledged, {} arrived ({} of them before the client heard of it), {} copies too many",
        acknowledged.len(),
        copies.len(),
        copies.len() - acknowledged.len(),
        total - copies.len(),
    );
    copies.into_values().max().unwrap_or_default()
}

/// The messages that were answered 250.
#[derive(Default)]
struct Tally(Mutex<Vec<usize>>, Condvar);

impl Tally {
    fn add(&self, number: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        self.1.notify_all();
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn wait_for(&self, count: usize) {
        let numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.1.wait_timeout_while(numbers, PATIENCE, |numbers| numbers.len() < count);
        let (numbers, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let sent = numbers.len();
        drop(numbers);
        assert!(!timeout.timed_out(), "waited in vain; {sent} messages were acknowledged");
    }
}

fn one_recipient(_: usize) -> Vec<String> {
    vec![RECIPIENT.to_owned()]
}

/// Each with one that is taken, many with others that are not.
fn mixed_recipients(number: usize) -> Vec<String> {
    let mut recipients = vec![format!("taken-{number}@example.org")];
    for (kind, every) in [("refused", 3), ("later", 5), ("refused-too", 7)] {
        if number.is_multiple_of(every) {
            recipients.push(format!("{kind}-{number}@example.org"));
        }
    }
    recipients
}

/// The recipients that a report tells of.
fn reported(report: &[u8]) -> Vec<String> {
    let report = String::from_utf8_lossy(report);
    let paths = report.lines().filter_map(|line| line.strip_prefix("Final-Recipient: rfc822; "));
    paths.map(|path| path.trim_end().to_owned()).collect()
}

fn held_at_the_end(gate: &Gate) -> NextHop {
    let gate = gate.clone();
    NextHop::with_script(move |line| {
        if line == "." {
            gate.pass();
        }
        None
    })
}

fn directory() -> TempDir {
    let directory = TempDir::new().expect("there is room for a directory");
    add_user(directory.path(), USER, PASSWORD);
    directory
}

fn start(directory: &Path, arguments: &[&str]) -> Program {
    let arguments = [&["--listen", "127.0.0.1:0", "--allow-plaintext-auth"], arguments].concat();
    Program::start("authenticated_relayer", directory, "info", &arguments)
}

fn send(address: SocketAddr, number: usize) {
    let mut client = Client::log_in(address, USER, PASSWORD).expect("the server talks");
    let reply = client.send(SENDER, RECIPIENT, &numbered(number)).expect("the server talks");
    assert!(reply.starts_with("250 "), "{reply}");
}

const ROUNDS: usize = 10;
const CLIENTS: usize = 4;
const MOST_MESSAGES_A_ROUND: usize = 60;
const SEED: u64 = 0x5a4d_7450;
const USER: &str = "tim";
const PASSWORD: &str = "tanstaaftanstaaf";
const SENDER: &str = "tim@example.org";
const RECIPIENT: &str = "friend@example.org";
