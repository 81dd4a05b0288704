//! The arithmetic of digests: H(A1), H(A2) and the digests computed from them (RFC 7616 §3.4).

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use md5::{Digest as _, Md5};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The hash of a challenge and its answer (RFC 7616 §3.3); the `-sess` variants are not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `MD5`: the default where there is no `algorithm` parameter.
    Md5,
    /// `SHA-256`.
    Sha256,
}

impl Algorithm {
    /// Reads an `algorithm` parameter without letter case; `None` if it is another algorithm.
    pub fn from_parameter(value: Option<&str>) -> Option<Self> {
        let Some(value) = value else { return Some(Self::Md5) };
        [Self::Md5, Self::Sha256].into_iter().find(|known| value.eq_ignore_ascii_case(known.name()))
    }

    /// The token of RFC 7616 §6.1.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// The parameter to write into a header. MD5 has none, because old clients cannot read it.
    pub(super) fn parameter(self) -> Option<&'static str> {
        (self != Self::Md5).then(|| self.name())
    }

    /// Hashes parts with a colon between them.
    fn hash(self, parts: &[&[u8]]) -> Hash {
        match self {
            Self::Md5 => Hash::Md5(joined(Md5::new(), parts).into()),
            Self::Sha256 => Hash::Sha256(joined(Sha256::new(), parts).into()),
        }
    }
}

/// H(A1) of RFC 7616 §3.4.2. It serves as the password in this realm, so it is a secret.
#[derive(Clone, Debug)]
pub struct Ha1 {
    pub(super) algorithm: Algorithm,
    /// In lower-case hexadecimal, as it is hashed again.
    pub(super) hex: SecretString,
}

impl Ha1 {
    /// Hashes `user:realm:password`.
    pub fn new(algorithm: Algorithm, user: &str, realm: &str, password: &SecretString) -> Self {
        let parts = [user.as_bytes(), realm.as_bytes(), password.expose_secret().as_bytes()];
        Self { algorithm, hex: SecretString::from(algorithm.hash(&parts).to_hex()) }
    }

    /// Takes a stored hash, in either case; `None` unless it is as many hexadecimal digits as the
    /// algorithm makes.
    pub fn from_hex(algorithm: Algorithm, stored: &SecretString) -> Option<Self> {
        let hash = Hash::from_hex(algorithm, stored.expose_secret())?;
        Some(Self { algorithm, hex: SecretString::from(hash.to_hex()) })
    }

    /// The request-digest of RFC 7616 §3.4.1 for `qop=auth`; an empty method makes the
    /// response-digest of `rspauth`.
    ///
    /// `uri` is hashed as it stands: its spelling counts.
    pub fn digest(
        &self,
        method: &str,
        uri: &[u8],
        nonce: &str,
        nc: &str,
        cnonce: &str,
    ) -> RequestDigest {
        let ha2 = self.algorithm.hash(&[method.as_bytes(), uri]).to_hex();
        let texts = [self.hex.expose_secret(), nonce, nc, cnonce, "auth", &ha2];
        RequestDigest(self.algorithm.hash(&texts.map(str::as_bytes)))
    }

    /// Equality that takes the same time whatever differs.
    pub fn matches(&self, other: &Self) -> bool {
        self.hex.expose_secret().as_bytes().ct_eq(other.hex.expose_secret().as_bytes()).into()
    }
}

/// A digest that proves knowledge of the password. It is compared in constant time only.
#[derive(Clone, Copy)]
pub struct RequestDigest(Hash);

impl RequestDigest {
    /// Reads hexadecimal digits of either case, as many as the algorithm makes.
    pub fn from_hex(algorithm: Algorithm, text: &str) -> Option<Self> {
        Hash::from_hex(algorithm, text).map(Self)
    }

    /// Lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.to_hex()
    }

    /// Equality that takes the same time whatever differs.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for RequestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestDigest([REDACTED])")
    }
}

/// A hash of either algorithm.
#[derive(Clone, Copy)]
enum Hash {
    Md5([u8; 16]),
    Sha256([u8; 32]),
}

impl Hash {
    fn from_hex(algorithm: Algorithm, text: &str) -> Option<Self> {
        match algorithm {
            Algorithm::Md5 => unhex(text).map(Self::Md5),
            Algorithm::Sha256 => unhex(text).map(Self::Sha256),
        }
    }

    fn to_hex(self) -> String {
        HEXLOWER.encode(self.as_bytes())
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Md5(hash) => hash,
            Self::Sha256(hash) => hash,
        }
    }
}

fn joined<D: md5::Digest>(mut hash: D, parts: &[&[u8]]) -> md5::digest::Output<D> {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hash.finalize()
}

fn unhex<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    let mut hash = [0; LEN];
    if text.len() != 2 * LEN {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::msrp::digest::METHOD;

    /// A digest of one algorithm says nothing about the other.
    #[test]
    fn algorithms_do_not_mix() {
        let password = SecretString::from("secret");
        let hashes = [Algorithm::Md5, Algorithm::Sha256]
            .map(|algorithm| Ha1::new(algorithm, "alice", "example.com", &password));
        let [md5, sha256] = &hashes;
        assert!(!md5.matches(sha256) && md5.matches(&md5.clone()));
        let digests = hashes.each_ref().map(|ha1| ha1.digest(METHOD, URI, NONCE, "1", "c"));
        assert!(!digests[0].matches(&digests[1]));
        assert!(RequestDigest::from_hex(Algorithm::Sha256, &digests[0].to_hex()).is_none());
        assert!(RequestDigest::from_hex(Algorithm::Md5, &digests[1].to_hex()).is_none());
        assert!(Ha1::from_hex(Algorithm::Sha256, &md5.hex).is_none());
        for (name, algorithm) in [
            (None, Some(Algorithm::Md5)),
            (Some("md5"), Some(Algorithm::Md5)),
            (Some("sha-256"), Some(Algorithm::Sha256)),
            (Some("SHA-256-sess"), None),
            (Some("SHA256"), None),
            (Some(""), None),
        ] {
            assert_eq!(Algorithm::from_parameter(name), algorithm, "{name:?}");
        }
    }

    /// The spelling of the URI is hashed, not its meaning.
    #[test]
    fn uri_is_hashed_as_text() {
        let password = SecretString::from("secret");
        let digest = Ha1::new(Algorithm::Md5, "alice", "example.com", &password).digest(
            METHOD,
            b"msrps://Bob@Intern.Example.com:9000/a%2Fb;TCP",
            NONCE,
            "00000001",
            "0a4f113b",
        );
        assert_eq!(digest.to_hex(), "fd3aaa6145a2d32c572d3fa63f6b65c2");
    }

    #[test]
    fn stored_ha1_is_read_in_either_case_and_only_when_whole() {
        let read = |text: &str| Ha1::from_hex(Algorithm::Md5, &SecretString::from(text));
        let expected = "b1726872c344b6dc8365b774f8fd6412";
        for text in [expected, &expected.to_uppercase()] {
            assert_eq!(read(text).unwrap().hex.expose_secret(), expected);
        }
        for text in ["", "b17268", &expected.replace('b', "g"), &"é".repeat(16)] {
            assert!(read(text).is_none(), "{text}");
        }
        assert!(read(&format!("{expected}0")).is_none());
    }

    proptest! {
        #[test]
        fn hexadecimal_survives(hash: [u8; 32]) {
            prop_assert_eq!(unhex(&Hash::Sha256(hash).to_hex()), Some(hash));
        }
    }

    const NONCE: &str = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
    const URI: &[u8] = b"msrps://example.com:2855;tcp";
}
