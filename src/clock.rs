//! The one place that asks the clock.
//!
//! Everything else is told the time, so that a test of thirty seconds takes none.

use std::time::{Instant, SystemTime};

/// The monotonic clock: deadlines, ages, rates.
#[expect(clippy::disallowed_methods, reason = "this room asks the clock for all others")]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day (UTC), by which certificates are valid and events are dated.
#[expect(clippy::disallowed_methods, reason = "this room asks the clock for all others")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
