//! The daemon as an operator starts it, with a configuration of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak, mpsc},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use super::{now, tls::IDENTITY};

/// Everyone who has an account; the password of NAME is `secret-NAME`.
const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "ann-marie"];

const START: Duration = Duration::from_secs(20);

/// A running relay; dropping it ends the process.
pub(crate) struct Relay {
    pub(super) child: Mutex<Child>,
    address: SocketAddr,
    /// The addresses that it says it listens on.
    told: Mutex<mpsc::Receiver<SocketAddr>>,
    log: Arc<Mutex<String>>,
    pub(super) secure: bool,
    /// Holds the configuration, its certificate and the runtime directory.
    pub(super) directory: TempDir,
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
        Self::configured(options, secure, "")
    }

    /// The same, with `more` at the end of the file: users, then other sections.
    pub(crate) fn configured(options: &str, secure: bool, more: &str) -> Self {
        let mut relay = Self::launch(options, secure, more);
        match relay.listens() {
            Some(address) => relay.address = address,
            None => panic!("the relay does not listen; it said:\n{}", relay.log()),
        }
        relay
    }

    /// The same, in a system whose `/etc/resolv.conf` is the file `resolv.conf` of the relay's
    /// directory, with this text.
    pub(crate) fn among(name_servers: &str, options: &str) -> Self {
        let mut relay = Self::spawn(options, false, "", Some(name_servers));
        let address = relay.listens();
        relay.address = address.unwrap_or_else(|| panic!("it does not listen:\n{}", relay.log()));
        relay
    }

    /// What a relay says that does not start.
    pub(crate) fn refuses(options: &str, more: &str) -> String {
        let relay = Self::launch(options, false, more);
        if let Some(address) = relay.listens() {
            panic!("the relay listens on {address}; it said:\n{}", relay.log());
        }
        relay.log()
    }

    fn launch(options: &str, secure: bool, more: &str) -> Self {
        Self::spawn(options, secure, more, None)
    }

    fn spawn(options: &str, secure: bool, more: &str, name_servers: Option<&str>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("config.ini");
        fs::write(directory.path().join("relay.crt"), &IDENTITY.certificate_pem)
            .expect("a certificate file");
        fs::write(directory.path().join("relay.key"), &IDENTITY.key_pem).expect("a key file");
        fs::write(&file, configuration(options, secure) + more).expect("a configuration file");
        let mut command = match name_servers {
            None => Command::new(env!("CARGO_BIN_EXE_msrprelay")),
            Some(text) => {
                let resolv_conf = directory.path().join("resolv.conf");
                fs::write(&resolv_conf, text).expect("a file");
                let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", script]).arg(resolv_conf);
                command.arg(env!("CARGO_BIN_EXE_msrprelay"));
                command
            }
        };
        let mut child = command
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
        let told = read_log(stderr, &log);
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        Self { child: Mutex::new(child), address, told, log, secure, directory }
    }

    /// The first address that it listens on, once it does; `None` when it ends instead.
    fn listens(&self) -> Option<SocketAddr> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(START).ok()
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

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.process_status("VmRSS:")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
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
pub(super) fn configuration(options: &str, secure: bool) -> String {
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
    if nix::unistd::geteuid().is_root() {
        // Where the package is installed there is a user that root would give way to.
        relay.push(("user", "root"));
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

/// Reads the log for as long as the process lives; passes on the addresses that it listens on.
fn read_log(stderr: ChildStderr, log: &Arc<Mutex<String>>) -> Mutex<mpsc::Receiver<SocketAddr>> {
    let (tell, told) = mpsc::channel();
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            let address = address_in(&line);
            {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
            if let Some(address) = address {
                let _ = tell.send(address);
            }
        }
    });
    Mutex::new(told)
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    rest.split_whitespace().next()?.trim_end_matches([',', ';', '.']).parse().ok()
}
