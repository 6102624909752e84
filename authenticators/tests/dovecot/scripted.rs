//! A server that says what a test wants it to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use tempfile::TempDir;

/// Every connection begins with a handshake, and then each line is answered by a function of it.
pub(crate) struct Scripted {
    directory: TempDir,
    /// The lines that came, of all connections, and `connected` and `closed` between them.
    pub(crate) heard: Receiver<String>,
}

pub(crate) const HELLO: &str = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n\
    MECH\tSCRAM-SHA-256\tmutual-auth\nMECH\tOAUTHBEARER\tplaintext\nSPID\t7\nCUID\t1\nCOOKIE\t00\nDONE\n";

impl Scripted {
    /// `answer` gets a line's words and gives the octets to send.
    pub(crate) fn start(hello: &str, answer: impl Fn(&[&str]) -> Vec<u8> + Send + Sync + Clone + 'static) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), hello, answer)
    }

    /// The same with its socket, `auth`, in this directory.
    pub(crate) fn start_in(
        directory: TempDir,
        hello: &str,
        answer: impl Fn(&[&str]) -> Vec<u8> + Send + Sync + Clone + 'static,
    ) -> Self {
        let listener = UnixListener::bind(directory.path().join("auth")).unwrap();
        let (tell, heard) = channel();
        let hello = hello.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (hello, tell, answer) = (hello.clone(), tell.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &hello, &tell, answer));
            }
        });
        Self { directory, heard }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("auth")
    }

    /// The next line that begins so.
    pub(crate) fn hear(&self, beginning: &str) -> String {
        loop {
            let line = self.heard.recv_timeout(std::time::Duration::from_secs(10)).expect(beginning);
            if line.starts_with(beginning) {
                return line;
            }
        }
    }
}

fn serve(mut stream: UnixStream, hello: &str, tell: &Sender<String>, answer: impl Fn(&[&str]) -> Vec<u8>) {
    let _ = tell.send("connected".into());
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut sent = stream.write_all(hello.as_bytes());
    for line in lines.map_while(Result::ok) {
        let answer = answer(&line.split('\t').collect::<Vec<_>>());
        if sent.is_ok() && !answer.is_empty() {
            sent =
                if answer == HANG_UP { stream.shutdown(std::net::Shutdown::Both) } else { stream.write_all(&answer) };
        }
        let _ = tell.send(line);
    }
    let _ = tell.send("closed".into());
}

/// As an answer: closes the connection.
pub(crate) const HANG_UP: &[u8] = b"hang up";
