//! An authorization server of which tests say what it answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: String,
}

/// What is sent back, octet by octet if it is to drip.
pub(crate) type Answers = dyn Fn(&Asked, &mut dyn Write) -> std::io::Result<()> + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    answers: Box<Answers>,
    tls: Option<Arc<ServerConfig>>,
    asked: Mutex<Vec<Asked>>,
    count: AtomicUsize,
    ends: AtomicBool,
}

impl Server {
    pub(crate) fn start<F>(answers: F) -> Self
    where
        F: Fn(&Asked, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    {
        Self::start_with(answers, None)
    }

    /// With TLS, if there is a configuration for it.
    pub(crate) fn start_with<F>(answers: F, tls: Option<Arc<ServerConfig>>) -> Self
    where
        F: Fn(&Asked, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, count, ends) = Default::default();
        let shared = Arc::new(Shared { answers: Box::new(answers), tls, asked, count, ends });
        let mut server = Self { address, shared, thread: None };
        server.accept(listener);
        server
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/introspect?realm=a", self.address)
    }

    /// Refuses connections from now on.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.ends.store(true, Ordering::SeqCst);
        // It is waiting for one.
        let _ = TcpStream::connect(self.address);
        thread.join().unwrap();
    }

    /// Where it was before.
    pub(crate) fn start_again(&mut self) {
        self.shared.ends.store(false, Ordering::SeqCst);
        let bind = || TcpListener::bind(self.address).ok();
        let listener = super::support::wait::until("its port", bind);
        self.accept(listener);
    }

    /// How many questions came since this was asked.
    pub(crate) fn take_count(&self) -> usize {
        self.shared.count.swap(0, Ordering::SeqCst)
    }

    /// The last question.
    pub(crate) fn last(&self) -> Asked {
        self.shared.asked.lock().unwrap().last().cloned().unwrap()
    }

    fn accept(&mut self, listener: TcpListener) {
        let shared = self.shared.clone();
        self.thread = Some(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.ends.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                // A client that goes away is no concern of its.
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        }));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        match &self.tls {
            Some(tls) => {
                let connection = ServerConnection::new(tls.clone()).map_err(std::io::Error::other)?;
                let mut stream = StreamOwned::new(connection, stream);
                self.answer(&mut stream)?;
                stream.conn.send_close_notify();
                stream.flush()
            }
            None => self.answer(&mut { stream }),
        }
    }

    fn answer(&self, stream: &mut (impl Read + Write)) -> std::io::Result<()> {
        let mut reader = BufReader::new(&mut *stream);
        let mut asked = Asked::default();
        while !asked.head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut asked.head)? == 0 {
                return Ok(());
            }
        }
        let length = asked.header("content-length").unwrap().parse().unwrap();
        reader.take(length).read_to_string(&mut asked.body)?;
        self.count.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().unwrap().push(asked.clone());
        (self.answers)(&asked, stream)
    }
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.into_iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// A field of the form.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let pairs = self.body.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(field, _)| *field == name).map(|(_, value)| decoded(value))
    }
}

/// As a form has it (the WHATWG's URL standard).
pub(crate) fn decoded(value: &str) -> String {
    let mut octets = value.bytes();
    let mut decoded = Vec::new();
    while let Some(octet) = octets.next() {
        decoded.push(match octet {
            b'%' => {
                let digits = [octets.next().unwrap(), octets.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).unwrap()
}

/// A whole answer.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}
