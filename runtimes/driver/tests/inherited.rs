//! Listeners that are handed over as systemd does it, to another process of this test.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use sansmtp_driver::{Inherited, inherited_listeners};

const PART: &str = "SANSMTP_DRIVER_PART";

/// Starts this test again with two sockets as its descriptors 3 and 4, and expects it to go well.
fn hand_over(part: &str, pid: &str, names: &str, one: OwnedFd, other: OwnedFd) {
    let script = format!("LISTEN_PID={pid} LISTEN_FDS=2 {names} exec \"$@\" 3<&0 4<&2 </dev/null 2>/dev/null");
    let output = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["sockets_of_the_service_manager_are_listeners", "--exact"])
        .env(PART, part)
        .stdin(Stdio::from(one))
        .stderr(Stdio::from(other))
        .output()
        .unwrap();
    assert!(output.status.success(), "{part}, {pid:?}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn sockets_of_the_service_manager_are_listeners() {
    match std::env::var(PART).as_deref() {
        Err(_) => {}
        Ok("greet") => return greet(&["submission", "local"]),
        Ok("greet without names") => return greet(&["", ""]),
        Ok("another process") => return assert!(inherited_listeners().unwrap().is_empty()),
        Ok(_) => return assert!(inherited_listeners().is_err()),
    }
    let path = std::env::temp_dir().join(format!("sansmtp-inherited-{}", std::process::id()));
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let fds = || (OwnedFd::from(tcp.try_clone().unwrap()), OwnedFd::from(unix.try_clone().unwrap()));
    for (part, pid, names) in [
        ("greet", "$$", "LISTEN_FDNAMES=submission:local"),
        ("greet without names", "$$", ""),
        ("greet without names", "", ""),
    ] {
        let mut clients = (TcpStream::connect(tcp.local_addr().unwrap()).unwrap(), UnixStream::connect(&path).unwrap());
        let (one, other) = fds();
        hand_over(part, pid, names, one, other);
        let mut said = [String::new(), String::new()];
        clients.0.read_to_string(&mut said[0]).unwrap();
        clients.1.read_to_string(&mut said[1]).unwrap();
        assert_eq!(said, ["220 network\r\n", "220 local\r\n"]);
    }
    let (one, other) = fds();
    hand_over("another process", "1", "", one, other);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    hand_over("an error", "$$", "", udp.into(), fds().1);
    std::fs::remove_file(path).unwrap();
}

fn greet(names: &[&str]) {
    let listeners = inherited_listeners().unwrap();
    assert_eq!(listeners.iter().map(|listener| &listener.name).collect::<Vec<_>>(), names);
    assert!(inherited_listeners().unwrap().is_empty(), "they are handed over once");
    for Inherited { listener, .. } in listeners {
        let (stream, peer) = listener.accept().unwrap();
        let from = if peer.is_local() { "local" } else { "network" };
        (&stream).write_all(format!("220 {from}\r\n").as_bytes()).unwrap();
    }
}
