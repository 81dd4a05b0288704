//! Whole files: defaults, messages, secrets, files of 1.x.

mod advice;

use std::{fs, num::NonZeroU32, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    config::{ConfigOption, PeerList},
    logging::LogLevel,
    msrp::digest::Algorithm,
};

const FILE: &str = "/etc/example/config.ini";
const SAMPLE: &str = include_str!("../../../config.ini.sample");

/// A [Relay] that needs nothing else.
const PLAIN: &str = "[Relay]\ndebug_notls = yes\n";
/// Four lines of [Relay] with all that it must have.
const TLS: &str = "[Relay]\nbackend = memory\ncertificate = c\nkey = k\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new(FILE))
}

/// The findings, without the name of the file.
fn errors(text: &str) -> Vec<String> {
    unnamed(parse(text).expect_err(text).to_string().lines())
}

/// The warnings, without the name of the file.
fn warnings(text: &str) -> Vec<String> {
    let config = parse(text).expect(text);
    unnamed(config.origin.warnings.iter().map(String::as_str))
}

fn unnamed<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lines = lines.map(|line| line.strip_prefix(FILE).expect("each names the file"));
    lines.map(str::to_owned).collect()
}

/// Everything that options decide.
fn meaning(config: &Config) -> String {
    let Config { tls, listening, login, logging, dialling, limits, process, .. } = config;
    let relay = format!(
        "{tls:#?}\n{listening:#?}\n{login:#?}\n{logging:#?}\n{dialling:#?}\n{limits:#?}\n{process:#?}"
    );
    let backends = config.backends.iter().map(|backend| format!("{:#?}", backend.options));
    format!("{relay}\n{}", backends.collect::<Vec<_>>().join("\n"))
}

/// Every option, with the name of its section.
fn options() -> Vec<(&'static str, &'static ConfigOption)> {
    let of =
        |section: Section| section.options().into_iter().map(move |option| (section.name, option));
    sections().into_iter().flat_map(of).collect()
}

/// The text of one section.
fn text_of(section: &str, config: &Config) -> SectionText {
    let backend = config.backends.iter().find(|backend| backend.kind.section.name == section);
    backend.expect(section).text.clone()
}

/// The sample is the tables as text. After a change of a table, run this with `WRITE_SAMPLE=1` to
/// write it again.
#[test]
fn the_sample_is_the_table() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.ini.sample");
    let sample = Sections(&sections()).sample();
    if std::env::var_os("WRITE_SAMPLE").is_some() {
        fs::write(file, &sample).unwrap();
    }
    let shipped = fs::read_to_string(file).unwrap();
    for (number, (shipped, expected)) in shipped.lines().zip(sample.lines()).enumerate() {
        assert_eq!(shipped, expected, "line {}", number + 1);
    }
    assert_eq!(shipped, sample);
}

#[test]
fn no_option_stands_twice_and_each_is_explained() {
    let options = options();
    for (index, (section, option)) in options.iter().enumerate() {
        let twice =
            options[..index].iter().any(|(other, o)| other == section && o.name == option.name);
        assert!(!twice, "{}", option.name);
        assert!(!option.explanation().is_empty() && !option.accepted().is_empty());
        assert!(!option.name.contains(['-', ' ']), "{}", option.name);
    }
}

/// What `docs/behaviour.md` says of a file that sets nothing.
#[test]
fn defaults() {
    let config = parse(PLAIN).unwrap();
    let Config { listening, login, limits, process, dialling, .. } = &config;
    assert_eq!(listening.address[0].to_string(), "0.0.0.0:2855");
    assert_eq!((listening.address.len(), listening.advertised_port), (1, None));
    assert_eq!((&listening.hostname, &login.default_domain), (&None, &None));
    assert_eq!(format!("{:?}", login.backend), "[database]");
    assert_eq!(config.logging.log_level, LogLevel::Info);
    assert!(login.allow_other_methods);
    assert!(!login.log_failed_auth && !login.strict_expiry && !login.allow_basic_auth);
    assert_eq!(login.max_auth_attempts, NonZeroU32::new(3));
    assert_eq!(login.auth_challenge_expiration_time.as_secs(), 15);
    assert_eq!(login.session_expiration_time_minimum.as_secs(), 60);
    assert_eq!(login.session_expiration_time_default.as_secs(), 600);
    assert_eq!(login.session_expiration_time_maximum.as_secs(), 3600);
    assert_eq!(dialling.allowed_peers, PeerList::default());
    assert!(dialling.denied_peers.special && dialling.denied_peers.networks.is_empty());
    assert_eq!(dialling.verify_next_hop, VerifyNextHop::Log);
    assert_eq!(login.digest_algorithms, [Algorithm::Md5]);
    assert_eq!(limits.max_connections, ConnectionLimit::Descriptors);
    assert_eq!(limits.max_connections_per_ip, NonZeroU32::new(2048));
    assert_eq!(limits.max_unauthenticated, NonZeroU32::new(4096));
    assert_eq!(limits.max_sessions_per_user, NonZeroU32::new(1024));
    assert_eq!(limits.max_session_bandwidth, None);
    assert_eq!(limits.idle_timeout.map(|time| time.as_secs()), Some(3600));
    assert_eq!(process.drain_timeout, Duration::ZERO);
    assert_eq!((&process.metrics_address, &process.control_socket), (&None, &None));

    let database = meaning(&config);
    for field in [
        "cleartext_passwords: true",
        "subscriber_table: \"subscriber\"",
        "ha1_sha256_col: \"ha1_sha256\"",
        "pool_size: 5",
        "timeout: 5s",
        "cache_time: 0ns",
    ] {
        assert!(database.contains(&format!("\n    {field},\n")), "{field}: {database}");
    }
    assert!(config.origin.not_in_force.is_empty());
}

#[test]
fn the_sample_starts_a_new_installation() {
    let config = Config::parse(SAMPLE, Path::new("/nowhere/config.ini")).unwrap();
    assert_eq!(config.tls.certificate, [Path::new("/nowhere/tls/relay.crt")]);
    assert_eq!(config.tls.key, [Path::new("/nowhere/tls/relay.key")]);
    assert_eq!(format!("{:?}", config.login.backend), "[memory]");
    assert!(config.origin.not_in_force.is_empty());
    let [warning] = &config.origin.warnings[..] else { panic!("{:?}", config.origin.warnings) };
    assert!(
        warning.ends_with(": [Relay] backend is memory, but [Memory] has no user"),
        "{warning}"
    );
}

/// Each default that the sample shows is the one that holds, and is accepted when written.
#[test]
fn the_defaults_of_the_sample_are_the_real_ones() {
    let is_option = |line: &&str| !line.contains('@') || line.starts_with("uri");
    let written: Vec<&str> = SAMPLE
        .lines()
        .filter_map(|line| if line.starts_with('[') { Some(line) } else { line.strip_prefix(';') })
        .filter(is_option)
        .collect();
    assert_eq!(written.len(), options().len() + sections().len());

    let written = written.join("\n");
    let written = parse(&written.replacen("debug_notls = No", "debug_notls = Yes", 1)).unwrap();
    assert_eq!(meaning(&written), meaning(&parse(PLAIN).unwrap()));
    assert!(written.origin.warnings.is_empty(), "{:?}", written.origin.warnings);
}

/// A value other than the default.
fn other_value(option: &ConfigOption) -> &'static str {
    match option.name {
        "certificate" | "key" | "ca" | "control_socket" | "session_records" => "other.file",
        "address" | "websocket_address" | "metrics_address" => "192.0.2.9:9",
        "hostname" | "default_domain" | "domains" | "user" | "group" => "other",
        "backend" => "memory, database",
        "log_level" => "ERROR",
        "digest_algorithms" => "SHA-256",
        "websocket_origins" => "https://other",
        "allowed_peers" | "denied_peers" | "proxy_protocol" => "192.0.2.0/24",
        "verify_next_hop" => "off",
        "max_session_bandwidth" => "20000",
        "session_expiration_time_maximum" => "3000",
        "allow_other_methods" | "cleartext_passwords" => "no",
        "log_failed_auth" | "strict_expiry" | "allow_basic_auth" => "yes",
        "uri" => "sqlite:/other",
        name if name.ends_with("_col") || name.ends_with("_table") => "other",
        _ => "99",
    }
}

/// None is read and dropped, none into the field of another.
#[test]
fn each_option_sets_the_field_of_its_name() {
    let unset = meaning(&parse(PLAIN).unwrap());
    for (section, option) in options() {
        let ConfigOption { name, .. } = option;
        if *name == "debug_notls" {
            continue;
        }
        // By way of [DEFAULT], which feeds both sections.
        let config = parse(&format!("{PLAIN}[DEFAULT]\n{name} = {}", other_value(option))).unwrap();
        let unset_config = parse(PLAIN).unwrap();
        for backend in KINDS.iter().map(|kind| kind.section.name) {
            let same = text_of(backend, &config) == text_of(backend, &unset_config);
            assert_eq!(same, section != backend, "{name}: {backend}");
        }
        if !option.secret {
            assert_eq!(changed_field(&unset, &meaning(&config)).as_deref(), Some(*name));
        }
        let late = (!option.in_force).then(|| format!("[{section}] {name}"));
        assert_eq!(config.origin.not_in_force, Vec::from_iter(late));
    }
}

/// The first field that differs: its name stands on the line that differs, or above what it holds.
fn changed_field(before: &str, after: &str) -> Option<String> {
    let different =
        before.lines().zip(after.lines()).position(|(before, after)| before != after)?;
    let upwards = after.lines().take(different + 1).collect::<Vec<_>>();
    let field = upwards.iter().rev().find_map(|line| {
        let line = line.strip_prefix("    ").unwrap_or(line);
        let (name, _) = line.split_once(':')?;
        (!name.starts_with(' ')).then_some(name)
    });
    field.map(str::to_owned)
}

#[test]
fn each_option_refuses_with_its_name() {
    // Any text without control characters may name a file.
    let refused = "a b\n\t\u{7}\"/:@";
    for (section, option) in options() {
        let (name, accepted) = (option.name, option.accepted());
        let error = parse(&format!("[{section}]\n{name} = {refused}")).unwrap_err().to_string();
        let finding = error
            .lines()
            .find(|line| line.starts_with(&format!("{FILE}:2: [{section}] {name} = ")));
        assert!(finding.is_some_and(|line| line.ends_with(&accepted)), "{name}: {error}");
    }
}

#[test]
fn a_file_of_1_x() {
    let text = "; configuration of 1.4\n[Relay]\naddress: any:2856\nhostname = relay.example.com\n\
                default-domain=example.com\ncertificate = /c\nkey = /k\nlog_level = 30\n\
                max_auth_attempts = -1\nbackend = Memory\ndebug_notls = False\n\
                session_expiration_time_maximum = 300\nallow-other-methods: off\n\
                [Memory]\nalice@example.com = 100%%\n\
                bob-b@sub-domain.example.com = x=y:z ; not a comment\n\
                [Database]\nuri = mysql://opensips:s3cr:et@db/opensips\n";
    let config = parse(text).unwrap();
    let Config { listening, login, tls, logging, .. } = &config;
    assert_eq!(listening.address[0].to_string(), "0.0.0.0:2856");
    assert_eq!(login.default_domain.as_deref(), Some("example.com"));
    assert_eq!(tls.certificate, [Path::new("/c")]);
    assert_eq!(logging.log_level, LogLevel::Warning);
    assert_eq!(login.max_auth_attempts, None);
    assert!(!login.allow_other_methods && !tls.debug_notls);
    assert_eq!(login.session_expiration_time_default.as_secs(), 300);

    // How users are read is told where they are.
    let users = meaning(&config);
    for field in ["\"alice\"", "\"bob-b\"", "\"sub-domain.example.com\""] {
        assert!(users.contains(field), "{users}");
    }
    assert!(config.origin.not_in_force.is_empty());
    let expected = [
        ": [Relay] session_expiration_time_default is not set and taken as 300, the nearest within the bounds",
        ":15: %% is read as %, as 1.x wrote it; a single % is enough now",
    ];
    assert_eq!(warnings(text), expected);
}

/// What Python's `ConfigParser` made of each file, as 1.4 set it up: option names case-sensitive,
/// `-` read as `_`, `%%` as `%`, comments on lines of their own, no quoting. Where 2.x
/// decided otherwise, the case says so.
#[test]
fn files_of_1_x_are_read_as_1_4_read_them() {
    type Meaning = fn(&Config) -> String;
    let level: Meaning = |config| format!("{:?}", config.logging.log_level);
    let minimum: Meaning =
        |config| config.login.session_expiration_time_minimum.as_secs().to_string();
    let host: Meaning = |config| config.listening.hostname.clone().unwrap_or_default();
    let realm: Meaning = |config| config.login.default_domain.clone().unwrap_or_default();
    let certificate: Meaning = |config| format!("{:?}", config.tls.certificate);
    let address: Meaning = |config| config.listening.address[0].to_string();
    let others: Meaning = |config| config.login.allow_other_methods.to_string();
    let table = [
        // Both separators, with and without blanks.
        ("hostname = a.example", host, "a.example"),
        ("hostname=a.example", host, "a.example"),
        ("hostname: a.example", host, "a.example"),
        ("hostname:a.example", host, "a.example"),
        ("hostname\t=\ta.example\t", host, "a.example"),
        ("address: any:2856", address, "0.0.0.0:2856"),
        ("address = default", address, "0.0.0.0:2855"),
        // Hyphens in names, any number of them.
        ("log-level = DEBUG", level, "Debug"),
        ("session-expiration-time-minimum = 7", minimum, "7"),
        ("session_expiration-time_minimum: 7", minimum, "7"),
        // Levels by name in any case, and by number.
        ("log_level = debug", level, "Debug"),
        ("log_level: 10", level, "Debug"),
        ("log_level = 50", level, "Critical"),
        ("log_level = NotSet", level, "NotSet"),
        // Comments of both kinds, indented or not; none behind a value.
        ("; c\nhostname = a.example\n# c", host, "a.example"),
        ("  ; c\n\t# c\nhostname = a.example", host, "a.example"),
        ("default_domain = a.example ; b", realm, "a.example ; b"),
        ("default_domain = a.example # b", realm, "a.example # b"),
        (";hostname = b.example\nhostname = a.example", host, "a.example"),
        // Continuation lines, past blank ones and comments; a value may begin on the second.
        ("certificate =\n    /c", certificate, "[\"/c\"]"),
        ("certificate = /c\n\n  ; note\n", certificate, "[\"/c\"]"),
        ("hostname =\n\ta.example\n\nlog_level = 10", host, "a.example"),
        // A list in continuation lines is new; the lines are those that 1.4 joined.
        ("certificate = /c,\n  ; note\n  /d", certificate, "[\"/c\", \"/d\"]"),
        // Booleans in every spelling and case.
        ("allow_other_methods = NO", others, "false"),
        ("allow_other_methods = oFf", others, "false"),
        ("allow_other_methods: 0", others, "false"),
        ("allow_other_methods = False", others, "false"),
        ("allow_other_methods = 1", others, "true"),
        ("allow_other_methods = On", others, "true"),
        ("allow-other-methods = TRUE", others, "true"),
        ("allow_other_methods = yEs", others, "true"),
        // Percent signs.
        ("default_domain = 50%% off", realm, "50% off"),
        // [DEFAULT] supplies what a section does not set, wherever it stands.
        ("[DEFAULT]\nhostname = a.example", host, "a.example"),
        ("hostname = a.example\n[DEFAULT]\nhostname = b.example", host, "a.example"),
        ("[DEFAULT]\nlog-level = 10\nother = 1", level, "Debug"),
        // Section names and option names are case-sensitive: these set nothing.
        ("Hostname = a.example", host, ""),
        ("[relay]\nhostname = a.example", host, ""),
        // Empty is not set; 1.4 took it as an empty value.
        ("hostname =", host, ""),
    ];
    for (text, meaning, expected) in table {
        let config = parse(&format!("{PLAIN}{text}\n")).expect(text);
        assert_eq!(meaning(&config), expected, "{text:?}");
    }
}

#[test]
fn errors_say_what_is_accepted() {
    let table = [
        (
            "log_level = LOUD",
            "[Relay] log_level = \"LOUD\": accepted is CRITICAL, ERROR, WARNING, INFO, DEBUG, NOTSET or a number \
             from 0 (everything) to 50",
        ),
        (
            "denied_peers = special, 10.0.0.0/40",
            "[Relay] denied_peers = ... \"10.0.0.0/40\" ...: accepted is a list of networks such as 192.0.2.0/24 or \
             2001:db8::/32, addresses and the word special, separated by commas, or none alone",
        ),
        (
            "advertised_port = 0",
            "[Relay] advertised_port = \"0\": accepted is a port from 1 to 65535",
        ),
        (
            "max_session_bandwidth = 100",
            "[Relay] max_session_bandwidth = \"100\": accepted is a whole number of at least 16384, or 0 for no limit",
        ),
        (
            "debug_notls = \u{1b}[1m\n x",
            "[Relay] debug_notls = \"\\u{1b}[1m\\nx\": accepted is yes, no, true, false, on, off, 1 or 0",
        ),
        ("[Relay]", "[Relay] stands twice, first on line 1: write both in one"),
        ("key = x", "[Relay] key stands twice, first on line 4: remove one"),
        ("nonsense", "[Relay] the line is not understood; accepted is name = value"),
        ("[nonsense", "a section is written [Name] on a line of its own"),
        (
            "session_expiration_time_minimum = 4000",
            "[Relay] session_expiration_time_minimum = \"4000\": session_expiration_time_minimum (4000) must not \
             exceed session_expiration_time_maximum (3600)",
        ),
        (
            "session_expiration_time_default = 10",
            "[Relay] session_expiration_time_default = \"10\": accepted is from session_expiration_time_minimum (60) \
             to session_expiration_time_maximum (3600)",
        ),
        (
            "default_domain = a.example\ndomains = b.example, c.example",
            "[Relay] default_domain = \"a.example\": it must be one of domains, or nobody could relay",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(errors(&format!("{TLS}{text}")), [format!(":5: {expected}")], "{text}");
    }
}

#[test]
fn all_errors_are_told_in_the_order_of_the_lines() {
    let text = "x\n[DEFAULT]\ntimeout = never\n[Database]\nuri = db\n[Relay]\nkey = k\nkey = l\naddress = :x";
    let expected = [
        ":1: a section must come first, such as [Relay]",
        ":3: [DEFAULT] timeout = \"never\": accepted is a whole number of seconds from 1 to 4294967295",
        ":5: [Database] uri = (not shown): accepted is mysql://user:password@host/database, \
         postgresql://user:password@host/database or sqlite:///file",
        ":8: [Relay] key stands twice, first on line 7: remove one",
        ":9: [Relay] address = \":x\": accepted is host:port, host, :port, any:port, [IPv6]:port or default, or \
         several separated by commas",
        ": [Relay] certificate is not set: TLS needs a certificate and its key, both PEM files; debug_notls = yes \
         does without, for debugging",
    ];
    assert_eq!(errors(text), expected);
}

#[test]
fn tls_needs_pairs() {
    let missing = |name: &str, text: &str| {
        let expected = format!(": [Relay] {name} is not set: TLS needs a certificate and its key");
        assert!(errors(text).iter().any(|line| line.starts_with(&expected)), "{text}");
    };
    missing("certificate", "");
    missing("key", "");
    missing("certificate", "[Relay]\ncertificate =\nkey = k");
    missing("key", "[Relay]\ncertificate = a, b");
    let expected = ":3: [Relay] key = \"k\": as many keys as certificates are needed, in the same order: here are 1 and 2";
    assert_eq!(errors("[Relay]\ncertificate = a, b\nkey = k"), [expected]);

    let config = parse("[Relay]\ncertificate = a, b\nkey = c,\n d").unwrap();
    assert_eq!(config.tls.key, [Path::new("/etc/example/c"), Path::new("/etc/example/d")]);
    assert!(parse(&format!("{PLAIN}certificate = a")).is_ok());
}

#[test]
fn warnings_name_what_was_meant() {
    let text = "[DEFAULT]\nspam = 1\n[Relay]\ndebug_notls = 1\nbackend = memory\nadress = x\nuri = x\n\
                hostname = LocalHost\n[SIPThor]\nx = y\n[memory]\na@b = c\n[Memory]\na@b = c\nempty@b =\n\
                [Database]\nzzz = 1";
    let expected = [
        ":2: [DEFAULT] unknown option spam is ignored",
        ":6: [Relay] unknown option adress is ignored; did you mean address?",
        ":7: [Relay] unknown option uri is ignored; it belongs to [Database]",
        ":8: [Relay] hostname is localhost, which clients on other machines cannot reach",
        ":9: unknown section [SIPThor] is ignored",
        ":11: unknown section [memory] is ignored; did you mean [Memory]? Lines user@domain = password belong there",
        ":15: [Memory] the user has no password and is left out",
        ":17: [Database] unknown option zzz is ignored",
    ];
    assert_eq!(warnings(text), expected);
    let expected =
        ": [Database] uri is not set though backend is database; its default is a mere example";
    assert_eq!(warnings(PLAIN), [expected]);
    let error = parse("[Relay]\nadress = x").unwrap_err();
    assert_eq!(error.warnings.len(), 2, "a file with errors tells its warnings too");
}

#[test]
fn default_feeds_the_others_but_memory() {
    let text = "[DEFAULT]\nhostname = a.example\nlog_level = ERROR\npool_size = 7\nx@y = z\n[Relay]\n\
                log-level = DEBUG\nhostname =\ndebug_notls = 1\n[Memory]\na@b = c";
    let config = parse(text).unwrap();
    assert_eq!(config.logging.log_level, LogLevel::Debug);
    assert_eq!(config.listening.hostname, None, "an empty value hides the one of [DEFAULT]");
    let backends = meaning(&config);
    assert!(backends.contains("pool_size: 7,"), "{backends}");
    assert_eq!(backends.matches("domain: \"").count(), 1, "{backends}");
}

#[test]
fn served_realms() {
    let some = parse(&format!("{PLAIN}domains = Example.com, other.example")).unwrap();
    let table =
        [("example.COM", true), ("other.example", true), ("example.org", false), ("", false)];
    for (realm, served) in table {
        assert_eq!(some.login.serves(realm), served, "{realm}");
    }
    assert!(parse(PLAIN).unwrap().login.serves("anything"));
}

/// Wherever a secret is written, right or wrong, no message repeats it.
#[test]
fn secrets_are_never_told() {
    let lines = [
        "alice@example.com = s3cr3t",
        "alice@example.com: s3cr3t",
        "alice@example.com: c=s3cr3t",
        "alice@example.com = x\n s3cr3t",
        "alice@example.com = s3cr3t%%\nbob@b = %(s3cr3t)s",
        "alice = s3cr3t\n[s",
        "s3cr3t",
        "uri = mysql://u:s3cr3t@db/x",
        "uri = u:s3cr3t@db/x",
        "uri = mssql://u:s3cr3t@db",
        "uri = mysql://u:s3cr3t@db/x\n y",
        "uri mysql://u:s3cr3t@db",
    ];
    // Outside [Memory] the name of an unknown option is told, or nobody could find it.
    let users = ["s3cr3t = alice", "s3cr3t = a\ns3cr3t = b", "s3cr3t@ = x"];
    let everywhere = lines.iter().flat_map(|line| {
        ["Memory", "Database", "Memroy", "DEFAULT"].map(|section| (section, *line))
    });
    for (section, line) in everywhere.chain(users.map(|line| ("Memory", line))) {
        let told = match parse(&format!("{PLAIN}[{section}]\n{line}")) {
            Ok(config) => format!("{config:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!told.contains("s3cr3t"), "{section} {line}: {told}");
    }
}

#[test]
fn a_file_is_read_with_its_directory() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("config.ini");
    fs::write(
        &file,
        b"\xef\xbb\xbf[Relay]\r\n# f\xfcr Blink\r\ndebug_notls = 1\r\ncontrol_socket = x\r\n",
    )
    .unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(*config.source(), file);
    assert_eq!(config.process.control_socket, Some(root.path().join("x")));
}

#[test]
fn a_relative_source_is_made_absolute() {
    let config = Config::parse(&format!("{PLAIN}ca = x"), Path::new("config.ini")).unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(*config.source(), here.join("config.ini"));
    assert_eq!(config.dialling.ca, Some(here.join("x")));
}

/// A file of real names and random values.
fn any_file() -> impl Strategy<Value = String> {
    let names: Vec<&str> = options().into_iter().map(|(_, option)| option.name).collect();
    let value = prop_oneof![
        "[0-9]{1,20}",
        "[a-z0-9.:,/@%\\[\\]-]{0,20}",
        any::<String>(),
        Just("yes".to_owned()),
        Just("none".to_owned()),
    ];
    let section = proptest::sample::select(vec!["Relay", "Database", "Memory", "DEFAULT", "x"]);
    let line = prop_oneof![
        1 => section.prop_map(|section| format!("[{section}]\n")),
        4 => (proptest::sample::select(names), value).prop_map(|(name, value)| format!("{name} = {value}\n")),
        1 => any::<String>().prop_map(|text| format!("{text}\n")),
    ];
    proptest::collection::vec(line, 0..20).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn no_input_panics(text in prop_oneof![any_file(), any::<String>()]) {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.mistakes.is_empty());
            prop_assert_eq!(error.to_string().lines().count(), error.mistakes.len());
        }
    }
}
