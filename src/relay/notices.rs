//! What goes wrong with strangers, told to the operator at level info.
//!
//! Anybody can connect and fail, as often as they like. So a failure of one kind from one address is
//! logged at once if there was none in the minute before. Those that follow are counted, and when
//! the minute is over one line says how many there were, with the last of them. At level debug each
//! one is logged when it happens.
//!
//! All minutes are equally long, so the one that began first ends first: a queue is enough, and one
//! task tells what is left when a minute ends. Crates that limit rates forget what they hold back.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tracing::{debug, info};

use super::{
    backoff::RATE,
    end::Quoted,
    quota::{Excess, Limit},
};
use crate::{clock, fair::Origin, msrp::Uri, session::Reject, transport::HandshakeError};

/// How long failures of one kind from one address are counted before they are told again.
const PERIOD: Duration = Duration::from_mins(1);
/// Addresses that are counted apart, each as often as it has failed in different ways. Beyond that
/// all others are counted together, so that a flood from many addresses fills neither the memory,
/// which is less than 2 MiB, nor the log.
const MAX_APART: usize = 1024;
/// Most characters of a name that a stranger chose.
const MAX_NAME: usize = 64;

/// The notices of a relay.
#[derive(Debug, Default)]
pub(super) struct Notices {
    ledger: Mutex<Ledger>,
    /// Notified when there is something to count and there was nothing before.
    begun: Notify,
}

/// What went wrong. Each kind is counted on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// The TLS handshake failed.
    Handshake,
    /// The peer does not speak TLS at all.
    NotTls,
    /// A SEND to a session that does not exist.
    Session,
    /// An AUTH was refused.
    Login,
    /// A refusal had to wait.
    Slowed,
    /// There are as many connections or sessions as this limit allows.
    Full(Limit),
}

impl Notices {
    pub(super) fn handshake_failed(&self, peer: SocketAddr, error: &HandshakeError) {
        let kind = match error {
            HandshakeError::NotTls => Kind::NotTls,
            _ => Kind::Handshake,
        };
        self.tell(kind, peer, &format!("TLS handshake failed from {peer}: {error}"));
    }

    /// The TLS handshake was not complete in time.
    pub(super) fn handshake_too_slow(&self, peer: SocketAddr, limit: Duration) {
        let limit = limit.as_secs();
        let text = format!("TLS handshake failed from {peer}: not complete within {limit} s");
        self.tell(Kind::Handshake, peer, &text);
    }

    /// A SEND of a connection without a session named no session that it could join.
    pub(super) fn not_joined(&self, peer: SocketAddr, uri: &Uri, reject: &Reject) {
        let uri = uri.to_string();
        let (status, comment) = reject.status();
        let text = format!("SEND refused from {peer} to {}: {status} {comment}", Cut(&uri));
        self.tell(Kind::Session, peer, &text);
    }

    pub(super) fn login_refused(
        &self,
        peer: SocketAddr,
        (user, realm): (&str, &str),
        reason: &dyn fmt::Display,
    ) {
        let (user, realm) = (Name(user), Name(realm));
        let text = format!("AUTH refused from {peer} for {user}@{realm}: {reason}");
        self.tell(Kind::Login, peer, &text);
    }

    /// There were so many refusals that the next one has to wait.
    pub(super) fn slowed(&self, peer: SocketAddr) {
        let text = format!(
            "answers to refused requests from {} are slowed to {RATE} a second; next {peer}",
            Origin::from(peer.ip())
        );
        self.tell(Kind::Slowed, peer, &text);
    }

    /// A connection was closed when it was accepted, because there are too many.
    pub(super) fn connection_refused(&self, peer: SocketAddr, excess: Excess) {
        let text = format!("connection refused from {peer}: {excess}");
        self.tell(Kind::Full(excess.limit), peer, &text);
    }

    /// A user who has proven a password has too many sessions.
    pub(super) fn session_refused(
        &self,
        peer: SocketAddr,
        (user, realm): (&str, &str),
        excess: Excess,
    ) {
        let (user, realm) = (Name(user), Name(realm));
        let text = format!("AUTH refused from {peer} for {user}@{realm}: {excess}");
        self.tell(Kind::Full(excess.limit), peer, &text);
    }

    /// The next hop of a client's session was not dialled, because there are too many connections.
    pub(super) fn dial_refused(&self, client: SocketAddr, excess: Excess) {
        let text = format!("next hop not dialled for {client}: {excess}");
        self.tell(Kind::Full(excess.limit), client, &text);
    }

    /// Tells how many notices were counted whenever a minute is over. Never returns.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            let end = self.lock().next_end();
            match end {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => self.begun.notified().await,
            }
            let lines = self.lock().due(clock::now());
            log(lines);
        }
    }

    /// Tells how many notices were counted so far, before the relay ends.
    pub(super) fn finish(&self) {
        let lines = self.lock().finish();
        log(lines);
    }

    fn tell(&self, kind: Kind, peer: SocketAddr, text: &str) {
        let now = clock::now();
        let mut ledger = self.lock();
        let was_idle = ledger.next_end().is_none();
        let lines = ledger.due(now);
        let told = ledger.enter(kind, peer.ip(), text, now);
        drop(ledger);
        if was_idle {
            self.begun.notify_one();
        }
        log(lines);
        if let Some(line) = told {
            log([line]);
        } else {
            debug!(parent: None, "{text}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // A poisoned lock can be used: at worst a number is wrong.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the span of the connection, because most lines are about several.
fn log(lines: impl IntoIterator<Item = String>) {
    for line in lines {
        info!(parent: None, "{line}");
    }
}

/// Whose failures are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    One(Origin),
    /// All addresses that come while [`MAX_APART`] are counted.
    Others,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(origin) => origin.fmt(f),
            Self::Others => f.write_str("other addresses"),
        }
    }
}

/// What was told within the last minute, and what was only counted.
#[derive(Debug, Default)]
struct Ledger {
    counts: HashMap<(Kind, Group), Count>,
    /// When the minute of each count ends; the first end is in front.
    ends: VecDeque<(Instant, (Kind, Group))>,
}

/// What was not told since the last line.
#[derive(Debug, Default)]
struct Count {
    more: u64,
    last: String,
}

impl Ledger {
    /// Enters a notice. Returns the line to be logged now; `None` if it is only counted.
    fn enter(&mut self, kind: Kind, from: IpAddr, text: &str, now: Instant) -> Option<String> {
        let mut key = (kind, Group::One(from.into()));
        if !self.counts.contains_key(&key) && self.counts.len() >= MAX_APART {
            key.1 = Group::Others;
        }
        if let Some(count) = self.counts.get_mut(&key) {
            count.more += 1;
            text.clone_into(&mut count.last);
            return None;
        }
        self.counts.insert(key, Count::default());
        self.ends.push_back((now + PERIOD, key));
        Some(match key.1 {
            Group::Others => format!(
                "{text} (more than {MAX_APART} addresses fail now: the others are counted together)"
            ),
            Group::One(_) => text.to_owned(),
        })
    }

    /// The lines about all minutes that are over. Where something was counted the next minute begins,
    /// because a line is told; all other counts are forgotten.
    fn due(&mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((_, key)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            match self.counts.get_mut(&key).and_then(|count| count.rest(key.1)) {
                Some(line) => {
                    lines.push(line);
                    self.ends.push_back((now + PERIOD, key));
                }
                None => drop(self.counts.remove(&key)),
            }
        }
        lines
    }

    /// The lines about everything that was counted.
    fn finish(&mut self) -> Vec<String> {
        let keys = std::mem::take(&mut self.ends);
        let mut counts = std::mem::take(&mut self.counts);
        let line = |(_, key): (Instant, (Kind, Group))| counts.get_mut(&key)?.rest(key.1);
        keys.into_iter().filter_map(line).collect()
    }

    /// When [`due`](Self::due) has something to do.
    fn next_end(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }
}

impl Count {
    /// The line about what was counted, which is told then.
    fn rest(&mut self, from: Group) -> Option<String> {
        let Self { more, last } = std::mem::take(self);
        (more > 0)
            .then(|| format!("{more} more in the last minute from {from}, the last one: {last}"))
    }
}

/// A name that a stranger chose, quoted and cut.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, end) = cut(self.0);
        write!(f, "{}{end}", Quoted(shown))
    }
}

/// Text without blanks and control characters that a stranger chose, cut.
struct Cut<'a>(&'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, end) = cut(self.0);
        write!(f, "{shown}{end}")
    }
}

/// What is shown of a text, and what marks that it goes on.
fn cut(text: &str) -> (&str, &'static str) {
    match text.char_indices().nth(MAX_NAME) {
        Some((end, _)) => (&text[..end], "..."),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A ledger, with a clock that only the test moves.
    struct Log {
        ledger: Ledger,
        now: Instant,
    }

    impl Log {
        fn new() -> Self {
            Self { ledger: Ledger::default(), now: clock::now() }
        }

        fn passes(&mut self, seconds: u64) -> Vec<String> {
            self.now += Duration::from_secs(seconds);
            self.ledger.due(self.now)
        }

        fn enters(&mut self, kind: Kind, from: &str, text: &str) -> Option<String> {
            self.ledger.enter(kind, from.parse().unwrap(), text, self.now)
        }
    }

    fn none() -> Vec<String> {
        Vec::new()
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_when_the_minute_is_over() {
        let mut log = Log::new();
        assert_eq!(log.ledger.next_end(), None);
        let first = log.enters(Kind::Login, "192.0.2.1", "first");
        assert_eq!(first.as_deref(), Some("first"));
        assert_eq!(log.passes(20), none());
        for n in 0..41 {
            assert_eq!(log.enters(Kind::Login, "192.0.2.1", &format!("number {n}")), None);
        }
        assert_eq!(log.passes(39), none());
        assert_eq!(log.ledger.next_end(), Some(log.now + Duration::from_secs(1)));
        assert_eq!(
            log.passes(1),
            ["41 more in the last minute from 192.0.2.1, the last one: number 40"]
        );
        // That line began another minute, so that there is one line a minute.
        assert_eq!(log.enters(Kind::Login, "192.0.2.1", "later"), None);
        assert_eq!(log.passes(59), none());
        assert_eq!(
            log.passes(1),
            ["1 more in the last minute from 192.0.2.1, the last one: later"]
        );
        // Nothing is left to tell, and nothing is remembered.
        assert_eq!(log.passes(60), none());
        assert!(log.ledger.counts.is_empty());
        assert_eq!(log.ledger.next_end(), None);
        assert_eq!(log.enters(Kind::Login, "192.0.2.1", "anew").as_deref(), Some("anew"));
    }

    #[test]
    fn each_kind_and_each_address_is_counted_apart() {
        let mut log = Log::new();
        let kinds = [
            Kind::Handshake,
            Kind::NotTls,
            Kind::Session,
            Kind::Login,
            Kind::Full(Limit::PerAddress),
            Kind::Full(Limit::PerUser),
        ];
        for kind in kinds {
            for from in ["192.0.2.1", "192.0.2.2", "2001:db8:1:2::1", "2001:db8:1:3::1"] {
                assert!(log.enters(kind, from, "told").is_some(), "{kind:?} {from}");
                assert!(log.enters(kind, from, "counted").is_none(), "{kind:?} {from}");
            }
            // The same, written otherwise.
            for from in ["::ffff:192.0.2.1", "2001:db8:1:2:ffff::", "2001:db8:1:3:1:2:3:4"] {
                assert!(log.enters(kind, from, "counted").is_none(), "{kind:?} {from}");
            }
        }
        let lines = log.passes(60);
        assert_eq!(lines.len(), kinds.len() * 4);
        assert_eq!(lines[0], "2 more in the last minute from 192.0.2.1, the last one: counted");
        let network = "2 more in the last minute from 2001:db8:1:2::/64, the last one: counted";
        assert_eq!(lines[2], network);
    }

    #[test]
    fn a_flood_from_many_addresses_is_bounded_and_loses_no_count() {
        let mut log = Log::new();
        let (mut told, mut counted) = (0_u64, 0_u64);
        let number = |line: &String| line.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        for minute in 0..3_u32 {
            let mut lines = 0;
            for n in 0..20_000_u32 {
                let address = Ipv4Addr::from(minute * 20_000 + n).to_string();
                lines += usize::from(log.enters(Kind::NotTls, &address, "x").is_some());
                assert!(log.ledger.counts.len() <= MAX_APART + 1);
                assert_eq!(log.ledger.counts.len(), log.ledger.ends.len());
            }
            told += lines as u64;
            let rests = log.passes(60);
            assert!(lines + rests.len() <= MAX_APART + 2, "{lines} {rests:?}");
            counted += rests.iter().filter_map(number).sum::<u64>();
        }
        assert_eq!(told + counted, 60_000);
        // Other kinds are told even then.
        let (mut log, mut last) = (Log::new(), None);
        for n in 0..5000_u32 {
            last = log.enters(Kind::NotTls, &Ipv4Addr::from(n).to_string(), "x").or(last);
        }
        let note = "x (more than 1024 addresses fail now: the others are counted together)";
        assert_eq!(last.as_deref(), Some(note));
        let other = log.enters(Kind::Login, "192.0.2.1", "y").unwrap();
        assert!(other.starts_with("y (more than 1024 addresses"), "{other}");
        assert_eq!(
            log.passes(60),
            ["3975 more in the last minute from other addresses, the last one: x"]
        );
        assert_eq!(log.passes(60), none());
        assert!(log.ledger.counts.is_empty());
    }

    #[test]
    fn the_end_of_the_relay_tells_what_was_counted() {
        let mut log = Log::new();
        for from in ["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2"] {
            log.enters(Kind::Session, from, "x");
        }
        let expected = ["2 more in the last minute from 192.0.2.2, the last one: x"];
        assert_eq!(log.ledger.finish(), expected);
        assert_eq!(log.ledger.finish(), none());
        assert_eq!(log.ledger.next_end(), None);
    }

    #[test]
    fn names_are_quoted_and_cut() {
        let long = "n".repeat(MAX_NAME);
        assert_eq!(Name(&long).to_string(), long);
        assert_eq!(Name(&format!("{long}n")).to_string(), format!("{long}..."));
        assert_eq!(Name("").to_string(), "\"\"");
        let odd = format!("a b\u{1b}{}", "ü".repeat(1000));
        let shown = Name(&odd).to_string();
        assert!(shown.starts_with("\"a b\\u{1b}\\u{fc}\\u{fc}"), "{shown}");
        assert!(shown.ends_with("\\u{fc}\"...") && shown.len() < 400, "{shown}");
        assert_eq!(Cut(&"h".repeat(1000)).to_string().len(), MAX_NAME + 3);
    }
}
