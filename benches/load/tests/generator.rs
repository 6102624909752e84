//! The generator against the bare loop, against our own engine, and against a server that doesn't say what it should.

// What a server has used is read from /proc.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use sansmtp::auth::KnownPassword;
use sansmtp::{Auth, AuthRequest, AuthResult, Config, Envelope, Handler, Hooks, Session, Verdict};
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn each_workload_is_measured_on_the_bare_loop() {
    let directory = TempDir::new().expect("there is room for a directory");
    let bare = Bare::start(directory.path());
    for workload in ["auth", "starttls", "submit", "pipelined", "large"] {
        assert_works(&load(workload, bare.address, bare.process.id(), &[]), workload);
    }
    for workload in ["idle", "idle-tls"] {
        let told = told(&load(workload, bare.address, bare.process.id(), &["--connections", "64"]), workload);
        assert!(told.get("after").and_then(Value::as_u64) > Some(0), "{workload}: {told}");
    }
}

#[test]
fn each_workload_is_measured_on_our_engine() {
    let address = serve();
    for workload in ["auth", "starttls", "submit", "pipelined", "large"] {
        assert_works(&load(workload, address, std::process::id(), &[]), workload);
    }
}

#[test]
fn a_refusal_is_never_counted() {
    let output = load("auth", serve(), std::process::id(), &["--password", "wrong"]);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("instead of 235 came \"535 "), "{error}");
}

#[test]
fn tables_and_chart_are_made_of_results() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "python3 is to be there");
        eprintln!("skipped: there is no python3");
        return;
    }
    let directory = TempDir::new().expect("there is room for a directory");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new("python3")
        .args(["-B", "run", "--from", "tests/results.json", "--output"])
        .arg(directory.path())
        .current_dir(package)
        .output()
        .expect("it is there");
    assert!(made.status.success(), "{made:?}");
    let file = |name| fs::read_to_string(directory.path().join(name)).expect("it is made");
    let table = file("table.md");
    // The median of 1000, 4000 and 2000, and of 40, 60 and 50 µs, of which the loop takes 20.
    assert!(table.contains("| AUTH PLAIN, sessions/s | 8,000 | 2,000 | – |"), "{table}");
    assert!(table.contains("| AUTH PLAIN session | 20.0 | 50.0 (2.50) | – |"), "{table}");
    assert!(table.contains("| octets per idle connection | – | 3,000 | 12,000 |"), "{table}");
    assert!(table.contains("| octets per idle connection | 0.25 | go-smtp |"), "{table}");
    assert!(table.contains("go-smtp, auth: it fell over."), "{table}");
    assert!(table.contains("aiosmtpd is left out: there is no network."), "{table}");
    let chart = file("chart.svg");
    assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"), "{chart}");
    assert_eq!(chart.matches("<rect ").count(), 4, "{chart}");
}

fn load(workload: &str, address: SocketAddr, server: u32, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_load"))
        .args([workload, &address.to_string(), "--pid", &server.to_string(), "--seconds", "0.1", "--warm-up", "0"])
        .args(more)
        .output()
        .expect("it is built")
}

fn told(output: &Output, workload: &str) -> Value {
    assert!(output.status.success(), "{workload}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

fn assert_works(output: &Output, workload: &str) {
    let told = told(output, workload);
    assert!(told.get("operations").and_then(Value::as_u64) > Some(0), "{workload}: {told}");
    assert!(told.get("per_second").and_then(Value::as_f64) > Some(0.0), "{workload}: {told}");
}

/// The bare loop, until it is dropped.
struct Bare {
    process: Child,
    address: SocketAddr,
}

impl Bare {
    fn start(directory: &Path) -> Self {
        let CertifiedKey { cert, signing_key } = certificate();
        let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&certificate, cert.pem()).expect("there is room for it");
        fs::write(&key, signing_key.serialize_pem()).expect("there is room for it");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bare"));
        command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("it is built");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line).expect("it is text");
        let address = line.trim_end().strip_prefix("listening on ").expect("it says so").parse();
        Self { process, address: address.expect("it is an address") }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server in this process, with one user.
fn serve() -> SocketAddr {
    let auth = Auth::new().require_tls(false).pause(Duration::ZERO, Duration::ZERO);
    let config = Config::builder("localhost").auth(auth).auth_required(true).starttls(true);
    let user = Arc::new(KnownPassword::new(b"tanstaaftanstaaf", b"16 random octets").expect("it is a password"));
    let server = sansmtp_threads::Server::new(config.build().expect("it is valid"), move |_| User(Arc::clone(&user)));
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = server.tls(tls()).listen(any_port).expect("there is a free port");
    let address = *server.local_addresses().first().expect("it listens there");
    std::thread::spawn(|| server.run());
    address
}

struct User(Arc<KnownPassword>);

impl Handler for User {
    type Message = ();

    fn hooks(&self) -> Hooks {
        Hooks::MESSAGE
    }

    fn message(&mut self, _: &Session, _: &Envelope, (): ()) -> Verdict {
        Verdict::Accept
    }

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        self.0.answer(request)
    }
}

fn tls() -> Arc<ServerConfig> {
    let CertifiedKey { cert, signing_key } = certificate();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()));
    Arc::new(config.expect("the key is the certificate's"))
}

fn certificate() -> CertifiedKey<rcgen::KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).expect("it is a name")
}
