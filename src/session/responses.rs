//! Responses: the transactions that they complete, and where they are passed on (RFC 4976 §6.4.3).

use std::time::Instant;

use bytes::BytesMut;

use super::{
    Binding, Life, Session,
    deadlines::{Auth, Sent, Transaction},
    outbox::Frame,
    side::{Inbound, Leg},
};
use crate::msrp::{
    Continuation, Head, Name, Path, StatusCode, TransactId, Uri, digest::Challenge, encode,
};

impl Session {
    /// RFC 4976 §6.4.3. A response to no request of ours is dropped.
    pub(super) fn response(
        &mut self,
        from: Leg,
        head: &Head,
        status: StatusCode,
        comment: &[u8],
        now: Instant,
    ) {
        if !self.is_for(from, &head.to_path) || self.life == Life::Ended {
            return;
        }
        let outbox = &mut self.side_mut(from).outbox;
        if outbox.is_leaving(head.transact_id) {
            outbox.answer_early();
            if !status.is_ok() {
                self.stop(from, status, comment, now);
            }
            return;
        }
        match outbox.transactions.complete(&head.transact_id) {
            Some(Transaction::Send(sent)) if !status.is_ok() => {
                self.failed(from, &sent, status, comment, now);
            }
            Some(Transaction::Other { incoming, auth }) => {
                self.forward_response(from, head, (status, comment), (incoming, auth), now);
            }
            Some(Transaction::Send(_)) | None => {}
        }
    }

    /// The next hop refused a chunk.
    fn failed(&mut self, by: Leg, sent: &Sent, status: StatusCode, comment: &[u8], now: Instant) {
        self.report(by.other(), sent, status, comment, now);
        if status != StatusCode::STOP_SENDING {
            return;
        }
        // RFC 4975 §10.5: no more of this message is passed on.
        self.side_mut(by.other()).stopped = Some(sent.message_id.clone());
        if self.side(by).outbox.is_under_way(&sent.message_id) {
            self.stop(by, status, comment, now);
        }
    }

    /// Gives up the SEND that is under way to leg `by`, which refused it.
    fn stop(&mut self, by: Leg, status: StatusCode, comment: &[u8], now: Instant) {
        let Some(sent) = self.side_mut(by).outbox.abandon(now) else { return };
        let sender = self.side_mut(by.other());
        if let Inbound::Stream(acknowledgement) = &mut sender.inbound {
            sender.inbound = Inbound::Discard(acknowledgement.take());
        }
        if status == StatusCode::STOP_SENDING {
            sender.stopped = Some(sent.message_id.clone());
        }
        // Earlier pieces have responses, and so REPORTs, of their own.
        if sent.octets > 0 {
            self.report(by.other(), &sent, status, comment, now);
        }
    }

    fn forward_response(
        &mut self,
        from: Leg,
        head: &Head,
        (status, comment): (StatusCode, &[u8]),
        (incoming, auth): (TransactId, Option<Auth>),
        now: Instant,
    ) {
        let ours = head.to_path.len() > self.own.len();
        if !ours || !self.passes(from, &head.to_path) || head.headers.check().is_err() {
            return;
        }
        match auth {
            Some(_) if status.is_ok() => self.note_use_path(head),
            Some(Auth::Attempt) if is_login_failure(head, status) => {
                self.note_failure(from.other());
            }
            _ => {}
        }
        let mut out = BytesMut::with_capacity(512);
        encode::status_line(&mut out, &incoming, status, comment);
        self.forwarded(&mut out, from, head);
        encode::end_line(&mut out, &incoming, Continuation::End, false);
        let frame = Frame { bytes: out.freeze(), transaction: None, own: false };
        self.side_mut(from.other()).outbox.push(frame, now);
    }

    /// Notes the URI that a relay further out granted to the client: the client will name it in
    /// To-Path, behind that of this relay.
    fn note_use_path(&mut self, head: &Head) {
        let Some(Ok(given)) = head.headers.value(Name::UsePath).map(Path::parse) else { return };
        let given: Vec<Uri> = given.iter().filter(|uri| !self.is_own(uri)).cloned().collect();
        if let Binding::Dialled { use_path, .. } = &mut self.binding {
            *use_path = Path::from_uris(&given);
        }
    }

    /// Counts a failed AUTH at another relay. RFC 4976 §6.3: a client must not guess passwords
    /// through this one for ever.
    fn note_failure(&mut self, client: Leg) {
        let side = self.side_mut(client);
        side.failed_logins += 1;
        let most = side.holding.as_ref().and_then(|holding| holding.max_auth_attempts);
        if most.is_some_and(|most| side.failed_logins >= most.get()) {
            self.locked_out = Some(client);
        }
    }
}

/// Whether the credentials were wrong, and not just their nonce too old.
fn is_login_failure(head: &Head, status: StatusCode) -> bool {
    let stale = |value| Challenge::parse(value).is_ok_and(|challenge| challenge.is_stale());
    status == StatusCode::UNAUTHORIZED && !head.headers.values(Name::WwwAuthenticate).any(stale)
}
