//! Credentials for a limited time, made by a service that shares a secret with the relay: user name
//! `EXPIRY:USER`, password base64(HMAC-SHA1(secret, user name)).

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use crate::{
    backends::{ACCOUNTS, Store},
    harness::{Algorithm, Credentials, Message, Peer, Relay, Scene, empty_send, sleep},
};

const SECTION: &str = "[Ephemeral]\nsecrets = new secret, old secret\n";

/// For the battery of all backends: whoever has the right password of [`ACCOUNTS`] is given
/// credentials.
pub(crate) fn store() -> Store {
    let relay = Relay::configured("backend = ephemeral", false, SECTION);
    let called = |account: [&str; 3]| {
        let [user, _domain, password] = account;
        let name = name(user, 600);
        let known =
            ACCOUNTS.iter().any(|(user, domain, password)| account == [*user, *domain, *password]);
        let password = if known { made_with("new secret", &name) } else { password.to_owned() };
        [name, password]
    };
    Store { scene: Scene::on(Arc::new(relay)), database: None, called }
}

/// A name and its password, good for a while.
pub(crate) fn credentials(user: &str) -> [String; 2] {
    let name = name(user, 600);
    let password = made_with("new secret", &name);
    [name, password]
}

/// Good for so many seconds from now.
fn name(user: &str, seconds: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the relay goes by the clock on the wall")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let now = i64::try_from(now.as_secs()).expect("a time before the end of all clocks");
    format!("{}:{user}", now + seconds)
}

fn made_with(secret: &str, name: &str) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("a key");
    STANDARD.encode(mac.chain_update(name).finalize().into_bytes())
}

/// The answer to alice with a name that is good for so long.
#[track_caller]
fn tries(alice: &mut Peer, user: &str, seconds: i64, secret: &str, headers: &str) -> Message {
    let name = name(user, seconds);
    let password = made_with(secret, &name);
    let credentials = Credentials { user: name, password, ..alice.challenged("a0000001") };
    alice.says_auth("a0000002", &credentials.header(), headers);
    alice.hears_answer("a0000002")
}

fn relay(options: &str) -> Scene {
    let options = format!("backend = ephemeral\n{options}");
    Scene::on(Arc::new(Relay::configured(&options, false, SECTION)))
}

#[test]
fn any_of_the_secrets_will_do_until_the_time_is_over() {
    let scene = relay("max_auth_attempts = 0\nlog_failed_auth = yes");
    let mut alice = scene.stranger("alice");
    for (seconds, secret, code) in [
        (600, "newer secret", "401"),
        (-1, "new secret", "401"),
        (0, "new secret", "401"),
        (600, "old secret", "200"),
        (600, "new secret", "200"),
    ] {
        let answer = tries(&mut alice, "alice", seconds, secret, "");
        assert!(answer.what.starts_with(code), "{secret} {seconds}: {answer:?}");
    }
    scene.relay.logs("the account has expired");
    // Who she is has not changed with the name, and nobody else goes on with her session.
    assert!(tries(&mut alice, "bob", 600, "new secret", "").what.starts_with("403"));
    let log = scene.relay.log();
    assert!(!log.contains("old secret") && !log.contains("new secret"), "{log}");
}

#[test]
fn sha_256_is_as_good() {
    let scene = relay("digest_algorithms = SHA-256, MD5");
    let mut alice = scene.stranger("alice");
    let uri = scene.names.text("relay");
    alice.says(&crate::harness::bare_auth("a0000001", &uri, "{alice}"));
    let challenge = alice.hears_code("a0000001", "401");
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let name = name("alice", 600);
        let password = made_with("new secret", &name);
        let seen = alice.credentials(&challenge);
        let credentials = Credentials { user: name, password, algorithm, ..seen };
        let mut other = scene.stranger("alice");
        other.says_auth("a0000002", &credentials.header(), "");
        let answer = other.hears_answer("a0000002");
        // The nonce is good for once: the second time it is stale, which says the digest is right.
        let fresh = algorithm == Algorithm::Sha256;
        assert!(answer.what.starts_with(if fresh { "200" } else { "401" }), "{answer:?}");
        assert!(fresh || answer.the("WWW-Authenticate").contains("stale=true"), "{answer:?}");
    }
}

/// The name holds a colon, at which Basic would end it.
#[test]
fn basic_is_as_good_where_it_is_allowed() {
    let options = "backend = ephemeral\nallow_basic_auth = yes";
    let scene = Scene::on(Arc::new(Relay::configured(options, true, SECTION)));
    for (secret, code) in [("new secret", "200"), ("newer secret", "401")] {
        let name = name("alice", 600);
        let text = format!("{name}:{}", made_with(secret, &name));
        let mut alice = scene.stranger("alice");
        alice.says_auth("a0000001", &format!("Basic {}", STANDARD.encode(text)), "");
        alice.hears_code("a0000001", code);
    }
}

/// What is asked for or usual is granted only as far as the time goes, even below the minimum.
#[test]
fn nothing_is_granted_beyond_the_end() {
    let scene = relay("session_expiration_time_minimum = 60");
    for (seconds, headers, bounds) in [
        (300, "", 295..=300),
        (300, "Expires: 900\n", 295..=300),
        (300, "Expires: 100\n", 100..=100),
        (3000, "", 600..=600),
        (30, "Expires: 60\n", 25..=30),
    ] {
        let mut alice = scene.stranger("alice");
        let answer = tries(&mut alice, "alice", seconds, "new secret", headers);
        let granted: u64 = answer.the("Expires").parse().expect("seconds");
        assert!(bounds.contains(&granted), "{seconds} {headers:?}: {granted}");
    }
    let mut alice = scene.stranger("alice");
    let answer = tries(&mut alice, "alice", 300, "new secret", "Expires: 59\n");
    assert!(answer.what.starts_with("423"), "{answer:?}");
}

/// A session in use ends too, although its client asked for no time; a refresh prolongs it.
#[test]
fn a_session_ends_with_its_credentials_unless_it_is_refreshed() {
    let scene = relay("");
    let mut ends = Vec::new();
    for (me, refreshed) in [("alice", false), ("carol", true)] {
        let mut owner = scene.stranger(me);
        let granted = tries(&mut owner, me, 3, "new secret", "");
        assert!(granted.what.starts_with("200"), "{granted:?}");
        scene.names.bind(&owner.session_name(), granted.the("Use-Path"));
        let session = owner.session_name();
        let mut bob = scene.stranger("bob");
        bob.says(&empty_send("join0001", &format!("{{{session}}} {{{me}}}"), "{bob}"));
        bob.hears_response("join0001", "200 OK", &format!("{{{session}}}"));
        let request = owner.message();
        owner.answers(&request, "200 OK");
        if refreshed {
            let again = tries(&mut owner, me, 600, "new secret", "");
            assert!(again.what.starts_with("200"), "{again:?}");
            assert_eq!(again.the("Use-Path"), granted.the("Use-Path"));
        }
        ends.push((owner, bob, refreshed));
    }
    sleep(3500);
    for (mut owner, mut bob, refreshed) in ends {
        if refreshed {
            owner.hears_nothing(Duration::from_millis(20));
            bob.hears_nothing(Duration::from_millis(20));
        } else {
            owner.is_closed();
            bob.is_closed();
        }
    }
}

/// Other names are for the next backend.
#[test]
fn in_a_list_others_are_asked_for_other_names() {
    let relay = Relay::configured("backend = ephemeral, memory", false, &format!("\n{SECTION}"));
    let scene = Scene::on(Arc::new(relay));
    scene.client("bob");
    let mut alice = scene.stranger("alice");
    assert!(tries(&mut alice, "alice", 600, "old secret", "").what.starts_with("200"));
}
