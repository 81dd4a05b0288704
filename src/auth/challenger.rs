//! Issues challenges and judges the answers (RFC 7616 §3.3, RFC 4976 §9.1). Pure: no clock, no
//! look-up; `now` and the backend's word are arguments.
//!
//! A challenge leaves no trace here. Its nonce says by itself when it was issued, and a MAC says
//! that it was issued by this process to this address:
//!
//! ```text
//!   nonce  = base64url( time 8 | random 16 | MAC("nonce", time, random, address) 16 )
//!   opaque = base64url( MAC("opaque", time, random, address) 16 )
//! ```
//!
//! What is remembered is only which nonces were *spent*, and only a right digest spends one: a
//! stranger cannot make this grow.

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
    /// When the operating system has no random numbers, as does [`Challenger::challenge`].
    pub fn new(now: Instant) -> Self {
        // A whole block of SHA-256.
        let key: [u8; 64] = random();
        Self { epoch: now, key: Hmac::new(&key.into()), spent: Mutex::new(Spent::new(SPENT_MAX)) }
    }

    /// The values of the `WWW-Authenticate` headers for `client`: one for each of `algorithms`, in
    /// their order (RFC 7616 §3.7), with the same nonce, which serves once whichever is answered.
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

    /// Everything that can be said of `authorization` without knowing the secret.
    pub fn examine(
        &self,
        authorization: &Authorization,
        request: &AuthRequest<'_>,
        now: Instant,
    ) -> Result<Attempt, AuthError> {
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
        // A realm is opaque text: it must come back as it was sent, case included.
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

        Ok(Attempt {
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

    /// The verdict, given what the backend `found`.
    ///
    /// Takes the backend's failure too, so that an unknown user costs the same work as a wrong
    /// password. A nonce is spent here, by the right digest only: of two equal attempts at the
    /// same moment one wins and the other is stale.
    pub fn settle(
        &self,
        attempt: Attempt,
        found: Result<impl Into<Account>, AuthError>,
        now: Instant,
    ) -> Result<Grant, AuthError> {
        let found = found.map(Into::into);
        let (ha1s, refusal) = match &found {
            Ok(account) => (attempt.ha1s(account), Some(AuthError::UnusableCredential)),
            Err(
                error @ (AuthError::UnknownUser
                | AuthError::AmbiguousUser
                | AuthError::ExpiredAccount),
            ) => (Vec::new(), Some(error.clone())),
            Err(error) => return Err(error.clone()),
        };
        let (ha1s, refusal) =
            if ha1s.is_empty() { (vec![attempt.dummy_ha1()], refusal) } else { (ha1s, None) };
        let mut proven = None;
        for ha1 in &ha1s {
            if let Some(uri) = black_box(attempt.proven_uri(ha1)) {
                proven = Some((ha1, uri));
            }
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let (ha1, uri) = proven.ok_or(AuthError::WrongPassword)?;
        let account = found?;
        if !attempt.in_time {
            return Err(AuthError::ExpiredNonce);
        }
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).spend(
            attempt.nonce,
            attempt.nonce_lifetime,
            self.micros(now),
        )?;
        let info =
            AuthenticationInfo::new(ha1, uri, &attempt.nonce_text, &attempt.nc, &attempt.cnonce);
        Ok(Grant {
            authentication_info: Some(info.to_value()),
            user: account.identity(&attempt.user, &attempt.realm),
            realm: attempt.realm,
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
    /// What the challenge offered.
    pub algorithms: &'a [Algorithm],
    /// The realm in force, as it stands in the challenge.
    pub realm: &'a str,
    /// The rightmost To-Path URI, as received: its text is what was hashed (RFC 4976 §9.1).
    pub uri: &'a [u8],
    /// Whether the `uri` parameter, if there is one, equals `uri` (RFC 4975 §6.1).
    pub uri_matches: bool,
    /// Where the request came from. An IPv4 address mapped into IPv6 is the IPv4 address.
    pub client: IpAddr,
    /// How long a nonce lives: `auth_challenge_expiration_time`.
    pub nonce_lifetime: Duration,
}

/// An answer to a challenge of ours, complete and well formed; whether it is right, only the
/// secret tells.
pub struct Attempt {
    user: String,
    realm: String,
    nonce: Nonce,
    nonce_text: String,
    nonce_lifetime: Duration,
    /// Judged at arrival: a slow backend is not the client's fault.
    in_time: bool,
    nc: String,
    cnonce: String,
    algorithm: Algorithm,
    response: RequestDigest,
    uris: Vec<Vec<u8>>,
}

impl Attempt {
    /// Whom to ask the backend for. Free of control characters, otherwise any text.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// In which realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    fn ha1s(&self, account: &Account) -> Vec<Ha1> {
        account.ha1s(self.algorithm, &self.user, &self.realm)
    }

    /// For the work only: what is proven with it lets nobody in.
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

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("user", &self.user)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// Who was let in, and the relay's proof for them.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// The authenticated user, as the backend calls them.
    pub user: String,
    /// In this realm.
    pub realm: String,
    /// The value of the `Authentication-Info` header of the 200; Basic has none.
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

/// What a MAC is for: one made for a nonce is worth nothing as opaque.
const NONCE: &[u8] = b"nonce";
const OPAQUE: &[u8] = b"opaque";

fn tag(mac: Hmac<Sha256>) -> [u8; TAG_LEN] {
    let whole = mac.finalize().into_bytes();
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&whole[..TAG_LEN]);
    tag
}

/// The address as it enters a MAC; `::ffff:192.0.2.1` is 192.0.2.1.
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
                            let attempt = issuer.examine(&sent, issuer.start).unwrap();
                            barrier.wait();
                            issuer.challenger.settle(attempt, Ok(password("secret")), issuer.start)
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
