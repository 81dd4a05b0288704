//! Responses: what they complete, and where they go (RFC 4976 §6.4.3).

use std::time::Instant;

use bytes::BytesMut;

use super::{
    Inbound, Leg, Link, Phase, Session,
    outbox::Message,
    transactions::{Sent, Transaction},
};
use crate::msrp::{
    Continuation, FailureReport, Head, Name, Path, StatusCode, TransactId, Uri, encode,
};

impl Session {
    /// RFC 4976 §6.4.3. A response that belongs to nothing is dropped.
    pub(super) fn response(
        &mut self,
        from: Leg,
        head: &Head,
        status: StatusCode,
        comment: &[u8],
        now: Instant,
    ) {
        if Some(head.to_path.first()) != self.own_from(from).next() || self.phase == Phase::Ended {
            return;
        }
        let outbox = &mut self.side_mut(from).outbox;
        if outbox.piece_id() == Some(head.transact_id) {
            outbox.answered_early();
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
    pub(super) fn failed(
        &mut self,
        by: Leg,
        sent: &Sent,
        status: StatusCode,
        comment: &[u8],
        now: Instant,
    ) {
        self.report(by.other(), sent, status, comment, now);
        if status != StatusCode::STOP_SENDING {
            return;
        }
        // RFC 4975 §10.5: whatever else there is of this message stays here.
        let same = |under_way: &Sent| under_way.message_id == sent.message_id;
        if self.side(by).outbox.under_way().as_ref().is_some_and(same) {
            self.stop(by, status, comment, now);
        } else {
            self.side_mut(by.other()).stopped = Some(sent.message_id.clone());
        }
    }

    /// Gives up the SEND that is on its way to `by`, who refused it.
    pub(super) fn stop(&mut self, by: Leg, status: StatusCode, comment: &[u8], now: Instant) {
        let outbox = &mut self.side_mut(by).outbox;
        let Some(sent) = outbox.under_way() else { return };
        outbox.answered_early();
        outbox.close(Continuation::Abort, now);
        let sender = self.side_mut(by.other());
        if let Inbound::Stream(acknowledgement) = &mut sender.inbound {
            sender.inbound = Inbound::Discard(acknowledgement.take());
        }
        if status == StatusCode::STOP_SENDING {
            sender.stopped = Some(sent.message_id.clone());
        }
        if sent.failure_report != FailureReport::No {
            self.report(by.other(), &sent, status, comment, now);
        }
    }

    pub(super) fn forward_response(
        &mut self,
        from: Leg,
        head: &Head,
        (status, comment): (StatusCode, &[u8]),
        (incoming, auth): (TransactId, bool),
        now: Instant,
    ) {
        let ours = head.to_path.len() > self.own.len()
            && self.own_from(from).eq(&head.to_path[..self.own.len()]);
        if !ours || head.headers.check().is_err() {
            return;
        }
        if auth && status.is_ok() {
            self.note_use_path(head);
        }
        let mut out = BytesMut::with_capacity(512);
        encode::status_line(&mut out, &incoming, status, comment);
        self.forwarded(&mut out, head);
        encode::end_line(&mut out, &incoming, Continuation::End, false);
        let message = Message { bytes: out.freeze(), transaction: None, own: false };
        self.side_mut(from.other()).outbox.push(message, now);
    }

    /// A relay further out gave our client a URI: the client will name it behind ours.
    pub(super) fn note_use_path(&mut self, head: &Head) {
        let Some(Ok(given)) = head.headers.value(Name::UsePath).map(Path::parse) else { return };
        let given: Vec<Uri> = given.iter().filter(|uri| !self.own.contains(uri)).cloned().collect();
        if let Link::Dialled { use_path, .. } = &mut self.link {
            *use_path = Path::from_uris(&given);
        }
    }
}
