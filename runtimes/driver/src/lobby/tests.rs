use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::ThreadId;
use std::time::Instant;

use sansmtp::Peer;

use super::*;
use crate::limits::Limits;
use crate::out::Out;
use crate::time::after;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);
/// For what is to happen.
const SOON: Duration = Duration::from_secs(30);
/// For what is not to happen.
const MOMENT: Duration = Duration::from_millis(20);

/// A guest that does in its turns what a test has it do.
struct Puppet {
    socket: Socket,
    act: Box<Acts>,
    is_cut_off: Sender<()>,
}

type Acts = dyn FnMut(&mut Socket, News) -> Act + Send;

enum Act {
    Wait(WaitFor, Option<Instant>),
    /// Does this, for which it has so long.
    Block(Box<dyn FnOnce() + Send>, Duration),
    End,
}

impl Guest for Puppet {
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token)
    }

    fn go_on(mut self, turn: &Turn<'_, Self>, mut news: News) {
        loop {
            self.socket.notice(news);
            let left = match (self.act)(&mut self.socket, news) {
                Act::End => return,
                Act::Wait(wait, until) => turn.leave(self, wait, until),
                Act::Block(work, limit) => {
                    assert!(turn.may_block());
                    let left = turn.leave(self, WaitFor::Thread, Some(after(limit)));
                    work();
                    match turn.come_back() {
                        Some(guest) => Left::GoesOn(guest, News::default()),
                        None => left,
                    }
                }
            };
            match left {
                Left::GoesOn(guest, more) => (self, news) = (guest, more),
                Left::Over(guest) => return guest.cut_off(),
                Left::Waits => return,
            }
        }
    }

    fn cut_off(self) {
        self.is_cut_off.send(()).unwrap();
        self.socket.reset();
    }
}

fn lobby(max_brief: usize, patience: Duration) -> Lobby<Puppet> {
    Lobby::with_bench("lobby", 128 * 1024, Bench::new(max_brief, patience).unwrap()).unwrap()
}

fn connected() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client.set_nodelay(true).unwrap();
    let entrance = Entrance::new(listener.into()).unwrap();
    loop {
        match entrance.accept() {
            Ok((socket, _)) => return (socket, client),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

/// Lets a guest in. Its client, and what hears of its being cut off.
fn let_in(
    lobby: &Lobby<Puppet>,
    act: impl FnMut(&mut Socket, News) -> Act + Send + 'static,
) -> (TcpStream, Receiver<()>) {
    let (socket, client) = connected();
    let (is_cut_off, cut_off) = mpsc::channel();
    lobby.let_in(None, Puppet { socket, act: Box::new(act), is_cut_off }).unwrap();
    (client, cut_off)
}

/// Lets in one that says what has happened to it, and waits for its socket.
fn let_in_reporter(lobby: &Lobby<Puppet>) -> (TcpStream, Receiver<News>) {
    let (says, said) = mpsc::channel();
    let (client, _) = let_in(lobby, move |_, news| {
        says.send(news).unwrap();
        Act::Wait(WaitFor::Socket, None)
    });
    // It is ready to write.
    assert_eq!(said.recv_timeout(SOON).unwrap(), News::default());
    (client, said)
}

fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < SOON);
        thread::yield_now();
    }
}

/// Waits until somebody says so, or has gone.
fn wait_for(told: &Receiver<()>) {
    let _ = told.recv();
}

/// Closes the lobby, after which no thread is left.
fn close(lobby: Lobby<Puppet>) {
    lobby.close();
    wait_until(|| Arc::strong_count(&lobby.0) == 1);
}

thread_local! {
    /// Heard of when the thread ends.
    static ENDS: RefCell<Option<Sender<()>>> = const { RefCell::new(None) };
}

#[test]
fn who_waits_goes_on_when_something_comes() {
    let lobby = lobby(1, LONG);
    let (mut client, said) = let_in_reporter(&lobby);
    assert_eq!(said.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
    client.write_all(b"x").unwrap();
    assert_eq!(said.recv_timeout(SOON).unwrap(), News { is_readable: true, ..News::default() });
    drop(client);
    let news = said.recv_timeout(SOON).unwrap();
    assert!(news.is_readable && news.is_last && !news.is_late, "{news:?}");
    close(lobby);
}

#[test]
fn what_comes_while_a_guest_is_served_is_not_lost() {
    let lobby = lobby(2, LONG);
    let (mut watched, watched_said) = let_in_reporter(&lobby);
    let ((says, said), (told, hears)) = (mpsc::channel(), mpsc::channel::<()>());
    let hears = Mutex::new(hears);
    let (mut client, _) = let_in(&lobby, move |_, news| {
        says.send(news).unwrap();
        wait_for(&lock(&hears));
        Act::Wait(WaitFor::Socket, None)
    });
    said.recv_timeout(SOON).unwrap();
    client.write_all(b"x").unwrap();
    // Seen after that.
    watched.write_all(b"x").unwrap();
    assert!(watched_said.recv_timeout(SOON).unwrap().is_readable);
    told.send(()).unwrap();
    assert!(said.recv_timeout(SOON).unwrap().is_readable);
    drop(told);
    close(lobby);
}

#[test]
fn an_alarm_is_heard_by_who_watches_already() {
    let lobby = lobby(2, LONG);
    let (mut watched, watched_said) = let_in_reporter(&lobby);
    let ((says, said), (told, hears)) = (mpsc::channel(), mpsc::channel::<()>());
    let hears = Mutex::new(hears);
    let (_client, _) = let_in(&lobby, move |_, _| {
        says.send(()).unwrap();
        wait_for(&lock(&hears));
        Act::Wait(WaitFor::Socket, Some(after(MOMENT)))
    });
    said.recv_timeout(SOON).unwrap();
    watched.write_all(b"x").unwrap();
    assert!(watched_said.recv_timeout(SOON).unwrap().is_readable);
    // Whoever has served that is about to watch, or does it already.
    assert_eq!(watched_said.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
    told.send(()).unwrap();
    said.recv_timeout(SOON).unwrap();
    drop(told);
    close(lobby);
}

#[test]
fn who_waits_for_nothing_but_time_is_not_disturbed() {
    let lobby = lobby(1, LONG);
    let (says, said) = mpsc::channel();
    let (mut client, _) = let_in(&lobby, move |_, news| {
        says.send(news).unwrap();
        Act::Wait(WaitFor::Time, Some(after(LONG)))
    });
    said.recv_timeout(SOON).unwrap();
    client.write_all(b"x").unwrap();
    lobby.rouse();
    assert_eq!(said.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
    close(lobby);
}

#[test]
fn who_has_gone_has_left_no_alarm() {
    let lobby = lobby(1, LONG);
    let (mut client, _) =
        let_in(
            &lobby,
            |socket, _| {
                if socket.may_read() { Act::End } else { Act::Wait(WaitFor::Socket, Some(after(LONG))) }
            },
        );
    wait_until(|| lobby.bench().next_alarm().is_some());
    client.write_all(b"x").unwrap();
    wait_until(|| lobby.bench().next_alarm().is_none());
    wait_until(|| lobby.seats().taken.is_empty());
    close(lobby);
}

#[test]
fn a_wait_ends_in_time() {
    let lobby = lobby(1, LONG);
    let ((says, said), (told, hears)) = (mpsc::channel(), mpsc::channel::<()>());
    let hears = Mutex::new(hears);
    let mut waits =
        [(WaitFor::Time, Some(MOMENT)), (WaitFor::Socket, Some(MOMENT)), (WaitFor::Socket, None)].into_iter();
    let (mut client, _) = let_in(&lobby, move |_, news| {
        says.send(news).unwrap();
        wait_for(&lock(&hears));
        waits.next().map_or(Act::End, |(wait, time)| Act::Wait(wait, time.map(after)))
    });
    assert_eq!(said.recv_timeout(SOON).unwrap(), News::default());
    // What comes while nothing is waited for is kept until the time is over.
    client.write_all(b"x").unwrap();
    drop(told);
    assert_eq!(said.recv_timeout(SOON).unwrap(), News { is_readable: true, ..News::default() });
    assert_eq!(said.recv_timeout(SOON).unwrap(), News::default());
    // An alarm that was set for an earlier wait does no harm.
    assert_eq!(said.recv_timeout(2 * MOMENT), Err(RecvTimeoutError::Timeout));
    close(lobby);
}

#[test]
fn an_earlier_alarm_replaces_a_later_one() {
    let lobby = lobby(1, LONG);
    let (says, said) = mpsc::channel();
    let mut limits = [LONG, MOMENT].into_iter();
    let (mut client, _) = let_in(&lobby, move |_, news| {
        says.send(news).unwrap();
        limits.next().map_or(Act::End, |limit| Act::Wait(WaitFor::Socket, Some(after(limit))))
    });
    said.recv_timeout(SOON).unwrap();
    client.write_all(b"x").unwrap();
    assert!(said.recv_timeout(SOON).unwrap().is_readable);
    assert!(!said.recv_timeout(SOON).unwrap().is_readable);
    assert_eq!(said.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
    close(lobby);
}

#[test]
fn who_is_not_back_in_time_has_lost_the_guest() {
    let lobby = lobby(1, LONG);
    let ((says, said), (told, hears)) = (mpsc::channel(), mpsc::channel::<()>());
    let mut hears = Some(hears);
    let act = move |_: &mut Socket, news: News| {
        says.send((news.is_late, thread::current().id())).unwrap();
        match hears.take() {
            Some(hears) => Act::Block(Box::new(move || wait_for(&hears)), MOMENT),
            None => Act::End,
        }
    };
    let mut limits = Limits::default();
    limits.max_connections = 1;
    let place = limits.admit(Peer::local(), || false).unwrap();
    let (socket, mut client) = connected();
    lobby.let_in(Some(place), Puppet { socket, act: Box::new(act), is_cut_off: mpsc::channel().0 }).unwrap();
    let [(is_late, first), (is_late_then, second)] = [(); 2].map(|()| said.recv_timeout(SOON).unwrap());
    assert_eq!((is_late, is_late_then), (false, true));
    assert_ne!(first, second);
    // The connection is closed, and its place is not free before the thread is back.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(limits.admit(Peer::local(), || false).is_err());
    told.send(()).unwrap();
    wait_until(|| limits.admit(Peer::local(), || false).is_ok());
    close(lobby);
}

#[test]
fn who_is_back_in_time_goes_on() {
    let lobby = lobby(1, LONG);
    let (says, said) = mpsc::channel();
    let mut blocks = 3;
    let (_client, _) = let_in(&lobby, move |_, news| {
        says.send((news.is_late, thread::current().id())).unwrap();
        blocks -= 1;
        if blocks == 0 { Act::End } else { Act::Block(Box::new(|| ()), LONG) }
    });
    let heard: HashSet<_> = said.iter().collect();
    assert!(heard.iter().map(|(is_late, _)| *is_late).eq([false]), "{heard:?}");
    close(lobby);
}

#[test]
fn who_could_go_on_for_ever_takes_turns() {
    for max_brief in [1, 2] {
        let lobby = lobby(max_brief, LONG);
        let (mut client, said) = let_in_reporter(&lobby);
        let (says, order) = mpsc::channel();
        let (mut clients, mut lead) = (Vec::new(), None);
        // The last of them has something happen to a guest that waits for its socket.
        for name in 0..3 {
            let says = says.clone();
            let mut wakes = (name == 2).then(|| client.try_clone().unwrap());
            let mut turns = 0;
            let act = move |_: &mut Socket, _| {
                turns += 1;
                says.send(name).unwrap();
                if let Some(mut client) = wakes.take_if(|_| turns == 100) {
                    client.write_all(b"x").unwrap();
                }
                if turns == 10_000 { Act::End } else { Act::Wait(WaitFor::Turn, None) }
            };
            clients.push(let_in(&lobby, act).0);
        }
        drop(says);
        let mut counts = [0_usize; 3];
        for name in order {
            counts[name] += 1;
            // They take turns as soon as all are there.
            let ahead = counts.iter().max().unwrap() - counts.iter().min().unwrap();
            if max_brief == 1 && counts.iter().all(|count| (1_000..9_000).contains(count)) {
                assert!(lead.get_or_insert(ahead).abs_diff(ahead) <= 1, "{counts:?}");
            }
            // Who was woken does not wait for their end.
            if (name, counts[2]) == (2, 9_000) {
                assert!(said.try_recv().is_ok(), "{counts:?}");
            }
        }
        assert_eq!(counts, [10_000; 3]);
        client.write_all(b"x").unwrap();
        assert!(said.recv_timeout(SOON).unwrap().is_readable);
        close(lobby);
    }
}

#[test]
fn threads_that_block_are_in_nobodys_way() {
    let lobby = lobby(1, LONG);
    // Those of the first round wait when the second begins.
    for _ in 0..2 {
        let (says, said) = mpsc::channel();
        let mut told = Vec::new();
        for _ in 0..5 {
            let (says, (tells, hears)) = (says.clone(), mpsc::channel::<()>());
            let mut hears = Some(hears);
            let (client, _) = let_in(&lobby, move |_, _| {
                let Some(hears) = hears.take() else { return Act::End };
                says.send(()).unwrap();
                Act::Block(Box::new(move || wait_for(&hears)), LONG)
            });
            said.recv_timeout(SOON).unwrap();
            told.push((tells, client));
        }
        for (tells, mut client) in told {
            tells.send(()).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    }
    close(lobby);
}

#[test]
fn no_more_threads_are_busy_than_may_be() {
    let lobby = lobby(2, LONG);
    let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
            let mut turns = 0;
            let act = move |_: &mut Socket, _| {
                turns += 1;
                match turns {
                    100 => return Act::End,
                    // It has said that it may block, and counts as such.
                    turns if turns % 2 == 0 => return Act::Wait(WaitFor::Time, Some(Instant::now())),
                    _ => {}
                }
                most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                busy.fetch_sub(1, Ordering::SeqCst);
                Act::Block(Box::new(thread::yield_now), LONG)
            };
            let_in(&lobby, act).0
        })
        .collect();
    for mut client in clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    close(lobby);
}

#[test]
fn who_does_not_block_needs_no_other_thread() {
    let lobby = lobby(1, LONG);
    let (says, said) = mpsc::channel();
    let clients = [(); 20].map(|()| {
        let says = says.clone();
        let act = move |socket: &mut Socket, _| {
            says.send(thread::current().id()).unwrap();
            if socket.may_read() { Act::End } else { Act::Wait(WaitFor::Socket, None) }
        };
        let_in(&lobby, act).0
    });
    drop(says);
    clients.iter().for_each(|mut client| client.write_all(b"x").unwrap());
    assert_eq!(said.iter().collect::<HashSet<ThreadId>>().len(), 1);
    close(lobby);
}

#[test]
fn threads_that_are_too_many_end() {
    let lobby = lobby(1, MOMENT);
    let ((says, said), (ends, ended)) = (mpsc::channel(), mpsc::channel());
    let told: Vec<_> = (0..4)
        .map(|_| {
            let (says, ends, (tells, hears)) = (says.clone(), ends.clone(), mpsc::channel::<()>());
            let mut hears = Some(hears);
            let (client, _) = let_in(&lobby, move |_, _| {
                let Some(hears) = hears.take() else { return Act::End };
                ENDS.set(Some(ends.clone()));
                says.send(()).unwrap();
                Act::Block(Box::new(move || wait_for(&hears)), LONG)
            });
            said.recv_timeout(SOON).unwrap();
            (tells, client)
        })
        .collect();
    wait_until(|| Arc::strong_count(&lobby.0) == 1 + 5);
    drop(told);
    // One watches, and one waits for it to have something to do.
    wait_until(|| Arc::strong_count(&lobby.0) == 1 + 2);
    drop(ends);
    let (mut client, said) = let_in_reporter(&lobby);
    client.write_all(b"x").unwrap();
    assert!(said.recv_timeout(SOON).unwrap().is_readable);
    close(lobby);
    assert_eq!(ended.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_panic_ends_a_turn_and_nothing_else() {
    let lobby = lobby(1, LONG);
    let (mut client, _) = let_in(&lobby, |_, _| panic!("as asked"));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    wait_until(|| lobby.seats().taken.is_empty());
    let_in_reporter(&lobby);
    assert_eq!(Arc::strong_count(&lobby.0), 1 + 1);
    close(lobby);
}

#[test]
fn the_roused_go_on() {
    let lobby = lobby(1, LONG);
    let guests = [(); 10].map(|()| let_in_reporter(&lobby));
    lobby.rouse();
    for (_client, said) in &guests {
        assert_eq!(said.recv_timeout(SOON).unwrap(), News::default());
    }
    close(lobby);
}

#[test]
fn all_are_cut_off() {
    let lobby = lobby(1, LONG);
    let (mut waiting, cut_off) = let_in(&lobby, |_, _| Act::Wait(WaitFor::Socket, None));
    let ((says, said), (told, hears)) = (mpsc::channel(), mpsc::channel::<()>());
    let mut hears = Some(hears);
    let (mut blocked, cut_off_too) = let_in(&lobby, move |_, _| {
        says.send(()).unwrap();
        let hears = hears.take().unwrap();
        Act::Block(Box::new(move || wait_for(&hears)), LONG)
    });
    let ((says, said_too), (told_too, hears)) = (mpsc::channel(), mpsc::channel::<()>());
    let hears = Mutex::new(hears);
    said.recv_timeout(SOON).unwrap();
    let (mut busy, cut_off_when_it_waits) = let_in(&lobby, move |_, _| {
        says.send(()).unwrap();
        lock(&hears).recv().unwrap();
        Act::Wait(WaitFor::Socket, None)
    });
    said_too.recv_timeout(SOON).unwrap();
    lobby.cut_off();
    for (client, cut_off) in [(&mut waiting, cut_off), (&mut blocked, cut_off_too)] {
        cut_off.recv_timeout(SOON).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    assert_eq!(cut_off_when_it_waits.try_recv(), Err(mpsc::TryRecvError::Empty));
    told_too.send(()).unwrap();
    cut_off_when_it_waits.recv_timeout(SOON).unwrap();
    assert_eq!(busy.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    told.send(()).unwrap();
    // Who comes too late is cut off, too.
    let (mut late, cut_off) = let_in(&lobby, |_, _| Act::End);
    cut_off.try_recv().unwrap();
    assert_eq!(late.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    close(lobby);
}

#[test]
fn the_end_is_read_that_was_seen_with_what_came_before_it() {
    let (mut socket, mut client) = connected();
    client.write_all(b"ab").unwrap();
    drop(client);
    socket.notice(News { is_readable: true, is_last: true, is_late: false });
    let mut room = [0; 8];
    assert_eq!(socket.read(&mut room).unwrap(), 2);
    assert!(socket.may_read());
    assert_eq!(socket.read(&mut room).unwrap(), 0);
}

#[test]
fn what_is_read_to_its_end_is_not_tried_again() {
    let (mut socket, mut client) = connected();
    assert!(!socket.may_read());
    client.write_all(b"abc").unwrap();
    socket.notice(News { is_readable: true, ..News::default() });
    let mut room = [0; 2];
    assert_eq!(socket.read(&mut room).unwrap(), 2);
    assert!(socket.may_read(), "there may be more than the room was for");
    assert_eq!(socket.read(&mut room).unwrap(), 1);
    assert!(!socket.may_read() || !cfg!(target_os = "linux"));
    assert_eq!(socket.read(&mut room).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(!socket.may_read());
}

/// Says back what it hears, and blocks and pauses at every turn.
fn echo(socket: &mut Socket, out: &mut Out, turns: &mut usize) -> Act {
    *turns += 1;
    let mut room = [0; 16];
    while socket.may_read() {
        match socket.read(&mut room) {
            Ok(0) => return Act::End,
            Ok(octets) => out.append(room.get(..octets).unwrap()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    if *turns % 7 == 0 {
        return Act::Wait(WaitFor::Time, Some(after(Duration::from_micros(300))));
    }
    if *turns % 3 == 0 {
        return Act::Block(Box::new(thread::yield_now), LONG);
    }
    assert!(socket.write(out).unwrap(), "a few octets");
    // An alarm is no help where something else was missed.
    Act::Wait(WaitFor::Socket, (*turns % 2 == 0).then(|| after(LONG)))
}

#[test]
fn nothing_that_happens_is_lost() {
    for max_brief in [1, 2, 8] {
        let lobby = lobby(max_brief, MOMENT);
        thread::scope(|scope| {
            for seed in 0..16 {
                let (mut out, mut turns) = (Out::default(), seed);
                let (mut client, _) = let_in(&lobby, move |socket, _| echo(socket, &mut out, &mut turns));
                scope.spawn(move || {
                    let mut heard = [0; 40];
                    for round in 0..100 {
                        let said: Vec<u8> = (0..1 + (seed + round) % 40).map(|octet| octet.to_le_bytes()[0]).collect();
                        client.write_all(&said).unwrap();
                        let heard = heard.get_mut(..said.len()).unwrap();
                        client.read_exact(heard).unwrap();
                        assert_eq!(heard, said);
                    }
                });
            }
        });
        wait_until(|| lobby.seats().taken.is_empty());
        close(lobby);
    }
}
