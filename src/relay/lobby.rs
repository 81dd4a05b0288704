//! The stage of a connection without a session: TLS, then an AUTH that gets it a session, or a SEND
//! that joins one (RFC 4976 §6.1).

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::BytesMut;
use rand::{TryRng, rngs::SysRng};
use tokio::{net::TcpStream, time::timeout_at};
use tracing::{Instrument, debug, info, info_span};

use super::{
    backoff::{Patience, Turn},
    end::Quoted,
    login::{self, Verdict, Welcome},
    party::{Arrival, Delivery, Newcomer, Party},
    process::Process,
    quota::Ticket,
    registry::SessionInfo,
};
use crate::{
    clock,
    msrp::{
        ChunkQueue, DecodeError, Decoder, Event, Head, Method, Start, decode::MAX_HEAD,
        uri::shortened,
    },
    session::{self, Holding, Reject, refusal, refusal_of_malformed},
    transport::{self, Blocks, LinkError, Loss, Stream},
};

/// How long a connection may stay in the lobby, TLS handshake included (RFC 4976 §6.1).
const PROBATION: Duration = Duration::from_secs(30);
/// Largest head in the lobby, in octets.
const MAX_STRANGERS_HEAD: usize = 32 * 1024;
/// Small blocks: connections in the lobby send heads only, and anybody can open them.
const BLOCKS: Blocks = Blocks { size: 4096, least: 4096 };
/// Refused requests after which a connection is closed (RFC 4976 §6.1: several failed requests).
/// The limit bounds how many session-ids a connection can guess.
const MAX_REFUSED: u32 = 16;
/// How long a peer may take to read its last response.
const CLOSE: Duration = Duration::from_secs(2);

/// How a connection left the lobby.
pub(super) enum Left {
    /// Its client owns a session now. `Arrival` receives the connection that joins this session.
    Admitted(Box<Newcomer>, Arrival),
    /// The session that it was to join has just ended.
    Returned(Box<Newcomer>),
    /// It is closed, or belongs to the task of the session that it joined.
    Gone,
}

/// Serves a connection that has just been accepted.
pub(super) async fn enter(
    process: &Process,
    tcp: TcpStream,
    peer: SocketAddr,
    ticket: Ticket,
) -> Left {
    let deadline = clock::now() + PROBATION;
    process.stats.accepted.fetch_add(1, Ordering::Relaxed);
    let in_force = process.configuration.in_force();
    let accepting = transport::accept(tcp, peer, in_force.generation.server.clone());
    let link = tokio::select! {
        link = timeout_at(deadline.into(), accepting) => link,
        () = process.lifecycle.stopping.cancelled() => return Left::Gone,
    };
    match link {
        Ok(Ok(link)) => {
            let party = Party {
                stream: Stream::new(link),
                policy: Arc::clone(&in_force.generation.policy),
                doors: Some(Arc::clone(&in_force.doors)),
                ticket,
                stats: Arc::clone(&process.stats),
                failures: 0,
                registration: None,
            };
            drop(in_force);
            attend(process, Visitor::new(party), deadline).await
        }
        Ok(Err(error)) => {
            if let LinkError::Handshake(cause) = &error {
                process.notices.handshake_failed(peer, cause);
            } else {
                debug!("{error}");
            }
            Left::Gone
        }
        Err(_) => {
            process.notices.handshake_too_slow(peer, PROBATION);
            Left::Gone
        }
    }
}

/// Serves a connection that came too late to join a session. If its client owns a session, that
/// session waits for a peer again; otherwise the connection starts again in the lobby.
pub(super) async fn return_to(process: &Process, newcomer: Box<Newcomer>) -> Left {
    if let Some(registration) = &newcomer.party.registration {
        let arrival = registration.wait();
        return Left::Admitted(newcomer, arrival);
    }
    let Newcomer { party, decoder, unsent, .. } = *newcomer;
    let visitor = Visitor { decoder, unsent, ..Visitor::new(party) };
    attend(process, visitor, clock::now() + PROBATION).await
}

async fn attend(process: &Process, mut visitor: Visitor, deadline: Instant) -> Left {
    let outcome = tokio::select! {
        outcome = timeout_at(deadline.into(), visitor.serve(process)) => outcome,
        () = process.lifecycle.stopping.cancelled() => Ok(Ok(Outcome::Leave)),
    };
    match outcome {
        Ok(Ok(Outcome::Join(delivery))) => visitor.join(delivery),
        Ok(Ok(Outcome::Admit(head, welcome))) => visitor.admit(process, &head, welcome),
        Ok(Ok(Outcome::Leave)) => visitor.leave().await,
        Ok(Err(error)) => {
            debug!("closed: {error}");
            Left::Gone
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
    decoder: Decoder,
    unsent: ChunkQueue,
    /// Requests refused so far.
    refused: u32,
    /// An AUTH whose end-line has not come yet.
    login: Option<Box<Head>>,
    /// Why the SEND at the front of the input must not join a session.
    refusal: Option<Reject>,
}

/// What happens to a connection after the lobby.
enum Outcome {
    /// It joins a session.
    Join(Delivery),
    /// Its client gets a session.
    Admit(Box<Head>, Welcome),
    /// It is closed.
    Leave,
}

/// What came next on the connection.
enum Look {
    /// A SEND that has claimed a session. It is still in the input.
    Join(Delivery),
    /// A complete AUTH.
    Login(Box<Head>),
    /// A request that is refused, and the response if one can be made.
    Refused(Option<BytesMut>),
    /// Input that is dealt with.
    Done,
    /// Nothing: more input is needed.
    Nothing,
    /// The decoder cannot tell where the next message begins. The response, if one can be made.
    Lost(DecodeError, Option<BytesMut>),
}

impl Visitor {
    fn new(party: Party) -> Self {
        Self {
            party,
            decoder: Decoder::new(MAX_STRANGERS_HEAD),
            unsent: ChunkQueue::default(),
            refused: 0,
            login: None,
            refusal: None,
        }
    }

    async fn serve(&mut self, process: &Process) -> Result<Outcome, Loss> {
        loop {
            match self.look(process) {
                Look::Join(delivery) => return Ok(Outcome::Join(delivery)),
                Look::Login(head) => {
                    let arrived = clock::now();
                    match self.decide(process, &head, arrived).await {
                        Verdict::Granted(welcome) => return Ok(Outcome::Admit(head, welcome)),
                        Verdict::Refused { response, failed, close, slowed } => {
                            if slowed && self.turn(process).await? == Turn::Never {
                                return Ok(Outcome::Leave);
                            }
                            if failed {
                                login::step(arrived).await;
                            }
                            self.say(response);
                            self.party.failures += u32::from(failed);
                            if close {
                                info!("closed: {} failed AUTHs", self.party.failures);
                                return Ok(Outcome::Leave);
                            }
                        }
                    }
                }
                Look::Refused(response) => {
                    if self.refuse(process, response).await? == Turn::Never {
                        return Ok(Outcome::Leave);
                    }
                    self.refused += 1;
                    if self.refused >= MAX_REFUSED {
                        info!("closed: {} requests refused", self.refused);
                        return Ok(Outcome::Leave);
                    }
                }
                Look::Done => {}
                Look::Lost(error, response) => {
                    info!("closed: {error}");
                    // Closed in any case.
                    let _ = self.refuse(process, response).await?;
                    return Ok(Outcome::Leave);
                }
                Look::Nothing => {
                    self.flush().await?;
                    let stream = &mut self.party.stream;
                    if stream.fill(BLOCKS).await.is_err() {
                        return Err(stream.take_ended().unwrap_or(Loss::Closed));
                    }
                }
            }
        }
    }

    /// Decodes what comes next. A SEND that joins a session stays in the input, because the session
    /// must read it.
    fn look(&mut self, process: &Process) -> Look {
        let Self { party: Party { stream, .. }, decoder, .. } = self;
        if self.refusal.is_none()
            && let Ok(Some(Event::Head(head))) = decoder.peek(&mut stream.input)
            && is_joining(&head)
        {
            let claimed = session::check_send(&head).and_then(|()| process.registry.claim(&head));
            match claimed {
                Ok(delivery) => return Look::Join(delivery),
                Err(reject) => self.refusal = Some(reject),
            }
        }
        match decoder.next(&mut stream.input) {
            Ok(None) => {
                session::log_stray(decoder);
                return Look::Nothing;
            }
            Ok(Some(Event::Head(head))) => return self.head(process, head),
            Ok(Some(Event::Malformed(message))) => {
                let reject = Reject::Unintelligible(message.error);
                return Look::Refused(refusal_of_malformed(&message, &reject));
            }
            Ok(Some(Event::Body(_) | Event::Collision)) => {}
            Ok(Some(Event::End(_))) => {
                if let Some(head) = self.login.take() {
                    return Look::Login(head);
                }
            }
            Err(error) => {
                let response = match &error {
                    DecodeError::Head { limit, message: Some(message) } => {
                        refusal_of_malformed(message, &Reject::TooLarge(limit))
                    }
                    _ => None,
                };
                return Look::Lost(error, response);
            }
        }
        Look::Done
    }

    fn head(&mut self, process: &Process, head: Head) -> Look {
        let Start::Request(method) = &head.start else { return Look::Done };
        let (peer, to) = (self.party.peer(), head.to_path.first());
        let reject = if session::is_login(method, &head) {
            match head.headers.check() {
                Ok(()) => {
                    self.login = Some(Box::new(head));
                    return Look::Done;
                }
                Err(error) => {
                    process.notices.login_refused(peer, ("", to.host()), &error);
                    error.into()
                }
            }
        } else {
            let reject = self.refusal.take();
            let reject = reject.unwrap_or_else(|| Reject::UnknownMethod(method.clone()));
            if let Reject::NoSession(_) = reject {
                process.notices.not_joined(peer, to, &reject);
            } else {
                debug!("{method} refused: {reject}");
            }
            reject
        };
        Look::Refused(refusal(&head, &reject))
    }

    async fn decide(&self, process: &Process, head: &Head, arrived: Instant) -> Verdict {
        login::decide(process, &self.party.claimant(false), head, arrived).await
    }

    /// Says that a request is refused, when that may be said.
    async fn refuse(
        &mut self,
        process: &Process,
        response: Option<BytesMut>,
    ) -> Result<Turn, Loss> {
        let Some(response) = response else { return Ok(Turn::Now) };
        let turn = self.turn(process).await?;
        if turn == Turn::Now {
            self.say(response);
        }
        Ok(turn)
    }

    /// Waits until a refusal may be sent. Earlier ones leave meanwhile.
    async fn turn(&mut self, process: &Process) -> Result<Turn, Loss> {
        let Self { party: Party { stream, .. }, unsent, .. } = self;
        let turn = process.turn(stream.link().peer(), Patience::Stranger);
        let watch = async {
            match stream.write(unsent).await {
                Ok(()) => stream.hang_up(BLOCKS).await,
                Err(loss) => loss,
            }
        };
        let turn = tokio::select! {
            biased;
            turn = turn => turn,
            loss = watch => return Err(loss),
        };
        if turn == Turn::Never {
            debug!("closed: too many refusals to this address");
        }
        Ok(turn)
    }

    fn newcomer(self, holding: Option<Holding>) -> Box<Newcomer> {
        let Self { party, mut decoder, unsent, .. } = self;
        decoder.set_max_head(MAX_HEAD);
        Box::new(Newcomer { party, decoder, unsent, holding })
    }

    fn join(self, delivery: Delivery) -> Left {
        match delivery.send(self.newcomer(None)) {
            Ok(()) => Left::Gone,
            // The session has just ended. When the lobby reads the SEND again, it answers 481.
            Err(newcomer) => Left::Returned(newcomer),
        }
    }

    fn admit(mut self, process: &Process, head: &Head, welcome: Welcome) -> Left {
        let policy = Arc::clone(&self.party.policy);
        let uri = match policy.mint(&session_id()) {
            Ok(uri) => uri,
            Err(error) => {
                tracing::error!("closed: cannot make the URI of a session: {error}");
                return Left::Gone;
            }
        };
        let response = welcome.response(head, &uri);
        let Welcome { user, realm, expiry, ticket, .. } = welcome;
        let span = info_span!(
            parent: None,
            "session",
            id = shortened(uri.session_id().unwrap_or_default()),
            user = %format_args!("{}@{}", Quoted(&user), Quoted(&realm)),
        );
        let client = head.from_path.clone();
        let info = SessionInfo {
            uri: uri.clone(),
            client: client.clone(),
            user,
            realm,
            peer: self.party.peer(),
            since: clock::now(),
            traffic: Arc::clone(self.party.stream.traffic()),
            token: process.lifecycle.stopping.child_token(),
        };
        span.in_scope(|| info!("session started, peer {}", info.peer));
        let (registration, arrival) = process.registry.register(info, span, ticket);
        process.stats.started.fetch_add(1, Ordering::Relaxed);
        self.party.registration = Some(registration);
        self.party.ticket.know();
        self.say(response);
        let holding = Holding {
            uri,
            client,
            expiry,
            other_methods: policy.login.allow_other_methods,
            max_auth_attempts: policy.login.max_auth_attempts,
            idle_timeout: process.configuration.idle_timeout(),
        };
        Left::Admitted(self.newcomer(Some(holding)), arrival)
    }

    /// Writes the responses that are left, and closes.
    async fn leave(mut self) -> Left {
        let flushed = tokio::time::timeout(CLOSE, self.flush()).await;
        if let Ok(Ok(())) = flushed {
            let closed = self.party.stream.close(CLOSE).in_current_span().await;
            closed.unwrap_or_else(|error| debug!("{error}"));
        }
        Left::Gone
    }

    fn say(&mut self, response: BytesMut) {
        self.unsent.push_chunk(response.freeze());
    }

    async fn flush(&mut self) -> Result<(), Loss> {
        self.party.stream.write(&mut self.unsent).await
    }
}

/// Whether a request may join a session: a SEND, which RFC 4975 §5.4 wants first, with a path that
/// goes on behind the relay's URI.
fn is_joining(head: &Head) -> bool {
    matches!(head.start, Start::Request(Method::Send)) && head.to_path.len() > 1
}

/// 128 random bits, in characters that a URI may have. Whoever knows the session-id can join the
/// session, so it must be impossible to guess (RFC 4975 §14.1).
fn session_id() -> String {
    let mut bytes = [0; 16];
    // The kernel's generator cannot fail on a running system. If it does, our own generator, which
    // was seeded from it, takes its place.
    if SysRng.try_fill_bytes(&mut bytes).is_err() {
        rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}
