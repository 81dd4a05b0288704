//! AUTH and digest (RFC 4976 §5.1, §6.3, §9.1; RFC 2617; RFC 7616).

use std::{collections::HashSet, net::Ipv4Addr, time::Duration};

use crate::harness::{
    Credentials, Message, Peer, SILENCE, Scene, bare_auth, empty_send, now, send, sleep,
};

const BASIC: &str = "Basic YWxpY2U6c2VjcmV0LWFsaWNl";
const UNPARSED: &str =
    "400 Request was unintelligible, please try again (Error parsing Authorization header)";

/// Alice on a new connection, and the challenge she has got.
#[track_caller]
fn challenged(scene: &Scene) -> (Peer, Credentials) {
    let mut alice = scene.stranger("alice");
    let credentials = alice.challenged("a0000001");
    (alice, credentials)
}

/// Answers a challenge wrongly and returns the 401.
#[track_caller]
fn fails_once(peer: &mut Peer, tid: &str, credentials: &Credentials) -> Message {
    let wrong = Credentials { password: "wrong".to_owned(), ..credentials.clone() };
    peer.says_auth(tid, &wrong.header(), "");
    peer.hears_code(tid, "401")
}

/// Is refused: 400 or 401, no Use-Path; a 401 has a challenge that this peer has not seen.
#[track_caller]
fn is_refused(peer: &mut Peer, tid: &str, seen: &Credentials) -> Message {
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
fn r4976_6_3_01_a_realm_that_is_not_served_gets_403() {
    let scene = Scene::with("domains = example.com, example.net");
    let mut alice = scene.stranger("alice");
    alice.says(
        "
        MSRP a0000001 AUTH
        To-Path: msrp://example.org:2855;tcp
        From-Path: {alice}
        -------a0000001$
        ",
    );
    let refused = alice.hears_code("a0000001", "403");
    assert!(refused.header("WWW-Authenticate").is_none());
    alice.logs_in("");
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

    // The same on the connection that holds the session, and the same URI (contract 4).
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
fn r7616_3_4_02_failed_logins_are_logged_with_the_address_and_without_secrets() {
    let scene = Scene::with("log_failed_auth = Yes");
    let (mut alice, credentials) = challenged(&scene);
    fails_once(&mut alice, "a0000002", &credentials);
    let line = scene.relay.logs("AUTH failed");
    let address = alice.local_address();
    assert!(
        line.contains(&format!("AUTH failed from {address} for alice@example.com: ")),
        "{line}"
    );
    let log = scene.relay.log();
    let wrong = Credentials { password: "wrong".to_owned(), ..credentials.clone() };
    for secret in [&credentials.nonce, &credentials.password, &wrong.response()] {
        assert!(!log.contains(secret.as_str()), "{secret} in\n{log}");
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
fn r4976_6_3_03_the_last_failed_attempt_is_answered_and_then_the_connection_closes() {
    for scene in [Scene::plain(), Scene::tls()] {
        let (mut alice, mut credentials) = challenged(&scene);
        for tid in ["a0000002", "a0000003", "a0000004"] {
            let refused = fails_once(&mut alice, tid, &credentials);
            credentials = alice.credentials(&refused);
        }
        alice.is_closed();
    }
}

#[test]
fn r4976_6_3_03_attempts_are_configurable_and_0_is_without_end() {
    let scene = Scene::with("max_auth_attempts = 1");
    let (mut alice, credentials) = challenged(&scene);
    fails_once(&mut alice, "a0000002", &credentials);
    alice.is_closed();

    let scene = Scene::with("max_auth_attempts = 0");
    let (mut alice, mut credentials) = challenged(&scene);
    for _ in 0..8 {
        let refused = fails_once(&mut alice, "a0000002", &credentials);
        credentials = alice.credentials(&refused);
    }
    alice.says_auth("a0000003", &credentials.header(), "");
    alice.hears_code("a0000003", "200");
}

#[test]
fn r4976_6_3_03_unparsable_attempts_count_and_asking_for_a_challenge_does_not() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    for _ in 0..5 {
        alice.challenged("a0000001");
    }
    for _ in 0..3 {
        alice.says_auth("a0000002", BASIC, "");
        alice.hears_code("a0000002", "400");
    }
    alice.is_closed();
}

#[test]
fn a_423_and_a_stale_nonce_are_no_failed_attempts() {
    let scene = Scene::with("max_auth_attempts = 1\nauth_challenge_expiration_time = 1");
    let mut alice = scene.stranger("alice");
    for _ in 0..3 {
        let credentials = alice.challenged("a0000001");
        alice.says_auth("a0000002", &credentials.header(), "Expires: 99999\n");
        alice.hears_code("a0000002", "423");
    }
    let credentials = alice.challenged("a0000003");
    sleep(2100);
    alice.says_auth("a0000004", &credentials.header(), "");
    let stale = alice.hears_code("a0000004", "401");
    let credentials = alice.credentials(&stale);
    alice.says_auth("a0000005", &credentials.header(), "");
    alice.hears_code("a0000005", "200");
}

/// The inner relay counts what the outer one refuses.
#[test]
fn r4976_6_3_04_forwarded_logins_that_keep_failing_cost_the_client_its_connection() {
    let scene = Scene::plain();
    let outer = scene.listener("bob");
    let mut alice = scene.client("alice");
    let mut relayed = None;
    for round in 0..20 {
        let said = alice.octets(
            "
            MSRP a0000001 AUTH
            To-Path: {A} {bob}
            From-Path: {alice}
            Authorization: Digest username=\"alice\", response=\"0\"
            -------a0000001$
            ",
        );
        if alice.tries(&said).is_err() {
            return;
        }
        let bob = relayed.get_or_insert_with(|| outer.accepts());
        let Some(request) = bob.message_within(Duration::from_secs(3)) else {
            assert!(alice.hung_up_within(Duration::from_secs(3)));
            return;
        };
        let (tid, to) = (&request.tid, request.the("From-Path"));
        bob.says(&format!(
            "MSRP {tid} 401 Unauthorized\nTo-Path: {to}\nFrom-Path: {{bob}}\n\
             WWW-Authenticate: Digest realm=\"r\", qop=\"auth\", nonce=\"{round}\"\n-------{tid}$"
        ));
        if alice.message_within(Duration::from_secs(3)).is_none() {
            assert!(alice.hung_up_within(Duration::from_secs(3)));
            return;
        }
    }
    panic!("20 failed logins were relayed");
}

#[test]
fn r4976_5_1_02_the_realm_is_the_host_or_the_default_domain_and_stays() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    for _ in 0..3 {
        assert_eq!(alice.challenged("a0000001").realm, "example.com");
    }
    scene.names.bind("relay", "msrp://Other.Example:2855;tcp");
    assert_eq!(alice.challenged("a0000002").realm, "Other.Example");

    let scene = Scene::with("default_domain = example.com");
    scene.names.bind("relay", "msrp://whatever.example:2855;tcp");
    let mut alice = scene.stranger("alice");
    assert_eq!(alice.challenged("a0000001").realm, "example.com");
    alice.logs_in("");
}

#[test]
fn s28_an_unknown_user_and_a_wrong_password_are_told_the_same_at_the_same_pace() {
    let scene = Scene::plain();
    let mut answers = Vec::new();
    let mut times = Vec::new();
    for user in ["alice", "nobody"] {
        let mut peer = scene.stranger("alice");
        let mut credentials = peer.challenged("a0000001");
        credentials.user = user.to_owned();
        let asked = now();
        let refused = fails_once(&mut peer, "a0000002", &credentials);
        times.push(asked.elapsed());
        let fresh = peer.credentials(&refused);
        let shape = format!("{refused:?}").replace(&fresh.nonce, "N").replace(&fresh.opaque, "O");
        answers.push(shape);
    }
    assert_eq!(answers[0], answers[1]);
    for time in times {
        assert!(time < Duration::from_secs(1), "{time:?}");
    }
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
fn a_wrong_realm_qop_or_foreign_nonce_gets_401_with_a_fresh_challenge() {
    let scene = Scene::plain();
    let changes: [fn(&mut Credentials); 4] = [
        |credentials| credentials.realm = "example.net".to_owned(),
        |credentials| credentials.nonce = "bm90IGFuIGlzc3VlZCBub25jZQ==".to_owned(),
        |credentials| credentials.opaque = "0".repeat(32),
        |credentials| credentials.nonce.insert(0, 'A'),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut alice = scene.stranger("alice");
        let issued = alice.challenged("a0000001");
        let mut credentials = issued.clone();
        change(&mut credentials);
        alice.says_auth("a0000002", &credentials.header(), "");
        let answer = alice.message();
        if index == 2 && answer.what.starts_with("200") {
            continue; // opaque need not be checked where the nonce is
        }
        assert!(answer.what.starts_with("401"), "change {index}: {answer:?}");
        assert_ne!(alice.credentials(&answer).nonce, issued.nonce);
    }
}

#[test]
fn the_session_keeps_its_realm_and_an_auth_for_another_session_gets_481() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    scene.names.bind("relay", "msrp://other.example:2855;tcp");
    assert_eq!(alice.challenged("a0000001").realm, "example.com");
    scene.names.bind("relay", scene.names.text("A"));
    bob.says(&bare_auth("a0000002", "{A}", "{bob}"));
    bob.hears_code("a0000002", "481");
    alice.logs_in("");
    bob.hears_nothing(Duration::from_millis(20));
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
