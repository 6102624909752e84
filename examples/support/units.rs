//! Sizes and times, as a command line has them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Reads a number of octets: `33554432`, `512k`, `32M`, `1.5G`.
///
/// `k`, `M`, `G` and `T`, in either case, stand for powers of 1024, whether a `B` or an `iB` follows or not, as in the
/// configuration of Dovecot and of nginx.
///
/// # Errors
/// Where it is no size, more octets than 64 bits count, or a part of one.
pub(crate) fn size(text: &str) -> Result<u64, InvalidSize> {
    let (number, unit) = number_and_rest(text.trim()).ok_or(InvalidSize)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(InvalidSize),
    };
    let unit = 1024_u64.pow(power);
    let Number { thousandths, whole } = number;
    if let Some(whole) = whole {
        return whole.checked_mul(unit).ok_or(InvalidSize);
    }
    let thousandths = u128::from(thousandths) * u128::from(unit);
    // Half an octet is a slip of the pen. What is in front of a unit is rounded.
    if power == 0 && thousandths % 1000 != 0 {
        return Err(InvalidSize);
    }
    u64::try_from(thousandths / 1000).map_err(|_| InvalidSize)
}

/// As [`size`], but at least one octet.
///
/// # Errors
/// As [`size`]; also where it is nothing.
pub(crate) fn size_above_zero(text: &str) -> Result<u64, InvalidSize> {
    size(text).and_then(|octets| if octets == 0 { Err(InvalidSize) } else { Ok(octets) })
}

/// Reads a time: `500ms`, `90s`, `5m`, `1.5h`, `4h30m`, `2d`, `1w`, or a number of seconds.
///
/// # Errors
/// Where it is no time, or longer than a hundred years, which is a slip of the pen.
pub(crate) fn time(text: &str) -> Result<Duration, InvalidTime> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    let mut first = true;
    while first || !rest.is_empty() {
        let (number, behind) = number_and_rest(rest).ok_or(InvalidTime)?;
        let behind = behind.trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(end).ok_or(InvalidTime)?;
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "" if first && behind.is_empty() => 1000,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000,
            "m" | "min" | "mins" | "minute" | "minutes" => MINUTE,
            "h" | "hour" | "hours" => 60 * MINUTE,
            "d" | "day" | "days" => 24 * 60 * MINUTE,
            "w" | "week" | "weeks" => 7 * 24 * 60 * MINUTE,
            _ => return Err(InvalidTime),
        };
        // A thousandth of a millisecond is a microsecond.
        let microseconds = u128::from(number.thousandths) * u128::from(milliseconds);
        total = u64::try_from(microseconds)
            .ok()
            .and_then(|microseconds| total.checked_add(Duration::from_micros(microseconds)))
            .filter(|total| *total <= LONGEST)
            .ok_or(InvalidTime)?;
        (rest, first) = (behind.trim_start(), false);
    }
    Ok(total)
}

/// Reads a number of things.
///
/// # Errors
/// Says what would be right.
pub(crate) fn count<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse().map_err(|_| "it is a number, 50 for example")
}

/// Reads a number of things, of which there is at least one.
///
/// # Errors
/// Says what would be right.
pub(crate) fn count_above_zero<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse().map_err(|_| "it is a number from 1, 50 for example")
}

/// A number without a sign.
struct Number {
    thousandths: u64,
    /// None where it has a fraction.
    whole: Option<u64>,
}

/// The number at the beginning, and what follows it.
fn number_and_rest(text: &str) -> Option<(Number, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.contains('.') || whole.is_empty() {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    // More digits than three say nothing about a time or a size.
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let fraction = digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let is_whole = fraction == 0;
    // Where it is too large, it is too large for what it is used for, except for octets, which are whole.
    let thousandths = whole.checked_mul(1000).and_then(|sum| sum.checked_add(fraction));
    let thousandths = if is_whole { thousandths.unwrap_or(u64::MAX) } else { thousandths? };
    Some((Number { thousandths, whole: is_whole.then_some(whole) }, rest))
}

/// Not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidSize;

impl fmt::Display for InvalidSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size is 32M, 512k, 1.5G or a number of octets")
    }
}

impl std::error::Error for InvalidSize {}

/// Not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidTime;

impl fmt::Display for InvalidTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time is 500ms, 90s, 5m, 1.5h, 4h30m, 2d or a number of seconds, a hundred years at most")
    }
}

impl std::error::Error for InvalidTime {}

const MINUTE: u64 = 60 * 1000;
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, octets) in [
            ("0", 0),
            ("33554432", 32 << 20),
            ("512k", 512 << 10),
            ("512K", 512 << 10),
            ("32M", 32 << 20),
            ("32m", 32 << 20),
            ("32MB", 32 << 20),
            ("32 MiB", 32 << 20),
            ("1.5G", 3 << 29),
            ("0.5k", 512),
            ("1.0", 1),
            ("2T", 2 << 40),
            ("100B", 100),
            (" 7 ", 7),
            ("18446744073709551615", u64::MAX),
            ("16777215T", 16_777_215 << 40),
        ] {
            assert_eq!(size(text), Ok(octets), "{text}");
        }
        for text in [
            "",
            " ",
            "M",
            "iB",
            "1iB",
            "-1",
            "+1",
            "1,5G",
            "32Q",
            "32MM",
            "0.5",
            "1.",
            ".5k",
            "1..5k",
            "1.5.5k",
            "1e6",
            "0x10",
            "18446744073709551616",
            "16777216T",
            "99999999999999999.5T",
            "32M 5k",
            "é",
            "5é",
        ] {
            assert_eq!(size(text), Err(InvalidSize), "{text}");
        }
        assert_eq!((size_above_zero("0"), size_above_zero("1")), (Err(InvalidSize), Ok(1)));
    }

    #[test]
    fn times_have_units_and_are_seconds_without() {
        let milliseconds = Duration::from_millis;
        for (text, expected) in [
            ("0", milliseconds(0)),
            ("60", milliseconds(60_000)),
            ("0.5", milliseconds(500)),
            ("500ms", milliseconds(500)),
            ("1.5ms", Duration::from_micros(1500)),
            ("90s", milliseconds(90_000)),
            ("5m", milliseconds(300_000)),
            ("5 min", milliseconds(300_000)),
            ("1.5h", milliseconds(5_400_000)),
            ("4h30m", milliseconds(16_200_000)),
            ("4h 30m", milliseconds(16_200_000)),
            ("2d", milliseconds(172_800_000)),
            ("2 days", milliseconds(172_800_000)),
            ("1w", milliseconds(604_800_000)),
            ("36525d", milliseconds(36_525 * 86_400_000)),
        ] {
            assert_eq!(time(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            " ",
            "s",
            "-1",
            "+1s",
            "1,5h",
            "5M",
            "5S",
            "4h30",
            "30 4h",
            "5 5",
            "inf",
            "NaN",
            "1e3",
            "1.h",
            ".5h",
            "1mo",
            "1y",
            "36601d",
            "18446744073709551616",
            "18446744073709551615",
            "99999999999999999h",
            "é",
            "1sé",
        ] {
            assert_eq!(time(text), Err(InvalidTime), "{text}");
        }
    }
}
