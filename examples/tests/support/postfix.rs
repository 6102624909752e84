//! A Postfix to deliver to.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::dovecot::Dovecot;
use super::{Authority, Client, eventually, maildir, run, skip};

/// A running Postfix with a mailbox for each of [`MAILBOXES`], STARTTLS, and a login that Dovecot checks. Dropped, it
/// ends.
pub(crate) struct Postfix {
    directory: TempDir,
    address: SocketAddr,
    process: Child,
    /// It starts as root only.
    is_root: bool,
    _dovecot: Dovecot,
}

impl Postfix {
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = ["/usr/lib/postfix/sbin", "/usr/libexec/postfix", "/usr/lib/postfix"]
            .into_iter()
            .find(|path| Path::new(path).join("master").exists())
        else {
            skip("postfix is not installed");
            return None;
        };
        let uid = id("-u");
        let is_root = uid == "0";
        if !is_root && !Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|output| output.status.success()) {
            skip("postfix starts as root only, and sudo needs a password or is not there");
            return None;
        }
        let dovecot = Dovecot::start()?;
        let directory = TempDir::new().expect("there is room for a directory");
        let at = directory.path();
        // Its processes are several users'.
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Authority::new().write(at);
        for part in ["config", "mail"] {
            fs::create_dir(at.join(part)).expect("there is room for a directory");
        }
        fs::set_permissions(at.join("mail"), fs::Permissions::from_mode(0o777)).expect("it is ours");
        let address = free_address();
        // Whoever is not root wants to read the mail.
        let (owner, group) = if is_root { ("65534".to_owned(), "65534".to_owned()) } else { (uid, id("-g")) };
        let mailboxes: Vec<_> = MAILBOXES.map(|name| format!("{{ {name}@example.org = {name}/ }}")).into();
        let here = at.display();
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {here}/queue\ndata_directory = {here}/data\n\
             daemon_directory = {programs}\nmaillog_file = {here}/log\nmaillog_file_prefixes = {here}\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmyhostname = localhost\nmydestination =\nmynetworks =\n\
             alias_maps =\nsmtpd_peername_lookup = no\nlocal_header_rewrite_clients =\n\
             virtual_mailbox_domains = example.org\nvirtual_mailbox_base = {here}/mail\n\
             virtual_mailbox_maps = inline:{{ {} }}\nvirtual_minimum_uid = 1\n\
             virtual_uid_maps = static:{owner}\nvirtual_gid_maps = static:{group}\n\
             smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination\n\
             smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {here}/cert.pem\nsmtpd_tls_key_file = {here}/key.pem\n\
             smtpd_tls_auth_only = yes\nsmtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\n\
             smtpd_sasl_path = {}\n",
            mailboxes.join(", "),
            dovecot.open_socket().display(),
        );
        fs::write(at.join("config/main.cf"), main).expect("it can be written");
        fs::write(at.join("config/master.cf"), format!("{address} inet n - n - - smtpd\n{SERVICES}"))
            .expect("it can be written");
        let script = "cd \"$0\" && mkdir queue data && chown postfix data && exec postfix -c \"$0/config\" start-fg";
        let mut command = as_root(is_root, "sh");
        command.args(["-c", script]).arg(at).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("Postfix starts");
        let postfix = Self { directory, address, process, is_root, _dovecot: dovecot };
        eventually(|| Client::greet(address).is_ok());
        Some(postfix)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate that has signed its own, which is for `localhost`.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// What is in a mailbox, with the line ends that it was sent with.
    pub(crate) fn mails(&self, name: &str) -> Vec<Vec<u8>> {
        let directory = self.directory.path().join("mail").join(name);
        if !directory.join("new").exists() {
            return Vec::new();
        }
        let lines = |mail: Vec<u8>| mail.split(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
        maildir(&directory).into_iter().map(|mail| lines(mail).join(&b"\r\n"[..])).collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = as_root(self.is_root, "postfix")
            .arg("-c")
            .arg(self.directory.path().join("config"))
            .arg("abort")
            .stderr(Stdio::null())
            .status();
        let _ = self.process.wait();
        // Not all of it is ours.
        let _ = as_root(self.is_root, "rm").arg("-rf").arg(self.directory.path()).status();
    }
}

fn as_root(is_root: bool, program: &str) -> Command {
    if is_root {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// An address that nobody uses. Postfix cannot be told to choose one.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("the listener is bound")
}

fn id(option: &str) -> String {
    let (_, name) = run(Command::new("id").arg(option));
    name.trim().to_owned()
}

/// Who there is at example.org.
const MAILBOXES: [&str; 2] = ["friend", "tim"];

const SERVICES: &str = "\
    cleanup unix n - n - 0 cleanup\n\
    qmgr unix n - n 300 1 qmgr\n\
    tlsmgr unix - - n 1000? 1 tlsmgr\n\
    rewrite unix - - n - - trivial-rewrite\n\
    bounce unix - - n - 0 bounce\n\
    defer unix - - n - 0 bounce\n\
    trace unix - - n - 0 bounce\n\
    proxymap unix - - n - - proxymap\n\
    error unix - - n - - error\n\
    retry unix - - n - - error\n\
    virtual unix - n n - - virtual\n\
    anvil unix - - n - 1 anvil\n\
    postlog unix-dgram n - n - 1 postlogd\n";
