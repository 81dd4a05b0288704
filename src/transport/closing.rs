//! Closing a link so that its last octets arrive.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{error::LinkError, link::Link};

/// How long [`close`] reads and discards what the peer still sends.
pub const LINGER: Duration = Duration::from_secs(2);

/// How many octets [`close`] discards at most.
pub const LINGER_BYTES: usize = 1024 * 1024;

/// Closes a link: sends what was written, then `close_notify` and FIN, then reads and discards what
/// the peer sends until the peer closes, for [`LINGER`] or [`LINGER_BYTES`] at most.
///
/// If a socket is closed with unread input, the kernel sends RST. That destroys what the peer has
/// not read yet: the last REPORT. Sending may take `drain`. If the peer does not read within that
/// time, the rest is lost and the error is [`LinkError::DrainTimeout`].
pub async fn close(mut link: Link, drain: Duration) -> Result<(), LinkError> {
    match timeout(drain, link.shutdown()).await {
        Ok(outcome) => outcome.map_err(LinkError::Closed)?,
        Err(_) => return Err(LinkError::DrainTimeout { after: drain }),
    }
    linger(&mut link).await;
    Ok(())
}

/// Reads and discards without decrypting: under TLS, too, the octets are only counted.
pub(super) async fn linger(link: &mut Link) {
    let _: Result<(), _> = timeout(LINGER, discard(link.tcp())).await;
}

/// Reads until the peer closes, the connection fails, or [`LINGER_BYTES`] have come.
async fn discard(tcp: &mut TcpStream) {
    let mut waste = vec![0; 16 * 1024];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match tcp.read(&mut waste).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::time::sleep;

    use super::{
        super::tests::{pair, poll_once},
        *,
    };
    use crate::clock;

    /// What the peer receives if this end closes with unread input: the octets, and how they ended.
    async fn last_words(tls: bool, polite: bool) -> (Vec<u8>, io::Result<usize>) {
        let (mut peer, mut link) = pair(tls).await;
        peer.write_all(&vec![b'x'; 200_000]).await.unwrap();
        peer.flush().await.unwrap();
        link.write_all(b"MSRP 1234 REPORT\r\n").await.unwrap();
        let ending = tokio::spawn(async move {
            if polite {
                close(link, LINGER).await.unwrap();
            } else {
                link.flush().await.unwrap();
            }
        });
        sleep(Duration::from_millis(100)).await;
        let mut heard = Vec::new();
        let end = peer.read_to_end(&mut heard).await;
        drop(peer);
        ending.await.unwrap();
        (heard, end)
    }

    #[tokio::test]
    async fn a_polite_close_does_not_reset() {
        for tls in [false, true] {
            let (heard, end) = last_words(tls, true).await;
            assert_eq!(heard, b"MSRP 1234 REPORT\r\n");
            assert_eq!(end.unwrap(), heard.len());
            let (_, end) = last_words(tls, false).await;
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn a_close_ends_whatever_the_peer_does() {
        // The peer keeps the connection open.
        let (_peer, link) = pair(true).await;
        let start = clock::now();
        close(link, LINGER).await.unwrap();
        let taken = clock::now() - start;
        assert!(taken >= LINGER && taken < LINGER * 2, "{taken:?}");

        // The peer never stops talking.
        let (mut peer, link) = pair(false).await;
        let talking = tokio::spawn(async move {
            let mut said = 0;
            let words = vec![b'x'; 64 * 1024];
            while let Ok(n) = peer.write(&words).await {
                said += n;
            }
            said
        });
        let start = clock::now();
        close(link, LINGER).await.unwrap();
        assert!(clock::now() - start < LINGER, "not ended by {LINGER_BYTES} bytes");
        assert!(talking.await.unwrap() >= LINGER_BYTES);

        // The peer does not read.
        let (_peer, mut link) = pair(true).await;
        let body = vec![0; 64 * 1024];
        while poll_once(&mut link, &body).await.is_some() {}
        let drain = Duration::from_millis(200);
        let error = close(link, drain).await.unwrap_err();
        assert!(matches!(error, LinkError::DrainTimeout { after } if after == drain), "{error}");
    }
}
