//! The types of values, and how each is read from text.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    num::{NonZeroU32, NonZeroU64},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use secrecy::SecretString;

/// Port of MSRP relays (RFC 4976 §12.2, also what RFC 4975 §15.4 registers).
pub const DEFAULT_PORT: u16 = 2855;

/// Smallest limit on a session's bandwidth, in bytes per second: less could not pass one line in time.
pub(super) const MIN_BANDWIDTH: u64 = 16_384;

const ANY_HOST: &str = "0.0.0.0";

/// A value that is not accepted, or the item of a list that is not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) String);

impl Refused {
    fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// An address to listen on; the host is a name or an address, IPv6 without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// Host name or address; `0.0.0.0` and `::` stand for all.
    pub host: String,
    /// Port; 0 stands for any that is free.
    pub port: u16,
}

impl ListenAddress {
    fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        if text.eq_ignore_ascii_case("default") {
            return default_port.map(|port| Self::new(ANY_HOST, port));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                let port = match rest {
                    "" => None,
                    _ => Some(rest.strip_prefix(':')?),
                };
                (host, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (named(host)?, Some(port)),
                None => (named(text).filter(|_| !text.is_empty())?, None),
            },
        };
        let port = match port {
            Some(port) => port_number(port)?,
            None => default_port?,
        };
        Some(Self::new(host, port))
    }

    fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// The host of an address to listen on, `any` and nothing standing for all.
fn named(host: &str) -> Option<&str> {
    if host.is_empty() || host.eq_ignore_ascii_case("any") {
        return Some(ANY_HOST);
    }
    is_host_name(host).then_some(host)
}

/// Digits only: `u16::from_str` would let a sign pass.
fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// Where the relay may, or may not, dial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerList {
    /// Networks, in the order of the file, without host bits.
    pub networks: Vec<IpNet>,
    /// Whether every special-purpose range that is not globally reachable belongs to the list.
    pub special: bool,
}

/// Where users and their passwords are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// The users of `[Memory]`.
    Memory,
    /// The database of `[Database]`.
    Database,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Database => "database",
        })
    }
}

/// Least severity that is logged, by the names of 1.x. Ordered: a later one logs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Only what ends the relay.
    Critical,
    /// What an operator must fix.
    Error,
    /// Refused peers, bad configuration.
    Warning,
    /// Start, reload, sessions.
    Info,
    /// A line for each request.
    Debug,
    /// Everything.
    NotSet,
}

/// What becomes of a next hop that is a relay and whose certificate does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerifyNextHop {
    /// Nothing is checked.
    Off,
    /// It is logged.
    Log,
    /// It is refused.
    Enforce,
}

/// Hash of a digest challenge (RFC 7616 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// MD5, which all clients know.
    Md5,
}

/// How many connections there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionLimit {
    /// Not set: 80 % of the limit on open descriptors.
    Descriptors,
    /// Set to 0: any number.
    Unlimited,
    /// That many.
    AtMost(NonZeroU32),
}

pub(super) fn boolean(text: &str) -> Result<bool, Refused> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(Refused::new(text)),
    }
}

pub(super) fn number<T: FromStr + PartialOrd>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, Refused> {
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Refused::new(text)),
    }
}

pub(super) fn seconds(range: RangeInclusive<u32>) -> impl Fn(&str) -> Result<Duration, Refused> {
    let number = number(range);
    move |text| number(text).map(|seconds| Duration::from_secs(seconds.into()))
}

/// Seconds, 0 for no limit.
pub(super) fn time_limit(text: &str) -> Result<Option<Duration>, Refused> {
    let time = seconds(0..=u32::MAX)(text)?;
    Ok(Some(time).filter(|time| !time.is_zero()))
}

/// A count, 0 for no limit.
pub(super) fn limit(text: &str) -> Result<Option<NonZeroU32>, Refused> {
    number(0..=u32::MAX)(text).map(NonZeroU32::new)
}

/// A count, 0 or less for no limit: 1.x took negative numbers so.
pub(super) fn attempts(text: &str) -> Result<Option<NonZeroU32>, Refused> {
    let attempts = number(i64::MIN..=u32::MAX.into())(text)?;
    Ok(u32::try_from(attempts).ok().and_then(NonZeroU32::new))
}

pub(super) fn connection_limit(text: &str) -> Result<ConnectionLimit, Refused> {
    let limit = limit(text)?;
    Ok(limit.map_or(ConnectionLimit::Unlimited, ConnectionLimit::AtMost))
}

pub(super) fn bandwidth(text: &str) -> Result<Option<NonZeroU64>, Refused> {
    match number(0..=u64::MAX)(text)? {
        1..MIN_BANDWIDTH => Err(Refused::new(text)),
        bytes => Ok(NonZeroU64::new(bytes)),
    }
}

/// Addresses of the relay itself.
pub(super) fn addresses(text: &str) -> Result<Vec<ListenAddress>, Refused> {
    list(text, |item| ListenAddress::parse(item, Some(DEFAULT_PORT)))
}

/// Addresses of a service without a port of its own.
pub(super) fn service_addresses(text: &str) -> Result<Vec<ListenAddress>, Refused> {
    if is_none(text) {
        return Ok(Vec::new());
    }
    list(text, |item| ListenAddress::parse(item, None))
}

pub(super) fn service_address(text: &str) -> Result<Option<ListenAddress>, Refused> {
    if is_none(text) {
        return Ok(None);
    }
    let address = ListenAddress::parse(text, None);
    address.map(Some).ok_or_else(|| Refused::new(text))
}

pub(super) fn host(text: &str) -> Result<String, Refused> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<Ipv6Addr>();
    match address {
        Ok(_) => Ok(bare.unwrap_or(text).to_owned()),
        Err(_) if is_host_name(text) => Ok(text.to_owned()),
        Err(_) => Err(Refused::new(text)),
    }
}

/// A realm is written into a quoted string (RFC 7616 §3.3).
pub(super) fn realm(text: &str) -> Result<String, Refused> {
    let quotable = |c: char| !c.is_control() && !matches!(c, '"' | '\\');
    let realm = text.chars().all(quotable).then(|| text.to_owned());
    realm.ok_or_else(|| Refused::new(text))
}

/// Realms; `any` alone is none in particular.
pub(super) fn domains(text: &str) -> Result<Vec<String>, Refused> {
    if text.eq_ignore_ascii_case("any") {
        return Ok(Vec::new());
    }
    list(text, |item| {
        realm(item)
            .ok()
            .filter(|item| !item.contains(char::is_whitespace))
    })
}

/// `scheme://host[:port]`, as browsers write it (RFC 6454 §6.2).
pub(super) fn origins(text: &str) -> Result<Vec<String>, Refused> {
    list(text, |item| {
        let (scheme, authority) = item.split_once("://")?;
        let scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let authority = !authority.is_empty()
            && !authority.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#'));
        (scheme && authority).then(|| item.to_owned())
    })
}

pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, Refused> {
    if is_none(text) {
        return Ok(Vec::new());
    }
    list(text, network)
}

pub(super) fn peers(text: &str) -> Result<PeerList, Refused> {
    let mut peers = PeerList::default();
    if is_none(text) {
        return Ok(peers);
    }
    for item in items(text)? {
        if item.eq_ignore_ascii_case("special") {
            peers.special = true;
            continue;
        }
        peers
            .networks
            .push(network(item).ok_or_else(|| Refused::new(item))?);
    }
    Ok(peers)
}

/// A network, or an address, which is a network of one.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.map(|network| network.trunc())
}

pub(super) fn backends(text: &str) -> Result<Vec<BackendKind>, Refused> {
    let kinds = [
        ("database", BackendKind::Database),
        ("memory", BackendKind::Memory),
    ];
    let mut backends = Vec::new();
    for backend in list(text, |item| choice(item, &kinds))? {
        if !backends.contains(&backend) {
            backends.push(backend);
        }
    }
    Ok(backends)
}

/// The algorithms in the order in which they are offered: MD5 last, because a client that knows only one takes the last.
pub(super) fn digest_algorithms(text: &str) -> Result<Vec<DigestAlgorithm>, Refused> {
    let kinds = [
        ("MD5", DigestAlgorithm::Md5),
        ("SHA-256", DigestAlgorithm::Sha256),
    ];
    let named = list(text, |item| choice(item, &kinds))?;
    let offered = [DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
    Ok(offered
        .into_iter()
        .filter(|algorithm| named.contains(algorithm))
        .collect())
}

pub(super) fn verify_next_hop(text: &str) -> Result<VerifyNextHop, Refused> {
    let kinds = [
        ("off", VerifyNextHop::Off),
        ("log", VerifyNextHop::Log),
        ("enforce", VerifyNextHop::Enforce),
    ];
    choice(text, &kinds).ok_or_else(|| Refused::new(text))
}

/// A name, or a number on the scale of 1.x: the least severity that it lets pass.
pub(super) fn log_level(text: &str) -> Result<LogLevel, Refused> {
    let kinds = [
        ("CRITICAL", LogLevel::Critical),
        ("ERROR", LogLevel::Error),
        ("WARNING", LogLevel::Warning),
        ("INFO", LogLevel::Info),
        ("DEBUG", LogLevel::Debug),
        ("NOTSET", LogLevel::NotSet),
    ];
    if let Some(level) = choice(text, &kinds) {
        return Ok(level);
    }
    Ok(match number(0..=u64::MAX)(text)? {
        0 => LogLevel::NotSet,
        1..=10 => LogLevel::Debug,
        11..=20 => LogLevel::Info,
        21..=30 => LogLevel::Warning,
        31..=40 => LogLevel::Error,
        _ => LogLevel::Critical,
    })
}

/// The name of a user, group or other thing of the system.
pub(super) fn system_name(text: &str) -> Result<String, Refused> {
    let printable = !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':');
    printable
        .then(|| text.to_owned())
        .ok_or_else(|| Refused::new(text))
}

/// The name of a table or column, which is written into a query.
pub(super) fn identifier(text: &str) -> Result<String, Refused> {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (first && rest)
        .then(|| text.to_owned())
        .ok_or_else(|| Refused::new(text))
}

/// Connections of a pool: one at least, and no more than a database would stand.
pub(super) fn pool_size(text: &str) -> Result<NonZeroU32, Refused> {
    let size = number(1..=1024)(text)?;
    NonZeroU32::new(size).ok_or_else(|| Refused::new(text))
}

/// A database URI in one of SQLObject's forms; taken apart by the backend.
pub(super) fn database_uri(text: &str) -> Result<SecretString, Refused> {
    let schemes = ["mysql://", "postgres://", "postgresql://", "sqlite:"];
    let known = schemes.iter().any(|scheme| {
        let start = text.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme)) && text.len() > scheme.len()
    });
    let clean = !text.contains(char::is_control);
    (known && clean)
        .then(|| SecretString::from(text))
        .ok_or_else(|| Refused::new(text))
}

/// A file: absolute, or in the first of the directories that has it, or else to be made in the first.
pub(super) fn file(directories: [&Path; 2]) -> impl Fn(&str) -> Result<PathBuf, Refused> {
    move |text| {
        if text.contains(char::is_control) {
            return Err(Refused::new(text));
        }
        Ok(resolved(text, directories))
    }
}

pub(super) fn files(directories: [&Path; 2]) -> impl Fn(&str) -> Result<Vec<PathBuf>, Refused> {
    move |text| {
        list(text, |item| {
            let readable = !item.contains(char::is_control);
            readable.then(|| resolved(item, directories))
        })
    }
}

fn resolved(file: &str, directories: [&Path; 2]) -> PathBuf {
    let [first, second] = directories.map(|directory| directory.join(file));
    if !first.exists() && second.exists() {
        return second;
    }
    first
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Option<T> {
    let mut choices = choices.iter();
    choices
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, value)| *value)
}

fn is_none(text: &str) -> bool {
    text.eq_ignore_ascii_case("none")
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Refused> {
    let items = items(text)?;
    items
        .into_iter()
        .map(|item| parse(item).ok_or_else(|| Refused::new(item)))
        .collect()
}

/// The items of a list, separated by commas or line breaks. A list of nothing but separators is refused: as a list of
/// what is denied it would deny nothing.
fn items(text: &str) -> Result<Vec<&str>, Refused> {
    let items = text.split([',', '\n']).map(str::trim);
    let items: Vec<&str> = items.filter(|item| !item.is_empty()).collect();
    if items.is_empty() {
        return Err(Refused::new(text));
    }
    Ok(items)
}
