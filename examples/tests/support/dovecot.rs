//! A Dovecot to log in with, or to deliver to.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{eventually, maildir, run, skip};

/// A running Dovecot with one user. Dropped, it ends.
pub(crate) struct Dovecot {
    directory: TempDir,
    program: &'static str,
    /// None before it was started.
    master: Option<Child>,
    /// The socket that is there when it can be used.
    socket: &'static str,
    /// Where mailboxes are, if it has some.
    mails: Option<TempDir>,
}

impl Dovecot {
    /// One to log in with.
    pub(crate) fn start() -> Option<Self> {
        let mut dovecot = Self::prepare()?;
        dovecot.run();
        Some(dovecot)
    }

    /// Makes ready what [`run`](Self::run) starts.
    pub(crate) fn prepare() -> Option<Self> {
        Self::prepare_with("protocols =\n", "uid=65534 gid=65534 home=/nonexistent", "auth-client")
    }

    /// One whose user has a mailbox, into which LMTP delivers.
    pub(crate) fn with_lmtp() -> Option<Self> {
        let Some(_) = ["/usr/lib/dovecot/lmtp", "/usr/local/libexec/dovecot/lmtp", "/usr/libexec/dovecot/lmtp"]
            .into_iter()
            .find(|path| fs::exists(path).is_ok_and(|is| is))
        else {
            skip("dovecot-lmtpd is not installed");
            return None;
        };
        let mails = TempDir::new().expect("there is room for a directory");
        // Who is not root can store mail as itself only.
        let [uid, gid] = ["-u", "-g"].map(|option| if id("-u") == "0" { "65534".to_owned() } else { id(option) });
        let at = mails.path().display();
        // Whoever delivers there has no other right to it.
        fs::set_permissions(mails.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("it is ours");
        let settings = format!(
            "protocols = lmtp\nfirst_valid_uid = 1\nauth_username_format = %Ln\nmail_location = maildir:{at}/%n\n\
             postmaster_address = postmaster@localhost\nservice lmtp {{\n unix_listener lmtp {{\n  mode = 0600\n }}\n}}\n"
        );
        let mut dovecot = Self::prepare_with(&settings, &format!("uid={uid} gid={gid} home={at}/%n"), "lmtp")?;
        dovecot.mails = Some(mails);
        dovecot.run();
        Some(dovecot)
    }

    fn prepare_with(settings: &str, userdb: &str, socket: &'static str) -> Option<Self> {
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
            "base_dir = {at}/run\nstate_dir = {at}/state\nlog_path = {at}/log\nssl = no\n{settings}\
             default_internal_user = {user}\ndefault_internal_group = {group}\ndefault_login_user = {user}\n\
             auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-256 anonymous external\n\
             passdb {{\n driver = passwd-file\n args = {at}/users\n}}\n\
             userdb {{\n driver = static\n args = {userdb}\n}}\n\
             service anvil {{\n chroot =\n unix_listener anvil-auth-penalty {{\n  mode = 0\n }}\n}}\nservice stats {{\n chroot =\n}}\n"
        );
        fs::write(directory.path().join("dovecot.conf"), configuration).expect("it can be written");
        fs::write(directory.path().join("users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n")).expect("it can be written");
        Some(Self { directory, program, master: None, socket, mails: None })
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn run(&mut self) {
        let mut master = Command::new(self.program);
        master.args(["-F", "-c"]).arg(self.directory.path().join("dovecot.conf"));
        let master = master.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.master = Some(master.expect("Dovecot starts"));
        eventually(|| UnixStream::connect(self.socket(self.socket)).is_ok());
    }

    /// The socket by which others ask who may log in, which processes of other users may use, too.
    pub(crate) fn open_socket(&self) -> PathBuf {
        let socket = self.socket("auth-client");
        let mode = |path: &std::path::Path, mode| {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("it is ours");
        };
        mode(self.directory.path(), 0o755);
        mode(&self.directory.path().join("run"), 0o755);
        mode(&socket, 0o666);
        socket
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join("run").join(name)
    }

    /// The URL of its LMTP.
    pub(crate) fn lmtp(&self) -> String {
        format!("lmtp+unix:{}", self.socket("lmtp").display())
    }

    /// What the user has got, with LMTP.
    pub(crate) fn mails(&self) -> Vec<Vec<u8>> {
        let mails = self.mails.as_ref().expect("it has mailboxes").path().join(USER);
        if mails.join("new").is_dir() { maildir(&mails) } else { Vec::new() }
    }

    pub(crate) fn users(&self) -> String {
        format!("dovecot:{}", self.socket("auth-client").display())
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let Some(master) = &mut self.master else { return };
        let _ = Command::new("kill").arg(master.id().to_string()).status();
        let _ = master.wait();
    }
}

/// Who there is.
pub(crate) const USER: &str = "tim";
pub(crate) const PASSWORD: &str = "tanstaaftanstaaf";

fn id(option: &str) -> String {
    let (_, name) = run(Command::new("id").arg(option));
    name.trim().to_owned()
}
