//! Sockets on which threads wait until a point in time.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::conversation::{Conversation, LINGER};
use crate::early::Early;
use crate::out::{Out, is_nothing_yet};
use crate::sockets::Stream;
use crate::time::after;

/// A connection's socket, on which threads wait until a point in time.
///
/// One thread at a time uses it. Others may still be [waiting](Self::wait_readable), or [reading
/// early](Self::read_early), and any may [hang up](Self::hang_up).
#[derive(Debug)]
pub struct Timed {
    stream: Stream,
    reads: Timeout,
    writes: Timeout,
}

impl Timed {
    /// Waits on `stream`, which is to be a blocking one.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self { stream, reads: Timeout::default(), writes: Timeout::default() }
    }

    /// Has the waits that follow, by [`wait_readable`](Self::wait_readable) and by [`read`](Self::read), end at
    /// `until`, or sooner.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn set_read_deadline(&self, until: Instant) -> io::Result<()> {
        self.reads.fit(left(until), |timeout| self.stream.set_read_timeout(timeout))
    }

    /// Waits until there is something to read, if only that the peer has ended or is gone. `false` if the wait
    /// has ended before that.
    ///
    /// Reads nothing: a thread that comes back after the connection has gone on in another one has taken
    /// nothing from it.
    #[must_use]
    pub fn wait_readable(&self) -> bool {
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(_) => true,
            Err(error) => !is_nothing_yet(&error) && error.kind() != ErrorKind::Interrupted,
        }
    }

    /// Waits in the same way, and reads what has come in one go.
    ///
    /// It is lost if the connection has gone on in another thread meanwhile: right only where what comes then
    /// [is of no interest](Conversation::is_between_commands).
    #[must_use]
    pub fn read_early(&self, early: &mut Early) -> bool {
        early.fill(|room| self.read(room))
    }

    /// Reads what there is, or else what comes.
    ///
    /// # Errors
    ///
    /// `WouldBlock` or `TimedOut` if nothing has come in time; otherwise what the operating system says.
    pub fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        (&self.stream).read(room)
    }

    /// Writes all of `out` by `until`.
    ///
    /// # Errors
    ///
    /// `TimedOut` if the peer has not taken all of it by then; otherwise what the operating system says.
    pub fn write(&self, out: &mut Out, until: Instant) -> io::Result<()> {
        // A peer that reads a little now and then does not get more time by that.
        let time_left = || Some(left(until)).filter(|left| !left.is_zero()).ok_or(ErrorKind::TimedOut);
        let write = |octets: &[u8]| {
            self.writes.fit(time_left()?, |timeout| self.stream.set_write_timeout(timeout))?;
            (&self.stream).write(octets)
        };
        while !out.write(write)? {
            time_left()?;
        }
        Ok(())
    }

    /// Closes so that the last reply arrives: what the peer still says is thrown away, for up to [`LINGER`].
    ///
    /// # Errors
    ///
    /// What the operating system says if the peer has gone already.
    pub fn close(&self, conversation: &mut Conversation) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let until = after(LINGER);
        while Instant::now() < until {
            self.set_read_deadline(until)?;
            match conversation.discard(|room| self.read(room)) {
                Ok(1..) => {}
                Err(error) if is_nothing_yet(&error) => {}
                // How it ends is of no interest: all has been said.
                Ok(0) | Err(_) => break,
            }
        }
        Ok(())
    }

    /// Ends the connection at once, and wakes every thread that waits on it.
    pub fn hang_up(&self) {
        // Where it fails, the peer has gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// [Hangs up](Self::hang_up), and has the connection reset when the last thread has left it.
    ///
    /// A peer whose window was full would else not be told: what is read by a thread that is still there no
    /// longer opens the window, and leaves nothing unread that would become a reset.
    pub fn cut_off(&self) {
        // Where it fails, there is no TCP to wait for.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        self.hang_up();
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// What a socket's timeout for reads, or for writes, is set to, in milliseconds. Zero is none.
///
/// A wait gets the largest power of two that fits, or what is set if that is not much less, so that a socket
/// seldom has to be told; who wakes early waits again.
#[derive(Debug, Default)]
struct Timeout(AtomicU32);

impl Timeout {
    fn fit(&self, left: Duration, set: impl FnOnce(Option<Duration>) -> io::Result<()>) -> io::Result<()> {
        let fitting: u32 = 1 << left.as_millis().checked_ilog2().unwrap_or(0).min(MAX_TIMEOUT_LOG2);
        let least = (fitting >> SLACK_LOG2).max(1);
        // One thread at a time gets here, and what hands the connection on orders them.
        if !(least..=fitting).contains(&self.0.load(Ordering::Relaxed)) {
            set(Some(Duration::from_millis(fitting.into())))?;
            self.0.store(fitting, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Twelve days, in milliseconds.
const MAX_TIMEOUT_LOG2: u32 = 30;

/// A message's content and the commands around it may have different times: those of one message do not change
/// the timeout to and fro.
const SLACK_LOG2: u32 = 3;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::thread;

    use sansmtp::{Config, Connection, Peer};

    use super::*;
    use crate::engine::{Security, Tls};

    const MOMENT: Duration = Duration::from_millis(5);
    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(600);

    fn connected() -> (Timed, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Timed::new(listener.accept().unwrap().0.into()), peer)
    }

    #[test]
    fn reads_end_at_their_deadline() {
        let (stream, mut peer) = connected();
        stream.set_read_deadline(after(MOMENT)).unwrap();
        assert!(!stream.wait_readable());
        assert!(is_nothing_yet(&stream.read(&mut [0; 8]).unwrap_err()));
        // One that has passed is no wait without end.
        stream.set_read_deadline(Instant::now()).unwrap();
        assert!(!stream.wait_readable());

        stream.set_read_deadline(after(LONG)).unwrap();
        peer.write_all(b"ab").unwrap();
        assert!(stream.wait_readable());
        let mut room = [0; 8];
        assert_eq!(stream.read(&mut room).unwrap(), 2);
        drop(peer);
        assert!(stream.wait_readable());
        assert_eq!(stream.read(&mut room).unwrap(), 0);
    }

    #[test]
    fn one_wait_reads_too() {
        let (stream, mut peer) = connected();
        let (mut early, mut room) = (Early::default(), [0; 64 * 1024]);
        stream.set_read_deadline(after(MOMENT)).unwrap();
        assert!(!stream.read_early(&mut early));
        stream.set_read_deadline(after(LONG)).unwrap();
        peer.write_all(b"NOOP\r\n").unwrap();
        assert!(stream.read_early(&mut early));
        assert_eq!(early.take(&mut room).unwrap().unwrap(), 6);
        // More than it has room for is there afterwards.
        peer.write_all(&[b'x'; 10_000]).unwrap();
        drop(peer);
        let mut octets = 0;
        while stream.read_early(&mut early) {
            match early.take(&mut room).unwrap().unwrap() {
                0 => break,
                more => octets += more,
            }
        }
        assert_eq!(octets, 10_000);
    }

    #[test]
    fn a_socket_is_told_only_of_what_changes() {
        let (timeout, mut told) = (Timeout::default(), Vec::new());
        for wait in [600, 300, 600, 299, 70, 35, 200, 300, 3, 300, 300] {
            let set = |timeout: Option<Duration>| {
                told.push(timeout.unwrap().as_millis());
                Ok(())
            };
            timeout.fit(Duration::from_secs(wait), set).unwrap();
        }
        assert_eq!(told, [1 << 19, 1 << 18, 1 << 16, 1 << 15, 1 << 11, 1 << 18]);
        // What it was not told is told the next time.
        let failed = timeout.fit(MOMENT, |_| Err(ErrorKind::InvalidInput.into()));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::InvalidInput);
        timeout.fit(MOMENT, |_| Err(ErrorKind::Other.into())).unwrap_err();
    }

    #[test]
    fn a_peer_that_reads_nothing_is_not_written_to_for_ever() {
        let (stream, _peer) = connected();
        let mut out = Out::default();
        // More than the buffers of both ends have room for.
        out.append(&vec![b'x'; 64 * 1024 * 1024]);
        assert_eq!(stream.write(&mut out, after(MOMENT)).unwrap_err().kind(), ErrorKind::TimedOut);
        out.clear();
        // Nor is it, however ready the socket may be, when its time is up.
        let (stream, _peer) = connected();
        out.append(b"x");
        assert_eq!(stream.write(&mut out, Instant::now()).unwrap_err().kind(), ErrorKind::TimedOut);
        stream.write(&mut out, after(LONG)).unwrap();
    }

    #[test]
    fn who_closes_hears_the_peer_out() {
        let (stream, mut peer) = connected();
        let config = Config::builder("mx.example.org").build().unwrap();
        let engine = Tls::default().engine(Connection::new(config, Peer::local()), Security::Clear).unwrap();
        let mut conversation = Conversation::new(engine, Arc::default(), Arc::default(), None);
        let mut out = Out::default();
        out.append(b"221 2.0.0 Bye\r\n");
        stream.write(&mut out, after(LONG)).unwrap();
        peer.write_all(b"NOOP\r\n").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| stream.close(&mut conversation).unwrap());
            let mut heard = String::new();
            peer.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "221 2.0.0 Bye\r\n");
            peer.write_all(b"NOOP\r\n").unwrap();
            drop(peer);
        });
    }

    #[test]
    fn who_hangs_up_wakes_who_waits() {
        let (stream, _peer) = connected();
        stream.set_read_deadline(after(LONG)).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| stream.wait_readable());
            stream.hang_up();
            assert!(waiting.join().unwrap());
        });
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn who_is_cut_off_is_reset() {
        let (stream, peer) = connected();
        stream.cut_off();
        // Nothing is unread, which would be another reason.
        drop(stream);
        let begun = Instant::now();
        while peer.take_error().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
    }
}
