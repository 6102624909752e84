//! Normalization form KC (UAX #15), without a buffer on the heap: `unicode-normalization` has the tables,
//! but its iterators leave parts of passwords in memory that they give back.

use unicode_normalization::char::{canonical_combining_class, compose, decompose_compatible};
use zeroize::Zeroize as _;

/// More marks on one letter than any language has: UAX #15, section 13 (Stream-Safe Text Format).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyMarks;

/// Takes characters one by one, and gives out those of the normal form.
#[derive(Default)]
pub(super) struct Normalizer {
    /// The last character of combining class 0, with what has been composed into it. It is given out when
    /// nothing more can be.
    starter: Option<char>,
    /// The marks behind it, with their combining classes, sorted by them.
    marks: [(u8, char); MAX_MARKS],
    length: usize,
}

impl Normalizer {
    /// Takes the next character. Once it has failed, what it gives out means nothing.
    pub(super) fn push(&mut self, character: char, mut emit: impl FnMut(char)) -> Result<(), TooManyMarks> {
        let mut taken = Ok(());
        decompose_compatible(character, |character| {
            taken = taken.and_then(|()| self.push_decomposed(character, &mut emit));
        });
        taken
    }

    /// Gives out what is left.
    pub(super) fn finish(mut self, mut emit: impl FnMut(char)) {
        self.give_out(&mut emit);
    }

    fn push_decomposed(&mut self, character: char, emit: &mut impl FnMut(char)) -> Result<(), TooManyMarks> {
        let class = canonical_combining_class(character);
        if class != 0 {
            return self.insert(class, character);
        }
        self.compose_marks();
        // A starter composes with the one before it if nothing is in between: Hangul does.
        let composed = self.starter.filter(|_| self.length == 0).and_then(|starter| compose(starter, character));
        if composed.is_none() {
            self.give_out(emit);
        }
        self.starter = composed.or(Some(character));
        Ok(())
    }

    /// Sorts a mark in, behind those of the same class (section 3.11 of the Unicode Standard, D109).
    fn insert(&mut self, class: u8, character: char) -> Result<(), TooManyMarks> {
        let mut place = self.length;
        *self.marks.get_mut(place).ok_or(TooManyMarks)? = (class, character);
        self.length += 1;
        while let Some(before) = place.checked_sub(1) {
            if self.marks.get(before).is_none_or(|(other, _)| *other <= class) {
                break;
            }
            self.marks.swap(before, place);
            place = before;
        }
        Ok(())
    }

    /// Composes the starter with each mark that no other blocks (D115, D117).
    fn compose_marks(&mut self) {
        let Some(mut starter) = self.starter else { return };
        let (mut kept, mut last_class) = (0, 0);
        for at in 0..self.length {
            let Some(&(class, mark)) = self.marks.get(at) else { break };
            match compose(starter, mark).filter(|_| last_class < class) {
                Some(composed) => starter = composed,
                None => {
                    last_class = class;
                    if let Some(place) = self.marks.get_mut(kept) {
                        *place = (class, mark);
                    }
                    kept += 1;
                }
            }
        }
        self.length = kept;
        self.starter = Some(starter);
    }

    fn give_out(&mut self, emit: &mut impl FnMut(char)) {
        self.compose_marks();
        self.starter.take().into_iter().for_each(&mut *emit);
        self.marks.iter().take(self.length).for_each(|(_, mark)| emit(*mark));
        self.length = 0;
    }
}

impl Drop for Normalizer {
    fn drop(&mut self) {
        self.marks.zeroize();
        self.starter.zeroize();
    }
}

/// UAX #15, section 13 says 30; a character that ends with marks may bring two more.
const MAX_MARKS: usize = 32;

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use unicode_normalization::UnicodeNormalization as _;

    use super::*;

    fn nfkc(text: &str) -> Result<String, TooManyMarks> {
        let (mut normalizer, mut normal) = (Normalizer::default(), String::new());
        for character in text.chars() {
            normalizer.push(character, |character| normal.push(character))?;
        }
        normalizer.finish(|character| normal.push(character));
        Ok(normal)
    }

    /// Each character by itself, and behind and before some that compose, block, or begin anew.
    #[test]
    fn every_character_comes_out_as_the_iterators_have_it() {
        // The blocks that have rules, and few of the syllables.
        let blocks = ['\0'..='\u{33ff}', '\u{ac00}'..='\u{ac40}', '\u{f900}'..='\u{ffff}', '\u{11000}'..='\u{113ff}'];
        for character in blocks.into_iter().flatten().chain('\u{1d100}'..='\u{1d4ff}').chain('\u{2f800}'..='\u{2fa1f}')
        {
            for before in ["", "a", "a\u{301}\u{323}", "\u{1100}", "\u{9c7}"] {
                for after in ["", "\u{301}", "\u{11a8}", "\u{5b0}\u{327}\u{301}x"] {
                    let text: String = [before, String::from(character).as_str(), after].concat();
                    assert_eq!(nfkc(&text).unwrap(), text.nfkc().collect::<String>(), "{}", text.escape_unicode());
                }
            }
        }
    }

    /// Marks in every order: a small generator mixes what matters.
    #[test]
    fn mixtures_come_out_as_the_iterators_have_them() {
        let pieces: Vec<char> = "aeqA\u{301}\u{300}\u{302}\u{303}\u{308}\u{323}\u{327}\u{345}\u{5b0}\u{315}\u{1100}\u{1161}\u{11a8}\
            \u{ac00}\u{ac01}\u{9c7}\u{9be}\u{9d7}\u{fdfa}\u{fb01}\u{1e9b}\u{3a9}\u{1f71}\u{110a5}\u{110ba}\u{344}\u{958}"
            .chars()
            .collect();
        let mut state = 1_u64;
        for _ in 0..50_000 {
            let mut text = String::new();
            for _ in 0..8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let index = usize::try_from(state >> 33).unwrap() % pieces.len();
                text.push(pieces[index]);
            }
            assert_eq!(nfkc(&text).unwrap(), text.nfkc().collect::<String>(), "{}", text.escape_unicode());
        }
    }

    #[test]
    fn thirty_marks_are_some_and_thirty_three_too_many() {
        let marks = |count| [String::from("q"), "\u{323}\u{301}".repeat(count)].concat();
        assert_eq!(nfkc(&marks(15)).unwrap(), marks(15).nfkc().collect::<String>());
        assert_eq!(nfkc(&marks(17)), Err(TooManyMarks));
    }
}
