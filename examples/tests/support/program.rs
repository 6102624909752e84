//! The example programs as child processes.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{PATIENCE, run};

/// A running server. Dropped, it is killed.
pub(crate) struct Program {
    child: Child,
    pub(crate) stdout: Text,
    pub(crate) stderr: Text,
    addresses: Vec<SocketAddr>,
}

/// What a program has written so far.
#[derive(Clone, Default)]
pub(crate) struct Text(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    octets: Vec<u8>,
    ended: bool,
}

impl Program {
    /// Starts a server in a directory and waits until it listens. `log` is its `RUST_LOG`.
    pub(crate) fn start(name: &str, directory: &Path, log: &str, arguments: &[&str]) -> Self {
        Self::start_with_stderr(name, directory, log, arguments, Stdio::piped())
    }

    /// The same, with stderr going elsewhere if it is not piped.
    pub(crate) fn start_with_stderr(
        name: &str,
        directory: &Path,
        log: &str,
        arguments: &[&str],
        stderr: Stdio,
    ) -> Self {
        let mut command = Command::new(example(name));
        command.args(arguments).stdin(Stdio::null()).stderr(stderr);
        let listeners = arguments.iter().filter(|argument| argument.starts_with("--listen")).count();
        Self::run(command, directory, log, listeners)
    }

    /// Starts a server as systemd does, with this listener as its descriptor 3, and waits until it listens.
    #[cfg(unix)]
    pub(crate) fn start_activated(
        directory: &Path,
        listener: std::os::fd::OwnedFd,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        let mut command = Command::new("sh");
        // What is handed over goes from where a child can have it to where it is looked for.
        command
            .args(["-c", r#"exec "$0" "$@" 3<&0 0</dev/null"#])
            .arg(example("authenticated_relayer"))
            .args(arguments);
        command.envs(environment.iter().copied()).stdin(listener).stderr(Stdio::piped());
        Self::run(command, directory, "info", 1)
    }

    fn run(mut command: Command, directory: &Path, log: &str, listeners: usize) -> Self {
        let mut child = command
            .current_dir(directory)
            .env("RUST_LOG", log)
            // Colours would stand between the words.
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = Text::of(child.stdout.take().expect("stdout is piped"));
        let stderr = child.stderr.take().map_or_else(Text::none, Text::of);
        let mut program = Self { child, stdout, stderr, addresses: Vec::new() };
        let places = |text: &str| -> Vec<String> {
            // The last line may be half written.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().filter_map(|line| line.strip_prefix("listening on ").map(str::to_owned)).collect()
        };
        // A name may have several addresses.
        program.stdout.wait(|text| places(text).len() >= listeners);
        let places = places(&program.stdout.so_far());
        assert!(places.len() >= listeners, "{}", program.stderr.so_far());
        program.addresses = places.iter().filter_map(|place| place.parse().ok()).collect();
        program
    }

    /// All addresses that it listens on, in the order of the options.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the listener with this number, in the order of the options, `--listen` before `--listen-tls`.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        *self.addresses.get(number).expect("there is such a listener")
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the program at once, as kill -9 does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the program runs");
        self.child.wait().expect("the program has ended");
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends the signal of this name.
    pub(crate) fn signal(&self, name: &str) {
        let script = r#"kill -"$0" "$1""#;
        let (done, printed) = run(Command::new("sh").args(["-c", script, name]).arg(self.child.id().to_string()));
        assert!(done, "{printed}");
    }

    /// Waits until the program has ended of itself, and returns how, with all that it wrote to stdout and stderr.
    pub(crate) fn wait(mut self) -> (ExitStatus, String, String) {
        self.stdout.wait(|_| false);
        self.stderr.wait(|_| false);
        let status = self.child.wait().expect("the program has ended");
        (status, self.stdout.so_far(), self.stderr.so_far())
    }

    /// Asks the program to end, and returns all that it wrote.
    pub(crate) fn stop(self) -> (String, String) {
        self.terminate();
        let (status, stdout, stderr) = self.wait();
        assert!(status.success(), "{status}: {stderr}");
        (stdout, stderr)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Text {
    /// Nothing, and nothing to come.
    fn none() -> Self {
        let text = Self::default();
        text.lock().ended = true;
        text
    }

    fn of(mut source: impl Read + Send + 'static) -> Self {
        let text = Self::default();
        let writer = text.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = source.read(&mut piece) {
                writer.lock().octets.extend_from_slice(piece.get(..read).unwrap_or_default());
                writer.0.1.notify_all();
            }
            writer.lock().ended = true;
            writer.0.1.notify_all();
        });
        text
    }

    /// Waits until what was written is as described, or nothing more can come.
    pub(crate) fn wait(&self, condition: impl Fn(&str) -> bool) {
        let waiting = |written: &mut Written| !written.ended && !condition(&String::from_utf8_lossy(&written.octets));
        let (written, timeout) =
            self.0.1.wait_timeout_while(self.lock(), PATIENCE, waiting).unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&written.octets).into_owned();
        drop(written);
        assert!(!timeout.timed_out(), "waited in vain; so far: {text}");
    }

    /// What was written up to now.
    pub(crate) fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.lock().octets).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a user to `mail.db` in a directory, through the program's own command.
pub(crate) fn add_user(directory: &Path, name: &str, password: &str) {
    let (done, printed) = user(directory, &["add", name], password);
    assert!(done, "{printed}");
}

/// Runs `user` with these arguments and a password on stdin.
pub(crate) fn user(directory: &Path, arguments: &[&str], password: &str) -> (bool, String) {
    let mut child = Command::new(example("authenticated_relayer"))
        .arg("user")
        .args(arguments)
        .current_dir(directory)
        .env("RUST_LOG", "trace")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A command that needs no password does not read it, and may have ended.
    let _ = child.stdin.take().expect("stdin is piped").write_all(format!("{password}\n").as_bytes());
    let output = child.wait_with_output().expect("the program ends");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// The executable of an example.
///
/// Cargo builds examples for `cargo test` only where nothing is tested in them, so it is asked once, for the
/// profile and the target directory of this test, and has nothing to do where they are fresh.
pub(crate) fn example(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| {
            // TARGET/PROFILE/deps/NAME-HASH
            let this = std::env::current_exe().expect("this test has a path");
            let directory = this.ancestors().nth(2).expect("it is in a profile's directory");
            let profile = directory.file_name().and_then(|name| name.to_str()).expect("which has a name");
            let profile = if profile == "debug" { "dev" } else { profile };
            let target = directory.parent().expect("and is in the target directory");
            let mut cargo = Command::new(env!("CARGO"));
            // The same features as with `cargo test --workspace`.
            cargo.args(["build", "--quiet", "--workspace", "--profile", profile, "--target-dir"]).arg(target);
            cargo.arg("--examples");
            for (name, _) in std::env::vars_os() {
                // What Cargo has told this test about its package; build scripts that look at it would run again.
                if name
                    .to_str()
                    .is_some_and(|name| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix)))
                {
                    cargo.env_remove(name);
                }
            }
            let (built, printed) = run(cargo.current_dir(env!("CARGO_MANIFEST_DIR")));
            assert!(built, "{printed}");
            directory.join("examples")
        })
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
