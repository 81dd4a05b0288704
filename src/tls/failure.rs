//! Why a TLS handshake failed, in words and with a remedy: the one place where what rustls and
//! webpki say is put into sentences.

use std::{borrow::Cow, io, time::UNIX_EPOCH};

use rustls::{
    AlertDescription, CertificateError, InvalidMessage, PeerIncompatible, PeerMisbehaved,
    pki_types::UnixTime,
};

use super::finding::Utc;

/// How many names of a certificate a message repeats.
const NAMES_SHOWN: usize = 4;
/// How many characters of each, which is what a host name may have.
const NAME_SHOWN: usize = 253;

/// Why a TLS handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are not TLS.
    #[error("the peer does not speak TLS here (plain TCP?)")]
    NotTls,
    /// RFC 8996: nothing below TLS 1.2.
    #[error("the peer offers no TLS version from 1.2 on")]
    VersionTooOld,
    /// The connection ended in the middle.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer offers nothing that this side accepts.
    #[error(
        "the peer offers no {0} that is accepted here: its TLS library or its settings are old"
    )]
    NothingInCommon(&'static str),
    /// RFC 6066 §3: the server name of the client cannot be a host name.
    #[error(
        "the server name that the client asks for is no host name (with a port, an underscore at \
         its edge, or not in ASCII?): correct it in the client's settings"
    )]
    ServerName,
    /// The peer sent an alert; after `UnknownCA` and the like it does not trust our certificate.
    #[error("the peer refused with the alert {alert:?}: {}", alert_means(*.0), alert = .0)]
    Refused(AlertDescription),
    /// The peer's certificate did not verify.
    #[error("the peer's certificate {}", certificate(.0))]
    Certificate(CertificateError),
    /// The peer breaks the rules.
    #[error("the peer does not follow the rules of TLS ({0})")]
    Protocol(rustls::Error),
    /// The connection failed.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
            return Self::Closed;
        }
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner.cloned().map_or_else(|| Self::Io(error), Self::from)
    }
}

impl From<rustls::Error> for HandshakeError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            rustls::Error::InvalidMessage(InvalidMessage::InvalidServerName)
            | rustls::Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName) => {
                Self::ServerName
            }
            rustls::Error::PeerIncompatible(cause) => incompatible(cause),
            rustls::Error::AlertReceived(alert) => Self::Refused(alert),
            rustls::Error::InvalidCertificate(cause) => Self::Certificate(cause),
            other => Self::Protocol(other),
        }
    }
}

fn incompatible(cause: PeerIncompatible) -> HandshakeError {
    HandshakeError::NothingInCommon(match cause {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            return HandshakeError::VersionTooOld;
        }
        PeerIncompatible::NoCipherSuitesInCommon => "cipher suite",
        PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NamedGroupsExtensionRequired
        | PeerIncompatible::KeyShareExtensionRequired
        | PeerIncompatible::NoEcPointFormatsInCommon
        | PeerIncompatible::EcPointsExtensionRequired
        | PeerIncompatible::UncompressedEcPointsRequired => "key exchange",
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
        | PeerIncompatible::SignatureAlgorithmsExtensionRequired => "signature algorithm",
        other => return HandshakeError::Protocol(other.into()),
    })
}

/// What the peer means by an alert (RFC 8446 §6.2), and what to do.
fn alert_means(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::UnknownCA
        | A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateUnknown
        | A::CertificateRevoked
        | A::CertificateExpired => {
            "it does not accept our certificate; let it trust that, or get one that it trusts"
        }
        A::CertificateRequired | A::NoCertificate | A::AccessDenied => {
            "it wants a certificate that we do not have"
        }
        A::ProtocolVersion => "it speaks no TLS version from 1.2 on",
        A::HandshakeFailure | A::InsufficientSecurity => {
            "it accepts none of our cipher suites, key exchanges or keys; its TLS library or its \
             settings are old"
        }
        A::UnrecognisedName => "it serves no host of the name that was dialled",
        A::UserCanceled | A::CloseNotify => "it gave up",
        _ => "its own log says more",
    }
}

/// What is wrong with a certificate, and what to do.
fn certificate(cause: &CertificateError) -> Cow<'static, str> {
    use CertificateError as E;
    let words = match cause {
        E::UnknownIssuer => {
            "is signed by nobody who is trusted here: trust its authority, or the certificate \
             itself if it is self-signed"
        }
        E::ExpiredContext { not_after, .. } => {
            return format!("expired at {}: it must be renewed", utc(*not_after)).into();
        }
        E::Expired => "has expired: it must be renewed",
        E::NotValidYetContext { not_before, .. } => {
            let begin = utc(*not_before);
            return format!("is not valid before {begin}: is the clock of this machine right?")
                .into();
        }
        E::NotValidYet => "is not valid yet: is the clock of this machine right?",
        E::NotValidForNameContext { expected, presented } => {
            return format!(
                "is for another name: it has {}, and {} was dialled",
                names(presented),
                expected.to_str().escape_debug()
            )
            .into();
        }
        E::NotValidForName => "is for another name than the one that was dialled",
        E::Revoked => "is revoked: the peer must get another one",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "is not meant for a server: the peer needs one whose extended key usage has serverAuth"
        }
        E::BadEncoding => "is damaged: the peer must install it again",
        E::BadSignature => {
            "has a wrong signature, or is not the peer's own: the peer must install certificate, \
             key and chain that belong together"
        }
        E::UnhandledCriticalExtension => UNKNOWN_EXTENSION,
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => WEAK,
        E::Other(other) => return path(&other.0),
        _ => UNCHECKED,
    };
    words.into()
}

const UNKNOWN_EXTENSION: &str = "has a critical extension that is not known here: the peer needs \
                                 one without";
const WEAK: &str = "or its chain is signed with an algorithm that is not accepted (SHA-1, DSA?): \
                    the peer needs a new one";
const UNCHECKED: &str = "cannot be checked: the peer needs a new one";

/// What rustls hands on from webpki as it is.
fn path(cause: &std::sync::Arc<dyn std::error::Error + Send + Sync>) -> Cow<'static, str> {
    use webpki::Error as E;
    let Some(error) = cause.downcast_ref::<E>() else {
        return cause.to_string().into();
    };
    let words = match error {
        E::CaUsedAsEndEntity => {
            "is one of an authority (CA:TRUE) and not of a server: trust that certificate itself, \
             or give the peer one without CA:TRUE"
        }
        E::EndEntityUsedAsCa => {
            "is signed by one that is not an authority (CA:FALSE): the peer needs one of an \
             authority"
        }
        E::UnsupportedCertVersion => "is not of X.509 version 3: the peer needs a new one",
        E::UnsupportedCriticalExtension => UNKNOWN_EXTENSION,
        E::NameConstraintViolation => {
            "has a name that its authority may not sign for: the peer needs one of another authority"
        }
        E::PathLenConstraintViolated
        | E::MaximumPathDepthExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumSignatureChecksExceeded => {
            "comes with too long a chain: the peer must send the certificates that are needed only"
        }
        _ => UNCHECKED,
    };
    words.into()
}

fn utc(moment: UnixTime) -> Utc {
    Utc(UNIX_EPOCH + std::time::Duration::from_secs(moment.as_secs()))
}

/// The names of a certificate. They are the peer's words: bounded, and harmless in a log.
fn names(presented: &[String]) -> String {
    // webpki puts the kind of a name around it.
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        let inner = inner.unwrap_or(name).trim_matches('"');
        inner.chars().take(NAME_SHOWN).flat_map(char::escape_debug).collect::<String>()
    };
    let mut shown: Vec<String> = presented.iter().take(NAMES_SHOWN).map(bare).collect();
    if presented.len() > NAMES_SHOWN {
        shown.push(format!("{} more", presented.len() - NAMES_SHOWN));
    }
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rustls::{Error, OtherError, pki_types::ServerName};

    use super::*;

    /// No message has numbers where words should stand, or ends without a remedy.
    #[test]
    fn failures_are_sentences() {
        let at = |days: u64| UnixTime::since_unix_epoch(Duration::from_hours(24 * days));
        let (time, not_after, not_before) = (at(20_000), at(19_000), at(21_000));
        let other = |cause| CertificateError::Other(OtherError(Arc::new(cause)));
        let presented = |names: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("relay.example.com").unwrap(),
            presented: names.iter().map(|name| format!("DnsName(\"{name}\")")).collect(),
        };
        let alert = Error::AlertReceived;
        let cases: Vec<(Error, &str)> = vec![
            (CertificateError::UnknownIssuer.into(), "nobody who is trusted here: trust its"),
            (
                CertificateError::ExpiredContext { time, not_after }.into(),
                "the peer's certificate expired at 2022-01-08 00:00:00 UTC: it must be renewed",
            ),
            (CertificateError::Expired.into(), "it must be renewed"),
            (
                CertificateError::NotValidYetContext { time, not_before }.into(),
                "not valid before 2027-07-01 00:00:00 UTC: is the clock",
            ),
            (
                presented(&["a.example", "b\n.example"]).into(),
                "is for another name: it has a.example, b\\n.example, and relay.example.com was",
            ),
            (presented(&["a", "b", "c", "d", "e", "f"]).into(), "it has a, b, c, d, 2 more, and"),
            (presented(&[]).into(), "it has none, and relay.example.com was dialled"),
            (CertificateError::InvalidPurpose.into(), "extended key usage has serverAuth"),
            (CertificateError::BadSignature.into(), "key and chain that belong together"),
            (CertificateError::BadEncoding.into(), "is damaged: the peer must"),
            (
                CertificateError::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: vec![1; 100],
                    supported_algorithms: vec![],
                }
                .into(),
                "an algorithm that is not accepted (SHA-1",
            ),
            (
                other(webpki::Error::CaUsedAsEndEntity).into(),
                "(CA:TRUE) and not of a server: trust",
            ),
            (other(webpki::Error::EndEntityUsedAsCa).into(), "(CA:FALSE): the peer needs"),
            (other(webpki::Error::UnsupportedCertVersion).into(), "not of X.509 version 3: the"),
            (
                other(webpki::Error::UnsupportedCriticalExtension).into(),
                "the peer needs one without",
            ),
            (other(webpki::Error::MaximumPathDepthExceeded).into(), "too long a chain: the peer"),
            (other(webpki::Error::EmptyEkuExtension).into(), "cannot be checked: the peer needs"),
            (alert(AlertDescription::UnknownCA), "alert UnknownCA: it does not accept our cert"),
            (alert(AlertDescription::HandshakeFailure), "its settings are old"),
            (alert(AlertDescription::ProtocolVersion), "it speaks no TLS version from 1.2 on"),
            (alert(AlertDescription::UnrecognisedName), "no host of the name that was dialled"),
            (alert(AlertDescription::InternalError), "its own log says more"),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), "offers no cipher suite that is"),
            (PeerIncompatible::NoKxGroupsInCommon.into(), "offers no key exchange that is"),
            (PeerIncompatible::Tls12NotOffered.into(), "offers no TLS version from 1.2 on"),
            (InvalidMessage::InvalidContentType.into(), "does not speak TLS here (plain TCP?)"),
            (PeerMisbehaved::ServerNameMustContainOneHostName.into(), "is no host name (with a"),
            (PeerMisbehaved::UnsolicitedEchExtension.into(), "does not follow the rules of TLS ("),
        ];
        for (error, words) in cases {
            let sentence = HandshakeError::from(error.clone()).to_string();
            assert!(sentence.contains(words), "{error:?}: {sentence}");
            assert!(!sentence.contains('['), "{sentence}");
            // As tokio-rustls hands it on.
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(HandshakeError::from(wrapped).to_string(), sentence);
        }
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            let closed = HandshakeError::from(io::Error::from(kind));
            assert_eq!(closed.to_string(), "the peer closed the connection");
        }
    }
}
