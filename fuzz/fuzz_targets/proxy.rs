//! Headers of the PROXY protocol, cut in any way, by themselves and in front of a session.
//!
//! `cargo +nightly fuzz run proxy -- -max_len=512`

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/proxy.rs"]
mod proxy;

fuzz_target!(|data: &[u8]| {
    let Some((&[limit, ref cuts @ ..], octets)) = data.split_first_chunk::<5>() else { return };
    let mut cuts = cuts.iter().cycle();
    let cut = |left| cuts.next().map_or(left, |cut| 1 + usize::from(*cut));
    proxy::check(octets, u16::from(limit) * 16, cut).unwrap_or_else(|error| panic!("{error}"));
});
