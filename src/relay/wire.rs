//! Moves octets between the two connections of a session and its [`Session`].

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
    session::{Arrival, LEGS, Leg, Received, Session},
    transport::{Blocks, Loss, Outgoing, Outstanding},
};

/// A block, with the heads and the TLS around it, leaves in less than the 64 KiB that the kernel
/// sends as one segment. A larger one would leave a small packet behind each segment.
///
/// A block in use is filled further while it has room for a TLS record. So a body that comes in
/// small pieces keeps few blocks in memory while it waits to be sent.
const BLOCKS: Blocks = Blocks { size: 60 * 1024, least: 16 * 1024 };
/// Octets read from both legs before other sessions get their turn.
const TURN: usize = 256 * 1024;
/// Output of this size is written at once: it fills a TLS record.
const WRITE_BATCH: usize = 16 * 1024;
/// How long smaller output waits for more while there is input. Each write costs a system call, a
/// TLS record and a packet.
const WRITE_DELAY: Duration = Duration::from_millis(2);
/// How long a connection is still read after a write to it failed: its peer may have sent more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One connection in a session.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) party: Party,
    /// There may be input that the session has not been offered.
    undecoded: bool,
    /// Writing failed; the connection is still read until then.
    failed: Option<Instant>,
}

/// The queue of one leg. It tells the session what has been written.
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
    fn new(mut party: Party) -> Self {
        // The session does not know yet whether the connection is blocked.
        party.stream.restart();
        Self { party, undecoded: true, failed: None }
    }

    /// Gives the session the input, and returns how many octets it took. The error is what the
    /// bridge must do.
    fn decode(&mut self, leg: Leg, session: &mut Session, now: Instant) -> Result<usize, Halt> {
        if !session.wants_read(leg) {
            return Ok(0);
        }
        let mut taken = 0;
        if self.undecoded {
            let before = self.party.stream.input.len();
            match session.receive(leg, &mut self.party.stream.input, now) {
                Ok(Received::Idle) => {}
                Ok(Received::NeedsFar(path)) => return Err(Halt::NeedsFar(path)),
                Ok(Received::Auth { leg, head }) => return Err(Halt::Auth(leg, head)),
                Ok(Received::LockedOut(leg)) => return Err(Halt::LockedOut(leg)),
                Err(violation) => {
                    info!("closing a connection: {violation}");
                    return Err(Halt::Lost(leg, End::Violation));
                }
            }
            taken = before - self.party.stream.input.len();
            // If back-pressure stopped the session, it may take more of this input later.
            self.undecoded = !session.wants_read(leg);
        }
        if !self.undecoded
            && let Some(loss) = self.party.stream.ended()
        {
            log_loss(leg, loss);
            return Err(Halt::Lost(leg, End::closed(leg)));
        }
        Ok(taken)
    }

    /// Reads more input if the session wants it. Returns whether input came or ended.
    fn read(&mut self, leg: Leg, session: &Session, cx: &mut Context<'_>) -> bool {
        if self.undecoded || self.party.stream.ended().is_some() {
            return false;
        }
        if session.wants_read(leg) && self.fetch(cx) {
            self.undecoded = true;
            return true;
        }
        // A connection that waits needs no read buffer. Only while the other leg's queue may hold
        // pieces of the block is it kept: it would stay in memory anyway.
        if session.outgoing(leg.other()).is_empty() {
            self.party.stream.release();
        }
        false
    }

    /// Reads what has come. Returns whether input came or ended.
    fn fetch(&mut self, cx: &mut Context<'_>) -> bool {
        self.party.stream.poll_fill(BLOCKS, cx) > 0 || self.party.stream.ended().is_some()
    }

    /// Tells the session what has arrived at the peer.
    fn look(&self, leg: Leg, session: &mut Session, now: Instant) {
        // If the kernel does not tell, all that it took counts as arrived.
        let Outstanding { octets: outstanding, unusable, age, round_trip } =
            self.party.stream.outstanding().unwrap_or_default();
        let at = now.checked_sub(age).unwrap_or(now);
        session.arrived(leg, &Arrival { outstanding, unusable, at, round_trip }, now);
    }

    /// Writes as much as the socket takes. Returns whether anything changed: octets left, or the
    /// socket is blocked now.
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

    /// Writes the last octets, unless an earlier write failed. Returns whether the kernel took all.
    pub(super) async fn say(&mut self, leg: Leg, mut last_words: ChunkQueue) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let said = self.party.stream.write(&mut last_words).await;
        said.inspect_err(|loss| log_loss(leg, loss)).is_ok()
    }
}

/// Logs the loss of a connection. An orderly close is normal, so it is a debug line.
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
    /// The near leg is not read: it waits for an arrival, a dial or the answer to its AUTH.
    pub(super) hold_near: bool,
    /// Since when small output waits for more.
    gathering: Option<Instant>,
    timer: Timer,
}

/// Why no more octets move until the bridge has acted.
#[derive(Debug)]
pub(super) enum Halt {
    /// See [`Received::NeedsFar`].
    NeedsFar(Path),
    /// See [`Received::Auth`].
    Auth(Leg, Box<Head>),
    /// See [`Received::LockedOut`].
    LockedOut(Leg),
    /// The connection of the leg is lost, or its input cannot be read further.
    Lost(Leg, End),
    /// A deadline of the session may have passed.
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

    /// Adds the connection of the far leg.
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

    /// The near connection, to be moved to another task.
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

    /// Moves octets until none move any more, or until the bridge must act.
    ///
    /// Input is given to the session before more is read, so that its block can be used again.
    pub(super) fn poll(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<Halt> {
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
                    Err(halt) => return Poll::Ready(halt),
                }
            }
            let mut moved = octets > 0;
            let overdue = self.gathering.is_some_and(|since| since + WRITE_DELAY <= now);
            for leg in LEGS {
                // Small output waits while there may be more input, so that the responses to many
                // chunks leave in one write.
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
                // The turn is over. Deadlines count even if the input never pauses.
                if let Poll::Ready(halt) = self.poll_timer(now, session, cx) {
                    return Poll::Ready(halt);
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
        if let Some(wire) = self.wire(leg) {
            wire.look(leg, session, now);
        } else {
            session.arrived(leg, &Arrival::all(now), now);
        }
    }

    /// The connection of a leg, if it may be read.
    fn readable(&mut self, leg: Leg) -> Option<&mut Wire> {
        let held = leg == Leg::Near && self.hold_near;
        self.wire(leg).filter(|_| !held)
    }

    fn decode(&mut self, leg: Leg, session: &mut Session, now: Instant) -> Result<usize, Halt> {
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

    fn poll_timer(&mut self, now: Instant, session: &Session, cx: &mut Context<'_>) -> Poll<Halt> {
        let failed = |wire: &Wire| wire.failed;
        let failures = [failed(&self.near), self.far.as_ref().and_then(failed)];
        for (leg, failed) in LEGS.into_iter().zip(failures) {
            if failed.is_some_and(|until| until <= now) {
                return Poll::Ready(Halt::Lost(leg, End::Broken));
            }
        }
        let deadline = failures.into_iter().flatten().chain(session.deadline()).min();
        self.timer.poll(deadline, cx).map(|()| Halt::Due)
    }
}

/// A timer that is reset only if the deadline becomes earlier. If the deadline becomes later, the
/// timer fires too early and is set again. So a deadline that moves with each chunk costs nothing.
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
