//! How long a session lasts (RFC 4976 §6.3).

use super::*;

#[test]
fn an_unbound_session_lapses_and_may_be_asked_for_again() {
    let mut pair = Pair::unbound();
    assert_eq!(pair.advance(seconds(599)), []);
    assert_eq!(pair.advance(seconds(1)), [Timeout::Lapsed]);
    assert!(pair.session.is_lapsed());
    pair.says(Near, &send("x", "R B", "A", ""));
    pair.hears(
        Near,
        "MSRP tidSEND 481 Indicated session does not exist, please terminate\n\
         To-Path: A\nFrom-Path: R\n-------tidSEND$\n",
    );
    pair.passes(seconds(29));
    let auth = "MSRP login AUTH\nTo-Path: R\nFrom-Path: A\n-------login$\n";
    let Received::Auth { head, .. } = pair.asks(Near, auth) else { panic!() };
    let expiry = Expiry { at: pair.now + seconds(60), strict: false };
    pair.session.answer(Near, answer(&head, StatusCode::OK, "OK", &[]), Some(expiry), pair.now);
    pair.take(Near);
    assert!(!pair.session.is_lapsed());
    assert!(matches!(pair.asks(Near, &send("x", "R B", "A", "")), Received::NeedsFar(_)));
    assert_eq!(pair.advance(seconds(60)), [Timeout::Lapsed]);
    assert_eq!(pair.advance(seconds(30)), [Timeout::Abandoned]);
}

#[test]
fn a_refused_auth_extends_nothing() {
    let mut pair = Pair::unbound();
    assert_eq!(pair.advance(seconds(600)), [Timeout::Lapsed]);
    let auth = "MSRP login AUTH\nTo-Path: R\nFrom-Path: A\n-------login$\n";
    let Received::Auth { head, .. } = pair.asks(Near, auth) else { panic!() };
    pair.session.answer(Near, answer(&head, StatusCode::UNAUTHORIZED, "No", &[]), None, pair.now);
    pair.take(Near);
    assert!(pair.session.is_lapsed());
    assert_eq!(pair.advance(seconds(30)), [Timeout::Abandoned]);
}

#[test]
fn a_bound_session_lasts_unless_it_was_asked_to_end() {
    let mut pair = Pair::dialled();
    pair.passes(seconds(100_000));
    let mut pair = Pair::with(Limits::DEFAULT, |holding| holding.expiry.strict = true).bind();
    pair.passes(seconds(599));
    assert_eq!(pair.advance(seconds(1)), [Timeout::Expired(Near)]);
}

/// Its refresh may be in the socket.
#[test]
fn strict_expiry_stands_still_while_its_holder_is_not_read() {
    let mut pair = Pair::with(Limits::DEFAULT, |holding| holding.expiry.strict = true).bind();
    pair.passes(seconds(590));
    pair.session.set_blocked(Far, true, pair.now);
    assert!(!pair.session.wants_read(Near));
    pair.passes(seconds(60));
    pair.session.set_blocked(Far, false, pair.now);
    pair.passes(seconds(9));
    // A refresh starts a new count.
    let auth = "MSRP login AUTH\nTo-Path: R\nFrom-Path: A\n-------login$\n";
    let Received::Auth { head, .. } = pair.asks(Near, auth) else { panic!() };
    let expiry = Expiry { at: pair.now + seconds(60), strict: true };
    pair.session.answer(Near, answer(&head, StatusCode::OK, "OK", &[]), Some(expiry), pair.now);
    pair.take(Near);
    pair.passes(millis(59_999));
    assert_eq!(pair.advance(millis(1)), [Timeout::Expired(Near)]);
}

#[test]
fn strict_expiry_counts_the_time_in_which_its_own_leg_is_read() {
    let mut pair = Pair::with(Limits::DEFAULT, |holding| holding.expiry.strict = true).bind();
    // Bob is not read, but Alice is: her time passes.
    pair.session.set_blocked(Near, true, pair.now);
    pair.passes(seconds(100));
    pair.session.set_blocked(Near, false, pair.now);
    pair.passes(seconds(499));
    assert_eq!(pair.advance(seconds(1)), [Timeout::Expired(Near)]);
}

#[test]
fn time_before_its_arrival_is_not_given_to_a_far_leg() {
    let mut pair = Pair::unbound();
    pair.session.set_blocked(Near, true, pair.now);
    pair.passes(seconds(100));
    pair.session.set_blocked(Near, false, pair.now);
    let mut bob = holding("S", "B", pair.now);
    bob.expiry = Expiry { at: pair.now + seconds(100), strict: true };
    pair.session.arrive(Some(bob), Decoder::default(), ChunkQueue::default(), pair.now);
    pair.passes(seconds(99));
    assert_eq!(pair.advance(seconds(1)), [Timeout::Expired(Far)]);
}

#[test]
fn either_of_two_joined_sessions_may_expire() {
    let mut pair = Pair::unbound();
    let mut bob = holding("S", "B", pair.now);
    bob.expiry = Expiry { at: pair.now + seconds(100), strict: true };
    pair.session.arrive(Some(bob), Decoder::default(), ChunkQueue::default(), pair.now);
    pair.passes(seconds(99));
    let auth = "MSRP login AUTH\nTo-Path: S\nFrom-Path: B\n-------login$\n";
    let Received::Auth { leg: Far, head } = pair.asks(Far, auth) else { panic!() };
    let expiry = Expiry { at: pair.now + seconds(200), strict: true };
    pair.session.answer(Far, answer(&head, StatusCode::OK, "OK", &[]), Some(expiry), pair.now);
    pair.take(Far);
    pair.passes(seconds(199));
    assert_eq!(pair.advance(seconds(1)), [Timeout::Expired(Far)]);
}

#[test]
fn an_arrival_just_after_the_lapse_opens_the_session() {
    let mut pair = Pair::unbound();
    assert_eq!(pair.advance(seconds(600)), [Timeout::Lapsed]);
    pair.session.arrive(None, Decoder::default(), ChunkQueue::default(), pair.now);
    pair.says(Far, &send("x", "R A", "B", ""));
    assert!(!pair.take(Near).is_empty());
    pair.take(Far);
    pair.passes(seconds(29));
}
