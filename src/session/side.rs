//! One leg of a session: who is there, its input and its output.

use std::{
    fmt,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{
    deadlines::{Expiry, Sent},
    outbox::Outbox,
    report::Acknowledgement,
};
use crate::msrp::{Decoder, Head, Path, TransactId, Uri};

/// The two connections of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// The client that authenticated.
    Near,
    /// The peer that joined, or the next hop.
    Far,
}

/// Both legs, the near one first.
pub const LEGS: [Leg; 2] = [Leg::Near, Leg::Far];

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Near => "near",
            Self::Far => "far",
        })
    }
}

impl Leg {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// The session that the client on a leg was granted by AUTH.
#[derive(Debug, Clone)]
pub struct Holding {
    /// The URI given out in Use-Path.
    pub uri: Uri,
    /// From-Path of its AUTH: the way back to the client.
    pub client: Path,
    /// When the URI expires.
    pub expiry: Expiry,
    /// Whether methods other than SEND, REPORT, NICKNAME and AUTH are passed on.
    pub other_methods: bool,
    /// The number of failed AUTHs at relays further out after which the client is disconnected;
    /// `None`: never.
    pub max_auth_attempts: Option<NonZeroU32>,
    /// How long no octet may pass either way before the session is over; `None`: for ever.
    pub idle_timeout: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Side {
    pub(super) holding: Option<Holding>,
    /// How long in all this leg had not been read when its session was granted or last extended.
    stood: Duration,
    /// The From-Path that requests from this leg must have; `None` until the first SEND.
    pub(super) peer_path: Option<Path>,
    pub(super) decoder: Decoder,
    pub(super) inbound: Inbound,
    pub(super) outbox: Outbox,
    /// Octets that the socket took had not arrived at the peer when that was asked last.
    pub(super) under_way: bool,
    /// Whether an AUTH of this leg waits for [`Session::answer`](super::Session::answer).
    pub(super) authenticating: bool,
    /// How many AUTHs of this leg failed at relays further out.
    pub(super) failed_logins: u32,
    /// Message-ID of the message from this leg that the other leg refused with 413.
    pub(super) stopped: Option<Bytes>,
}

impl Side {
    pub(super) fn new(holding: Option<Holding>, decoder: Decoder, outbox: Outbox) -> Self {
        let peer_path = holding.as_ref().map(|holding| holding.client.clone());
        Self {
            holding,
            stood: Duration::ZERO,
            peer_path,
            decoder,
            inbound: Inbound::Nothing,
            outbox,
            under_way: false,
            authenticating: false,
            failed_logins: 0,
            stopped: None,
        }
    }

    /// The client on this leg holds a session of its own, or none.
    pub(super) fn hold(&mut self, holding: Option<Holding>, now: Instant) {
        self.peer_path = holding.as_ref().map(|holding| holding.client.clone());
        self.holding = holding;
        self.stood = self.outbox.transactions.clock().stood(now);
    }

    /// The session that this leg holds lasts until `expiry`.
    pub(super) fn extend(&mut self, expiry: Expiry, now: Instant) {
        self.stood = self.outbox.transactions.clock().stood(now);
        if let Some(holding) = &mut self.holding {
            holding.expiry = expiry;
        }
    }

    /// When the bound session of this leg expires. Time in which the leg is not read does not
    /// count, because a refresh may be in the socket; while it is not read this is `None`.
    pub(super) fn bound_expiry(&self) -> Option<Instant> {
        let expiry = self.holding.as_ref()?.expiry;
        // RFC 4976 §6.3: a bound session expires only if its client sent an Expires.
        let at = expiry.strict.then_some(expiry.at)?;
        self.outbox.transactions.clock().deadline(at, self.stood)
    }
}

/// The message that a leg has begun to send and not ended.
#[derive(Debug)]
pub(super) enum Inbound {
    Nothing,
    /// It is read to its end-line and not passed on; then a 200 may be due.
    Discard(Option<Acknowledgement>),
    /// It is collected whole before it is passed on.
    Collect(Box<Collected>),
    /// A long SEND: its body goes to the other leg's outbox as it arrives.
    Stream(Option<Acknowledgement>),
    /// An AUTH for this relay.
    Login(Box<Head>),
}

#[derive(Debug)]
pub(super) struct Collected {
    pub(super) head: Head,
    pub(super) body: BytesMut,
    /// The transact-id under which it will be passed on.
    pub(super) id: TransactId,
    /// What a REPORT about it would need; `None` if it is no SEND.
    pub(super) send: Option<Sent>,
}

impl Inbound {
    pub(super) fn collect(head: Head, send: Option<Sent>, id: TransactId) -> Self {
        Self::Collect(Box::new(Collected { head, body: BytesMut::new(), id, send }))
    }
}
