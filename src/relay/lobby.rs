//! A connection without a session: TLS, then an AUTH that gets it one or a SEND that joins one
//! (RFC 4976 §6.1).

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout_at,
};
use tracing::{Instrument, debug, info, info_span};

use super::{
    Shared, Stage,
    bridge::Bridge,
    configuration::Visit,
    login::{self, Claimant, Quoted, Verdict, Welcome},
    party::{Owned, Party},
    registry::Delivery,
    stats::Counted,
    wire::Wire,
};
use crate::{
    clock,
    msrp::{DecodeError, Decoder, Event, Head, Method, Start, decode::MAX_HEAD, uri::shortened},
    session::{self, Holding, Reject, refusal, refusal_of_malformed},
    transport,
};

/// From the first SYN to a session (RFC 4976 §6.1).
const PROBATION: Duration = Duration::from_secs(30);
/// Largest head of a peer that nobody knows, in octets.
const MAX_STRANGERS_HEAD: usize = 32 * 1024;
/// Octets read at once here.
const READ: usize = 4096;
/// Refused requests after which a connection is closed (RFC 4976 §6.1: several failed requests);
/// it bounds how many session-ids can be guessed.
const MAX_REFUSED: u32 = 16;
/// What a peer may take to read the last answer.
const CLOSE: Duration = Duration::from_secs(2);

/// Serves a connection that has just been accepted.
pub(super) async fn enter(
    shared: Arc<Shared>,
    visit: Visit,
    tcp: TcpStream,
    peer: SocketAddr,
) -> Stage {
    let deadline = clock::now() + PROBATION;
    shared.stats.accepted.fetch_add(1, Ordering::Relaxed);
    let counted = Counted::new(&shared.stats);
    let generation = Arc::clone(visit.generation());
    let accepting = transport::accept(tcp, peer, generation.server.clone());
    let link = tokio::select! {
        link = timeout_at(deadline.into(), accepting) => link,
        () = shared.stopping.cancelled() => return Stage::Done,
    };
    match link {
        Ok(Ok(link)) => {
            let decoder = Decoder::new(MAX_STRANGERS_HEAD);
            let party = Party::new(Wire::new(link), decoder, generation, counted);
            attend(shared, party, visit, deadline).await
        }
        Ok(Err(error)) => {
            debug!("{error}");
            Stage::Done
        }
        Err(_) => {
            info!("closed: no TLS handshake within {} s", PROBATION.as_secs());
            Stage::Done
        }
    }
}

/// Serves a connection whose session went away before it had joined it. One that holds a session
/// of its own goes back to that, which waits as before.
pub(super) async fn return_to(shared: Arc<Shared>, mut party: Party) -> Stage {
    if let Some(owned) = party.owned.take() {
        let arrival = owned.registration.wait();
        return Stage::Bridge(Box::new(Bridge::new(party, owned, arrival)));
    }
    let visit = Visit::new(Arc::clone(&party.generation));
    attend(shared, party, visit, clock::now() + PROBATION).await
}

async fn attend(shared: Arc<Shared>, party: Party, visit: Visit, deadline: Instant) -> Stage {
    let mut visitor = Visitor { party, visit, refused: 0, login: None, refusal: None };
    let outcome = tokio::select! {
        outcome = timeout_at(deadline.into(), visitor.serve(&shared)) => outcome,
        () = shared.stopping.cancelled() => Ok(Ok(Outcome::Leave)),
    };
    match outcome {
        Ok(Ok(Outcome::Join(delivery))) => visitor.join(delivery),
        Ok(Ok(Outcome::Admit(head, welcome))) => visitor.admit(&shared, &head, welcome),
        Ok(Ok(Outcome::Leave)) => visitor.leave().await,
        Ok(Err(error)) => {
            debug!("closed: {error}");
            Stage::Done
        }
        Err(_) => {
            info!("closed: neither AUTH nor SEND to a session within {} s", PROBATION.as_secs());
            visitor.leave().await
        }
    }
}

/// A connection in the lobby.
struct Visitor {
    party: Party,
    /// Ends when the connection has a session, or none any more.
    visit: Visit,
    /// Requests refused so far.
    refused: u32,
    /// The AUTH whose end-line has not come.
    login: Option<Box<Head>>,
    /// Why the SEND that comes next may not join.
    refusal: Option<Reject>,
}

/// How a visit ends.
enum Outcome {
    /// In somebody's session.
    Join(Delivery),
    /// In a session of its own.
    Admit(Box<Head>, Welcome),
    /// Not at all.
    Leave,
}

/// What came next on the connection.
enum Look {
    Join(Delivery),
    Login(Box<Head>),
    /// Something that has been dealt with.
    Done,
    /// Nothing yet.
    Nothing,
    /// The input makes no sense any more.
    Lost(DecodeError),
}

impl Visitor {
    async fn serve(&mut self, shared: &Shared) -> io::Result<Outcome> {
        loop {
            match self.look(shared) {
                Look::Join(delivery) => return Ok(Outcome::Join(delivery)),
                Look::Login(head) => match self.decide(shared, &head).await {
                    Verdict::Granted(welcome) => return Ok(Outcome::Admit(head, welcome)),
                    Verdict::Refused { response, failed, close } => {
                        self.say(Some(response));
                        self.party.failures += u32::from(failed);
                        if close {
                            info!("closed: {} failed AUTHs", self.party.failures);
                            return Ok(Outcome::Leave);
                        }
                    }
                },
                Look::Done if self.refused >= MAX_REFUSED => {
                    info!("closed: {} requests refused", self.refused);
                    return Ok(Outcome::Leave);
                }
                Look::Done => {}
                Look::Lost(error) => {
                    info!("closed: {error}");
                    return Ok(Outcome::Leave);
                }
                Look::Nothing => {
                    self.flush().await?;
                    self.party.wire.unread.reserve(READ);
                    let octets = self.party.wire.link.read_buf(&mut self.party.wire.unread).await?;
                    self.party.wire.received += octets as u64;
                    if octets == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    /// Takes the next event, but leaves a SEND that joins a session where it is: the session will
    /// read it.
    fn look(&mut self, shared: &Shared) -> Look {
        let Party { wire, decoder, .. } = &mut self.party;
        if self.refusal.is_none()
            && let Ok(Some(Event::Head(head))) = decoder.peek(&mut wire.unread)
            && is_joining(&head)
        {
            let claimed = session::check_send(&head).and_then(|()| shared.registry.claim(&head));
            match claimed {
                Ok(delivery) => return Look::Join(delivery),
                Err(reject) => self.refusal = Some(reject),
            }
        }
        match decoder.next(&mut wire.unread) {
            Ok(None) => {
                session::log_stray(decoder);
                return Look::Nothing;
            }
            Ok(Some(Event::Head(head))) => self.head(head),
            Ok(Some(Event::Malformed(message))) => {
                self.refused += 1;
                self.say(refusal_of_malformed(&message, &Reject::Unintelligible(message.error)));
            }
            Ok(Some(Event::Body(_) | Event::Collision)) => {}
            Ok(Some(Event::End(_))) => {
                if let Some(head) = self.login.take() {
                    return Look::Login(head);
                }
            }
            Err(error) => {
                if let DecodeError::Head { limit, message: Some(message) } = &error {
                    self.say(refusal_of_malformed(message, &Reject::TooLarge(limit)));
                }
                return Look::Lost(error);
            }
        }
        Look::Done
    }

    fn head(&mut self, head: Head) {
        let Start::Request(method) = &head.start else { return };
        let reject = if session::is_login(method, &head) {
            match head.headers.check() {
                Ok(()) => {
                    self.login = Some(Box::new(head));
                    return;
                }
                Err(error) => error.into(),
            }
        } else {
            self.refusal.take().unwrap_or_else(|| Reject::UnknownMethod(method.clone()))
        };
        debug!("{method} refused: {reject}");
        self.refused += 1;
        self.say(refusal(&head, &reject));
    }

    async fn decide(&self, shared: &Shared, head: &Head) -> Verdict {
        let claimant = Claimant {
            peer: self.party.peer(),
            policy: Arc::clone(&self.party.generation.policy),
            session: None,
            unjoined: false,
            failures: self.party.failures,
        };
        login::decide(shared, &claimant, head, clock::now()).await
    }

    fn join(mut self, delivery: Delivery) -> Stage {
        self.party.decoder.set_max_head(MAX_HEAD);
        match delivery.send(Box::new(self.party)) {
            Ok(()) => Stage::Done,
            // Its task has just ended: the SEND will find no session.
            Err(party) => Stage::Lobby(party),
        }
    }

    fn admit(mut self, shared: &Shared, head: &Head, welcome: Welcome) -> Stage {
        let policy = Arc::clone(&self.party.generation.policy);
        let uri = match policy.mint(&super::session_id()) {
            Ok(uri) => uri,
            Err(error) => {
                tracing::error!("no URI for a session: {error}");
                return Stage::Done;
            }
        };
        self.party.decoder.set_max_head(MAX_HEAD);
        let response = welcome.response(head, &uri);
        let (registration, arrival) =
            shared.registry.register(self.visit.generation(), uri.clone(), head.from_path.clone());
        shared.stats.started.fetch_add(1, Ordering::Relaxed);
        let span = info_span!(
            parent: None,
            "session",
            id = shortened(uri.session_id().unwrap_or_default()),
            user = %format_args!("{}@{}", Quoted(&welcome.user), Quoted(&welcome.realm)),
        );
        span.in_scope(|| info!("session started, peer {}", self.party.peer()));
        let owned = Owned {
            registration,
            holding: Holding {
                uri,
                client: head.from_path.clone(),
                expiry: welcome.expiry,
                other_methods: policy.login.allow_other_methods,
                max_auth_attempts: policy.login.max_auth_attempts,
            },
            user: welcome.user,
            realm: welcome.realm,
            since: clock::now(),
            span,
        };
        self.say(Some(response));
        Stage::Bridge(Box::new(Bridge::new(self.party, owned, arrival)))
    }

    /// Sends what is to be said, and closes.
    async fn leave(mut self) -> Stage {
        let flushed = tokio::time::timeout(CLOSE, self.flush()).await;
        if let Ok(Ok(())) = flushed {
            let closed = transport::close(self.party.wire.link, CLOSE).in_current_span().await;
            closed.unwrap_or_else(|error| debug!("{error}"));
        }
        Stage::Done
    }

    fn say(&mut self, response: Option<BytesMut>) {
        if let Some(response) = response {
            self.party.unsent.push(response.freeze());
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let Party { wire, unsent, .. } = &mut self.party;
        while !unsent.is_empty() {
            let mut slices = [io::IoSlice::new(&[]); 8];
            let filled = unsent.slices(&mut slices);
            let octets = wire.link.write_vectored(&slices[..filled]).await?;
            if octets == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            wire.sent += octets as u64;
            unsent.advance(octets);
        }
        wire.link.flush().await
    }
}

/// Whether a request is one that may join a session (RFC 4975 §5.4: the first is a SEND).
fn is_joining(head: &Head) -> bool {
    matches!(head.start, Start::Request(Method::Send)) && head.to_path.len() > 1
}
