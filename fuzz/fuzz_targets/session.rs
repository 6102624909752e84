//! Sessions: any configuration, answers and octets, cut in any way.
//!
//! `cargo +nightly fuzz run session -- -dict=fuzz/smtp.dict -max_len=4096`

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/driver.rs"]
mod driver;

fuzz_target!(|data: &[u8]| {
    let Some((&[low, high, ref knobs @ ..], octets)) = data.split_first_chunk::<10>() else { return };
    let has = |bit: u8| u16::from_be_bytes([high, low]) >> bit & 1 != 0;
    let (answers, cuts) = knobs.split_at(4);
    let setting = driver::Setting {
        starttls: has(0),
        tls_from_start: has(1),
        tls_required: has(2),
        auth: !has(3),
        auth_requires_tls: has(4),
        auth_required: has(5),
        handler_takes_all: has(6),
        smtputf8: has(7),
        convert: has(8),
        quirks: has(9),
        small_limits: has(10),
        hooks: has(11),
        ends: has(12),
        answers: answers.to_vec(),
    };
    let mut cuts = cuts.iter().cycle();
    let cut = |left| cuts.next().map_or(left, |cut| 1 + usize::from(*cut));
    setting.check(octets, cut).unwrap_or_else(|error| panic!("{error}"));
});
