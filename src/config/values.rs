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

/// Port of MSRP (RFC 4975 §15.4).
pub const DEFAULT_PORT: u16 = 2855;

/// Smallest limit on a session's bandwidth, in bytes per second: one line of the greatest length.
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
        if is_none(text) {
            return None;
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
        Self { host: host.to_owned(), port }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
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
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
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
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
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
    list(text, |item| realm(item).ok().filter(|item| !item.contains(char::is_whitespace)))
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
        peers.networks.push(network(item).ok_or_else(|| Refused::new(item))?);
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
    let kinds = [("database", BackendKind::Database), ("memory", BackendKind::Memory)];
    let mut backends = Vec::new();
    for backend in list(text, |item| choice(item, &kinds))? {
        if !backends.contains(&backend) {
            backends.push(backend);
        }
    }
    Ok(backends)
}

/// The algorithms in the order in which they are offered: MD5 last, whatever the order in the file.
pub(super) fn digest_algorithms(text: &str) -> Result<Vec<DigestAlgorithm>, Refused> {
    let kinds = [("MD5", DigestAlgorithm::Md5), ("SHA-256", DigestAlgorithm::Sha256)];
    let named = list(text, |item| choice(item, &kinds))?;
    let offered = [DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
    Ok(offered.into_iter().filter(|algorithm| named.contains(algorithm)).collect())
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
    printable.then(|| text.to_owned()).ok_or_else(|| Refused::new(text))
}

/// The name of a table or column, which is written into a query.
pub(super) fn identifier(text: &str) -> Result<String, Refused> {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (first && rest).then(|| text.to_owned()).ok_or_else(|| Refused::new(text))
}

/// The name of a table, perhaps with that of its schema before it.
pub(super) fn table(text: &str) -> Result<String, Refused> {
    for part in text.splitn(2, '.') {
        identifier(part).map_err(|_| Refused::new(text))?;
    }
    Ok(text.to_owned())
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
    (known && clean).then(|| SecretString::from(text)).ok_or_else(|| Refused::new(text))
}

/// A file: absolute, or in the first of the directories that has it, or else to be made in the
/// first.
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
    choices.find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| *value)
}

fn is_none(text: &str) -> bool {
    text.eq_ignore_ascii_case("none")
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Refused> {
    let items = items(text)?;
    items.into_iter().map(|item| parse(item).ok_or_else(|| Refused::new(item))).collect()
}

/// The items of a list, separated by commas or line breaks. A list of nothing but separators is
/// refused: as a list of what is denied it would deny nothing.
fn items(text: &str) -> Result<Vec<&str>, Refused> {
    let items = text.split([',', '\n']).map(str::trim);
    let items: Vec<&str> = items.filter(|item| !item.is_empty()).collect();
    if items.is_empty() {
        return Err(Refused::new(text));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn refused<T>(part: &str) -> Result<T, Refused> {
        Err(Refused::new(part))
    }

    #[test]
    fn booleans() {
        for text in ["1", "yes", "TRUE", "On"] {
            assert_eq!(boolean(text), Ok(true));
        }
        for text in ["0", "no", "False", "OFF"] {
            assert_eq!(boolean(text), Ok(false));
        }
        for text in ["2", "y", "enabled", "yes please"] {
            assert_eq!(boolean(text), refused(text));
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(number(0..=10)("+7"), Ok(7));
        for text in ["11", "-1", "7s", "1.5", "0x1", "99999999999999999999"] {
            assert_eq!(number(0..=10)(text), refused(text));
        }
        assert_eq!(seconds(1..=60)("15"), Ok(Duration::from_secs(15)));
        assert_eq!(seconds(1..=60)("0"), refused("0"));
        assert_eq!(time_limit("0"), Ok(None));
        assert_eq!(time_limit("9"), Ok(Some(Duration::from_secs(9))));
        assert_eq!(limit("0"), Ok(None));
        assert_eq!(limit("9"), Ok(NonZeroU32::new(9)));
        assert_eq!(limit("-9"), refused("-9"));
        assert_eq!(attempts("3"), Ok(NonZeroU32::new(3)));
        assert_eq!(attempts("0"), Ok(None));
        assert_eq!(attempts("-1"), Ok(None), "1.x: negative is never");
        assert_eq!(attempts("4294967296"), refused("4294967296"));
        assert_eq!(connection_limit("0"), Ok(ConnectionLimit::Unlimited));
        assert_eq!(bandwidth("0"), Ok(None));
        assert_eq!(bandwidth("16383"), refused("16383"));
        assert_eq!(bandwidth("16384"), Ok(NonZeroU64::new(16_384)));
        assert_eq!(pool_size("0"), refused("0"));
        assert_eq!(pool_size("1024"), Ok(NonZeroU32::new(1024).unwrap()));
    }

    #[test]
    fn listening_addresses() {
        let table = [
            ("192.0.2.1:28550", "192.0.2.1:28550"),
            ("192.0.2.1", "192.0.2.1:2855"),
            ("relay.example.com", "relay.example.com:2855"),
            (":5000", "0.0.0.0:5000"),
            ("any:5000", "0.0.0.0:5000"),
            ("Any", "0.0.0.0:2855"),
            ("default", "0.0.0.0:2855"),
            ("[::]:5000", "[::]:5000"),
            ("[2001:db8::1]", "[2001:db8::1]:2855"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("0.0.0.0, [::]:1 ,\na:2,", "0.0.0.0:2855 [::]:1 a:2"),
        ];
        for (text, expected) in table {
            let read = addresses(text).unwrap();
            let shown: Vec<String> = read.iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(" "), expected, "{text:?}");
        }
        let wrong = [
            "none",
            "none x",
            "a b",
            "a:",
            "a:x",
            "a:+1",
            "a:65536",
            "a:99999",
            "::1",
            "2001:db8::1",
            "[::1",
            "[::1]5",
            "[a]:1",
            "[192.0.2.1]:1",
            "a/b",
            "a..b",
            ",",
            "msrp://a",
        ];
        for text in wrong {
            assert_eq!(addresses(text), refused(text));
        }
        assert_eq!(addresses("a:1, b:x"), refused("b:x"));
        assert_eq!(service_addresses("a"), refused("a"), "there is no port to fall back on");
        assert_eq!(service_addresses("None"), Ok(Vec::new()));
        assert_eq!(service_address(":9"), Ok(Some(ListenAddress::new("0.0.0.0", 9))));
        assert_eq!(service_address("a:1,b:2"), refused("a:1,b:2"));
    }

    #[test]
    fn lists_of_peers() {
        let peers_of = |text: &str| {
            peers(text).map(|list| {
                let networks: Vec<String> = list.networks.iter().map(ToString::to_string).collect();
                (networks.join(" "), list.special)
            })
        };
        let table = [
            ("none", "", false),
            ("special", "", true),
            ("10.0.0.0/8, SPECIAL\n2001:db8::/32", "10.0.0.0/8 2001:db8::/32", true),
            ("10.1.2.3/8", "10.0.0.0/8", false),
            ("192.0.2.1,::1", "192.0.2.1/32 ::1/128", false),
            ("0.0.0.0/0", "0.0.0.0/0", false),
        ];
        for (text, networks, special) in table {
            assert_eq!(peers_of(text), Ok((networks.to_owned(), special)), "{text:?}");
        }
        // A malformed rule must never be passed over: it would protect nothing.
        for text in [
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/-1",
            "::/129",
            "a.example",
            "10.0.0.0-10.0.0.9",
            ",",
        ] {
            assert_eq!(peers(text), refused(text));
        }
        assert_eq!(peers("10.0.0.0/8, none"), refused("none"));
        assert_eq!(networks("special"), refused("special"));
        assert_eq!(networks("none"), Ok(Vec::new()));
    }

    #[test]
    fn choices() {
        use BackendKind::{Database, Memory};
        assert_eq!(backends("DataBase"), Ok(vec![Database]));
        assert_eq!(backends("memory, database, memory"), Ok(vec![Memory, Database]));
        assert_eq!(backends("memory, sipthor"), refused("sipthor"));
        assert_eq!(verify_next_hop("Enforce"), Ok(VerifyNextHop::Enforce));
        assert_eq!(verify_next_hop("yes"), refused("yes"));
        let both = vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
        assert_eq!(digest_algorithms("md5, sha-256"), Ok(both));
        assert_eq!(digest_algorithms("SHA-1"), refused("SHA-1"));
    }

    #[test]
    fn log_levels() {
        use LogLevel::{Critical, Debug, Error, Info, NotSet, Warning};
        let table = [
            ("critical", Critical),
            ("Error", Error),
            ("WARNING", Warning),
            ("info", Info),
            ("DEBUG", Debug),
            ("NotSet", NotSet),
            ("0", NotSet),
            ("5", Debug),
            ("10", Debug),
            ("20", Info),
            ("25", Warning),
            ("30", Warning),
            ("40", Error),
            ("50", Critical),
            ("60", Critical),
        ];
        for (text, level) in table {
            assert_eq!(log_level(text), Ok(level), "{text}");
        }
        for text in ["LOUD", "-1", "10.0"] {
            assert_eq!(log_level(text), refused(text));
        }
        assert!(Debug > Info && NotSet > Debug && Critical < Error);
    }

    #[test]
    fn names() {
        for (text, expected) in [
            ("Relay.Example.com", "Relay.Example.com"),
            ("localhost", "localhost"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(host(text), Ok(expected.to_owned()));
        }
        for text in ["a b", "a:1", "*.example.com", "https://a", "a\n"] {
            assert_eq!(host(text), refused(text));
        }
        assert_eq!(realm("My realm"), Ok("My realm".to_owned()));
        assert_eq!(realm("a\"b"), refused("a\"b"));
        assert_eq!(
            domains("a.example, B.example"),
            Ok(vec!["a.example".into(), "B.example".into()])
        );
        assert_eq!(domains("any"), Ok(Vec::new()));
        assert_eq!(domains("a.example b.example"), refused("a.example b.example"));
        assert_eq!(origins("https://a.example:8080"), Ok(vec!["https://a.example:8080".into()]));
        for text in ["a.example", "https://", "https://a/b", "://a"] {
            assert_eq!(origins(text), refused(text));
        }
        assert_eq!(identifier("_a1"), Ok("_a1".to_owned()));
        for text in ["1a", "a b", "a.b", "a`", "ä", ""] {
            assert_eq!(identifier(text), refused(text));
        }
        assert_eq!(table("sip.users"), Ok("sip.users".to_owned()));
        for text in ["", ".", "a.", ".a", "a.b.c", "a b", "a.b;", "a`.b"] {
            assert_eq!(table(text), refused(text));
        }
        assert_eq!(system_name("msrprelay"), Ok("msrprelay".to_owned()));
        assert_eq!(system_name("a b"), refused("a b"));
    }

    #[test]
    fn database_uris() {
        for text in [
            "mysql://u:p@ss/w@db/opensips?charset=utf8",
            "POSTGRES://db/x",
            "postgresql://db/x",
            "sqlite:/f",
            "sqlite:///f",
        ] {
            assert_eq!(database_uri(text).unwrap().expose_secret(), text);
        }
        for text in ["db/opensips", "mysql:", "mysql://", "mssql://db/x", "sqlite:", "é"] {
            assert!(database_uri(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_are_looked_for_in_both_directories() {
        let root = tempfile::tempdir().unwrap();
        let [own, system] = ["own", "system"].map(|name| root.path().join(name));
        for (directory, name) in [(&own, "both"), (&system, "both"), (&system, "system")] {
            std::fs::create_dir_all(directory).unwrap();
            std::fs::write(directory.join(name), "").unwrap();
        }
        let directories = [own.as_path(), system.as_path()];
        let table = [
            ("both", own.join("both")),
            ("system", system.join("system")),
            ("neither", own.join("neither")),
            ("/absolute", PathBuf::from("/absolute")),
            ("~/x", own.join("~/x")),
        ];
        for (text, expected) in table {
            assert_eq!(file(directories)(text), Ok(expected));
        }
        assert_eq!(file(directories)("a\nb"), refused("a\nb"));
        let both = vec![own.join("both"), system.join("system")];
        assert_eq!(files(directories)("both,\nsystem"), Ok(both));
    }

    fn any_host() -> impl Strategy<Value = String> {
        let name = "[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,3}";
        prop_oneof![name, any::<Ipv6Addr>().prop_map(|address| address.to_string())]
    }

    proptest! {
        /// What is printed is read back as the same.
        #[test]
        fn an_address_survives_printing(host in any_host(), port: u16) {
            prop_assume!(!["any", "default"].contains(&host.as_str()));
            let address = ListenAddress { host, port };
            prop_assert_eq!(addresses(&address.to_string()), Ok(vec![address]));
        }
    }
}
