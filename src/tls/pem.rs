//! Certificates and private keys from PEM files, and what to tell an operator whose file does not
//! serve. The only user of `rustls-pemfile`, which wraps the PEM parser of `rustls-pki-types`.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{Group, getegid};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;

pub use super::boundaries::Flaw;
use super::boundaries::{self, Obstacle};

/// Largest PEM file that is read, in bytes; the system's whole CA bundle has about 220 KiB.
pub const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// A PEM file that does not serve, why, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{file} {problem}: {}", problem.advice(file))]
pub struct PemError {
    /// Which file.
    pub file: PemFile,
    /// What is wrong with it.
    pub problem: FileProblem,
}

/// What is wrong with a PEM file.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// No such file.
    #[error("does not exist")]
    Missing,
    /// The file is there and may not be read.
    #[error("cannot be read (permission denied)")]
    Forbidden,
    /// The file is there and cannot be read for another reason: it is a directory, the disk fails.
    #[error("cannot be read ({0})")]
    Unreadable(io::Error),
    /// The file is larger than [`MAX_PEM_BYTES`].
    #[error("has more than {MAX_PEM_BYTES} bytes")]
    TooLarge,
    /// The file holds nothing.
    #[error("is empty")]
    Empty,
    /// There is no PEM section in the file.
    #[error("is not in PEM")]
    NotPem,
    /// The file is text in UTF-16.
    #[error("is text in UTF-16")]
    Utf16,
    /// A line of the PEM text is damaged.
    #[error("is damaged in line {line} ({flaw})")]
    DamagedLine {
        /// Which line.
        line: usize,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// A section is of a kind that is not read; it may have been meant to be a certificate.
    #[error("has in line {line} a section {label:?}, which is not read")]
    UnreadSection {
        /// Where it begins.
        line: usize,
        /// Its label, cut if it is long.
        label: String,
    },
    /// The PEM text is damaged.
    #[error("is damaged ({0})")]
    Damaged(io::Error),
    /// The file has PEM sections, and none is a certificate.
    #[error("holds no certificate")]
    NoCertificate {
        /// Whether a private key is in it instead.
        has_key: bool,
    },
    /// The file has PEM sections, and none is a private key.
    #[error("holds no private key")]
    NoKey {
        /// Whether a certificate is in it instead.
        has_certificate: bool,
    },
    /// The private key is protected by a passphrase, and a daemon has nobody to ask.
    #[error("is encrypted, and nobody is there to type the passphrase")]
    Encrypted,
    /// The private key is of a kind or size that TLS cannot use.
    #[error("holds a key that cannot be used ({0})")]
    UnusableKey(rustls::Error),
    /// A certificate that is none.
    #[error("holds a certificate that cannot be used ({0})")]
    UnusableCertificate(String),
    /// RFC 4976 §9.2: the name must be a dNSName of the subjectAltName; the common name is no
    /// replacement.
    #[error("holds a certificate that has no DNS name in its subjectAltName")]
    NoDnsName,
}

impl FileProblem {
    fn advice(&self, file: &PemFile) -> String {
        let path = file.path().display();
        match self {
            Self::Missing | Self::Empty => file.replacement().to_owned(),
            Self::Forbidden => access(file.path()),
            Self::Unreadable(_) | Self::TooLarge => "is it the right file?".to_owned(),
            Self::NotPem => format!("if it is in DER, convert it with `{}`", file.conversion()),
            Self::Utf16 => "save it as plain text (UTF-8)".to_owned(),
            Self::DamagedLine { flaw, .. } => flaw.advice().to_owned(),
            Self::UnreadSection { label, .. } => match label.as_str() {
                "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => {
                    "convert each with `openssl x509 -in FILE -out FILE.pem`".to_owned()
                }
                "PKCS7" | "CMS" => {
                    format!("convert it with `openssl pkcs7 -print_certs -in {path} -out FILE.pem`")
                }
                _ => "a certificate is a section CERTIFICATE; correct the label, or remove the \
                      section"
                    .to_owned(),
            },
            Self::Damaged(_) => "copy it again".to_owned(),
            Self::NoCertificate { has_key: true } | Self::NoKey { has_certificate: true } => {
                "are `certificate` and `key` exchanged?".to_owned()
            }
            Self::NoCertificate { .. } => "it must have a BEGIN CERTIFICATE section".to_owned(),
            Self::NoKey { .. } => "it must have a BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or \
                                   BEGIN EC PRIVATE KEY section"
                .to_owned(),
            Self::Encrypted => format!(
                "decrypt it with `(umask 077; openssl pkey -in {path} -out FILE)` and set `key` \
                 to FILE"
            ),
            Self::UnusableKey(_) => {
                "use P-256, P-384, Ed25519 or RSA of 2048 to 8192 bits".to_owned()
            }
            Self::UnusableCertificate(_) => "get a new one".to_owned(),
            Self::NoDnsName => "the common name does not count (RFC 4976 section 9.2), get one \
                                with a DNS name, for example with make-selfsigned.sh"
                .to_owned(),
        }
    }
}

/// One of the configured PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PemFile {
    /// Option `certificate`.
    Certificate(PathBuf),
    /// Option `key`.
    Key(PathBuf),
    /// Option `ca`.
    Authorities(PathBuf),
}

impl PemFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Certificate(path) | Self::Key(path) | Self::Authorities(path) => path,
        }
    }

    pub(super) fn error(&self, problem: FileProblem) -> PemError {
        PemError { file: self.clone(), problem }
    }

    fn replacement(&self) -> &'static str {
        match self {
            Self::Certificate(_) | Self::Key(_) => {
                "make a pair with make-selfsigned.sh, or set `certificate` and `key` to yours"
            }
            Self::Authorities(_) => {
                "set `ca` to the certificates of the authorities to trust, or leave it out"
            }
        }
    }

    fn conversion(&self) -> &'static str {
        match self {
            Self::Certificate(_) | Self::Authorities(_) => {
                "openssl x509 -inform der -in FILE -out FILE.pem"
            }
            Self::Key(_) => "(umask 077; openssl pkey -inform der -in FILE -out FILE.pem)",
        }
    }
}

impl fmt::Display for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Certificate(_) => "certificate file",
            Self::Key(_) => "key file",
            Self::Authorities(_) => "CA file",
        };
        write!(f, "{what} {}", self.path().display())
    }
}

/// Who may read `path`, and how to let the relay do so. The lock may be on a directory above it.
pub fn access(path: &Path) -> String {
    let Some((barrier, seen)) =
        path.ancestors().find_map(|part| Some((part, fs::metadata(part).ok()?)))
    else {
        return "let the user that the relay runs as read it".to_owned();
    };
    let (thing, mode) = if seen.is_dir() { ("the directory", "0750") } else { ("it", "0640") };
    format!(
        "{thing} belongs to {}:{} with mode {:04o}, let the relay's group in with \
         `chgrp {group} {path} && chmod {mode} {path}`",
        seen.uid(),
        seen.gid(),
        seen.mode() & 0o7777,
        group = own_group(),
        path = barrier.display(),
    )
}

/// The group that the relay runs as.
fn own_group() -> String {
    let own = getegid();
    Group::from_gid(own).ok().flatten().map_or_else(|| own.to_string(), |group| group.name)
}

/// All certificates of a file, at least one.
pub(super) fn certificates(file: &PemFile) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let items = items(file, &read(file)?.bytes)?;
    let has_key = items.iter().any(is_key);
    let certificates: Vec<_> = items.into_iter().filter_map(into_certificate).collect();
    if certificates.is_empty() {
        return Err(file.error(FileProblem::NoCertificate { has_key }));
    }
    Ok(certificates)
}

/// The first private key of a file, and the file's mode where others may touch it.
pub(super) fn private_key(
    file: &PemFile,
) -> Result<(PrivateKeyDer<'static>, Option<u32>), PemError> {
    let contents = read(file)?;
    if is_encrypted(&contents.bytes) {
        return Err(file.error(FileProblem::Encrypted));
    }
    let items = items(file, &contents.bytes)?;
    let has_certificate = items.iter().any(|item| matches!(item, Item::X509Certificate(_)));
    let Some(key) = items.into_iter().find_map(into_key) else {
        return Err(file.error(FileProblem::NoKey { has_certificate }));
    };
    Ok((key, Some(contents.mode).filter(|mode| mode & 0o007 != 0)))
}

/// Both PEM forms: PKCS#8 (`ENCRYPTED PRIVATE KEY`) and the older header of RFC 1421.
fn is_encrypted(pem: &[u8]) -> bool {
    let found = |needle: &[u8]| memchr::memmem::find(pem, needle).is_some();
    found(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || found(b"Proc-Type: 4,ENCRYPTED")
}

fn is_key(item: &Item) -> bool {
    matches!(item, Item::Pkcs1Key(_) | Item::Pkcs8Key(_) | Item::Sec1Key(_))
}

fn into_key(item: Item) -> Option<PrivateKeyDer<'static>> {
    match item {
        Item::Pkcs1Key(key) => Some(key.into()),
        Item::Pkcs8Key(key) => Some(key.into()),
        Item::Sec1Key(key) => Some(key.into()),
        _ => None,
    }
}

fn into_certificate(item: Item) -> Option<CertificateDer<'static>> {
    match item {
        Item::X509Certificate(certificate) => Some(certificate),
        _ => None,
    }
}

/// The PEM sections of a kind that matters; others (`EC PARAMETERS`) are passed over.
fn items(file: &PemFile, pem: &[u8]) -> Result<Vec<Item>, PemError> {
    if pem.trim_ascii().is_empty() {
        return Err(file.error(FileProblem::Empty));
    }
    if pem.starts_with(b"\xff\xfe") || pem.starts_with(b"\xfe\xff") {
        return Err(file.error(FileProblem::Utf16));
    }
    let pem = pem.strip_prefix("\u{feff}".as_bytes()).unwrap_or(pem);
    boundaries::check(pem).map_err(|obstacle| {
        file.error(match obstacle {
            Obstacle::Damage { line, flaw } => FileProblem::DamagedLine { line, flaw },
            Obstacle::Unread { line, label } => FileProblem::UnreadSection { line, label },
        })
    })?;
    if memchr::memmem::find(pem, b"-----BEGIN ").is_none() {
        return Err(file.error(FileProblem::NotPem));
    }
    rustls_pemfile::read_all(&mut &*pem)
        .collect::<Result<_, _>>()
        .map_err(|cause| file.error(FileProblem::Damaged(cause)))
}

struct PemBytes {
    bytes: Vec<u8>,
    mode: u32,
}

fn read(file: &PemFile) -> Result<PemBytes, PemError> {
    let contents = read_bounded(file.path()).map_err(|cause| file.error(cause.into()))?;
    if contents.bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(file.error(FileProblem::TooLarge));
    }
    Ok(contents)
}

fn read_bounded(path: &Path) -> io::Result<PemBytes> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode() & 0o7777;
    let mut bytes = Vec::new();
    file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(PemBytes { bytes, mode })
}

impl From<io::Error> for FileProblem {
    fn from(cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::Unreadable(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::{
        super::tests::{write, write_pair},
        *,
    };

    /// The tests may run as root, who may read everything: the error is made by hand.
    #[test]
    fn a_forbidden_file_is_named_with_owner_and_mode() {
        let dir = TempDir::new().unwrap();
        let key = dir.path().join("k");
        fs::write(&key, "").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let denied = |path: &Path| {
            let cause = io::Error::from(io::ErrorKind::PermissionDenied);
            PemFile::Key(path.to_owned()).error(cause.into()).to_string()
        };
        let owner = fs::metadata(&key).unwrap();
        let (path, uid, gid) = (key.display(), owner.uid(), owner.gid());
        let group = own_group();
        assert_eq!(
            denied(&key),
            format!(
                "key file {path} cannot be read (permission denied): it belongs to {uid}:{gid} \
                 with mode 0600, let the relay's group in with \
                 `chgrp {group} {path} && chmod 0640 {path}`"
            )
        );
        let error = denied(&dir.path().join("hidden/k"));
        let advice = format!("&& chmod 0750 {}`", dir.path().display());
        assert!(error.contains("the directory belongs to") && error.ends_with(&advice), "{error}");
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_and_utf_16_is_named() {
        let dir = TempDir::new().unwrap();
        let (good, _) = write_pair(dir.path(), "r", &["r.example.com"]);
        let text = fs::read_to_string(&good).unwrap();
        let read = |octets: &[u8]| {
            let path = write(dir.path(), "c", octets);
            certificates(&PemFile::Certificate(path))
        };
        assert_eq!(read(format!("\u{feff}{text}").as_bytes()).unwrap().len(), 1);
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let text = format!("\u{feff}{text}");
            let utf16: Vec<u8> = text.encode_utf16().flat_map(order).collect();
            let error = read(&utf16).unwrap_err().to_string();
            assert!(error.contains("/c is text in UTF-16: save it as plain text"), "{error}");
        }
    }

    #[test]
    fn a_file_without_end_is_not_read() {
        let error = certificates(&PemFile::Certificate("/dev/zero".into())).unwrap_err();
        assert!(matches!(error.problem, FileProblem::TooLarge), "{error}");
    }
}
