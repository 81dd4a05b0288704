//! What a session may take of memory and time, each limit with its reason.

use std::time::Duration;

/// What a session may take of memory and time.
///
/// Each leg holds at most `outbox + own` octets to be sent and what one more read adds, and
/// `2 * transactions + silent` records of less than 1 KiB each (paths are shared). If all of these
/// requests fail at once, the queue grows by as many REPORTs, up to `reports`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// [Cost](crate::msrp::ChunkQueue::cost) of what waits for one leg from which on the other leg
    /// is not read. Two read buffers of the relay are less, so that one is written while the next
    /// is filled.
    pub outbox: usize,
    /// Octets of the relay's own responses and REPORTs that wait for a leg, from which on that leg
    /// is not read: a client that never reads its answers cannot make the queue grow.
    pub own: usize,
    /// Octets of the relay's own messages that wait for a leg, from which on failures are no longer
    /// reported to it. Only a peer that has paths of many kilobytes and reads nothing gets there.
    pub reports: usize,
    /// Unanswered requests to a leg from which on the other leg is not read. If both legs owe that
    /// many answers, both are read, and beyond twice as many the oldest requests are forgotten.
    pub transactions: usize,
    /// SENDs to a leg with Failure-Report partial that are remembered. An error response to an
    /// older one is not reported.
    pub silent: usize,
    /// A peer that takes and acknowledges nothing for this long, although something waits for it,
    /// is lost.
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
/// Longest Message-ID, in octets. It is kept in memory until the chunk is answered; RFC 4975 §9
/// allows 32.
pub const MAX_MESSAGE_ID: usize = 256;
/// A piece of a long SEND is not interrupted before it has this many octets (RFC 4975 §7.1.1),
/// unless one of the two times that follow has passed.
pub(super) const MIN_PIECE: u64 = 2048;
/// How long a message is held back since the last octet of body that came for a short piece.
pub(super) const PIECE_PAUSE: Duration = Duration::from_millis(200);
/// How long a message is held back in all, however often an octet of body comes.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(1);
/// How long the next hop has to answer, counted from when it has the last octet (RFC 4976 §6.4.1).
pub(super) const RESPONSE_TIME: Duration = Duration::from_secs(30);
/// Round trips for which answers of a peer that has answered before may be held up: one until our
/// acknowledgement of earlier answers is there, and one until its kernel sends faster again.
pub(super) const ROUND_TRIPS: u32 = 2;
/// Least time between two looks at what the kernel of a peer has acknowledged, and after which a
/// request is looked for. Every peer on a fast path has answered by then.
pub(super) const LOOK: Duration = Duration::from_secs(1);
