//! The daemon as an operator starts it, with a configuration of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak, mpsc},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{now, tls::IDENTITY};

/// Everyone who has an account; the password of NAME is `secret-NAME`.
const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "ann-marie"];

const START: Duration = Duration::from_secs(20);

/// A running relay; dropping it ends the process.
pub(crate) struct Relay {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    secure: bool,
    /// Holds the configuration, its certificate and the runtime directory.
    _directory: TempDir,
}

impl Relay {
    /// The plain-TCP relay that all tests with no wishes of their own share.
    ///
    /// It lives while some test holds it, so that none outlives the run.
    pub(crate) fn shared_plain() -> Arc<Self> {
        static SHARED: Mutex<Weak<Relay>> = Mutex::new(Weak::new());

        shared(&SHARED, false)
    }

    /// The same over TLS.
    pub(crate) fn shared_tls() -> Arc<Self> {
        static SHARED: Mutex<Weak<Relay>> = Mutex::new(Weak::new());

        shared(&SHARED, true)
    }

    /// Starts a relay; `options` are lines of `[Relay]` that add to or replace the usual ones.
    pub(crate) fn start(options: &str, secure: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("config.ini");
        fs::write(directory.path().join("relay.crt"), &IDENTITY.certificate_pem)
            .expect("a certificate file");
        fs::write(directory.path().join("relay.key"), &IDENTITY.key_pem).expect("a key file");
        fs::write(&file, configuration(options, secure)).expect("a configuration file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_msrprelay"))
            .arg("--no-fork")
            .arg("--config-file")
            .arg(&file)
            .arg("--runtime-dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the relay's program");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("its standard error");
        let Some(address) = first_address(stderr, &log) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "the relay does not listen; it said:\n{}",
                log.lock().unwrap_or_else(PoisonError::into_inner)
            );
        };
        Self { child, address, log, secure, _directory: directory }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line of the log that contains `text`, and returns it.
    #[track_caller]
    pub(crate) fn logs(&self, text: &str) -> String {
        let log = self.logs_until(text, |log| log.contains(text));
        log.lines().find(|line| line.contains(text)).unwrap_or_default().to_owned()
    }

    /// Waits until the log is as wanted (`what` says it in words), and returns it.
    #[track_caller]
    pub(crate) fn logs_until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = now() + super::PATIENCE;
        while now() < deadline {
            let log = self.log();
            if wanted(&log) {
                return log;
            }
            super::sleep(20);
        }
        panic!("{what:?} is not in the log:\n{}", self.log());
    }

    /// Asks it to stop (SIGTERM), and returns the line with which it begins to.
    #[track_caller]
    pub(crate) fn stops(&self) -> String {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("a process to stop");
        self.logs("stopping: ")
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the process's status");
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .expect("VmRSS")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shared(slot: &Mutex<Weak<Relay>>, secure: bool) -> Arc<Relay> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = slot.upgrade() {
        return running;
    }
    let started = Arc::new(Relay::start("", secure));
    *slot = Arc::downgrade(&started);
    started
}

/// `config.ini`: the usual options, those of the test, and the accounts.
fn configuration(options: &str, secure: bool) -> String {
    let mut relay: Vec<(&str, &str)> = vec![
        ("address", "127.0.0.1:0"),
        ("backend", "memory"),
        ("denied_peers", "none"),
        ("session_expiration_time_minimum", "1"),
        ("log_level", "DEBUG"),
    ];
    if secure {
        relay.push(("hostname", "localhost"));
        relay.push(("certificate", "relay.crt"));
        relay.push(("key", "relay.key"));
    } else {
        relay.push(("hostname", "relay.example.com"));
        relay.push(("debug_notls", "Yes"));
    }
    for line in options.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once('=').expect("name = value");
        relay.retain(|(other, _)| *other != name.trim());
        relay.push((name.trim(), value.trim()));
    }
    let mut text = "[Relay]\n".to_owned();
    for (name, value) in relay {
        text.extend([name, " = ", value, "\n"]);
    }
    text += "\n[Memory]\n";
    for user in USERS {
        text.extend([user, "@example.com = secret-", user, "\n"]);
    }
    text
}

/// Reads the log for as long as the process lives; the first address that it listens on.
fn first_address(stderr: ChildStderr, log: &Arc<Mutex<String>>) -> Option<SocketAddr> {
    let (tell, told) = mpsc::channel();
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(address) = address_in(&line) {
                let _ = tell.send(address);
            }
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
    });
    told.recv_timeout(START).ok()
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    rest.split_whitespace().next()?.trim_end_matches([',', ';', '.']).parse().ok()
}
