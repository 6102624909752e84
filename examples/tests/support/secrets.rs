//! The search for a password where none should be.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Checks that a password is nowhere in a text: as it is, reversed, in hex, as a list of octets, or in base64 at any
/// place in what was encoded.
pub(crate) fn assert_absent(password: &str, text: &str) {
    let octets = password.as_bytes();
    let reversed = password.chars().rev().collect();
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let list = format!("{octets:?}").trim_matches(['[', ']']).to_owned();
    let mut forms = vec![password.to_owned(), reversed, hex.to_uppercase(), hex, list];
    for before in 0..3 {
        // The first and the last group of four depend on the octets around the password.
        let encoded = STANDARD_NO_PAD.encode([&vec![0; before], octets].concat());
        let end = (before + octets.len()) / 3 * 4;
        let start = if before == 0 { 0 } else { 4 };
        forms.push(encoded.get(start..end).expect("the password is long enough").to_owned());
    }
    for form in forms {
        if let Some(line) = text.lines().find(|line| line.contains(&form)) {
            panic!("a password is in the output, as {form:?}: {line}");
        }
    }
}
