//! A session's life after its 200 to AUTH: waiting, dialling, established, ending.
//!
//! One task owns both connections and the [`Session`] between them, so nothing on the way of a
//! byte is shared: no channel, no lock.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{sync::oneshot, time::timeout};
use tracing::{Span, debug, info};

use super::{
    DEFAULT_PORT, Generation, Shared, Stage,
    login::{self, Claimant, Quoted, Verdict},
    party::{Owned, Party},
    registry::{Arrival, Delivery, Join},
    stats::{Counted, Queued},
    wire::{Step, Wire, Wires},
};
use crate::{
    clock,
    msrp::{Head, HeaderError, Name, Path, StatusCode, Uri},
    session::{Leg, Limits, Reject, Session, Timeout},
    transport::{self, Link, LinkError, Target},
};

/// How long the other side may take for its last bytes once a session is over.
const DRAIN: Duration = Duration::from_secs(10);
/// Why a leg is lost whose input has ended.
const CLOSED: &str = "closed";
/// What a REPORT says when a connection is gone, as clients know it from the original.
const DISCONNECTED: &[u8] = b"Session got disconnected";

/// The task of one session.
pub(super) struct Bridge {
    session: Session,
    wires: Wires,
    /// The rules for what comes from each side, and whose session it is.
    near: Holder,
    far: Option<Holder>,
    /// Where whoever joins is delivered, until the session is bound.
    arrival: Option<Arrival>,
    stop: oneshot::Receiver<()>,
    dialling: Option<BoxFuture<'static, Result<Link, LinkError>>>,
    logins: Logins,
    queued: Queued,
}

/// One connection's owner.
struct Holder {
    peer: SocketAddr,
    generation: Arc<Generation>,
    counted: Counted,
    failures: u32,
    owned: Option<Owned>,
}

/// What wakes the task.
enum Event {
    Stop,
    Arrived(Option<Box<Party>>),
    Dialled(Result<Link, LinkError>),
    Decided(Leg, Box<Head>, Verdict),
    Step(Step),
}

/// What follows from it.
enum Next {
    GoOn,
    /// The connection joins another session of this relay.
    Deliver(Delivery),
    /// The session is over, for this reason.
    Over(&'static str),
}

impl Bridge {
    /// The task of a party that holds a session, waiting for `arrival`.
    pub(super) fn new(party: Party, owned: Owned, arrival: Arrival) -> Self {
        let Party { wire, decoder, unsent, generation, counted, failures, .. } = party;
        let limits = Limits::DEFAULT;
        let session = Session::new(owned.holding.clone(), decoder, unsent, limits, clock::now());
        Self {
            session,
            stop: owned.registration.stop_signal(),
            queued: counted.queued(),
            near: Holder {
                peer: wire.link.peer(),
                generation,
                counted,
                failures,
                owned: Some(owned),
            },
            wires: Wires::new(wire),
            far: None,
            arrival: Some(arrival),
            dialling: None,
            logins: Logins::default(),
        }
    }

    /// Where the log lines of the session stand.
    pub(super) fn span(&self) -> Span {
        self.near.owned.as_ref().map_or_else(Span::none, |owned| owned.span.clone())
    }

    pub(super) async fn run(mut self: Box<Self>, shared: Arc<Shared>) -> Stage {
        loop {
            let next = match self.event().await {
                Event::Stop => {
                    self.session.end(StatusCode::TIMEOUT, DISCONNECTED, clock::now());
                    Next::Over("shutdown")
                }
                Event::Arrived(party) => self.arrived(party),
                Event::Dialled(dialled) => self.dialled(dialled),
                Event::Decided(leg, head, verdict) => self.decided(leg, &head, verdict),
                Event::Step(Step::NeedsFar(path)) => self.needs_far(&path),
                Event::Step(Step::Auth(leg, head)) => self.login(&shared, leg, head),
                Event::Step(Step::LockedOut(leg)) => self.lost(leg, "auth"),
                Event::Step(Step::Lost(leg, reason)) => self.lost(leg, reason),
                Event::Step(Step::Due) => self.due(),
            };
            match next {
                Next::GoOn => {}
                Next::Deliver(delivery) => return self.hand_over(delivery),
                Next::Over(reason) => {
                    self.finish(&shared, reason).await;
                    return Stage::Done;
                }
            }
        }
    }

    async fn event(&mut self) -> Event {
        let Self { session, wires, arrival, stop, dialling, logins, queued, .. } = self;
        tokio::select! {
            biased;
            _ = stop => Event::Stop,
            party = pending(arrival) => Event::Arrived(party.ok()),
            (leg, head, verdict) = poll_fn(|cx| logins.poll(cx)) => {
                Event::Decided(leg, head, verdict)
            }
            step = poll_fn(|cx| {
                let step = wires.poll(session, cx);
                queued.set(queued_in(session));
                step
            }) => Event::Step(step),
            // Last: a refusal may come at once, and what was said is taken first, or nobody would hear
            // what became of it.
            dialled = pending(dialling) => Event::Dialled(dialled),
        }
    }

    // --- the far leg ---------------------------------------------------------------------------

    /// The own client spoke first, and its request is still in its input.
    fn needs_far(&mut self, path: &Path) -> Next {
        if self.logins.is_under_way(Leg::Near) {
            // The connection may be handed over: not before its AUTH is answered.
            self.wires.hold_near = true;
            return Next::GoOn;
        }
        let target = match target(path.first()) {
            Ok(target) => target,
            Err(reject) => {
                self.session.refuse_next(reject);
                return Next::GoOn;
            }
        };
        let Some(owned) = &self.near.owned else { return Next::Over("error") };
        match owned.registration.join(path) {
            Join::Dial => {
                debug!("connecting to {target}");
                self.arrival = None;
                self.session.dial(path.first().clone());
                let client = Arc::clone(&self.near.generation.client);
                self.dialling =
                    Some(Box::pin(async move { transport::connect(&target, &client).await }));
            }
            Join::Deliver(delivery) => return Next::Deliver(delivery),
            Join::Await => self.wires.hold_near = true,
            Join::Refuse(reject) => {
                debug!("not joined to {}: {reject}", path.first());
                self.session.refuse_next(reject);
            }
        }
        Next::GoOn
    }

    fn dialled(&mut self, dialled: Result<Link, LinkError>) -> Next {
        match dialled {
            Ok(link) => {
                debug!("connected to {}, {}", link.peer(), link.security());
                self.far = Some(Holder {
                    peer: link.peer(),
                    generation: Arc::clone(&self.near.generation),
                    counted: self.near.counted.clone(),
                    failures: 0,
                    owned: None,
                });
                self.wires.open_far(Wire::new(link));
                Next::GoOn
            }
            Err(error) => {
                info!("next hop not reached: {error}");
                self.session.lost(Leg::Far, StatusCode::TIMEOUT, DISCONNECTED, clock::now());
                Next::Over("unreachable")
            }
        }
    }

    fn arrived(&mut self, party: Option<Box<Party>>) -> Next {
        // Whoever claimed the session is gone without having come.
        let Some(party) = party else { return Next::Over("error") };
        let Party { wire, decoder, unsent, generation, counted, failures, owned } = *party;
        let peer = wire.link.peer();
        debug!("joined by {peer}");
        let holding = owned.as_ref().map(|owned| owned.holding.clone());
        self.session.arrive(holding, decoder, unsent, clock::now());
        self.far = Some(Holder { peer, generation, counted, failures, owned });
        self.wires.open_far(wire);
        Next::GoOn
    }

    /// The connection moves to the task of the session that it joins.
    fn hand_over(self: Box<Self>, delivery: Delivery) -> Stage {
        let Self { session, wires, near, .. } = *self;
        let (holding, decoder, unsent) = session.hand_over();
        let Holder { generation, counted, failures, owned, .. } = near;
        let owned = owned.zip(holding).map(|(owned, holding)| Owned { holding, ..owned });
        let wire = wires.near;
        let party = Party { wire, decoder, unsent, generation, counted, failures, owned };
        match delivery.send(Box::new(party)) {
            Ok(()) => Stage::Done,
            // The other session has just ended; this one waits as before.
            Err(party) => Stage::Lobby(party),
        }
    }

    // --- AUTH ----------------------------------------------------------------------------------

    fn login(&mut self, shared: &Arc<Shared>, leg: Leg, head: Box<Head>) -> Next {
        let Some((holder, owned)) = self.holder(leg).and_then(|h| Some((h, h.owned.as_ref()?)))
        else {
            return Next::Over("error");
        };
        let claimant = Claimant {
            peer: holder.peer,
            policy: Arc::clone(&holder.generation.policy),
            session: Some((owned.user.clone(), owned.realm.clone())),
            unjoined: self.far.is_none() && self.dialling.is_none(),
            failures: holder.failures,
        };
        let (shared, arrived) = (Arc::clone(shared), clock::now());
        let login = async move {
            let verdict = login::decide(&shared, &claimant, &head, arrived).await;
            (head, verdict)
        };
        self.logins.start(leg, Login(Box::pin(login)));
        Next::GoOn
    }

    fn decided(&mut self, leg: Leg, head: &Head, verdict: Verdict) -> Next {
        let now = clock::now();
        if leg == Leg::Near {
            // A request that waits for an arrival will find that out again.
            self.wires.hold_near = false;
        }
        let holder = match leg {
            Leg::Near => Some(&mut self.near),
            Leg::Far => self.far.as_mut(),
        };
        let Some(holder) = holder else { return Next::Over("error") };
        match verdict {
            Verdict::Granted(welcome) => {
                let Some(owned) = &mut holder.owned else { return Next::Over("error") };
                owned.holding.expiry = welcome.expiry;
                debug!("session extended to {} s", welcome.seconds());
                let response = welcome.response(head, &owned.holding.uri);
                // With an arrival under way somebody has claimed the session in time.
                if self.session.is_lapsed() && self.arrival.is_none() {
                    self.arrival = Some(owned.registration.wait());
                }
                self.session.answer(leg, response, Some(welcome.expiry), now);
                Next::GoOn
            }
            Verdict::Refused { response, failed, close } => {
                holder.failures += u32::from(failed);
                self.session.answer(leg, response, None, now);
                if !close {
                    return Next::GoOn;
                }
                self.session.lost(leg, StatusCode::TIMEOUT, DISCONNECTED, now);
                Next::Over("auth")
            }
        }
    }

    fn holder(&self, leg: Leg) -> Option<&Holder> {
        match leg {
            Leg::Near => Some(&self.near),
            Leg::Far => self.far.as_ref(),
        }
    }

    // --- the end -------------------------------------------------------------------------------

    fn lost(&mut self, leg: Leg, reason: &'static str) -> Next {
        if leg == Leg::Near && reason == CLOSED && self.dialling.is_some() {
            // What it said has been acknowledged: it is delivered, or reported, first.
            self.wires.hold_near = true;
            return Next::GoOn;
        }
        self.session.lost(leg, StatusCode::TIMEOUT, DISCONNECTED, clock::now());
        Next::Over(match (leg, reason) {
            (Leg::Far, CLOSED) => "peer-closed",
            _ => reason,
        })
    }

    fn due(&mut self) -> Next {
        while let Some(timeout) = self.session.expire(clock::now()) {
            match timeout {
                Timeout::Lapsed => {
                    let owned = self.near.owned.as_ref();
                    if owned.is_some_and(|owned| owned.registration.lapse()) {
                        debug!("nobody joined before Expires");
                        self.arrival = None;
                    }
                }
                Timeout::Abandoned => return self.lost(Leg::Near, "expired"),
                Timeout::Expired(_) => {
                    self.session.end(StatusCode::TIMEOUT, DISCONNECTED, clock::now());
                    return Next::Over("expired");
                }
                Timeout::Stalled(leg) => return self.lost(leg, "stalled"),
            }
        }
        Next::GoOn
    }

    /// Says the last words to both sides and closes.
    async fn finish(mut self: Box<Self>, shared: &Arc<Shared>, reason: &'static str) {
        self.near.log_end(&self.wires.near, reason);
        if let (Some(far), Some(wire)) = (&self.far, &self.wires.far) {
            far.log_end(wire, reason);
        }
        // From here on nobody can be sent to us; who was sent already is given back.
        self.near.owned = None;
        if let Some(far) = &mut self.far {
            far.owned = None;
        }
        if let Some(mut arrival) = self.arrival.take() {
            arrival.close();
            if let Ok(party) = arrival.try_recv() {
                shared.rehome(Stage::Lobby(party));
            }
        }
        let Self { session, wires, queued, .. } = &mut *self;
        let drained = poll_fn(|cx| {
            let drained = wires.poll_drain(session, cx);
            queued.set(queued_in(session));
            drained
        });
        if timeout(DRAIN, drained).await.is_err() {
            debug!("the last bytes were not taken");
        }
        let Wires { near, far, .. } = self.wires;
        let far = async {
            if let Some(far) = far {
                close(far.link).await;
            }
        };
        tokio::join!(close(near.link), far);
    }
}

impl Holder {
    /// The line that operators count with: its form is fixed.
    fn log_end(&self, wire: &Wire, reason: &str) {
        let Some(owned) = &self.owned else { return };
        let (user, realm) = (Quoted(&owned.user), Quoted(&owned.realm));
        let duration = clock::now().saturating_duration_since(owned.since).as_secs();
        let (peer, sent, received) = (self.peer, wire.received, wire.sent);
        owned.span.in_scope(|| {
            info!(
                "session ended: user={user}@{realm} peer={peer} duration={duration} sent={sent} \
                 received={received} reason={reason}"
            );
        });
    }
}

/// Octets that wait for the peers of a session.
fn queued_in(session: &Session) -> usize {
    session.outgoing(Leg::Near).len() + session.outgoing(Leg::Far).len()
}

async fn close(link: Link) {
    if let Err(error) = transport::close(link, DRAIN).await {
        debug!("{error}");
    }
}

/// Where a next hop is dialled, if its URI says so.
fn target(hop: &Uri) -> Result<Target, Reject> {
    let port = u16::try_from(hop.port().unwrap_or(DEFAULT_PORT)).ok().filter(|port| *port != 0);
    match port {
        Some(port) if hop.transport().eq_ignore_ascii_case("tcp") => {
            Ok(Target { host: hop.host().to_owned(), port, tls: hop.secure() })
        }
        _ => Err(HeaderError::Unreadable(Name::ToPath.as_str()).into()),
    }
}

/// The look-ups under way, one for each leg at most.
#[derive(Default)]
struct Logins([Option<Login>; 2]);

/// One AUTH being decided.
struct Login(BoxFuture<'static, (Box<Head>, Verdict)>);

impl Logins {
    const LEGS: [Leg; 2] = [Leg::Near, Leg::Far];

    fn start(&mut self, leg: Leg, login: Login) {
        let place = Self::LEGS.iter().position(|&other| other == leg);
        self.0[place.unwrap_or_default()] = Some(login);
    }

    fn is_under_way(&self, leg: Leg) -> bool {
        self.0.iter().zip(Self::LEGS).any(|(slot, other)| other == leg && slot.is_some())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Leg, Box<Head>, Verdict)> {
        for (slot, leg) in self.0.iter_mut().zip(Self::LEGS) {
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

/// The output of what is in the slot, which is empty then; an empty slot never has any.
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
mod tests {
    use std::path::Path as FilePath;

    use bytes::BytesMut;
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        msrp::{Decoder, Event as Decoded},
        relay::{Config, Source, configuration::Configuration, login::Welcome},
        session::{Expiry, Holding},
    };

    const SEND: &str = "MSRP s0000001 SEND\r\nTo-Path: msrp://relay.example:2855/alice;tcp \
        msrp://a.invalid:1/a;tcp\r\nFrom-Path: msrp://b.invalid:1/b;tcp\r\nMessage-ID: 1\r\n\
        Byte-Range: 1-5/5\r\nContent-Type: text/plain\r\n\r\nhello\r\n-------s0000001$\r\n";
    const AUTH: &str = "MSRP a0000001 AUTH\r\nTo-Path: msrp://relay.example:2855;tcp\r\n\
        From-Path: msrp://a.invalid:1/a;tcp\r\n-------a0000001$\r\n";

    fn shared() -> Arc<Shared> {
        let config = "[Relay]\naddress = 127.0.0.1\nbackend = memory\ndebug_notls = yes\n\
            hostname = relay.example\n[Memory]\n";
        let config = Config::parse(config, FilePath::new("config.ini")).unwrap();
        let generation = Generation::build(Arc::new(config), None, clock::wall()).unwrap();
        let source = Source::new("config.ini".into(), |_| {});
        Arc::new(Shared::new(Configuration::new(source, generation)))
    }

    fn head(text: &str) -> Head {
        match Decoder::default().next(&mut BytesMut::from(text)) {
            Ok(Some(Decoded::Head(head))) => head,
            other => panic!("{other:?}"),
        }
    }

    /// A connection as the lobby has it, and its other end.
    async fn party(shared: &Shared) -> (Party, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        let link = transport::accept(tcp, peer, None).await.unwrap();
        let generation = shared.configuration.generation();
        let counted = Counted::new(&shared.stats);
        (Party::new(Wire::new(link), Decoder::default(), generation, counted), other)
    }

    /// The session of Alice, whose time is up this very moment.
    async fn due(shared: &Shared) -> (Bridge, TcpStream) {
        let (party, other) = party(shared).await;
        let uri = Uri::mint(false, "relay.example", 2855, "alice").unwrap();
        let client = head(AUTH).from_path;
        let generation = shared.configuration.generation();
        let (registration, arrival) =
            shared.registry.register(&generation, uri.clone(), client.clone());
        let owned = Owned {
            registration,
            holding: Holding {
                uri,
                client,
                expiry: Expiry { at: clock::now(), strict: false },
                other_methods: true,
                max_auth_attempts: None,
            },
            user: "alice".to_owned(),
            realm: "example.com".to_owned(),
            since: clock::now(),
            span: Span::none(),
        };
        (Bridge::new(party, owned, arrival), other)
    }

    /// Bob, whose first SEND has been read.
    async fn stranger(shared: &Shared) -> (Party, TcpStream) {
        let (mut bob, other) = party(shared).await;
        bob.wire.unread = BytesMut::from(SEND);
        (bob, other)
    }

    async fn hears(peer: &mut TcpStream, wanted: &str) {
        let mut heard = vec![0; wanted.len()];
        let reading = peer.read_exact(&mut heard);
        timeout(Duration::from_secs(5), reading).await.expect("nothing comes").unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), wanted);
    }

    fn granted() -> Verdict {
        let expiry = Expiry { at: clock::now() + Duration::from_mins(1), strict: true };
        Verdict::Granted(Welcome {
            user: "alice".to_owned(),
            realm: "example.com".to_owned(),
            expiry,
            expires: Duration::from_mins(1),
            authentication_info: Some("qop=auth".to_owned()),
        })
    }

    /// Somebody has claimed the session and is on the way when it lapses: that one is served,
    /// also when the owner's AUTH is accepted in between.
    #[tokio::test]
    async fn who_claimed_a_session_in_time_is_served() {
        for refreshed in [false, true] {
            let shared = shared();
            let (mut bridge, mut alice) = due(&shared).await;
            let (bob, mut bobs) = stranger(&shared).await;
            let delivery = shared.registry.claim(&head(SEND)).unwrap();
            assert!(matches!(bridge.due(), Next::GoOn));
            assert!(bridge.session.is_lapsed());
            if refreshed {
                assert!(matches!(bridge.decided(Leg::Near, &head(AUTH), granted()), Next::GoOn));
            }
            assert!(delivery.send(Box::new(bob)).is_ok(), "nobody waits for the claimant");
            assert!(shared.registry.claim(&head(SEND)).is_err());
            let task = tokio::spawn(Box::new(bridge).run(Arc::clone(&shared)));
            if refreshed {
                hears(&mut alice, "MSRP a0000001 200 OK\r\n").await;
            } else {
                hears(&mut alice, "MSRP ").await;
            }
            hears(&mut bobs, "MSRP s0000001 200 OK\r\n").await;
            drop((alice, bobs));
            assert!(matches!(task.await.unwrap(), Stage::Done));
            assert_eq!(shared.registry.len(), 0);
        }
    }

    /// A session ends when somebody who claimed it is on the way: the one goes back to the lobby.
    #[tokio::test]
    async fn who_comes_to_a_session_that_has_ended_hears_so() {
        for delivered in [false, true] {
            let shared = shared();
            let (mut bridge, alice) = due(&shared).await;
            let (bob, mut bobs) = stranger(&shared).await;
            let delivery = shared.registry.claim(&head(SEND)).unwrap();
            // Alice's own request waits for the arrival.
            bridge.wires.hold_near = true;
            drop(alice);
            let returned = if delivered {
                delivery.send(Box::new(bob)).unwrap();
                Box::new(bridge).finish(&shared, "closed").await;
                None
            } else {
                Box::new(bridge).finish(&shared, "closed").await;
                Some(delivery.send(Box::new(bob)).unwrap_err())
            };
            if let Some(party) = returned {
                shared.rehome(Stage::Lobby(party));
            }
            hears(&mut bobs, "MSRP s0000001 481 ").await;
            assert_eq!(shared.registry.len(), 0);
        }
    }
}
