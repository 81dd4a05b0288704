//! A relayed session whose two peers send, read and leave at any moment (RFC 4976 §6).
//!
//! The input is what a peer sends, with octets from 0xF5 on as stage directions (see [`Cue`]). The
//! session must not panic, keep its queues within its limits, say only what decodes, invent or
//! swap no octet of a body, come to rest in time, and be able to go on once everything is read.

#![no_main]

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use msrprelay::{
    msrp::{ChunkQueue, Decoder, Event, Head, Path, Start, StatusCode, TransactId, Uri, encode},
    session::{
        Arrival, Expiry, Holding, LEGS, Leg, Limits, Received, Reject, Session, Timeout, detail,
    },
};

/// Small, so that inputs of a few KiB reach them.
const LIMITS: Limits = Limits {
    outbox: 8 * 1024,
    own: 2 * 1024,
    reports: Limits::DEFAULT.reports,
    transactions: 8,
    silent: 4,
    stall: Duration::from_mins(2),
    lapse: Duration::from_secs(30),
};
/// The longest read.
const READ: usize = 4096;
/// Most unread input of one leg, as in a socket.
const UNREAD: usize = 64 * 1024;
/// Longest input: a longer one could hold a message that exceeds [`QUEUE`] alone.
const INPUT: usize = 8 * 1024;
/// The most that one leg's queue may cost: the limits; what one read and the messages under way may
/// add to them; a REPORT for each transaction, with paths of any length; and the buffers of
/// [`UNREAD`] octets, grown to twice as many, that slices keep alive.
const QUEUE: usize = LIMITS.outbox
    + LIMITS.own
    + 4 * READ
    + (LIMITS.transactions + LIMITS.silent + 4) * INPUT
    + 2 * (2 * UNREAD);

fuzz_target!(|input: &[u8]| {
    let Some((&set, script)) = input.split_first() else {
        return;
    };
    if script.len() <= INPUT {
        Stage::new(set).play(script);
    }
});

/// A stage direction: the meaning of an octet of the script that is not sent.
enum Cue {
    /// The session reads what the peer has written so far.
    Cut,
    /// The other peer goes on.
    Turn,
    /// The square of this number passes, in hundredths of a second.
    Wait(u8),
    /// The peer takes this number times 16 octets of what waits for it.
    Take(u8),
    /// Writes the transact-id of the last request that the peer got.
    LastId,
    /// The peer sends the octets of its last read again, so many times.
    Again(u8),
    /// The far peer connects; with an odd number it has a session too.
    Arrive(u8),
    /// The oldest AUTH is answered; with an odd number it is granted.
    Answer(u8),
    /// The connection of the peer is lost.
    Lose,
    /// The relay stops.
    End,
}

impl Cue {
    fn read(octet: u8, script: &mut impl Iterator<Item = u8>) -> Option<Self> {
        let mut number = || script.next().unwrap_or(0);
        Some(match octet {
            0xFF => Self::Cut,
            0xFE => Self::Turn,
            0xFD => Self::Wait(number()),
            0xFC => Self::Take(number()),
            0xFB => Self::LastId,
            0xFA => Self::Again(number()),
            0xF9 => Self::Arrive(number()),
            0xF8 => Self::Answer(number()),
            0xF7 => Self::Lose,
            0xF6 => Self::End,
            _ => return None,
        })
    }
}

/// One peer, and a witness of its connection.
struct Peer {
    /// Octets that the peer has written and the session has not been given.
    line: Vec<u8>,
    /// The octets of the last read.
    last: Vec<u8>,
    unread: BytesMut,
    /// Follows what the peer sends.
    sent: Decoder,
    sent_bytes: BytesMut,
    /// The octets of bodies that the peer sent and the other one may still get.
    bodies: VecDeque<u8>,
    /// Follows what the peer gets.
    got: Decoder,
    got_bytes: BytesMut,
    /// In the middle of a message.
    getting: bool,
    last_id: Option<TransactId>,
    /// Its input broke the framing, and the leg was lost.
    deaf: bool,
    logins: VecDeque<Box<Head>>,
}

impl Peer {
    fn new() -> Self {
        Self {
            line: Vec::new(),
            last: Vec::new(),
            unread: BytesMut::new(),
            sent: Decoder::default(),
            sent_bytes: BytesMut::new(),
            bodies: VecDeque::new(),
            got: Decoder::new(usize::MAX),
            got_bytes: BytesMut::new(),
            getting: false,
            last_id: None,
            deaf: false,
            logins: VecDeque::new(),
        }
    }

    /// The peer's octets reach the relay.
    fn send(&mut self, octets: &[u8]) {
        if self.unread.len() + octets.len() > UNREAD {
            return;
        }
        self.unread.extend_from_slice(octets);
        self.sent_bytes.extend_from_slice(octets);
        while let Ok(Some(event)) = self.sent.next(&mut self.sent_bytes) {
            if let Event::Body(body) = event {
                self.bodies.extend(body);
            }
        }
    }

    /// The relay's octets reach the peer; returns the bodies among them.
    fn get(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut bodies = Vec::new();
        self.got_bytes.extend_from_slice(octets);
        loop {
            if !self.getting {
                let start = self.got_bytes.len().min(5);
                assert_eq!(self.got_bytes[..start], b"MSRP "[..start], "rubbish between messages");
            }
            match self.got.next(&mut self.got_bytes) {
                Ok(Some(Event::Body(body))) => bodies.extend_from_slice(&body),
                Ok(Some(Event::Head(head))) => {
                    self.getting = true;
                    if matches!(head.start, Start::Request(_)) {
                        self.last_id = Some(head.transact_id);
                    }
                }
                Ok(Some(Event::End(_))) => self.getting = false,
                Ok(None) => return bodies,
                Ok(Some(other)) => panic!("the relay said {other:?}"),
                Err(error) => panic!("the relay said what cannot be read: {error}"),
            }
        }
    }

    /// Whether all messages that it has got are complete.
    fn got_all(&self) -> bool {
        !self.getting && self.got_bytes.is_empty()
    }
}

struct Stage {
    session: Session,
    now: Instant,
    near: Peer,
    far: Peer,
    on: Leg,
    /// Whether the relay finds the next hop.
    reachable: bool,
    /// The far peer arrived and holds no session.
    stranger: bool,
    over: bool,
    lost: Option<Leg>,
}

impl Stage {
    /// The bits of `set`: the next hop cannot be reached; the session expires soon, and for good.
    fn new(set: u8) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant will do: only differences count"
        )]
        let now = Instant::now();
        let mut holding = holding("nearsess", "a", now);
        if set & 6 != 0 {
            holding.expiry = Expiry { at: now + Duration::from_secs(10), strict: set & 2 != 0 };
        }
        let queue = ChunkQueue::default();
        Self {
            session: Session::new(holding, Decoder::default(), queue, LIMITS, now),
            now,
            near: Peer::new(),
            far: Peer::new(),
            on: Leg::Near,
            reachable: set & 1 == 0,
            stranger: false,
            over: false,
            lost: None,
        }
    }

    fn play(mut self, script: &[u8]) {
        let mut script = script.iter().copied();
        while let Some(octet) = script.next() {
            match Cue::read(octet, &mut script) {
                None => self.peer().line.push(octet),
                Some(cue) => self.act(&cue),
            }
            if self.over {
                break;
            }
        }
        self.cut();
        self.rest();
    }

    fn act(&mut self, cue: &Cue) {
        match *cue {
            Cue::Cut => self.cut(),
            Cue::Turn => {
                self.cut();
                self.on = self.on.other();
            }
            Cue::Wait(n) => self.wait(Duration::from_millis(10 * u64::from(n) * u64::from(n))),
            Cue::Take(n) => self.take(self.on, usize::from(n) * 16),
            Cue::LastId => {
                let peer = self.peer();
                let id = peer.last_id;
                peer.line.extend(id.iter().flat_map(TransactId::as_bytes));
            }
            Cue::Again(n) => self.again(n),
            Cue::Arrive(n) => self.arrive(n % 2 == 1),
            Cue::Answer(n) => self.answer(self.on, n % 2 == 1),
            Cue::Lose => {
                self.cut();
                self.lose(self.on, StatusCode::TIMEOUT);
            }
            Cue::End => self.end(),
        }
    }

    /// A read on the leg in turn.
    fn cut(&mut self) {
        let peer = self.peer();
        let line = std::mem::take(&mut peer.line);
        if line.is_empty() {
            return;
        }
        for read in line.chunks(READ) {
            self.peer().send(read);
            self.receive();
        }
        self.peer().last = line;
    }

    fn again(&mut self, times: u8) {
        self.cut();
        let last = self.peer().last.clone();
        if last.is_empty() {
            return;
        }
        for _ in 0..times {
            self.peer().send(&last[..last.len().min(READ)]);
            self.receive();
        }
    }

    /// Has the session read both legs: what holds one leg up may be in the input of the other.
    fn receive(&mut self) {
        for leg in [self.on, self.on.other(), self.on] {
            self.receive_from(leg);
        }
        self.check_queues();
    }

    fn receive_from(&mut self, leg: Leg) {
        let there = leg == Leg::Near || self.session.is_bound();
        while there && !self.over && !self.peer_of(leg).deaf {
            let mut unread = std::mem::take(&mut self.peer_of(leg).unread);
            let before = unread.len();
            let received = self.session.receive(leg, &mut unread, self.now);
            assert!(unread.len() <= before);
            self.peer_of(leg).unread = unread;
            match received {
                Ok(Received::Idle) => return,
                Ok(Received::NeedsFar(path)) if self.reachable => {
                    self.session.dial(path.first().clone());
                }
                Ok(Received::NeedsFar(_)) => {
                    self.session.refuse_next(Reject::NoSession(detail::NONE));
                }
                Ok(Received::Auth { leg: from, head }) => {
                    assert_eq!(from, leg);
                    self.peer_of(leg).logins.push_back(head);
                    assert_eq!(self.peer_of(leg).logins.len(), 1, "two AUTHs at once");
                }
                Err(_) | Ok(Received::LockedOut(_)) => {
                    self.peer_of(leg).deaf = true;
                    self.lose(leg, StatusCode::TIMEOUT);
                }
            }
        }
    }

    fn arrive(&mut self, holds_session: bool) {
        if self.session.is_bound() || self.over {
            return;
        }
        self.stranger = !holds_session;
        let holding = holds_session.then(|| holding("farsess", "b", self.now));
        self.session.arrive(holding, Decoder::default(), ChunkQueue::default(), self.now);
    }

    fn answer(&mut self, leg: Leg, granted: bool) {
        let Some(head) = self.peer_of(leg).logins.pop_front() else {
            return;
        };
        let status = if granted { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        let to = head.from_path.iter();
        let response =
            encode::response(&head.transact_id, status, b"", to, head.to_path.first(), &[]);
        let expiry = Expiry { at: self.now + Duration::from_secs(20), strict: true };
        self.session.answer(leg, response, granted.then_some(expiry), self.now);
        self.receive();
    }

    /// Time passes, and what is due is done.
    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        let mut rounds = 0;
        // Slow paths, too: some octets have not arrived at the peer, or cannot be used there yet.
        let outstanding = u64::try_from(duration.as_millis() % 301).unwrap_or_default() / 2;
        let arrival = Arrival {
            outstanding,
            unusable: outstanding.min(20),
            at: self.now,
            round_trip: duration / 8,
        };
        for leg in LEGS {
            self.session.arrived(leg, &arrival, self.now);
        }
        while let Some(timeout) = (!self.over).then(|| self.session.expire(self.now)).flatten() {
            match timeout {
                Timeout::Lapsed => {}
                Timeout::Abandoned | Timeout::Expired(_) | Timeout::Idle(_) => self.end(),
                Timeout::Stalled(leg) => self.lose(leg, StatusCode::TIMEOUT),
            }
            rounds += 1;
            assert!(rounds < 10, "time brings {timeout:?} for ever");
        }
        let next = self.session.deadline();
        assert!(self.over || next.is_none_or(|next| next > self.now), "due already");
        self.receive();
    }

    /// The socket of a leg takes what it can.
    fn take(&mut self, leg: Leg, most: usize) {
        if self.lost == Some(leg) || (leg == Leg::Far && !self.session.is_bound()) {
            return;
        }
        let queue = self.session.outgoing(leg);
        let mut slices = [std::io::IoSlice::new(&[]); 64];
        let filled = queue.slices(&mut slices);
        let taken: Vec<u8> =
            slices[..filled].iter().flat_map(|slice| slice.iter()).copied().take(most).collect();
        if taken.is_empty() {
            return;
        }
        self.session.sent(leg, taken.len(), self.now);
        let blocked = !self.session.outgoing(leg).is_empty();
        self.session.set_blocked(leg, blocked, self.now);
        let bodies = self.peer_of(leg).get(&taken);
        let source = &mut self.peer_of(leg.other()).bodies;
        for octet in bodies {
            let known = source.iter().position(|&sent| sent == octet);
            source.drain(..=known.expect("a body that nobody sent"));
        }
        self.receive();
    }

    fn lose(&mut self, leg: Leg, status: StatusCode) {
        if !self.over {
            self.session.lost(leg, status, b"", self.now);
            self.lost = Some(leg);
            self.over = true;
        }
    }

    fn end(&mut self) {
        if !self.over {
            self.session.end(StatusCode::TIMEOUT, b"", self.now);
            self.over = true;
        }
    }

    /// Both peers read all that waits for them. Answers that a peer owes are awaited for 30 s at
    /// most, so in the end both legs are read, or the session is over.
    fn rest(&mut self) {
        for _ in 0..UNREAD / LIMITS.transactions {
            self.drain();
            if self.over {
                let whole = |leg, peer: &Peer| self.lost == Some(leg) || peer.got_all();
                assert!(whole(Leg::Near, &self.near), "the last message is cut");
                assert!(whole(Leg::Far, &self.far), "the last message is cut");
                return;
            }
            // The owner is not read before a stranger who came has said who that is.
            let near = self.stranger || self.session.wants_read(Leg::Near);
            if near && self.session.wants_read(Leg::Far) {
                return;
            }
            self.wait(Duration::from_secs(31));
        }
        panic!("stuck");
    }

    fn drain(&mut self) {
        // Reading makes room for more input, which is limited.
        for _ in 0..1000 {
            let before = (self.near.unread.len(), self.far.unread.len());
            self.take(Leg::Near, usize::MAX);
            self.take(Leg::Far, usize::MAX);
            let waiting = self.waits(Leg::Near) || self.waits(Leg::Far);
            if !waiting && before == (self.near.unread.len(), self.far.unread.len()) {
                return;
            }
        }
        panic!("the session never stops talking");
    }

    fn waits(&self, leg: Leg) -> bool {
        let there = leg == Leg::Near || self.session.is_bound();
        there && self.lost != Some(leg) && !self.session.outgoing(leg).is_empty()
    }

    fn check_queues(&self) {
        for leg in [Leg::Near, Leg::Far] {
            let cost = self.session.outgoing(leg).cost();
            assert!(cost <= QUEUE, "{cost} octets wait for {leg:?}");
        }
    }

    fn peer(&mut self) -> &mut Peer {
        self.peer_of(self.on)
    }

    fn peer_of(&mut self, leg: Leg) -> &mut Peer {
        match leg {
            Leg::Near => &mut self.near,
            Leg::Far => &mut self.far,
        }
    }
}

/// A session that does not expire during any play.
fn holding(session_id: &str, client: &str, now: Instant) -> Holding {
    let uri = Uri::mint(false, "r", 1, session_id).expect("a URI");
    let client = Path::parse(format!("msrp://{client}:1/s;tcp").as_bytes()).expect("a path");
    let expiry = Expiry { at: now + Duration::from_hours(1000), strict: false };
    let max_auth_attempts = NonZeroU32::new(3);
    Holding { uri, client, expiry, other_methods: true, max_auth_attempts, idle_timeout: None }
}
