use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use super::*;
use crate::delivery::{Delivery, Worker};
use crate::envelope::Envelope;
use crate::routes::Route;
use crate::schedule::Schedule;
use crate::testing::{NextHop, PATIENCE, accept};

/// Puts a message into a spool.
fn add(spool: &Arc<Spool>, recipient: &str) -> QueueId {
    let envelope = Envelope::new("tim@sender.example", [recipient]);
    let mut incoming = Spool::begin(spool, envelope).unwrap();
    incoming.write(b"Subject: x\r\n\r\nHello\r\n").unwrap();
    incoming.commit().unwrap()
}

/// Nothing is tried again of itself.
fn start(spool: &Arc<Spool>, hop: &NextHop) -> Worker {
    let mut delivery = Delivery::new(Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]), "relay.example");
    delivery.schedule = Schedule { first: HOUR, longest: HOUR, give_up_after: 100 * HOUR };
    Worker::start(Arc::clone(spool), delivery).unwrap()
}

fn open(directory: &Path) -> Arc<Spool> {
    // The files of the worker before are closed by its threads.
    let start = Instant::now();
    loop {
        match Spool::open(directory) {
            Ok(spool) => return Arc::new(spool),
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
    }
}

fn wait(control: &Control, condition: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
    let start = Instant::now();
    loop {
        let entries: Vec<Entry> = control.list().unwrap().map(Result::unwrap).collect();
        if condition(&entries) {
            return entries;
        }
        assert!(start.elapsed() < PATIENCE, "{entries:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn made(change: Result<Change, ControlError>) -> usize {
    match change.unwrap() {
        Change::Made { messages } => messages,
        Change::AtTheNextStart => panic!("no worker was asked"),
    }
}

#[test]
fn a_running_worker_flushes_holds_releases_and_deletes() {
    let defers = Arc::new(AtomicBool::new(true));
    let hop = {
        let defers = Arc::clone(&defers);
        NextHop::start(move |_, line| {
            let is_deferred = line.starts_with("RCPT") && defers.load(Ordering::SeqCst);
            if is_deferred { "451 4.2.1 later\r\n".to_owned() } else { accept(line, &[]) }
        })
    };
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let [first, second, third] = ["a@x.example", "b@x.example", "c@x.example"].map(|to| add(&spool, to));
    let worker = start(&spool, &hop);
    let control = Control::new(directory.path()).unwrap();
    let entries = wait(&control, |entries| {
        entries.len() == 3 && entries.iter().all(|entry| entry.attempts == 1 && entry.state == Condition::Waiting)
    });
    let entry = &entries[0];
    assert_eq!((&entry.id, &*entry.sender, entry.octets), (&first, "tim@sender.example", 21));
    assert_eq!((entry.recipients[0].status, entry.recipients[0].last.as_deref()), ("pending", Some("451 4.2.1 later")));
    assert_eq!(*entry, control.show(&first).unwrap());
    let mut content = String::new();
    control.content(&first).unwrap().read_to_string(&mut content).unwrap();
    assert!(content.starts_with("Subject: x\r\n"));

    assert_eq!(made(control.hold(&second)), 1);
    assert_eq!(made(control.hold(&second)), 1);
    assert!(matches!(control.flush_message(&second), Err(ControlError::OnHold(_))));
    assert_eq!(made(control.delete(&third)), 1);
    assert!(matches!(control.delete(&third), Err(ControlError::Unknown(_))));
    assert!(matches!(control.show(&third), Err(ControlError::Unknown(_))));
    let relays = control.flush_destination("x.example").unwrap_err().to_string();
    assert!(relays.contains("relays"), "{relays}");
    defers.store(false, Ordering::SeqCst);
    assert_eq!(made(control.flush()), 1);
    let left = wait(&control, |entries| entries.len() == 1);
    assert_eq!((&left[0].id, left[0].state), (&second, Condition::Held));
    assert_eq!(made(control.release(&second)), 1);
    wait(&control, <[Entry]>::is_empty);
    assert!(matches!(control.hold(&second), Err(ControlError::Unknown(_))));
    assert_eq!(hop.seen().messages.len(), 2);
    worker.stop(HOUR);
    assert!(!directory.path().join("control").exists());
}

#[test]
fn without_a_worker_the_files_are_changed_and_the_next_worker_keeps_to_them() {
    let hop = NextHop::start(|_, line| accept(line, &[]));
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let [held, deleted] = ["a@x.example", "b@x.example"].map(|to| add(&spool, to));
    drop(spool);
    let control = Control::new(directory.path()).unwrap();
    assert_eq!((made(control.hold(&held)), made(control.delete(&deleted))), (1, 1));
    assert!(matches!(control.delete(&deleted), Err(ControlError::Unknown(_))));
    assert!(matches!(control.flush_message(&held), Err(ControlError::OnHold(_))));
    assert_eq!(control.flush().unwrap(), Change::AtTheNextStart);
    assert!(!directory.path().join(format!("queue/{deleted}.eml")).exists());

    let spool = open(directory.path());
    let worker = start(&spool, &hop);
    let sent = add(&spool, "c@x.example");
    let left = wait(&control, |entries| entries.iter().all(|entry| entry.id != sent));
    assert_eq!(left.iter().map(|entry| (&entry.id, entry.state)).collect::<Vec<_>>(), [(&held, Condition::Held)]);
    worker.stop(HOUR);
    drop(spool);
    assert_eq!(hop.seen().messages.len(), 1);

    assert_eq!(made(control.release(&held)), 1);
    let spool = open(directory.path());
    let worker = start(&spool, &hop);
    wait(&control, <[Entry]>::is_empty);
    worker.stop(HOUR);
}

#[test]
fn what_is_being_sent_is_told_as_such_and_not_deleted() {
    let (arrived, arrivals) = channel();
    let (go, gate) = channel::<()>();
    let (arrived, gate) = (Mutex::new(arrived), Mutex::new(gate));
    let hop = NextHop::start(move |_, line| {
        if line != "." {
            return accept(line, &[]);
        }
        arrived.lock().unwrap().send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        "451 4.3.0 not now\r\n".to_owned()
    });
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let id = add(&spool, "a@x.example");
    let worker = start(&spool, &hop);
    let control = Control::new(directory.path()).unwrap();
    arrivals.recv_timeout(PATIENCE).unwrap();
    let entries = wait(&control, |_| true);
    assert_eq!(entries[0].state, Condition::Sending);
    assert!(entries[0].row().contains("sending") && entries[0].details().contains("being sent"));
    assert!(matches!(control.delete(&id), Err(ControlError::Busy(_))));
    assert_eq!(made(control.hold(&id)), 1);
    go.send(()).unwrap();
    wait(&control, |entries| entries[0].state == Condition::Held && entries[0].attempts == 1);
    assert_eq!(made(control.delete(&id)), 1);
    wait(&control, <[Entry]>::is_empty);
    worker.stop(HOUR);
}

#[test]
fn clients_that_hang_or_talk_nonsense_hold_nothing_up() {
    let hop = NextHop::start(|_, line| accept(line, &[]));
    let directory = tempfile::tempdir().unwrap();
    // Another server has left it there.
    drop(std::os::unix::net::UnixListener::bind(directory.path().join("control")).unwrap());
    let spool = open(directory.path());
    let worker = start(&spool, &hop);
    let path = directory.path().join("control");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(UnixStream::connect(&path).unwrap());
    }
    for nonsense in [&b"GET / HTTP/1.1\r\n"[..], b"{\"command\":\"hold\",\"id\":\"../x\"}\n", &[b'x'; 4096]] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(nonsense).unwrap();
        let mut reply = String::new();
        let read = BufReader::new(&stream).read_line(&mut reply);
        // What was not read resets the connection.
        assert!(read.is_err() || reply.contains("\"failed\""), "{reply}");
    }
    let control = Control::new(directory.path()).unwrap();
    assert_eq!(made(control.flush()), 0);
    // Clients that are still there do not keep it from ending.
    worker.stop(HOUR);
    drop(spool);
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0);
    assert!(!path.exists());
    assert_eq!(control.flush().unwrap(), Change::AtTheNextStart);
}

#[test]
fn a_spool_may_be_at_a_long_path() {
    let hop = NextHop::start(|_, line| accept(line, &[]));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d".repeat(100)).join("e".repeat(100));
    let spool = open(&path);
    let control = Control::new(&path).unwrap();
    let id = add(&spool, "a@x.example");
    drop(spool);
    assert_eq!(made(control.hold(&id)), 1, "without a worker");
    let spool = open(&path);
    let worker = start(&spool, &hop);
    if cfg!(target_os = "linux") {
        assert_eq!(made(control.release(&id)), 1);
        wait(&control, <[Entry]>::is_empty);
    }
    worker.stop(HOUR);
    assert!(!path.join("control").exists());
}

#[test]
fn a_start_tries_what_waits_at_once() {
    let refusing = NextHop::start(|_, line| match line {
        "" => "421 4.3.2 not now\r\n".to_owned(),
        _ => accept(line, &[]),
    });
    let hop = NextHop::start(|_, line| accept(line, &[]));
    let directory = tempfile::tempdir().unwrap();
    let control = Control::new({
        open(directory.path());
        directory.path()
    });
    let (control, spool) = (control.unwrap(), open(directory.path()));
    add(&spool, "a@x.example");
    let worker = start(&spool, &refusing);
    wait(&control, |entries| entries[0].attempts == 1 && entries[0].state == Condition::Waiting);
    worker.stop(HOUR);
    let worker = start(&spool, &hop);
    wait(&control, <[Entry]>::is_empty);
    worker.stop(HOUR);
}

#[test]
fn what_is_no_spool_is_not_made_one() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("spol");
    let error = Control::new(&absent).unwrap_err();
    assert!(error.to_string().contains("there is no spool in") && !absent.exists(), "{error}");
}

const HOUR: Duration = Duration::from_secs(3600);
