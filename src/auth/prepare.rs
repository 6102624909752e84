//! SASLprep (RFC 4013): how identities and passwords are prepared before they are compared.
//!
//! What a client presents is a *query* string, in which code points that Unicode 3.2 had not assigned are
//! allowed (RFC 3454, section 7): a password may hold an emoji. The tables are `stringprep`'s; its own
//! function is for stored strings, and leaves copies of passwords behind.

use core::fmt;

use crate::secret::Secret;

/// Why SASLprep (RFC 4013) does not take a string. Tells nothing of the string but this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Prohibited {
    /// A control character (RFC 3454, tables C.2.1 and C.2.2): a tab, a line's end, others that print nothing.
    ControlCharacter,
    /// A character for private use (table C.3), which means something else to each program.
    PrivateUse,
    /// A code point that is no character (table C.4).
    NoCharacter,
    /// A character that is no plain text (tables C.1.2, C.6 and C.7): U+FFFD and its neighbours, descriptions of
    /// ideographs.
    NoPlainText,
    /// A character that changes how others are displayed, or that is deprecated (table C.8).
    ChangesDisplay,
    /// A tag (table C.9).
    Tag,
    /// Letters that are written from right to left among others that are written from left to right (RFC 3454,
    /// section 6).
    MixedDirections,
    /// Letters that are written from right to left, but not both at the start and at the end (RFC 3454, section 6):
    /// Hebrew or Arabic before digits or punctuation, for example.
    DirectionAtEnds,
    /// More marks on one letter than any language has: over 30 (UAX #15, section 13).
    TooManyMarks,
    /// It would grow beyond 4,096 octets: a character of three octets may become eighteen of thirty-three.
    TooLong,
    /// Nothing is left, since it has nothing but characters that print nothing (RFC 3454, table B.1).
    NothingLeft,
    /// It is not ASCII, and this build, without the feature `std`, has no tables for more.
    NotAscii,
}

impl fmt::Display for Prohibited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlCharacter => "it has a control character, such as a tab",
            Self::PrivateUse => "it has a character for private use",
            Self::NoCharacter => "it has a code point that is no character",
            Self::NoPlainText => "it has a character that is not plain text, such as U+FFFD",
            Self::ChangesDisplay => "it has a character that changes how others are displayed",
            Self::Tag => "it has an invisible tag character",
            Self::MixedDirections => "it mixes right-to-left letters with left-to-right ones (RFC 3454, section 6)",
            Self::DirectionAtEnds => {
                "it has right-to-left letters, but does not begin and end with one: digits and punctuation there \
                 have the wrong direction (RFC 3454, section 6)"
            }
            Self::TooManyMarks => "it has over 30 marks on one letter",
            Self::TooLong => "it grows too long when it is prepared",
            Self::NothingLeft => "it has nothing but characters that print nothing",
            Self::NotAscii => "it is not ASCII",
        })
    }
}

impl core::error::Error for Prohibited {}

/// Whether preparing leaves the string as it is, and allows it: printable ASCII.
pub(crate) fn is_prepared(text: &[u8]) -> bool {
    crate::command::is_printable(text)
}

/// Prepares a string that is not [prepared](is_prepared) as it is. What comes of it is never empty.
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
        normalizer.push(character, |character| checked.push(character)).map_err(|_| Prohibited::TooManyMarks)?;
        if let Some(prohibited) = checked.prohibited {
            return Err(prohibited);
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
    /// The first thing that is wrong with it.
    prohibited: Option<Prohibited>,
    left: bool,
    right: bool,
    first_is_right: Option<bool>,
    last_is_right: bool,
}

#[cfg(feature = "std")]
impl Checked {
    fn push(&mut self, character: char) {
        use stringprep::tables;

        if self.prohibited.is_some() {
            return;
        }
        self.prohibited = prohibited(character);
        if self.prohibited.is_none() && self.prepared.len() + character.len_utf8() > self.most {
            self.prohibited = Some(Prohibited::TooLong);
        }
        if self.prohibited.is_some() {
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
        match self.prohibited {
            Some(prohibited) => Err(prohibited),
            None if self.right && self.left => Err(Prohibited::MixedDirections),
            None if self.right && !(self.last_is_right && self.first_is_right == Some(true)) => {
                Err(Prohibited::DirectionAtEnds)
            }
            None if self.prepared.len() == 0 => Err(Prohibited::NothingLeft),
            None => Ok(self.prepared),
        }
    }
}

/// Section 2.3, in the order of the tables of RFC 3454, appendix C. (Surrogates, table C.5, are none of UTF-8's.)
#[cfg(feature = "std")]
fn prohibited(character: char) -> Option<Prohibited> {
    use stringprep::tables;

    if tables::ascii_control_character(character) || tables::non_ascii_control_character(character) {
        Some(Prohibited::ControlCharacter)
    } else if tables::private_use(character) {
        Some(Prohibited::PrivateUse)
    } else if tables::non_character_code_point(character) {
        Some(Prohibited::NoCharacter)
    } else if tables::non_ascii_space_character(character)
        || tables::inappropriate_for_plain_text(character)
        || tables::inappropriate_for_canonical_representation(character)
    {
        Some(Prohibited::NoPlainText)
    } else if tables::change_display_properties_or_deprecated(character) {
        Some(Prohibited::ChangesDisplay)
    } else if tables::tagging_character(character) {
        Some(Prohibited::Tag)
    } else {
        None
    }
}

/// No password that somebody types comes near it; one that is longer to begin with may stay as long.
#[cfg(feature = "std")]
const MOST_GROWN_OCTETS: usize = 4_096;

/// Without `std` there are no tables: nothing but ASCII is allowed.
#[cfg(not(feature = "std"))]
pub(crate) fn prepare(text: &str) -> Result<Secret, Prohibited> {
    Err(if text.is_ascii() { Prohibited::ControlCharacter } else { Prohibited::NotAscii })
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
        assert_eq!(prepared("\u{07}"), Err(Prohibited::ControlCharacter));
        assert_eq!(prepared("\u{627}1"), Err(Prohibited::DirectionAtEnds));
    }

    #[test]
    fn bidirectional_text() {
        assert_eq!(prepared("\u{627}1\u{628}").unwrap(), "\u{627}1\u{628}");
        assert_eq!(prepared("\u{627}a\u{628}"), Err(Prohibited::MixedDirections));
        assert_eq!(prepared("1\u{628}"), Err(Prohibited::DirectionAtEnds));
    }

    #[test]
    fn spaces_and_what_unicode_did_not_know() {
        assert_eq!(prepared("a\u{A0}b").unwrap(), "a b");
        assert_eq!(prepared("\u{1F980}\u{0301}").unwrap(), "\u{1F980}\u{0301}");
        assert_eq!(prepared("\u{E000}"), Err(Prohibited::PrivateUse));
        assert_eq!(prepared("\u{AD}\u{200D}"), Err(Prohibited::NothingLeft));
        assert_eq!(prepared("e\u{301}").unwrap(), "\u{E9}");
    }

    #[test]
    fn what_grows_too_much_is_prohibited() {
        assert_eq!(prepare(&"\u{FDFA}".repeat(124)).unwrap().len(), 124 * 33);
        assert_eq!(prepare(&"\u{FDFA}".repeat(125)).map(|_| ()), Err(Prohibited::TooLong));
        assert_eq!(prepare(&"\u{E9}".repeat(4_600)).unwrap().len(), 9_200);
        assert_eq!(prepare(&["q", &"\u{301}".repeat(40)].concat()).map(|_| ()), Err(Prohibited::TooManyMarks));
    }

    #[test]
    fn what_is_wrong_is_told_and_nothing_else() {
        for (text, why) in [
            ("a\tb", Prohibited::ControlCharacter),
            ("a\u{85}b", Prohibited::ControlCharacter),
            ("a\u{F8FF}", Prohibited::PrivateUse),
            ("a\u{FFFE}", Prohibited::NoCharacter),
            ("a\u{FFFD}", Prohibited::NoPlainText),
            ("a\u{2FF0}", Prohibited::NoPlainText),
            ("a\u{202E}", Prohibited::ChangesDisplay),
            ("a\u{E0041}", Prohibited::Tag),
            ("שלום123", Prohibited::DirectionAtEnds),
            ("مرحباabc", Prohibited::MixedDirections),
        ] {
            assert_eq!(prepared(text), Err(why), "{}", text.escape_unicode());
        }
        let told = alloc::format!("{} {}", Prohibited::DirectionAtEnds, Prohibited::MixedDirections);
        assert!(told.contains("right-to-left") && told.contains("direction"), "{told}");
    }
}
