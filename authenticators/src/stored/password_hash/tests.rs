use super::*;

/// Of "pencil", one of each form.
const HASHES: [&str; 13] = [
    "$argon2id$v=19$m=64,t=2,p=1$c2l4dGVlbiBvY3RldHMuLg$",
    "$argon2i$v=16$m=64,t=2,p=2$c2l4dGVlbiBvY3RldHMuLg$",
    "$argon2d$m=64,t=2,p=1$c2l4dGVlbiBvY3RldHMuLg$",
    "$scrypt$ln=4,r=8,p=2$c2l4dGVlbiBvY3RldHMuLg$",
    "$pbkdf2-sha256$i=10,l=32$c2l4dGVlbiBvY3RldHMuLg$",
    "$2y$04$",
    "$5$rounds=1000$salt$",
    "$6$salt$",
    "$y$j75$salt$",
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$",
    "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,",
    "{PBKDF2}$1$salt$10$",
    "{CRAM-MD5}",
];

fn read(text: &str) -> Result<Cost, InvalidHash> {
    text.parse().map(|hash: PasswordHash| hash.cost())
}

/// The rest of a hash, of the right length, which no password fits.
fn whole(start: &str) -> String {
    let rest = match start.split(['$', '}', '{']).nth(1).unwrap_or_default() {
        "2y" => "abcdefghijklmnopqrstuu".to_owned() + &"a".repeat(30) + "O",
        "5" => "a".repeat(42) + "/",
        "6" => "a".repeat(85) + "/",
        "y" => "a".repeat(42) + "/",
        "PBKDF2" => "ab".repeat(20),
        "CRAM-MD5" => "ab".repeat(32),
        "SCRAM-SHA-256" => format!("{0}A=,{0}A=", "A".repeat(42)),
        "4096:W22ZaJ0SNY7soEsUEjb6gQ==" => format!("{0}A=:{0}A=", "A".repeat(42)),
        _ => "A".repeat(43),
    };
    format!("{start}{rest}")
}

#[test]
fn each_form_is_read_and_fits_no_other_password() {
    for text in HASHES.map(whole) {
        let hash: PasswordHash = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(!hash.verify(b"pencil") && !hash.verify(b""), "{text}");
        let shown = format!("{hash:?}");
        assert!(shown.contains("[redacted]") && !shown.contains("AAAA") && !shown.contains("aaaa"), "{shown}");
    }
}

#[test]
fn vectors() {
    for (text, password) in [
        // RFC 7914, section 12, the third vector, and RFC 7677, section 3.
        (
            "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$\
             cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw",
            "pleaseletmein",
        ),
        (
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
             WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "pencil",
        ),
        // The specification of SHA-crypt, section "Test vectors".
        ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
        (
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            "Hello world!",
        ),
        // By libxcrypt 4.4.
        ("$y$j9T$F5jP.u27/js1cHTKJetu7/$zrHTCMiYBdFpq3r.LNDtBHdvFI86NUkBKdd/UE1o.p1", "hello"),
        // Openwall's for crypt_blowfish.
        ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
        // Dovecot's own test.
        ("{CRAM-MD5}e02d374fde0dc75a17a557039a3a5338c7743304777dccd376f332bee68d2cf6", "test"),
    ] {
        let hash: PasswordHash = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(hash.verify(password.as_bytes()), "{text}");
        assert!(!hash.verify(b"wrong"), "{text}");
    }
}

#[test]
fn what_is_too_costly_is_not_read() {
    let argon2 = |parameters: &str| read(&whole(&format!("$argon2id$v=19${parameters}$c2l4dGVlbiBvY3RldHMuLg$")));
    assert!(argon2("m=1048576,t=4,p=1").is_ok() && argon2("m=65536,t=3,p=4").is_ok());
    for parameters in [
        "m=1048577,t=1,p=1",
        "m=1048576,t=5,p=1",
        "m=64,t=65537,p=1",
        "m=1024,t=1,p=65",
        "m=4294967295,t=4294967295,p=1",
    ] {
        assert_eq!(argon2(parameters), Err(InvalidHash::TooCostly), "{parameters}");
    }
    let scrypt = |parameters: &str| read(&whole(&format!("$scrypt${parameters}$c2l4dGVlbiBvY3RldHMuLg$")));
    assert!(scrypt("ln=20,r=8,p=1").is_ok() && scrypt("ln=17,r=8,p=1").is_ok());
    for parameters in [
        "ln=21,r=8,p=1",
        "ln=20,r=8,p=5",
        "ln=4,r=1025,p=1",
        "ln=4,r=8,p=1025",
        "ln=63,r=1,p=1",
        "ln=64,r=1,p=1",
        "ln=4294967295,r=4294967295,p=4294967295",
        "ln=1,r=65536,p=65536",
    ] {
        assert_eq!(scrypt(parameters), Err(InvalidHash::TooCostly), "{parameters}");
    }
    let iterations = |text: &str| read(&whole(&text.replace("10$", "5000001$").replace("i=10,", "i=5000001,")));
    for text in ["$pbkdf2-sha256$i=10,l=32$c2l4dGVlbiBvY3RldHMuLg$", "{PBKDF2}$1$salt$10$"] {
        assert_eq!(iterations(text), Err(InvalidHash::TooCostly));
    }
    assert_eq!(read(&whole("$6$rounds=5000001$salt$").replace("/", "a")), Err(InvalidHash::TooCostly));
    assert_eq!(read(&whole("$2y$17$")), Err(InvalidHash::TooCostly));
    let yescrypt = |n: char| read(&format!("$y$j{n}T$salt$zrHTCMiYBdFpq3r.LNDtBHdvFI86NUkBKdd/UE1o.p1"));
    assert!(yescrypt('F').is_ok());
    assert_eq!(yescrypt('G'), Err(InvalidHash::TooCostly));
    let scram = whole("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$").replace("4096", "5000001");
    assert_eq!(read(&scram), Err(InvalidHash::TooCostly));
    let scram = whole("{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,").replace("4096", "5000001");
    assert_eq!(read(&scram), Err(InvalidHash::TooCostly));
}

#[test]
fn what_is_no_hash_is_not_read() {
    use InvalidHash as E;
    for (text, expected) in [
        ("", E::Form),
        ("password", E::Form),
        ("$1$salt$hash", E::Form),
        ("$apr1$salt$hash", E::Form),
        ("$y$j9T$salt$hash", E::Encoding),
        ("$y$j9T$F5jP.u27/js1cHTKJetu7/$zrHTCMiYBdFpq3r.LNDtBHdvFI86NUkBKdd/UE1o.pE", E::Encoding),
        ("$y$j9T$$zrHTCMiYBdFpq3r.LNDtBHdvFI86NUkBKdd/UE1o.p1", E::Encoding),
        ("$y$j9$F5jP.u27/js1cHTKJetu7/$zrHTCMiYBdFpq3r.LNDtBHdvFI86NUkBKdd/UE1o.p1", E::Parameters),
        ("$y$j9T.$F5jP.u27/js1cHTKJetu7/$zrHTCMiYBdFpq3r.LNDtBHdvFI86NUkBKdd/UE1o.p1", E::Parameters),
        ("$y$/9T$F5jP.u27/js1cHTKJetu7/$zrHTCMiYBdFpq3r.LNDtBHdvFI86NUkBKdd/UE1o.p1", E::Parameters),
        ("$7$CU..../....SodiumChloride$kBGj9fHznVYFQMEn/qDCfrDevf9YDtcDdKvEqHJLV8D", E::Form),
        ("$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", E::Form),
        ("{SHA}hash", E::Scheme),
        ("{PLAIN}password", E::Scheme),
        ("{SHA512-CRYPT.hex}00", E::Scheme),
        ("{ARGON2ID", E::Form),
        ("{ARGON2ID}$6$salt$hash", E::Encoding),
        ("{BLF-CRYPT}$argon2id$v=19$m=64,t=2,p=1$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAA", E::Form),
        ("{CRYPT}{CRYPT}$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", E::Form),
        ("{PBKDF2}$1$salt$0$abababababababababababababababababababab", E::Parameters),
        ("{PBKDF2}$1$salt$10$zz", E::Encoding),
        ("{PBKDF2}$1$$10$abababababababababababababababababababab", E::Encoding),
        ("$argon2id$v=19$m=64,t=2,p=1$c2l4dGVlbiBvY3RldHMuLg", E::Encoding),
        ("$argon2id$v=19$m=64,t=2,p=1", E::Encoding),
        ("$argon2id$v=20$m=64,t=2,p=1$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAA", E::Parameters),
        ("$argon2id$v=19$m=1,t=2,p=1$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAA", E::Parameters),
        ("$scrypt$ln=4,r=8$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAA", E::Parameters),
        ("$scrypt$ln=0,r=8,p=1$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAA", E::Parameters),
        ("$pbkdf2-sha256$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAA", E::Parameters),
        ("$pbkdf2-sha256$i=10,l=20$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAA", E::Parameters),
        ("$pbkdf2-sha256$i=0$c2l4dGVlbiBvY3RldHMuLg$AAAAAAAAAAAAAAAAAAAA", E::Parameters),
        ("$2y$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", E::Parameters),
        ("$2y$05$short", E::Encoding),
        ("$5$rounds=999$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", E::Parameters),
        ("$5$rounds=x$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", E::Parameters),
        ("$5$seventeen.letters$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", E::Encoding),
        ("$5$$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", E::Encoding),
        ("$5$saltstring$5B8vYYiY", E::Encoding),
        ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8$", E::Encoding),
        ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEcE", E::Encoding),
        ("$6$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", E::Encoding),
        ("SCRAM-SHA-256$x", E::ScramKeys(InvalidScramKeys::Form)),
        ("SCRAM-SHA-3$1:2$3:4", E::ScramKeys(InvalidScramKeys::Hash)),
        ("{SCRAM-SHA-1}1,2,3", E::ScramKeys(InvalidScramKeys::Form)),
        ("{CRAM-MD5}00", E::CramMd5Key(InvalidCramMd5Key)),
    ] {
        assert_eq!(read(text), Err(expected), "{text}");
    }
}

/// Whatever becomes of a hash on its way, reading it ends, and comparing with what is read ends soon.
#[test]
fn mutilated_hashes_do_no_harm() {
    let (mut read, mut refused) = (0, 0);
    for text in HASHES.map(whole) {
        for at in 0..text.len() {
            for with in ["", "$", ",", "=", "9", "\0", "ß", "{", ":"] {
                for length in [0, 1, 2] {
                    let Some(end) = text.get(at + length..) else { continue };
                    let Ok(hash) = format!("{}{with}{end}", &text[..at]).parse::<PasswordHash>() else {
                        refused += 1;
                        continue;
                    };
                    read += 1;
                    // Those that have become a thousand times slower are looked at elsewhere.
                    let slow =
                        matches!(hash.cost(), Cost::Bcrypt { cost: 7.. } | Cost::ShaCrypt { .. } | Cost::Scram { .. })
                            || matches!(
                                hash.cost(),
                                Cost::Argon2 { memory: 1000.., .. } | Cost::Argon2 { passes: 10.., .. }
                            )
                            || matches!(
                                hash.cost(),
                                Cost::Scrypt { log_n: 10.., .. } | Cost::Pbkdf2 { iterations: 1000.., .. }
                            );
                    assert!(slow || !hash.verify(b"pencil"));
                }
            }
        }
    }
    assert!(read > 1000 && refused > 10_000, "{read} {refused}");
}
