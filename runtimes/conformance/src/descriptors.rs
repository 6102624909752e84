//! A process that has run out of descriptors.

use std::env;
use std::fs::File;
use std::process::Command;
use std::time::Duration;

use crate::PATIENCE;
use crate::server::{Kind, Running};

/// Runs the test of this name, `path` being its path from the crate, again in a process that may have few
/// descriptors.
pub fn accepting_goes_on_when_there_are_descriptors_again<K: Kind>(path: &str) {
    if env::var_os(IN_CHILD).is_some() {
        return run_out_of_descriptors::<K>();
    }
    if !cfg!(unix) {
        return;
    }
    let (_, name) = path.split_once("::").unwrap();
    let status = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name])
        .env(IN_CHILD, "")
        .status()
        .unwrap();
    assert!(status.success());
}

fn run_out_of_descriptors<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    let mut earlier = server.connect();
    let mut files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // A thread that waits in `accept` has a descriptor for the next connection already: the second client is
    // the one for which there is none.
    let mut greeted = Vec::new();
    let mut client = loop {
        // For the client's end.
        files.pop();
        let mut client = server.connect_silently(false);
        client.socket().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        if client.read().is_err() {
            break client;
        }
        greeted.push(client);
        assert!(greeted.len() < 2, "greeted without a descriptor");
    };
    assert!(earlier.ask("NOOP").starts_with("250 "));
    drop(files);
    client.socket().set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(client.reply().starts_with("220 "));
}

/// Set in the process that may have few descriptors.
const IN_CHILD: &str = "SANSMTP_FEW_DESCRIPTORS";
