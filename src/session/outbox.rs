//! One leg's outgoing side: a FIFO of encoded bytes, in which a long SEND gives way to whatever
//! is queued behind it.
//!
//! The interruption happens at the tail of the queue, when the other message is queued: the SEND
//! under way gets an end-line with `+`, the message follows, and the next octet of body starts a
//! piece with a head of its own (RFC 4975 §7.1.1). So there is no scheduler and no priority.

use std::{collections::VecDeque, time::Instant};

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use tracing::trace;

use super::{
    deadlines::{Sent, Transaction, Transactions},
    limits::{LONGEST_HOLD, Limits, MIN_PIECE, PIECE_PAUSE},
};
use crate::msrp::{
    Allocation, ByteRange, ChunkQueue, Continuation, FailureReport, TransactId,
    encode::{self, Template},
};

/// What goes out on one leg, and what was sent there and is not answered yet.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: ChunkQueue,
    pub(super) transactions: Transactions,
    open: Option<OpenSend>,
    /// Messages that wait until the piece under way may be ended.
    held: VecDeque<Message>,
    /// Since when the first of them waits.
    held_since: Option<Instant>,
    own: OwnOctets,
    /// The socket takes nothing more, and not all that it was offered has gone.
    blocked: bool,
    /// Since when the peer has taken nothing, while something waits.
    waiting_since: Option<Instant>,
    new_id: fn() -> TransactId,
}

/// A whole message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) bytes: Bytes,
    /// What to remember of it until it is answered.
    pub(super) transaction: Option<(TransactId, Transaction)>,
    /// Whether the relay made it, rather than passing it on.
    pub(super) own: bool,
}

impl Message {
    /// A response or REPORT of the relay's own.
    pub(super) fn own(bytes: BytesMut) -> Self {
        Self { bytes: bytes.freeze(), transaction: None, own: true }
    }
}

/// A long SEND on its way through.
#[derive(Debug)]
struct OpenSend {
    template: Template,
    /// The range of what is still to be sent; its end is always open.
    range: ByteRange,
    from: Sent,
    /// Of the piece under way, or of the next one: it is chosen before the body is seen, so that
    /// the decoder can look out for it.
    id: TransactId,
    piece: Option<Piece>,
    /// Whether a piece of it has left.
    interrupted: bool,
    last_body: Instant,
}

/// The piece of a SEND whose head has been queued, and whose end-line has not.
#[derive(Debug)]
struct Piece {
    octets: u64,
    answered: bool,
}

/// Octets queued that the relay made itself: a peer that reads nothing must not grow them.
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

    /// Octets of memory that wait to be sent.
    pub(super) fn cost(&self) -> usize {
        self.queue.cost() + self.held.iter().map(|message| message.bytes.len()).sum::<usize>()
    }

    /// Octets that the relay made itself and that wait to be sent.
    pub(super) fn own_octets(&self) -> usize {
        self.own.total
    }

    /// A transact-id for a request to be sent here, which its body does not hold (RFC 4975 §7.1).
    pub(super) fn id_for(&self, body: &[u8]) -> TransactId {
        loop {
            let id = (self.new_id)();
            if memmem::find(body, id.as_bytes()).is_none() {
                return id;
            }
        }
    }

    /// Queues bytes that were encoded elsewhere, before anything else.
    pub(super) fn adopt(&mut self, queue: ChunkQueue, now: Instant) {
        debug_assert!(self.queue.is_empty() && self.open.is_none());
        self.queue = queue;
        self.mark_waiting(now);
    }

    /// Gives up what is queued, for another outbox to adopt.
    pub(super) fn into_queue(self) -> ChunkQueue {
        self.queue
    }

    /// Queues a whole message, between two pieces of a long SEND if one is under way.
    pub(super) fn push(&mut self, message: Message, now: Instant) {
        if message.own {
            self.own.total += message.bytes.len();
        }
        match self.open.as_ref().and_then(|open| open.piece.as_ref()) {
            Some(piece) if piece.octets < MIN_PIECE => {
                self.held_since.get_or_insert(now);
                return self.held.push_back(message);
            }
            Some(_) => self.interrupt(),
            None => {}
        }
        self.append(message);
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

    /// The body under way goes on with what would be its own end-line: that has to leave under
    /// another id (RFC 4975 §7.1).
    pub(super) fn change_id(&mut self) {
        self.interrupt();
        self.release();
    }

    /// Ends the SEND under way.
    pub(super) fn close(&mut self, flag: Continuation, now: Instant) {
        let Some(open) = &self.open else { return };
        // Where nothing came since the interruption, that piece said already that more follows;
        // another flag still has to be said.
        if !(flag == Continuation::More && open.interrupted) {
            self.begin_piece();
        }
        self.end_piece(flag);
        self.open = None;
        self.release();
        self.mark_waiting(now);
    }

    /// Gives up the SEND under way: what was sent of it is ended with `#`, and nobody is waited
    /// for. Returns it as its sender would hear of it.
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

    /// The response to the piece under way came before its end-line: none is waited for.
    pub(super) fn answer_early(&mut self) {
        if let Some(piece) = self.open.as_mut().and_then(|open| open.piece.as_mut()) {
            piece.answered = true;
        }
    }

    /// The socket took `octets`.
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

    /// Whether the socket is blocked; said again whenever it took something.
    pub(super) fn set_blocked(&mut self, blocked: bool, now: Instant) {
        self.blocked = blocked;
        self.restart_waiting(now);
    }

    /// Whether the socket takes nothing more.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Since when the peer has taken nothing of what waits for it.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// When a message that is held back has waited long enough for more body.
    pub(super) fn pause_deadline(&self) -> Option<Instant> {
        let (open, since) = (self.open.as_ref()?, self.held_since?);
        Some((open.last_body + PIECE_PAUSE).min(since + LONGEST_HOLD))
    }

    /// Ends the piece under way if a message has been held back for long enough.
    pub(super) fn expire_pause(&mut self, now: Instant) {
        if self.pause_deadline().is_some_and(|deadline| deadline <= now) {
            self.interrupt();
            self.release();
            self.mark_waiting(now);
        }
    }

    /// Gives up everything that was sent here and not answered, or was being sent.
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

    /// Ends the piece under way, if there is one; more of its SEND will follow under another id.
    fn interrupt(&mut self) {
        self.end_piece(Continuation::More);
        if let Some(open) = &mut self.open {
            open.id = (self.new_id)();
        }
    }

    /// Queues what was held back.
    fn release(&mut self) {
        self.held_since = None;
        while let Some(message) = self.held.pop_front() {
            self.append(message);
        }
    }

    fn append(&mut self, message: Message) {
        let len = message.bytes.len();
        self.queue.push(message.bytes);
        self.queue.mark_chunk_end();
        let end = self.queue.end();
        if message.own {
            self.own.queued.push_back((end, len));
        }
        if let Some((id, transaction)) = message.transaction {
            self.transactions.register(id, end, transaction);
        }
    }

    /// The peer has just taken something.
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
