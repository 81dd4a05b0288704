//! Whom to believe: authorities, and certificates that were named themselves.

use std::{collections::HashSet, path::Path, sync::Arc};

use rustls::{
    CertificateError, RootCertStore,
    client::{
        WebPkiServerVerifier,
        danger::{ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::parse_x509_certificate;

use super::{
    TlsError,
    pem::{FileProblem, PemFile, certificates},
};

/// The certificates that are trusted.
#[derive(Debug, Clone)]
pub struct Anchors {
    authorities: RootCertStore,
    /// The same ones, octet for octet. Most self-signed certificates say that they are an
    /// authority (`openssl req -x509` writes CA:TRUE), and webpki takes none of these for a server.
    themselves: HashSet<CertificateDer<'static>>,
}

impl Anchors {
    /// Nobody is trusted.
    pub fn empty() -> Self {
        Self { authorities: RootCertStore::empty(), themselves: HashSet::new() }
    }

    /// The certificates that the operating system trusts, possibly none.
    ///
    /// Ones that do not parse are left out, as the system's own programs do.
    pub fn system() -> Self {
        let mut anchors = Self::empty();
        for certificate in rustls_native_certs::load_native_certs().certs {
            let _: Result<(), rustls::Error> = anchors.add(certificate);
        }
        anchors
    }

    /// Adds the certificates of a PEM bundle (option `ca`); each must be usable.
    pub fn add_bundle(&mut self, bundle: &Path) -> Result<(), TlsError> {
        let bundle = PemFile::Authorities(bundle.to_owned());
        for certificate in certificates(&bundle)? {
            self.add(certificate).map_err(|cause| {
                bundle.error(FileProblem::UnusableCertificate(cause.to_string()))
            })?;
        }
        Ok(())
    }

    pub(super) fn add(
        &mut self,
        certificate: CertificateDer<'static>,
    ) -> Result<(), rustls::Error> {
        self.authorities.add(certificate.clone())?;
        self.themselves.insert(certificate);
        Ok(())
    }
}

/// Checks certificates against [`Anchors`].
#[derive(Debug)]
pub(super) struct Checker {
    by_authority: Arc<WebPkiServerVerifier>,
    themselves: HashSet<CertificateDer<'static>>,
}

impl Checker {
    /// None where nobody is trusted.
    pub(super) fn new(anchors: Anchors, provider: &Arc<CryptoProvider>) -> Option<Self> {
        let authorities = Arc::new(anchors.authorities);
        let by_authority =
            WebPkiServerVerifier::builder_with_provider(authorities, Arc::clone(provider)).build();
        Some(Self { by_authority: by_authority.ok()?, themselves: anchors.themselves })
    }

    pub(super) fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if self.themselves.contains(end_entity) {
            return check_itself(end_entity, server_name, now);
        }
        let _: ServerCertVerified = self.by_authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            &[],
            now,
        )?;
        Ok(())
    }
}

/// A certificate that is trusted as it is: whether it is valid now and has this name.
fn check_itself(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let read = ParsedCertificate::try_from(certificate)?;
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else {
        return Err(CertificateError::BadEncoding.into());
    };
    // Before 1970 is long over.
    let moment = |seconds: i64| u64::try_from(seconds).unwrap_or(0);
    let not_before = moment(parsed.validity().not_before.timestamp());
    let not_after = moment(parsed.validity().not_after.timestamp());
    let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    if now.as_secs() < not_before {
        let not_before = at(not_before);
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now.as_secs() > not_after {
        let not_after = at(not_after);
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    verify_server_name(&read, server_name)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use rcgen::date_time_ymd;
    use tempfile::TempDir;

    use super::{
        super::{
            HandshakeError, provider,
            tests::{openssl, write, write_pair},
        },
        *,
    };

    fn at(year: i32) -> UnixTime {
        let seconds = date_time_ymd(year, 6, 1).unix_timestamp();
        UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap()))
    }

    /// What everybody makes, and one that an authority of ours has signed.
    #[test]
    fn a_certificate_that_is_named_itself_is_trusted_for_its_names_while_it_is_valid() {
        let dir = TempDir::new().unwrap();
        let make = |name: &str, days: &str| {
            let (out, san) = (format!("{name}.crt"), format!("subjectAltName=DNS:{name}"));
            let command = format!(
                "req -x509 -newkey rsa:2048 -nodes -keyout key -subj /CN={name} \
                                   -addext {san} -days {days} -out {out}"
            );
            openssl(&command.split_whitespace().collect::<Vec<_>>(), dir.path());
            let pem = fs::read(dir.path().join(&out)).unwrap();
            rustls_pemfile::certs(&mut &*pem).next().unwrap().unwrap()
        };
        let (first, second) = (make("localhost", "3650"), make("localhost", "3650"));
        let mut anchors = Anchors::empty();
        anchors.add_bundle(&dir.path().join("localhost.crt")).unwrap();
        let checker = Checker::new(anchors, &provider()).unwrap();
        let check = |certificate, name: &'static str, now| {
            let name = ServerName::try_from(name).unwrap();
            let outcome = checker.check(certificate, &[], &name, now);
            outcome.map_err(|error| HandshakeError::from(error).to_string())
        };
        // The file has the second one.
        assert_eq!(check(&second, "localhost", at(2030)), Ok(()));
        for (certificate, name, now, words) in [
            (
                &second,
                "elsewhere",
                at(2030),
                "is for another name: it has localhost, and elsewhere",
            ),
            (&second, "localhost", at(2020), "is not valid before "),
            (&second, "localhost", at(2070), "expired at "),
            (&first, "localhost", at(2030), "is one of an authority (CA:TRUE)"),
        ] {
            let error = check(certificate, name, now).unwrap_err();
            assert!(error.starts_with(&format!("the peer's certificate {words}")), "{error}");
        }
    }

    #[test]
    fn bundles_are_read_whole() {
        let dir = TempDir::new().unwrap();
        let (one, key) = write_pair(dir.path(), "one", &["one.example.com"]);
        let (two, _) = write_pair(dir.path(), "two", &["two.example.com"]);
        let bundle = [fs::read(&one).unwrap(), fs::read(&two).unwrap()].concat();
        let mut anchors = Anchors::empty();
        anchors.add_bundle(&write(dir.path(), "bundle", bundle)).unwrap();
        assert_eq!(anchors.themselves.len(), 2);
        let error = anchors.add_bundle(&key).unwrap_err().to_string();
        assert!(error.contains("CA file") && error.contains("holds no certificate"), "{error}");
    }
}
