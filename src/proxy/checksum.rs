//! CRC32c (RFC 4960, appendix B), the checksum of section 2.2.3.

/// Takes `octets` in. A checksum begins as [`INITIAL`] and ends with [`finish`].
pub(super) fn update(state: u32, octets: &[u8]) -> u32 {
    octets.iter().fold(state, |state, &octet| {
        (0..8).fold(state ^ u32::from(octet), |state, _| (state >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(state & 1)))
    })
}

pub(super) fn finish(state: u32) -> u32 {
    !state
}

pub(super) const INITIAL: u32 = u32::MAX;

/// Castagnoli's, its bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of every catalogue.
    #[test]
    fn known_checksums() {
        let crc = |octets: &[u8]| finish(update(INITIAL, octets));
        assert_eq!(crc(b"123456789"), 0xE306_9283);
        assert_eq!(crc(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc(b""), 0);
    }
}
