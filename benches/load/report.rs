//! Findings, for people and for machines.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::{net::Over, process::Memory};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
const GIB: f64 = 1024.0 * MIB;

/// Memory that a session may take whose receiver does not read: queues in both directions, buffers
/// of TLS, and pages that the allocator keeps.
const STALLED_GROWTH: u64 = 1024 * 1024;
/// Memory that the relay may take once, for any number of sessions: the arenas of its threads.
const STALLED_ONCE: u64 = 4 * 1024 * 1024;

/// A line of chat beside a file must arrive within this time.
const LINE_LIMIT: Duration = Duration::from_secs(1);

/// Columns of a terminal.
const WIDTH: usize = 80;

/// The outcome of a scenario.
pub(crate) enum Finding {
    Contest(Contest),
    Duplex(Duplex),
    Idle(Idle),
    Stalled(Stalled),
    Crowd(Crowd),
}

/// Relay against copier: samples of the same index were taken next to each other.
pub(crate) struct Contest {
    pub(crate) name: &'static str,
    pub(crate) over: Over,
    pub(crate) unit: Unit,
    /// Octets or messages in one sample.
    pub(crate) amount: u64,
    pub(crate) relay: Vec<Sample>,
    pub(crate) copier: Vec<Sample>,
    pub(crate) relay_memory: Memory,
    pub(crate) copier_memory: Memory,
    /// The median ratio must not be above it.
    pub(crate) limit: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Octets,
    Messages,
}

/// Of the measured process.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

/// Octets of memory for each of `sessions` silent sessions (two connections each).
pub(crate) struct Idle {
    pub(crate) over: Over,
    pub(crate) sessions: usize,
    pub(crate) relay: u64,
    pub(crate) copier: u64,
}

/// `offered` and `accepted` are octets for each of `sessions`.
pub(crate) struct Stalled {
    pub(crate) over: Over,
    pub(crate) sessions: usize,
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    pub(crate) resident_before: u64,
    pub(crate) resident_after: u64,
    pub(crate) peak: u64,
    /// For 1 MiB through another session meanwhile.
    pub(crate) served_in: Duration,
}

pub(crate) struct Crowd {
    pub(crate) over: Over,
    pub(crate) sessions: usize,
    /// Through each session.
    pub(crate) octets: u64,
    /// Sessions whose SHA-256 is right.
    pub(crate) right: usize,
    pub(crate) sample: Sample,
    pub(crate) memory: Memory,
}

/// A file one way, lines the other way.
pub(crate) struct Duplex {
    pub(crate) over: Over,
    /// Of the file.
    pub(crate) octets: u64,
    /// Whether its SHA-256 is right.
    pub(crate) right: bool,
    /// How long each line was under way; all have arrived, or there is no finding.
    pub(crate) delays: Vec<Duration>,
    pub(crate) sample: Sample,
    pub(crate) memory: Memory,
    pub(crate) judged: bool,
}

impl Over {
    /// Limits are stated for TLS; over TCP the copier has next to nothing to do.
    pub(crate) const fn is_judged(self) -> bool {
        matches!(self, Self::Tls)
    }
}

impl Finding {
    /// Whether everything arrived and no limit is exceeded.
    pub(crate) fn is_good(&self) -> bool {
        match self {
            Self::Contest(contest) => contest.is_good(),
            Self::Duplex(duplex) => duplex.is_good(),
            Self::Idle(_) => true,
            Self::Stalled(stalled) => stalled.is_flat(),
            Self::Crowd(crowd) => crowd.right == crowd.sessions,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Contest(contest) => contest.to_json(),
            Self::Duplex(duplex) => duplex.to_json(),
            Self::Idle(idle) => json!({
                "scenario": "idle",
                "over": idle.over.name(),
                "sessions": idle.sessions,
                "octets_per_session": { "relay": idle.relay, "copier": idle.copier },
            }),
            Self::Stalled(stalled) => stalled.to_json(),
            Self::Crowd(crowd) => crowd.to_json(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::Contest(contest) => return contest.fmt(out),
            Self::Duplex(duplex) => duplex.to_string(),
            Self::Idle(idle) => idle.to_string(),
            Self::Stalled(stalled) => stalled.to_string(),
            Self::Crowd(crowd) => crowd.to_string(),
        };
        out.write_str(&wrapped(&sentence))
    }
}

/// Breaks a sentence into lines of at most [`WIDTH`] characters.
fn wrapped(sentence: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in sentence.split(' ') {
        let added = word.chars().count() + 1;
        if length > 0 && length + added > WIDTH {
            lines.push_str("\n ");
            length = 1;
        }
        if !lines.is_empty() {
            lines.push(' ');
        }
        lines.push_str(word);
        length += added;
    }
    lines
}

/// Least, middle and greatest of some figures.
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let [min, .., max] = figures[..] else {
            let only = figures.first().copied().unwrap_or(f64::NAN);
            return Self { min: only, median: only, max: only };
        };
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            f64::midpoint(figures[middle - 1], figures[middle])
        };
        Self { min, median, max }
    }

    fn to_json(&self) -> Value {
        json!({ "min": self.min, "median": self.median, "max": self.max })
    }
}

impl Contest {
    /// The heading of the table whose rows [`fmt::Display`] writes, two lines each.
    pub(crate) const HEADING: &str = "\
        CPU of              over    relay   copier            ratio   min   max  limit";

    fn ratio(&self) -> Spread {
        let pairs = self.relay.iter().zip(&self.copier);
        Spread::of(pairs.map(|(relay, copier)| relay.cpu.as_secs_f64() / copier.cpu.as_secs_f64()))
    }

    fn is_good(&self) -> bool {
        self.limit.is_none_or(|limit| self.ratio().median <= limit)
    }

    /// Seconds of CPU per GiB, or microseconds per message.
    fn cost(&self, samples: &[Sample]) -> Spread {
        let amount = float(self.amount);
        Spread::of(samples.iter().map(|sample| match self.unit {
            Unit::Octets => sample.cpu.as_secs_f64() / amount * GIB,
            Unit::Messages => sample.cpu.as_secs_f64() / amount * 1e6,
        }))
    }

    /// MiB or messages per second of wall time.
    fn pace(&self, samples: &[Sample]) -> Spread {
        let amount = match self.unit {
            Unit::Octets => float(self.amount) / MIB,
            Unit::Messages => float(self.amount),
        };
        Spread::of(samples.iter().map(|sample| amount / sample.wall.as_secs_f64()))
    }

    fn to_json(&self) -> Value {
        let side = |samples: &[Sample], memory: &Memory| {
            json!({
                "cpu_ns": samples.iter().map(|sample| nanoseconds(sample.cpu)).collect::<Vec<_>>(),
                "wall_ns": samples.iter().map(|sample| nanoseconds(sample.wall)).collect::<Vec<_>>(),
                "cost": self.cost(samples).to_json(),
                "pace": self.pace(samples).to_json(),
                "resident_octets": memory.resident,
                "peak_octets": memory.peak,
            })
        };
        json!({
            "scenario": self.name,
            "over": self.over.name(),
            "cost_unit": self.unit.of_cost(),
            "pace_unit": self.unit.of_pace(),
            "amount": self.amount,
            "relay": side(&self.relay, &self.relay_memory),
            "copier": side(&self.copier, &self.copier_memory),
            "ratio": self.ratio().to_json(),
            "limit": self.limit,
            "good": self.is_good(),
        })
    }
}

impl fmt::Display for Contest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { min, median, max } = self.ratio();
        let limit = match self.limit {
            Some(limit) if self.is_good() => format!("{limit:.2}"),
            Some(limit) => format!("{limit:.2}!"),
            None => "-".to_owned(),
        };
        writeln!(
            out,
            "{:<19} {:>4} {:>8.3} {:>8.3} {:<10} {median:>5.2} {min:>5.2} {max:>5.2}  {limit}",
            self.name,
            self.over.name(),
            self.cost(&self.relay).median,
            self.cost(&self.copier).median,
            self.unit.of_cost(),
        )?;
        write!(
            out,
            "  relay {:.0}, copier {:.0} {}; peak memory: relay {:.1}, copier {:.1} MiB",
            self.pace(&self.relay).median,
            self.pace(&self.copier).median,
            self.unit.of_pace(),
            float(self.relay_memory.peak) / MIB,
            float(self.copier_memory.peak) / MIB,
        )
    }
}

impl Unit {
    const fn of_cost(self) -> &'static str {
        match self {
            Self::Octets => "s/GiB",
            Self::Messages => "us/message",
        }
    }

    const fn of_pace(self) -> &'static str {
        match self {
            Self::Octets => "MiB/s",
            Self::Messages => "1/s",
        }
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "idle over {}: {} sessions of two connections, {:.1} KiB each in the relay, {:.1} KiB \
             in the copier",
            self.over.name(),
            self.sessions,
            float(self.relay) / KIB,
            float(self.copier) / KIB,
        )
    }
}

impl Stalled {
    fn growth(&self) -> u64 {
        self.resident_after.saturating_sub(self.resident_before)
    }

    fn growth_limit(&self) -> u64 {
        STALLED_ONCE + STALLED_GROWTH * self.sessions as u64
    }

    fn is_flat(&self) -> bool {
        self.growth() <= self.growth_limit()
    }

    fn to_json(&self) -> Value {
        json!({
            "scenario": "stalled",
            "over": self.over.name(),
            "sessions": self.sessions,
            "offered_octets_each": self.offered,
            "accepted_octets_each": self.accepted,
            "resident_octets_before": self.resident_before,
            "resident_octets_after": self.resident_after,
            "peak_octets": self.peak,
            "growth_limit_octets": self.growth_limit(),
            "other_session_served_ns": nanoseconds(self.served_in),
            "good": self.is_flat(),
        })
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let growth = float(self.growth()) / KIB;
        write!(
            out,
            "stalled over {}: {} receivers never read; senders held back at {:.1} MiB of {:.0} \
             each (socket buffers included); memory of the relay {:.1} -> {:.1} MiB, {:.0} KiB \
             each (limit {:.1} MiB in all{}); 1 MiB through another session took {:.0} ms",
            self.over.name(),
            self.sessions,
            float(self.accepted) / MIB,
            float(self.offered) / MIB,
            float(self.resident_before) / MIB,
            float(self.resident_after) / MIB,
            growth / float(self.sessions as u64),
            float(self.growth_limit()) / MIB,
            if self.is_flat() { "" } else { ": EXCEEDED" },
            self.served_in.as_secs_f64() * 1e3,
        )
    }
}

impl Crowd {
    fn to_json(&self) -> Value {
        json!({
            "scenario": "crowd",
            "over": self.over.name(),
            "sessions": self.sessions,
            "octets_each": self.octets,
            "sha256_right": self.right,
            "cpu_ns": nanoseconds(self.sample.cpu),
            "wall_ns": nanoseconds(self.sample.wall),
            "resident_octets": self.memory.resident,
            "peak_octets": self.memory.peak,
            "good": self.right == self.sessions,
        })
    }
}

impl fmt::Display for Crowd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = float(self.sessions as u64);
        let octets = float(self.octets) * sessions;
        write!(
            out,
            "crowd over {}: {} sessions at once, {:.2} MiB through each, SHA-256 right in {}; \
             {:.1} s, {:.0} MiB/s, CPU {:.3} s/GiB; peak memory {:.1} MiB, {:.0} KiB each",
            self.over.name(),
            self.sessions,
            float(self.octets) / MIB,
            self.right,
            self.sample.wall.as_secs_f64(),
            octets / MIB / self.sample.wall.as_secs_f64(),
            self.sample.cpu.as_secs_f64() / octets * GIB,
            float(self.memory.peak) / MIB,
            float(self.memory.peak) / KIB / sessions,
        )
    }
}

impl Duplex {
    /// In milliseconds.
    fn delay(&self) -> Spread {
        Spread::of(self.delays.iter().map(|delay| delay.as_secs_f64() * 1e3))
    }

    fn is_good(&self) -> bool {
        let slowest = self.delays.iter().max().copied().unwrap_or_default();
        self.right && !(self.judged && slowest > LINE_LIMIT)
    }

    fn to_json(&self) -> Value {
        json!({
            "scenario": "duplex",
            "over": self.over.name(),
            "octets": self.octets,
            "sha256_right": self.right,
            "lines": self.delays.len(),
            "line_ms": self.delay().to_json(),
            "cpu_ns": nanoseconds(self.sample.cpu),
            "wall_ns": nanoseconds(self.sample.wall),
            "resident_octets": self.memory.resident,
            "peak_octets": self.memory.peak,
            "good": self.is_good(),
        })
    }
}

impl fmt::Display for Duplex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { median, max, .. } = self.delay();
        write!(
            out,
            "duplex over {}: {:.1} MiB one way in {:.1} s, SHA-256 {}; meanwhile {} lines the \
             other way, all arrived, in {median:.2} ms (median), {max:.1} ms (worst{}); peak \
             memory {:.1} MiB",
            self.over.name(),
            float(self.octets) / MIB,
            self.sample.wall.as_secs_f64(),
            if self.right { "right" } else { "WRONG" },
            self.delays.len(),
            if self.is_good() || !self.right { "" } else { ": TOO LONG" },
            float(self.memory.peak) / MIB,
        )
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "figures are printed to three digits")]
const fn float(figure: u64) -> f64 {
    figure as f64
}
