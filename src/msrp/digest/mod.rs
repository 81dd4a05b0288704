//! The digest headers of AUTH and the arithmetic behind them: `WWW-Authenticate`, `Authorization`
//! and `Authentication-Info` (RFC 4976 §7 and §9.1, RFC 2617 §3, RFC 7616 §3).
//!
//! Text in, text out: nothing here knows which nonces and users are valid. There are two
//! algorithms, MD5 and SHA-256, and one quality of protection, `auth`, as in MSRP clients.
//!
//! Values are read as clients in the field write them, not only as the grammar says: any order,
//! quotes on values that need none (`qop="auth"`), any number of blanks and commas. A value that
//! two readers could read differently is refused: a parameter given twice, an open quote, a control
//! character. Quoted pairs are resolved before anything is hashed.

use std::fmt;

use secrecy::SecretString;

mod hash;
mod parameters;

pub use hash::{Algorithm, Ha1, RequestDigest};
pub use parameters::{PARAMETER_MAX, PARAMETERS_MAX, ParseError, VALUE_MAX};
use parameters::{Parameters, Writer, text};

/// The method that goes into H(A2) of a request; MSRP authenticates no other.
pub const METHOD: &str = "AUTH";

/// Credentials: the value of an `Authorization` header.
///
/// Any parameter may be missing: that is a failed login and no parse error. There is no
/// `Display`, and `Debug` shows the names only, so that credentials cannot slip into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization {
    username: Option<String>,
    realm: Option<String>,
    nonce: Option<String>,
    uri: Option<String>,
    qop: Option<String>,
    nc: Option<String>,
    cnonce: Option<String>,
    response: Option<String>,
    opaque: Option<String>,
    algorithm: Option<String>,
}

impl Authorization {
    /// Reads a header value, the part after `Authorization: `.
    ///
    /// Unknown parameters are ignored.
    pub fn parse(value: &[u8]) -> Result<Self, ParseError> {
        let mut parameters = Parameters::of_scheme_digest(value)?;
        Ok(Self {
            username: parameters.take("username"),
            realm: parameters.take("realm"),
            nonce: parameters.take("nonce"),
            uri: parameters.take("uri"),
            qop: parameters.take("qop"),
            nc: parameters.take("nc"),
            cnonce: parameters.take("cnonce"),
            response: parameters.take("response"),
            opaque: parameters.take("opaque"),
            algorithm: parameters.take("algorithm"),
        })
    }

    /// The header value, in the spelling of RFC 4976 §7: `qop`, `nc` and `algorithm` unquoted.
    pub fn to_value(&self) -> String {
        let mut writer = Writer::new("Digest ");
        writer.quoted("username", self.username());
        writer.quoted("realm", self.realm());
        writer.quoted("nonce", self.nonce());
        writer.quoted("uri", self.uri());
        writer.bare("qop", self.qop());
        writer.bare("nc", self.nc());
        writer.quoted("cnonce", self.cnonce());
        writer.quoted("response", self.response());
        writer.quoted("opaque", self.opaque());
        writer.bare("algorithm", self.algorithm());
        writer.text
    }

    /// The name of the user, as claimed.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The realm of the challenge that this answers.
    pub fn realm(&self) -> Option<&str> {
        self.realm.as_deref()
    }

    /// The nonce of the challenge that this answers.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// The request's target as the client spells it; RFC 4976 does not ask for it.
    ///
    /// The caller checks that it names the rightmost To-Path URI (RFC 4975 §6.1).
    pub fn uri(&self) -> Option<&str> {
        self.uri.as_deref()
    }

    /// The quality of protection.
    pub fn qop(&self) -> Option<&str> {
        self.qop.as_deref()
    }

    /// The nonce count, as text: it is hashed as text.
    pub fn nc(&self) -> Option<&str> {
        self.nc.as_deref()
    }

    /// The client's own nonce.
    pub fn cnonce(&self) -> Option<&str> {
        self.cnonce.as_deref()
    }

    /// The request-digest, in hexadecimal.
    pub fn response(&self) -> Option<&str> {
        self.response.as_deref()
    }

    /// The opaque text of the challenge, sent back.
    pub fn opaque(&self) -> Option<&str> {
        self.opaque.as_deref()
    }

    /// The algorithm; absent means MD5.
    pub fn algorithm(&self) -> Option<&str> {
        self.algorithm.as_deref()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("username", &self.username)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// A challenge: the value of a `WWW-Authenticate` header, always with `qop="auth"`.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    algorithm: Algorithm,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    stale: bool,
}

impl Challenge {
    /// A challenge to send.
    ///
    /// `opaque` is not optional, because msrplib needs it.
    pub fn new(
        algorithm: Algorithm,
        realm: &str,
        nonce: String,
        opaque: String,
        stale: bool,
    ) -> Self {
        Self { algorithm, realm: realm.to_owned(), nonce, opaque: Some(opaque), stale }
    }

    /// Reads a header value, the part after `WWW-Authenticate: `.
    ///
    /// A challenge that cannot be answered, because it has another algorithm or no `qop` of `auth`,
    /// is an error. `domain` is ignored, as RFC 4976 §9.1 demands.
    pub fn parse(value: &[u8]) -> Result<Self, ParseError> {
        let mut parameters = Parameters::of_scheme_digest(value)?;
        let algorithm = Algorithm::from_parameter(parameters.take("algorithm").as_deref())
            .ok_or(ParseError::Algorithm)?;
        if !parameters.take("qop").is_some_and(|list| offers_auth(&list)) {
            return Err(ParseError::Qop);
        }
        Ok(Self {
            algorithm,
            realm: parameters.take("realm").ok_or(ParseError::Missing("realm"))?,
            nonce: parameters.take("nonce").ok_or(ParseError::Missing("nonce"))?,
            opaque: parameters.take("opaque"),
            stale: parameters.take("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// The first challenge that can be answered among the `WWW-Authenticate` values of a 401,
    /// which come in the relay's order of preference (RFC 7616 §3.7).
    ///
    /// With none, the error is that of the last value, or [`ParseError::NoChallenge`].
    pub fn choose<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ParseError> {
        let mut failure = ParseError::NoChallenge;
        for value in values {
            match Self::parse(value) {
                Ok(challenge) => return Ok(challenge),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The header value: realm, qop, nonce and opaque quoted, in that order; then unquoted the
    /// algorithm, unless it is MD5, and `stale=true` (RFC 7616 §3.3).
    pub fn to_value(&self) -> String {
        let mut writer = Writer::new("Digest ");
        writer.quoted("realm", Some(&self.realm));
        writer.quoted("qop", Some("auth"));
        writer.quoted("nonce", Some(&self.nonce));
        writer.quoted("opaque", self.opaque());
        writer.bare("algorithm", self.algorithm.parameter());
        writer.bare("stale", self.stale.then_some("true"));
        writer.text
    }

    /// Answers the challenge.
    ///
    /// `uri` is the rightmost To-Path URI exactly as it will be sent; `cnonce` is fresh random
    /// text. The nonce count is 1: a nonce is used once. No `uri` parameter is written:
    /// RFC 4976 has none, and older relays choke on it.
    pub fn authorize(&self, user: &str, ha1: &Ha1, uri: &[u8], cnonce: String) -> Authorization {
        let nc = "00000001";
        let response = ha1.digest(METHOD, uri, &self.nonce, nc, &cnonce);
        Authorization {
            username: Some(user.to_owned()),
            realm: Some(self.realm.clone()),
            nonce: Some(self.nonce.clone()),
            uri: None,
            qop: Some("auth".to_owned()),
            nc: Some(nc.to_owned()),
            cnonce: Some(cnonce),
            response: Some(response.to_hex()),
            opaque: self.opaque.clone(),
            algorithm: self.algorithm.parameter().map(str::to_owned),
        }
    }

    /// H(A1) of the user whose password it is, for [`Challenge::authorize`].
    pub fn ha1(&self, user: &str, password: &SecretString) -> Ha1 {
        Ha1::new(self.algorithm, user, &self.realm, password)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The realm: shown to the user, and part of H(A1).
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The nonce.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The text that an answer has to send back as it is.
    pub fn opaque(&self) -> Option<&str> {
        self.opaque.as_deref()
    }

    /// Whether only the nonce of the last answer was wrong: the client may try again without asking
    /// the user.
    pub fn is_stale(&self) -> bool {
        self.stale
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("realm", &self.realm)
            .field("stale", &self.stale)
            .finish_non_exhaustive()
    }
}

/// The relay's proof that it knows the password too: the value of an `Authentication-Info` header.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthenticationInfo {
    cnonce: String,
    nc: String,
    rspauth: String,
}

impl AuthenticationInfo {
    /// Answers right credentials: the same digest, with no method in H(A2) (RFC 2617 §3.2.3).
    pub fn new(ha1: &Ha1, uri: &[u8], nonce: &str, nc: &str, cnonce: &str) -> Self {
        Self {
            cnonce: cnonce.to_owned(),
            nc: nc.to_owned(),
            rspauth: ha1.digest("", uri, nonce, nc, cnonce).to_hex(),
        }
    }

    /// Reads a header value, the part after `Authentication-Info: `.
    pub fn parse(value: &[u8]) -> Result<Self, ParseError> {
        let mut parameters = Parameters::parse(text(value)?)?;
        let mut required = |name| parameters.take(name).ok_or(ParseError::Missing(name));
        Ok(Self { cnonce: required("cnonce")?, nc: required("nc")?, rspauth: required("rspauth")? })
    }

    /// The header value; qop and nc unquoted (RFC 7616 §3.5).
    pub fn to_value(&self) -> String {
        let mut writer = Writer::new("");
        writer.bare("qop", Some("auth"));
        writer.quoted("cnonce", Some(&self.cnonce));
        writer.bare("nc", Some(&self.nc));
        writer.quoted("rspauth", Some(&self.rspauth));
        writer.text
    }

    /// Whether it answers exactly this `sent` header, from a relay that knows the password.
    ///
    /// `uri` is the rightmost To-Path URI of that AUTH.
    pub fn proves(&self, ha1: &Ha1, sent: &Authorization, uri: &[u8]) -> bool {
        let (Some(nonce), Some(nc), Some(cnonce)) = (sent.nonce(), sent.nc(), sent.cnonce()) else {
            return false;
        };
        let expected = ha1.digest("", uri, nonce, nc, cnonce);
        self.cnonce == cnonce
            && self.nc == nc
            && RequestDigest::from_hex(ha1.algorithm, &self.rspauth)
                .is_some_and(|given| given.matches(&expected))
    }
}

impl fmt::Debug for AuthenticationInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticationInfo").finish_non_exhaustive()
    }
}

/// Whether a `qop` list (`"auth,auth-int"`) holds `auth`.
fn offers_auth(list: &str) -> bool {
    list.split(',').any(|item| item.trim_matches(' ').eq_ignore_ascii_case("auth"))
}

#[cfg(test)]
mod tests;
