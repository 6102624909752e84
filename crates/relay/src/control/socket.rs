//! The socket in the spool, at both ends.
//!
//! One request, a line, and one reply, a line, each connection.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{ControlError, Reply, Request};
use crate::delivery::Deliverer;

/// The worker's end. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Listens in a spool that this process holds. Call within a tokio runtime.
    ///
    /// # Errors
    /// Where the file system refuses; other systems than Linux refuse a path of more than about a hundred octets.
    pub(crate) fn bind(spool: &Path) -> io::Result<Self> {
        let path = spool.join(NAME);
        // The lock on the spool is ours: whoever has left it there is gone.
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            fs::remove_file(&path)?;
        }
        let socket = UnixSocket::new_stream()?;
        socket.bind(Short::new(spool)?.socket())?;
        // Before anybody can connect.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener: socket.listen(BACKLOG)?, path })
    }

    /// Answers for as long as the worker's runtime is there.
    pub(crate) async fn serve(self, deliverer: Arc<Deliverer>) {
        let (places, commands) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(COMMANDS)));
        loop {
            // Who finds no place waits to be accepted.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    _ = tokio::spawn(answer(stream, Arc::clone(&deliverer), place, Arc::clone(&commands)))
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an operator's command");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // What stays is removed by the next worker.
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(
    stream: tokio::net::UnixStream,
    deliverer: Arc<Deliverer>,
    _place: OwnedSemaphorePermit,
    commands: Arc<Semaphore>,
) {
    let mut stream = tokio::io::BufReader::new(stream);
    let mut line = Vec::new();
    let mut request = (&mut stream).take(LINE_OCTETS);
    if !matches!(timeout(TIMEOUT, request.read_until(b'\n', &mut line)).await, Ok(Ok(1..))) {
        return;
    }
    let reply = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => {
            let Ok(turn) = commands.acquire_owned().await else { return };
            // The turn ends when the disk has been waited for, whether or not the peer still waits for the reply.
            let obeyed = tokio::task::spawn_blocking(move || (deliverer.obey(request), turn)).await;
            match obeyed {
                Ok((reply, _turn)) => reply,
                Err(error) => Reply::Failed { reason: error.to_string() },
            }
        }
        Err(error) => Reply::Failed { reason: format!("no command that this server knows: {error}") },
    };
    if let Ok(mut line) = serde_json::to_vec(&reply) {
        line.push(b'\n');
        // Nobody is there to be told.
        let _ = timeout(TIMEOUT, stream.write_all(&line)).await;
    }
}

/// Asks the worker in a spool. None where no worker listens, or it ended before it replied.
///
/// # Errors
/// Where the socket may not be used.
pub(super) fn ask(spool: &Path, request: &Request) -> Result<Option<Reply>, ControlError> {
    let mut stream = match Short::new(spool).and_then(|short| UnixStream::connect(short.socket())) {
        Ok(stream) => stream,
        // The last is a path at which no worker can listen.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::InvalidInput
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    // The queue can be listed without, and the more so where a worker hangs.
    let longest = if *request == Request::Sending { TIMEOUT } else { LONGEST_ANSWER };
    stream.set_read_timeout(Some(longest))?;
    stream.set_write_timeout(Some(longest))?;
    let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
    line.push(b'\n');
    let mut reply = String::new();
    let exchanged =
        stream.write_all(&line).and_then(|()| BufReader::new(stream).take(MOST_OCTETS).read_line(&mut reply));
    match exchanged {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(serde_json::from_str(&reply).map_err(io::Error::from)?)),
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(ControlError::Failed("the server does not answer; the command may still be done".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// A path of the spool that is short enough for the address of a socket.
struct Short {
    path: PathBuf,
    /// What the path goes through.
    _directory: Option<fs::File>,
}

impl Short {
    fn new(spool: &Path) -> io::Result<Self> {
        if cfg!(target_os = "linux") && spool.as_os_str().len() > LONGEST_PATH {
            let directory = fs::File::open(spool)?;
            let path = format!("/proc/self/fd/{}", directory.as_raw_fd()).into();
            return Ok(Self { path, _directory: Some(directory) });
        }
        Ok(Self { path: spool.to_owned(), _directory: None })
    }

    fn socket(&self) -> PathBuf {
        self.path.join(NAME)
    }
}

const NAME: &str = "control";
/// With the name, some less than the 104 or 108 octets that an address has.
const LONGEST_PATH: usize = 90;
/// Clients at once, those that say nothing among them. The others wait.
const CONNECTIONS: usize = 64;
/// Commands at once: fewer than there are threads that wait for the disk. The others wait.
const COMMANDS: usize = 4;
const BACKLOG: u32 = 64;
/// Longer than any request: a domain has 255 octets.
const LINE_OCTETS: u64 = 2048;
/// Longer than any reply: as many names of messages as there may be sessions.
const MOST_OCTETS: u64 = 1 << 20;
/// For a request that does not come, and a reply that is not taken.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A command waits for the disk, and for those before it.
const LONGEST_ANSWER: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);
