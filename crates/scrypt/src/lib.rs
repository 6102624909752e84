//! scrypt (RFC 7914) and yescrypt in memory of the caller's.
//!
//! Both fill megabytes. The crates of these names allocate them for each hash and free them again, unwiped; a server in
//! which many threads hash then keeps resident what its allocator does not use again. Here the memory is borrowed, as
//! `argon2` borrows it: the same [`Block`]s serve all three, one hash after the other. Wiping them is up to whoever owns
//! them; what else a hash leaves behind is wiped here.
//!
//! ```
//! use sansmtp_scrypt::{Block, ScryptParams, scrypt};
//!
//! // RFC 7914, section 12, the second vector.
//! let params = ScryptParams::new(10, 8, 16).unwrap();
//! let mut memory = vec![Block::new(); params.blocks()];
//! let mut output = [0; 64];
//! scrypt(b"password", b"NaCl", params, &mut memory, &mut output)?;
//! assert_eq!(output[..4], [0xfd, 0xba, 0xbe, 0x1c]);
//! # Ok::<(), sansmtp_scrypt::TooLittleMemory>(())
//! ```

#![no_std]

extern crate alloc;

#[cfg(test)]
mod random;
mod salsa;
mod scrypt;
mod yescrypt;

use core::fmt;

pub use argon2::Block;

pub use crate::scrypt::{ScryptParams, scrypt};
pub use crate::yescrypt::{YescryptParams, yescrypt};

/// Fewer blocks of memory than the parameters ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooLittleMemory;

impl fmt::Display for TooLittleMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fewer blocks of memory than the parameters of the hash ask for")
    }
}

impl core::error::Error for TooLittleMemory {}
