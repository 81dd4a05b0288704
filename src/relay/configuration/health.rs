//! Whether the backends answer: what the operator is told of one that does not, and how the relay
//! notices that it is back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{super::Config, Configuration, stores::Stores};
use crate::{
    auth::{Backend, Health, HealthState},
    clock,
};

/// How often a backend that fails is asked whether it is back. Logins ask it, too, but at night
/// there may be none.
const RETURN_PERIOD: Duration = Duration::from_secs(10);

/// Asks the backends in force as long as one of them fails. Never ends. May be dropped at any time.
pub(in crate::relay) async fn await_return(configuration: Arc<Configuration>) {
    let mut period = interval(RETURN_PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        // A reload may replace the generation while a probe waits, so only the backends are kept.
        let backend = configuration.backend();
        if backend.health().iter().any(Health::fails) {
            // The backends log what is new.
            backend.probe().await;
        }
    }
}

/// Opens the backends of a configuration and asks them, for `patience` at most. Returns a warning
/// for each that has not answered. Backends that cannot be opened are left out:
/// [`Generation::faults`](super::Generation::faults) has these.
pub async fn unanswered(config: &Config, patience: Duration) -> Vec<String> {
    let Ok(stores) = Stores::open(config, None) else { return Vec::new() };
    let (backend, asked) = (stores.backend(), clock::now());
    // What a probe found is in the health.
    let _: Result<(), _> = timeout(patience, backend.probe()).await;
    complaints(&*backend, config, asked)
}

/// A warning for each backend that has not answered since `asked`, with the place in `config.ini`
/// that must be looked at.
pub(in crate::relay) fn complaints(
    backend: &dyn Backend,
    config: &Config,
    asked: Instant,
) -> Vec<String> {
    let complaint = |Health { name, place, option, state }: Health| {
        let fault = match state {
            HealthState::Answers { last } if last >= asked => return None,
            HealthState::Answers { .. } | HealthState::Unasked => {
                format!("{place} has not answered yet")
            }
            HealthState::Fails { fault, .. } => format!("{place}: {fault}"),
        };
        let mut sections = config.backends.iter();
        let section = sections.find(|section| section.kind.name == name)?;
        let at = config.place(section.kind.section.name, option);
        Some(format!("{at}: {fault}; until it answers, its users get 500"))
    };
    backend.health().into_iter().filter_map(complaint).collect()
}
