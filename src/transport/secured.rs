//! TLS as what carries a link.

use rustls::CommonState;
use tokio_rustls::TlsStream;

use super::carrier::{Carrier, Layer};

/// Octets that rustls buffers for one connection while the kernel takes none. This is more than the
/// relay reads at once, so that a read block leaves in one system call together with the heads and
/// end-lines around it. A response waits behind at most this much.
pub const TLS_BUFFER: usize = 96 * 1024;

/// Most octets of one TLS record (RFC 8446 §5.1).
const RECORD: usize = 16 * 1024;
/// Most octets that a record is longer than what it carries: header, nonce and tag of TLS 1.2.
const RECORD_OVERHEAD: usize = 29;

impl Layer for TlsStream<Carrier> {
    fn carrier(&self) -> &Carrier {
        self.get_ref().0
    }

    fn carrier_mut(&mut self) -> &mut Carrier {
        self.get_mut().0
    }

    fn session(&self) -> Option<&CommonState> {
        Some(self.get_ref().1)
    }

    fn overhead(&self, octets: usize) -> usize {
        octets.div_ceil(RECORD) * RECORD_OVERHEAD
    }

    fn record(&self) -> usize {
        RECORD + RECORD_OVERHEAD
    }

    fn expect(&mut self, octets: usize) {
        self.carrier_mut().set_room(octets);
    }
}
