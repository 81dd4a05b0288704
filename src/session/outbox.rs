//! One leg's outgoing side: a FIFO of encoded bytes, in which a long SEND gives way to whatever
//! is queued behind it.
//!
//! The interruption happens at the tail of the queue, when the other message is queued: the SEND
//! under way gets an end-line with `+`, the message follows, and the next octet of body starts a
//! piece with a head of its own (RFC 4975 §7.1.1). So there is no scheduler and no priority.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::transactions::{Sent, Transaction, Transactions};
use crate::msrp::{
    ByteRange, ChunkQueue, Continuation, FailureReport, TransactId,
    encode::{self, Template},
};

/// A piece is not ended before it has this many octets, if more is to follow at once (RFC 4975
/// §7.1.1: no chunks below 2048 octets but the last).
pub(super) const MIN_PIECE: u64 = 2048;
/// ... or before its sender has paused for this long.
pub(super) const PIECE_PAUSE: Duration = Duration::from_millis(200);

/// What goes out on one leg, and what was sent there and is not answered yet.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: ChunkQueue,
    pub(super) transactions: Transactions,
    open: Option<OpenSend>,
    /// Messages that wait until the piece under way may be ended.
    held: VecDeque<Message>,
    own: OwnOctets,
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
    piece: Option<Piece>,
    last_body: Instant,
}

/// The piece of a SEND whose head has been queued, and whose end-line has not.
#[derive(Debug)]
struct Piece {
    id: TransactId,
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
    pub(super) fn new(new_id: fn() -> TransactId) -> Self {
        Self {
            queue: ChunkQueue::default(),
            transactions: Transactions::default(),
            open: None,
            held: VecDeque::new(),
            own: OwnOctets::default(),
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

    /// A transact-id for a request to be sent here.
    pub(super) fn next_id(&self) -> TransactId {
        (self.new_id)()
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
            Some(piece) if piece.octets < MIN_PIECE => return self.held.push_back(message),
            Some(_) => self.end_piece(Continuation::More),
            None => {}
        }
        self.append(message);
        self.mark_waiting(now);
    }

    /// Begins a SEND that leaves as its body arrives. Its head is queued with the first octet.
    pub(super) fn open(&mut self, template: Template, from: Sent, now: Instant) {
        debug_assert!(self.open.is_none(), "two SENDs at once in one direction");
        let range = ByteRange { end: None, ..from.range };
        self.open = Some(OpenSend { template, range, from, piece: None, last_body: now });
    }

    /// Queues a piece of body of the SEND under way, in its allocation.
    pub(super) fn body(&mut self, bytes: Bytes, now: Instant) {
        self.begin_piece();
        let Some(open) = &mut self.open else { return };
        let Some(piece) = &mut open.piece else { return };
        piece.octets += bytes.len() as u64;
        open.last_body = now;
        let enough = piece.octets >= MIN_PIECE;
        self.queue.push(bytes);
        if enough && !self.held.is_empty() {
            self.give_way();
        }
        self.mark_waiting(now);
    }

    /// The body under way holds the end-line of its own piece: the rest needs another id (RFC
    /// 4975 §7.1).
    pub(super) fn change_id(&mut self) {
        if self.piece_id().is_some() {
            self.give_way();
        }
    }

    /// Ends the SEND under way.
    pub(super) fn close(&mut self, flag: Continuation, now: Instant) {
        if self.open.is_none() {
            return;
        }
        // Where nothing came since the interruption, the flag still has to be said.
        self.begin_piece();
        self.end_piece(flag);
        self.open = None;
        self.release();
        self.mark_waiting(now);
    }

    /// The id under which the SEND under way is leaving.
    pub(super) fn piece_id(&self) -> Option<TransactId> {
        Some(self.open.as_ref()?.piece.as_ref()?.id)
    }

    /// The SEND under way, as its sender would hear of it.
    pub(super) fn under_way(&self) -> Option<Sent> {
        let open = self.open.as_ref()?;
        let octets = open.piece.as_ref().map_or(0, |piece| piece.octets);
        Some(Sent { range: open.range, octets, ..open.from.clone() })
    }

    /// A response to the piece under way came before its end-line.
    pub(super) fn answered_early(&mut self) {
        if let Some(piece) = self.open.as_mut().and_then(|open| open.piece.as_mut()) {
            piece.answered = true;
        }
    }

    /// The socket took `octets`.
    pub(super) fn sent(&mut self, octets: usize, now: Instant) {
        self.queue.advance(octets);
        let taken = self.queue.taken();
        self.transactions.sent(taken, now);
        self.own.taken(taken);
        self.waiting_since = (!self.queue.is_empty()).then_some(now);
    }

    /// Since when the peer has taken nothing of what waits for it.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// When a message that is held back has waited long enough for more body.
    pub(super) fn pause_deadline(&self) -> Option<Instant> {
        let open = self.open.as_ref().filter(|_| !self.held.is_empty())?;
        Some(open.last_body + PIECE_PAUSE)
    }

    /// Ends the piece under way if a message has been held back for long enough.
    pub(super) fn expire_pause(&mut self, now: Instant) {
        if self.pause_deadline().is_some_and(|deadline| deadline <= now) {
            self.give_way();
            self.mark_waiting(now);
        }
    }

    /// Everything that was sent here or was being sent, and that its sender wants to hear of:
    /// the leg is lost.
    pub(super) fn fail(&mut self) -> Vec<Sent> {
        let under_way = self.under_way();
        self.open = None;
        let sends =
            self.transactions.drain().into_iter().filter_map(|transaction| match transaction {
                Transaction::Send(sent) => Some(sent),
                Transaction::Other { .. } => None,
            });
        sends.chain(under_way).filter(|sent| sent.failure_report != FailureReport::No).collect()
    }

    fn begin_piece(&mut self) {
        let Some(open) = self.open.as_mut().filter(|open| open.piece.is_none()) else { return };
        let id = (self.new_id)();
        self.queue.write(|out| open.template.write(out, &id, &open.range));
        open.piece = Some(Piece { id, octets: 0, answered: false });
    }

    fn end_piece(&mut self, flag: Continuation) {
        let Some(open) = &mut self.open else { return };
        let Some(piece) = open.piece.take() else { return };
        self.queue.write(|out| encode::end_line(out, &piece.id, flag, true));
        if open.from.failure_report != FailureReport::No && !piece.answered {
            let sent = Sent { range: open.range, octets: piece.octets, ..open.from.clone() };
            self.transactions.register(piece.id, self.queue.end(), Transaction::Send(sent));
        }
        open.range.start = open.range.start.saturating_add(piece.octets);
    }

    /// Interrupts the SEND under way for what is held back.
    fn give_way(&mut self) {
        self.end_piece(Continuation::More);
        self.release();
    }

    fn release(&mut self) {
        while let Some(message) = self.held.pop_front() {
            self.append(message);
        }
    }

    fn append(&mut self, message: Message) {
        let len = message.bytes.len();
        self.queue.push(message.bytes);
        let end = self.queue.end();
        if message.own {
            self.own.queued.push_back((end, len));
        }
        if let Some((id, transaction)) = message.transaction {
            self.transactions.register(id, end, transaction);
        }
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
