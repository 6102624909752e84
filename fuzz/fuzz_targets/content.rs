//! Content: what the engine hands on is what the naive reference does.
//!
//! `cargo +nightly fuzz run content -- -dict=fuzz/smtp.dict -only_ascii=0`

#![no_main]

use libfuzzer_sys::fuzz_target;

use sansmtp::Newlines;

#[path = "../../tests/support/reference.rs"]
mod reference;

fuzz_target!(|data: &[u8]| {
    let Some((&[policy, cut, max_octets, max_line_octets], content)) = data.split_first_chunk::<4>() else { return };
    let limit = |limit: u8| if limit == 0 { 100_000 } else { usize::from(limit) };
    let rules = reference::Rules {
        newlines: if policy & 1 == 0 { Newlines::Refuse } else { Newlines::Convert },
        max_octets: limit(max_octets),
        max_line_octets: limit(max_line_octets),
    };
    let end: &[u8] = if policy & 2 == 0 { b"\r\n.\r\n" } else { b"" };
    reference::check(&[content, end].concat(), rules, usize::from(cut) + 1)
        .unwrap_or_else(|error| panic!("{error}"));
});
