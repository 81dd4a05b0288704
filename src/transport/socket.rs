//! Socket options that every connection gets.

use std::{io, time::Duration};

use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
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
/// gives the connection up. The default of the kernel is a quarter of an hour. A session gives a
/// peer up sooner; but it also knows a slow peer, whose window stays closed for minutes.
pub const USER_TIMEOUT: Duration = Duration::from_mins(5);

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

/// What the peer's kernel has acknowledged of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Octets in all.
    pub(super) octets: u64,
    /// How long ago the last acknowledgement came, of whatever.
    pub(super) heard: Duration,
    /// How long ago the last segment with data was sent, or sent again.
    pub(super) transmitted: Duration,
    /// An acknowledgement comes back within this time.
    pub(super) round_trip: Duration,
}

/// Asks the kernel; a system call.
pub(super) fn acknowledged(tcp: &TcpStream) -> io::Result<Acknowledged> {
    let info = getsockopt(tcp, TcpInfo)?;
    let milliseconds = |time: u32| Duration::from_millis(time.into());
    let deviation = info.round_trip_deviation.saturating_mul(4);
    Ok(Acknowledged {
        octets: info.bytes_acked,
        heard: milliseconds(info.last_ack_received),
        transmitted: milliseconds(info.last_data_sent),
        round_trip: Duration::from_micros(info.round_trip.saturating_add(deviation).into()),
    })
}

sockopt_impl!(
    /// `TCP_INFO`, as far as it is read here.
    TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, RawTcpInfo
);

/// The beginning of `struct tcp_info` in `linux/tcp.h`, as Linux has had it since 4.1.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[expect(unreachable_pub, reason = "the macro names it in an item of a public trait")]
pub struct RawTcpInfo {
    state_and_options: [u8; 8],
    timers_and_sizes: [u32; 4],
    segments: [u32; 5],
    /// Milliseconds ago.
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_received: u32,
    /// Milliseconds ago.
    last_ack_received: u32,
    path_mtu: u32,
    receive_threshold: u32,
    /// Microseconds, smoothed.
    round_trip: u32,
    /// Microseconds.
    round_trip_deviation: u32,
    windows: [u32; 7],
    pacing: [u64; 2],
    bytes_acked: u64,
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
