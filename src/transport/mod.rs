//! Open connections: plain TCP or TLS, accepted or dialled (RFC 4975 §5.4, RFC 4976 §6.1).
//!
//! Everything about sockets is decided here: their options, TLS, which address of a next hop
//! answers, and how a connection is closed so that its last bytes arrive. What MSRP is, this room
//! does not know. Deadlines of accepted connections belong to the caller; dialling has its own.
//!
//! | file | what it holds |
//! |---|---|
//! | `listening` | listeners, and what to do where one cannot be had |
//! | `accepting` | an accepted connection becomes a [`Link`] |
//! | `dialling`, [`resolve`] | a next hop becomes a [`Link`] |
//! | `link`, `carrier`, `socket` | the open connection: TLS or not, TCP under it, the kernel's options |
//! | `stream` | the one driver of a [`Link`]: filling, writing, flushing |
//! | `closing` | a [`Link`] ends |
//! | `error` | why there is no [`Link`] |

pub use self::{
    accepting::accept,
    closing::{LINGER, LINGER_BYTES, close},
    dialling::{CONNECT_TIMEOUT, Target, connect},
    error::{Attempt, AttemptError, Attempts, HandshakeError, LinkError},
    link::{Link, Security, TLS_BUFFER},
    listening::{BACKLOG, listen, listen_beside},
    socket::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, NOTSENT_LOWAT, USER_TIMEOUT},
    stream::{Blocks, Loss, Outgoing, Stream, Traffic, Written},
};

mod accepting;
mod carrier;
mod closing;
mod dialling;
mod error;
mod link;
mod listening;
pub mod resolve;
mod socket;
mod stream;

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

    /// Accepts one connection; without identities, in plain TCP.
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

    /// Both ends of a connection: dialled, accepted.
    pub(super) async fn pair(tls: bool) -> (Link, Link) {
        let identities = if tls { vec![identity(&["localhost"])] } else { vec![] };
        let (port, accepted) = serve(&identities);
        let dialled = connect(&target("127.0.0.1", port, tls), &trusting_anyone()).await.unwrap();
        (dialled, accepted.await.unwrap().unwrap())
    }

    /// One poll of a write: the bytes it took, none if it would have waited.
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
            // One direction ends, the other goes on.
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
