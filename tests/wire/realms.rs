//! Realms: which one an AUTH is for, and which are served (RFC 4976 §5.1, §6.3).

use std::{sync::Arc, time::Duration};

use crate::harness::{Credentials, Relay, Scene, bare_auth};

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

/// A domain of other letters than those of ASCII: the way it is written does not count.
#[test]
fn a_realm_is_served_however_its_letters_are_written() {
    let users = "alice@bücher.example = secret-alice\n";
    let options = "default_domain = BÜCHER.example\ndomains = bücher.example";
    let scene = Scene::on(Arc::new(Relay::configured(options, false, users)));
    let mut alice = scene.stranger("alice");
    assert_eq!(alice.challenged("a0000001").realm, "BÜCHER.example");
    alice.logs_in("");

    // A URI has its ASCII form.
    let relay = Relay::configured("domains = bücher.example", false, users);
    let scene = Scene::on(Arc::new(relay));
    for domain in ["xn--bcher-kva.example", "XN--BCHER-KVA.Example"] {
        scene.names.bind("relay", format!("msrp://{domain}:2855;tcp"));
        let mut alice = scene.stranger("alice");
        assert_eq!(alice.challenged("a0000001").realm, domain);
        alice.logs_in("");
    }
    scene.names.bind("relay", "msrp://bucher.example:2855;tcp");
    let mut alice = scene.stranger("alice");
    alice.says(&bare_auth("a0000001", "{relay}", "{alice}"));
    alice.hears_code("a0000001", "403");
}
