//! Socket options that every connection gets.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Time without traffic after which the kernel sends its first keep-alive probe. Short enough to
/// keep the entry of most NATs alive.
pub const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);

/// Time between two keep-alive probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Unanswered probes after which the kernel gives the connection up. Together with the other two
/// values that is two minutes.
pub const KEEPALIVE_PROBES: u32 = 4;

/// How long sent octets may stay unacknowledged, or the peer's window closed, before the kernel
/// gives the connection up. The default of the kernel is a quarter of an hour.
pub const USER_TIMEOUT: Duration = Duration::from_mins(2);

/// Unsent octets that the kernel buffers for one connection. A response waits behind these, so they
/// must not be megabytes.
pub const NOTSENT_LOWAT: u32 = 128 * 1024;

/// Sets the options before the first octet is sent or read. Nagle's algorithm would slow down the
/// handshake, and a peer may vanish during the handshake, too.
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
