//! Parsers for the text of values, used by several rooms. A parser that one room alone needs is
//! beside its options.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;

/// A value, or an item of a list, that is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl Refused {
    /// The whole value.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Networks that the relay may dial, or may not dial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerList {
    /// Networks, in the order of the file, without host bits.
    pub networks: Vec<IpNet>,
    /// Whether all special-purpose ranges that are not globally reachable belong to the list.
    pub special: bool,
}

/// Yes or no, in one of eight spellings.
pub fn boolean(text: &str) -> Result<bool, Refused> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(Refused::new(text)),
    }
}

/// A whole number in the range.
pub fn number<T: FromStr + PartialOrd>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, Refused> {
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Refused::new(text)),
    }
}

/// Whole seconds in the range.
pub fn seconds(range: RangeInclusive<u32>) -> impl Fn(&str) -> Result<Duration, Refused> {
    let number = number(range);
    move |text| number(text).map(|seconds| Duration::from_secs(seconds.into()))
}

/// Seconds. 0 is no limit.
pub fn time_limit(text: &str) -> Result<Option<Duration>, Refused> {
    let time = seconds(0..=u32::MAX)(text)?;
    Ok(Some(time).filter(|time| !time.is_zero()))
}

/// A count. 0 is no limit.
pub fn limit(text: &str) -> Result<Option<NonZeroU32>, Refused> {
    number(0..=u32::MAX)(text).map(NonZeroU32::new)
}

/// A count. 0 is no limit, and so are negative numbers, as in msrprelay 1.x.
pub fn attempts(text: &str) -> Result<Option<NonZeroU32>, Refused> {
    let attempts = number(i64::MIN..=u32::MAX.into())(text)?;
    Ok(u32::try_from(attempts).ok().and_then(NonZeroU32::new))
}

/// A host name or an IP address. The brackets of IPv6 are removed.
pub fn host(text: &str) -> Result<String, Refused> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<Ipv6Addr>();
    match address {
        Ok(_) => Ok(bare.unwrap_or(text).to_owned()),
        Err(_) if is_host_name(text) => Ok(text.to_owned()),
        Err(_) => Err(Refused::new(text)),
    }
}

pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// A realm. It must fit into a quoted string (RFC 7616 §3.3).
pub fn realm(text: &str) -> Result<String, Refused> {
    let quotable = |c: char| !c.is_control() && !matches!(c, '"' | '\\');
    let realm = text.chars().all(quotable).then(|| text.to_owned());
    realm.ok_or_else(|| Refused::new(text))
}

/// Realms. `any` alone is an empty list.
pub fn domains(text: &str) -> Result<Vec<String>, Refused> {
    if text.eq_ignore_ascii_case("any") {
        return Ok(Vec::new());
    }
    list(text, |item| realm(item).ok().filter(|item| !item.contains(char::is_whitespace)))
}

/// `scheme://host[:port]`, as browsers write it (RFC 6454 §6.2).
pub fn origins(text: &str) -> Result<Vec<String>, Refused> {
    list(text, |item| {
        let (scheme, authority) = item.split_once("://")?;
        let scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let authority = !authority.is_empty()
            && !authority.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#'));
        (scheme && authority).then(|| item.to_owned())
    })
}

/// Networks. `none` is an empty list.
pub fn networks(text: &str) -> Result<Vec<IpNet>, Refused> {
    if is_none(text) {
        return Ok(Vec::new());
    }
    list(text, network)
}

/// Networks and the word `special`. `none` alone is an empty list.
pub fn peers(text: &str) -> Result<PeerList, Refused> {
    let mut peers = PeerList::default();
    if is_none(text) {
        return Ok(peers);
    }
    for item in some_items(text)? {
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

/// The name of a user or group of the system.
pub fn system_name(text: &str) -> Result<String, Refused> {
    let printable = !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':');
    printable.then(|| text.to_owned()).ok_or_else(|| Refused::new(text))
}

/// Parses the text of a value. Relative file names are looked up in `directories`.
pub trait Parse<T> {
    /// The value, or the part of the text that is refused.
    fn parse(&self, text: &str, directories: [&Path; 2]) -> Result<T, Refused>;
}

impl<T, F: Fn(&str) -> Result<T, Refused>> Parse<T> for F {
    fn parse(&self, text: &str, _directories: [&Path; 2]) -> Result<T, Refused> {
        self(text)
    }
}

/// The name of a file. A relative name is looked up in the directories. If none has the file, the
/// name is taken in the first one.
#[derive(Debug, Clone, Copy)]
pub struct File;

impl Parse<PathBuf> for File {
    fn parse(&self, text: &str, directories: [&Path; 2]) -> Result<PathBuf, Refused> {
        if text.contains(char::is_control) {
            return Err(Refused::new(text));
        }
        Ok(resolved(text, directories))
    }
}

/// The names of several files.
#[derive(Debug, Clone, Copy)]
pub struct Files;

impl Parse<Vec<PathBuf>> for Files {
    fn parse(&self, text: &str, directories: [&Path; 2]) -> Result<Vec<PathBuf>, Refused> {
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

/// The value whose name the text is, in any letter case.
pub fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Option<T> {
    let mut choices = choices.iter();
    choices.find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| *value)
}

/// The word that stands for an empty list.
pub fn is_none(text: &str) -> bool {
    text.eq_ignore_ascii_case("none")
}

/// A list of parsed items. The error names the item that is not accepted.
pub fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Refused> {
    let items = some_items(text)?;
    items.into_iter().map(|item| parse(item).ok_or_else(|| Refused::new(item))).collect()
}

/// The items of a list. A list that has only separators is refused: if it lists denied networks, it
/// would deny none.
fn some_items(text: &str) -> Result<Vec<&str>, Refused> {
    let items: Vec<&str> = items(text).collect();
    if items.is_empty() {
        return Err(Refused::new(text));
    }
    Ok(items)
}

/// The items of a list, separated by commas or line breaks.
pub fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
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
        // A malformed rule must never be skipped: the network would not be protected.
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
        assert_eq!(system_name("msrprelay"), Ok("msrprelay".to_owned()));
        assert_eq!(system_name("a b"), refused("a b"));
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
            assert_eq!(File.parse(text, directories), Ok(expected));
        }
        assert_eq!(File.parse("a\nb", directories), refused("a\nb"));
        let both = vec![own.join("both"), system.join("system")];
        assert_eq!(Files.parse("both,\nsystem", directories), Ok(both));
    }
}
