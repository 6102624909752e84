//! A next hop and a name server for tests: threads on loopback that do what they are told and remember what they
//! were asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// An SMTP server whose replies a test gives.
#[derive(Clone)]
pub(crate) struct NextHop {
    pub(crate) address: SocketAddr,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

/// What a [`NextHop`] was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The command lines of each session; those through TLS begin with "TLS ".
    pub(crate) sessions: Vec<Vec<String>>,
    /// The mail data as it came, dots doubled and all.
    pub(crate) messages: Vec<Vec<u8>>,
}

/// Answers a command, "." at the end of mail data, or "" at the start of a session; counts sessions from 0.
/// An empty answer closes the connection, and so does one at the end of mail data that ends in [`CLOSE`].
type Script = dyn Fn(usize, &str) -> String + Send + Sync;

/// Behind an answer at the end of mail data: the connection is closed.
pub(crate) const CLOSE: char = '\x04';

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

impl NextHop {
    pub(crate) fn start(script: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> Self {
        Self::start_with_tls(None, script)
    }

    pub(crate) fn start_with_tls(
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(usize, &str) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hop = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let (server, script): (_, Arc<Script>) = (hop.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, script, tls) = (server.clone(), Arc::clone(&script), tls.clone());
                std::thread::spawn(move || {
                    let number = {
                        let mut seen = server.lock();
                        seen.sessions.push(Vec::new());
                        seen.sessions.len() - 1
                    };
                    // A client that hangs up ends the session, and is no failure of the test.
                    let _ = server.session(number, stream, &*script, tls);
                });
            }
        });
        hop
    }

    /// The URL of this server.
    pub(crate) fn url(&self, scheme: &str, credentials: &str) -> String {
        format!("{scheme}://{credentials}localhost:{}", self.address.port())
    }

    /// Waits until what was seen is as described.
    pub(crate) fn wait(&self, condition: impl Fn(&Seen) -> bool) -> Seen {
        let (seen, timeout) = self.seen.1.wait_timeout_while(self.lock(), PATIENCE, |seen| !condition(seen)).unwrap();
        assert!(!timeout.timed_out(), "waited in vain; seen: {seen:#?}");
        seen.clone()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.0.lock().unwrap()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.seen.1.notify_all();
    }

    fn session(
        &self,
        number: usize,
        stream: TcpStream,
        script: &Script,
        tls: Option<Arc<ServerConfig>>,
    ) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let raw = stream.try_clone()?;
        let mut stream: BufReader<Box<dyn Duplex>> = BufReader::new(Box::new(stream));
        let (mut prefix, mut has_mail, mut is_for_somebody) = ("", false, false);
        stream.get_mut().write_all(script(number, "").as_bytes())?;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            self.note(|seen| seen.sessions[number].push(format!("{prefix}{line}")));
            let mut reply = script(number, line);
            if reply.is_empty() {
                return Ok(());
            }
            match line.split(' ').next() {
                Some("MAIL") => (has_mail, is_for_somebody) = (is_positive(&reply), false),
                Some("RCPT") => is_for_somebody |= has_mail && is_positive(&reply),
                // As servers do that look, unless a script has words of its own.
                Some("DATA") if !is_for_somebody && reply == accept("DATA", &[]) => {
                    "503 5.5.1 no valid recipients\r\n".clone_into(&mut reply);
                }
                _ => {}
            }
            stream.get_mut().write_all(reply.as_bytes())?;
            stream.get_mut().flush()?;
            if reply.starts_with("354") {
                let mut content = Vec::new();
                while !content.ends_with(b"\r\n.\r\n") && content != b".\r\n" {
                    if stream.read_until(b'\n', &mut content)? == 0 {
                        return Ok(());
                    }
                }
                let reply = script(number, ".");
                if reply.is_empty() {
                    return Ok(());
                }
                if reply.starts_with('2') {
                    self.note(|seen| seen.messages.push(content));
                }
                stream.get_mut().write_all(reply.trim_end_matches(CLOSE).as_bytes())?;
                stream.get_mut().flush()?;
                if reply.ends_with(CLOSE) {
                    return Ok(());
                }
            } else if line == "STARTTLS" && reply.starts_with("220") {
                let Some(tls) = tls.clone() else { return Ok(()) };
                let connection = ServerConnection::new(tls).unwrap();
                prefix = "TLS ";
                stream = BufReader::new(Box::new(StreamOwned::new(connection, raw.try_clone()?)));
            }
        }
    }
}

impl Seen {
    /// Every command line of every session.
    pub(crate) fn commands(&self) -> Vec<&str> {
        self.sessions.iter().flatten().map(String::as_str).collect()
    }

    pub(crate) fn has(&self, command: &str) -> bool {
        self.commands().contains(&command)
    }

    pub(crate) fn text(&self, message: usize) -> String {
        String::from_utf8(self.messages[message].clone()).unwrap()
    }
}

fn is_positive(reply: &str) -> bool {
    reply.trim_start().starts_with('2')
}

/// Answers as a server that takes everything and offers `extensions`.
pub(crate) fn accept(command: &str, extensions: &[&str]) -> String {
    match command.split(' ').next().unwrap_or_default() {
        "" => "220 next.hop ESMTP\r\n".to_owned(),
        "EHLO" => {
            let lines: String = extensions.iter().map(|extension| format!("250-{extension}\r\n")).collect();
            format!("250-next.hop\r\n{lines}250 ENHANCEDSTATUSCODES\r\n")
        }
        "DATA" => "354 go on\r\n".to_owned(),
        "STARTTLS" => "220 2.0.0 go on\r\n".to_owned(),
        "AUTH" => "235 2.7.0 welcome\r\n".to_owned(),
        "QUIT" => "221 2.0.0 bye\r\n".to_owned(),
        _ => "250 2.0.0 OK\r\n".to_owned(),
    }
}

/// The records of a name and a type, or the error to answer with.
pub(crate) type Zone<'a> = Vec<(&'a str, RecordType, Result<Vec<RData>, ResponseCode>)>;

/// A name server that knows what a test tells it; other names do not exist.
pub(crate) fn name_server(zone: Zone<'_>) -> SocketAddr {
    let zone: HashMap<(String, RecordType), _> =
        zone.into_iter().map(|(name, kind, answer)| ((name.to_owned(), kind), answer)).collect();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut packet) {
            let Ok(mut message) = Message::from_vec(&packet[..length]) else { continue };
            let query = message.queries[0].clone();
            let name = query.name().to_ascii().trim_end_matches('.').to_lowercase();
            message.metadata.message_type = MessageType::Response;
            message.metadata.recursion_available = true;
            message.additionals.clear();
            message.edns = None;
            let exists = zone.keys().any(|(known, _)| *known == name);
            match zone.get(&(name, query.query_type())) {
                Some(Ok(data)) => {
                    let records = data.iter().map(|data| Record::from_rdata(query.name().clone(), 60, data.clone()));
                    message.answers.extend(records);
                }
                Some(Err(code)) => message.metadata.response_code = *code,
                None if exists => {}
                None => message.metadata.response_code = ResponseCode::NXDomain,
            }
            socket.send_to(&message.to_vec().unwrap(), peer).unwrap();
        }
    });
    address
}

/// How long a test waits for what must come. Only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
