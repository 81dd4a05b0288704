//! What is measured.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use msrprelay::clock::now;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    duplex,
    failure::Failure,
    report::{Contest, Crowd, Duplex, Finding, Idle, Sample, Stalled, Unit},
    rig::{Pair, Rig, close},
    sender::{Contestant, File},
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// One measurement that takes longer hangs.
const LOAD_LIMIT: Duration = Duration::from_mins(2);
/// A relay has nothing left to do this long after the last answer.
const SETTLE: Duration = Duration::from_millis(50);
/// Allocators and log lines of the first sessions are not counted as memory of idle ones.
const IDLE_WARM_UP: usize = 16;
/// Chat sessions, all talking at once, each waiting for the answer before the next message.
const CHATS: usize = 32;
const CHAT_OCTETS: u64 = 200;
const BULK_SESSIONS: usize = 4;
/// Small chunks are a cost per chunk: fewer octets tell as much.
const SMALL_CHUNK: u64 = 2 * KIB;
const SMALL_CHUNK_SHARE: u64 = 4;

/// Over TLS, against the plain copier: what may be spent on MSRP.
const BULK_LIMIT: f64 = 1.25;
const CHAT_LIMIT: f64 = 2.0;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, Debug)]
pub(crate) enum Scenario {
    /// Files, in chunks of 2 KiB, 64 KiB, and in one chunk
    Bulk,
    /// Messages of 200 octets
    Chat,
    /// A file one way and lines of chat the other way: how long each line is under way
    Duplex,
    /// Sessions that say nothing: memory of each
    Idle,
    /// Receivers that never read: senders held back, memory flat
    Stalled,
    /// Very many sessions at once, every SHA-256 compared
    Crowd,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] =
        [Self::Bulk, Self::Chat, Self::Duplex, Self::Idle, Self::Stalled, Self::Crowd];
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) rounds: u32,
    pub(crate) warm_up: u32,
    /// Octets of one bulk measurement.
    pub(crate) bulk: u64,
    /// Messages of one chat in one measurement.
    pub(crate) messages: u64,
    /// Between two lines beside a file.
    pub(crate) pause: Duration,
    pub(crate) idle: usize,
    pub(crate) stalled: usize,
    /// Octets offered to each peer that does not read.
    pub(crate) stalled_offer: u64,
    /// No octet taken for so long: held back.
    pub(crate) stalled_after: Duration,
    pub(crate) crowd: usize,
    /// Octets through each session of the crowd.
    pub(crate) crowd_octets: u64,
    /// Whether figures are meant: a quick run only proves that everything works.
    pub(crate) judged: bool,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        rounds: 9,
        warm_up: 1,
        bulk: 512 * MIB,
        messages: 500,
        pause: Duration::from_millis(10),
        idle: 2000,
        stalled: 16,
        stalled_offer: 64 * MIB,
        stalled_after: Duration::from_secs(2),
        crowd: 2000,
        crowd_octets: MIB,
        judged: true,
    };

    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        warm_up: 0,
        bulk: 4 * MIB,
        messages: 10,
        pause: Duration::from_millis(1),
        idle: 50,
        stalled: 2,
        stalled_after: Duration::from_millis(500),
        crowd: 50,
        crowd_octets: 100 * KIB,
        judged: false,
        ..Self::FULL
    };
}

/// Runs a scenario on a fresh rig.
pub(crate) async fn run(
    scenario: Scenario,
    rig: &Rig,
    scale: &Scale,
) -> Result<Vec<Finding>, Failure> {
    let findings = match scenario {
        Scenario::Bulk => bulk(rig, scale).await?,
        Scenario::Chat => vec![Finding::Contest(chat(rig, scale).await?)],
        Scenario::Duplex => vec![Finding::Duplex(duplex(rig, scale).await?)],
        Scenario::Idle => vec![Finding::Idle(idle(rig, scale).await?)],
        Scenario::Stalled => vec![Finding::Stalled(stalled(rig, scale).await?)],
        Scenario::Crowd => vec![Finding::Crowd(crowd(rig, scale).await?)],
    };
    Ok(findings)
}

async fn bulk(rig: &Rig, scale: &Scale) -> Result<Vec<Finding>, Failure> {
    let each = (scale.bulk / BULK_SESSIONS as u64).max(1);
    let small = Load::File { size: (each / SMALL_CHUNK_SHARE).max(1), chunk: SMALL_CHUNK };
    let kinds = [
        ("bulk, 2 KiB chunks", small, None),
        ("bulk, 64 KiB chunks", Load::File { size: each, chunk: 64 * KIB }, Some(BULK_LIMIT)),
        ("bulk, whole files", Load::File { size: each, chunk: each }, Some(BULK_LIMIT)),
    ];
    let mut findings = Vec::new();
    for (name, load, limit) in kinds {
        let contest = contest(rig, scale, name, load, BULK_SESSIONS, limit).await?;
        findings.push(Finding::Contest(contest));
    }
    Ok(findings)
}

async fn chat(rig: &Rig, scale: &Scale) -> Result<Contest, Failure> {
    let load = Load::Chat { messages: scale.messages };
    contest(rig, scale, "chat, 200 octets", load, CHATS, Some(CHAT_LIMIT)).await
}

/// Relay and copier under the same load, in turns.
async fn contest(
    rig: &Rig,
    scale: &Scale,
    name: &'static str,
    load: Load,
    sessions: usize,
    limit: Option<f64>,
) -> Result<Contest, Failure> {
    let (mut relay, mut copier) = (Vec::new(), Vec::new());
    for round in 0..scale.warm_up + scale.rounds {
        // The order changes from round to round: a drift of the machine favours nobody.
        let order = if round % 2 == 0 {
            [Contestant::Relay, Contestant::Copier]
        } else {
            [Contestant::Copier, Contestant::Relay]
        };
        for contestant in order {
            let sample = measure(rig, contestant, load, sessions).await?;
            if round < scale.warm_up {
                continue;
            }
            match contestant {
                Contestant::Relay => relay.push(sample),
                Contestant::Copier => copier.push(sample),
            }
        }
    }
    let (unit, each) = load.amount();
    Ok(Contest {
        name,
        over: rig.over(),
        unit,
        amount: each * sessions as u64,
        relay,
        copier,
        relay_memory: rig.process(Contestant::Relay).memory()?,
        copier_memory: rig.process(Contestant::Copier).memory()?,
        limit: limit.filter(|_| scale.judged && rig.over().is_judged()),
    })
}

/// The cost of the load alone: sessions are opened before and closed after.
async fn measure(
    rig: &Rig,
    contestant: Contestant,
    load: Load,
    sessions: usize,
) -> Result<Sample, Failure> {
    let pairs = rig.open(contestant, sessions).await?;
    let process = rig.process(contestant);
    sleep(SETTLE).await;
    let (cpu, start) = (process.cpu()?, now());
    let pairs = timeout(LOAD_LIMIT, drive(pairs, load)).await??;
    let wall = start.elapsed();
    sleep(SETTLE).await;
    let cpu = process.cpu()?.saturating_sub(cpu);
    close(pairs).await;
    sleep(SETTLE).await;
    Ok(Sample { cpu, wall })
}

/// What each session carries.
#[derive(Clone, Copy, Debug)]
enum Load {
    File { size: u64, chunk: u64 },
    Chat { messages: u64 },
}

impl Load {
    const fn amount(self) -> (Unit, u64) {
        match self {
            Self::File { size, .. } => (Unit::Octets, size),
            Self::Chat { messages } => (Unit::Messages, messages),
        }
    }

    async fn carry(self, pair: &mut Pair) -> Result<(), Failure> {
        let Pair { sender, receiver, content } = pair;
        match self {
            Self::File { size, chunk } => {
                let file = File { content: content.clone(), size, chunk };
                let accepted = Arc::default();
                tokio::try_join!(sender.file(&file, &accepted), receiver.expect(content, size))?;
            }
            Self::Chat { messages } => {
                let mut text = Vec::new();
                content.copy(0, CHAT_OCTETS, &mut text);
                for _ in 0..messages {
                    // Both ends are waited for: a relay that answers early does not get the next
                    // message early, so that as many messages are under way as with the copier.
                    tokio::try_join!(sender.message(&text), receiver.expect(content, CHAT_OCTETS))?;
                }
            }
        }
        Ok(())
    }
}

async fn drive(pairs: Vec<Pair>, load: Load) -> Result<Vec<Pair>, Failure> {
    let mut driving = JoinSet::new();
    for mut pair in pairs {
        driving.spawn(async move {
            load.carry(&mut pair).await?;
            Ok::<_, Failure>(pair)
        });
    }
    let mut pairs = Vec::new();
    while let Some(pair) = driving.join_next().await {
        pairs.push(pair??);
    }
    Ok(pairs)
}

/// One session; both ends send and receive at the same time.
async fn duplex(rig: &Rig, scale: &Scale) -> Result<Duplex, Failure> {
    let relay = rig.process(Contestant::Relay);
    let pairs = rig.open(Contestant::Relay, 1).await?;
    let Some(Pair { sender, receiver, content }) = pairs.into_iter().next() else {
        return Err(Failure::Closed);
    };
    let file = File { content, size: scale.bulk, chunk: 64 * KIB };
    let pause = scale.pause;
    let said = Arc::<duplex::Said>::default();
    let (mut near, mut far) = (sender.into_end(), receiver.into_end()?);
    let (cpu, start) = (relay.cpu()?, now());
    let arriving = tokio::spawn({
        let said = Arc::clone(&said);
        async move { Ok::<_, Failure>((duplex::receive_file(&mut far, pause, &said).await?, far)) }
    });
    let leaving = tokio::spawn({
        let file = file.clone();
        async move { Ok::<_, Failure>((duplex::send_file(&mut near, &file, &said).await?, near)) }
    });
    // The ends are kept until both have all that they wait for.
    let both = async { Ok::<_, Failure>((arriving.await??, leaving.await??)) };
    let ((arrived, _far), (delays, _near)) = timeout(LOAD_LIMIT, both).await??;
    let sample = Sample { cpu: relay.cpu()?.saturating_sub(cpu), wall: start.elapsed() };
    let memory = relay.memory()?;
    Ok(Duplex {
        over: rig.over(),
        octets: file.size,
        right: arrived == file.sha256(),
        delays,
        sample,
        memory,
        judged: scale.judged,
    })
}

async fn idle(rig: &Rig, scale: &Scale) -> Result<Idle, Failure> {
    let sessions = scale.idle;
    let relay = idle_memory(rig, Contestant::Relay, sessions).await?;
    let copier = idle_memory(rig, Contestant::Copier, sessions).await?;
    Ok(Idle { over: rig.over(), sessions, relay, copier })
}

/// Octets of memory per session that has carried one message and is silent.
async fn idle_memory(rig: &Rig, contestant: Contestant, sessions: usize) -> Result<u64, Failure> {
    let process = rig.process(contestant);
    close(rig.open(contestant, IDLE_WARM_UP).await?).await;
    sleep(10 * SETTLE).await;
    let before = process.memory()?.resident;
    let pairs = rig.open(contestant, sessions).await?;
    sleep(10 * SETTLE).await;
    let grown = process.memory()?.resident.saturating_sub(before);
    close(pairs).await;
    Ok(grown / sessions as u64)
}

/// Receivers that never read. Their senders must come to a stand, the relay must not store what
/// nobody takes, and others must be served meanwhile.
async fn stalled(rig: &Rig, scale: &Scale) -> Result<Stalled, Failure> {
    let relay = rig.process(Contestant::Relay);
    let mut other = rig.open(Contestant::Relay, 1).await?;
    let pairs = rig.open(Contestant::Relay, scale.stalled).await?;
    let before = relay.memory()?;

    let accepted = Arc::<AtomicU64>::default();
    let (senders, silent): (Vec<_>, Vec<_>) = pairs
        .into_iter()
        .map(|Pair { mut sender, receiver, content }| {
            let size = scale.stalled_offer;
            let file = File { content, size, chunk: size };
            let accepted = Arc::clone(&accepted);
            (tokio::spawn(async move { sender.file(&file, &accepted).await }), receiver)
        })
        .unzip();
    let held_at = timeout(LOAD_LIMIT, standstill(&senders, &accepted, scale)).await??;
    let after = relay.memory()?;

    let start = now();
    for pair in &mut other {
        let load = Load::File { size: MIB, chunk: MIB };
        timeout(LOAD_LIMIT, load.carry(pair)).await??;
    }
    let served_in = start.elapsed();

    for sender in &senders {
        sender.abort();
    }
    drop(silent);
    Ok(Stalled {
        over: rig.over(),
        sessions: scale.stalled,
        offered: scale.stalled_offer,
        accepted: held_at / scale.stalled as u64,
        resident_before: before.resident,
        resident_after: after.resident,
        peak: after.peak,
        served_in,
    })
}

/// Waits until the sockets take nothing more; gives what they took in all.
async fn standstill(
    senders: &[JoinHandle<Result<(), Failure>>],
    accepted: &AtomicU64,
    scale: &Scale,
) -> Result<u64, Failure> {
    let mut last = 0;
    loop {
        sleep(scale.stalled_after).await;
        let total = accepted.load(Ordering::Relaxed);
        if senders.iter().any(JoinHandle::is_finished) {
            return Err(Failure::Setup("a sender to a silent receiver was not held back".into()));
        }
        if total == scale.stalled_offer * scale.stalled as u64 {
            return Err(Failure::Setup("everything offered to silent receivers was taken".into()));
        }
        if total == last {
            return Ok(total);
        }
        last = total;
    }
}

/// All sessions open, then all start at once.
async fn crowd(rig: &Rig, scale: &Scale) -> Result<Crowd, Failure> {
    let relay = rig.process(Contestant::Relay);
    let pairs = rig.open(Contestant::Relay, scale.crowd).await?;
    let (cpu, start) = (relay.cpu()?, now());
    let mut sessions = JoinSet::new();
    for mut pair in pairs {
        let size = scale.crowd_octets;
        sessions.spawn(async move {
            let right = carry_hashed(&mut pair, size).await?;
            Ok::<_, Failure>((pair, right))
        });
    }
    let (mut pairs, mut right) = (Vec::new(), 0);
    let all = async {
        while let Some(session) = sessions.join_next().await {
            let (pair, is_right) = session??;
            pairs.push(pair);
            right += usize::from(is_right);
        }
        Ok::<_, Failure>(())
    };
    timeout(LOAD_LIMIT, all).await??;
    let wall = start.elapsed();
    let sample = Sample { cpu: relay.cpu()?.saturating_sub(cpu), wall };
    let memory = relay.memory()?;
    close(pairs).await;
    Ok(Crowd {
        over: rig.over(),
        sessions: scale.crowd,
        octets: scale.crowd_octets,
        right,
        sample,
        memory,
    })
}

/// One file; whether it arrived with the SHA-256 it left with.
async fn carry_hashed(pair: &mut Pair, size: u64) -> Result<bool, Failure> {
    let file = File { content: pair.content.clone(), size, chunk: 64 * KIB };
    let accepted = Arc::default();
    let (sender, receiver) = (&mut pair.sender, &mut pair.receiver);
    let ((), arrived) = tokio::try_join!(sender.file(&file, &accepted), receiver.sha256())?;
    Ok(arrived == file.sha256())
}
