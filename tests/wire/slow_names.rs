//! Names whose look-up takes long, and files that cannot be read: each holds up its own affair only.
//!
//! The relay runs in a system whose `/etc/resolv.conf` is the test's own, which needs root.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::harness::{NameServer, Peer, Scene, can_isolate, now, send, until_within};

/// More sessions than tokio has threads for what blocks.
const CROWD: usize = 520;

/// Their next hops: as many different ones as a user may dial at once.
const NAMES: usize = 60;

/// What must come at once, on a machine that compiles at the same time.
const SOON: Duration = Duration::from_secs(5);

/// This client's SEND to `host` is taken.
fn sends_to(client: &mut Peer, me: &str, host: &str) {
    let to = format!("{{{}}} {host}", client.session_name());
    client.says(&send("s0000001", &to, &format!("{{{me}}}"), "hello"));
    client.hears_response("s0000001", "200 OK", &format!("{{{}}}", client.session_name()));
}

#[track_caller]
fn soon<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begun = now();
    let outcome = act();
    let took = begun.elapsed();
    assert!(took < SOON, "{what} took {took:?}");
    outcome
}

#[test]
fn slow_names_of_one_user_hold_up_nobody_else() {
    if !can_isolate() {
        return;
    }
    let server = NameServer::knowing(&["fast.test"]);
    let scene = server.scene("");
    let relay = &scene.relay;
    let mut bob = scene.client("bob");
    let carol = scene.listener_on("carol", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "fast.test");
    let crowd: Vec<Peer> = (0..CROWD)
        .map(|number| {
            let mut alice = scene.client("alice");
            let name = number % NAMES;
            sends_to(&mut alice, "alice", &format!("msrp://slow{name}.test:2855/x;tcp"));
            alice
        })
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            soon("another user's dial", || {
                sends_to(&mut bob, "bob", "{carol}");
                carol.accepts().hears(&send("{t}", "{carol}", "{B} {bob}", "hello"));
            });
        });
        scope.spawn(|| {
            let output = soon("status", || relay.ctl(&["status"]));
            assert!(output.status.success(), "{output:?}");
        });
        scope.spawn(|| soon("reload", || relay.reloads()));
    });
    assert!(server.heard("slow0.test"));
    assert!(!relay.log().contains("different next hops"), "they are to be looked up");
    drop(crowd);
}

/// A name server may be exchanged while the relay runs, and a reload forgets what names stood for.
#[test]
fn resolv_conf_is_read_again_when_it_changes_and_at_a_reload() {
    if !can_isolate() {
        return;
    }
    let (first, second) = (NameServer::knowing(&[]), NameServer::knowing(&["peer.test"]));
    let scene = first.scene("");
    let relay = &scene.relay;
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let carol = scene.listener_on("carol", here, "peer.test");
    sends_to(&mut scene.client("alice"), "alice", "{carol}");
    relay.logs("next hop not reached: host \"peer.test\" has no address");

    // In place: the file is mounted.
    let text = format!("nameserver {}\n", second.address);
    std::fs::write(relay.directory().join("resolv.conf"), text).expect("a file");
    relay.logs("/etc/resolv.conf or /etc/hosts has changed and was read again");
    let reaches = || {
        let mut alice = scene.client("alice");
        sends_to(&mut alice, "alice", "{carol}");
        assert_eq!(carol.accepts().message().body.as_deref(), Some(&b"hello"[..]));
    };
    reaches();
    assert!(second.heard("peer.test"));

    second.forget();
    reaches();
    assert!(!second.heard("peer.test"), "it was to be remembered");
    relay.reloads();
    reaches();
    assert!(second.heard("peer.test"));
}

/// A FIFO that nobody writes to stands for a file on a dead network mount: opening it never ends.
#[test]
fn a_file_that_hangs_holds_up_its_own_reload_only() {
    let scene = Scene::secure_with("");
    let relay = &scene.relay;
    let dead = relay.directory().join("dead.crt");
    mkfifo(&dead, Mode::S_IRUSR).expect("a FIFO");
    thread::scope(|scope| {
        relay.configure("certificate = dead.crt");
        let hanging = scope.spawn(|| relay.fails_to_reload());
        until_within(SOON, "the reload", || relay.status()["phase"] == "reloading");
        // Whoever asks meanwhile learns what is waited for.
        let told = relay.fails_to_reload();
        let expected = format!("a reload is still reading {} and ", dead.display());
        assert!(told.contains(&expected) && told.contains(" UTC;"), "{told}");
        // The rest of the relay goes on.
        soon("a log-in", || scene.client("alice"));
        soon("status", || relay.status());
        // It is given up in the end.
        let given_up = hanging.join().expect("a reload");
        assert!(given_up.contains(&expected), "{given_up}");
    });
    assert_eq!(relay.status()["phase"], "running");
    // What names another file is read, although the thread of the other one still hangs.
    relay.configure("");
    soon("reload", || relay.reloads());
}
