//! The backends of a generation, opened or carried over from the previous generation.

use std::sync::Arc;

use super::super::{Config, RelayError, options::BackendSection};
use crate::{
    auth::{Backend, Chain, Kind, Opened},
    transport::Service,
};

/// The backends in use, in the order in which they are asked.
pub(in crate::relay) struct Stores(Vec<Store>);

struct Store {
    kind: &'static Kind,
    backend: Arc<dyn Backend>,
    /// Warnings about its options.
    warnings: Vec<String>,
    /// The backend was opened for this generation, not carried over.
    new: bool,
}

impl Stores {
    /// Opens the backends of a configuration; they do not connect yet. A backend whose section has
    /// not changed is carried over with its connections, if it
    /// [outlives a reload](Backend::outlives_reload).
    pub(super) fn open(
        config: &Config,
        previous: Option<(&Config, &Self)>,
    ) -> Result<Self, RelayError> {
        let open = |section: &BackendSection| {
            let carried = previous.and_then(|before| carried_over(section, config, before));
            carried.map_or_else(|| Store::open(section, config), Ok)
        };
        config.backends_in_use().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// All errors that could make [`Self::open`] fail. It stops at the first one.
    pub(super) fn faults(config: &Config) -> Vec<RelayError> {
        let sections = config.backends_in_use();
        sections.filter_map(|section| Store::open(section, config).err()).collect()
    }

    /// All backends as one.
    pub(super) fn backend(&self) -> Arc<dyn Backend> {
        match &self.0[..] {
            [only] => Arc::clone(&only.backend),
            several => {
                let backends = several.iter().map(|store| Arc::clone(&store.backend));
                Arc::new(Chain::new(backends.collect()))
            }
        }
    }

    /// Their names, as in the option `backend`.
    pub(in crate::relay) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|store| store.kind.name.to_owned())
    }

    /// The servers behind them, each with the words for it.
    pub(super) fn services(&self) -> impl Iterator<Item = Service> {
        let servers = self.0.iter().filter_map(|store| store.backend.server());
        servers.map(|address| Service { name: "the database", address })
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|store| store.warnings.iter().cloned())
    }

    /// Asks each new backend for a sign of life. The backends log the outcome.
    pub(in crate::relay) async fn probe(&self) {
        for store in self.0.iter().filter(|store| store.new) {
            store.backend.probe().await;
        }
    }
}

/// The backend of the previous configuration, if opening it again would give the same one.
fn carried_over(
    section: &BackendSection,
    config: &Config,
    (config_before, before): (&Config, &Stores),
) -> Option<Store> {
    let mut sections = config_before.backends.iter();
    let same_text =
        sections.any(|old| old.kind.name == section.kind.name && old.text == section.text);
    // A database reads the hashes of the algorithms that are offered.
    let same_algorithms = config_before.login.digest_algorithms == config.login.digest_algorithms;
    let mut stores = before.0.iter();
    let store = stores.find(|store| store.kind.name == section.kind.name)?;
    (same_text && same_algorithms && store.backend.outlives_reload()).then(|| Store {
        kind: section.kind,
        backend: Arc::clone(&store.backend),
        warnings: store.warnings.clone(),
        new: false,
    })
}

impl Store {
    fn open(section: &BackendSection, config: &Config) -> Result<Self, RelayError> {
        let (kind, name) = (section.kind, section.kind.section.name);
        let opened = section.options.open(&config.login.digest_algorithms);
        let Opened { backend, warnings } =
            opened.map_err(|error| RelayError::Backend { section: name, error })?;
        let located =
            |(option, text): (&str, String)| format!("{}: {text}", config.place(name, option));
        let warnings = warnings.into_iter().map(located).collect();
        Ok(Self { kind, backend, warnings, new: true })
    }
}
