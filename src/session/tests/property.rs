//! Properties that hold for any input, in any segmentation.

use proptest::{collection::vec, prelude::*};

use super::*;

/// A message as a peer reads it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) flag: Continuation,
}

/// Reads what a peer was sent; all of it must be whole, well-formed messages.
pub(super) fn messages(wire: &[u8]) -> Vec<Heard> {
    let (messages, rest) = complete_messages(wire);
    assert_eq!(rest, 0, "an unfinished message");
    messages
}

/// The same for a stream that may stop anywhere; also returns how much is unfinished.
pub(super) fn complete_messages(wire: &[u8]) -> (Vec<Heard>, usize) {
    let mut decoder = Decoder::default();
    let mut unread = BytesMut::from(wire);
    let mut messages = Vec::new();
    let mut current = None;
    while let Some(event) = decoder.next(&mut unread).unwrap() {
        match event {
            Event::Head(head) => current = Some((head, Vec::new())),
            Event::Body(bytes) => current.as_mut().unwrap().1.extend_from_slice(&bytes),
            Event::End(flag) => {
                let (head, body) = current.take().unwrap();
                messages.push(Heard { head, body, flag });
            }
            Event::Malformed(message) => panic!("{:?}", message.error),
            Event::Collision => unreachable!("no guard"),
        }
    }
    let unfinished = unread.len() + current.map_or(0, |(_, body)| body.len() + 1);
    (messages, unfinished)
}

/// Octets that look like the framing of a message, mixed with others.
fn body_part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"\r\n-------tid00001$\r\n".to_vec()),
        Just(b"\r\n-------made0003$\r\n".to_vec()),
        Just(b"\r\n-------made0007+\r\n".to_vec()),
        Just(b"\r\n-------".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"MSRP tid00001 SEND\r\n".to_vec()),
        vec(any::<u8>(), 0..50),
        (any::<u8>(), 0usize..3000).prop_map(|(octet, n)| vec![octet; n]),
    ]
}

/// One SEND of Alice's; a message may have several.
#[derive(Debug, Clone)]
struct Chunk {
    body: Vec<u8>,
    range: bool,
    exact_end: bool,
    failure_report: &'static str,
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let failure_report = prop::sample::select(&["yes", "partial", "no"][..]);
    (vec(body_part(), 0..6), prop::bool::weighted(0.9), any::<bool>(), failure_report).prop_map(
        |(parts, range, exact_end, failure_report)| Chunk {
            body: parts.concat(),
            range,
            exact_end,
            failure_report,
        },
    )
}

/// One step of a play.
#[derive(Debug, Clone)]
enum Act {
    /// The next octets of Alice's stream arrive.
    Read(usize),
    /// A peer takes this many octets.
    Take(Leg, usize),
    /// Bob says something that makes the relay answer.
    Interrupt,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let leg = prop::sample::select(&LEGS[..]);
    prop_oneof![
        4 => (1usize..40).prop_map(Act::Read),
        4 => (1usize..4000).prop_map(Act::Read),
        3 => (leg, 1usize..9000).prop_map(|(leg, octets)| Act::Take(leg, octets)),
        2 => Just(Act::Interrupt),
        1 => (1u64..300).prop_map(Act::Pass),
    ]
}

/// Alice's stream: the chunks of one message each, under ids that no body holds.
fn stream(messages: &[Vec<Chunk>]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut n = 0;
    for (message, chunks) in messages.iter().enumerate() {
        let total: usize = chunks.iter().map(|chunk| chunk.body.len()).sum();
        let mut start = 1;
        for (at, chunk) in chunks.iter().enumerate() {
            n += 1;
            let end = start + chunk.body.len() - 1;
            let end = if chunk.exact_end { end.to_string() } else { "*".into() };
            let range = if chunk.range || chunks.len() > 1 {
                format!("Byte-Range: {start}-{end}/{total}\n")
            } else {
                String::new()
            };
            let flag = if at + 1 == chunks.len() { '$' } else { '+' };
            wire.extend(wire_text(&format!(
                "MSRP alice{n:05} SEND\nTo-Path: R B\nFrom-Path: A\nMessage-ID: m{message}\n\
                 {range}Failure-Report: {}\nContent-Type: a/b\n\n",
                chunk.failure_report
            )));
            wire.extend_from_slice(&chunk.body);
            wire.extend_from_slice(format!("\r\n-------alice{n:05}{flag}\r\n").as_bytes());
            start += chunk.body.len();
        }
    }
    wire
}

/// Takes up to `octets` of what waits for a leg.
fn drink(pair: &mut Pair, leg: Leg, octets: usize, drunk: &mut Vec<u8>) {
    let octets = octets.min(pair.session.outgoing(leg).len());
    drunk.extend(pair.take_some(leg, octets));
}

/// Lets all of `wire` pass from Alice to Bob; returns what each was sent.
fn run(wire: &[u8], acts: &[Act], limits: Limits) -> (Vec<u8>, Vec<u8>, usize) {
    let mut pair = Pair::dialled_with(limits);
    let (mut near, mut far) = (Vec::new(), Vec::new());
    let mut rest = wire;
    let mut interruptions = 0;
    let mut acts = acts.iter().cycle().take(acts.len() * 4);
    loop {
        match acts.next() {
            Some(Act::Read(octets)) => {
                let (now, later) = rest.split_at(rest.len().min(*octets));
                rest = later;
                pair.says_raw(Near, now);
            }
            Some(Act::Take(Near, octets)) => drink(&mut pair, Near, *octets, &mut near),
            Some(Act::Take(Far, octets)) => drink(&mut pair, Far, *octets, &mut far),
            Some(Act::Interrupt) => {
                interruptions += 1;
                pair.says(Far, &send("psst", "R A", "B", "Failure-Report: yes\n"));
            }
            Some(Act::Pass(time)) => pair.passes(millis(*time)),
            None => break,
        }
    }
    // In the end both peers read everything.
    pair.near.unread.extend_from_slice(rest);
    for _ in 0..10_000 {
        for leg in LEGS {
            pair.read(leg);
        }
        near.extend(pair.take(Near));
        far.extend(pair.take(Far));
        if pair.near.unread.is_empty() && pair.far.unread.is_empty() {
            break;
        }
    }
    assert!(pair.near.unread.is_empty() && pair.far.unread.is_empty(), "something is stuck");
    (near, far, interruptions)
}

fn is_answer(message: &Heard) -> bool {
    matches!(message.head.start, Start::Response { .. })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn nothing_is_lost_doubled_or_disordered(
        messages_sent in vec(vec(chunk(), 1..3), 1..5),
        acts in vec(act(), 1..60),
        small: bool,
    ) {
        let limits = Limits { outbox: 6000, own: 1000, transactions: 10_000, ..Limits::DEFAULT };
        let limits = if small { limits } else { Limits { transactions: 10_000, ..Limits::DEFAULT } };
        let (near, far, interruptions) = run(&stream(&messages_sent), &acts, limits);

        let far = messages(&far);
        prop_assert_eq!(far.iter().filter(|m| is_answer(m)).count(), interruptions);
        for (n, chunks) in messages_sent.iter().enumerate() {
            let id = format!("m{n}");
            let pieces: Vec<&Heard> = far
                .iter()
                .filter(|m| m.head.headers.value(Name::MessageId) == Some(id.as_bytes()))
                .collect();
            let body: Vec<u8> = pieces.iter().flat_map(|piece| piece.body.clone()).collect();
            prop_assert_eq!(body, chunks.iter().flat_map(|c| c.body.clone()).collect::<Vec<_>>());
            // No piece but the last is empty, unless the chunk was empty when it came.
            let empty_before = |lens: Vec<usize>| {
                lens[..lens.len() - 1].iter().filter(|len| **len == 0).count()
            };
            let left = empty_before(pieces.iter().map(|piece| piece.body.len()).collect());
            let came = empty_before(chunks.iter().map(|chunk| chunk.body.len()).collect());
            prop_assert!(left <= came, "{left} empty pieces of {came} empty chunks");
            let mut start = 1;
            let total = chunks.iter().map(|c| c.body.len() as u64).sum::<u64>();
            for (at, piece) in pieces.iter().enumerate() {
                if let Some(range) = piece.head.headers.byte_range().unwrap() {
                    prop_assert_eq!(range.start, start);
                    prop_assert!(range.total.is_none_or(|announced| announced == total));
                    prop_assert!(piece.body.len() <= WHOLE_SEND || range.end.is_none());
                    prop_assert!(range.end.is_none_or(|end| end + 1 == start + piece.body.len() as u64));
                } else {
                    prop_assert_eq!((at, start), (0, 1));
                }
                start += piece.body.len() as u64;
                let last = at + 1 == pieces.len();
                prop_assert_eq!(piece.flag == Continuation::End, last);
                prop_assert_eq!(piece.flag == Continuation::More, !last);
            }
        }

        let acknowledged: Vec<String> = messages(&near)
            .iter()
            .filter(|m| is_answer(m))
            .map(|m| m.head.transact_id.to_string())
            .collect();
        let expected: Vec<String> = messages_sent
            .iter()
            .flatten()
            .enumerate()
            .filter(|(_, chunk)| chunk.failure_report == "yes")
            .map(|(n, _)| format!("alice{:05}", n + 1))
            .collect();
        prop_assert_eq!(acknowledged, expected);
    }

    #[test]
    fn any_split_gives_the_same(
        messages_sent in vec(vec(chunk(), 1..3), 1..4),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let wire = stream(&messages_sent);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(wire.len());
        let pass = |cuts: &[usize]| {
            let mut pair = Pair::dialled();
            let (mut near, mut far) = (Vec::new(), Vec::new());
            let mut start = 0;
            for &cut in cuts {
                pair.near.unread.extend_from_slice(&wire[start..cut]);
                start = cut;
                while !pair.near.unread.is_empty() {
                    let before = pair.near.unread.len();
                    pair.read(Near);
                    near.extend(pair.take(Near));
                    far.extend(pair.take(Far));
                    if pair.near.unread.len() == before {
                        break;
                    }
                }
            }
            (near, far)
        };
        prop_assert_eq!(pass(&cuts), pass(&[wire.len()]));
    }
}

/// Input of a hostile or confused peer.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(
        &["SEND", "SEND", "SEND", "REPORT", "AUTH", "NICKNAME", "FOO", "200 OK", "413", "401 x"][..],
    );
    let id = prop_oneof![(0u32..60).prop_map(|n| nth_id(n).to_string()), "[a-z]{4}"];
    let to = prop::sample::select(&["R B", "R A", "R S B", "S R A", "R", "R P B", "R O", "O"][..]);
    let from = prop::sample::select(&["A", "A", "B", "B", "C", "P B"][..]);
    let header = prop_oneof![
        Just("Message-ID: m1\n"),
        Just("Message-ID: m2\n"),
        Just("Byte-Range: 1-*/*\n"),
        Just("Byte-Range: 1-5/5\n"),
        Just("Byte-Range: 18446744073709551615-*/18446744073709551615\n"),
        Just("Byte-Range: 0-0/0\n"),
        Just("Failure-Report: no\n"),
        Just("Failure-Report: partial\n"),
        Just("Authorization: Digest x=\"y\"\n"),
        Just("Expires: 99999999999999\n"),
        Just("X\n"),
    ];
    let flag = prop::sample::select(&["$", "+", "#", ""][..]);
    let message =
        (start, id, to, from, vec(header, 0..5), prop::option::of(vec(body_part(), 0..4)), flag);
    let message = message.prop_map(|(start, id, to, from, headers, body, flag)| {
        let head =
            format!("MSRP {id} {start}\nTo-Path: {to}\nFrom-Path: {from}\n{}", headers.concat());
        let mut wire = wire_text(&head);
        if let Some(body) = body {
            wire.extend_from_slice(b"\r\n");
            wire.extend(body.concat());
            wire.extend_from_slice(b"\r\n");
        }
        if !flag.is_empty() {
            wire.extend_from_slice(format!("-------{id}{flag}\r\n").as_bytes());
        }
        wire
    });
    prop_oneof![8 => message, 1 => vec(any::<u8>(), 0..60), 1 => body_part()]
}

#[derive(Debug, Clone)]
enum Turn {
    Says(Leg, Vec<u8>),
    Takes(Leg, usize),
    Pass(u64),
    Answer,
    Lost(Leg),
    End,
}

fn anything() -> impl Strategy<Value = Turn> {
    let leg = || prop::sample::select(&LEGS[..]);
    prop_oneof![
        60 => (leg(), noise()).prop_map(|(leg, wire)| Turn::Says(leg, wire)),
        25 => (leg(), 0usize..20_000).prop_map(|(leg, octets)| Turn::Takes(leg, octets)),
        10 => (0u64..40_000).prop_map(Turn::Pass),
        3 => Just(Turn::Answer),
        1 => leg().prop_map(Turn::Lost),
        1 => Just(Turn::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Random messages on both legs at random times: no panic, everything within bounds, and
    /// what goes out is well-formed to the last octet.
    #[test]
    fn noise_does_no_harm(events in vec(anything(), 1..120), kind in 0..4) {
        let limits =
            Limits { outbox: 9000, own: 2000, transactions: 6, silent: 3, ..Limits::DEFAULT };
        // One read adds one `noise` at most, and REPORTs for the open requests.
        let open = 2 * limits.transactions + limits.silent;
        let slack = 14_000 + open * 1000;
        let mut pair = Pair::with(limits, |holding| holding.expiry.strict = kind == 3);
        match kind {
            0 => {}
            1 => pair.session.arrive(None, Decoder::default(), ChunkQueue::default(), pair.now),
            2 => {
                let bob = holding("S", "B", pair.now);
                pair.session.arrive(Some(bob), Decoder::default(), ChunkQueue::default(), pair.now);
            }
            _ => pair = pair.bind(),
        }
        let (mut near, mut far) = (Vec::new(), Vec::new());
        let mut login = None;
        for event in events {
            match event {
                Turn::Says(leg, wire) => {
                    if leg == Far && !pair.session.is_bound() {
                        continue;
                    }
                    if pair.wire_mut(leg).unread.len() < 20_000 {
                        pair.wire_mut(leg).unread.extend_from_slice(&wire);
                    }
                    match pair.try_read(leg) {
                        Ok(Received::Idle) => {}
                        Ok(Received::NeedsFar(path)) if path.len() % 2 == 0 => {
                            pair.session.refuse_next(Reject::Bound);
                        }
                        Ok(Received::NeedsFar(path)) => pair.session.dial(path.first().clone()),
                        Ok(Received::Auth { leg, head }) => login = Some((leg, head)),
                        Ok(Received::LockedOut(_)) => {
                            pair.session.end(StatusCode::FORBIDDEN, b"", pair.now);
                        }
                        Err(_) => {
                            pair.wire_mut(leg).unread.clear();
                            pair.lost(leg);
                        }
                    }
                }
                Turn::Takes(Near, octets) => drink(&mut pair, Near, octets, &mut near),
                Turn::Takes(Far, octets) => drink(&mut pair, Far, octets, &mut far),
                Turn::Pass(time) => {
                    for timeout in pair.advance(millis(time)) {
                        match timeout {
                            Timeout::Lapsed => {}
                            Timeout::Stalled(leg) => pair.lost(leg),
                            Timeout::Abandoned => pair.lost(Near),
                            Timeout::Expired(_) | Timeout::Idle(_) => pair.session.end(StatusCode::TIMEOUT, b"", pair.now),
                        }
                    }
                }
                Turn::Answer => {
                    if let Some((leg, head)) = login.take() {
                        let expiry = Expiry { at: pair.now + seconds(60), strict: false };
                        let response = answer(&head, StatusCode::OK, "OK", &[]);
                        pair.session.answer(leg, response, Some(expiry), pair.now);
                    }
                }
                Turn::Lost(leg) => pair.lost(leg),
                Turn::End => pair.session.end(StatusCode::TIMEOUT, b"Bye", pair.now),
            }
            for leg in LEGS {
                let outbox = &pair.session.side(leg).outbox;
                prop_assert!(outbox.cost() <= limits.outbox + limits.own + slack);
                prop_assert!(outbox.own_octets() <= limits.own + slack);
                prop_assert!(outbox.transactions.len() <= open);
            }
        }
        pair.session.end(StatusCode::TIMEOUT, b"Bye", pair.now);
        for (leg, mut heard) in [(Near, near), (Far, far)] {
            heard.extend(pair.take(leg));
            messages(&heard);
        }
    }
}
