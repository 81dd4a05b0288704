//! The session as its two peers see it, with a clock that only the tests move.
//!
//! A test is a transcript: `says` feeds what a peer sends, `hears` compares *everything* that the
//! peer has been sent since it was last looked at. In both, a line is a line of text, the
//! indentation does not count, and
//!
//! * `A`, `B`, `R`, `S`... in a path stand for the URIs of [`URIS`];
//! * `<x>` is a transact-id that the relay made: the first mention learns it;
//! * `(n×c)` is the character `c`, `n` times.

mod auth;
mod chunks;
mod expiry;
mod failures;
mod forwarding;
mod idle;
mod pressure;
mod property;
mod refusals;
mod slow;

use std::{
    cell::Cell,
    collections::HashMap,
    io::IoSlice,
    num::NonZeroU32,
    sync::LazyLock,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{Leg::*, *};
use crate::msrp::{Continuation, DecodeError, Event, Name, Start};

/// The URIs of the transcripts: two clients, the relay's sessions of both, others.
const URIS: [(&str, &str); 8] = [
    ("A", "msrps://alice.invalid:2855/aaaaaaaa;tcp"),
    ("B", "msrps://bob.example:9/bbbbbbbb;tcp"),
    ("C", "msrps://carol.example:9/cccccccc;tcp"),
    ("R", "msrps://relay.example:2855/rrrrrrrrrrrrrrrrrrrrrr;tcp"),
    ("S", "msrps://relay.example:2855/ssssssssssssssssssssss;tcp"),
    ("T", "msrps://relay.example:2855/tttttttttttttttttttttt;tcp"),
    ("O", "msrps://outer.example:2855;tcp"),
    ("P", "msrps://outer.example:2855/pppppppppppppppppppppp;tcp"),
];

/// The only time that is read from the clock.
static START: LazyLock<Instant> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "an Instant can be made from another one only")]
    Instant::now()
});

fn uri(letter: &str) -> Uri {
    let (_, text) = URIS.iter().find(|(name, _)| *name == letter).unwrap();
    Uri::parse(Bytes::from_static(text.as_bytes())).unwrap()
}

fn path(letters: &str) -> Path {
    Path::from_uris(&letters.split(' ').map(uri).collect::<Vec<_>>()).unwrap()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

thread_local! {
    /// How many ids were made by [`next_id`].
    static MADE: Cell<u32> = const { Cell::new(0) };
}

/// Ids in a fixed order, for comparing two sessions and for guessing the next one.
fn next_id() -> TransactId {
    MADE.set(MADE.get() + 1);
    nth_id(MADE.get())
}

fn nth_id(n: u32) -> TransactId {
    TransactId::parse(format!("made{n:04}").as_bytes()).unwrap()
}

/// One end of a connection, seen from the peer.
#[derive(Default)]
struct Wire {
    /// Sent by the peer and not taken by the session.
    unread: BytesMut,
}

/// A session between two scripted peers.
struct Pair {
    session: Session,
    now: Instant,
    near: Wire,
    far: Wire,
    ids: HashMap<String, String>,
    /// Octets that the far socket took and that have not arrived, and when the last one arrived.
    on_the_way: (u64, Option<Instant>),
    /// Octets that have arrived at a peer as part of an incomplete record.
    unusable: u64,
    /// What an octet to a peer and its acknowledgement take.
    round_trip: Duration,
}

fn holding(own: &str, client: &str, now: Instant) -> Holding {
    Holding {
        uri: uri(own),
        client: path(client),
        expiry: Expiry { at: now + seconds(600), strict: false },
        other_methods: true,
        max_auth_attempts: NonZeroU32::new(3),
        idle_timeout: None,
    }
}

impl Pair {
    /// Alice holds R, and there is no far leg.
    fn unbound() -> Self {
        Self::with(Limits::DEFAULT, |_| {})
    }

    fn with(limits: Limits, change: impl FnOnce(&mut Holding)) -> Self {
        MADE.set(0);
        let now = *START;
        let mut holding = holding("R", "A", now);
        change(&mut holding);
        let session = Session::with_ids(holding, Decoder::default(), limits, next_id, now);
        Self {
            session,
            now,
            near: Wire::default(),
            far: Wire::default(),
            ids: HashMap::new(),
            on_the_way: (0, None),
            unusable: 0,
            round_trip: Duration::ZERO,
        }
    }

    /// Alice dialled Bob; both have spoken.
    fn dialled() -> Self {
        Self::dialled_with(Limits::DEFAULT)
    }

    fn dialled_with(limits: Limits) -> Self {
        Self::with(limits, |_| {}).bind()
    }

    fn bind(mut self) -> Self {
        self.session.dial(uri("B"));
        self.says(Near, &send("hello", "R B", "A", "Failure-Report: no\n"));
        self.take(Far);
        self
    }

    /// Bob has joined Alice's session, and has not sent anything.
    fn arrived() -> Self {
        let mut pair = Self::unbound();
        pair.session.arrive(None, Decoder::default(), ChunkQueue::default(), pair.now);
        pair
    }

    /// Bob has joined Alice's session, and holds a session S of his own.
    fn joined() -> Self {
        let mut pair = Self::unbound();
        let bob = holding("S", "B", pair.now);
        pair.session.arrive(Some(bob), Decoder::default(), ChunkQueue::default(), pair.now);
        pair
    }

    fn wire_mut(&mut self, leg: Leg) -> &mut Wire {
        match leg {
            Near => &mut self.near,
            Far => &mut self.far,
        }
    }

    /// Has the session read the peer's input, as far as it wants to.
    fn read(&mut self, leg: Leg) -> Received {
        self.try_read(leg).unwrap()
    }

    fn try_read(&mut self, leg: Leg) -> Result<Received, Violation> {
        let mut unread = std::mem::take(&mut self.wire_mut(leg).unread);
        let received = self.session.receive(leg, &mut unread, self.now);
        self.wire_mut(leg).unread = unread;
        received
    }

    /// The peer sends this, and the session needs nothing from outside.
    fn says(&mut self, leg: Leg, text: &str) {
        let received = self.asks(leg, text);
        assert!(matches!(received, Received::Idle), "{received:?}");
    }

    /// The peer sends this.
    fn asks(&mut self, leg: Leg, text: &str) -> Received {
        let bytes = self.wire_text(text);
        self.wire_mut(leg).unread.extend_from_slice(&bytes);
        self.read(leg)
    }

    /// The peer sends these octets as they are.
    fn says_raw(&mut self, leg: Leg, bytes: &[u8]) {
        self.wire_mut(leg).unread.extend_from_slice(bytes);
        let received = self.read(leg);
        assert!(matches!(received, Received::Idle), "{received:?}");
    }

    fn wire_text(&self, text: &str) -> Vec<u8> {
        let known = self
            .ids
            .iter()
            .fold(text.to_owned(), |text, (name, id)| text.replace(&format!("<{name}>"), id));
        wire_text(&known)
    }

    /// What waits for a peer, chunk by chunk; last the one that is not complete, perhaps empty.
    fn chunks(&self, leg: Leg) -> Vec<Vec<u8>> {
        let queue = self.session.outgoing(leg);
        let mut slices = vec![IoSlice::new(&[]); 4096];
        let filled = queue.slices(&mut slices);
        let mut rest: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        let mut start = queue.taken();
        let mut chunks = Vec::new();
        for end in queue.chunk_ends() {
            let later = rest.split_off(usize::try_from(end - start).unwrap());
            chunks.push(std::mem::replace(&mut rest, later));
            start = end;
        }
        chunks.push(rest);
        chunks
    }

    /// Takes what waits for a peer, all of it.
    fn take(&mut self, leg: Leg) -> Vec<u8> {
        let all = self.session.outgoing(leg).len();
        self.take_some(leg, all)
    }

    fn take_some(&mut self, leg: Leg, octets: usize) -> Vec<u8> {
        let queue = self.session.outgoing(leg);
        let mut slices = vec![IoSlice::new(&[]); 4096];
        let filled = queue.slices(&mut slices);
        let all: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(all.len(), queue.len());
        let now = self.now;
        self.session.sent(leg, octets, now);
        self.looks(leg);
        all[..octets].to_vec()
    }

    /// The peer has been sent exactly this since the last look.
    fn hears(&mut self, leg: Leg, text: &str) {
        let heard = String::from_utf8(self.take(leg)).unwrap();
        let expected = String::from_utf8(wire_text(text)).unwrap();
        if !self.matches(&expected, &heard) {
            let expected = readable(&expected);
            panic!("{leg:?} heard\n{}\nrather than\n{expected}", readable(&heard));
        }
    }

    fn hears_nothing(&mut self, leg: Leg) {
        let heard = self.take(leg);
        assert!(heard.is_empty(), "{leg:?} heard\n{}", readable(&String::from_utf8_lossy(&heard)));
    }

    fn matches(&mut self, mut expected: &str, mut heard: &str) -> bool {
        while let Some(at) = expected.find('<') {
            let Some(rest) = heard.strip_prefix(&expected[..at]) else { return false };
            let end = at + expected[at..].find('>').unwrap();
            let name = &expected[at + 1..end];
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let id = self.ids.entry(name.to_owned()).or_insert_with(|| rest[..len].to_owned());
            if rest[..len] != **id {
                return false;
            }
            heard = &rest[len..];
            expected = &expected[end + 1..];
        }
        expected == heard
    }

    /// The session is told what has arrived at a peer: everything, unless the test says otherwise.
    fn looks(&mut self, leg: Leg) {
        let (outstanding, at) = if leg == Far { self.on_the_way } else { (0, None) };
        let at = at.unwrap_or(self.now);
        let arrival =
            Arrival { outstanding, unusable: self.unusable, at, round_trip: self.round_trip };
        self.session.arrived(leg, &arrival, self.now);
    }

    /// Time passes, and each deadline is served at its time. Returns the time-outs that the relay
    /// has to act on.
    fn advance(&mut self, time: Duration) -> Vec<Timeout> {
        let until = self.now + time;
        let mut timeouts = Vec::new();
        while let Some(due) = self.session.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let before = timeouts.len();
            for leg in LEGS {
                self.looks(leg);
            }
            while let Some(timeout) = self.session.expire(self.now) {
                timeouts.push(timeout);
                match timeout {
                    Timeout::Lapsed => {}
                    // The relay has to act on it first.
                    _ => return timeouts,
                }
            }
            let again = self.session.deadline().is_some_and(|again| again <= due);
            assert!(!again || timeouts.len() > before, "nothing came of the deadline");
        }
        self.now = until;
        timeouts
    }

    fn passes(&mut self, time: Duration) {
        assert_eq!(self.advance(time), []);
    }

    fn lost(&mut self, leg: Leg) {
        self.session.lost(leg, StatusCode::TIMEOUT, b"Session got disconnected", self.now);
    }
}

/// The octets of a transcript.
fn wire_text(text: &str) -> Vec<u8> {
    let mut lines: Vec<&str> = text.split('\n').map(str::trim_start).collect();
    if lines.last() == Some(&"") {
        lines.pop();
    }
    lines.iter().flat_map(|line| (wire_line(line) + "\r\n").into_bytes()).collect()
}

fn wire_line(line: &str) -> String {
    if let Some((name, letters)) = line.split_once(": ")
        && name.ends_with("-Path")
    {
        let text = |letter| URIS.iter().find(|(name, _)| *name == letter).map_or(letter, |u| u.1);
        let uris: Vec<&str> = letters.split(' ').map(text).collect();
        return format!("{name}: {}", uris.join(" "));
    }
    let Some((before, (count, rest))) =
        line.split_once('(').and_then(|(before, rest)| Some((before, rest.split_once('×')?)))
    else {
        return line.to_owned();
    };
    let (unit, after) = rest.split_once(')').unwrap();
    format!("{before}{}{}", unit.repeat(count.parse().unwrap()), wire_line(after))
}

/// Octets as a transcript, for the message of a failed assertion.
fn readable(text: &str) -> String {
    let short = URIS.iter().fold(text.to_owned(), |text, (name, uri)| text.replace(uri, name));
    let line = |line: &str| {
        let long = line.len() > 200;
        if long {
            format!("{}... ({} octets)\n", &line[..40], line.len())
        } else {
            format!("{line}\n")
        }
    };
    short.split("\r\n").map(line).collect()
}

/// A short SEND of transact-id `tidSEND`, with `headers` (lines) before Content-Type.
fn send(body: &str, to: &str, from: &str, headers: &str) -> String {
    let n = body.len();
    format!(
        "MSRP tidSEND SEND\nTo-Path: {to}\nFrom-Path: {from}\nMessage-ID: msg1\n\
         Byte-Range: 1-{n}/{n}\n{headers}Content-Type: text/plain\n\n{body}\n-------tidSEND$\n"
    )
}
