//! The client side: how a next hop is dialled, and whom it may be.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::{
    Anchors, HandshakeError, Identity, TlsError, possession::provable, provider, trust::Checker,
};

/// What is asked of the certificate of a next hop (`verify_next_hop`).
pub enum Verification {
    /// Any certificate will do, also one that cannot be read: endpoints have self-signed ones,
    /// proved in SDP that a relay does not see (RFC 4975 §5.4).
    Off,
    /// Checked, and the outcome of a failed check told to the observer; the connection goes on.
    Log {
        /// Whom to believe.
        anchors: Anchors,
        /// Whom to tell.
        observer: Box<dyn Observer>,
    },
    /// Checked; a certificate that fails ends the handshake (RFC 4976 §9.2).
    Enforce {
        /// Whom to believe.
        anchors: Anchors,
    },
}

/// Told of a next hop whose certificate was not verified, and went on being used.
///
/// Closures of this shape are observers; they run inside the handshake, in the task and span that
/// dials.
pub trait Observer: Send + Sync {
    /// `host` is the name that was dialled, `reason` what is wrong with its certificate.
    fn unverified(&self, host: &str, reason: &HandshakeError);
}

impl<F: Fn(&str, &HandshakeError) + Send + Sync> Observer for F {
    fn unverified(&self, host: &str, reason: &HandshakeError) {
        self(host, reason);
    }
}

impl fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// The client side: how a next hop is dialled.
///
/// `identity` is presented when the next hop asks for a certificate (RFC 4976 §9.2). Sessions are
/// not resumed: a resumed one would skip the check of the certificate.
pub fn client_config(
    verification: Verification,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = NextHopVerifier::new(verification, &provider)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Configuration)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(OwnIdentity(
            identity.map(|identity| Arc::clone(&identity.certified)),
        )));
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Presents the relay's own certificate whatever authorities the server names.
#[derive(Debug)]
struct OwnIdentity(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for OwnIdentity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0.clone().filter(|own| own.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// The three ways of [`Verification`]. In each, who shows a certificate must prove that he owns
/// its key, as far as that can be checked: see [`NextHopVerifier::proved`].
#[derive(Debug)]
struct NextHopVerifier {
    checking: Checking,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Checking {
    Off,
    /// Without a checker when nobody is trusted: then no certificate verifies.
    Log(Option<Checker>, Box<dyn Observer>),
    Enforce(Checker),
}

impl NextHopVerifier {
    fn new(verification: Verification, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let checker = |anchors| Checker::new(anchors, provider);
        let checking = match verification {
            Verification::Off => Checking::Off,
            Verification::Log { anchors, observer } => Checking::Log(checker(anchors), observer),
            Verification::Enforce { anchors } => {
                Checking::Enforce(checker(anchors).ok_or(TlsError::NoTrustAnchors)?)
            }
        };
        Ok(Self { checking, algorithms: provider.signature_verification_algorithms })
    }

    /// Whether the peer's signature over the handshake is good enough.
    ///
    /// One that cannot be checked passes where no certificate is refused. That gives nothing away:
    /// where any certificate will do, an attacker in the middle shows one of his own, and signs
    /// with its key. A wrong signature ends the handshake in each mode.
    fn proved(
        &self,
        certificate: &CertificateDer<'_>,
        check: impl FnOnce() -> Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match (self.provable(certificate), &self.checking) {
            (Ok(()), _) => check(),
            (Err(reason), Checking::Enforce(_)) => Err(reason),
            (Err(_), Checking::Off | Checking::Log(..)) => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn provable(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if provable(certificate, &self.algorithms) {
            return Ok(());
        }
        Err(CertificateError::Other(OtherError(Arc::new(Unprovable))).into())
    }
}

/// A certificate is good, but whether the peer owns it is unknown.
#[derive(Debug, thiserror::Error)]
#[error(
    "has a key whose signatures cannot be checked (RSA of less than 2048 bits?): the peer needs a \
     new one"
)]
struct Unprovable;

impl ServerCertVerifier for NextHopVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let check = |checker: &Checker| checker.check(end_entity, intermediates, server_name, now);
        match &self.checking {
            Checking::Off => {}
            Checking::Enforce(checker) => check(checker)?,
            Checking::Log(checker, observer) => {
                let unknown = || Err(CertificateError::UnknownIssuer.into());
                let outcome = checker.as_ref().map_or_else(unknown, check);
                if let Err(reason) = outcome.and_then(|()| self.provable(end_entity)) {
                    observer.unverified(&server_name.to_str(), &reason.into());
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proved(certificate, || {
            verify_tls12_signature(message, certificate, signature, &self.algorithms)
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proved(certificate, || {
            verify_tls13_signature(message, certificate, signature, &self.algorithms)
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        ServerConfig,
        server::{ClientHello, ResolvesServerCert},
    };

    use super::{
        super::{
            server_config,
            tests::{identity, shake_hands, trusting},
        },
        *,
    };

    #[test]
    fn enforcing_needs_somebody_to_trust() {
        let nobody = Anchors::empty;
        let enforce = client_config(Verification::Enforce { anchors: nobody() }, None);
        assert!(matches!(enforce, Err(TlsError::NoTrustAnchors)));
        let observer = Box::new(|_: &str, _: &HandshakeError| ());
        client_config(Verification::Log { anchors: nobody(), observer }, None).unwrap();
        assert!(matches!(server_config(&[]), Err(TlsError::NoIdentity)));
    }

    /// Shows its own certificate, or another's, and signs with its key.
    #[derive(Debug)]
    struct Shows(Arc<CertifiedKey>);

    impl ResolvesServerCert for Shows {
        fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    #[test]
    fn another_ones_certificate_is_refused_in_each_mode() {
        let (own, other) = (identity(&["localhost"]), identity(&["localhost"]));
        for version in [&TLS12, &TLS13] {
            let handshake = |verification, shown: &Identity| {
                let key = Arc::clone(&own.certified.key);
                let shown = Arc::new(CertifiedKey::new(shown.chain().to_vec(), key));
                let server = ServerConfig::builder_with_provider(provider())
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_no_client_auth()
                    .with_cert_resolver(Arc::new(Shows(shown)));
                shake_hands("localhost", client_config(verification, None).unwrap(), server.into())
            };
            let observer = || Box::new(|_: &str, _: &HandshakeError| ());
            let modes = [
                Verification::Off,
                Verification::Log { anchors: trusting(&other), observer: observer() },
                Verification::Enforce { anchors: trusting(&other) },
            ];
            handshake(Verification::Off, &own).unwrap();
            for mode in modes {
                let refused = handshake(mode, &other);
                assert_eq!(refused, Err(CertificateError::BadSignature.into()));
            }
        }
    }
}
