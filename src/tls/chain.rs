//! The certificates of a file in the order in which TLS sends them.

use std::path::Path;

use rustls::{pki_types::CertificateDer, sign::SigningKey};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use super::pem::{FileProblem, PemFile};
use super::{TlsError, finding::Finding};

/// One certificate of a file, with what is needed to put it in its place.
pub(super) struct ChainCertificate {
    der: CertificateDer<'static>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public_key: Vec<u8>,
}

impl ChainCertificate {
    pub(super) fn parse(der: CertificateDer<'static>, file: &PemFile) -> Result<Self, TlsError> {
        let parsed = parse_certificate(&der, file)?;
        let subject = parsed.subject().as_raw().to_vec();
        let issuer = parsed.issuer().as_raw().to_vec();
        let public_key = parsed.public_key().raw.to_vec();
        Ok(Self { der, subject, issuer, public_key })
    }
}

pub(super) fn parse_certificate<'a>(
    der: &'a CertificateDer<'_>,
    file: &PemFile,
) -> Result<X509Certificate<'a>, TlsError> {
    match parse_x509_certificate(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(cause) => Err(file.error(FileProblem::UnusableCertificate(cause.to_string())).into()),
    }
}

/// The first certificate that the key belongs to.
pub(super) fn leaf_for(chain: &[ChainCertificate], signer: &dyn SigningKey) -> Option<usize> {
    let own = signer.public_key()?;
    chain.iter().position(|entry| entry.public_key == own.as_ref())
}

/// A chain in the order in which TLS sends it, and how the file differed from it.
pub(super) struct Ordered {
    pub(super) chain: Vec<CertificateDer<'static>>,
    reordered: bool,
    unrelated: usize,
}

impl Ordered {
    pub(super) fn findings(&self, path: &Path) -> Vec<Finding> {
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

/// Puts the certificates in order: the relay's own first, then the issuer of each (RFC 8446
/// §4.4.2). Many files have another order, which some clients refuse.
pub(super) fn order(mut entries: Vec<ChainCertificate>, leaf: usize) -> Ordered {
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertifiedIssuer, IsCa, KeyPair};
    use tempfile::TempDir;

    use super::{
        super::{
            Identity,
            tests::{params, write, write_key},
        },
        *,
    };

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
}
