//! TLS for both ends: one certificate for `localhost`, made for the run and trusted by every peer.

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// The run's certificate, in the forms that are asked for.
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

pub(crate) static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .expect("a self-signed certificate");
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.clone()).expect("a trust anchor");
    Identity {
        certificate_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
        client: Arc::new(
            ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth(),
        ),
        server: Arc::new(
            ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .expect("a certificate and its key"),
        ),
    }
});
