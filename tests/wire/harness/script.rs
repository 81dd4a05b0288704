//! Transcripts: MSRP as one reads it in an RFC, with `{names}` for what is only known at run time.
//!
//! A transcript is a string literal. A newline directly after the opening quote, the indentation
//! common to all lines and a last line of blanks are not part of it; each remaining line is a line
//! of MSRP and ends with CRLF on the wire. `{name}` stands for the octets bound to that name, CR and LF
//! included as they are. A name that is still free, in something heard, takes the octets up to the next octet of the
//! transcript (never a blank or line end) and keeps them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// To whoever comes to a session that is in use.
pub(crate) const TAKEN: &str =
    "506 This session is already bound to another network connection, stop sending messages";
/// To whoever names a session that is not there.
pub(crate) const UNKNOWN: &str = "481 Indicated session does not exist, please terminate";

/// A SEND of a short text in one chunk, as a transcript.
pub(crate) fn send(tid: &str, to: &str, from: &str, body: &str) -> String {
    send_with(tid, to, from, "", body)
}

/// An AUTH without credentials, which asks for a challenge.
pub(crate) fn bare_auth(tid: &str, to: &str, from: &str) -> String {
    format!("MSRP {tid} AUTH\nTo-Path: {to}\nFrom-Path: {from}\n-------{tid}$")
}

/// [`send`] with further header lines, each ending in a newline, before Byte-Range.
pub(crate) fn send_with(tid: &str, to: &str, from: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let lines = format!(
        "Message-ID: 87652491\n{headers}Byte-Range: 1-{length}/{length}\n\
         Content-Type: text/plain\n\n{body}"
    );
    send_of(tid, to, from, &lines)
}

/// A SEND with these lines behind its paths: headers and, where it has a body, a blank line and that.
pub(crate) fn send_of(tid: &str, to: &str, from: &str, lines: &str) -> String {
    format!("MSRP {tid} SEND\nTo-Path: {to}\nFrom-Path: {from}\n{lines}\n-------{tid}$")
}

/// A REPORT on that message, as the relay makes it.
pub(crate) fn report(tid: &str, to: &str, from: &str, status: &str, range: &str) -> String {
    format!(
        "MSRP {tid} REPORT\nTo-Path: {to}\nFrom-Path: {from}\nStatus: {status}\n\
         Message-ID: 87652491\nByte-Range: {range}\n-------{tid}$"
    )
}

/// What the names of one scene stand for; all its peers share it.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<String, Vec<u8>>>>);

impl Names {
    pub(crate) fn bind(&self, name: &str, value: impl AsRef<[u8]>) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.to_owned(), value.as_ref().to_vec());
    }

    /// Makes a name free again, so that the next thing heard binds it.
    pub(crate) fn unbind(&self, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.remove(name);
    }

    pub(crate) fn value(&self, name: &str) -> Option<Vec<u8>> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name).cloned()
    }

    /// The text bound to `name`, which must be bound.
    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> String {
        let value = self.value(name).unwrap_or_else(|| panic!("{{{name}}} is not bound"));
        String::from_utf8(value).expect("a name bound to text")
    }
}

/// A transcript, read.
pub(crate) struct Script(Vec<Part>);

enum Part {
    Literal(Vec<u8>),
    Name(String),
}

/// How far octets from the wire agree with a transcript.
pub(crate) enum Outcome {
    /// The first `length` octets are the transcript; these names were free.
    Same { length: usize, bound: Vec<(String, Vec<u8>)> },
    /// All octets agree, but the transcript goes on.
    Short,
    /// The first octet that differs.
    Differs { at: usize },
}

impl Script {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let wire = on_the_wire(text);
        let mut rest = wire.as_str();
        while let Some((before, name, after)) = next_name(rest) {
            parts.push(Part::Literal(before.as_bytes().to_vec()));
            parts.push(Part::Name(name.to_owned()));
            rest = after;
        }
        parts.push(Part::Literal(rest.as_bytes().to_vec()));
        Self(parts)
    }

    /// The octets to say; every name must be bound.
    #[track_caller]
    pub(crate) fn octets(&self, names: &Names) -> Vec<u8> {
        let mut octets = Vec::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => octets.extend_from_slice(text),
                Part::Name(name) => octets.extend(
                    names
                        .value(name)
                        .unwrap_or_else(|| panic!("{{{name}}} is said before it is bound")),
                ),
            }
        }
        octets
    }

    pub(crate) fn compare(&self, names: &Names, heard: &[u8]) -> Outcome {
        let mut at = 0;
        let mut bound: Vec<(String, Vec<u8>)> = Vec::new();
        for (index, part) in self.0.iter().enumerate() {
            let expected = match part {
                Part::Literal(text) => Some(text.clone()),
                Part::Name(name) => known(&bound, names, name),
            };
            let rest = &heard[at..];
            if let Some(expected) = expected {
                let agreed =
                    rest.iter().zip(&expected).take_while(|(got, want)| got == want).count();
                at += agreed;
                if agreed == expected.len() {
                    continue;
                }
                return if agreed == rest.len() { Outcome::Short } else { Outcome::Differs { at } };
            }
            let Part::Name(name) = part else { continue };
            let stop = self.octet_after(index);
            let Some(length) =
                rest.iter().position(|&octet| Some(octet) == stop || b" \r\n".contains(&octet))
            else {
                return Outcome::Short;
            };
            if length == 0 || Some(rest[length]) != stop {
                return Outcome::Differs { at: at + length };
            }
            bound.push((name.clone(), rest[..length].to_vec()));
            at += length;
        }
        Outcome::Same { length: at, bound }
    }

    /// For a failure message: names that are bound filled in, the others left as they stand.
    pub(crate) fn describe(&self, names: &Names) -> String {
        let octets: Vec<u8> = self
            .0
            .iter()
            .flat_map(|part| match part {
                Part::Literal(text) => text.clone(),
                Part::Name(name) => {
                    names.value(name).unwrap_or_else(|| format!("{{{name}}}").into_bytes())
                }
            })
            .collect();
        escaped(&octets)
    }

    fn octet_after(&self, index: usize) -> Option<u8> {
        match self.0.get(index + 1) {
            Some(Part::Literal(text)) => text.first().copied(),
            _ => None,
        }
    }
}

/// Octets for a human: escaped, a new line after each line feed, long ones cut.
pub(crate) fn escaped(octets: &[u8]) -> String {
    const SHOWN: usize = 3000;

    let text = octets[..octets.len().min(SHOWN)]
        .escape_ascii()
        .to_string()
        .replace("\\r\\n", "\\r\\n\n    ");
    if octets.len() <= SHOWN {
        return format!("    {text}");
    }
    format!("    {text}... ({} octets)", octets.len())
}

fn known(bound: &[(String, Vec<u8>)], names: &Names, name: &str) -> Option<Vec<u8>> {
    bound
        .iter()
        .find(|(other, _)| other == name)
        .map(|(_, value)| value.clone())
        .or_else(|| names.value(name))
}

fn on_the_wire(text: &str) -> String {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let mut lines: Vec<&str> = text.split('\n').collect();
    if lines.len() > 1 && lines.last().is_some_and(|last| last.trim().is_empty()) {
        lines.pop();
    }
    let indentation = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start_matches(' ').len())
        .min()
        .unwrap_or(0);
    lines.iter().flat_map(|line| [line.get(indentation..).unwrap_or(""), "\r\n"]).collect()
}

/// The next `{name}`: what stands before it, the name, what follows.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text[from..].find('{')?;
        let close = open + text[open..].find('}')?;
        let name = &text[open + 1..close];
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|other| other.is_ascii_alphanumeric() || other == '_');
        if is_name {
            return Some((&text[..open], name, &text[close + 1..]));
        }
        from = open + 1;
    }
}

mod tests {
    use super::{Names, Outcome, Script};

    #[test]
    fn a_transcript_is_dedented_and_ends_its_lines_with_crlf() {
        let script = Script::parse(
            "
            MSRP {tid} 200 OK
              indented

            -------{tid}$
            ",
        );
        let names = Names::default();
        names.bind("tid", "a\nb");
        assert_eq!(
            script.octets(&names),
            b"MSRP a\nb 200 OK\r\n  indented\r\n\r\n-------a\nb$\r\n"
        );
    }

    #[test]
    fn a_free_name_takes_what_is_there_and_means_it_from_then_on() {
        let script = Script::parse("MSRP {tid} 200\n-------{tid}$");
        let names = Names::default();
        let same = b"MSRP abcd 200\r\n-------abcd$\r\n";
        assert!(
            matches!(script.compare(&names, same), Outcome::Same { length, .. } if length == same.len())
        );
        let other = b"MSRP abcd 200\r\n-------abce$\r\n";
        assert!(matches!(script.compare(&names, other), Outcome::Differs { at: 25 }));
        for cut in 0..same.len() {
            assert!(matches!(script.compare(&names, &same[..cut]), Outcome::Short), "cut at {cut}");
        }
    }

    #[test]
    fn a_free_name_does_not_cross_a_blank() {
        let script = Script::parse("nonce=\"{nonce}\", x");
        let names = Names::default();
        assert!(matches!(
            script.compare(&names, b"nonce=\"a b\", x\r\n"),
            Outcome::Differs { at: 8 }
        ));
    }
}
