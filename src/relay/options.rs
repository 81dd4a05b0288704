//! The values of `config.ini`: `[Relay]` in groups of options, and the sections of the backends.
//!
//! A new option of `[Relay]` is one row in `groups`, and the code that uses it. The options of a
//! backend are in the file of that backend.

mod groups;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::groups::{
    ConnectionLimit, DialOptions, LimitOptions, ListeningOptions, LoginOptions, ProcessOptions,
    TlsOptions, VerifyNextHop,
};
use crate::{
    auth::{self, BackendOptions, KINDS, Kind},
    config::{self, ConfigError, Origin, Reader, Section, SectionReader, SectionText, Sections},
    logging::LogOptions,
};

/// The values of one `config.ini`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file, with the line of each option.
    pub origin: Origin,
    /// `[Relay]`: certificates, or plain TCP.
    pub tls: TlsOptions,
    /// `[Relay]`: addresses and host name.
    pub listening: ListeningOptions,
    /// `[Relay]`: the rules for clients; shared with the policy of each session.
    pub login: Arc<LoginOptions>,
    /// `[Relay]`: the log.
    pub logging: LogOptions,
    /// `[Relay]`: next hops.
    pub dialling: DialOptions,
    /// `[Relay]`: limits.
    pub limits: LimitOptions,
    /// `[Relay]`: the process itself.
    pub process: ProcessOptions,
    /// The section of each kind of backend, in use or not.
    pub backends: Vec<BackendSection>,
}

/// The section of one kind of backend.
#[derive(Debug, Clone)]
pub struct BackendSection {
    /// The kind of backend.
    pub kind: &'static Kind,
    /// The text of the section. A reload that finds the same text keeps the backend.
    pub text: SectionText,
    /// Its options, ready to be opened.
    pub options: Arc<dyn BackendOptions>,
}

/// Every section that a file may have.
pub fn sections() -> Vec<Section> {
    [groups::SECTION].into_iter().chain(KINDS.iter().map(|kind| kind.section)).collect()
}

impl Config {
    /// Reads a file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(&config::read_file(file)?, file)
    }

    /// Reads a file in spite of its faults, which come beside what could be read: a value that is
    /// refused is replaced by its default, a backend by none. For a check only, which looks for
    /// further faults in the rest. Fails where the file as a whole cannot be read.
    pub fn examine(file: &Path) -> Result<(Self, Option<ConfigError>), ConfigError> {
        Ok(Self::read(&config::read_file(file)?, file))
    }

    /// Reads the text of a file. Messages name the file `source`. Relative file names are looked up
    /// in its directory first.
    pub fn parse(text: &str, source: &Path) -> Result<Self, ConfigError> {
        let (config, faults) = Self::read(text, source);
        faults.map_or(Ok(config), Err)
    }

    fn read(text: &str, source: &Path) -> (Self, Option<ConfigError>) {
        let sections = sections();
        let mut reader = Reader::new(text, source, Sections(&sections));

        let mut section = reader.section(groups::SECTION.name);
        let tls = TlsOptions::read(&mut section);
        let listening = ListeningOptions::read(&mut section);
        let mut login = LoginOptions::read(&mut section);
        let logging = LogOptions::read(&mut section);
        let dialling = DialOptions::read(&mut section);
        let limits = LimitOptions::read(&mut section);
        let process = ProcessOptions::read(&mut section);
        if section.is_refused("backend") {
            // Not the default: nobody asked for it, and nobody wants to be told what it lacks.
            let written = section.written("backend").unwrap_or_default();
            login.backend = auth::known_kinds(written);
            if let Some(successor) = auth::gone(written) {
                section.explain("backend", successor);
            }
        }
        check_credentials(&tls, &mut section);
        check_expiration_times(&mut login, &mut section);
        check_realm(&login, &mut section);
        warn_of_local_name(&listening, &mut section);

        let in_use = |kind: &Kind| login.backend.iter().any(|used| used.name == kind.name);
        let mut backends = Vec::new();
        for kind in KINDS {
            let mut section = reader.section(kind.section.name);
            let options = (kind.read)(&mut section, in_use(kind));
            if let Some(option) = options.one_realm_by().filter(|_| in_use(kind)) {
                check_one_realm(&login, option, &mut section);
            }
            backends.push(BackendSection { kind, text: section.text(), options });
        }
        for backend in backends.iter().filter(|backend| in_use(backend.kind)) {
            if let Some(lack) = backend.options.lack() {
                let mut section = reader.section(groups::SECTION.name);
                section.warn("backend", &format!("is {}, but {lack}", backend.kind.name));
            }
        }

        let (origin, faults) = reader.finish();
        let login = Arc::new(login);
        let config =
            Self { origin, tls, listening, login, logging, dialling, limits, process, backends };
        (config, faults)
    }

    /// The sections of the backends that are in use, in the order in which they are asked.
    pub fn backends_in_use(&self) -> impl Iterator<Item = &BackendSection> {
        self.login
            .backend
            .iter()
            .filter_map(|kind| self.backends.iter().find(|section| section.kind.name == kind.name))
    }

    /// The file, as an absolute path.
    pub fn source(&self) -> &PathBuf {
        &self.origin.source
    }

    /// The beginning of a message about an option: file, line if it is set, section and name.
    pub fn place(&self, section: &str, option: &str) -> String {
        self.origin.place(section, option)
    }

    /// What this file means that an operator of msrprelay 1.x may not expect. The relay does what it
    /// says, so it is no warning.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let [allowed, denied] = ["allowed_peers", "denied_peers"];
        let unset = [allowed, denied].iter().all(|option| !self.origin.is_set("Relay", option));
        let note = unset.then(|| {
            format!(
                "{} is not set: the relay connects to public addresses only, msrprelay 1.x did to \
                 any; list networks in {allowed} where clients or relays are reached in private ones",
                self.place("Relay", denied),
            )
        });
        note.into_iter()
    }

    /// The warnings about this file.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        self.origin.remarks()
    }
}

/// TLS needs a certificate, and a key for each certificate.
fn check_credentials(tls: &TlsOptions, section: &mut SectionReader<'_>) {
    if tls.debug_notls || section.is_refused("debug_notls") {
        return;
    }
    let missing = "TLS needs a certificate and its key, both PEM files; \
                   debug_notls = yes does without, for debugging";
    for name in ["certificate", "key"] {
        if !section.is_set(name) {
            section.missing(name, missing);
        }
    }
    let [certificates, keys] = [&tls.certificate, &tls.key].map(Vec::len);
    // An empty list means that the option is missing or was refused, which is an error already.
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

/// Requires minimum <= default <= maximum. msrprelay 1.x did not check the default, so a default
/// that the file does not set is moved into the bounds.
fn check_expiration_times(login: &mut LoginOptions, section: &mut SectionReader<'_>) {
    let minimum = login.session_expiration_time_minimum;
    let maximum = login.session_expiration_time_maximum;
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
    let default = login.session_expiration_time_default;
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
    login.session_expiration_time_default = within;
    section.warn(
        "session_expiration_time_default",
        &format!("is not set and taken as {}, the nearest within the bounds", within.as_secs()),
    );
}

/// `default_domain` must be a realm that is served, or the relay would refuse each AUTH.
fn check_realm(login: &LoginOptions, section: &mut SectionReader<'_>) {
    if login.default_domain.as_ref().is_some_and(|realm| !login.serves(realm)) {
        section.refuse(
            "default_domain",
            "it must be one of domains, or nobody could relay".to_owned(),
        );
    }
}

/// Users that are looked up by name alone are the same in every realm, so there may be one only.
fn check_one_realm(login: &LoginOptions, option: &str, section: &mut SectionReader<'_>) {
    if login.default_domain.is_none() && login.domains.len() != 1 {
        let remedy = "without a domain users are looked up by name alone, so only one realm can be \
                      served: set [Relay] default_domain, or domains to that one";
        section.refuse(option, remedy.to_owned());
    }
}

fn warn_of_local_name(listening: &ListeningOptions, section: &mut SectionReader<'_>) {
    let local = |host: &String| host.trim_end_matches('.').eq_ignore_ascii_case("localhost");
    if listening.hostname.as_ref().is_some_and(local) {
        section.warn("hostname", "is localhost, which clients on other machines cannot reach");
    }
}

#[cfg(test)]
mod tests;
