//! `config.ini` -> [`Config`]: every option with its type, default and explanation.
//!
//! A file becomes a [`Config`] whole or not at all: all that is wrong is found in one go
//! ([`ConfigError`]), and what is merely odd becomes a warning. Nothing has to be checked
//! afterwards but what only the world can tell: whether files can be read, addresses bound,
//! certificates used.
//!
//! ```text
//! bytes -> decode -> syntax::Document -> Reader + options::OPTIONS -> values -> Config
//! ```
//!
//! The file has the syntax of msrprelay 1.x, so that its files work untouched.

mod error;
mod find;
mod options;
mod reader;
mod syntax;
mod values;

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    num::{NonZeroU32, NonZeroU64},
    path::{self, Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

use self::reader::Reader;
pub use self::{
    error::{ConfigError, Finding, Problem, Value},
    find::{FILE_NAME, NotFound, find},
    options::{ConfigOption, OPTIONS, SECTIONS, sample},
    syntax::MEMORY,
    values::{
        BackendKind, ConnectionLimit, DEFAULT_PORT, DigestAlgorithm, ListenAddress, LogLevel,
        PeerList, VerifyNextHop,
    },
};

/// Where the system keeps the configuration, and the second place for relative file names.
pub const SYSTEM_DIRECTORY: &str = "/etc/msrprelay";

/// Largest file that is read, in bytes: some 200,000 users.
pub const MAX_FILE_SIZE: u64 = 16 << 20;

/// Everything that one `config.ini` says.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file, as an absolute path.
    pub source: PathBuf,
    /// `[Relay]`.
    pub relay: RelayOptions,
    /// `[Database]`.
    pub database: DatabaseOptions,
    /// `[Memory]`, in the order of the file.
    pub memory: Vec<MemoryUser>,
    /// What was found that is no error, each beginning with file and line, in the order of the
    /// lines.
    pub warnings: Vec<String>,
    /// Options set in the file on which this release does not act, as `[Section] name`.
    pub not_in_force: Vec<String>,
    /// Line of each option that is set.
    lines: BTreeMap<(&'static str, &'static str), usize>,
}

/// `[Relay]`; the fields are named as the options, whose meaning [`OPTIONS`] tells.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "OPTIONS explains each option, and only it")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the file")]
pub struct RelayOptions {
    /// Never empty unless `debug_notls`, when it may also differ in length from `key`.
    pub certificate: Vec<PathBuf>,
    pub key: Vec<PathBuf>,
    /// Never empty.
    pub address: Vec<ListenAddress>,
    /// As written, letter case kept; IPv6 without brackets.
    pub hostname: Option<String>,
    /// Never 0.
    pub advertised_port: Option<u16>,
    pub default_domain: Option<String>,
    /// As written; empty: any. Ask [`RelayOptions::serves`].
    pub domains: Vec<String>,
    /// In the order in which they are asked; never empty, none twice.
    pub backend: Vec<BackendKind>,
    pub log_level: LogLevel,
    pub log_failed_auth: bool,
    pub debug_notls: bool,
    pub allow_other_methods: bool,
    /// None: never.
    pub max_auth_attempts: Option<NonZeroU32>,
    pub auth_challenge_expiration_time: Duration,
    /// Minimum <= default <= maximum.
    pub session_expiration_time_minimum: Duration,
    pub session_expiration_time_default: Duration,
    pub session_expiration_time_maximum: Duration,
    pub strict_expiry: bool,
    /// In the order in which they are offered; never empty.
    pub digest_algorithms: Vec<DigestAlgorithm>,
    pub allow_basic_auth: bool,
    pub websocket_address: Vec<ListenAddress>,
    /// Empty: any.
    pub websocket_origins: Vec<String>,
    pub allowed_peers: PeerList,
    pub denied_peers: PeerList,
    pub verify_next_hop: VerifyNextHop,
    /// None: the system's.
    pub ca: Option<PathBuf>,
    pub max_connections: ConnectionLimit,
    /// None: no limit; so the three below.
    pub max_connections_per_ip: Option<NonZeroU32>,
    pub max_unauthenticated: Option<NonZeroU32>,
    pub max_sessions_per_user: Option<NonZeroU32>,
    /// Bytes per second and direction.
    pub max_session_bandwidth: Option<NonZeroU64>,
    pub proxy_protocol: Vec<IpNet>,
    /// None: never.
    pub idle_timeout: Option<Duration>,
    pub drain_timeout: Duration,
    pub user: Option<String>,
    pub group: Option<String>,
    /// None: in the runtime directory.
    pub control_socket: Option<PathBuf>,
    pub metrics_address: Option<ListenAddress>,
    pub session_records: Option<PathBuf>,
}

/// `[Database]`; the fields are named as the options, whose meaning [`OPTIONS`] tells.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "OPTIONS explains each option, and only it")]
pub struct DatabaseOptions {
    /// Begins with one of the schemes accepted; otherwise as written.
    pub uri: SecretString,
    pub cleartext_passwords: bool,
    /// A plain identifier, as are the columns, or two with a dot between them.
    pub subscriber_table: String,
    pub username_col: String,
    pub domain_col: String,
    pub password_col: String,
    pub ha1_col: String,
    pub ha1_sha256_col: String,
    pub pool_size: NonZeroU32,
    pub timeout: Duration,
    /// Zero: nothing is remembered.
    pub cache_time: Duration,
}

/// One entry of `[Memory]`.
#[derive(Debug, Clone)]
pub struct MemoryUser {
    /// What stands before the last `@`, literally.
    pub user: String,
    /// What stands after it, literally.
    pub domain: String,
    /// Never empty.
    pub password: SecretString,
}

impl PartialEq for MemoryUser {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user
            && self.domain == other.domain
            && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Config {
    /// Reads a file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let failed =
            |findings| ConfigError { file: absolute(file), findings, warnings: Vec::new() };
        let bytes = read(file).map_err(|problem| failed(vec![Finding { line: None, problem }]))?;
        let text = decode(&bytes).map_err(failed)?;
        Self::parse(&text, file)
    }

    /// Reads the text of a file. `source` names it in messages, and its directory is the first for
    /// relative file names.
    pub fn parse(text: &str, source: &Path) -> Result<Self, ConfigError> {
        let source = absolute(source);
        let own_directory = source.parent().unwrap_or(Path::new("/"));
        let directories = [own_directory, Path::new(SYSTEM_DIRECTORY)];

        let mut reader = Reader::new(text);
        let mut relay = RelayOptions::read(&mut reader, directories);
        let database = DatabaseOptions::read(&mut reader);
        let memory = reader.users();
        reader.warn_of_unknown_names();
        check_credentials(&relay, &mut reader);
        check_expiration_times(&mut relay, &mut reader);
        check_realm(&relay, &mut reader);
        warn_of_useless_settings(&relay, &memory, &mut reader);

        let findings = reader.finish(&source)?;
        Ok(Self {
            relay,
            database,
            memory,
            warnings: findings.warnings,
            not_in_force: findings.not_in_force,
            lines: findings.lines,
            source,
        })
    }

    /// How a message on an option begins: file, line where it is set, section, name.
    pub fn place(&self, section: &str, option: &str) -> String {
        let set = self.lines.iter().find(|((s, o), _)| (*s, *o) == (section, option));
        let line = set.map_or_else(String::new, |(_, line)| format!(":{line}"));
        format!("{}{line}: [{section}] {option}", self.source.display())
    }
}

impl Config {
    /// The warnings, and one on the options that later releases will act on.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let names = &self.not_in_force;
        let line = (!names.is_empty())
            .then(|| format!("not in force in this release: {}", names.join(", ")));
        self.warnings.iter().cloned().chain(line)
    }
}

impl RelayOptions {
    /// Whether users of that realm may relay; letter case does not count.
    pub fn serves(&self, realm: &str) -> bool {
        let mut domains = self.domains.iter();
        self.domains.is_empty()
            || domains.any(|domain| domain.to_lowercase() == realm.to_lowercase())
    }

    fn read(reader: &mut Reader, directories: [&Path; 2]) -> Self {
        let mut relay = reader.section(options::RELAY);
        Self {
            certificate: relay.list("certificate", values::files(directories)),
            key: relay.list("key", values::files(directories)),
            address: relay.value("address", values::addresses),
            hostname: relay.optional("hostname", values::host),
            advertised_port: relay.optional("advertised_port", values::number(1..=u16::MAX)),
            default_domain: relay.optional("default_domain", values::realm),
            domains: relay.list("domains", values::domains),
            backend: relay.value("backend", values::backends),
            log_level: relay.value("log_level", values::log_level),
            log_failed_auth: relay.value("log_failed_auth", values::boolean),
            debug_notls: relay.value("debug_notls", values::boolean),
            allow_other_methods: relay.value("allow_other_methods", values::boolean),
            max_auth_attempts: relay.value("max_auth_attempts", values::attempts),
            auth_challenge_expiration_time: relay
                .value("auth_challenge_expiration_time", values::seconds(1..=u32::MAX)),
            session_expiration_time_minimum: relay
                .value("session_expiration_time_minimum", values::seconds(0..=u32::MAX)),
            session_expiration_time_default: relay
                .value("session_expiration_time_default", values::seconds(1..=u32::MAX)),
            session_expiration_time_maximum: relay
                .value("session_expiration_time_maximum", values::seconds(1..=u32::MAX)),
            strict_expiry: relay.value("strict_expiry", values::boolean),
            digest_algorithms: relay.value("digest_algorithms", values::digest_algorithms),
            allow_basic_auth: relay.value("allow_basic_auth", values::boolean),
            websocket_address: relay.list("websocket_address", values::service_addresses),
            websocket_origins: relay.list("websocket_origins", values::origins),
            allowed_peers: relay.optional("allowed_peers", values::peers).unwrap_or_default(),
            denied_peers: relay.value("denied_peers", values::peers),
            verify_next_hop: relay.value("verify_next_hop", values::verify_next_hop),
            ca: relay.optional("ca", values::file(directories)),
            max_connections: relay
                .optional("max_connections", values::connection_limit)
                .unwrap_or(ConnectionLimit::Descriptors),
            max_connections_per_ip: relay.value("max_connections_per_ip", values::limit),
            max_unauthenticated: relay.value("max_unauthenticated", values::limit),
            max_sessions_per_user: relay.value("max_sessions_per_user", values::limit),
            max_session_bandwidth: relay.value("max_session_bandwidth", values::bandwidth),
            proxy_protocol: relay.list("proxy_protocol", values::networks),
            idle_timeout: relay.value("idle_timeout", values::time_limit),
            drain_timeout: relay.value("drain_timeout", values::seconds(0..=u32::MAX)),
            user: relay.optional("user", values::system_name),
            group: relay.optional("group", values::system_name),
            control_socket: relay.optional("control_socket", values::file(directories)),
            metrics_address: relay.optional("metrics_address", values::service_address).flatten(),
            session_records: relay.optional("session_records", values::file(directories)),
        }
    }
}

/// Whether what was opened with the one serves for the other; the secret in the URI counts too.
impl PartialEq for DatabaseOptions {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            uri,
            cleartext_passwords,
            subscriber_table,
            username_col,
            domain_col,
            password_col,
            ha1_col,
            ha1_sha256_col,
            pool_size,
            timeout,
            cache_time,
        } = self;
        uri.expose_secret() == other.uri.expose_secret()
            && *cleartext_passwords == other.cleartext_passwords
            && *subscriber_table == other.subscriber_table
            && *username_col == other.username_col
            && *domain_col == other.domain_col
            && *password_col == other.password_col
            && *ha1_col == other.ha1_col
            && *ha1_sha256_col == other.ha1_sha256_col
            && *pool_size == other.pool_size
            && *timeout == other.timeout
            && *cache_time == other.cache_time
    }
}

impl DatabaseOptions {
    fn read(reader: &mut Reader) -> Self {
        let mut database = reader.section(options::DATABASE);
        Self {
            uri: database.value("uri", values::database_uri),
            cleartext_passwords: database.value("cleartext_passwords", values::boolean),
            subscriber_table: database.value("subscriber_table", values::table),
            username_col: database.value("username_col", values::identifier),
            domain_col: database.value("domain_col", values::identifier),
            password_col: database.value("password_col", values::identifier),
            ha1_col: database.value("ha1_col", values::identifier),
            ha1_sha256_col: database.value("ha1_sha256_col", values::identifier),
            pool_size: database.value("pool_size", values::pool_size),
            timeout: database.value("timeout", values::seconds(1..=u32::MAX)),
            cache_time: database.value("cache_time", values::seconds(0..=u32::MAX)),
        }
    }
}

/// A certificate with its key each, unless there is no TLS.
fn check_credentials(relay: &RelayOptions, reader: &mut Reader) {
    if relay.debug_notls {
        return;
    }
    let mut section = reader.section(options::RELAY);
    let missing = "TLS needs a certificate and its key, both PEM files; \
                   debug_notls = yes does without, for debugging";
    for name in ["certificate", "key"] {
        if !section.is_set(name) {
            section.missing(name, missing);
        }
    }
    let [certificates, keys] = [&relay.certificate, &relay.key].map(Vec::len);
    // A list that is empty here is missing or refused, and that has been said.
    if certificates != keys && certificates > 0 && keys > 0 {
        section.refuse(
            "key",
            format!(
                "as many keys as certificates are needed, in the same order: \
                 here are {keys} and {certificates}"
            ),
        );
    }
}

/// Minimum <= default <= maximum. 1.x did not ask this of the default, so one that the file does
/// not set gives way.
fn check_expiration_times(relay: &mut RelayOptions, reader: &mut Reader) {
    let mut section = reader.section(options::RELAY);
    let minimum = relay.session_expiration_time_minimum;
    let maximum = relay.session_expiration_time_maximum;
    if minimum > maximum {
        let name = if section.is_set("session_expiration_time_maximum") {
            "session_expiration_time_maximum"
        } else {
            "session_expiration_time_minimum"
        };
        let bounds = format!(
            "session_expiration_time_minimum ({}) must not exceed \
             session_expiration_time_maximum ({})",
            minimum.as_secs(),
            maximum.as_secs(),
        );
        section.refuse(name, bounds);
        return;
    }
    let default = relay.session_expiration_time_default;
    let within = default.clamp(minimum, maximum);
    if within == default {
        return;
    }
    let bounds = format!(
        "accepted is from session_expiration_time_minimum ({}) to \
         session_expiration_time_maximum ({})",
        minimum.as_secs(),
        maximum.as_secs(),
    );
    if section.is_set("session_expiration_time_default") {
        section.refuse("session_expiration_time_default", bounds);
        return;
    }
    relay.session_expiration_time_default = within;
    section.warn(
        "session_expiration_time_default",
        &format!("is not set and taken as {}, the nearest within the bounds", within.as_secs()),
    );
}

/// A realm of every authentication that is not served would refuse everybody.
fn check_realm(relay: &RelayOptions, reader: &mut Reader) {
    let refused = relay.default_domain.as_ref().is_some_and(|realm| !relay.serves(realm));
    if refused {
        let mut section = reader.section(options::RELAY);
        section.refuse(
            "default_domain",
            "it must be one of domains, or nobody could relay".to_owned(),
        );
    }
}

fn warn_of_useless_settings(relay: &RelayOptions, memory: &[MemoryUser], reader: &mut Reader) {
    let mut section = reader.section(options::RELAY);
    let local = |host: &String| host.trim_end_matches('.').eq_ignore_ascii_case("localhost");
    if relay.hostname.as_ref().is_some_and(local) {
        section.warn("hostname", "is localhost, which clients on other machines cannot reach");
    }
    if relay.backend.contains(&BackendKind::Memory) && memory.is_empty() {
        section.warn("backend", "is memory, but [Memory] has no user");
    }
    if relay.backend.contains(&BackendKind::Database) {
        let mut section = reader.section(options::DATABASE);
        if !section.is_set("uri") {
            section.warn(
                "uri",
                "is not set though backend is database; its default is a mere example",
            );
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes))
        .map_err(Problem::Unreadable)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(Problem::TooLarge);
    }
    Ok(bytes)
}

/// UTF-8, but for comments: files from the days of 1.x may have them in Latin-1.
fn decode(bytes: &[u8]) -> Result<String, Vec<Finding>> {
    let mut text = String::with_capacity(bytes.len());
    let mut findings = Vec::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line_text = String::from_utf8_lossy(line);
        let comment = line_text.trim_start().starts_with([';', '#']);
        // Borrowed means that nothing had to be replaced.
        if matches!(line_text, std::borrow::Cow::Owned(_)) && !comment {
            findings.push(Finding { line: Some(index + 1), problem: Problem::NotUtf8 });
        }
        text.push_str(&line_text);
    }
    if findings.is_empty() { Ok(text) } else { Err(findings) }
}

/// Absolute without following links: the relay changes its working directory later.
fn absolute(file: &Path) -> PathBuf {
    path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

#[cfg(test)]
mod tests;
