//! Through the relay.

use std::{fs, thread, time::Duration};

use crate::harness::{Relay, Room, borrowed, number_after, sha256, text, wait_for};

#[test]
fn files_arrive_through_the_relay_in_every_topology() {
    for tls in [false, true] {
        let room = Room::new();
        let relay = Relay::start(&room, tls);
        let file = room.random("through the relay.bin", 5 * 1024 * 1024);
        let listen = room.listen_args(tls);
        for (receive, send) in [
            // a: a direct sender to a relayed receiver
            (relay.args("bob"), room.direct_args(tls)),
            // b: a relayed sender to a listening receiver
            (listen, relay.args("alice")),
            // c: both relayed
            (relay.args("bob"), relay.args("alice")),
        ] {
            let waiting = room.receive(&borrowed(&receive));
            let sent = room.send(&file, &borrowed(&send));
            let received = waiting.finish();
            let told = format!("tls {tls}: {send:?} {} {}", sent.stderr, received.stderr);
            assert_eq!((sent.code, received.code), (0, 0), "{told}");
            let digest = format!("SHA-256 {}", sha256(&file));
            assert!(sent.stderr.contains(&digest) && received.stderr.contains(&digest), "{told}");
        }
    }
}

#[test]
fn small_files_arrive_through_the_relay() {
    let room = Room::new();
    let relay = Relay::start(&room, false);
    for size in [0, 1, 2048, 2049] {
        let file = room.random(&format!("small {size}"), size);
        let waiting = room.receive(&borrowed(&relay.args("bob")));
        let sent = room.send(&file, &borrowed(&relay.args("alice")));
        let received = waiting.finish();
        let told = format!("{size}: {} {}", sent.stderr, received.stderr);
        assert_eq!((sent.code, received.code), (0, 0), "{told}");
        assert_eq!(fs::read(room.inbox().join(format!("small {size}"))).unwrap().len(), size);
    }
}

#[test]
fn the_relays_refusals_are_told_in_words() {
    let room = Room::new();
    let relay = Relay::start(&room, false);
    let file = room.random("x", 10);
    let waiting = room.receive(&borrowed(&relay.args("bob")));
    let path = room.path();

    let mut args = vec!["send", text(&file), "--to", &path];
    let relayed = relay.args("mallory");
    args.extend(borrowed(&relayed));
    let stranger = room.client(&args).finish();
    assert_eq!(stranger.code, 1, "{}", stranger.stderr);
    assert!(stranger.stderr.contains("wrong user or wrong password"), "{}", stranger.stderr);

    waiting.kill();
    let late = room.send_to(&path, &file, &borrowed(&relay.args("alice")));
    assert_eq!(late.code, 1, "{}", late.stderr);
    assert!(late.stderr.contains("has the receiver gone?"), "{}", late.stderr);
}

/// RFC 4976 §5.1: a session is refreshed while the receiver waits, so its path outlives Expires.
#[test]
fn a_waiting_receiver_keeps_its_session() {
    let room = Room::new();
    let relay = Relay::start(&room, false);
    let file = room.random("x", 10);
    let mut args = relay.args("bob");
    args.extend(["--expires".to_owned(), "2".to_owned()]);
    let waiting = room.receive(&borrowed(&args));
    thread::sleep(Duration::from_secs(5));
    let sent = room.send(&file, &borrowed(&relay.args("alice")));
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    assert_eq!(waiting.finish().code, 0);
}

/// The relay dies with a file on its way.
#[test]
fn a_relay_that_goes_away_is_a_lost_connection() {
    let room = Room::new();
    let relay = Relay::start(&room, false);
    let file = room.random("x", 512 * 1024 * 1024);
    let waiting = room.receive(&borrowed(&relay.args("bob")));
    let path = room.path();
    let mut args = vec!["send", text(&file), "--to", &path];
    let relayed = relay.args("alice");
    args.extend(borrowed(&relayed));
    let sender = room.client(&args);
    wait_for("the file to start", || fs::read_dir(room.inbox()).unwrap().count() > 0);
    drop(relay);
    let (sent, received) = (sender.finish(), waiting.finish());
    assert_eq!((sent.code, received.code), (3, 3), "{} {}", sent.stderr, received.stderr);
    assert!(number_after(&sent.stderr, "connection lost after ") > 0, "{}", sent.stderr);
}
