//! A Dovecot of a test's own.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::battery::{USERS, missing};

/// Runs until it is dropped.
pub(crate) struct Server {
    directory: TempDir,
    master: Option<Child>,
    pub(crate) port: u16,
}

/// Who there is beside the battery's users. `disabled`'s password is right, and does not let in.
pub(crate) const DISABLED: (&str, &str) = ("disabled", "disabled's secret");
/// Has a certificate, and no password.
pub(crate) const CERTIFIED: &str = "certified";
/// May log in as others.
pub(crate) const MASTER: (&str, &str) = ("master", "master's secret");
/// Signs tokens (HS256).
pub(crate) const TOKEN_KEY: &[u8] = b"a key of the token issuer's, of 32 octets and more";

impl Server {
    /// With refusals as fast as Dovecot makes them: up to half a second.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("auth_failure_delay = 0\n")
    }

    pub(crate) fn start_with(settings: &str) -> Option<Self> {
        Self::start_with_users(settings, "")
    }

    /// With more lines in the file of users. `None`, after the reason was printed, where Dovecot is not installed.
    pub(crate) fn start_with_users(settings: &str, more: &str) -> Option<Self> {
        if program().is_none() {
            missing("dovecot");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("dovecot").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { directory, master: None, port };
        fs::write(server.path("users"), users() + more).unwrap();
        fs::write(server.path("masters"), format!("{}:{{PLAIN}}{}\n", MASTER.0, MASTER.1)).unwrap();
        let keys = server.path("keys/default/HS256");
        fs::create_dir_all(&keys).unwrap();
        fs::write(keys.join("default"), crate::base64(TOKEN_KEY)).unwrap();
        let keys = server.path("keys");
        let oauth2 = format!(
            "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={}/\nusername_attribute = sub\n",
            keys.display()
        );
        fs::write(server.path("oauth2.conf"), oauth2).unwrap();
        fs::write(server.path("dovecot.conf"), server.configuration(settings)).unwrap();
        server.start_again();
        Some(server)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/auth-client")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log has a line with this in it, and gives the line.
    pub(crate) fn logged(&self, what: &str) -> String {
        wait_until(what, || self.log().lines().find(|line| line.contains(what)).map(str::to_owned))
    }

    pub(crate) fn stop(&mut self) {
        let Some(mut master) = self.master.take() else { return };
        let witness = says_hello(&self.socket());
        let _ = Command::new("kill").arg(master.id().to_string()).status();
        let deadline = Instant::now() + PATIENCE;
        while matches!(master.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = master.kill();
                let _ = master.wait();
            }
            std::thread::sleep(STEP);
        }
        // The process that authenticates goes on for whoever is connected.
        if let Some((mut witness, pid)) = witness {
            witness.set_read_timeout(Some(STEP)).unwrap();
            while matches!(witness.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock) {
                let _ = Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status();
            }
        }
    }

    /// Sends SIGHUP, with other settings in place of those of [`start_with`](Self::start_with).
    pub(crate) fn reload_with(&self, settings: &str) {
        fs::write(self.path("dovecot.conf"), self.configuration(settings)).unwrap();
        let master = self.master.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-HUP", &master]).status().unwrap().success());
    }

    pub(crate) fn start_again(&mut self) {
        let mut dovecot = Command::new(program().unwrap());
        dovecot.args(["-F", "-c"]).arg(self.path("dovecot.conf")).stdin(Stdio::null()).process_group(0);
        let output = fs::File::create(self.path("output")).unwrap();
        dovecot.stdout(output.try_clone().unwrap()).stderr(output);
        self.master = Some(dovecot.spawn().unwrap());
        wait_until("Dovecot's handshake", || {
            if let Some(master) = &mut self.master
                && let Ok(Some(status)) = master.try_wait()
            {
                let output = fs::read_to_string(self.path("output")).unwrap_or_default();
                panic!("Dovecot ended, {status}: {output}\n{}", self.log());
            }
            says_hello(&self.socket()).map(drop)
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configuration(&self, settings: &str) -> String {
        let (user, group) = (whoami("-un"), whoami("-gn"));
        let (directory, port) = (self.directory.path().display(), self.port);
        format!(
            "base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols =
listen = 127.0.0.1
ssl = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256 anonymous external oauthbearer xoauth2
auth_verbose = yes
auth_debug = yes
auth_username_chars =
auth_master_user_separator = *
auth_ssl_username_from_cert = yes
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {directory}/oauth2.conf
}}
passdb {{
  driver = passwd-file
  master = yes
  args = {directory}/masters
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {directory}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener auth-client {{
    mode = 0600
  }}
  inet_listener {{
    port = {port}
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
{settings}"
        )
    }
}

/// With all processes that it has started, who would take their time to end.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut master) = self.master.take() {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", master.id())]).status();
            let _ = master.wait();
        }
    }
}

/// Waits for a condition, not for a time.
pub(crate) fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(met) = condition() {
            return met;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(STEP);
    }
}

fn users() -> String {
    let mut file = String::new();
    for (user, password) in USERS {
        // Dovecot looks names up with backslashes before quotes.
        let user = user.replace('\'', "\\'");
        file += &format!("{user}:{{PLAIN}}{password}\n");
    }
    let (user, password) = DISABLED;
    file += &format!("{user}:{{PLAIN}}{password}::::::nologin=y\n");
    file += &format!("{CERTIFIED}:{{PLAIN}}::::::nopassword=y\n");
    file
}

/// Shakes hands. The connection, and the id of the process behind it.
fn says_hello(socket: &Path) -> Option<(UnixStream, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"VERSION\t1\t2\nCPID\t1\n").ok()?;
    let (mut said, mut room) = (Vec::new(), [0; 4096]);
    while !said.ends_with(b"DONE\n") {
        match stream.read(&mut room).ok()? {
            0 => return None,
            length => said.extend_from_slice(&room[..length]),
        }
    }
    let said = String::from_utf8(said).unwrap();
    let pid = said.lines().find_map(|line| line.strip_prefix("SPID\t")).unwrap();
    Some((stream, pid.to_owned()))
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    directories.map(|directory| directory.join("dovecot")).find(|program| program.is_file())
}

fn whoami(option: &str) -> String {
    let output = Command::new("id").arg(option).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(10);
