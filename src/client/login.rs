//! AUTH: an endpoint gets a URI from its relay and keeps it (RFC 4976 §5.1, §5.1.1).

use std::time::{Duration, Instant};

use bytes::BytesMut;
use data_encoding::HEXLOWER;
use secrecy::SecretString;
use thiserror::Error;

use super::meaning::{meaning, quoted};
use crate::msrp::{
    Continuation, Head, Method, Name, Path, Start, StatusCode, TransactId, Uri, UriError,
    digest::{Challenge, ParseError},
    encode,
};

/// A session is refreshed this long before it expires, or after half of its lifetime if that is
/// later.
const REFRESH_AHEAD: Duration = Duration::from_secs(30);
/// Most requests in one exchange: without credentials, with credentials, and again after a stale
/// nonce and after 423.
const MAX_REQUESTS: u8 = 6;

/// What a client authenticates with, and the lifetime that it asks for.
#[derive(Debug, Clone)]
pub struct LoginCredentials {
    /// User name: the part before the `@`.
    pub user: String,
    /// Domain. It is also the host of the relay's URI in AUTH.
    pub domain: String,
    pub password: SecretString,
    /// Lifetime to ask for, in seconds. `None`: the default of the relay.
    pub expires: Option<u64>,
}

/// Why the relay does not grant AUTH.
#[derive(Debug, Error)]
pub enum LoginError {
    /// A second 401: the user or the password is wrong.
    #[error("the relay refuses user {user:?} of realm {realm:?}: wrong user or wrong password")]
    Refused {
        user: String,
        /// The realm of the challenge that we answered.
        realm: String,
    },
    /// Any status code but 200, 401 and 423.
    #[error("the relay answers AUTH with {status}{}: {}", quoted(comment), meaning(*status))]
    Status {
        status: StatusCode,
        /// The text after the status code, as the relay sent it.
        comment: String,
    },
    /// 423 without a proposal, or to a lifetime that the relay itself proposed.
    #[error("the relay refuses the lifetime of the session without saying what it would accept")]
    Lifetime,
    /// A challenge that cannot be answered.
    #[error("the relay's challenge cannot be answered: {0}")]
    Challenge(ParseError),
    /// A 200 without a usable Use-Path.
    #[error("the relay accepts, but gives no usable path: {0}")]
    UsePath(UriError),
    /// The relay asks for more than `MAX_REQUESTS` requests.
    #[error("the relay goes on asking for authentication after {MAX_REQUESTS} requests")]
    Endless,
}

/// What follows from a response to AUTH.
#[derive(Debug)]
pub(super) enum LoginOutcome {
    /// Send this request next.
    Again(TransactId, BytesMut),
    /// Granted. The URIs of the relays, the nearest first.
    Granted(Path),
}

/// State of the authentication of one endpoint at its relay.
#[derive(Debug)]
pub(super) struct Login {
    credentials: LoginCredentials,
    relay: Uri,
    own: Uri,
    expires: Option<u64>,
    answered: Option<String>,
    requests: u8,
    refresh_at: Option<Instant>,
}

impl Login {
    /// `relay` is the URI that AUTH is addressed to, without a session-id.
    pub(super) fn new(credentials: LoginCredentials, relay: Uri, own: Uri) -> Self {
        let expires = credentials.expires;
        Self { credentials, relay, own, expires, answered: None, requests: 0, refresh_at: None }
    }

    /// When to refresh. `None` during an exchange, or if the session does not expire.
    pub(super) fn refresh_at(&self) -> Option<Instant> {
        self.refresh_at
    }

    /// Starts an exchange, with a request without credentials.
    pub(super) fn start(&mut self) -> (TransactId, BytesMut) {
        self.requests = 0;
        self.refresh_at = None;
        self.request(None)
    }

    /// Takes the response to the last request.
    pub(super) fn answer(&mut self, head: &Head, now: Instant) -> Result<LoginOutcome, LoginError> {
        let Start::Response { status, comment } = &head.start else {
            unreachable!("a pending AUTH is found by a response");
        };
        match *status {
            StatusCode::OK => self.granted(head, now),
            _ if self.requests == MAX_REQUESTS => Err(LoginError::Endless),
            StatusCode::UNAUTHORIZED => self.challenged(head),
            StatusCode::OUT_OF_BOUNDS => self.out_of_bounds(head),
            status => {
                let comment = String::from_utf8_lossy(comment).into_owned();
                Err(LoginError::Status { status, comment })
            }
        }
    }

    fn granted(&mut self, head: &Head, now: Instant) -> Result<LoginOutcome, LoginError> {
        let value = head.headers.value(Name::UsePath).unwrap_or_default();
        let path = Path::parse(value).map_err(LoginError::UsePath)?;
        let life = head.headers.seconds(Name::Expires).ok().flatten();
        self.refresh_at = life.and_then(|life| now.checked_add(refresh_after(life)));
        self.answered = None;
        Ok(LoginOutcome::Granted(path))
    }

    fn challenged(&mut self, head: &Head) -> Result<LoginOutcome, LoginError> {
        let challenge = Challenge::choose(head.headers.values(Name::WwwAuthenticate))
            .map_err(LoginError::Challenge)?;
        if let Some(realm) = self.answered.take().filter(|_| !challenge.is_stale()) {
            return Err(LoginError::Refused { user: self.credentials.user.clone(), realm });
        }
        let (id, request) = self.request(Some(&challenge));
        self.answered = Some(challenge.realm().to_owned());
        Ok(LoginOutcome::Again(id, request))
    }

    /// Starts again with the lifetime that the relay proposes in its 423 (RFC 4976 §5.1).
    fn out_of_bounds(&mut self, head: &Head) -> Result<LoginOutcome, LoginError> {
        let bound = |name| head.headers.seconds(name).ok().flatten().map(|bound| bound.as_secs());
        let offered = bound(Name::MinExpires).or_else(|| bound(Name::MaxExpires));
        if offered.is_none() || offered == self.expires {
            return Err(LoginError::Lifetime);
        }
        self.expires = offered;
        self.answered = None;
        let (id, request) = self.request(None);
        Ok(LoginOutcome::Again(id, request))
    }

    fn request(&mut self, challenge: Option<&Challenge>) -> (TransactId, BytesMut) {
        self.requests += 1;
        let id = TransactId::random();
        let mut out = BytesMut::with_capacity(1024);
        encode::request_line(&mut out, &id, &Method::Auth);
        encode::paths(&mut out, [&self.relay], [&self.own]);
        if let Some(expires) = self.expires {
            encode::header(&mut out, Name::Expires, expires.to_string().as_bytes());
        }
        if let Some(challenge) = challenge {
            let ha1 = challenge.ha1(&self.credentials.user, &self.credentials.password);
            let cnonce = HEXLOWER.encode(&rand::random::<[u8; 16]>());
            let user = &self.credentials.user;
            let value = challenge.authorize(user, &ha1, self.relay.text(), cnonce).to_value();
            encode::header(&mut out, Name::Authorization, value.as_bytes());
        }
        encode::end_line(&mut out, &id, Continuation::End, false);
        (id, out)
    }
}

fn refresh_after(life: Duration) -> Duration {
    // Never at once, whatever lifetime the relay grants: that would be a tight loop.
    life.saturating_sub(REFRESH_AHEAD).max(life / 2).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        msrp::{
            Decoder, Event,
            digest::{Algorithm, Authorization, Ha1},
        },
    };

    fn login() -> Login {
        let uri = |text: &'static str| Uri::parse(text.into()).unwrap();
        let credentials = LoginCredentials {
            user: "alice".into(),
            domain: "example.com".into(),
            password: "secret".to_owned().into(),
            expires: Some(900),
        };
        Login::new(credentials, uri("msrps://example.com:2855;tcp"), uri("msrps://1.2.3.4:9/o;tcp"))
    }

    fn head(text: &[u8]) -> Head {
        let mut input = BytesMut::from(text);
        match Decoder::default().next(&mut input) {
            Ok(Some(Event::Head(head))) => head,
            other => panic!("no head: {other:?}"),
        }
    }

    fn response(line: &str, headers: &str) -> Head {
        let text = format!(
            "MSRP abcd {line}\r\nTo-Path: msrps://1.2.3.4:9/o;tcp\r\nFrom-Path: \
             msrps://example.com:2855;tcp\r\n{headers}-------abcd$\r\n"
        );
        head(text.as_bytes())
    }

    const CHALLENGE: &str =
        "WWW-Authenticate: Digest realm=\"R\", qop=\"auth\", nonce=\"n\", opaque=\"o\"\r\n";

    #[test]
    fn a_challenge_is_answered_and_the_session_refreshed_in_time() {
        let (mut login, now) = (login(), clock::now());
        let (_, first) = login.start();
        assert!(head(&first).headers.value(Name::Authorization).is_none());
        assert_eq!(head(&first).headers.value(Name::Expires), Some(&b"900"[..]));
        let again = login.answer(&response("401 Unauthorized", CHALLENGE), now).unwrap();
        let LoginOutcome::Again(_, request) = again else { panic!("{again:?}") };
        let sent = head(&request);
        let sent = Authorization::parse(sent.headers.value(Name::Authorization).unwrap()).unwrap();
        let password = "secret".to_owned().into();
        let ha1 = Ha1::new(Algorithm::Md5, "alice", "R", &password);
        let uri = b"msrps://example.com:2855;tcp";
        let right = ha1.digest("AUTH", uri, "n", sent.nc().unwrap(), sent.cnonce().unwrap());
        assert_eq!(sent.response(), Some(right.to_hex().as_str()));
        assert_eq!(sent.opaque(), Some("o"));

        let granted = response("200 OK", "Use-Path: msrps://r:2855/s;tcp\r\nExpires: 900\r\n");
        let granted = login.answer(&granted, now).unwrap();
        assert!(matches!(granted, LoginOutcome::Granted(path) if path.len() == 1));
        assert_eq!(login.refresh_at(), Some(now + Duration::from_secs(870)));
    }

    #[test]
    fn a_second_challenge_means_no_but_a_stale_one() {
        let (mut login, now) = (login(), clock::now());
        login.start();
        let challenge = response("401 Unauthorized", CHALLENGE);
        login.answer(&challenge, now).unwrap();
        let stale = CHALLENGE.replace("opaque", "stale=true, opaque");
        login.answer(&response("401 Unauthorized", &stale), now).unwrap();
        let refused = login.answer(&challenge, now).unwrap_err();
        assert!(refused.to_string().contains("wrong user or wrong password"), "{refused}");
    }

    #[test]
    fn the_relays_bounds_are_taken_once() {
        let (mut login, now) = (login(), clock::now());
        login.start();
        let bounds = response("423 Out-Of-Bounds", "Max-Expires: 600\r\n");
        let Ok(LoginOutcome::Again(_, request)) = login.answer(&bounds, now) else { panic!() };
        assert_eq!(head(&request).headers.value(Name::Expires), Some(&b"600"[..]));
        assert!(matches!(login.answer(&bounds, now), Err(LoginError::Lifetime)));
    }

    #[test]
    fn a_relay_cannot_make_us_spin() {
        let (mut login, now) = (login(), clock::now());
        login.start();
        let stale = CHALLENGE.replace("opaque", "stale=true, opaque");
        let challenge = response("401 Unauthorized", &stale);
        let tries = (0..20).take_while(|_| login.answer(&challenge, now).is_ok()).count();
        assert_eq!(tries, usize::from(MAX_REQUESTS) - 1);
        for life in [0, 1, 30, 31, 60, 600] {
            let after = refresh_after(Duration::from_secs(life));
            assert!(after >= Duration::from_secs(1) && after.as_secs() <= life.max(1), "{life}");
        }
    }

    #[test]
    fn other_answers_are_told_in_words() {
        let mut login = login();
        login.start();
        for (line, headers, words) in [
            ("403 Forbidden", "", "not allowed"),
            ("500 Backend unavailable", "", "cannot do it just now"),
            ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "not Digest"),
            ("200 OK", "", "no usable path"),
        ] {
            let error =
                login.answer(&response(line, headers), clock::now()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
