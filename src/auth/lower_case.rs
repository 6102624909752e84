//! Names that are compared without regard to case.

use alloc::string::String;

/// A name in lower case, as Unicode has it: each character for itself, so that it makes no difference where it stands.
///
/// Two names are the same in any case if they are the same in lower case (RFC 8265, section 3.3, for names that SASLprep
/// has prepared).
#[must_use]
pub fn lower_case(name: &str) -> String {
    name.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_is_lowered_for_itself() {
        for (name, expected) in [
            ("Tim@Example.ORG", "tim@example.org"),
            ("J\u{d6}RG", "j\u{f6}rg"),
            ("\u{3a3}\u{391}\u{3a3}", "\u{3c3}\u{3b1}\u{3c3}"),
            ("\u{3b1}\u{3c3}", "\u{3b1}\u{3c3}"),
            ("", ""),
        ] {
            assert_eq!(lower_case(name), expected);
            assert_eq!(lower_case(expected), expected);
        }
    }
}
