//! Paths on which octets take long to leave: the time for an answer begins when they have arrived.

use super::{super::limits::LOOK, *};

/// One SEND of 5 octets from the near leg, all of it with the far socket.
fn sent() -> Pair {
    let mut pair = Pair::dialled();
    pair.says(Near, &send("x", "R B", "A", ""));
    pair.on_the_way = (200, None);
    pair.take(Far);
    pair.take(Near);
    pair
}

/// The request is reported as failed after so many seconds, give or take a look at the kernel.
#[track_caller]
fn times_out_after(pair: &mut Pair, time: u64) {
    pair.passes(seconds(time - 1));
    pair.hears_nothing(Near);
    pair.passes(seconds(1) + LOOK);
    assert!(String::from_utf8(pair.take(Near)).unwrap().contains("Status: 000 408"));
}

#[test]
fn what_has_not_arrived_is_not_due() {
    let mut pair = sent();
    pair.passes(seconds(100));
    pair.hears_nothing(Near);
    // A part of it arrives.
    pair.on_the_way = (1, Some(pair.now));
    pair.passes(seconds(100));
    pair.hears_nothing(Near);
    // And the rest: its time begins.
    pair.on_the_way = (0, Some(pair.now));
    times_out_after(&mut pair, 30);
}

#[test]
fn the_time_of_a_request_does_not_begin_anew() {
    let mut pair = sent();
    let failed = |pair: &mut Pair| String::from_utf8(pair.take(Near)).unwrap().contains("000 408");
    pair.on_the_way = (0, Some(pair.now));
    pair.looks(Far);
    pair.passes(seconds(10));
    // Another one is sent, and arrives 5 s later.
    pair.says(Near, &send("y", "R B", "A", ""));
    pair.on_the_way = (200, Some(pair.now));
    pair.take(Far);
    pair.take(Near);
    pair.passes(seconds(5));
    pair.on_the_way = (0, Some(pair.now));
    pair.passes(seconds(14));
    assert!(!failed(&mut pair));
    pair.passes(seconds(1));
    assert!(failed(&mut pair), "the first");
    pair.passes(seconds(14));
    assert!(!failed(&mut pair));
    pair.passes(seconds(1) + LOOK);
    assert!(failed(&mut pair), "the second");
}

/// Over TLS, a request whose record is incomplete cannot be read, but the link is alive.
#[test]
fn what_the_peer_cannot_use_has_not_arrived() {
    let mut pair = sent();
    pair.unusable = 300;
    for outstanding in (1..=5).rev() {
        pair.on_the_way = (outstanding, Some(pair.now));
        pair.passes(seconds(100));
        pair.hears_nothing(Near);
    }
    pair.unusable = 0;
    pair.on_the_way = (0, Some(pair.now));
    times_out_after(&mut pair, 30);
}

/// On a link with a long queue, the kernel of a peer that answers at once may hold its answers back
/// until it has our acknowledgements of earlier ones.
#[test]
fn answers_of_a_peer_that_answers_may_take_two_round_trips_more() {
    for answered in [false, true] {
        let mut pair = Pair::dialled();
        pair.round_trip = seconds(20);
        if answered {
            pair.says(Near, &send("w", "R B", "A", ""));
            let id = property::messages(&pair.take(Far))[0].head.transact_id;
            pair.says(Far, &format!("MSRP {id} 200 OK\nTo-Path: R\nFrom-Path: B\n-------{id}$\n"));
            pair.take(Near);
        }
        pair.says(Near, &send("x", "R B", "A", ""));
        pair.take(Far);
        pair.take(Near);
        pair.looks(Far);
        times_out_after(&mut pair, if answered { 70 } else { 30 });
    }
}

#[test]
fn nothing_is_looked_for_on_a_fast_path() {
    let mut pair = sent();
    assert!(!pair.session.wants_look(Far, pair.now + LOOK / 2));
    assert!(pair.session.wants_look(Far, pair.now + LOOK));
    pair.session.arrived(Far, &Arrival::all(pair.now), pair.now + LOOK);
    assert!(!pair.session.wants_look(Far, pair.now + LOOK * 5));
}

/// A peer of which nothing is heard while a request is on its way to it.
#[test]
fn a_peer_that_acknowledges_nothing_is_stalled() {
    let mut pair = sent();
    pair.passes(seconds(119));
    assert_eq!(pair.advance(seconds(2)), [Timeout::Stalled(Far)]);
}

#[test]
fn a_peer_that_acknowledges_anything_is_not_stalled() {
    // The socket takes nothing more for ten minutes.
    let mut pair = Pair::dialled();
    pair.says(Near, &send("x", "R B", "A", "Failure-Report: no\n"));
    pair.on_the_way = (150, Some(pair.now));
    pair.take_some(Far, 150);
    pair.session.set_blocked(Far, true, pair.now);
    for acknowledged in 1..=6 {
        pair.passes(seconds(100));
        pair.on_the_way = (150 - acknowledged, Some(pair.now));
    }
    pair.passes(seconds(119));
    assert_eq!(pair.advance(seconds(2)), [Timeout::Stalled(Far)]);
}
