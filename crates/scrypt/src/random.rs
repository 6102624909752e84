//! Numbers for tests, the same ones each time.

use alloc::vec::Vec;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to the most, by SplitMix64.
    pub(crate) fn upto(&mut self, most: u8) -> u8 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u8::try_from((mixed ^ (mixed >> 31)) % (u64::from(most) + 1)).unwrap()
    }

    /// As many octets as that, or fewer.
    pub(crate) fn octets(&mut self, most: u8) -> Vec<u8> {
        let octets = self.upto(most);
        (0..octets).map(|_| self.upto(u8::MAX)).collect()
    }
}
