//! The backends of a generation, opened or carried over from the one before.

use std::sync::Arc;

use super::{super::RelayError, generation::Predecessor, policy};
use crate::{
    auth::{Backend, Chain, Database, Memory},
    config::{BackendKind, Config},
};

/// In the order in which they are asked.
pub(in crate::relay) struct Stores(Vec<Store>);

struct Store {
    kind: BackendKind,
    backend: Arc<dyn Backend>,
    /// What is odd about its options.
    warnings: Vec<String>,
    /// It was not carried over.
    new: bool,
}

impl Stores {
    /// Those of a configuration, connected nowhere yet; one whose options did not change is the
    /// same as before, with its connections.
    pub(super) fn open(
        config: &Config,
        previous: Option<Predecessor<'_>>,
    ) -> Result<Self, RelayError> {
        let open = |&kind: &BackendKind| {
            let carried = previous.and_then(|previous| Store::carried_over(kind, config, previous));
            carried.map_or_else(|| Store::open(kind, config), Ok)
        };
        config.relay.backend.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Everything that [`Self::open`] would stop at.
    pub(super) fn faults(config: &Config) -> Vec<RelayError> {
        let kinds = config.relay.backend.iter();
        kinds.filter_map(|&kind| Store::open(kind, config).err()).collect()
    }

    /// What knows all users.
    pub(super) fn backend(&self) -> Arc<dyn Backend> {
        match &self.0[..] {
            [only] => Arc::clone(&only.backend),
            several => {
                let backends = several.iter().map(|store| Arc::clone(&store.backend));
                Arc::new(Chain::new(backends.collect()))
            }
        }
    }

    /// As the option names them.
    pub(in crate::relay) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|store| store.kind.to_string())
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|store| store.warnings.iter().cloned())
    }

    /// Has those that nobody has asked yet say in the log whether they answer.
    pub(in crate::relay) async fn probe(&self) {
        for store in self.0.iter().filter(|store| store.new) {
            store.backend.probe().await;
        }
    }
}

impl Store {
    fn carried_over(
        kind: BackendKind,
        config: &Config,
        Predecessor { config: before, generation }: Predecessor<'_>,
    ) -> Option<Self> {
        let same = match kind {
            BackendKind::Memory => before.memory == config.memory,
            BackendKind::Database => {
                before.database == config.database
                    && before.relay.digest_algorithms == config.relay.digest_algorithms
            }
        };
        let mut stores = generation.stores().0.iter();
        let store = stores.find(|store| same && store.kind == kind)?;
        Some(Self {
            kind,
            backend: Arc::clone(&store.backend),
            warnings: store.warnings.clone(),
            new: false,
        })
    }

    fn open(kind: BackendKind, config: &Config) -> Result<Self, RelayError> {
        let (backend, warnings): (Arc<dyn Backend>, _) = match kind {
            BackendKind::Memory => {
                let users = config.memory.iter().map(|entry| {
                    (entry.user.clone(), entry.domain.clone(), entry.password.clone())
                });
                let memory = Memory::new(users)
                    .map_err(|twice| RelayError::DuplicateUser(twice.to_string()))?;
                (Arc::new(memory), Vec::new())
            }
            BackendKind::Database => {
                let algorithms = policy::algorithms(&config.relay);
                let (database, warnings) = Database::open(&config.database, &algorithms)?;
                let place = config.place("Database", "uri");
                let located = warnings.iter().map(|warning| format!("{place}: {warning}"));
                (Arc::new(database), located.collect())
            }
        };
        Ok(Self { kind, backend, warnings, new: true })
    }
}
