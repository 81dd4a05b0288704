//! Moving bytes between the sockets of a session and its logic.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::AsyncWrite,
    time::{Sleep, sleep_until},
};
use tokio_util::io::poll_read_buf;

use super::clock;
use crate::{
    msrp::{Head, Path},
    session::{Leg, Received, Session},
    transport::Link,
};

/// Octets read at once, and the size of the blocks they are read into.
const READ_BLOCK: usize = 64 * 1024;
/// A new block is taken when less than a TLS record fits the old one: so each block is used up
/// before the next, and a slow body cannot pin many of them.
const READ_ROOM: usize = 16 * 1024;
/// Octets read before other sessions get their turn.
const TURN: usize = 256 * 1024;
/// Output that is written before the input is exhausted: a TLS record's worth.
const WRITE_BATCH: usize = 16 * 1024;
/// Most pieces handed to the socket at once.
const SLICES: usize = 64;
/// After a failed write, how long the peer's last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

const LEGS: [Leg; 2] = [Leg::Near, Leg::Far];

/// One connection in a session.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) link: Link,
    /// Bytes read that the session has not taken.
    pub(super) unread: BytesMut,
    /// Whether `unread` may hold something that the session would take now.
    undecoded: bool,
    ended: bool,
    /// Until when a peer that cannot be written to is still read.
    failed: Option<Instant>,
    unflushed: bool,
    /// Octets of MSRP that came, and that went.
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Wire {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            unread: BytesMut::new(),
            undecoded: false,
            ended: false,
            failed: None,
            unflushed: false,
            received: 0,
            sent: 0,
        }
    }

    /// Reads what there is, up to the end of the block: TLS gives a record at a time, and what is
    /// written for one read costs a system call. Returns how many octets came.
    fn fill(&mut self, cx: &mut Context<'_>) -> usize {
        if self.unread.capacity() - self.unread.len() < READ_ROOM {
            self.unread.reserve(READ_BLOCK);
        }
        let before = self.unread.len();
        while self.unread.capacity() > self.unread.len() && !self.ended {
            match poll_read_buf(Pin::new(&mut self.link), cx, &mut self.unread) {
                Poll::Ready(Ok(0) | Err(_)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        let filled = self.unread.len() - before;
        self.received += filled as u64;
        filled
    }

    /// Writes as much as the socket takes; returns how many octets.
    fn write(
        &mut self,
        leg: Leg,
        session: &mut Session,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        let mut written = 0;
        while !session.outgoing(leg).is_empty() && written < TURN {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = session.outgoing(leg).slices(&mut slices);
            let link = Pin::new(&mut self.link);
            match link.poll_write_vectored(cx, &slices[..filled]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(octets)) => {
                    session.sent(leg, octets, now);
                    written += octets;
                    self.sent += octets as u64;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        // TLS keeps bytes like a BufWriter: without this the last ones would wait for ever.
        if self.unflushed {
            match Pin::new(&mut self.link).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {}
            }
        }
        Ok(written)
    }
}

/// The connections of one session.
#[derive(Debug)]
pub(super) struct Wires {
    pub(super) near: Wire,
    pub(super) far: Option<Wire>,
    /// The near leg is not read: its next request waits for an arrival.
    pub(super) hold_near: bool,
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
    /// The leg is gone; why, in a word for the log.
    Lost(Leg, &'static str),
    /// The session's deadline has come.
    Due,
}

impl Wires {
    pub(super) fn new(near: Wire) -> Self {
        let mut wires = Self { near, far: None, hold_near: false, timer: Timer::new() };
        wires.near.undecoded = true;
        wires
    }

    /// The far leg is there.
    pub(super) fn open_far(&mut self, mut far: Wire) {
        far.undecoded = true;
        self.far = Some(far);
        self.hold_near = false;
    }

    fn wire(&mut self, leg: Leg) -> Option<&mut Wire> {
        match leg {
            Leg::Near => Some(&mut self.near),
            Leg::Far => self.far.as_mut(),
        }
    }

    /// Moves bytes until nothing moves any more, or until something must be decided.
    pub(super) fn poll(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<Step> {
        let mut left = TURN;
        loop {
            let now = clock();
            let mut octets = 0;
            for leg in LEGS {
                match self.read(leg, session, now, cx) {
                    Ok(read) => octets += read,
                    Err(step) => return Poll::Ready(step),
                }
            }
            // While there is more to read, small output waits: the responses to all chunks of a
            // turn leave in one write.
            let turn_ends = octets == 0 || octets >= left;
            let mut written = 0;
            for leg in LEGS {
                if turn_ends || session.outgoing(leg).len() >= WRITE_BATCH {
                    written += self.write(leg, session, now, cx);
                }
            }
            if octets >= left {
                // Whoever never runs out of input has deadlines all the same.
                if let Poll::Ready(step) = self.poll_timer(now, session, cx) {
                    return Poll::Ready(step);
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if octets == 0 && written == 0 {
                return self.poll_timer(now, session, cx);
            }
            left -= octets;
        }
    }

    /// Writes what is queued for both legs, to the last octet that can be written.
    pub(super) fn poll_drain(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<()> {
        let now = clock();
        let mut done = true;
        for leg in LEGS {
            let Some(wire) = self.wire(leg) else { continue };
            if wire.failed.is_some() {
                continue;
            }
            match wire.write(leg, session, now, cx) {
                Ok(octets) => {
                    done &= session.outgoing(leg).is_empty() && !wire.unflushed;
                    if octets >= TURN {
                        // The socket took all of a turn, so it wakes nobody.
                        cx.waker().wake_by_ref();
                    }
                }
                Err(_) => wire.failed = Some(now),
            }
        }
        if done { Poll::Ready(()) } else { Poll::Pending }
    }

    fn read(
        &mut self,
        leg: Leg,
        session: &mut Session,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<usize, Step> {
        let held = leg == Leg::Near && self.hold_near;
        match self.wire(leg) {
            Some(wire) if !held => read(wire, leg, session, now, cx),
            _ => Ok(0),
        }
    }

    fn write(
        &mut self,
        leg: Leg,
        session: &mut Session,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> usize {
        let Some(wire) = self.wire(leg).filter(|wire| wire.failed.is_none()) else { return 0 };
        wire.write(leg, session, now, cx).unwrap_or_else(|_| {
            wire.failed = Some(now + LAST_WORDS);
            0
        })
    }

    fn poll_timer(&mut self, now: Instant, session: &Session, cx: &mut Context<'_>) -> Poll<Step> {
        let failed = |wire: &Wire| wire.failed;
        let failures = [failed(&self.near), self.far.as_ref().and_then(failed)];
        for (leg, failed) in LEGS.into_iter().zip(failures) {
            if failed.is_some_and(|until| until <= now) {
                return Poll::Ready(Step::Lost(leg, "broken"));
            }
        }
        let deadline = failures.into_iter().flatten().chain(session.deadline()).min();
        self.timer.poll(deadline, cx).map(|()| Step::Due)
    }
}

/// Feeds the session what came, or fetches more; returns how many octets were read.
fn read(
    wire: &mut Wire,
    leg: Leg,
    session: &mut Session,
    now: Instant,
    cx: &mut Context<'_>,
) -> Result<usize, Step> {
    let mut moved = 0;
    if wire.undecoded && session.wants_read(leg) {
        let before = wire.unread.len();
        match session.receive(leg, &mut wire.unread, now) {
            Ok(Received::Idle) => {}
            Ok(Received::NeedsFar(path)) => return Err(Step::NeedsFar(path)),
            Ok(Received::Auth { leg, head }) => return Err(Step::Auth(leg, head)),
            Ok(Received::LockedOut(leg)) => return Err(Step::LockedOut(leg)),
            Err(violation) => {
                tracing::info!("closing a connection: {violation}");
                return Err(Step::Lost(leg, "violation"));
            }
        }
        moved += before - wire.unread.len();
        // Where back-pressure stopped it there may be more to take.
        wire.undecoded = !session.wants_read(leg);
    }
    if wire.undecoded || !session.wants_read(leg) {
        return Ok(moved);
    }
    if wire.ended {
        return Err(Step::Lost(leg, "closed"));
    }
    let filled = wire.fill(cx);
    if filled == 0 && !wire.ended {
        // An idle connection holds no read buffer. While the other leg's queue is not empty its
        // pieces may keep the block alive anyway, so it is used to its end.
        if wire.unread.is_empty() && session.outgoing(leg.other()).is_empty() {
            wire.unread = BytesMut::new();
        }
        return Ok(moved);
    }
    wire.undecoded = true;
    Ok((moved + filled).max(1))
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
