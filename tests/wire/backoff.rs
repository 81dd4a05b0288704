//! Refusals to one address are slowed (behaviour 3, S10, S21): its neighbours notice nothing, those
//! who log in rightly behind it notice little, and it is served again soon.
//!
//! Each test has a relay of its own. Nothing here is about how fast the relay is: the tests count
//! answers, and wait where an answer must wait.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    PATIENCE, Peer, Scene, UNKNOWN, bare_auth, empty_send, now, send, sleep, until,
};

/// Answers at once, and answers a second in the long run.
const BURST: usize = 300;
const RATE: usize = 100;
/// Answers that wait at the same time, at most: 10 s of them.
const WAITING: usize = 1000;

const MALLORY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const CAROL: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// The most answers that there may be in this time.
fn allowed(since: Instant) -> usize {
    let milliseconds = usize::try_from(since.elapsed().as_millis()).expect("a short time");
    BURST + RATE * milliseconds / 1000 + 1
}

/// What is refused.
#[derive(Clone, Copy, Debug)]
enum Flood {
    /// AUTH without credentials.
    Bare,
    /// A challenge, and a wrong answer to it.
    Failing,
    /// SEND to a session-id that may exist.
    Guesses,
}

/// Asks as often as there are answers, on one connection after the other, until `over`. Returns the
/// number of answers.
fn floods(scene: &Scene, flood: Flood, over: Instant) -> usize {
    let mut answers = 0;
    while now() < over {
        let mut peer = scene.stranger_from("mallory", MALLORY);
        answers += asks(&mut peer, flood, over);
    }
    answers
}

fn asks(peer: &mut Peer, flood: Flood, over: Instant) -> usize {
    let (bare, mut answers) = (bare(peer), 0);
    while now() < over {
        let request = match flood {
            Flood::Bare | Flood::Failing => bare.clone(),
            Flood::Guesses => guess(peer, answers),
        };
        let Some(challenge) = answer(peer, &request, over) else { return answers };
        answers += 1;
        if let Flood::Failing = flood {
            let mut credentials = peer.credentials(&challenge);
            "wrong".clone_into(&mut credentials.password);
            let request = peer.auth_octets("a0000002", &credentials.header(), "");
            let Some(refused) = answer(peer, &request, over) else { return answers };
            assert!(refused.what.starts_with("401"), "{refused:?}");
            answers += 1;
        }
    }
    answers
}

fn bare(peer: &Peer) -> Vec<u8> {
    peer.octets(&bare_auth("a0000001", "{relay}", "{mallory}"))
}

fn guess(peer: &Peer, number: usize) -> Vec<u8> {
    let to = format!("msrp://relay.example.com:2855/{number:022};tcp {{alice}}");
    peer.octets(&empty_send("s0000001", &to, "{mallory}"))
}

fn answer(peer: &mut Peer, request: &[u8], over: Instant) -> Option<crate::harness::Message> {
    peer.tries(request).ok()?;
    peer.message_within(over.saturating_duration_since(now()))
}

#[test]
fn s21_refusals_of_all_kinds_to_one_address_are_slowed_together() {
    const KINDS: [Flood; 3] = [Flood::Bare, Flood::Failing, Flood::Guesses];

    let scene = Scene::with("");
    let since = now();
    let over = since + Duration::from_secs(5);
    let answers: usize = thread::scope(|scope| {
        let kinds = KINDS.iter().cycle().take(12);
        let running: Vec<_> =
            kinds.map(|kind| scope.spawn(|| floods(&scene, *kind, over))).collect();
        running.into_iter().map(|one| one.join().expect("a count")).sum()
    });
    assert!(answers <= allowed(since), "{answers} answers in {:?}", since.elapsed());
    // The limit is no ban.
    assert!(answers > BURST, "{answers}");
    scene.relay.logs("answers to refused requests from 127.0.0.2");
}

/// Those who do not wait for answers are not read either.
#[test]
fn s21_connections_that_ask_20_000_times_are_slowed_and_held() {
    const CONNECTIONS: usize = 10;

    let scene = Scene::with("");
    scene.client("alice");
    let before = scene.relay.resident_kib();
    let since = now();
    let answers: usize = thread::scope(|scope| {
        let asking: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    let mut mallory = scene.stranger_from("mallory", MALLORY);
                    mallory.set_write_timeout(Duration::from_millis(100));
                    let octets = bare(&mallory).repeat(20_000);
                    let (mut said, mut answers) = (0, 0);
                    while since.elapsed() < Duration::from_secs(5) {
                        if said < octets.len() {
                            said += mallory.writes_some(&octets[said..]).unwrap_or_default();
                        }
                        while mallory.message_within(Duration::from_millis(50)).is_some() {
                            answers += 1;
                        }
                    }
                    answers
                })
            })
            .collect();
        asking.into_iter().map(|one| one.join().expect("a count")).sum()
    });
    assert!((BURST..=allowed(since)).contains(&answers), "{answers} answers");
    // All that they said would be 27 MB.
    let grown = scene.relay.resident_kib().saturating_sub(before);
    assert!(grown < 2 * 1024, "{grown} KiB");
}

#[test]
fn s10_guesses_over_many_connections_get_nowhere_and_harm_no_session() {
    let scene = Scene::with("");
    let mut alice = scene.client("alice");
    let since = now();
    let over = since + Duration::from_secs(5);
    // 10,000 guesses: 16 on each connection, and nobody waits for an answer.
    let answers: usize = thread::scope(|scope| {
        let guessing: Vec<_> = (0..5)
            .map(|_| {
                scope.spawn(|| {
                    let mut peers: Vec<_> = (0..125)
                        .map(|_| {
                            let mut peer = scene.stranger_from("mallory", MALLORY);
                            let guesses: Vec<u8> =
                                (0..16).flat_map(|number| guess(&peer, number)).collect();
                            let _ = peer.tries(&guesses);
                            peer
                        })
                        .collect();
                    sleep(u64::try_from((over - now()).as_millis()).expect("a short time"));
                    let mut answers = 0;
                    for peer in &mut peers {
                        while let Some(refused) = peer.message_within(Duration::from_millis(1)) {
                            assert!(refused.what.starts_with(UNKNOWN), "{refused:?}");
                            answers += 1;
                        }
                    }
                    answers
                })
            })
            .collect();
        guessing.into_iter().map(|one| one.join().expect("a count")).sum()
    });
    assert!((BURST..=allowed(since)).contains(&answers), "{answers} answers");
    // The peer whom alice waits for comes from elsewhere.
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

/// As many from one address as have to wait for `seconds`, each with one bare AUTH.
fn line(scene: &Scene, seconds: usize) -> Vec<Peer> {
    (0..BURST + RATE * seconds)
        .map(|_| {
            let mut peer = scene.stranger_from("mallory", MALLORY);
            let request = bare(&peer);
            peer.says_octets(&request);
            peer
        })
        .collect()
}

fn waits_for_refusal(scene: &Scene) {
    scene.relay.logs("answers to refused requests from 127.0.0.2");
}

#[test]
fn s21_other_addresses_notice_nothing_and_hang_ups_leave_the_line() {
    let scene = Scene::with("");
    let since = now();
    let line = line(&scene, 9);
    waits_for_refusal(&scene);
    // Whoever comes last to that address waits for those before.
    let mut last = scene.stranger_from("mallory", MALLORY);
    let request = bare(&last);
    last.says_octets(&request);
    let asked = now();
    let due = Duration::from_secs(9).saturating_sub(since.elapsed());
    if due > Duration::from_secs(5) {
        // Elsewhere nobody does.
        for _ in 0..20 {
            scene.stranger_from("carol", CAROL).logs_in("");
        }
        let took = asked.elapsed();
        assert!(took < due, "{took:?} for what should not wait");
        last.hears_nothing(Duration::from_millis(100));
    }
    // Those before give up, and so none of them is waited for.
    drop(line);
    let gone = now();
    last.hears_code("a0000001", "401");
    assert!(gone.elapsed() < Duration::from_secs(3), "{:?}", gone.elapsed());
    scene.stranger_from("mallory", MALLORY).challenged("a0000001");
}

#[test]
fn s21_beyond_the_line_strangers_are_closed_and_sessions_are_kept() {
    let scene = Scene::with("");
    let mut alice = scene.stranger_from("alice", MALLORY);
    alice.logs_in("");
    let mut line = line(&scene, WAITING / RATE + 5);
    // Some of them are told nothing.
    let closed = line.iter_mut().skip(BURST).filter_map(|peer| {
        let ended = peer.hung_up_within(Duration::from_millis(2));
        (ended && peer.unread().is_empty()).then_some(())
    });
    assert!(closed.count() > 100, "nobody is turned away");
    // The refresh of a client at the same address waits in line, and its session is kept.
    let uri = alice.auth_uri();
    alice.says(&bare_auth("a0000003", &uri, "{alice}"));
    let challenge = alice.message_within(Duration::from_secs(30)).expect("a challenge");
    assert!(challenge.what.starts_with("401"), "{challenge:?}");
    let credentials = alice.credentials(&challenge);
    alice.says_auth("a0000004", &credentials.header(), "");
    alice.hears_code("a0000004", "200");
    // After the flood the address is served again.
    let over = now();
    drop(line);
    let mut dave = scene.stranger_from("dave", MALLORY);
    dave.logs_in("");
    assert!(over.elapsed() < Duration::from_secs(30), "{:?}", over.elapsed());
}

#[test]
fn many_people_behind_one_address_log_in_unslowed() {
    let scene = Scene::with("");
    let since = now();
    let logged_in = thread::scope(|scope| {
        let users = ["alice", "bob", "carol", "dave"];
        let each: Vec<_> = users
            .map(|user| {
                let scene = &scene;
                scope.spawn(move || {
                    (0..250)
                        .map(|_| {
                            let mut peer = scene.stranger_from(user, MALLORY);
                            peer.logs_in("");
                            peer
                        })
                        .count()
                })
            })
            .into();
        each.into_iter().map(|one| one.join().expect("a count")).sum::<usize>()
    });
    assert_eq!(logged_in, 1000);
    let log = scene.relay.log();
    assert!(!log.contains("answers to refused requests"), "slowed, after {:?}", since.elapsed());
}

/// All ask first and answer later. A challenge that is answered lets the next one out, so nobody
/// waits for the time that 700 refusals take.
#[test]
fn a_crowd_that_asks_at_once_is_let_in_as_it_answers() {
    let scene = Scene::with("");
    let mut crowd: Vec<Peer> = (0..1000)
        .map(|_| {
            let mut peer = scene.stranger_from("dave", MALLORY);
            let request = bare(&peer);
            peer.says_octets(&request);
            peer
        })
        .collect();
    for peer in &mut crowd {
        let challenge = peer.hears_code("a0000001", "401");
        let credentials = peer.credentials(&challenge);
        peer.says_auth("a0000002", &credentials.header(), "");
        peer.hears_code("a0000002", "200");
    }
}

/// What somebody mistypes is nothing.
#[test]
fn a_persons_slips_cost_nothing() {
    let scene = Scene::with("max_auth_attempts = 0");
    let mut alice = scene.stranger_from("alice", MALLORY);
    for _ in 0..10 {
        let mut credentials = alice.challenged("a0000001");
        "slip".clone_into(&mut credentials.password);
        alice.says_auth("a0000002", &credentials.header(), "");
        alice.hears_code("a0000002", "401");
    }
    alice.logs_in("");
    assert!(!scene.relay.log().contains("answers to refused requests"));
}

/// The owner of a session guesses others.
#[test]
fn s10_guesses_of_a_client_with_a_session_are_slowed_too() {
    let scene = Scene::with("");
    let mut erin = scene.stranger_from("erin", MALLORY);
    erin.logs_in("");
    let own = scene.names.text("E");
    let (host, _) = own.rsplit_once('/').expect("a session-id");
    let since = now();
    let guesses: Vec<u8> = (0..2000)
        .flat_map(|number| {
            let to = format!("{{E}} {host}/{number:022};tcp {{alice}}");
            erin.octets(&empty_send("s0000001", &to, "{erin}"))
        })
        .collect();
    let saying = erin.tries(&guesses);
    assert!(saying.is_ok(), "{saying:?}");
    let mut answers = 0;
    while since.elapsed() < Duration::from_secs(4) {
        if let Some(refused) = erin.message_within(Duration::from_millis(50)) {
            assert!(refused.what.starts_with(UNKNOWN), "{refused:?}");
            answers += 1;
        }
    }
    assert!((BURST..=allowed(since)).contains(&answers), "{answers} answers");
}

#[test]
fn a_relay_stops_at_once_whoever_waits() {
    let scene = Scene::with("");
    let line = line(&scene, 8);
    waits_for_refusal(&scene);
    scene.relay.stops();
    let ended = scene.relay.ends_within(PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    drop(line);
    until("the line about the end", || scene.relay.log().contains("stopped"));
    assert!(!scene.relay.log().contains("did not read"), "{}", scene.relay.log());
}
