//! Tokens that a command prints.

use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::file::{first_line, text_of};
use super::redact::redacted;
use super::{Secret, SecretError};

/// A command whose first line on stdout is a token, run by `sh -c`.
///
/// The token is used for five minutes, or until a server refuses it. However many sessions want one, one command runs; it
/// has 30 seconds. What it says on stderr is told in the log, without what may be a secret.
///
/// `Debug` does not show the command, which may have secrets in it. Clones share the token.
#[derive(Clone)]
pub struct TokenCommand(Arc<Shared>);

struct Shared {
    command: Zeroizing<String>,
    limit: Duration,
    /// Held while the command runs, so that all sessions wait for one run.
    last: Mutex<Option<Result<Token, SecretError>>>,
    /// How often it was run.
    runs: AtomicU64,
}

struct Token {
    text: Zeroizing<String>,
    since: Instant,
}

impl TokenCommand {
    /// A command that is run when a session needs a token.
    pub fn new(command: &str) -> Self {
        Self::with_limit(command, TIME_LIMIT)
    }

    fn with_limit(command: &str, limit: Duration) -> Self {
        let command = Zeroizing::new(command.to_owned());
        Self(Arc::new(Shared { command, limit, last: Mutex::default(), runs: AtomicU64::new(0) }))
    }

    /// The token that there is, or a new one.
    ///
    /// # Errors
    /// Where the command gives none. All who have waited for it get the same error.
    pub(super) async fn token(&self) -> Result<Secret, SecretError> {
        let shared = &*self.0;
        let runs = shared.runs.load(Ordering::Acquire);
        let mut last = shared.last.lock().await;
        match &*last {
            Some(Ok(token)) if token.since.elapsed() < LIFETIME => {
                return Ok(Secret { text: token.text.clone(), is_kept: true });
            }
            Some(Err(error)) if shared.runs.load(Ordering::Acquire) != runs => return Err(error.clone()),
            Some(_) | None => {}
        }
        *last = None;
        let result = run(&shared.command, shared.limit).await;
        shared.runs.fetch_add(1, Ordering::AcqRel);
        *last = Some(result.clone().map(|text| Token { text, since: Instant::now() }));
        result.map(Secret::fresh)
    }

    /// Forgets a token that was refused, unless there is another one already.
    pub(super) async fn forget(&self, refused: &Secret) {
        let mut last = self.0.last.lock().await;
        if matches!(&*last, Some(Ok(token)) if refused.is_same(&token.text)) {
            *last = None;
        }
    }
}

impl PartialEq for TokenCommand {
    fn eq(&self, other: &Self) -> bool {
        self.0.command == other.0.command
    }
}

impl Eq for TokenCommand {}

impl fmt::Debug for TokenCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenCommand([redacted])")
    }
}

async fn run(line: &str, limit: Duration) -> Result<Zeroizing<String>, SecretError> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    // Starting a process can take a while, and this thread drives all sessions.
    let spawned = tokio::task::spawn_blocking(move || command.spawn()).await;
    let child = spawned.unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
    let mut group = Group(child.map_err(|error| SecretError::CommandStart(error.kind()))?);
    let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
    // Growing would leave copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(MAX_OUTPUT_OCTETS + 1));
    let mut told = Zeroizing::new(Vec::with_capacity(MAX_TOLD_OCTETS));
    let id = group.0.id();
    let ended = tokio::time::timeout(limit, async {
        let reading = async {
            let fits = read_some(stdout, &mut out, MAX_OUTPUT_OCTETS).await;
            if !fits {
                kill_group(id);
            }
            fits
        };
        let (fits, ()) = tokio::join!(reading, drain(stderr, &mut told));
        if fits { Some(group.0.wait().await) } else { None }
    })
    .await;
    let token = first_line(&out);
    let said = String::from_utf8_lossy(whole_words(&told));
    if !said.trim().is_empty() {
        let known = std::str::from_utf8(token).unwrap_or_default();
        tracing::warn!(stderr = redacted(&said, &[known]), "the token command says");
    }
    let status = match ended {
        Ok(Some(status)) => status.map_err(|error| SecretError::CommandStart(error.kind()))?,
        Ok(None) => return Err(SecretError::CommandOutput),
        Err(_) => return Err(SecretError::CommandTimeout),
    };
    if !status.success() {
        return Err(SecretError::CommandFailed(status.code()));
    }
    if token.is_empty() {
        return Err(SecretError::CommandEmpty);
    }
    let token = text_of(token)?;
    if token.contains(char::is_control) { Err(SecretError::NotText) } else { Ok(token) }
}

/// Reads all that comes, unless it is more than `limit`. Says whether it was not.
async fn read_some(stream: Option<impl AsyncRead + Unpin>, out: &mut Vec<u8>, limit: usize) -> bool {
    let Some(stream) = stream else { return true };
    // What cannot be read is not there; the exit status tells the rest.
    let _ = stream.take(limit as u64 + 1).read_to_end(out).await;
    out.len() <= limit
}

/// Reads to the end, and keeps the first octets.
async fn drain(stream: Option<impl AsyncRead + Unpin>, told: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let _ = (&mut stream).take(MAX_TOLD_OCTETS as u64).read_to_end(told).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

/// What is told, without the beginning of a word that may be that of a secret.
fn whole_words(told: &[u8]) -> &[u8] {
    if told.len() < MAX_TOLD_OCTETS {
        return told;
    }
    let end = told.iter().rposition(u8::is_ascii_whitespace).unwrap_or_default();
    told.get(..end).unwrap_or_default()
}

/// A command and what it has started: dropped before its end, all of them end.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        kill_group(self.0.id());
    }
}

/// Ends a process and what it has started, unless it has ended.
fn kill_group(id: Option<u32>) {
    #[cfg(unix)]
    if let Some(group) = id.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    #[cfg(not(unix))]
    let _ = id;
}

/// Tokens are good for an hour, as a rule. One that the command has kept may be near its end; then a server refuses it.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
const TIME_LIMIT: Duration = Duration::from_secs(30);
const MAX_OUTPUT_OCTETS: usize = 64 * 1024;
const MAX_TOLD_OCTETS: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in a runtime like the worker's.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn one_run_serves_all_until_its_token_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("runs");
        let line = format!("echo run >> {0}; wc -l < {0} | tr -d ' '; echo more", runs.display());
        let command = TokenCommand::new(&line);
        block_on(async {
            let (one, two, three) = tokio::join!(command.token(), command.token(), command.token());
            let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
            assert_eq!([&one, &two, &three].map(Secret::expose), ["1"; 3]);
            assert_eq!([&one, &two, &three].map(|secret| secret.is_kept), [false, true, true]);
            // Two find out that it is too old: one run.
            command.forget(&two).await;
            let four = command.token().await.unwrap();
            assert_eq!((four.expose(), four.is_kept), ("2", false));
            command.forget(&three).await;
            let five = command.clone().token().await.unwrap();
            assert_eq!((five.expose(), five.is_kept), ("2", true));
        });
        assert_eq!(std::fs::read_to_string(runs).unwrap().lines().count(), 2);
    }

    #[test]
    fn who_waits_for_a_command_shares_its_failure() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("runs");
        let command = TokenCommand::new(&format!("echo run >> {}; exit 3", runs.display()));
        let count = || std::fs::read_to_string(&runs).unwrap().lines().count();
        block_on(async {
            let (one, two) = tokio::join!(command.token(), command.token());
            assert_eq!([one.unwrap_err(), two.unwrap_err()], [const { SecretError::CommandFailed(Some(3)) }; 2]);
            assert_eq!(count(), 1);
            command.token().await.unwrap_err();
            assert_eq!(count(), 2);
        });
    }

    #[test]
    fn a_command_has_its_bounds() {
        for (line, error) in [
            ("exec /none/such", SecretError::CommandFailed(Some(127))),
            ("kill -9 $$", SecretError::CommandFailed(None)),
            ("echo; echo token", SecretError::CommandEmpty),
            ("true", SecretError::CommandEmpty),
            ("printf 'a\\001b'", SecretError::NotText),
            // Neither what it prints nor what it complains of is kept.
            ("yes", SecretError::CommandOutput),
            ("yes; yes >&2", SecretError::CommandOutput),
        ] {
            assert_eq!(block_on(TokenCommand::new(line).token()).unwrap_err(), error, "{line}");
        }
        let loud = TokenCommand::new("head -c 1000000 /dev/zero >&2; echo token");
        assert_eq!(block_on(loud.token()).unwrap().expose(), "token");
    }

    #[test]
    fn a_command_that_hangs_ends_with_all_that_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let line = format!("sh -c 'echo $$ > {}; exec sleep 100000' & wait", file.display());
        let command = TokenCommand::with_limit(&line, Duration::from_millis(300));
        assert_eq!(block_on(command.token()).unwrap_err(), SecretError::CommandTimeout);
        // On a machine that is slow it has not come so far.
        let Ok(pid) = std::fs::read_to_string(file).unwrap_or_default().trim().parse() else { return };
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let start = std::time::Instant::now();
        while rustix::process::test_kill_process(pid).is_ok() && is_running(pid) {
            assert!(start.elapsed() < crate::testing::PATIENCE, "it still runs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a process is more than a zombie, which nobody collects in a container without init.
    fn is_running(pid: rustix::process::Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn half_a_secret_is_not_told() {
        let full = format!("{} s3cret", "x ".repeat(MAX_TOLD_OCTETS));
        assert_eq!(whole_words(b"it says s3cret"), b"it says s3cret");
        for cut in [0, 1] {
            let told = &full.as_bytes()[full.len() - MAX_TOLD_OCTETS - cut..full.len() - cut];
            assert!(whole_words(told).ends_with(b"x "), "{cut}");
        }
        assert_eq!(whole_words(&[b's'; MAX_TOLD_OCTETS]), b"");
    }

    #[test]
    fn nothing_of_a_command_is_shown() {
        let command = TokenCommand::new("echo hunter2");
        assert!(!format!("{command:?}").contains("hunter2"));
        assert!(!format!("{:?}", block_on(command.token())).contains("hunter2"));
    }
}
