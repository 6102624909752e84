//! Points in time.

use std::time::{Duration, Instant};

/// The point in time so long after `start`.
#[must_use]
pub fn at(start: Instant, duration: Duration) -> Instant {
    // A point past the end of the clock's range is as good as none within a day.
    start.checked_add(duration).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
}

/// The point in time so long after now.
#[must_use]
pub fn after(duration: Duration) -> Instant {
    at(Instant::now(), duration)
}
