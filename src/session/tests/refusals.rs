//! Requests that are refused, and how.

use super::*;

/// Bob's or Alice's status and comment, without what a 481 always begins with.
fn answers(pair: &mut Pair, leg: Leg) -> Vec<String> {
    let text = |message: &property::Heard| match &message.head.start {
        Start::Response { status, comment } => {
            let comment = String::from_utf8(comment.to_vec()).unwrap();
            let comment = comment
                .replace("Indicated session does not exist, please terminate", "-")
                .replace("Request was unintelligible, please try again ", "");
            format!("{status} {comment}")
        }
        Start::Request(method) => method.to_string(),
    };
    property::messages(&pair.take(leg)).iter().map(text).collect()
}

#[test]
fn r4976_6_4_only_the_right_way_is_passed() {
    let wrong = "481 -: Wrong session id on relay MSRP URI";
    let nowhere = "481 -: Non-response with me as endpoint, nowhere to relay to";
    let source = "481 -: From-Path does not match session source";
    let destination = "481 -: To-Path does not match session destination";
    for (to, from, answer) in [
        ("S B", "A", wrong),
        ("O B", "A", wrong),
        ("B", "A", wrong),
        ("R", "A", nowhere),
        ("R B", "B", source),
        ("R B", "A A", source),
        ("R B", "S A", source),
        ("R C", "A", destination),
        ("R B C", "A", destination),
        ("R C B", "A", destination),
        ("R A", "A", destination),
        ("R R B", "A", destination),
        ("R B R", "A", destination),
    ] {
        for method in ["SEND", "NICKNAME", "FOO"] {
            let mut pair = Pair::dialled();
            pair.says(Near, &send("x", to, from, "").replace("SEND\nTo", &format!("{method}\nTo")));
            assert_eq!(answers(&mut pair, Near), [answer], "{method} {to} / {from}");
            pair.hears_nothing(Far);
        }
        let mut pair = Pair::dialled();
        pair.says(Near, &send("x", to, from, "").replace("SEND\nTo", "REPORT\nTo"));
        pair.says(Near, &send("x", to, from, "Failure-Report: no\n"));
        pair.hears_nothing(Near);
        pair.hears_nothing(Far);
    }
}

#[test]
fn s8_s30_the_far_side_and_joined_sessions() {
    for (to, from) in
        [("R A", "C"), ("R A", "A"), ("R C", "B"), ("R B", "B"), ("S A", "B"), ("R R A", "B")]
    {
        let mut pair = Pair::dialled();
        pair.says(Far, &send("x", to, from, ""));
        assert!(answers(&mut pair, Far)[0].starts_with("481 "), "{to} / {from}");
        pair.hears_nothing(Near);
    }
    for (to, passes) in [
        ("R S B", true),
        ("R B", false),
        ("S R B", false),
        ("S B", false),
        ("R S T B", false),
        ("R S R B", false),
        ("R S S B", false),
        ("R T S B", false),
        ("R S", false),
        ("R S C", false),
    ] {
        let mut pair = Pair::joined();
        pair.says(Near, &send("x", to, "A", ""));
        let expected = if passes { "200 " } else { "481 " };
        assert!(answers(&mut pair, Near)[0].starts_with(expected), "{to}");
        assert_eq!(pair.take(Far).is_empty(), !passes);
    }
}

#[test]
fn loops_are_not_dialled() {
    for to in ["R R B", "R B R"] {
        let mut pair = Pair::unbound();
        pair.says(Near, &send("x", to, "A", ""));
        assert!(answers(&mut pair, Near)[0].starts_with("481 "), "{to}");
    }
}

#[test]
fn after_the_dial_nobody_else_is_at_the_far_end() {
    // Bob speaks before Alice's first SEND has been taken; a third one cannot.
    let mut pair = Pair::unbound();
    pair.session.dial(uri("B"));
    pair.says(Far, &send("x", "R A", "C", ""));
    assert_eq!(answers(&mut pair, Far), ["481 -: From-Path does not match session source"]);
    pair.says(Near, &send("x", "R C", "A", ""));
    assert_eq!(answers(&mut pair, Near), ["481 -: To-Path does not match session destination"]);
    pair.says(Far, &send("x", "R A", "B", ""));
    assert_eq!(answers(&mut pair, Far), ["200 OK"]);
    assert_eq!(answers(&mut pair, Near), ["SEND"]);
}

#[test]
fn unreadable_headers_are_a_400() {
    for (line, detail) in [
        ("Byte-Range: x", "Error parsing Byte-Range header"),
        ("Byte-Range: 5-3/9", "Error parsing Byte-Range header"),
        ("Byte-Range: 1-*/184467440737095516160", "Error parsing Byte-Range header"),
        ("Failure-Report: maybe", "Error parsing Failure-Report header"),
        ("Success-Report: x", "Error parsing Success-Report header"),
        ("Expires: -1", "Error parsing Expires header"),
        ("Message-ID: m2", "Message-ID header occurs more than once"),
        ("To-Path: R B", "To-Path header occurs more than once"),
        ("To-Path : R B", "Error parsing header line"),
        ("X: a\rb", "Error parsing header line"),
        ("X: a\0b", "Error parsing header line"),
        ("nonsense", "Error parsing header line"),
    ] {
        let text = |method| {
            format!(
                "MSRP tid1 {method}\nTo-Path: R B\nFrom-Path: A\nMessage-ID: m1\n{line}\n\n\
                 body\n-------tid1$\n"
            )
        };
        let mut pair = Pair::dialled();
        pair.says(Near, &text("SEND"));
        assert_eq!(answers(&mut pair, Near), [format!("400 ({detail})")], "{line}");
        pair.says(Near, &text("REPORT"));
        pair.says(Near, &text("200 OK"));
        pair.hears_nothing(Near);
        pair.hears_nothing(Far);
        // The framing is not lost.
        pair.says(Near, &send("x", "R B", "A", ""));
        assert_eq!(answers(&mut pair, Near), ["200 OK"]);
    }
}

#[test]
fn a_send_needs_a_message_id() {
    let long = format!("Message-ID: {}\n", "x".repeat(MAX_MESSAGE_ID + 1));
    for (header, detail) in [
        ("", "SEND received without Message-ID"),
        ("Message-ID:\n", "SEND received without Message-ID"),
        (long.as_str(), "Error parsing Message-ID header"),
    ] {
        for mut pair in [Pair::dialled(), Pair::unbound()] {
            let text = send("x", "R B", "A", "").replace("Message-ID: msg1\n", header);
            pair.says(Near, &text);
            assert_eq!(answers(&mut pair, Near), [format!("400 ({detail})")]);
        }
    }
    let mut pair = Pair::dialled();
    let longest = format!("Message-ID: {}\n", "x".repeat(MAX_MESSAGE_ID));
    pair.says(Near, &send("x", "R B", "A", "").replace("Message-ID: msg1\n", &longest));
    assert_eq!(answers(&mut pair, Near), ["200 OK"]);
}

#[test]
fn a_path_of_more_than_16_uris_is_a_400_where_the_sender_can_be_told() {
    let hops = |n: usize| vec!["C"; n].join(" ");
    let long_loop = vec!["R S"; 100].join(" ");
    let text = |method: &str, to: &str, from: &str| {
        format!(
            "MSRP tid1 {method}\nTo-Path: {to}\nFrom-Path: {from}\nMessage-ID: m1\n\n\
             body\n-------tid1$\n"
        )
    };
    let to_path = "400 (Error parsing To-Path header)";
    let from_path = "400 (Error parsing From-Path header)";
    let mut pair = Pair::dialled();
    for (method, to, from, expected) in [
        ("SEND", format!("R {}", hops(16)), "A".into(), vec![to_path]),
        ("FOO", format!("R {}", hops(16)), "A".into(), vec![to_path]),
        ("REPORT", format!("R {}", hops(16)), "A".into(), vec![]),
        ("200 OK", format!("R {}", hops(16)), "A".into(), vec![]),
        ("SEND", format!("R {}", hops(200)), "A".into(), vec![to_path]),
        ("SEND", long_loop, "A".into(), vec![to_path]),
        // The response to a SEND goes to the nearest hop alone.
        ("SEND", "R B".into(), format!("A {}", hops(16)), vec![from_path]),
        ("SEND", format!("R {}", hops(16)), format!("A {}", hops(16)), vec![to_path]),
        ("FOO", "R B".into(), format!("A {}", hops(16)), vec![]),
        ("SEND", format!("R {}", hops(16)), "nonsense".into(), vec![]),
    ] {
        pair.says(Near, &text(method, &to, &from));
        assert_eq!(answers(&mut pair, Near), expected, "{method} {to} {from}");
    }
    pair.hears_nothing(Far);
    pair.says(Near, &send("x", "R B", "A", ""));
    assert_eq!(answers(&mut pair, Near), ["200 OK"]);
}

#[test]
fn unreadable_paths_are_passed_over_in_silence() {
    let mut pair = Pair::dialled();
    for paths in ["", "To-Path: R B\n", "To-Path: http://x\nFrom-Path: A\n", "From-Path: A\n"] {
        pair.says(Near, &format!("MSRP tid1 SEND\n{paths}Message-ID: m\n\nbody\n-------tid1$\n"));
    }
    pair.hears_nothing(Near);
    pair.hears_nothing(Far);
    pair.says(Near, &send("x", "R B", "A", ""));
    assert_eq!(answers(&mut pair, Near), ["200 OK"]);
}

#[test]
fn r4976_6_4_2_03_other_methods_can_be_blocked() {
    for (method, answer) in
        [("FOO", "501 Unknown method: FOO"), ("NICKNAME", ""), ("REPORT", ""), ("SEND", "200 OK")]
    {
        let mut pair = Pair::with(Limits::DEFAULT, |holding| holding.other_methods = false).bind();
        let text = send("x", "R B", "A", "").replace("SEND\nTo", &format!("{method}\nTo"));
        pair.says(Near, &text);
        let wanted: Vec<&str> = Some(answer).into_iter().filter(|a| !a.is_empty()).collect();
        assert_eq!(answers(&mut pair, Near), wanted);
        assert_eq!(pair.take(Far).is_empty(), method == "FOO");
        // The session's policy counts for a stranger too.
        let mut pair = Pair::with(Limits::DEFAULT, |holding| holding.other_methods = false).bind();
        let text = send("x", "R A", "B", "").replace("SEND\nTo", &format!("{method}\nTo"));
        pair.says(Far, &text);
        assert_eq!(answers(&mut pair, Far), wanted);
    }
}

#[test]
fn a_lost_place_is_a_400_and_the_end() {
    let head = "MSRP tid1 SEND\nTo-Path: R B\nFrom-Path: A\n";
    for mut pair in [Pair::unbound(), Pair::dialled()] {
        pair.near.unread =
            BytesMut::from(&wire_text(&format!("{head}{}", "X: 1\n".repeat(70)))[..]);
        let error = pair.try_read(Near).unwrap_err();
        assert!(matches!(error, Violation::Framing(DecodeError::Head { .. })), "{error}");
        assert_eq!(answers(&mut pair, Near), ["400 (number of header lines exceeded)"]);
    }
    for mut pair in [Pair::unbound(), Pair::dialled()] {
        pair.near.unread = BytesMut::from(&b"x\r\n".repeat(9000)[..]);
        assert!(matches!(pair.try_read(Near), Err(Violation::Framing(DecodeError::Garbage))));
        pair.hears_nothing(Near);
    }
}

#[test]
fn answers_to_nothing_are_dropped() {
    for pair in [Pair::unbound, Pair::arrived, Pair::dialled, Pair::joined] {
        let mut pair = pair();
        for leg in LEGS {
            for (status, to) in
                [("200 OK", "R"), ("481", "R A"), ("413", "R S B"), ("401", "S R A")]
            {
                if leg == Far && !pair.session.is_bound() {
                    continue;
                }
                pair.says(
                    leg,
                    &format!("MSRP tid9 {status}\nTo-Path: {to}\nFrom-Path: A\n-------tid9$\n"),
                );
            }
        }
        pair.hears_nothing(Near);
        pair.hears_nothing(Far);
    }
}

#[test]
fn nobody_serves_a_session_that_is_over() {
    let mut pair = Pair::dialled();
    pair.lost(Far);
    pair.says(Near, &send("x", "R B", "A", ""));
    pair.hears_nothing(Near);
    pair.hears_nothing(Far);
    assert!(!pair.session.wants_read(Near) && !pair.session.wants_read(Far));
}

/// A stranger arrives after the owner's request was refused, and before the response is sent.
#[test]
fn a_refusal_is_for_the_owner_and_not_for_who_comes() {
    let mut pair = Pair::unbound();
    let elsewhere = send("mine", "R C", "A", "");
    assert!(matches!(pair.asks(Near, &elsewhere), Received::NeedsFar(_)));
    pair.session.refuse_next(Reject::Bound);
    pair.session.arrive(None, Decoder::default(), ChunkQueue::default(), pair.now);
    pair.says(Far, &send("hello", "R A", "B", ""));
    assert_eq!(answers(&mut pair, Far), ["200 OK"]);
    assert_eq!(property::messages(&pair.take(Near))[0].body, b"hello");
    // Now there is somebody else at the far end.
    pair.says(Near, "");
    let heard = answers(&mut pair, Near);
    assert_eq!(heard, ["481 -: To-Path does not match session destination"]);
}
