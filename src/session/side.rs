//! One leg of a session: its client or next hop, its input and its output.

use std::{
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
    /// The other party, or a relay in front of it.
    Far,
}

pub(super) const LEGS: [Leg; 2] = [Leg::Near, Leg::Far];

impl Leg {
    /// The one at the other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// What a leg brings along that holds a session: it authenticated.
#[derive(Debug, Clone)]
pub struct Holding {
    /// The URI given out in Use-Path.
    pub uri: Uri,
    /// From-Path of its AUTH: the way back to the client.
    pub client: Path,
    /// When the URI expires.
    pub expiry: Expiry,
    /// Whether methods other than SEND, REPORT, NICKNAME and AUTH are served.
    pub other_methods: bool,
    /// After how many failed AUTHs at relays further out the client is given up; `None`: never.
    pub max_auth_attempts: Option<NonZeroU32>,
}

/// One leg.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) holding: Option<Holding>,
    /// For how long this leg had not been read when its session was last extended.
    stood: Duration,
    /// From-Path of what comes from here.
    pub(super) party: Option<Path>,
    pub(super) decoder: Decoder,
    pub(super) inbound: Inbound,
    pub(super) outbox: Outbox,
    /// An AUTH is being looked up.
    pub(super) authenticating: bool,
    /// How often its AUTHs failed at relays further out.
    pub(super) failed_logins: u32,
    /// The message that the other leg wants no more of.
    pub(super) stopped: Option<Bytes>,
}

impl Side {
    pub(super) fn new(holding: Option<Holding>, decoder: Decoder, outbox: Outbox) -> Self {
        let party = holding.as_ref().map(|holding| holding.client.clone());
        Self {
            holding,
            stood: Duration::ZERO,
            party,
            decoder,
            inbound: Inbound::Nothing,
            outbox,
            authenticating: false,
            failed_logins: 0,
            stopped: None,
        }
    }

    /// This leg holds a session until `expiry`, from now on.
    pub(super) fn extend(&mut self, expiry: Expiry, now: Instant) {
        self.stood = self.outbox.transactions.clock().stood(now);
        if let Some(holding) = &mut self.holding {
            holding.expiry = expiry;
        }
    }

    /// When the session of this leg expires, while it is bound. Time in which the leg is not read
    /// does not count, and meanwhile there is no such moment: a refresh may be in the socket.
    pub(super) fn bound_expiry(&self) -> Option<Instant> {
        let expiry = self.holding.as_ref()?.expiry;
        // RFC 4976 §6.3: only if the client asked for it.
        let at = expiry.strict.then_some(expiry.at)?;
        self.outbox.transactions.clock().deadline(at, self.stood)
    }
}

/// The message under way on the input of a leg.
#[derive(Debug)]
pub(super) enum Inbound {
    Nothing,
    /// Read to its end-line, to no effect but perhaps a 200.
    Discard(Option<Acknowledgement>),
    /// Gathered until it is whole.
    Collect(Box<Collected>),
    /// A long SEND; its body goes straight into the other leg's outbox.
    Stream(Option<Acknowledgement>),
    /// An AUTH for us.
    Login(Box<Head>),
}

#[derive(Debug)]
pub(super) struct Collected {
    pub(super) head: Head,
    pub(super) body: BytesMut,
    /// Under which it will leave.
    pub(super) id: TransactId,
    /// What a REPORT would need, if it is a SEND.
    pub(super) send: Option<Sent>,
}

impl Inbound {
    pub(super) fn collect(head: Head, send: Option<Sent>, id: TransactId) -> Self {
        Self::Collect(Box::new(Collected { head, body: BytesMut::new(), id, send }))
    }
}
