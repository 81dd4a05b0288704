//! A log that nobody reads: the relay goes on, counts the lines that it drops, and says so once.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, PipeReader, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use data_encoding::HEXLOWER;
use md5::{Digest as _, Md5};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    harness::{PATIENCE, Site, can_isolate, eventually, free_port, is_open, now},
    logs::{Listener, isolated, with_system},
};

/// The end of a process whose log is stuck: its sessions need no time, the log gets one second.
const END: Duration = Duration::from_secs(5);
/// More than fits in any queue of lines.
const FLOOD: usize = 20_000;
const OPTIONS: &str = "debug_notls = yes\ndefault_domain = example.com\nlog_level = NOTSET\n";
const LOST: &str = " log lines were dropped: ";

#[test]
fn a_pipe_that_nobody_reads_stops_nothing() {
    let (relay, _unread) = on_a_pipe();
    relay.goes_on();
    relay.ends_in_time();
}

#[test]
fn a_pipe_that_is_read_again_gets_the_other_lines_in_order() {
    let (relay, pipe) = on_a_pipe();
    let dropped = relay.goes_on();
    let lines = BufReader::new(pipe).lines().map_while(Result::ok);
    relay.tells_when_read(dropped, lines);
}

#[test]
fn a_syslog_that_nobody_reads_stops_nothing() {
    if let Some((relay, _unread)) = on_a_socket("syslog", "dev/log", &[]) {
        relay.goes_on();
        relay.ends_in_time();
    }
}

#[test]
fn a_syslog_that_is_read_again_gets_the_other_lines_in_order() {
    if let Some((relay, syslog)) = on_a_socket("syslog", "dev/log", &[]) {
        let dropped = relay.goes_on();
        relay.tells_when_read(dropped, entries(syslog));
    }
}

const JOURNAL: &str = "system-run/systemd/journal/socket";

#[test]
fn a_journal_that_nobody_reads_stops_nothing() {
    if let Some((relay, _unread)) = on_a_socket("the journal", JOURNAL, &["--systemd"]) {
        relay.goes_on();
        relay.ends_in_time();
    }
}

#[test]
fn a_journal_that_is_read_again_gets_the_other_lines_in_order() {
    if let Some((relay, journal)) = on_a_socket("the journal", JOURNAL, &["--systemd"]) {
        let dropped = relay.goes_on();
        relay.tells_when_read(dropped, entries(journal));
    }
}

/// A relay that starts beside a log which is stuck already.
#[test]
fn a_relay_starts_though_the_log_is_stuck() {
    for (what, socket, arguments) in
        [("syslog", "dev/log", [].as_slice()), ("the journal", JOURNAL, &["--systemd"])]
    {
        if !can_isolate(what) {
            return;
        }
        let port = free_port();
        let site = with_system(port, OPTIONS);
        let unread = Listener::at(&site.path(socket));
        let filler = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
        filler.set_nonblocking(true).expect("its mode");
        while filler.send_to(b"full", site.path(socket)).is_ok() {}
        let relay = Stuck::start(isolated(&site, arguments), site, port);
        relay.login();
        relay.ends_in_time();
        drop(unread);
    }
}

/// The relay, and the user's end of its log.
struct Stuck {
    site: Site,
    port: u16,
    launched: Child,
}

fn on_a_pipe() -> (Stuck, PipeReader) {
    let port = free_port();
    let site = Site::at(port, OPTIONS);
    let (reader, writer) = io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a small pipe");
    let mut command = site.command(&["--no-fork"]);
    command.stderr(writer);
    (Stuck::start(command, site, port), reader)
}

fn on_a_socket(what: &str, socket: &str, arguments: &[&str]) -> Option<(Stuck, Listener)> {
    if !can_isolate(what) {
        return None;
    }
    let port = free_port();
    let site = with_system(port, OPTIONS);
    let listener = Listener::at(&site.path(socket));
    Some((Stuck::start(isolated(&site, arguments), site, port), listener))
}

/// Entries as lines of text. A binary length before a field does not matter.
fn entries(listener: Listener) -> impl Iterator<Item = String> + Send + 'static {
    let mut buffer = vec![0; 65536];
    std::iter::from_fn(move || {
        let length = listener.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

impl Stuck {
    fn start(mut command: Command, site: Site, port: u16) -> Self {
        if command.get_args().any(|argument| argument == "--systemd") {
            command.stderr(Stdio::null());
        }
        let launched = command.spawn().expect("the relay's program");
        drop(command);
        let relay = Self { site, port, launched };
        eventually("the relay listens", || is_open(port));
        relay
    }

    /// Sessions pass traffic, logins work and the control socket answers, while lines are dropped.
    /// Returns the number of them at the end.
    fn goes_on(&self) -> u64 {
        let (mut alice, mut bob, paths) = self.session();
        let mut sent = 0;
        while self.dropped() == 0 {
            assert!(sent < FLOOD, "no line is dropped");
            for _ in 0..500 {
                sent += 1;
                let body = "x".repeat(sent % 2000);
                bob.sends(&paths, &body);
                assert_eq!(alice.receives(), body);
            }
        }
        for _ in 0..20 {
            self.login();
        }
        bob.sends(&paths, "still here");
        assert_eq!(alice.receives(), "still here");
        let dropped = self.dropped();
        assert!(dropped > 0, "{dropped}");
        let shown = Command::new(env!("CARGO_BIN_EXE_msrprelayctl"))
            .arg("--socket")
            .arg(self.socket())
            .arg("status")
            .output()
            .expect("msrprelayctl");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains(" dropped, because the log did not take them in time"), "{shown}");
        dropped
    }

    fn ends_in_time(mut self) {
        let pid = self.pid();
        let began = now();
        kill(pid, Signal::SIGTERM).expect("a living relay");
        eventually("the relay ends", || {
            let _ = self.launched.try_wait();
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
        });
        assert!(began.elapsed() < END, "{:?}", began.elapsed());
    }

    /// The lines that had room come in the order in which they were written, and among them one that
    /// says how many had none. New lines come behind them, the last one of the relay, too.
    fn tells_when_read(self, dropped: u64, lines: impl Iterator<Item = String> + Send + 'static) {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || lines.map(|line| tell.send(line)).all(|sent| sent.is_ok()));
        let mut log = Vec::new();
        let mut until = |what: &str| {
            let deadline = now() + PATIENCE;
            loop {
                let left = deadline.saturating_duration_since(now());
                let Ok(line) = told.recv_timeout(left) else {
                    panic!("{what:?} does not come: {:#?}", &log[log.len().saturating_sub(5)..]);
                };
                let found = line.contains(what);
                log.push(line);
                if found {
                    return;
                }
            }
        };
        until(LOST);
        self.login();
        // Each target says who it is.
        until(" user=alice@example.com}: session started, peer 127.0.0.1:");
        let total = self.dropped();
        kill(self.pid(), Signal::SIGTERM).expect("a living relay");
        until("stopped");

        let said: Vec<&String> = log.iter().filter(|line| line.contains(LOST)).collect();
        assert_eq!(said.len(), 1, "{said:#?}");
        let (before, _) = said[0].split_once(LOST).expect("the number before");
        let number = before.rsplit(|byte: char| !byte.is_ascii_digit()).next().expect("digits");
        assert_eq!(number.parse::<u64>().ok(), Some(total), "{}", said[0]);
        assert!(total >= dropped, "{total} {dropped}");

        // Bodies had 1, 2, 3 ... octets.
        let passed: Vec<usize> = log.iter().filter_map(|line| octets(line)).collect();
        assert!(passed.len() > 100, "{passed:?}");
        let expected: Vec<usize> = (1..=passed.len()).map(|sent| sent % 2000).collect();
        let last = passed.len() - 1;
        assert!(passed[..last] == expected[..last], "{passed:?}");
    }

    fn pid(&self) -> Pid {
        let status = self.status();
        Pid::from_raw(status["pid"].as_i64().expect("a pid").try_into().expect("a pid"))
    }

    fn dropped(&self) -> u64 {
        let status = self.status();
        status["log_lines_dropped"].as_u64().unwrap_or_else(|| panic!("{status}"))
    }

    fn socket(&self) -> PathBuf {
        self.site.path("run/msrprelay.sock")
    }

    fn status(&self) -> serde_json::Value {
        let mut socket = UnixStream::connect(self.socket()).expect("the control socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        socket.write_all(b"{\"command\":\"status\"}\n").expect("a request");
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).expect("the control socket answers");
        serde_json::from_str(&line).expect("JSON")
    }

    /// A user of the relay, and the URI that it is given.
    fn login(&self) -> (Peer, String) {
        let mut peer = Peer::connect(self.port);
        let challenge = peer.authenticates("");
        let nonce = between(&challenge, "nonce=\"", "\"");
        let opaque = between(&challenge, "opaque=\"", "\"");
        let realm = between(&challenge, "realm=\"", "\"");
        let uri = peer.relay();
        let ha1 = hex(&format!("alice:{realm}:secret"));
        let ha2 = hex(&format!("AUTH:{uri}"));
        let response = hex(&format!("{ha1}:{nonce}:00000001:c:auth:{ha2}"));
        let answer = peer.authenticates(&format!(
            "Authorization: Digest username=\"alice\", realm=\"{realm}\", nonce=\"{nonce}\", \
             uri=\"{uri}\", opaque=\"{opaque}\", qop=auth, nc=00000001, cnonce=\"c\", \
             response=\"{response}\"\r\n"
        ));
        assert!(answer.contains(" 200 "), "{answer}");
        let path = between(&answer, "Use-Path: ", "\r\n");
        (peer, path)
    }

    /// Alice, Bob, and Bob's To-Path and From-Path.
    fn session(&self) -> (Peer, Peer, [String; 2]) {
        let (alice, path) = self.login();
        let bob = Peer::connect(self.port);
        let paths = [format!("{path} {}", alice.uri()), bob.uri()];
        (alice, bob, paths)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.launched.kill();
        let _ = self.launched.wait();
    }
}

/// One end of a connection, with messages that need no response.
struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the relay accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_nodelay(true).expect("an option");
        Self { stream: BufReader::new(stream) }
    }

    fn relay(&self) -> String {
        format!("msrp://{};tcp", self.stream.get_ref().peer_addr().expect("an address"))
    }

    fn uri(&self) -> String {
        format!("msrp://{}/x;tcp", self.stream.get_ref().local_addr().expect("an address"))
    }

    fn authenticates(&mut self, credentials: &str) -> String {
        let (to, from) = (self.relay(), self.uri());
        self.write(&format!(
            "MSRP t0000001 AUTH\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\n{credentials}-------t0000001$\r\n"
        ));
        self.read()
    }

    fn sends(&mut self, [to, from]: &[String; 2], body: &str) {
        let octets = body.len();
        let body = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: text/plain\r\n\r\n{body}\r\n")
        };
        self.write(&format!(
            "MSRP s0000001 SEND\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\nMessage-ID: m\r\n\
             Failure-Report: no\r\nByte-Range: 1-{octets}/{octets}\r\n{body}-------s0000001$\r\n"
        ));
    }

    /// The body of the next message.
    fn receives(&mut self) -> String {
        let message = self.read();
        assert!(message.contains(" SEND\r\n"), "{message}");
        let Some((_, body)) = message.split_once("\r\n\r\n") else { return String::new() };
        body.rsplit_once("\r\n-------").expect("an end-line").0.to_owned()
    }

    fn write(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("a connection");
    }

    /// To the end-line.
    fn read(&mut self) -> String {
        let mut message = String::new();
        loop {
            let before = message.len();
            let read = self.stream.read_line(&mut message).expect("the relay goes on");
            assert!(read > 0, "closed after {message:?}");
            if message[before..].starts_with("-------") {
                return message;
            }
        }
    }
}

/// The octets of the SEND that a line is about.
fn octets(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once("SEND passed on")?;
    let (_, rest) = rest.split_once("octets=")?;
    rest.split(|byte: char| !byte.is_ascii_digit()).next()?.parse().ok()
}

fn between(text: &str, before: &str, after: &str) -> String {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?}: {text}"));
    rest.split_once(after).expect("its end").0.to_owned()
}

fn hex(text: &str) -> String {
    HEXLOWER.encode(&Md5::digest(text.as_bytes()))
}
