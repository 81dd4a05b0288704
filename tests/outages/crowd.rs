//! Very many logins at a steady rate, whatever becomes of those before: the answers, with times.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::harness::{Algorithm, Credentials, noise, now};

/// Nobody waits for an answer longer than this; the tests ask for much less.
const LIMIT: Duration = Duration::from_secs(30);

/// What one login came to.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: &'static str,
    /// When the answer to the challenge was sent.
    pub(crate) sent: Instant,
    /// From then to the relay's answer.
    pub(crate) took: Duration,
    /// `200`; nothing when no answer came.
    pub(crate) code: String,
}

/// Who logs in, each again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
}

/// Logs in `rate` times a second for `time`, each of `claims` in turn, each over a connection of
/// its own. Blocks until all have an answer. Also returns by how much this machine was late at
/// worst: what it takes from the crowd it takes from the relay.
pub(crate) fn crowd(
    relay: SocketAddr,
    claims: &'static [Claim],
    rate: u32,
    time: Duration,
) -> (Vec<Login>, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut ticks = interval(Duration::from_secs(1) / rate);
        // After a pause of this process all are made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = now() + time;
        let mut claims = claims.iter().cycle();
        let mut late = Duration::ZERO;
        while now() < end {
            let due = ticks.tick().await;
            late = late.max(now().saturating_duration_since(due.into()));
            let (claim, tell) = (*claims.next().expect("claims"), tell.clone());
            tokio::spawn(async move {
                let _ = tell.send(log_in(relay, claim).await);
            });
        }
        drop(tell);
        let mut logins = Vec::new();
        while let Some(login) = told.recv().await {
            logins.push(login);
        }
        (logins, late)
    })
}

async fn log_in(relay: SocketAddr, claim: Claim) -> Login {
    let mut login =
        Login { user: claim.user, sent: now(), took: Duration::ZERO, code: String::new() };
    let Ok(mut client) = Client::connect(relay).await else { return login };
    let Some(credentials) = client.challenged(claim).await else { return login };
    login.sent = now();
    if let Some(answer) = client.auth(&credentials.header()).await {
        answer.split_whitespace().nth(2).unwrap_or_default().clone_into(&mut login.code);
    }
    login.took = login.sent.elapsed();
    login
}

/// How long the answers to `trials` wrong attempts of each claim took, all interleaved in an order
/// of `seed`, over `connections` at once: the i-th of the answer belongs to the i-th claim. Each
/// connection has an address of its own, because refusals to one address are slowed.
pub(crate) fn times(
    relay: SocketAddr,
    claims: [Claim; 2],
    trials: usize,
    connections: usize,
    seed: u64,
) -> [Vec<f64>; 2] {
    let mut order: Vec<usize> = (0..2 * trials).map(|index| index % 2).collect();
    let noise = noise(seed, 8 * order.len());
    for index in (1..order.len()).rev() {
        let random = noise[8 * index..8 * index + 8].try_into().expect("eight octets");
        let other = u64::from_le_bytes(random) % (index as u64 + 1);
        order.swap(index, usize::try_from(other).expect("an index"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let order = Arc::new(order);
        let (tell, mut told) = mpsc::unbounded_channel();
        for connection in 0..connections {
            let (order, tell) = (Arc::clone(&order), tell.clone());
            tokio::spawn(async move {
                let number = u8::try_from(connection).expect("not many connections");
                let from = Ipv4Addr::new(127, 0, 1, number);
                let client = Client::connect_from(from, relay).await;
                let mut client = client.expect("a connection");
                for index in (connection..order.len()).step_by(connections) {
                    let which = order[index];
                    let claim = claims[which];
                    let credentials = client.challenged(claim).await.expect("a challenge");
                    let sent = now();
                    let answer = client.auth(&credentials.header()).await.expect("an answer");
                    let took = sent.elapsed().as_secs_f64();
                    assert!(answer.contains(" 401 "), "{}: {answer}", claim.user);
                    tell.send((which, took)).expect("somebody who counts");
                }
            });
        }
        drop(tell);
        let mut times = [Vec::new(), Vec::new()];
        while let Some((which, took)) = told.recv().await {
            times[which].push(took);
        }
        times
    })
}

/// How many AUTHs are granted in `time` or a little more, and the time it took: over `connections`
/// that each hold a session and ask for nothing else, one after the other.
pub(crate) fn refreshes(
    relay: SocketAddr,
    claim: Claim,
    connections: usize,
    time: Duration,
) -> (u32, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let start = now();
        let each = (0..connections).map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(relay).await.expect("a connection");
                let mut granted = 0;
                while start.elapsed() < time {
                    let credentials = client.challenged(claim).await.expect("a challenge");
                    let answer = client.auth(&credentials.header()).await.expect("an answer");
                    assert!(answer.contains(" 200 "), "{answer}");
                    granted += 1;
                }
                granted
            })
        });
        let mut granted = 0;
        for connection in each.collect::<Vec<_>>() {
            granted += connection.await.expect("a count");
        }
        (granted, start.elapsed())
    })
}

/// Logs in with a wrong password over `connections` from each of `addresses`, as often as there are
/// answers, until `over`: what somebody does who wants nobody else to be answered. Blocks.
///
/// One address would do less, because refusals to it are slowed.
pub(crate) fn siege(
    relay: SocketAddr,
    addresses: &[Ipv4Addr],
    claim: Claim,
    connections: usize,
    over: Instant,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let from = addresses.iter().flat_map(|from| std::iter::repeat_n(*from, connections));
        let each = from.map(|from| {
            tokio::spawn(async move {
                while now() < over {
                    let Ok(mut client) = Client::connect_from(from, relay).await else { continue };
                    let Some(credentials) = client.challenged(claim).await else { continue };
                    while now() < over
                        && let Some(answer) = client.auth(&credentials.header()).await
                    {
                        assert!(!answer.contains(" 200 "), "{answer}");
                        // A little mercy for the machine, which the others use too.
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            })
        });
        for connection in each.collect::<Vec<_>>() {
            connection.await.expect("a besieger");
        }
    });
}

/// A connection that only logs in.
struct Client {
    stream: TcpStream,
    requests: u32,
}

const URI: &str = "msrp://example.com:2855;tcp";

impl Client {
    async fn connect(relay: SocketAddr) -> std::io::Result<Self> {
        Self::connect_from(Ipv4Addr::UNSPECIFIED, relay).await
    }

    async fn connect_from(from: Ipv4Addr, relay: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = timeout(LIMIT, socket.connect(relay)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, requests: 0 })
    }

    async fn challenged(&mut self, claim: Claim) -> Option<Credentials> {
        let challenge = self.request("").await?;
        let part = |name: &str| {
            let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        Some(Credentials {
            user: claim.user.to_owned(),
            realm: part("realm")?,
            password: claim.password.to_owned(),
            nonce: part("nonce")?,
            opaque: part("opaque")?,
            nc: "00000001".to_owned(),
            cnonce: "0a4f113b".to_owned(),
            uri: URI.to_owned(),
            algorithm: Algorithm::Md5,
        })
    }

    async fn auth(&mut self, authorization: &str) -> Option<String> {
        self.request(&format!("Authorization: {authorization}\r\n")).await
    }

    /// The answer, as it came.
    async fn request(&mut self, headers: &str) -> Option<String> {
        self.requests += 1;
        let tid = format!("t{:06}", self.requests);
        let request = format!(
            "MSRP {tid} AUTH\r\nTo-Path: {URI}\r\n\
             From-Path: msrp://client.invalid:2855/c;tcp\r\n{headers}-------{tid}$\r\n"
        );
        self.stream.write_all(request.as_bytes()).await.ok()?;
        let end = format!("-------{tid}$\r\n");
        let mut answer = Vec::with_capacity(1024);
        while !answer.ends_with(end.as_bytes()) {
            let read = timeout(LIMIT, self.stream.read_buf(&mut answer)).await.ok()?.ok()?;
            if read == 0 {
                return None;
            }
        }
        String::from_utf8(answer).ok()
    }
}
