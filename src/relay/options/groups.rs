//! The options of `[Relay]`, in groups. A row is an option: name, type, default, parser, what is
//! accepted, what it does.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use crate::{
    auth::{Kind, domain, kind_names, kinds},
    config::{
        Contents, ListenAddress, PeerList, Refused, Section, addresses, options, service_address,
        service_addresses,
        values::{
            File, Files, attempts, boolean, choice, domains, host, limit, list, networks, number,
            origins, peers, realm, seconds, system_name, time_limit,
        },
    },
    logging::LogOptions,
    msrp::digest::Algorithm,
};

pub(super) const SECTION: Section = Section {
    name: "Relay",
    doc: "The relay itself: certificate, addresses, sessions, limits.",
    contents: Contents::Options(&[
        TlsOptions::TABLE,
        ListeningOptions::TABLE,
        LoginOptions::TABLE,
        LogOptions::TABLE,
        DialOptions::TABLE,
        LimitOptions::TABLE,
        ProcessOptions::TABLE,
    ]),
};

/// Smallest limit on a session's bandwidth, in bytes per second: the longest line takes a second.
const MIN_BANDWIDTH: u64 = 16_384;

const YES_NO: &str = "accepted is yes, no, true, false, on, off, 1 or 0";
const SECONDS: &str = "accepted is a whole number of seconds from 1 to 4294967295";
const SECONDS_OR_NONE: &str = "accepted is a whole number of seconds from 0 to 4294967295";
const COUNT: &str = "accepted is a whole number up to 4294967295; 0 is no limit";
const FILE: &str = "accepted is the name of a file";
const FILES: &str = "accepted is the name of a PEM file, or of several separated by commas";
const ADDRESSES: &str = "accepted is host:port, host, :port, any:port, [IPv6]:port or default, \
                         or several separated by commas";
const SERVICE_ADDRESS: &str = "accepted is host:port, :port, any:port, [IPv6]:port or none";
const SERVICE_ADDRESSES: &str =
    "accepted is host:port, :port, any:port or [IPv6]:port, several separated by commas, or none";
const PEERS: &str = "accepted is a list of networks such as 192.0.2.0/24 or 2001:db8::/32, \
                     addresses and the word special, separated by commas, or none alone";
const NETWORKS: &str = "accepted is a list of networks such as 192.0.2.0/24 or 2001:db8::/32, \
                        separated by commas, or none";

options! {
    /// Certificates and keys, or plain TCP.
    pub struct TlsOptions {
        /// As many as `key`, and at least one. With `debug_notls` neither is checked.
        certificate: Vec<PathBuf>, Files, FILES,
            "PEM file with the certificate of the relay, followed by its chain. Mandatory unless \
             debug_notls is on. A relative name is looked up in the directory of this file, then \
             in /etc/msrprelay. With several certificates the one that fits the name a client asks \
             for is used, the first one otherwise."
            .sample("tls/relay.crt");
        key: Vec<PathBuf>, Files, FILES,
            "PEM file with the private key, not encrypted: PKCS#8, PKCS#1 or SEC1. With several \
             certificates, as many keys in the same order. The relay's user must be able to read \
             it, and nobody else should."
            .sample("tls/relay.key");
        debug_notls: bool = "No", boolean, YES_NO,
            "Plain TCP instead of TLS, authentication included. For debugging only: everybody on \
             the way reads along."
            .after("log_failed_auth");
    }
}

options! {
    /// Where the relay listens, and what its URIs look like.
    pub struct ListeningOptions {
        /// Never empty.
        address: Vec<ListenAddress> = "0.0.0.0:2855", addresses, ADDRESSES,
            "Where to listen: host:port, host (port 2855), :port, any:port, default, [IPv6]:port, \
             or several separated by commas. Port 0 takes any free port.";
        /// As written in the file, letter case kept. IPv6 without brackets.
        hostname: Option<String>, host,
            "accepted is a host name, or with debug_notls an address",
            "Host name in the URIs that clients are given. It must be one of the names in the \
             certificate, where *. stands for any name. When not set it is the first name in the \
             certificate; without TLS the address of the relay.";
        /// Never 0.
        advertised_port: Option<u16>, number(1..=u16::MAX),
            "accepted is a port from 1 to 65535",
            "Port in the URIs that clients are given, where a port mapping or load balancer stands \
             in front of the relay. When not set it is the port of the first address.";
        websocket_address: Vec<ListenAddress>, service_addresses, SERVICE_ADDRESSES,
            "Where to listen for MSRP over WebSocket, for browsers: wss, or ws with debug_notls. \
             When not set there is none."
            .later().after("allow_basic_auth");
        /// Empty if any origin may connect.
        websocket_origins: Vec<String>, origins,
            "accepted is a list of origins such as https://example.com, separated by commas",
            "Origins of pages that may connect by WebSocket, separated by commas. When not set any \
             may."
            .later();
        proxy_protocol: Vec<IpNet>, networks, NETWORKS,
            "Load balancers that tell the address of the client by PROXY protocol, version 1 or 2: \
             their networks, separated by commas. Connections from there without it are refused."
            .later().after("max_session_bandwidth");
    }
}

options! {
    /// The rules for clients: who gets a session, for how long, and what they may do in it.
    pub struct LoginOptions {
        default_domain: Option<String>, realm,
            "accepted is a realm without quotes, backslashes or control characters",
            "Realm of every authentication, in this spelling. When not set it is the host in the URI \
             that the client asks for.";
        /// As written in the file. Empty if any realm is served; see [`LoginOptions::serves`].
        domains: Vec<String>, domains,
            "accepted is a list of realms separated by commas, or any",
            "Realms that are served, separated by commas; users of any other are refused. Clients are \
             asked for the password of the realm in the spelling that stands here: where a table \
             has hashes, write each as it stands there. When not set any realm is served.";
        /// In the order in which they are asked. Never empty, and no kind occurs twice.
        backend: Vec<&'static Kind> = "database", kinds,
            "accepted is {names}, or several separated by commas",
            "Where users are looked up: {names}, each with a section of that name; a list is tried \
             in order."
            .sample("memory").names(kind_names);
        log_failed_auth: bool = "No", boolean, YES_NO,
            "Log each failed authentication with the address of the client, in a form made for \
             fail2ban.";
        allow_other_methods: bool = "Yes", boolean, YES_NO,
            "Pass on requests other than SEND, REPORT and NICKNAME within a session. When off they \
             are answered 501.";
        /// `None` if there is no limit.
        max_auth_attempts: Option<NonZeroU32> = "3", attempts,
            "accepted is a whole number up to 4294967295; 0 is no limit",
            "Failed authentications after which a connection is closed; 0 is never.";
        auth_challenge_expiration_time: Duration = "15", seconds(1..=u32::MAX), SECONDS,
            "Seconds for which a challenge may be answered.";
        /// Minimum <= default <= maximum.
        session_expiration_time_minimum: Duration = "60", seconds(0..=u32::MAX), SECONDS_OR_NONE,
            "Shortest time in seconds that a client may ask a session for; less is answered 423.";
        session_expiration_time_default: Duration = "600", seconds(1..=u32::MAX), SECONDS,
            "Time in seconds that a session is granted when the client asks for none.";
        session_expiration_time_maximum: Duration = "3600", seconds(1..=u32::MAX), SECONDS,
            "Longest time in seconds that a client may ask a session for; more is answered 423.";
        strict_expiry: bool = "No", boolean, YES_NO,
            "End every session when its time is over. When off, a session in use goes on if its \
             client never asked for a time, as clients that never refresh need it.";
        /// In the order in which they are offered. Never empty.
        digest_algorithms: Vec<Algorithm> = "MD5", digest_algorithms,
            "accepted is MD5, SHA-256 or both separated by a comma",
            "Algorithms that are offered for authentication, MD5 always last. Most clients know \
             MD5 only. One that knows both takes SHA-256, and must find its hash in the database \
             where there are no passwords.";
        /// Has no effect without TLS.
        allow_basic_auth: bool = "No", boolean, YES_NO,
            "Accept Basic authentication over TLS, which RFC 4976 forbids: the relay learns every \
             password.";
    }
}

options! {
    /// Which next hops the relay dials.
    pub struct DialOptions {
        allowed_peers: PeerList, peers, PEERS,
            "Networks that the relay may dial whatever denied_peers says, such as 192.0.2.0/24, \
             separated by commas. List private networks in which clients or other relays are \
             reached.";
        denied_peers: PeerList = "special", peers, PEERS,
            "Networks that the relay may not dial, separated by commas. special stands for all \
             that are not public, such as loopback, private and link-local ones; none alone denies \
             nothing. Sessions of this relay are joined without dialling. Its own ports and \
             database are never dialled.";
        verify_next_hop: VerifyNextHop = "log", verify_next_hop,
            "accepted is off, log or enforce",
            "What becomes of another relay whose certificate does not verify: off does not check, \
             log passes and logs, enforce refuses."
            .later();
        /// `None` for the authorities of the system.
        ca: Option<PathBuf>, File, FILE,
            "PEM file with the authorities that vouch for other relays. When not set the system's \
             are trusted."
            .later();
    }
}

options! {
    /// Limits on connections, sessions and bandwidth.
    pub struct LimitOptions {
        max_connections: ConnectionLimit, connection_limit, COUNT,
            "Connections at once, those that the relay dials too; 0 is no limit. When not set 80 % of \
             the limit on open files. In any case a reserve of open files is kept, for msrprelayctl \
             and reloads: 20 % of the limit, but at least 32 and at most 128.";
        /// `None`: no limit.
        max_connections_per_ip: Option<NonZeroU32> = "2048", limit, COUNT,
            "Connections at once from one address, or from one /64 of IPv6; 0 is no limit. All clients \
             behind one NAT or load balancer have one address.";
        /// `None`: no limit.
        max_unauthenticated: Option<NonZeroU32> = "4096", limit, COUNT,
            "Connections at once that have neither got a session by AUTH nor joined one; 0 is no limit.";
        /// `None`: no limit.
        max_sessions_per_user: Option<NonZeroU32> = "1024", limit, COUNT,
            "Sessions at once of one user; 0 is no limit. One more is answered 403.";
        /// In bytes per second and direction.
        max_session_bandwidth: Option<NonZeroU64> = "0", bandwidth,
            "accepted is a whole number of at least 16384, or 0 for no limit",
            "Bytes per second and direction of one session, at least 16384; 0 is no limit. What is \
             faster is slowed down, never refused."
            .later();
        /// `None` if there is no limit.
        idle_timeout: Option<Duration> = "3600", time_limit,
            "accepted is a whole number of seconds up to 4294967295; 0 is no limit",
            "Seconds without a byte either way after which a session is closed; 0 is never. Blank lines \
             count, by which clients keep a connection.";
    }
}

options! {
    /// The process, and how it is watched.
    pub struct ProcessOptions {
        drain_timeout: Duration = "0", seconds(0..=u32::MAX), SECONDS_OR_NONE,
            "Seconds that a stopping relay waits for sessions to end by themselves.";
        user: Option<String>, system_name,
            "accepted is the name of a user",
            "Who the relay runs as when started as root. When not set it is msrprelay, if that \
             user exists; otherwise it remains root.";
        group: Option<String>, system_name,
            "accepted is the name of a group",
            "The group that the relay runs as when started as root. When not set it is that of \
             user, or msrprelay if that is not set either.";
        /// `None` for `msrprelay.sock` in the runtime directory.
        control_socket: Option<PathBuf>, File, FILE,
            "Socket for msrprelayctl. When not set it is msrprelay.sock in the runtime directory.";
        metrics_address: Option<ListenAddress>, service_address, SERVICE_ADDRESS,
            "Where http://address/metrics shows the state of the relay to Prometheus, and /health \
             whether it is well. When not set there is none."
            .later();
        session_records: Option<PathBuf>, File, FILE,
            "File to which each session that has ended is added as a line of JSON. When not set \
             there is none."
            .later();
    }
}

impl LoginOptions {
    /// The realm in the spelling of `domains`, which is that of the hashes in a table of users. If
    /// it is none of them, it stays as it is.
    pub fn spelled<'a>(&'a self, realm: &'a str) -> &'a str {
        let known = || self.domains.iter().find(|domain| domain::same(domain, realm));
        let exact = self.domains.iter().find(|domain| *domain == realm);
        exact.or_else(known).map_or(realm, String::as_str)
    }

    /// Whether users of this realm may use the relay.
    pub fn serves(&self, realm: &str) -> bool {
        let mut domains = self.domains.iter();
        self.domains.is_empty() || domains.any(|domain| domain::same(domain, realm))
    }
}

/// How the relay treats the certificate of a next hop that is a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerifyNextHop {
    /// The certificate is not checked.
    Off,
    /// A certificate that does not verify is logged.
    Log,
    /// A next hop whose certificate does not verify is refused.
    Enforce,
}

/// How many connections there may be at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ConnectionLimit {
    /// The option is not set: 80 % of the limit on open file descriptors.
    #[default]
    Descriptors,
    /// The option is 0: there is no limit.
    Unlimited,
    /// At most this many.
    AtMost(NonZeroU32),
}

fn connection_limit(text: &str) -> Result<ConnectionLimit, Refused> {
    Ok(limit(text)?.map_or(ConnectionLimit::Unlimited, ConnectionLimit::AtMost))
}

fn bandwidth(text: &str) -> Result<Option<NonZeroU64>, Refused> {
    match number(0..=u64::MAX)(text)? {
        1..MIN_BANDWIDTH => Err(Refused::new(text)),
        bytes => Ok(NonZeroU64::new(bytes)),
    }
}

/// The algorithms in the order in which they are offered: MD5 is last, whatever the file's order.
fn digest_algorithms(text: &str) -> Result<Vec<Algorithm>, Refused> {
    let offered = [Algorithm::Sha256, Algorithm::Md5];
    let kinds = offered.map(|algorithm| (algorithm.name(), algorithm));
    let named = list(text, |item| choice(item, &kinds))?;
    Ok(offered.into_iter().filter(|algorithm| named.contains(algorithm)).collect())
}

fn verify_next_hop(text: &str) -> Result<VerifyNextHop, Refused> {
    let kinds = [
        ("off", VerifyNextHop::Off),
        ("log", VerifyNextHop::Log),
        ("enforce", VerifyNextHop::Enforce),
    ];
    choice(text, &kinds).ok_or_else(|| Refused::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T>(part: &str) -> Result<T, Refused> {
        Err(Refused::new(part))
    }

    #[test]
    fn choices() {
        assert_eq!(verify_next_hop("Enforce"), Ok(VerifyNextHop::Enforce));
        assert_eq!(verify_next_hop("yes"), refused("yes"));
        let both = vec![Algorithm::Sha256, Algorithm::Md5];
        assert_eq!(digest_algorithms("md5, sha-256"), Ok(both));
        assert_eq!(digest_algorithms("SHA-1"), refused("SHA-1"));
    }

    #[test]
    fn limits() {
        assert_eq!(connection_limit("0"), Ok(ConnectionLimit::Unlimited));
        assert_eq!(bandwidth("0"), Ok(None));
        assert_eq!(bandwidth("16383"), refused("16383"));
        assert_eq!(bandwidth("16384"), Ok(NonZeroU64::new(16_384)));
    }
}
