//! Moving bytes between the sockets of a session and its logic.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};
use tracing::{debug, info};

use super::{end::End, party::Party};
use crate::{
    clock,
    msrp::{ChunkQueue, Head, Path},
    session::{Leg, Received, Session},
    transport::{Blocks, Loss, Outgoing, Outstanding},
};

/// What leaves for one block, with heads and TLS around it, stays below the 64 KiB that the kernel
/// sends as one segment: a little more would be a small packet after each large one. While pieces
/// of a block wait to be sent it is used to its end, unless less than a TLS record fits: so a slow
/// body cannot pin many of them.
const BLOCKS: Blocks = Blocks { size: 60 * 1024, least: 16 * 1024 };
/// Octets read before other sessions get their turn.
const TURN: usize = 256 * 1024;
/// Output that does not wait for more of it: a TLS record's worth.
const WRITE_BATCH: usize = 16 * 1024;
/// How long less than that waits while there is more input: every write costs a system call, a
/// record and a packet.
const WRITE_DELAY: Duration = Duration::from_millis(2);
/// After a failed write, how long the peer's last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

const LEGS: [Leg; 2] = [Leg::Near, Leg::Far];

/// One connection in a session.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) party: Party,
    /// Whether the input may hold something that the session would take now.
    undecoded: bool,
    /// Until when a peer that cannot be written to is still read.
    failed: Option<Instant>,
}

/// What a session has for one leg, and the session that is told what left.
struct Output<'a> {
    session: &'a mut Session,
    leg: Leg,
    now: Instant,
}

impl Outgoing for Output<'_> {
    fn queue(&self) -> &ChunkQueue {
        self.session.outgoing(self.leg)
    }

    fn taken(&mut self, octets: usize) {
        self.session.sent(self.leg, octets, self.now);
    }
}

impl Wire {
    /// A session that knows nothing of the connection yet takes over.
    fn new(mut party: Party) -> Self {
        party.stream.restart();
        Self { party, undecoded: true, failed: None }
    }

    /// Feeds the session what came; returns how many octets it took.
    fn decode(&mut self, leg: Leg, session: &mut Session, now: Instant) -> Result<usize, Step> {
        if !session.wants_read(leg) {
            return Ok(0);
        }
        let mut taken = 0;
        if self.undecoded {
            let before = self.party.stream.input.len();
            match session.receive(leg, &mut self.party.stream.input, now) {
                Ok(Received::Idle) => {}
                Ok(Received::NeedsFar(path)) => return Err(Step::NeedsFar(path)),
                Ok(Received::Auth { leg, head }) => return Err(Step::Auth(leg, head)),
                Ok(Received::LockedOut(leg)) => return Err(Step::LockedOut(leg)),
                Err(violation) => {
                    info!("closing a connection: {violation}");
                    return Err(Step::Lost(leg, End::Violation));
                }
            }
            taken = before - self.party.stream.input.len();
            // Where back-pressure stopped it there may be more to take.
            self.undecoded = !session.wants_read(leg);
        }
        if !self.undecoded
            && let Some(loss) = self.party.stream.ended()
        {
            log_loss(leg, loss);
            return Err(Step::Lost(leg, End::closed(leg)));
        }
        Ok(taken)
    }

    /// Fetches more, if there is room for it; returns whether anything happened.
    fn read(&mut self, leg: Leg, session: &Session, cx: &mut Context<'_>) -> bool {
        if self.undecoded || self.party.stream.ended().is_some() {
            return false;
        }
        if session.wants_read(leg) && self.fetch(cx) {
            self.undecoded = true;
            return true;
        }
        // A connection that is idle or waits holds no read buffer. While the other leg's queue is
        // not empty its pieces may keep the block alive anyway, so it is used to its end.
        if session.outgoing(leg.other()).is_empty() {
            self.party.stream.release();
        }
        false
    }

    /// Reads what there is; whether anything came, the end included.
    fn fetch(&mut self, cx: &mut Context<'_>) -> bool {
        self.party.stream.poll_fill(BLOCKS, cx) > 0 || self.party.stream.ended().is_some()
    }

    /// Tells the session what has arrived at the peer.
    fn look(&self, leg: Leg, session: &mut Session, now: Instant) {
        // If the kernel does not tell, all that it took counts as arrived.
        let Outstanding { octets, age } = self
            .party
            .stream
            .outstanding()
            .unwrap_or(Outstanding { octets: 0, age: Duration::ZERO });
        session.arrived(leg, octets, now.checked_sub(age).unwrap_or(now), now);
    }

    /// Writes as much as the socket takes; returns whether it took anything.
    fn write(
        &mut self,
        leg: Leg,
        session: &mut Session,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<bool, Loss> {
        let mut output = Output { session, leg, now };
        let written = self.party.stream.poll_write(&mut output, TURN, cx)?;
        if written.moved {
            session.set_blocked(leg, written.blocked, now);
        }
        Ok(written.moved)
    }

    /// Writes the last words, if the peer can be written to. Returns whether all is with the kernel.
    pub(super) async fn say(&mut self, leg: Leg, mut last_words: ChunkQueue) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let said = self.party.stream.write(&mut last_words).await;
        said.inspect_err(|loss| log_loss(leg, loss)).is_ok()
    }
}

/// What became of a connection: a polite end is worth a line for who looks closely only.
fn log_loss(leg: Leg, loss: &Loss) {
    match loss {
        Loss::Closed | Loss::Truncated => debug!("{leg} connection lost: {loss}"),
        _ => info!("{leg} connection lost: {loss}"),
    }
}

/// The connections of one session.
#[derive(Debug)]
pub(super) struct Wires {
    near: Wire,
    far: Option<Wire>,
    /// The near leg is not read: its next request waits, for an arrival or a dial.
    pub(super) hold_near: bool,
    /// Since when output waits for more of it.
    gathering: Option<Instant>,
    timer: Timer,
}

/// What the bridge has to do before the bytes can move on.
#[derive(Debug)]
pub(super) enum Step {
    /// See [`Received::NeedsFar`].
    NeedsFar(Path),
    /// See [`Received::Auth`].
    Auth(Leg, Box<Head>),
    /// See [`Received::LockedOut`].
    LockedOut(Leg),
    /// The leg is gone.
    Lost(Leg, End),
    /// The session's deadline has come.
    Due,
}

impl Wires {
    pub(super) fn new(near: Party) -> Self {
        Self {
            near: Wire::new(near),
            far: None,
            hold_near: false,
            gathering: None,
            timer: Timer::new(),
        }
    }

    /// The far leg is there.
    pub(super) fn open_far(&mut self, far: Party) {
        self.far = Some(Wire::new(far));
        self.hold_near = false;
    }

    pub(super) fn near(&self) -> &Party {
        &self.near.party
    }

    pub(super) fn near_mut(&mut self) -> &mut Party {
        &mut self.near.party
    }

    pub(super) fn party(&self, leg: Leg) -> Option<&Party> {
        match leg {
            Leg::Near => Some(&self.near.party),
            Leg::Far => self.far.as_ref().map(|far| &far.party),
        }
    }

    pub(super) fn party_mut(&mut self, leg: Leg) -> Option<&mut Party> {
        self.wire(leg).map(|wire| &mut wire.party)
    }

    /// The connection, for another task.
    pub(super) fn into_near(self) -> Party {
        self.near.party
    }

    pub(super) fn into_legs(self) -> (Wire, Option<Wire>) {
        (self.near, self.far)
    }

    fn wire(&mut self, leg: Leg) -> Option<&mut Wire> {
        match leg {
            Leg::Near => Some(&mut self.near),
            Leg::Far => self.far.as_mut(),
        }
    }

    /// Moves bytes until nothing moves any more, or until something must be decided.
    ///
    /// What was read is passed on before more is read, so that its block can be used again.
    pub(super) fn poll(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<Step> {
        let mut left = TURN;
        loop {
            let now = clock::now();
            let mut octets = 0;
            for leg in LEGS {
                // Before more is written: that would hide when the last octets before it left.
                if session.wants_look(leg, now) {
                    self.look(leg, session, now);
                }
                match self.decode(leg, session, now) {
                    Ok(taken) => octets += taken,
                    Err(step) => return Poll::Ready(step),
                }
            }
            let mut moved = octets > 0;
            let overdue = self.gathering.is_some_and(|since| since + WRITE_DELAY <= now);
            for leg in LEGS {
                // While there is more to read, small output waits: the responses to many chunks
                // leave in one write.
                if overdue || session.outgoing(leg).len() >= WRITE_BATCH {
                    moved |= self.write(leg, session, now, cx);
                }
            }
            if LEGS.into_iter().all(|leg| session.outgoing(leg).is_empty()) {
                self.gathering = None;
            } else if overdue || self.gathering.is_none() {
                self.gathering = Some(now);
            }
            if octets >= left {
                // Whoever never runs out of input has deadlines all the same.
                if let Poll::Ready(step) = self.poll_timer(now, session, cx) {
                    return Poll::Ready(step);
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            left -= octets;
            let mut more = false;
            for leg in LEGS {
                more |= self.read(leg, session, cx);
            }
            if more {
                continue;
            }
            self.gathering = None;
            for leg in LEGS {
                moved |= self.write(leg, session, now, cx);
            }
            if !moved {
                return self.poll_timer(now, session, cx);
            }
        }
    }

    /// Tells the session what has arrived at both peers, before it judges its deadlines.
    pub(super) fn look_at_all(&mut self, session: &mut Session, now: Instant) {
        for leg in LEGS {
            self.look(leg, session, now);
        }
    }

    fn look(&mut self, leg: Leg, session: &mut Session, now: Instant) {
        match self.wire(leg) {
            Some(wire) => wire.look(leg, session, now),
            None => session.arrived(leg, 0, now, now),
        }
    }

    /// The connection of a leg, if it may be read.
    fn readable(&mut self, leg: Leg) -> Option<&mut Wire> {
        let held = leg == Leg::Near && self.hold_near;
        self.wire(leg).filter(|_| !held)
    }

    fn decode(&mut self, leg: Leg, session: &mut Session, now: Instant) -> Result<usize, Step> {
        self.readable(leg).map_or(Ok(0), |wire| wire.decode(leg, session, now))
    }

    fn read(&mut self, leg: Leg, session: &Session, cx: &mut Context<'_>) -> bool {
        self.readable(leg).is_some_and(|wire| wire.read(leg, session, cx))
    }

    fn write(
        &mut self,
        leg: Leg,
        session: &mut Session,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> bool {
        let Some(wire) = self.wire(leg).filter(|wire| wire.failed.is_none()) else { return false };
        wire.write(leg, session, now, cx).unwrap_or_else(|loss| {
            log_loss(leg, &loss);
            wire.failed = Some(now + LAST_WORDS);
            false
        })
    }

    fn poll_timer(&mut self, now: Instant, session: &Session, cx: &mut Context<'_>) -> Poll<Step> {
        let failed = |wire: &Wire| wire.failed;
        let failures = [failed(&self.near), self.far.as_ref().and_then(failed)];
        for (leg, failed) in LEGS.into_iter().zip(failures) {
            if failed.is_some_and(|until| until <= now) {
                return Poll::Ready(Step::Lost(leg, End::Broken));
            }
        }
        let deadline = failures.into_iter().flatten().chain(session.deadline()).min();
        self.timer.poll(deadline, cx).map(|()| Step::Due)
    }
}

/// A timer that is set only when the deadline comes nearer; a later one is found out when it
/// fires, so that the common case costs nothing.
#[derive(Debug)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn new() -> Self {
        Self { sleep: None }
    }

    fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        let fired = sleep.as_mut().poll(cx);
        if fired.is_ready() {
            self.sleep = None;
        }
        fired
    }
}
