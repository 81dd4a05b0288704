//! The client side: how a next hop is dialled, and whom it may be.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::pem::{FileProblem, PemFile, certificates};
use super::{Identity, TlsError, possession::provable, provider};

/// What is asked of the certificate of a next hop (`verify_next_hop`).
pub enum Verification {
    /// Any certificate will do, also one that cannot be read: endpoints have self-signed ones,
    /// proved in SDP that a relay does not see (RFC 4975 §5.4).
    Off,
    /// Checked, and the outcome of a failed check told to the observer; the connection goes on.
    Log {
        /// Whom to believe.
        anchors: RootCertStore,
        /// Whom to tell.
        observer: Box<dyn Observer>,
    },
    /// Checked; a certificate that fails ends the handshake (RFC 4976 §9.2).
    Enforce {
        /// Whom to believe.
        anchors: RootCertStore,
    },
}

/// Told of a next hop whose certificate was not verified, and went on being used.
///
/// Closures of this shape are observers; they run inside the handshake, in the task and span that
/// dials.
pub trait Observer: Send + Sync {
    /// `host` is the name that was dialled, `reason` what is wrong with its certificate.
    fn unverified(&self, host: &str, reason: &rustls::Error);
}

impl<F: Fn(&str, &rustls::Error) + Send + Sync> Observer for F {
    fn unverified(&self, host: &str, reason: &rustls::Error) {
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
    policy: Policy,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Policy {
    Off,
    /// Without a checker when nobody is trusted: then no certificate verifies.
    Log(Option<Arc<WebPkiServerVerifier>>, Box<dyn Observer>),
    Enforce(Arc<WebPkiServerVerifier>),
}

impl NextHopVerifier {
    fn new(verification: Verification, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let checker = |anchors: RootCertStore| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider))
                .build()
                .ok()
        };
        let policy = match verification {
            Verification::Off => Policy::Off,
            Verification::Log { anchors, observer } => Policy::Log(checker(anchors), observer),
            Verification::Enforce { anchors } => {
                Policy::Enforce(checker(anchors).ok_or(TlsError::NoTrustAnchors)?)
            }
        };
        Ok(Self { policy, algorithms: provider.signature_verification_algorithms })
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
        match self.policy {
            Policy::Off | Policy::Log(..) if !provable(certificate, &self.algorithms) => {
                Ok(HandshakeSignatureValid::assertion())
            }
            _ => check(),
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
#[error("no signature of its key can be checked (an RSA key of less than 2048 bits?)")]
struct Unprovable;

impl ServerCertVerifier for NextHopVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let check = |checker: &WebPkiServerVerifier| {
            checker.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match &self.policy {
            Policy::Off => Ok(ServerCertVerified::assertion()),
            Policy::Enforce(checker) => check(checker),
            Policy::Log(checker, observer) => {
                let unknown = || Err(CertificateError::UnknownIssuer.into());
                let outcome = checker.as_deref().map_or_else(unknown, check);
                if let Err(reason) = outcome.and_then(|_| self.provable(end_entity)) {
                    observer.unverified(&server_name.to_str(), &reason);
                }
                Ok(ServerCertVerified::assertion())
            }
        }
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

/// The certificate authorities that the operating system trusts, possibly none.
///
/// Ones that do not parse are left out, as the system's own programs do.
pub fn system_anchors() -> RootCertStore {
    let mut anchors = RootCertStore::empty();
    anchors.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    anchors
}

/// Adds the certificates of a PEM bundle (option `ca`) to `anchors`; each must be usable.
pub fn add_bundle(anchors: &mut RootCertStore, bundle: &Path) -> Result<(), TlsError> {
    let bundle = PemFile::Authorities(bundle.to_owned());
    for certificate in certificates(&bundle)? {
        anchors
            .add(certificate)
            .map_err(|cause| bundle.error(FileProblem::UnusableCertificate(cause.to_string())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::{
        ServerConfig,
        server::{ClientHello, ResolvesServerCert},
    };
    use tempfile::TempDir;

    use super::{
        super::{
            server_config,
            tests::{identity, shake_hands, trusting, write, write_pair},
        },
        *,
    };

    #[test]
    fn enforcing_needs_somebody_to_trust() {
        let nobody = RootCertStore::empty;
        let enforce = client_config(Verification::Enforce { anchors: nobody() }, None);
        assert!(matches!(enforce, Err(TlsError::NoTrustAnchors)));
        let observer = Box::new(|_: &str, _: &rustls::Error| ());
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
            let observer = || Box::new(|_: &str, _: &rustls::Error| ());
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

    #[test]
    fn bundles_are_read_whole() {
        let dir = TempDir::new().unwrap();
        let (one, key) = write_pair(dir.path(), "one", &["one.example.com"]);
        let (two, _) = write_pair(dir.path(), "two", &["two.example.com"]);
        let bundle = [fs::read(&one).unwrap(), fs::read(&two).unwrap()].concat();
        let mut anchors = RootCertStore::empty();
        add_bundle(&mut anchors, &write(dir.path(), "bundle", bundle)).unwrap();
        assert_eq!(anchors.len(), 2);
        let error = add_bundle(&mut anchors, &key).unwrap_err().to_string();
        assert!(error.contains("CA file") && error.contains("holds no certificate"), "{error}");
    }
}
