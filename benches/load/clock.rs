//! The one place that asks for the time.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a benchmark is where time is measured")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
