use sansmtp::auth::{MalformedCredentials, Prohibited};

use super::*;

const HASH: &str = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                     WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn lines(text: &[u8]) -> Result<Users, (usize, WrongLine)> {
    Users::read(text).map_err(|error| match error {
        PasswdError::Line { number, wrong } => (number, wrong),
        other @ (PasswdError::File(_) | PasswdError::NoFile | PasswdError::TooLarge) => panic!("{other}"),
    })
}

/// The text of the hash, and whether the user is disabled.
fn found(users: &Users, name: &str) -> Option<(Option<String>, bool)> {
    let user = users.find(name).unwrap()?;
    Some((user.password_text().map(|text| text.to_string()), user.is_disabled()))
}

#[test]
fn names_hashes_and_what_follows() {
    let text = format!(
        "# comment: not a line\n\ntim:{HASH}\r\ntom:{SCRAM}\nann:{HASH}:1:2:x:/:/bin/sh nologin\nbob:{SCRAM}:more:{HASH}\n\
         a b:{HASH}\nJose\u{301}:{HASH}\nout:!{HASH}\ngone:*\naway:!!:\nleft:!{SCRAM}:x\nlast:{HASH}"
    );
    let users = lines(text.as_bytes()).unwrap();
    assert_eq!(users.len(), 11);
    for name in ["tim", "ann", "a b", "José", "last"] {
        assert_eq!(found(&users, name), Some((Some(HASH.to_owned()), false)), "{name}");
    }
    for name in ["tom", "bob"] {
        assert_eq!(found(&users, name), Some((Some(SCRAM.to_owned()), false)), "{name}");
    }
    assert_eq!(found(&users, "out"), Some((Some(HASH.to_owned()), true)));
    assert_eq!(found(&users, "left"), Some((Some(SCRAM.to_owned()), true)));
    for name in ["gone", "away"] {
        assert_eq!(found(&users, name), Some((None, true)), "{name}");
    }
    for name in ["", "Tim", "# comment", "Jose\u{301}", "b"] {
        assert_eq!(found(&users, name), None, "{name}");
    }
    assert_eq!(users.scram_iterations(), Some(4096));
    assert_eq!((users.sample(4).len(), users.sample(100).len()), (5, 9));
}

#[test]
fn what_is_wrong_is_told_with_the_line_s_number() {
    for (line, wrong) in [
        (&b"tim"[..], WrongLine::NoColon),
        (b"   ", WrongLine::NoColon),
        (b":hash", WrongLine::Name(MalformedCredentials::Empty)),
        (b"a\tb:hash", WrongLine::Name(MalformedCredentials::Prohibited(Prohibited::ControlCharacter))),
        (&[b'x'; 300], WrongLine::NoColon),
        (b"caf\xe9:hash", WrongLine::Utf8),
        (b"tim:", WrongLine::NoHash),
        (b"tim::1000", WrongLine::NoHash),
        (b"tim:sEcReT", WrongLine::Hash(crate::stored::InvalidHash::Form)),
        (b"tim:!sEcReT", WrongLine::Hash(crate::stored::InvalidHash::Form)),
        (b"tim:{PLAIN}sEcReT", WrongLine::Hash(crate::stored::InvalidHash::Scheme)),
    ] {
        let text = [b"# comment\n\n", line, b"\nlast:", HASH.as_bytes(), b"\n"].concat();
        let users = lines(&text).unwrap();
        assert_eq!(users.wrong(), (&[(3, wrong)][..], 1));
        assert!(found(&users, "last").is_some());
        if let Ok(text) = std::str::from_utf8(line)
            && text.starts_with("tim:")
        {
            let error = users.find("tim").err().unwrap().to_string();
            assert!(!error.contains("sEcReT") && error.starts_with("line 3: "), "{error}");
        }
    }
    let again = format!("tim:{HASH}\nJos\u{e9}:{HASH}\nJose\u{301}:{HASH}\n");
    let users = lines(again.as_bytes()).unwrap();
    assert_eq!(users.wrong(), (&[(3, WrongLine::Duplicate { first: 2 })][..], 1));
    assert!(users.find("Jos\u{e9}").is_err() && users.find("tim").is_ok());
    // A file of something else.
    let other = lines(b"-----BEGIN CERTIFICATE-----\nMIIB\n");
    assert_eq!(other.err(), Some((1, WrongLine::NoColon)));
    let many = lines(format!("tim:{HASH}\n{}", "a:b\n".repeat(50)).as_bytes()).unwrap();
    assert_eq!((many.wrong().0.len(), many.wrong().1), (10, 50));
}
