//! AUTH: for this relay (RFC 4976 §6.3), and for one further out (§5.1).

use super::*;

fn login(to: &str, from: &str) -> String {
    format!("MSRP login AUTH\nTo-Path: {to}\nFrom-Path: {from}\n-------login$\n")
}

fn reply(pair: &mut Pair, leg: Leg, head: &Head, status: StatusCode, extend: Option<Expiry>) {
    let now = pair.now;
    pair.session.answer(leg, answer(head, status, "Because", &[]), extend, now);
}

const DOMAIN: &str = "msrps://example.com:2855;tcp";

#[test]
fn an_auth_for_us_is_handed_out_and_its_answer_sent() {
    for to in [DOMAIN, "R"] {
        for mut pair in [Pair::unbound(), Pair::dialled(), Pair::joined()] {
            let Received::Auth { leg: Near, head } = pair.asks(Near, &login(to, "A")) else {
                panic!("{to}")
            };
            // Meanwhile everything else is served, except a second AUTH.
            pair.says(Near, &login(to, "A"));
            pair.hears(
                Near,
                &format!(
                    "MSRP login 400 Request was unintelligible, please try again (an AUTH is under way)\n\
                     To-Path: A\nFrom-Path: {to}\n-------login$\n"
                ),
            );
            reply(&mut pair, Near, &head, StatusCode::OK, None);
            pair.hears(
                Near,
                &format!("MSRP login 200 Because\nTo-Path: A\nFrom-Path: {to}\n-------login$\n"),
            );
            assert!(matches!(pair.asks(Near, &login(to, "A")), Received::Auth { .. }));
        }
    }
}

#[test]
fn only_the_owner_of_a_session_may_log_in_and_only_to_it() {
    for (leg, to, from, refused) in [
        (Near, "S", "A", true),
        (Near, DOMAIN, "B", true),
        (Near, DOMAIN, "R A", true),
        (Far, DOMAIN, "B", true),
        (Far, "R", "B", true),
    ] {
        let mut pair = Pair::dialled();
        pair.says(leg, &login(to, from));
        let heard = property::messages(&pair.take(leg));
        let Start::Response { status, .. } = heard[0].head.start else { panic!() };
        assert_eq!(status == StatusCode::NO_SESSION, refused);
    }
    // Each side of two joined sessions has one.
    let mut pair = Pair::joined();
    assert!(matches!(pair.asks(Far, &login("S", "B")), Received::Auth { leg: Far, .. }));
    assert!(matches!(pair.asks(Near, &login("R", "A")), Received::Auth { leg: Near, .. }));
    pair.says(Far, &login("R", "B"));
    assert!(pair.take(Far).starts_with(b"MSRP login 481 "));
}

#[test]
fn the_request_that_needs_a_far_leg_is_not_touched_by_an_auth() {
    let mut pair = Pair::unbound();
    let both = format!("{}{}", login(DOMAIN, "A"), send("x", "R B", "A", ""));
    let Received::Auth { head, .. } = pair.asks(Near, &both) else { panic!() };
    let Received::NeedsFar(next) = pair.read(Near) else { panic!() };
    assert_eq!(next, path("B"));
    reply(&mut pair, Near, &head, StatusCode::OK, None);
    pair.session.refuse_next(Reject::Bound);
    pair.says(Near, "");
    let heard = property::messages(&pair.take(Near));
    let codes: Vec<String> =
        heard.iter().map(|message| format!("{:?}", message.head.start)).collect();
    assert_eq!(heard.len(), 2, "{codes:?}");
    assert!(codes[1].contains("506"), "{codes:?}");
}

fn outer_login(headers: &str) -> String {
    format!("MSRP outer AUTH\nTo-Path: R O\nFrom-Path: A\n{headers}-------outer$\n")
}

/// Alice has sent an AUTH to a relay further out, and that relay has been dialled.
fn outside() -> Pair {
    let mut pair = Pair::unbound();
    let Received::NeedsFar(next) = pair.asks(Near, &outer_login("")) else { panic!() };
    assert_eq!(next, path("O"));
    pair.session.dial(uri("O"));
    pair.says(Near, "");
    pair
}

/// The outer relay's answer to the request that it got last.
fn outer_answers(pair: &mut Pair, status: &str, headers: &str) -> Received {
    let heard = property::messages(&pair.take(Far));
    let id = heard.last().unwrap().head.transact_id;
    let text = format!("MSRP {id} {status}\nTo-Path: R A\nFrom-Path: O\n{headers}-------{id}$\n");
    pair.asks(Far, &text)
}

#[test]
fn r4976_5_1_08_an_auth_for_a_relay_further_out_passes_both_ways() {
    let mut pair = outside();
    pair.hears_nothing(Near);
    let challenge =
        "WWW-Authenticate: Digest realm=\"o\",qop=\"auth\" , nonce=\"n\", opaque=\"o\"\n";
    outer_answers(&mut pair, "401 Who are you", challenge);
    pair.hears(
        Near,
        &format!(
            "MSRP outer 401 Who are you\nTo-Path: A\nFrom-Path: R O\n{challenge}-------outer$\n"
        ),
    );
    let authorization = "Authorization: Digest username=\"a\",  qop=auth\n";
    pair.says(Near, &outer_login(authorization));
    let heard = property::messages(&pair.take(Far));
    let line = heard[0].head.headers.lines().last().unwrap().1;
    assert_eq!(line, [authorization.trim_end().as_bytes(), b"\r\n"].concat());
    let id = heard[0].head.transact_id;
    let given = uri("P").text().escape_ascii().to_string();
    pair.says(
        Far,
        &format!(
            "MSRP {id} 200 OK\nTo-Path: R A\nFrom-Path: O\nUse-Path: P\nExpires: 1800\n-------{id}$\n"
        ),
    );
    let text = String::from_utf8(pair.take(Near)).unwrap();
    assert!(text.contains(&format!("Use-Path: {given}\r\nExpires: 1800\r\n")), "{text}");
    // From now on a SEND must name that URI, and lead to the peer of the first one.
    pair.says(Near, &send("x", "R C B", "A", ""));
    assert!(pair.take(Near).starts_with(b"MSRP tidSEND 481 "));
    pair.says(Near, &send("x", "R P B", "A", ""));
    pair.hears(
        Far,
        "MSRP <x> SEND\nTo-Path: P B\nFrom-Path: R A\nMessage-ID: msg1\nByte-Range: 1-1/1\n\
         Content-Type: text/plain\n\nx\n-------<x>$\n",
    );
    pair.take(Near);
    pair.says(Near, &send("x", "R P C", "A", ""));
    assert!(pair.take(Near).starts_with(b"MSRP tidSEND 481 "));
    pair.says(Far, &send("y", "R A", "P B", ""));
    assert!(pair.take(Near).starts_with(b"MSRP "));
    // The AUTH can be renewed all the same, at a relay behind it too.
    for to in ["R O", "R P O"] {
        pair.says(Near, &outer_login("").replace("R O", to));
        assert_eq!(property::messages(&pair.take(Far)).len(), 1 + usize::from(to == "R O"));
    }
}

#[test]
fn r4976_6_3_04_failures_further_out_are_counted() {
    let attempt = outer_login("Authorization: Digest username=\"a\"\n");
    let fresh = "WWW-Authenticate: Digest realm=\"o\", qop=\"auth\", nonce=\"n\", opaque=\"o\"\n";
    let stale = fresh.replace("opaque", "stale=true, opaque");
    let mut pair = outside();
    // None of these is a failure.
    assert!(matches!(outer_answers(&mut pair, "401", fresh), Received::Idle));
    for (status, headers) in [("401", stale.as_str()), ("403", ""), ("200", "Use-Path: P\n")] {
        pair.says(Near, &attempt);
        assert!(matches!(outer_answers(&mut pair, status, headers), Received::Idle));
    }
    pair.says(Near, &outer_login(""));
    assert!(matches!(outer_answers(&mut pair, "401", fresh), Received::Idle));
    pair.take(Near);
    // Holding allows three.
    for n in 1..=3 {
        pair.says(Near, &attempt);
        let received = outer_answers(&mut pair, "401 No", fresh);
        assert_eq!(matches!(received, Received::LockedOut(Near)), n == 3, "{received:?}");
        assert!(pair.take(Near).starts_with(b"MSRP outer 401 No\r\n"));
    }
}

#[test]
fn r4976_6_3_04_no_limit_no_lock() {
    let mut pair = Pair::with(Limits::DEFAULT, |holding| holding.max_auth_attempts = None);
    assert!(matches!(pair.asks(Near, &outer_login("")), Received::NeedsFar(_)));
    pair.session.dial(uri("O"));
    pair.says(Near, "");
    for _ in 0..100 {
        pair.says(Near, &outer_login("Authorization: Digest username=\"a\"\n"));
        assert!(matches!(outer_answers(&mut pair, "401 No", ""), Received::Idle));
    }
}

#[test]
fn credentials_never_go_to_a_stranger() {
    let mut pair = Pair::arrived();
    pair.says(Far, &send("hi", "R A", "B", ""));
    pair.take(Far);
    for to in ["R O", "R C"] {
        pair.says(Near, &outer_login("").replace("R O", to));
        assert!(pair.take(Near).ends_with(b"-------outer$\r\n"));
        pair.hears_nothing(Far);
    }
}
