//! Why a session ended, and the line that tells it.

use std::{fmt, net::SocketAddr, time::Duration};

use tracing::info;

use crate::{session::Leg, transport::Traffic};

/// Why a session ended. Log lines, metrics and records derive their words from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client that holds the session closed its connection.
    Closed,
    /// The other peer closed its connection.
    PeerClosed,
    /// A connection could not be written to any more.
    Broken,
    /// A peer sent what is no MSRP, or exceeded a limit of it.
    Violation,
    /// Too many failed AUTHs.
    LockedOut,
    /// The next hop could not be reached.
    Unreachable,
    /// A peer took nothing for too long.
    Stalled,
    /// The time that the session was granted is over.
    Expired,
    /// The relay stops.
    Shutdown,
    /// A fault of the relay.
    Fault,
}

impl End {
    /// The peer of that leg closed its connection.
    pub(super) fn closed(leg: Leg) -> Self {
        match leg {
            Leg::Near => Self::Closed,
            Leg::Far => Self::PeerClosed,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::PeerClosed => "peer-closed",
            Self::Broken => "broken",
            Self::Violation => "violation",
            Self::LockedOut => "auth",
            Self::Unreachable => "unreachable",
            Self::Stalled => "stalled",
            Self::Expired => "expired",
            Self::Shutdown => "shutdown",
            Self::Fault => "error",
        })
    }
}

/// The line that operators count with: its form is fixed.
pub(super) fn log(
    (user, realm): (&str, &str),
    peer: SocketAddr,
    duration: Duration,
    traffic: &Traffic,
    end: End,
) {
    let (user, realm, duration) = (Quoted(user), Quoted(realm), duration.as_secs());
    // Operators count from the client's side.
    let (sent, received) = (traffic.received(), traffic.sent());
    info!(
        "session ended: user={user}@{realm} peer={peer} duration={duration} sent={sent} \
         received={received} reason={end}"
    );
}

/// A name that a client chose, escaped so that it breaks neither a log line nor its readers.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_@+".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        write!(f, "\"{}\"", self.0.escape_default())
    }
}
