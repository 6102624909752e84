//! A PostgreSQL of the tests' own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sansmtp_authenticators::postgres::{Postgres, PostgresConfig};
use tempfile::TempDir;

use super::battery::missing;
use super::wait::until;

/// Has a database `mail` that the user of the same name owns. Ended when dropped.
pub(crate) struct PostgreSql {
    pub(crate) directory: TempDir,
    pub(crate) port: u16,
    programs: PathBuf,
    options: Vec<String>,
    process: Option<Child>,
}

/// The password of the user `mail`.
pub(crate) const PASSWORD: &str = "swordfish/of+the?server";
/// The same in a URL.
pub(crate) const ESCAPED: &str = "swordfish%2Fof+the%3Fserver";
/// Of the superuser, `admin`.
const ADMIN_PASSWORD: &str = "marlin";

impl PostgreSql {
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(|_| Vec::new())
    }

    /// Starts a server with settings, `name=value`, once its directory is there.
    pub(crate) fn start_with(options: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let Some(programs) = programs() else {
            missing("postgresql");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path());
        let mut server = Self { directory, port: 0, programs, options, process: None };
        let password = server.directory.path().join("password");
        fs::write(&password, ADMIN_PASSWORD).unwrap();
        server.give_away();
        let mut command = server.command("initdb");
        command.args(["--no-sync", "--auth=scram-sha-256", "--username=admin", "--encoding=UTF8", "--locale=C"]);
        command.arg(format!("--pwfile={}", password.display())).arg("-D").arg(server.data());
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Between the search for a port and its use somebody else may have taken it.
        until("a free port", || {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            server.try_start().then_some(())
        });
        server.admin("postgres", &format!("CREATE ROLE mail LOGIN PASSWORD '{PASSWORD}'"));
        server.admin("postgres", "CREATE DATABASE mail OWNER mail");
        Some(server)
    }

    /// Starts it again, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        until("the port", || self.try_start().then_some(()));
    }

    /// Ends it, and waits until it has.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Fast shutdown: connections are closed.
            signal(&process, "INT");
            assert!(process.wait().unwrap().success());
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://mail:{ESCAPED}@127.0.0.1:{}/mail", self.port)
    }

    /// The users, with much time.
    pub(crate) fn users(&self) -> Arc<Postgres> {
        let config =
            PostgresConfig::from_url(&self.url()).unwrap().time_limit(Duration::from_secs(30)).max_waiting(1000);
        Arc::new(Postgres::open(config).unwrap())
    }

    /// What a superuser's statement gives, in a database.
    pub(crate) fn admin(&self, database: &str, sql: &str) -> String {
        self.try_admin(database, sql).unwrap()
    }

    /// A session of a superuser's that runs a statement, and then stays open until it is dropped.
    pub(crate) fn session(&self, database: &str, sql: &str) -> Session {
        let mut command = self.psql(database);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        use std::io::{BufRead, BufReader, Write};
        writeln!(process.stdin.as_mut().unwrap(), "{sql};\n\\echo done").unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "done"));
        Session(process)
    }

    fn try_admin(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self.psql(database).args(["-c", sql]).output().unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap().trim_end().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.env("PGPASSWORD", ADMIN_PASSWORD).args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-U", "admin", "-d", database, "-XAtq", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    /// Whether it is there and answers in the end.
    fn try_start(&mut self) -> bool {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-k"]).arg(self.directory.path());
        for option in ["listen_addresses=127.0.0.1", "fsync=off", "shared_buffers=16MB", "max_connections=40"] {
            command.args(["-c", option]);
        }
        for option in &self.options {
            command.args(["-c", option]);
        }
        let log = fs::File::create(self.directory.path().join("log")).unwrap();
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let up = until("the server", || match process.try_wait().unwrap() {
            Some(_) => Some(false),
            None => self.try_admin("postgres", "SELECT 1").is_ok().then_some(true),
        });
        self.process = Some(process);
        up
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program, run by somebody who is not root, as whom the server refuses to run.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let Some((user, group)) = somebody() else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]).arg(program);
        command
    }

    /// Gives the directory, with what is in it, to whom the server runs as.
    pub(crate) fn give_away(&self) {
        if let Some((user, group)) = somebody() {
            let path = self.directory.path();
            let changed = Command::new("chown").arg("-R").arg(format!("{user}:{group}")).arg(path).status().unwrap();
            assert!(changed.success());
        }
    }
}

impl Drop for PostgreSql {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Immediate shutdown, which also ends the processes that it has started.
            signal(process, "QUIT");
            let _ = process.wait();
        }
    }
}

/// An open session of `psql`.
pub(crate) struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        // At the end of its input it ends.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn signal(process: &Child, name: &str) {
    let _ = Command::new("kill").args(["-s", name, &process.id().to_string()]).status();
}

/// Where `initdb` is: Debian has a directory for each version.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
    versions.sort_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let mut places = versions.iter().rev().map(|version| version.path().join("bin")).chain(on_path);
    places.find(|place| ["initdb", "postgres", "psql"].iter().all(|program| place.join(program).is_file()))
}

/// Whom to run the server as, if we are root.
fn somebody() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
        Some((fields.next()?, fields.next()?))
    };
    find("postgres").or_else(|| find("nobody"))
}
