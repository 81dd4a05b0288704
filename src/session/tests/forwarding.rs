//! Requests and responses that are passed on, and how they look then (RFC 4976 §6.4).

use super::*;

#[test]
fn r4976_6_4_1_a_send_passes_and_is_acknowledged_at_once() {
    let mut pair = Pair::unbound();
    let text = send("hello", "R B", "A", "");
    let Received::NeedsFar(next) = pair.asks(Near, &text) else { panic!("nothing to dial") };
    assert_eq!(next, path("B"));
    pair.session.dial(uri("B"));
    pair.says(Near, "");
    pair.hears(
        Far,
        "MSRP <x> SEND
         To-Path: B
         From-Path: R A
         Message-ID: msg1
         Byte-Range: 1-5/5
         Content-Type: text/plain

         hello
         -------<x>$
        ",
    );
    pair.hears(
        Near,
        "MSRP tidSEND 200 OK
         To-Path: A
         From-Path: R
         -------tidSEND$
        ",
    );
    pair.says(
        Far,
        "MSRP <x> 200 OK
         To-Path: R
         From-Path: B
         -------<x>$
        ",
    );
    pair.hears_nothing(Near);
    pair.passes(seconds(100));
    pair.hears_nothing(Near);
}

#[test]
fn only_a_200_follows_the_failure_report() {
    for (value, answered) in [("yes", true), ("YES", true), ("partial", false), ("no", false)] {
        let mut pair = Pair::dialled();
        pair.says(Near, &send("x", "R B", "A", &format!("Failure-Report: {value}\n")));
        assert_eq!(!pair.take(Near).is_empty(), answered, "{value}");
        assert!(!pair.take(Far).is_empty());
    }
}

#[test]
fn headers_leave_as_they_came_content_type_last() {
    let mut pair = Pair::dialled();
    pair.says(
        Near,
        "MSRP tid1 SEND
         To-Path: R B
         From-Path: A
         Content-Type: text/plain;charset=utf-8
         X-One:  two  spaces
         Byte-Range: 1-*/2
         content-disposition: attachment; filename=\"a: b.bin\"
         MESSAGE-id:m1
         Success-Report: yes
         X-One: again ä
         Content-ID: x
         Keep-Alive: yes

         hi
         -------tid1$
        ",
    );
    pair.hears(
        Far,
        "MSRP <x> SEND
         To-Path: B
         From-Path: R A
         X-One:  two  spaces
         Byte-Range: 1-*/2
         MESSAGE-id:m1
         Success-Report: yes
         X-One: again ä
         Keep-Alive: yes
         content-disposition: attachment; filename=\"a: b.bin\"
         Content-ID: x
         Content-Type: text/plain;charset=utf-8

         hi
         -------<x>$
        ",
    );
}

#[test]
fn bodies_are_absent_or_empty_as_they_came() {
    let mut pair = Pair::dialled();
    pair.says(
        Near,
        "MSRP tid1 SEND
         To-Path: R B
         From-Path: A
         Message-ID: m1
         Byte-Range: 1-0/0
         -------tid1$
         MSRP tid2 SEND
         To-Path: R B
         From-Path: A
         Message-ID: m2
         Byte-Range: 0-0/0
         Content-Type: text/plain


         -------tid2+
        ",
    );
    pair.hears(
        Far,
        "MSRP <1> SEND
         To-Path: B
         From-Path: R A
         Message-ID: m1
         Byte-Range: 1-0/0
         -------<1>$
         MSRP <2> SEND
         To-Path: B
         From-Path: R A
         Message-ID: m2
         Byte-Range: 0-0/0
         Content-Type: text/plain


         -------<2>+
        ",
    );
}

#[test]
fn r4975_7_1_03_content_type_without_a_body_is_an_empty_body() {
    let mut pair = Pair::dialled();
    pair.says(
        Near,
        "MSRP tid1 SEND
         To-Path: R B
         From-Path: A
         Message-ID: m1
         Byte-Range: 1-0/0
         Content-Type: text/plain
         -------tid1$
        ",
    );
    pair.hears(
        Far,
        "MSRP <1> SEND
         To-Path: B
         From-Path: R A
         Message-ID: m1
         Byte-Range: 1-0/0
         Content-Type: text/plain


         -------<1>$
        ",
    );
}

#[test]
fn uris_keep_their_spelling() {
    let mut pair = Pair::dialled();
    let spelled = "MSRPS://user@BOB.example:9/bbbbbbbb;TCP;x=1";
    pair.says(Near, &send("x", &format!("R {spelled}"), "A", ""));
    let far = String::from_utf8(pair.take(Far)).unwrap();
    assert!(far.contains(&format!("To-Path: {spelled}\r\n")), "{far}");
}

/// The relay's own URI as a middlebox may have rewritten it.
const REWRITTEN: [&str; 4] = [
    "MSRPS://user@RELAY.example:2855/rrrrrrrrrrrrrrrrrrrrrr;TCP;x=1",
    "msrps://192.0.2.7:2855/rrrrrrrrrrrrrrrrrrrrrr;tcp",
    "msrps://relay.example/rrrrrrrrrrrrrrrrrrrrrr;tcp",
    "msrp://[2001:db8::7]:1/rrrrrrrrrrrrrrrrrrrrrr;tcp",
];

#[test]
fn a_rewritten_own_uri_leaves_as_it_was_given_out() {
    for own in REWRITTEN {
        for body in ["x", "(3000×x)"] {
            let mut pair = Pair::dialled();
            let text = send(body, &format!("{own} B"), "A", "");
            pair.says(Near, &text.replace("1-9/9", "1-3000/3000"));
            let far = readable(&String::from_utf8(pair.take(Far)).unwrap());
            assert!(far.contains("To-Path: B\nFrom-Path: R A\n"), "{own}: {far}");
            // An answer comes from where the request went (RFC 4975 §7.2).
            let near = String::from_utf8(pair.take(Near)).unwrap();
            assert!(near.contains(" 200 OK\r\n"), "{near}");
            assert!(near.contains(&format!("From-Path: {own}\r\n")), "{near}");
        }
    }
}

#[test]
fn what_comes_back_to_a_rewritten_own_uri_is_ours() {
    for own in REWRITTEN {
        let mut pair = Pair::dialled();
        pair.says(Near, &send("hello", "R B", "A", ""));
        pair.take(Near);
        let id = property::messages(&pair.take(Far))[0].head.transact_id;
        pair.says(Far, &format!("MSRP {id} 415 No\nTo-Path: {own}\nFrom-Path: B\n-------{id}$\n"));
        pair.hears(
            Near,
            "MSRP <r> REPORT
             To-Path: A
             From-Path: R
             Status: 000 415 No
             Message-ID: msg1
             Byte-Range: 1-5/5
             -------<r>$
            ",
        );
        pair.says(Near, "MSRP nick NICKNAME\nTo-Path: R B\nFrom-Path: A\n-------nick$\n");
        let id = property::messages(&pair.take(Far))[0].head.transact_id;
        let answer = format!("MSRP {id} 425 No\nTo-Path: {own} A\nFrom-Path: B\n-------{id}$\n");
        pair.says(Far, &answer);
        pair.hears(Near, "MSRP nick 425 No\nTo-Path: A\nFrom-Path: R B\n-------nick$\n");
        let report = format!(
            "MSRP rep1 REPORT\nTo-Path: {own} A\nFrom-Path: B\nMessage-ID: m\n\
             Byte-Range: 1-5/5\nStatus: 000 200\n-------rep1$\n"
        );
        pair.says(Far, &report);
        let near = readable(&String::from_utf8(pair.take(Near)).unwrap());
        assert!(near.contains("To-Path: A\nFrom-Path: R B\n"), "{near}");
    }
}

/// Only the first URI of To-Path may be rewritten.
#[test]
fn the_second_own_uri_compares_as_any_other() {
    for own in REWRITTEN {
        let mut pair = Pair::joined();
        pair.says(Near, &send("hi", &format!("{own} S B"), "A", ""));
        let far = readable(&String::from_utf8(pair.take(Far)).unwrap());
        assert!(far.contains("To-Path: B\nFrom-Path: S R A\n"), "{far}");
        pair.take(Near);
        pair.says(Far, &send("hi", &format!("S {own} A"), "B", ""));
        let passes = own.starts_with("MSRPS");
        assert_eq!(pair.take(Near).is_empty(), !passes, "{own}");
        let far = readable(&String::from_utf8(pair.take(Far)).unwrap());
        assert_eq!(far.contains(" 481 "), !passes, "{far}");
    }
}

#[test]
fn a_rewritten_own_uri_a_second_time_is_a_loop() {
    for own in REWRITTEN {
        for to in [format!("R {own} B"), format!("{own} R B"), format!("R B {own}")] {
            for mut pair in [Pair::unbound(), Pair::dialled()] {
                pair.says(Near, &send("x", &to, "A", ""));
                assert!(pair.take(Near).starts_with(b"MSRP tidSEND 481 "), "{to}");
                pair.hears_nothing(Far);
            }
        }
    }
}

#[test]
fn a_stranger_that_came_says_who_it_is_and_stays_that() {
    let mut pair = Pair::arrived();
    // Nothing of the owner is sent before the stranger is known.
    pair.says(Near, &send("for carol", "R C", "A", ""));
    pair.hears_nothing(Far);
    pair.says(Far, &send("hi", "R A", "B", ""));
    pair.hears(
        Near,
        "MSRP <x> SEND
         To-Path: A
         From-Path: R B
         Message-ID: msg1
         Byte-Range: 1-2/2
         Content-Type: text/plain

         hi
         -------<x>$
        ",
    );
    pair.says(Near, "");
    pair.hears(
        Near,
        "MSRP tidSEND 481 Indicated session does not exist, please terminate: To-Path does not match session destination
         To-Path: A
         From-Path: R
         -------tidSEND$
        ",
    );
    pair.take(Far);
    pair.says(Far, &send("hi", "R A", "C", ""));
    assert!(pair.take(Far).starts_with(b"MSRP tidSEND 481 "));
    pair.says(Near, &send("hi", "R B", "A", ""));
    assert!(pair.take(Far).ends_with(b"$\r\n"));
}

#[test]
fn r7977_8_3_2_two_sessions_of_ours_look_like_two_relays() {
    let mut pair = Pair::joined();
    pair.says(Near, &send("hi", "R S B", "A", ""));
    pair.hears(
        Far,
        "MSRP <x> SEND
         To-Path: B
         From-Path: S R A
         Message-ID: msg1
         Byte-Range: 1-2/2
         Content-Type: text/plain

         hi
         -------<x>$
        ",
    );
    pair.hears(Near, "MSRP tidSEND 200 OK\nTo-Path: A\nFrom-Path: R\n-------tidSEND$\n");
    pair.says(Far, "MSRP <x> 415 No\nTo-Path: S\nFrom-Path: B\n-------<x>$\n");
    pair.hears(
        Near,
        "MSRP <r> REPORT
         To-Path: A
         From-Path: R S
         Status: 000 415 No
         Message-ID: msg1
         Byte-Range: 1-2/2
         -------<r>$
        ",
    );
    // And the other way.
    pair.says(Far, &send("hi", "S R A", "B", ""));
    let near = String::from_utf8(pair.take(Near)).unwrap();
    assert_eq!(
        readable(&near).lines().skip(1).take(2).collect::<Vec<_>>(),
        ["To-Path: A", "From-Path: R S B"]
    );
    pair.hears(Far, "MSRP tidSEND 200 OK\nTo-Path: B\nFrom-Path: S\n-------tidSEND$\n");
    pair.passes(seconds(30));
    pair.hears(
        Far,
        "MSRP <s> REPORT
         To-Path: B
         From-Path: S R
         Status: 000 408
         Message-ID: msg1
         Byte-Range: 1-2/2
         -------<s>$
        ",
    );
}

#[test]
fn reports_pass_without_state_and_without_answer() {
    let mut pair = Pair::dialled();
    let report = "MSRP tid1 REPORT
         To-Path: R A
         From-Path: B
         Message-ID: never heard of
         Byte-Range: 1-5/5
         Status: 000 200 OK
         -------tid1$
        ";
    pair.says(Far, report);
    pair.hears(
        Near,
        "MSRP <x> REPORT
         To-Path: A
         From-Path: R B
         Message-ID: never heard of
         Byte-Range: 1-5/5
         Status: 000 200 OK
         -------<x>$
        ",
    );
    pair.hears_nothing(Far);
    assert_eq!(pair.session.near.outbox.transactions.len(), 0);
    pair.says(Near, "MSRP <x> 481 No\nTo-Path: R\nFrom-Path: A\n-------<x>$\n");
    pair.hears_nothing(Far);
}

#[test]
fn r4976_6_4_3_04_other_methods_are_answered_end_to_end() {
    for method in ["NICKNAME", "FOOBAR"] {
        let mut pair = Pair::dialled();
        pair.says(
            Near,
            &format!(
                "MSRP tid1 {method}
                 To-Path: R B
                 From-Path: A
                 Use-Nickname: \"Alice\"
                 -------tid1$
                "
            ),
        );
        pair.hears(
            Far,
            &format!(
                "MSRP <x> {method}
                 To-Path: B
                 From-Path: R A
                 Use-Nickname: \"Alice\"
                 -------<x>$
                "
            ),
        );
        pair.hears_nothing(Near);
        let response = "MSRP <x> 425 Nickname in use
             To-Path: R A
             From-Path: B
             X-Extra: 1
             -------<x>$
            ";
        pair.says(Far, response);
        pair.hears(
            Near,
            "MSRP tid1 425 Nickname in use
             To-Path: A
             From-Path: R B
             X-Extra: 1
             -------tid1$
            ",
        );
        // Once only.
        pair.says(Far, response);
        pair.hears_nothing(Near);
    }
}

#[test]
fn s17_other_methods_are_forgotten_silently() {
    let mut pair = Pair::dialled();
    pair.says(Near, "MSRP tid1 NICKNAME\nTo-Path: R B\nFrom-Path: A\n-------tid1$\n");
    pair.hears(Far, "MSRP <x> NICKNAME\nTo-Path: B\nFrom-Path: R A\n-------<x>$\n");
    pair.passes(seconds(31));
    pair.hears_nothing(Near);
    pair.says(Far, "MSRP <x> 200\nTo-Path: R A\nFrom-Path: B\n-------<x>$\n");
    pair.hears_nothing(Near);
}

#[test]
fn a_response_without_a_comment_gets_none() {
    let mut pair = Pair::dialled();
    pair.says(Near, "MSRP tid1 FOO\nTo-Path: R B\nFrom-Path: A\n-------tid1$\n");
    pair.hears(Far, "MSRP <x> FOO\nTo-Path: B\nFrom-Path: R A\n-------<x>$\n");
    pair.says(Far, "MSRP <x> 200\nTo-Path: R A\nFrom-Path: B\n-------<x>$\n");
    pair.hears(Near, "MSRP tid1 200\nTo-Path: A\nFrom-Path: R B\n-------tid1$\n");
}

#[test]
fn r4975_7_1_10_a_body_of_another_method_is_whole_or_too_large() {
    let request = |n: usize| {
        format!(
            "MSRP tid1 FOO\nTo-Path: R B\nFrom-Path: A\nContent-Type: a/b\n\n({n}×x)\n-------tid1$\n"
        )
    };
    let mut pair = Pair::dialled();
    let whole = pair.wire_text(&request(MAX_OTHER_BODY));
    for octet in whole {
        pair.says_raw(Near, &[octet]);
    }
    pair.hears(
        Far,
        "MSRP <x> FOO\nTo-Path: B\nFrom-Path: R A\nContent-Type: a/b\n\n(10240×x)\n-------<x>$\n",
    );
    pair.near.unread = BytesMut::from(&pair.wire_text(&request(MAX_OTHER_BODY + 1))[..]);
    assert!(matches!(pair.try_read(Near), Err(Violation::BodyTooLarge(_))));
    pair.hears_nothing(Far);
}

#[test]
fn pipelined_sends_keep_their_order() {
    let mut pair = Pair::dialled();
    let all: String = (0..100).map(|n| send(&format!("message {n}"), "R B", "A", "")).collect();
    pair.says(Near, &all);
    let far = String::from_utf8(pair.take(Far)).unwrap();
    let bodies: Vec<&str> = far.lines().filter(|line| line.starts_with("message ")).collect();
    assert_eq!(bodies, (0..100).map(|n| format!("message {n}")).collect::<Vec<_>>());
    assert_eq!(String::from_utf8(pair.take(Near)).unwrap().matches(" 200 OK\r\n").count(), 100);
}
