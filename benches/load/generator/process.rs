//! What a process has used, as Linux tells it.

use std::io;
use std::ops::Sub;
use std::path::PathBuf;
use std::time::Duration;

/// A process, by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

/// Time on a processor, of all threads together, those that have ended included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Cpu {
    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }

    fn parse(stat: &str) -> Option<Self> {
        // The program's name is in parentheses, and may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut ticks = fields.split(' ').skip(11).map(|field| field.parse().ok().map(Duration::from_millis));
        Some(Self { user: ticks.next()?? * MILLISECONDS_PER_TICK, system: ticks.next()?? * MILLISECONDS_PER_TICK })
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }
}

impl Process {
    /// The time that it has had.
    pub(crate) fn cpu(self) -> io::Result<Cpu> {
        Cpu::parse(&self.read("stat")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The octets of memory that it has (PSS): all of what is its own, and its share of what it shares.
    pub(crate) fn memory(self) -> io::Result<u64> {
        parse_pss(&self.read("smaps_rollup")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn read(self, file: &str) -> io::Result<String> {
        let path: PathBuf = ["/proc", &self.0.to_string(), file].iter().collect();
        std::fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

fn parse_pss(smaps: &str) -> Option<u64> {
    let kilobytes = smaps.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?;
    Some(kilobytes.parse::<u64>().ok()? * 1024)
}

/// `USER_HZ`, which Linux shows to programs as 100 a second on every machine.
const MILLISECONDS_PER_TICK: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_behind_any_name() {
        let stat = "12 (a) (b c) S 1 12 12 0 -1 4194304 90 0 0 0 150 25 0 0 20 0 3 0 500 1000 200 18446744073709551615";
        let (user, system) = (Duration::from_millis(1500), Duration::from_millis(250));
        assert_eq!(Cpu::parse(stat), Some(Cpu { user, system }));
        assert_eq!(Cpu::parse("12 (a) S 1"), None);
    }

    #[test]
    fn memory_is_the_proportional_share() {
        assert_eq!(parse_pss("0-1 ---p 0 00:00 0 [rollup]\nRss:   20 kB\nPss:   7 kB\nPss_Anon: 5 kB\n"), Some(7168));
        assert_eq!(parse_pss("Rss:   20 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_both() {
        let this = Process(std::process::id());
        assert!(this.memory().unwrap() > 4096);
        this.cpu().unwrap();
    }
}
