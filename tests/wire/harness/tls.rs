//! TLS for both ends: one certificate for `localhost`, made for the run and trusted by every peer.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
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

pub(crate) static IDENTITY: LazyLock<Identity> = LazyLock::new(Identity::new);

impl Identity {
    /// One of its own, which trusts only itself.
    pub(crate) fn new() -> Self {
        Self::ending(None)
    }

    /// One that ends so long after 1970.
    pub(crate) fn ending_at(moment: Duration) -> Self {
        Self::ending(Some(moment))
    }

    fn ending(moment: Option<Duration>) -> Self {
        let names = vec!["localhost".to_owned()];
        let mut parameters = CertificateParams::new(names).expect("a certificate's parameters");
        if let Some(moment) = moment {
            parameters.not_after = date_time_ymd(1970, 1, 1) + moment;
        }
        let signing_key = KeyPair::generate().expect("a key");
        let made = parameters.self_signed(&signing_key).expect("a self-signed certificate");
        let certificate: CertificateDer<'static> = made.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let mut trusted = RootCertStore::empty();
        trusted.add(certificate.clone()).expect("a trust anchor");
        Self {
            certificate_pem: made.pem(),
            key_pem: signing_key.serialize_pem(),
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
    }
}
