//! The table of options: the one place that knows their names, defaults and explanations.
//!
//! Reading, the search for the name that was meant, the list of what is not in force yet and
//! `config.ini.sample` all come from it.

use super::syntax::MEMORY;

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
const IDENTIFIER: &str =
    "accepted is a name of letters, digits and _ that does not begin with a digit";
const TABLE: &str = "accepted is a name of letters, digits and _ that does not begin with a digit, \
                     or schema.name";

/// One option of the configuration file.
#[derive(Debug, Clone, Copy)]
pub struct ConfigOption {
    /// Section, without brackets.
    pub section: &'static str,
    /// Name, with underscores.
    pub name: &'static str,
    /// What holds when it is not set, as it would be written; empty where nothing could be written.
    pub default: &'static str,
    /// What is accepted, as told with a value that is not.
    pub accepted: &'static str,
    /// What it does, for operators.
    pub doc: &'static str,
    /// Whether this release acts on it; otherwise it is only read and checked.
    pub in_force: bool,
    /// Whether its value may hold a password and must never be shown.
    pub secret: bool,
    /// What the sample sets for a new installation.
    pub sample: Option<&'static str>,
}

impl ConfigOption {
    const fn relay(
        name: &'static str,
        default: &'static str,
        accepted: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            section: RELAY,
            name,
            default,
            accepted,
            doc,
            in_force: true,
            secret: false,
            sample: None,
        }
    }

    const fn database(
        name: &'static str,
        default: &'static str,
        accepted: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { section: DATABASE, ..Self::relay(name, default, accepted, doc) }
    }

    /// Read and checked, but of no effect in this release.
    const fn later(self) -> Self {
        Self { in_force: false, ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    const fn sample(self, value: &'static str) -> Self {
        Self { sample: Some(value), ..self }
    }

    /// What it does, and whether it does so in this release.
    pub fn explanation(&self) -> String {
        if self.in_force {
            return self.doc.to_owned();
        }
        format!("{} (Not in force in this release.)", self.doc)
    }
}

/// Section of the relay itself.
pub(super) const RELAY: &str = "Relay";
/// Section of the database backend.
pub(super) const DATABASE: &str = "Database";

/// Every section that means something, with its explanation.
pub const SECTIONS: [(&str, &str); 3] = [
    (RELAY, "The relay itself: certificate, addresses, sessions, limits."),
    (
        MEMORY,
        "Users for backend = memory, one on each line: user@domain = password. Names and passwords \
         are taken literally, hyphens and colons included; only %% is read as %. Let nobody but the \
         relay read this file.",
    ),
    (
        DATABASE,
        "The table of users for backend = database, such as the subscriber table of OpenSIPS or \
         Kamailio.",
    ),
];

/// Every option, in the order of the sample.
pub static OPTIONS: &[ConfigOption] = &[
    ConfigOption::relay(
        "certificate",
        "",
        FILES,
        "PEM file with the certificate of the relay, followed by its chain. Mandatory unless \
         debug_notls is on. A relative name is looked up in the directory of this file, then in \
         /etc/msrprelay. With several certificates the one that fits the name a client asks for is \
         used, the first one otherwise.",
    )
    .sample("tls/relay.crt"),
    ConfigOption::relay(
        "key",
        "",
        FILES,
        "PEM file with the private key, not encrypted: PKCS#8, PKCS#1 or SEC1. With several \
         certificates, as many keys in the same order. The relay's user must be able to read it, \
         and nobody else should.",
    )
    .sample("tls/relay.key"),
    ConfigOption::relay(
        "address",
        "0.0.0.0:2855",
        ADDRESSES,
        "Where to listen: host:port, host (port 2855), :port, any:port, default, [IPv6]:port, or \
         several separated by commas. Port 0 takes any free port.",
    ),
    ConfigOption::relay(
        "hostname",
        "",
        "accepted is a host name, or with debug_notls an address",
        "Host name in the URIs that clients are given. It must be one of the names in the \
         certificate, where *. stands for any name. When not set it is the first name in the certificate; \
         without TLS the address of the relay.",
    ),
    ConfigOption::relay(
        "advertised_port",
        "",
        "accepted is a port from 1 to 65535",
        "Port in the URIs that clients are given, where a port mapping or load balancer stands in \
         front of the relay. When not set it is the port of the first address.",
    ),
    ConfigOption::relay(
        "default_domain",
        "",
        "accepted is a realm without quotes, backslashes or control characters",
        "Realm of every authentication. When not set it is the host in the URI that the client asks \
         for.",
    ),
    ConfigOption::relay(
        "domains",
        "",
        "accepted is a list of realms separated by commas, or any",
        "Realms that are served, separated by commas; users of any other are refused. When not set \
         any realm is served.",
    ),
    ConfigOption::relay(
        "backend",
        "database",
        "accepted is database or memory, or both separated by a comma",
        "Where users are looked up: database (see [Database]) or memory (see [Memory]); a list is \
         tried in order.",
    )
    .sample("memory"),
    ConfigOption::relay(
        "log_level",
        "INFO",
        "accepted is CRITICAL, ERROR, WARNING, INFO, DEBUG, NOTSET or a number from 0 (everything) \
         to 50",
        "Least severity that is logged: CRITICAL, ERROR, WARNING, INFO, DEBUG or NOTSET.",
    ),
    ConfigOption::relay(
        "log_failed_auth",
        "No",
        YES_NO,
        "Log each failed authentication with the address of the client, in a form made for \
         fail2ban.",
    ),
    ConfigOption::relay(
        "debug_notls",
        "No",
        YES_NO,
        "Plain TCP instead of TLS, authentication included. For debugging only: everybody on the \
         way reads along.",
    ),
    ConfigOption::relay(
        "allow_other_methods",
        "Yes",
        YES_NO,
        "Pass on requests other than SEND, REPORT and NICKNAME within a session. When off they are \
         answered 501.",
    ),
    ConfigOption::relay(
        "max_auth_attempts",
        "3",
        "accepted is a whole number up to 4294967295; 0 is no limit",
        "Failed authentications after which a connection is closed; 0 is never.",
    ),
    ConfigOption::relay(
        "auth_challenge_expiration_time",
        "15",
        SECONDS,
        "Seconds for which a challenge may be answered.",
    ),
    ConfigOption::relay(
        "session_expiration_time_minimum",
        "60",
        SECONDS_OR_NONE,
        "Shortest time in seconds that a client may ask a session for; less is answered 423.",
    ),
    ConfigOption::relay(
        "session_expiration_time_default",
        "600",
        SECONDS,
        "Time in seconds that a session is granted when the client asks for none.",
    ),
    ConfigOption::relay(
        "session_expiration_time_maximum",
        "3600",
        SECONDS,
        "Longest time in seconds that a client may ask a session for; more is answered 423.",
    ),
    ConfigOption::relay(
        "strict_expiry",
        "No",
        YES_NO,
        "End every session when its time is over. When off, a session in use goes on if its client \
         never asked for a time, as clients that never refresh need it.",
    ),
    ConfigOption::relay(
        "digest_algorithms",
        "MD5",
        "accepted is MD5, SHA-256 or both separated by a comma",
        "Algorithms that are offered for authentication, MD5 always last. Most clients know MD5 \
         only. One that knows both takes SHA-256, and must find its hash in the database where \
         there are no passwords.",
    ),
    ConfigOption::relay(
        "allow_basic_auth",
        "No",
        YES_NO,
        "Accept Basic authentication over TLS, which RFC 4976 forbids: the relay learns every \
         password.",
    ),
    ConfigOption::relay(
        "websocket_address",
        "",
        SERVICE_ADDRESSES,
        "Where to listen for MSRP over WebSocket, for browsers: wss, or ws with debug_notls. When \
         not set there is none.",
    )
    .later(),
    ConfigOption::relay(
        "websocket_origins",
        "",
        "accepted is a list of origins such as https://example.com, separated by commas",
        "Origins of pages that may connect by WebSocket, separated by commas. When not set any may.",
    )
    .later(),
    ConfigOption::relay(
        "allowed_peers",
        "",
        PEERS,
        "Networks that the relay may dial whatever denied_peers says, such as 192.0.2.0/24, \
         separated by commas.",
    )
    .later(),
    ConfigOption::relay(
        "denied_peers",
        "special",
        PEERS,
        "Networks that the relay may not dial, separated by commas. special stands for all that are \
         not public, such as loopback, private and link-local ones; none alone denies nothing.",
    )
    .later(),
    ConfigOption::relay(
        "verify_next_hop",
        "log",
        "accepted is off, log or enforce",
        "What becomes of another relay whose certificate does not verify: off does not check, log \
         passes and logs, enforce refuses.",
    )
    .later(),
    ConfigOption::relay(
        "ca",
        "",
        FILE,
        "PEM file with the authorities that vouch for other relays. When not set the system's are \
         trusted.",
    )
    .later(),
    ConfigOption::relay(
        "max_connections",
        "",
        COUNT,
        "Connections at once; 0 is no limit. When not set 80 % of the limit on open files.",
    )
    .later(),
    ConfigOption::relay(
        "max_connections_per_ip",
        "2048",
        COUNT,
        "Connections at once from one address, or from one /64 of IPv6; 0 is no limit.",
    )
    .later(),
    ConfigOption::relay(
        "max_unauthenticated",
        "4096",
        COUNT,
        "Connections at once that hold no session; 0 is no limit.",
    )
    .later(),
    ConfigOption::relay(
        "max_sessions_per_user",
        "1024",
        COUNT,
        "Sessions at once of one user; 0 is no limit.",
    )
    .later(),
    ConfigOption::relay(
        "max_session_bandwidth",
        "0",
        "accepted is a whole number of at least 16384, or 0 for no limit",
        "Bytes per second and direction of one session, at least 16384; 0 is no limit. What is \
         faster is slowed down, never refused.",
    )
    .later(),
    ConfigOption::relay(
        "proxy_protocol",
        "",
        NETWORKS,
        "Load balancers that tell the address of the client by PROXY protocol, version 1 or 2: \
         their networks, separated by commas. Connections from there without it are refused.",
    )
    .later(),
    ConfigOption::relay(
        "idle_timeout",
        "3600",
        "accepted is a whole number of seconds up to 4294967295; 0 is no limit",
        "Seconds without a byte either way after which a session is closed; 0 is never.",
    )
    .later(),
    ConfigOption::relay(
        "drain_timeout",
        "0",
        SECONDS_OR_NONE,
        "Seconds that a stopping relay waits for sessions to end by themselves.",
    ),
    ConfigOption::relay(
        "user",
        "",
        "accepted is the name of a user",
        "Who the relay runs as when started as root. When not set it is msrprelay, if that user \
         exists; otherwise it remains root.",
    ),
    ConfigOption::relay(
        "group",
        "",
        "accepted is the name of a group",
        "The group that the relay runs as when started as root. When not set it is that of user, or \
         msrprelay if that is not set either.",
    ),
    ConfigOption::relay(
        "control_socket",
        "",
        FILE,
        "Socket for msrprelayctl. When not set it is msrprelay.sock in the runtime directory.",
    ),
    ConfigOption::relay(
        "metrics_address",
        "",
        SERVICE_ADDRESS,
        "Where http://address/metrics shows the state of the relay to Prometheus, and /health \
         whether it is well. When not set there is none.",
    )
    .later(),
    ConfigOption::relay(
        "session_records",
        "",
        FILE,
        "File to which each session that has ended is added as a line of JSON. When not set there \
         is none.",
    )
    .later(),
    ConfigOption::database(
        "uri",
        "mysql://user:pass@db/opensips",
        "accepted is mysql://user:password@host/database, postgresql://user:password@host/database \
         or sqlite:///file",
        "Where the database is: mysql://user:password@host:port/database, \
         postgresql://user:password@host:port/database or sqlite:///file. A password may hold @, \
         /, # and %; a % that two hexadecimal digits follow is written %25. ?unix_socket=PATH \
         names a socket (for PostgreSQL its directory), ?ssl_ca=FILE (PostgreSQL: sslrootcert) \
         demands a server certificate of that authority. An account that may only read is enough.",
    )
    .secret(),
    ConfigOption::database(
        "cleartext_passwords",
        "Yes",
        YES_NO,
        "Use the column with passwords; when off, the columns with the hashes of \
         user:realm:password, and the one with passwords need not exist.",
    ),
    ConfigOption::database("subscriber_table", "subscriber", TABLE, "Table of the users, or a view."),
    ConfigOption::database("username_col", "username", IDENTIFIER, "Column of the user's name."),
    ConfigOption::database("domain_col", "domain", IDENTIFIER, "Column of the user's domain."),
    ConfigOption::database("password_col", "password", IDENTIFIER, "Column of the password."),
    ConfigOption::database(
        "ha1_col",
        "ha1",
        IDENTIFIER,
        "Column of the MD5 hash of user:realm:password, in hexadecimal.",
    ),
    ConfigOption::database(
        "ha1_sha256_col",
        "ha1_sha256",
        IDENTIFIER,
        "Column of the SHA-256 hash of user:realm:password, in hexadecimal; read when \
         digest_algorithms has SHA-256.",
    ),
    ConfigOption::database(
        "pool_size",
        "5",
        "accepted is a whole number from 1 to 1024",
        "Connections to the database at once.",
    ),
    ConfigOption::database(
        "timeout",
        "5",
        SECONDS,
        "Seconds for one look-up, connecting included. While the database does not answer, users \
         get 500 Backend unavailable, most of them at once.",
    ),
    ConfigOption::database(
        "cache_time",
        "0",
        SECONDS_OR_NONE,
        "Seconds for which a user found is remembered, and let in while the database is away; a \
         changed password may take as long to have effect. Strangers can then tell users that are \
         remembered from others while the database is slow or away. 0 is not at all.",
    ),
];

/// The option of that name in that section.
pub(super) fn option(section: &str, name: &str) -> Option<&'static ConfigOption> {
    OPTIONS.iter().find(|option| option.section == section && option.name == name)
}

/// Whether any section has an option of that name.
pub(super) fn is_option(name: &str) -> bool {
    OPTIONS.iter().any(|option| option.name == name)
}

/// Says which option of the section may have been meant by a name that is none.
pub(super) fn meant_option(section: &str, name: &str) -> String {
    if let Some(elsewhere) = OPTIONS.iter().find(|option| option.name == name) {
        return format!("it belongs to [{}]", elsewhere.section);
    }
    let names = OPTIONS
        .iter()
        .filter(|option| option.section == section || section == super::syntax::DEFAULT);
    nearest(name, names.map(|option| option.name))
        .map_or_else(String::new, |name| format!("did you mean {name}?"))
}

/// Says which section may have been meant by a name that is none.
pub(super) fn meant_section(name: &str) -> String {
    let names = SECTIONS.iter().map(|(name, _)| *name).chain([super::syntax::DEFAULT]);
    nearest(name, names).map_or_else(String::new, |name| format!("did you mean [{name}]?"))
}

/// The known name with the fewest letters changed, of those by which half the letters at least
/// stay.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    const LEAST_LIKENESS: f64 = 0.5;
    // Nobody types this much by mistake, and the comparison takes the product of both lengths.
    const LONGEST: usize = 64;

    let name = name.trim().to_lowercase();
    if name.len() > LONGEST {
        return None;
    }
    let likeness = known
        .map(|known| (strsim::normalized_damerau_levenshtein(&name, &known.to_lowercase()), known));
    let best = likeness.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= LEAST_LIKENESS).then_some(best.1)
}

/// The text of `config.ini.sample`.
pub fn sample() -> String {
    let mut sample = String::from(
        "# Configuration of msrprelay. Each option stands here with its default behind a semicolon;\n\
         # remove the semicolon and change the value to set it. \
         After a change: systemctl reload msrprelay\n",
    );
    for (section, doc) in SECTIONS {
        sample.extend(["\n\n[", section, "]\n"]);
        comment(doc, &mut sample);
        if section == MEMORY {
            sample.push_str("\n;alice@example.com = secret\n");
        }
        for option in OPTIONS.iter().filter(|option| option.section == section) {
            sample.push('\n');
            comment(&option.explanation(), &mut sample);
            sample.push_str(format!(";{} = {}", option.name, option.default).trim_end());
            sample.push('\n');
            if let Some(value) = option.sample {
                sample.extend([option.name, " = ", value, "\n"]);
            }
        }
    }
    sample
}

/// Writes text as comment lines.
fn comment(text: &str, sample: &mut String) {
    const WIDTH: usize = 98;
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            sample.push_str(&line);
            sample.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    sample.push_str(&line);
    sample.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_stands_twice_and_each_is_explained() {
        for (index, option) in OPTIONS.iter().enumerate() {
            let twice = OPTIONS[..index]
                .iter()
                .any(|other| other.name == option.name && other.section == option.section);
            assert!(!twice, "{}", option.name);
            assert!(!option.doc.is_empty() && !option.accepted.is_empty(), "{}", option.name);
            assert!(!option.name.contains(['-', ' ']), "{}", option.name);
        }
    }

    #[test]
    fn the_name_that_was_meant() {
        let table = [
            (RELAY, "adress", "did you mean address?"),
            (RELAY, "Hostname", "did you mean hostname?"),
            (RELAY, "max_auth_attempt", "did you mean max_auth_attempts?"),
            (RELAY, "session_expiration_time_min", "did you mean session_expiration_time_minimum?"),
            (RELAY, "uri", "it belongs to [Database]"),
            (DATABASE, "certificate", "it belongs to [Relay]"),
            (DATABASE, "user_col", "did you mean username_col?"),
            ("DEFAULT", "log_levl", "did you mean log_level?"),
            (RELAY, "zzz", ""),
        ];
        for (section, name, expected) in table {
            assert_eq!(meant_option(section, name), expected, "{name}");
        }
        assert_eq!(meant_option(RELAY, &"a".repeat(1 << 20)), "");
        let table = [
            ("relay", "did you mean [Relay]?"),
            (" Relay ", "did you mean [Relay]?"),
            ("Databse", "did you mean [Database]?"),
            ("SIPThor", ""),
        ];
        for (name, expected) in table {
            assert_eq!(meant_section(name), expected, "{name}");
        }
    }

    /// The sample is this table as text. After a change of the table, run this with
    /// `WRITE_SAMPLE=1` to write it again.
    #[test]
    fn the_sample_is_the_table() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.ini.sample");
        if std::env::var_os("WRITE_SAMPLE").is_some() {
            std::fs::write(file, sample()).unwrap();
        }
        let shipped = std::fs::read_to_string(file).unwrap();
        for (number, (shipped, expected)) in shipped.lines().zip(sample().lines()).enumerate() {
            assert_eq!(shipped, expected, "line {}", number + 1);
        }
        assert_eq!(shipped, sample());
    }
}
