//! The client side: how a next hop is dialled, and whom it may be.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    SignatureScheme,
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
use super::{Identity, TlsError, provider};

/// What is asked of the certificate of a next hop (`verify_next_hop`).
pub enum Verification {
    /// Any certificate will do: endpoints have self-signed ones, proved in SDP that a relay does
    /// not see (RFC 4975 §5.4).
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

/// The three ways of [`Verification`]. The handshake's signatures are checked in each: whoever
/// shows a certificate must own its key.
#[derive(Debug)]
struct NextHopVerifier {
    checking: Checking,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Checking {
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
        let checking = match verification {
            Verification::Off => Checking::Off,
            Verification::Log { anchors, observer } => Checking::Log(checker(anchors), observer),
            Verification::Enforce { anchors } => {
                Checking::Enforce(checker(anchors).ok_or(TlsError::NoTrustAnchors)?)
            }
        };
        Ok(Self { checking, algorithms: provider.signature_verification_algorithms })
    }
}

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
        match &self.checking {
            Checking::Off => Ok(ServerCertVerified::assertion()),
            Checking::Enforce(checker) => check(checker),
            Checking::Log(checker, observer) => {
                let unknown = || Err(CertificateError::UnknownIssuer.into());
                if let Err(reason) = checker.as_deref().map_or_else(unknown, check) {
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
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
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

    use tempfile::TempDir;

    use super::{
        super::{
            server_config,
            tests::{write, write_pair},
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
