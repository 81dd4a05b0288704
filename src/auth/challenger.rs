//! Issues challenges and judges the answers (RFC 7616 §3.3, RFC 4976 §9.1). Pure: the time and the
//! answer of the backend are arguments.
//!
//! Nothing is stored for a challenge. The nonce has the time when it was issued, and a MAC that
//! proves that this process issued it to this address:
//!
//! ```text
//!   nonce  = base64url( time 8 | random 16 | MAC("nonce", time, random, address) 16 )
//!   opaque = base64url( MAC("opaque", time, random, address) 16 )
//! ```
//!
//! Only *spent* nonces are remembered. Only a right digest spends a nonce, so a stranger cannot
//! make them grow.

mod nonce;

use std::{
    fmt,
    hint::black_box,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use rand::{Rng, rand_core::UnwrapErr, rngs::SysRng};
use secrecy::SecretString;
use sha2::Sha256;

use self::nonce::{Nonce, SEED_LEN, SPENT_MAX, Spent};
use super::{Account, AuthError};
use crate::msrp::digest::{
    Algorithm, AuthenticationInfo, Authorization, Challenge, Ha1, METHOD, RequestDigest,
};

/// The longest user name, in octets.
pub(super) const USER_MAX: usize = 255;

/// Issues challenges and judges the answers. One per process: nonces outlive a reload.
pub struct Challenger {
    epoch: Instant,
    key: Hmac<Sha256>,
    spent: Mutex<Spent>,
}

impl Challenger {
    /// A challenger with a key of its own.
    ///
    /// # Panics
    ///
    /// If the operating system has no random numbers. [`Challenger::challenge`] panics then, too.
    pub fn new(now: Instant) -> Self {
        // A whole block of SHA-256.
        let key: [u8; 64] = random();
        Self { epoch: now, key: Hmac::new(&key.into()), spent: Mutex::new(Spent::new(SPENT_MAX)) }
    }

    /// The values of the `WWW-Authenticate` headers for `client`: one for each of `algorithms`, in
    /// their order (RFC 7616 §3.7). All have the same nonce, and only one of them can be answered.
    pub fn challenge(
        &self,
        algorithms: &[Algorithm],
        realm: &str,
        client: IpAddr,
        stale: bool,
        now: Instant,
    ) -> Vec<String> {
        let nonce = Nonce { issued: self.micros(now), random: random() };
        let opaque = URL_SAFE_NO_PAD.encode(tag(self.seal(OPAQUE, &nonce, client)));
        let text = self.nonce_text(&nonce, client);
        let challenge = |algorithm: &Algorithm| {
            Challenge::new(*algorithm, realm, text.clone(), opaque.clone(), stale).to_value()
        };
        algorithms.iter().map(challenge).collect()
    }

    /// Checks all of `authorization` that can be checked without the secret.
    pub fn examine(
        &self,
        authorization: &Authorization,
        request: &AuthRequest<'_>,
        now: Instant,
    ) -> Result<DigestLogin, AuthError> {
        let user = required("username", authorization.username())?;
        let realm = required("realm", authorization.realm())?;
        let nonce_text = required("nonce", authorization.nonce())?;
        let opaque = required("opaque", authorization.opaque())?;
        let qop = required("qop", authorization.qop())?;
        let nc = required("nc", authorization.nc())?;
        let cnonce = required("cnonce", authorization.cnonce())?;
        let response = required("response", authorization.response())?;

        if user.len() > USER_MAX {
            return Err(AuthError::UserTooLong);
        }
        // A realm is opaque text: the client must return it unchanged, letter case included.
        if realm != request.realm {
            return Err(AuthError::WrongRealm);
        }
        if qop != "auth" {
            return Err(AuthError::WrongQop);
        }
        let algorithm = Algorithm::from_parameter(authorization.algorithm())
            .filter(|algorithm| request.algorithms.contains(algorithm))
            .ok_or(AuthError::WrongAlgorithm)?;
        if nc.len() != 8 || !nc.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(AuthError::WrongNonceCount);
        }
        let nonce = self.verify_nonce(nonce_text, request.client)?;
        self.verify_opaque(opaque, &nonce, request.client)?;

        Ok(DigestLogin {
            user: user.to_owned(),
            realm: realm.to_owned(),
            nonce_text: nonce_text.to_owned(),
            nc: nc.to_owned(),
            cnonce: cnonce.to_owned(),
            algorithm,
            response: RequestDigest::from_hex(algorithm, response)
                .ok_or(AuthError::MalformedResponse)?,
            uris: spellings(authorization.uri(), request)?,
            in_time: nonce.age(self.micros(now)) <= request.nonce_lifetime,
            nonce,
            nonce_lifetime: request.nonce_lifetime,
        })
    }

    /// Decides on the login. `found` is the answer of the backend. It may be an error, so that an
    /// unknown user costs the same work as a wrong password.
    ///
    /// A right digest spends the nonce. Of two equal attempts at the same time one is accepted, and
    /// the other is stale.
    pub fn settle(
        &self,
        login: DigestLogin,
        found: Result<impl Into<Account>, AuthError>,
        now: Instant,
    ) -> Result<Grant, AuthError> {
        let found = found.map(Into::into);
        let (ha1s, refusal) = match &found {
            Ok(account) => (login.ha1s(account), Some(AuthError::UnusableCredential)),
            Err(
                error @ (AuthError::UnknownUser
                | AuthError::AmbiguousUser
                | AuthError::ExpiredAccount),
            ) => (Vec::new(), Some(error.clone())),
            Err(error) => return Err(error.clone()),
        };
        let (ha1s, refusal) =
            if ha1s.is_empty() { (vec![login.dummy_ha1()], refusal) } else { (ha1s, None) };
        let mut proven = None;
        for ha1 in &ha1s {
            if let Some(uri) = black_box(login.proven_uri(ha1)) {
                proven = Some((ha1, uri));
            }
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let (ha1, uri) = proven.ok_or(AuthError::WrongPassword)?;
        let account = found?;
        if !login.in_time {
            return Err(AuthError::ExpiredNonce);
        }
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).spend(
            login.nonce,
            login.nonce_lifetime,
            self.micros(now),
        )?;
        let info = AuthenticationInfo::new(ha1, uri, &login.nonce_text, &login.nc, &login.cnonce);
        Ok(Grant {
            authentication_info: Some(info.to_value()),
            user: account.identity(&login.user, &login.realm),
            realm: login.realm,
            until: account.until,
        })
    }

    fn nonce_text(&self, nonce: &Nonce, client: IpAddr) -> String {
        let mut bytes = [0; NONCE_LEN];
        let (seed, mac) = bytes.split_at_mut(SEED_LEN);
        seed.copy_from_slice(&nonce.to_bytes());
        mac.copy_from_slice(&tag(self.seal(NONCE, nonce, client)));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn verify_nonce(&self, text: &str, client: IpAddr) -> Result<Nonce, AuthError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| AuthError::ForeignNonce)?;
        let bytes: [u8; NONCE_LEN] = bytes.try_into().map_err(|_| AuthError::ForeignNonce)?;
        let (seed, mac) = bytes.split_at(SEED_LEN);
        let nonce = Nonce::from_bytes(seed).ok_or(AuthError::ForeignNonce)?;
        self.seal(NONCE, &nonce, client)
            .verify_truncated_left(mac)
            .map_err(|_| AuthError::ForeignNonce)?;
        Ok(nonce)
    }

    fn verify_opaque(&self, text: &str, nonce: &Nonce, client: IpAddr) -> Result<(), AuthError> {
        let mac = URL_SAFE_NO_PAD.decode(text).map_err(|_| AuthError::ForeignOpaque)?;
        if mac.len() != TAG_LEN {
            return Err(AuthError::ForeignOpaque);
        }
        self.seal(OPAQUE, nonce, client)
            .verify_truncated_left(&mac)
            .map_err(|_| AuthError::ForeignOpaque)
    }

    fn seal(&self, purpose: &[u8], nonce: &Nonce, client: IpAddr) -> Hmac<Sha256> {
        self.key
            .clone()
            .chain_update(purpose)
            .chain_update(nonce.to_bytes())
            .chain_update(address(client))
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Challenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenger").finish_non_exhaustive()
    }
}

/// What the relay knows of an AUTH apart from its Authorization.
#[derive(Clone, Copy, Debug)]
pub struct AuthRequest<'a> {
    /// The algorithms that the challenge offered.
    pub algorithms: &'a [Algorithm],
    /// The realm of the challenge.
    pub realm: &'a str,
    /// The text of the rightmost To-Path URI as received, which the client hashed (RFC 4976 §9.1).
    pub uri: &'a [u8],
    /// Whether the `uri` parameter, if there is one, equals `uri` (RFC 4975 §6.1).
    pub uri_matches: bool,
    /// Where the request came from. An IPv4 address mapped into IPv6 is the IPv4 address.
    pub client: IpAddr,
    /// How long a nonce lives: `auth_challenge_expiration_time`.
    pub nonce_lifetime: Duration,
}

/// A complete and well-formed answer to a challenge of this relay. The digest has not been checked,
/// which needs the secret.
pub struct DigestLogin {
    user: String,
    realm: String,
    nonce: Nonce,
    nonce_text: String,
    nonce_lifetime: Duration,
    /// Whether the nonce was valid when the request came. The time of the look-up does not count.
    in_time: bool,
    nc: String,
    cnonce: String,
    algorithm: Algorithm,
    response: RequestDigest,
    uris: Vec<Vec<u8>>,
}

impl DigestLogin {
    /// The user name to look up: any text without control characters.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The realm to look the user up in.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    fn ha1s(&self, account: &Account) -> Vec<Ha1> {
        account.ha1s(self.algorithm, &self.user, &self.realm)
    }

    /// The hash that stands in for that of an unknown user, so that the work is the same. A digest
    /// that matches it is refused.
    fn dummy_ha1(&self) -> Ha1 {
        Ha1::new(self.algorithm, &self.user, &self.realm, &SecretString::from("password"))
    }

    /// The spelling of the URI for which the digest is right.
    fn proven_uri(&self, ha1: &Ha1) -> Option<&[u8]> {
        let mut proven = None;
        for uri in &self.uris {
            let expected = ha1.digest(METHOD, uri, &self.nonce_text, &self.nc, &self.cnonce);
            if self.response.matches(&expected) {
                proven = Some(uri.as_slice());
            }
        }
        proven
    }
}

impl fmt::Debug for DigestLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestLogin")
            .field("user", &self.user)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// The outcome of an AUTH with right credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// The name of the authenticated user, as the backend has it.
    pub user: String,
    /// The realm of that user.
    pub realm: String,
    /// The value of the `Authentication-Info` header of the 200. Basic has none.
    pub authentication_info: Option<String>,
    /// When the account ends: a session must not last longer.
    pub until: Option<SystemTime>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("user", &self.user)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// HMAC-SHA-256 truncated to 128 bits (RFC 2104 §5).
const TAG_LEN: usize = 16;
const NONCE_LEN: usize = SEED_LEN + TAG_LEN;

/// The purpose of a MAC, which is part of it: a MAC made for a nonce is not valid as opaque.
const NONCE: &[u8] = b"nonce";
const OPAQUE: &[u8] = b"opaque";

fn tag(mac: Hmac<Sha256>) -> [u8; TAG_LEN] {
    let whole = mac.finalize().into_bytes();
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&whole[..TAG_LEN]);
    tag
}

/// The octets of an address for a MAC. `::ffff:192.0.2.1` and 192.0.2.1 have the same.
fn address(client: IpAddr) -> [u8; 16] {
    match client {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    UnwrapErr(SysRng).fill_bytes(&mut bytes);
    bytes
}

fn required<'a>(name: &'static str, value: Option<&'a str>) -> Result<&'a str, AuthError> {
    value.filter(|value| !value.is_empty()).ok_or(AuthError::Missing(name))
}

/// The texts that the client may have hashed: the URI as received, and its own spelling of it.
fn spellings(uri: Option<&str>, request: &AuthRequest<'_>) -> Result<Vec<Vec<u8>>, AuthError> {
    let mut spellings = vec![request.uri.to_vec()];
    let Some(own) = uri else {
        return Ok(spellings);
    };
    if !request.uri_matches {
        return Err(AuthError::WrongUri);
    }
    if own.as_bytes() != request.uri {
        spellings.push(own.as_bytes().to_vec());
    }
    Ok(spellings)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod races {
    use std::{sync::Barrier, thread};

    use super::{
        AuthError,
        tests::{Issuer, password},
    };

    #[test]
    fn of_equal_attempts_at_once_one_wins() {
        const THREADS: usize = 8;
        for _ in 0..50 {
            let issuer = Issuer::new();
            let sent = issuer.answer("secret");
            let barrier = Barrier::new(THREADS);
            let verdicts = thread::scope(|scope| {
                let attempts: Vec<_> = (0..THREADS)
                    .map(|_| {
                        scope.spawn(|| {
                            let login = issuer.examine(&sent, issuer.start).unwrap();
                            barrier.wait();
                            issuer.challenger.settle(login, Ok(password("secret")), issuer.start)
                        })
                    })
                    .collect();
                attempts.into_iter().map(|a| a.join().unwrap()).collect::<Vec<_>>()
            });
            let won = verdicts.iter().filter(|v| v.is_ok()).count();
            let stale = verdicts.iter().filter(|v| **v == Err(AuthError::SpentNonce)).count();
            assert_eq!((won, stale), (1, THREADS - 1));
        }
    }
}
