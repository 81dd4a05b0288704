//! Each failure with each Failure-Report: the sender gets one indication, about the right octets.
//!
//! The matrix of RFC 4976 §6.4.1 and §6.4.3, and RFC 4975 §7.1.4.

use super::*;

const REPORTING: [&str; 4] = ["absent", "yes", "partial", "no"];

/// The header line; without one it is `yes` (RFC 4975 §7.1.4).
fn failure_report(value: &str) -> String {
    match value {
        "absent" => String::new(),
        value => format!("Failure-Report: {value}\n"),
    }
}

/// Whether a SEND is answered with 200, and timed.
fn is_yes(value: &str) -> bool {
    matches!(value, "absent" | "yes")
}

/// A chunk `1001-1005/5000`, ended with `+`.
fn chunk(value: &str) -> String {
    format!(
        "MSRP tid1 SEND\nTo-Path: R B\nFrom-Path: A\nMessage-ID: m1\nByte-Range: 1001-*/1005\n\
         {}\nhello\n-------tid1+\n",
        failure_report(value)
    )
}

/// The head and 3000 octets of a long SEND, not ended.
fn open_chunk(pair: &mut Pair, value: &str) {
    let head = format!(
        "MSRP tid1 SEND\nTo-Path: R B\nFrom-Path: A\nMessage-ID: m1\nByte-Range: 1001-*/9000\n\
         {}\n",
        failure_report(value)
    );
    pair.says(Near, &head);
    pair.says_raw(Near, &[b'a'; 3000]);
}

fn report(status: &str, range: &str) -> String {
    format!(
        "MSRP <report> REPORT\nTo-Path: A\nFrom-Path: R\nStatus: 000 {status}\nMessage-ID: m1\n\
         Byte-Range: {range}\n-------<report>$\n"
    )
}

const OK: &str = "MSRP tid1 200 OK\nTo-Path: A\nFrom-Path: R\n-------tid1$\n";

/// What Alice heard: only the codes of responses and REPORTs, and ranges.
fn indications(pair: &mut Pair) -> Vec<String> {
    let heard = property::messages(&pair.take(Near));
    let text = |heard: &property::Heard| match &heard.head.start {
        Start::Response { status, .. } => format!("response {status}"),
        Start::Request(Method::Report) => {
            let (status, _) = heard.head.headers.status().unwrap().unwrap();
            let range = heard.head.headers.byte_range().unwrap().unwrap();
            assert!(heard.head.headers.value(Name::FailureReport).is_none());
            assert!(heard.head.headers.value(Name::SuccessReport).is_none());
            format!("REPORT {status} {range}")
        }
        other @ Start::Request(_) => panic!("{other:?}"),
    };
    heard.iter().map(text).collect()
}

/// What is heard for yes, partial and no: `failure` where it is wanted, a 200 before it for yes.
fn expected(value: &str, accepted: bool, failure: &str, wanted: bool) -> Vec<String> {
    let ok = (accepted && is_yes(value)).then(|| "response 200".to_owned());
    ok.into_iter().chain(wanted.then(|| failure.to_owned())).collect()
}

/// What can become of a SEND.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// The next hop answers with this code.
    Error(u16),
    /// The next hop does not answer.
    Silence,
    /// The next hop is lost before it was sent anything.
    LostBefore,
    /// The next hop is lost while a short SEND is being collected.
    LostWhileCollecting,
    /// The next hop is lost in the midst of a long SEND.
    LostInMidBody,
    /// The next hop is lost after the end-line was sent.
    LostAfter,
    /// There is no next hop.
    Unreachable,
    /// Its sender is lost.
    SenderLost,
    /// The session expires.
    Expired,
    /// The relay ends it in the midst.
    Ended,
    /// The input of the next hop breaks the framing.
    Violation,
    /// The next hop takes nothing for two minutes.
    Stalled,
    /// The relay does not pass it on.
    Refused,
}

use Failure::{
    Ended, Error, Expired, LostAfter, LostBefore, LostInMidBody, LostWhileCollecting, Refused,
    SenderLost, Silence, Stalled, Unreachable, Violation as Garbage,
};

impl Failure {
    /// A SEND of Alice, and what happens to it, twice where that can be.
    fn happens(self, value: &str) -> Pair {
        let mut pair = match self {
            Unreachable => Pair::unbound(),
            Expired => Pair::with(Limits::DEFAULT, |holding| {
                holding.expiry = Expiry { at: *START + seconds(20), strict: true };
            })
            .bind(),
            _ => Pair::dialled(),
        };
        match self {
            LostInMidBody | Ended => open_chunk(&mut pair, value),
            LostWhileCollecting => {
                let text = pair.wire_text(&chunk(value));
                pair.says_raw(Near, &text[..text.len() - b"lo\r\n-------tid1+\r\n".len()]);
            }
            Refused => pair.says(Near, &chunk(value).replace("R B", "R C")),
            Unreachable => {
                assert!(matches!(pair.asks(Near, &chunk(value)), Received::NeedsFar(_)));
                pair.session.dial(uri("B"));
                pair.says(Near, "");
            }
            _ => pair.says(Near, &chunk(value)),
        }
        match self {
            Error(code) => {
                let id = property::messages(&pair.take(Far))[0].head.transact_id;
                let answer =
                    format!("MSRP {id} {code} Why not\nTo-Path: R\nFrom-Path: B\n-------{id}$\n");
                pair.says(Far, &answer);
                pair.says(Far, &answer);
            }
            Silence => {
                pair.take(Far);
                pair.passes(millis(29_999));
                assert_eq!(pair.session.far.outbox.transactions.len(), usize::from(value != "no"));
                pair.passes(millis(1));
                assert_eq!(pair.session.far.outbox.transactions.len(), 0);
            }
            LostBefore | LostWhileCollecting | LostInMidBody | Unreachable => pair.lost(Far),
            LostAfter => {
                pair.take(Far);
                pair.lost(Far);
            }
            SenderLost => {
                pair.take(Far);
                pair.lost(Near);
            }
            Expired => {
                pair.take(Far);
                assert_eq!(pair.advance(seconds(20)), [Timeout::Expired(Near)]);
                pair.session.end(StatusCode::TIMEOUT, b"", pair.now);
            }
            Ended => pair.session.end(StatusCode::TIMEOUT, b"", pair.now),
            Garbage => {
                pair.wire_mut(Far).unread.extend_from_slice(&b"no start line\r\n".repeat(2000));
                assert!(pair.try_read(Far).is_err());
                pair.lost(Far);
            }
            Stalled => {
                // Alice reads her 200, if there is one; Bob reads nothing.
                pair.take(Near);
                assert_eq!(pair.advance(seconds(120)), [Timeout::Stalled(Far)]);
                pair.lost(Far);
            }
            Refused => {}
        }
        pair
    }
}

/// RFC 4976 §6.4.1, §6.4.3 and RFC 4975 §7.1.4, for every Failure-Report and every failure.
#[test]
fn the_matrix_of_failures() {
    const WHOLE: &str = "1001-1005/1005";
    const PART: &str = "1001-4000/9000";
    // What happens; whether the SEND was accepted before; what its sender hears of it, when the
    // value is absent or yes, and when it is partial. For no it is always nothing.
    let report = |code: u16, range| format!("REPORT {code} {range}");
    let rows = [
        (Error(400), true, report(400, WHOLE), true),
        (Error(403), true, report(403, WHOLE), true),
        (Error(408), true, report(408, WHOLE), true),
        (Error(413), true, report(413, WHOLE), true),
        (Error(415), true, report(415, WHOLE), true),
        (Error(481), true, report(481, WHOLE), true),
        (Error(499), true, report(499, WHOLE), true),
        (Error(501), true, report(501, WHOLE), true),
        (Error(506), true, report(506, WHOLE), true),
        // A time-out is the one failure that is not reported under partial.
        (Silence, true, report(408, WHOLE), false),
        (LostBefore, true, report(408, WHOLE), true),
        (LostWhileCollecting, false, report(408, "1001-1003/1005"), true),
        (LostInMidBody, false, report(408, PART), true),
        (LostAfter, true, report(408, WHOLE), true),
        (Unreachable, true, report(408, WHOLE), true),
        (Expired, true, report(408, WHOLE), true),
        (Ended, false, report(408, PART), true),
        (Garbage, true, report(408, WHOLE), true),
        (Stalled, false, report(408, WHOLE), true),
        (Refused, false, "response 481".to_owned(), true),
    ];
    for (failure, accepted, told, partial) in &rows {
        for value in REPORTING {
            let mut pair = failure.happens(value);
            let wanted = is_yes(value) || (value == "partial" && *partial);
            let expected = expected(value, *accepted, told, wanted);
            assert_eq!(indications(&mut pair), expected, "{failure:?}, {value}");
            // The sender is told once, whatever else happens.
            pair.take(Far);
            if matches!(failure, Error(_) | Silence | Refused) {
                pair.passes(seconds(100));
            } else {
                assert_eq!(pair.session.deadline(), None, "{failure:?}, {value}");
                assert!(!pair.session.wants_read(Near) && !pair.session.wants_read(Far));
            }
            pair.lost(Far);
            pair.session.end(StatusCode::TIMEOUT, b"", pair.now);
            assert_eq!(indications(&mut pair), Vec::<String>::new(), "{failure:?}, {value}");
        }
    }
    // A sender that is lost is told nothing, and no other peer is told in its place.
    for value in REPORTING {
        let mut pair = SenderLost.happens(value);
        assert_eq!(indications(&mut pair), expected(value, true, "", false));
        pair.hears_nothing(Far);
    }
}

#[test]
fn the_comment_of_the_next_hop_is_handed_on() {
    let mut pair = Pair::dialled();
    pair.says(Near, &chunk("yes"));
    pair.hears(
        Far,
        "MSRP <x> SEND\nTo-Path: B\nFrom-Path: R A\nMessage-ID: m1\nByte-Range: 1001-*/1005\n\
         Failure-Report: yes\n\nhello\n-------<x>+\n",
    );
    pair.says(Far, "MSRP <x> 415 Unsupported média type\nTo-Path: R\nFrom-Path: B\n-------<x>$\n");
    let text = report("415 Unsupported média type", "1001-1005/1005");
    pair.hears(Near, &format!("{OK}{text}"));
}

#[test]
fn r4976_6_4_3_03_an_answer_after_29_s_is_in_time() {
    let mut pair = Pair::dialled();
    pair.says(Near, &chunk("yes"));
    let id = property::messages(&pair.take(Far))[0].head.transact_id;
    pair.passes(seconds(29));
    pair.says(Far, &format!("MSRP {id} 200 OK\nTo-Path: R\nFrom-Path: B\n-------{id}$\n"));
    pair.passes(seconds(60));
    assert_eq!(indications(&mut pair), ["response 200"]);
}

#[test]
fn r4976_6_4_1_05_time_runs_from_the_last_octet_sent() {
    let mut pair = Pair::dialled();
    pair.says(Near, &chunk("yes"));
    pair.passes(seconds(50));
    let all = pair.session.outgoing(Far).len();
    pair.take_some(Far, all - 1);
    pair.passes(seconds(50));
    assert_eq!(indications(&mut pair), ["response 200"]);
    pair.take_some(Far, 1);
    pair.passes(millis(29_999));
    assert_eq!(indications(&mut pair), Vec::<String>::new());
    pair.passes(millis(1));
    assert_eq!(indications(&mut pair), ["REPORT 408 1001-1005/1005"]);
}

#[test]
fn each_piece_has_a_time_and_a_report_of_its_own() {
    let mut pair = Pair::dialled();
    open_chunk(&mut pair, "yes");
    pair.take(Far);
    pair.says(Far, &send("psst", "R A", "B", "Failure-Report: yes\n"));
    pair.take(Far);
    pair.passes(seconds(10));
    pair.says_raw(Near, &[b'a'; 500]);
    pair.says_raw(Near, b"\r\n-------tid1$\r\n");
    pair.take(Far);
    let heard = pair.take(Near);
    assert_eq!(property::messages(&heard).len(), 2);
    pair.passes(seconds(20));
    assert_eq!(indications(&mut pair), ["REPORT 408 1001-4000/9000"]);
    pair.passes(seconds(10));
    assert_eq!(indications(&mut pair), ["REPORT 408 4001-4500/9000"]);
}

#[test]
fn time_stands_still_for_a_leg_that_is_not_read() {
    let limits = Limits { outbox: 6000, ..Limits::DEFAULT };
    let mut pair = Pair::dialled_with(limits);
    pair.says(Near, &chunk("yes"));
    pair.take(Far);
    assert_eq!(indications(&mut pair), ["response 200"]);
    pair.passes(seconds(20));
    // Alice takes nothing of what Bob sends, so Bob's answer cannot be read.
    let long = send(&"x".repeat(1900), "R A", "B", "Failure-Report: no\n");
    pair.says(Far, &format!("{long}{long}"));
    assert!(!pair.session.wants_read(Far));
    pair.passes(seconds(100));
    let stuck = pair.take(Near);
    assert_eq!(property::messages(&stuck).len(), 2);
    assert!(pair.session.wants_read(Far));
    pair.passes(millis(9_999));
    assert_eq!(indications(&mut pair), Vec::<String>::new());
    pair.passes(millis(1));
    assert_eq!(indications(&mut pair), ["REPORT 408 1001-1005/1005"]);
}

#[test]
fn the_far_leg_is_lost_between_two_pieces() {
    let mut pair = Pair::dialled();
    open_chunk(&mut pair, "partial");
    pair.says(Far, &send("psst", "R A", "B", "Failure-Report: no\n"));
    pair.says(Far, &send("psst", "R A", "B", ""));
    let heard = property::messages(&pair.take(Near));
    assert_eq!(heard.len(), 2);
    pair.lost(Far);
    assert_eq!(indications(&mut pair), ["REPORT 408 1001-4000/9000", "REPORT 408 4001-4000/9000"]);
}

#[test]
fn the_relay_refuses_to_connect() {
    for value in REPORTING {
        let mut pair = Pair::unbound();
        assert!(matches!(pair.asks(Near, &chunk(value)), Received::NeedsFar(_)));
        pair.session.refuse_next(Reject::Bound);
        pair.says(Near, "");
        let wanted = expected(value, false, "response 506", value != "no");
        assert_eq!(indications(&mut pair), wanted);
        assert!(!pair.session.is_bound());
        // The next message is passed on again.
        assert!(matches!(pair.asks(Near, &chunk(value)), Received::NeedsFar(_)));
    }
}

#[test]
fn the_session_is_ended() {
    for value in REPORTING {
        let mut pair = Pair::dialled();
        pair.says(Far, &send("mine", "R A", "B", &failure_report(value)));
        pair.take(Near);
        pair.take(Far);
        pair.says(Near, &chunk(value));
        open_chunk(&mut pair, value);
        pair.session.end(StatusCode::TIMEOUT, b"Going down", pair.now);
        let mut wanted = expected(value, true, "REPORT 408 1001-1005/1005", value != "no");
        if value != "no" {
            wanted.push("REPORT 408 1001-4000/9000".into());
        }
        assert_eq!(indications(&mut pair), wanted, "{value}");
        // The receiver has the cut message whole, and hears of its own SEND.
        let far = property::messages(&pair.take(Far));
        assert_eq!(far[1].flag, Continuation::Abort);
        assert_eq!(far.len(), if value == "no" { 2 } else { 3 });
        pair.session.end(StatusCode::TIMEOUT, b"", pair.now);
        pair.hears_nothing(Near);
        pair.hears_nothing(Far);
    }
}

#[test]
fn r4975_7_1_11_a_sender_that_vanishes_leaves_an_aborted_message() {
    let mut pair = Pair::dialled();
    open_chunk(&mut pair, "yes");
    pair.says(Far, &send("psst", "R A", "B", ""));
    pair.says_raw(Near, b"more");
    pair.lost(Near);
    let far = property::messages(&pair.take(Far));
    let flags: Vec<u8> = far.iter().map(|message| message.flag.as_byte()).collect();
    // The first piece, the 200 for Bob, the rest, and what became of Bob's own message.
    assert_eq!(flags, *b"+$#$");
    assert_eq!(far[2].body, b"more");
    assert_eq!(far[3].head.start, Start::Request(Method::Report));
}

#[test]
fn r4975_10_5_a_413_stops_the_chunk_under_way() {
    for value in REPORTING {
        let mut pair = Pair::dialled();
        open_chunk(&mut pair, value);
        let id = nth_id(MADE.get());
        let answer = format!("MSRP {id} 413 Enough\nTo-Path: R\nFrom-Path: B\n-------{id}$\n");
        pair.says(Far, &answer);
        let far = property::messages(&pair.take(Far));
        assert_eq!((far.len(), far[0].flag), (1, Continuation::Abort));
        let failure = "REPORT 413 1001-4000/9000";
        assert_eq!(indications(&mut pair), expected(value, false, failure, value != "no"));
        // The rest of the message is not passed on, nor are further chunks of it.
        pair.says(Far, &answer);
        pair.says_raw(Near, &[b'a'; 5000]);
        pair.says_raw(Near, b"\r\n-------tid1+\r\n");
        pair.says(Near, &chunk(value));
        pair.hears_nothing(Far);
        pair.passes(seconds(60));
        let refused = "response 413";
        assert_eq!(indications(&mut pair), expected(value, true, refused, value != "no"));
        // Other messages do.
        pair.says(Near, &chunk(value).replace("m1", "m2"));
        assert_eq!(property::messages(&pair.take(Far)).len(), 1);
    }
}

#[test]
fn r4975_10_5_a_413_to_an_earlier_piece_stops_the_later_one() {
    for octets_since in [0, 100] {
        let mut pair = Pair::dialled();
        open_chunk(&mut pair, "partial");
        let id = nth_id(MADE.get());
        pair.says(Far, &send("psst", "R A", "B", ""));
        pair.take(Near);
        pair.says_raw(Near, &vec![b'b'; octets_since]);
        pair.says(Far, &format!("MSRP {id} 413 Enough\nTo-Path: R\nFrom-Path: B\n-------{id}$\n"));
        let mut wanted = vec!["REPORT 413 1001-4000/9000".to_owned()];
        if octets_since > 0 {
            wanted.push("REPORT 413 4001-4100/9000".into());
        }
        assert_eq!(indications(&mut pair), wanted);
        let far = property::messages(&pair.take(Far));
        assert_eq!(far.last().unwrap().flag, Continuation::Abort);
        // No answer is awaited to a piece that was given up.
        pair.passes(seconds(60));
        pair.lost(Far);
        assert_eq!(indications(&mut pair), Vec::<String>::new());
    }
}

#[test]
fn an_early_200_is_an_answer() {
    let mut pair = Pair::dialled();
    open_chunk(&mut pair, "yes");
    let id = nth_id(MADE.get());
    pair.says(Far, &format!("MSRP {id} 200 OK\nTo-Path: R\nFrom-Path: B\n-------{id}$\n"));
    pair.says_raw(Near, b"\r\n-------tid1$\r\n");
    pair.take(Far);
    pair.passes(seconds(60));
    assert_eq!(indications(&mut pair), ["response 200"]);
}

#[test]
fn s8_answers_count_only_from_the_leg_and_to_the_uri_they_belong_to() {
    let mut pair = Pair::dialled();
    pair.says(Near, &chunk("yes"));
    let id = property::messages(&pair.take(Far))[0].head.transact_id;
    pair.says(Near, &format!("MSRP {id} 481 No\nTo-Path: R\nFrom-Path: A\n-------{id}$\n"));
    pair.says(Far, &format!("MSRP {id} 481 No\nTo-Path: S\nFrom-Path: B\n-------{id}$\n"));
    pair.says(Far, "MSRP never 481 No\nTo-Path: R\nFrom-Path: B\n-------never$\n");
    pair.says(Far, &format!("MSRP {id} 481 No\nTo-Path: R\nno header\n-------{id}$\n"));
    assert_eq!(indications(&mut pair), ["response 200"]);
    pair.hears_nothing(Far);
    pair.passes(seconds(30));
    assert_eq!(indications(&mut pair), ["REPORT 408 1001-1005/1005"]);
}
