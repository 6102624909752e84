//! A Dovecot to log in with.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{eventually, run, skip};

/// A running Dovecot with one user. Dropped, it ends.
pub(crate) struct Dovecot {
    directory: TempDir,
    master: Child,
}

impl Dovecot {
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = ["/usr/sbin/dovecot", "/usr/local/sbin/dovecot"]
            .into_iter()
            .find(|path| fs::exists(path).is_ok_and(|is| is))
        else {
            skip("dovecot is not installed");
            return None;
        };
        let directory = TempDir::new().expect("there is room for a directory");
        // All clients come from one address, which Dovecot would make wait for longer and longer.
        let (user, group) = (id("-un"), id("-gn"));
        let at = directory.path().display();
        let configuration = format!(
            "base_dir = {at}/run\nstate_dir = {at}/state\nlog_path = {at}/log\nprotocols =\nssl = no\n\
             default_internal_user = {user}\ndefault_internal_group = {group}\ndefault_login_user = {user}\n\
             auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-256 anonymous external\n\
             passdb {{\n driver = passwd-file\n args = {at}/users\n}}\n\
             userdb {{\n driver = static\n args = uid=65534 gid=65534 home=/nonexistent\n}}\n\
             service anvil {{\n chroot =\n unix_listener anvil-auth-penalty {{\n  mode = 0\n }}\n}}\nservice stats {{\n chroot =\n}}\n"
        );
        fs::write(directory.path().join("dovecot.conf"), configuration).expect("it can be written");
        fs::write(directory.path().join("users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n")).expect("it can be written");
        let mut master = Command::new(program);
        master.args(["-F", "-c"]).arg(directory.path().join("dovecot.conf"));
        let master = master.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let dovecot = Self { master: master.expect("Dovecot starts"), directory };
        eventually(|| UnixStream::connect(dovecot.socket()).is_ok());
        Some(dovecot)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/auth-client")
    }

    pub(crate) fn users(&self) -> String {
        format!("dovecot:{}", self.socket().display())
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.master.id().to_string()).status();
        let _ = self.master.wait();
    }
}

/// Who there is.
pub(crate) const USER: &str = "tim";
pub(crate) const PASSWORD: &str = "tanstaaftanstaaf";

fn id(option: &str) -> String {
    let (_, name) = run(Command::new("id").arg(option));
    name.trim().to_owned()
}
