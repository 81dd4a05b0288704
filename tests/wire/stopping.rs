//! Draining and stopping: what sessions are left to do, and who hears of the end.

use std::{fs, thread, time::Duration};

use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use crate::harness::{
    PATIENCE, Relay, Scene, empty_send, file_head, now, report, send, sleep, until, until_within,
};

/// TERM ends everything in this time.
const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// The process has ended well.
#[track_caller]
fn ends(relay: &Relay, patience: Duration) {
    let ended = relay.ends_within(patience);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", relay.log());
    assert!(!relay.control_socket().exists(), "the control socket is left behind");
}

#[track_caller]
fn runs_on(relay: &Relay, time: Duration) {
    assert!(relay.ends_within(time).is_none(), "the relay has ended:\n{}", relay.log());
}

fn phase(relay: &Relay) -> String {
    relay.status()["phase"].as_str().expect("a word").to_owned()
}

const REFUSAL: &str = "500 Relay is shutting down";

#[test]
fn a_draining_relay_takes_no_new_sessions_and_ends_with_the_last_one() {
    let scene = Scene::with("max_auth_attempts = 1");
    let relay = &scene.relay;
    let (mut alice, bob) = scene.joined();
    let mut carol = scene.client("carol");
    let mut erin = scene.stranger("erin");
    let credentials = erin.challenged("auth0001");
    relay.signal(Signal::SIGUSR1);
    relay.logs("draining: 2 sessions");
    assert_eq!(phase(relay), "draining");

    // No newcomer, with credentials or without; it is no failed attempt.
    for (tid, authorization) in [("late0001", &credentials.header()), ("late0002", &String::new())]
    {
        let uri = erin.auth_uri();
        let authorization = match authorization.as_str() {
            "" => String::new(),
            value => format!("Authorization: {value}\n"),
        };
        erin.says(&format!(
            "MSRP {tid} AUTH\nTo-Path: {uri}\nFrom-Path: {{erin}}\n{authorization}-------{tid}$"
        ));
        erin.hears_response(tid, REFUSAL, &uri);
    }

    // Sessions are refreshed, and joined, and their files arrive; a reload changes nothing of it.
    let refreshed = alice.challenged("more0001");
    alice.says_auth("more0002", &refreshed.header(), "");
    alice.hears_code("more0002", "200");
    // But for one that nobody has joined, which might be refreshed for ever.
    carol.says_auth("more0003", "none", "");
    carol.hears_response("more0003", REFUSAL, &carol.auth_uri());
    let mut dave = scene.stranger("dave");
    dave.says(&empty_send("join0001", "{C} {carol}", "{dave}"));
    dave.hears_response("join0001", "200 OK", "{C}");
    let request = carol.message();
    carol.answers(&request, "200 OK");
    relay.configure("max_auth_attempts = 2");
    relay.reloads();
    assert_eq!(phase(relay), "draining");
    dave.says(&send("talk0001", "{C} {carol}", "{dave}", "hello"));
    dave.hears_response("talk0001", "200 OK", "{C}");
    runs_on(relay, Duration::from_millis(500));

    drop((alice, bob));
    runs_on(relay, Duration::from_secs(1));
    assert_eq!(relay.status()["sessions"]["bound"], 1);
    drop((carol, dave));
    ends(relay, PATIENCE);
}

#[test]
fn a_relay_without_sessions_drains_at_once() {
    let scene = Scene::with("");
    let output = scene.relay.ctl(&["drain"]);
    assert!(output.status.success(), "{output:?}");
    ends(&scene.relay, PATIENCE);
}

/// Both sides hear of what was under way.
#[test]
fn term_ends_sessions_in_order() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    let (mut alice, mut bob) = scene.joined();
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    assert_eq!(bob.message().body.as_deref(), Some(&b"hello"[..]));
    let since = now();
    relay.signal(Signal::SIGTERM);
    alice.hears(&report("{r}", "{alice}", "{A}", "000 408 Session got disconnected", "1-5/5"));
    alice.is_closed();
    bob.is_closed();
    drop((alice, bob));
    ends(relay, FIVE_SECONDS);
    assert!(since.elapsed() < FIVE_SECONDS, "{:?}", since.elapsed());
}

#[test]
fn term_waits_for_sessions_as_long_as_it_is_told_to() {
    let scene = Scene::with("drain_timeout = 3");
    let relay = &scene.relay;
    let (mut alice, mut bob) = scene.joined();
    let since = now();
    relay.signal(Signal::SIGTERM);
    sleep(500);
    assert_eq!(phase(relay), "stopping");
    alice.says(&send("talk0001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("talk0001", "200 OK", "{A}");
    let request = bob.message();
    bob.answers(&request, "200 OK");
    let mut erin = scene.stranger("erin");
    let uri = erin.auth_uri();
    erin.says(&format!(
        "MSRP late0001 AUTH\nTo-Path: {uri}\nFrom-Path: {{erin}}\n-------late0001$"
    ));
    erin.hears_response("late0001", REFUSAL, &uri);
    assert!(relay.fails_to_reload().contains("stopping"));
    alice.is_closed();
    bob.is_closed();
    let waited = since.elapsed();
    assert!((2800..6000).contains(&waited.as_millis()), "{waited:?}");
    drop((alice, bob, erin));
    ends(relay, FIVE_SECONDS);
}

#[test]
fn term_does_not_wait_when_the_last_session_has_ended() {
    let scene = Scene::with("drain_timeout = 600");
    let relay = &scene.relay;
    let alice = scene.client("alice");
    relay.signal(Signal::SIGTERM);
    runs_on(relay, Duration::from_secs(1));
    drop(alice);
    ends(relay, PATIENCE);
}

/// A configuration that cannot be read to its end, as on a file server that is gone.
#[test]
fn a_reload_that_hangs_holds_up_no_end() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    fs::remove_file(relay.configuration_file()).expect("a file to remove");
    mkfifo(&relay.configuration_file(), Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    relay.signal(Signal::SIGHUP);
    until("the relay reloads", || phase(relay) == "reloading");
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| relay.ctl(&["reload"]));
        sleep(300);
        relay.signal(Signal::SIGTERM);
        ends(relay, Duration::from_secs(2));
        asking.join().expect("an answer")
    });
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("stopping"), "{asked:?}");
    relay.logs("INFO stopped");
}

/// The second TERM waits neither for `drain_timeout` nor for peers that do not read.
#[test]
fn a_second_term_ends_the_relay_at_once() {
    let scene = Scene::with("drain_timeout = 600");
    let relay = &scene.relay;
    let (_alice, _bob) = scene.joined();
    relay.signal(Signal::SIGTERM);
    runs_on(relay, Duration::from_secs(1));
    relay.signal(Signal::SIGTERM);
    ends(relay, Duration::from_secs(2));
}

/// Bob takes nothing of what he is still to be told: the line of his peer's session waits for
/// neither him nor the end of the process.
#[test]
fn a_session_that_is_over_has_its_line_however_the_relay_ends() {
    for terms in [2, 1] {
        let scene = Scene::with("");
        let relay = &scene.relay;
        let (alice, mut bob) = scene.joined();
        bob.says_octets(&file_head(&bob, "f0000001", "{A} {alice}", "{bob}", "1-*/*"));
        bob.set_write_timeout(Duration::from_secs(1));
        while bob.writes_some(&[b'x'; 8192]).is_some() {}
        alice.half_closes();
        until("it is over", || relay.status()["sessions"]["bound"].as_u64() == Some(0));
        if terms == 1 {
            until_within(Duration::from_secs(5), "the line", || {
                relay.log().contains("session ended: user=")
            });
        } else {
            relay.signal(Signal::SIGTERM);
            sleep(300);
            relay.signal(Signal::SIGTERM);
            ends(relay, Duration::from_secs(2));
            assert!(relay.log().contains("session ended: user="), "{}", relay.log());
        }
    }
}
