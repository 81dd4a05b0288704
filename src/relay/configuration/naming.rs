//! Follows the files by which the system resolves names while the relay runs.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use super::{super::on_own_thread, files::Files};
use crate::transport::{
    Resolver,
    resolve::{HOSTS, RESOLV_CONF},
};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// Reads `/etc/resolv.conf` and `/etc/hosts` again when they change. Never ends. May be dropped at
/// any time.
pub(in crate::relay) async fn follow_names(resolver: Arc<Resolver>) {
    // Empty at first: the files may have changed since the resolver read them.
    let mut read = Files::default();
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let resolver = Arc::clone(&resolver);
        let before = read.clone();
        // Taken before the files are read: a change while they are read is noticed afterwards.
        let look = move || {
            let found = Files::at([RESOLV_CONF, HOSTS]);
            if found != before {
                resolver.reread();
            }
            found
        };
        let Some(found) = on_own_thread("naming", look).await else { continue };
        if found != read && read != Files::default() {
            info!("{RESOLV_CONF} or {HOSTS} has changed and was read again");
        }
        read = found;
    }
}
