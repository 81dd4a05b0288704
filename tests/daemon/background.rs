//! Without a flag: into the background, one relay for each runtime directory.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;

use crate::harness::{Site, eventually, finish, free_port, is_open};

#[test]
fn the_launching_process_ends_when_connections_are_taken() {
    let port = free_port();
    let site = Site::at(port, "");
    let launched = site.run(&[]);
    let daemon = site.daemon();
    assert!(launched.status.success(), "{launched:?}");
    assert!(is_open(port), "it listens when the launching process has ended");
    assert_eq!(launched.stdout, "");

    // A session of its own that it does not lead, no terminal, the root directory.
    let stat = daemon.proc("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let [session, terminal] = [fields[3], fields[4]];
    assert_ne!(session, daemon.0.to_string());
    assert_ne!(session, nix::unistd::getsid(None).unwrap().to_string());
    assert_eq!(terminal, "0");
    let link = |name: &str| fs::read_link(format!("/proc/{}/{name}", daemon.0)).unwrap();
    assert_eq!(link("cwd").to_str(), Some("/"));
    for stream in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(link(stream).to_str(), Some("/dev/null"), "{stream}");
    }
    assert_eq!(daemon.status("Umask:"), "0022");
    let limits = daemon.proc("limits");
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let files: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(files[0], files[1], "as many files as the system grants");

    let file = fs::metadata(site.path("run/msrprelay.pid")).unwrap();
    assert_eq!(file.mode() & 0o777, 0o644);
    daemon.signal(Signal::SIGTERM);
    daemon.ends();
    assert!(!site.path("run/msrprelay.pid").exists(), "the pid file goes with it");
    assert!(site.path("run").exists());
}

#[test]
fn there_is_one_for_each_runtime_directory() {
    let site = Site::at(0, "");
    let first = site.run(&[]);
    assert!(first.status.success(), "{first:?}");
    let daemon = site.daemon();
    let file = site.read("run/msrprelay.pid");

    let second = site.run(&[]);
    assert_eq!(second.status.code(), Some(1));
    let line = format!("msrprelay: already running with pid {}: stop it first", daemon.0);
    assert!(second.stderr.contains(&line), "{second:?}");
    assert_eq!(site.read("run/msrprelay.pid"), file);
    assert!(daemon.is_alive());

    // The worst death leaves the file behind, and that does not matter.
    daemon.signal(Signal::SIGKILL);
    daemon.ends();
    assert_eq!(site.read("run/msrprelay.pid"), file);
    let third = site.run(&[]);
    assert!(third.status.success(), "{third:?}");
    let daemon = site.daemon();
    assert!(daemon.is_alive());
    assert_ne!(site.read("run/msrprelay.pid"), file);
}

#[test]
fn a_pid_file_that_names_nobody_is_overwritten() {
    for text in ["", "nonsense\n", "2147483646\n"] {
        let site = Site::at(0, "");
        fs::create_dir(site.path("run")).unwrap();
        site.write("run/msrprelay.pid", text);
        let launched = site.run(&[]);
        assert!(launched.status.success(), "{text:?} {launched:?}");
        assert!(site.daemon().is_alive());
    }
}

/// After a reboot or in a container, the number of a relay that is gone may be another process's.
#[test]
fn a_pid_file_that_names_a_process_which_is_no_relay_is_overwritten() {
    let site = Site::at(0, "");
    fs::create_dir(site.path("run")).unwrap();
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    site.write("run/msrprelay.pid", &format!("{}\n", other.id()));
    let launched = site.run(&[]);
    assert!(launched.status.success(), "{launched:?}");
    let daemon = site.daemon();
    assert!(daemon.is_alive());
    assert_ne!(daemon.0.as_raw().cast_unsigned(), other.id());

    // The lock of that one counts all the same.
    let second = site.run(&[]);
    let line = format!("msrprelay: already running with pid {}: stop it first", daemon.0);
    assert!(second.stderr.contains(&line), "{second:?}");
    daemon.signal(Signal::SIGTERM);
    daemon.ends();
    assert!(other.try_wait().unwrap().is_none(), "the other process is left alone");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Two at once: one gets the runtime directory, whatever their timing.
#[test]
fn of_two_starts_at_once_one_wins() {
    let site = Site::at(0, "");
    let mut launched: Vec<_> = (0..4)
        .map(|_| site.command(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    let won = launched.iter_mut().filter_map(|child| child.wait().unwrap().success().then_some(()));
    assert_eq!(won.count(), 1);
    assert!(site.daemon().is_alive());
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::at(taken.local_addr().unwrap().port(), "");
    let launched = site.run(&[]);
    assert_eq!(launched.status.code(), Some(1));
    assert!(launched.stderr.contains("Address already in use"), "{launched:?}");
    assert!(!site.path("run/msrprelay.pid").exists());
    assert!(!site.path("run/msrprelay.sock").exists());
}

/// Package scripts wait for the end of a pipe that everything they start inherits, and careful
/// administrators have a umask that hides what they make.
#[test]
fn nothing_of_whoever_launched_it_stays() {
    let site = Site::at(0, "");
    let command = site.command(&[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 077; exec 7>&1 8>&2; exec \"$@\"", "sh"]).arg(command.get_program());
    shell.args(command.get_args()).stdin(Stdio::null());
    // This waits for the end of both pipes.
    let launched = finish(shell);
    assert!(launched.status.success(), "{launched:?}");
    assert!(site.daemon().is_alive());
    let mode = |name: &str| fs::metadata(site.path(name)).unwrap().mode() & 0o777;
    assert_eq!(mode("run/msrprelay.pid"), 0o644);
    assert_eq!(mode("run/msrprelay.sock"), 0o660);
}

#[test]
fn signals_steer_it() {
    let port = free_port();
    let site = Site::at(port, "");
    let launched = site.run(&[]);
    assert!(launched.status.success(), "{launched:?}");
    let daemon = site.daemon();

    // 1.x as a daemon passed over it, too.
    daemon.signal(Signal::SIGUSR2);
    // A broken file costs nothing; a good one is taken.
    let good = site.read("config.ini");
    site.write("config.ini", "[Relay]\nnonsense\n");
    daemon.signal(Signal::SIGHUP);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(daemon.is_alive() && is_open(port));
    let other = free_port();
    site.write("config.ini", &good.replace(&port.to_string(), &other.to_string()));
    daemon.signal(Signal::SIGHUP);
    eventually("the new address is listened on", || is_open(other));
    assert!(daemon.is_alive(), "it is the same process");

    // Nobody has a session, so there is nothing to wait for.
    daemon.signal(Signal::SIGUSR1);
    daemon.ends();
    assert!(!site.path("run/msrprelay.pid").exists());
}

#[test]
fn a_relative_runtime_directory_is_meant_from_where_it_was_started() {
    let site = Site::at(0, "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_msrprelay"));
    command.current_dir(site.path("."));
    command.args(["--config-file", "config.ini", "--runtime-dir", "run"]);
    let launched = finish(command);
    assert!(launched.status.success(), "{launched:?}");
    let daemon = site.daemon();
    daemon.signal(Signal::SIGHUP);
    daemon.signal(Signal::SIGTERM);
    daemon.ends();
    assert!(!site.path("run/msrprelay.pid").exists());
}
