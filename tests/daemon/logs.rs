//! Where the lines go: terminal, syslog, journald, each as it is met in the field.

use std::{
    fs::{self, File},
    io::Read as _,
    net::Shutdown,
    os::unix::{fs::symlink, net::UnixDatagram},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{pty::openpty, sys::signal::Signal};

use crate::harness::{Foreground, PATIENCE, Site, can_isolate, eventually, finish, free_port};

#[test]
fn a_pipe_gets_plain_lines() {
    let site = Site::at(0, "");
    let mut relay = Foreground::start(site.command(&["--no-fork"]));
    let line = relay.logs("listening on");
    relay.signal(Signal::SIGTERM);
    assert!(relay.ends().success());
    assert!(!relay.log.contains('\u{1b}'), "{}", relay.log);
    // 2026-01-02T03:04:05.678901Z  INFO listening on
    assert!(line.as_bytes()[4] == b'-' && line.contains("Z  INFO "), "{line}");
    assert!(!site.path("run/msrprelay.pid").exists());
}

#[test]
fn a_terminal_gets_colour() {
    let site = Site::at(0, "");
    let terminal = openpty(None, None).expect("a terminal");
    let mut command = site.command(&["--no-fork"]);
    command.stderr(Stdio::from(terminal.slave));
    let mut child = command.spawn().expect("the relay's program");
    drop(command);
    let mut screen = File::from(terminal.master);
    let mut shown = String::new();
    let mut buffer = [0; 4096];
    while !shown.contains("listening on") {
        let length = screen.read(&mut buffer).expect("lines");
        shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(shown.contains("\u{1b}[32m INFO\u{1b}[0m"), "{shown:?}");
}

#[test]
fn the_level_changes_with_the_configuration() {
    let site = Site::at(0, "log_level = WARNING\n");
    let mut relay = Foreground::start(site.command(&["--no-fork"]));
    eventually("it takes signals", || {
        let status = fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        u64::from_str_radix(caught, 16).unwrap() & 1 == 1
    });
    let quiet = site.read("config.ini");
    site.write("config.ini", &quiet.replace("WARNING", "INFO"));
    relay.signal(Signal::SIGHUP);
    relay.logs("reloaded");
    assert!(!relay.log.contains("starting msrprelay"), "{}", relay.log);
    relay.signal(Signal::SIGTERM);
    relay.logs("stopped");
}

/// A system of its own: `dev` and `run` of the site are mounted in the place of the real ones.
fn isolated_program(site: &Site, program: &str) -> Command {
    let script = "set -e; cd \"$SITE\"
        for node in null zero random urandom; do
            : > dev/$node; mount --bind /dev/$node dev/$node
        done
        mount --bind dev /dev; mount --bind system-run /run
        cd /; exec \"$@\"";
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "sh", "-c", script, "sh", program]);
    wrapped.env("SITE", site.path("")).stdin(Stdio::null());
    wrapped.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
    wrapped
}

pub(crate) fn isolated(site: &Site, arguments: &[&str]) -> Command {
    let relay = site.command(arguments);
    let mut wrapped = isolated_program(site, relay.get_program().to_str().expect("a path"));
    wrapped.args(relay.get_args());
    wrapped
}

pub(crate) fn with_system(port: u16, options: &str) -> Site {
    let site = Site::at(port, options);
    fs::create_dir(site.path("dev")).expect("a directory");
    fs::create_dir_all(site.path("system-run/systemd/journal")).expect("a directory");
    site
}

/// Somebody who listens for datagrams.
pub(crate) struct Listener(pub(crate) UnixDatagram);

impl Listener {
    pub(crate) fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Self(socket)
    }

    /// The next entry that contains `text`.
    #[track_caller]
    fn hears(&self, text: &str) -> String {
        let mut heard = String::new();
        let mut buffer = [0; 16384];
        loop {
            let Ok(length) = self.0.recv(&mut buffer) else {
                panic!("no entry has {text:?}:\n{heard}");
            };
            let entry = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if entry.contains(text) {
                return entry;
            }
            heard.extend([entry.as_str(), "\n"]);
        }
    }

    #[track_caller]
    fn is_silent(&self) {
        self.0.set_read_timeout(Some(Duration::from_millis(200))).expect("a time limit");
        assert!(self.0.recv(&mut [0; 16]).is_err());
    }
}

#[test]
fn a_daemon_logs_to_syslog() {
    if !can_isolate("syslog") {
        return;
    }
    let site = with_system(0, "unheard_of = 1\n");
    let syslog = Listener::at(&site.path("dev/log"));
    let launched = finish(isolated(&site, &[]));
    assert!(launched.status.success(), "{launched:?}");
    let daemon = site.daemon();
    // <PRIORITY>Jan  2 03:04:05 msrprelay[PID]: facility 3, severities 6 and 4.
    let started = syslog.hears("starting msrprelay");
    assert!(started.starts_with("<30>"), "{started}");
    let warning = syslog.hears("unknown option unheard_of is ignored");
    assert!(warning.starts_with("<28>"), "{warning}");
    let listening = syslog.hears("listening on");
    let tag = format!(" msrprelay[{}]: ", daemon.0);
    assert!(listening.starts_with("<30>") && listening.contains(&tag), "{listening}");
    assert!(listening.contains("]:  INFO ") && !listening.contains('\n'), "{listening:?}");
    // Whoever started it by hand sees what is odd, and nothing else.
    let expected = "config.ini:6: [Relay] unknown option unheard_of is ignored\n";
    assert!(launched.stderr.contains(expected), "{launched:?}");
    let lines = launched.stderr.lines();
    assert!(lines.clone().all(|line| line.starts_with("msrprelay: warning: ")), "{launched:?}");

    // syslogd is restarted.
    let path = site.path("dev/log");
    // A child that another test is about to start may hold a copy of it.
    syslog.0.shutdown(Shutdown::Both).unwrap();
    drop(syslog);
    fs::remove_file(&path).unwrap();
    let syslog = Listener::at(&path);
    site.write("config.ini", "[Relay]\nnonsense\n");
    daemon.signal(Signal::SIGHUP);
    let failed = syslog.hears("the line is not understood");
    assert!(failed.starts_with("<27>") && failed.contains(&tag), "{failed}");
    daemon.signal(Signal::SIGTERM);
    syslog.hears("stopped");
}

#[test]
fn a_start_that_fails_is_told_in_both_places() {
    if !can_isolate("syslog") {
        return;
    }
    let site = with_system(0, "log_level = loud\n");
    let syslog = Listener::at(&site.path("dev/log"));
    let launched = finish(isolated(&site, &[]));
    assert_eq!(launched.status.code(), Some(1));
    let line = "[Relay] log_level = \"loud\": accepted is CRITICAL";
    assert!(launched.stderr.contains(line), "{launched:?}");
    let entry = syslog.hears(line);
    assert!(entry.starts_with("<27>"), "{entry}");
}

/// The standard error of a daemon is nobody's, so a panic must be in the log. The one fault that
/// can be brought about from outside: no threads for the runtime.
#[test]
fn a_panic_is_logged() {
    if !can_isolate("syslog") {
        return;
    }
    let site = with_system(0, "user = nobody\n");
    let syslog = Listener::at(&site.path("dev/log"));
    let relay = site.command(&[]);
    let mut command = isolated_program(&site, "prlimit");
    command.arg("--nproc=1:1").arg(relay.get_program()).args(relay.get_args());
    let launched = finish(command);
    assert_eq!(launched.status.code(), Some(1), "{launched:#?}");
    assert!(launched.stderr.contains("OS can't spawn worker thread"), "{launched:#?}");
    let entry = syslog.hears("a fault in the relay itself, at ");
    assert!(entry.starts_with("<27>") && entry.contains("spawn worker thread"), "{entry}");
    assert!(!site.path("run/msrprelay.pid").exists());
}

/// A field of an entry in journald's own protocol: `NAME=value`, or the name alone on a line, a
/// length of eight bytes and the value.
fn field<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    let entry = entry.split_once(&format!("{name}=")).map(|(_, value)| value).or_else(|| {
        let (_, framed) = entry.split_once(&format!("{name}\n"))?;
        framed.get(8..)
    })?;
    entry.lines().next()
}

#[test]
fn a_service_logs_to_the_journal_with_fields() {
    if !can_isolate("the journal") {
        return;
    }
    let port = free_port();
    let site = with_system(port, "log_level = DEBUG\n");
    let journal = Listener::at(&site.path("system-run/systemd/journal/socket"));
    let mut relay = Foreground::start(isolated(&site, &["--systemd"]));
    let listening = journal.hears("listening on");
    assert_eq!(field(&listening, "PRIORITY"), Some("6"), "{listening}");
    assert_eq!(field(&listening, "SYSLOG_FACILITY"), Some("3"), "{listening}");
    assert_eq!(field(&listening, "SYSLOG_IDENTIFIER"), Some("msrprelay"), "{listening}");
    // What it does with a peer is found by the peer.
    let peer = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let address = peer.local_addr().unwrap().to_string();
    drop(peer);
    let closed = journal.hears(&address);
    assert_eq!(field(&closed, "MSRP_PEER"), Some(address.as_str()), "{closed}");
    assert_eq!(field(&closed, "PRIORITY"), Some("7"), "{closed}");
    assert_eq!(field(&closed, "SPAN_NAME"), Some("connection"), "{closed}");
    // Whoever reads only the text sees it, too, as on the standard error.
    let text = field(&closed, "MESSAGE").unwrap_or_default();
    assert!(text.starts_with(&format!("connection{{peer={address}}}: ")), "{closed}");

    relay.signal(Signal::SIGTERM);
    assert!(relay.ends().success());
    assert_eq!(relay.log, "", "nothing twice");
}

/// systemd makes `/dev/log` a link to journald's socket for syslog.
#[test]
fn a_daemon_logs_to_the_journal_where_it_is_the_systems_log() {
    if !can_isolate("the journal") {
        return;
    }
    let site = with_system(0, "");
    symlink("/run/systemd/journal/dev-log", site.path("dev/log")).unwrap();
    let syslog = Listener::at(&site.path("system-run/systemd/journal/dev-log"));
    let journal = Listener::at(&site.path("system-run/systemd/journal/socket"));
    let launched = finish(isolated(&site, &[]));
    assert!(launched.status.success(), "{launched:?}");
    let daemon = site.daemon();
    let listening = journal.hears("listening on");
    assert_eq!(field(&listening, "SYSLOG_IDENTIFIER"), Some("msrprelay"), "{listening}");
    syslog.is_silent();
    daemon.signal(Signal::SIGTERM);
    journal.hears("stopped");
}

/// The journal itself, where this machine has the program: what it keeps, and how it is read.
#[test]
fn the_journal_keeps_what_it_is_told() {
    let journald = Path::new("/lib/systemd/systemd-journald");
    if !can_isolate("journald") || !journald.exists() {
        return;
    }
    let site = with_system(0, "unheard_of = 1\n");
    fs::create_dir_all(site.path("system-run/log/journal")).expect("a directory");
    symlink("/run/systemd/journal/dev-log", site.path("dev/log")).expect("a link");
    let script = "
        mount -t tmpfs tmpfs /var/log
        /lib/systemd/systemd-journald & journald=$!
        trap 'kill $journald; wait' EXIT
        for try in $(seq 100); do [ -S /run/systemd/journal/socket ] && break; sleep 0.1; done
        \"$@\"; echo \"launched: $?\"
        pid=$(cat \"$SITE/run/msrprelay.pid\"); kill $pid
        while [ -e \"$SITE/run/msrprelay.pid\" ]; do sleep 0.1; done
        journalctl --sync
        journalctl --no-pager -o short -t msrprelay
        journalctl --no-pager -o export -t msrprelay";
    let relay = site.command(&[]);
    let mut command = isolated_program(&site, "timeout");
    command.args(["20", "sh", "-c", script, "sh"]).arg(relay.get_program()).args(relay.get_args());
    let told = finish(command);
    assert!(told.stdout.contains("launched: 0"), "{told:#?}");
    let (lines, entries) = told.stdout.split_once("__CURSOR=").expect("entries");
    assert!(lines.contains(" msrprelay["), "{lines}");
    assert!(lines.contains("]: listening on 127.0.0.1:"), "{lines}");
    let listening = entries.split("\n\n").find(|entry| entry.contains("MESSAGE=listening on"));
    let listening = listening.expect("the entry");
    for field in ["PRIORITY=6", "SYSLOG_FACILITY=3", "SYSLOG_IDENTIFIER=msrprelay"] {
        assert!(listening.lines().any(|line| line == field), "{field}: {listening}");
    }
    let warning = entries.split("\n\n").find(|entry| entry.contains("PRIORITY=4"));
    assert!(warning.is_some_and(|entry| entry.contains("unknown option unheard_of")), "{entries}");
}

#[test]
fn without_a_journal_a_service_logs_to_its_standard_error() {
    if !can_isolate("the journal") {
        return;
    }
    let site = with_system(0, "");
    let mut relay = Foreground::start(isolated(&site, &["--systemd"]));
    relay.logs("the journal cannot be reached");
    relay.logs("listening on");
}
