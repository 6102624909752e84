//! One POST over HTTP/1.1 (RFC 9112) within a time limit, on a connection of its own.
//!
//! Clients that do more write what they send into their logs, octet by octet, or bring another TLS with them. What is
//! sent here is a secret from end to end.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};
use sansmtp::Secret;

/// Where to send it.
pub(super) struct Endpoint {
    host: Host,
    port: u16,
    tls: bool,
    /// What follows the authority.
    pub(super) target: String,
    /// Host and port, as they were written.
    pub(super) authority: String,
    /// A reference to it for each look-up of the name that is under way.
    look_ups: Arc<()>,
}

#[derive(Clone)]
enum Host {
    Address(IpAddr),
    Name(String),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// As many questions are under way as may be.
    Full,
    Io(io::Error),
    Resolve,
    /// The answer is none of HTTP.
    Malformed,
    Status(u16),
    TooLarge,
    TimeLimit,
    Tls(rustls::Error),
}

impl Endpoint {
    /// Reads an absolute URL. In the clear only to this very machine (RFC 7662, section 4).
    pub(super) fn read(url: &str) -> Result<Self, &'static str> {
        let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("it does not begin with https://"),
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !url.bytes().all(|octet| octet.is_ascii_graphic()) || url.contains('#') {
            return Err("it has a character that does not belong there");
        }
        if authority.contains('@') {
            return Err("it has a user or a password in it");
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| "its port is no number")?),
            Some(_) | None => (authority, if tls { 443 } else { 80 }),
        };
        let host = Host::read(host)?;
        if !tls && !host.is_loopback() {
            return Err("it does not begin with https://, and is not on loopback");
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { host, port, tls, target, authority: authority.to_owned(), look_ups: Arc::default() })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    /// The addresses, by the resolver of the operating system, which knows of no time limit.
    fn resolve(&self, deadline: Instant) -> Result<Vec<SocketAddr>, Fault> {
        let name = match &self.host {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, self.port)]),
            Host::Name(name) => (name.clone(), self.port),
        };
        let look_up = Arc::clone(&self.look_ups);
        if Arc::strong_count(&look_up) > MAX_LOOK_UPS + 1 {
            return Err(Fault::Resolve);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let resolve = move || {
            let _look_up = look_up;
            // Nobody may be waiting any more.
            let _ = sender.send(name.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
        };
        thread::Builder::new().name("resolver".into()).spawn(resolve)?;
        match receiver.recv_timeout(left(deadline)?) {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Ok(Ok(_) | Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => Err(Fault::Resolve),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Fault::TimeLimit),
        }
    }

    fn connect(&self, deadline: Instant) -> Result<TcpStream, Fault> {
        let addresses = self.resolve(deadline)?;
        let mut last = Fault::Resolve;
        for (tried, address) in addresses.iter().enumerate() {
            // One that does not answer leaves time for the others.
            let others = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            match TcpStream::connect_timeout(address, left(deadline)? / others) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

impl Host {
    fn read(host: &str) -> Result<Self, &'static str> {
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr = address.parse().map_err(|_| "its address is none")?;
            return Ok(Self::Address(address.into()));
        }
        if let Ok(address) = host.parse() {
            return Ok(Self::Address(address));
        }
        ServerName::try_from(host).map_err(|_| "its host is no name and no address")?;
        Ok(Self::Name(host.to_owned()))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }

    fn server_name(&self) -> Result<ServerName<'static>, Fault> {
        match self {
            Self::Address(address) => Ok(ServerName::from(*address)),
            Self::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Fault::Resolve),
        }
    }
}

/// Sends a whole request, and gives the body of an answer with status 200.
pub(super) fn send(
    endpoint: &Endpoint,
    tls: &Arc<ClientConfig>,
    request: &Secret,
    limit: Duration,
) -> Result<Secret, Fault> {
    let deadline = Instant::now() + limit.min(LONGEST);
    let mut stream = Timed { stream: endpoint.connect(deadline)?, deadline };
    if !endpoint.tls {
        return exchange(&mut stream, request);
    }
    let mut connection = ClientConnection::new(tls.clone(), endpoint.host.server_name()?)?;
    exchange(&mut Stream::new(&mut connection, &mut stream), request)
}

fn exchange(stream: &mut (impl Read + Write), request: &Secret) -> Result<Secret, Fault> {
    stream.write_all(request.expose_secret())?;
    stream.flush()?;
    // Of fixed size, so that what is in it is never left behind by a move.
    let mut answer = Answer { octets: zeroize::Zeroizing::new(vec![0; MAX_ANSWER_OCTETS]), length: 0 };
    let mut head: Option<Head> = None;
    loop {
        let room = answer.octets.get_mut(answer.length..).filter(|room| !room.is_empty()).ok_or(Fault::TooLarge)?;
        let count = match stream.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        answer.length += count;
        if head.is_none() {
            head = Head::read(answer.octets())?;
        }
        if let Some(head) = &head {
            let body = answer.octets().get(head.octets..).unwrap_or_default();
            if let Some(body) = head.body(body, count == 0)? {
                return if head.status == 200 { Ok(body) } else { Err(Fault::Status(head.status)) };
            }
        }
        if count == 0 {
            return Err(Fault::Malformed);
        }
    }
}

struct Answer {
    octets: zeroize::Zeroizing<Vec<u8>>,
    length: usize,
}

impl Answer {
    fn octets(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

/// An answer's status line and what its headers say of the body.
struct Head {
    status: u16,
    octets: usize,
    framing: Framing,
}

/// RFC 9112, section 6.3.
enum Framing {
    Chunked,
    Length(usize),
    UntilEnd,
}

impl Head {
    fn read(octets: &[u8]) -> Result<Option<Self>, Fault> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(octets).map_err(|_| Fault::Malformed)? else {
            return Ok(None);
        };
        let status = response.code.ok_or(Fault::Malformed)?;
        let mut framing = Framing::UntilEnd;
        for header in response.headers {
            let value = str::from_utf8(header.value).map_err(|_| Fault::Malformed)?.trim();
            if header.name.eq_ignore_ascii_case("transfer-encoding") {
                // No other was asked for.
                framing = if value.eq_ignore_ascii_case("chunked") {
                    Framing::Chunked
                } else {
                    return Err(Fault::Malformed);
                };
            } else if header.name.eq_ignore_ascii_case("content-length") && !matches!(framing, Framing::Chunked) {
                framing = Framing::Length(value.parse().map_err(|_| Fault::Malformed)?);
            }
        }
        Ok(Some(Self { status, octets: length, framing }))
    }

    /// The body, if this is all of it.
    fn body(&self, octets: &[u8], is_end: bool) -> Result<Option<Secret>, Fault> {
        match self.framing {
            Framing::Chunked => dechunk(octets),
            Framing::Length(length) if length > MAX_ANSWER_OCTETS => Err(Fault::TooLarge),
            Framing::Length(length) => Ok(octets.get(..length).map(Secret::from)),
            Framing::UntilEnd => Ok(is_end.then(|| octets.into())),
        }
    }
}

/// RFC 9112, section 7.1; what comes after the last chunk is of no interest.
fn dechunk(mut octets: &[u8]) -> Result<Option<Secret>, Fault> {
    // Not more than there are, so that it never moves.
    let mut body = Vec::with_capacity(octets.len());
    loop {
        let Ok(parsed) = httparse::parse_chunk_size(octets) else { return Err(Fault::Malformed) };
        let httparse::Status::Complete((head, length)) = parsed else { break };
        let length = usize::try_from(length).map_err(|_| Fault::TooLarge)?;
        if length == 0 {
            return Ok(Some(Secret::new(body)));
        }
        let rest = octets.get(head..).unwrap_or_default();
        let Some((chunk, rest)) = rest.split_at_checked(length) else { break };
        body.extend_from_slice(chunk);
        match rest.strip_prefix(b"\r\n") {
            Some(rest) => octets = rest,
            None if rest.len() < 2 => break,
            None => return Err(Fault::Malformed),
        }
    }
    drop(Secret::new(body));
    Ok(None)
}

/// A connection that ends at a time, however little comes at once.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        left(self.deadline).map_err(|_| io::ErrorKind::TimedOut.into())
    }
}

impl Read for Timed {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(room)
    }
}

impl Write for Timed {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Never nothing, which would be no limit.
fn left(deadline: Instant) -> Result<Duration, Fault> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Fault::TimeLimit) } else { Ok(left) }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        // Systems differ in what they call a time limit of a socket.
        let is_limit = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
        if is_limit { Self::TimeLimit } else { Self::Io(error) }
    }
}

impl From<rustls::Error> for Fault {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection failed: {error}"),
            Self::Resolve => f.write_str("its host has no address"),
            Self::Malformed => f.write_str("the answer is not as RFC 7662 and HTTP have it"),
            Self::Status(status) => write!(f, "the answer has status {status}"),
            Self::TooLarge => write!(f, "the answer has more than {MAX_ANSWER_OCTETS} octets"),
            Self::Full => f.write_str("too many questions are under way"),
            Self::TimeLimit => f.write_str("there was no answer within the time limit"),
            Self::Tls(error) => write!(f, "TLS failed: {error}"),
        }
    }
}

/// With the headers. Some servers repeat every claim that they have.
const MAX_ANSWER_OCTETS: usize = 128 * 1024;

/// No clock tells the end of a limit without one.
const LONGEST: Duration = Duration::from_secs(3600);

/// As many as an adapter's pool has threads to wait for them. One that hangs keeps its own until it ends.
const MAX_LOOK_UPS: usize = 512;

const MAX_HEADERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_that_hang_are_not_joined_by_more_and_more() {
        let endpoint = Endpoint::read("http://localhost:1/").unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let hanging = vec![Arc::clone(&endpoint.look_ups); MAX_LOOK_UPS];
        assert!(matches!(endpoint.resolve(deadline), Err(Fault::Resolve)));
        drop(hanging);
        assert!(endpoint.resolve(deadline).is_ok());
    }
}
