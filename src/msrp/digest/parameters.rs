//! `name = value` pairs with commas between them: reading those of clients, and writing.

use thiserror::Error;

/// The longest header value that is read, in octets. Clients in use stay below 600.
pub const VALUE_MAX: usize = 4096;

/// The longest value of one parameter, in octets without its quotes and escapes.
pub const PARAMETER_MAX: usize = 1024;

/// The most parameters in one header value; the standards name 11.
pub const PARAMETERS_MAX: usize = 32;

/// Why a digest header cannot be read. Never shows what the peer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Basic, for one.
    #[error("scheme is not Digest")]
    OtherScheme,
    /// Beyond [`VALUE_MAX`], [`PARAMETER_MAX`] or [`PARAMETERS_MAX`].
    #[error("too long, or too many parameters")]
    TooLong,
    /// MSRP headers are UTF-8 (RFC 4975 §9).
    #[error("not UTF-8")]
    NotUtf8,
    /// A control character, such as NUL or a tab, which no header may hold, quoted or not.
    #[error("control character")]
    ControlCharacter,
    /// A parameter name is missing.
    #[error("parameter without a name")]
    NoName,
    /// A parameter name is not followed by `=` and a value.
    #[error("parameter without a value")]
    NoValue,
    /// A quoted string that never ends.
    #[error("unterminated quote")]
    UnterminatedQuote,
    /// A value is not followed by a comma.
    #[error("no comma between parameters")]
    NoComma,
    /// A parameter is given twice: two readers could pick different ones.
    #[error("parameter given twice")]
    Repeated,
    /// A parameter that this header must have is missing.
    #[error("parameter {0} is missing")]
    Missing(&'static str),
    /// Basic credentials that are no base64.
    #[error("not base64")]
    Base64,
    /// A challenge that wants another algorithm than MD5 or SHA-256.
    #[error("algorithm is neither MD5 nor SHA-256")]
    Algorithm,
    /// A challenge that does not offer `auth`.
    #[error("qop \"auth\" is not offered")]
    Qop,
    /// A 401 without any `WWW-Authenticate`.
    #[error("no challenge")]
    NoChallenge,
}

/// The parameters of one header, names in lower case, none twice.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of_scheme_digest(value: &[u8]) -> Result<Self, ParseError> {
        let text = text(value)?.trim_start_matches(' ');
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Err(ParseError::OtherScheme);
        }
        Self::parse(rest)
    }

    pub(super) fn parse(mut rest: &str) -> Result<Self, ParseError> {
        let mut parameters = Self(Vec::new());
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if rest.is_empty() {
                return Ok(parameters);
            }
            let (name, value, after) = parameter(rest)?;
            parameters.insert(name, value)?;
            rest = after.trim_start_matches(' ');
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(ParseError::NoComma);
            }
        }
    }

    fn insert(&mut self, name: &str, value: String) -> Result<(), ParseError> {
        let name = name.to_ascii_lowercase();
        if self.0.iter().any(|(known, _)| *known == name) {
            return Err(ParseError::Repeated);
        }
        if self.0.len() == PARAMETERS_MAX {
            return Err(ParseError::TooLong);
        }
        self.0.push((name, value));
        Ok(())
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1)
    }
}

/// Checks a header value as a whole.
pub(super) fn text(value: &[u8]) -> Result<&str, ParseError> {
    if value.len() > VALUE_MAX {
        return Err(ParseError::TooLong);
    }
    let text = str::from_utf8(value).map_err(|_| ParseError::NotUtf8)?;
    if text.contains(char::is_control) {
        return Err(ParseError::ControlCharacter);
    }
    Ok(text)
}

/// Splits off `name = value`; also returns what follows.
fn parameter(text: &str) -> Result<(&str, String, &str), ParseError> {
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err(ParseError::NoName);
    }
    let rest = rest
        .trim_start_matches(' ')
        .strip_prefix('=')
        .ok_or(ParseError::NoValue)?
        .trim_start_matches(' ');
    let (value, rest) = match rest.strip_prefix('"') {
        Some(rest) => quoted_string(rest)?,
        None => bare_value(rest)?,
    };
    if value.len() > PARAMETER_MAX {
        return Err(ParseError::TooLong);
    }
    Ok((name, value, rest))
}

/// Reads up to the closing quote; a quoted pair stands for its second character.
fn quoted_string(text: &str) -> Result<(String, &str), ParseError> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => {
                let (_, escaped) = characters.next().ok_or(ParseError::UnterminatedQuote)?;
                value.push(escaped);
            }
            plain => value.push(plain),
        }
    }
    Err(ParseError::UnterminatedQuote)
}

/// Reads a value without quotes. The grammar has a token here; clients also leave the quotes off
/// base64, whose `/` and `=` are no token characters.
fn bare_value(text: &str) -> Result<(String, &str), ParseError> {
    let end = text.find([' ', ',', '"']).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    if value.is_empty() {
        return Err(ParseError::NoValue);
    }
    Ok((value.to_owned(), rest))
}

/// A character of a token (RFC 2616 §2.2).
fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

/// Writes parameters with `, ` between them. A parameter without a value is left out.
pub(super) struct Writer {
    pub(super) text: String,
    separator: &'static str,
}

impl Writer {
    pub(super) fn new(scheme: &str) -> Self {
        Self { text: scheme.to_owned(), separator: "" }
    }

    pub(super) fn quoted(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        self.text.push('"');
        // A control character cannot be escaped. It is dropped, so that no value starts a new line.
        for character in value.chars().filter(|c| !c.is_control()) {
            if matches!(character, '"' | '\\') {
                self.text.push('\\');
            }
            self.text.push(character);
        }
        self.text.push('"');
    }

    /// Without quotes, unless the value is no token.
    pub(super) fn bare(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        if value.is_empty() || !value.chars().all(is_token) {
            return self.quoted(name, Some(value));
        }
        self.name(name);
        self.text.push_str(value);
    }

    fn name(&mut self, name: &str) {
        self.text.push_str(self.separator);
        self.text.push_str(name);
        self.text.push('=');
        self.separator = ", ";
    }
}
