//! Listening sockets: those that a service manager hands over, and those that the relay opens.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, RawFd},
};

use listenfd::ListenFd;
use tracing::debug;

use crate::{
    config::ListenAddress,
    relay::{self, Bound, RelayError},
};

/// Listening sockets from the service manager (`sd_listen_fds(3)`). Connections wait in them while
/// the relay is restarted.
#[derive(Debug)]
pub(super) struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Takes the sockets that were handed over. Must be called once, before any file is opened.
    pub(super) fn take(warnings: &mut Vec<String>) -> Self {
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            let taken = handed.take_tcp_listener(index).and_then(|socket| {
                let Some(socket) = socket else { return Ok(None) };
                socket.set_nonblocking(true)?;
                Ok(Some((socket.local_addr()?, socket)))
            });
            match taken {
                Ok(socket) => sockets.extend(socket),
                Err(error) => warnings.push(format!(
                    "a socket that was handed over is not used: {error}; the relay listens \
                     on TCP only"
                )),
            }
        }
        Self(sockets)
    }

    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        self.0.iter().map(|(_, socket)| socket.as_raw_fd()).collect()
    }

    /// Listens on all addresses of the option `address`. Uses an inherited socket where its address
    /// matches.
    pub(super) fn bind(
        mut self,
        addresses: &[ListenAddress],
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Bound>, RelayError> {
        let bound = relay::bind(addresses, |requested| self.find(requested));
        for (local, _) in self.0 {
            warnings.push(format!(
                "the socket {local} that was handed over is not used: it is none of the addresses \
                 that [Relay] address names"
            ));
        }
        bound
    }

    fn find(&mut self, requested: SocketAddr) -> Option<TcpListener> {
        let at = self.0.iter().position(|(local, _)| *local == requested)?;
        debug!("{requested} was handed over");
        Some(self.0.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_that_fits_is_used() {
        let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [first, second] = [&one, &other].map(|socket| socket.local_addr().unwrap());
        let inherited = Inherited(vec![(first, one), (second, other)]);
        let address = ListenAddress { host: second.ip().to_string(), port: second.port() };
        let mut warnings = Vec::new();
        let bound = inherited.bind(&[address], &mut warnings).unwrap();
        assert_eq!(bound.len(), 1);
        assert_eq!(bound[0].socket.local_addr().unwrap(), second);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains(&first.to_string()), "{warnings:?}");
    }
}
