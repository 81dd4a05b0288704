//! The init.d script, on a relay of its own instead of the installed one. `tests/package` runs it as
//! installed.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{Daemon, Outcome, Site, eventually, finish};

const SCRIPT: &str = include_str!("../../init.d/msrprelay");

/// The script, with the relay's paths replaced by those of a site.
struct Script {
    site: Site,
}

impl Script {
    /// `None`, and a line that says so, where the script cannot run.
    fn new() -> Option<Self> {
        let tools = ["/lib/lsb/init-functions", "/sbin/start-stop-daemon", "/usr/bin/flock"];
        if let Some(missing) = tools.iter().find(|tool| !Path::new(tool).exists()) {
            let _ = writeln!(io::stderr(), "no {missing}: the init.d script is not tested");
            return None;
        }
        let site = Site::at(0, "");
        fs::create_dir(site.path("run")).expect("a directory");
        let path = |name: &str| site.path(name).display().to_string();
        let control = format!(
            "#!/bin/sh\nexec {} --socket {} \"$@\"\n",
            env!("CARGO_BIN_EXE_msrprelayctl"),
            path("run/msrprelay.sock")
        );
        site.write("msrprelayctl", &control);
        fs::set_permissions(site.path("msrprelayctl"), fs::Permissions::from_mode(0o755))
            .expect("its mode");
        let arguments = format!(
            "DAEMON_ARGS=\"--config-file {} --runtime-dir {}\"\n",
            path("config.ini"),
            path("run")
        );
        site.write("default", &arguments);
        let mut text = SCRIPT.to_owned();
        for (installed, here) in [
            ("/usr/bin/msrprelayctl", path("msrprelayctl").as_str()),
            ("/usr/bin/msrprelay\n", &format!("{}\n", env!("CARGO_BIN_EXE_msrprelay"))),
            ("/run/msrprelay/", &path("run/")),
            ("/etc/default/msrprelay", &path("default")),
        ] {
            assert!(text.contains(installed), "{installed}");
            text = text.replace(installed, here);
        }
        site.write("script", &text);
        Some(Self { site })
    }

    fn run(&self, action: &str) -> Outcome {
        let mut command = Command::new("sh");
        command.arg(self.site.path("script")).arg(action).stdin(Stdio::null());
        finish(command)
    }

    #[track_caller]
    fn goes(&self, action: &str, status: i32) -> Outcome {
        let outcome = self.run(action);
        assert_eq!(outcome.status.code(), Some(status), "{action}: {outcome:#?}");
        outcome
    }

    /// Ended when dropped.
    fn relay(&self) -> Daemon {
        self.site.daemon()
    }

    fn pid_file(&self) -> String {
        self.site.read("run/msrprelay.pid")
    }
}

#[test]
fn a_relay_is_started_reloaded_and_stopped() {
    let Some(script) = Script::new() else { return };
    script.goes("status", 3);
    script.goes("reload", 7);
    script.goes("start", 0);
    script.goes("status", 0);
    let first = script.relay();
    script.goes("start", 0);
    assert!(first.is_alive(), "it runs already");
    assert_eq!(script.pid_file(), format!("{}\n", first.0));
    script.goes("reload", 0);
    script.goes("restart", 0);
    assert!(!first.is_alive());
    let second = script.relay();
    assert!(second.is_alive());
    script.goes("stop", 0);
    assert!(!second.is_alive());
    script.goes("status", 3);
    script.goes("try-restart", 0);
    script.goes("status", 3);
}

/// A process that has the number in a stale pid file, and even the name of a relay.
#[test]
fn a_process_that_is_no_relay_is_left_alone() {
    let Some(script) = Script::new() else { return };
    let site = &script.site;
    fs::create_dir(site.path("other")).unwrap();
    symlink("/usr/bin/sleep", site.path("other/msrprelay")).unwrap();
    let mut other = Command::new(site.path("other/msrprelay")).arg("60").spawn().unwrap();
    let stale = format!("{}\n", other.id());
    let name = || fs::read_to_string(format!("/proc/{}/comm", other.id())).unwrap();
    eventually("it has the name of a relay", || name() == "msrprelay\n");

    site.write("run/msrprelay.pid", &stale);
    script.goes("status", 1);
    script.goes("stop", 0);
    assert!(other.try_wait().unwrap().is_none(), "stop leaves it alone");
    script.goes("reload", 7);
    script.goes("start", 0);
    let relay = script.relay();
    assert!(relay.is_alive() && relay.0.as_raw().cast_unsigned() != other.id());
    script.goes("status", 0);

    // The relay is killed and leaves its file, and the other one gets its number.
    relay.signal(nix::sys::signal::Signal::SIGKILL);
    relay.ends();
    // Its threads may hold the lock a little longer.
    let file = fs::File::open(site.path("run/msrprelay.pid")).unwrap();
    file.lock().unwrap();
    drop(file);
    site.write("run/msrprelay.pid", &stale);
    script.goes("restart", 0);
    assert!(other.try_wait().unwrap().is_none(), "restart leaves it alone");
    script.goes("stop", 0);
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_broken_file_stops_no_relay() {
    let Some(script) = Script::new() else { return };
    script.goes("start", 0);
    let relay = script.relay();
    let good = script.site.read("config.ini");
    script.site.write("config.ini", &good.replace("backend = memory", "backend = telepathy"));
    for action in ["restart", "try-restart", "reload", "force-reload"] {
        let told = script.goes(action, 1);
        assert!(told.stderr.contains("backend = \"telepathy\""), "{action}: {told:#?}");
        assert!(relay.is_alive(), "{action} leaves it alone");
        assert_eq!(script.pid_file(), format!("{}\n", relay.0), "{action}");
        script.goes("status", 0);
    }
    // What a start needs beside the file.
    script.site.write("config.ini", &good.replace("relay.crt", "lost.crt"));
    let told = script.goes("restart", 1);
    assert!(told.stderr.contains("lost.crt does not exist"), "{told:#?}");
    assert!(relay.is_alive());

    script.site.write("config.ini", &good);
    script.goes("restart", 0);
    assert!(!relay.is_alive() && script.relay().is_alive());
}
