//! The boundaries of a PEM file (RFC 7468 §3), checked before the file is read: the parser passes
//! over a line that is nearly one, and with it over a certificate.

use std::borrow::Cow;

/// What is wrong with a line, and what to do about it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A dash of typography, which a word processor made of hyphens.
    #[error("a boundary with dashes that are no hyphens")]
    Dashes,
    /// Two boundaries, or other text.
    #[error("a boundary that shares its line")]
    Shared,
    /// Not five hyphens, not capital letters, no label.
    #[error("a boundary that is misspelt")]
    Misspelt,
    /// A section begins, and the one before has not ended.
    #[error("BEGIN, but the section of line {0} has not ended")]
    NotEnded(usize),
    /// The end of a section that has not begun.
    #[error("END, but no section has begun")]
    NotBegun,
    /// The end of another section.
    #[error("END of another section than the one of line {0}")]
    OtherEnd(usize),
    /// The file ends within the section that begins here.
    #[error("BEGIN of a section that has no END")]
    Cut,
    /// A character between BEGIN and END that base64 does not have.
    #[error("text that is not base64")]
    NotBase64,
}

impl Flaw {
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Dashes | Self::Misspelt => {
                "a boundary is `-----BEGIN CERTIFICATE-----` or `-----END CERTIFICATE-----`, with \
                 five hyphens on each side"
            }
            Self::Shared => "put each BEGIN and each END on a line of its own",
            Self::NotEnded(_)
            | Self::NotBegun
            | Self::OtherEnd(_)
            | Self::Cut
            | Self::NotBase64 => "copy it again",
        }
    }
}

/// A line that keeps part of the file from being read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    Damage {
        line: usize,
        flaw: Flaw,
    },
    /// A section of a kind that is not read.
    Unread {
        line: usize,
        label: String,
    },
}

/// Labels of sections that are read, or that stand beside these without being needed.
const LABELS: [&str; 14] = [
    "CERTIFICATE",
    "PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "EC PARAMETERS",
    "DH PARAMETERS",
    "X9.42 DH PARAMETERS",
    "DSA PARAMETERS",
    "PUBLIC KEY",
    "RSA PUBLIC KEY",
    "CERTIFICATE REQUEST",
    "NEW CERTIFICATE REQUEST",
    "X509 CRL",
];

/// The longest label that a message repeats, in characters.
const SHOWN: usize = 40;

/// Checks that every line that looks like a boundary is one, and that a section begins and ends
/// with them.
pub(super) fn check(pem: &[u8]) -> Result<(), Obstacle> {
    let mut open: Option<(usize, &str)> = None;
    for (line, text) in lines(pem) {
        let text = String::from_utf8_lossy(text);
        let damage = |flaw| Err(Obstacle::Damage { line, flaw });
        match classify(&text) {
            Line::Flawed(flaw) => return damage(flaw),
            Line::Begin(label) => {
                if let Some((begun, _)) = open {
                    return damage(Flaw::NotEnded(begun));
                }
                let Some(known) = LABELS.iter().find(|known| **known == label) else {
                    let label = label.chars().take(SHOWN).collect();
                    return Err(Obstacle::Unread { line, label });
                };
                open = Some((line, known));
            }
            Line::End(label) => match open.take() {
                None => return damage(Flaw::NotBegun),
                Some((begun, own)) if own != label => return damage(Flaw::OtherEnd(begun)),
                Some(_) => {}
            },
            Line::Text if open.is_some() && !text.chars().all(in_base64) => {
                return damage(Flaw::NotBase64);
            }
            Line::Text => {}
        }
    }
    match open {
        Some((line, _)) => Err(Obstacle::Damage { line, flaw: Flaw::Cut }),
        None => Ok(()),
    }
}

/// The lines as the parser sees them, with their numbers as an editor sees them.
fn lines(pem: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut number = 1;
    let mut after_return = false;
    pem.split_inclusive(|octet| matches!(octet, b'\n' | b'\r')).filter_map(move |line| {
        // The rest of CR LF.
        if after_return && line == b"\n" {
            after_return = false;
            return None;
        }
        after_return = line.ends_with(b"\r");
        let here = number;
        number += 1;
        Some((here, line.strip_suffix(b"\n").or(line.strip_suffix(b"\r")).unwrap_or(line)))
    })
}

enum Line<'a> {
    Begin(&'a str),
    End(&'a str),
    Text,
    Flawed(Flaw),
}

fn classify(line: &str) -> Line<'_> {
    if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| {
        let label = rest.trim_end_matches(' ').strip_suffix("-----")?;
        is_label(label).then_some(label)
    }) {
        return Line::Begin(label);
    }
    // What stands after the end is passed over, unless it is another boundary.
    if let Some((label, rest)) = line.strip_prefix("-----END ").and_then(|r| r.split_once("-----"))
        && is_label(label)
    {
        return if looks_like_one(rest) { Line::Flawed(Flaw::Shared) } else { Line::End(label) };
    }
    if !looks_like_one(line) {
        return Line::Text;
    }
    let starts = ["-----BEGIN ", "-----END "];
    let alone = starts.iter().any(|start| line.starts_with(start)) && line.ends_with('-');
    Line::Flawed(match starts.iter().map(|start| line.matches(start).count()).sum() {
        _ if hyphens(line) != line => Flaw::Dashes,
        0_usize => Flaw::Misspelt,
        1 if alone => Flaw::Misspelt,
        _ => Flaw::Shared,
    })
}

/// RFC 7468 §3: no hyphens, for these would end it.
fn is_label(text: &str) -> bool {
    !text.is_empty() && !text.contains('-')
}

fn in_base64(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "+/= \t\x0b\x0c".contains(letter)
}

/// Each dash of typography as two hyphens, which is what word processors replace.
fn hyphens(line: &str) -> Cow<'_, str> {
    const DASHES: [char; 12] = [
        '\u{ad}',
        '\u{2010}',
        '\u{2011}',
        '\u{2012}',
        '\u{2013}',
        '\u{2014}',
        '\u{2015}',
        '\u{2212}',
        '\u{fe58}',
        '\u{fe63}',
        '\u{ff0d}',
        // A dash of another character set than UTF-8.
        char::REPLACEMENT_CHARACTER,
    ];
    if line.contains(DASHES) { line.replace(DASHES, "--").into() } else { line.into() }
}

/// Whether the line has BEGIN or END with hyphens before it or behind its label, two at least. In
/// small letters, only a line that begins and ends with four counts: the others are prose.
fn looks_like_one(line: &str) -> bool {
    let line = hyphens(line);
    let dashed = |word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + word.len()..]);
            let label = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ';
            let rest = after.trim_start_matches(label);
            !before.ends_with(char::is_alphanumeric)
                && (before.trim_end().ends_with("--")
                    || after.starts_with(' ') && after.trim() != rest && rest.starts_with("--"))
        })
    };
    let small = |word: &str| {
        line.trim().strip_prefix("----").is_some_and(|rest| {
            let rest = rest.trim_start_matches(['-', ' ']).to_ascii_uppercase();
            rest.starts_with(word) && rest.ends_with("----")
        })
    };
    dashed("BEGIN") || dashed("END") || small("BEGIN ") || small("END ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";

    #[test]
    fn what_looks_like_a_boundary_is_one_or_a_flaw() {
        let damage = |line, flaw| Err(Obstacle::Damage { line, flaw });
        let unread = |line, label: &str| Err(Obstacle::Unread { line, label: label.to_owned() });
        let block = |begin: &str, end: &str| format!("{begin}\nAAAA\n{end}\n");
        let good = block(BEGIN, END);
        let after_good = |text: &str| format!("{good}{text}");
        for (text, expected) in [
            (String::new(), Ok(())),
            (after_good(&good), Ok(())),
            (good.replace('\n', "\r\n"), Ok(())),
            (good.replace('\n', "\r"), Ok(())),
            (good.replace(BEGIN, &format!("{BEGIN}  ")), Ok(())),
            (good.replace(END, &format!("{END} # ours")), Ok(())),
            (good.replace("AAAA", "AA \tAA"), Ok(())),
            (format!("{BEGIN}\n{END}"), Ok(())),
            // What openssl and people write between the sections.
            (format!("Bag Attributes\n    localKeyID: 54 69\nsubject=CN = r\n{good}"), Ok(())),
            (format!("# --- the chain, to its end ---\n=====\n-----\n{good}"), Ok(())),
            (format!("friendlyName: the-end--of-the-BEGINNING\n{good}"), Ok(())),
            // Two in one line.
            (format!("{BEGIN}\nAAAA\n{END}{BEGIN}\nAAAA\n{END}"), damage(3, Flaw::Shared)),
            (format!("{good}\r\n").replace('\n', ""), damage(1, Flaw::Shared)),
            (
                after_good(&good).replace(
                    &format!("{END}\n{BEGIN}"),
                    "-----END CERTIFICATE-----BEGIN CERTIFICATE-----",
                ),
                damage(3, Flaw::Shared),
            ),
            // Text before, or blanks.
            (after_good(&format!("# {good}")), damage(4, Flaw::Shared)),
            (after_good(&format!("leaf:{good}")), damage(4, Flaw::Shared)),
            (after_good(&format!("  {good}")), damage(4, Flaw::Shared)),
            (after_good(&good.replace(END, &format!("\t{END}"))), damage(6, Flaw::Shared)),
            (good.replace(BEGIN, &format!("{BEGIN}\t")), damage(1, Flaw::Shared)),
            (good.replace(BEGIN, &format!("{BEGIN} leaf")), damage(1, Flaw::Shared)),
            (format!("\r\n\r\n{BEGIN}AAAA\r\n{END}"), damage(3, Flaw::Shared)),
            // Other dashes.
            (after_good(&good.replace("--", "\u{2013}")), damage(4, Flaw::Dashes)),
            (after_good(&good.replace("-----", "\u{2014}")), damage(4, Flaw::Dashes)),
            (block(BEGIN, "\u{2212}\u{2212}END CERTIFICATE-----"), damage(3, Flaw::Dashes)),
            // Another number of hyphens, small letters, no label.
            (after_good(&good.replace("-----", "----")), damage(4, Flaw::Misspelt)),
            (after_good(&good.replace(BEGIN, &format!("{BEGIN}-"))), damage(4, Flaw::Misspelt)),
            (after_good(&good.replace("-----BEGIN", "----- BEGIN")), damage(4, Flaw::Misspelt)),
            (after_good(&good.replace("-----BEGIN", "BEGIN")), damage(4, Flaw::Misspelt)),
            (after_good(&good.to_lowercase()), damage(4, Flaw::Misspelt)),
            (after_good(&block("-----BEGIN-----", "-----END-----")), damage(4, Flaw::Misspelt)),
            (block(BEGIN, "-----END CERTIFICATE----"), damage(3, Flaw::Misspelt)),
            // What begins ends, and the other way round.
            (after_good(&format!("{BEGIN}\nAAAA\n{good}")), damage(6, Flaw::NotEnded(4))),
            (after_good(&format!("AAAA\n{END}\n")), damage(5, Flaw::NotBegun)),
            (block(BEGIN, "-----END PRIVATE KEY-----"), damage(3, Flaw::OtherEnd(1))),
            (after_good(&format!("{BEGIN}\nAAAA\n")), damage(4, Flaw::Cut)),
            (block(BEGIN, &format!("-AAA\n{END}")), damage(3, Flaw::NotBase64)),
            (block(BEGIN, &format!("Proc-Type: 4\n{END}")), damage(3, Flaw::NotBase64)),
            // Other sections.
            (after_good(&good.replace("CERTIFICATE", "CERTIFICAT")), unread(4, "CERTIFICAT")),
            (good.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), unread(1, "TRUSTED CERTIFICATE")),
            (good.replace("CERTIFICATE", &"A".repeat(99)), unread(1, &"A".repeat(SHOWN))),
            (after_good(&good.replace("CERTIFICATE", "DH PARAMETERS")), Ok(())),
        ] {
            assert_eq!(check(text.as_bytes()), expected, "{text}");
        }
    }

    /// One octet that is lost, or replaced, loses no certificate in silence.
    #[test]
    fn a_chain_is_read_whole_or_not_at_all() {
        let body = "MIIBszCCAVmgAwIBAgIUT2";
        let chain = format!("{BEGIN}\n{body}\n{END}\n").repeat(2).into_bytes();
        let read = |pem: &[u8]| rustls_pemfile::certs(&mut &*pem).flatten().count();
        assert_eq!((check(&chain), read(&chain)), (Ok(()), 2));
        let mut refused = 0;
        for at in 0..chain.len() {
            let replaced = |new: &[u8]| [&chain[..at], new, &chain[at + 1..]].concat();
            let new = ["", "x", " ", "\n", "-", "\u{2013}", "-----", "BEGIN"];
            for pem in new.map(|new| replaced(new.as_bytes())) {
                match check(&pem) {
                    Err(_) => refused += 1,
                    Ok(()) if rustls_pemfile::certs(&mut &*pem).any(|read| read.is_err()) => {}
                    Ok(()) => assert_eq!(read(&pem), 2, "{}", String::from_utf8_lossy(&pem)),
                }
            }
        }
        assert!(refused > 8 * (BEGIN.len() + END.len()), "{refused}");
    }
}
