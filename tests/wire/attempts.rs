//! Failed attempts to log in: what counts as one, what they cost, what is logged (RFC 4976 §6.3).

use std::time::Duration;

use crate::{
    auth::{BASIC, challenged, fails_once},
    harness::{Credentials, Scene, bare_auth, now, sleep},
};

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

/// Whoever sends no credentials has tried none: nothing for fail2ban, however often.
#[test]
fn r4976_6_3_01_asking_in_a_foreign_realm_is_no_failed_attempt() {
    let scene = Scene::with("domains = example.com\nlog_failed_auth = Yes\nmax_auth_attempts = 1");
    let mut alice = scene.stranger("alice");
    let foreign = "msrp://example.org:2855;tcp";
    for _ in 0..20 {
        alice.says(&bare_auth("a0000001", foreign, "{alice}"));
        alice.hears_code("a0000001", "403");
    }
    // With credentials it is one.
    alice.says(&format!(
        "MSRP a0000002 AUTH\nTo-Path: {foreign}\nFrom-Path: {{alice}}\n\
         Authorization: Digest username=\"alice\"\n-------a0000002$"
    ));
    alice.hears_code("a0000002", "403");
    alice.is_closed();
    scene.relay.logs("AUTH failed");
    let log = scene.relay.log();
    assert_eq!(log.matches("AUTH failed").count(), 1, "{log}");
}
