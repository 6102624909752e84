//! SASLprep (RFC 4013): how identities and passwords are prepared before they are compared.
//!
//! What a client presents is a *query* string, in which code points that Unicode 3.2 had not assigned are
//! allowed (RFC 3454, section 7): a password may hold an emoji. The tables are `stringprep`'s; its own
//! function is for stored strings, and leaves copies of passwords behind.

use crate::secret::Secret;

/// The string holds what SASLprep prohibits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prohibited;

/// Whether preparing leaves the string as it is, and allows it: printable ASCII.
pub(crate) fn is_prepared(text: &[u8]) -> bool {
    crate::command::is_printable(text)
}

/// Prepares a string that is not [prepared](is_prepared) as it is.
///
/// What grows past some thousand octets is prohibited, too: a character of three octets may become
/// eighteen of thirty-three.
#[cfg(feature = "std")]
pub(crate) fn prepare(text: &str) -> Result<Secret, Prohibited> {
    use stringprep::tables;

    // Section 2.1: spaces become SPACE, and what is "commonly mapped to nothing" goes.
    let mapped = text
        .chars()
        .map(|character| if tables::non_ascii_space_character(character) { ' ' } else { character })
        .filter(|&character| !tables::commonly_mapped_to_nothing(character));
    let most = text.len().max(MOST_GROWN_OCTETS);
    let mut checked = Checked { prepared: Secret::with_capacity(text.len()), most, ..Checked::default() };
    let mut normalizer = super::normalize::Normalizer::default();
    for character in mapped {
        normalizer.push(character, |character| checked.push(character)).map_err(|_| Prohibited)?;
        if checked.prohibited {
            return Err(Prohibited);
        }
    }
    normalizer.finish(|character| checked.push(character));
    checked.finish()
}

/// What is allowed in the output.
#[cfg(feature = "std")]
#[derive(Default)]
struct Checked {
    prepared: Secret,
    /// How long it may become.
    most: usize,
    prohibited: bool,
    left: bool,
    right: bool,
    first_is_right: Option<bool>,
    last_is_right: bool,
}

#[cfg(feature = "std")]
impl Checked {
    fn push(&mut self, character: char) {
        use stringprep::tables;

        // Section 2.3, in the order of the tables of RFC 3454, appendix C.
        self.prohibited |= tables::non_ascii_space_character(character)
            || tables::ascii_control_character(character)
            || tables::non_ascii_control_character(character)
            || tables::private_use(character)
            || tables::non_character_code_point(character)
            || tables::surrogate_code(character)
            || tables::inappropriate_for_plain_text(character)
            || tables::inappropriate_for_canonical_representation(character)
            || tables::change_display_properties_or_deprecated(character)
            || tables::tagging_character(character)
            || self.prepared.len() + character.len_utf8() > self.most;
        if self.prohibited {
            return;
        }
        // Section 2.4, which is RFC 3454, section 6.
        self.last_is_right = tables::bidi_r_or_al(character);
        self.first_is_right.get_or_insert(self.last_is_right);
        self.right |= self.last_is_right;
        self.left |= tables::bidi_l(character);
        self.prepared.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn finish(self) -> Result<Secret, Prohibited> {
        let mixed = self.right && (self.left || !self.last_is_right || self.first_is_right != Some(true));
        if self.prohibited || mixed { Err(Prohibited) } else { Ok(self.prepared) }
    }
}

/// No password that somebody types comes near it; one that is longer to begin with may stay as long.
#[cfg(feature = "std")]
const MOST_GROWN_OCTETS: usize = 4_096;

/// Without `std` there are no tables: nothing but ASCII is allowed.
#[cfg(not(feature = "std"))]
pub(crate) fn prepare(_text: &str) -> Result<Secret, Prohibited> {
    Err(Prohibited)
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use alloc::string::String;

    use super::*;

    fn prepared(text: &str) -> Result<String, Prohibited> {
        prepare(text).map(|secret| String::from_utf8(secret.expose_secret().to_vec()).expect("UTF-8"))
    }

    #[test]
    fn the_examples_of_rfc_4013_section_3() {
        assert_eq!(prepared("I\u{AD}X").unwrap(), "IX");
        assert_eq!(prepared("user").unwrap(), "user");
        assert_eq!(prepared("USER").unwrap(), "USER");
        assert_eq!(prepared("\u{AA}").unwrap(), "a");
        assert_eq!(prepared("\u{2168}").unwrap(), "IX");
        assert_eq!(prepared("\u{07}"), Err(Prohibited));
        assert_eq!(prepared("\u{627}1"), Err(Prohibited));
    }

    #[test]
    fn bidirectional_text() {
        assert_eq!(prepared("\u{627}1\u{628}").unwrap(), "\u{627}1\u{628}");
        assert_eq!(prepared("\u{627}a\u{628}"), Err(Prohibited));
        assert_eq!(prepared("1\u{628}"), Err(Prohibited));
    }

    #[test]
    fn spaces_and_what_unicode_did_not_know() {
        assert_eq!(prepared("a\u{A0}b").unwrap(), "a b");
        assert_eq!(prepared("\u{1F980}\u{0301}").unwrap(), "\u{1F980}\u{0301}");
        assert_eq!(prepared("\u{E000}"), Err(Prohibited));
        assert_eq!(prepared("\u{AD}").unwrap(), "");
        assert_eq!(prepared("e\u{301}").unwrap(), "\u{E9}");
    }

    #[test]
    fn what_grows_too_much_is_prohibited() {
        assert_eq!(prepare(&"\u{FDFA}".repeat(124)).unwrap().len(), 124 * 33);
        assert_eq!(prepare(&"\u{FDFA}".repeat(125)).map(|_| ()), Err(Prohibited));
        assert_eq!(prepare(&"\u{E9}".repeat(4_600)).unwrap().len(), 9_200);
        assert_eq!(prepare(&["q", &"\u{301}".repeat(40)].concat()).map(|_| ()), Err(Prohibited));
    }
}
