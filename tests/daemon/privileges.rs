//! Started as root, it is somebody else before it serves.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
};

use nix::{sys::signal::Signal, unistd::User};

use crate::harness::{Foreground, Site, TLS, can_isolate, finish, is_root};

#[test]
fn root_is_given_up_with_all_its_groups() {
    if !is_root("another user") {
        return;
    }
    let nobody = User::from_name("nobody").unwrap().expect("the user nobody");
    let site = Site::at(0, "user = nobody\n");
    let launched = site.run(&[]);
    assert!(launched.status.success(), "{launched:?}");
    let daemon = site.daemon();
    let [user, group] = [nobody.uid.to_string(), nobody.gid.to_string()];
    assert_eq!(daemon.status("Uid:"), [user.as_str(); 4].join("\t"));
    assert_eq!(daemon.status("Gid:"), [group.as_str(); 4].join("\t"));
    assert_eq!(daemon.status("Groups:"), group);
    for capabilities in ["CapPrm:", "CapEff:"] {
        assert_eq!(daemon.status(capabilities), "0000000000000000");
    }
    let owner = |name: &str| fs::metadata(site.path(name)).map(|file| file.uid()).unwrap();
    assert_eq!(owner("run"), nobody.uid.as_raw(), "its own directory");
    assert_eq!(owner("run/msrprelay.sock"), nobody.uid.as_raw());
    assert_eq!(owner("run/msrprelay.pid"), 0, "others trust what is in it");

    daemon.signal(Signal::SIGTERM);
    daemon.ends();
    assert!(!site.path("run/msrprelay.pid").exists(), "it may remove what root made");
}

/// A directory that is everybody's stays so, and the file in it ends up empty.
#[test]
fn a_runtime_directory_that_is_there_stays_whose_it_is() {
    if !is_root("another user") {
        return;
    }
    let site = Site::at(0, "user = nobody\n");
    fs::create_dir(site.path("run")).unwrap();
    let launched = site.run(&[]);
    assert!(launched.status.success(), "{launched:?}");
    assert_eq!(fs::metadata(site.path("run")).unwrap().uid(), 0);
    let daemon = site.daemon();
    daemon.signal(Signal::SIGTERM);
    daemon.ends();
    assert_eq!(site.read("run/msrprelay.pid"), "", "it names nobody");
    assert!(site.run(&[]).status.success());
    site.daemon();
}

#[test]
fn a_group_of_its_own() {
    if !is_root("another user") {
        return;
    }
    let group = nix::unistd::Group::from_name("daemon").unwrap().expect("the group daemon");
    let site = Site::at(0, "user = nobody\ngroup = daemon\n");
    let mut relay = Foreground::start(site.command(&["--no-fork"]));
    relay.logs("running as nobody:daemon");
    relay.logs("listening on");
    let status = fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let gid = status.lines().find_map(|line| line.strip_prefix("Gid:\t")).unwrap();
    assert_eq!(gid, [group.gid.to_string().as_str(); 4].join("\t"));
}

/// The key was read as root; a reload will not be.
#[test]
fn what_a_reload_cannot_read_is_told_at_the_start() {
    if !is_root("another user") {
        return;
    }
    let site = Site::at(0, "user = nobody\ngroup = daemon\n");
    let key = site.path("relay.key");
    let expected = format!(
        "{}:5: [Relay] key = {key}: nobody:daemon cannot read it, and no reload will: it belongs \
         to 0:0 with mode 0600, let the relay's group in with `chgrp daemon {key} && chmod 0640 \
         {key}`",
        site.path("config.ini").display(),
        key = key.display()
    );
    let mut relay = Foreground::start(site.command(&["--no-fork"]));
    let line = relay.logs("cannot read it, and no reload will");
    assert!(line.ends_with(&expected), "{line}");
    relay.logs("listening on");

    let checked = site.run(&["--check-config"]);
    assert!(checked.status.success(), "{checked:#?}");
    let warned = format!("warning: {expected}");
    assert!(checked.stderr.lines().any(|line| line == warned), "{checked:#?}");
}

#[test]
fn who_is_not_root_stays_who_he_is() {
    if !is_root("another user") {
        return;
    }
    let mut site = Site::new();
    site.share_program();
    site.configure("address = 127.0.0.1:0\ndebug_notls = yes\nuser = daemon\n");
    let mut command = site.command(&["--no-fork"]);
    command.uid(65534).gid(65534);
    let mut relay = Foreground::start(command);
    let line = relay.logs("[Relay] user");
    assert!(line.contains("has no effect: the relay was not started as root"), "{line}");
    // It may not write to the directory, and serves all the same.
    relay.logs("no control socket");
    relay.logs("listening on");
}

#[test]
fn a_port_of_root_is_bound_before_root_is_given_up() {
    if !can_isolate("a low port") {
        return;
    }
    // In a network of its own, where every port is free.
    let site = Site::new();
    site.configure(&format!("address = 127.0.0.1:443\n{TLS}user = nobody\n"));
    let command = site.command(&[]);
    let mut alone = std::process::Command::new("unshare");
    alone.args(["--net", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh"]);
    alone.arg(command.get_program()).args(command.get_args());
    let launched = finish(alone);
    assert!(launched.status.success(), "{launched:?}");
    assert!(site.daemon().is_alive());
}

/// What fails behind the fork is told where the others are.
#[test]
fn without_the_right_to_become_another_it_does_not_start() {
    if !is_root("another user") {
        return;
    }
    let site = Site::at(0, "user = nobody\n");
    let relay = site.command(&[]);
    let mut fettered = std::process::Command::new("setpriv");
    fettered.args(["--bounding-set=-setuid,-setgid", "--inh-caps=-all"]);
    fettered.arg(relay.get_program()).args(relay.get_args());
    let launched = finish(fettered);
    assert_eq!(launched.status.code(), Some(1), "{launched:#?}");
    let line = "msrprelay: cannot become nobody:nogroup: EPERM: Operation not permitted; root \
                needs the capabilities CAP_SETUID and CAP_SETGID for that, or whoever starts the \
                relay must do it";
    assert!(launched.stderr.lines().any(|told| told == line), "{launched:#?}");
    assert!(!site.path("run/msrprelay.pid").exists());
}
