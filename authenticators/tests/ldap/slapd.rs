//! OpenLDAP's server, in a temporary directory, with the `USERS` of the test above.

#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::{USERS, missing};

/// A server. Ends when dropped.
pub(crate) struct Slapd {
    directory: TempDir,
    child: Option<Child>,
    port: u16,
    tls_port: u16,
}

/// What differs from server to server.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup<'a> {
    /// Lines of `slapd.conf(5)` before the database.
    pub(crate) global: &'a str,
    /// The same, in the database, before who may read what.
    pub(crate) database: &'a str,
    /// More entries, in LDIF.
    pub(crate) entries: &'a str,
    /// Whose certificate the server has; `localhost`'s where it is empty.
    pub(crate) host: &'a str,
    pub(crate) without_tls: bool,
}

impl Slapd {
    /// Starts a server. `None`, after the reason was printed, where it is not installed.
    pub(crate) fn start(setup: &Setup<'_>) -> Option<Self> {
        if !Path::new(SLAPD).exists() || !Path::new(SCHEMAS).exists() {
            missing("slapd");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut slapd = Self { directory, child: None, port: 0, tls_port: 0 };
        if !setup.without_tls {
            slapd.write_certificates(if setup.host.is_empty() { "localhost" } else { setup.host });
        }
        slapd.write_configuration(setup);
        slapd.add_entries(setup.entries);
        for _ in 0..10 {
            (slapd.port, slapd.tls_port) = two_free_ports();
            if slapd.run() {
                return Some(slapd);
            }
        }
        panic!("slapd does not start: {}", slapd.log());
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn start_again(&mut self) {
        assert!(self.run(), "slapd does not start again: {}", self.log());
    }

    /// `ldap://`, with StartTLS or in the clear.
    pub(crate) fn url(&self) -> String {
        format!("ldap://localhost:{}", self.port)
    }

    pub(crate) fn tls_url(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    pub(crate) fn unix_url(&self) -> String {
        format!("ldapi://{}", self.path("ldapi").display().to_string().replace('/', "%2F"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// What it tells of connections and operations since the first start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log is so. It tells of an operation's result after the result was sent.
    pub(crate) fn wait_for_log(&self, is_so: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !is_so(&self.log()) {
            assert!(Instant::now() < end, "{}", self.log());
            std::thread::yield_now();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whether it can be asked, after a start.
    fn run(&mut self) -> bool {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut urls = format!("ldap://127.0.0.1:{} {}", self.port, self.unix_url());
        if self.ca_file().exists() {
            write!(urls, " ldaps://127.0.0.1:{}", self.tls_port).unwrap();
        }
        let child = Command::new(SLAPD)
            .args(["-d", "stats", "-h", &urls, "-f"])
            .arg(self.path("slapd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            // It binds all of its addresses before it listens on any.
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return true;
            }
            std::thread::yield_now();
        }
    }

    fn write_certificates(&self, host: &str) {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        fs::write(self.ca_file(), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
        let authority = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        fs::write(self.path("certificate.pem"), certificate.pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    fn write_configuration(&self, setup: &Setup<'_>) {
        let mut lines = String::new();
        for schema in ["core", "cosine", "inetorgperson"] {
            writeln!(lines, "include {SCHEMAS}/{schema}.schema").unwrap();
        }
        lines += "modulepath /usr/lib/ldap\nmoduleload back_mdb\n";
        if !setup.without_tls {
            for (setting, file) in [
                ("CACertificateFile", "ca.pem"),
                ("CertificateFile", "certificate.pem"),
                ("CertificateKeyFile", "key.pem"),
            ] {
                writeln!(lines, "TLS{setting} {}", self.path(file).display()).unwrap();
            }
        }
        fs::create_dir(self.path("db")).unwrap();
        write!(
            lines,
            "{}\ndatabase mdb\nsuffix dc=example,dc=org\nrootdn cn=admin,dc=example,dc=org\ndirectory {}\n\
             maxsize 16777216\n{}\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by dn.exact={SERVICE} read by * auth\n",
            setup.global,
            self.path("db").display(),
            setup.database,
        )
        .unwrap();
        fs::write(self.path("slapd.conf"), lines).unwrap();
    }

    fn add_entries(&self, more: &str) {
        let mut ldif = format!(
            "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n\
             dn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people\n\n\
             dn: {SERVICE}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: smtp\n\
             userPassword: {}\n\n\
             dn: {NOBODY}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: nobody\n\
             userPassword: {}\n\n",
            self.hash(SERVICE_PASSWORD),
            self.hash("nobody knows it"),
        );
        for (number, (user, password)) in USERS.iter().enumerate() {
            ldif += &self.person(user, password, PEOPLE, &format!("mail: user{number}@mail.example.org"));
        }
        ldif += &self.person("gone", "gone's password", PEOPLE, "employeeType: disabled");
        ldif += more;
        fs::write(self.path("entries.ldif"), ldif).unwrap();
        let added = Command::new("/usr/sbin/slapadd")
            .args(["-q", "-f"])
            .arg(self.path("slapd.conf"))
            .arg("-l")
            .arg(self.path("entries.ldif"))
            .output()
            .unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }

    /// An entry, in LDIF (RFC 2849).
    fn person(&self, uid: &str, password: &str, parent: &str, more: &str) -> String {
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        format!(
            "dn:: {}\nobjectClass: inetOrgPerson\nuid:: {}\ncn:: {}\nsn: x\nuserPassword: {}\n{more}\n\n",
            encode(&format!("uid={uid},{parent}")),
            encode(uid),
            encode(uid),
            self.hash(password),
        )
    }

    fn hash(&self, password: &str) -> String {
        let file = self.path("password");
        fs::File::create(&file).unwrap().write_all(password.as_bytes()).unwrap();
        let output =
            Command::new("/usr/sbin/slappasswd").args(["-n", "-h", "{SSHA}", "-T"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Free when they were looked for.
fn two_free_ports() -> (u16, u16) {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let [first, second] = listeners.map(|listener| listener.local_addr().unwrap().port());
    (first, second)
}

pub(crate) const PEOPLE: &str = "ou=people,dc=example,dc=org";
pub(crate) const SERVICE: &str = "cn=smtp,dc=example,dc=org";
pub(crate) const SERVICE_PASSWORD: &str = "the service's own secret";
/// An entry with a password that nobody knows.
pub(crate) const NOBODY: &str = "cn=nobody,dc=example,dc=org";

const SLAPD: &str = "/usr/sbin/slapd";
const SCHEMAS: &str = "/etc/ldap/schema";
