//! AUTH and digest (RFC 4976 §5.1, §6.3, §9.1; RFC 2617; RFC 7616).

use std::{collections::HashSet, net::Ipv4Addr, time::Duration};

use crate::harness::{
    Credentials, Message, Peer, SILENCE, Scene, bare_auth, empty_send, now, send, sleep,
};

pub(crate) const BASIC: &str = "Basic YWxpY2U6c2VjcmV0LWFsaWNl";
const UNPARSED: &str =
    "400 Request was unintelligible, please try again (Error parsing Authorization header)";

/// Alice on a new connection, and the challenge she has got.
#[track_caller]
pub(crate) fn challenged(scene: &Scene) -> (Peer, Credentials) {
    let mut alice = scene.stranger("alice");
    let credentials = alice.challenged("a0000001");
    (alice, credentials)
}

/// Answers a challenge wrongly and returns the 401.
#[track_caller]
pub(crate) fn fails_once(peer: &mut Peer, tid: &str, credentials: &Credentials) -> Message {
    let wrong = Credentials { password: "wrong".to_owned(), ..credentials.clone() };
    peer.says_auth(tid, &wrong.header(), "");
    peer.hears_code(tid, "401")
}

/// Is refused: 400 or 401, no Use-Path; a 401 has a challenge that this peer has not seen.
#[track_caller]
pub(crate) fn is_refused(peer: &mut Peer, tid: &str, seen: &Credentials) -> Message {
    let answer = peer.message();
    assert_eq!(answer.tid, tid);
    assert!(answer.header("Use-Path").is_none(), "{answer:?}");
    if answer.what.starts_with("401") {
        assert_ne!(peer.credentials(&answer).nonce, seen.nonce, "a fresh nonce");
    } else {
        assert!(answer.what.starts_with("400"), "{answer:?}");
        assert!(answer.header("WWW-Authenticate").is_none());
    }
    answer
}

#[test]
fn r4976_5_1_01_r4976_9_1_01_r7977_5_3_1_01_without_credentials_there_is_a_challenge_and_no_use_path()
 {
    for scene in [Scene::plain(), Scene::tls()] {
        let mut alice = scene.stranger("alice");
        alice.says(&bare_auth("49fh0000", "{relay}", "{alice}"));
        alice.hears(
            r#"
            MSRP 49fh0000 401 Unauthenticated
            To-Path: {alice}
            From-Path: {relay}
            WWW-Authenticate: Digest realm="example.com", qop="auth", nonce="{nonce}", opaque="{o}"
            -------49fh0000$
            "#,
        );
        alice.hears_nothing(SILENCE);
    }
}

#[test]
fn r4976_10_3_01_a_wrong_password_gets_401_with_a_fresh_nonce() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    let first = alice.challenged("a0000001");
    let refused = fails_once(&mut alice, "a0000002", &first);
    assert_eq!(refused.what, "401 Unauthenticated");
    let second = alice.credentials(&refused);
    assert_ne!(second.nonce, first.nonce);
    assert!(!refused.the("WWW-Authenticate").contains("stale"));
    alice.says_auth("a0000003", &second.header(), "");
    alice.hears_code("a0000003", "200");
}

#[test]
fn r4976_9_1_02_basic_is_refused_unless_configured() {
    for scene in [Scene::plain(), Scene::tls()] {
        let mut alice = scene.stranger("alice");
        alice.says_auth("a0000001", BASIC, "");
        alice.hears_response("a0000001", UNPARSED, "{relay}");
    }
}

#[test]
fn r4976_9_1_03_r4976_9_1_05_the_challenge_offers_auth_alone_and_no_domain() {
    let scene = Scene::plain();
    let (mut alice, credentials) = challenged(&scene);
    let refused = fails_once(&mut alice, "a0000002", &credentials);
    let challenge = refused.the("WWW-Authenticate");
    assert!(challenge.contains(", qop=\"auth\", "), "{challenge}");
    assert!(!challenge.contains("auth-int"), "{challenge}");
    assert!(!challenge.contains("domain="), "{challenge}");
    assert!(!challenge.contains("-sess"), "{challenge}");
}

#[test]
fn r4976_9_1_04_md5_sess_is_refused() {
    let scene = Scene::plain();
    for algorithm in ["MD5-sess", "\"MD5-sess\"", "SHA-256-sess", "SHA-256", "none"] {
        let (mut alice, credentials) = challenged(&scene);
        let header = format!("{}, algorithm={algorithm}", credentials.header());
        alice.says_auth("a0000002", &header, "");
        is_refused(&mut alice, "a0000002", &credentials);
    }
}

#[test]
fn r4976_9_1_06_qop_and_nc_may_be_quoted_and_qop_must_be_there() {
    let scene = Scene::plain();
    let (mut alice, credentials) = challenged(&scene);
    let quoted = credentials
        .header()
        .replace("qop=auth", "qop=\"auth\"")
        .replace("nc=00000001", "nc=\"00000001\"");
    alice.says_auth("a0000002", &quoted, "");
    alice.hears_code("a0000002", "200");

    let (mut alice, credentials) = challenged(&scene);
    alice.says_auth("a0000002", &credentials.header_without("qop"), "");
    is_refused(&mut alice, "a0000002", &credentials);
    let (mut alice, credentials) = challenged(&scene);
    let header = credentials.header().replace("qop=auth", "qop=auth-int");
    alice.says_auth("a0000002", &header, "");
    is_refused(&mut alice, "a0000002", &credentials);
}

#[test]
fn r4976_9_1_07_r4976_7_01_each_missing_parameter_is_refused_at_once() {
    let scene = Scene::plain();
    for parameter in ["username", "realm", "nonce", "qop", "nc", "cnonce", "response"] {
        let (mut alice, credentials) = challenged(&scene);
        let asked = now();
        alice.says_auth("a0000002", &credentials.header_without(parameter), "");
        is_refused(&mut alice, "a0000002", &credentials);
        assert!(asked.elapsed() < Duration::from_secs(2), "{parameter}");
    }
}

#[test]
fn r4976_7_01_parameters_in_any_order_spacing_and_quoting() {
    let scene = Scene::plain();
    let spellings: [fn(&str) -> String; 7] = [
        |header| header.replace(", ", ","),
        |header| header.replace(", ", " ,  "),
        |header| header.replacen("Digest", "digest", 1),
        |header| header.replacen("Digest ", "DIGEST  ", 1),
        |header| {
            let (_, list) = header.split_once(' ').expect("a scheme");
            let mut list: Vec<&str> = list.split(", ").collect();
            list.reverse();
            format!("Digest {}", list.join(", "))
        },
        |header| format!("{header}, extra=\"a, b=c; \\\"d\\\"\", other=1"),
        |header| header.replace("username=", "UserName=").replace("response=", "RESPONSE="),
    ];
    for (index, spelling) in spellings.iter().enumerate() {
        let (mut alice, credentials) = challenged(&scene);
        alice.says_auth("a0000002", &spelling(&credentials.header()), "");
        let answer = alice.message();
        assert!(answer.what.starts_with("200"), "spelling {index}: {answer:?}");
    }
}

#[test]
fn r4976_9_1_08_the_digest_covers_the_to_path_uri_as_text() {
    let scene = Scene::plain();
    for uri in [
        "MSRP://ALICE@example.com:2855;TCP;x=Y",
        "msrps://example.com:2855;tcp",
        "msrp://example.com;tcp",
    ] {
        scene.names.bind("relay", uri);
        let mut alice = scene.client("alice");
        alice.hears_nothing(Duration::from_millis(20));
    }
    scene.names.bind("relay", "msrp://Alice@example.com:2855;tcp");
    let (mut alice, mut credentials) = challenged(&scene);
    credentials.uri = "msrp://example.com:2855;tcp".to_owned();
    alice.says_auth("a0000002", &credentials.header(), "");
    alice.hears_code("a0000002", "401");
}

#[test]
fn r4976_9_1_09_a_uri_parameter_may_be_there_or_not() {
    let scene = Scene::plain();
    for spelling in ["msrp://example.com:2855;tcp", "MSRP://EXAMPLE.com:2855;TCP"] {
        let (mut alice, credentials) = challenged(&scene);
        let header = format!("{}, uri=\"{spelling}\"", credentials.header());
        alice.says_auth("a0000002", &header, "");
        alice.hears_code("a0000002", "200");
    }
}

#[test]
fn r7616_3_4_6_01_s25_a_uri_parameter_that_names_something_else_gets_401() {
    let scene = Scene::plain();
    for other in ["msrp://other.example;tcp", "msrp://example.com:2856;tcp"] {
        let (mut alice, mut credentials) = challenged(&scene);
        // Valid for the other URI, and then valid for the right one beside a wrong parameter.
        credentials.uri = other.to_owned();
        let header = format!("{}, uri=\"{other}\"", credentials.header());
        alice.says_auth("a0000002", &header, "");
        let refused = alice.hears_code("a0000002", "401");
        let credentials = alice.credentials(&refused);
        let header = format!("{}, uri=\"{other}\"", credentials.header());
        alice.says_auth("a0000003", &header, "");
        alice.hears_code("a0000003", "401");
    }
}

#[test]
fn r4976_9_1_10_r7616_3_5_01_r7616_3_5_02_a_200_proves_that_the_relay_knows_the_password() {
    let scene = Scene::plain();
    let (mut alice, credentials) = challenged(&scene);
    scene.names.bind("cnonce", &credentials.cnonce);
    scene.names.bind("rspauth", credentials.rspauth());
    alice.says_auth("a0000002", &credentials.header(), "");
    alice.hears(
        r#"
        MSRP a0000002 200 OK
        To-Path: {alice}
        From-Path: {relay}
        Use-Path: {A}
        Expires: 600
        Authentication-Info: qop=auth, cnonce="{cnonce}", nc=00000001, rspauth="{rspauth}"
        -------a0000002$
        "#,
    );

    // The same on the connection that holds the session, and the same URI (behaviour 4).
    let mut credentials = alice.challenged("a0000003");
    credentials.cnonce = "0123456789abcdef".to_owned();
    scene.names.bind("rspauth", credentials.rspauth());
    alice.says_auth("a0000004", &credentials.header(), "");
    alice.hears(
        r#"
        MSRP a0000004 200 OK
        To-Path: {alice}
        From-Path: {relay}
        Use-Path: {A}
        Expires: 600
        Authentication-Info: qop=auth, cnonce="0123456789abcdef", nc=00000001, rspauth="{rspauth}"
        -------a0000004$
        "#,
    );
}

#[test]
fn r2617_3_2_1_01_r7616_3_3_02_stale_only_with_the_right_digest_over_an_expired_nonce() {
    let scene = Scene::with("auth_challenge_expiration_time = 1");
    let (mut alice, credentials) = challenged(&scene);
    sleep(2100);
    alice.says_auth("a0000002", &credentials.header(), "");
    let stale = alice.hears_code("a0000002", "401");
    let challenge = stale.the("WWW-Authenticate").to_owned();
    assert!(challenge.split(", ").any(|part| part == "stale=true"), "{challenge}");
    let next = alice.credentials(&stale);
    assert_ne!(next.nonce, credentials.nonce);
    let refused = fails_once(&mut alice, "a0000003", &credentials);
    assert!(!refused.the("WWW-Authenticate").contains("stale"));
    let credentials = alice.credentials(&refused);
    alice.says_auth("a0000004", &credentials.header(), "");
    alice.hears_code("a0000004", "200");
}

#[test]
fn r2617_3_2_1_01_no_two_challenges_share_a_nonce() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    let mut nonces = HashSet::new();
    for _ in 0..200 {
        assert!(nonces.insert(alice.challenged("a0000001").nonce));
    }
}

#[test]
fn r7616_3_4_01_s13_a_replayed_authorization_gets_401_and_disturbs_nobody() {
    let scene = Scene::plain();
    let (mut alice, credentials) = challenged(&scene);
    alice.says_auth("a0000002", &credentials.header(), "");
    let granted = alice.hears_code("a0000002", "200");
    scene.names.bind("A", granted.the("Use-Path"));
    let mut thief = scene.stranger("alice");
    thief.says_auth("a0000003", &credentials.header(), "");
    let refused = thief.hears_code("a0000003", "401");
    assert!(refused.the("WWW-Authenticate").contains("stale=true"));
    let mut again = credentials.clone();
    again.nc = "00000002".to_owned();
    thief.says_auth("a0000004", &again.header(), "");
    thief.hears_code("a0000004", "401");
    alice.says_auth("a0000005", &credentials.header(), "");
    alice.hears_code("a0000005", "401");
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&empty_send("{t}", "{alice}", "{A} {bob}"));
}

#[test]
fn r7616_3_3_01_only_realm_nonce_opaque_and_qop_are_quoted() {
    let scene = Scene::plain();
    let (mut alice, credentials) = challenged(&scene);
    for value in [&credentials.nonce, &credentials.opaque] {
        assert!(!value.is_empty());
        assert!(value.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'"'));
    }
    let refused = fails_once(&mut alice, "a0000002", &credentials);
    let challenge = refused.the("WWW-Authenticate");
    let list = challenge.strip_prefix("Digest ").expect("Digest");
    for part in list.split(", ") {
        let (name, value) = part.split_once('=').expect("name=value");
        assert!(["realm", "nonce", "opaque", "qop"].contains(&name), "{part}");
        assert!(value.starts_with('"') && value.ends_with('"'), "{part}");
    }
}

#[test]
fn r4976_8_04_r4976_9_2_01_a_tls_relay_answers_no_auth_in_the_clear() {
    let scene = Scene::tls();
    let mut alice = Peer::connect("alice", &scene.names, scene.relay.address(), false);
    alice.says(&bare_auth("a0000001", "{relay}", "{alice}"));
    assert!(alice.hung_up_within(Duration::from_secs(35)));
    assert!(!alice.unread().starts_with(b"MSRP"));
}

#[test]
fn r4976_6_3_02_r4975_7_2_01_a_from_path_of_two_is_no_relay_but_a_client() {
    let scene = Scene::plain();
    scene.names.bind("inner", "msrp://inner.example:2855/x;tcp");
    let mut alice = scene.stranger("alice");
    alice.says(
        "
        MSRP a0000001 AUTH
        To-Path: {relay}
        From-Path: {inner} {alice}
        -------a0000001$
        ",
    );
    let challenge = alice.hears_code("a0000001", "401");
    let both = scene.names.text("inner") + " " + &scene.names.text("alice");
    assert_eq!(challenge.the("To-Path"), both);
    assert_eq!(challenge.the("From-Path"), scene.names.text("relay"));
    let credentials = alice.credentials(&challenge).header();
    alice.says(&format!(
        "MSRP a0000002 AUTH\nTo-Path: {{relay}}\nFrom-Path: {{inner}} {{alice}}\n\
         Authorization: {credentials}\n-------a0000002$"
    ));
    let granted = alice.hears_code("a0000002", "200");
    assert_eq!(granted.the("To-Path"), both);
}

#[test]
fn a_challenge_may_be_answered_on_another_connection_of_the_same_address_only() {
    let scene = Scene::plain();
    let credentials = scene.stranger("alice").challenged("a0000001");
    let mut alice = scene.stranger("alice");
    alice.says_auth("a0000002", &credentials.header(), "");
    alice.hears_code("a0000002", "200");

    let credentials = scene.stranger("alice").challenged("a0000001");
    let mut elsewhere = scene.stranger_from("alice", Ipv4Addr::new(127, 0, 0, 77));
    elsewhere.says_auth("a0000002", &credentials.header(), "");
    is_refused(&mut elsewhere, "a0000002", &credentials);
}

#[test]
fn a_nonce_shows_nothing_of_the_address() {
    let scene = Scene::plain();
    let nonce = scene.stranger("alice").challenged("a0000001").nonce;
    assert!(!nonce.contains("127.0.0.1"));
    // Of base64, whatever its alphabet and padding, the octets of the address would show here.
    let mut bits = 0_u32;
    let mut octets = Vec::new();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (index, letter) in nonce
        .chars()
        .map(|c| {
            if c == '-' {
                '+'
            } else if c == '_' {
                '/'
            } else {
                c
            }
        })
        .filter_map(|c| alphabet.find(c))
        .enumerate()
    {
        bits = (bits << 6) | u32::try_from(letter).unwrap();
        if index % 4 == 3 {
            octets.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    for pattern in [&b"127.0.0.1"[..], &[127, 0, 0, 1]] {
        assert!(!octets.windows(pattern.len()).any(|part| part == pattern));
    }
}

#[test]
fn s12_s11_hostile_authorization_headers_are_answered_at_once() {
    let scene = Scene::plain();
    let long = format!("Digest username=\"{}\"", "a".repeat(12_000));
    let corpus = [
        "Digest",
        "Digest ",
        "Digest ,",
        "Digest =",
        "Digest =x",
        "Digest username",
        "Digest username=",
        "Digest username=\"",
        "Digest username=\"a",
        "Digest username=\"a\\\"",
        "Digest username=\"a\" realm=\"b\"",
        "Digest username=\"a\",,,realm=\"b\"",
        "Digest \u{e9}=\"\u{e9}\"",
        "Digest username*=UTF-8''a",
        "Bearer x",
        "=",
        "\"",
        ",",
        "",
        &long,
    ];
    for authorization in corpus {
        let mut alice = scene.stranger("alice");
        let asked = now();
        alice.says_auth("a0000001", authorization, "");
        let answer = alice.message();
        assert!(
            answer.what.starts_with("400") || answer.what.starts_with("401"),
            "{authorization:?}: {answer:?}"
        );
        assert!(asked.elapsed() < Duration::from_secs(2), "{authorization:?}");
    }
}

#[test]
fn s12_a_parameter_given_twice_gets_400() {
    let scene = Scene::plain();
    for parameter in [
        "username=\"alice\"",
        "nonce=\"x\"",
        "nc=00000001",
        "response=\"0\"",
        "realm=\"example.com\"",
    ] {
        let (mut alice, credentials) = challenged(&scene);
        let header = format!("{}, {parameter}", credentials.header());
        alice.says_auth("a0000002", &header, "");
        alice.hears_code("a0000002", "400");
    }
}

#[test]
fn s12_without_opaque_there_is_an_answer_too() {
    let scene = Scene::plain();
    let (mut alice, credentials) = challenged(&scene);
    alice.says_auth("a0000002", &credentials.header_without("opaque"), "");
    let answer = alice.message();
    assert_eq!(answer.tid, "a0000002");
    assert!(["200", "400", "401"].contains(&&answer.what[..3]), "{answer:?}");
}

#[test]
fn the_far_end_of_a_session_cannot_log_in_on_it() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for uri in ["{A}", "{relay}"] {
        bob.says(&bare_auth("a0000001", uri, "{bob}"));
        bob.hears_code("a0000001", "481");
    }
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn an_unknown_session_id_in_the_first_auth_is_an_auth_to_this_relay() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let old = scene.names.text("A");
    alice.half_closes();
    alice.is_closed();
    scene.names.bind("relay", &old);
    let mut alice = scene.stranger("alice");
    alice.says(&bare_auth("a0000001", "{relay}", "{alice}"));
    alice.hears_code("a0000001", "401");
}

#[test]
fn a_user_with_a_hyphen_logs_in() {
    let scene = Scene::plain();
    scene.names.bind("ann", "msrp://ann.invalid:2855/ann;tcp");
    let mut ann = scene.stranger("ann");
    let mut credentials = ann.challenged("a0000001");
    credentials.user = "ann-marie".to_owned();
    credentials.password = "secret-ann-marie".to_owned();
    ann.says_auth("a0000002", &credentials.header(), "");
    ann.hears_code("a0000002", "200");
}

#[test]
fn a_login_is_answered_in_tls_as_in_the_clear() {
    let scene = Scene::tls();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
}
