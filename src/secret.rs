//! Types for passwords, tokens and everything derived from them.
//!
//! Both types redact their `Debug`, have no `Display`, no `Deref` and no serialisation, compare in
//! constant time, and are opened by one method that is easy to search for: `expose_secret`.

use alloc::vec::Vec;
use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Octets that must not be shown, owned, and overwritten with zeros when dropped.
#[derive(Default)]
pub struct Secret {
    octets: Vec<u8>,
}

impl Secret {
    /// Takes ownership of `octets`; their allocation is zeroized when this value is dropped.
    #[must_use]
    pub fn new(octets: Vec<u8>) -> Self {
        Self { octets }
    }

    pub(crate) fn with_capacity(octets: usize) -> Self {
        Self { octets: Vec::with_capacity(octets) }
    }

    /// Opens the secret. Whoever calls this is responsible for what becomes of the octets.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8] {
        &self.octets
    }

    /// Borrows the secret, still closed.
    #[must_use]
    pub fn as_ref(&self) -> SecretRef<'_> {
        SecretRef { octets: &self.octets }
    }

    /// Compares in time that depends on the lengths only.
    #[must_use]
    pub fn ct_eq(&self, other: &[u8]) -> bool {
        self.as_ref().ct_eq(other)
    }

    pub(crate) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Overwrites the content with zeros and keeps the allocation for the next one.
    pub(crate) fn clear(&mut self) {
        // What lies beyond the length was overwritten by an earlier `clear` or never written.
        if !self.octets.is_empty() {
            self.octets.as_mut_slice().zeroize();
            self.octets.clear();
        }
    }

    /// Overwrites the content, and gives the allocation back if it has grown past `octets`.
    pub(crate) fn clear_and_shrink(&mut self, octets: usize) {
        self.clear();
        if self.octets.capacity() > octets {
            self.octets = Vec::new();
        }
    }

    /// Appends `more`. When the allocation has to move, the old one is overwritten first.
    pub(crate) fn extend(&mut self, more: &[u8]) {
        let wanted = self.octets.len().saturating_add(more.len());
        if wanted > self.octets.capacity() {
            let mut larger = Vec::with_capacity(wanted.max(self.octets.capacity().saturating_mul(2)).max(LEAST_OCTETS));
            larger.extend_from_slice(&self.octets);
            wipe(&mut self.octets);
            self.octets = larger;
        }
        self.octets.extend_from_slice(more);
    }

    /// Makes the secret `length` zero octets long and gives them out to be filled.
    pub(crate) fn refill(&mut self, length: usize) -> &mut [u8] {
        self.clear();
        self.octets.resize(length, 0);
        &mut self.octets
    }

    /// Overwrites a part of the content with zeros.
    pub(crate) fn overwrite(&mut self, start: usize, end: usize) {
        if let Some(part) = self.octets.get_mut(start..end) {
            part.zeroize();
        }
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        if let Some(tail) = self.octets.get_mut(length..) {
            tail.zeroize();
        }
        self.octets.truncate(length);
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.octets.capacity()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.octets);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl From<&[u8]> for Secret {
    fn from(octets: &[u8]) -> Self {
        Self::new(octets.to_vec())
    }
}

/// Room for a secret of a few octets, without an allocation, and overwritten with zeros when dropped.
pub(crate) struct ShortSecret {
    octets: [u8; SHORT_OCTETS],
}

impl ShortSecret {
    pub(crate) fn new() -> Self {
        Self { octets: [0; SHORT_OCTETS] }
    }

    /// The first `length` octets, to be filled, if there is room for so many.
    pub(crate) fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        self.octets.get_mut(..length)
    }
}

impl Drop for ShortSecret {
    fn drop(&mut self) {
        self.octets.as_mut_slice().zeroize();
    }
}

/// Octets that must not be shown, borrowed.
#[derive(Clone, Copy)]
pub struct SecretRef<'a> {
    octets: &'a [u8],
}

impl<'a> SecretRef<'a> {
    /// Wraps octets that somebody else owns, and zeroizes.
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        Self { octets }
    }

    /// Opens the secret. Whoever calls this is responsible for what becomes of the octets.
    #[must_use]
    pub fn expose_secret(self) -> &'a [u8] {
        self.octets
    }

    /// Compares in time that depends on the lengths only.
    #[must_use]
    pub fn ct_eq(self, other: &[u8]) -> bool {
        self.octets.ct_eq(other).into()
    }
}

impl PartialEq for SecretRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other.octets)
    }
}

impl Eq for SecretRef<'_> {}

impl fmt::Debug for SecretRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Overwrites the whole allocation. `Vec::zeroize` does so too, but octet by octet.
fn wipe(octets: &mut Vec<u8>) {
    if octets.capacity() > 0 {
        octets.clear();
        octets.spare_capacity_mut().zeroize();
    }
}

/// Nearly every response to AUTH PLAIN has room in it.
const SHORT_OCTETS: usize = 192;

/// An allocation that is made at all is at least so large.
const LEAST_OCTETS: usize = 64;

/// The same for every secret, so that not even a length shows.
const REDACTED: &str = "[redacted]";

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_content() {
        let secret = Secret::from(&b"tanstaaf"[..]);
        assert_eq!(format!("{secret:?} {:?} {:#?}", secret.as_ref(), secret), "[redacted] [redacted] [redacted]");
    }

    #[test]
    fn clear_overwrites_the_octets_in_place() {
        let mut secret = Secret::with_capacity(16);
        secret.extend(b"tanstaaf");
        secret.clear();
        // The allocation is still ours: growing the vector over it again shows what was left there.
        assert_eq!(secret.refill(8), &[0; 8]);
        assert_eq!(secret.capacity(), 16);
    }

    #[test]
    fn comparison_looks_at_content_and_length() {
        let secret = Secret::from(&b"abc"[..]);
        assert!(secret.ct_eq(b"abc"));
        assert!(!secret.ct_eq(b"abd"));
        assert!(!secret.ct_eq(b"ab"));
        assert!(!secret.ct_eq(b"abcd"));
    }
}
