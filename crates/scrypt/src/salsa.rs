//! What scrypt (RFC 7914) and yescrypt are built of: Salsa20, and PBKDF2 with one iteration.

use argon2::Block;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::TooLittleMemory;

/// 64 octets, the input of Salsa20 as eight pairs of little-endian words: the pair's first word is the lower half. The
/// words are in the order of the matrix' diagonals, in which a row of them is computed with at once. The word at `i`
/// is the one that comes at `5 * i mod 16` on the wire; yescrypt's pairs are made of this order.
pub(crate) type Chunk = [u64; 8];

/// The caller's memory, as chunks.
pub(crate) struct Chunks<'a>(&'a mut [Block]);

impl<'a> Chunks<'a> {
    /// How many blocks hold so many chunks.
    pub(crate) fn blocks(chunks: usize) -> usize {
        chunks.div_ceil(IN_A_BLOCK)
    }

    /// So many chunks.
    pub(crate) fn new(blocks: &'a mut [Block], chunks: usize) -> Result<Self, TooLittleMemory> {
        blocks.get_mut(..Self::blocks(chunks)).map(Self).ok_or(TooLittleMemory)
    }

    #[expect(clippy::indexing_slicing, reason = "there are as many chunks as the parameters need")]
    pub(crate) fn at(&self, index: usize) -> &Chunk {
        &self.0[index / IN_A_BLOCK].as_ref().as_chunks().0[index % IN_A_BLOCK]
    }

    #[expect(clippy::indexing_slicing, reason = "as for `at`")]
    pub(crate) fn at_mut(&mut self, index: usize) -> &mut Chunk {
        &mut self.0[index / IN_A_BLOCK].as_mut().as_chunks_mut().0[index % IN_A_BLOCK]
    }

    /// Writes these chunks from `index` on.
    pub(crate) fn write(&mut self, index: usize, chunks: &[Chunk]) {
        for (index, chunk) in (index..).zip(chunks) {
            *self.at_mut(index) = *chunk;
        }
    }

    /// Adds what stands from `index` on.
    pub(crate) fn xor_into(&self, chunks: &mut [Chunk], index: usize) {
        for (index, chunk) in (index..).zip(chunks) {
            xor(chunk, self.at(index));
        }
    }
}

/// Four words of the matrix.
type Row = [u32; 4];

/// Salsa20's core with so many double rounds (RFC 7914, section 3).
#[inline]
pub(crate) fn salsa20<const DOUBLE_ROUNDS: usize>(chunk: &mut Chunk) {
    let input = rows(chunk);
    let [mut a, mut b, mut c, mut d] = input;
    for _ in 0..DOUBLE_ROUNDS {
        // The columns, and then the rows; between the two, each diagonal is turned to where the other is.
        for _ in 0..2 {
            b = mix::<7>(b, a, d);
            c = mix::<9>(c, b, a);
            d = mix::<13>(d, c, b);
            a = mix::<18>(a, d, c);
            let ([b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]) = (b, c, d);
            (b, c, d) = ([d1, d2, d3, d0], [c2, c3, c0, c1], [b3, b0, b1, b2]);
        }
    }
    let [a0, b0, c0, d0] = input;
    *chunk = pairs([add(a, a0), add(b, b0), add(c, c0), add(d, d0)]);
}

fn mix<const BITS: u32>(target: Row, first: Row, second: Row) -> Row {
    let [t0, t1, t2, t3] = target;
    let [s0, s1, s2, s3] = add(first, second);
    [t0 ^ s0.rotate_left(BITS), t1 ^ s1.rotate_left(BITS), t2 ^ s2.rotate_left(BITS), t3 ^ s3.rotate_left(BITS)]
}

fn add([x0, x1, x2, x3]: Row, [y0, y1, y2, y3]: Row) -> Row {
    [x0.wrapping_add(y0), x1.wrapping_add(y1), x2.wrapping_add(y2), x3.wrapping_add(y3)]
}

fn rows(chunk: &Chunk) -> [Row; 4] {
    let row = |first: u64, second: u64| [low(first), high(first), low(second), high(second)];
    let [a0, a1, b0, b1, c0, c1, d0, d1] = *chunk;
    [row(a0, a1), row(b0, b1), row(c0, c1), row(d0, d1)]
}

fn pairs([a, b, c, d]: [Row; 4]) -> Chunk {
    let row = |[w0, w1, w2, w3]: Row| (pair(w0, w1), pair(w2, w3));
    let ((a0, a1), (b0, b1), (c0, c1), (d0, d1)) = (row(a), row(b), row(c), row(d));
    [a0, a1, b0, b1, c0, c1, d0, d1]
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
pub(crate) fn low(pair: u64) -> u32 {
    pair as u32
}

pub(crate) fn high(pair: u64) -> u32 {
    low(pair >> 32)
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

pub(crate) fn xor(chunk: &mut Chunk, other: &Chunk) {
    for (word, other) in chunk.iter_mut().zip(other) {
        *word ^= other;
    }
}

/// scryptBlockMix (RFC 7914, section 4) with Salsa20/8, from `from` to `to`.
pub(crate) fn block_mix(from: &[Chunk], to: &mut [Chunk]) {
    let Some(mut sum) = from.last().copied() else { return };
    let (even, odd) = to.split_at_mut(to.len() / 2);
    for ([first, second], (even, odd)) in from.as_chunks().0.iter().zip(even.iter_mut().zip(odd)) {
        for (chunk, to) in [(first, even), (second, odd)] {
            xor(&mut sum, chunk);
            salsa20::<4>(&mut sum);
            *to = sum;
        }
    }
}

pub(crate) fn read(octets: &[u8; 64]) -> Chunk {
    let words = octets.as_chunks().0;
    let word = |at: usize| words.get(at * 5 % 16).map_or(0, |word| u32::from_le_bytes(*word));
    core::array::from_fn(|at| pair(word(2 * at), word(2 * at + 1)))
}

/// Wiped when dropped: of what PBKDF2 makes the output, passwords could be tried without filling the memory.
pub(crate) fn write(chunk: &Chunk) -> Zeroizing<[u8; 64]> {
    let mut octets = Zeroizing::new([0; 64]);
    for (at, word) in octets.as_chunks_mut().0.iter_mut().enumerate() {
        // 13 * 5 is 1 modulo 16.
        let at = at * 13 % 16;
        let pair = chunk.get(at / 2).copied().unwrap_or_default();
        *word = (if at % 2 == 0 { low(pair) } else { high(pair) }).to_le_bytes();
    }
    octets
}

/// PBKDF2 with HMAC-SHA-256 and one iteration (RFC 8018, section 5.2), with a salt that comes in pieces and an output
/// that goes in pieces.
#[derive(Clone)]
pub(crate) struct Pbkdf2(Hmac<Sha256>);

impl Pbkdf2 {
    pub(crate) fn new(password: &[u8]) -> Self {
        Self(hmac(password))
    }

    pub(crate) fn salt(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The output's pieces, each of 32 octets, one after the other.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = [u8; 32]> + use<'_> {
        (1..).map(|index| self.piece(index))
    }

    /// One of them, counted from 1.
    pub(crate) fn piece(&self, index: u32) -> [u8; 32] {
        self.0.clone().chain_update(index.to_be_bytes()).finalize().into_bytes().into()
    }
}

/// The next 64 octets of an output.
pub(crate) fn next_chunk(pieces: &mut impl Iterator<Item = [u8; 32]>) -> Chunk {
    let mut octets = [0; 64];
    for (half, mut piece) in octets.as_chunks_mut::<32>().0.iter_mut().zip(pieces) {
        *half = piece;
        piece.zeroize();
    }
    let chunk = read(&octets);
    octets.zeroize();
    chunk
}

/// The last chunk as a number, of which the lower word will do: N is not larger (RFC 7914, section 5).
pub(crate) fn integerify(x: &[Chunk]) -> usize {
    let [first, ..] = x.last().copied().unwrap_or_default();
    low(first) as usize
}

/// HMAC-SHA-256, which takes any key.
#[expect(clippy::expect_used, reason = "HMAC hashes a key that is too long")]
pub(crate) fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}

const IN_A_BLOCK: usize = Block::SIZE / 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn octets<const N: usize>(digits: &str) -> [u8; N] {
        let digits: alloc::string::String = digits.split_whitespace().collect();
        core::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
    }

    #[test]
    fn salsa20_8_of_rfc_7914_section_8() {
        let mut chunk = read(&octets(
            "7e879a21 4f3ec986 7ca940e6 41718f26 baee555b 8c61c1b5 0df84611 6dcd3b1d
             ee24f319 df9b3d85 14121e4b 5ac5aa32 76021d29 09c74829 edebc68d b8b8c25e",
        ));
        salsa20::<4>(&mut chunk);
        let expected = octets(
            "a41f859c 6608cc99 3b81cacb 020cef05 044b2181 a2fd337d fd7b1c63 96682f29
             b4393168 e3c9e6bc fe6bc5b7 a06d96ba e424cc10 2c91745c 24ad673d c7618f81",
        );
        assert_eq!(*write(&chunk), expected);
    }

    #[test]
    fn block_mix_of_rfc_7914_section_9() {
        let from = [
            "f7ce0b65 3d2d72a4 108cf5ab e912ffdd 777616db bb27a70e 8204f3ae 2d0f6fad
             89f68f48 11d1e87b cc3bd740 0a9ffd29 094f0184 639574f3 9ae5a131 5217bcd7",
            "894991447213bb22 6c25b54da86370fb cd984380374666bb 8ffcb5bf40c254b0
             67d27c51ce4ad5fe d829c90b505a571b 7f4d1cad6a523cda 770e67bceaaf7e89",
        ];
        let to = [
            "a41f859c 6608cc99 3b81cacb 020cef05 044b2181 a2fd337d fd7b1c63 96682f29
             b4393168 e3c9e6bc fe6bc5b7 a06d96ba e424cc10 2c91745c 24ad673d c7618f81",
            "20edc975 323881a8 0540f64c 162dcd3c 21077cfe 5f8d5fe2 b1a4168f 953678b7
             7d3b3d80 3b60e4ab 920996e5 9b4d53b6 5d2a2258 77d5edf5 842cb9f1 4eefe425",
        ];
        let mut mixed = [Chunk::default(); 2];
        block_mix(&from.map(|text| read(&octets(text))), &mut mixed);
        assert_eq!(mixed.map(|chunk| *write(&chunk)), to.map(octets));
    }
}
