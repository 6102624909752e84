//! Many connections, and too many.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use sansmtp::{Envelope, Handler, Hooks, Session, Verdict, XClient};
use socket2::{Domain, Socket, Type};

use crate::PATIENCE;
use crate::client::Client;
use crate::handler::{Gathered, Play, Scripted, Seen, ThrowsAway};
use crate::server::{Kind, Running, usual_plan};

const TOO_MANY: &str = "421 4.7.0 Too many connections, try again later\r\n";
const TOO_MANY_FROM_ADDRESS: &str = "421 4.7.0 Too many connections from your address\r\n";

/// Connects until there is a place: when one is free is up to the server.
fn connect_when_there_is_a_place(mut connect: impl FnMut() -> Client) -> Client {
    let begun = Instant::now();
    loop {
        let mut client = connect();
        match client.try_reply() {
            Ok(reply) if reply.starts_with("220 ") => return client,
            // Under TLS it is closed before the handshake.
            Ok(_) | Err(_) => assert!(begun.elapsed() < PATIENCE),
        }
        thread::yield_now();
    }
}

/// Over all listeners, whoever they are.
pub fn who_is_too_many_is_turned_away<K: Kind>() {
    let server = Running::start_like::<K>(|config| config, |plan| plan.max_connections = Some(3));
    for leaves in [0, 1, 2] {
        let connect_first = || connect_when_there_is_a_place(|| server.connect_silently(false));
        let mut clients = vec![connect_first(), connect_first()];
        clients.push(connect_when_there_is_a_place(|| server.connect_silently(true)));
        let made = server.seen.peers.lock().unwrap().len();
        for _ in 0..3 {
            assert_eq!(server.connect_silently(false).rest(), TOO_MANY);
            // It would take it for a handshake.
            assert_eq!(Client::new(server.tls).rest(), "");
        }
        // Also who talks first, and who does not read.
        let mut eager = Client::new(server.clear);
        eager.say("EHLO client.example\r\n");
        assert!(eager.try_reply().is_ok_and(|reply| reply == TOO_MANY) || eager.read().is_err());
        drop(Client::new(server.clear));
        assert_eq!(server.seen.peers.lock().unwrap().len(), made, "a handler was made");
        for client in &mut clients {
            assert!(client.ask("NOOP").starts_with("250 "));
        }
        clients.remove(leaves);
        clients.push(connect_when_there_is_a_place(|| server.connect_silently(leaves == 2)));
        assert!(clients.iter_mut().all(|client| client.ask("NOOP").starts_with("250 ")));
    }
}

fn connect_from(source: IpAddr, to: SocketAddr) -> Client {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Client::over(TcpStream::from(socket)).unwrap()
}

/// The others are not concerned.
pub fn who_is_too_many_from_one_address_is_turned_away<K: Kind>() {
    let server = Running::start_like::<K>(|config| config, |plan| plan.max_connections_per_address = Some(2));
    let [one, other] = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap());
    let mut clients = vec![connect_from(one, server.clear), connect_from(one, server.tls).under_tls()];
    assert!(clients.iter_mut().all(|client| client.reply().starts_with("220 ")));
    assert_eq!(connect_from(one, server.clear).rest(), TOO_MANY_FROM_ADDRESS);
    assert_eq!(connect_from(one, server.tls).rest(), "");
    if cfg!(target_os = "linux") {
        clients.push(connect_from(other, server.clear));
        clients.push(connect_from(other, server.tls).under_tls());
        assert!(clients[2..].iter_mut().all(|client| client.reply().starts_with("220 ")));
        assert_eq!(connect_from(other, server.clear).rest(), TOO_MANY_FROM_ADDRESS);
    }
    clients.remove(0);
    clients.push(connect_when_there_is_a_place(|| connect_from(one, server.clear)));
    assert!(clients.iter_mut().all(|client| client.ask("NOOP").starts_with("250 ")));
}

/// From elsewhere there may be fifty, and a client is told at once that it is one too many. Loopback is a proxy here.
pub fn fifty_from_one_address_and_any_number_from_loopback<K: Kind>() {
    let proxy = || sansmtp::Proxy::from_networks(["127.0.0.1".parse().unwrap()]);
    let change = |plan: &mut crate::Plan| plan.exempt = vec!["198.51.100.0/24".parse().unwrap()];
    let server = Running::start_like::<K>(|config| config.proxy(proxy()), change);
    let connect = |address: &str| {
        let mut client = Client::new(server.clear);
        client.say(format!("PROXY TCP4 {address} 192.0.2.100 1024 25\r\n"));
        let reply = client.reply();
        (client, reply)
    };
    let served = |address| {
        let connected: Vec<_> = (0..60).map(|_| connect(address)).collect();
        let served = connected.iter().filter(|(_, reply)| reply.starts_with("220 ")).count();
        assert!(connected.iter().skip(served).all(|(_, reply)| reply == TOO_MANY_FROM_ADDRESS));
        served
    };
    assert_eq!([served("192.0.2.1"), served("127.0.0.1"), served("198.51.100.1")], [50, 60, 60]);
    if cfg!(target_os = "linux") {
        let crowd: Vec<_> = (0..60).map(|_| connect_from("127.0.0.2".parse().unwrap(), server.clear)).collect();
        assert!(crowd.into_iter().all(|mut client| client.reply().starts_with("220 ")));
    }
}

/// A proxy's address is that of all its clients.
pub fn the_clients_of_a_proxy_are_not_counted_as_one<K: Kind>() {
    let proxy = || sansmtp::Proxy::from_networks(["127.0.0.1".parse().unwrap()]);
    let change = |plan: &mut crate::Plan| plan.max_connections_per_address = Some(1);
    let server = Running::start_like::<K>(|config| config.proxy(proxy()), change);
    let clients: Vec<_> = (1..4)
        .map(|number| {
            let mut client = server.connect_silently(false);
            client.say(format!("PROXY TCP4 192.0.2.{number} 192.0.2.100 1024 25\r\n"));
            assert!(client.reply().starts_with("220 "));
            client
        })
        .collect();
    drop(clients);
}

/// By whatever protocol the proxy speaks of them; a proxy that speaks for itself is not counted.
pub fn each_client_of_a_proxy_is_counted_by_its_address<K: Kind>() {
    let proxy = || sansmtp::Proxy::from_networks(["127.0.0.1".parse().unwrap()]);
    let change = |plan: &mut crate::Plan| plan.max_connections_per_address = Some(1);
    let server = Running::start_like::<K>(|config| config.proxy(proxy()), change);
    let connect = |address: &str, to| {
        let mut client = Client::new(to);
        client.say(format!("PROXY {address}\r\n"));
        client
    };
    let [one, other] = [1, 2].map(|number| format!("TCP4 192.0.2.{number} 192.0.2.100 1024 25"));
    let mut first = connect(&one, server.clear);
    assert!(first.reply().starts_with("220 "));
    assert_eq!(connect(&one, server.clear).rest(), TOO_MANY_FROM_ADDRESS);
    assert_eq!(connect(&one, server.tls).rest(), "");
    let mut others = ["UNKNOWN", &other, "UNKNOWN"].map(|address| connect(address, server.clear));
    assert!(others.iter_mut().all(|client| client.reply().starts_with("220 ")));
    assert!(first.ask("NOOP").starts_with("250 "));
    drop(first);
    let mut next = connect_when_there_is_a_place(|| connect(&one, server.clear));
    assert!(next.ask("NOOP").starts_with("250 "));
}

/// Notes each client that it is asked about.
struct Greets(Arc<Seen>);

impl Handler for Greets {
    type Message = ();

    fn hooks(&self) -> Hooks {
        Hooks::CONNECT
    }

    fn connect(&mut self, _: &Session) -> Verdict {
        self.0.note("connect");
        Verdict::Accept
    }
}

impl Scripted for Greets {}

/// Nobody is asked about a client that is turned away, also if a proxy has named it.
pub fn who_is_too_many_behind_a_proxy_costs_the_handler_nothing<K: Kind>() {
    let proxy = sansmtp::Proxy::from_networks(["127.0.0.1".parse().unwrap()]);
    let mut plan = usual_plan(|config| config.proxy(proxy));
    plan.max_connections_per_address = Some(1);
    let seen = Arc::<Seen>::default();
    let handlers = Arc::clone(&seen);
    let server = Running::start_plan::<K, _>(&plan, seen, move |_| Greets(Arc::clone(&handlers)));
    let connect = || {
        let mut client = Client::new(server.clear);
        client.say("PROXY TCP4 192.0.2.1 192.0.2.100 1024 25\r\n");
        client
    };
    let mut first = connect();
    assert!(first.reply().starts_with("220 "));
    assert_eq!(connect().rest(), TOO_MANY_FROM_ADDRESS);
    assert_eq!(*server.seen.log.lock().unwrap(), ["connect"]);
}

/// Whoever may use XCLIENT speaks for others, too: directly, or behind a PROXY header.
pub fn who_may_use_xclient_is_not_counted<K: Kind>() {
    let proxy = sansmtp::Proxy::from_networks(["127.0.0.1".parse().unwrap()]);
    let xclient = XClient::from_networks(["127.0.0.2".parse().unwrap(), "192.0.2.1".parse().unwrap()]);
    let change = |plan: &mut crate::Plan| plan.max_connections_per_address = Some(1);
    let server = Running::start_like::<K>(|config| config.proxy(proxy).xclient(xclient), change);
    let connect = || {
        let mut client = Client::new(server.clear);
        client.say("PROXY TCP4 192.0.2.1 192.0.2.100 1024 25\r\n");
        client
    };
    let mut clients: Vec<_> = (0..3).map(|_| connect()).collect();
    if cfg!(target_os = "linux") {
        clients.extend((0..3).map(|_| connect_from("127.0.0.2".parse().unwrap(), server.clear)));
    }
    assert!(clients.iter_mut().all(|client| client.reply().starts_with("220 ")));
}

/// Panics wherever it is told to, and when it goes.
struct Bursts(Play);

impl Handler for Bursts {
    type Message = Gathered;

    fn data(&mut self, session: &Session, envelope: &Envelope, message: &mut Gathered) -> Verdict {
        self.0.data(session, envelope, message)
    }
}

impl Scripted for Bursts {}

impl Drop for Bursts {
    fn drop(&mut self) {
        panic!("as asked");
    }
}

/// Wherever the panic was.
pub fn a_place_is_free_again_after_a_panic<K: Kind>() {
    let unlucky = AtomicBool::new(false);
    let make = move |_| {
        assert!(unlucky.fetch_xor(true, Ordering::Relaxed), "as asked");
        Bursts(Play::new(&Arc::default()))
    };
    let mut plan = usual_plan(|config| config);
    plan.max_connections = Some(1);
    let server = Running::start_plan::<K, _>(&plan, Arc::default(), make);
    for tls in [false, true, false, true] {
        let mut client = connect_when_there_is_a_place(|| server.connect_silently(tls));
        client.begin_message();
        client.say("PANIC\r\n.\r\n");
        assert!(client.reply().starts_with("451 "));
    }
}

/// Says which part of a test a process plays.
const PART: &str = "SANSMTP_CONFORMANCE_PART";

fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// Another process of the same test, with so many descriptors. It ends when it is dropped.
struct Process {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Process {
    /// `descriptors` as the shell's `ulimit -n` takes them.
    fn start(test: &str, part: &str, descriptors: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {descriptors} && exec \"$@\""), "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// What it says behind `what`.
    fn hear(&mut self, what: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "no {what}");
            if let Some((_, rest)) = line.split_once(what) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Lets it end, and expects it to have gone well.
    fn end(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After `end` there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until nobody wants it any more, with a file open for each of its descriptors but so many, if it is told to.
fn serve_in_this_process<K: Kind>(plan: &crate::Plan, left: Option<usize>) {
    let server = Running::start_plan::<K, _>(plan, Arc::default(), |_| ThrowsAway);
    // Whatever the runtime opens for its first connection is open then.
    drop(server.connect());
    let mut files = Vec::new();
    if let Some(left) = left {
        files.extend(std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()));
        files.truncate(files.len() - left);
    }
    println!("address={}", server.clear);
    let _ = std::io::stdout().flush();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Those who are there go on, and so does the listener when descriptors are back.
pub fn descriptors_run_out_and_come_back<K: Kind>(test: &str) {
    if part().is_some() {
        return serve_in_this_process::<K>(&usual_plan(|config| config), Some(40));
    }
    let mut process = Process::start(test, "server", "256");
    let address: SocketAddr = process.hear("address=").parse().unwrap();
    for _ in 0..2 {
        let mut clients: Vec<_> = (0..100).map(|_| Client::new(address)).collect();
        for client in &mut clients[..38] {
            assert!(client.reply().starts_with("220 "));
        }
        for client in &mut clients[..38] {
            assert!(client.ask("NOOP").starts_with("250 "));
        }
        // There is no descriptor for it before others have gone.
        let mut last = clients.pop().unwrap();
        last.transport().set_nonblocking(true).unwrap();
        assert_eq!(last.read().unwrap_err().kind(), ErrorKind::WouldBlock);
        last.transport().set_nonblocking(false).unwrap();
        drop(clients);
        assert!(last.reply().starts_with("220 "));
    }
    process.end();
}

/// Half of the descriptors are left for handlers' files, and whoever is one too many hears of it. A soft limit is raised.
pub fn a_crowd_leaves_descriptors_for_handlers<K: Kind>(test: &str) {
    if part().is_some() {
        return serve_in_this_process::<K>(&usual_plan(|config| config), None);
    }
    for (descriptors, served) in [("100", 50), ("-S 100 && ulimit -H -n 160", 80)] {
        let mut process = Process::start(test, "server", descriptors);
        let address: SocketAddr = process.hear("address=").parse().unwrap();
        // The first connection may not have quite gone.
        let mut clients = Vec::new();
        clients.extend((0..served).map(|_| connect_when_there_is_a_place(|| Client::new(address))));
        for _ in 0..100 {
            assert_eq!(Client::new(address).rest(), TOO_MANY);
        }
        assert!(clients.iter_mut().all(|client| client.ask("NOOP").starts_with("250 ")));
        process.end();
    }
}

/// As many as there are descriptors for.
pub fn ten_thousand_connects_at_once<K: Kind>(test: &str) {
    match part().as_deref() {
        Some("server") => {
            let mut plan = usual_plan(|config| config);
            plan.max_connections = Some(10_000);
            return serve_in_this_process::<K>(&plan, None);
        }
        Some(_) => {}
        None => {
            let mut clients = Process::start(test, "clients", "$(ulimit -H -n)");
            println!("{} connections at once", clients.hear("connected="));
            return clients.end();
        }
    }
    let mut process = Process::start(test, "server", "$(ulimit -H -n)");
    let address: SocketAddr = process.hear("address=").parse().unwrap();
    let limit = Command::new("sh").args(["-c", "ulimit -n"]).output().unwrap();
    let limit = String::from_utf8(limit.stdout).unwrap().trim().parse().unwrap_or(usize::MAX);
    let number = (limit - 64).min(10_000);
    let mut clients: Vec<_> = thread::scope(|scope| {
        let connecting: Vec<_> = (0..10)
            .map(|thread| {
                let mine = (thread..number).step_by(10);
                scope.spawn(move || mine.map(|_| Client::new(address)).collect::<Vec<_>>())
            })
            .collect();
        connecting.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for client in &mut clients {
        assert_eq!(client.reply(), "220 mx.example.org ESMTP\r\n");
    }
    println!("connected={}", clients.len());
    for client in &mut clients {
        client.say("NOOP\r\n");
    }
    for client in &mut clients {
        assert!(client.reply().starts_with("250 "));
    }
    drop(clients);
    process.end();
}
