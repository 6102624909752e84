//! Listeners of every kind, each with its configuration, and their certificates.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sansmtp::Config;
use sansmtp_driver::Listener;

use crate::certificate::{RENEWED, TLS};
use crate::client::Client;
use crate::server::{ANY_PORT, Kind, Plan, Running, run_plan};
use crate::{LONG, PATIENCE};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sansmtp-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("smtp")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn send_mail(client: &mut Client, server: &Running) {
    client.begin_message();
    client.say("x\r\n.\r\n");
    assert!(client.reply().starts_with("250 2.0.0 "));
    assert_eq!(server.seen.messages.lock().unwrap().pop().unwrap(), b"x\r\n");
    assert!(client.ask("QUIT").starts_with("221 "));
    assert_eq!(client.rest(), "");
}

fn greeted(mut client: Client) -> Client {
    assert_eq!(client.reply(), "220 mx.example.org ESMTP\r\n");
    client
}

/// A listener has the configuration that was set before it was added.
pub fn each_listener_has_its_configuration<K: Kind>() {
    let other = Config::builder("submission.example.org").auth_required(true).auth(sansmtp::Auth::new()).starttls(true);
    let other = other.build().unwrap();
    let server = Running::start_like::<K>(|config| config, |plan| plan.other = Some(other));
    let &[other] = &server.others[..] else { panic!("three listeners") };
    let mut client = server.connect();
    assert!(client.ask("EHLO client.example").contains("AUTH"));
    assert!(client.ask("MAIL FROM:<a@example.org>").starts_with("250 "));
    assert!(server.connect_tls().ask("NOOP").starts_with("250 "));
    let mut client = Client::new(other);
    assert_eq!(client.reply(), "220 submission.example.org ESMTP\r\n");
    assert!(!client.ask("EHLO client.example").contains("AUTH"));
    assert!(client.ask("STARTTLS").starts_with("220 "));
    let mut client = client.under_tls();
    assert!(client.ask("EHLO client.example").contains("AUTH"));
    assert!(client.ask("MAIL FROM:<a@example.org>").starts_with("530 5.7.0 "));
}

/// Wherever it is among the listeners.
pub fn every_listener_that_offers_tls_needs_a_tls_configuration<K: Kind>() {
    let config = |starttls| Config::builder("mx.example.org").starttls(starttls).build().unwrap();
    let handed_over = Arc::new(Listener::from(TcpListener::bind(ANY_PORT).unwrap()));
    for plan in [
        Plan { other: Some(config(true)), ..Plan::new(config(false)) },
        Plan { other: Some(config(false)), ..Plan::new(config(true)) },
        Plan { handed_over: vec![(handed_over, true)], ..Plan::new(config(false)) },
    ] {
        assert_eq!(run_plan::<K>(&plan).unwrap_err().kind(), ErrorKind::InvalidInput);
        run_plan::<K>(&Plan { tls: Some(TLS.0.clone()), ..plan }).unwrap();
    }
}

/// And its file goes with it.
pub fn a_unix_socket_is_a_listener_like_any_other<K: Kind>() {
    let directory = Directory::new();
    let path = directory.socket();
    let server = Running::start_like::<K>(|config| config, |plan| plan.unix = Some(path.clone()));
    assert_eq!(server.others.len(), 0);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    send_mail(&mut greeted(Client::local(&path)), &server);
    assert!(server.seen.peers.lock().unwrap().pop().unwrap().is_local());

    let mut client = greeted(Client::local(&path));
    client.ask("EHLO client.example");
    assert!(client.ask("STARTTLS").starts_with("220 "));
    send_mail(&mut client.under_tls(), &server);

    // A client that leaves, and one that does not read.
    let mut client = greeted(Client::local(&path));
    client.begin_message();
    client.say("half a message\r\n");
    drop(client);
    server.seen.wait_for("Aborted { reason: ConnectionLost");
    let mut idle = greeted(Client::local(&path));
    let mut other = greeted(Client::local(&path));
    other.begin_message();
    server.shutdown().begin(LONG);
    assert_eq!(idle.rest(), "421 4.3.2 The server is shutting down\r\n");
    assert!(!path.exists());
    other.say("x\r\n.\r\n");
    assert!(other.rest().starts_with("250 2.0.0 Message accepted\r\n421 4.3.2 "));
    drop((idle, other));
    assert!(server.stop(LONG) < PATIENCE);
}

fn unix_plan(path: &Path) -> Plan {
    let config = Config::builder("mx.example.org").build().unwrap();
    Plan { unix: Some(path.to_owned()), ..Plan::new(config) }
}

/// But only what a server has left behind.
pub fn a_stale_unix_socket_is_replaced<K: Kind>() {
    let directory = Directory::new();
    let path = directory.socket();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Running::start_like::<K>(|config| config, |plan| plan.unix = Some(path.clone()));
    send_mail(&mut greeted(Client::local(&path)), &server);

    // Somebody listens.
    assert_eq!(run_plan::<K>(&unix_plan(&path)).unwrap_err().kind(), ErrorKind::AddrInUse);
    send_mail(&mut greeted(Client::local(&path)), &server);

    // What is there by now is somebody else's.
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    // A thread that waits for connections can be reached by nobody any more, and is left alone.
    assert!(server.stop(Duration::ZERO) < PATIENCE);
    assert!(UnixStream::connect(&path).is_ok());
    drop(other);

    // It is no socket.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert_eq!(run_plan::<K>(&unix_plan(&path)).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    // There is no such place.
    let nowhere = directory.0.join("nowhere/smtp");
    assert_eq!(run_plan::<K>(&unix_plan(&nowhere)).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Whether they wait or not, and whoever else has them.
pub fn listeners_are_handed_over<K: Kind>() {
    let directory = Directory::new();
    let path = directory.socket();
    let (clear, tls) = (TcpListener::bind(ANY_PORT).unwrap(), TcpListener::bind(ANY_PORT).unwrap());
    tls.set_nonblocking(true).unwrap();
    let (clear_address, tls_address) = (clear.local_addr().unwrap(), tls.local_addr().unwrap());
    let local = UnixListener::bind(&path).unwrap();
    // Before anybody serves it.
    let early = Client::new(clear_address);
    let handed_over = vec![
        (Arc::new(Listener::from(clear)), false),
        (Arc::new(Listener::from(tls)), true),
        (Arc::new(Listener::from(local)), true),
    ];
    let kept = handed_over.clone();
    let server = Running::start_like::<K>(|config| config, |plan| plan.handed_over = handed_over);
    assert_eq!(server.others, [clear_address, tls_address]);
    for client in [
        early,
        Client::new(clear_address),
        Client::new(tls_address).under_tls(),
        Client::local(&path).under_tls(),
        server.connect_silently(false),
    ] {
        send_mail(&mut greeted(client), &server);
    }
    assert!(server.stop(LONG) < PATIENCE);
    // The next server finds those who have come meanwhile.
    let meanwhile = Client::new(clear_address);
    assert!(path.exists());
    let server = Running::start_like::<K>(|config| config, |plan| plan.handed_over = kept);
    send_mail(&mut greeted(meanwhile), &server);
    assert!(TcpStream::connect(tls_address).is_ok());
}

/// Those who come later get the new one; nobody is disturbed.
pub fn certificates_are_renewed_while_the_server_runs<K: Kind>() {
    let (old, new) = (&TLS.1, &RENEWED.1);
    let server = Running::start::<K>(|config| config);
    let mut under_tls = server.connect_tls();
    let mut in_the_clear = server.connect();
    server.certificates().replace(RENEWED.0.clone());
    assert!(Arc::ptr_eq(&server.certificates().current().unwrap(), &RENEWED.0));

    send_mail(&mut under_tls, &server);
    in_the_clear.ask("EHLO client.example");
    assert!(in_the_clear.ask("STARTTLS").starts_with("220 "));
    send_mail(&mut in_the_clear.under_tls_trusting(old), &server);

    assert!(Client::new(server.tls).under_tls_trusting(old).try_reply().is_err());
    send_mail(&mut greeted(Client::new(server.tls).under_tls_trusting(new)), &server);
    let mut client = server.connect();
    client.ask("EHLO client.example");
    assert!(client.ask("STARTTLS").starts_with("220 "));
    send_mail(&mut client.under_tls_trusting(new), &server);
}
