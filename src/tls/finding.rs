//! Warnings about a certificate or a key that works.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use x509_parser::time::ASN1Time;

/// How long before its end a certificate is reported as expiring. A certificate that is loaded is
/// reported from the first of these times on. One in use is reported at each of them.
pub const EXPIRY_NOTICES: [Duration; 3] =
    [Duration::from_hours(30 * 24), Duration::from_hours(7 * 24), Duration::from_hours(24)];

/// A warning about a certificate or key: it works today, but the operator should look at it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The certificate is past its last day.
    #[error(
        "certificate {} expired at {}: clients that verify it will refuse this relay; renew \
         it and reload",
        path.display(), Utc(*not_after)
    )]
    Expired {
        /// The certificate file.
        path: PathBuf,
        /// When it ended.
        not_after: SystemTime,
    },
    /// The certificate is not valid yet, or the machine's clock is wrong.
    #[error(
        "certificate {} is not valid before {}: check the clock of this machine",
        path.display(), Utc(*not_before)
    )]
    NotYetValid {
        /// The certificate file.
        path: PathBuf,
        /// When it begins.
        not_before: SystemTime,
    },
    /// The certificate ends within the first of the [`EXPIRY_NOTICES`].
    #[error("certificate {} expires at {}: renew it and reload", path.display(), Utc(*not_after))]
    ExpiresSoon {
        /// The certificate file.
        path: PathBuf,
        /// When it ends.
        not_after: SystemTime,
    },
    /// The file held the chain in another order than TLS sends it.
    #[error(
        "the certificates in {} were not in order, the relay's own first and each followed \
         by its issuer: they are sent in the right order",
        path.display()
    )]
    ChainReordered {
        /// The certificate file.
        path: PathBuf,
    },
    /// The file held certificates that are not part of the chain.
    #[error("{count} certificate(s) in {} did not issue the relay's own and are not sent", path.display())]
    Unrelated {
        /// The certificate file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// Every user of the machine may read or write the private key.
    #[error(
        "key file {} is open to every user of this machine (mode {mode:04o}): chmod o-rwx \
         {}",
        path.display(), path.display()
    )]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// A time in the form that operators read.
#[derive(Debug, Clone, Copy)]
pub struct Utc(pub SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = match self.0.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()),
            Err(before) => i64::try_from(before.duration().as_secs()).map(|s| -s),
        };
        let Some(time) = seconds.ok().and_then(|s| ASN1Time::from_timestamp(s).ok()) else {
            return f.write_str("the far future");
        };
        let t = time.to_datetime();
        let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}
