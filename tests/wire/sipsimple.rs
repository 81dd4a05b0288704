//! Blink and the SIP SIMPLE client: files that resume, and shared screens.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Message, PATIENCE, Peer, SILENCE, Scene, Session, TOPOLOGIES, Transfer, fingerprint, first,
    noise, now, report, send, send_with,
};

/// The shortest time to listen for.
const MOMENT: Duration = Duration::from_millis(1);
const SECURE: [bool; 2] = [false, true];

fn scene(secure: bool) -> Scene {
    if secure { Scene::tls() } else { Scene::plain() }
}

/// A request without a body, as python3-sipsimple sends it before each file.
fn file_offset(tid: &str, to: &str, from: &str) -> String {
    format!("MSRP {tid} FILE_OFFSET\nTo-Path: {to}\nFrom-Path: {from}\n-------{tid}$")
}

/// Its answer, from one end to the other, with the header that says where to go on.
fn offset(tid: &str, to: &str, from: &str, octets: usize) -> String {
    format!("MSRP {tid} 200 OK\nTo-Path: {to}\nFrom-Path: {from}\nOffset: {octets}\n-------{tid}$")
}

/// Asks how much of the file is there, and returns what bob says.
fn asks_for_offset(session: &mut Session, tid: &str, there: usize) {
    let Session { alice, bob, to_bob, from_alice, back, .. } = session;
    alice.says(&file_offset(tid, to_bob, "{alice}"));
    let request = bob.message();
    assert_eq!(request.what, "FILE_OFFSET");
    assert!(request.body.is_none());
    bob.says(&offset(&request.tid, from_alice, "{bob}", there));
    let reversed: Vec<&str> = back.split(' ').rev().collect();
    alice.hears(&offset(tid, "{alice}", &format!("{} {{bob}}", reversed.join(" ")), there));
}

#[test]
fn file_offset_and_its_answer_pass() {
    for secure in SECURE {
        for kind in TOPOLOGIES {
            let scene = scene(secure);
            let mut session = scene.topology(kind);
            asks_for_offset(&mut session, "a1b2c3d4", 4711);
            session.talks();
        }
    }
}

/// The session's first request, before any SEND: it decides where the session leads.
#[test]
fn file_offset_comes_first() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    alice.says(&file_offset("a1b2c3d4", "{A} {B} {bob}", "{alice}"));
    bob.hears(&file_offset("{t}", "{bob}", "{B} {A} {alice}"));
    bob.says(&offset("{t}", "{B} {A} {alice}", "{bob}", 0));
    alice.hears(&offset("a1b2c3d4", "{alice}", "{A} {B} {bob}", 0));
}

#[test]
fn a_file_resumes_where_the_receiver_says() {
    const FILE: usize = 3 << 20;
    const CHUNK: usize = 100_000;

    let body = noise(41, FILE);
    for secure in SECURE {
        for kind in TOPOLOGIES {
            let scene = scene(secure);
            // The first try ends after a third of the file: the receiver goes.
            let mut session = scene.topology(kind);
            asks_for_offset(&mut session, "0ffse701", 0);
            let first_part = transfers(&mut session, &body[..FILE / 3], 0, FILE, CHUNK);
            drop(session);
            // The second one goes on from there.
            let there = first_part.len();
            let mut session = scene.topology(kind);
            asks_for_offset(&mut session, "0ffse702", there);
            let rest = transfers(&mut session, &body[there..], there, FILE, CHUNK);
            let range = format!("1-{FILE}/{FILE}");
            let Session { alice, bob, to_alice, from_bob, .. } = &mut session;
            bob.says(&report("okay0001", to_alice, "{bob}", "000 200 OK", &range));
            alice.hears(&report("{r}", "{alice}", from_bob, "000 200 OK", &range));
            assert_eq!(fingerprint(&[first_part, rest].concat()), fingerprint(&body));
        }
    }
}

/// Alice sends `part`, which starts at `offset` of a file of `total`; what bob received of it.
fn transfers(
    session: &mut Session,
    part: &[u8],
    offset: usize,
    total: usize,
    chunk: usize,
) -> Vec<u8> {
    let Session { alice, bob, to_bob, .. } = session;
    let mut octets = Vec::new();
    let mut answers = Vec::new();
    for (n, piece) in part.chunks(chunk).enumerate() {
        let (start, tid) = (offset + n * chunk + 1, format!("f{offset:07}x{n}"));
        let flag = if start + piece.len() > total { '$' } else { '+' };
        let mut head = format!("MSRP {tid} SEND\nTo-Path: {to_bob}\nFrom-Path: {{alice}}\n");
        write!(
            head,
            "Byte-Range: {start}-*/{total}\nMessage-ID: 0a1b2c3d\nSuccess-Report: yes\n\
             Content-Type: application/octet-stream\n\n"
        )
        .expect("a string");
        octets.extend(alice.octets(&head));
        octets.extend_from_slice(piece);
        octets.extend_from_slice(format!("\r\n-------{tid}{flag}\r\n").as_bytes());
        answers.push(tid);
    }
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            alice.says_octets(&octets);
            for tid in answers {
                assert_eq!(alice.hears_answer(&tid).what, "200 OK");
            }
        });
        let mut transfer = Transfer::default();
        while transfer.body.len() < part.len() {
            let piece = bob.message();
            bob.answers(&piece, "200 OK");
            transfer.add(piece);
        }
        sender.join().expect("a sender");
        assert_eq!(transfer.pieces[0].range().0, offset + 1);
        transfer.body
    })
}

/// A piece of a shared screen: no answer but to a failure, and no report of success.
fn frame(tid: &str, to: &str, from: &str, body: &str) -> String {
    send_with(tid, to, from, "Success-Report: no\nFailure-Report: partial\n", body)
}

#[test]
fn frames_do_not_wait_for_answers_that_never_come() {
    const FRAMES: usize = 1_100;

    for secure in SECURE {
        for kind in TOPOLOGIES {
            let scene = scene(secure);
            let mut session = scene.topology(kind);
            let mut octets = Vec::new();
            for n in 0..FRAMES {
                let tid = format!("frame{n:05}");
                let text = frame(&tid, &session.to_bob, "{alice}", "ten octets");
                octets.extend(session.alice.octets(&text));
            }
            session.alice.says_octets(&octets);
            let mut last = String::new();
            for _ in 0..FRAMES {
                let message = session.bob.message();
                assert_eq!(message.body.as_deref(), Some(&b"ten octets"[..]));
                last = message.tid;
            }
            // A line of a chat and a REPORT behind them, and an error for the last of them.
            session.talks();
            let Session { alice, bob, to_bob, from_alice, from_bob, back, .. } = &mut session;
            alice.says(&report("r0000001", to_bob, "{alice}", "000 200 OK", "1-5/5"));
            bob.hears(&report("{r}", "{bob}", from_alice, "000 200 OK", "1-5/5"));
            bob.responds(&last, "415 No", &first(back));
            let own: Vec<&str> = from_bob.split(' ').filter(|uri| *uri != "{bob}").collect();
            alice.hears(&report("{q}", "{alice}", &own.join(" "), "000 415 No", "1-10/10"));
        }
    }
}

#[test]
fn two_hundred_thousand_frames_leave_nothing_behind() {
    const FRAMES: usize = 200_000;
    const BATCH: usize = 1_000;
    const GROWTH_KB: u64 = 4 * 1024;

    let scene = Scene::with("");
    let mut session = scene.topology(TOPOLOGIES[2]);
    let mut settled = 0;
    let mut last = Vec::new();
    for n in 0..FRAMES / BATCH {
        let texts = (0..BATCH).map(|i| {
            let tid = format!("f{:07}", n * BATCH + i);
            frame(&tid, &session.to_bob, "{alice}", "ten octets")
        });
        let octets: Vec<u8> = texts.flat_map(|text| session.alice.octets(&text)).collect();
        session.alice.says_octets(&octets);
        last = (0..BATCH).map(|_| session.bob.message().tid).collect();
        if n == FRAMES / BATCH / 10 {
            settled = scene.relay.resident_kib();
        }
    }
    let grown = scene.relay.resident_kib().saturating_sub(settled);
    assert!(grown < GROWTH_KB, "{grown} KiB more than after a tenth of the frames");
    // The oldest of the last thousand.
    let Session { alice, bob, .. } = &mut session;
    bob.responds(&last[0], "415 No", "{B}");
    alice.hears(&report("{q}", "{alice}", "{A} {B}", "000 415 No", "1-10/10"));
    session.talks();
}

/// How long a screen is shared, at 2 MB/s.
const SHARED: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_millis(10);
const FRAMES_A_TICK: u128 = 10;
/// As Blink cuts its frames.
const FRAME: usize = 2_048;

/// A shared screen of 2 MB/s and a chat in one session, for a minute.
#[test]
fn people_talk_while_a_screen_is_shared() {
    let scene = Scene::tls();
    let mut session = scene.topology(TOPOLOGIES[2]);
    let Session { alice, bob, to_bob, to_alice, .. } = &mut session;
    let start = now();
    let mut sender = Talker::new(alice, to_bob, "{alice}", start);
    let mut viewer = Talker::new(bob, to_alice, "{bob}", start);
    let mut seen = 0;
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| sender.shares_its_screen());
        let mut sent = None;
        let mut sending = Some(sending);
        while sent != Some(seen) {
            for body in viewer.talks(TICK) {
                let number = String::from_utf8_lossy(&body[..8]).into_owned();
                assert_eq!((number, body.len()), (format!("{seen:08}"), FRAME));
                seen += 1;
            }
            assert!(now() < start + SHARED + PATIENCE, "{seen} frames of {sent:?}");
            if let Some(done) = sending.take_if(|sending| sending.is_finished()) {
                sent = Some(done.join().expect("a sender"));
            }
        }
        seen
    });
    viewer.listens_out(sender.said);
    sender.listens_out(viewer.said);
    eprintln!(
        "{} frames of {FRAME} octets in {:?}; {} and {} lines, the latest after {:?} and {:?}",
        sent,
        now() - start,
        sender.said,
        viewer.said,
        viewer.latest,
        sender.latest,
    );
    session.talks();
}

/// One side of a chat with a line each second, while frames come and go.
struct Talker<'a> {
    peer: &'a mut Peer,
    to: &'a str,
    from: &'static str,
    start: Instant,
    /// Lines said, answered, and heard from the other side.
    said: u32,
    answered: u32,
    heard: u32,
    /// The longest that a line took to be heard here.
    latest: Duration,
}

impl<'a> Talker<'a> {
    const BETWEEN_LINES: Duration = Duration::from_secs(1);

    fn new(peer: &'a mut Peer, to: &'a str, from: &'static str, start: Instant) -> Self {
        let latest = Duration::ZERO;
        Self { peer, to, from, start, said: 0, answered: 0, heard: 0, latest }
    }

    /// Sends numbered frames, and talks meanwhile; how many were sent.
    fn shares_its_screen(&mut self) -> u128 {
        let filler = "x".repeat(FRAME - 8);
        let mut sent = 0;
        while now() < self.start + SHARED {
            let mut octets = Vec::new();
            let ticks = (now() - self.start).as_millis() / TICK.as_millis();
            while sent < ticks * FRAMES_A_TICK {
                let body = format!("{sent:08}{filler}");
                let text = frame(&format!("v{sent:08}"), self.to, self.from, &body);
                octets.extend(self.peer.octets(&text));
                sent += 1;
            }
            self.peer.says_octets(&octets);
            self.talks(TICK);
        }
        sent
    }

    /// Says a line if it is time, and listens for a while; the frames that came.
    fn talks(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let until = now() + time;
        if now() >= self.start + self.said * Self::BETWEEN_LINES {
            let body = format!("line {}", (now() - self.start).as_micros());
            let text = send(&format!("line{:04}", self.said), self.to, self.from, &body);
            self.peer.says(&text);
            self.said += 1;
        }
        let mut frames = Vec::new();
        while let Some(message) =
            self.peer.message_within(until.saturating_duration_since(now()).max(MOMENT))
        {
            frames.extend(self.takes(message));
            if now() >= until {
                break;
            }
        }
        frames
    }

    /// Listens until all of its lines are answered, and `lines` are heard.
    fn listens_out(&mut self, lines: u32) {
        while self.answered < self.said || self.heard < lines {
            let message = self.peer.message();
            assert!(self.takes(message).is_none(), "a frame more than was sent");
        }
        self.peer.hears_nothing(SILENCE);
    }

    fn takes(&mut self, message: Message) -> Option<Vec<u8>> {
        if message.what == "200 OK" {
            assert!(message.tid.starts_with("line"), "a frame is answered");
            self.answered += 1;
            return None;
        }
        if message.header("Failure-Report") == Some("partial") {
            return message.body;
        }
        assert_eq!(message.what, "SEND", "{message:?}");
        let body = message.body.as_deref().unwrap_or_default();
        let said: u64 = String::from_utf8_lossy(&body[5..]).parse().expect("a time");
        self.latest =
            self.latest.max((now() - self.start).saturating_sub(Duration::from_micros(said)));
        self.heard += 1;
        self.peer.answers(&message, "200 OK");
        None
    }
}
