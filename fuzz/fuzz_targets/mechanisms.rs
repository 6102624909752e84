//! Mechanisms: the messages of a client with the right password, bent in any way, and any text for keys.
//!
//! `cargo +nightly fuzz run mechanisms -- -dict=fuzz/sasl.dict -max_len=1024`

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/dialogue.rs"]
mod dialogue;
#[path = "../../tests/support/driver.rs"]
mod driver;
#[path = "../../tests/support/mechanisms.rs"]
mod mechanisms;
#[path = "../../tests/support/scram.rs"]
mod scram;

fuzz_target!(|data: &[u8]| {
    let Some((&[mechanism, knobs, ref answers_and_cuts @ ..], edits)) = data.split_first_chunk::<7>() else { return };
    let (answers, cuts) = answers_and_cuts.split_at(3);
    if mechanism == u8::MAX {
        if let Ok(text) = std::str::from_utf8(edits) {
            dialogue::check_text(text).unwrap_or_else(|error| panic!("{error}"));
        }
        return;
    }
    let mut cuts = cuts.iter().cycle();
    let cut = |left| cuts.next().map_or(left, |cut| 1 + usize::from(*cut));
    dialogue::Dialogue::right(usize::from(mechanism), knobs & 1 != 0)
        .edit(edits)
        .check(answers, knobs & 2 != 0, cut)
        .unwrap_or_else(|error| panic!("{error}"));
});
