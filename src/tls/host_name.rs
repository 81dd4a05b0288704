//! The host name that goes into the relay's URIs.

use super::Identity;

/// The host name for the relay's URIs.
///
/// If a name is `configured`, one of the certificate's DNS names must cover it. Letter case does
/// not count, and `*.suffix` covers any number of labels before the suffix, as in msrprelay 1.x. If
/// none is configured, it is the first DNS name without a wildcard.
pub fn host_name(configured: Option<&str>, identity: &Identity) -> Result<String, HostNameError> {
    let names = || identity.dns_names().join(", ");
    let Some(name) = configured else {
        let plain = identity.dns_names().iter().find(|san| !san.starts_with("*."));
        return plain.cloned().ok_or_else(|| HostNameError::OnlyWildcards { names: names() });
    };
    if identity.covers(name) {
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
    /// No name was configured, and the certificate has only names with a wildcard.
    #[error(
        "the TLS certificate has only wildcard DNS names ({names}): set `hostname` to the name that clients shall use"
    )]
    OnlyWildcards {
        /// What the certificate has.
        names: String,
    },
}

#[cfg(test)]
mod tests {
    use super::{super::tests::identity, *};

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
}
