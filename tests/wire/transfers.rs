//! A day in the life of a session: a large file, and people who talk meanwhile (RFC 4975 §5.1).

use std::{thread, time::Duration};

use crate::harness::{
    Message, Peer, Scene, Session, TOPOLOGIES, Transfer, file_head, noise, now, report, send, sleep,
};

const MIB: usize = 1 << 20;
/// Long enough that it is under way while people talk, at the pace at which it is read.
const FILE: usize = 24 * MIB;
/// Of the file, as its sender cuts it.
const CHUNK: usize = 2 * MIB;
/// After which chunks alice says her lines.
const CHATS_BEHIND: [usize; 3] = [2, 4, 6];
/// More than any of it takes, on a machine that compiles meanwhile.
const LONGEST: Duration = Duration::from_mins(2);
/// Rest after each MiB read.
const REST: u64 = 80;
/// The lines of alice, who has to end her own chunk to say them, and of bob.
const CHATS: [(&str, &str); 3] =
    [("chatA001", "chatB001"), ("chatA002", "chatB002"), ("chatA003", "chatB003")];

/// In the middle of a chunk, after so many octets, alice says no more until she has heard as many
/// of bob's lines: they come while the file is under way, or never.
const HEARS_BY: [usize; 3] = [9 * MIB, 15 * MIB, 21 * MIB];

#[test]
fn people_talk_while_a_large_file_is_under_way() {
    let body = noise(23, FILE);
    for kind in TOPOLOGIES {
        let scene = Scene::tls();
        let mut session = scene.topology(kind);
        let octets = file_with_chats(&session, &body);
        let Session { alice, bob, to_bob, to_alice, .. } = &mut session;
        thread::scope(|scope| {
            let sender = scope.spawn(|| sends(alice, &octets));
            let receiver = scope.spawn(|| receives(bob, to_alice, &body));
            let (alice_heard, bob_heard) = (sender.join().unwrap(), receiver.join().unwrap());
            check_alice(&alice_heard, to_bob);
            check_bob(&bob_heard);
        });
        // Nothing is left over, and the session is as good as before.
        session.talks();
    }
}

/// The file in chunks of one message, a line behind some of them.
fn file_with_chats(session: &Session, body: &[u8]) -> Vec<Vec<u8>> {
    let pieces = body.chunks(CHUNK).enumerate().map(|(number, part)| {
        let (start, tid) = (number * CHUNK + 1, chunk_id(number));
        let range = format!("{start}-*/{FILE}");
        let mut octets = file_head(&session.alice, &tid, &session.to_bob, "{alice}", &range);
        octets.extend_from_slice(part);
        let flag = if start + CHUNK > FILE { '$' } else { '+' };
        octets.extend_from_slice(format!("\r\n-------{tid}{flag}\r\n").as_bytes());
        if let Some(n) = CHATS_BEHIND.iter().position(|&behind| behind == number) {
            octets.extend(session.alice.octets(&send(
                CHATS[n].0,
                &session.to_bob,
                "{alice}",
                CHATS[n].0,
            )));
        }
        octets
    });
    pieces.collect()
}

fn chunk_id(number: usize) -> String {
    format!("file{number:04}")
}

/// Alice writes and reads by turns, until she is told that the file arrived. Between two chunks
/// she answers what she has heard.
fn sends(alice: &mut Peer, pieces: &[Vec<u8>]) -> Vec<Message> {
    alice.set_write_timeout(Duration::from_millis(20));
    let deadline = now() + LONGEST;
    let mut others: Vec<Message> = Vec::new();
    let (mut answered, mut said) = (0, 0);
    for piece in pieces {
        let mut written = 0;
        while written < piece.len() {
            assert!(now() < deadline, "{written} octets went, and {others:?} came");
            let wanted = HEARS_BY.iter().filter(|&&by| by <= said + written).count();
            while others.iter().filter(|message| message.what == "SEND").count() < wanted {
                let message = alice.message_within(LONGEST);
                others.push(message.expect("a line while the file is under way"));
            }
            let next = piece.len().min(written + (64 << 10));
            written += alice.writes_some(&piece[written..next]).unwrap_or(0);
            while let Some(message) = alice.message_within(Duration::from_millis(1)) {
                others.push(message);
            }
        }
        for message in others[answered..].iter().filter(|message| message.what == "SEND") {
            let refused = message.body.as_deref() == Some(CHATS[1].1.as_bytes());
            alice.answers(message, if refused { "403 No" } else { "200 OK" });
        }
        answered = others.len();
        said += piece.len();
    }
    while others.len() < FILE / CHUNK + 8 {
        others.push(alice.message());
    }
    others
}

/// Bob reads slowly, and says a line of his own now and then.
fn receives(bob: &mut Peer, to: &str, body: &[u8]) -> Vec<Message> {
    let mut transfer = Transfer::default();
    let mut lines = CHATS.iter().enumerate().peekable();
    let mut whole = false;
    let deadline = now() + LONGEST;
    while !whole {
        assert!(now() < deadline, "{} octets came", transfer.body.len() + bob.unread().len());
        bob.reads_about(MIB);
        sleep(REST);
        while let Some(message) = bob.message_within(Duration::ZERO) {
            let is_file = message.header("Message-ID") == Some("file");
            if message.what == "SEND" {
                let refused = message.body.as_deref() == Some(b"chatA002");
                bob.answers(&message, if refused { "415 No" } else { "200 OK" });
            }
            if is_file {
                whole = transfer.add(message);
            } else {
                if let Some(n) = CHATS
                    .iter()
                    .position(|(line, _)| message.body.as_deref() == Some(line.as_bytes()))
                {
                    // Just where it was said: nothing of the file has overtaken it, nor it the file.
                    assert_eq!(transfer.body.len(), (CHATS_BEHIND[n] + 1) * CHUNK);
                }
                transfer.others.push(message);
            }
        }
        let arrived = transfer.body.len() + bob.unread().len();
        if let Some((_, (_, line))) = lines.next_if(|(n, _)| arrived > (n + 1) * FILE / 8) {
            bob.says(&send(line, to, "{bob}", line));
        }
    }
    assert!(transfer.body == body, "the file has changed on its way");
    // One REPORT on the whole of it.
    let range = format!("1-{FILE}/{FILE}");
    bob.says(&report("okay0001", to, "{bob}", "000 200 OK", &range).replace("87652491", "file"));
    transfer.others
}

/// A response to each of her requests, bob's lines, and the two REPORTs.
fn check_alice(heard: &[Message], to_bob: &str) {
    let mut all: Vec<String> = heard.iter().map(told).collect();
    all.sort_unstable();
    let mut expected: Vec<String> =
        (0..FILE / CHUNK).map(chunk_id).map(|id| id + " 200 OK").collect();
    expected.extend(
        [
            "REPORT 000 200 OK on file",
            "REPORT 000 415 No on 87652491",
            "SEND chatB001",
            "SEND chatB002",
            "SEND chatB003",
            "chatA001 200 OK",
            "chatA002 200 OK",
            "chatA003 200 OK",
        ]
        .map(str::to_owned),
    );
    expected.sort_unstable();
    assert_eq!(all, expected, "on the way to {to_bob}");
}

fn check_bob(heard: &[Message]) {
    let mut all: Vec<String> = heard.iter().map(told).collect();
    all.sort_unstable();
    let expected = [
        "REPORT 000 403 No on 87652491",
        "SEND chatA001",
        "SEND chatA002",
        "SEND chatA003",
        "chatB001 200 OK",
        "chatB002 200 OK",
        "chatB003 200 OK",
    ];
    assert_eq!(all, expected);
}

fn told(message: &Message) -> String {
    match message.what.as_str() {
        "SEND" => {
            let body = message.body.as_deref().unwrap_or_default();
            format!("SEND {}", String::from_utf8_lossy(body))
        }
        "REPORT" => format!("REPORT {} on {}", message.the("Status"), message.the("Message-ID")),
        response => format!("{} {response}", message.tid),
    }
}
