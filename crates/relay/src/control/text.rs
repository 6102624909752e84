//! How an operator is shown times, sizes, and what strangers have written.

use std::fmt::Write;
use std::time::Duration;

/// Writes a text without anything that could break a line, or change what a terminal shows.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // What `escape_debug` escapes beside what cannot be printed.
            '"' | '\'' | '\\' => clean.push(character),
            _ => _ = write!(clean, "{}", character.escape_debug()),
        }
    }
    clean
}

/// A duration in its two largest units.
pub(super) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{:02}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes:02}m"),
        (days, hours, _) => format!("{days}d{hours:02}h"),
    }
}

/// A number of octets in the largest unit that leaves something before the point.
pub(super) fn size(octets: u64) -> String {
    match octets {
        0..KIB => octets.to_string(),
        KIB..MIB => format!("{}K", octets / KIB),
        _ => format!("{}M", octets / MIB),
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_changes_no_terminal() {
        assert_eq!(clean("451 4.2.1 \"later\"\r\n\u{1b}[2J\u{202e}é"), "451 4.2.1 \"later\"\\r\\n\\u{1b}[2J\\u{202e}é");
    }

    #[test]
    fn times_and_sizes_are_short() {
        let shown = [0, 59, 60, 3599, 3600, 86_399, 86_400, 500_000].map(|seconds| short(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d00h", "5d18h"]);
        assert_eq!([0, 1023, 1024, 1_048_576, 33_554_432].map(size), ["0", "1023", "1K", "1M", "32M"]);
    }
}
