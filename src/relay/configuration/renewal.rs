//! Watches the certificates while the relay runs: renewal tools replace the files, and certificates
//! expire.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::{
    super::{error, on_own_thread},
    Configuration, Generation,
    files::{Change, Observation},
};
use crate::{clock, tls::Finding};

/// How often the files and the calendar are looked at. A change counts once the files have stayed
/// the same for one period, because tools do not replace a certificate and its key in one step.
const PERIOD: Duration = Duration::from_secs(2);

/// Renews the certificates when their files change, and warns before they expire. Never ends. May
/// be dropped at any time.
pub(in crate::relay) async fn watch(configuration: Arc<Configuration>) {
    let mut change = Change::default();
    let mut calendar = Calendar::default();
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let in_force = configuration.in_force();
        let generation = &in_force.generation;
        for finding in calendar.turn(generation, clock::wall()) {
            warn!("{}", error::located(&finding, &generation.config));
        }
        let files = generation.files.clone();
        // On a dead mount this waits for ever, and a reload does not wait for it.
        let found = on_own_thread("renewal", move || files.again()).await;
        let Some(found) = found else { continue };
        let observation = change.judge(&generation.files, found);
        // A renewal may wait for a reload, and must not keep this generation meanwhile.
        drop(in_force);
        match observation {
            Observation::Nothing => {}
            Observation::Undone => configuration.mend_renewal(),
            // The outcome is logged there, once for each change.
            Observation::Settled => drop(configuration.renew().await),
        }
    }
}

/// Remembers which warnings about certificates that will expire have been given. A generation
/// itself has the warnings that were due when it was built.
#[derive(Debug, Default)]
struct Calendar {
    generation: u64,
    /// For each certificate, how many warnings have been given.
    notices: Vec<usize>,
}

impl Calendar {
    /// The warnings that have become due since the last call.
    fn turn(&mut self, generation: &Generation, now: SystemTime) -> Vec<Finding> {
        if self.generation != generation.number {
            self.generation = generation.number;
            let built = generation.built;
            self.notices = generation.identities.iter().map(|one| one.notices(built)).collect();
        }
        let mut findings = Vec::new();
        for (identity, given) in generation.identities.iter().zip(&mut self.notices) {
            let due = identity.notices(now);
            if due > std::mem::replace(given, due) {
                findings.extend(identity.expiry(now));
            }
        }
        findings
    }
}
