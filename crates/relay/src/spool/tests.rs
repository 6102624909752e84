use super::*;

fn envelope() -> Envelope {
    let received = "Received: by here\r\n".to_owned();
    Envelope { received, ..Envelope::new("tim@example.org", ["a@example.org", "b@example.org"]) }
}

fn open(directory: &Path) -> Arc<Spool> {
    Arc::new(Spool::open(directory).unwrap())
}

fn deliver(spool: &Arc<Spool>) -> QueueId {
    let mut incoming = Spool::begin(spool, envelope()).unwrap();
    incoming.write(b"Subject: x\r\n\r\nBody\r\n").unwrap();
    incoming.commit().unwrap()
}

fn names(directory: PathBuf) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A copy of the spool as a crash at this moment would leave it. Locks are not copied.
fn crash(spool: &Spool) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for part in ["incoming", "queue"] {
        std::fs::create_dir(copy.path().join(part)).unwrap();
        for name in names(spool.directory.join(part)) {
            std::fs::copy(spool.directory.join(part).join(&name), copy.path().join(part).join(&name)).unwrap();
        }
    }
    copy
}

#[test]
fn a_committed_message_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let id = deliver(&spool);
    drop(spool);
    let spool = open(directory.path());
    assert!(spool.states().unwrap().iter().map(|state| &state.id).eq([&id]));
    let state = spool.load(&id).unwrap();
    assert_eq!(state.reverse_path, "tim@example.org");
    assert!(state.recipients.iter().all(|recipient| recipient.status == Status::Pending));
    let content = io::read_to_string(spool.content(&id).unwrap()).unwrap();
    assert_eq!(content, "Received: by here\r\nSubject: x\r\n\r\nBody\r\n");
    assert!(names(directory.path().join("incoming")).is_empty());
}

#[test]
fn a_crash_while_receiving_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let mut incoming = Spool::begin(&spool, envelope()).unwrap();
    incoming.write(&[b'x'; 100_000]).unwrap();
    let copy = crash(&spool);
    assert_eq!(names(copy.path().join("incoming")).len(), 1);
    let after = open(copy.path());
    assert!(after.states().unwrap().is_empty());
    assert!(names(copy.path().join("incoming")).is_empty());
    drop(incoming);
    assert!(names(directory.path().join("incoming")).is_empty());
    assert!(names(directory.path().join("queue")).is_empty());
}

/// Every state that the directory goes through between "nothing" and "acknowledged", in the order of the system
/// calls of `commit`, and what the next start makes of it.
#[test]
fn a_crash_while_committing_leaves_all_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let id = deliver(&spool);
    let (content, state) = (format!("{id}.eml"), format!("{id}.json"));
    let steps: [(&[&str], &[&str], bool); 5] = [
        (&[&content], &[], false),
        (&[], &[&content], false),
        (&[&state], &[&content], false),
        (&[], &[&content, &state], true),
        // The update of a state: the earlier one stands.
        (&[&state], &[&content, &state], true),
    ];
    for (incoming, queue, survives) in steps {
        let copy = tempfile::tempdir().unwrap();
        for (part, names) in [("incoming", incoming), ("queue", queue)] {
            std::fs::create_dir(copy.path().join(part)).unwrap();
            for name in names {
                std::fs::copy(spool.directory.join("queue").join(name), copy.path().join(part).join(name)).unwrap();
            }
        }
        // A crash may leave the file being written with any part of its content.
        for name in incoming {
            let path = copy.path().join("incoming").join(name);
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        }
        let after = open(copy.path());
        assert_eq!(after.states().unwrap().len(), usize::from(survives), "{incoming:?} {queue:?}");
        assert!(names(copy.path().join("incoming")).is_empty());
        if survives {
            assert_eq!(after.load(&id).unwrap(), spool.load(&id).unwrap());
            after.content(&id).unwrap();
        } else {
            assert!(names(copy.path().join("queue")).is_empty());
        }
    }
}

#[test]
fn a_crash_while_removing_leaves_nothing_to_deliver() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let id = deliver(&spool);
    let copy = crash(&spool);
    std::fs::remove_file(copy.path().join("queue").join(format!("{id}.json"))).unwrap();
    assert!(open(copy.path()).states().unwrap().is_empty());
    assert!(names(copy.path().join("queue")).is_empty());
    spool.forget(&id).unwrap();
    spool.remove(&[id]).unwrap();
    assert!(names(directory.path().join("queue")).is_empty());
}

#[test]
fn a_recorded_delivery_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let id = deliver(&spool);
    let mut state = spool.load(&id).unwrap();
    state.recipients[0].status = Status::Delivered;
    state.recipients[1].last = Some(Answer {
        status: "4.2.1".to_owned(),
        remote_mta: Some("mx.example".to_owned()),
        text: "450 4.2.1 try again".to_owned(),
        is_reply: true,
        at: Timestamp::now(),
    });
    state.attempts = 1;
    spool.save(&state).unwrap();
    assert_eq!(open(crash(&spool).path()).load(&id).unwrap(), state);
    assert!(!state.is_finished());
}

#[test]
fn a_damaged_state_is_set_aside_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let (bad, good, lost) = (deliver(&spool), deliver(&spool), deliver(&spool));
    std::fs::write(spool.queued(&bad, "json"), b"{").unwrap();
    std::fs::remove_file(spool.queued(&lost, "eml")).unwrap();
    let messages: Vec<_> = spool.states().unwrap().into_iter().map(|state| state.id).collect();
    assert_eq!(messages, [good]);
    let mut expected = vec![format!("{bad}.eml"), format!("{bad}.json"), format!("{lost}.json")];
    expected.sort();
    assert_eq!(names(directory.path().join("damaged")), expected);
}

/// A full disk, on which nothing can be written anew: there is no directory for it.
fn fill_disk(spool: &Spool) {
    std::fs::remove_dir(spool.directory.join("incoming")).unwrap();
}

#[test]
fn without_room_a_delivery_is_recorded_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let id = deliver(&spool);
    fill_disk(&spool);
    let mut state = spool.load(&id).unwrap();
    let last = Answer::own_words("2.0.0", &"taken ".repeat(100));
    state.recipients[0] = Recipient { status: Status::Delivered, last: Some(last), ..state.recipients[0].clone() };
    state.attempts = u32::MAX;
    spool.save(&state).unwrap();
    let statuses = |state: State| state.recipients.iter().map(|recipient| recipient.status).collect::<Vec<_>>();
    assert_eq!(statuses(spool.load(&id).unwrap()), [Status::Delivered, Status::Pending]);
    std::fs::create_dir(directory.path().join("incoming")).unwrap();
    assert_eq!(statuses(open(crash(&spool).path()).load(&id).unwrap()), [Status::Delivered, Status::Pending]);
    // No room is needed for that.
    spool.forget(&id).unwrap();
    spool.remove(&[id]).unwrap();
    assert!(names(directory.path().join("queue")).is_empty());
}

#[test]
fn a_state_half_written_is_put_away_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let (torn, good) = (deliver(&spool), deliver(&spool));
    let path = spool.queued(&torn, "json");
    let mut content = std::fs::read(&path).unwrap();
    let half = content.len() / 2;
    content[half..].fill(0);
    std::fs::write(&path, content).unwrap();
    assert!(spool.states().unwrap().iter().map(|state| &state.id).eq([&good]));
    assert_eq!(names(directory.path().join("damaged")), [format!("{torn}.eml"), format!("{torn}.json")]);
}

#[test]
fn accepting_waits_for_the_disk_once_and_so_does_removing() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let syncs = || durable::SYNCS.with(std::cell::Cell::take);
    syncs();
    let ids: Vec<_> = (0..3).map(|_| deliver(&spool)).collect();
    assert_eq!(syncs(), 3, "the files are waited for by other threads meanwhile");
    ids.iter().for_each(|id| spool.forget(id).unwrap());
    assert_eq!(syncs(), 0);
    spool.remove(&ids).unwrap();
    assert_eq!(syncs(), 1, "for all of them");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let id = deliver(&spool);
    drop(spool);
    for (part, name) in [("queue", "a.json"), ("queue", "b.eml"), ("incoming", "lostfound")] {
        std::fs::create_dir(directory.path().join(part).join(name)).unwrap();
    }
    for (name, target) in [("c.json", "/etc/passwd"), ("d.eml", "/nonexistent"), ("e.json", "e.json")] {
        std::os::unix::fs::symlink(target, directory.path().join("queue").join(name)).unwrap();
    }
    let pipe = directory.path().join("queue/f.json");
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    let spool = open(directory.path());
    assert!(spool.states().unwrap().iter().map(|state| &state.id).eq([&id]));
    assert!(!directory.path().join("damaged").exists());
    assert_eq!(names(directory.path().join("queue")).len(), 8, "left alone");
}

#[test]
fn two_processes_do_not_share_a_spool() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    assert_eq!(Spool::open(directory.path()).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    drop(spool);
    open(directory.path());
}

#[test]
fn arrivals_are_announced_once_they_are_durable() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let (sender, receiver) = std::sync::mpsc::channel();
    spool.subscribe(move |id| sender.send(id).unwrap());
    let id = deliver(&spool);
    assert_eq!(receiver.try_recv().unwrap(), id);
    assert!(spool.contains(&id).unwrap());
}

#[test]
fn content_that_cannot_be_read_after_a_power_failure_stops_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let (bad, good) = (deliver(&spool), deliver(&spool));
    let path = spool.queued(&bad, "eml");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    drop(spool);
    std::fs::write(directory.path().join("lock"), "another start\n").unwrap();
    let ids: Vec<_> = open(directory.path()).states().unwrap().into_iter().map(|state| state.id).collect();
    assert_eq!(ids, [bad, good]);
}

#[test]
fn after_a_power_failure_half_a_message_is_set_aside_and_whole_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let (half, whole, tried) = (deliver(&spool), deliver(&spool), deliver(&spool));
    let content = std::fs::read(spool.queued(&half, "eml")).unwrap();
    for id in [&half, &tried] {
        std::fs::write(spool.queued(id, "eml"), vec![0; content.len()]).unwrap();
    }
    spool.save(&State { attempts: 1, ..spool.load(&tried).unwrap() }).unwrap();
    drop(spool);
    let ids = |spool: &Spool| spool.states().unwrap().into_iter().map(|state| state.id).collect::<Vec<_>>();
    if cfg!(target_os = "linux") {
        // Without one, what the system was given is there.
        assert_eq!(ids(&open(directory.path())), [half.clone(), whole.clone(), tried.clone()]);
    }
    std::fs::write(directory.path().join("lock"), "another start\n").unwrap();
    // What was tried had been acknowledged; whatever happened to it since is not for us to judge.
    assert_eq!(ids(&open(directory.path())), [whole.clone(), tried.clone()]);
    assert_eq!(names(directory.path().join("damaged")), [format!("{half}.eml"), format!("{half}.json")]);
    assert_eq!(ids(&open(directory.path())), [whole, tried]);
}
