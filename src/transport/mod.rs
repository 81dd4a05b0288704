//! Open connections: plain TCP or TLS, accepted or dialled (RFC 4975 §5.4, RFC 4976 §6.1).
//!
//! This room decides everything about sockets: their options, TLS, which address of a next hop is
//! used, and how a connection is closed so that its last octets arrive. It does not know what MSRP
//! messages mean; all it shares with the wire is the [`ChunkQueue`](crate::msrp::ChunkQueue) that
//! it writes. The caller sets the deadline of an accepted connection. Dialling has its own,
//! [`CONNECT_TIMEOUT`].
//!
//! | file | what it holds |
//! |---|---|
//! | `listening` | listening sockets, and advice for the operator when one cannot be opened |
//! | `accepting` | from an accepted TCP connection to a [`Link`]: the server side of TLS |
//! | `dialling` | from a next hop to a [`Link`]: resolving, permission, connecting, the client side of TLS |
//! | [`peers`], `permission`, [`pace`] | which addresses may be dialled: the rules (pure), what is never dialled, how many next hops |
//! | [`resolve`], `names` | from a host to addresses: what the system knows of names, and who may ask now |
//! | `link` | an open connection |
//! | `carrier`, `secured` | what a transport must be able to do; the transports: TCP, and TLS over it |
//! | `socket` | the socket options |
//! | `stream` | the one driver of a [`Link`]: reads, writes, flushes |
//! | `closing` | how a [`Link`] is closed |
//! | `error` | why a [`Link`] could not be made, or could not be closed properly |

pub use self::{
    accepting::accept,
    closing::{LINGER, LINGER_BYTES, close},
    dialling::Dialler,
    error::{Attempt, AttemptError, Attempts, HandshakeError, LinkError, Refusal},
    link::{Link, Security},
    listening::{BACKLOG, listen, listen_beside},
    pace::Pace,
    peers::{Denied, Peers},
    permission::{Permission, Service},
    resolve::Resolver,
    secured::TLS_BUFFER,
    socket::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, NOTSENT_LOWAT, USER_TIMEOUT},
    stream::{Blocks, Loss, Outgoing, Outstanding, Stream, Traffic, Written},
    target::{CONNECT_TIMEOUT, Target},
};

mod accepting;
mod carrier;
mod closing;
mod dialling;
mod error;
mod link;
mod listening;
mod names;
pub mod pace;
pub mod peers;
mod permission;
pub mod resolve;
mod secured;
mod socket;
mod stream;
mod target;

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

    use rustls::{CipherSuite, ClientConfig, ProtocolVersion};
    use tokio::{
        io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
        net::TcpListener,
        task::JoinHandle,
    };

    use super::*;
    use crate::tls::{Identity, Verification, client_config, server_config, tests::identity};

    pub(super) const LOOPBACK: &str = "127.0.0.1:0";

    pub(super) fn listener() -> TcpListener {
        TcpListener::from_std(listen(LOOPBACK.parse().unwrap()).unwrap()).unwrap()
    }

    pub(super) fn target(host: &str, port: u16, tls: bool) -> Target {
        Target { host: host.to_owned(), port, tls }
    }

    pub(super) fn trusting_anyone() -> Arc<ClientConfig> {
        client_config(Verification::Off, None).unwrap()
    }

    /// Dials anywhere, with what this machine knows of names.
    pub(super) async fn resolve_and_connect(
        target: &Target,
        config: &Arc<ClientConfig>,
    ) -> Result<Link, LinkError> {
        let (tls, resolver) = (Arc::clone(config), Arc::new(Resolver::of_system()));
        Dialler { tls, resolver, permission: None }.connect(target, "alice").await
    }

    /// Accepts one connection: over TLS with `identities`, over plain TCP if there are none.
    pub(super) fn serve(identities: &[Identity]) -> (u16, JoinHandle<Result<Link, LinkError>>) {
        let config = (!identities.is_empty()).then(|| server_config(identities).unwrap());
        let listener = listener();
        let port = listener.local_addr().unwrap().port();
        let accepting = async move {
            let (tcp, peer) = listener.accept().await.unwrap();
            accept(tcp, peer, config).await
        };
        (port, tokio::spawn(accepting))
    }

    /// The two ends of one connection: the dialling one, then the accepting one.
    pub(super) async fn pair(tls: bool) -> (Link, Link) {
        let identities = if tls { vec![identity(&["localhost"])] } else { vec![] };
        let (port, accepted) = serve(&identities);
        let target = target("127.0.0.1", port, tls);
        let dialled = resolve_and_connect(&target, &trusting_anyone()).await.unwrap();
        (dialled, accepted.await.unwrap().unwrap())
    }

    /// Polls a write once. Returns how many octets it took, or `None` if it would have waited.
    pub(super) async fn poll_once(link: &mut Link, bytes: &[u8]) -> Option<usize> {
        poll_fn(|cx| match Pin::new(&mut *link).poll_write(cx, bytes) {
            Poll::Ready(written) => Poll::Ready(Some(written.unwrap())),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn links_carry_bytes_and_know_their_ends() {
        for tls in [false, true] {
            let (mut dialled, mut accepted) = pair(tls).await;
            assert_eq!(dialled.peer(), accepted.local());
            assert_eq!(dialled.local(), accepted.peer());
            assert_eq!(dialled.security(), accepted.security());
            assert_eq!(dialled.security().is_tls(), tls);
            dialled.write_all(b"ping").await.unwrap();
            dialled.flush().await.unwrap();
            let mut heard = [0; 4];
            accepted.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"ping");
            // After one direction has ended, the other one still works.
            dialled.shutdown().await.unwrap();
            assert_eq!(accepted.read(&mut heard).await.unwrap(), 0);
            accepted.write_all(b"pong").await.unwrap();
            accepted.flush().await.unwrap();
            dialled.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"pong");
        }
    }

    #[test]
    fn targets_and_security_read_well() {
        assert_eq!(target("2001:db8::1", 2855, true).to_string(), "msrps://[2001:db8::1]:2855");
        assert_eq!(target("a.example", 9, false).to_string(), "msrp://a.example:9");
        assert_eq!(Security::Plain.to_string(), "plain TCP");
        let tls = Security::Tls {
            version: ProtocolVersion::TLSv1_3,
            suite: CipherSuite::TLS13_AES_256_GCM_SHA384,
        };
        assert_eq!(tls.to_string(), "TLSv1_3 TLS13_AES_256_GCM_SHA384");
    }
}
