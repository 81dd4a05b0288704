//! The outgoing side of one leg: a FIFO of encoded bytes, in which other messages interrupt a long
//! SEND (RFC 4975 §7.1.1).
//!
//! The interruption happens at the tail of the queue, when the other message is queued: the piece
//! of the SEND that is under way gets an end-line with `+`, the message follows, and the next octet
//! of body begins a piece with a head of its own. So there is no scheduler and no priority.

use std::{collections::VecDeque, time::Instant};

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use tracing::trace;

use super::{
    deadlines::{Arrival, Sent, Transaction, Transactions},
    limits::{LONGEST_HOLD, LOOK, Limits, MIN_PIECE, PIECE_PAUSE},
};
use crate::msrp::{
    Allocation, ByteRange, ChunkQueue, Continuation, FailureReport, TransactId,
    encode::{self, Template},
};

/// What waits to be written to one leg, and the requests to it that are unanswered.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: ChunkQueue,
    pub(super) transactions: Transactions,
    open: Option<OpenSend>,
    /// Frames that wait until the piece under way may be ended.
    held: VecDeque<Frame>,
    /// When the first of them was held back.
    held_since: Option<Instant>,
    own: OwnOctets,
    /// Whether the socket takes nothing more, although bytes wait for it.
    blocked: bool,
    /// Since when bytes have waited and the peer has taken none; `None` while nothing waits.
    waiting_since: Option<Instant>,
    new_id: fn() -> TransactId,
}

/// A whole request or response, encoded.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// `Some` if it is a request to be answered.
    pub(super) transaction: Option<(TransactId, Transaction)>,
    /// Whether the relay made it; otherwise it is passed on.
    pub(super) own: bool,
}

impl Frame {
    /// A response or REPORT of the relay's own.
    pub(super) fn own(bytes: BytesMut) -> Self {
        Self { bytes: bytes.freeze(), transaction: None, own: true }
    }
}

/// A long SEND that is passed on as its body arrives.
#[derive(Debug)]
struct OpenSend {
    template: Template,
    /// The range of the piece under way or, between two pieces, of the next one; its end is always
    /// open.
    range: ByteRange,
    from: Sent,
    /// The transact-id of the piece under way, or of the next one. It is chosen before the body is
    /// read, so that the decoder can look for it there.
    id: TransactId,
    piece: Option<Piece>,
    /// Whether a piece of it has been ended with `+`.
    interrupted: bool,
    last_body: Instant,
}

/// The piece of a SEND whose head is queued and whose end-line is not.
#[derive(Debug)]
struct Piece {
    octets: u64,
    /// Whether a response to it has come already.
    answered: bool,
}

/// Octets of the relay's own messages that wait to be sent.
#[derive(Debug, Default)]
struct OwnOctets {
    total: usize,
    /// Position of the end of each message, and its length.
    queued: VecDeque<(u64, usize)>,
}

impl Outbox {
    pub(super) fn new(new_id: fn() -> TransactId, limits: &Limits) -> Self {
        Self {
            queue: ChunkQueue::default(),
            transactions: Transactions::new(2 * limits.transactions, limits.silent),
            open: None,
            held: VecDeque::new(),
            held_since: None,
            own: OwnOctets::default(),
            blocked: false,
            waiting_since: None,
            new_id,
        }
    }

    pub(super) fn queue(&self) -> &ChunkQueue {
        &self.queue
    }

    /// Octets of memory that what waits to be sent takes.
    pub(super) fn cost(&self) -> usize {
        self.queue.cost() + self.held.iter().map(|message| message.bytes.len()).sum::<usize>()
    }

    /// Octets of the relay's own messages that wait to be sent.
    pub(super) fn own_octets(&self) -> usize {
        self.own.total
    }

    /// A transact-id for a request to this leg that does not occur in its body (RFC 4975 §7.1).
    pub(super) fn id_for(&self, body: &[u8]) -> TransactId {
        loop {
            let id = (self.new_id)();
            if memmem::find(body, id.as_bytes()).is_none() {
                return id;
            }
        }
    }

    /// Takes over a queue that was filled before this leg was part of a session.
    pub(super) fn adopt(&mut self, queue: ChunkQueue, now: Instant) {
        debug_assert!(self.queue.is_empty() && self.open.is_none());
        self.queue = queue;
        self.mark_waiting(now);
    }

    /// The queue, for another outbox to adopt.
    pub(super) fn into_queue(self) -> ChunkQueue {
        self.queue
    }

    /// Queues a frame, between two pieces of a long SEND if one is under way.
    pub(super) fn push(&mut self, frame: Frame, now: Instant) {
        if frame.own {
            self.own.total += frame.bytes.len();
        }
        match self.open.as_ref().and_then(|open| open.piece.as_ref()) {
            Some(piece) if piece.octets < MIN_PIECE => {
                self.held_since.get_or_insert(now);
                return self.held.push_back(frame);
            }
            Some(_) => self.interrupt(),
            None => {}
        }
        self.append(frame);
        self.mark_waiting(now);
    }

    /// Begins a SEND that leaves as its body arrives. Its head is queued with the first octet.
    pub(super) fn open(&mut self, template: Template, from: Sent, id: TransactId, now: Instant) {
        debug_assert!(self.open.is_none(), "two SENDs at once in one direction");
        let range = ByteRange { end: None, ..from.range };
        self.open = Some(OpenSend {
            template,
            range,
            from,
            id,
            piece: None,
            interrupted: false,
            last_body: now,
        });
    }

    /// Queues octets of body of the SEND under way, in the allocation that they were read into.
    pub(super) fn body(&mut self, bytes: Bytes, allocation: Allocation, now: Instant) {
        self.begin_piece();
        let Some(open) = &mut self.open else { return };
        let Some(piece) = &mut open.piece else { return };
        piece.octets += bytes.len() as u64;
        open.last_body = now;
        let enough = piece.octets >= MIN_PIECE;
        self.queue.push_from(bytes, allocation);
        if enough && !self.held.is_empty() {
            self.interrupt();
            self.release();
        }
        self.mark_waiting(now);
    }

    /// Goes on under another id, because the next octets of body would be an end-line of this one
    /// (RFC 4975 §7.1).
    pub(super) fn change_id(&mut self) {
        self.interrupt();
        self.release();
    }

    /// Ends the SEND under way.
    pub(super) fn close(&mut self, flag: Continuation, now: Instant) {
        let Some(open) = &self.open else { return };
        // After an interruption without an octet since, `+` has been sent already; `$` and `#`
        // still need a piece to be sent with.
        if !(flag == Continuation::More && open.interrupted) {
            self.begin_piece();
        }
        self.end_piece(flag);
        self.open = None;
        self.release();
        self.mark_waiting(now);
    }

    /// Gives up the SEND under way: its piece is ended with `#`, and no response to that piece is
    /// awaited. Returns what a REPORT about the piece needs.
    pub(super) fn abandon(&mut self, now: Instant) -> Option<Sent> {
        let open = self.open.as_ref()?;
        let octets = open.piece.as_ref().map_or(0, |piece| piece.octets);
        let sent = Sent { range: open.range, octets, ..open.from.clone() };
        self.begin_piece();
        self.answer_early();
        self.close(Continuation::Abort, now);
        Some(sent)
    }

    /// The id under which the body under way leaves.
    pub(super) fn body_id(&self) -> Option<TransactId> {
        self.open.as_ref().map(|open| open.id)
    }

    /// Whether a piece is leaving under this id.
    pub(super) fn is_leaving(&self, id: TransactId) -> bool {
        self.open.as_ref().is_some_and(|open| open.piece.is_some() && open.id == id)
    }

    /// Whether the SEND under way is a chunk of this message.
    pub(super) fn is_under_way(&self, message_id: &[u8]) -> bool {
        self.open.as_ref().is_some_and(|open| open.from.message_id == message_id)
    }

    /// Notes that the response to the piece under way came before its end-line: none is awaited.
    pub(super) fn answer_early(&mut self) {
        if let Some(piece) = self.open.as_mut().and_then(|open| open.piece.as_mut()) {
            piece.answered = true;
        }
    }

    /// Notes that the socket took `octets`.
    pub(super) fn sent(&mut self, octets: usize, now: Instant) {
        if octets == 0 {
            return;
        }
        self.queue.advance(octets);
        let taken = self.queue.taken();
        self.transactions.sent(taken, now);
        self.own.taken(taken);
        self.restart_waiting(now);
    }

    /// Notes what has arrived at the peer's kernel of the octets that the socket took. Returns whether
    /// that is more than was known.
    pub(super) fn arrived(&mut self, arrival: &Arrival, now: Instant) -> bool {
        let has_more = self.transactions.arrived(self.queue.taken(), arrival, now);
        if has_more {
            self.waiting_since = self.waiting_since.map(|since| since.max(arrival.at));
        }
        has_more
    }

    /// Notes whether the socket is blocked, or that a blocked socket took something.
    pub(super) fn set_blocked(&mut self, blocked: bool, now: Instant) {
        self.blocked = blocked;
        self.restart_waiting(now);
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Since when the peer has taken nothing of what waits for it, here or in the kernel; `None` if
    /// nothing waits.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        [self.waiting_since, self.transactions.unacknowledged_since()].into_iter().flatten().min()
    }

    /// When to look what the peer has of the octets that the socket took: shortly after the socket
    /// took no more, so that it is known later whether the peer has taken something since.
    pub(super) fn look_deadline(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        self.transactions.looked().is_none_or(|looked| looked < since).then_some(since + LOOK)
    }

    /// When the piece under way is interrupted for a message that is held back, however short the
    /// piece is.
    pub(super) fn pause_deadline(&self) -> Option<Instant> {
        let (open, since) = (self.open.as_ref()?, self.held_since?);
        Some((open.last_body + PIECE_PAUSE).min(since + LONGEST_HOLD))
    }

    /// Interrupts the piece under way if a message has been held back for long enough.
    pub(super) fn expire_pause(&mut self, now: Instant) {
        if self.pause_deadline().is_some_and(|deadline| deadline <= now) {
            self.interrupt();
            self.release();
            self.mark_waiting(now);
        }
    }

    /// Gives up all SENDs to this leg that are unanswered or under way, and returns them.
    pub(super) fn fail(&mut self, now: Instant) -> Vec<Sent> {
        let sends = self.transactions.drain().filter_map(|transaction| match transaction {
            Transaction::Send(sent) => Some(sent),
            Transaction::Other { .. } => None,
        });
        let mut sends: Vec<Sent> = sends.collect();
        sends.extend(self.abandon(now));
        sends
    }

    fn begin_piece(&mut self) {
        let Some(open) = self.open.as_mut().filter(|open| open.piece.is_none()) else { return };
        self.queue.write(|out| open.template.write(out, &open.id, &open.range));
        open.piece = Some(Piece { octets: 0, answered: false });
    }

    fn end_piece(&mut self, flag: Continuation) {
        let Some(open) = &mut self.open else { return };
        let Some(piece) = open.piece.take() else { return };
        trace!(range = %open.range, octets = piece.octets, "piece of a SEND passed on");
        self.queue.write(|out| encode::end_line(out, &open.id, flag, true));
        self.queue.mark_chunk_end();
        if open.from.failure_report != FailureReport::No && !piece.answered {
            let sent = Sent { range: open.range, octets: piece.octets, ..open.from.clone() };
            self.transactions.register(open.id, self.queue.end(), Transaction::Send(sent));
        }
        open.range.start = open.range.start.saturating_add(piece.octets);
        open.interrupted = true;
    }

    /// Ends the piece under way, if there is one, with `+`. The next one gets another id.
    fn interrupt(&mut self) {
        self.end_piece(Continuation::More);
        if let Some(open) = &mut self.open {
            open.id = (self.new_id)();
        }
    }

    /// Queues the messages that were held back.
    fn release(&mut self) {
        self.held_since = None;
        while let Some(frame) = self.held.pop_front() {
            self.append(frame);
        }
    }

    fn append(&mut self, frame: Frame) {
        let len = frame.bytes.len();
        self.queue.push_chunk(frame.bytes);
        let end = self.queue.end();
        if frame.own {
            self.own.queued.push_back((end, len));
        }
        if let Some((id, transaction)) = frame.transaction {
            self.transactions.register(id, end, transaction);
        }
    }

    /// The peer has just taken something: its time to take more begins anew.
    fn restart_waiting(&mut self, now: Instant) {
        self.waiting_since = (self.blocked || !self.queue.is_empty()).then_some(now);
    }

    fn mark_waiting(&mut self, now: Instant) {
        if !self.queue.is_empty() {
            self.waiting_since.get_or_insert(now);
        }
    }
}

impl OwnOctets {
    fn taken(&mut self, position: u64) {
        while let Some(&(end, len)) = self.queued.front()
            && end <= position
        {
            self.total -= len;
            self.queued.pop_front();
        }
    }
}
