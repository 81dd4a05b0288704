//! Compares domains. Letter case does not count. An internationalized name is equal to its ASCII
//! form (`xn--...`, RFC 5891).

/// The form of a domain that is used for all comparisons.
pub fn folded(domain: &str) -> String {
    let lower = domain.to_lowercase();
    if lower.is_ascii() && !lower.contains("xn--") {
        return lower;
    }
    let (unicode, valid) = idna::domain_to_unicode(&lower);
    if valid.is_ok() { unicode } else { lower }
}

/// Whether both texts name the same domain.
pub fn same(one: &str, other: &str) -> bool {
    folded(one) == folded(other)
}

/// NAME, if `user` is NAME@REALM in that realm.
pub fn bare_name<'a>(user: &'a str, realm: &str) -> Option<&'a str> {
    let (name, domain) = user.rsplit_once('@')?;
    (!name.is_empty() && same(domain, realm)).then_some(name)
}

/// The spellings that a table most likely has: as it is written here, in lower case with its own
/// letters, and that in ASCII.
pub fn spellings(domain: &str) -> [String; 3] {
    let folded = folded(domain);
    let ascii = idna::domain_to_ascii(&folded).unwrap_or_else(|_| folded.clone());
    [domain.to_owned(), folded, ascii]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_domain() {
        for (one, other, expected) in [
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "example.org", false),
            ("bücher.example", "BÜCHER.example", true),
            ("bücher.example", "bu\u{308}cher.example", true),
            ("bücher.example", "xn--bcher-kva.example", true),
            ("BÜCHER.example", "XN--BCHER-KVA.EXAMPLE", true),
            ("bücher.example", "bucher.example", false),
            ("ΣΊΣΥΦΟΣ.example", "σίσυφοσ.example", true),
            ("xn--a", "xn--a", true),
            ("xn--a", "a", false),
            ("My realm", "my REALM", true),
            ("", "", true),
            ("192.0.2.1", "192.0.2.1", true),
        ] {
            assert_eq!(same(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_name_is_bare_without_its_own_domain_only() {
        for (user, expected) in [
            ("alice@example.com", Some("alice")),
            ("alice@EXAMPLE.com", Some("alice")),
            ("a@b@example.com", Some("a@b")),
            ("alice@example.com@example.com", Some("alice@example.com")),
            ("alice@example.org", None),
            ("alice", None),
            ("alice@", None),
            ("@example.com", None),
            ("", None),
        ] {
            assert_eq!(bare_name(user, "example.com"), expected, "{user}");
        }
    }

    #[test]
    fn spellings_that_a_table_may_have() {
        for (domain, expected) in [
            ("Example.com", ["Example.com", "example.com", "example.com"]),
            ("BÜCHER.example", ["BÜCHER.example", "bücher.example", "xn--bcher-kva.example"]),
            ("XN--BCHER-KVA.A", ["XN--BCHER-KVA.A", "bücher.a", "xn--bcher-kva.a"]),
            ("My realm", ["My realm", "my realm", "my realm"]),
            ("", ["", "", ""]),
        ] {
            assert_eq!(spellings(domain), expected);
            assert!(expected.iter().all(|spelling| same(spelling, domain)));
        }
    }
}
