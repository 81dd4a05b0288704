//! Who the relay is: a certificate chain and its private key.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    pki_types::CertificateDer,
    sign::{CertifiedKey, SigningKey},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, time::ASN1Time};

use super::pem::{FileProblem, PemFile, certificates, private_key};
use super::{
    TlsError,
    chain::{ChainCertificate, leaf_for, order, parse_certificate},
    finding::{EXPIRY_NOTICES, Finding, Utc},
    provider,
};

/// A certificate chain and its private key: who the relay is.
///
/// Built only by [`Identity::load`], so the key belongs to the certificate, the chain is in the
/// order TLS wants and there is at least one DNS name in it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    path: PathBuf,
    subject: String,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
    dns_names: Vec<String>,
    pub(super) file_findings: Vec<Finding>,
}

impl Identity {
    /// Reads the PEM files named by the options `certificate` and `key`, which may be one file.
    ///
    /// The certificate file may hold a chain in any order; the key may be in PKCS#8, PKCS#1 or
    /// SEC1. Dates are not judged here, see [`Identity::findings`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let certificate = PemFile::Certificate(certificate.to_owned());
        let key = PemFile::Key(key.to_owned());
        let entries = certificates(&certificate)?
            .into_iter()
            .map(|der| ChainCertificate::parse(der, &certificate))
            .collect::<Result<Vec<_>, _>>()?;
        let (der, exposed) = private_key(&key)?;
        let signer = provider()
            .key_provider
            .load_private_key(der)
            .map_err(|cause| key.error(FileProblem::UnusableKey(cause)))?;
        let Some(leaf) = leaf_for(&entries, signer.as_ref()) else {
            return Err(TlsError::KeyMismatch {
                certificate: certificate.path().to_owned(),
                key: key.path().to_owned(),
            });
        };
        let ordered = order(entries, leaf);
        let mut findings = ordered.findings(certificate.path());
        findings
            .extend(exposed.map(|mode| Finding::KeyExposed { path: key.path().to_owned(), mode }));
        Self::of_chain(ordered.chain, signer, &certificate, findings)
    }

    fn of_chain(
        chain: Vec<CertificateDer<'static>>,
        signer: Arc<dyn SigningKey>,
        file: &PemFile,
        file_findings: Vec<Finding>,
    ) -> Result<Self, TlsError> {
        let leaf = parse_certificate(&chain[0], file)?;
        let dns_names = dns_names(&leaf);
        if dns_names.is_empty() {
            return Err(file.error(FileProblem::NoDnsName).into());
        }
        Ok(Self {
            path: file.path().to_owned(),
            subject: leaf.subject().to_string(),
            serial: leaf.raw_serial_as_string(),
            not_before: system_time(leaf.validity().not_before),
            not_after: system_time(leaf.validity().not_after),
            dns_names,
            file_findings,
            certified: Arc::new(CertifiedKey::new(chain, signer)),
        })
    }

    /// The certificates as sent, the relay's own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The file that the certificates were read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The subject's distinguished name, possibly empty.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The serial number in colon-separated hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The last moment at which the certificate is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The DNS names of the subjectAltName extension, in their order, wildcards included.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// Warnings for the operator at `now`. The relay can use the identity all the same.
    pub fn findings(&self, now: SystemTime) -> Vec<Finding> {
        let mut findings = self.file_findings.clone();
        findings.extend(self.expiry(now));
        findings
    }

    /// How many of the [`EXPIRY_NOTICES`] are due at `now`. Once it has expired, one more.
    pub fn notices(&self, now: SystemTime) -> usize {
        let due = EXPIRY_NOTICES.iter().filter(|notice| now + **notice > self.not_after);
        due.count() + usize::from(now > self.not_after)
    }

    /// The warning about its dates at `now`, if there is one.
    pub fn expiry(&self, now: SystemTime) -> Option<Finding> {
        let path = self.path.clone();
        if now > self.not_after {
            return Some(Finding::Expired { path, not_after: self.not_after });
        }
        if now < self.not_before {
            return Some(Finding::NotYetValid { path, not_before: self.not_before });
        }
        if self.notices(now) > 0 {
            return Some(Finding::ExpiresSoon { path, not_after: self.not_after });
        }
        None
    }

    /// How well this identity serves a client that asked for `name`: 0 is best.
    pub(super) fn rank(&self, name: Option<&str>) -> u8 {
        let Some(name) = name else { return 2 };
        if self.dns_names.iter().any(|san| san.eq_ignore_ascii_case(name)) {
            return 0;
        }
        if self.covers(name) { 1 } else { 2 }
    }

    /// Whether one of the DNS names covers `name`.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.dns_names.iter().any(|san| matches(san, name))
    }
}

/// Subject, serial and expiry, as the start line shows them.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = if self.subject.is_empty() { &self.dns_names[0] } else { &self.subject };
        write!(f, "{subject}, serial {}, valid until {}", self.serial, Utc(self.not_after))
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(dns).collect()
}

/// Whether the subjectAltName `san` covers `name`. Letter case does not count, and `*.` stands for
/// one label or more.
fn matches(san: &str, name: &str) -> bool {
    let Some(suffix) = san.strip_prefix('*').filter(|suffix| suffix.starts_with('.')) else {
        return san.eq_ignore_ascii_case(name);
    };
    let Some(at) = name.len().checked_sub(suffix.len()).filter(|&at| at > 0) else {
        return false;
    };
    name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case(suffix)
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rcgen::{KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::super::pem::PemError;
    use super::{
        super::tests::{openssl, params, write, write_key, write_pair},
        *,
    };

    fn at(year: i32, month: u8, day: u8) -> SystemTime {
        date_time_ymd(year, month, day).into()
    }

    fn error(certificate: &Path, key: &Path) -> TlsError {
        Identity::load(certificate, key).unwrap_err()
    }

    #[test]
    fn an_identity_knows_its_certificate() {
        let dir = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = params("relay", &["relay.example.com", "*.example.org", "192.0.2.1"]);
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 12, 31);
        params.serial_number = Some(vec![0x01, 0xab].into());
        let certificate = write(dir.path(), "c", params.self_signed(&key).unwrap().pem());
        let identity =
            Identity::load(&certificate, &write_key(dir.path(), "k", &key.serialize_pem()))
                .unwrap();
        assert_eq!(identity.dns_names(), ["relay.example.com", "*.example.org"]);
        assert_eq!(identity.serial(), "01:ab");
        assert_eq!(identity.not_after(), at(2026, 12, 31));
        assert_eq!(
            identity.to_string(),
            "CN=relay, serial 01:ab, valid until 2026-12-31 00:00:00 UTC"
        );
        assert_eq!(identity.findings(at(2026, 6, 1)), []);
        let path = certificate;
        assert_eq!(
            identity.findings(at(2027, 1, 1)),
            [Finding::Expired { path: path.clone(), not_after: at(2026, 12, 31) }]
        );
        assert_eq!(
            identity.findings(at(2025, 12, 31)),
            [Finding::NotYetValid { path: path.clone(), not_before: at(2026, 1, 1) }]
        );
        assert_eq!(
            identity.findings(at(2026, 12, 20)),
            [Finding::ExpiresSoon { path, not_after: at(2026, 12, 31) }]
        );
    }

    #[test]
    fn every_form_of_key_is_read() {
        let dir = TempDir::new().unwrap();
        let d = dir.path();
        let request = |key: &str| {
            let san = "subjectAltName=DNS:relay.example.com";
            openssl(
                &["req", "-x509", "-key", key, "-subj", "/CN=r", "-addext", san, "-out", "c.pem"],
                d,
            );
        };
        // SEC1 with a leading EC PARAMETERS section, as openssl writes it.
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1.pem"], d);
        assert!(fs::read_to_string(d.join("sec1.pem")).unwrap().contains("EC PARAMETERS"));
        request("sec1.pem");
        Identity::load(&d.join("c.pem"), &d.join("sec1.pem")).unwrap();
        openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", "sec1.pem", "-out", "pkcs8.pem"], d);
        Identity::load(&d.join("c.pem"), &d.join("pkcs8.pem")).unwrap();
        openssl(&["genrsa", "-traditional", "-out", "pkcs1.pem", "2048"], d);
        assert!(fs::read_to_string(d.join("pkcs1.pem")).unwrap().contains("BEGIN RSA PRIVATE KEY"));
        request("pkcs1.pem");
        Identity::load(&d.join("c.pem"), &d.join("pkcs1.pem")).unwrap();
        // Both in one file.
        let both = fs::read_to_string(d.join("pkcs1.pem")).unwrap()
            + &fs::read_to_string(d.join("c.pem")).unwrap();
        let both = write_key(d, "both.pem", &both);
        Identity::load(&both, &both).unwrap();
    }

    #[test]
    fn encrypted_keys_of_both_forms_are_told() {
        let dir = TempDir::new().unwrap();
        let d = dir.path();
        let (certificate, _) = write_pair(d, "r", &["r.example.com"]);
        openssl(&["pkcs8", "-topk8", "-in", "r.key", "-out", "new", "-passout", "pass:x"], d);
        openssl(&["ec", "-in", "r.key", "-aes128", "-out", "old", "-passout", "pass:x"], d);
        assert!(fs::read_to_string(d.join("new")).unwrap().contains("ENCRYPTED PRIVATE KEY"));
        assert!(fs::read_to_string(d.join("old")).unwrap().contains("Proc-Type"));
        for name in ["new", "old"] {
            let error = error(&certificate, &d.join(name));
            assert!(
                matches!(error, TlsError::File(PemError { problem: FileProblem::Encrypted, .. })),
                "{error}"
            );
            assert!(error.to_string().contains("openssl pkey -in"), "{error}");
        }
    }

    /// Good pairs and bad files of every kind.
    fn write_collection(d: &Path) {
        let section =
            |label, text| format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
        let (certificate, _) = write_pair(d, "r", &["r.example.com"]);
        write_pair(d, "other", &["o.example.com"]);
        write_pair(d, "no-dns", &["192.0.2.1"]);
        let text = fs::read_to_string(&certificate).unwrap();
        let der = rustls_pemfile::certs(&mut text.as_bytes()).next().unwrap();
        write(d, "der", der.unwrap());
        write(d, "cut", &text[..text.len() / 2]);
        write(d, "empty", "\n");
        let chain = text.repeat(2).replace("-----\n-----", "----------");
        write(d, "joined", chain);
        openssl(&["x509", "-in", "r.crt", "-trustout", "-out", "trusted"], d);
        let key = fs::read_to_string(d.join("r.key")).unwrap();
        write(d, "dashes", key.replace("--", "\u{2013}"));
        write(d, "parameters", section("EC PARAMETERS", "BggqhkjOPQMBBw=="));
        write(d, "bad-certificate", section("CERTIFICATE", "AAAA"));
        write(d, "bad-key", section("PRIVATE KEY", "AAAA"));
        openssl(&["req", "-new", "-key", "r.key", "-subj", "/CN=r", "-out", "csr"], d);
        openssl(&["x509", "-req", "-in", "csr", "-signkey", "r.key", "-out", "x509-v1"], d);
        openssl(&["genrsa", "-out", "small.key", "1024"], d);
        openssl(&["req", "-x509", "-key", "small.key", "-subj", "/CN=r", "-out", "small.crt"], d);
        fs::create_dir(d.join("directory")).unwrap();
    }

    #[test]
    fn errors_say_what_to_do() {
        let dir = TempDir::new().unwrap();
        let d = dir.path();
        write_collection(d);
        // `@` stands for the directory.
        let cases = [
            ("none", "r.key", "certificate file @/none does not exist: make a pair"),
            ("r.crt", "none", "key file @/none does not exist: make a pair"),
            ("directory", "r.key", "certificate file @/directory cannot be read (Is a directory"),
            ("empty", "r.key", "certificate file @/empty is empty: make a pair"),
            ("r.crt", "empty", "key file @/empty is empty: make a pair"),
            ("der", "r.key", "certificate file @/der is not in PEM: if it is in DER"),
            ("r.crt", "der", "key file @/der is not in PEM: if it is in DER"),
            (
                "cut",
                "r.key",
                "certificate file @/cut is damaged in line 1 (BEGIN of a section that",
            ),
            ("joined", "r.key", "certificate file @/joined is damaged in line 9 (a boundary that"),
            ("trusted", "r.key", "certificate file @/trusted has in line 1 a section \"TRUSTED "),
            ("r.crt", "dashes", "key file @/dashes is damaged in line 1 (a boundary with dashes"),
            ("r.key", "r.crt", "certificate file @/r.key holds no certificate: are `cert"),
            ("r.crt", "r.crt", "key file @/r.crt holds no private key: are `certificate`"),
            ("parameters", "r.key", "certificate file @/parameters holds no certificate: it must"),
            ("r.crt", "parameters", "key file @/parameters holds no private key: it must have"),
            ("bad-certificate", "r.key", "certificate file @/bad-certificate holds a certificate"),
            ("r.crt", "bad-key", "key file @/bad-key holds a key that cannot be used"),
            ("r.crt", "other.key", "the private key in @/other.key does not belong to the cert"),
            ("no-dns.crt", "no-dns.key", "certificate file @/no-dns.crt holds a certificate that"),
            ("x509-v1", "r.key", "certificate file @/x509-v1 holds a certificate that has no DNS"),
            ("small.crt", "small.key", "key file @/small.key holds a key that cannot be used"),
        ];
        for (certificate, key, start) in cases {
            let error = error(&d.join(certificate), &d.join(key)).to_string();
            let start = start.replace('@', d.to_str().unwrap());
            assert!(error.starts_with(&start), "{error}");
        }
    }

    #[test]
    fn an_exposed_key_is_found() {
        let dir = TempDir::new().unwrap();
        let (certificate, key) = write_pair(dir.path(), "r", &["r.example.com"]);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let identity = Identity::load(&certificate, &key).unwrap();
        assert_eq!(identity.file_findings, [Finding::KeyExposed { path: key, mode: 0o644 }]);
    }
}
