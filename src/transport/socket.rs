//! What every connection gets from the kernel.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Silence after which the kernel asks whether the peer still lives; short enough to keep the
/// entry of most NATs alive.
pub const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);

/// Distance of the kernel's further questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Questions without an answer after which the connection is lost: two minutes in all.
pub const KEEPALIVE_PROBES: u32 = 4;

/// How long bytes that were sent may stay unacknowledged, or a peer's window closed, before the
/// connection is lost. Without it the kernel goes on trying for a quarter of an hour.
pub const USER_TIMEOUT: Duration = Duration::from_mins(2);

/// Unsent bytes the kernel takes on per connection. A response waits behind these, so there must
/// not be megabytes of them.
pub const NOTSENT_LOWAT: u32 = 128 * 1024;

/// What every connection gets before its first byte: the handshake is slow under Nagle's
/// algorithm, and a peer that vanishes during it must be noticed too.
pub(super) fn set_options(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::pair, *};

    #[tokio::test]
    async fn both_ends_get_the_socket_options() {
        let (mut dialled, mut accepted) = pair(true).await;
        for link in [&mut dialled, &mut accepted] {
            let socket = SockRef::from(&*link.tcp());
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
        }
    }
}
