//! Why a session ended, and the two lines of the log that other programs read: their form is fixed.

use std::{fmt, net::SocketAddr, time::Duration};

use tracing::{debug, info, warn};

use super::registry::SessionInfo;
use crate::{auth::AuthError, session::Leg};

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
    /// An operator ended this session alone.
    Kicked,
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
            Self::Kicked => "kicked",
            Self::Shutdown => "shutdown",
            Self::Fault => "error",
        })
    }
}

/// The line of the log that operators count with.
pub(super) fn log(session: &SessionInfo, duration: Duration, end: End) {
    let SessionInfo { user, realm, peer, traffic, .. } = session;
    let (user, realm, duration) = (Quoted(user), Quoted(realm), duration.as_secs());
    // Operators count from the client's side.
    let (sent, received) = (traffic.received(), traffic.sent());
    info!(
        "session ended: user={user}@{realm} peer={peer} duration={duration} sent={sent} \
         received={received} reason={end}"
    );
}

/// The line of the log that fail2ban reads, where `told`; otherwise one for who looks closely.
pub(super) fn log_refused_auth(
    peer: SocketAddr,
    (user, realm): (&str, &str),
    error: &AuthError,
    told: bool,
) {
    let (user, realm) = (Quoted(user), Quoted(realm));
    if told {
        warn!("AUTH failed from {peer} for {user}@{realm}: {error}");
    } else {
        debug!("AUTH refused from {peer} for {user}@{realm}: {error}");
    }
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
