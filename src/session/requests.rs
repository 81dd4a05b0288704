//! Requests: whether they are passed on, and how (RFC 4976 §6.2, §6.3, §6.4).

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tracing::trace;

use super::{
    Binding, Life, Session,
    deadlines::{Auth, Sent, Transaction},
    limits::{MAX_MESSAGE_ID, WHOLE_SEND},
    outbox::Frame,
    report::{Acknowledgement, Reject, detail},
    side::{Collected, Inbound, Leg},
};
use crate::msrp::{
    ByteRange, Continuation, FailureReport, Head, HeaderError, Method, Name, Path, Start,
    TransactId, Uri,
    encode::{self, Template},
};

impl Session {
    /// Whether an AUTH to this relay may be looked up. Only the connection that holds a session can
    /// extend it.
    pub(super) fn admit_login(&self, from: Leg, head: &Head) -> Result<(), Reject> {
        head.headers.check()?;
        let side = self.side(from);
        let Some(holding) = &side.holding else {
            return Err(Reject::NoSession(detail::WRONG_SESSION));
        };
        let asked = head.to_path.first().session_id();
        if asked.is_some_and(|id| Some(id) != holding.uri.session_id()) {
            return Err(Reject::NoSession(detail::WRONG_SESSION));
        }
        if head.from_path != holding.client {
            return Err(Reject::NoSession(detail::SOURCE));
        }
        if side.authenticating {
            return Err(Reject::Busy);
        }
        Ok(())
    }

    /// Whether a request may be passed on (RFC 4976 §6.4). Changes nothing.
    pub(super) fn admit(&self, from: Leg, head: &Head, method: &Method) -> Result<(), Reject> {
        self.route(from, head, method)?;
        let known =
            matches!(method, Method::Send | Method::Report | Method::Auth | Method::Nickname);
        if !known && !self.serves_other_methods(from) {
            return Err(Reject::UnknownMethod(method.clone()));
        }
        head.headers.check()?;
        if *method != Method::Send {
            return Ok(());
        }
        // RFC 4975 §10.5: no further chunks after a 413.
        let message_id = message_id(head)?;
        if self.side(from).stopped.as_deref() == Some(message_id) {
            return Err(Reject::StopSending);
        }
        Ok(())
    }

    fn route(&self, from: Leg, head: &Head, method: &Method) -> Result<(), Reject> {
        let no_session = |detail| Err(Reject::NoSession(detail));
        let beyond = &head.to_path[self.own.len().min(head.to_path.len())..];
        if self.life != Life::Open {
            return no_session(detail::NONE);
        }
        if !self.is_for(from, &head.to_path) {
            return no_session(detail::WRONG_SESSION);
        }
        if beyond.is_empty() {
            return no_session(detail::NOWHERE);
        }
        if !self.passes(from, &head.to_path) {
            return no_session(detail::DESTINATION);
        }
        if !self.is_source(from, head, method) {
            return no_session(detail::SOURCE);
        }
        if !self.is_destination(from, beyond, method) {
            return no_session(detail::DESTINATION);
        }
        Ok(())
    }

    fn is_source(&self, from: Leg, head: &Head, method: &Method) -> bool {
        match &self.side(from).peer_path {
            Some(path) => head.from_path == *path,
            // The first SEND says what the peer's path is.
            None => *method == Method::Send && self.leads_to(head.from_path.first()),
        }
    }

    fn is_destination(&self, from: Leg, beyond: &[Uri], method: &Method) -> bool {
        // RFC 4976 §9.4: a path that leads back to this session is a loop.
        if beyond.iter().any(|uri| self.is_own(uri)) {
            return false;
        }
        match &self.side(from.other()).peer_path {
            Some(path) if beyond == &path[..] => true,
            // An AUTH goes to a relay on the path to the peer.
            Some(_) => *method == Method::Auth && from == Leg::Near && self.is_dialled(&beyond[0]),
            None => self.leads_to(&beyond[0]),
        }
    }

    /// Whether the far leg, whose path is not known yet, may lead to this URI. Any next hop may be
    /// dialled, and any stranger may arrive; what was dialled leads there only.
    fn leads_to(&self, hop: &Uri) -> bool {
        matches!(self.binding, Binding::None | Binding::Arrived) || self.is_dialled(hop)
    }

    /// Whether this is the URI that was dialled, or one that a relay there granted to the client.
    fn is_dialled(&self, hop: &Uri) -> bool {
        let Binding::Dialled { next_hop, use_path } = &self.binding else { return false };
        next_hop == hop || use_path.as_ref().is_some_and(|path| path.contains(hop))
    }

    fn serves_other_methods(&self, from: Leg) -> bool {
        let holding = self.side(from).holding.as_ref().or(self.near.holding.as_ref());
        holding.is_none_or(|holding| holding.other_methods)
    }

    /// How the body of an admitted SEND is to be read.
    pub(super) fn take_send(&mut self, from: Leg, head: Head, now: Instant) -> Inbound {
        self.fix_parties(from, &head);
        // Both were checked before the SEND was admitted.
        let range = head.headers.byte_range().ok().flatten();
        let failure_report = head.headers.failure_report().unwrap_or(FailureReport::Yes);
        let peer_path = self.side(from).peer_path.as_ref();
        let sent = Sent {
            failure_report,
            // It equals From-Path, and its memory is shared.
            from_path: peer_path.unwrap_or(&head.from_path).clone(),
            // A copy: it is kept for up to 30 s, and a slice would keep the read buffer as long.
            message_id: Bytes::copy_from_slice(head.headers.value(Name::MessageId).unwrap_or(b"")),
            range: range.unwrap_or(ByteRange::WHOLE),
            octets: 0,
        };
        let long = |range: ByteRange| range.declared().is_none_or(|n| n > WHOLE_SEND as u64);
        let id = self.side(from.other()).outbox.id_for(&[]);
        if head.has_body && range.is_some_and(long) {
            return self.stream(from, &head, sent, id, now);
        }
        Inbound::collect(head, Some(sent), id)
    }

    /// Notes the paths of both parties, which the first SEND in either direction holds.
    fn fix_parties(&mut self, from: Leg, head: &Head) {
        if self.far.peer_path.is_some() {
            return;
        }
        self.far.peer_path = match from {
            Leg::Near => Path::from_uris(&head.to_path[self.own.len()..]),
            Leg::Far => Some(head.from_path.clone()),
        };
    }

    /// Begins to pass on a SEND as its body arrives.
    pub(super) fn stream(
        &mut self,
        from: Leg,
        head: &Head,
        sent: Sent,
        id: TransactId,
        now: Instant,
    ) -> Inbound {
        let acknowledgement = acknowledgement(head, &sent);
        let template = Template::new(head, self.own_from(from));
        self.side_mut(from.other()).outbox.open(template, sent, id, now);
        Inbound::Stream(acknowledgement)
    }

    /// Passes on a message that was collected whole.
    pub(super) fn forward(
        &mut self,
        from: Leg,
        collected: Collected,
        flag: Continuation,
        now: Instant,
    ) {
        let Collected { head, body, id, send } = collected;
        let Start::Request(method) = &head.start else { return };
        // About its length, because that is what the queue counts for it.
        let lines = head.headers.lines().map(|(_, line)| line.len()).sum::<usize>();
        let mut out = BytesMut::with_capacity(256 + lines + body.len());
        encode::request_line(&mut out, &id, method);
        self.forwarded(&mut out, from, &head);
        // RFC 4975 §7.1: no Content-Type without a body, so that one is empty.
        let has_body = head.has_body || head.headers.value(Name::ContentType).is_some();
        if has_body {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&body);
        }
        encode::end_line(&mut out, &id, flag, has_body);
        let acknowledgement = send.as_ref().and_then(|sent| acknowledgement(&head, sent));
        let octets = body.len() as u64;
        trace!(?from, octets, "{method} passed on");
        let transaction = match (method, send) {
            // RFC 4975 §7.1.2: a REPORT is not answered.
            (Method::Report, _) => None,
            (_, Some(sent)) if sent.failure_report == FailureReport::No => None,
            (_, Some(sent)) => Some(Transaction::Send(Sent { octets, ..sent })),
            (method, None) => Some(Transaction::Other {
                incoming: head.transact_id,
                auth: (*method == Method::Auth).then(|| auth(&head)),
            }),
        };
        let frame = Frame {
            bytes: out.freeze(),
            transaction: transaction.map(|transaction| (id, transaction)),
            own: false,
        };
        self.side_mut(from.other()).outbox.push(frame, now);
        self.acknowledge(from, acknowledgement, now);
    }

    /// Writes the header lines of a message that is passed on, paths first (RFC 4976 §6.4.1).
    pub(super) fn forwarded(&self, out: &mut BytesMut, from: Leg, head: &Head) {
        encode::moved_paths(out, &head.to_path, &head.from_path, self.own_from(from));
        for (_, line) in encode::forwarded_lines(head) {
            out.extend_from_slice(line);
        }
    }
}

/// Whether a SEND has the headers that it must have, wherever it goes.
pub fn check_send(head: &Head) -> Result<(), Reject> {
    head.headers.check()?;
    message_id(head).map(drop)
}

fn message_id(head: &Head) -> Result<&[u8], Reject> {
    let header = Name::MessageId.as_str();
    match head.headers.value(Name::MessageId) {
        None | Some([]) => Err(HeaderError::Missing { method: "SEND", header }.into()),
        Some(id) if id.len() > MAX_MESSAGE_ID => Err(HeaderError::Unreadable(header).into()),
        Some(id) => Ok(id),
    }
}

fn auth(head: &Head) -> Auth {
    match head.headers.value(Name::Authorization) {
        Some(_) => Auth::Attempt,
        None => Auth::Bare,
    }
}

/// Whether a request is an AUTH to this relay, and not to one further out.
pub fn is_login(method: &Method, head: &Head) -> bool {
    *method == Method::Auth && head.to_path.len() == 1
}

/// The 200 to the previous hop (RFC 4976 §6.4.1); none if Failure-Report is `partial` or `no` (RFC
/// 4975 §7.1.4).
fn acknowledgement(head: &Head, sent: &Sent) -> Option<Acknowledgement> {
    (sent.failure_report == FailureReport::Yes).then(|| Acknowledgement::new(head))
}
