//! What a session may take of memory and time, each limit with its reason.

use std::time::Duration;

/// What a session may take of memory and time.
///
/// Each leg holds at most `outbox + own` octets to be sent, and beyond them what one read buffer
/// made; and `2 * transactions + silent` records of less than 1 KiB (paths are shared). If all of
/// those fail at once, as many REPORTs join the queue.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Octets waiting for one leg beyond which the other leg is not read.
    pub outbox: usize,
    /// Octets of responses and REPORTs of our own waiting for a leg beyond which it is not read.
    pub own: usize,
    /// Octets of our own waiting for a leg beyond which failures are not reported any more: only a
    /// peer with paths of many kilobytes that reads nothing gets there.
    pub reports: usize,
    /// Requests waiting for a leg's answers beyond which the other leg is not read. Where both
    /// wait for each other, both are read, and beyond twice as many the oldest are forgotten.
    pub transactions: usize,
    /// SENDs with Failure-Report partial that are remembered for a leg. An error response to an
    /// older one is not reported.
    pub silent: usize,
    /// A peer that takes not one octet for this long is lost.
    pub stall: Duration,
    /// How long the owner of a lapsed session has for a new AUTH.
    pub lapse: Duration,
}

impl Limits {
    /// The limits in force.
    pub const DEFAULT: Self = Self {
        outbox: 128 * 1024,
        own: 64 * 1024,
        reports: 1024 * 1024,
        transactions: 1024,
        silent: 1024,
        stall: Duration::from_mins(2),
        lapse: Duration::from_secs(30),
    };
}

/// SENDs up to this many octets are passed on whole, and are never cut (RFC 4975 §7.1.1).
pub const WHOLE_SEND: usize = 2048;
/// Largest body of any other request, in octets (RFC 4975 §7.1).
pub const MAX_OTHER_BODY: usize = 10_240;
/// Longest Message-ID, in octets: it is kept until the chunk is answered. RFC 4975 §9 has 32.
pub const MAX_MESSAGE_ID: usize = 256;
/// A piece of a long SEND is not ended before it has this many octets, if more is to follow at
/// once (RFC 4975 §7.1.1: no chunks below 2048 octets but the last).
pub(super) const MIN_PIECE: u64 = 2048;
/// ... or before its sender has paused for this long.
pub(super) const PIECE_PAUSE: Duration = Duration::from_millis(200);
/// ... or before another message has waited for it this long, however often an octet came.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(1);
/// How long the next hop has to answer, counted from the last octet sent (RFC 4976 §6.4.1).
pub(super) const RESPONSE_TIME: Duration = Duration::from_secs(30);
