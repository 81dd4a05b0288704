//! Whether a peer's proof that it owns the key of its certificate can be checked.

use rustls::{
    crypto::WebPkiSupportedAlgorithms, pki_types::CertificateDer, server::ParsedCertificate,
};
use x509_parser::{
    asn1_rs::{Any, FromDer},
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// The sizes of RSA keys, in bits, whose signatures the provider checks.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Whether rustls can check a signature made with the key of `certificate`.
///
/// It reads no certificate of X.509 v1 and none with an unknown critical extension, and checks
/// no signature of an RSA key outside of [`RSA_BITS`] or of a curve that has no name.
pub(super) fn provable(
    certificate: &CertificateDer<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Ok(read) = ParsedCertificate::try_from(certificate) else {
        return false;
    };
    let key = read.subject_public_key_info();
    let kind = algorithm(&key);
    algorithms.all.iter().any(|known| Some(known.public_key_alg_id().as_ref()) == kind)
        && rsa_bits(&key).is_none_or(|bits| RSA_BITS.contains(&bits))
}

/// The kind of a `SubjectPublicKeyInfo`: the content of its first field.
fn algorithm(key: &[u8]) -> Option<&[u8]> {
    let (_, info) = Any::from_der(key).ok()?;
    let (_, algorithm) = Any::from_der(info.data).ok()?;
    Some(algorithm.data)
}

fn rsa_bits(key: &[u8]) -> Option<usize> {
    let (_, info) = SubjectPublicKeyInfo::from_der(key).ok()?;
    let PublicKey::RSA(rsa) = info.parsed().ok()? else {
        return None;
    };
    let zeros = rsa.modulus.iter().take_while(|&&octet| octet == 0).count();
    let modulus = &rsa.modulus[zeros..];
    let unused = modulus.first().map_or(0, |octet| octet.leading_zeros() as usize);
    Some(modulus.len() * 8 - unused)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::{
        super::{provider, tests::openssl},
        *,
    };

    #[test]
    fn the_proof_of_usual_keys_can_be_checked_and_that_of_odd_ones_cannot() {
        let dir = TempDir::new().unwrap();
        let x509 = "-x509 -nodes -keyout key -subj /CN=r -out crt";
        let explicit = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 \
                        -pkeyopt ec_param_enc:explicit";
        for (options, expected) in [
            ("-newkey rsa:2048", true),
            ("-newkey rsa:4096", true),
            ("-newkey ec -pkeyopt ec_paramgen_curve:P-256", true),
            ("-newkey ec -pkeyopt ec_paramgen_curve:P-521", true),
            ("-newkey ed25519", true),
            ("-newkey rsa:1024", false),
            ("-newkey rsa:2047", false),
            ("-newkey ec -pkeyopt ec_paramgen_curve:secp256k1", false),
            (explicit, false),
            ("-newkey rsa:2048 -addext 1.2.3.4=critical,ASN1:NULL", false),
        ] {
            let command = format!("req {x509} {options}");
            openssl(&command.split_whitespace().collect::<Vec<_>>(), dir.path());
            let pem = fs::read(dir.path().join("crt")).unwrap();
            let der = rustls_pemfile::certs(&mut &*pem).next().unwrap().unwrap();
            let algorithms = provider().signature_verification_algorithms;
            assert_eq!(provable(&der, &algorithms), expected, "{options}");
        }
    }
}
