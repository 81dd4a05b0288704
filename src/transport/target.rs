//! Where to dial, and how long that may take.

use std::{fmt, time::Duration};

/// Time for one dial in all: name look-up, all addresses, TLS handshakes.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address. An IPv6 address has no brackets.
    pub host: String,
    /// The TCP port. Port 0 is refused.
    pub port: u16,
    /// Whether the scheme is `msrps`. There is no fallback to plain TCP (RFC 4975 §5.4).
    pub tls: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "msrps" } else { "msrp" };
        let host = self.host.escape_debug();
        if self.host.contains(':') {
            return write!(f, "{scheme}://[{host}]:{}", self.port);
        }
        write!(f, "{scheme}://{host}:{}", self.port)
    }
}
