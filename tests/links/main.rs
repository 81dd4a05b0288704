//! Slow links: what is only slow never fails, and what has failed is noticed in time.
//!
//! A program of its own, because each of its relays and peers needs a network namespace, and most
//! of its time passes with waiting. The namespaces need root; without it the tests say so and pass.

#[expect(dead_code, unused_imports, reason = "the other tests on the wire use the rest of it")]
#[path = "../wire/harness/mod.rs"]
mod harness;
mod link;

use std::{
    fmt,
    io::Write as _,
    panic,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use harness::{Listener, Message, Peer, Scene, file, now, send};

/// Octets per second of the links.
const RATES: [usize; 6] = [200, 500, 1_000, 4_000, 20_000, 1_000_000];

/// Seconds for which a link is busy with what one test sends: longer than a transaction may last.
const BUSY: usize = 60;
/// Octets of a small message.
const SMALL: usize = 2_000;

/// A transaction times out so long after the peer's kernel has the request.
const RESPONSE_TIME: Duration = Duration::from_secs(30);
/// A peer whose kernel acknowledges nothing is given up after this time.
const STALL_TIME: Duration = Duration::from_mins(2);
/// What retransmissions, and a machine with other things to do, may add.
const SLACK: Duration = Duration::from_secs(15);
/// How long an answer may be under way on the slowest link, behind all that was sent before.
const PATIENCE: Duration = Duration::from_mins(4);

/// Alice and the relay, at the near end of the link.
struct Near {
    scene: Scene,
    alice: Peer,
    /// Bob has done his part.
    done: Receiver<()>,
}

/// Bob, who is dialled, at the far end.
struct Far {
    listener: Listener,
    done: Sender<()>,
    /// Disconnected once alice has finished.
    alice: Receiver<()>,
}

impl Near {
    /// The next message for alice, whenever it comes.
    #[track_caller]
    fn hears(&mut self) -> Message {
        let message = self.alice.message_within(PATIENCE);
        message
            .unwrap_or_else(|| panic!("nothing for alice; the relay:\n{}", self.scene.relay.log()))
    }

    /// Sends a message to bob; the relay takes it.
    #[track_caller]
    fn sends(&mut self, tid: &str, body: &str) {
        self.alice.says(&send(tid, "{A} {bob}", "{alice}", body));
        self.is_taken(tid);
    }

    #[track_caller]
    fn is_taken(&mut self, tid: &str) {
        let answer = self.hears();
        assert_eq!((answer.tid.as_str(), answer.what.as_str()), (tid, "200 OK"), "{answer:?}");
    }

    /// Bob has had and answered all, and nothing was reported as failed.
    #[track_caller]
    fn all_succeeds(&mut self) {
        self.done.recv().expect("bob");
        self.alice.hears_nothing(Duration::from_secs(1));
    }

    /// The relay reports that a message failed.
    #[track_caller]
    fn hears_of_a_timeout(&mut self) {
        let report = self.hears();
        assert_eq!(report.what, "REPORT", "{report:?}");
        assert!(report.the("Status").starts_with("000 408"), "{report:?}");
    }
}

impl Far {
    /// Takes and answers messages until that many octets have come.
    fn answers(&self, octets: usize) -> Peer {
        let mut bob = self.listener.accepts();
        let mut taken = 0;
        while taken < octets {
            let message = bob.message_within(PATIENCE).expect("a message for bob");
            assert_eq!(message.what, "SEND");
            taken += message.body_length();
            bob.answers(&message, "200 OK");
        }
        bob
    }

    /// Waits for alice without hanging up.
    fn stays(self, bob: Peer) {
        let _ = self.done.send(());
        let _ = self.alice.recv();
        drop(bob);
    }
}

/// Runs `near` with a relay in one namespace, and `far` in another one, with a link between them.
fn apart<T: Send>(
    rate: usize,
    tls: bool,
    near: impl FnOnce(&mut Near) -> T + Send,
    far: impl FnOnce(Far) + Send,
) -> T {
    thread::scope(|scope| {
        let outcome = scope.spawn(move || {
            link::isolate();
            let scene = if tls { Scene::secure_with("") } else { Scene::with("") };
            let names = scene.names.clone();
            let (here, there) = (link::namespace(), mpsc::channel());
            let (ready, waiting) = mpsc::channel();
            let (_finished, end) = mpsc::channel();
            scope.spawn(move || {
                link::isolate();
                link::make(&here, rate);
                let address = (link::FAR, 0).into();
                let listener = Listener::bind("bob", &names, address, &link::FAR.to_string(), tls);
                ready.send(()).expect("alice");
                far(Far { listener, done: there.0, alice: end });
            });
            waiting.recv().expect("bob");
            let alice = scene.client("alice");
            near(&mut Near { scene, alice, done: there.1 })
        });
        outcome.join().unwrap_or_else(|fault| panic::resume_unwind(fault))
    })
}

/// Runs `measure` at each rate over TCP and TLS, all at the same time, and prints what it notes.
fn over_all_links<T: fmt::Display + Send>(what: &str, measure: impl Fn(usize, bool) -> T + Sync) {
    if !link::possible() {
        let _ = writeln!(std::io::stderr(), "no network namespaces: {what} are not tested");
        return;
    }
    thread::scope(|scope| {
        let measure = &measure;
        let run = |(rate, tls)| (rate, tls, scope.spawn(move || measure(rate, tls)));
        let links = RATES.iter().flat_map(|&rate| [(rate, false), (rate, true)]);
        let running: Vec<_> = links.map(run).collect();
        for (rate, tls, measured) in running {
            let over = if tls { "TLS" } else { "TCP" };
            let note = measured.join().unwrap_or_else(|fault| panic::resume_unwind(fault));
            println!("{what} at {rate} octets/s over {over}: {note}");
        }
    });
}

fn seconds_since(begun: Instant) -> String {
    format!("{:.1} s", begun.elapsed().as_secs_f64())
}

#[test]
fn many_messages_over_a_slow_link_succeed() {
    over_all_links("small messages", |rate, tls| {
        let count = (rate * BUSY / SMALL).clamp(10, 2_000);
        let body = "x".repeat((rate * BUSY / count).max(SMALL));
        let send_all = |near: &mut Near| {
            let begun = now();
            for number in 0..count {
                near.sends(&format!("slow{number:04}"), &body);
            }
            near.all_succeeds();
            seconds_since(begun)
        };
        let octets = count * body.len();
        let took = apart(rate, tls, send_all, |far| {
            let bob = far.answers(octets);
            far.stays(bob);
        });
        format!("{count} of {} octets in {took}, none failed", body.len())
    });
}

#[test]
fn one_long_chunk_over_a_slow_link_succeeds() {
    over_all_links("long chunks", |rate, tls| {
        let octets = rate * BUSY;
        let send_it = |near: &mut Near| {
            let begun = now();
            let body = vec![b'x'; octets];
            let chunk = file(&near.alice, "file0001", "{A} {bob}", "{alice}", &body);
            near.alice.says_octets(&chunk);
            near.is_taken("file0001");
            near.all_succeeds();
            seconds_since(begun)
        };
        let took = apart(rate, tls, send_it, |far| {
            let bob = far.answers(octets);
            far.stays(bob);
        });
        format!("{octets} octets in {took}, none failed")
    });
}

/// Its kernel acknowledges, but nobody answers.
#[test]
fn a_silent_peer_is_reported_once_it_has_had_its_time() {
    over_all_links("silent peers", |rate, tls| {
        let body = "x".repeat(SMALL);
        let wait_for_it = |near: &mut Near| {
            near.sends("slow0001", &body);
            near.done.recv().expect("bob");
            let begun = now();
            near.hears_of_a_timeout();
            let took = begun.elapsed();
            assert!(took < RESPONSE_TIME + SLACK, "{took:?}");
            seconds_since(begun)
        };
        let took = apart(rate, tls, wait_for_it, |far| {
            let mut bob = far.listener.accepts();
            let message = bob.message_within(PATIENCE).expect("a message for bob");
            assert_eq!(message.body_length(), SMALL);
            far.stays(bob);
        });
        format!("reported {took} after the last octet arrived")
    });
}

/// Nothing comes back any more, not even from its kernel.
#[test]
fn a_peer_that_vanishes_is_reported() {
    over_all_links("peers that vanish", |rate, tls| {
        let wait_for_it = |near: &mut Near| {
            near.sends("slow0001", "hello");
            near.all_succeeds();
            near.sends("slow0002", "is anybody there?");
            let begun = now();
            near.hears_of_a_timeout();
            let took = begun.elapsed();
            assert!(took < STALL_TIME + SLACK, "{took:?}");
            seconds_since(begun)
        };
        let took = apart(rate, tls, wait_for_it, |far| {
            let bob = far.answers("hello".len());
            // The answer must have left.
            harness::sleep(3_000);
            link::cut();
            far.stays(bob);
        });
        format!("reported {took} after the message")
    });
}
