//! Everything at once: two ends, strangers, logins and the clock, in any order (design 4).
//!
//! Whoever says something hears what became of it; nothing is delivered twice, or to a third party.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Message, Peer, Relay, Scene, TAKEN, Transfer, UNKNOWN, empty_send, file, fingerprint, noise,
    now, send,
};

/// Reads until a message satisfies, or the relay hangs up, or it takes too long.
fn waits_for(peer: &mut Peer, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
    while let Some(message) = peer.message_within(Duration::from_secs(5)) {
        if wanted(&message) {
            return Some(message);
        }
    }
    None
}

#[test]
fn both_ends_send_first_at_the_same_moment() {
    for round in 0..1000 {
        let scene = Scene::plain();
        let mut alice = scene.client("alice");
        let mut bob = scene.client("bob");
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let one = scope.spawn(|| {
                barrier.wait();
                alice.says(&send("s0000001", "{A} {B} {bob}", "{alice}", "from alice"));
                exchanged(&mut alice, "from bob")
            });
            let two = scope.spawn(|| {
                barrier.wait();
                bob.says(&send("s0000002", "{B} {A} {alice}", "{bob}", "from bob"));
                exchanged(&mut bob, "from alice")
            });
            assert!(one.join().unwrap(), "alice in round {round}");
            assert!(two.join().unwrap(), "bob in round {round}");
        });
    }
}

/// Hears a 200 for its own SEND and the other's, in either order.
fn exchanged(peer: &mut Peer, expected: &str) -> bool {
    let (mut answered, mut heard) = (false, false);
    while !(answered && heard) {
        let Some(message) = peer.message_within(Duration::from_secs(5)) else {
            return false;
        };
        match message.what.as_str() {
            "200 OK" => answered = true,
            "SEND" if message.body.as_deref() == Some(expected.as_bytes()) => heard = true,
            _ => panic!("{message:?}"),
        }
    }
    true
}

#[test]
fn of_two_strangers_who_join_at_once_one_is_let_in() {
    for round in 0..40 {
        let scene = Scene::plain();
        let mut alice = scene.client("alice");
        let mut rivals = [scene.stranger("bob"), scene.stranger("carol")];
        let barrier = Barrier::new(2);
        let answers: Vec<String> = thread::scope(|scope| {
            let barrier = &barrier;
            let threads: Vec<_> = rivals
                .iter_mut()
                .zip(["{bob}", "{carol}"])
                .map(|(rival, from)| {
                    scope.spawn(move || {
                        barrier.wait();
                        rival.says(&send("s0000001", "{A} {alice}", from, from));
                        rival.message().what
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut sorted = answers.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, ["200 OK", TAKEN], "round {round}");
        let winner = usize::from(answers[1] == "200 OK");
        let request = alice.message();
        let name = ["bob", "carol"][winner];
        assert!(request.the("From-Path").ends_with(&scene.names.text(name)));
        alice.answers(&request, "200 OK");
        alice.hears_nothing(Duration::from_millis(20));
    }
}

/// Megabytes behind the SENDs that cross: nothing of them is lost while the two sessions become one.
#[test]
fn both_ends_send_a_file_first_at_the_same_moment() {
    for round in 0..8 {
        let scene = Scene::plain();
        let mut alice = scene.client("alice");
        let mut bob = scene.client("bob");
        let barrier = Barrier::new(2);
        let files = [noise(round, 1 << 20), noise(round + 100, 1 << 20)];
        thread::scope(|scope| {
            let (barrier, files) = (&barrier, &files);
            for (peer, to, from, mine, other) in [
                (&mut alice, "{A} {B} {bob}", "{alice}", 0, 1),
                (&mut bob, "{B} {A} {alice}", "{bob}", 1, 0),
            ] {
                scope.spawn(move || {
                    let octets = file(peer, "f0000001", to, from, &files[mine]);
                    barrier.wait();
                    let transfer = swaps(peer, &octets);
                    assert_eq!(fingerprint(&transfer.body), fingerprint(&files[other]));
                });
            }
        });
    }
}

/// Writes and reads by turns, as a client with one thread does, until the other's file is there.
fn swaps(peer: &mut Peer, octets: &[u8]) -> Transfer {
    let mut transfer = Transfer::default();
    let mut whole = false;
    peer.set_write_timeout(Duration::from_millis(50));
    let mut written = 0;
    while written < octets.len() || !whole {
        let next = octets.len().min(written + (32 << 10));
        if written < octets.len() {
            written += peer.writes_some(&octets[written..next]).unwrap_or(0);
        }
        let patience = Duration::from_millis(if written < octets.len() { 1 } else { 10_000 });
        let Some(message) = peer.message_within(patience) else {
            assert!(written < octets.len(), "nothing more comes");
            continue;
        };
        match message.what.as_str() {
            "SEND" => whole = transfer.add(message),
            "200 OK" => {}
            other => panic!("{other}"),
        }
    }
    transfer
}

#[test]
fn an_arrival_while_the_waiting_client_leaves_is_answered_one_way_or_the_other() {
    for round in 0..40_u64 {
        let scene = Scene::plain();
        let alice = scene.client("alice");
        let mut bob = scene.stranger("bob");
        let barrier = Arc::new(Barrier::new(2));
        let leaving = Arc::clone(&barrier);
        let leaver = thread::spawn(move || {
            leaving.wait();
            thread::sleep(Duration::from_micros(round * 25));
            drop(alice);
        });
        barrier.wait();
        bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
        let answer = bob.hears_answer("s0000001");
        if answer.what == "200 OK" {
            let told = waits_for(&mut bob, |message| message.what == "REPORT");
            assert!(told.is_some(), "accepted in round {round} and never told");
            bob.is_closed_within(Duration::from_secs(15));
        } else {
            assert!(answer.what == UNKNOWN || answer.what == TAKEN, "{answer:?} in round {round}");
        }
        leaver.join().unwrap();
    }
}

/// A SEND behind an AUTH that is being looked up, which moves its connection to another session:
/// not before the AUTH has its answer.
#[test]
fn a_send_that_joins_waits_for_the_auth_before_it() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    let mut wrong = alice.challenged("a0000001");
    wrong.password = "wrong".to_owned();
    // Failures are answered at the next tenth of a second, so this one is under way for a while.
    let mut octets = alice.auth_octets("a0000002", &wrong.header(), "");
    octets.extend(alice.octets(&send("s0000001", "{A} {B} {bob}", "{alice}", "hello")));
    alice.says_octets(&octets);
    alice.hears_code("a0000002", "401");
    alice.hears_response("s0000001", "200 OK", "{A}");
    bob.hears(&send("{t}", "{bob}", "{B} {A} {alice}", "hello"));
    // The session is alice's own still: it can be extended where it is now.
    let right = alice.challenged("a0000003");
    alice.says_auth("a0000004", &right.header(), "");
    assert_eq!(alice.hears_code("a0000004", "200").the("Use-Path"), scene.names.text("A"));
}

/// Who wants something of a session at the moment of its Expires.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rush {
    /// A stranger joins it.
    Stranger,
    /// ... and its Expires ends it joined too.
    StrangerStrict,
    /// Another session of the relay joins it.
    Session,
    /// Its owner joins another session.
    Owner,
    /// Its owner joins another session, and a stranger it.
    OwnerAndStranger,
    /// Its owner asks for more time, and a stranger joins it.
    RefreshAndStranger,
}

const RUSHES: [Rush; 6] = [
    Rush::Stranger,
    Rush::StrangerStrict,
    Rush::Session,
    Rush::Owner,
    Rush::OwnerAndStranger,
    Rush::RefreshAndStranger,
];

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;

/// One request of a rush.
struct Act {
    by: usize,
    /// Who is to hear it; nobody, if it is for the relay.
    to: Option<usize>,
    tid: &'static str,
    octets: Vec<u8>,
    at: Instant,
}

/// A session about to lapse, the people around it, and all that they hear.
struct Round {
    rush: Rush,
    scene: Scene,
    peers: [Peer; 3],
    acts: Vec<Act>,
    heard: [Vec<Message>; 3],
}

impl Round {
    /// `jitter` are octets of noise.
    fn new(scene: Scene, rush: Rush, jitter: &[u8]) -> Self {
        let (mut alice, mut bob) = (scene.stranger("alice"), scene.stranger("bob"));
        let carol = scene.client("carol");
        let credentials = alice.challenged("auth0001");
        let expires = if rush == Rush::StrangerStrict { "Expires: 1\n" } else { "" };
        alice.says_auth("auth0002", &credentials.header(), expires);
        let granted = alice.hears_code("auth0002", "200");
        let since = now();
        scene.names.bind("A", granted.the("Use-Path"));

        let stranger = "{A} {alice}";
        let wanted = match rush {
            Rush::Stranger | Rush::StrangerStrict => vec![(BOB, ALICE, stranger)],
            Rush::Session => {
                bob.logs_in("");
                vec![(BOB, ALICE, "{B} {A} {alice}")]
            }
            Rush::Owner => vec![(ALICE, CAROL, "{A} {C} {carol}")],
            Rush::OwnerAndStranger => {
                vec![(ALICE, CAROL, "{A} {C} {carol}"), (BOB, ALICE, stranger)]
            }
            Rush::RefreshAndStranger => vec![(ALICE, ALICE, ""), (BOB, ALICE, stranger)],
        };
        let mut acts = Vec::new();
        for (number, &(by, to, path)) in wanted.iter().enumerate() {
            // A few milliseconds either way, most of them close to the moment.
            let [one, two] = [jitter[2 * number], jitter[2 * number + 1]].map(u64::from);
            let offset = Duration::from_micros(one * two / 16);
            let due = Duration::from_secs(1);
            let early = due.saturating_sub(offset);
            let at = since + if one % 3 == 0 { due + offset } else { early };
            let (to, tid, octets) = if path.is_empty() {
                let credentials = alice.challenged("auth0003");
                let tid = "auth0004";
                (None, tid, alice.auth_octets(tid, &credentials.header(), "Expires: 60\n"))
            } else {
                let tid = ["rush0001", "rush0002"][number];
                let from = ["{alice}", "{bob}"][by];
                (Some(to), tid, carol.octets(&send(tid, path, from, tid)))
            };
            acts.push(Act { by, to, tid, octets, at });
        }
        let peers = [alice, bob, carol];
        Self { rush, scene, peers, acts, heard: Default::default() }
    }

    fn listen(&mut self, patience: Duration) {
        for (peer, heard) in self.peers.iter_mut().zip(&mut self.heard) {
            while let Some(message) = peer.message_within(patience) {
                heard.push(message);
            }
        }
    }

    fn answers(&self, act: &Act) -> Vec<&str> {
        let heard = self.heard[act.by].iter();
        heard.filter(|m| m.tid == act.tid).map(|m| m.what.as_str()).collect()
    }

    fn reports(&self, act: &Act) -> usize {
        self.heard[act.by].iter().filter(|message| message.what == "REPORT").count()
    }

    fn deliveries(&self, act: &Act, peer: usize) -> usize {
        let body = Some(act.tid.as_bytes());
        self.heard[peer].iter().filter(|message| message.body.as_deref() == body).count()
    }

    /// Whether everybody has heard what there is to hear.
    fn is_over(&self) -> bool {
        self.acts.iter().all(|act| {
            let accepted = self.answers(act).first().map(|answer| *answer == "200 OK");
            let told = |to| self.deliveries(act, to) + self.reports(act) > 0;
            accepted.is_some_and(|accepted| !accepted || act.to.is_none_or(told))
        })
    }

    /// What was accepted was delivered, once; what was not was delivered to nobody.
    fn check(&mut self) {
        let deadline = now() + Duration::from_secs(10);
        while !self.is_over() && now() < deadline {
            self.listen(Duration::from_millis(1));
        }
        // Whatever should not come has a moment to come.
        self.listen(Duration::from_millis(5));
        for act in &self.acts {
            let story = format!("{:?}, {}: {:?}", self.rush, act.tid, self.heard);
            let [answer] = self.answers(act)[..] else { panic!("not one answer: {story}") };
            let accepted = answer == "200 OK";
            let Some(to) = act.to else {
                assert!(accepted, "{story}");
                continue;
            };
            for peer in [ALICE, BOB, CAROL] {
                let expected = usize::from(accepted && peer == to);
                assert_eq!(self.deliveries(act, peer), expected, "{story}");
            }
            if accepted {
                // Nobody answers, so a session that ends says what became of it.
                let ended = usize::from(self.rush == Rush::StrangerStrict);
                assert!(self.reports(act) <= ended, "{story}");
            } else {
                assert!(answer.starts_with(UNKNOWN) || answer == TAKEN, "{story}");
            }
        }
        if self.rush == Rush::RefreshAndStranger {
            let [answer] = self.answers(&self.acts[1])[..] else { return };
            // Who was too late before the refresh is in time after it.
            let late = ["200 OK", TAKEN][usize::from(answer == "200 OK")];
            let mut dave = self.scene.stranger("dave");
            dave.says(&empty_send("late0001", "{A} {alice}", "{dave}"));
            assert_eq!(dave.message().what, late, "{:?}", self.heard);
        }
    }
}

/// Sessions that are joined, joining and refreshed within milliseconds of their Expires.
#[test]
fn at_the_moment_of_expiry_everybody_hears_one_thing() {
    let relay = Relay::start("session_expiration_time_default = 1\nmax_unauthenticated = 0", false);
    let relay = Arc::new(relay);
    thread::scope(|scope| {
        for lane in 0..4 {
            let relay = &relay;
            scope.spawn(move || (0..4).for_each(|turn| rush(relay, lane * 4 + turn)));
        }
    });
    // All peers are gone, and so is all that the relay knew of them.
    relay.logs_until("an end of each session", |log| {
        let count = |what| log.matches(what).count();
        count("session started") == count("session ended")
    });
    assert!(relay.stops().contains("stopping: 0 sessions"));
}

/// Some two dozen sessions, one after the other, each in the last milliseconds of its time.
fn rush(relay: &Arc<Relay>, seed: u64) {
    const ROUNDS: usize = 24;

    let jitter = noise(seed, 4 * ROUNDS);
    let mut rounds: Vec<Round> = (0..ROUNDS)
        .map(|n| {
            let scene = Scene::on(Arc::clone(relay));
            Round::new(scene, RUSHES[n % RUSHES.len()], &jitter[4 * n..])
        })
        .collect();
    let mut acts: Vec<(Instant, usize, usize)> = Vec::new();
    for (n, round) in rounds.iter().enumerate() {
        acts.extend(round.acts.iter().enumerate().map(|(act, what)| (what.at, n, act)));
    }
    acts.sort_unstable();
    for (at, n, act) in acts {
        thread::sleep(at.saturating_duration_since(now()));
        let Round { peers, acts, .. } = &mut rounds[n];
        let Act { by, octets, .. } = &acts[act];
        peers[*by].says_octets(octets);
    }
    rounds.iter_mut().for_each(Round::check);
}
