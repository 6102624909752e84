//! Times as RFC 3339, section 5.6 writes them.

/// Whether `text` is a `date-time`, with any offset. Days that no month has are none.
pub(crate) fn is_date_time(text: &[u8]) -> bool {
    let Some((date_and_time, zone)) = text.split_at_checked(19) else { return false };
    let Some((year, month, day, hour, minute, second)) = fields(date_and_time) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return false,
    };
    let zone = match zone {
        [b'.', rest @ ..] => {
            let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            rest.get(digits..).unwrap_or_default()
        }
        _ => zone,
    };
    let zone_is_good = match zone {
        b"Z" | b"z" => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            number(&[*h1, *h2]).is_some_and(|hours| hours < 24)
                && number(&[*m1, *m2]).is_some_and(|minutes| minutes < 60)
        }
        _ => false,
    };
    // A leap second is the 61st of its minute.
    (1..=days).contains(&day) && hour < 24 && minute < 60 && second <= 60 && zone_is_good
}

/// Whether it is one in UTC, to the second.
pub(crate) fn is_utc_date_time(text: &[u8]) -> bool {
    text.len() == 20 && text.ends_with(b"Z") && is_date_time(text)
}

fn fields(text: &[u8]) -> Option<(u32, u32, u32, u32, u32, u32)> {
    let [y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T' | b't', h1, h2, b':', mi1, mi2, b':', s1, s2] = text else {
        return None;
    };
    Some((
        number(&[*y1, *y2, *y3, *y4])?,
        number(&[*mo1, *mo2])?,
        number(&[*d1, *d2])?,
        number(&[*h1, *h2])?,
        number(&[*mi1, *mi2])?,
        number(&[*s1, *s2])?,
    ))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u32::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_3339_section_5_8() {
        for text in [
            "1985-04-12T23:20:50.52Z",
            "1996-12-19T16:39:57-08:00",
            "1990-12-31T23:59:60Z",
            "1937-01-01T12:00:27.87+00:20",
            "2000-02-29t00:00:00z",
        ] {
            assert!(is_date_time(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "1985-04-12",
            "1985-04-12T23:20:50",
            "1985-04-12T23:20:50.Z",
            "1985-04-12 23:20:50Z",
            "1985-13-12T23:20:50Z",
            "1985-04-31T23:20:50Z",
            "1900-02-29T23:20:50Z",
            "1985-04-12T24:20:50Z",
            "1985-04-12T23:20:61Z",
            "1985-04-12T23:20:50+24:00",
            "1985-04-12T23:20:50Z ",
            "198a-04-12T23:20:50Z",
        ] {
            assert!(!is_date_time(text.as_bytes()), "{text}");
        }
        assert!(is_utc_date_time(b"2030-01-01T00:00:00Z") && !is_utc_date_time(b"2030-01-01T00:00:00+00:00"));
    }
}
