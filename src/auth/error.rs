//! Why an AUTH is refused, and what the relay answers.

use thiserror::Error;

use crate::msrp::digest::ParseError;

/// Why an AUTH is refused.
///
/// The text is for the operator's log, and has nothing that the client wrote. The client is told
/// only [`AuthError::answer`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// The Authorization header cannot be read.
    #[error("Authorization header unreadable: {0}")]
    Malformed(#[from] ParseError),
    /// A parameter that every Authorization must have is absent or empty.
    #[error("Authorization header without {0}")]
    Missing(&'static str),
    /// The realm is not the one in the challenge.
    #[error("realm does not match")]
    WrongRealm,
    /// The qop is not `auth`, the only one that is offered.
    #[error("qop is not auth")]
    WrongQop,
    /// The algorithm is not one of those that the challenge offers.
    #[error("algorithm is not one of those offered")]
    WrongAlgorithm,
    /// The nonce count is not 8 hexadecimal digits (RFC 7616 §3.4).
    #[error("nonce count is not 8 hexadecimal digits")]
    WrongNonceCount,
    /// The digest does not have 32 hexadecimal digits for MD5, or 64 for SHA-256.
    #[error("response is not as many hexadecimal digits as the algorithm makes")]
    MalformedResponse,
    /// The digest is for another target (RFC 7616 §3.4.6).
    #[error("uri parameter does not name the request's target")]
    WrongUri,
    /// The user name is longer than the relay looks up.
    #[error("user name too long")]
    UserTooLong,
    /// The nonce was made up or altered, or was issued to another address or by an earlier process.
    #[error("nonce was not issued by this relay to this address")]
    ForeignNonce,
    /// The opaque text is not that of the nonce.
    #[error("opaque does not belong to the nonce")]
    ForeignOpaque,
    /// No backend has this user in this realm.
    #[error("unknown user")]
    UnknownUser,
    /// Several rows of the table fit and have different secrets, or there are too many rows.
    #[error("the table has several rows for this user, and which one counts cannot be told")]
    AmbiguousUser,
    /// The account has ended.
    #[error("the account has expired")]
    ExpiredAccount,
    /// The digest is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// The account has no usable secret. An empty password is none: tables with HA1 leave the
    /// password column empty.
    #[error(
        "the backend holds no usable secret for this user: no password, or no whole HA1 (for a name \
         that comes with its domain, the one of ha1b_col)"
    )]
    UnusableCredential,
    /// The digest is right, but the nonce is too old.
    #[error("nonce has expired")]
    ExpiredNonce,
    /// The digest is right, but the nonce was used before: a replay, or a client that wants to save
    /// a round trip.
    #[error("nonce has been used before")]
    SpentNonce,
    /// The digest is right, but the relay no longer knows whether the nonce was used: too many
    /// others were used since it was issued.
    #[error("nonce is older than the used ones that are remembered")]
    ForgottenNonce,
    /// The relay does not serve this realm.
    #[error("realm is not served")]
    RealmNotServed,
    /// The user is authenticated, but may not use the relay (RFC 4976 §6.3).
    #[error("user may not relay")]
    NotAllowed,
    /// The backend could not look the user up. The text says why, without credentials.
    #[error("backend unavailable: {0}")]
    BackendUnavailable(String),
}

impl AuthError {
    /// What the client is told. It is the same for an unknown user and for a wrong password.
    pub fn answer(&self) -> Answer {
        match self {
            Self::Malformed(_) => Answer::BadRequest,
            Self::Missing(_)
            | Self::WrongRealm
            | Self::WrongQop
            | Self::WrongAlgorithm
            | Self::WrongNonceCount
            | Self::MalformedResponse
            | Self::WrongUri
            | Self::UserTooLong
            | Self::ForeignNonce
            | Self::ForeignOpaque
            | Self::UnknownUser
            | Self::AmbiguousUser
            | Self::ExpiredAccount
            | Self::WrongPassword
            | Self::UnusableCredential => Answer::Challenge { stale: false },
            Self::ExpiredNonce | Self::SpentNonce | Self::ForgottenNonce => {
                Answer::Challenge { stale: true }
            }
            Self::RealmNotServed | Self::NotAllowed => Answer::Forbidden,
            Self::BackendUnavailable(_) => Answer::Unavailable,
        }
    }
}

/// The answer to an AUTH that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 400: the header cannot be read.
    BadRequest,
    /// 401 with a fresh challenge.
    Challenge {
        /// The digest was right, but not the nonce (RFC 2617 §3.2.1).
        stale: bool,
    },
    /// 403: the user may not use the relay.
    Forbidden,
    /// 500: the backend cannot answer.
    Unavailable,
}

impl Answer {
    /// Whether the AUTH counts as failed, for the limit of a connection.
    ///
    /// With a stale nonce it does not: the client knows the password (RFC 4976 §6.3).
    pub fn is_failed_attempt(self) -> bool {
        match self {
            Self::BadRequest | Self::Challenge { stale: false } | Self::Forbidden => true,
            Self::Challenge { stale: true } | Self::Unavailable => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_user_and_wrong_password_are_answered_alike() {
        let plain = Answer::Challenge { stale: false };
        assert_eq!(AuthError::UnknownUser.answer(), plain);
        assert_eq!(AuthError::WrongPassword.answer(), plain);
        assert_eq!(AuthError::UnusableCredential.answer(), plain);
        assert_eq!(AuthError::AmbiguousUser.answer(), plain);
    }

    /// The rule of RFC 4976 §6.3, and that a backend's trouble is not the client's.
    #[test]
    fn what_counts_as_a_failed_attempt() {
        for (error, counts) in [
            (AuthError::Malformed(ParseError::OtherScheme), true),
            (AuthError::Missing("nonce"), true),
            (AuthError::WrongPassword, true),
            (AuthError::ExpiredAccount, true),
            (AuthError::ForeignNonce, true),
            (AuthError::RealmNotServed, true),
            (AuthError::NotAllowed, true),
            (AuthError::ExpiredNonce, false),
            (AuthError::SpentNonce, false),
            (AuthError::ForgottenNonce, false),
            (AuthError::BackendUnavailable(String::new()), false),
        ] {
            assert_eq!(error.answer().is_failed_attempt(), counts, "{error}");
        }
    }
}
