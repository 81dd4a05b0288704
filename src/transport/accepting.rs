//! Makes a link from an accepted TCP connection: the server side of TLS.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::ServerConfig;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{
    carrier::Carrier,
    closing::linger,
    error::{HandshakeError, LinkError},
    link::Link,
    secured::TLS_BUFFER,
    socket::set_options,
};

/// Makes a link from an accepted connection: over TLS if there is a `config`, else over plain TCP.
///
/// `peer` is the address of the client. It may differ from that of the socket, behind a load
/// balancer for example. A slow client can make the handshake last for ever, so the caller must set
/// a deadline (RFC 4976 §6.1).
pub async fn accept(
    tcp: TcpStream,
    peer: SocketAddr,
    config: Option<Arc<ServerConfig>>,
) -> Result<Link, LinkError> {
    set_options(&tcp).map_err(LinkError::Closed)?;
    let Some(config) = config else {
        return Link::new(Carrier::new(tcp), peer).map_err(LinkError::Closed);
    };
    let mut start = [0; 11];
    let seen = tcp.peek(&mut start).await.map_err(LinkError::Closed)?;
    if seen == 0 {
        return Err(LinkError::Unused);
    }
    if is_old_hello(&start[..seen]) {
        refuse_version(tcp, peer).await.map_err(LinkError::Closed)?;
        return Err(LinkError::Handshake(HandshakeError::VersionTooOld));
    }
    let limit = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(TLS_BUFFER));
    match TlsAcceptor::from(config).accept_with(Carrier::new(tcp), limit).await {
        Ok(tls) => Link::new(TlsStream::from(tls), peer).map_err(LinkError::Closed),
        Err(cause) => Err(LinkError::Handshake(HandshakeError::from(cause))),
    }
}

/// Whether the first octets are a `ClientHello` whose highest version is below TLS 1.2.
///
/// Those versions have no signature algorithms. rustls notices that first and sends the alert
/// `handshake_failure`, but RFC 8996 §4 and §5 require `protocol_version`. A hello that arrives in
/// pieces of less than 11 octets is left to rustls.
fn is_old_hello(start: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let &[HANDSHAKE, _, _, _, _, CLIENT_HELLO, _, _, _, major, minor] = start else {
        return false;
    };
    (major, minor) < (3, 3)
}

async fn refuse_version(tcp: TcpStream, peer: SocketAddr) -> io::Result<()> {
    // RFC 5246 §7.2: an alert record of version 3.1 with the fatal alert protocol_version.
    const ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];
    let mut link = Link::new(Carrier::new(tcp), peer)?;
    link.write_all(&ALERT).await?;
    link.shutdown().await?;
    linger(&mut link).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustls::ProtocolVersion;
    use tokio::task::JoinHandle;

    use super::{
        super::{
            Security,
            tests::{listener, resolve_and_connect, serve, target, trusting_anyone},
        },
        *,
    };
    use crate::tls::tests::identity;

    #[tokio::test]
    async fn the_peer_is_who_the_caller_says() {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let behind_the_balancer = "198.51.100.7:4711".parse().unwrap();
        let link = accept(tcp, behind_the_balancer, None).await.unwrap();
        assert_eq!((link.peer(), link.local()), (behind_the_balancer, address));
    }

    /// What `openssl s_client` prints with these options.
    fn s_client(port: u16, options: &'static [&'static str]) -> JoinHandle<String> {
        tokio::task::spawn_blocking(move || {
            let output = Command::new("openssl")
                .args(["s_client", "-cipher", "DEFAULT@SECLEVEL=0"])
                .args(options)
                .arg("-connect")
                .arg(format!("127.0.0.1:{port}"))
                .stdin(Stdio::null())
                .output()
                .expect("the tests need openssl");
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        })
    }

    #[tokio::test]
    async fn tls_begins_at_1_2() {
        let identities = [identity(&["localhost"])];
        for (option, expected) in
            [(&["-tls1_2"], ProtocolVersion::TLSv1_2), (&["-tls1_3"], ProtocolVersion::TLSv1_3)]
        {
            let (port, accepted) = serve(&identities);
            let printed = s_client(port, option);
            let link = accepted.await.unwrap().unwrap();
            let Security::Tls { version, .. } = link.security() else { panic!("not TLS") };
            assert_eq!(version, expected);
            drop(link);
            let printed = printed.await.unwrap();
            assert!(printed.contains("No client certificate CA names sent"), "{printed}");
        }
        for option in [&["-tls1"], &["-tls1_1"]] {
            let (port, accepted) = serve(&identities);
            let printed = s_client(port, option);
            let error = accepted.await.unwrap().unwrap_err();
            assert!(
                matches!(error, LinkError::Handshake(HandshakeError::VersionTooOld)),
                "{error:?}"
            );
            let printed = printed.await.unwrap();
            assert!(printed.contains("alert protocol version"), "{printed}");
        }
    }

    #[tokio::test]
    async fn clients_that_cannot_be_served_are_told_from_each_other() {
        let identities = [identity(&["localhost"])];
        let no_host = "the server name that the client asks for is no host name";
        for (options, words) in [
            (&["-tls1_1"][..], "the peer offers no TLS version from 1.2 on"),
            (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], "the peer offers no cipher suite"),
            // The suite of RFC 4976 §9.2: the key exchange is RSA's.
            (&["-tls1_2", "-cipher", "AES128-SHA"], "the peer offers no key exchange that is"),
            (&["-curves", "P-521"], "the peer offers no key exchange that is accepted here"),
            (&["-servername", "relay.example.com:2855"], no_host),
            (&["-servername", "-x-"], no_host),
            (&["-servername", "1.2.3"], no_host),
            (&["-servername", "m\u{fc}nchen.example"], no_host),
        ] {
            let (port, accepted) = serve(&identities);
            let printed = s_client(port, options);
            let error = accepted.await.unwrap().unwrap_err().to_string();
            assert!(error.starts_with(&format!("TLS handshake failed: {words}")), "{error}");
            printed.await.unwrap();
        }
        // An address is no host name either, and passed over.
        let (port, accepted) = serve(&identities);
        let printed = s_client(port, &["-servername", "192.0.2.1"]);
        drop(accepted.await.unwrap().unwrap());
        printed.await.unwrap();
    }

    #[tokio::test]
    async fn handshakes_with_strangers_end_in_words() {
        let (port, accepted) = serve(&[identity(&["localhost"])]);
        let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        plain.write_all(b"MSRP 49fh AUTH\r\nTo-Path: msrps://localhost;tcp\r\n").await.unwrap();
        let error = accepted.await.unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "TLS handshake failed: the peer does not speak TLS here (plain TCP?)"
        );

        let (port, plain) = serve(&[]);
        let answer = tokio::spawn(async move {
            plain.await.unwrap().unwrap().write_all(b"MSRP 1234 400 What?\r\n").await
        });
        let error = resolve_and_connect(&target("localhost", port, true), &trusting_anyone()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("does not speak TLS here (plain TCP?)"), "{error}");
        answer.await.unwrap().unwrap();

        let (port, accepted) = serve(&[identity(&["localhost"])]);
        drop(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        let error = accepted.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "TLS handshake failed: the peer closed the connection");
    }
}
