//! The protocol's escape of what must not be syntax: `^A` and a letter for NUL, `^A`, TAB, CR and LF.

/// Hands out `value` in pieces that hold no octet which ends a field or a line.
pub(super) fn escape(value: &[u8], mut push: impl FnMut(&[u8])) {
    for part in value.split_inclusive(|&octet| escaped(octet).is_some()) {
        let Some((&last, before)) = part.split_last() else { continue };
        match escaped(last) {
            Some(letter) => {
                push(before);
                push(&[ESCAPE, letter]);
            }
            None => push(part),
        }
    }
}

/// Takes the escapes out of a field. One at the field's end is dropped, and one before any other octet, as Dovecot
/// does.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(field.len());
    let mut octets = field.iter().copied();
    while let Some(octet) = octets.next() {
        if octet != ESCAPE {
            value.push(octet);
        } else if let Some(letter) = octets.next() {
            value.push(match letter {
                b'0' => 0,
                b'1' => ESCAPE,
                b't' => b'\t',
                b'r' => b'\r',
                b'n' => b'\n',
                other => other,
            });
        }
    }
    value
}

fn escaped(octet: u8) -> Option<u8> {
    match octet {
        0 => Some(b'0'),
        ESCAPE => Some(b'1'),
        b'\t' => Some(b't'),
        b'\r' => Some(b'r'),
        b'\n' => Some(b'n'),
        _ => None,
    }
}

const ESCAPE: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(value: &[u8]) -> Vec<u8> {
        let mut escaped = Vec::new();
        escape(value, |piece| escaped.extend_from_slice(piece));
        escaped
    }

    #[test]
    fn each_octet_that_is_syntax_has_its_letter() {
        assert_eq!(whole(b"a\0b\x01c\td\re\nf"), b"a\x010b\x011c\x01td\x01re\x01nf");
        assert_eq!(whole(b"\t"), b"\x01t");
        assert_eq!(whole(b""), b"");
        assert_eq!(whole("jürgen=\\t".as_bytes()), "jürgen=\\t".as_bytes());
    }

    #[test]
    fn what_dovecot_would_not_write_is_read_as_it_reads_it() {
        assert_eq!(unescape(b"\x01x\x01\x01a\x01"), b"x\x01a");
    }

    proptest! {
        #[test]
        fn an_escaped_value_holds_no_syntax_and_comes_back(value in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0), Just(1), Just(b'\t'), Just(b'\r'), Just(b'\n')], 0..200,
        )) {
            let escaped = whole(&value);
            prop_assert!(!escaped.iter().any(|octet| matches!(octet, 0 | b'\t' | b'\r' | b'\n')));
            prop_assert!(escaped.len() <= 2 * value.len());
            prop_assert_eq!(unescape(&escaped), value);
        }
    }
}
