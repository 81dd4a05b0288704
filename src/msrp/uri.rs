//! MSRP URIs and paths: RFC 4975 §6 and §9.
//!
//! The text of a URI is kept and passed on as it came, because a relay further out hashes it. The
//! parts are read only to compare URIs (RFC 4975 §6.1) and to dial.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::{Deref, Range},
    sync::Arc,
};

use bytes::Bytes;
use thiserror::Error;

/// Where a URI without a port leads (RFC 4975 §15.4).
const DEFAULT_PORT: u32 = 2855;
/// Most URIs accepted in one path.
pub const MAX_PATH_URIS: usize = 16;

/// Why a URI or a path could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UriError {
    /// The scheme is neither `msrp` nor `msrps`.
    #[error("scheme is not msrp or msrps")]
    Scheme,
    /// The authority is empty or holds bytes that it may not hold.
    #[error("bad authority")]
    Authority,
    /// The port is no number, or one of ten digits or more.
    #[error("bad port")]
    Port,
    /// The session-id is empty or holds bytes that it may not hold.
    #[error("bad session-id")]
    SessionId,
    /// The transport parameter is missing or unreadable.
    #[error("no transport")]
    Transport,
    /// A URI parameter is unreadable.
    #[error("bad URI parameter")]
    Parameter,
    /// The path holds no URI.
    #[error("empty path")]
    EmptyPath,
    /// The path holds more than [`MAX_PATH_URIS`].
    #[error("more than {MAX_PATH_URIS} URIs in a path")]
    PathTooLong,
}

/// One MSRP URI: `msrps://user@host:port/session-id;tcp;name=value`.
///
/// Equality is that of RFC 4975 §6.1: scheme, host, port, session-id and transport.
#[derive(Clone)]
pub struct Uri {
    text: Bytes,
    parts: Parts,
}

impl Uri {
    /// Reads one URI. The URI keeps `text` alive: pass a copy if it is to live long.
    pub fn parse(text: Bytes) -> Result<Self, UriError> {
        Parts::read(&text).map(|parts| Self { text, parts })
    }

    /// The URI of a session of this relay: always with `;tcp` (RFC 4975 §6) and a port.
    pub fn mint(secure: bool, host: &str, port: u16, session_id: &str) -> Result<Self, UriError> {
        let scheme = if secure { "msrps" } else { "msrp" };
        let bracketed = host.contains(':') && !host.starts_with('[');
        let host = if bracketed { format!("[{host}]") } else { host.to_owned() };
        Self::parse(Bytes::from(format!("{scheme}://{host}:{port}/{session_id};tcp")))
    }

    /// The URI as it was written.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// Whether the scheme is `msrps`.
    pub fn secure(&self) -> bool {
        self.parts.secure
    }

    /// The host as written, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        ascii(self.part(&self.parts.host))
    }

    /// The host when it is a numeric address.
    pub fn address(&self) -> Option<IpAddr> {
        self.parts.address
    }

    /// The port as written; it may be one that cannot be dialled.
    pub fn port(&self) -> Option<u32> {
        self.parts.port
    }

    /// The port that it leads to; as written, it may be one that cannot be dialled.
    pub fn effective_port(&self) -> u32 {
        self.port().unwrap_or(DEFAULT_PORT)
    }

    /// The session-id, if there is one.
    pub fn session_id(&self) -> Option<&str> {
        self.parts.session_id.as_ref().map(|range| ascii(self.part(range)))
    }

    /// The transport parameter as written, `tcp` for instance.
    pub fn transport(&self) -> &str {
        ascii(self.part(&self.parts.transport))
    }

    /// Whether both name the same host (RFC 4975 §6.1: addresses by value, names without case and
    /// with percent-encoded unreserved characters decoded).
    pub fn same_host(&self, other: &Self) -> bool {
        match (self.parts.address, other.parts.address) {
            (Some(a), Some(b)) => a == b,
            (None, None) => {
                decoded(self.part(&self.parts.host)).eq(decoded(other.part(&other.parts.host)))
            }
            _ => false,
        }
    }

    /// Whether both have the same scheme, host and port, whatever their session-ids.
    pub fn same_authority(&self, other: &Self) -> bool {
        self.parts.secure == other.parts.secure
            && self.parts.port == other.parts.port
            && self.same_host(other)
    }

    /// Whether both have the same session-id, whatever else they have.
    pub fn same_session_id(&self, other: &Self) -> bool {
        self.parts.session_id.is_some() && self.session_id() == other.session_id()
    }

    /// Whether this is `minted`, a URI of this relay, perhaps with another scheme, host or port: a
    /// middlebox on the way may have rewritten these (RFC 6714).
    ///
    /// This gives nothing away. Scheme, host and port are the same for all sessions and known to
    /// all; only the session-id tells one session from another, and its 128 random bits are the
    /// secret that a peer must know (RFC 4975 §14.1).
    pub fn leads_to(&self, minted: &Self) -> bool {
        self.same_session_id(minted) && self.transport().eq_ignore_ascii_case(minted.transport())
    }

    fn part(&self, range: &Range<u16>) -> &[u8] {
        &self.text[usize::from(range.start)..usize::from(range.end)]
    }
}

impl PartialEq for Uri {
    fn eq(&self, other: &Self) -> bool {
        if self.text == other.text {
            return true;
        }
        // RFC 4975 §6.1; URI parameters and userinfo take no part.
        self.session_id() == other.session_id()
            && self.same_authority(other)
            && self.transport().eq_ignore_ascii_case(other.transport())
    }
}

impl Eq for Uri {}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// For logs: without userinfo, and with a shortened session-id, because a client that knows a
/// session-id may join the session.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.parts.secure { "msrps" } else { "msrp" };
        match self.parts.address {
            Some(IpAddr::V6(address)) => write!(f, "{scheme}://[{address}]")?,
            _ => write!(f, "{scheme}://{}", self.host())?,
        }
        if let Some(port) = self.parts.port {
            write!(f, ":{port}")?;
        }
        if let Some(id) = self.session_id() {
            write!(f, "/{}", shortened(id))?;
        }
        write!(f, ";{}", self.transport())
    }
}

/// The first characters of a session-id, for logs.
pub fn shortened(session_id: &str) -> String {
    let shown = session_id.len().min(6).min(session_id.len() / 3);
    format!("{}...", &session_id[..shown])
}

/// What the bytes of a URI mean.
#[derive(Clone)]
struct Parts {
    secure: bool,
    host: Range<u16>,
    address: Option<IpAddr>,
    port: Option<u32>,
    session_id: Option<Range<u16>>,
    transport: Range<u16>,
}

impl Parts {
    fn read(text: &[u8]) -> Result<Self, UriError> {
        // Offsets are kept in 16 bits; header lines are shorter than that anyway.
        if text.len() > usize::from(u16::MAX) {
            return Err(UriError::Authority);
        }
        let (secure, start) = scheme(text)?;
        let rest = &text[start..];
        let slash = memchr::memchr(b'/', rest);
        // Without a session-id the authority ends at the transport; userinfo may hold `;` too.
        let user_end = memchr::memrchr(b'@', &rest[..slash.unwrap_or(rest.len())]);
        let host_start = user_end.map_or(0, |at| at + 1);
        let authority_end = match slash {
            Some(at) => at,
            None => {
                host_start + memchr::memchr(b';', &rest[host_start..]).ok_or(UriError::Transport)?
            }
        };
        if !rest[..host_start.saturating_sub(1)].iter().all(|&b| is_userinfo(b)) {
            return Err(UriError::Authority);
        }
        let authority = Authority::read(&rest[host_start..authority_end])?;
        let host = authority.host;

        let mut at = authority_end;
        let mut session_id = None;
        if rest[at] == b'/' {
            let end = memchr::memchr(b';', &rest[at..]).ok_or(UriError::Transport)? + at;
            if at + 1 == end || !rest[at + 1..end].iter().all(|&b| is_session_id(b)) {
                return Err(UriError::SessionId);
            }
            session_id = Some(offsets(start + at + 1, start + end));
            at = end;
        }

        let mut parameters = rest[at + 1..].split(|&b| b == b';');
        let transport = parameters.next().unwrap_or_default();
        if transport.is_empty() || !transport.iter().all(u8::is_ascii_alphanumeric) {
            return Err(UriError::Transport);
        }
        if !parameters.all(|p| !p.is_empty() && p.iter().all(|&b| b.is_ascii_graphic())) {
            return Err(UriError::Parameter);
        }
        let base = start + host_start;
        Ok(Self {
            secure,
            host: offsets(base + host.start, base + host.end),
            address: authority.address,
            port: authority.port,
            session_id,
            transport: offsets(start + at + 1, start + at + 1 + transport.len()),
        })
    }
}

/// `host[:port]`, offsets relative to its own start.
struct Authority {
    host: Range<usize>,
    address: Option<IpAddr>,
    port: Option<u32>,
}

impl Authority {
    fn read(text: &[u8]) -> Result<Self, UriError> {
        let (host, after) = if text.first() == Some(&b'[') {
            let end = memchr::memchr(b']', text).ok_or(UriError::Authority)?;
            (1..end, &text[end + 1..])
        } else {
            let end = memchr::memchr(b':', text).unwrap_or(text.len());
            (0..end, &text[end..])
        };
        let name = &text[host.clone()];
        let address = if host.start == 1 {
            let v6: Ipv6Addr = ascii(name).parse().map_err(|_| UriError::Authority)?;
            Some(IpAddr::V6(v6))
        } else {
            if name.is_empty() || !name.iter().all(|&b| is_host(b)) {
                return Err(UriError::Authority);
            }
            ascii(name).parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        };
        let port = match after {
            [] => None,
            [b':', digits @ ..] => port(digits)?,
            _ => return Err(UriError::Authority),
        };
        Ok(Self { host, address, port })
    }
}

fn scheme(text: &[u8]) -> Result<(bool, usize), UriError> {
    let end = memchr::memchr(b':', text).ok_or(UriError::Scheme)?;
    let secure = match &text[..end] {
        s if s.eq_ignore_ascii_case(b"msrps") => true,
        s if s.eq_ignore_ascii_case(b"msrp") => false,
        _ => return Err(UriError::Scheme),
    };
    if !text[end..].starts_with(b"://") {
        return Err(UriError::Scheme);
    }
    Ok((secure, end + 3))
}

/// RFC 3986 allows a colon without digits: then there is no port.
fn port(digits: &[u8]) -> Result<Option<u32>, UriError> {
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(UriError::Port);
    }
    Ok(Some(digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0'))))
}

#[expect(clippy::cast_possible_truncation, reason = "the text is at most 65535 bytes long")]
fn offsets(start: usize, end: usize) -> Range<u16> {
    start as u16..end as u16
}

/// Parts of a URI are ASCII: parsing refuses everything else.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

fn is_sub_delim(b: u8) -> bool {
    matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

fn is_host(b: u8) -> bool {
    is_unreserved(b) || b == b'%' || (is_sub_delim(b) && b != b';')
}

fn is_userinfo(b: u8) -> bool {
    is_unreserved(b) || is_sub_delim(b) || matches!(b, b'%' | b':' | b'@')
}

/// RFC 4975 §9 allows unreserved characters, `+`, `=` and `/`. The other characters of an RFC 3986
/// path do no harm and are accepted as well.
fn is_session_id(b: u8) -> bool {
    is_unreserved(b) || matches!(b, b'/' | b'%' | b':' | b'@') || (is_sub_delim(b) && b != b';')
}

/// A host name in lower case, percent-encoded unreserved characters decoded.
fn decoded(host: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let &first = host.get(at)?;
        at += 1;
        if first == b'%'
            && let Some(byte) = host.get(at..at + 2).and_then(hex)
            && is_unreserved(byte)
        {
            at += 2;
            return Some(byte.to_ascii_lowercase());
        }
        Some(first.to_ascii_lowercase())
    })
}

fn hex(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// One or more URIs: the value of To-Path, From-Path or Use-Path.
///
/// A path owns its text and is cheap to clone, so it may be kept for the life of a session.
#[derive(Clone)]
pub struct Path {
    text: Bytes,
    uris: Arc<[Uri]>,
}

impl Path {
    /// Reads URIs separated by blanks, copying their text once.
    pub fn parse(value: &[u8]) -> Result<Self, UriError> {
        let text = Bytes::copy_from_slice(value.trim_ascii());
        let mut uris = Vec::with_capacity(4);
        for word in text.split(|&b| b == b' ').filter(|word| !word.is_empty()) {
            if uris.len() == MAX_PATH_URIS {
                return Err(UriError::PathTooLong);
            }
            uris.push(Uri::parse(text.slice_ref(word))?);
        }
        if uris.is_empty() {
            return Err(UriError::EmptyPath);
        }
        Ok(Self { text, uris: uris.into() })
    }

    /// The path to the nearest hop alone: the first URI of `value`.
    pub fn nearest(value: &[u8]) -> Result<Self, UriError> {
        let value = value.trim_ascii();
        let end = memchr::memchr(b' ', value).unwrap_or(value.len());
        Self::parse(&value[..end])
    }

    /// The path of these URIs; `None` when there are none.
    pub fn from_uris(uris: &[Uri]) -> Option<Self> {
        let mut text = Vec::new();
        for (n, uri) in uris.iter().enumerate() {
            if n > 0 {
                text.push(b' ');
            }
            text.extend_from_slice(uri.text());
        }
        (!uris.is_empty()).then(|| Self { text: text.into(), uris: uris.into() })
    }

    /// The path as text, as it goes behind `To-Path: `.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// The leftmost URI: the nearest hop.
    pub fn first(&self) -> &Uri {
        &self.uris[0]
    }

    /// The rightmost URI: the endpoint itself.
    pub fn last(&self) -> &Uri {
        &self.uris[self.uris.len() - 1]
    }
}

impl Deref for Path {
    type Target = [Uri];

    fn deref(&self) -> &[Uri] {
        &self.uris
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.uris, &other.uris) || self.text == other.text || self[..] == other[..]
    }
}

impl Eq for Path {}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.uris.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::parse(Bytes::copy_from_slice(text.as_bytes()))
            .unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn r4975_9_01_reads_the_parts() {
        let full = uri("msrps://a@h.example:2855/ab+c=/d;tcp;x=1");
        assert!(full.secure());
        assert_eq!(full.host(), "h.example");
        assert_eq!(full.port(), Some(2855));
        assert_eq!(full.session_id(), Some("ab+c=/d"));
        assert_eq!(full.transport(), "tcp");
        let v6 = uri("msrp://[2001:db8::1]:2855/s;tcp");
        assert_eq!(v6.host(), "2001:db8::1");
        assert_eq!(v6.address(), Some("2001:db8::1".parse().unwrap()));
        let bare = uri("msrps://u;v:w@example.com;tcp");
        assert_eq!((bare.host(), bare.port(), bare.session_id()), ("example.com", None, None));
        assert_eq!(uri("msrp://h:;tcp").port(), None);
        assert_eq!(uri("msrp://h:99999/x;tcp").port(), Some(99_999));
    }

    #[test]
    fn r4975_9_01_refuses_what_is_no_uri() {
        for (text, error) in [
            ("http://h;tcp", UriError::Scheme),
            ("msrp:/h;tcp", UriError::Scheme),
            ("", UriError::Scheme),
            ("msrp://h:1/s", UriError::Transport),
            ("msrp://h:1", UriError::Transport),
            ("msrp://h:1/s;", UriError::Transport),
            ("msrp://h:1/s;t c", UriError::Transport),
            ("msrp://h:1/;tcp", UriError::SessionId),
            ("msrp://h:1/a\x01b;tcp", UriError::SessionId),
            ("msrp://h:1/a\u{e4};tcp", UriError::SessionId),
            ("msrp://;tcp", UriError::Authority),
            ("msrp:///s;tcp", UriError::Authority),
            ("msrp://[::1;tcp", UriError::Authority),
            ("msrp://[::1]x;tcp", UriError::Authority),
            ("msrp://[h]:1;tcp", UriError::Authority),
            ("msrp://a b;tcp", UriError::Authority),
            ("msrp://h:x;tcp", UriError::Port),
            ("msrp://h:1234567890;tcp", UriError::Port),
            ("msrp://h:1;tcp;;", UriError::Parameter),
            ("msrp://h:1;tcp;a=\x7f", UriError::Parameter),
        ] {
            let result = Uri::parse(Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!(result.err(), Some(error), "{text}");
        }
    }

    #[test]
    fn r4975_6_1_compares() {
        let base = uri("msrps://relay.example:2855/tOken;tcp");
        for same in [
            "MSRPS://relay.example:2855/tOken;tcp",
            "msrps://RELAY.example:2855/tOken;tcp",
            "msrps://rel%61y.example:2855/tOken;tcp",
            "msrps://bob@relay.example:2855/tOken;tcp",
            "msrps://relay.example:02855/tOken;TCP",
            "msrps://relay.example:2855/tOken;tcp;foo=bar",
        ] {
            assert_eq!(base, uri(same));
        }
        for different in [
            "msrp://relay.example:2855/tOken;tcp",
            "msrps://relay.example/tOken;tcp",
            "msrps://relay.example:2856/tOken;tcp",
            "msrps://relay.example:2855/token;tcp",
            "msrps://relay.example:2855;tcp",
            "msrps://relay.example:2855/tOken;ws",
            "msrps://relay.example.:2855/tOken;tcp",
        ] {
            assert_ne!(base, uri(different));
        }
        assert_eq!(uri("msrp://[2001:db8:0::1]:1;tcp"), uri("msrp://[2001:DB8::0:1]:1;tcp"));
        assert_ne!(uri("msrp://[::1]:1/a/../b;tcp"), uri("msrp://[::1]:1/b;tcp"));
    }

    #[test]
    fn paths() {
        let path = Path::parse(b"msrp://a:1/x;tcp msrp://b:2/y;tcp").unwrap();
        assert_eq!(path.len(), 2);
        assert_eq!(path.first().host(), "a");
        assert_eq!(path.last().host(), "b");
        assert_eq!(Path::from_uris(&path).unwrap().text(), path.text());
        assert_eq!(Path::parse(b"  ").err(), Some(UriError::EmptyPath));
        let nearest = |value: &[u8]| Path::nearest(value).map(|path| path.text().clone());
        assert_eq!(nearest(b" msrp://a:1/x;tcp  msrp://b:2/y;tcp"), Ok("msrp://a:1/x;tcp".into()));
        assert_eq!(nearest(b" "), Err(UriError::EmptyPath));
        let many = |n: usize| vec!["msrp://a:1;tcp"; n].join(" ");
        assert!(Path::parse(many(MAX_PATH_URIS).as_bytes()).is_ok());
        assert_eq!(
            Path::parse(many(MAX_PATH_URIS + 1).as_bytes()).err(),
            Some(UriError::PathTooLong)
        );
    }

    #[test]
    fn logs_never_show_a_whole_session_id() {
        let uri = uri("msrps://alice:secret@relay.example:2855/abcdefghijklmnopqrstuv;tcp");
        assert_eq!(format!("{uri}"), "msrps://relay.example:2855/abcdef...;tcp");
        assert_eq!(format!("{uri:?}"), format!("{uri}"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in any::<Vec<u8>>()) {
            let _ = Uri::parse(Bytes::from(text));
        }

        #[test]
        fn what_is_minted_is_read(secure: bool, host in "[a-z0-9][a-z0-9.-]{0,30}", port: u16,
                                  id in "[A-Za-z0-9_-]{22}") {
            let minted = Uri::mint(secure, &host, port, &id).unwrap();
            let read = Uri::parse(minted.text().clone()).unwrap();
            prop_assert_eq!(read.host(), &host);
            prop_assert_eq!(read.port(), Some(u32::from(port)));
            prop_assert_eq!(read.session_id(), Some(&id[..]));
            prop_assert_eq!(read, minted);
        }
    }
}
