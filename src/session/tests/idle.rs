//! A session through which nothing passes ends after `idle_timeout`.

use super::*;

const IDLE: Duration = Duration::from_secs(100);

fn idle(holding: &mut Holding) {
    holding.idle_timeout = Some(IDLE);
    // Later than anything here.
    holding.expiry.at += seconds(100_000);
}

fn unbound() -> Pair {
    Pair::with(Limits::DEFAULT, idle)
}

#[test]
fn a_session_ends_when_nothing_has_passed_for_that_time() {
    for mut pair in [unbound(), unbound().bind()] {
        pair.passes(seconds(99));
        assert_eq!(pair.advance(seconds(1)), [Timeout::Idle(IDLE)]);
    }
}

#[test]
fn without_a_limit_it_lasts() {
    let mut pair = Pair::dialled();
    pair.passes(seconds(1_000_000));
}

#[test]
fn any_octet_from_either_side_counts() {
    let mut pair = unbound().bind();
    let step = seconds(99);
    // Blank lines, part of a head, and the rest of it.
    for (leg, octets) in [
        (Near, &b"\r\n"[..]),
        (Near, b"\r"),
        (Near, b"\n"),
        (Near, b"MSRP tidXXXX SE"),
        (Near, b"ND"),
    ] {
        pair.passes(step);
        pair.says_raw(leg, octets);
    }
    pair.passes(step);
    assert_eq!(pair.advance(seconds(1)), [Timeout::Idle(IDLE)]);

    let mut pair = unbound().bind();
    for _ in 0..5 {
        pair.passes(step);
        pair.says_raw(Far, b"\r\n\r\n");
    }
    assert_eq!(pair.advance(IDLE), [Timeout::Idle(IDLE)]);
}

/// A message that waits counts when the socket takes some of it.
#[test]
fn octets_that_leave_count() {
    let mut pair = unbound().bind();
    pair.says(Near, &send("hello", "R B", "A", "Failure-Report: no\n"));
    for _ in 0..5 {
        pair.passes(seconds(99));
        pair.take_some(Far, 1);
    }
    assert_eq!(pair.advance(IDLE), [Timeout::Idle(IDLE)]);
}

/// On a slow link the kernel holds octets for a long time after the socket took them.
#[test]
fn octets_that_arrive_count_while_others_are_under_way() {
    let mut pair = unbound().bind();
    pair.on_the_way = (5000, Some(pair.now));
    pair.says(Near, &send("hello", "R B", "A", "Failure-Report: no\n"));
    pair.take(Far);
    for left in (1..5).rev() {
        pair.passes(seconds(60));
        pair.on_the_way = (left, Some(pair.now));
        pair.passes(seconds(39));
    }
    pair.passes(seconds(20));
    pair.on_the_way = (0, Some(pair.now));
    pair.passes(seconds(99));
    assert_eq!(pair.advance(seconds(1)), [Timeout::Idle(IDLE)]);
}

/// Acknowledgements of keep-alive probes come much later than those of octets.
#[test]
fn what_arrived_at_once_does_not_count_again() {
    let mut pair = unbound().bind();
    pair.says(Near, &send("hello", "R B", "A", "Failure-Report: no\n"));
    let sent = pair.session.outgoing(Far).len();
    pair.session.sent(Far, sent, pair.now);
    // The first look is the one when the session would end.
    assert_eq!(pair.advance(IDLE), [Timeout::Idle(IDLE)]);
}

/// Two sessions that are joined end together, with the shorter time.
#[test]
fn of_two_sessions_the_shorter_time_counts() {
    for (alice, bob, shorter) in [
        (Some(50), Some(70), 50),
        (Some(70), Some(50), 50),
        (None, Some(50), 50),
        (Some(50), None, 50),
    ] {
        let mut pair = Pair::with(Limits::DEFAULT, |holding| {
            idle(holding);
            holding.idle_timeout = alice.map(seconds);
        });
        let mut other = holding("S", "B", pair.now);
        idle(&mut other);
        other.idle_timeout = bob.map(seconds);
        pair.session.arrive(Some(other), Decoder::default(), ChunkQueue::default(), pair.now);
        pair.passes(seconds(shorter - 1));
        assert_eq!(pair.advance(seconds(1)), [Timeout::Idle(seconds(shorter))]);
    }
}

/// A session that waits for a peer is idle too, and so is one that has lapsed.
#[test]
fn a_reserved_session_ends_too() {
    let mut pair = Pair::with(Limits::DEFAULT, |holding| {
        holding.idle_timeout = Some(seconds(610));
    });
    assert_eq!(pair.advance(seconds(600)), [Timeout::Lapsed]);
    pair.passes(seconds(9));
    assert_eq!(pair.advance(seconds(1)), [Timeout::Idle(seconds(610))]);
}

/// SENDs that are unanswered are reported, like at any other end.
#[test]
fn its_end_is_reported() {
    let mut pair = Pair::with(Limits::DEFAULT, |holding| {
        holding.idle_timeout = Some(seconds(20));
    })
    .bind();
    pair.says(Near, &send("hello", "R B", "A", ""));
    pair.take(Far);
    pair.take(Near);
    assert_eq!(pair.advance(seconds(20)), [Timeout::Idle(seconds(20))]);
    pair.session.end(StatusCode::TIMEOUT, b"Session got disconnected", pair.now);
    let heard = String::from_utf8(pair.take(Near)).unwrap();
    assert!(heard.contains("Status: 000 408 Session got disconnected\r\n"), "{heard}");
    assert_eq!(pair.session.deadline(), None);
}
