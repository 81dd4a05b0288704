//! A directory with a configuration, and the relay started on it in one of its modes.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

/// More than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a relay is started on.
pub(crate) struct Site {
    directory: TempDir,
    program: PathBuf,
}

/// A process that has ended, or the launching process of one that goes on.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    /// With a certificate for `relay.example.com` in `relay.crt` and `relay.key`.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Other users are started on it, too.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).expect("its mode");
        let site = Self { directory, program: env!("CARGO_BIN_EXE_msrprelay").into() };
        let (certificate, key) = certificate(&["relay.example.com"], 2090);
        site.write("relay.crt", &certificate);
        site.write("relay.key", &key);
        let secret = fs::Permissions::from_mode(0o600);
        fs::set_permissions(site.path("relay.key"), secret).expect("its mode");
        site
    }

    /// The same, with a relay that listens on `port` of the loopback address over TLS.
    pub(crate) fn at(port: u16, options: &str) -> Self {
        let site = Self::new();
        site.configure(&format!("address = 127.0.0.1:{port}\n{TLS}{options}"));
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file in the temporary directory");
    }

    /// Replaces a part of the configuration.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = self.read("config.ini");
        assert!(text.contains(from), "{text}");
        self.write("config.ini", &text.replace(from, to));
    }

    /// Writes `config.ini`: the options of `[Relay]`, and one user. What root starts stays root,
    /// unless the options say otherwise: this machine may have a user for the relay.
    pub(crate) fn configure(&self, options: &str) {
        let root = geteuid().is_root() && !options.contains("user =");
        let user = if root { "user = root" } else { "" };
        let text = format!(
            "[Relay]\nbackend = memory\n{options}\n{user}\n[Memory]\nalice@example.com = secret\n"
        );
        self.write("config.ini", &text);
    }

    /// The place of the line of the configuration that begins so, as messages name it.
    pub(crate) fn line_of(&self, start: &str) -> String {
        let text = self.read("config.ini");
        let line = text.lines().zip(1..).find(|(line, _)| line.starts_with(start));
        format!("{}:{}", self.path("config.ini").display(), line.expect("that line").1)
    }

    /// An SQLite database with a table of users that is empty.
    pub(crate) fn make_table(&self, name: &str) {
        let table = "CREATE TABLE subscriber (username TEXT, domain TEXT, password TEXT)";
        let options = SqliteConnectOptions::new().filename(self.path(name));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let options = options.create_if_missing(true);
            let mut owner = options.connect().await.expect("a new file");
            owner.execute(table).await.expect("a table");
            owner.close().await.expect("its end");
        });
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file in the temporary directory")
    }

    /// The program from a place that every user can get at.
    pub(crate) fn share_program(&mut self) {
        let copy = self.path("msrprelay");
        // Not by this process: a child of another test could inherit the file while it is written,
        // and what is open for writing cannot be run.
        let copied = Command::new("cp").arg(&self.program).arg(&copy).status();
        assert!(copied.is_ok_and(|status| status.success()), "no copy of the program");
        self.program = copy;
    }

    /// The relay's command line, with this configuration and `run` as runtime directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--config-file")
            .arg(self.path("config.ini"))
            .arg("--runtime-dir")
            .arg(self.path("run"))
            .args(arguments)
            .stdin(Stdio::null());
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it to its end, or until it is in the background.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        finish(self.command(arguments))
    }

    /// The pid in the pid file.
    pub(crate) fn daemon(&self) -> Daemon {
        let text = self.read("run/msrprelay.pid");
        Daemon(Pid::from_raw(text.trim_end().parse().expect("a pid")))
    }
}

impl Drop for Site {
    /// No relay outlives the directory that it runs on, whatever became of the test.
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("run/msrprelay.pid")).unwrap_or_default();
        let Ok(pid) = pid.trim_end().parse() else { return };
        // The file may name any process, also one that is not ours.
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let here = self.directory.path().as_os_str().as_encoded_bytes();
        if command.windows(here.len()).any(|part| part == here) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// What TLS needs of `[Relay]`.
pub(crate) const TLS: &str = "certificate = relay.crt\nkey = relay.key\n";

/// A relay in the background; ended when dropped.
#[derive(Debug)]
pub(crate) struct Daemon(pub(crate) Pid);

impl Daemon {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.0, signal).expect("a living relay");
    }

    /// What `/proc` tells of it.
    pub(crate) fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).expect("a living relay")
    }

    /// A line of `/proc/PID/status`.
    pub(crate) fn status(&self, name: &str) -> String {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a line of the status").trim().to_owned()
    }

    pub(crate) fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    #[track_caller]
    pub(crate) fn ends(&self) {
        eventually("the relay ends", || !self.is_alive());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_alive() {
            let _ = kill(self.0, Signal::SIGKILL);
        }
    }
}

/// A relay in the foreground; ended when dropped.
pub(crate) struct Foreground {
    pub(crate) child: Child,
    lines: mpsc::Receiver<String>,
    pub(crate) log: String,
}

impl Foreground {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the relay's program");
        let lines = lines_of(child.stderr.take().expect("its standard error"));
        Self { child, lines, log: String::new() }
    }

    /// Waits for a line of the log that contains `text`.
    #[track_caller]
    pub(crate) fn logs(&mut self, text: &str) -> String {
        let deadline = now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{text:?} is not in the log:\n{}", self.log);
            };
            self.log.extend([line.as_str(), "\n"]);
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a living relay");
    }

    /// Waits for its end; the rest of its log is in `log`.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> ExitStatus {
        let status = wait(&mut self.child);
        self.log.extend(self.lines.iter().flat_map(|line| [line, "\n".to_owned()]));
        status
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

/// Runs a command until it has ended and nobody holds its standard error any more.
#[track_caller]
pub(crate) fn finish(mut command: Command) -> Outcome {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [stdout, stderr] = [
        collect(child.stdout.take().expect("its standard output")),
        collect(child.stderr.take().expect("its standard error")),
    ];
    let status = wait(&mut child);
    let all = |text: mpsc::Receiver<String>| text.recv_timeout(PATIENCE).expect("its last words");
    Outcome { status, stdout: all(stdout), stderr: all(stderr) }
}

fn collect(mut stream: impl io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        let _ = tell.send(String::from_utf8_lossy(&text).into_owned());
    });
    told
}

#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    let deadline = now() + PATIENCE;
    while status.is_none() {
        if now() > deadline {
            let _ = child.kill();
            panic!("the process does not end");
        }
        thread::sleep(Duration::from_millis(10));
        status = child.try_wait().expect("a child of ours");
    }
    status.expect("it has ended")
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !holds() {
        assert!(now() < deadline, "it does not come to pass that {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[expect(clippy::disallowed_methods, reason = "tests wait for real processes")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Nobody listens there yet.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Whether a connection is taken there.
pub(crate) fn is_open(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, PATIENCE).is_ok()
}

/// Says why a test is passed over when it does not run as root.
pub(crate) fn is_root(what: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        let _ = writeln!(io::stderr(), "not as root: {what} is not tested");
    }
    root
}

/// The same of namespaces, which containers may not allow to make.
pub(crate) fn can_isolate(what: &str) -> bool {
    if !is_root(what) {
        return false;
    }
    let tried = Command::new("unshare").args(["--mount", "--net", "true"]).status();
    let works = tried.is_ok_and(|status| status.success());
    if !works {
        let _ = writeln!(io::stderr(), "no namespaces: {what} is not tested");
    }
    works
}

/// A self-signed certificate for `names` that is valid until the end of `year`, and its key.
pub(crate) fn certificate(names: &[&str], year: i32) -> (String, String) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut parameters = CertificateParams::new(names).expect("names");
    parameters.distinguished_name.push(DnType::CommonName, "relay.example.com");
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(year, 12, 31);
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}
