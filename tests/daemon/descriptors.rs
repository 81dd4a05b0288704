//! A limit on open files that is reached, or nearly.

use std::{fs, net::TcpStream, process::Command, thread, time::Duration};

use nix::sys::signal::Signal;

use crate::harness::{Foreground, Site, eventually, finish, free_port};

/// Descriptors in use by a process.
fn descriptors(pid: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
}

/// Processor time that a process has taken, in clock ticks.
fn ticks(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
    let (_, rest) = stat.rsplit_once(')').expect("its name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// The limit on open files is no trap: the relay takes fewer connections than it has descriptors,
/// so that msrprelayctl and reload have some, and it does not spin when there are none.
#[test]
fn s19_descriptors_are_left_for_control_and_reload() {
    let port = free_port();
    let site = Site::at(port, "max_connections = 0\nmax_connections_per_ip = 0\n");
    let relay = site.command(&["--no-fork"]);
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=100:100").arg(relay.get_program()).args(relay.get_args());
    let mut relay = Foreground::start(limited);
    relay.logs("listening on 127");
    let pid = relay.pid().to_string();
    let mut open: Vec<TcpStream> =
        (0..150).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
    relay.logs("there are 68 connections already (max_connections)");
    let ctl = |command: &str| {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_msrprelayctl"));
        ctl.args(["--socket", &site.path("run/msrprelay.sock").to_string_lossy(), command]);
        let outcome = finish(ctl);
        assert!(outcome.status.success(), "{}", outcome.stderr);
        outcome.stdout
    };
    let status = ctl("status");
    for line in ["  connections    68, ", "  limits         68 connections, "] {
        assert!(status.contains(line), "{status}");
    }
    ctl("reload");
    relay.logs("reloaded: generation 2 in force");
    assert!(descriptors(&pid) < 100);

    // All descriptors but a few are taken away: accept fails again and again, and is told once.
    let limit = |limit: usize| {
        let set = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={limit}:100")])
            .status();
        assert!(set.expect("prlimit of util-linux").success());
    };
    open.truncate(50);
    eventually("18 descriptors are free", || ctl("status").contains("  connections    50, "));
    limit(5);
    let _waiting = TcpStream::connect(("127.0.0.1", port)).expect("the kernel takes it");
    relay.logs("cannot accept connections: Too many open files");
    let before = ticks(&pid);
    thread::sleep(Duration::from_secs(1));
    let spent = ticks(&pid) - before;
    assert!(spent < 20, "{spent} ticks of 100 in a second");
    limit(100);
    eventually("it is accepted", || ctl("status").contains("  connections    51, "));
    relay.signal(Signal::SIGTERM);
    assert!(relay.ends().success());
    assert_eq!(relay.log.matches("cannot accept").count(), 1, "{}", relay.log);
}
