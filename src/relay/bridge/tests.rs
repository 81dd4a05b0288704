use std::{
    path::Path as FilePath,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    msrp::{ChunkQueue, Decoder, Event, Uri},
    relay::{
        Config, Generation, Source,
        end::End,
        lobby::{self, Left},
        login::Welcome,
        quota::Quotas,
        registry::SessionInfo,
    },
    session::{Expiry, Holding, Reject},
    transport,
};

const HOUR: Duration = Duration::from_hours(1);

fn process() -> Arc<Process> {
    let config = "[Relay]\naddress = 127.0.0.1\nbackend = memory\ndebug_notls = yes\n\
        hostname = relay.example\n[Memory]\n";
    let config = Config::parse(config, FilePath::new("config.ini")).unwrap();
    let generation = Generation::build(Arc::new(config), None, clock::wall()).unwrap();
    Process::new(Source::new("config.ini".into(), |_| {}), generation, |_, _, _| {})
}

fn head(text: &str) -> Head {
    match Decoder::default().next(&mut BytesMut::from(text)) {
        Ok(Some(Event::Head(head))) => head,
        other => panic!("{other:?}"),
    }
}

/// The first SEND of `from` towards `to`, with this text behind the host of the session.
fn send(id: &str, to: &str, from: &str) -> String {
    format!(
        "MSRP {id} SEND\r\nTo-Path: {to}\r\nFrom-Path: msrp://{from}.invalid:1/client-{from};tcp\r\n\
         Message-ID: 1\r\nByte-Range: 1-5/5\r\nContent-Type: text/plain\r\n\r\nhello\r\n-------{id}$\r\n"
    )
}

/// The URI of the session of `user`, then that of its client.
fn session_of(user: &str) -> String {
    format!("msrp://relay.example:2855/{user};tcp msrp://{user}.invalid:1/client-{user};tcp")
}

fn auth(user: &str) -> Head {
    head(&format!(
        "MSRP a0000001 AUTH\r\nTo-Path: msrp://relay.example:2855;tcp\r\n\
         From-Path: msrp://{user}.invalid:1/client-{user};tcp\r\n-------a0000001$\r\n"
    ))
}

/// A connection in the lobby, and its other end.
async fn newcomer(process: &Process) -> (Newcomer, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, peer) = listener.accept().await.unwrap();
    let link = transport::accept(tcp, peer, None).await.unwrap();
    let in_force = process.configuration.in_force();
    let party = Party {
        stream: Stream::new(link),
        policy: Arc::clone(&in_force.generation.policy),
        doors: Some(Arc::clone(&in_force.doors)),
        ticket: process.census.accept(peer.ip(), &Quotas::default()).unwrap(),
        stats: Arc::clone(&process.stats),
        failures: 0,
        registration: None,
    };
    let (decoder, unsent) = (Decoder::default(), ChunkQueue::default());
    (Newcomer { party, decoder, unsent, holding: None }, other)
}

/// The session of a user that expires after `lasts`, and the other end of the connection.
async fn session(process: &Process, user: &str, lasts: Duration) -> (Box<Bridge>, TcpStream) {
    let (mut newcomer, other) = newcomer(process).await;
    let uri = Uri::mint(false, "relay.example", 2855, user).unwrap();
    let client = auth(user).from_path;
    let info = SessionInfo {
        uri: uri.clone(),
        client: client.clone(),
        user: user.to_owned(),
        realm: "example.com".to_owned(),
        peer: newcomer.party.peer(),
        since: clock::now(),
        traffic: Arc::clone(newcomer.party.stream.traffic()),
        token: process.lifecycle.stopping.child_token(),
    };
    let (registration, arrival) = process.registry.register(info, Span::none(), None);
    newcomer.party.registration = Some(registration);
    newcomer.holding = Some(Holding {
        uri,
        client,
        expiry: Expiry { at: clock::now() + lasts, strict: false },
        other_methods: true,
        max_auth_attempts: None,
        idle_timeout: None,
    });
    (Box::new(Bridge::new(newcomer, arrival).unwrap()), other)
}

/// What ends the session of this task.
fn token(bridge: &Bridge) -> CancellationToken {
    bridge.wires.near().registration.as_ref().unwrap().info().token.clone()
}

/// Bob, whose first SEND to Alice's session has been read.
async fn stranger(process: &Process) -> (Newcomer, TcpStream) {
    let (mut bob, other) = newcomer(process).await;
    bob.party.stream.input = BytesMut::from(&*send("s0000001", &session_of("alice"), "bob"));
    (bob, other)
}

/// Claims Alice's session for that SEND.
fn claim(process: &Process) -> Result<Delivery, Reject> {
    process.registry.claim(&head(&send("s0000001", &session_of("alice"), "bob")))
}

/// Serves a session in a task of its own, until it is over. The task returns why the session ended,
/// or `None` if the connection left it.
fn spawn(process: &Arc<Process>, bridge: Box<Bridge>) -> JoinHandle<Option<End>> {
    let process = Arc::clone(process);
    tokio::spawn(async move {
        match bridge.run(&process).await {
            After::Over(ending, _) => {
                let end = ending.end();
                ending.run(&process.lifecycle.at_once).await;
                end
            }
            After::Joined | After::Returned(_) => None,
        }
    })
}

async fn hears(peer: &mut TcpStream, wanted: &str) {
    let mut heard = vec![0; wanted.len()];
    let reading = peer.read_exact(&mut heard);
    timeout(Duration::from_secs(5), reading).await.expect("nothing comes").unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), wanted);
}

/// All that a peer receives until the relay closes the connection.
async fn hears_out(peer: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let reading = peer.read_to_end(&mut heard);
    timeout(Duration::from_secs(5), reading).await.expect("no end comes").unwrap();
    String::from_utf8(heard).unwrap()
}

fn granted() -> Verdict {
    let expiry = Expiry { at: clock::now() + Duration::from_mins(1), strict: true };
    Verdict::Granted(Welcome {
        user: "alice".to_owned(),
        realm: "example.com".to_owned(),
        expiry,
        expires: Duration::from_mins(1),
        authentication_info: Some("qop=auth".to_owned()),
        ticket: None,
    })
}

/// A peer that has claimed a session is served although the session lapses before the peer's
/// connection arrives. The owner may extend the session in between.
#[tokio::test]
async fn who_claimed_a_session_in_time_is_served() {
    for refreshed in [false, true] {
        let process = process();
        let (mut bridge, mut alice) = session(&process, "alice", Duration::ZERO).await;
        let (bob, mut bobs) = stranger(&process).await;
        let delivery = claim(&process).unwrap();
        assert!(bridge.due().is_continue());
        assert!(bridge.session.is_lapsed());
        if refreshed {
            assert!(bridge.decided(Leg::Near, &auth("alice"), Some(granted())).is_continue());
        }
        assert!(delivery.send(Box::new(bob)).is_ok(), "nobody waits for the claimant");
        assert!(claim(&process).is_err());
        let task = spawn(&process, bridge);
        if refreshed {
            hears(&mut alice, "MSRP a0000001 200 OK\r\n").await;
        } else {
            hears(&mut alice, "MSRP ").await;
        }
        hears(&mut bobs, "MSRP s0000001 200 OK\r\n").await;
        drop((alice, bobs));
        assert!(task.await.unwrap().is_some());
        assert_eq!(process.registry.len(), 0);
    }
}

/// A session ends while a connection that has claimed it is on the way. The connection goes back to
/// the lobby.
#[tokio::test]
async fn who_comes_to_a_session_that_has_ended_hears_so() {
    for delivered in [false, true] {
        let process = process();
        let (bridge, alice) = session(&process, "alice", HOUR).await;
        let (bob, mut bobs) = stranger(&process).await;
        let delivery = claim(&process).unwrap();
        drop(alice);
        let returned = if delivered {
            delivery.send(Box::new(bob)).unwrap();
            let After::Over(_, late) = bridge.over(End::Closed) else { panic!("it is over") };
            late
        } else {
            let After::Over(_, None) = bridge.over(End::Closed) else { panic!("it is over") };
            Some(delivery.send(Box::new(bob)).unwrap_err())
        };
        assert!(matches!(claim(&process), Err(Reject::NoSession(_))));
        assert_eq!(process.registry.len(), 0);
        let bob = returned.expect("Bob's connection");
        let shared = Arc::clone(&process);
        let back =
            tokio::spawn(async move { matches!(lobby::return_to(&shared, bob).await, Left::Gone) });
        hears(&mut bobs, "MSRP s0000001 481 ").await;
        drop(bobs);
        assert!(back.await.unwrap());
    }
}

/// The token of either one of two joined sessions ends both, and no other session. Both clients are
/// told.
#[tokio::test]
async fn a_joined_session_is_ended_from_either_entry() {
    for ended in ["alice", "bob"] {
        let process = process();
        let (alice, mut alices) = session(&process, "alice", HOUR).await;
        let (mut bob, mut bobs) = session(&process, "bob", HOUR).await;
        let (carol, _carols) = session(&process, "carol", HOUR).await;
        let (carol_token, token) = (
            token(&carol),
            match ended {
                "alice" => token(&alice),
                _ => token(&bob),
            },
        );
        let first =
            send("s0000001", &format!("{} {}", session_uri("bob"), session_of("alice")), "bob");
        bob.wires.near_mut().stream.input = BytesMut::from(&*first);
        let task = spawn(&process, alice);
        assert_eq!(spawn(&process, bob).await.unwrap(), None, "it moved to the task of alice");
        hears(&mut alices, "MSRP ").await;
        hears(&mut bobs, "MSRP s0000001 200 OK\r\n").await;
        token.cancel();
        assert_eq!(task.await.unwrap(), Some(End::Kicked));
        // Alice has not answered the SEND, so Bob gets a REPORT.
        let report = hears_out(&mut bobs).await;
        assert!(report.contains(" REPORT\r\n") && report.contains("Status: 000 408 "), "{report}");
        hears_out(&mut alices).await;
        assert!(!carol_token.is_cancelled());
        assert_eq!(process.registry.len(), 1);
        process.lifecycle.stopping.cancel();
        assert_eq!(spawn(&process, carol).await.unwrap(), Some(End::Shutdown));
        assert_eq!(process.registry.len(), 0);
    }
}

fn session_uri(user: &str) -> String {
    format!("msrp://relay.example:2855/{user};tcp")
}

/// A panic while the relay serves a session ends this session. The SEND that was acknowledged is
/// reported as failed.
#[tokio::test]
async fn a_panic_ends_one_session_with_a_word() {
    let process = process();
    let (mut alice, mut alices) = session(&process, "alice", HOUR).await;
    let path = "msrp://relay.example:2855/alice;tcp msrp://bob.invalid:1/client-bob;tcp";
    let first = send("s0000001", path, "alice");
    alice.wires.near_mut().stream.input = BytesMut::from(&*first);
    // The test dials in place of the relay, and the dial panics.
    alice.session.dial(auth("bob").from_path.first().clone());
    alice.dialling = Some(Box::pin(async {
        tokio::task::yield_now().await;
        panic!("out of order");
    }));
    alice.arrival = None;
    assert_eq!(spawn(&process, alice).await.unwrap(), Some(End::Fault));
    let heard = hears_out(&mut alices).await;
    assert!(heard.contains("MSRP s0000001 200 OK\r\n"), "{heard}");
    assert!(heard.contains(" REPORT\r\n") && heard.contains("Status: 000 408 "), "{heard}");
    assert_eq!(process.stats.faults.load(Ordering::Relaxed), 1);
    assert_eq!(process.registry.len(), 0);
}

/// A peer that reads nothing does not keep the other connection open.
#[tokio::test]
async fn each_leg_is_closed_when_it_has_heard_its_last_words() {
    let process = process();
    let (alice, alices) = session(&process, "alice", HOUR).await;
    let (bob, bobs) = stranger(&process).await;
    claim(&process).unwrap().send(Box::new(bob)).unwrap();
    let token = token(&alice);
    let task = spawn(&process, alice);
    let (mut from_relay, mut to_relay) = alices.into_split();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let flood = tokio::spawn(async move {
        let head = send(
            "l0000001",
            "msrp://relay.example:2855/alice;tcp msrp://bob.invalid:1/client-bob;tcp",
            "alice",
        );
        let head = head.replace("1-5/5", "1-*/*").replace("hello\r\n-------l0000001$\r\n", "");
        to_relay.write_all(head.as_bytes()).await.unwrap();
        let block = vec![b'x'; 64 * 1024];
        while to_relay.write_all(&block).await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    // Until all buffers on the way to Bob are full.
    let mut before = u64::MAX;
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before > 0);
    token.cancel();
    // Bob, who reads nothing, is given more time than this.
    let mut heard = Vec::new();
    let reading = from_relay.read_to_end(&mut heard);
    timeout(Duration::from_secs(5), reading).await.expect("no end comes").unwrap();
    assert!(!task.is_finished(), "Bob took everything");
    drop(bobs);
    assert_eq!(task.await.unwrap(), Some(End::Kicked));
    flood.await.unwrap();
}
