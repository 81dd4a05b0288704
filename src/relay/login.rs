//! Decides on an AUTH and makes its response (RFC 4976 §5.1, §6.3). The AUTH asks for a session, or
//! extends the one that the client owns.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::{configuration::Policy, end, party::Claimant, process::Process, quota::Ticket};
use crate::{
    auth::{Answer, AuthError, AuthRequest, Grant, basic, domain},
    clock,
    msrp::{Head, HeaderError, Name, StatusCode, Uri, digest::Authorization},
    session::{self, Expiry, Reject},
};

/// The response to a failed AUTH leaves at the next multiple of this time after the request came.
/// So its timing does not tell the client whether the user exists.
const ANSWER_STEP: Duration = Duration::from_millis(100);

/// The decision on an AUTH.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The response is a challenge or an error.
    Refused {
        response: BytesMut,
        /// The AUTH counts as failed.
        failed: bool,
        /// The client has used up its attempts: close the connection.
        close: bool,
        /// The response must wait for its turn, see [`Backoff`](super::backoff::Backoff).
        slowed: bool,
    },
    /// The AUTH is accepted.
    Granted(Welcome),
}

/// What an accepted AUTH grants. The 200 can be made once the URI of the session is known.
#[derive(Debug)]
pub(super) struct Welcome {
    pub(super) user: String,
    pub(super) realm: String,
    pub(super) expiry: Expiry,
    pub(super) expires: Duration,
    pub(super) authentication_info: Option<String>,
    /// Counts the session, if it is a new one.
    pub(super) ticket: Option<Ticket>,
}

impl Welcome {
    /// The time granted.
    pub(super) fn seconds(&self) -> u64 {
        self.expires.as_secs()
    }

    /// The 200. Its Use-Path leads through the relays that passed the AUTH on, then to `uri`
    /// (RFC 4976 §5.1: the relay that answers builds all of Use-Path).
    pub(super) fn response(&self, head: &Head, uri: &Uri) -> BytesMut {
        let relays = head.from_path.split_last().map_or(&[][..], |(_client, relays)| relays);
        let path = relays.iter().rev().chain([uri]).map(Uri::text);
        let use_path = path.map(|text| &text[..]).collect::<Vec<_>>().join(&b' ');
        let mut headers = vec![
            (Name::UsePath, Bytes::from(use_path)),
            (Name::Expires, self.expires.as_secs().to_string().into()),
        ];
        if let Some(proof) = &self.authentication_info {
            headers.push((Name::AuthenticationInfo, proof.clone().into()));
        }
        session::answer(head, StatusCode::OK, "OK", &headers)
    }
}

/// Decides on an AUTH that came at `arrived`. A refusal may have to wait before it leaves.
///
/// The rules are those in force when the connection was accepted. The backends are those in force
/// now, so that a user who was removed by a reload cannot extend a session.
pub(super) async fn decide(
    process: &Process,
    claimant: &Claimant,
    head: &Head,
    arrived: Instant,
) -> Verdict {
    // A relay that drains grants no new sessions. It does not extend a session without a far leg
    // either, which could keep it from ending. Bound sessions may be extended.
    let unwelcome =
        || (claimant.session.is_none() || claimant.unjoined) && process.lifecycle.is_leaving();
    if unwelcome() {
        return leaving(head);
    }
    let refusal = match verify(process, claimant, head, arrived).await {
        Ok(_) if unwelcome() => return leaving(head),
        Ok(grant) => match lifetime(&claimant.policy, head)
            .and_then(|expires| Ok((expires, seat(process, claimant, head, &grant)?)))
        {
            Ok((expires, ticket)) => {
                return granted(grant, head, &claimant.policy, expires, ticket);
            }
            Err(refusal) => refusal,
        },
        Err(refusal) => refusal,
    };
    let Refusal { response, failed, slowed } = refusal;
    let limit = claimant.policy.login.max_auth_attempts;
    Verdict::Refused {
        response,
        failed,
        close: failed && limit.is_some_and(|limit| claimant.failures + 1 >= limit.get()),
        slowed,
    }
}

/// Waits until the response to a failed AUTH that came at `arrived` may leave.
pub(super) async fn step(arrived: Instant) {
    tokio::time::sleep_until(next_step(arrived).into()).await;
}

/// The answer of a relay that drains. The AUTH does not count as failed.
fn leaving(head: &Head) -> Verdict {
    let response = session::answer(head, StatusCode::UNAVAILABLE, "Relay is shutting down", &[]);
    Verdict::Refused { response, failed: false, close: false, slowed: false }
}

fn granted(
    grant: Grant,
    head: &Head,
    policy: &Policy,
    expires: Duration,
    ticket: Option<Ticket>,
) -> Verdict {
    let left = left(&grant);
    let expires = left.map_or(expires, |left| expires.min(left));
    // A session must not outlive its account.
    let strict =
        policy.login.strict_expiry || left.is_some() || head.headers.value(Name::Expires).is_some();
    Verdict::Granted(Welcome {
        user: grant.user,
        realm: grant.realm,
        authentication_info: grant.authentication_info,
        ticket,
        expires,
        expiry: Expiry { at: clock::now() + expires, strict },
    })
}

/// The whole seconds until the account ends. `None` if it does not end.
fn left(grant: &Grant) -> Option<Duration> {
    let left = grant.until?.duration_since(clock::wall()).unwrap_or_default();
    Some(Duration::from_secs(left.as_secs()))
}

/// A response other than 200.
struct Refusal {
    response: BytesMut,
    /// The AUTH counts as failed.
    failed: bool,
    /// See [`Verdict::Refused`].
    slowed: bool,
}

async fn verify(
    process: &Process,
    claimant: &Claimant,
    head: &Head,
    arrived: Instant,
) -> Result<Grant, Refusal> {
    let policy = &claimant.policy;
    let target = head.to_path.last();
    // RFC 4976 §8: an IP address needs a port, because only a name can be looked up in DNS.
    if target.address().is_some() && target.port().is_none() {
        let reason = "To-Path has an IP address without a port";
        process.notices.login_refused(claimant.peer, ("", target.host()), &reason);
        let (status, comment) =
            Reject::from(HeaderError::Unreadable(Name::ToPath.as_str())).status();
        return Err(Refusal {
            response: session::answer(head, status, &comment, &[]),
            failed: false,
            slowed: true,
        });
    }
    let realm = match (&claimant.session, &policy.login.default_domain) {
        (Some(session), _) => session.realm.clone(),
        (None, Some(realm)) => realm.clone(),
        (None, None) => policy.login.spelled(target.host()).to_owned(),
    };
    let refuse = |error: &AuthError, user: &str| {
        let user = domain::bare_name(user, &realm).unwrap_or(user);
        refuse(process, claimant, head, (user, &realm), error)
    };
    if !policy.login.serves(&realm) {
        return Err(refuse(&AuthError::RealmNotServed, ""));
    }
    let Some(value) = head.headers.value(Name::Authorization) else {
        return Err(challenge(process, claimant, head, &realm, false));
    };
    let grant = match basic::BasicLogin::parse(value).filter(|_| policy.accepts_basic()) {
        Some(login) => by_basic(process, claimant, login, &realm).await,
        None => by_digest(process, claimant, head, value, &realm, arrived).await,
    };
    let grant = grant.map_err(|(user, error)| refuse(&error, &user))?;
    match &claimant.session {
        Some(session) if session.user != grant.user => {
            Err(refuse(&AuthError::NotAllowed, &grant.user))
        }
        // Not a second is left to be granted.
        _ if left(&grant).is_some_and(|left| left.is_zero()) => {
            Err(refuse(&AuthError::ExpiredAccount, &grant.user))
        }
        _ => Ok(grant),
    }
}

/// Checks Digest credentials. An error comes with the claimed user name, for the log.
async fn by_digest(
    process: &Process,
    claimant: &Claimant,
    head: &Head,
    value: &[u8],
    realm: &str,
    arrived: Instant,
) -> Result<Grant, (String, AuthError)> {
    let (policy, target) = (&claimant.policy, head.to_path.last());
    let authorization = Authorization::parse(value)
        .map_err(|error| (String::new(), AuthError::Malformed(error)))?;
    let user = authorization.username().unwrap_or_default().to_owned();
    let uri_matches = authorization.uri().is_none_or(|uri| {
        Uri::parse(Bytes::copy_from_slice(uri.as_bytes())).is_ok_and(|uri| uri == *target)
    });
    let request = AuthRequest {
        algorithms: &policy.login.digest_algorithms,
        realm,
        uri: target.text(),
        uri_matches,
        client: claimant.peer.ip(),
        nonce_lifetime: policy.login.auth_challenge_expiration_time,
    };
    let examined = process.challenger.examine(&authorization, &request, arrived);
    let login = examined.map_err(|error| (user.clone(), error))?;
    let client = request.client;
    let backend = process.configuration.backend();
    let found = backend.account(login.user(), login.realm(), client).await;
    let settled = process.challenger.settle(login, found, clock::now());
    if settled.is_ok() {
        // Once for each challenge, because the nonce is spent now.
        process.backoff.give_back(client);
    }
    settled.map_err(|error| (user, error))
}

/// Checks Basic credentials. An error comes with the claimed user name, for the log.
async fn by_basic(
    process: &Process,
    claimant: &Claimant,
    login: Result<basic::BasicLogin, AuthError>,
    realm: &str,
) -> Result<Grant, (String, AuthError)> {
    let mut login = login.map_err(|error| (String::new(), error))?;
    let (client, backend) = (claimant.peer.ip(), process.configuration.backend());
    let mut found = backend.account(login.user(), realm, client).await;
    if let (Err(AuthError::UnknownUser), Some(other)) = (&found, login.with_longest_name()) {
        match backend.account(other.user(), realm, client).await {
            Err(AuthError::UnknownUser) => {}
            answer => (login, found) = (other, answer),
        }
    }
    let user = login.user().to_owned();
    basic::settle(&login, realm, found).map_err(|error| (user, error))
}

fn refuse(
    process: &Process,
    claimant: &Claimant,
    head: &Head,
    (user, realm): (&str, &str),
    error: &AuthError,
) -> Refusal {
    let answer = error.answer();
    // A client that sends no credentials only asks for a challenge.
    let tried = head.headers.value(Name::Authorization).is_some();
    let failed = tried && answer.is_failed_attempt();
    let warned = failed && claimant.policy.login.log_failed_auth;
    if answer.is_failed_attempt() && !warned {
        process.notices.login_refused(claimant.peer, (user, realm), error);
    } else {
        // A stale nonce is normal, and of a backend's trouble the backend itself tells.
        end::log_refused_auth(claimant.peer, (user, realm), error, warned);
    }
    let response = match answer {
        Answer::BadRequest => {
            let error = HeaderError::Unreadable(Name::Authorization.as_str());
            let (status, comment) = Reject::Unintelligible(error).status();
            session::answer(head, status, &comment, &[])
        }
        Answer::Challenge { stale } => {
            return Refusal { failed, ..challenge(process, claimant, head, realm, stale) };
        }
        Answer::Forbidden => {
            session::answer(head, StatusCode::FORBIDDEN, "Unauthorized to use this relay", &[])
        }
        Answer::Unavailable => {
            session::answer(head, StatusCode::UNAVAILABLE, "Backend unavailable", &[])
        }
    };
    // It is the relay that failed.
    let slowed = answer != Answer::Unavailable;
    Refusal { response, failed, slowed }
}

fn challenge(
    process: &Process,
    claimant: &Claimant,
    head: &Head,
    realm: &str,
    stale: bool,
) -> Refusal {
    let algorithms = &claimant.policy.login.digest_algorithms;
    let values =
        process.challenger.challenge(algorithms, realm, claimant.peer.ip(), stale, clock::now());
    let headers: Vec<_> =
        values.into_iter().map(|value| (Name::WwwAuthenticate, Bytes::from(value))).collect();
    let response = session::answer(head, StatusCode::UNAUTHORIZED, "Unauthenticated", &headers);
    // Even with `stale`: each challenge that is given back has been paid for.
    Refusal { response, failed: false, slowed: true }
}

/// The time granted, or the 423 that states the bound (RFC 4976 §6.3).
fn lifetime(policy: &Policy, head: &Head) -> Result<Duration, Refusal> {
    let login = &policy.login;
    let Ok(Some(asked)) = head.headers.seconds(Name::Expires) else {
        return Ok(login.session_expiration_time_default);
    };
    let bound = if asked < login.session_expiration_time_minimum {
        (Name::MinExpires, login.session_expiration_time_minimum)
    } else if asked > login.session_expiration_time_maximum {
        (Name::MaxExpires, login.session_expiration_time_maximum)
    } else {
        return Ok(asked);
    };
    let headers = [(bound.0, Bytes::from(bound.1.as_secs().to_string()))];
    let status = StatusCode::OUT_OF_BOUNDS;
    let response = session::answer(head, status, "Parameter out of bounds", &headers);
    // The credentials are right.
    Err(Refusal { response, failed: false, slowed: false })
}

/// The ticket of a new session, none for a session that is extended, or the 403 for a user who has
/// as many sessions as one may have.
fn seat(
    process: &Process,
    claimant: &Claimant,
    head: &Head,
    grant: &Grant,
) -> Result<Option<Ticket>, Refusal> {
    if claimant.session.is_some() {
        return Ok(None);
    }
    let who = (&*grant.user, &*grant.realm);
    let quotas = process.configuration.quotas();
    process.census.grant(who, &quotas).map(Some).map_err(|excess| {
        process.notices.session_refused(claimant.peer, who, excess);
        let response = session::answer(head, StatusCode::FORBIDDEN, "Too many sessions", &[]);
        Refusal { response, failed: false, slowed: true }
    })
}

/// The next time from now that is a multiple of [`ANSWER_STEP`] after `arrived`.
fn next_step(arrived: Instant) -> Instant {
    let spent = clock::now().saturating_duration_since(arrived);
    let steps = spent.as_millis() / ANSWER_STEP.as_millis() + 1;
    arrived + ANSWER_STEP * u32::try_from(steps).unwrap_or(u32::MAX)
}
