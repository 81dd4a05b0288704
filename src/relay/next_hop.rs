//! The next hop of a session: where it is, the dial, and what its failure means for the client.

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use moka::{policy::EvictionPolicy, sync::Cache};
use tracing::{debug, info, warn};

use super::{configuration::Configuration, end::End, party::Registration};
use crate::{
    msrp::{HeaderError, Name, StatusCode, Uri},
    session::Reject,
    transport::{Link, LinkError, Refusal, Target},
};

/// The comment of a REPORT when a connection is lost. msrprelay 1.x sent the same.
pub(super) const DISCONNECTED: &str = "Session got disconnected";

/// How long a user's dials that are refused for the same reason are not logged again. Each log line
/// costs the operator more than it costs the user.
const QUIET: Duration = Duration::from_mins(1);

/// Most users and reasons that are remembered for it.
const MAX_TOLD: u64 = 65_536;

/// Where the relay dials a next hop. Refused if the URI has no valid port or is not for TCP.
pub(super) fn target(hop: &Uri) -> Result<Target, Reject> {
    let port = u16::try_from(hop.effective_port()).ok().filter(|port| *port != 0);
    match port {
        Some(port) if hop.transport().eq_ignore_ascii_case("tcp") => {
            Ok(Target { host: hop.host().to_owned(), port, tls: hop.secure() })
        }
        _ => Err(HeaderError::Unreadable(Name::ToPath.as_str()).into()),
    }
}

/// What a failed dial means: the status and comment of the REPORTs, and why the session ends.
pub(super) fn verdict(error: &LinkError) -> (StatusCode, &'static str, End) {
    let forbidden = |comment| (StatusCode::FORBIDDEN, comment, End::Denied);
    match error.refusal() {
        Some(Refusal::Rule | Refusal::Own) => {
            forbidden("The relay may not connect to the next hop")
        }
        Some(Refusal::TooMany) => forbidden("Too many next hops in a short time"),
        None => (StatusCode::TIMEOUT, DISCONNECTED, End::Unreachable),
    }
}

/// The dials of all sessions.
#[derive(Debug)]
pub(super) struct NextHops {
    /// The users whose refused dials the log has told, each with the reason.
    told: Cache<(String, Refusal), ()>,
}

impl Default for NextHops {
    fn default() -> Self {
        let told = Cache::builder()
            .max_capacity(MAX_TOLD)
            .time_to_live(QUIET)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { told }
    }
}

impl NextHops {
    /// Dials for a session, and logs a failure. Each dial is made with what is in force now.
    pub(super) fn dial(
        &self,
        configuration: &Configuration,
        registration: &Registration,
        target: Target,
    ) -> BoxFuture<'static, Result<Link, LinkError>> {
        let info = registration.info();
        let user = format!("{}@{}", info.user, info.realm);
        let (dialler, told) = (configuration.dialler(), self.told.clone());
        async move {
            debug!("connecting to {target}");
            let link = dialler.connect(&target, &user).await;
            if let Err(error) = &link {
                match error.refusal() {
                    None => info!("next hop not reached: {error}"),
                    Some(refusal) if told.entry((user, refusal)).or_insert(()).is_fresh() => {
                        warn!("next hop not reached: {error}");
                    }
                    Some(_) => debug!("next hop not reached: {error}"),
                }
            }
            link
        }
        .boxed()
    }
}
