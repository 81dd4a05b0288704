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
}
