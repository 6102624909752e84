//! yescrypt, in the flavor that crypt(3) writes: read and write, without parallelism, a factor of time or a ROM.
//!
//! The steps are those of the specification ("yescrypt - a Password Hashing Competition submission", version 2), whose
//! names these are.

use alloc::boxed::Box;
use alloc::vec;

use hmac::Mac;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::salsa::{Chunk, Chunks, Pbkdf2, block_mix, high, hmac, integerify, low, next_chunk, salsa20, write, xor};
use crate::{Block, TooLittleMemory};

/// The parameters of yescrypt: N, which costs time and memory, and the size of a row, r.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YescryptParams {
    log_n: u8,
    r: u32,
}

impl YescryptParams {
    /// With N by its binary logarithm. `None` where one is 0, N is over 2^31, or `blocks` would be no number.
    #[must_use]
    pub fn new(log_n: u8, r: u32) -> Option<Self> {
        let bounded = (1..=31).contains(&log_n) && (1..1 << 30).contains(&r);
        let chunks = 2_usize.checked_mul(r.try_into().ok()?)?.checked_mul(1 << log_n.min(31));
        (bounded && chunks.is_some()).then_some(Self { log_n, r })
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

    /// How many blocks of memory, 1 KiB each, a hash takes: 128 r N octets.
    #[must_use]
    pub fn blocks(self) -> usize {
        Chunks::blocks(self.row() * self.n())
    }

    fn n(self) -> usize {
        1 << self.log_n
    }

    /// How many chunks a row has.
    fn row(self) -> usize {
        2 * self.r as usize
    }
}

/// Computes the hash of a password, as crypt(3) does.
///
/// What was in the memory before makes no difference.
///
/// # Errors
/// Where there are fewer blocks than [`YescryptParams::blocks`].
pub fn yescrypt(
    password: &[u8],
    salt: &[u8],
    params: YescryptParams,
    memory: &mut [Block],
) -> Result<[u8; 32], TooLittleMemory> {
    let mut prehashed = Zeroizing::new([0; 32]);
    let mut password = password;
    // A cheaper hash comes first where this one is so costly that a client might be asked to compute it.
    if params.n() >= 0x100 && params.n() as u64 * u64::from(params.r) >= 0x20000 {
        let cheaper = YescryptParams { log_n: params.log_n - 6, ..params };
        *prehashed = body(password, salt, cheaper, b"yescrypt-prehash", memory)?;
        password = &*prehashed;
    }
    let derived = Zeroizing::new(body(password, salt, params, b"yescrypt", memory)?);
    // As SCRAM makes its StoredKey.
    let client_key = Zeroizing::new(mac(&*derived, b"Client Key"));
    Ok(Sha256::digest(*client_key).into())
}

fn body(
    password: &[u8],
    salt: &[u8],
    params: YescryptParams,
    key: &[u8],
    memory: &mut [Block],
) -> Result<[u8; 32], TooLittleMemory> {
    let (n, row) = (params.n(), params.row());
    let mut v = Chunks::new(memory, row * n)?;

    let mut password = Zeroizing::new(mac(key, password));
    let mut derived = Pbkdf2::new(&*password);
    derived.salt(salt);
    let mut x = Zeroizing::new(vec![Chunk::default(); row]);
    let mut pieces = derived.pieces();
    x.iter_mut().for_each(|chunk| *chunk = next_chunk(&mut pieces));
    let [first, second, ..] = &mut **x else { return Err(TooLittleMemory) };
    let start = write(first);
    password.iter_mut().zip(*start).for_each(|(to, octet)| *to = octet);

    let mut boxes = Boxes::new(first, second);
    let last = x.last().map_or_else(|| Zeroizing::new([0; 64]), write);
    *password = mac(&*last, &*password);
    smix(n, &mut v, &mut x, &mut boxes);

    let mut derived = Pbkdf2::new(&*password);
    x.iter().for_each(|chunk| derived.salt(&*write(chunk)));
    Ok(derived.piece(1))
}

/// SMix1 and SMix2 with YESCRYPT_RW, in place.
fn smix(n: usize, v: &mut Chunks<'_>, x: &mut [Chunk], boxes: &mut Boxes) {
    let row = x.len();
    for index in 0..n {
        v.write(index * row, x);
        if index > 1 {
            // Wrap(Integerify(X), i): one of the last rows, as many as the largest power of two that there are.
            let recent = 1 << index.ilog2();
            let wrapped = (integerify(x) & (recent - 1)) + (index - recent);
            v.xor_into(x, wrapped * row);
        }
        boxes.block_mix(x);
    }
    // A third of N, which is all where t is 0, made even.
    for _ in 0..n.div_ceil(3).next_multiple_of(2) {
        let index = (integerify(x) & (n - 1)) * row;
        v.xor_into(x, index);
        v.write(index, x);
        boxes.block_mix(x);
    }
}

/// 256 pairs of lanes.
type SBox = [[u64; 2]; 256];

/// The S-boxes of pwxform: S0, S1, S2.
struct Boxes {
    boxes: [Box<SBox>; 3],
    /// Where in S2 is written next, in lanes.
    w: usize,
}

impl Boxes {
    /// Fills them by SMix1 with r = 1, which changes these chunks.
    fn new(first: &mut Chunk, second: &mut Chunk) -> Self {
        let mut chunks = [*first, *second];
        let mut boxes = [(); 3].map(|()| Box::new([[0; 2]; 256]));
        // S2 is filled first.
        for pairs in boxes.iter_mut().rev().flat_map(|one| one.as_chunks_mut::<8>().0) {
            let from = chunks;
            let lanes = from.iter().flat_map(|chunk| chunk.as_chunks().0);
            pairs.iter_mut().zip(lanes).for_each(|(pair, lanes)| *pair = *lanes);
            block_mix(&from, &mut chunks);
        }
        [*first, *second] = chunks;
        Self { boxes, w: 0 }
    }

    /// BlockMix_pwxform, in place.
    fn block_mix(&mut self, x: &mut [Chunk]) {
        let Some(mut sum) = x.last().copied() else { return };
        for chunk in x.iter_mut() {
            xor(&mut sum, chunk);
            self.pwxform(&mut sum);
            *chunk = sum;
        }
        if let Some(last) = x.last_mut() {
            salsa20::<1>(last);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a S-box has as many entries as eight bits can tell apart")]
    fn pwxform(&mut self, chunk: &mut Chunk) {
        let [s0, s1, s2] = &mut self.boxes;
        let mut w = self.w;
        for round in 0..ROUNDS {
            for lanes in chunk.as_chunks_mut::<2>().0 {
                let [first, _] = *lanes;
                let (p0, p1) = (s0[(low(first) as usize >> 4) & 255], s1[(high(first) as usize >> 4) & 255]);
                for ((lane, s0), s1) in lanes.iter_mut().zip(p0).zip(p1) {
                    let product = u64::from(high(*lane)).wrapping_mul(low(*lane).into());
                    *lane = product.wrapping_add(s0) ^ s1;
                }
                if round != 0 && round != ROUNDS - 1 {
                    s2[(w / 2) & 255] = *lanes;
                    w += 2;
                }
            }
        }
        self.w = w % 512;
        // (S0, S1, S2) becomes (S2, S0, S1).
        self.boxes.rotate_right(1);
    }
}

impl Drop for Boxes {
    fn drop(&mut self) {
        self.boxes.iter_mut().for_each(|one| one.zeroize());
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    hmac(key).chain_update(message).finalize().into_bytes().into()
}

const ROUNDS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn as_the_crate_of_this_name_has_it() {
        // The memory is as the one before left it.
        let mut memory = vec![Block::new(); 16 * 1024];
        for (log_n, r) in [(1, 1), (2, 1), (3, 8), (5, 7), (8, 8), (8, 48), (10, 32), (12, 32), (14, 8)] {
            for (password, salt) in [("", "s"), ("password", "saltsaltsaltsalt"), ("päss", "other")] {
                let params = YescryptParams::new(log_n, r).unwrap();
                let here = yescrypt(password.as_bytes(), salt.as_bytes(), params, &mut memory).unwrap();
                let mut there = [0; 32];
                let params = ::yescrypt::Params::new(::yescrypt::Mode::Rw, 1 << log_n, r, 1).unwrap();
                ::yescrypt::yescrypt(password.as_bytes(), salt.as_bytes(), &params, &mut there).unwrap();
                assert_eq!(here, there, "{log_n} {r} {password}");
            }
        }
    }

    #[test]
    fn as_the_crate_of_this_name_has_it_whatever_the_parameters() {
        let mut memory = vec![Block::new(); 1024];
        let mut random = Random::new(1);
        for _ in 0..60 {
            let (log_n, r) = (1 + random.upto(7), 1 + u32::from(random.upto(31)));
            let (password, salt) = (random.octets(150), random.octets(64));
            let here = yescrypt(&password, &salt, YescryptParams::new(log_n, r).unwrap(), &mut memory).unwrap();
            let mut there = [0; 32];
            let params = ::yescrypt::Params::new(::yescrypt::Mode::Rw, 1 << log_n, r, 1).unwrap();
            ::yescrypt::yescrypt(&password, &salt, &params, &mut there).unwrap();
            assert_eq!(here, there, "{log_n} {r} {password:?} {salt:?}");
        }
    }

    #[test]
    fn parameters_and_memory_have_bounds() {
        for (log_n, r) in [(0, 1), (32, 1), (u8::MAX, 1), (1, 0), (1, u32::MAX)] {
            assert_eq!(YescryptParams::new(log_n, r), None, "{log_n} {r}");
        }
        let params = YescryptParams::new(12, 32).unwrap();
        assert_eq!(params.blocks(), 16 * 1024);
        let mut memory = vec![Block::new(); 16 * 1024 - 1];
        assert_eq!(yescrypt(b"x", b"y", params, &mut memory), Err(TooLittleMemory));
    }
}
