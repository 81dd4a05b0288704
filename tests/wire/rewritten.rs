//! The relay's URI as a middlebox (ALG, SBC) rewrote it: its session-id is right, and scheme, host or
//! port are not (behaviour 3, RFC 6714).

use crate::harness::{
    SILENCE, Scene, TAKEN, TOPOLOGIES, empty_send, file_head, first, report, send,
};

/// A URI with other parts than those that the relay gave out.
type Rewrite = fn(&str) -> String;

const REWRITES: [(&str, Rewrite); 6] = [
    ("host", |uri| authority(uri, "192.0.2.7", ":4711")),
    ("host and port", |uri| authority(uri, "[2001:db8::7]", ":2855")),
    ("port", |uri| {
        let (host, _) = uri.rsplit_once(':').expect("a port");
        format!("{host}:1/{}", session(uri))
    }),
    ("no port", |uri| {
        let (host, _) = uri.rsplit_once(':').expect("a port");
        format!("{host}/{}", session(uri))
    }),
    ("scheme", |uri| match uri.strip_prefix("msrps") {
        Some(rest) => format!("msrp{rest}"),
        None => uri.replacen("msrp", "msrps", 1),
    }),
    ("all", |uri| {
        let other = if uri.starts_with("msrps") { "msrp" } else { "msrps" };
        format!("{other}://sbc.invalid/{}", session(uri))
    }),
];

/// Session-id, transport and parameters of a URI.
fn session(uri: &str) -> &str {
    uri.rsplit_once('/').expect("a session-id").1
}

fn authority(uri: &str, host: &str, port: &str) -> String {
    let (scheme, _) = uri.split_once("://").expect("a scheme");
    format!("{scheme}://{host}{port}/{}", session(uri))
}

const SOURCE: &str = "481 Indicated session does not exist, please terminate: \
                      From-Path does not match session source";
const DESTINATION: &str = "481 Indicated session does not exist, please terminate: \
                           To-Path does not match session destination";

#[test]
fn a_peer_joins_and_talks_by_it() {
    for scene in [Scene::plain, Scene::tls] {
        for (what, rewrite) in REWRITES {
            let scene = scene();
            let mut alice = scene.client("alice");
            let mut bob = scene.stranger("bob");
            scene.names.bind("X", rewrite(&scene.names.text("A")));
            eprintln!("{what}: {}", scene.names.text("X"));
            // An answer comes from the URI that the request went to (RFC 4975 §7.2).
            bob.says(&empty_send("join0001", "{X} {alice}", "{bob}"));
            bob.hears_response("join0001", "200 OK", "{X}");
            let heard = alice.message();
            let own = scene.names.text("A");
            assert_eq!(heard.the("From-Path"), format!("{own} {}", scene.names.text("bob")));
            alice.answers(&heard, "200 OK");
            // The rewritten URI and the true one are the same.
            for (tid, relay) in [("s0000001", "{X}"), ("s0000002", "{A}")] {
                scene.names.unbind("t");
                bob.says(&send(tid, &format!("{relay} {{alice}}"), "{bob}", "hello"));
                bob.hears_response(tid, "200 OK", relay);
                alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
                alice.responds("{t}", "200 OK", "{A}");
            }
            // What the relay makes itself has the URI that it gave out.
            scene.names.unbind("t");
            bob.says(&send("s0000003", "{X} {alice}", "{bob}", "hello"));
            bob.hears_response("s0000003", "200 OK", "{X}");
            alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
            alice.responds("{t}", "415 No", "{X}");
            bob.hears(&report("{r}", "{bob}", "{A}", "000 415 No", "1-5/5"));
        }
    }
}

#[test]
fn a_client_sends_by_it_however_the_session_comes_about() {
    for kind in TOPOLOGIES {
        for (what, rewrite) in REWRITES {
            let scene = Scene::plain();
            let mut session = scene.topology(kind);
            scene.names.bind("X", rewrite(&scene.names.text("A")));
            eprintln!("{kind:?} {what}: {}", scene.names.text("X"));
            let to_bob = session.to_bob.replace("{A}", "{X}");
            session.alice.says(&send("s0000001", &to_bob, "{alice}", "hello"));
            session.alice.hears_response("s0000001", "200 OK", "{X}");
            session.bob.hears(&send("{t}", "{bob}", &session.from_alice, "hello"));
            session.bob.responds("{t}", "415 No", &first(&session.from_alice));
            let from = &session.out;
            session.alice.hears(&report("{r}", "{alice}", from, "000 415 No", "1-5/5"));
            session.talks();
        }
    }
}

#[test]
fn the_first_request_of_a_client_may_have_it() {
    for (what, rewrite) in REWRITES {
        let scene = Scene::plain();
        let mut alice = scene.client("alice");
        let listener = scene.listener("bob");
        scene.names.bind("X", rewrite(&scene.names.text("A")));
        eprintln!("{what}: {}", scene.names.text("X"));
        alice.says(&send("s0000001", "{X} {bob}", "{alice}", "hello"));
        alice.hears_response("s0000001", "200 OK", "{X}");
        listener.accepts().hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));

        let mut carol = scene.client("carol");
        let mut dave = scene.client("dave");
        scene.names.bind("Y", rewrite(&scene.names.text("C")));
        carol.says(&send("s0000001", "{Y} {D} {dave}", "{carol}", "hello"));
        carol.hears_response("s0000001", "200 OK", "{Y}");
        dave.hears(&send("{u}", "{dave}", "{D} {C} {carol}", "hello"));
    }
}

/// The head of a SEND that leaves in pieces is written elsewhere.
#[test]
fn a_long_send_leaves_with_the_uri_that_was_given_out() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let (_, rewrite) = REWRITES[0];
    scene.names.bind("X", rewrite(&scene.names.text("A")));
    let head = file_head(&bob, "s0000001", "{X} {alice}", "{bob}", "1-10000/10000");
    bob.says_octets(&[&head[..], &[b'x'; 10_000], b"\r\n-------s0000001$\r\n"].concat());
    let received = alice.receives();
    assert_eq!(received.body.len(), 10_000);
    bob.hears_response("s0000001", "200 OK", "{X}");
}

#[test]
fn methods_that_pass_have_the_uri_that_was_given_out() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let (_, rewrite) = REWRITES[5];
    scene.names.bind("X", rewrite(&scene.names.text("A")));
    bob.says("MSRP n0000001 NICKNAME\nTo-Path: {X} {alice}\nFrom-Path: {bob}\n-------n0000001$");
    alice.hears("MSRP {t} NICKNAME\nTo-Path: {alice}\nFrom-Path: {A} {bob}\n-------{t}$");
    alice.says("MSRP {t} 425 No\nTo-Path: {X} {bob}\nFrom-Path: {alice}\n-------{t}$");
    bob.hears("MSRP n0000001 425 No\nTo-Path: {bob}\nFrom-Path: {A} {alice}\n-------n0000001$");
    alice.says(&report("r0000001", "{X} {bob}", "{alice}", "000 200 OK", "1-5/5"));
    bob.hears(&report("{r}", "{bob}", "{A} {alice}", "000 200 OK", "1-5/5"));
}

#[test]
fn a_wrong_path_is_refused_as_before() {
    for (what, rewrite) in REWRITES {
        let scene = Scene::plain();
        let mut alice = scene.client("alice");
        scene.names.bind("X", rewrite(&scene.names.text("A")));
        eprintln!("{what}: {}", scene.names.text("X"));
        // Not the way to alice: the session waits as before.
        let mut mallory = scene.stranger("mallory");
        for to in ["{X} {bob}", "{X} {alice} {bob}", "{X} {A} {alice}"] {
            mallory.says(&empty_send("s0000001", to, "{mallory}"));
            mallory.hears_response("s0000001", DESTINATION, "{X}");
        }
        alice.says(&send("s0000001", "{X} {bob}", "{mallory}", "hello"));
        alice.hears(&format!(
            "MSRP s0000001 {SOURCE}\nTo-Path: {{mallory}}\nFrom-Path: {{X}}\n-------s0000001$"
        ));
        let mut bob = scene.stranger("bob");
        bob.says(&empty_send("s0000001", "{X} {alice}", "{bob}"));
        bob.hears_response("s0000001", "200 OK", "{X}");
        assert_eq!(alice.message().what, "SEND");
        // Now there is a peer.
        bob.says(&send("s0000002", "{X} {alice}", "{mallory}", "hello"));
        bob.hears(&format!(
            "MSRP s0000002 {SOURCE}\nTo-Path: {{mallory}}\nFrom-Path: {{X}}\n-------s0000002$"
        ));
        alice.says(&send("s0000002", "{X} {carol}", "{alice}", "hello"));
        alice.hears_response("s0000002", DESTINATION, "{X}");
        mallory.says(&empty_send("s0000002", "{X} {alice}", "{mallory}"));
        mallory.hears_response("s0000002", TAKEN, "{X}");
        alice.hears_nothing(SILENCE);
    }
}

#[test]
fn another_session_id_is_another_session() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut carol = scene.client("carol");
    let (_, rewrite) = REWRITES[0];
    let longer = scene.names.text("A").replace(";tcp", "x;tcp");
    scene.names.bind("longer", rewrite(&longer));
    scene.names.bind("hers", rewrite(&scene.names.text("C")));
    let mut mallory = scene.stranger("mallory");
    for to in ["{longer} {alice}", "{hers} {alice}"] {
        mallory.says(&empty_send("s0000001", to, "{mallory}"));
        mallory.hears_code("s0000001", "481");
    }
    alice.says(&send("s0000001", "{hers} {bob}", "{alice}", "hello"));
    alice.hears_code("s0000001", "481");
    carol.hears_nothing(SILENCE);
    alice.hears_nothing(SILENCE);
}

#[test]
fn an_auth_extends_the_session_of_a_rewritten_uri_and_no_other() {
    for (what, rewrite) in REWRITES {
        let scene = Scene::plain();
        let (mut alice, mut bob) = scene.joined();
        let _carol = scene.client("carol");
        let own = scene.names.text("A");
        let rewritten = rewrite(&own);
        eprintln!("{what}: {rewritten}");
        scene.names.bind("relay", &rewritten);
        let granted = alice.logs_in("");
        assert_eq!(granted.the("Use-Path"), own);
        assert_eq!(granted.the("From-Path"), rewritten);
        scene.names.bind("hers", rewrite(&scene.names.text("C")));
        alice.says("MSRP a0000003 AUTH\nTo-Path: {hers}\nFrom-Path: {alice}\n-------a0000003$");
        alice.hears_code("a0000003", "481");
        bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
        alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    }
}

#[test]
fn s30_the_own_uri_a_second_time_is_a_loop_however_it_is_written() {
    for (what, rewrite) in REWRITES {
        let scene = Scene::plain();
        let mut alice = scene.client("alice");
        let mut bob = scene.client("bob");
        scene.names.bind("X", rewrite(&scene.names.text("A")));
        eprintln!("{what}: {}", scene.names.text("X"));
        for to in ["{A} {X} {alice}", "{X} {A} {alice}", "{X} {X} {alice}", "{X} {B} {X} {alice}"] {
            alice.says(&send("s0000001", to, "{alice}", "hello"));
            alice.hears_code("s0000001", "481");
        }
        bob.hears_nothing(SILENCE);
        // It was not dialled: the session still waits.
        alice.says(&send("s0000002", "{X} {B} {bob}", "{alice}", "hello"));
        alice.hears_response("s0000002", "200 OK", "{X}");
        bob.hears(&send("{t}", "{bob}", "{B} {A} {alice}", "hello"));
    }
}

/// A next hop is where its URI points (RFC 4975 §6.1), so a middlebox that wrote itself into it gets
/// what is sent there, and can pass it on to the relay.
#[test]
fn a_middlebox_in_a_next_hop_is_dialled_and_leads_back() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    let listener = scene.listener("middlebox");
    let (host, port) = (listener.address().ip(), listener.address().port());
    let uri = authority(&scene.names.text("B"), &host.to_string(), &format!(":{port}"));
    scene.names.bind("X", uri);
    alice.says(&send("s0000001", "{A} {X} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    let mut far = listener.accepts();
    far.hears(&send("{t}", "{X} {bob}", "{A} {alice}", "hello"));
    let mut near = scene.stranger("middlebox");
    near.says(&send("{t}", "{X} {bob}", "{A} {alice}", "hello"));
    near.hears("MSRP {t} 200 OK\nTo-Path: {A}\nFrom-Path: {X}\n-------{t}$");
    bob.hears(&send("{u}", "{bob}", "{B} {A} {alice}", "hello"));
    bob.says(&send("s0000001", "{B} {A} {alice}", "{bob}", "and you"));
    near.hears(&send("{v}", "{A} {alice}", "{B} {bob}", "and you"));
}
