//! Certificates of a running relay: files replaced on disk, and days that pass.

use std::{
    fs,
    os::unix::fs::symlink,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::harness::{Identity, Relay, Scene, sleep, until, until_within};

/// Longer than the relay takes to see a change and to see that it rests.
const SEEN: u64 = 7_000;
const DAY: Duration = Duration::from_hours(24);

/// A scene whose relay has certificate and key in a directory that a link names, as renewal tools
/// keep them.
fn linked(first: &Identity) -> Scene {
    let scene = Scene::secure_with("");
    let relay = &scene.relay;
    version(relay, "1", &first.certificate_pem, &first.key_pem);
    symlink("1", relay.directory().join("live")).expect("a link");
    relay.configure("certificate = live/crt\nkey = live/key");
    relay.reloads();
    // Its warnings are in the log, too, when this is.
    relay.logs("reloaded: ");
    scene
}

fn version(relay: &Relay, name: &str, certificate: &str, key: &str) {
    fs::create_dir(relay.directory().join(name)).expect("a directory");
    relay.write(&format!("{name}/crt"), certificate);
    relay.write(&format!("{name}/key"), key);
}

/// Swaps the link.
fn publish(relay: &Relay, name: &str) {
    let new = relay.directory().join("next");
    symlink(name, &new).expect("a link");
    fs::rename(new, relay.directory().join("live")).expect("the link in its place");
}

/// A newcomer meets this certificate.
#[track_caller]
fn shows(scene: &Scene, identity: &Identity) {
    scene.stranger_at("alice", scene.relay.addresses()[0], identity).challenged("seen0001");
}

#[track_caller]
fn comes_to_show(scene: &Scene, identity: &Identity, generation: u64) {
    scene.relay.reaches(generation);
    shows(scene, identity);
}

/// How often a line with this text was logged.
fn times(relay: &Relay, text: &str) -> usize {
    relay.log().lines().filter(|line| line.contains(text)).count()
}

#[test]
fn certificates_are_renewed_from_disk() {
    let [first, second] = [(); 2].map(|()| Identity::new());
    let scene = linked(&first);
    let relay = &scene.relay;
    shows(&scene, &first);
    version(relay, "2", &second.certificate_pem, &second.key_pem);
    publish(relay, "2");
    comes_to_show(&scene, &second, 3);
    // Rewritten with the same words: nothing to do.
    relay.write("2/crt", &second.certificate_pem);
    sleep(SEEN);
    assert_eq!(relay.generation(), 3);
    assert_eq!(relay.status()["last_failed_renewal"], serde_json::Value::Null);
}

#[test]
fn a_bad_pair_on_disk_is_reported_once_and_not_used() {
    let [first, second] = [(); 2].map(|()| Identity::new());
    let scene = linked(&first);
    let relay = &scene.relay;
    let complaint = "the old ones stay in use";
    // The certificate of one and the key of the other.
    version(relay, "2", &second.certificate_pem, &first.key_pem);
    publish(relay, "2");
    relay.logs(complaint);
    shows(&scene, &first);
    sleep(SEEN);
    assert_eq!(times(relay, complaint), 1);
    let reason = relay.status()["last_failed_renewal"]["reason"].clone();
    assert!(reason.as_str().is_some_and(|reason| reason.contains("does not belong")), "{reason}");
    assert!(relay.fails_to_reload().contains("does not belong"));
    shows(&scene, &first);
    // The key follows.
    relay.write("2/key", &second.key_pem);
    comes_to_show(&scene, &second, 3);
    until("the failure is mended", || relay.status()["last_failed_renewal"]["mended"] == true);
    // The reload that failed read more than certificates, and none was made since.
    assert_eq!(relay.status()["last_failed_reload"]["mended"], false);
    // The certificate vanishes for good.
    fs::remove_file(relay.directory().join("2/crt")).expect("a file to remove");
    relay.logs("live/crt does not exist");
    shows(&scene, &second);
    // It is back as it was.
    relay.write("2/crt", &second.certificate_pem);
    until("the failure is mended", || relay.status()["last_failed_renewal"]["mended"] == true);
    assert_eq!(relay.generation(), 3);
    relay.reloads();
    assert_eq!(relay.status()["last_failed_reload"]["mended"], true);
}

/// At 30 days, 7 days, one day and the end; what was due when it was loaded is said then.
#[test]
fn warnings_come_before_a_certificate_expires() {
    thread::scope(|scope| {
        for (left, at_once) in [(30 * DAY, 0), (7 * DAY, 1), (DAY, 1), (Duration::ZERO, 1)] {
            scope.spawn(move || a_warning_comes(left, at_once));
        }
    });
}

fn a_warning_comes(left: Duration, at_once: usize) {
    // Time enough to start, on a machine that does much else.
    const SOON: Duration = Duration::from_secs(20);
    #[expect(clippy::disallowed_methods, reason = "certificates live in the time of day")]
    let today = SystemTime::now().duration_since(UNIX_EPOCH).expect("a date after 1970");
    let identity = Identity::ending_at(today + left + SOON);
    let scene = linked(&identity);
    let relay = &scene.relay;
    let notice = format!("certificate {} expire", relay.directory().join("live/crt").display());
    assert_eq!(times(relay, &notice), at_once, "{left:?}\n{}", relay.log());
    let patience = SOON + Duration::from_millis(SEEN);
    until_within(patience, "a warning", || times(relay, &notice) > at_once);
    sleep(SEEN);
    assert_eq!(times(relay, &notice), at_once + 1, "{left:?}\n{}", relay.log());
    // It works to the end as far as the relay is concerned.
    assert_eq!(relay.status()["certificates"][0]["expires"], (today + left + SOON).as_secs());
}
