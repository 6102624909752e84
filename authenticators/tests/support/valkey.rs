//! A Valkey or Redis of the tests' own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue};
use tempfile::TempDir;

use super::battery::missing;
use super::wait::until;

/// Ended when dropped. It keeps its data over [`stop`](Self::stop) and [`start`](Self::start).
pub(crate) struct Valkey {
    pub(crate) directory: TempDir,
    pub(crate) port: u16,
    program: &'static str,
    options: Vec<String>,
    process: Option<Child>,
}

/// The password of the server.
pub(crate) const PASSWORD: &str = "swordfish/of+the?server";
/// The same in a URL.
pub(crate) const ESCAPED: &str = "swordfish%2Fof+the%3Fserver";

impl Valkey {
    /// Starts a server with the [`PASSWORD`]; with options of the command line, of which `{}` is the directory.
    pub(crate) fn start_with(options: &[&str]) -> Option<Self> {
        let programs = ["valkey-server", "redis-server"];
        let Some(program) = programs.into_iter().find(|program| is_there(program)) else {
            missing("redis-server");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let options = options.iter().map(|option| option.replace("{}", &path)).collect();
        let mut server = Self { directory, port: 0, program, options, process: None };
        // Between the search for a port and its use somebody else may have taken it.
        until("a free port", || {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            server.try_start().then_some(())
        });
        Some(server)
    }

    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts it again, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        until("the port", || self.try_start().then_some(()));
    }

    /// Ends it, and waits until it has.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The data is written by hand: an end by a signal would write it, too, but not tell of failure.
            let saved = self.try_ask::<String>(&["SAVE"]);
            process.kill().unwrap();
            process.wait().unwrap();
            assert_eq!(saved.as_deref(), Some("OK"));
        }
    }

    /// Sends the process a signal: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &process]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://:{ESCAPED}@127.0.0.1:{}/0", self.port)
    }

    /// Asks a question on a connection of its own.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap()
    }

    /// The keys that are there, with their times to live.
    pub(crate) fn times_to_live(&self) -> Vec<(String, i64)> {
        let keys: Vec<String> = self.ask(&["KEYS", "*"]);
        keys.into_iter().map(|key| (self.ask(&["PTTL", &key]), key)).map(|(ttl, key)| (key, ttl)).collect()
    }

    fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let (name, arguments) = words.split_first()?;
        redis::cmd(name).arg(arguments).query(&mut self.connect()?).ok()
    }

    fn connect(&self) -> Option<Connection> {
        Client::open(self.url()).unwrap().get_connection_with_timeout(Duration::from_secs(10)).ok()
    }

    /// Whether it is there and answers in the end.
    fn try_start(&mut self) -> bool {
        let port = self.port.to_string();
        let mut process = Command::new(self.program)
            .args(["--port", &port, "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", ""])
            .args(["--dir", self.directory.path().to_str().unwrap()])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let up = until("the server", || match process.try_wait().unwrap() {
            Some(_) => Some(false),
            None => self.try_ask::<String>(&["PING"]).map(|_| true),
        });
        self.process = Some(process);
        up
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]).any(|path| path.join(program).is_file())
}
