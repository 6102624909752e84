//! scrypt (RFC 7914).

use alloc::vec;
use alloc::vec::Vec;

use zeroize::{Zeroize, Zeroizing};

use crate::salsa::{Chunk, Chunks, Pbkdf2, block_mix, integerify, next_chunk, write};
use crate::{Block, TooLittleMemory};

/// The parameters of scrypt: N, which costs time and memory, the size of a row, r, and how often it is all done, p.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScryptParams {
    log_n: u8,
    r: u32,
    p: u32,
}

impl ScryptParams {
    /// With N by its binary logarithm. `None` where one is 0, N is over 2^31, or `blocks` would be no number.
    #[must_use]
    pub fn new(log_n: u8, r: u32, p: u32) -> Option<Self> {
        let bounded = (1..=31).contains(&log_n) && r > 0 && p > 0;
        // As section 2 has it.
        let bounded = bounded && u64::from(r) * u64::from(p) < 1 << 30;
        let rows = 1_usize.checked_shl(log_n.into())?.checked_add(p.try_into().ok()?)?;
        let chunks = 2_usize.checked_mul(r.try_into().ok()?)?.checked_mul(rows);
        (bounded && chunks.is_some()).then_some(Self { log_n, r, p })
    }

    /// N's binary logarithm.
    #[must_use]
    pub fn log_n(self) -> u8 {
        self.log_n
    }

    /// How many times 128 octets a row has.
    #[must_use]
    pub fn r(self) -> u32 {
        self.r
    }

    /// How often all is done.
    #[must_use]
    pub fn p(self) -> u32 {
        self.p
    }

    /// How many blocks of memory, 1 KiB each, a hash takes: 128 r (N + p) octets.
    #[must_use]
    pub fn blocks(self) -> usize {
        Chunks::blocks(self.row() * (self.n() + self.p as usize))
    }

    fn n(self) -> usize {
        1 << self.log_n
    }

    /// How many chunks a row has.
    fn row(self) -> usize {
        2 * self.r as usize
    }
}

/// Fills the output.
///
/// What was in the memory before makes no difference.
///
/// # Errors
/// Where there are fewer blocks than [`ScryptParams::blocks`].
pub fn scrypt(
    password: &[u8],
    salt: &[u8],
    params: ScryptParams,
    memory: &mut [Block],
    output: &mut [u8],
) -> Result<(), TooLittleMemory> {
    let (n, row) = (params.n(), params.row());
    // V, and B behind it (section 6).
    let (b, end) = (row * n, row * (n + params.p as usize));
    let mut chunks = Chunks::new(memory, end)?;

    let mut derived = Pbkdf2::new(password);
    derived.salt(salt);
    let mut pieces = derived.pieces();
    for index in b..end {
        *chunks.at_mut(index) = next_chunk(&mut pieces);
    }
    let mut x = Zeroizing::new(vec![Chunk::default(); row]);
    let mut y = x.clone();
    for lane in (b..end).step_by(row) {
        for (index, chunk) in (lane..).zip(x.iter_mut()) {
            *chunk = *chunks.at(index);
        }
        ro_mix(n, &mut chunks, &mut x, &mut y);
        chunks.write(lane, &x);
    }
    let mut derived = Pbkdf2::new(password);
    for index in b..end {
        derived.salt(&*write(chunks.at(index)));
    }
    for (to, mut piece) in output.chunks_mut(32).zip(derived.pieces()) {
        to.iter_mut().zip(piece).for_each(|(to, octet)| *to = octet);
        piece.zeroize();
    }
    Ok(())
}

/// scryptROMix (section 5), in place.
fn ro_mix(n: usize, v: &mut Chunks<'_>, x: &mut Vec<Chunk>, y: &mut Vec<Chunk>) {
    let row = x.len();
    for index in 0..n {
        v.write(index * row, x);
        block_mix(x, y);
        core::mem::swap(x, y);
    }
    for _ in 0..n {
        let index = integerify(x) & (n - 1);
        v.xor_into(x, index * row);
        block_mix(x, y);
        core::mem::swap(x, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn as_the_crate_of_this_name_has_it() {
        // The memory is as the one before left it.
        let mut memory = vec![Block::new(); 2048];
        for (log_n, r, p, octets) in
            [(1, 1, 1, 1), (4, 1, 1, 64), (4, 8, 3, 32), (3, 5, 2, 33), (6, 17, 2, 10), (10, 8, 16, 64)]
        {
            let (mut here, mut there) = (vec![0; octets], vec![0; octets]);
            let params = ScryptParams::new(log_n, r, p).unwrap();
            scrypt(b"password", b"NaCl", params, &mut memory, &mut here).unwrap();
            let params = ::scrypt::Params::new(log_n, r, p).unwrap();
            ::scrypt::scrypt(b"password", b"NaCl", &params, &mut there).unwrap();
            assert_eq!(here, there, "{log_n} {r} {p}");
        }
    }

    #[test]
    fn as_the_crate_of_this_name_has_it_whatever_the_parameters() {
        let mut memory = vec![Block::new(); 1024];
        let mut random = Random::new(7914);
        for _ in 0..60 {
            let (log_n, r, p) = (1 + random.upto(6), 1 + u32::from(random.upto(11)), 1 + u32::from(random.upto(4)));
            // Over a block of SHA-256, too, where HMAC hashes the key first.
            let (password, salt) = (random.octets(150), random.octets(100));
            let (mut here, mut there) = (vec![0; 1 + usize::from(random.upto(200))], Vec::new());
            there.resize(here.len(), 0);
            let params = ScryptParams::new(log_n, r, p).unwrap();
            scrypt(&password, &salt, params, &mut memory, &mut here).unwrap();
            let params = ::scrypt::Params::new(log_n, r, p).unwrap();
            ::scrypt::scrypt(&password, &salt, &params, &mut there).unwrap();
            assert_eq!(here, there, "{log_n} {r} {p} {password:?} {salt:?}");
        }
    }

    #[test]
    fn parameters_and_memory_have_bounds() {
        for (log_n, r, p) in [
            (0, 1, 1),
            (32, 1, 1),
            (64, 1, 1),
            (u8::MAX, 1, 1),
            (1, 0, 1),
            (1, 1, 0),
            (1, 1 << 15, 1 << 15),
            (31, u32::MAX, 1),
        ] {
            assert_eq!(ScryptParams::new(log_n, r, p), None, "{log_n} {r} {p}");
        }
        let params = ScryptParams::new(14, 8, 1).unwrap();
        assert_eq!(params.blocks(), 16 * 1024 + 1);
        let mut memory = vec![Block::new(); 16 * 1024];
        assert_eq!(scrypt(b"x", b"y", params, &mut memory, &mut [0; 32]), Err(TooLittleMemory));
    }
}
