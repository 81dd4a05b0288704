//! The task of a session, from the 200 to AUTH until the session is over.
//!
//! The task owns both connections and the [`Session`] between them, so the data passes no channel
//! and no lock.

use std::{
    future::poll_fn,
    ops::ControlFlow,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::{Span, debug, info};

use super::{
    backoff::{Patience, Turn},
    end::End,
    ending::Ending,
    login::{self, Verdict},
    next_hop::{self, DISCONNECTED},
    party::{Arrival, Delivery, Join, Newcomer, Party, Registration},
    process::Process,
    quota::Ticket,
    stats::Queued,
    wire::{Halt, Wires},
};
use crate::{
    clock,
    msrp::{Head, Path, StatusCode},
    session::{LEGS, Leg, Limits, Reject, Session, Timeout},
    transport::{Link, LinkError, Stream},
};

/// The task of one session.
pub(super) struct Bridge {
    session: Session,
    wires: Wires,
    /// Receives the connection that joins the session. `None` once the session is bound or lapsed.
    arrival: Option<Arrival>,
    dialling: Option<BoxFuture<'static, Result<Link, LinkError>>>,
    /// Counts the connection that is dialled, until it is the far leg's.
    dialled: Option<Ticket>,
    logins: Logins,
    /// A refusal of the near leg's next request that waits for its turn. `None`: it never comes.
    refusing: Option<BoxFuture<'static, Option<Reject>>>,
    /// The sessions of both clients, each of which may be ended by its token. They are polled only
    /// when they have woken the task.
    ends: FuturesUnordered<WaitForCancellationFutureOwned>,
    queued: Queued,
}

/// What is left to do once the bridge no longer serves its session.
pub(super) enum After {
    /// Nothing: the near connection has moved to the task of the session that it joined.
    Joined,
    /// The session that the near connection was to join has just ended. The connection returns to
    /// its own session, which waits as before.
    Returned(Box<Newcomer>),
    /// The session is over. The second value is a connection that came to join it too late.
    Over(Box<Ending>, Option<Box<Newcomer>>),
}

/// What wakes the task.
enum Wake {
    /// The token of a session on one of the legs is cancelled.
    Cancelled,
    Arrived(Option<Box<Newcomer>>),
    Dialled(Result<Link, LinkError>),
    /// `None`: the answer would have to wait for too long.
    Decided(Leg, Box<Head>, Option<Verdict>),
    Refused(Option<Reject>),
    Halted(Halt),
}

/// What follows when the task wakes: the bridge goes on, or stops serving the session.
type Next = ControlFlow<Way>;

/// Why the bridge stops serving the session.
enum Way {
    /// The near connection joins another session of this relay.
    Deliver(Delivery),
    /// The session is over, for this reason.
    Over(End),
}

impl Bridge {
    /// The bridge of a session that no peer has joined yet. `None` if the connection holds no
    /// session.
    pub(super) fn new(newcomer: Newcomer, arrival: Arrival) -> Option<Self> {
        let Newcomer { party, decoder, unsent, holding } = newcomer;
        let session = Session::new(holding?, decoder, unsent, Limits::DEFAULT, clock::now());
        let ends = party.registration.iter().map(Registration::ended).collect();
        Some(Self {
            session,
            queued: Queued::new(&party.stats),
            wires: Wires::new(party),
            arrival: Some(arrival),
            dialling: None,
            dialled: None,
            logins: Logins::default(),
            refusing: None,
            ends,
        })
    }

    /// The span of the session's log lines.
    pub(super) fn span(&self) -> Span {
        let registration = self.wires.near().registration.as_ref();
        registration.map_or_else(Span::none, |registration| registration.span.clone())
    }

    /// Serves the session until it is over or the near connection joins another one. A panic ends
    /// this session only.
    pub(super) async fn run(mut self: Box<Self>, process: &Arc<Process>) -> After {
        let next = AssertUnwindSafe(self.serve(process)).catch_unwind().await;
        match next {
            Ok(Way::Deliver(delivery)) => self.hand_over(delivery),
            Ok(Way::Over(end)) => self.over(end),
            Err(panic) => {
                process.fault("ends this session", &*panic);
                // The panic may have left the session inconsistent, so this may panic, too.
                let ended = std::panic::catch_unwind(AssertUnwindSafe(|| self.disconnect()));
                if ended.is_err() {
                    debug!("no REPORTs are sent: ending the session failed as well");
                }
                self.over(End::Fault)
            }
        }
    }

    async fn serve(&mut self, process: &Arc<Process>) -> Way {
        loop {
            let next = match self.wake().await {
                Wake::Cancelled => {
                    self.disconnect();
                    let stopping = process.lifecycle.stopping.is_cancelled();
                    over(if stopping { End::Shutdown } else { End::Kicked })
                }
                Wake::Arrived(newcomer) => self.arrived(newcomer),
                Wake::Dialled(dialled) => self.dialled(dialled),
                Wake::Decided(leg, head, verdict) => self.decided(leg, &head, verdict),
                Wake::Refused(reject) => self.refused(reject),
                Wake::Halted(Halt::NeedsFar(path)) => self.needs_far(process, &path),
                Wake::Halted(Halt::Auth(leg, head)) => self.login(process, leg, head),
                Wake::Halted(Halt::LockedOut(leg)) => self.lost(leg, End::LockedOut),
                Wake::Halted(Halt::Lost(leg, end)) => self.lost(leg, end),
                Wake::Halted(Halt::Due) => self.due(),
            };
            if let Next::Break(way) = next {
                return way;
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let Self { session, wires, arrival, dialling, logins, refusing, ends, queued, .. } = self;
        tokio::select! {
            biased;
            Some(()) = ends.next() => Wake::Cancelled,
            newcomer = pending(arrival) => Wake::Arrived(newcomer.ok()),
            (leg, head, verdict) = poll_fn(|cx| logins.poll(cx)) => {
                Wake::Decided(leg, head, verdict)
            }
            reject = pending(refusing) => Wake::Refused(reject),
            halt = poll_fn(|cx| {
                let halt = wires.poll(session, cx);
                queued.set(queued_in(session));
                halt
            }) => Wake::Halted(halt),
            // Last: a dial may fail at once. The client's input is read before that, so that its
            // SENDs get a response and a REPORT.
            dialled = pending(dialling) => Wake::Dialled(dialled),
        }
    }

    // --- the far leg ---------------------------------------------------------------------------

    /// The owner's first request needs a far leg. The request is still in the near leg's input.
    fn needs_far(&mut self, process: &Arc<Process>, path: &Path) -> Next {
        if self.logins.is_under_way(Leg::Near) || self.refusing.is_some() {
            // The connection may move to another task; its AUTH must be answered first.
            self.wires.hold_near = true;
            return GO_ON;
        }
        let target = match next_hop::target(path.first()) {
            Ok(target) => target,
            Err(reject) => {
                self.session.refuse_next(reject);
                return GO_ON;
            }
        };
        let Some(registration) = &self.wires.near().registration else { return over(End::Fault) };
        match registration.join(path) {
            Join::Dial => {
                let quotas = process.configuration.quotas();
                match process.census.dial(&quotas) {
                    Ok(ticket) => self.dialled = Some(ticket),
                    Err(excess) => {
                        process.notices.dial_refused(registration.info().peer, excess);
                        self.arrival = Some(registration.wait());
                        self.session.refuse_next(Reject::Full);
                        return GO_ON;
                    }
                }
                let dialling = process.next_hops.dial(&process.configuration, registration, target);
                self.dialling = Some(dialling);
                self.bind();
                self.session.dial(path.first().clone());
            }
            Join::Deliver(delivery) => return Next::Break(Way::Deliver(delivery)),
            Join::Await => self.wires.hold_near = true,
            Join::Refuse(reject) => {
                debug!("not joined to {}: {reject}", path.first());
                self.wires.hold_near = true;
                let (process, peer) = (Arc::clone(process), self.wires.near().peer());
                let turn = async move { process.turn(peer, Patience::Client).await };
                self.refusing =
                    Some(turn.map(|turn| (turn == Turn::Now).then_some(reject)).boxed());
            }
        }
        GO_ON
    }

    /// The owner is told now that its request is refused.
    fn refused(&mut self, reject: Option<Reject>) -> Next {
        let Some(reject) = reject else { return self.lost(Leg::Near, End::LockedOut) };
        self.wires.hold_near = false;
        self.session.refuse_next(reject);
        GO_ON
    }

    /// The session is bound: no other peer can join it, so its listeners need not stay open.
    fn bind(&mut self) {
        self.arrival = None;
        self.refusing = None;
        self.wires.near_mut().doors = None;
    }

    fn dialled(&mut self, dialled: Result<Link, LinkError>) -> Next {
        match dialled {
            Ok(link) => {
                debug!("connected to {}, {}", link.peer(), link.security());
                let Some(ticket) = self.dialled.take() else { return over(End::Fault) };
                let near = self.wires.near();
                let far = Party {
                    stream: Stream::new(link),
                    policy: Arc::clone(&near.policy),
                    doors: None,
                    ticket,
                    stats: Arc::clone(&near.stats),
                    failures: 0,
                    registration: None,
                };
                self.wires.open_far(far);
                GO_ON
            }
            Err(error) => {
                let (status, comment, end) = next_hop::verdict(&error);
                self.session.lost(Leg::Far, status, comment.as_bytes(), clock::now());
                over(end)
            }
        }
    }

    fn arrived(&mut self, newcomer: Option<Box<Newcomer>>) -> Next {
        // The task that claimed the session ended without delivering its connection.
        let Some(newcomer) = newcomer else { return over(End::Fault) };
        let Newcomer { mut party, decoder, unsent, holding } = *newcomer;
        debug!("joined by {}", party.peer());
        self.bind();
        party.doors = None;
        party.ticket.know();
        self.ends.extend(party.registration.iter().map(Registration::ended));
        self.session.arrive(holding, decoder, unsent, clock::now());
        self.wires.open_far(party);
        GO_ON
    }

    /// Moves the near connection to the task of the session that it joins.
    fn hand_over(self: Box<Self>, delivery: Delivery) -> After {
        let Self { session, wires, .. } = *self;
        let (holding, decoder, unsent) = session.hand_over();
        let newcomer = Newcomer { party: wires.into_near(), decoder, unsent, holding };
        match delivery.send(Box::new(newcomer)) {
            Ok(()) => After::Joined,
            // The other session has just ended.
            Err(newcomer) => After::Returned(newcomer),
        }
    }

    // --- AUTH ----------------------------------------------------------------------------------

    fn login(&mut self, process: &Arc<Process>, leg: Leg, head: Box<Head>) -> Next {
        let unjoined = self.wires.party(Leg::Far).is_none() && self.dialling.is_none();
        let Some(party) = self.wires.party(leg) else { return over(End::Fault) };
        let claimant = party.claimant(unjoined);
        let (process, arrived) = (Arc::clone(process), clock::now());
        let login = async move {
            let verdict = login::decide(&process, &claimant, &head, arrived).await;
            if let Verdict::Refused { failed, slowed, .. } = verdict {
                if slowed && process.turn(claimant.peer, Patience::Client).await == Turn::Never {
                    return (head, None);
                }
                if failed {
                    login::step(arrived).await;
                }
            }
            (head, Some(verdict))
        };
        self.logins.start(leg, PendingLogin(Box::pin(login)));
        GO_ON
    }

    fn decided(&mut self, leg: Leg, head: &Head, verdict: Option<Verdict>) -> Next {
        let now = clock::now();
        if leg == Leg::Near {
            // If a request waits for an arrival, `needs_far` holds the leg again.
            self.wires.hold_near = false;
        }
        let Some(verdict) = verdict else { return self.lost(leg, End::LockedOut) };
        let Some(party) = self.wires.party_mut(leg) else { return over(End::Fault) };
        match verdict {
            Verdict::Granted(welcome) => {
                let (Some(registration), Some(holding)) =
                    (&party.registration, self.session.holding(leg))
                else {
                    return over(End::Fault);
                };
                debug!("session extended to {} s", welcome.seconds());
                let response = welcome.response(head, &holding.uri);
                // `arrival` is still there if a peer claimed the session before it lapsed.
                if self.session.is_lapsed() && self.arrival.is_none() {
                    self.arrival = Some(registration.wait());
                }
                self.session.answer(leg, response, Some(welcome.expiry), now);
                GO_ON
            }
            Verdict::Refused { response, failed, close, .. } => {
                party.failures += u32::from(failed);
                self.session.answer(leg, response, None, now);
                if !close {
                    return GO_ON;
                }
                self.session.lost(leg, StatusCode::TIMEOUT, DISCONNECTED.as_bytes(), now);
                over(End::LockedOut)
            }
        }
    }

    // --- the end -------------------------------------------------------------------------------

    fn lost(&mut self, leg: Leg, end: End) -> Next {
        if end == End::Closed && self.dialling.is_some() {
            // The client's SENDs have been acknowledged. The outcome of the dial decides whether
            // they are delivered or reported as failed.
            self.wires.hold_near = true;
            return GO_ON;
        }
        self.session.lost(leg, StatusCode::TIMEOUT, DISCONNECTED.as_bytes(), clock::now());
        over(end)
    }

    fn due(&mut self) -> Next {
        let now = clock::now();
        self.wires.look_at_all(&mut self.session, now);
        while let Some(timeout) = self.session.expire(now) {
            match timeout {
                Timeout::Lapsed => {
                    let registration = self.wires.near().registration.as_ref();
                    if registration.is_some_and(Registration::lapse) {
                        debug!("nobody joined before Expires");
                        self.arrival = None;
                    }
                }
                Timeout::Abandoned => return self.lost(Leg::Near, End::Expired),
                Timeout::Expired(_) => {
                    self.disconnect();
                    return over(End::Expired);
                }
                Timeout::Stalled(leg) => return self.lost(leg, End::Stalled),
                Timeout::Idle(time) => {
                    info!("closing: no octet either way for {} s (idle_timeout)", time.as_secs());
                    self.disconnect();
                    return over(End::Idle);
                }
            }
        }
        GO_ON
    }

    /// Ends the session with REPORTs to both legs for their unanswered SENDs.
    fn disconnect(&mut self) {
        self.session.end(StatusCode::TIMEOUT, DISCONNECTED.as_bytes(), clock::now());
    }

    fn over(self: Box<Self>, end: End) -> After {
        let Self { session, wires, arrival, .. } = *self;
        // This takes the session out of the registry. After that no peer can claim it; a connection
        // that has claimed it may be in `arrival`.
        let ending = Ending::new(session, wires, end);
        let late = arrival.and_then(|mut arrival| {
            arrival.close();
            arrival.try_recv().ok()
        });
        After::Over(Box::new(ending), late)
    }
}

const GO_ON: Next = Next::Continue(());

fn over(end: End) -> Next {
    Next::Break(Way::Over(end))
}

/// Octets queued for both legs of a session.
fn queued_in(session: &Session) -> usize {
    session.outgoing(Leg::Near).len() + session.outgoing(Leg::Far).len()
}

/// The AUTHs being decided, one for each leg at most.
#[derive(Default)]
struct Logins([Option<PendingLogin>; 2]);

/// An AUTH being decided.
struct PendingLogin(BoxFuture<'static, (Box<Head>, Option<Verdict>)>);

impl Logins {
    fn start(&mut self, leg: Leg, login: PendingLogin) {
        let place = LEGS.iter().position(|&other| other == leg);
        self.0[place.unwrap_or_default()] = Some(login);
    }

    fn is_under_way(&self, leg: Leg) -> bool {
        self.0.iter().zip(LEGS).any(|(slot, other)| other == leg && slot.is_some())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Leg, Box<Head>, Option<Verdict>)> {
        for (slot, leg) in self.0.iter_mut().zip(LEGS) {
            if let Some(login) = slot
                && let Poll::Ready((head, verdict)) = login.0.as_mut().poll(cx)
            {
                *slot = None;
                return Poll::Ready((leg, head, verdict));
            }
        }
        Poll::Pending
    }
}

/// Waits for the future in the slot and empties the slot. An empty slot never resolves.
async fn pending<F: Future + Unpin>(slot: &mut Option<F>) -> F::Output {
    poll_fn(|cx| {
        let Some(future) = slot else { return Poll::Pending };
        let output = ready!(Pin::new(future).poll(cx));
        *slot = None;
        Poll::Ready(output)
    })
    .await
}

#[cfg(test)]
mod tests;
