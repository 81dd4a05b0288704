//! Why a session ended, and the two log lines that other programs parse. Their form is fixed.

use std::{fmt, net::SocketAddr, time::Duration};

use tracing::{debug, info, warn};

use super::registry::SessionInfo;
use crate::{auth::AuthError, session::Leg};

/// Why a session ended. Log lines, metrics and records derive their words from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client that owns the session closed its connection.
    Closed,
    /// The peer on the far leg closed its connection.
    PeerClosed,
    /// Writing to a connection failed.
    Broken,
    /// The input of a leg is not MSRP, or exceeds a limit.
    Violation,
    /// Too many AUTHs failed.
    LockedOut,
    /// The next hop could not be reached.
    Unreachable,
    /// The relay may not dial the next hop.
    Denied,
    /// A peer read nothing of what was queued for it for too long.
    Stalled,
    /// No octet passed either way for `idle_timeout`.
    Idle,
    /// The session has expired.
    Expired,
    /// The session's own token was cancelled, without a stop of the relay.
    Kicked,
    /// The relay stops.
    Shutdown,
    /// A fault of the relay.
    Fault,
}

impl End {
    /// The end for a leg whose connection was closed by its client or peer.
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
            Self::Denied => "denied",
            Self::Stalled => "stalled",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::Kicked => "kicked",
            Self::Shutdown => "shutdown",
            Self::Fault => "error",
        })
    }
}

/// Logs the end of a session. Operators take their statistics from this line.
pub(super) fn log(session: &SessionInfo, duration: Duration, end: End) {
    let SessionInfo { user, realm, peer, traffic, .. } = session;
    let (user, realm, duration) = (Quoted(user), Quoted(realm), duration.as_secs());
    // The line counts from the client's side: what the relay received, the client sent.
    let (sent, received) = (traffic.received(), traffic.sent());
    info!(
        "session ended: user={user}@{realm} peer={peer} duration={duration} sent={sent} \
         received={received} reason={end}"
    );
}

/// Logs a refused AUTH. If `told`, the line is a warning in the form that fail2ban reads.
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

/// A name that a client chose. It is printed escaped, so that it can neither break a log line nor
/// mislead a program that parses it.
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
