//! A relay as the inner one of a chain: AUTH for another relay passes through (RFC 4976 §5.1, §6.4).

use crate::harness::{Listener, Peer, SILENCE, Scene, first, send};

/// alice asks the outer relay for a challenge through this one; the outer relay is played by the test.
#[track_caller]
fn through(scene: &Scene) -> (Peer, Peer, Listener) {
    let listener = scene.listener("outer");
    let mut alice = scene.client("alice");
    alice.says("MSRP a0000001 AUTH\nTo-Path: {A} {outer}\nFrom-Path: {alice}\n-------a0000001$");
    let outer = listener.accepts();
    (alice, outer, listener)
}

#[test]
fn r4976_5_1_08_r4976_6_4_3_07_an_auth_for_another_relay_is_forwarded_and_its_answer_comes_back() {
    let scene = Scene::plain();
    let (mut alice, mut outer, _listener) = through(&scene);
    outer.hears("MSRP {t} AUTH\nTo-Path: {outer}\nFrom-Path: {A} {alice}\n-------{t}$");
    alice.hears_nothing(SILENCE);
    outer.says(
        r#"
        MSRP {t} 401 Unauthorized
        To-Path: {A} {alice}
        From-Path: {outer}
        WWW-Authenticate: Digest realm="extra.example",nonce="a,b=c",  qop="auth"
        -------{t}$
        "#,
    );
    alice.hears(
        r#"
        MSRP a0000001 401 Unauthorized
        To-Path: {alice}
        From-Path: {A} {outer}
        WWW-Authenticate: Digest realm="extra.example",nonce="a,b=c",  qop="auth"
        -------a0000001$
        "#,
    );
}

#[test]
fn r7616_3_6_01_r4976_9_1_12_nothing_that_a_digest_covers_is_touched() {
    let scene = Scene::plain();
    let listener = scene.listener("outer");
    let uri = scene.names.text("outer").replace("msrp://", "MSRP://ALICE@") + ";x=Y";
    scene.names.bind("outer", &uri);
    let mut alice = scene.client("alice");
    alice.says(
        r#"
        MSRP a0000001 AUTH
        To-Path: {A} {outer}
        From-Path: {alice}
        Authorization: digest  username="alice",realm="r" ,qop="auth", response=00
        -------a0000001$
        "#,
    );
    let mut outer = listener.accepts();
    outer.hears(
        r#"
        MSRP {t} AUTH
        To-Path: {outer}
        From-Path: {A} {alice}
        Authorization: digest  username="alice",realm="r" ,qop="auth", response=00
        -------{t}$
        "#,
    );
    outer.says(
        r#"
        MSRP {t} 200 OK
        To-Path: {A} {alice}
        From-Path: {outer}
        Use-Path: {A} msrps://extra.example:2855/Token+/=;tcp
        Expires: 900
        Authentication-Info: nextnonce="x" ,rspauth="00",qop=auth
        -------{t}$
        "#,
    );
    alice.hears(
        r#"
        MSRP a0000001 200 OK
        To-Path: {alice}
        From-Path: {A} {outer}
        Use-Path: {A} msrps://extra.example:2855/Token+/=;tcp
        Expires: 900
        Authentication-Info: nextnonce="x" ,rspauth="00",qop=auth
        -------a0000001$
        "#,
    );
}

#[test]
fn r4976_6_4_04_without_a_uri_of_this_relay_an_auth_for_another_goes_nowhere() {
    let scene = Scene::plain();
    let listener = scene.listener("outer");
    let mut peer = scene.stranger("alice");
    peer.says("MSRP a0000001 AUTH\nTo-Path: {relay} {outer}\nFrom-Path: {alice}\n-------a0000001$");
    peer.hears_response("a0000001", "501 Unknown method: AUTH", "{relay}");
    listener.is_left_alone(SILENCE);
}

/// After the AUTH the sessions of the chain run over the same connection, both ways.
#[test]
fn a_chain_of_two_relays_carries_a_session() {
    let scene = Scene::plain();
    let (mut alice, mut outer, listener) = through(&scene);
    let request = outer.message();
    scene.names.bind("t", &request.tid);
    let token = scene.names.text("outer").replace("outer-session", "token");
    scene.names.bind("token", token);
    outer.says(
        "
        MSRP {t} 200 OK
        To-Path: {A} {alice}
        From-Path: {outer}
        Use-Path: {A} {token}
        Expires: 900
        -------{t}$
        ",
    );
    alice.hears_code("a0000001", "200");
    alice.says(&send("s0000001", "{A} {token} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    outer.hears(&send("{u}", "{token} {bob}", "{A} {alice}", "hello"));
    let request_from = "{token} {bob}";
    outer.says(&send("s0000002", "{A} {alice}", request_from, "back"));
    let answer = outer.hears_code("s0000002", "200");
    assert_eq!(answer.the("To-Path"), first(&scene.names.text("token")));
    alice.hears(&send("{v}", "{alice}", "{A} {token} {bob}", "back"));
    listener.is_left_alone(SILENCE);
}

#[test]
fn a_send_elsewhere_after_a_forwarded_auth_is_refused() {
    let scene = Scene::plain();
    let (mut alice, mut outer, _listener) = through(&scene);
    let elsewhere = scene.listener("carol");
    let request = outer.message();
    scene.names.bind("t", &request.tid);
    outer.says(
        "
        MSRP {t} 200 OK
        To-Path: {A} {alice}
        From-Path: {outer}
        Use-Path: {A} msrps://extra.example:2855/token;tcp
        Expires: 900
        -------{t}$
        ",
    );
    alice.hears_code("a0000001", "200");
    alice.says(&send("s0000001", "{A} {carol}", "{alice}", "hello"));
    alice.hears_code("s0000001", "481");
    elsewhere.is_left_alone(SILENCE);
}

/// S17: an outer relay that answers twice, late to nobody, or without a reason.
#[test]
fn s17_an_odd_outer_relay_confuses_nobody() {
    let scene = Scene::plain();
    let (mut alice, mut outer, _listener) = through(&scene);
    let request = outer.message();
    scene.names.bind("t", &request.tid);
    outer.says("MSRP {t} 403\nTo-Path: {A} {alice}\nFrom-Path: {outer}\n-------{t}$");
    outer.says("MSRP {t} 200 OK\nTo-Path: {A} {alice}\nFrom-Path: {outer}\n-------{t}$");
    outer.says("MSRP nobody01 200 OK\nTo-Path: {A} {alice}\nFrom-Path: {outer}\n-------nobody01$");
    alice.hears("MSRP a0000001 403\nTo-Path: {alice}\nFrom-Path: {A} {outer}\n-------a0000001$");
    alice.hears_nothing(SILENCE);
}

#[test]
fn r4976_3_10_long_chains_pass() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let far: Vec<String> =
        (1..=6).map(|number| format!("msrps://r{number}.example:2855/{number};tcp")).collect();
    scene.names.bind("far", far.join(" "));
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{far} {bob}", "hello"));
    bob.hears_code("s0000001", "200");
    alice.hears(&send("{t}", "{alice}", "{A} {far} {bob}", "hello"));
}
