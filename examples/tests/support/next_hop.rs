//! An SMTP server that takes what the relayer sends it, as slowly and as badly as a test wants.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::PATIENCE;

/// A next hop on loopback. It serves until the test ends.
#[derive(Clone)]
pub(crate) struct NextHop {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// A message for which the next hop has taken responsibility.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mail {
    pub(crate) reverse_path: String,
    pub(crate) recipients: Vec<String>,
    /// Without transparency dots.
    pub(crate) content: Vec<u8>,
    /// The number of the session that it came in.
    pub(crate) session: usize,
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    script: Box<Script>,
}

#[derive(Default)]
struct Seen {
    sessions: usize,
    /// Those that have ended with QUIT.
    ended: HashSet<usize>,
    mails: Vec<Mail>,
}

/// Answers a command, or "." at the end of mail data, where the usual reply will not do.
type Script = dyn Fn(&str) -> Option<&'static str> + Send + Sync;

impl NextHop {
    /// A next hop that takes everything.
    pub(crate) fn start() -> Self {
        Self::with_script(|_| None)
    }

    /// A next hop that answers as `script` says. A script that waits keeps its session waiting.
    pub(crate) fn with_script(script: impl Fn(&str) -> Option<&'static str> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let shared = Arc::new(Shared { seen: Mutex::default(), changed: Condvar::new(), script: Box::new(script) });
        let hop = Self { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                shared.note(|seen| seen.sessions += 1);
                let number = shared.lock().sessions;
                // A client that hangs up ends its session, and is no failure of the test.
                std::thread::spawn(move || shared.session(number, stream));
            }
        });
        hop
    }

    /// What `--relay` is given.
    pub(crate) fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Waits until the mails that have arrived are as described, and returns them.
    pub(crate) fn wait(&self, condition: impl Fn(&[Mail]) -> bool) -> Vec<Mail> {
        let (seen, timeout) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), PATIENCE, |seen| !condition(&seen.mails))
            .unwrap_or_else(PoisonError::into_inner);
        let mails = seen.mails.clone();
        drop(seen);
        assert!(!timeout.timed_out(), "waited in vain; {} mails have arrived", mails.len());
        mails
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.shared.lock().mails.clone()
    }

    /// Whether the session with this number has ended with QUIT.
    pub(crate) fn has_ended(&self, session: usize) -> bool {
        self.shared.lock().ended.contains(&session)
    }

    /// How many sessions there have been.
    pub(crate) fn sessions(&self) -> usize {
        self.shared.lock().sessions
    }
}

impl Shared {
    fn session(&self, number: usize, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut stream = BufReader::new(stream);
        let mut mail = Mail { session: number, ..Mail::default() };
        stream.get_mut().write_all(b"220 next.hop ESMTP\r\n")?;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            let reply = (self.script)(line).unwrap_or(match line.split(' ').next().unwrap_or_default() {
                "EHLO" => "250-next.hop\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES",
                "DATA" => "354 go on",
                "QUIT" => "221 2.0.0 bye",
                _ => "250 2.0.0 OK",
            });
            if reply.starts_with("250") {
                if let Some(path) = path_of(line, "MAIL FROM:<") {
                    mail = Mail { reverse_path: path, session: number, ..Mail::default() };
                } else if let Some(path) = path_of(line, "RCPT TO:<") {
                    mail.recipients.push(path);
                }
            }
            if line == "QUIT" {
                self.note(|seen| _ = seen.ended.insert(number));
            }
            say(&mut stream, reply)?;
            if reply.starts_with("354") {
                mail.content = mail_data(&mut stream)?;
                let reply = (self.script)(".").unwrap_or("250 2.0.0 OK");
                if reply.starts_with("250") {
                    // Whether or not the client still hears it.
                    let mail = std::mem::take(&mut mail);
                    self.note(|seen| seen.mails.push(mail));
                }
                say(&mut stream, reply)?;
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a script waits until the test lets it go on.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    waiting: usize,
    open: bool,
}

impl Gate {
    /// Waits until the gate is open.
    pub(crate) fn pass(&self) {
        self.change(|state| state.waiting += 1);
        self.until(|state| state.open);
    }

    /// Waits until `count` have come to the gate.
    pub(crate) fn await_visitors(&self, count: usize) {
        self.until(|state| state.waiting >= count);
    }

    /// Lets everyone pass, from now on.
    pub(crate) fn open(&self) {
        self.change(|state| state.open = true);
    }

    fn change(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }

    fn until(&self, condition: impl Fn(&GateState) -> bool) {
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, timeout) = self
            .0
            .1
            .wait_timeout_while(state, PATIENCE, |state| !condition(state))
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        assert!(!timeout.timed_out(), "waited in vain at the gate");
    }
}

fn say(stream: &mut BufReader<TcpStream>, reply: &str) -> io::Result<()> {
    stream.get_mut().write_all(format!("{reply}\r\n").as_bytes())
}

fn path_of(line: &str, command: &str) -> Option<String> {
    Some(line.strip_prefix(command)?.split_once('>')?.0.to_owned())
}

fn mail_data(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
