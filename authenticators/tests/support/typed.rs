//! Passwords as people type them, of which SASLprep (RFC 4013) makes others, or which it prohibits.

use super::login::Door;

/// What is typed, and whether SASLprep takes it.
pub(crate) const TYPED: [(&str, bool); 19] = [
    ("m²-house", true),
    ("µ-watt", true),
    ("a´b", true),
    ("nº1", true),
    ("brand™x", true),
    ("wait…now", true),
    ("pass\u{a0}word", true),
    // Full-width letters and digits.
    ("Ｐａｓｓ１", true),
    // "café", as macOS types it, and as others do.
    ("cafe\u{301}", true),
    ("caf\u{e9}", true),
    // Hebrew before digits, Arabic among Latin letters: RFC 3454, section 6.
    ("שלום123", false),
    ("مرحباabc", false),
    ("ﬁsh-1", true),
    // ANGSTROM SIGN, which is another character than the letter.
    ("\u{212b}ngström", true),
    ("soft\u{ad}hyphen", true),
    ("👨\u{200d}👩", true),
    ("Ⅳ-four", true),
    ("a\u{3000}b", true),
    // Unicode 3.2 did not know it. PostgreSQL takes it for prohibited, and so leaves the rest as it is, too.
    ("🔑m²", true),
];

/// The users' names, with their passwords.
pub(crate) fn users() -> impl Iterator<Item = (String, &'static str)> {
    TYPED.iter().enumerate().map(|(number, (password, _))| (format!("typed{number}"), *password))
}

/// Each password is right as it was typed, and others are not.
pub(crate) fn log_in(door: &(impl Door + ?Sized), users: impl IntoIterator<Item = (String, &'static str)>) {
    for (name, password) in users {
        let shown = password.escape_unicode();
        assert_eq!(door.log_in(&name, password), 235, "{shown}");
        assert_eq!(door.log_in(&name, &format!("{password}-")), 535, "{shown}");
        assert_eq!(door.log_in(&name, password.get(..1).unwrap_or("x")), 535, "{shown}");
        assert_eq!(door.log_in("nobody", password), 535, "{shown}");
    }
}
