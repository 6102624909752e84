//! Puts load on one SMTP server, and tells how much it does and what that costs it: one line of JSON.
//!
//! ```sh
//! cargo run --release -p sansmtp-load --bin load -- submit 127.0.0.1:2525 --pid "$(pgrep -x sink)"
//! ```

mod connection;
mod load;
mod measure;
#[path = "../support/metered.rs"]
mod metered;
mod process;
mod replies;
mod script;
mod tls;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use load::Target;
use process::Process;
use script::{Script, Workload};

/// Puts load on one SMTP server. A reply that is not the expected one ends the run.
#[derive(Parser)]
#[command(version)]
struct Options {
    workload: Workload,
    /// Where the server listens
    address: SocketAddr,
    /// The server's process, whose time and memory are told
    #[arg(long)]
    pid: u32,
    /// Connections at the same time [default: 32; 5000 idle ones; 4 with large messages]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_CONNECTIONS))]
    connections: Option<u16>,
    /// How long to measure
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How long to go on before
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    warm_up: f64,
    #[arg(long, default_value = "tim")]
    user: String,
    #[arg(long, default_value = "tanstaaftanstaaf")]
    password: String,
    /// Leave AUTH out, where the server refuses it in the clear and takes mail without
    #[arg(long)]
    no_auth: bool,
    /// Octets of a message's content [default: 1024; 10 MiB of a large one]
    #[arg(long, value_name = "N")]
    octets: Option<usize>,
    #[arg(long, value_name = "PATH", default_value = "friend@example.org")]
    recipient: String,
    /// End with so many messages, measured from the first connection on, instead of after a time
    #[arg(long, value_name = "N", conflicts_with_all = ["seconds", "warm_up"])]
    operations: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<serde_json::Value, Box<dyn Error>> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let Options { workload, address, .. } = *options;
    let credentials = (!options.no_auth).then_some((&*options.user, &*options.password));
    let octets = options.octets.unwrap_or_else(|| workload.message_octets());
    let script = Script::new(workload, credentials, octets, &options.recipient);
    let target = Target { address, script, tls: tls::config()? };
    let server = Process(options.pid);
    let default = match workload {
        Workload::Idle | Workload::IdleTls => 5000,
        Workload::Large => 4,
        Workload::Auth | Workload::Starttls | Workload::Submit | Workload::Pipelined => 32,
    };
    let connections = options.connections.unwrap_or(default).into();
    if let Workload::Idle | Workload::IdleTls = workload {
        return measure::memory(target, connections, server);
    }
    if let Some(operations) = options.operations {
        return measure::count(target, connections, server, operations);
    }
    let warm_up = Duration::try_from_secs_f64(options.warm_up)?;
    measure::rate(target, connections, server, warm_up, Duration::try_from_secs_f64(options.seconds)?)
}

/// Each takes a port of this machine, of which Linux gives out some 28,000.
const MOST_CONNECTIONS: i64 = 28_000;
