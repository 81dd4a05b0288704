//! Follows the files by which the system resolves names while the relay runs.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::super::on_own_thread;
use crate::transport::Resolver;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// Reads `/etc/resolv.conf` and `/etc/hosts` again when they change, for ever. May be dropped at any
/// time.
pub(in crate::relay) async fn follow_names(resolver: Arc<Resolver>) {
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let resolver = Arc::clone(&resolver);
        on_own_thread("naming", move || resolver.refresh()).await;
    }
}
