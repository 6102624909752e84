//! Postfix as the next hop: as a smart host, and as a mail exchanger that dnsmasq tells of.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use crate::support::postfix::{Postfix, free_address};
use crate::support::{Client, eventually, number_of, numbered, run, spooled, tool};
use crate::{PASSWORD, Relayer, SENDER, USER, relayer};

#[test]
fn a_smart_host_gets_a_login_under_tls_and_who_is_unknown_there_is_reported() {
    let Some(postfix) = Postfix::start() else { return };
    let url = format!("smtp+starttls://{USER}:{PASSWORD}@localhost:{}", postfix.port());
    let authority = postfix.authority();
    let relayer = relayer(&["--relay", &url, "--relay-ca", authority.to_str().expect("it is UTF-8")]);
    let mut client = Client::log_in(relayer.program.address(0), USER, PASSWORD).expect("the server talks");
    for number in 1..=5 {
        let recipients = ["friend@example.org", "ghost@example.org"];
        let recipients = if number == 5 { &recipients[..] } else { &recipients[..1] };
        let reply = client.send_to(SENDER, recipients, &numbered(number)).expect("the server talks");
        assert!(reply.starts_with("250 "), "{reply}");
    }
    await_mails(&relayer, &postfix, "friend", 5);
    await_mails(&relayer, &postfix, "tim", 1);
    let numbers: BTreeSet<_> = postfix.mails("friend").iter().map(|mail| number_of(mail)).collect();
    assert_eq!(numbers, BTreeSet::from([1, 2, 3, 4, 5]));
    let report = String::from_utf8_lossy(&postfix.mails("tim")[0]).into_owned();
    assert!(report.contains("Final-Recipient: rfc822; ghost@example.org\r\n"), "{report}");
    assert!(report.contains("Status: 5.1.1\r\n"), "{report}");
    let log = postfix.log();
    assert!(log.contains(&format!("sasl_username={USER}")) && !log.contains(PASSWORD), "{log}");
    // More messages than sessions: these are kept.
    assert!(log.matches(" disconnect from ").count() < 8, "{log}");
    let (_, log) = relayer.program.stop();
    assert!(log.contains("tls=") && !log.contains(PASSWORD), "{log}");
}

#[test]
fn a_mail_exchanger_is_found_through_a_real_name_server() {
    let (Some(postfix), Some(names)) = (Postfix::start(), NameServer::start()) else { return };
    let port = postfix.port().to_string();
    let relayer = relayer(&["--mx", "--mx-allow-local", "--mx-port", &port, "--resolver", &names.address]);
    let mut client = Client::log_in(relayer.program.address(0), USER, PASSWORD).expect("the server talks");
    for number in 1..=5 {
        let reply = client.send(SENDER, "friend@example.org", &numbered(number)).expect("the server talks");
        assert!(reply.starts_with("250 "), "{reply}");
    }
    // Of a domain that does not exist.
    let reply = client.send(SENDER, "friend@nowhere.example.org", &numbered(6)).expect("the server talks");
    assert!(reply.starts_with("250 "), "{reply}");
    await_mails(&relayer, &postfix, "friend", 5);
    await_mails(&relayer, &postfix, "tim", 1);
    let numbers: BTreeSet<_> = postfix.mails("friend").iter().map(|mail| number_of(mail)).collect();
    assert_eq!(numbers, BTreeSet::from([1, 2, 3, 4, 5]));
    let report = String::from_utf8_lossy(&postfix.mails("tim")[0]).into_owned();
    assert!(report.contains("Final-Recipient: rfc822; friend@nowhere.example.org\r\n"), "{report}");
    relayer.program.stop();
}

/// Waits until Postfix has put so many mails into a mailbox, and the relayer has none of them any more.
fn await_mails(relayer: &Relayer, postfix: &Postfix, name: &str, count: usize) {
    eventually(|| postfix.mails(name).len() >= count);
    assert_eq!(postfix.mails(name).len(), count);
    eventually(|| spooled(&relayer.directory.path().join("spool")) == 0);
}

/// A running dnsmasq that knows `example.org`, and is asked for nothing else. Dropped, it ends.
struct NameServer {
    address: String,
    process: Child,
}

impl NameServer {
    fn start() -> Option<Self> {
        let program =
            if std::fs::exists(BESIDE_PATH).is_ok_and(|is| is) { BESIDE_PATH.into() } else { tool("dnsmasq")? };
        let address = free_address();
        let (_, user) = run(Command::new("id").arg("-un"));
        let mut command = Command::new(program);
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"])
            .args(["--pid-file=", "--listen-address=127.0.0.1", "--local=/example.org/"])
            .args([&format!("--port={}", address.port()), &format!("--user={}", user.trim())])
            .args(["--mx-host=example.org,mx.example.org,10", "--host-record=mx.example.org,127.0.0.1"]);
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("dnsmasq starts");
        let server = Self { address: address.to_string(), process };
        // It listens for TCP, too.
        eventually(|| std::net::TcpStream::connect(address).is_ok());
        Some(server)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where Debian has it, which is not in everybody's PATH.
const BESIDE_PATH: &str = "/usr/sbin/dnsmasq";
