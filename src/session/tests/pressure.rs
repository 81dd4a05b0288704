//! Peers that do not read, or do not answer, or neither.

use super::*;

/// Limits that a few messages reach.
const SMALL: Limits =
    Limits { outbox: 10_000, own: 2_000, transactions: 8, silent: 8, ..Limits::DEFAULT };
/// What one message or read may add beyond a limit.
const ONE_MORE: usize = 3_000;

fn chat(to: &str, from: &str) -> String {
    send("hello", to, from, "")
}

/// Offers `text` again and again until the session does not take it any more.
fn fill(pair: &mut Pair, leg: Leg, text: &str) -> usize {
    for n in 0..10_000 {
        if !pair.session.wants_read(leg) {
            return n;
        }
        pair.says(leg, text);
    }
    panic!("{leg:?} is read for ever");
}

fn assert_within(pair: &Pair, limits: Limits) {
    for leg in LEGS {
        let outbox = &pair.session.side(leg).outbox;
        assert!(outbox.cost() <= limits.outbox + limits.own + ONE_MORE, "{}", outbox.cost());
        assert!(outbox.own_octets() <= limits.own + ONE_MORE);
        assert!(outbox.transactions.len() <= 2 * limits.transactions + limits.silent);
    }
}

/// Answers everything that a leg is sent.
fn answer_all(pair: &mut Pair, leg: Leg) -> usize {
    let sender = if leg == Near { "A" } else { "B" };
    let heard = property::messages(&pair.take(leg));
    for message in &heard {
        if message.head.start == Start::Request(Method::Send) {
            let id = message.head.transact_id;
            let text = format!("MSRP {id} 200 OK\nTo-Path: R\nFrom-Path: {sender}\n-------{id}$\n");
            let bytes = wire_text(&text);
            pair.wire_mut(leg).unread.extend_from_slice(&bytes);
        }
    }
    pair.read(leg);
    heard.len()
}

#[test]
fn a_peer_that_does_not_answer_is_asked_no_more() {
    let mut pair = Pair::dialled_with(SMALL);
    for _ in 0..8 {
        assert!(pair.session.wants_read(Near));
        pair.says(Near, &chat("R B", "A"));
        pair.take(Near);
        pair.take(Far);
    }
    assert!(!pair.session.wants_read(Near));
    assert!(pair.session.wants_read(Far));
    pair.passes(seconds(30));
    assert_eq!(property::messages(&pair.take(Near)).len(), 8);
    assert!(pair.session.wants_read(Near));
}

/// RFC 4975 §7.1.4: under `partial` success is not answered, so no answer is awaited.
#[test]
fn sends_that_only_an_error_answers_stop_nobody() {
    const MANY: usize = 2_000;
    const REMEMBERED: usize = 1_000;

    let mut pair = Pair::dialled_with(Limits { silent: REMEMBERED, ..Limits::DEFAULT });
    let mut ids = Vec::new();
    for n in 0..MANY {
        assert!(pair.session.wants_read(Near), "stopped after {n}");
        pair.says(Near, &send("hello", "R B", "A", "Failure-Report: partial\n"));
        let heard = property::messages(&pair.take(Far));
        ids.extend(heard.iter().map(|message| message.head.transact_id));
    }
    assert_eq!((ids.len(), pair.session.far.outbox.transactions.len()), (MANY, REMEMBERED));
    assert!(pair.session.far.outbox.transactions.remembered() < 4 * REMEMBERED);
    let fails = |pair: &mut Pair, id: TransactId| {
        pair.says(Far, &format!("MSRP {id} 415 No\nTo-Path: R\nFrom-Path: B\n-------{id}$\n"));
        property::messages(&pair.take(Near)).len()
    };
    assert_eq!(fails(&mut pair, ids[MANY - REMEMBERED - 1]), 0, "this one is forgotten");
    assert_eq!(fails(&mut pair, ids[MANY - REMEMBERED]), 1);
    assert_eq!(fails(&mut pair, ids[MANY - 1]), 1);
    // Chat and its time-out go on beside them.
    pair.says(Near, &chat("R B", "A"));
    pair.hears(Near, "MSRP tidSEND 200 OK\nTo-Path: A\nFrom-Path: R\n-------tidSEND$\n");
    pair.take(Far);
    pair.passes(seconds(30));
    assert_eq!(property::messages(&pair.take(Near)).len(), 1);
    assert_eq!(pair.session.far.outbox.transactions.remembered(), 0);
}

#[test]
fn a_receiver_that_does_not_read_stops_the_sender() {
    let mut pair = Pair::dialled_with(Limits { transactions: 1000, ..SMALL });
    let text = send(&"x".repeat(1000), "R B", "A", "Failure-Report: partial\n");
    let taken = fill(&mut pair, Near, &text);
    assert!((5..12).contains(&taken), "{taken}");
    assert_within(&pair, Limits { transactions: 1000, ..SMALL });
    assert!(pair.session.wants_read(Far));
    pair.take(Far);
    assert!(pair.session.wants_read(Near));
}

#[test]
fn a_sender_that_does_not_read_grows_nothing() {
    let mut pair = Pair::dialled_with(SMALL);
    let mut taken = 0;
    while pair.session.wants_read(Near) {
        pair.says(Near, &chat("R B", "A"));
        answer_all(&mut pair, Far);
        taken += 1;
        assert!(taken < 100);
    }
    assert_within(&pair, SMALL);
    // Refused requests grow nothing either.
    pair.take(Near);
    let refused = fill(&mut pair, Near, &chat("R C", "A"));
    assert!(refused < 30);
    assert_within(&pair, SMALL);
    pair.take(Near);
    assert!(pair.session.wants_read(Near));
}

#[test]
fn reports_stay_within_what_was_asked() {
    let mut pair = Pair::dialled_with(SMALL);
    let text = send("x", "R B", "A", "Failure-Report: partial\n");
    for _ in 0..100 {
        if pair.session.wants_read(Near) {
            pair.says(Near, &text);
        }
        for message in property::messages(&pair.take(Far)) {
            let id = message.head.transact_id;
            pair.says(Far, &format!("MSRP {id} 415 No\nTo-Path: R\nFrom-Path: B\n-------{id}$\n"));
        }
    }
    assert!(!pair.session.wants_read(Near));
    assert_within(&pair, SMALL);
}

#[test]
fn two_that_both_wait_for_the_other_go_on() {
    // Each sends many requests before it answers any, as a bulk sender may.
    let mut pair = Pair::dialled_with(SMALL);
    let mut asked = 0;
    for _ in 0..30 {
        for (leg, text) in [(Near, chat("R B", "A")), (Far, chat("R A", "B"))] {
            let bytes = wire_text(&text);
            pair.wire_mut(leg).unread.extend_from_slice(&bytes);
            asked += 1;
        }
    }
    let mut answered = 0;
    for _ in 0..1000 {
        for leg in LEGS {
            pair.read(leg);
            answered += property::messages(&pair.take(leg))
                .iter()
                .filter(|message| message.head.start != Start::Request(Method::Send))
                .count();
        }
        assert_within(&pair, SMALL);
    }
    assert_eq!(answered, asked);
    assert!(pair.near.unread.is_empty() && pair.far.unread.is_empty());
}

#[test]
fn everything_moves_again_after_both_stood_still() {
    let mut pair = Pair::dialled_with(SMALL);
    fill(&mut pair, Near, &chat("R B", "A"));
    fill(&mut pair, Far, &chat("R A", "B"));
    assert_within(&pair, SMALL);
    for _ in 0..50 {
        answer_all(&mut pair, Near);
        answer_all(&mut pair, Far);
    }
    for leg in LEGS {
        assert!(pair.session.wants_read(leg));
        assert_eq!(pair.session.side(leg).outbox.transactions.len(), 0);
        assert_eq!(pair.session.side(leg).outbox.own_octets(), 0);
    }
}

#[test]
fn answered_requests_leave_nothing_behind_one_that_is_not() {
    let mut pair = Pair::dialled_with(Limits { transactions: 100, ..Limits::DEFAULT });
    pair.says(Near, &chat("R B", "A"));
    pair.take(Far);
    for _ in 0..2000 {
        pair.says(Near, &chat("R B", "A"));
        answer_all(&mut pair, Far);
        pair.take(Near);
    }
    let transactions = &pair.session.far.outbox.transactions;
    assert_eq!(transactions.len(), 1);
    assert!(transactions.remembered() < 100, "{}", transactions.remembered());
}

#[test]
fn a_peer_that_takes_nothing_is_stalled() {
    let mut pair = Pair::dialled();
    pair.says(Near, &send("x", "R B", "A", "Failure-Report: no\n"));
    pair.passes(seconds(119));
    pair.take_some(Far, 1);
    pair.passes(seconds(119));
    pair.session.sent(Far, 0, pair.now);
    assert_eq!(pair.advance(seconds(1)), [Timeout::Stalled(Far)]);
    // A peer that has nothing to take is not stalled.
    let mut pair = Pair::dialled();
    pair.passes(seconds(1000));
    pair.says(Near, &send("x", "R B", "A", "Failure-Report: no\n"));
    pair.passes(seconds(119));
}

#[test]
fn for_a_blocked_peer_nothing_is_read() {
    let mut pair = Pair::dialled();
    pair.session.set_blocked(Far, true, pair.now);
    assert!(!pair.session.wants_read(Near));
    assert!(pair.session.wants_read(Far));
    pair.says(Near, &chat("R B", "A"));
    pair.hears_nothing(Far);
    pair.session.set_blocked(Far, false, pair.now);
    pair.read(Near);
    assert_eq!(property::messages(&pair.take(Far)).len(), 1);
}

#[test]
fn a_blocked_peer_is_stalled_unless_it_takes_something() {
    // The bytes wait in the buffers of the connection, not in the queue.
    let mut pair = Pair::dialled();
    pair.session.set_blocked(Far, true, pair.now);
    pair.passes(seconds(119));
    pair.session.set_blocked(Far, true, pair.now);
    pair.passes(seconds(119));
    pair.session.set_blocked(Far, false, pair.now);
    pair.passes(seconds(1000));
    pair.session.set_blocked(Far, true, pair.now);
    assert_eq!(pair.advance(seconds(120)), [Timeout::Stalled(Far)]);
}

#[test]
fn no_answer_is_missed_from_a_peer_that_is_not_read() {
    let mut pair = Pair::dialled();
    pair.says(Near, &chat("R B", "A"));
    pair.take(Far);
    pair.take(Near);
    // Its answer may be in the socket.
    pair.session.set_blocked(Near, true, pair.now);
    pair.passes(seconds(60));
    pair.hears_nothing(Near);
    pair.session.set_blocked(Near, false, pair.now);
    pair.passes(seconds(30));
    assert_eq!(property::messages(&pair.take(Near)).len(), 1);
}

#[test]
fn requests_wait_for_a_far_leg_that_is_being_dialled() {
    let mut pair = Pair::with(SMALL, |_| {});
    assert!(matches!(pair.asks(Near, &chat("R B", "A")), Received::NeedsFar(_)));
    pair.session.dial(uri("B"));
    pair.says(Near, "");
    let more = fill(&mut pair, Near, &chat("R B", "A"));
    assert!((5..30).contains(&more), "{more}");
    assert_within(&pair, SMALL);
    assert_eq!(property::messages(&pair.take(Far)).len(), more + 1);
}

/// How many read buffers are kept for a far leg that takes nothing, when `octets` of each one are
/// for it and the rest is a refused SEND.
fn buffers_kept(octets: usize) -> usize {
    /// The size of the relay's read buffers.
    const READ_BUFFER: usize = 60 * 1024;

    let quiet = "Failure-Report: no\n";
    let mut pair = Pair::unbound();
    pair.session.dial(uri("B"));
    for kept in 0..100 {
        if !pair.session.wants_read(Near) {
            return kept;
        }
        let mut buffer = BytesMut::with_capacity(READ_BUFFER);
        buffer.extend_from_slice(&wire_text(&send(&"a".repeat(octets), "R B", "A", quiet)));
        let refused = |octets| wire_text(&send(&"b".repeat(octets), "R C", "A", quiet));
        let room = READ_BUFFER - buffer.len();
        buffer.extend_from_slice(&refused(room - refused(10_000).len() + 10_000));
        assert_eq!(buffer.len(), READ_BUFFER);
        pair.session.receive(Near, &mut buffer, pair.now).unwrap();
    }
    panic!("read for ever");
}

/// A slice keeps its whole read buffer alive, so the buffer counts.
#[test]
fn no_more_is_kept_alive_than_the_limit_and_one_read() {
    assert_eq!(buffers_kept(8 * 1024), 3);
    assert_eq!(buffers_kept(20 * 1024), 3);
}

/// A bulk transfer has two read buffers in flight.
#[test]
fn two_full_reads_do_not_stop_the_sender() {
    assert_eq!(buffers_kept(48 * 1024), 3);
}

/// When all requests fail at once, only so many of them are reported.
#[test]
fn reports_of_a_catastrophe_are_bounded() {
    const LIMITS: Limits = Limits { reports: 3_000, transactions: 1000, ..Limits::DEFAULT };

    let mut pair = Pair::dialled_with(LIMITS);
    for _ in 0..100 {
        pair.says(Near, &send("hello", "R B", "A", "Failure-Report: partial\n"));
    }
    pair.take(Far);
    pair.lost(Far);
    let told = pair.take(Near);
    let reports = property::messages(&told).len();
    assert!((10..50).contains(&reports), "{reports}");
    assert!((3_000..3_000 + ONE_MORE).contains(&told.len()), "{}", told.len());
}
