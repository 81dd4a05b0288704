//! `msrpclient` as a process: against itself, against a peer that speaks bytes written by hand,
//! and through the relay.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_mins(1);
const PASSWORD: &str = "correct horse";

#[test]
fn files_of_all_sizes_arrive_directly() {
    for size in [0, 1, 2048, 2049, 5 * 1024 * 1024] {
        let room = Room::new();
        let file = room.random("some file.bin", size);
        let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
        let sent = room.send(&file, &["--direct"]);
        let received = waiting.finish();
        assert_eq!(sent.code, 0, "{size}: {}", sent.stderr);
        assert_eq!(received.code, 0, "{size}: {}", received.stderr);
        let arrived = room.inbox().join("some file.bin");
        assert!(fs::read(&arrived).unwrap() == fs::read(&file).unwrap(), "{size}: other content");
        let digest = format!("SHA-256 {}", sha256(&file));
        assert!(sent.stderr.contains(&digest), "{}", sent.stderr);
        assert!(received.stderr.contains(&digest), "{}", received.stderr);
        let path = fs::read_to_string(room.path_file()).unwrap();
        assert_eq!(received.stdout, path, "stdout is the path, and nothing else");
        assert_eq!(path.lines().count(), 1);
        assert_eq!(room.leftovers(), 0, "no .part is left");
    }
}

#[test]
fn odd_names_arrive_and_nothing_is_overwritten() {
    let room = Room::new();
    for name in ["\u{fc}ml\u{e4}ut \u{1f600}.bin", "a \"quoted\"; back\\slash.txt", "-n"] {
        let file = room.random(name, 100);
        let shown = name.rsplit('\\').next().unwrap();
        for expected in [shown.to_owned(), numbered(shown)] {
            let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
            let sent = room.send(&file, &["--direct"]);
            let received = waiting.finish();
            assert_eq!((sent.code, received.code), (0, 0), "{} {}", sent.stderr, received.stderr);
            let arrived = room.inbox().join(&expected);
            assert!(fs::read(&arrived).unwrap() == fs::read(&file).unwrap(), "{expected}");
        }
    }
}

#[test]
fn a_named_output_is_exactly_that_file() {
    let room = Room::new();
    let file = room.random("x", 3000);
    let output = room.dir.path().join("exactly here");
    fs::write(&output, "old").unwrap();
    let output_text = output.to_str().unwrap();
    let args = ["--listen", "127.0.0.1", "--no-tls", "--output", output_text];
    let waiting = room.receive(&args);
    assert_eq!(room.send(&file, &["--direct"]).code, 0);
    let received = waiting.finish();
    assert_eq!(received.code, 0);
    assert!(received.stderr.contains("will be replaced"), "{}", received.stderr);
    assert!(fs::read(&output).unwrap() == fs::read(&file).unwrap());
}

#[test]
fn tls_is_checked_unless_told_otherwise() {
    let room = Room::new();
    let file = room.random("x", 100_000);
    let (certificate, key) = room.certificate();
    let listen =
        ["--listen", "localhost", "--certificate", text(&certificate), "--key", text(&key)];
    let waiting = room.receive(&listen);
    assert!(room.path().starts_with("msrps://localhost:"));

    let distrusting = room.send(&file, &["--direct"]);
    assert_eq!(distrusting.code, 1, "{}", distrusting.stderr);
    assert!(distrusting.stderr.contains("--ca"), "{}", distrusting.stderr);
    let by_address = room.path().replace("localhost", "127.0.0.1");
    let ca = ["--direct", "--ca", text(&certificate)];
    let misnamed = room.send_to(&by_address, &file, &ca);
    assert_eq!(misnamed.code, 1, "{}", misnamed.stderr);
    assert!(misnamed.stderr.contains("another name"), "{}", misnamed.stderr);

    let trusting = room.send(&file, &ca);
    assert_eq!(trusting.code, 0, "{}", trusting.stderr);
    let received = waiting.finish();
    assert_eq!(received.code, 0, "{}", received.stderr);

    let waiting = room.receive(&listen);
    assert_eq!(room.send(&file, &["--direct", "--insecure"]).code, 0);
    assert_eq!(waiting.finish().code, 0);
}

#[test]
fn a_connection_cut_midway_is_exit_status_3_on_both_sides() {
    let room = Room::new();
    let file = room.random("x", 5 * 1024 * 1024);
    let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
    let path = room.path();
    let port: u16 = path.split(&[':', '/'][..]).nth(4).unwrap().parse().unwrap();
    let cutter = cutting_proxy(port, 1024 * 1024);
    let by_proxy = path.replace(&port.to_string(), &cutter.to_string());
    let sent = room.send_to(&by_proxy, &file, &["--direct"]);
    let received = waiting.finish();
    assert_eq!((sent.code, received.code), (3, 3), "{} {}", sent.stderr, received.stderr);
    let octets = number_after(&received.stderr, "connection lost after ");
    assert!((1_000_000..=1024 * 1024).contains(&octets), "{octets}");
    assert!(number_after(&sent.stderr, "connection lost after ") >= octets, "{}", sent.stderr);
    assert_eq!(room.leftovers(), 0, "an unfinished file is removed");
}

#[test]
fn wrong_usage_is_exit_status_2() {
    let room = Room::new();
    let file = room.random("x", 1);
    for args in [
        &["send"][..],
        &["send", text(&file), "alice@example.com"],
        &["send", text(&file), "--to", "msrp://h:1/s;tcp"],
        &["send", text(&file), "alice", "--to", "msrp://h:1/s;tcp"],
        &["send", text(&file), "--direct", "--to", "http://x"],
        &["receive"],
        &["receive", "alice@example.com", "--relay", "x:y"],
        &["receive", "--listen", "127.0.0.1"],
        &["receive", "--listen", "0.0.0.0", "--no-tls"],
        &["receive", "alice@example.com", "--frobnicate"],
        &["frobnicate"],
        &[],
    ] {
        let outcome = room.client(args).finish();
        assert_eq!(outcome.code, 2, "{args:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.is_empty());
    }
    assert_eq!(room.client(&["--help"]).finish().code, 0);
}

#[test]
fn what_cannot_work_is_said_in_words() {
    let room = Room::new();
    let file = room.random("x", 1);
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = format!("msrp://127.0.0.1:{nowhere}/s;tcp");
    let outcome = room.send_to(&dead, &file, &["--direct"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("no relay there?"), "{}", outcome.stderr);

    let missing = room.send_to(&dead, Path::new("/nonexistent/file"), &["--direct"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("/nonexistent/file"), "{}", missing.stderr);

    let args = ["receive", "--listen", "127.0.0.1", "--no-tls", "--output", "/nonexistent/x"];
    let outcome = room.client(&args).finish();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("/nonexistent"), "{}", outcome.stderr);
}

/// RFC 4975 §7.3.1: chunks in any order, overlapping, between chat lines and keep-alives.
#[test]
fn a_receiver_puts_chunks_together() {
    let room = Room::new();
    let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
    let mut peer = Peer::dial(&room.path());
    peer.says("t001", "SEND", &["Message-ID: ka", "Byte-Range: 1-0/0"], None, '$');
    assert!(peer.hears().starts_with("MSRP t001 200 OK\r\n"));
    let chat =
        ["Message-ID: c1", "Success-Report: yes", "Byte-Range: 1-5/5", "Content-Type: text/plain"];
    peer.says("t002", "SEND", &chat, Some(b"he\x1by!"), '$');
    assert!(peer.hears().starts_with("MSRP t002 200 OK\r\n"));
    let report = peer.hears();
    assert!(report.contains("REPORT\r\n") && report.contains("\r\nMessage-ID: c1\r\n"), "{report}");
    assert!(report.contains("\r\nStatus: 000 200 OK\r\n"), "{report}");

    let chunk = |range: &str, extra: &str| {
        vec![
            "Message-ID: f1".to_owned(),
            format!("Byte-Range: {range}"),
            extra.to_owned(),
            "Content-Disposition: attachment; filename=\"../../evil\"".to_owned(),
            "Content-Type: application/octet-stream".to_owned(),
        ]
    };
    peer.says("t003", "SEND", &chunk("7-*/10", "Success-Report: yes"), Some(b"ghij"), '$');
    assert!(peer.hears().starts_with("MSRP t003 200 OK\r\n"));
    assert!(peer.hears().contains("\r\nByte-Range: 7-10/10\r\n"));
    peer.says("t004", "SEND", &chunk("1-*/10", "Failure-Report: no"), Some(b"abc"), '+');
    // Another file meanwhile is not wanted; an unknown method is not known.
    let other = ["Message-ID: f2", "Byte-Range: 1-2/2", "Content-Type: image/png"];
    peer.says("t005", "SEND", &other, Some(b"xx"), '$');
    assert!(peer.hears().starts_with("MSRP t005 413 "), "t004 wants no response");
    peer.says("t006", "NICKNAME", &["Use-Nickname: \"x\""], None, '$');
    assert!(peer.hears().starts_with("MSRP t006 501 "));
    peer.says("t007", "SEND", &chunk("3-*/10", "Failure-Report: partial"), Some(b"cdef"), '+');
    let report = peer.hears_nothing_but_the_end();
    assert_eq!(report, "", "partial means no 200");
    let received = waiting.finish();
    assert_eq!(received.code, 0, "{}", received.stderr);
    assert_eq!(fs::read_to_string(room.inbox().join("evil")).unwrap(), "abcdefghij");
    assert!(received.stderr.contains("says: hey!"), "{}", received.stderr);
    assert!(received.stderr.contains(&format!("SHA-256 {}", sha256(&room.inbox().join("evil")))));
}

#[test]
fn a_receiver_tells_a_message_that_is_given_up_and_one_that_makes_no_sense() {
    for (body, flag, words) in [
        (&b"abc"[..], '#', "gave up after 3 octets"),
        (b"abcdefghijklm", '$', "more octets than announced"),
    ] {
        let room = Room::new();
        let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
        let mut peer = Peer::dial(&room.path());
        let head = ["Message-ID: f1", "Byte-Range: 1-*/10", "Content-Type: image/png"];
        peer.says("t001", "SEND", &head, Some(body), flag);
        let received = waiting.finish();
        assert_eq!(received.code, 1);
        assert!(received.stderr.contains(words), "{}", received.stderr);
        assert_eq!(fs::read_dir(room.inbox()).unwrap().count(), 0);
    }
}

/// Somebody who only looks in must not take the place of the sender.
#[test]
fn a_listener_outlives_visitors() {
    let room = Room::new();
    let file = room.random("x", 10);
    let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
    let mut peer = Peer::dial(&room.path());
    let other = peer.to.replace(";tcp", "x;tcp");
    let own = std::mem::replace(&mut peer.to, other);
    peer.says("t001", "SEND", &["Message-ID: ka"], None, '$');
    assert!(peer.hears().starts_with("MSRP t001 481 "), "not the session of {own}");
    drop(peer);
    assert_eq!(room.send(&file, &["--direct"]).code, 0);
    assert_eq!(waiting.finish().code, 0);
}

/// RFC 4975 §7.1.1 and §10.5: one interruptible chunk; it is interrupted for a response, and ended
/// with `#` after 413.
#[test]
fn a_sender_interrupts_and_gives_up() {
    let room = Room::new();
    let file = room.random("x y.txt", 64 * 1024 * 1024);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = format!("msrp://127.0.0.1:{}/peer;tcp", listener.local_addr().unwrap().port());
    let sender = room.client(&["send", text(&file), "--direct", "--to", &path]);
    let mut peer = Peer::accept(&listener, &path);
    let head = peer.head();
    assert!(head.contains("\r\nByte-Range: 1-*/67108864\r\n"), "{head}");
    assert!(head.contains("\r\nSuccess-Report: yes\r\n"), "{head}");
    assert!(
        head.ends_with(
            "Content-Disposition: attachment; filename=\"x y.txt\"\r\nContent-Type: text/plain\r\n\r\n"
        ),
        "{head}"
    );
    peer.to = header(&head, "From-Path");
    peer.says("t001", "SEND", &["Message-ID: ka", "Byte-Range: 1-0/0"], None, '$');
    let first = transact_id(&head);
    let octets = peer.body(&first, '+');
    assert!((2048..64 * 1024 * 1024).contains(&octets), "{octets}");
    let response = peer.head();
    assert!(response.starts_with("MSRP t001 200 OK\r\n"), "{response}");
    let head = peer.head();
    assert!(head.contains(&format!("\r\nByte-Range: {}-*/67108864\r\n", octets + 1)), "{head}");
    peer.responds(&first, "413 Enough");
    peer.body(&transact_id(&head), '#');
    peer.link.shutdown(Shutdown::Both).unwrap();
    let sent = sender.finish();
    assert_eq!(sent.code, 1, "{}", sent.stderr);
    assert!(sent.stderr.contains("413") && sent.stderr.contains("Enough"), "{}", sent.stderr);
}

#[test]
fn a_failure_report_is_told_in_words() {
    let room = Room::new();
    let file = room.random("x", 10);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = format!("msrp://127.0.0.1:{}/peer;tcp", listener.local_addr().unwrap().port());
    let sender = room.client(&["send", text(&file), "--direct", "--to", &path]);
    let mut peer = Peer::accept(&listener, &path);
    let head = peer.head();
    assert!(head.contains("\r\nByte-Range: 1-10/10\r\n"), "{head}");
    peer.body(&transact_id(&head), '$');
    peer.to = header(&head, "From-Path");
    let message = format!("Message-ID: {}", header(&head, "Message-ID"));
    // A success REPORT on half of it and one on something else are not enough.
    peer.says("t001", "REPORT", &[&message, "Byte-Range: 1-5/10", "Status: 000 200 OK"], None, '$');
    let other = ["Message-ID: other", "Byte-Range: 1-10/10", "Status: 000 200 OK"];
    peer.says("t002", "REPORT", &other, None, '$');
    let bad = [&message, "Byte-Range: 6-10/10", "Status: 000 481 Gone"];
    peer.says("t003", "REPORT", &bad, None, '$');
    let sent = sender.finish();
    assert_eq!(sent.code, 1, "{}", sent.stderr);
    assert!(sent.stderr.contains("has the receiver gone?"), "{}", sent.stderr);
}

#[test]
fn files_arrive_through_the_relay_in_every_topology() {
    for tls in [false, true] {
        let room = Room::new();
        let relay = Relay::start(&room, tls);
        let file = room.random("through the relay.bin", 5 * 1024 * 1024);
        let listen = room.listen_args(tls);
        for (receive, send) in [
            // a: a direct sender to a relayed receiver
            (relay.args("bob"), room.direct_args(tls)),
            // b: a relayed sender to a listening receiver
            (listen, relay.args("alice")),
            // c: both relayed
            (relay.args("bob"), relay.args("alice")),
        ] {
            let waiting = room.receive(&borrowed(&receive));
            let sent = room.send(&file, &borrowed(&send));
            let received = waiting.finish();
            let told = format!("tls {tls}: {send:?} {} {}", sent.stderr, received.stderr);
            assert_eq!((sent.code, received.code), (0, 0), "{told}");
            let digest = format!("SHA-256 {}", sha256(&file));
            assert!(sent.stderr.contains(&digest) && received.stderr.contains(&digest), "{told}");
        }
    }
}

#[test]
fn small_files_arrive_through_the_relay() {
    let room = Room::new();
    let relay = Relay::start(&room, false);
    for size in [0, 1, 2048, 2049] {
        let file = room.random(&format!("small {size}"), size);
        let waiting = room.receive(&borrowed(&relay.args("bob")));
        let sent = room.send(&file, &borrowed(&relay.args("alice")));
        let received = waiting.finish();
        let told = format!("{size}: {} {}", sent.stderr, received.stderr);
        assert_eq!((sent.code, received.code), (0, 0), "{told}");
        assert_eq!(fs::read(room.inbox().join(format!("small {size}"))).unwrap().len(), size);
    }
}

#[test]
fn the_relays_refusals_are_told_in_words() {
    let room = Room::new();
    let relay = Relay::start(&room, false);
    let file = room.random("x", 10);
    let waiting = room.receive(&borrowed(&relay.args("bob")));
    let path = room.path();

    let mut args = vec!["send", text(&file), "--to", &path];
    let relayed = relay.args("mallory");
    args.extend(borrowed(&relayed));
    let stranger = room.client(&args).finish();
    assert_eq!(stranger.code, 1, "{}", stranger.stderr);
    assert!(stranger.stderr.contains("wrong user or wrong password"), "{}", stranger.stderr);

    waiting.kill();
    let late = room.send_to(&path, &file, &borrowed(&relay.args("alice")));
    assert_eq!(late.code, 1, "{}", late.stderr);
    assert!(late.stderr.contains("has the receiver gone?"), "{}", late.stderr);
}

/// RFC 4976 §5.1: a session is refreshed while the receiver waits, so its path outlives Expires.
#[test]
fn a_waiting_receiver_keeps_its_session() {
    let room = Room::new();
    let relay = Relay::start(&room, false);
    let file = room.random("x", 10);
    let mut args = relay.args("bob");
    args.extend(["--expires".to_owned(), "2".to_owned()]);
    let waiting = room.receive(&borrowed(&args));
    thread::sleep(Duration::from_secs(5));
    let sent = room.send(&file, &borrowed(&relay.args("alice")));
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    assert_eq!(waiting.finish().code, 0);
}

/// The relay dies with a file on its way.
#[test]
fn a_relay_that_goes_away_is_a_lost_connection() {
    let room = Room::new();
    let relay = Relay::start(&room, false);
    let file = room.random("x", 512 * 1024 * 1024);
    let waiting = room.receive(&borrowed(&relay.args("bob")));
    let path = room.path();
    let mut args = vec!["send", text(&file), "--to", &path];
    let relayed = relay.args("alice");
    args.extend(borrowed(&relayed));
    let sender = room.client(&args);
    wait_for("the file to start", || fs::read_dir(room.inbox()).unwrap().count() > 0);
    drop(relay);
    let (sent, received) = (sender.finish(), waiting.finish());
    assert_eq!((sent.code, received.code), (3, 3), "{} {}", sent.stderr, received.stderr);
    assert!(number_after(&sent.stderr, "connection lost after ") > 0, "{}", sent.stderr);
}

/// A directory of its own for each test.
struct Room {
    dir: TempDir,
}

impl Room {
    fn new() -> Self {
        let room = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["in", "out"] {
            fs::create_dir(room.dir.path().join(name)).unwrap();
        }
        fs::write(room.password_file(), format!("{PASSWORD}\n")).unwrap();
        room
    }

    fn inbox(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    fn path_file(&self) -> PathBuf {
        self.dir.path().join("path")
    }

    fn password_file(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    fn leftovers(&self) -> usize {
        let names = fs::read_dir(self.inbox()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".part")).count()
    }

    fn random(&self, name: &str, size: usize) -> PathBuf {
        let path = self.dir.path().join("out").join(name);
        let block: Vec<u8> = (0..size.min(4 << 20)).map(|_| rand::random()).collect();
        let mut file = fs::File::create(&path).unwrap();
        let mut left = size;
        while left > 0 {
            let octets = left.min(block.len());
            file.write_all(&block[..octets]).unwrap();
            left -= octets;
        }
        path
    }

    /// A self-signed pair for `localhost`.
    fn certificate(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = (self.dir.path().join("c.pem"), self.dir.path().join("k.pem"));
        if !certificate.exists() {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            fs::write(&certificate, made.cert.pem()).unwrap();
            fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        }
        (certificate, key)
    }

    fn listen_args(&self, tls: bool) -> Vec<String> {
        let mut args = owned(&["--listen", "127.0.0.1"]);
        if tls {
            let (certificate, key) = self.certificate();
            args.extend(owned(&["--certificate", text(&certificate), "--key", text(&key)]));
        } else {
            args.push("--no-tls".to_owned());
        }
        args
    }

    fn direct_args(&self, tls: bool) -> Vec<String> {
        let mut args = owned(&["--direct"]);
        if tls {
            args.extend(owned(&["--ca", text(&self.certificate().0)]));
        }
        args
    }

    fn client(&self, args: &[&str]) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_msrpclient"))
            .args(args)
            .current_dir(self.dir.path())
            .env_remove("MSRP_PASSWORD")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running { child: Some(child) }
    }

    /// Starts a receiver and waits until its path is there.
    fn receive(&self, args: &[&str]) -> Running {
        // A file that was there before is an old path.
        let _: std::io::Result<()> = fs::remove_file(self.path_file());
        let (inbox, path_file) = (self.inbox(), self.path_file());
        let mut all = vec!["receive", "--path-file", text(&path_file)];
        if !args.contains(&"--output") {
            all.extend(["--output", text(&inbox)]);
        }
        all.extend(args);
        let running = self.client(&all);
        wait_for("the path", || self.path_file().exists());
        running
    }

    fn path(&self) -> String {
        fs::read_to_string(self.path_file()).unwrap().trim().to_owned()
    }

    fn send(&self, file: &Path, args: &[&str]) -> Outcome {
        self.send_to(&format!("@{}", self.path_file().display()), file, args)
    }

    fn send_to(&self, to: &str, file: &Path, args: &[&str]) -> Outcome {
        let mut all = vec!["send", text(file), "--to", to];
        all.extend(args);
        self.client(&all).finish()
    }
}

/// The relay, with three accounts, one of which nobody has told the clients about.
struct Relay {
    child: Child,
    port: u16,
    password_file: PathBuf,
    ca: Option<PathBuf>,
}

impl Relay {
    fn start(room: &Room, tls: bool) -> Self {
        let (certificate, key) = room.certificate();
        let security = if tls {
            format!("certificate = {}\nkey = {}\n", certificate.display(), key.display())
        } else {
            "debug_notls = yes\n".to_owned()
        };
        let config = format!(
            "[Relay]\naddress = 127.0.0.1:0\nhostname = localhost\nbackend = memory\n\
             default_domain = example.com\ndenied_peers = none\n\
             session_expiration_time_minimum = 1\n{security}\
             [Memory]\nalice@example.com = {PASSWORD}\nbob@example.com = {PASSWORD}\n"
        );
        let file = room.dir.path().join("config.ini");
        fs::write(&file, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_msrprelay"))
            .args(["--no-fork", "--config-file", text(&file)])
            .arg("--runtime-dir")
            .arg(room.dir.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, address) = line.split_once("listening on ")?;
                let port = address.split_once(':')?.1;
                port.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
            })
            .expect("the relay says where it listens");
        // A full pipe would stop the relay.
        thread::spawn(move || lines.for_each(drop));
        let ca = tls.then_some(certificate);
        Self { child, port, password_file: room.password_file(), ca }
    }

    fn args(&self, user: &str) -> Vec<String> {
        let (account, relay) = (format!("{user}@example.com"), format!("localhost:{}", self.port));
        let mut args = owned(&[&account, "--relay", &relay]);
        args.extend(owned(&["--password-file", text(&self.password_file)]));
        match &self.ca {
            Some(ca) => args.extend(owned(&["--ca", text(ca)])),
            None => args.push("--no-tls".to_owned()),
        }
        args
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A client at work; killed when it is not waited for.
struct Running {
    child: Option<Child>,
}

struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Running {
    fn finish(mut self) -> Outcome {
        let mut child = self.child.take().unwrap();
        // Read while it runs, so that it never waits for us.
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stdout = thread::spawn(move || whole(&mut out));
        let stderr = thread::spawn(move || whole(&mut err));
        let started = now();
        while child.try_wait().unwrap().is_none() {
            if now() - started > DEADLINE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("msrpclient hangs, having said: {}", stderr.join().unwrap());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let status = child.wait_with_output().map(|Output { status, .. }| status).unwrap();
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        Outcome { code: status.code().unwrap_or(-1), stdout, stderr }
    }

    fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _: std::io::Result<()> = child.kill();
            let _: std::io::Result<_> = child.wait();
        }
    }
}

/// The other side, in bytes written by hand: the codec must not be its own witness.
struct Peer {
    link: TcpStream,
    unread: Vec<u8>,
    to: String,
    from: String,
}

impl Peer {
    fn dial(path: &str) -> Self {
        let address = path.split('/').nth(2).unwrap();
        let from = "msrp://127.0.0.1:9/peer;tcp".to_owned();
        Self::new(TcpStream::connect(address).unwrap(), path.to_owned(), from)
    }

    fn accept(listener: &TcpListener, own: &str) -> Self {
        Self::new(listener.accept().unwrap().0, String::new(), own.to_owned())
    }

    fn new(link: TcpStream, to: String, from: String) -> Self {
        link.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { link, unread: Vec::new(), to, from }
    }

    fn says(
        &mut self,
        id: &str,
        method: &str,
        headers: &[impl AsRef<str>],
        body: Option<&[u8]>,
        flag: char,
    ) {
        let mut text =
            format!("MSRP {id} {method}\r\nTo-Path: {}\r\nFrom-Path: {}\r\n", self.to, self.from);
        for header in headers {
            text.push_str(header.as_ref());
            text.push_str("\r\n");
        }
        let mut octets = text.into_bytes();
        if let Some(body) = body {
            octets.extend_from_slice(b"\r\n");
            octets.extend_from_slice(body);
            octets.extend_from_slice(b"\r\n");
        }
        octets.extend_from_slice(format!("-------{id}{flag}\r\n").as_bytes());
        self.link.write_all(&octets).unwrap();
    }

    fn responds(&mut self, id: &str, status: &str) {
        let text = format!(
            "MSRP {id} {status}\r\nTo-Path: {}\r\nFrom-Path: {}\r\n-------{id}$\r\n",
            self.to, self.from
        );
        self.link.write_all(text.as_bytes()).unwrap();
    }

    /// A message without a body, its end-line included.
    fn hears(&mut self) -> String {
        self.until(b"$\r\n").unwrap_or_else(|rest| panic!("the end, after {rest:?}"))
    }

    fn hears_nothing_but_the_end(&mut self) -> String {
        self.until(b"\r\n-------").unwrap_or_else(|rest| rest)
    }

    /// A head up to the blank line, or a message without a body.
    fn head(&mut self) -> String {
        let mut head = String::new();
        loop {
            let line = self.until(b"\r\n").expect("a line of a head");
            head.push_str(&line);
            if line == "\r\n" || line.starts_with("-------") {
                return head;
            }
        }
    }

    /// How many octets there are before this end-line.
    fn body(&mut self, id: &str, flag: char) -> u64 {
        let end = format!("\r\n-------{id}{flag}\r\n").into_bytes();
        let mut octets = 0;
        loop {
            if let Some(at) = find(&self.unread, &end) {
                self.unread.drain(..at + end.len());
                return octets + at as u64;
            }
            let safe = self.unread.len().saturating_sub(end.len());
            self.unread.drain(..safe);
            octets += safe as u64;
            assert!(self.read() > 0, "the end instead of {flag}");
        }
    }

    fn until(&mut self, end: &[u8]) -> Result<String, String> {
        loop {
            if let Some(at) = find(&self.unread, end) {
                let text = self.unread.drain(..at + end.len()).collect();
                return Ok(String::from_utf8(text).unwrap());
            }
            if self.read() == 0 {
                return Err(String::from_utf8_lossy(&self.unread).into_owned());
            }
        }
    }

    fn read(&mut self) -> usize {
        let mut block = vec![0; 64 * 1024];
        let read = self.link.read(&mut block).unwrap();
        self.unread.extend_from_slice(&block[..read]);
        read
    }
}

/// Passes on so many octets of the first connection, then hangs up on both sides.
fn cutting_proxy(port: u16, octets: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let mut far = TcpStream::connect(("127.0.0.1", port)).unwrap();
        std::io::copy(&mut (&near).take(octets), &mut far).unwrap();
        near.shutdown(Shutdown::Both).unwrap();
        far.shutdown(Shutdown::Both).unwrap();
    });
    own
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let started = now();
    while !there() {
        assert!(now() - started < DEADLINE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own deadline")]
fn now() -> Instant {
    Instant::now()
}

fn whole(from: &mut impl Read) -> String {
    let mut octets = Vec::new();
    from.read_to_end(&mut octets).unwrap();
    String::from_utf8_lossy(&octets).into_owned()
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(octets, what)
}

fn header(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {head}")).to_owned()
}

fn transact_id(head: &str) -> String {
    head.split(' ').nth(1).unwrap().to_owned()
}

fn numbered(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem} (1).{extension}"),
        None => format!("{name} (1)"),
    }
}

fn number_after(text: &str, words: &str) -> u64 {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text:?}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

fn sha256(file: &Path) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(fs::read(file).unwrap()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}
