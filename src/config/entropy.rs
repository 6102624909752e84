//! Where nonces come from.

use alloc::sync::Arc;
use core::fmt;

/// Where random octets come from.
#[derive(Clone)]
pub(crate) struct Entropy {
    fill: Arc<Fill>,
}

type Fill = dyn Fn(&mut [u8]) -> bool + Send + Sync;

impl Entropy {
    pub(super) fn new(fill: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static) -> Self {
        Self { fill: Arc::new(fill) }
    }

    pub(crate) fn fill(&self, octets: &mut [u8]) -> Result<(), NoEntropy> {
        if (self.fill)(octets) { Ok(()) } else { Err(NoEntropy) }
    }
}

impl Default for Entropy {
    fn default() -> Self {
        #[cfg(feature = "std")]
        let fill = |octets: &mut [u8]| getrandom::fill(octets).is_ok();
        #[cfg(not(feature = "std"))]
        let fill = |_: &mut [u8]| false;
        Self::new(fill)
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

/// The entropy function gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntropy;

impl fmt::Display for NoEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no random octets are to be had")
    }
}

impl core::error::Error for NoEntropy {}
