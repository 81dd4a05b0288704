//! TLS from files: the relay's identities, whom a dialled next hop may be, and the host name that
//! goes into the relay's URIs (RFC 4975 §5.4 and §14.2, RFC 4976 §9.2).
//!
//! TLS 1.2 and 1.3 only (RFC 8996, RFC 9325). `TLS_RSA_WITH_AES_128_CBC_SHA`, which RFC 4976 §9.2
//! still asks for, is not offered: RFC 9325 §4.1 says not to. Every error here is read by an
//! operator who has a file in front of him, so it names the file and says what to do.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
    version::{TLS12, TLS13},
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate, time::ASN1Time,
};

use super::pem::{FileProblem, PemError, PemFile, certificates, private_key};

/// How long before its end a certificate is reported as expiring: from the first of these on when
/// it is loaded, and at each of them while it is in use.
pub const EXPIRY_NOTICES: [Duration; 3] =
    [Duration::from_hours(30 * 24), Duration::from_hours(7 * 24), Duration::from_hours(24)];

/// A certificate chain and its private key: who the relay is.
///
/// Built only by [`Identity::load`], so the key belongs to the certificate, the chain is in the
/// order TLS wants and there is at least one DNS name in it.
#[derive(Debug, Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    path: PathBuf,
    subject: String,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
    dns_names: Vec<String>,
    file_findings: Vec<Finding>,
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
            .map(|der| Entry::parse(der, &certificate))
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

    /// What an operator should hear about at `now`; the relay starts all the same.
    pub fn findings(&self, now: SystemTime) -> Vec<Finding> {
        let mut findings = self.file_findings.clone();
        findings.extend(self.expiry(now));
        findings
    }

    /// How many of the [`EXPIRY_NOTICES`] are due at `now`, and one more for the end itself.
    pub fn notices(&self, now: SystemTime) -> usize {
        let due = EXPIRY_NOTICES.iter().filter(|notice| now + **notice > self.not_after);
        due.count() + usize::from(now > self.not_after)
    }

    /// What is to be said of its dates at `now`.
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
    fn rank(&self, name: Option<&str>) -> u8 {
        let Some(name) = name else { return 2 };
        if self.dns_names.iter().any(|san| san.eq_ignore_ascii_case(name)) {
            return 0;
        }
        if self.dns_names.iter().any(|san| matches(san, name)) { 1 } else { 2 }
    }
}

/// Subject, serial and expiry, as the start line shows them.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = if self.subject.is_empty() { &self.dns_names[0] } else { &self.subject };
        write!(f, "{subject}, serial {}, valid until {}", self.serial, Utc(self.not_after))
    }
}

/// Something about a certificate or key that works today and should be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The certificate is past its last day.
    #[error(
        "certificate {} expired at {}: clients that verify it will refuse this relay; renew \
         it and reload",
        path.display(), Utc(*not_after)
    )]
    Expired {
        /// The certificate file.
        path: PathBuf,
        /// When it ended.
        not_after: SystemTime,
    },
    /// The certificate is not valid yet, or the machine's clock is wrong.
    #[error(
        "certificate {} is not valid before {}: check the clock of this machine",
        path.display(), Utc(*not_before)
    )]
    NotYetValid {
        /// The certificate file.
        path: PathBuf,
        /// When it begins.
        not_before: SystemTime,
    },
    /// The certificate ends within the first of the [`EXPIRY_NOTICES`].
    #[error("certificate {} expires at {}: renew it and reload", path.display(), Utc(*not_after))]
    ExpiresSoon {
        /// The certificate file.
        path: PathBuf,
        /// When it ends.
        not_after: SystemTime,
    },
    /// The file held the chain in another order than TLS sends it.
    #[error(
        "the certificates in {} were not in order, the relay's own first and each followed \
         by its issuer: they are sent in the right order",
        path.display()
    )]
    ChainReordered {
        /// The certificate file.
        path: PathBuf,
    },
    /// The file held certificates that are not part of the chain.
    #[error("{count} certificate(s) in {} did not issue the relay's own and are not sent", path.display())]
    Unrelated {
        /// The certificate file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// Every user of the machine may read or write the private key.
    #[error(
        "key file {} is open to every user of this machine (mode {mode:04o}): chmod o-rwx \
         {}",
        path.display(), path.display()
    )]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The host name for the relay's URIs.
///
/// With `configured`, that name if one of the certificate's DNS names covers it: letter case does
/// not count, and `*.suffix` covers any number of labels before the suffix, as in msrprelay 1.x.
/// Without, the first DNS name that is no wildcard.
pub fn host_name(configured: Option<&str>, identity: &Identity) -> Result<String, HostNameError> {
    let names = || identity.dns_names.join(", ");
    let Some(name) = configured else {
        let plain = identity.dns_names.iter().find(|san| !san.starts_with("*."));
        return plain.cloned().ok_or_else(|| HostNameError::OnlyWildcards { names: names() });
    };
    if identity.dns_names.iter().any(|san| matches(san, name)) {
        return Ok(name.to_owned());
    }
    Err(HostNameError::NotInCertificate { host: name.to_owned(), names: names() })
}

/// Why a certificate gives the relay no host name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// The configured name is not covered.
    #[error(
        "the hostname {host:?} is not among the DNS subject alternative names of the TLS certificate ({names}): set `hostname` to one of them or get a certificate for it"
    )]
    NotInCertificate {
        /// What was configured.
        host: String,
        /// What the certificate has.
        names: String,
    },
    /// Nothing was configured and no single name can be told.
    #[error(
        "the TLS certificate has only wildcard DNS names ({names}): set `hostname` to the name that clients shall use"
    )]
    OnlyWildcards {
        /// What the certificate has.
        names: String,
    },
}

/// The server side: what an accepted connection is greeted with.
///
/// The identity is chosen by the server name a client sends; a client that sends none, or a name
/// nobody has, gets the first one: relays are reached through SRV targets and addresses as well
/// (RFC 9325 §3.7). No client certificate is asked for: clients' ones would be ignored (RFC 4976
/// §9.2). Resumption is as rustls does it: 256 sessions remembered in memory, no ticket key that
/// would have to be rotated and that could unlock recorded traffic.
pub fn server_config(identities: &[Identity]) -> Result<Arc<ServerConfig>, TlsError> {
    if identities.is_empty() {
        return Err(TlsError::NoIdentity);
    }
    let resolver = ByServerName { identities: identities.to_vec() };
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Configuration)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    Ok(Arc::new(config))
}

/// Chooses among the identities by name, then by what the client can verify.
#[derive(Debug)]
struct ByServerName {
    identities: Vec<Identity>,
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |identity: &&Identity| {
            identity.certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        // The first of equals, so the first identity is the default.
        let best =
            self.identities.iter().filter(usable).min_by_key(|i| i.rank(hello.server_name()));
        best.or(self.identities.first()).map(|identity| Arc::clone(&identity.certified))
    }
}

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
        match &self.policy {
            Policy::Off => Ok(ServerCertVerified::assertion()),
            Policy::Enforce(checker) => check(checker),
            Policy::Log(checker, observer) => {
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

/// Why TLS cannot be set up. Every message ends with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file does not serve.
    #[error("{0}")]
    File(#[from] PemError),
    /// The private key is another certificate's.
    #[error(
        "the private key in {} does not belong to the certificate in {}: \
         name the two that were made together",
        key.display(), certificate.display()
    )]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// A TLS listener needs a certificate.
    #[error("TLS needs a certificate: set `certificate` and `key`")]
    NoIdentity,
    /// Certificates shall be verified and nobody is trusted.
    #[error(
        "verify_next_hop = enforce, and no trusted certificate authority is known: \
         install the package ca-certificates or set `ca`"
    )]
    NoTrustAnchors,
    /// The TLS library refused the set-up.
    #[error("TLS cannot be set up: {0}")]
    Configuration(rustls::Error),
}

/// One certificate of a file, with what is needed to put it in its place.
struct Entry {
    der: CertificateDer<'static>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public_key: Vec<u8>,
}

impl Entry {
    fn parse(der: CertificateDer<'static>, file: &PemFile) -> Result<Self, TlsError> {
        let parsed = parse_certificate(&der, file)?;
        let subject = parsed.subject().as_raw().to_vec();
        let issuer = parsed.issuer().as_raw().to_vec();
        let public_key = parsed.public_key().raw.to_vec();
        Ok(Self { der, subject, issuer, public_key })
    }
}

/// The first certificate that the key belongs to.
fn leaf_for(chain: &[Entry], signer: &dyn SigningKey) -> Option<usize> {
    let own = signer.public_key()?;
    chain.iter().position(|entry| entry.public_key == own.as_ref())
}

/// A chain as TLS sends it, and what had to be done to the file's order.
struct Ordered {
    chain: Vec<CertificateDer<'static>>,
    reordered: bool,
    unrelated: usize,
}

impl Ordered {
    fn findings(&self, path: &Path) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.reordered {
            findings.push(Finding::ChainReordered { path: path.to_owned() });
        }
        if self.unrelated > 0 {
            findings.push(Finding::Unrelated { path: path.to_owned(), count: self.unrelated });
        }
        findings
    }
}

/// RFC 8446 §4.4.2: the own certificate first, then each one's issuer. Many a file is put together
/// the other way round, and some clients refuse that.
fn order(mut entries: Vec<Entry>, leaf: usize) -> Ordered {
    let mut reordered = leaf != 0;
    let mut last = entries.remove(leaf);
    let mut chain = Vec::new();
    loop {
        let self_issued = last.subject == last.issuer;
        let issuer = entries.iter().position(|entry| entry.subject == last.issuer);
        chain.push(last.der);
        let Some(at) = issuer.filter(|_| !self_issued) else {
            break;
        };
        reordered |= at != 0;
        last = entries.remove(at);
    }
    Ordered { chain, reordered, unrelated: entries.len() }
}

fn parse_certificate<'a>(
    der: &'a CertificateDer<'_>,
    file: &PemFile,
) -> Result<X509Certificate<'a>, TlsError> {
    match parse_x509_certificate(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(cause) => Err(file.error(FileProblem::UnusableCertificate(cause.to_string())).into()),
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

/// Whether the subjectAltName `san` covers `name`: without regard to case, `*.` standing for one
/// label or more.
fn matches(san: &str, name: &str) -> bool {
    let Some(suffix) = san.strip_prefix('*').filter(|suffix| suffix.starts_with('.')) else {
        return san.eq_ignore_ascii_case(name);
    };
    let Some(at) = name.len().checked_sub(suffix.len()).filter(|&at| at > 0) else {
        return false;
    };
    name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case(suffix)
}

/// The one TLS provider, passed explicitly: a default would panic once two are compiled in.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// A moment as operators read it.
#[derive(Debug, Clone, Copy)]
pub struct Utc(pub SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = match self.0.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()),
            Err(before) => i64::try_from(before.duration().as_secs()).map(|s| -s),
        };
        let Some(time) = seconds.ok().and_then(|s| ASN1Time::from_timestamp(s).ok()) else {
            return f.write_str("the far future");
        };
        let t = time.to_datetime();
        let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt},
        process::{Command, Output},
    };

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
    };
    use tempfile::TempDir;

    use super::*;

    /// Writes a self-signed pair as `NAME.crt` and `NAME.key`.
    fn write_pair(dir: &Path, name: &str, sans: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, sans).self_signed(&key).unwrap();
        (
            write(dir, &format!("{name}.crt"), certificate.pem()),
            write_key(dir, &format!("{name}.key"), &key.serialize_pem()),
        )
    }

    fn params(common_name: &str, sans: &[&str]) -> CertificateParams {
        let names: Vec<String> = sans.iter().map(|&san| san.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params
    }

    fn write(dir: &Path, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn write_key(dir: &Path, name: &str, contents: &str) -> PathBuf {
        let path = write(dir, name, contents);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A self-signed identity for `sans`.
    pub(in crate::transport) fn identity(sans: &[&str]) -> Identity {
        let dir = TempDir::new().unwrap();
        let (certificate, key) = write_pair(dir.path(), sans[0], sans);
        Identity::load(&certificate, &key).unwrap()
    }

    pub(in crate::transport) fn trusting(identity: &Identity) -> RootCertStore {
        let mut anchors = RootCertStore::empty();
        anchors.add(identity.chain()[0].clone()).unwrap();
        anchors
    }

    fn openssl(arguments: &[&str], dir: &Path) {
        let output = Command::new("openssl").args(arguments).current_dir(dir).output();
        assert_success(&output.expect("the tests need openssl"));
    }

    fn assert_success(output: &Output) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

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

    #[test]
    fn chains_are_put_in_order() {
        let authority = |name: &str| {
            let mut params = params(name, &[]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("root"), key()).unwrap();
        let middle = CertifiedIssuer::signed_by(authority("middle"), key(), &root).unwrap();
        let leaf_key = key();
        let leaf = params("leaf", &["r.example.com"]).signed_by(&leaf_key, &middle).unwrap();
        let stranger = params("stranger", &["s.example.com"]).self_signed(&key()).unwrap();
        let expected = [leaf.der(), middle.der(), root.der()].map(Clone::clone);
        let dir = TempDir::new().unwrap();
        let key = write_key(dir.path(), "k", &leaf_key.serialize_pem());
        let load = |pems: &[String]| {
            let path = write(dir.path(), "c", pems.concat());
            let identity = Identity::load(&path, &key).unwrap();
            assert_eq!(identity.chain(), expected);
            identity.file_findings
        };
        let path = dir.path().join("c");
        let (leaf, middle, root) = (leaf.pem(), middle.pem(), root.pem());
        assert_eq!(load(&[leaf.clone(), middle.clone(), root.clone()]), []);
        let reordered = Finding::ChainReordered { path: path.clone() };
        assert_eq!(load(&[root.clone(), middle.clone(), leaf.clone()]), [reordered]);
        let unrelated = Finding::Unrelated { path, count: 1 };
        assert_eq!(load(&[leaf, middle, root, stranger.pem()]), [unrelated]);
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
        write(d, "parameters", section("EC PARAMETERS", "BggqhkjOPQMBBw=="));
        write(d, "bad-certificate", section("CERTIFICATE", "AAAA"));
        write(d, "bad-key", section("PRIVATE KEY", "AAAA"));
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
            ("cut", "r.key", "certificate file @/cut is damaged"),
            ("r.key", "r.crt", "certificate file @/r.key holds no certificate: are `cert"),
            ("r.crt", "r.crt", "key file @/r.crt holds no private key: are `certificate`"),
            ("parameters", "r.key", "certificate file @/parameters holds no certificate: it must"),
            ("r.crt", "parameters", "key file @/parameters holds no private key: it must have"),
            ("bad-certificate", "r.key", "certificate file @/bad-certificate holds a certificate"),
            ("r.crt", "bad-key", "key file @/bad-key holds a key that cannot be used"),
            ("r.crt", "other.key", "the private key in @/other.key does not belong to the cert"),
            ("no-dns.crt", "no-dns.key", "certificate file @/no-dns.crt holds a certificate that"),
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

    #[test]
    fn host_names_follow_the_certificate() {
        let names = identity(&["*.example.org", "Relay.example.com", "second.example.com"]);
        for accepted in
            ["relay.EXAMPLE.com", "second.example.com", "a.example.org", "a.b.example.org"]
        {
            assert_eq!(host_name(Some(accepted), &names).unwrap(), accepted);
        }
        for refused in
            ["example.org", ".example.org", "example.com", "xexample.org", "é.org", "192.0.2.1"]
        {
            let error = host_name(Some(refused), &names).unwrap_err();
            assert!(matches!(error, HostNameError::NotInCertificate { .. }), "{refused}");
            assert!(
                error
                    .to_string()
                    .contains("(*.example.org, Relay.example.com, second.example.com)"),
                "{error}"
            );
        }
        assert_eq!(host_name(None, &names).unwrap(), "Relay.example.com");
        let wildcards = identity(&["*.example.org"]);
        assert!(matches!(host_name(None, &wildcards), Err(HostNameError::OnlyWildcards { .. })));
    }

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

    /// Runs a script of `tls/` with `tool`.
    fn script(name: &str, tool: &str, dir: &Path, arguments: &[&str]) -> Output {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tls").join(name);
        let mut command = Command::new(path);
        command.args(["-t", tool, "-o"]).arg(dir).args(arguments).current_dir(dir);
        command.output().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[expect(clippy::disallowed_methods, reason = "the scripts count from today")]
    fn now() -> SystemTime {
        SystemTime::now()
    }

    const NAMES: [&str; 4] = ["relay.example.com", "*.example.org", "192.0.2.1", "2001:db8::1"];

    /// Loads what a script made and checks names, dates and modes.
    fn check_script_pair(dir: &Path, days: u64) -> Identity {
        let (certificate, key) = (dir.join("relay.crt"), dir.join("relay.key"));
        let identity = Identity::load(&certificate, &key).unwrap();
        assert_eq!(identity.dns_names(), ["relay.example.com", "*.example.org"]);
        assert_eq!(identity.file_findings, []);
        let lifetime = identity.not_after().duration_since(now()).unwrap();
        let day = Duration::from_hours(24);
        let days = u32::try_from(days).unwrap();
        assert!(lifetime <= day * days && lifetime > day * (days - 1), "{lifetime:?}");
        assert_eq!((mode(&key), mode(&certificate)), (0o600, 0o644));
        let (_, parsed) = parse_x509_certificate(&identity.chain()[0]).unwrap();
        let sans = parsed.subject_alternative_name().unwrap().unwrap();
        let addresses: Vec<&[u8]> = sans
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::IPAddress(octets) => Some(*octets),
                _ => None,
            })
            .collect();
        let v6 = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!(addresses, [&[192, 0, 2, 1][..], &v6[..]]);
        assert!(!parsed.is_ca());
        let usage = parsed.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        let extended = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth);
        identity
    }

    /// A handshake in memory with `verify_next_hop = enforce`.
    fn trusted_by_our_verifier(identity: &Identity, ca: &Path) {
        let mut anchors = RootCertStore::empty();
        add_bundle(&mut anchors, ca).unwrap();
        let config = client_config(Verification::Enforce { anchors }, None).unwrap();
        let name = ServerName::try_from("relay.example.com").unwrap();
        let mut client = rustls::ClientConnection::new(config, name).unwrap();
        let server = server_config(std::slice::from_ref(identity)).unwrap();
        let mut server = rustls::ServerConnection::new(server).unwrap();
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &*wire).unwrap();
            server.process_new_packets().unwrap();
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &*wire).unwrap();
            client.process_new_packets().unwrap();
        }
    }

    fn the_scripts_work_with(tool: &str) {
        let installed = Command::new(tool).arg("--version").output();
        assert!(installed.is_ok(), "the tests need {tool} (packages openssl and gnutls-bin)");
        let dir = TempDir::new().unwrap();
        let own = dir.path().join("own");
        let signed = dir.path().join("signed");
        fs::create_dir(&own).unwrap();
        fs::create_dir(&signed).unwrap();
        // A file that the asterisk would match if it were taken for a pattern.
        write(&own, "x.example.org", "");
        let arguments = [&["-d", "30"][..], &NAMES].concat();
        assert_success(&script("make-selfsigned.sh", tool, &own, &arguments));
        assert_success(&script("make-ca-signed.sh", tool, &signed, &arguments));
        assert_eq!(mode(&signed.join("ca.key")), 0o600);
        openssl(&["verify", "-x509_strict", "-CAfile", "ca.crt", "relay.crt"], &signed);
        openssl(&["verify", "-CAfile", "relay.crt", "relay.crt"], &own);
        let (own_pair, signed_pair) = (check_script_pair(&own, 30), check_script_pair(&signed, 30));
        trusted_by_our_verifier(&own_pair, &own.join("relay.crt"));
        trusted_by_our_verifier(&signed_pair, &signed.join("ca.crt"));

        // Nothing is overwritten; with -f the mode stays and the authority too.
        let before = fs::read(signed.join("relay.key")).unwrap();
        let authority = fs::read(signed.join("ca.crt")).unwrap();
        let kept = script("make-ca-signed.sh", tool, &signed, &arguments);
        assert_eq!(kept.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&kept.stderr).contains("relay.crt exists and is kept"));
        assert_eq!(fs::read(signed.join("relay.key")).unwrap(), before);
        let key = signed.join("relay.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let force = [&["-f"][..], &arguments].concat();
        assert_success(&script("make-ca-signed.sh", tool, &signed, &force));
        assert_ne!(fs::read(&key).unwrap(), before);
        assert_eq!(mode(&key), 0o640, "mode kept, but nothing for others");
        assert_eq!(fs::read(signed.join("ca.crt")).unwrap(), authority);
        openssl(&["verify", "-CAfile", "ca.crt", "relay.crt"], &signed);

        // Half an authority is no reason to make another.
        fs::remove_file(signed.join("ca.key")).unwrap();
        let half = script("make-ca-signed.sh", tool, &signed, &force);
        assert!(String::from_utf8_lossy(&half.stderr).contains("only one of ca.crt and ca.key"));
        let left: Vec<_> = fs::read_dir(&signed).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "temporary files are left: {left:?}");
    }

    #[test]
    fn the_scripts_work_with_openssl() {
        the_scripts_work_with("openssl");
    }

    #[test]
    fn the_scripts_work_with_certtool() {
        the_scripts_work_with("certtool");
    }

    #[test]
    fn the_scripts_refuse_what_they_cannot_do() {
        let dir = TempDir::new().unwrap();
        let run = |arguments: &[&str]| {
            let output = script("make-selfsigned.sh", "openssl", dir.path(), arguments);
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let long = format!("{}.example.com", "a".repeat(250));
        let cases = [
            (&[][..], "name the relay"),
            (&["-d", "0", "r.example.com"], "-d wants a number of days"),
            (&["-d", "1x", "r.example.com"], "-d wants a number of days"),
            (&["-d", "99999", "r.example.com"], "-d wants a number of days"),
            (&["-d"], "option -d needs a value"),
            (&["-x", "r.example.com"], "unknown option -x"),
            (&["192.0.2.1"], "must be a host name"),
            (&["r example.com"], "neither a host name nor an address"),
            (&["r.example.com", "a\nDNS.9 = evil.example.com"], "neither a host name"),
            (&["r..example.com"], "is not a host name"),
            (&["a.*.example.com"], "an asterisk stands for the first label only"),
            (&[&long], "is longer than the 253 characters"),
        ];
        for (arguments, reason) in cases {
            let (code, stderr) = run(arguments);
            assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
            assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
        }
        assert_eq!(run(&["--help"]), (Some(0), String::new()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let (code, stderr) = run(&["-o", "nowhere", "r.example.com"]);
        assert_eq!((code, stderr.contains("no directory nowhere")), (Some(1), true), "{stderr}");
    }
}
