//! Certificates while the relay runs: renewal tools replace their files, and their days pass.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::{
    super::error,
    Configuration, Generation,
    files::{Change, Verdict},
};
use crate::{clock, tls::Finding};

/// How often the files and the calendar are looked at. A change must be there for one period: a
/// certificate and its key are not replaced in one step.
const PERIOD: Duration = Duration::from_secs(2);

/// Renews the certificates when their files change, and warns before they expire, for ever. May be
/// dropped at any time.
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
        let Ok(found) = tokio::task::spawn_blocking(move || files.again()).await else { continue };
        let verdict = change.judge(&generation.files, found);
        // A renewal may wait for a reload, and must not keep this generation meanwhile.
        drop(in_force);
        match verdict {
            Verdict::Nothing => {}
            Verdict::Undone => configuration.mend_renewal(),
            // The outcome is logged there, once for each change.
            Verdict::Settled => drop(configuration.renew().await),
        }
    }
}

/// Remembers which warnings of coming expiry were given. Those that were due when a generation was
/// built are among its own warnings.
#[derive(Debug, Default)]
struct Calendar {
    generation: u64,
    notices: Vec<usize>,
}

impl Calendar {
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
