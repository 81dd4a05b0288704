//! `Content-Disposition` (RFC 2183, as used by RFC 5547 §7): the name of a file, and how a name
//! from a stranger is made safe for this disk.

use std::ffi::OsStr;

/// Longest file name that is made from a received one, in octets. `.part` and ` (999)` must fit
/// behind it within the 255 octets of common file systems.
pub const MAX_NAME: usize = 200;

/// The name for a file that came without one.
pub const UNNAMED: &str = "unnamed";

/// Makes the header value that offers a file of this name. Control characters and octets that are
/// not UTF-8 are not allowed in a header and become `_`.
pub fn attachment(name: &OsStr) -> String {
    let mut value = String::from("attachment; filename=\"");
    for c in name.to_string_lossy().chars() {
        match c {
            '"' | '\\' => value.extend(['\\', c]),
            c if c.is_control() || c == char::REPLACEMENT_CHARACTER => value.push('_'),
            c => value.push(c),
        }
    }
    value.push('"');
    value
}

/// A parsed `Content-Disposition` value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition {
    /// The disposition type in lower case, such as `attachment`, `inline` or `render`.
    pub kind: String,
    /// The file name as the sender gave it. Not to be trusted, see [`safe_name`].
    pub name: Option<String>,
}

impl Disposition {
    /// Parses a value. Parts that cannot be parsed are left out. `filename*` wins over `filename`
    /// (RFC 6266 §4.3).
    pub fn parse(value: &[u8]) -> Self {
        let text = String::from_utf8_lossy(value);
        let (kind, mut rest) = text.split_once(';').unwrap_or((&text, ""));
        let (mut plain, mut extended) = (None, None);
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = parameter_value(after.trim_start());
            match name.trim().to_ascii_lowercase().as_str() {
                "filename" => plain = plain.or(Some(value)),
                "filename*" => extended = extended.or_else(|| utf8_percent(&value)),
                _ => {}
            }
            rest = after;
        }
        Self { kind: kind.trim().to_ascii_lowercase(), name: extended.or(plain) }
    }
}

/// Parses a parameter value, quoted or not. Returns it with the text after the `;` that follows.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_once(';').unwrap_or((text, ""));
        return (value.trim().to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let rest = quoted[at + 1..].split_once(';').map_or("", |(_, rest)| rest);
                return (value, rest);
            }
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Decodes a value such as `UTF-8''na%C3%AFve` (RFC 8187).
fn utf8_percent(value: &str) -> Option<String> {
    let encoded = value.get(..7).filter(|p| p.eq_ignore_ascii_case("utf-8''"))?;
    let mut octets = Vec::new();
    let mut rest = &value.as_bytes()[encoded.len()..];
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(octets).ok()
}

/// Makes a name that is safe to create in the current directory: only the last path component,
/// without control characters, not hidden, at most [`MAX_NAME`] octets.
pub fn safe_name(offered: &str) -> String {
    let last = offered.rsplit(['/', '\\']).next().unwrap_or_default();
    let harmless = |c: char| if is_treacherous(c) { '_' } else { c };
    let mut name: String = last.trim().chars().map(harmless).collect();
    if name.trim_matches('.').is_empty() {
        return UNNAMED.to_owned();
    }
    // A hidden file could be one that a shell runs.
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    shorten(&mut name);
    name
}

/// Whether this is a control character, or one that makes a terminal show another name.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Shortens a name in the middle, so that the extension stays.
fn shorten(name: &mut String) {
    if name.len() <= MAX_NAME {
        return;
    }
    let dot = name.rfind('.').filter(|dot| name.len() - dot <= 16).unwrap_or(name.len());
    let extension = name.split_off(dot);
    name.truncate(name.floor_char_boundary(MAX_NAME - extension.len()));
    name.push_str(&extension);
}

/// Adds a number to a name that is taken: `name (1).txt`.
pub fn numbered(name: &str, number: u32) -> String {
    match name.rfind('.').filter(|&dot| dot > 0) {
        Some(dot) => format!("{} ({number}){}", &name[..dot], &name[dot..]),
        None => format!("{name} ({number})"),
    }
}

/// Guesses the media type of a file from its extension. An unknown one gives
/// `application/octet-stream`.
pub fn media_type(name: &OsStr) -> &'static str {
    let name = name.to_string_lossy().to_ascii_lowercase();
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "txt" | "log" => "text/plain",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "gif" => "image/gif",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dispositions_of_clients_in_use() {
        for (value, kind, name) in [
            (r#"attachment; filename="interop data.bin""#, "attachment", Some("interop data.bin")),
            ("attachment;filename=x", "attachment", Some("x")),
            ("inline", "inline", None),
            ("Render", "render", None),
            (r#"attachment; size=5; filename="a;b=\"c\\d""#, "attachment", Some(r#"a;b="c\d"#)),
            (
                r"attachment; filename*=utf-8''na%C3%AFve; filename=x",
                "attachment",
                Some("na\u{ef}ve"),
            ),
            (r"attachment; filename*=latin1'en'x; filename=y", "attachment", Some("y")),
            (r#"attachment; filename="open"#, "attachment", Some("open")),
            ("", "", None),
            (";;=;", "", None),
        ] {
            let read = Disposition::parse(value.as_bytes());
            assert_eq!((read.kind.as_str(), read.name.as_deref()), (kind, name), "{value}");
        }
    }

    #[test]
    fn names_from_strangers() {
        for (offered, safe) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\x.exe", "x.exe"),
            (".bashrc", "_bashrc"),
            ("..", UNNAMED),
            ("", UNNAMED),
            ("a/", UNNAMED),
            ("a\u{1b}[31m\nb", "a_[31m_b"),
            ("evil\u{202e}fdp.exe", "evil_fdp.exe"),
            ("\u{fc}ml\u{e4}ut & 'quote' $(x)", "\u{fc}ml\u{e4}ut & 'quote' $(x)"),
        ] {
            assert_eq!(safe_name(offered), safe, "{offered:?}");
        }
        let long = safe_name(&format!("{}.pdf", "\u{e4}".repeat(300)));
        assert!(long.len() <= MAX_NAME && long.contains("\u{e4}.pdf"), "{long}");
    }

    #[test]
    fn taken_names_get_a_number() {
        assert_eq!(numbered("a.tar.gz", 1), "a.tar (1).gz");
        assert_eq!(numbered("noext", 12), "noext (12)");
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_replaced() {
        let value = attachment(OsStr::from_bytes(b"a\r\nTo-Path: x\xff"));
        assert_eq!(value, "attachment; filename=\"a__To-Path: x_\"");
    }

    proptest! {
        #[test]
        fn a_name_survives_the_header(name in "[^\\p{Cc}\u{fffd}]{0,40}") {
            let read = Disposition::parse(attachment(OsStr::new(&name)).as_bytes());
            prop_assert_eq!(read.name.as_deref(), Some(name.as_str()));
        }

        #[test]
        fn no_name_leaves_the_directory(offered in any::<String>()) {
            let name = safe_name(&offered);
            prop_assert!(!name.is_empty() && name.len() <= MAX_NAME);
            prop_assert!(!name.contains('/') && !name.starts_with('.'));
            prop_assert!(!name.chars().any(char::is_control));
        }

        #[test]
        fn any_value_is_read_without_panic(value in any::<Vec<u8>>()) {
            Disposition::parse(&value);
        }
    }
}
