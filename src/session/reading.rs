//! The input of a leg: what to do at each event of its decoder.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tracing::{debug, info};

use super::{
    Life, Received, Session, Violation,
    limits::{MAX_OTHER_BODY, WHOLE_SEND},
    report::{Reject, refusal, refusal_of_malformed},
    requests::is_login,
    side::{Collected, Inbound, Leg},
};
use crate::msrp::{
    Allocation, Continuation, DecodeError, Decoder, Event, Head, Malformed, Method, Path, Start,
    TransactId,
};

impl Session {
    pub(super) fn read(
        &mut self,
        from: Leg,
        buf: &mut BytesMut,
        now: Instant,
    ) -> Result<Received, Violation> {
        while self.wants_read(from) {
            if let Some(path) = self.needs_far(from, buf) {
                return Ok(Received::NeedsFar(path));
            }
            let guard = self.outgoing_id(from);
            let side = self.side_mut(from);
            side.decoder.guard(guard);
            let event = match side.decoder.next(buf) {
                Ok(Some(event)) => event,
                Ok(None) => {
                    log_stray(&mut side.decoder);
                    break;
                }
                Err(error) => {
                    self.refuse_lost_place(from, &error, now);
                    return Err(error.into());
                }
            };
            match event {
                Event::Head(head) => self.head(from, head, now),
                Event::Malformed(message) => self.malformed(from, &message, now),
                Event::Body(bytes) => self.body(from, bytes, now)?,
                Event::Collision => self.change_id(from),
                Event::End(flag) => {
                    if let Some(head) = self.message_end(from, flag, now) {
                        return Ok(Received::Auth { leg: from, head });
                    }
                }
            }
            if let Some(leg) = self.locked_out.take() {
                return Ok(Received::LockedOut(leg));
            }
        }
        Ok(Received::Idle)
    }

    /// The transact-id under which the message under way is passed on: its end-line must not occur
    /// in the body.
    fn outgoing_id(&self, from: Leg) -> Option<TransactId> {
        match &self.side(from).inbound {
            Inbound::Stream(_) => self.side(from.other()).outbox.body_id(),
            Inbound::Collect(collected) => Some(collected.id),
            Inbound::Nothing | Inbound::Discard(_) | Inbound::Login(_) => None,
        }
    }

    /// Chooses another id, because the end-line of that one occurs in the body (RFC 4975 §7.1).
    fn change_id(&mut self, from: Leg) {
        let (side, other) = self.sides_mut(from);
        match &mut side.inbound {
            Inbound::Collect(collected) => collected.id = other.outbox.id_for(&collected.body),
            _ => other.outbox.change_id(),
        }
    }

    /// The path of the owner's first request, if that is the next message and it may be passed on.
    fn needs_far(&mut self, from: Leg, buf: &mut BytesMut) -> Option<Path> {
        if self.is_bound() || self.refusal.is_some() || self.life != Life::Open {
            return None;
        }
        debug_assert_eq!(from, Leg::Near, "nobody is there yet");
        // An error is found again when the head is read; then the sender is told.
        let Ok(Some(Event::Head(head))) = self.near.decoder.peek(buf) else { return None };
        let Start::Request(method) = &head.start else { return None };
        if is_login(method, &head) || self.admit(from, &head, method).is_err() {
            return None;
        }
        Path::from_uris(&head.to_path[self.own.len()..])
    }

    fn head(&mut self, from: Leg, head: Head, now: Instant) {
        let method = match &head.start {
            Start::Response { status, comment } => {
                let (status, comment) = (*status, comment.clone());
                self.response(from, &head, status, &comment, now);
                self.side_mut(from).inbound = Inbound::Discard(None);
                return;
            }
            Start::Request(method) => method.clone(),
        };
        let login = is_login(&method, &head);
        let refused = match self.refusal.take_if(|_| !login) {
            Some(reject) => Err(reject),
            None if login => self.admit_login(from, &head),
            None => self.admit(from, &head, &method),
        };
        let inbound = match refused {
            Err(reject) => {
                debug!(?from, to = %head.to_path.first(), "{method} refused: {reject}");
                self.say(from, refusal(&head, &reject), now);
                Inbound::Discard(None)
            }
            Ok(()) if login => Inbound::Login(Box::new(head)),
            Ok(()) if method == Method::Send => self.take_send(from, head, now),
            Ok(()) => Inbound::collect(head, None, self.side(from.other()).outbox.id_for(&[])),
        };
        self.side_mut(from).inbound = inbound;
    }

    fn malformed(&mut self, from: Leg, message: &Malformed, now: Instant) {
        let reject = Reject::Unintelligible(message.error);
        debug!(?from, "message refused: {reject}");
        self.say(from, refusal_of_malformed(message, &reject), now);
        self.side_mut(from).inbound = Inbound::Discard(None);
    }

    fn refuse_lost_place(&mut self, from: Leg, error: &DecodeError, now: Instant) {
        if let DecodeError::Head { limit, message: Some(message) } = error {
            let response = refusal_of_malformed(message, &Reject::TooLarge(limit));
            self.say(from, response, now);
        }
    }

    fn body(&mut self, from: Leg, bytes: Bytes, now: Instant) -> Result<(), Violation> {
        let side = self.side_mut(from);
        match &mut side.inbound {
            Inbound::Stream(_) => {
                let allocation = side.decoder.allocation();
                self.side_mut(from.other()).outbox.body(bytes, allocation, now);
            }
            Inbound::Collect(collected) => {
                let limit = match &collected.head.start {
                    Start::Request(Method::Send) => WHOLE_SEND,
                    _ => MAX_OTHER_BODY,
                };
                if collected.body.len() + bytes.len() <= limit {
                    collected.body.extend_from_slice(&bytes);
                    return Ok(());
                }
                let Inbound::Collect(collected) =
                    std::mem::replace(&mut side.inbound, Inbound::Discard(None))
                else {
                    return Ok(());
                };
                self.outgrown(from, *collected, bytes, now)?;
            }
            Inbound::Nothing | Inbound::Discard(_) | Inbound::Login(_) => {}
        }
        Ok(())
    }

    /// A message grows beyond what may be collected: a SEND is passed on as its body arrives; any
    /// other request is refused, because it must not be cut (RFC 4975 §7.1).
    fn outgrown(
        &mut self,
        from: Leg,
        collected: Collected,
        bytes: Bytes,
        now: Instant,
    ) -> Result<(), Violation> {
        let Collected { head, body, id, send } = collected;
        let Some(sent) = send else {
            let Start::Request(method) = head.start else { return Ok(()) };
            return Err(Violation::BodyTooLarge(method));
        };
        self.side_mut(from).inbound = self.stream(from, &head, sent, id, now);
        let (side, other) = self.sides_mut(from);
        if !body.is_empty() {
            let allocation = Allocation::of(&body);
            other.outbox.body(body.freeze(), allocation, now);
        }
        other.outbox.body(bytes, side.decoder.allocation(), now);
        Ok(())
    }

    /// Does what is due at an end-line; returns the AUTH that ended there, if it was one.
    fn message_end(&mut self, from: Leg, flag: Continuation, now: Instant) -> Option<Box<Head>> {
        match std::mem::replace(&mut self.side_mut(from).inbound, Inbound::Nothing) {
            Inbound::Nothing => {}
            Inbound::Discard(acknowledgement) => self.acknowledge(from, acknowledgement, now),
            Inbound::Collect(collected) => self.forward(from, *collected, flag, now),
            Inbound::Stream(acknowledgement) => {
                self.side_mut(from.other()).outbox.close(flag, now);
                self.acknowledge(from, acknowledgement, now);
            }
            Inbound::Login(head) => {
                self.side_mut(from).authenticating = true;
                return Some(head);
            }
        }
        None
    }
}

/// Tells the operator, once per connection, of a start line that the relay does not understand.
pub fn log_stray(decoder: &mut Decoder) {
    if let Some(line) = decoder.take_stray() {
        info!("skipped a line that is no MSRP start line: {line}");
    }
}
