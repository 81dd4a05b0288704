//! A slow link between two network namespaces, each of which is that of one thread and of what the
//! thread starts.

use std::{net::Ipv4Addr, process::Command};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{getpid, gettid},
};

/// The address of the near end, where the relay is.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The address of the far end.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// Octets that the link takes at once; no packet may be longer.
const BURST: usize = 1_600;
/// Octets that wait at the end of the link, as in a modem.
const QUEUE: usize = 64 * 1024;

/// Whether this process may make namespaces and links.
pub(crate) fn possible() -> bool {
    let tried = Command::new("unshare").args(["--net", "tc", "qdisc", "show"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// Gives the calling thread a network namespace of its own. What it starts is in the same one.
pub(crate) fn isolate() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    run("ip link set lo up");
}

/// The name of the calling thread's namespace for [`make`].
pub(crate) fn namespace() -> String {
    format!("/proc/{}/task/{}/ns/net", getpid(), gettid())
}

/// Makes a link of so many octets per second in each direction, from the namespace `near` to that of
/// the calling thread.
pub(crate) fn make(near: &str, rate: usize) {
    run(&format!("ip link add far type veth peer name near netns {near}"));
    run(&format!("ip address add {FAR}/30 dev far"));
    run("ip link set far up");
    shape("far", rate, &[]);
    let inside = ["nsenter", &format!("--net={near}")];
    run_in(&inside, &format!("ip address add {NEAR}/30 dev near"));
    run_in(&inside, "ip link set near up");
    shape("near", rate, &inside);
}

/// The far end of the calling thread's link loses its address: what is sent there is not answered,
/// not even with an error.
pub(crate) fn cut() {
    run(&format!("ip address del {FAR}/30 dev far"));
}

fn shape(device: &str, rate: usize, inside: &[&str]) {
    let bits = rate * 8;
    let line =
        format!("tc qdisc add dev {device} root tbf rate {bits}bit burst {BURST} limit {QUEUE}");
    run_in(inside, &line);
}

#[track_caller]
fn run(line: &str) {
    run_in(&[], line);
}

/// Runs a command line, all its words behind those of `inside`.
#[track_caller]
fn run_in(inside: &[&str], line: &str) {
    let words: Vec<&str> = inside.iter().copied().chain(line.split(' ')).collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect(words[0]);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}
