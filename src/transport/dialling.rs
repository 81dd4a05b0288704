//! Opens a connection to a next hop: finds its addresses, asks which of them may be dialled, tries
//! these one after the other, with the client side of TLS.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    time::{timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, TlsStream};

use super::{
    carrier::Carrier,
    error::{Attempt, AttemptError, Attempts, LinkError},
    link::Link,
    permission::Permission,
    resolve::Resolver,
    secured::TLS_BUFFER,
    socket::set_options,
    target::{CONNECT_TIMEOUT, Target},
};
use crate::clock;

/// What connections are opened with.
#[derive(Debug)]
pub struct Dialler {
    pub tls: Arc<ClientConfig>,
    pub resolver: Arc<Resolver>,
    /// `None` may dial anywhere: a client that dials for its own user.
    pub permission: Option<Permission>,
}

impl Dialler {
    /// Opens a connection to `target` within [`CONNECT_TIMEOUT`].
    ///
    /// The permitted addresses are tried one after the other, in the order of
    /// [`Resolver::addresses`] (RFC 4975 §6.2). Each gets an equal share of the time that is left. If
    /// one refuses, stays silent or fails at TLS, the next one is tried. The server name that TLS
    /// sends is the host of the target (RFC 4976 §9.2), or none if the host is an address. `user` is
    /// whose dial it is.
    pub async fn connect(&self, target: &Target, user: &str) -> Result<Link, LinkError> {
        let begun = clock::now();
        if let Some(permission) = &self.permission
            && !permission.pace.admit(user, target, begun)
        {
            return Err(LinkError::TooMany { target: target.clone() });
        }
        let deadline = begun + CONNECT_TIMEOUT;
        let tls = target.tls.then(|| ClientTls::new(target, &self.tls)).transpose()?;
        let found = self.resolver.addresses(&target.host, target.port, user).await;
        let addresses = found.map_err(LinkError::Resolve)?;
        let (addresses, denied) = self.permitted(addresses, user, deadline).await;
        let dialled = dial(&addresses, tls.as_ref(), deadline).await;
        dialled.map_err(|Attempts(attempts)| LinkError::Connect {
            target: target.clone(),
            attempts: Attempts(denied.into_iter().chain(attempts).collect()),
        })
    }

    /// The addresses that may be dialled, and the others.
    async fn permitted(
        &self,
        addresses: Vec<SocketAddr>,
        user: &str,
        deadline: Instant,
    ) -> (Vec<SocketAddr>, Vec<Attempt>) {
        let Some(permission) = &self.permission else { return (addresses, Vec::new()) };
        let judging = permission.judge(&addresses, &self.resolver, user);
        let (mut permitted, mut denied) = (Vec::new(), Vec::new());
        match timeout_at(deadline.into(), judging).await {
            Ok(judged) => {
                for (address, verdict) in judged {
                    match verdict {
                        Ok(()) => permitted.push(address),
                        Err(reason) => {
                            denied.push(Attempt { address, failure: AttemptError::Denied(reason) });
                        }
                    }
                }
            }
            Err(_) => denied.extend(addresses.into_iter().map(|address| {
                let failure = AttemptError::Timeout { after: CONNECT_TIMEOUT };
                Attempt { address, failure }
            })),
        }
        (permitted, denied)
    }
}

/// The part of TLS that is the same for all addresses of a target.
struct ClientTls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl ClientTls {
    fn new(target: &Target, config: &Arc<ClientConfig>) -> Result<Self, LinkError> {
        match ServerName::try_from(target.host.clone()) {
            Ok(name) => Ok(Self { connector: Arc::clone(config).into(), name }),
            Err(_) => Err(LinkError::ServerName { target: target.clone() }),
        }
    }
}

async fn dial(
    addresses: &[SocketAddr],
    tls: Option<&ClientTls>,
    deadline: Instant,
) -> Result<Link, Attempts> {
    let mut attempts = Vec::new();
    for (tried, &address) in (0_u32..).zip(addresses) {
        let left = u32::try_from(addresses.len()).unwrap_or(u32::MAX) - tried;
        let share = deadline.saturating_duration_since(clock::now()) / left;
        let failure = match timeout(share, dial_one(address, tls)).await {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(failure)) => failure,
            Err(_) => AttemptError::Timeout { after: share },
        };
        attempts.push(Attempt { address, failure });
    }
    Err(Attempts(attempts))
}

async fn dial_one(address: SocketAddr, tls: Option<&ClientTls>) -> Result<Link, AttemptError> {
    let tcp = TcpStream::connect(address).await.map_err(AttemptError::Connect)?;
    set_options(&tcp).map_err(AttemptError::Connect)?;
    let link = match tls {
        None => Link::new(Carrier::new(tcp), address),
        Some(tls) => Link::new(handshake(tcp, tls).await?, address),
    };
    link.map_err(AttemptError::Connect)
}

async fn handshake(tcp: TcpStream, tls: &ClientTls) -> Result<TlsStream<Carrier>, AttemptError> {
    let limit = |session: &mut rustls::ClientConnection| session.set_buffer_limit(Some(TLS_BUFFER));
    let connecting = tls.connector.connect_with(tls.name.clone(), Carrier::new(tcp), limit);
    let connected = connecting.await;
    connected.map(Into::into).map_err(|cause| AttemptError::Handshake(cause.into()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::sync::Mutex;

    use rustls::{
        CertificateError, ServerConfig, pki_types::CertificateDer, server::WebPkiClientVerifier,
    };
    use tokio::{io::AsyncWriteExt, net::TcpListener, time::sleep};
    use tokio_rustls::TlsAcceptor;

    use super::{
        super::{
            accept,
            error::HandshakeError,
            listen,
            tests::{listener, resolve_and_connect, serve, target, trusting_anyone},
        },
        *,
    };
    use crate::tls::{
        Anchors, Identity, Verification, client_config, server_config,
        tests::{identity, roots, trusting},
    };

    fn peer_certificate(link: &Link) -> Option<CertificateDer<'static>> {
        let session = link.layer.session()?;
        session.peer_certificates().map(|chain| chain[0].clone().into_owned())
    }

    /// A port of the loopback interface on which nothing listens.
    fn closed_port() -> SocketAddr {
        listener().local_addr().unwrap()
    }

    #[tokio::test]
    async fn the_name_asked_for_chooses_the_identity() {
        let first = identity(&["one.example.com"]);
        let second = identity(&["localhost"]);
        let third = identity(&["*.example.org"]);
        let identities = [first.clone(), second.clone(), third.clone()];
        // An address sends no server name. An unknown name gets the default identity.
        let cases = [
            ("127.0.0.1", &first),
            ("localhost", &second),
            ("LOCALHOST", &second),
            ("a.example.org", &third),
            ("nobody.example.net", &first),
        ];
        for (host, expected) in cases {
            let listener = listener();
            let address = listener.local_addr().unwrap();
            let acceptor = TlsAcceptor::from(server_config(&identities).unwrap());
            let accepting = tokio::spawn(async move {
                acceptor.accept(listener.accept().await.unwrap().0).await.unwrap()
            });
            let target = target(host, address.port(), true);
            let tls = ClientTls::new(&target, &trusting_anyone()).unwrap();
            let link = dial_one(address, Some(&tls)).await.unwrap();
            assert_eq!(peer_certificate(&link).as_ref(), Some(&expected.chain()[0]), "{host}");
            let accepted = accepting.await.unwrap();
            let sent = (host != "127.0.0.1").then(|| host.to_lowercase());
            assert_eq!(accepted.get_ref().1.server_name().map(str::to_owned), sent);
        }
    }

    /// Dials `server` as `localhost` with `verification`.
    async fn verified_dial(
        server: &Identity,
        verification: Verification,
    ) -> Result<Link, LinkError> {
        let (port, accepted) = serve(std::slice::from_ref(server));
        let config = client_config(verification, None).unwrap();
        let link = resolve_and_connect(&target("localhost", port, true), &config).await;
        let _: Result<Link, LinkError> = accepted.await.unwrap();
        link
    }

    fn certificate_error(link: Result<Link, LinkError>) -> CertificateError {
        let Err(LinkError::Connect { mut attempts, .. }) = link else { panic!("{link:?}") };
        match attempts.0.pop().unwrap().failure {
            AttemptError::Handshake(HandshakeError::Certificate(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn enforcing_refuses_what_logging_reports() {
        let right = identity(&["localhost"]);
        let wrong_name = identity(&["elsewhere.example.com"]);
        let enforce = |anchors| Verification::Enforce { anchors };
        verified_dial(&right, enforce(trusting(&right))).await.unwrap();
        let refused = verified_dial(&right, enforce(trusting(&wrong_name))).await;
        assert_eq!(certificate_error(refused), CertificateError::UnknownIssuer);
        let refused = verified_dial(&wrong_name, enforce(trusting(&wrong_name))).await;
        let error = certificate_error(refused);
        assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");

        let told = Arc::new(Mutex::new(Vec::new()));
        let log = |anchors: Anchors| {
            let told = Arc::clone(&told);
            let observer = Box::new(move |host: &str, reason: &HandshakeError| {
                told.lock().unwrap().push(format!("{host}: {reason}"));
            });
            Verification::Log { anchors, observer }
        };
        verified_dial(&right, log(trusting(&right))).await.unwrap();
        assert!(told.lock().unwrap().is_empty());
        verified_dial(&right, log(Anchors::empty())).await.unwrap();
        verified_dial(&wrong_name, log(trusting(&wrong_name))).await.unwrap();
        let told = told.lock().unwrap();
        let unknown = "localhost: the peer's certificate is signed by nobody who is trusted here";
        assert!(told[0].starts_with(unknown), "{told:?}");
        assert!(told[1].contains("is for another name"), "{told:?}");
        assert_eq!(told.len(), 2);
    }

    /// RFC 4976 §9.2: relays authenticate each other.
    #[tokio::test]
    async fn our_certificate_is_shown_to_who_asks() {
        let server = identity(&["localhost"]);
        let client = identity(&["relay.example.com"]);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots(&client));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let mut asking = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_cert_resolver(Arc::clone(&server_config(&[server]).unwrap().cert_resolver));
        asking.send_tls13_tickets = 0;
        let listener = listener();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            let (tcp, peer) = listener.accept().await.unwrap();
            accept(tcp, peer, Some(Arc::new(asking))).await.unwrap()
        });
        let config = client_config(Verification::Off, Some(&client)).unwrap();
        let _link = resolve_and_connect(&target("localhost", port, true), &config).await.unwrap();
        let accepted = accepting.await.unwrap();
        assert_eq!(peer_certificate(&accepted).as_ref(), Some(&client.chain()[0]));
    }

    #[tokio::test]
    async fn the_next_address_is_tried() {
        let (port, accepted) = serve(&[identity(&["localhost"])]);
        let tls = ClientTls::new(&target("localhost", port, true), &trusting_anyone()).unwrap();
        let good = SocketAddr::from(([127, 0, 0, 1], port));

        // One address refuses, one speaks no TLS, one says nothing at all.
        let refusing = closed_port();
        let (plain_port, plain) = serve(&[]);
        let silent = listener();
        let plain_address = SocketAddr::from(([127, 0, 0, 1], plain_port));
        let answer = tokio::spawn(async move {
            let mut link = plain.await.unwrap().unwrap();
            link.write_all(b"MSRP 1234 400 What?\r\n").await.unwrap();
            sleep(Duration::from_secs(5)).await;
        });
        let addresses = [refusing, plain_address, silent.local_addr().unwrap(), good];
        let deadline = clock::now() + Duration::from_secs(2);
        let link = dial(&addresses, Some(&tls), deadline).await.unwrap();
        assert_eq!(link.peer(), good);
        assert!(clock::now() < deadline, "the silent one took more than its share");
        accepted.await.unwrap().unwrap();

        let addresses = [refusing, silent.local_addr().unwrap()];
        let Err(attempts) =
            dial(&addresses, Some(&tls), clock::now() + Duration::from_millis(200)).await
        else {
            panic!("nobody is there to speak TLS");
        };
        let [refused, timeout] = &attempts.0[..] else { panic!("{attempts}") };
        assert!(refused.failure.to_string().contains("refused"), "{attempts}");
        assert!(matches!(timeout.failure, AttemptError::Timeout { .. }), "{attempts}");
        answer.abort();
    }

    #[tokio::test]
    async fn errors_name_target_and_addresses() {
        let refusing = closed_port();
        let error =
            resolve_and_connect(&target("127.0.0.1", refusing.port(), true), &trusting_anyone())
                .await;
        let port = refusing.port();
        assert_eq!(
            error.unwrap_err().to_string(),
            format!(
                "cannot connect to msrps://127.0.0.1:{port}: 127.0.0.1:{port}: \
                 Connection refused (os error 111)"
            )
        );
        let error =
            resolve_and_connect(&target("::1", port, false), &trusting_anyone()).await.unwrap_err();
        let start = format!("cannot connect to msrp://[::1]:{port}: [::1]:{port}: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        let error = resolve_and_connect(&target("localhost", 0, false), &trusting_anyone())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "port 0 of \"localhost\" cannot be dialled");
        let error =
            resolve_and_connect(&target("a b\n", 1, true), &trusting_anyone()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot connect to msrps://a b\\n:1: no host name that TLS could ask for"
        );
    }

    #[tokio::test]
    async fn ipv6_literals_are_dialled() {
        let listener = TcpListener::from_std(listen("[::1]:0".parse().unwrap()).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let dialled =
            resolve_and_connect(&target("::1", address.port(), false), &trusting_anyone()).await;
        assert_eq!(dialled.unwrap().peer(), address);
    }
}
