//! The measurements, and how they are told.

use std::error::Error;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::{Load, Target};
use crate::process::{Cpu, Process};

/// A moment of a run.
struct Moment {
    at: Instant,
    operations: u64,
    server: Cpu,
    client: Cpu,
}

impl Moment {
    fn now(load: &Load, server: Process) -> Result<Self, Box<dyn Error>> {
        let client = Process(std::process::id());
        Ok(Self { at: Instant::now(), operations: load.operations(), server: server.cpu()?, client: client.cpu()? })
    }
}

/// Puts load on the server: for `warm_up`, and then for `duration`, which is measured.
///
/// Both moments between which is measured are those at which an operation is complete, so that few and long ones are
/// counted as exactly as many short ones.
pub(crate) fn rate(
    target: Target,
    connections: usize,
    server: Process,
    warm_up: Duration,
    duration: Duration,
) -> Result<Value, Box<dyn Error>> {
    let mut load = Load::new(target)?;
    for _ in 0..connections {
        load.open()?;
    }
    let start = Instant::now();
    complete_one_after(&mut load, start + warm_up)?;
    let before = Moment::now(&load, server)?;
    complete_one_after(&mut load, before.at + duration)?;
    Ok(per_operation(&before, &Moment::now(&load, server)?))
}

/// Has so many operations done, and measures from the first connection on. What the other connections have begun then
/// is cut off.
pub(crate) fn count(
    target: Target,
    connections: usize,
    server: Process,
    operations: u64,
) -> Result<Value, Box<dyn Error>> {
    let mut load = Load::new(target)?;
    let before = Moment::now(&load, server)?;
    for _ in 0..connections {
        load.open()?;
    }
    while load.operations() < operations {
        load.turn()?;
    }
    Ok(per_operation(&before, &Moment::now(&load, server)?))
}

fn complete_one_after(load: &mut Load, instant: Instant) -> Result<(), Box<dyn Error>> {
    loop {
        let before = load.operations();
        load.turn()?;
        if load.operations() > before && Instant::now() >= instant {
            return Ok(());
        }
    }
}

fn per_operation(before: &Moment, after: &Moment) -> Value {
    let operations = after.operations - before.operations;
    let duration = after.at - before.at;
    #[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^52")]
    let count = operations as f64;
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6 / count;
    let (server, client) = (after.server - before.server, after.client - before.client);
    json!({
        "operations": operations,
        "seconds": duration.as_secs_f64(),
        "per_second": count / duration.as_secs_f64(),
        "server_user_us": microseconds(server.user),
        "server_system_us": microseconds(server.system),
        "server_us": microseconds(server.total()),
        "client_us": microseconds(client.total()),
        // How busy each of them was: near 1, it was what the other waited for.
        "server_busy": server.total().as_secs_f64() / duration.as_secs_f64(),
        "client_busy": client.total().as_secs_f64() / duration.as_secs_f64(),
    })
}

/// Opens connections that stay, and tells how much of the server's memory each of them takes.
pub(crate) fn memory(target: Target, connections: usize, server: Process) -> Result<Value, Box<dyn Error>> {
    let mut load = Load::new(target)?;
    // What the first connections alone take, such as code that is run for the first time, is not theirs.
    open_all(&mut load, AT_ONCE)?;
    let before = settled(server)?;
    open_all(&mut load, connections.max(2 * AT_ONCE))?;
    let after = settled(server)?;
    let more = i128::from(after) - i128::from(before);
    #[expect(clippy::cast_precision_loss, reason = "no memory has 2^52 octets")]
    let each = more as f64 / (load.operations() - AT_ONCE as u64) as f64;
    Ok(json!({ "before": before, "after": after, "octets_per_connection": each }))
}

/// Opens connections until there are so many that have done their part, a few at a time: more wait than a listener's
/// queue may hold otherwise.
fn open_all(load: &mut Load, count: usize) -> Result<(), Box<dyn Error>> {
    let mut opened = usize::try_from(load.operations())?;
    loop {
        let done = usize::try_from(load.operations())?;
        while opened < count.min(done + AT_ONCE) {
            load.open()?;
            opened += 1;
        }
        if done == count {
            return Ok(());
        }
        load.turn()?;
    }
}

/// The server's memory, when it has come to rest.
fn settled(server: Process) -> Result<u64, Box<dyn Error>> {
    std::thread::sleep(Duration::from_secs(1));
    Ok(server.memory()?)
}

const AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_differences_for_each_operation() {
        let cpu = |user, system| Cpu { user: Duration::from_millis(user), system: Duration::from_millis(system) };
        let start = Instant::now();
        let before = Moment { at: start, operations: 500, server: cpu(1000, 2000), client: cpu(10, 20) };
        let at = start + Duration::from_secs(4);
        let after = Moment { at, operations: 2500, server: cpu(1500, 3500), client: cpu(510, 1520) };
        let told = per_operation(&before, &after);
        for (name, value) in [
            ("operations", 2000.0),
            ("seconds", 4.0),
            ("per_second", 500.0),
            ("server_user_us", 250.0),
            ("server_system_us", 750.0),
            ("server_us", 1000.0),
            ("client_us", 1000.0),
            ("server_busy", 0.5),
            ("client_busy", 0.5),
        ] {
            assert!((told[name].as_f64().unwrap() - value).abs() < 1e-6, "{name}: {told}");
        }
    }
}
